"""A network as a posterior: preconditioning and prediction targets.

For Gaussian data every target is one affine reading of the network's output F,

    E[x | x_t] = c_skip x_t + c_out F(c_in x_t, c_time, condition),

    clean      c_skip = 0                 c_out = 1                     F -> x
    noise      c_skip = 1 / alpha         c_out = -sigma / alpha        F -> eps; both 0 where sigma / alpha > e^10
    velocity   c_skip = b / k             c_out = -sigma / k            F -> a x + b eps, k = b alpha - a sigma
    edm        c_skip = alpha s_d^2 / m   c_out = sigma s_d / sqrt(m)   m = sigma^2 + alpha^2 s_d^2

with (a, b) the schedule's tangent and s_d the data's standard deviation; the last line is EDM's preconditioning
("Elucidating the Design Space of Diffusion-Based Generative Models", 2022) for any schedule. All share
c_in = 1 / sqrt(m), unit variance at every noise level, and c_time = ln(sigma / alpha) / 4, which depends on the noise
level and not on the schedule's clock.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.posterior import Categorical, Joint, Partly, Point, Posterior, Score, Symbolic
from langevin.diffusion.process.arrival import Discrete, posterior
from langevin.diffusion.process.drift.process import EARLIEST, Drift
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.process.masked import Masked
from langevin.diffusion.remember import Remembered
from langevin.diffusion.schedule import AnySchedule
from langevin.diffusion.shape import right_pad

Prediction = Literal["clean", "noise", "velocity", "edm"]
Network = Callable[[Any, Tensor, Condition | None], Any]

FARTHEST = 20.0  # |log-SNR| beyond which a network is not told more: sigma / alpha outside e^-10 .. e^10


class Denoiser(Protocol):
    """(x_t, t, condition) -> posterior over clean x. Guidance has the same face."""

    def __call__(self, x_t: Any, t: Tensor, condition: Condition | None) -> Posterior: ...


def affine(
    prediction: Prediction, schedule: AnySchedule, t: Tensor, sigma_data: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(c_skip, c_out, c_in, c_time) at times t, float64, shaped like t."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    m = sigma * sigma + (alpha * sigma_data) ** 2
    c_time = -0.125 * schedule.log_snr(t).clamp(-FARTHEST, FARTHEST)
    if prediction == "clean":
        c_skip, c_out = torch.zeros_like(t), torch.ones_like(t)
    elif prediction == "noise":
        heard = alpha > sigma * math.exp(-FARTHEST / 2)  # without signal the answer is 0, not noise over nothing
        c_skip, c_out = torch.where(heard, 1 / alpha, 0.0), torch.where(heard, -sigma / alpha, 0.0)
    elif prediction == "velocity":
        a, b = schedule.tangent(t)
        k = b * alpha - a * sigma
        c_skip, c_out = b / k, -sigma / k
    else:
        c_skip, c_out = alpha * sigma_data**2 / m, sigma * sigma_data / m.sqrt()
    return c_skip, c_out, m.rsqrt(), c_time


@lru_cache(maxsize=256)
def _coefficients(prediction: Prediction, schedule: AnySchedule, sigma_data: float) -> Remembered:
    def numbers(t: Tensor) -> tuple[Tensor, ...]:
        return affine(prediction, schedule, t, sigma_data)

    return Remembered(numbers)


def _require_precision(precision: torch.dtype) -> None:
    if precision not in (torch.float32, torch.bfloat16):
        raise ValueError(f"the network's precision is torch.float32 or torch.bfloat16, got {precision}")


def _computing(device: torch.device, precision: torch.dtype) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, dtype=precision) if precision == torch.bfloat16 else nullcontext()


@dataclass(frozen=True, kw_only=True)
class GaussianDenoiser:
    """A network that reads Gaussian-corrupted data.

    Args:
        network: (c_in x_t, c_time, condition) -> tensor of the shape of x_t; c_time is float32, of the shape of t.
        process: the Gaussian process; its `sigma_data` is that of the preconditioning.
        prediction: what the network's output means, see the module.
        precision: the type that the network computes in, float32 or bfloat16; inputs, weights and outputs stay float32.

    Raises:
        ValueError: another precision.
    """

    network: Network
    process: Gaussian
    prediction: Prediction = "edm"
    precision: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        _require_precision(self.precision)

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Point:
        found = _coefficients(self.prediction, self.process.schedule, self.process.sigma_data)(t.double())
        c_skip, c_out, c_in = right_pad(found[:3], x_t[None]).to(x_t.dtype)
        with _computing(x_t.device, self.precision):
            output = self.network(c_in * x_t, found[3].float(), condition)
        return Point(torch.addcmul(c_skip * x_t, c_out, output.to(x_t.dtype)))


@dataclass(frozen=True, kw_only=True)
class ScoreDenoiser:
    """A network as the score of a `Drift`:

        score = F(x_t / S, c_time) / scale + (1 - c) (-x_t / S^2) + c 2 f / g^2 - (x_t - cut x_t) / scale^2

    What is added to F is right where nothing has been seen, without which the reverse of a drift that pulls would run away:
    -x / S^2 is the score of a Gaussian of the spread S of x_t, 2 f / g^2 the one that a gradient drift ends in, and
    c = 1 - e^(-V^2 / S^4) goes from one to the other as the noise so far, V, grows; what lies beyond the edge of all x_t
    seen (cut x_t is x_t brought back to it) is pulled back as by noise alone. 1 / scale^2 = 1 / V + 1 / S^2, and
    c_time = ln(V) / 8, as of a Gaussian process in the same clock."""

    network: Network
    process: Drift
    precision: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        _require_precision(self.precision)

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Score:
        t = t.double().clamp_min(EARLIEST)
        process, wide = self.process, self.process.spread(t)
        ended = -torch.expm1(-((process.schedule.sigma(t) / wide) ** 4))
        pull = 2 * ended / process.level(t).square().clamp_min(1e-3 * process.schedule.beta.mean / process.horizon)
        numbers = (wide, process.scale(t), (1 - ended) / wide.square(), pull, process.edge(t))
        spread, scale, back, pull, edge = (right_pad(number, x_t).to(x_t.dtype) for number in numbers)
        c_time = -0.125 * process.schedule.log_snr(t).clamp(-FARTHEST, FARTHEST)
        with _computing(x_t.device, self.precision):
            output = self.network((x_t / spread).float(), c_time.float(), condition)
        beyond = x_t - torch.minimum(torch.maximum(x_t, -edge), edge)
        outside = pull * process.field(x_t, t) - back * x_t - beyond / scale.square()
        return Score(output.to(x_t.dtype) / scale + outside)


@dataclass(frozen=True, kw_only=True)
class TokenDenoiser:
    """A network that reads corrupted symbols: (x_t (b, places) int64, c_time, condition) -> logits (b, places, symbols).

    c_time is logit(t) / 8 of a row's noisiest place, (b,) float32.

    Args:
        answers: what the logits are of: the law of a place given all others, to which what is seen at the place itself is
            added here (a place of a masked process that shows its symbol is certain, whatever the network says); or the
            posterior as it stands.
        partly: ask a network of a masked process for logits (m, symbols) of its m masked places only, which it takes as
            `at` (b, places) bool: the same answers for less work.
    """

    network: Network
    process: Discrete
    answers: Literal["leave_one_out", "posterior"] = "leave_one_out"
    precision: torch.dtype = torch.float32
    partly: bool = False

    def __post_init__(self) -> None:
        _require_precision(self.precision)
        if self.partly and not isinstance(self.process, Masked):
            raise ValueError("only a masked process is certain of what it shows: partly belongs to it")

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Symbolic:
        noisiest = t.double() if t.ndim == 1 else t.double().amax(1)
        c_time = 0.125 * noisiest.logit(1e-6).float()
        with _computing(x_t.device, self.precision):
            if self.partly:
                at = x_t == self.process.mask
                return Partly(self.network(x_t, c_time, condition, at=at).float(), at, x_t)  # type: ignore[call-arg]
            logits = self.network(x_t, c_time, condition).float()
        return posterior(self.process, logits, x_t, t) if self.answers == "leave_one_out" else Categorical(logits)


@dataclass(frozen=True, kw_only=True)
class CausalDenoiser:
    """An autoregressive network as a denoiser: the law of each place given those before it, whatever comes after.

    Right for the first masked place of a row; a sampler that goes from left to right asks for no other."""

    network: Network
    precision: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        _require_precision(self.precision)

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Categorical:
        with _computing(x_t.device, self.precision):
            return Categorical(self.network(x_t, t.float(), condition).float())


@dataclass(frozen=True, kw_only=True)
class JointDenoiser:
    """A network over several parts: (parts of x_t, t, condition) -> posteriors by name."""

    network: Callable[[Any, Tensor, Condition | None], dict[str, Posterior]]

    def __call__(self, x_t: Any, t: Tensor, condition: Condition | None = None) -> Joint:
        return Joint(self.network(x_t, t, condition))
