"""What `inspect` reports of clips, before training."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from langevin.modalities.modality import Progress
from langevin.modalities.paths import some
from langevin.modalities.video.clip_files import Broken, Look
from langevin.modalities.video.sources import Listing


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The findings: clips, sizes, rates and lengths with how often each occurs, and what cannot be read."""

    where: str
    clips: int
    sizes: dict[str, int]
    rates: dict[str, int]
    lengths: dict[str, int]
    captions: int
    words: int
    labels: dict[str, int]
    single: tuple[str, ...]
    uneven: int
    broken: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]

    def lines(self) -> list[str]:
        def shown(counts: dict[str, int]) -> str:
            return some([f"{name} ({count:,})" for name, count in counts.items()])

        lines = [
            f"{self.clips:,} clips", f"Sizes: {shown(self.sizes)}", f"Frames a second: {shown(self.rates)}",
            f"Frames: {shown(self.lengths)}",
        ]  # fmt: skip
        lines.append(
            f"Captions: {self.captions:,}, of {self.words:,} different words" if self.captions else "No captions"
        )
        if self.labels:
            lines.append("Labels: " + some([f"{key} ({count} values)" for key, count in self.labels.items()], limit=8))
        if self.single:
            lines.append(f"Pictures of one frame, which are left out: {len(self.single):,} ({some(self.single)})")
        if self.uneven:
            lines.append(f"Clips whose frames last differently long: {self.uneven:,}")
        if self.broken:
            lines.append(f"Cannot be read: {len(self.broken):,} ({some([f'{n} {why}' for n, why in self.broken])})")
        return lines + list(self.remarks)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def inspect(listing: Listing, look: Look, *, progress: Progress | None = None) -> Inspection:
    """Read all clips. Raises `ValueError` if there are none."""
    from langevin.modalities.captions import split_words

    sizes, rates, lengths, labels = Counter[str](), Counter[str](), Counter[str](), dict[str, set[str]]()
    broken, single, words = list[tuple[str, str]](), list[str](), set[str]()
    uneven = captions = 0
    for i, record in enumerate(listing.records, 1):
        for key, value in record.labels.items():
            labels.setdefault(key, set()).add(value)
        if record.text:
            captions += 1
            words.update(split_words(record.text))
        try:
            clip = record.read(look)
        except Broken as error:
            broken.append((record.name, str(error)))
            continue
        sizes[f"{clip.frames.shape[3]} x {clip.frames.shape[2]}"] += 1
        rates[f"{clip.fps:.4g}"] += 1
        lengths[str(len(clip))] += 1
        if len(clip) == 1:
            single.append(record.name)
        uneven += clip.uneven
        if progress is not None:
            progress(i, len(listing.records))
    return Inspection(
        where=listing.where, clips=len(listing.records), sizes=dict(sizes.most_common()), rates=dict(rates.most_common()),
        lengths=dict(lengths.most_common()), captions=captions, words=len(words),
        labels={key: len(values) for key, values in labels.items()}, single=tuple(single), uneven=uneven,
        broken=tuple(broken), remarks=listing.remarks,
    )  # fmt: skip
