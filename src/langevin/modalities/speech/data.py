"""Loading speech: every recording is read once, checked, resampled and normalised, and put into one of two parts."""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from langevin.modalities.modality import Progress
from langevin.modalities.paths import did_you_mean, some
from langevin.modalities.remarks import Remarks
from langevin.modalities.speech.codec import peak_normalised
from langevin.modalities.speech.sound_files import Unreadable, header, read
from langevin.modalities.speech.sources import Listing, Recording, find, speakers_of

MEMORY = 2 * 2**30  # bytes of signals kept in memory; of more, each is read from its file when it is needed
FEWEST = 4  # recordings of the validation part, if there are 16 or more
SILENT, CLIPPED = 1e-4, 0.01  # the largest magnitude of silence; the share of samples at the limits of a clipped signal


@dataclass(frozen=True, kw_only=True, eq=False)
class Clips:
    """The training or the validation part: n signals at one rate.

    Args:
        rate: samples per second.
        speakers: names of the speakers; empty for none.
        recordings: file name, text and speaker of each.
        lengths: samples of each, (n,) int64.
        notes: findings on the whole source.
        digests: a hash of each signal.
        signals: all signals one after another, int16; None if they are read from the files.
    """

    root: Path
    rate: int
    speakers: tuple[str, ...]
    recordings: tuple[Recording, ...]
    lengths: Tensor
    notes: Remarks
    digests: tuple[str, ...]
    signals: Tensor | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.recordings)

    @cached_property
    def starts(self) -> Tensor:
        """The first sample of each signal in `signals`."""
        return self.lengths.cumsum(0) - self.lengths

    @property
    def has_text(self) -> bool:
        return any(recording.text for recording in self.recordings)

    @cached_property
    def labels(self) -> Tensor:
        """The index of each recording's speaker, (n,) int64; 0 without speakers."""
        index = {name: i for i, name in enumerate(self.speakers)}
        return torch.tensor([index.get(r.speaker or "", 0) for r in self.recordings], dtype=torch.int64)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        return tuple(recording.text or "" for recording in self.recordings)

    def signal(self, item: int) -> Tensor:
        """A signal (n,) float32, normalised to a peak of 0.9."""
        if self.signals is None:
            return peak_normalised(read(self.root / self.recordings[item].name, self.rate))
        start, length = int(self.starts[item]), int(self.lengths[item])
        return self.signals[start : start + length].float() / 32767

    def each(self) -> Iterator[Tensor]:
        """All signals, one after another."""
        return (self.signal(item) for item in range(len(self)))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of rate, names, texts, speakers and signals, in hexadecimal."""
        said = [[r.name, r.text, r.speaker] for r in self.recordings]
        return hashlib.sha256(json.dumps([self.rate, said, self.digests]).encode()).hexdigest()

    def select(self, items: Sequence[int]) -> "Clips":
        """Some of the clips."""
        signals = None
        if self.signals is not None:
            parts = [self.signals[int(self.starts[i]) : int(self.starts[i] + self.lengths[i])] for i in items]
            signals = torch.cat(parts) if parts else self.signals[:0]
        return Clips(
            root=self.root, rate=self.rate, speakers=self.speakers, notes=self.notes, signals=signals,
            recordings=tuple(self.recordings[i] for i in items), lengths=self.lengths[list(items)],
            digests=tuple(self.digests[i] for i in items),
        )  # fmt: skip

    def without(self, texts: Collection[str], remark: str) -> "Clips":
        """Without the recordings of some texts; the remark says why."""
        left = [i for i, text in enumerate(self.texts) if text not in texts]
        return replace(self.select(left), notes=replace(self.notes, remarks=(*self.notes.remarks, remark)))


def load_parts(
    path: str,
    *,
    rate: int | None,
    val_fraction: float,
    held_out_pairs: tuple[tuple[str, str], ...] = (),
    progress: Progress | None = None,
) -> tuple[Clips, Clips]:
    """The training and the validation part of the recordings at a path.

    Args:
        rate: samples per second; None takes the most common one, at most 24,000.
        val_fraction: of the recordings, chosen by a hash of their sound.
        held_out_pairs: (speaker, text) of which every recording is held out.

    Raises:
        ValueError: there is nothing to read, more than one file in ten is unreadable, or a pair does not exist."""
    listing = find(path)
    rate = rate or _common_rate(listing)
    every, broken, remarks = _read_all(listing, rate, progress)
    if not broken.keys() < set(range(len(listing.recordings))) or 10 * len(broken) > len(listing.recordings):
        first = some([f"{listing.recordings[i].name} {why}" for i, why in broken.items()], between="; ")
        raise ValueError(
            f"{listing.root}: {len(broken):,} of {len(listing.recordings):,} recordings cannot be used, more than one in "
            f"ten: {first}. Repair or remove these files and start again"
        )
    notes = Remarks(
        remarks=(*listing.remarks, *remarks),
        broken=tuple((listing.recordings[i].name, why) for i, why in broken.items()),
    )
    every = replace(every, notes=notes)
    train, val = _divided(every, val_fraction, held_out_pairs)
    return every.select(train), every.select(val)


def _common_rate(listing: Listing) -> int:
    """The most common rate among some of the files, at most 24,000 Hz."""
    rates = list[int]()
    for recording in listing.recordings[:: max(1, len(listing.recordings) // 50)]:
        try:
            rates.append(header(listing.root / recording.name).rate)
        except Unreadable:
            continue
    return min(24_000, max(sorted(set(rates)), key=rates.count)) if rates else 16_000


def _read_all(listing: Listing, rate: int, progress: Progress | None) -> tuple[Clips, dict[int, str], list[str]]:
    """Every readable recording, why the others are not, and remarks."""
    recordings = listing.recordings
    broken, silent, clipped = dict[int, str](), list[str](), list[str]()
    kept, digests, lengths, pieces, size = list[int](), list[str](), list[int](), list[Tensor](), 0

    def one(i: int) -> Tensor | str:
        try:
            return read(listing.root / recordings[i].name, rate)
        except Unreadable as error:
            return str(error)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for i, signal in enumerate(pool.map(one, range(len(recordings)))):
            if progress is not None:
                progress(i + 1, len(recordings))
            if isinstance(signal, str):
                broken[i] = signal
                continue
            peak = signal.abs().max()
            if float(peak) < SILENT:
                silent.append(recordings[i].name)
                continue
            if float((signal.abs() >= 0.999 * peak).float().mean()) > CLIPPED:
                clipped.append(recordings[i].name)
            stored = (peak_normalised(signal) * 32767).round().to(torch.int16)
            kept.append(i)
            lengths.append(len(stored))
            digests.append(hashlib.sha256(stored.numpy().tobytes()).hexdigest())
            size += 2 * len(stored)
            if size <= MEMORY:
                pieces.append(stored)
    if not kept:
        why = f"all {len(silent):,} are silent" if silent else some(list(broken.values()))
        raise ValueError(f"{listing.root}: none of {len(recordings):,} recordings can be used: {why}")
    remarks = [f"Silent recordings, left out: {len(silent):,} ({some(silent)})."] * bool(silent)
    remarks += [f"Clipped recordings, whose peaks are cut off: {len(clipped):,} ({some(clipped)})."] * bool(clipped)
    chosen = tuple(recordings[i] for i in kept)
    clips = Clips(
        root=listing.root, rate=rate, speakers=speakers_of(chosen), recordings=chosen, notes=Remarks(),
        lengths=torch.tensor(lengths), digests=tuple(digests), signals=torch.cat(pieces) if size <= MEMORY else None,
    )  # fmt: skip
    return clips, broken, remarks


def _divided(every: Clips, share: float, pairs: tuple[tuple[str, str], ...]) -> tuple[list[int], list[int]]:
    """The items of the training and of the validation part; equal sounds are in the same part."""
    known = {(r.speaker or "", r.text or "") for r in every.recordings}
    for pair in pairs:
        if pair not in known:
            hint = did_you_mean(" ".join(pair), [" ".join(k) for k in known])
            raise ValueError(f"{every.root}: no recording is of {pair}, which data.held_out_pairs names{hint}")
    position = [int(digest[:13], 16) / 16**13 for digest in every.digests]
    items = range(len(every))
    if any(r.test for r in every.recordings):
        out = {i for i in items if every.recordings[i].test}
    else:
        least = min(FEWEST, len(every) // 4) or 1
        out = {i for i in items if position[i] < share} | set(sorted(items, key=position.__getitem__)[:least])
    out |= {i for i in items if ((every.recordings[i].speaker or ""), (every.recordings[i].text or "")) in pairs}
    if len(out) == len(every):
        raise ValueError(
            f"{every.root} has {len(every)} usable recordings, too few that differ for training and validation: give more"
        )
    return [i for i in items if i not in out], sorted(out)
