"""From a signal, its text and its speaker to a training example; and utterances spliced from several recordings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from langevin.diffusion.noise import SampleNoise
from langevin.modalities.speech.codec import PEAK, AnyCodec
from langevin.modalities.speech.data import Clips
from langevin.modalities.speech.timeline import aligned_features, left_packed_features, uniform_durations

KEPT = 2**30  # bytes of encoded examples that are kept
FIXED = -7  # the step of streams that are a function of the item alone
_FADE = 0.004  # seconds over which a spliced recording fades in and out


@dataclass(frozen=True, kw_only=True)
class Example:
    """One encoded utterance: x (channels, frames), the port `aligned` (frames, width) or None, and its speaker."""

    x: Tensor
    aligned: Tensor | None
    speaker: int

    def window(self, start: int, frames: int) -> "Example":
        """At most `frames` frames from `start` on."""
        stop = start + frames
        aligned = None if self.aligned is None else self.aligned[start:stop]
        return Example(x=self.x[:, start:stop], aligned=aligned, speaker=self.speaker)


class Examples(Protocol):
    """Examples of a dataset by index."""

    @property
    def encoder(self) -> "Encoder":
        """What encodes them."""
        ...

    def __call__(self, items: Sequence[int], noise: SampleNoise) -> list[Example]:
        """The examples of some items; `noise` has a stream for each, for what is drawn anew each time."""
        ...


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Encodes utterances.

    Args:
        inventory: size of the inventory; 0 without texts.
        packed: units left-packed and not stretched, see `timeline`.
    """

    codec: AnyCodec
    rate: int
    inventory: int = 0
    packed: bool = False

    def signals(self, signals: Sequence[Tensor]) -> list[Tensor]:
        """x (channels, frames) of each signal (n,)."""
        return self.codec.encode(signals, self.rate)

    def features(self, units: Tensor, frames: int, durations: Tensor | None = None) -> Tensor | None:
        """The port `aligned` (frames, width) of units (n,); durations (n,) in frames, uniform by default."""
        if self.inventory == 0:
            return None
        if self.packed:
            return left_packed_features(units, frames, self.inventory)
        durations = uniform_durations(len(units), frames) if durations is None else durations
        return aligned_features(units, durations, self.inventory)


@dataclass(frozen=True, kw_only=True, eq=False)
class Recorded:
    """The recordings as they are.

    Args:
        units: of each text, (n,) int64; None without texts.
        durations: frames of each unit; None for uniform ones.
    """

    dataset: Clips
    encoder: Encoder
    units: tuple[Tensor, ...] | None = None
    durations: tuple[Tensor, ...] | None = None
    kept: dict[int, Example] = field(default_factory=dict[int, Example])

    def __call__(self, items: Sequence[int], noise: SampleNoise) -> list[Example]:
        new = [item for item in dict.fromkeys(items) if item not in self.kept]
        signals = [self.dataset.signal(item) for item in new]
        found = dict(zip(new, map(self._example, new, self.encoder.signals(signals)), strict=True)) if new else {}
        size = sum(one.x.numel() + (0 if one.aligned is None else one.aligned.numel()) for one in found.values())
        examples = [self.kept.get(item) or found[item] for item in items]
        if new and 4 * size / len(new) * (len(self.kept) + len(new)) < KEPT:
            self.kept.update(found)
        return examples

    def _example(self, item: int, x: Tensor) -> Example:
        aligned = None
        if self.units is not None:
            durations = None if self.durations is None else self.durations[item]
            aligned = self.encoder.features(self.units[item], x.shape[1], durations)
        return Example(x=x, aligned=aligned, speaker=int(self.dataset.labels[item]))


@dataclass(frozen=True, kw_only=True)
class Splice:
    """Utterances made of several recordings of one speaker, drawn anew each time, so that few words become many strings.

    Args:
        least, most: recordings of an utterance.
        gap: seconds of silence between two, at most.
    """

    least: int = 2
    most: int = 6
    gap: float = 0.15

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most <= 100 or not 0 <= self.gap <= 10:
            raise ValueError(
                f"data.splice joins 1 to 100 recordings with gaps of 0 to 10 seconds, got {self.least} to {self.most} and "
                f"{self.gap}"
            )

    def chosen(self, u: Tensor, first: int, members: Tensor) -> list[int]:
        """The recordings of an utterance that begins with `first`, of `members` (m,), by uniforms u (most + 1,)."""
        count = self.least + int(u[0] * (self.most - self.least + 1))
        return [first, *(int(members[int(v * len(members))]) for v in u[1:count])]


def stream(item: int) -> SampleNoise:
    """The stream of an item where nothing else draws, as in validation."""
    name = torch.tensor([item])
    return SampleNoise(seeds=name, steps=torch.full_like(name, FIXED))


@dataclass(frozen=True, kw_only=True)
class Spliced:
    """Joined signals, and what is said in them when.

    Args:
        signal: (n,).
        parts: (units, first sample, end) of each recording and gap, in order.
        items: the recordings.
    """

    signal: Tensor
    parts: tuple[tuple[Tensor, int, int], ...]
    items: tuple[int, ...]

    def units_and_durations(self, encoder: Encoder, frames: int) -> tuple[Tensor, Tensor]:
        """All units, and the frames of each: uniform within a recording. Frame i sits at sample i stride."""
        stride = encoder.codec.stride
        units, durations = list[Tensor](), list[Tensor]()
        last = 0
        for number, (part, _, end) in enumerate(self.parts):
            until = frames if number == len(self.parts) - 1 else min(frames, -(-end // stride))
            units.append(part)
            durations.append(uniform_durations(len(part), until - last))
            last = until
        return torch.cat(units), torch.cat(durations)


def splice(dataset: Clips, items: list[int], gaps: Tensor, units: tuple[Tensor, ...] | None, *, pause: int) -> Spliced:
    """The recordings `items` one after another, with `gaps` seconds between them; every gap says the unit `pause`."""
    fade = max(1, int(_FADE * dataset.rate))
    ramp = torch.linspace(0, 1, fade)
    pieces, parts, at = list[Tensor](), list[tuple[Tensor, int, int]](), 0
    for number, item in enumerate(items):
        if number and (silent := int(gaps[number - 1] * dataset.rate)):
            pieces.append(torch.zeros(silent))
            parts.append((torch.tensor([pause]), at, at + silent))
            at += silent
        piece = dataset.signal(item).clone()
        if len(piece) > 2 * fade:
            piece[:fade] *= ramp
            piece[-fade:] *= ramp.flip(0)
        pieces.append(piece)
        parts.append((torch.tensor([0]) if units is None else units[item], at, at + len(piece)))
        at += len(piece)
    return Spliced(signal=torch.cat(pieces).clamp(-PEAK, PEAK), parts=tuple(parts), items=tuple(items))


@dataclass(frozen=True, kw_only=True, eq=False)
class SplicedExamples:
    """Utterances of several recordings; the first is the item."""

    dataset: Clips
    encoder: Encoder
    how: Splice
    units: tuple[Tensor, ...] | None
    pause: int

    def spliced(self, item: int, noise: SampleNoise) -> Spliced:
        """The joined signal of an item."""
        u = noise.fork(11).uniform(torch.empty(1, self.how.most + 1))[0]
        gaps = noise.fork(12).uniform(torch.empty(1, self.how.most))[0] * self.how.gap
        members = (self.dataset.labels == self.dataset.labels[item]).nonzero()[:, 0]
        return splice(self.dataset, self.how.chosen(u, item, members), gaps, self.units, pause=self.pause)

    def said(self, joined: Spliced) -> str:
        """The text of a joined signal."""
        return " ".join(self.dataset.texts[i] for i in joined.items)

    def text(self, item: int, noise: SampleNoise) -> str:
        """The text of an item's joined signal."""
        return self.said(self.spliced(item, noise))

    def __call__(self, items: Sequence[int], noise: SampleNoise) -> list[Example]:
        streams = [SampleNoise(seeds=seed[None], steps=step[None]) for seed, step in zip(noise.seeds, noise.steps)]
        joined = [self.spliced(item, one) for item, one in zip(items, streams, strict=True)]
        encoded = self.encoder.signals([one.signal for one in joined])
        return [self._example(*three) for three in zip(items, joined, encoded, strict=True)]

    def _example(self, item: int, joined: Spliced, x: Tensor) -> Example:
        aligned = None
        if self.units is not None:
            units, durations = joined.units_and_durations(self.encoder, x.shape[1])
            aligned = self.encoder.features(units, x.shape[1], durations)
        return Example(x=x, aligned=aligned, speaker=int(self.dataset.labels[item]))
