"""Internal guidance: D = D_early + w (D - D_early), D_early by a head on an early block of the same network, trained with
it ("Guiding a Diffusion Transformer with the Internal Dynamics of Itself", 2025, arXiv:2512.24176).

The early head makes the errors of a weaker model, as in autoguidance, at the cost of one matrix: one call of the network,
no second sample, and no condition needed.
"""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser, GaussianDenoiser, early_depth
from langevin.diffusion.guidance.method import Models, require_usual, weight_at
from langevin.diffusion.posterior import Point, Prediction


@dataclass(frozen=True, kw_only=True)
class InternalGuidance:
    """Guidance by the network's own early head, see the module; needs a run with `network.early_depth`, and is named first.

    Args:
        weight: w; 1 is the prediction itself, 0 the early one.
        interval: guide where low < sigma / alpha <= high; None is everywhere.

    Raises:
        ValueError: a weight that is not finite, or an empty interval.
    """

    kind: Literal["internal"] = "internal"
    weight: float
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        require_usual(self.weight, self.interval)

    @property
    def neutral(self) -> float:
        return 1.0

    def wrap(self, denoiser: Denoiser[Prediction], *, process: Any, models: Models) -> "InternallyGuided":
        """See `Guidance.wrap`; needs the network itself, which no other method is around, with an early head."""
        if not isinstance(denoiser, GaussianDenoiser) or not early_depth(denoiser.network):
            raise ValueError(
                "internal guidance needs a network with an early head (network.early_depth), and is named before other "
                "methods; tiles and reproducible serving do not go with it"
            )
        return InternallyGuided(denoiser=denoiser)


@dataclass(frozen=True, kw_only=True)
class InternallyGuided:
    """`denoiser` guided away from its early head by `condition.guidance["internal"]`.

    Raises:
        ValueError: (when called) a weight that is not finite, or an empty interval.
    """

    denoiser: GaussianDenoiser

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Point:
        guidance = None if condition is None else condition.guidance.get("internal")
        weight = None if guidance is None else weight_at(guidance, t, self.denoiser.process.schedule)
        if weight is None:
            return self.denoiser(x_t, t, condition)
        q, early = self.denoiser.with_early(x_t, t, condition)
        return q.extrapolate_from(early, weight)
