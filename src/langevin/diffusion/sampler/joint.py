"""Sampling of several named parts, a solver of the probability flow on each Gaussian one and unmasking of the tokens."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from langevin.diffusion.float64 import to_float64
from langevin.diffusion.posterior import Joint, Point
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.process.product import Product
from langevin.diffusion.sampler.state import Processes, State
from langevin.diffusion.sampler.tokens import PLAIN, TokenSampling
from langevin.diffusion.schedule import AnySchedule
from langevin.diffusion.shape import append_dims, part_of

OUTPUT = "output."  # of the memory: the last posterior mean of each Gaussian part


@dataclass(frozen=True, kw_only=True)
class JointDPM2M:
    """One evaluation a step for a `Product`. Each Gaussian part takes a step of DPM-Solver++(2M) at its own times,

        x_s = (sigma_s / sigma_t) e^{-eta h} x_t + alpha_s E (D + (D - D') h / 2 h') + sigma_s sqrt(1 - e^{-2 eta h}) n,

    with h = lambda_s - lambda_t, E = 1 - e^{-(1 + eta) h} and D' the output of the step before, h' long; each other part is
    drawn from its reverse transition. First order at the first step and at the last.

    "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models" (2022, arXiv:2211.01095).

    Args:
        eta: 0 is the probability flow, 1 the reverse SDE.
        tokens: temperature and top-p of the parts that are tokens.

    Raises:
        ValueError: an eta that is not between 0 and 1.
    """

    kind: Literal["joint_dpm2m"] = "joint_dpm2m"
    eta: float = 0.0
    tokens: TokenSampling = PLAIN
    processes: ClassVar[Processes] = (Product,)

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is the share of noise, from 0 (the flow) to 1 (the reverse SDE), got {self.eta}")

    @property
    def convergence_order(self) -> int | None:
        return None

    def begin(self, state: State, process: Product) -> State:
        gaussian = [name for name, part in process.parts.items() if isinstance(part, Gaussian)]
        return replace(state, memory={OUTPUT + name: torch.zeros_like(state.x[name]) for name in gaussian})

    def update(self, state: State, q: Joint, process: Product) -> State:
        x: dict[str, Tensor] = {}
        memory: dict[str, Tensor] = {}
        before, t, s = state.time(-1), state.time(), state.time(1)
        for i, (name, part) in enumerate(process.parts.items()):
            mine, x_t, noise = q.parts[name], state.x[name], state.noise.fork(i)
            if not isinstance(part, Gaussian):
                mine = mine if self.tokens.neutral else self.tokens.of(mine)  # type: ignore[arg-type]
                x[name] = part.transition(mine, x_t, part_of(t, name), part_of(s, name), noise)
                continue
            assert isinstance(mine, Point), "continuous parts are predicted by their mean"
            times = [to_float64(part_of(time, name)) for time in (before, t, s)]
            first = append_dims(state.call_index == 0, times[1]).to(times[1].device)
            weights = _weights(part.schedule, times[0], times[1], times[2], first, self.eta)
            a, new, old, c = append_dims(torch.stack(weights), x_t[None]).to(x_t)
            x[name] = a * x_t + new * mine.mean + old * state.memory[OUTPUT + name]
            if self.eta:
                x[name] = torch.addcmul(x[name], c, noise.normal(x_t))
            memory[OUTPUT + name] = mine.mean
        return state.advance(x, **memory)


def _weights(
    schedule: AnySchedule, before: Tensor, t: Tensor, s: Tensor, first: Tensor, eta: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The weights of x_t, of the output, of the one before and of the noise, float64, shaped like t.

    (1, 0, 0, 0) where s = t."""
    alpha_s, sigma_s, sigma_t = schedule.alpha(s), schedule.sigma(s), schedule.sigma(t)
    still = (s == t) | (sigma_t == 0)
    l_0, l_t, l_s = (0.5 * schedule.log_snr(time) for time in (before, t, s))
    h, h_0 = torch.where(still, 0.0, l_s - l_t), l_t - l_0
    regular = ~first & h.isfinite() & (h_0 > 0)  # the first step and the last are of first order
    share = torch.where(regular & h_0.isfinite(), 0.5 * h / h_0, 0.0)
    e = alpha_s * -torch.expm1(-(1 + eta) * h)
    decay = eta * h if eta else torch.zeros_like(h)  # h may be infinite
    a = torch.where(still, 1.0, sigma_s / torch.where(still, 1.0, sigma_t) * torch.exp(-decay))
    c = sigma_s * (-torch.expm1(-2 * decay)).clamp_min(0).sqrt()
    return a, e * (1 + share), -e * share, c
