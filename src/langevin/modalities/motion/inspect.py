"""What `inspect` reports of motions."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from langevin.modalities.modality import Progress
from langevin.modalities.paths import some

if TYPE_CHECKING:
    from langevin.modalities.motion.modality import Motion


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The report on motions.

    Args:
        what: of what they are, in words.
        motions: how many, by part.
        seconds: of all of them.
        rate: frames per second that they are read with.
        length: least, median and greatest seconds of one.
        joints: names of the joints, or of the columns of states.
        ranges: (least, mean, greatest) of each column of states, or of the root's height.
        actions: motions by action.
        findings: sentences on what is left out or unusual.
    """

    path: str
    what: str
    motions: dict[str, int]
    seconds: float
    rate: float
    length: tuple[float, float, float]
    joints: tuple[str, ...]
    ranges: dict[str, tuple[float, float, float]]
    actions: dict[str, int]
    texts: int
    findings: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report as text."""
        least, median, most = self.length
        count = sum(self.motions.values())
        parts = ", ".join(f"{n:,} {name}" for name, n in self.motions.items())
        lines = [
            f"{self.path}: {count:,} motions ({parts}) of {self.what}",
            f"{self.seconds:,.0f} s at {self.rate:g} frames per second",
            f"length: {least:.2f} to {most:.2f} s, median {median:.2f} s",
            f"{'joints' if self.what.startswith('a skeleton') else 'columns'}: {some(self.joints, limit=24)}",
        ]
        lines += [
            f"{name}: {low:.3g} to {high:.3g}, mean {mean:.3g}" for name, (low, mean, high) in self.ranges.items()
        ]
        if self.actions:
            lines.append(f"actions: {some([f'{name} ({n:,})' for name, n in self.actions.items()], limit=24)}")
        if self.texts:
            lines.append(f"captions: {self.texts:,} different")
        return [*lines, *self.findings]

    def as_dict(self) -> dict[str, Any]:
        """The report, of JSON types."""
        return asdict(self)


def inspect(motion: "Motion", *, progress: Progress | None = None) -> Inspection:
    """Read all motions, and report on them."""
    train, val = motion.open(progress=progress)
    clips = (*train.clips, *val.clips)
    seconds = torch.tensor([len(clip) / train.rate for clip in clips]).double()
    frames, skeleton = torch.cat(clips).double(), train.skeleton
    columns = train.columns if skeleton is None else ("height of the root",)
    measured = frames if skeleton is None else frames[:, 1:2]
    counts = Counter(action for action in (*train.actions, *val.actions) if action)
    kinds = Counter(skeleton.kinds) if skeleton is not None else Counter()
    what = f"states of {len(train.columns)} {'column' if len(train.columns) == 1 else 'columns'}"
    if skeleton is not None:
        told = ", ".join(f"{kinds[kind]} {kind}" for kind in ("ball", "hinge", "fixed"))
        what = f"a skeleton of {len(skeleton)} joints ({told})"
    return Inspection(
        path=motion.path or (motion.source.kind if motion.source else ""), what=what,
        motions={"training": len(train), "validation": len(val)}, seconds=float(seconds.sum()), rate=train.rate,
        length=(float(seconds.min()), float(seconds.median()), float(seconds.max())),
        joints=train.columns if skeleton is None else skeleton.names,
        ranges={
            name: (float(measured[:, i].min()), float(measured[:, i].mean()), float(measured[:, i].max()))
            for i, name in enumerate(columns[:8])
        },
        actions=dict(sorted(counts.items())), texts=len({text for text in (*train.texts, *val.texts) if text}),
        findings=tuple(train.notes.lines()),
    )  # fmt: skip
