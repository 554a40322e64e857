"""Guidance by the frames that are clean, the history, of a network with a noise level per frame.

    history          D + (w - 1) (D_level - D_1),     D_l: the prediction where the history is noised to the time l

With level 0, D_level = D and this is D_1 + w (D - D_1): classifier-free guidance with the history as the condition. A level
above 0 leaves the details of the history out of what is strengthened ("History-Guided Video Diffusion", 2025,
arXiv:2502.06764).

    stabilisation    D(x_t, t with w at clean frames)

says that finished frames are a little noisy, so that the network does not trust its own errors in them ("Diffusion Forcing:
Next-token Prediction Meets Full-Sequence Diffusion", 2024, arXiv:2407.01392).
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition, join
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.float64 import to_float64
from langevin.diffusion.guidance.method import Models, require_gaussian, require_usual, weight_at
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import Point, Prediction
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.shape import append_dims


@dataclass(frozen=True, kw_only=True)
class HistoryGuidance:
    """Guidance by clean frames, see the module; for a network trained with `method.levels`.

    Args:
        weight: w; 1 is the prediction itself, 0 (with level 0) the one without history.
        interval: guide where low < sigma / alpha <= high; None is everywhere.
        level: the time of the history whose influence is strengthened, in [0, 1).

    Raises:
        ValueError: a weight that is not finite, an empty interval, or a level out of range.
    """

    kind: Literal["history"] = "history"
    weight: float
    interval: tuple[float, float] | None = None
    level: float = 0.0

    def __post_init__(self) -> None:
        require_usual(self.weight, self.interval)
        if not 0 <= self.level < 1:
            raise ValueError(f"history guidance has a level from 0 to below 1, got {self.level}")

    @property
    def neutral(self) -> float:
        return 1.0

    def wrap(self, denoiser: Denoiser[Prediction], *, process: Any, models: Models) -> "HistoryGuided":
        """See `Guidance.wrap`; samples without a time per frame, or without a clean frame, are not guided."""
        return HistoryGuided(denoiser=denoiser, process=require_gaussian(process, self.kind), level=self.level)


@dataclass(frozen=True, kw_only=True)
class HistoryGuided:
    """`denoiser` guided by `condition.guidance["history"]`.

    Raises:
        ValueError: (when called) a weight that is not finite, or an empty interval.
    """

    denoiser: Denoiser[Prediction]
    process: Gaussian
    level: float

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Prediction:
        guidance = None if condition is None else condition.guidance.get("history")
        weight = None if guidance is None or t.ndim == 1 else weight_at(guidance, t, self.process.schedule)
        if condition is None or weight is None:
            return self.denoiser(x_t, t, condition)
        history = t == 0
        guided = history.flatten(1).any(1).reshape(-1, *(1,) * (t.ndim - 1)) & ~history
        strength = append_dims(torch.where(guided, weight - 1, 0.0), x_t).to(x_t)
        levels = [1.0, *([self.level] if self.level else [])]
        times = [t, *(torch.where(history, level, t) for level in levels)]
        noised = [x_t, *(self._noised(x_t, history, time) for time in times[1:])]
        inside = condition.inside("history")
        q = self.denoiser(torch.cat(noised), torch.cat(times), join(*[inside] * len(times)))
        assert isinstance(q, Point), "a Gaussian process has a mean"
        mean, without, *upper = q.mean.chunk(len(times))
        return Point(torch.addcmul(mean, strength, (upper[0] if upper else mean) - without))

    def _noised(self, x_t: Tensor, history: Tensor, t: Tensor) -> Tensor:
        """x_t with the history corrupted to its time, by noise that is the same at all steps."""
        nothing = torch.zeros(len(x_t), dtype=torch.int64, device=x_t.device)
        noised = self.process.corrupt(x_t, t, SampleNoise(seeds=nothing, steps=nothing))
        return torch.where(append_dims(history.to(x_t.device), x_t), noised, x_t)


@dataclass(frozen=True, kw_only=True)
class StabilisationGuidance:
    """Finished frames are said to be a little noisy, see the module; for a network trained with `method.levels`.

    Args:
        weight: the time that clean frames are said to have, in [0, 1); 0 is none.

    Raises:
        ValueError: a weight out of range.
    """

    kind: Literal["stabilisation"] = "stabilisation"
    weight: float = 0.02

    def __post_init__(self) -> None:
        if not 0 <= self.weight < 1:
            raise ValueError(f"stabilisation has as its weight a time from 0 to below 1, got {self.weight}")

    @property
    def neutral(self) -> float:
        return 0.0

    def wrap(self, denoiser: Denoiser[Prediction], *, process: Any, models: Models) -> "Stabilised":
        """See `Guidance.wrap`; samples without a time per frame stay as they are."""
        require_gaussian(process, self.kind)
        return Stabilised(denoiser=denoiser)


@dataclass(frozen=True, kw_only=True)
class Stabilised:
    """`denoiser` at the times `condition.guidance["stabilisation"]`, a weight per sample, where frames are clean."""

    denoiser: Denoiser[Prediction]

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Prediction:
        guidance = None if condition is None else condition.guidance.get("stabilisation")
        if condition is None or guidance is None or t.ndim == 1:
            return self.denoiser(x_t, t, condition)
        level = append_dims(to_float64(guidance.weight), t)
        return self.denoiser(x_t, torch.where(t == 0, level, t), condition.inside("stabilisation"))
