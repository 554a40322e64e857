"""The null-space method: the part of D that was measured is replaced by the measurement ("Zero-Shot Image Restoration Using
Denoising Diffusion Null-Space Model", 2022, arXiv:2212.00490). With noise, D_y minimises

    |y - A x|^2 / 2 s^2 + |x - D|^2 / 2 r^2

("Denoising Diffusion Models for Plug-and-Play Image Restoration", 2023, arXiv:2305.08995), which for s -> 0 is D + A+ (y -
A D). No product with the Jacobian is needed. What was not measured sees the measurement only through the sample that is
formed, so the result is not a sample of the posterior.

For a mask this is RePaint without its resampling ("RePaint: Inpainting using Denoising Diffusion Probabilistic Models",
2022, arXiv:2201.09865), which the sampler `repaint` adds; for a low-pass filter it is ILVR ("ILVR: Conditioning Method for
Denoising Diffusion Probabilistic Models", 2021, arXiv:2108.02938). Both papers draw the noise of the measured part afresh
at every step, which changes no marginal distribution.
"""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance.measured import Linearised, Measured, white_solution
from langevin.diffusion.guidance.method import Models, require_gaussian, require_usual
from langevin.diffusion.measurement import Measurement
from langevin.diffusion.posterior import Prediction


@dataclass(frozen=True, kw_only=True)
class DDNM:
    """Guidance by a linear measurement without gradients, see the module; fast, and too sure of itself.

    Args:
        weight: w; 1 is the method, 0 no guidance.
        interval: guide where low < sigma / alpha <= high; None is everywhere.

    Raises:
        ValueError: a weight that is not finite, or an empty interval.
    """

    kind: Literal["ddnm"] = "ddnm"
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
        return Measured(denoiser=denoiser, process=process, kind=self.kind, correction=self.correction, gradients=False)

    @staticmethod
    def correction(at: Linearised, measurement: Measurement) -> Tensor:
        """D_y - D."""
        u = white_solution(at, measurement, measurement.residual(at.mean))
        return at.r2 * measurement.operator.adjoint(u)
