"""Plans of speech: utterances of different lengths, drawn in groups of one shape and in windows that overlap."""

from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langevin.diffusion.condition import Port
from langevin.diffusion.measurement import Diagonal, Measurement
from langevin.diffusion.noise import mix
from langevin.diffusion.sampler.grid import UniformTimeGrid
from langevin.diffusion.sampling import Sampling
from langevin.modalities.modality import Draw, Plan, Request, RequestContext, Samples, seeds_of
from langevin.modalities.speech.batches import condition_of, context_of, padded_frames
from langevin.modalities.speech.codec import Vocoder, Waveform
from langevin.modalities.speech.timeline import width
from langevin.modalities.speech.vocoder import Vocoding, vocode

if TYPE_CHECKING:
    from langevin.modalities.speech.modality import Speech


EXACT = 0.05  # standard deviation of what is known of a recording, in that of its kind
VOCODER = "vocoder"  # the name of the model that decodes, among those of a run


@dataclass(frozen=True, kw_only=True, eq=False)
class Utterance:
    """What one sample is to be.

    Args:
        frames: its length.
        aligned: the port `aligned` (frames, width); None without texts.
        speaker: index of the speaker; None if it is not known.
        text: what is said.
        name: what is said by whom.
        x: (channels, frames) of what is given; None for nothing.
        given: (frames,) bool, where x is kept.
        error: (channels, frames), the standard deviation to which guidance makes samples agree with x, infinite where
            nothing is known of it; None without such guidance.
    """

    frames: int
    aligned: Tensor | None
    speaker: int | None
    text: str
    name: str
    x: Tensor | None = None
    given: Tensor | None = None
    error: Tensor | None = None


@dataclass(kw_only=True, eq=False)
class _Growing:
    """An utterance that is drawn window by window."""

    wanted: Utterance
    seed: int
    windows: list[tuple[int, int]]  # (first frame, end)
    x: Tensor = field(init=False)
    done: Tensor = field(init=False)

    @property
    def anything_known(self) -> bool:
        """Whether text or speaker are: else the network is asked as it was trained to be without any condition."""
        return self.wanted.aligned is not None or self.wanted.speaker is not None

    def start(self, channels: int) -> None:
        given = self.wanted.given
        self.done = torch.zeros(self.wanted.frames, dtype=torch.bool) if given is None else given.clone()
        self.x = torch.zeros(channels, self.wanted.frames) if self.wanted.x is None else self.wanted.x.clone()


def windows_of(frames: int, window: int, overlap: int) -> list[tuple[int, int]]:
    """Windows (first frame, end) of at most `window` frames that cover `frames`, evenly, with this overlap or more."""
    if frames <= window:
        return [(0, frames)]
    count = -(-(frames - overlap) // (window - overlap))
    starts = [round(i * (frames - window) / (count - 1)) for i in range(count)]
    return [(start, start + window) for start in starts]


def windows_around(wanted: Utterance, window: int, overlap: int) -> list[tuple[int, int]]:
    """The windows of an utterance: around a gap in what is given, if it and something on either side fit into one."""
    given = wanted.given if wanted.error is None else wanted.error.isfinite().all(0)
    if given is not None and wanted.frames > window and bool(given[-1]) and not bool(given.all()):
        free = (~given).nonzero()[:, 0]
        first, last = int(free[0]), int(free[-1]) + 1
        if last - first <= window - overlap:
            start = min(max(0, (first + last - window) // 2), wanted.frames - window)
            return [(start, start + window)]
    return windows_of(wanted.frames, window, overlap)


def frames_drawn(
    speech: "Speech", wanted: Sequence[Utterance], context: RequestContext, *, sampling: Sampling | None = None
) -> Generator[Request, Tensor, list[Tensor]]:
    """Draw every utterance: x (channels, frames) of each.

    Windows after the first continue what was drawn before. Samples are drawn with others of the same padded length, so
    their bytes do not depend on these."""
    growing = [
        _Growing(wanted=one, seed=context.seed + i, windows=windows_around(one, speech.window, speech.window // 4))
        for i, one in enumerate(wanted)
    ]
    for one in growing:
        one.start(speech.codec.channels)
    for number in range(max(len(one.windows) for one in growing)):
        groups = defaultdict[int, list[_Growing]](list)
        for one in growing:
            start, end = one.windows[number] if number < len(one.windows) else (0, 0)
            if not bool(one.done[start:end].all()):
                groups[padded_frames(end - start)].append(one)
        for frames, members in sorted(groups.items()):
            x = yield _draw_windows(speech, members, number, frames, sampling or context.model.sampling)
            for row, one in zip(x, members, strict=True):
                start, end = one.windows[number]
                new = row[:, : end - start]
                one.x[:, start:end] = torch.where(one.done[start:end], one.x[:, start:end], new)
                one.done[start:end] = True
    return [one.x for one in growing]


def draw(
    speech: "Speech", wanted: Sequence[Utterance], context: RequestContext, *, sampling: Sampling | None = None
) -> Plan:
    """Draw every utterance, and decode it."""
    x = yield from frames_drawn(speech, wanted, context, sampling=sampling)
    seeds = seeds_of(context.seed, len(wanted))
    signals = yield from decoding(speech, x, seeds)
    arrays = {"seed": seeds}
    if speech.speakers:
        arrays["speaker"] = torch.tensor([-1 if one.speaker is None else one.speaker for one in wanted])
    return Samples(modality=speech, values=signals, names=tuple(one.name for one in wanted), arrays=arrays)


def decoding(speech: "Speech", x: Sequence[Tensor], seeds: Tensor) -> Vocoding:
    """The signals of samples x (channels, frames), as a part of a plan: by the vocoder, if the codec has one."""
    codec = speech.codec
    if isinstance(codec, Vocoder):
        return (yield from vocode(x, seeds, hop=codec.stride, std=codec.std, model=VOCODER))
    return speech.decoded(x, seeds)


def copies(speech: "Speech", signals: Sequence[Tensor], names: Sequence[str], *, seed: int = 0) -> Plan:
    """The plan of copies of signals: encoded and decoded, or, for a vocoder, made from their spectrograms."""
    seeds = seed + torch.arange(len(signals))
    if speech.vocoder is None:
        made = yield from decoding(speech, speech.encoder.signals(signals), seeds)
    else:
        mels = speech.vocoder.encode(signals, speech.known_rate)
        assert isinstance(speech.codec, Waveform), "the modality of a run is fitted"
        made = yield from vocode(mels, seeds, hop=speech.vocoder.stride, std=speech.codec.std)
    return Samples(modality=speech, values=made, names=tuple(names), arrays={"seed": seeds})


def _draw_windows(speech: "Speech", members: list[_Growing], number: int, frames: int, sampling: Sampling) -> Draw:
    """The request for one window of each utterance, padded to `frames`."""

    def padded(row: Tensor) -> Tensor:
        return torch.nn.functional.pad(row, (0, frames - row.shape[-1]))

    spans = [one.windows[number] for one in members]
    x = torch.stack([padded(one.x[:, a:b]) for one, (a, b) in zip(members, spans, strict=True)])
    given = torch.stack([padded(one.done[a:b]) for one, (a, b) in zip(members, spans, strict=True)])
    condition = condition_of(
        speakers=torch.tensor([one.wanted.speaker or 0 for one in members]) if speech.speakers else None,
        aligned=_aligned(speech, members, spans),
        context=context_of(x, given) if speech.reads_context else None,
        lengths=torch.tensor([b - a for a, b in spans]),
        frames=frames,
    )
    condition = replace(
        condition,
        global_=known_of(condition.global_, [one.wanted.speaker is not None for one in members]),
        aligned=known_of(condition.aligned, [one.wanted.aligned is not None for one in members]),
        concat=known_of(condition.concat, [one.anything_known or bool(row.any()) for one, row in zip(members, given)]),
    )
    if members[0].wanted.error is not None:
        error = [
            torch.where(one.done[a:b], EXACT, one.wanted.error[:, a:b])
            for one, (a, b) in zip(members, spans, strict=True)
            if one.wanted.error is not None
        ]
        weight = torch.stack([padded(EXACT / row) for row in error])
        condition = replace(condition, measurement=observed(x, weight))
    seeds = torch.tensor([one.seed for one in members])
    seeds = seeds if number == 0 else mix(seeds, number)
    noised = isinstance(sampling.grid, UniformTimeGrid) and sampling.grid.high is not None
    clean = x if noised and members[0].wanted.x is not None else None
    return Draw(shape=tuple(x.shape[1:]), seeds=seeds, sampling=sampling, condition=condition, clean=clean)


def _aligned(speech: "Speech", members: list[_Growing], spans: list[tuple[int, int]]) -> list[Tensor] | None:
    """The port `aligned` of each window, 0 where the text is not known; None without texts."""
    if not speech.texts:
        return None
    wide = width(len(speech.units.inventory))
    return [
        torch.zeros(b - a, wide) if one.wanted.aligned is None else one.wanted.aligned[a:b]
        for one, (a, b) in zip(members, spans, strict=True)
    ]


def known_of(port: Port | None, known: list[bool]) -> Port | None:
    """The port, withheld from the samples of which it is not known."""
    return port if port is None or all(known) else port.only(torch.tensor(known))


def observed(x: Tensor, weight: Tensor) -> Measurement:
    """That x (b, channels, frames) is known to EXACT / weight, of the same shape; 0 for not at all."""
    return Measurement(
        operator=Diagonal(weight=weight), y=weight * x, noise=torch.full((len(x),), EXACT), shape=tuple(x.shape[1:])
    )


def from_time(sampling: Sampling, t: float, rho: float) -> Sampling:
    """The sampling that starts at time t, of which rho is sigma / alpha, and not from the prior."""
    return sampling if t >= 1 else replace(sampling, grid=UniformTimeGrid(high=rho))
