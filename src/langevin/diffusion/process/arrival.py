"""Symbols that stay, or are replaced by an arrival: one family of discrete processes.

    q_t(z | x) = alpha_t 1[z = x] + A_t(z),     A_t >= 0 whatever x was,     sum_z A_t(z) = 1 - alpha_t

A_t takes one value on all symbols and one on the mask. Masked diffusion has arrivals of masks only, uniform diffusion of
symbols only, the hybrid of both. From s to t > s, K(z_t | z_s) = r 1[z_t = z_s] + A_t(z_t) - r A_s(z_t) with r = alpha_t /
alpha_s, and any other state jumps into z at the rate rho_t(z) = A_t'(z) - alpha_t' / alpha_t A_t(z).

What a step back needs is the law of a place's symbol given all *other* places, loo_i = p(x_i | x_t without place i):
p(z_s | z_t) is K(z_t | z_s) q_s(z_s | loo), normalised. A posterior p(x_i | x_t) is loo_i times q_t(z_i | x_i), so the two
differ by the evidence of the place itself, ln(1 + alpha_t / A_t) on the symbol seen there, and not at all at a mask.

Indices: symbols 0 .. V - 1, the mask V, and V + 1 for a place that is none (padding), which nothing here ever changes.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from langevin.diffusion.noise import Noise
from langevin.diffusion.posterior import Categorical
from langevin.diffusion.process.terms import Process, Terms
from langevin.diffusion.shape import right_pad


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """alpha_t, A_t of each symbol and of the mask, and the rates rho_t of jumps into them; float64, shaped like t."""

    alpha: Tensor
    symbol: Tensor
    mask: Tensor
    rate_symbol: Tensor
    rate_mask: Tensor

    def over(self, x: Tensor) -> "Arrivals":
        """The same, shaped to be multiplied with places (b, places)."""
        return Arrivals(**{name: right_pad(value, x) for name, value in vars(self).items()})


class Discrete(Process, Protocol):
    """The face of the family: `Masked`, `Uniform`, `Hybrid`."""

    @property
    def symbols(self) -> int: ...
    @property
    def mask(self) -> int: ...
    def arrivals(self, t: Tensor) -> Arrivals: ...


def evidence(process: Discrete, z: Tensor, t: Tensor) -> Tensor:
    """ln q_t(z_i | x_i = z_i) / q_t(z_i | any other symbol) at the symbols seen in z, (b, places); 0 elsewhere.

    Infinite where symbols never arrive: what is seen there is the truth."""
    a = process.arrivals(t.double()).over(z)
    seen = torch.where(a.symbol > 0, torch.log1p(a.alpha / a.symbol), torch.inf)  # 0 / 0 where nothing is left of x
    return torch.where(z < process.symbols, seen, 0.0)


def _at(logits: Tensor, z: Tensor, value: Tensor) -> Tensor:
    """`value` (b, places) added to the logits of the symbols z."""
    inside = (z < logits.shape[-1])[..., None]
    index = torch.where(inside, z[..., None], 0)
    return logits.scatter_add(-1, index, torch.where(inside, value[..., None], 0.0).to(logits.dtype))


def posterior(process: Discrete, loo: Tensor, z: Tensor, t: Tensor) -> Categorical:
    """p(x_i | x_t) from the logits of leave-one-out laws (b, places, V); certain where symbols never arrive."""
    seen = evidence(process, z, t)
    sure = (seen == torch.inf)[..., None]
    certain = torch.full_like(loo, -torch.inf).scatter(-1, torch.where(sure, z[..., None], 0), 0.0)
    return Categorical(torch.where(sure, certain, _at(loo, z, torch.where(sure[..., 0], 0.0, seen))))


def leave_one_out(process: Discrete, q: Categorical, z: Tensor, t: Tensor) -> Categorical:
    """p(x_i | x_t without place i): the posterior less the place's own evidence; as it is where that is infinite."""
    seen = evidence(process, z, t)
    return Categorical(_at(q.logits, z, -torch.where(seen == torch.inf, 0.0, seen)))


def replace(process: Discrete, x: Tensor, a: Arrivals, noise: Noise, known: Tensor | None = None) -> Tensor:
    """One draw of q(. | x), places in `known` and padding left alone."""
    u, v = noise.fork(1).uniform(x), noise.fork(2).uniform(x)
    symbol = (v * process.symbols).long().clamp_max(process.symbols - 1)
    arrived = torch.where(u < a.alpha + a.mask, process.mask, symbol)
    kept = (u < a.alpha) | (x > process.mask)
    return torch.where(kept if known is None else kept | known, x, arrived)


def step_back(process: Discrete, q: Categorical, z: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
    """One draw of x_s ~ sum_x q(x) p(x_s | x_t, x), a place at a time; places of t <= s and padding stay.

    With S = r q_s(z_t | loo) and M = A_t(z_t) - r A_s(z_t): z_t stays with probability S / (S + M), else a symbol drawn
    from loo is corrupted to s."""
    a_t, a_s = (process.arrivals(time.double()).over(z) for time in (t, s))
    masked, loo = z == process.mask, leave_one_out(process, q, z, t)
    seen = torch.where(z < process.symbols, z, 0)
    own = loo.logits.double().log_softmax(-1).gather(-1, seen[..., None])[..., 0].exp()
    ratio = a_t.alpha / a_s.alpha
    stay = ratio * torch.where(masked, a_s.mask, a_s.symbol + a_s.alpha * own)
    move = torch.where(masked, a_t.mask - ratio * a_s.mask, a_t.symbol - ratio * a_s.symbol)
    total = stay + move
    fixed = (z > process.mask) | right_pad(t <= s, z) | (total <= 0)
    leaves = ~fixed & (noise.fork(3).uniform(z) >= stay / torch.where(fixed, 1.0, total))
    fresh = replace(process, loo.draw(noise.fork(4), leaves), a_s, noise)
    return torch.where(leaves, fresh, z)


def bound(process: Discrete, q: Categorical, x: Tensor, z: Tensor, t: Tensor) -> Terms:
    """The integrand of the bound in continuous time,

        rho_t(z) / q_t(z | x)  (KL(q_t(. | x) || q_t(. | loo)) + r - ln r - 1),     r = q_t(z | x) / q_t(z | loo),

    -ln p(x) itself for one place and the exact loo. Prior and reconstruction are 0 on the whole interval [0, 1]."""
    a = process.arrivals(t.double()).over(z)
    real = (x < process.symbols) & (z <= process.mask)
    x, masked = torch.where(real, x, 0), z == process.mask
    seen = torch.where(z < process.symbols, z, 0)
    loo = leave_one_out(process, q, z, t).logits.softmax(-1)
    alpha, symbol = (part.to(loo.dtype)[..., None] for part in (a.alpha, a.symbol))
    reached = symbol + alpha * loo  # q_t(. | loo) of the symbols
    at_x = reached.gather(-1, x[..., None])[..., 0].double()
    at_z = reached.gather(-1, seen[..., None])[..., 0].double()
    spread = torch.where(symbol > 0, (symbol / reached).log(), 0.0).sum(-1).double() * a.symbol
    least = torch.finfo(loo.dtype).tiny
    own = torch.xlogy(a.alpha + a.symbol, (a.alpha + a.symbol) / at_x.clamp_min(least))
    kl = spread + own - torch.xlogy(a.symbol, a.symbol / at_x.clamp_min(least))
    truth = torch.where(masked, a.mask, a.symbol + torch.where(z == x, a.alpha, 0.0))
    r = torch.where(masked, 1.0, truth / at_z.clamp_min(least))
    rate = torch.where(masked, a.rate_mask, a.rate_symbol) / truth.clamp_min(1e-300)
    moves = real & (rate > 0)
    r = torch.where(moves, r, 1.0)
    diffusion = torch.where(moves, rate * (torch.where(moves, kl, 0.0) + r - r.log() - 1), 0.0)
    return Terms(prior=torch.zeros_like(diffusion), diffusion=diffusion, reconstruction=torch.zeros_like(diffusion))
