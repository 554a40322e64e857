"""Noise levels per frame, or per part of the data, in training: which share a level, have their own, or are clean.

Each kind maps an example's uniform u to a phase per frame in [0, 1]; the quantile function of the time density turns phases
into times, and phase 0 of a clean frame is t = 0. A frame at t = 0 is given to the network, and the loss leaves it out. A
model that has seen all of these can be conditioned on any frames, and sampled by every scheduling of
`sampler.scheduling` ("Diffusion Forcing: Next-token Prediction Meets Full-Sequence Diffusion", 2024, arXiv:2407.01392).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from langevin.diffusion.noise import Noise
from langevin.diffusion.objective import TimeDensity
from langevin.diffusion.schedule import AnySchedule


class Levels(Protocol):
    """How the noise levels of an example's frames depend on each other; a frozen dataclass with `kind` and `share`."""

    share: float

    def phases(self, u: Tensor, frames: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """The phase of each frame in [0, 1], (b, frames) float64, and which frames are clean, (b, frames) bool.

        Args:
            u: (b,) float64, uniform on (0, 1); the phase of frames that are not clean is uniform, too, but for `Ramp`.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Shared:
    """One level for all frames.

    Args:
        share: of the examples, relative to those of the other kinds; the same below.
    """

    kind: Literal["shared"] = "shared"
    share: float = 1.0

    def phases(self, u: Tensor, frames: int, noise: Noise) -> tuple[Tensor, Tensor]:
        return _shared(u, frames), torch.zeros(len(u), frames, dtype=torch.bool, device=u.device)


@dataclass(frozen=True, kw_only=True)
class PerFrame:
    """An independent level for every frame."""

    kind: Literal["per_frame"] = "per_frame"
    share: float = 1.0

    def phases(self, u: Tensor, frames: int, noise: Noise) -> tuple[Tensor, Tensor]:
        own = noise.fork(1).uniform(u.new_empty(len(u), frames)).to(u)
        return (u[:, None] + own) % 1, torch.zeros_like(own, dtype=torch.bool)


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """Levels that rise along the frames: phase clip(f / window + o, 0, 1), o uniform on (-(frames - 1) / window, 1). A
    pyramid and a rolling window visit these ("Rolling Diffusion Models", 2024, arXiv:2402.09470).

    Args:
        window: the number of frames from clean to pure noise.
    """

    kind: Literal["ramp"] = "ramp"
    share: float = 1.0
    window: int = 6

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"levels.window is a number of frames, at least 1, got {self.window}")

    def phases(self, u: Tensor, frames: int, noise: Noise) -> tuple[Tensor, Tensor]:
        reach = (frames - 1) / self.window
        offset = u * (1 + reach) - reach
        phase = (torch.arange(frames, device=u.device) / self.window + offset[:, None]).clamp(0, 1)
        return phase, phase == 0


@dataclass(frozen=True, kw_only=True)
class CleanPrefix:
    """The first frames are clean, 1 to all but one; the others share a level."""

    kind: Literal["clean_prefix"] = "clean_prefix"
    share: float = 1.0

    def phases(self, u: Tensor, frames: int, noise: Noise) -> tuple[Tensor, Tensor]:
        length = _length(noise.fork(1), u, min(1, frames - 1), frames - 1)
        return _shared(u, frames), torch.arange(frames, device=u.device) < length[:, None]


@dataclass(frozen=True, kw_only=True)
class RandomSpan:
    """All frames are clean but for a span of consecutive ones, which share a level.

    Args:
        shortest, longest: length of the span, as a fraction of the frames, in (0, 1].
    """

    kind: Literal["random_span"] = "random_span"
    share: float = 1.0
    shortest: float = 0.2
    longest: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.shortest <= self.longest <= 1:
            raise ValueError(
                f"a span has 0 < shortest <= longest <= 1 of the frames, got {self.shortest} and {self.longest}"
            )

    def phases(self, u: Tensor, frames: int, noise: Noise) -> tuple[Tensor, Tensor]:
        least, most = (max(1, round(part * frames)) for part in (self.shortest, self.longest))
        length = _length(noise.fork(1), u, least, most)
        first = (noise.fork(2).uniform(u).to(u) * (frames - length + 1)).long()
        f = torch.arange(frames, device=u.device)
        return _shared(u, frames), (f < first[:, None]) | (f >= (first + length)[:, None])


@dataclass(frozen=True, kw_only=True)
class PerStream:
    """For data in parts, an independent level for every part ("One Transformer Fits All Distributions in Multi-Modal
    Diffusion at Scale", 2023, arXiv:2303.06555)."""

    kind: Literal["per_stream"] = "per_stream"
    share: float = 1.0

    def phases(self, u: Tensor, frames: int, noise: Noise) -> tuple[Tensor, Tensor]:
        return PerFrame().phases(u, frames, noise)


@dataclass(frozen=True, kw_only=True)
class CleanStream:
    """For data in parts, some parts are clean, one to all but one of them, and the others share a level."""

    kind: Literal["clean_stream"] = "clean_stream"
    share: float = 1.0

    def phases(self, u: Tensor, frames: int, noise: Noise) -> tuple[Tensor, Tensor]:
        count = _length(noise.fork(1), u, min(1, frames - 1), frames - 1)
        rank = noise.fork(2).uniform(u.new_empty(len(u), frames)).to(u).argsort(1).argsort(1)
        return _shared(u, frames), rank < count[:, None]


OfFrames = Shared | PerFrame | Ramp | CleanPrefix | RandomSpan
OfStreams = Shared | PerStream | CleanStream
AnyLevels = Shared | PerFrame | Ramp | CleanPrefix | RandomSpan | PerStream | CleanStream


def require_shares(levels: Sequence[AnyLevels]) -> None:
    """Check the shares of some kinds of levels. Raises `ValueError` for one that is negative, or if all are 0."""
    shares = [part.share for part in levels]
    if shares and (min(shares) < 0 or not 0 < sum(shares) < float("inf")):
        raise ValueError(f"the shares of method.levels are at least 0 and finite, and not all 0; got {shares}")


def times_per_frame(
    levels: Sequence[AnyLevels], density: TimeDensity, schedule: AnySchedule, u: Tensor, frames: int, noise: Noise
) -> Tensor:
    """The time of every frame, (b, frames) float64, each example by one of the kinds, chosen by their shares.

    Args:
        u: (b,) float64, uniform on (0, 1).
        noise: one stream per example.
    """
    shares = u.new_tensor([part.share for part in levels]).cumsum(0)
    chosen = torch.searchsorted(shares / shares[-1], noise.fork(0).uniform(u).to(u), right=True)
    phase, clean = (torch.stack(parts) for parts in zip(*(
        part.phases(u, frames, noise.fork(i)) for i, part in enumerate(levels, 1)
    ), strict=True))  # fmt: skip
    index = chosen.clamp_max(len(levels) - 1)[None, :, None].expand(1, len(u), frames)
    phase, clean = phase.gather(0, index)[0], clean.gather(0, index)[0]
    return torch.where(clean, 0.0, density(phase.clamp(2.0**-54, 1 - 2.0**-53), schedule))


def _shared(u: Tensor, frames: int) -> Tensor:
    return u[:, None].expand(-1, frames)


def _length(noise: Noise, u: Tensor, least: int, most: int) -> Tensor:
    """(b,) int64, uniform on least .. most."""
    return least + (noise.uniform(u).to(u) * (most - least + 1)).long().clamp_max(most - least)
