"""A network as a posterior: preconditioning and prediction targets.

For a Gaussian process every prediction target is an affine function of the network's output F,

    E[x | x_t] = c_skip x_t + c_out F(c_in x_t, c_time, condition),

    clean      c_skip = 0                 c_out = 1                     F -> x
    noise      c_skip = 1 / alpha         c_out = -sigma / alpha        F -> eps; both 0 where sigma / alpha > e^10
    velocity   c_skip = b / k             c_out = -sigma / k            F -> a x + b eps, k = b alpha - a sigma
    edm        c_skip = alpha s_d^2 / m   c_out = sigma s_d / sqrt(m)   m = sigma^2 + alpha^2 s_d^2

with (a, b) the schedule's tangent and s_d the data's standard deviation; the last line is EDM's preconditioning
("Elucidating the Design Space of Diffusion-Based Generative Models", 2022, arXiv:2206.00364) for any schedule. All share
c_in = 1 / sqrt(m), which gives inputs of unit variance, and c_time = ln(sigma / alpha) / 4, which depends on the noise
level alone and so is the same for all schedules.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from typing_extensions import TypeVar  # with a default

from langevin.diffusion.condition import Condition
from langevin.diffusion.float64 import to_float64
from langevin.diffusion.memoise import MemoisedByTime
from langevin.diffusion.posterior import (
    Categorical,
    Joint,
    MaskedCategorical,
    Point,
    Posterior,
    Prediction,
    Score,
    TokenPosterior,
)
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.process.interpolating import Discrete, posterior
from langevin.diffusion.process.masked import Masked
from langevin.diffusion.process.product import Product
from langevin.diffusion.process.sde.process import EARLIEST, SDE
from langevin.diffusion.schedule import AnySchedule
from langevin.diffusion.shape import Data, append_dims, first_leaf, part_of

PredictionType = Literal["clean", "noise", "velocity", "edm"]
Network = Callable[[Any, Tensor, Condition | None], Any]

FARTHEST = 20.0  # |log-SNR| at which c_time is clamped: sigma / alpha outside e^-10 .. e^10


P_co = TypeVar("P_co", bound=Prediction, covariant=True, default=Posterior)


class Denoiser(Protocol[P_co]):
    """A function (x_t, t, condition) -> prediction: a network with its preconditioning, or guidance around others."""

    def __call__(self, x_t: Any, t: Tensor, condition: Condition | None) -> P_co:
        """The prediction for x_t (b, ...) at t (b,) or (b, positions); samples are independent.

        A posterior over clean x, or a `Score` for a `Denoiser[Score]`. `condition` is of the same b samples, or None."""
        ...


def affine(
    prediction: PredictionType, schedule: AnySchedule, t: Tensor, sigma_data: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(c_skip, c_out, c_in, c_time) at times t, float64, shaped like t."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    m = sigma * sigma + (alpha * sigma_data) ** 2
    c_time = -0.125 * schedule.log_snr(t).clamp(-FARTHEST, FARTHEST)
    if prediction == "clean":
        c_skip, c_out = torch.zeros_like(t), torch.ones_like(t)
    elif prediction == "noise":
        signal = alpha > sigma * math.exp(-FARTHEST / 2)  # without signal the prediction is 0
        c_skip, c_out = torch.where(signal, 1 / alpha, 0.0), torch.where(signal, -sigma / alpha, 0.0)
    elif prediction == "velocity":
        a, b = schedule.tangent(t)
        k = b * alpha - a * sigma
        c_skip, c_out = b / k, -sigma / k
    else:
        c_skip, c_out = alpha * sigma_data**2 / m, sigma * sigma_data / m.sqrt()
    return c_skip, c_out, m.rsqrt(), c_time


@lru_cache(maxsize=256)
def _coefficients(prediction: PredictionType, schedule: AnySchedule, sigma_data: float) -> MemoisedByTime:
    def numbers(t: Tensor) -> tuple[Tensor, ...]:
        return affine(prediction, schedule, t, sigma_data)

    return MemoisedByTime(numbers)


def _require_precision(precision: torch.dtype) -> None:
    if precision not in (torch.float32, torch.bfloat16):
        raise ValueError(f"the network's precision is torch.float32 or torch.bfloat16, got {precision}")


def computing(device: torch.device, precision: torch.dtype) -> AbstractContextManager[Any]:
    """Within it a network computes in `precision`."""
    return torch.autocast(device.type, dtype=precision) if precision == torch.bfloat16 else nullcontext()


def weights_cast_once(device: torch.device) -> AbstractContextManager[Any]:
    """Within it, a weight is cast to a denoiser's `precision` at its first use only: for many calls with equal weights."""
    if device.type not in ("cpu", "cuda"):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)  # casts are kept up to the end of the outermost context


def quality_head(network: Any) -> bool:
    """Whether a network of tokens has a second output, the quality of visible tokens."""
    return getattr(getattr(network, "config", None), "quality_head", False)


@dataclass(frozen=True, kw_only=True)
class GaussianDenoiser:
    """A network as a denoiser of a Gaussian process: E[x | x_t] = c_skip x_t + c_out F(c_in x_t, c_time, condition).

    The module has the coefficients of each prediction target; "edm" is that of "Elucidating the Design Space of
    Diffusion-Based Generative Models" (2022, arXiv:2206.00364).

    Outside the condition's data mask the mean is 0, whatever x_t is there.

    Args:
        network: (c_in x_t, c_time, condition) -> tensor of the shape of x_t; c_time is float32, of the shape of t.
        process: the Gaussian process, with the `sigma_data` of the preconditioning.
        prediction: the target of the network's output, see the module.
        precision: of the network's computation (autocast), float32 or bfloat16; inputs, weights and outputs are float32.

    Raises:
        ValueError: another precision.
    """

    network: Network
    process: Gaussian
    prediction: PredictionType = "edm"
    precision: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        _require_precision(self.precision)

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Point:
        c = _coefficients(self.prediction, self.process.schedule, self.process.sigma_data)(to_float64(t))
        c_skip, c_out, c_in = append_dims(c[:3], x_t[None]).to(x_t)
        with computing(x_t.device, self.precision):
            output = self.network(c_in * x_t, c[3].to(x_t.device, torch.float32), condition)
        mean = torch.addcmul(c_skip * x_t, c_out, output.to(x_t))
        inside = None if condition is None else condition.over(x_t)
        return Point(mean if inside is None else torch.where(inside, mean, 0.0))


@dataclass(frozen=True, kw_only=True)
class ScoreDenoiser:
    """A network F as the score of an `SDE`:

        score = F(x_t / S, c_time) / scale + (1 - c) (-x_t / S^2) + c 2 f / g^2 - (x_t - clamp x_t) / scale^2

    with V the accumulated noise, S the root mean square of x_t, 1 / scale^2 = 1 / V + 1 / S^2, c_time = ln(V) / 8 as for a
    Gaussian process, and c = 1 - e^(-V^2 / S^4), which goes from 0 to 1 as V grows.

    The terms besides F make the score confining where training has no x_t; otherwise the reverse SDE of a confining drift
    diverges there. -x_t / S^2 is the score of a Gaussian with root mean square S. 2 f / g^2 is the stationary score of a
    gradient drift. The last term is zero within the simulated range, to which x_t is clamped."""

    network: Network
    process: SDE
    precision: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        _require_precision(self.precision)

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Score:
        t = to_float64(t).clamp_min(EARLIEST)
        process, rms = self.process, self.process.rms_at(t)
        c = -torch.expm1(-((process.schedule.sigma(t) / rms) ** 4))
        pull = 2 * c / process.diffusion_at(t).square().clamp_min(1e-3 * process.schedule.beta.mean / process.duration)
        values = (rms, process.scale(t), (1 - c) / rms.square(), pull, process.max_abs_at(t))
        rms, scale, back, pull, edge = (append_dims(value, x_t).to(x_t) for value in values)
        c_time = -0.125 * process.schedule.log_snr(t).clamp(-FARTHEST, FARTHEST)
        with computing(x_t.device, self.precision):
            output = self.network((x_t / rms).float(), c_time.to(x_t.device, torch.float32), condition)
        beyond = x_t - torch.minimum(torch.maximum(x_t, -edge), edge)
        outside = pull * process.drift_at(x_t, t) - back * x_t - beyond / scale.square()
        return Score(output.to(x_t) / scale + outside)


@dataclass(frozen=True, kw_only=True)
class TokenDenoiser:
    """A network of tokens: (x_t (b, positions) int64, c_time, condition) -> logits (b, positions, vocabulary).

    c_time is logit(t) / 8 of a sample's noisiest position, (b,) float32.

    Args:
        output: the distribution that the logits mean. "posterior": p(x_i | x_t). "leave_one_out": p(x_i | x_t without
            position i), which is converted to the posterior here (see `process.interpolating`).
        precision: as for `GaussianDenoiser`.
        at_masks_only: the network returns logits (m, vocabulary) for the m masked positions only, which it is passed as
            `at` (b, positions) bool. For masked processes.

    Raises:
        ValueError: another precision, or `at_masks_only` without a masked process.
    """

    network: Network
    process: Discrete
    output: Literal["leave_one_out", "posterior"] = "leave_one_out"
    precision: torch.dtype = torch.float32
    at_masks_only: bool = False

    def __post_init__(self) -> None:
        _require_precision(self.precision)
        if self.at_masks_only and not isinstance(self.process, Masked):
            raise ValueError("at_masks_only needs a masked process, whose visible tokens are certain")

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> TokenPosterior:
        noisiest = to_float64(t) if t.ndim == 1 else to_float64(t).amax(1)
        c_time = 0.125 * noisiest.logit(1e-6).to(x_t.device, torch.float32)
        with computing(x_t.device, self.precision):
            if self.at_masks_only:
                at = x_t == self.process.mask
                if condition is not None and condition.data_mask is not None:
                    at = at & condition.data_mask
                if quality_head(self.network):
                    logits, quality = self.network.with_quality(x_t, c_time, condition, at=at)  # type: ignore[attr-defined]
                    return MaskedCategorical(logits.float(), at, x_t, quality.float())
                return MaskedCategorical(self.network(x_t, c_time, condition, at=at).float(), at, x_t)  # type: ignore[call-arg]
            logits = self.network(x_t, c_time, condition).float()
        return posterior(self.process, logits, x_t, t) if self.output == "leave_one_out" else Categorical(logits)


@dataclass(frozen=True, kw_only=True)
class CausalDenoiser:
    """An autoregressive network as a denoiser: the distribution of each position given those before it.

    It is the posterior at the first masked position of a sample, which is all that left-to-right sampling uses."""

    network: Network
    precision: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        _require_precision(self.precision)

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Categorical:
        with computing(x_t.device, self.precision):
            return Categorical(self.network(x_t, t.to(x_t.device, torch.float32), condition).float())


@dataclass(frozen=True, kw_only=True)
class JointDenoiser:
    """A network over the parts of a product as a denoiser: (inputs, c_time, condition) -> outputs, mappings by part.

    The input, the output and c_time of a Gaussian part are those of `GaussianDenoiser`. A masked part is given as tokens;
    its output is logits (b, positions, vocabulary), and its c_time logit(t) / 8. c_time has the shape of the times.

    Args:
        prediction: the target of the output of Gaussian parts.
        precision: as for `GaussianDenoiser`.

    Raises:
        ValueError: another precision, or a part that is neither Gaussian nor masked.
    """

    network: Callable[[Any, Any, Condition | None], Mapping[str, Tensor]]
    process: Product
    prediction: PredictionType = "edm"
    precision: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        _require_precision(self.precision)
        for name, part in self.process.parts.items():
            if not isinstance(part, Gaussian | Masked):
                raise ValueError(f"the part {name} of a product is Gaussian or masked, got {type(part).__name__}")

    def __call__(self, x_t: Mapping[str, Tensor], t: Data, condition: Condition | None = None) -> Joint:
        inputs: dict[str, Tensor] = {}
        c_time: dict[str, Tensor] = {}
        affine_of: dict[str, Tensor] = {}
        for name, part in self.process.parts.items():
            own, x = to_float64(part_of(t, name)), x_t[name]
            if isinstance(part, Gaussian):
                c = _coefficients(self.prediction, part.schedule, part.sigma_data)(own)
                affine_of[name] = append_dims(c[:3], x[None]).to(x)
                inputs[name], c_time[name] = affine_of[name][2] * x, c[3].to(x.device, torch.float32)
            else:
                inputs[name], c_time[name] = x, 0.125 * own.logit(1e-6).to(x.device, torch.float32)
        with computing(first_leaf(x_t).device, self.precision):
            outputs = self.network(inputs, c_time, condition)
        found: dict[str, Posterior] = {}
        for name, part in self.process.parts.items():
            x = x_t[name]
            if isinstance(part, Gaussian):
                c_skip, c_out, _ = affine_of[name]
                found[name] = Point(torch.addcmul(c_skip * x, c_out, outputs[name].to(x)))
            else:
                assert isinstance(part, Masked)
                open_ = x == part.mask
                found[name] = MaskedCategorical(outputs[name].float()[open_], open_, x)
        return Joint(found)
