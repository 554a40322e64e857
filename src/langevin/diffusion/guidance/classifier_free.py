"""Classifier-free guidance: D = D_u + w (D_c - D_u) ("Classifier-Free Diffusion Guidance", 2022, arXiv:2207.12598),
optionally within an interval of noise levels only ("Applying Guidance in a Limited Interval Improves Sample and
Distribution Quality in Diffusion Models", 2024, arXiv:2404.07724).

D_u is the prediction without the condition, or given `condition.reference`, a negative condition. Note that this does not
sample the tilted distribution p(x) p(c | x)^w: of Gaussian data the flow's samples have the variance S_c^w S_u^(1 - w), the
tilted distribution 1 / (w / S_c + (1 - w) / S_u).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance.method import Models, require_usual, schedule_of, weight_at, with_reference
from langevin.diffusion.posterior import Prediction
from langevin.diffusion.schedule import AnySchedule
from langevin.diffusion.shape import tree_map


@dataclass(frozen=True, kw_only=True)
class ClassifierFreeGuidance:
    """Classifier-free guidance, see the module; needs a network trained with random condition dropout.

    Args:
        weight: w; 1 is the conditional prediction, 0 the unconditional one.
        interval: guide where low < sigma / alpha <= high; None is everywhere.

    Raises:
        ValueError: a weight that is not finite, or an empty interval.
    """

    kind: Literal["classifier_free"] = "classifier_free"
    weight: float
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        require_usual(self.weight, self.interval)

    @property
    def neutral(self) -> float:
        return 1.0

    def wrap(self, denoiser: Denoiser[Prediction], *, process: Any, models: Models) -> "ClassifierFree":
        """See `Guidance.wrap`; a process without noise levels takes no interval."""
        return ClassifierFree(denoiser=denoiser, schedule=schedule_of(process))


def on_a_line(q: Prediction, reference: Prediction, weight: Tensor, x_t: Any, t: Tensor) -> Prediction:
    """reference + weight (q - reference)."""
    return q.extrapolate_from(reference, weight)


Combination = Callable[[Any, Any, Tensor, Any, Tensor], Prediction]  # of (D_c, D_u, w, x_t, t); D_c where w is 1


@dataclass(frozen=True, kw_only=True)
class ClassifierFree:
    """`denoiser` guided by `condition.guidance[kind]`.

    The unconditional inputs are evaluated in the same network call, only for samples of weight other than 1 and within
    their interval. With a time per position, the interval applies to each position.

    Args:
        schedule: for the noise level of a time; None for a process without noise levels.
        kind: the method whose weights are read.
        combine: how the two predictions become one.

    Raises:
        ValueError: (when called) a weight that is not finite, or an empty interval.
    """

    denoiser: Denoiser[Prediction]
    schedule: AnySchedule | None
    kind: str = "classifier_free"
    combine: Combination = on_a_line

    def __call__(self, x_t: Any, t: Tensor, condition: Condition | None = None) -> Prediction:
        guidance = None if condition is None else condition.guidance.get(self.kind)
        if condition is None or guidance is None or not condition.ports:
            return self.denoiser(x_t, t, condition)
        weight = weight_at(guidance, t, self.schedule)
        if weight is None:
            return self.denoiser(x_t, t, condition)

        inside = condition.inside(self.kind)

        def second(guided: Tensor) -> tuple[Any, Condition]:
            def select(part: Tensor) -> Tensor:
                return part[guided]

            other = replace(condition.select(guided).compared(), guidance=inside.select(guided).guidance)
            return tree_map(select, x_t), other

        q, reference = with_reference(self.denoiser, x_t, t, inside, weight, second)
        return self.combine(q, reference, weight, x_t, t)
