"""Clips of one size and rate in memory, and their two parts."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from langevin.modalities.modality import Progress, spread
from langevin.modalities.paths import some
from langevin.modalities.remarks import Remarks
from langevin.modalities.video.clip_files import Broken, Clip, Look
from langevin.modalities.video.sources import MOST_NAMES, Listing, Record
from langevin.training.machine import total_memory

PROBED = 48  # clips that are read at their own size to choose that of all
SIDE = 64  # the largest side that is chosen unless the recipe says so
BROKEN_SHARE = 0.1  # of the clips that may be left out


@dataclass(frozen=True, kw_only=True, eq=False)
class Clips:
    """One part of the data.

    Args:
        store: all frames, uint8 (total, channels, side, side).
        starts, lengths: (n,) int64: where each clip begins in the store, and its frames.
        fps: of all clips.
        captions: what each clip shows; None without captions.
        labels: by column, the names of its values and each clip's (n,) int64.
    """

    store: Tensor
    starts: Tensor
    lengths: Tensor
    fps: float
    names: tuple[str, ...]
    captions: tuple[str, ...] | None = None
    labels: Mapping[str, tuple[tuple[str, ...], Tensor]] = field(default_factory=dict)
    notes: Remarks = Remarks()

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, side, side) of a frame."""
        return tuple(self.store.shape[1:])

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.fps} {self.lengths.tolist()} {self.captions}".encode())
        for i in range(len(self)):
            digest.update(self.clip(i).numpy().tobytes())
        return digest.hexdigest()

    def clip(self, i: int) -> Tensor:
        """The frames of a clip, uint8 (n, channels, side, side)."""
        start = int(self.starts[i])
        return self.store[start : start + int(self.lengths[i])]

    def windows(self, items: Tensor, frames: int) -> Tensor:
        """The first `frames` frames of some clips, uint8 (b, frames, channels, side, side); shorter ones stand still."""
        index = torch.arange(frames).minimum(self.lengths[items][:, None] - 1) + self.starts[items][:, None]
        return self.store[index]

    def select(self, items: Sequence[int] | Tensor) -> "Clips":
        """Some of the clips."""
        at = torch.as_tensor(items, dtype=torch.int64)
        chosen = at.tolist()
        return replace(
            self, starts=self.starts[at], lengths=self.lengths[at], names=tuple(self.names[i] for i in chosen),
            captions=None if self.captions is None else tuple(self.captions[i] for i in chosen),
            labels={key: (names, values[at]) for key, (names, values) in self.labels.items()},
        )  # fmt: skip


def usual_look(
    records: Sequence[Record], look: Look, size: int | None, channels: int | None
) -> tuple[Look, float, tuple[str, ...]]:
    """The size and the channels to read all clips with, their usual rate, and what is to be said, from some of them.

    Raises:
        ValueError: none can be read."""
    sides, rates, grey, why = list[int](), list[float](), True, ""
    for i in spread(len(records), PROBED).tolist():
        try:
            clip = records[i].read(replace(look, size=None, channels=3))
        except Broken as error:
            why = f"{records[i].name} {error}"
            continue
        sides.append(min(clip.frames.shape[2:]))
        rates.append(round(clip.fps, 2))
        grey = grey and bool((clip.frames[:, :1] == clip.frames).all())
    if not sides:
        raise ValueError(f"none of the clips can be read: {why}")
    side = sorted(sides)[len(sides) // 2]
    chosen = size or max(8, min(SIDE, side) // 4 * 4)
    reduced = (
        () if size or chosen == side else (f"Frames of {side} pixels are reduced to {chosen}: data.size chooses.",)
    )
    look = replace(look, size=chosen, channels=channels or (1 if grey else 3))
    return look, Counter(rates).most_common(1)[0][0], reduced


def load(
    listing: Listing, look: Look, *, fps: float, val_fraction: float, split_by: tuple[str, ...],
    progress: Progress | None = None,
) -> tuple[Clips, Clips]:  # fmt: skip
    """The training and the validation part.

    Args:
        look: how frames are read, with a size.
        fps: the rate of all clips; others are resampled.
        val_fraction: share of the clips that are held out, if the data has no test part of its own.
        split_by: columns; clips with equal values in all of them are in one part.

    Raises:
        ValueError: too many broken clips, fewer than two good ones, an unknown column, or more than fits the memory."""
    good, clips, broken = list[Record](), list[Clip](), list[tuple[str, str]]()
    short, resampled, uneven, used = list[str](), 0, 0, 0
    memory = total_memory()
    for i, record in enumerate(listing.records, 1):
        try:
            clip = record.read(look)
        except Broken as error:
            broken.append((record.name, str(error)))
            continue
        resampled += abs(clip.fps / fps - 1) >= 0.01
        uneven += clip.uneven
        clip = clip.at(fps)
        if len(clip) < 2:
            short.append(record.name)
            continue
        good.append(record)
        clips.append(clip)
        used += clip.frames.numel()
        if memory is not None and used > memory / 2:
            raise ValueError(
                f"{listing.where}: {i:,} of {len(listing.records):,} clips take {used / 1e9:.1f} GB at {look.size} pixels, "
                "more than half of the memory: set a smaller data.size or data.fps, or take fewer clips"
            )
        if progress is not None:
            progress(i, len(listing.records))
    if len(broken) > BROKEN_SHARE * len(listing.records):
        first = "; ".join(f"{name} {reason}" for name, reason in broken[:3])
        raise ValueError(
            f"{listing.where}: {len(broken):,} of {len(listing.records):,} clips cannot be read, more than one in ten: "
            f"{first}. Repair or remove these files and start again"
        )
    if len(good) < 2:
        raise ValueError(f"{listing.where} holds {len(good)} clips of two frames or more, and training needs two")
    remarks = list(listing.remarks)
    if short:
        remarks.append(f"Clips of one frame, left out: {len(short):,} ({some(short)}).")
    if resampled:
        remarks.append(f"Clips of another rate than {fps:g} frames a second, resampled: {resampled:,}.")
    if uneven:
        remarks.append(f"Clips whose frames last differently long, resampled: {uneven:,}.")
    captions, labels, said = _said(good)
    notes = Remarks(remarks=(*remarks, *said), broken=tuple(broken))
    lengths = torch.tensor([len(clip) for clip in clips])
    store = torch.cat([clip.frames for clip in clips])
    whole = Clips(
        store=store, starts=lengths.cumsum(0) - lengths, lengths=lengths, fps=fps,
        names=tuple(r.name for r in good), captions=captions, labels=labels, notes=notes,
    )  # fmt: skip
    test = held_out(good, val_fraction, split_by)
    return whole.select([i for i, t in enumerate(test) if not t]), whole.select([i for i, t in enumerate(test) if t])


def _said(
    records: Sequence[Record],
) -> tuple[tuple[str, ...] | None, dict[str, tuple[tuple[str, ...], Tensor]], list[str]]:
    """Captions, labels, and remarks."""
    remarks = list[str]()
    captions = tuple(record.text or "" for record in records)
    silent = captions.count("")
    if silent == len(captions):
        captions = None
    elif silent:
        remarks.append(f"Clips without a caption, which are trained on without one: {silent:,}.")
    labels = dict[str, tuple[tuple[str, ...], Tensor]]()
    for key in dict.fromkeys(key for record in records for key in record.labels):
        values = [record.labels.get(key) for record in records]
        names = tuple(sorted({value for value in values if value is not None}))
        if None not in values and 2 <= len(names) <= min(MOST_NAMES, len(records) // 4):
            labels[key] = names, torch.tensor([names.index(value) for value in values if value is not None])
    return captions, labels, remarks


def held_out(records: Sequence[Record], fraction: float, split_by: tuple[str, ...]) -> list[bool]:
    """Whether each clip is for validation.

    Raises:
        ValueError: an unknown column, or fewer than two groups."""
    for column in split_by:
        if any(column not in record.labels for record in records):
            known = ", ".join(sorted({key for record in records for key in record.labels})) or "none"
            raise ValueError(f"data.split_by names the column '{column}', which not all clips have; known are {known}")
    if any(record.test for record in records) and not all(record.test for record in records):
        if split_by:
            raise ValueError("the data has a test part of its own, which data.split_by would not change: leave it out")
        return [record.test for record in records]
    groups = [" ".join(record.labels[column] for column in split_by) if split_by else record.name for record in records]
    order = sorted(set(groups), key=lambda group: hashlib.sha256(group.encode()).digest())
    if len(order) < 2:
        raise ValueError("all clips are of one group, and none can be held out: leave data.split_by out")
    chosen = set(order[: min(max(1, round(fraction * len(order))), len(order) - 1)])
    return [group in chosen for group in groups]


Open = Callable[[], tuple[Clips, Clips]]
