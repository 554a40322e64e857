"""Guidance for what is told in the data itself: a prompt of known symbols, and symbols that must not be written."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition, join
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.posterior import Symbolic


@dataclass(frozen=True, kw_only=True)
class Prompted:
    """Classifier-free guidance by a prompt: ln p = w ln p(. | prompt) + (1 - w) ln p(. | prompt masked), a place at a time.

    The prompt is where `condition.concat` (b, places) bool holds; the weights are `condition.guidance`. The reference is a
    question that a network of masked symbols was trained on anyway, if some rows asked for all places. What is masked and
    when is not touched, as it says nothing about x ("Large Language Diffusion Models", 2025).

    Raises:
        ValueError: when called with a weight that is not finite.
    """

    denoiser: Denoiser
    mask: int

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Any:
        if condition is None or condition.guidance is None or condition.concat is None:
            return self.denoiser(x_t, t, condition)
        weight = condition.guidance.double()
        if not bool(torch.isfinite(weight).all()):
            raise ValueError(f"guidance weights must be finite, got {weight[~torch.isfinite(weight)][0].item()}")
        guided = (weight != 1).nonzero()[:, 0]
        if len(guided) == 0:
            return self.denoiser(x_t, t, condition)
        hidden = torch.where(condition.concat.tensor & (x_t < self.mask), self.mask, x_t)[guided]
        told = join(condition, condition.rows(guided))
        both = self.denoiser(torch.cat([x_t, hidden]), torch.cat([t, t[guided]]), told)
        rows = torch.arange(len(t), device=t.device)
        reference = rows.clone()
        reference[guided] = len(t) + torch.arange(len(guided), device=t.device)
        return both.rows(rows).toward(both.rows(reference), weight)


@dataclass(frozen=True, kw_only=True)
class Reluctant:
    """Answers that keep a text that stands beside (`condition.concat`, (b, rows, places) symbols, of which the
    first row is meant) unless another symbol is likelier by `nats`: ln p is raised by so much at what stands there."""

    denoiser: Denoiser
    nats: float

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Symbolic:
        q = self.denoiser(x_t, t, condition)
        assert isinstance(q, Symbolic)
        if condition is None or condition.concat is None:
            return q

        def kept(logits: Tensor, stands: Tensor) -> Tensor:
            real = stands < logits.shape[-1]
            index = torch.where(real, stands, 0)[..., None]
            return logits.scatter_add(-1, index, (self.nats * real.to(logits.dtype))[..., None])

        return q.bent(kept, condition.concat.tensor[:, 0])


@dataclass(frozen=True, kw_only=True)
class Within:
    """Answers without the symbols from `first` on (controls), where any below it is possible."""

    denoiser: Denoiser
    first: int

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Symbolic:
        q = self.denoiser(x_t, t, condition)
        assert isinstance(q, Symbolic)

        def within(logits: Tensor, seen: Tensor) -> Tensor:
            out = torch.arange(logits.shape[-1], device=logits.device) >= self.first
            shown = ((seen >= self.first) & (seen < logits.shape[-1]))[..., None]  # a control that stands there already
            return logits.masked_fill(out & ~shown, -torch.inf)

        return q.bent(within, x_t)
