"""Autoguidance: D = D_0 + w (D_1 - D_0), D_0 a weaker version of the model D_1 (smaller or less trained) given
the same condition ("Guiding a Diffusion Model with a Bad Version of Itself", 2024, arXiv:2406.02507).

The two models make similar errors, the weaker one larger ones, so extrapolation away from it reduces them. Unlike
classifier-free guidance it keeps diversity, and needs no condition.
"""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance.method import (
    Models,
    OtherModel,
    require_usual,
    schedule_of,
    weight_at,
)
from langevin.diffusion.posterior import Prediction
from langevin.diffusion.schedule import AnySchedule


@dataclass(frozen=True, kw_only=True)
class Autoguidance:
    """Guidance by a weaker version of the model.

    Args:
        weight: w; 1 is the model itself, 0 the weaker one.
        interval: guide where low < sigma / alpha <= high; None is everywhere.
        run: path of the weaker run or of one of its checkpoints (RUN/checkpoints/step-00001000); None is the same run.
        ema: EMA length of the weaker weights; None is that run's setting.

    Raises:
        ValueError: a weight that is not finite, an empty interval, or neither a run nor an EMA length.
    """

    kind: Literal["autoguidance"] = "autoguidance"
    weight: float
    interval: tuple[float, float] | None = None
    run: str | None = None
    ema: float | None = None

    def __post_init__(self) -> None:
        require_usual(self.weight, self.interval)
        if self.run is None and self.ema is None:
            raise ValueError("autoguidance needs a weaker model: give its run, or another EMA length as ema")

    @property
    def neutral(self) -> float:
        return 1.0

    def wrap(self, denoiser: Denoiser[Prediction], *, process: Any, models: Models) -> "Autoguided":
        """See `Guidance.wrap`; needs one other model."""
        weaker = models(OtherModel(run=self.run, ema=self.ema))
        return Autoguided(denoiser=denoiser, weaker=weaker, schedule=schedule_of(process))


@dataclass(frozen=True, kw_only=True)
class Autoguided:
    """`denoiser` guided away from `weaker` by `condition.guidance["autoguidance"]`.

    The weaker model is evaluated only where a sample of the batch is guided.

    Raises:
        ValueError: (when called) a weight that is not finite, or an empty interval.
    """

    denoiser: Denoiser[Prediction]
    weaker: Denoiser[Prediction]
    schedule: AnySchedule | None

    def __call__(self, x_t: Any, t: Tensor, condition: Condition | None = None) -> Prediction:
        q = self.denoiser(x_t, t, condition)
        guidance = None if condition is None else condition.guidance.get("autoguidance")
        weight = None if guidance is None else weight_at(guidance, t, self.schedule)
        if condition is None or weight is None:
            return q
        return q.extrapolate_from(self.weaker(x_t, t, condition.unguided()), weight)
