"""Pseudoinverse-guided diffusion: p(x | x_t) with the covariance r^2 I ("Pseudoinverse-Guided Diffusion Models for Inverse
Problems", 2023, ICLR), see `measured`."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance.measured import Linearised, Measured, white_solution
from langevin.diffusion.guidance.method import Models, require_gaussian, require_usual
from langevin.diffusion.measurement import Measurement
from langevin.diffusion.posterior import Prediction


@dataclass(frozen=True, kw_only=True)
class PiGDM:
    """Guidance by a linear measurement, see the module; biased unless the data are white.

    Args:
        weight: w; 1 is Bayes' rule, 0 no guidance.
        interval: guide where low < sigma / alpha <= high; None is everywhere.

    Raises:
        ValueError: a weight that is not finite, or an empty interval.
    """

    kind: Literal["pigdm"] = "pigdm"
    weight: float = 1.0
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        require_usual(self.weight, self.interval)

    @property
    def neutral(self) -> float:
        return 0.0

    def wrap(self, denoiser: Denoiser[Prediction], *, process: Any, models: Models) -> Measured:
        """See `Guidance.wrap`; needs a Gaussian process."""
        process = require_gaussian(process, self.kind)
        return Measured(denoiser=denoiser, process=process, kind=self.kind, correction=self.correction)

    @staticmethod
    def correction(at: Linearised, measurement: Measurement) -> Tensor:
        """D_y - D."""
        u = white_solution(at, measurement, measurement.residual(at.mean))
        return at.tweedie * at.back(measurement.operator.adjoint(u))
