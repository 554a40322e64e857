"""The law of a sampler's step, p(x_s | x_t): its log-probability, and its divergence from that of another denoiser.

A chain of such steps is a policy: its state is (x_t, t), its action x_s. The log-probability of a chain is the sum over its
steps, and the divergence of two chains from each other is the sum of the divergences of their steps, at the states of the
first. For normal steps of equal variance c^2, with means a x_t + b D, a step's divergence is

    KL = b^2 |D - D'|^2 / (2 c^2),     for ancestral steps (SNR_s - SNR_t) / 2 |D - D'|^2

("Denoising Diffusion Probabilistic Models", 2020, arXiv:2006.11239; "DPOK: Reinforcement Learning for Fine-tuning
Text-to-Image Diffusion Models", 2023, arXiv:2305.16381). A step without noise, as the last one to t = 0, has no density. It
has no part in a policy, and counts as 0.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from langevin.diffusion.float64 import float64_device, to_float64
from langevin.diffusion.posterior import Point, TokenPosterior
from langevin.diffusion.process import AnyProcess, Gaussian, Masked
from langevin.diffusion.process.gaussian import reverse_step
from langevin.diffusion.sampler import DDIM, DDPM, Ancestral, AnySampler
from langevin.diffusion.schedule import AnySchedule
from langevin.diffusion.shape import append_dims


class Transitions(Protocol):
    """p(x_s | x_t) of steps of b samples from times t to s, (b,) each; q is a denoiser's prediction at (x_t, t)."""

    def random(self, t: Tensor, s: Tensor) -> Tensor:
        """(b,) bool: the step has noise."""
        ...

    def log_probability(self, q: Any, x_t: Tensor, x_s: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """ln p(x_s | x_t) in nats, (b,) float64, but for a term that does not depend on q; with gradient in q."""
        ...

    def divergence(self, q: Any, reference: Any, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """KL(p_q(x_s | x_t) || p_reference(x_s | x_t)) in nats, (b,) float64; with gradient in both."""
        ...


@dataclass(frozen=True, kw_only=True)
class NormalTransitions:
    """Steps x_s = a x_t + b D + c n of a Gaussian process.

    Args:
        schedule: of the process.
        sampler: whose steps they are.
    """

    schedule: AnySchedule
    sampler: Ancestral | DDIM | DDPM

    def step(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(a, b, c), float64, shaped like t."""
        t, s = to_float64(t), to_float64(s)
        if isinstance(self.sampler, Ancestral):
            return reverse_step(self.schedule, t, s, 1.0)
        return self.sampler.step(self.schedule, t, s)

    def random(self, t: Tensor, s: Tensor) -> Tensor:
        return self.step(t, s)[2] > 0

    def log_probability(self, q: Point, x_t: Tensor, x_s: Tensor, t: Tensor, s: Tensor) -> Tensor:
        a, b, c = (append_dims(part, x_t) for part in self.step(t, s))
        x_t, x_s, mean = (part.to(a.device, torch.float64) for part in (x_t, x_s, q.mean))
        error = (x_s - a * x_t - b * mean) / torch.where(c > 0, c, torch.inf)
        return -0.5 * error.square().flatten(1).sum(1)

    def divergence(self, q: Point, reference: Point, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        _, b, c = self.step(t, s)
        host = float64_device(x_t.device)
        apart = (q.mean.to(host, torch.float64) - reference.mean.to(host, torch.float64)).square().flatten(1).sum(1)
        return 0.5 * (b / torch.where(c > 0, c, torch.inf)).square() * apart


@dataclass(frozen=True, kw_only=True)
class MaskedTransitions:
    """Steps of a masked process: each masked position is revealed with a probability that is the same for all denoisers, as
    a draw from q."""

    process: Masked

    def random(self, t: Tensor, s: Tensor) -> Tensor:
        return self.process.mask_probability(t) > self.process.mask_probability(s)

    def log_probability(self, q: TokenPosterior, x_t: Tensor, x_s: Tensor, t: Tensor, s: Tensor) -> Tensor:
        revealed = (x_t == self.process.mask) & (x_s != self.process.mask)
        nats = q.error(torch.where(revealed, x_s, 0))
        return -to_float64(torch.where(revealed, nats, 0.0).sum(1))

    def divergence(
        self, q: TokenPosterior, reference: TokenPosterior, x_t: Tensor, t: Tensor, s: Tensor
    ) -> Tensor:  # fmt: skip
        masked = x_t == self.process.mask
        ours, theirs = (part.logits_at(masked).log_softmax(-1) for part in (q, reference))
        drawn = ours > -torch.inf  # a token that q excludes adds 0, and no gradient
        each = torch.where(drawn, ours.exp() * torch.where(drawn, ours - theirs, 0.0), 0.0).sum(-1)
        total = torch.zeros(masked.shape, dtype=each.dtype, device=each.device).masked_scatter(masked, each).sum(1)
        before, after = self.process.mask_probability(t), self.process.mask_probability(s)
        share = torch.where(before > 0, (before - after) / torch.where(before > 0, before, 1.0), 0.0)
        return share * to_float64(total).to(share.device)


AnyTransitions = NormalTransitions | MaskedTransitions


def transitions_of(sampler: AnySampler, process: AnyProcess) -> AnyTransitions:
    """The law of a sampler's steps.

    Raises:
        ValueError: a sampler whose steps have no density, or one that this module has no formula for."""
    flow = isinstance(sampler, DDIM) and sampler.eta == 0
    if isinstance(process, Gaussian) and isinstance(sampler, Ancestral | DDIM | DDPM) and not flow:
        return NormalTransitions(schedule=process.schedule, sampler=sampler)
    if isinstance(process, Masked) and isinstance(sampler, Ancestral) and sampler.tokens.neutral:
        return MaskedTransitions(process=process)
    raise ValueError(
        f"a policy gradient needs a sampler that draws each step from a law with a density, and {sampler.kind} of a "
        f"{process.kind} process is none with a known one: take ancestral, or of a gaussian process ddpm or 'ddim eta=1'"
    )
