"""Interpolating discrete processes: a token stays, or is replaced by one that does not depend on it.

    q_t(z | x) = alpha_t 1[z = x] + A_t(z),     A_t >= 0,     sum_z A_t(z) = 1 - alpha_t

A_t has one value for all tokens and one for the mask. Masked diffusion replaces by masks only, uniform diffusion by tokens
only, GIDD by both ("Generalized Interpolating Discrete Diffusion", 2025, arXiv:2503.04482). From s to t > s,
K(z_t | z_s) = r 1[z_t = z_s] + A_t(z_t) - r A_s(z_t) with r = alpha_t / alpha_s, and any other state jumps to z at the
rate rho_t(z) = A_t'(z) - alpha_t' / alpha_t A_t(z).

A reverse step needs the leave-one-out distribution of a position's token given all *other* positions, loo_i = p(x_i | x_t
without position i): p(z_s | z_t) is K(z_t | z_s) q_s(z_s | loo), normalised. The posterior p(x_i | x_t) is proportional to
loo_i q_t(z_i | x_i). So the two differ by the log-ratio of the observation, ln(1 + alpha_t / A_t), in the logit of the
visible token, and are equal at a mask.

Token ids: tokens 0 .. V - 1, the mask V, padding V + 1, which never changes.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from langevin.diffusion.float64 import to_float64
from langevin.diffusion.noise import Noise
from langevin.diffusion.posterior import Categorical
from langevin.diffusion.process.terms import Bounded, Terms
from langevin.diffusion.shape import append_dims


@dataclass(frozen=True, kw_only=True)
class Marginals:
    """alpha_t, A_t of each token (`uniform`) and of the mask, and the jump rates rho_t to them; float64, shaped like t."""

    alpha: Tensor
    uniform: Tensor
    mask: Tensor
    rate_uniform: Tensor
    rate_mask: Tensor

    def over(self, x: Tensor) -> "Marginals":
        """The same with trailing dimensions, to multiply x (b, positions) with."""
        return Marginals(**{name: append_dims(value, x) for name, value in vars(self).items()})


class Discrete(Bounded[Tensor, Any], Protocol):
    """The protocol of interpolating discrete processes: `Masked`, `UniformDiffusion`, `GIDD`."""

    @property
    def vocab_size(self) -> int:
        """V, the number of tokens without mask and padding."""
        ...

    @property
    def mask(self) -> int:
        """The token id of the mask, V."""
        ...

    def arrivals(self, t: Tensor) -> Marginals:
        """The parameters of q_t, at times t of any shape."""
        ...


def observation_log_ratio(process: Discrete, z: Tensor, t: Tensor) -> Tensor:
    """ln q_t(z_i | x_i = z_i) / q_t(z_i | any other x_i) at the visible tokens of z, (b, positions) float64; 0 at masks.

    It is infinite where tokens are never replaced by tokens: a visible token is then the clean one."""
    a = process.arrivals(to_float64(t)).over(z)
    ratio = torch.where(a.uniform > 0, torch.log1p(a.alpha / a.uniform), torch.inf)
    return torch.where((z < process.vocab_size).to(ratio.device), ratio, 0.0)


def _at(logits: Tensor, z: Tensor, value: Tensor) -> Tensor:
    """`value` (b, positions) added to the logits of the tokens z."""
    inside = (z < logits.shape[-1])[..., None]
    index = torch.where(inside, z[..., None], 0)
    return logits.scatter_add(-1, index, torch.where(inside, value[..., None].to(logits), 0.0))


def posterior(process: Discrete, loo: Tensor, z: Tensor, t: Tensor) -> Categorical:
    """p(x_i | x_t) from leave-one-out logits (b, positions, V); certain where the visible token is the clean one."""
    ratio = observation_log_ratio(process, z, t)
    sure = (ratio == torch.inf)[..., None].to(loo.device)
    certain = torch.full_like(loo, -torch.inf).scatter(-1, torch.where(sure, z[..., None], 0), 0.0)
    return Categorical(torch.where(sure, certain, _at(loo, z, torch.where(ratio == torch.inf, 0.0, ratio))))


def leave_one_out(process: Discrete, q: Categorical, z: Tensor, t: Tensor) -> Categorical:
    """p(x_i | x_t without position i) from the posterior q; q itself where the visible token is the clean one."""
    ratio = observation_log_ratio(process, z, t)
    return Categorical(_at(q.logits, z, -torch.where(ratio == torch.inf, 0.0, ratio)))


def corrupt_tokens(process: Discrete, x: Tensor, a: Marginals, noise: Noise, known: Tensor | None = None) -> Tensor:
    """A draw of x_t ~ q_t(. | x); padding and positions where `known` holds stay."""
    u, v = noise.fork(1).uniform(x), noise.fork(2).uniform(x)
    token = (v * process.vocab_size).long().clamp_max(process.vocab_size - 1)
    arrived = torch.where(u < a.alpha + a.mask, process.mask, token)
    kept = (u < a.alpha).to(x.device) | (x > process.mask)
    return torch.where(kept if known is None else kept | known, x, arrived.to(x.device))


def reverse_step(process: Discrete, q: Categorical, z: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
    """A draw of x_s ~ sum_x q(x) p(x_s | x_t, x), independently per position; padding and positions with t <= s stay.

    With S = r q_s(z_t | loo) and M = A_t(z_t) - r A_s(z_t), z_t stays with probability S / (S + M). Otherwise a token is
    drawn from loo and corrupted to s."""
    a_t, a_s = (process.arrivals(to_float64(time)).over(z) for time in (t, s))
    loo, x_t, z = leave_one_out(process, q, z, t), z, z.to(a_t.alpha.device)
    masked, seen = z == process.mask, torch.where(z < process.vocab_size, z, 0)
    own = to_float64(loo.logits).log_softmax(-1).gather(-1, seen[..., None])[..., 0].exp()
    ratio = a_t.alpha / a_s.alpha
    stay = ratio * torch.where(masked, a_s.mask, a_s.uniform + a_s.alpha * own)
    move = torch.where(masked, a_t.mask - ratio * a_s.mask, a_t.uniform - ratio * a_s.uniform)
    total = stay + move
    fixed = (z > process.mask) | append_dims(t <= s, z) | (total <= 0)
    leaves = ~fixed & (noise.fork(3).uniform(z) >= stay / torch.where(fixed, 1.0, total))
    leaves = leaves.to(x_t.device)
    fresh = corrupt_tokens(process, loo.draw(noise.fork(4), leaves), a_s, noise)
    return torch.where(leaves, fresh, x_t)


def bound(process: Discrete, q: Categorical, x: Tensor, z: Tensor, t: Tensor) -> Terms:
    """The integrand of the bound in continuous time,

        rho_t(z) / q_t(z | x)  (KL(q_t(. | x) || q_t(. | loo)) + r - ln r - 1),     r = q_t(z | x) / q_t(z | loo),

    whose integral is -ln p(x) for a single position with the exact loo. Prior and reconstruction are 0."""
    a = process.arrivals(to_float64(t)).over(z)
    host = a.alpha.device
    loo = leave_one_out(process, q, z, t).logits.softmax(-1).to(host)
    x, z = x.to(host), z.to(host)
    real = (x < process.vocab_size) & (z <= process.mask)
    x, masked = torch.where(real, x, 0), z == process.mask
    seen = torch.where(z < process.vocab_size, z, 0)
    alpha, uniform = (part.to(loo)[..., None] for part in (a.alpha, a.uniform))
    reached = uniform + alpha * loo  # q_t(. | loo) of the tokens
    at_x = reached.gather(-1, x[..., None])[..., 0].double()
    at_z = reached.gather(-1, seen[..., None])[..., 0].double()
    kl_uniform = torch.where(uniform > 0, (uniform / reached).log(), 0.0).sum(-1).double() * a.uniform
    least = torch.finfo(loo.dtype).tiny
    own = torch.xlogy(a.alpha + a.uniform, (a.alpha + a.uniform) / at_x.clamp_min(least))
    kl = kl_uniform + own - torch.xlogy(a.uniform, a.uniform / at_x.clamp_min(least))
    truth = torch.where(masked, a.mask, a.uniform + torch.where(z == x, a.alpha, 0.0))
    r = torch.where(masked, 1.0, truth / at_z.clamp_min(least))
    rate = torch.where(masked, a.rate_mask, a.rate_uniform) / truth.clamp_min(1e-300)
    moves = real & (rate > 0)
    r = torch.where(moves, r, 1.0)
    diffusion = torch.where(moves, rate * (torch.where(moves, kl, 0.0) + r - r.log() - 1), 0.0)
    return Terms(prior=torch.zeros_like(diffusion), diffusion=diffusion, reconstruction=torch.zeros_like(diffusion))
