"""Anchoring: a penalty that keeps the weights which mattered for earlier data where they were.

Elastic weight consolidation ("Overcoming catastrophic forgetting in neural networks", 2017, arXiv 1612.00796) adds

    w / 2 sum_i F_i (theta_i - theta*_i)^2

to the loss, with the weights theta* that earlier data were learned with, and the diagonal of the Fisher information there,

    F_i = E (d loss / d theta_i)^2

over examples of the earlier data and the randomness of their training. The loss is that of training, of one example.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.methods.method import Method


@dataclass(frozen=True, kw_only=True, eq=False)
class Anchor:
    """The penalty of the current weights.

    Args:
        weights: theta, by name; they are trained.
        reference: theta*, by name.
        fisher: F, by name; weights that it does not name are free.
        weight: w.
    """

    weights: Mapping[str, nn.Parameter]
    reference: Mapping[str, Tensor]
    fisher: Mapping[str, Tensor]
    weight: float

    @classmethod
    def at(cls, weights: Mapping[str, nn.Parameter], fisher: Mapping[str, Tensor], weight: float) -> "Anchor":
        """The anchor at the current values of weights.

        Raises:
            ValueError: the Fisher information is of other weights."""
        if {name: p.shape for name, p in weights.items()} != {name: f.shape for name, f in fisher.items()}:
            raise ValueError("the Fisher information is that of another network")
        reference = {name: parameter.detach().clone() for name, parameter in weights.items()}
        found = {name: f.to(weights[name].device) for name, f in fisher.items()}
        return cls(weights=weights, reference=reference, fisher=found, weight=weight)

    def __call__(self) -> Tensor:
        """The penalty, a float32 scalar with a gradient; 0 at the reference."""
        terms = [
            (f * (self.weights[name].float() - self.reference[name].float()).square()).sum()
            for name, f in self.fisher.items()
        ]
        return 0.5 * self.weight * torch.stack(terms).sum()


def fisher(method: Method, examples: Iterable[tuple[Batch, StepRandomness]]) -> dict[str, Tensor]:
    """The diagonal of the Fisher information of the weights of a method's first player, by name, in float32.

    Args:
        examples: batches of one example each, with its randomness; at least one.

    Raises:
        ValueError: the loss of an example, or its gradient, is not finite."""
    name, player = next(iter(method.players.items()))
    weights, trained, count = player.weights, player.module.training, 0
    sums = {n: torch.zeros_like(p, dtype=torch.float64) for n, p in weights.items()}
    player.module.eval()  # without dropout
    for batch, draw in examples:
        loss = method.loss(name, batch, draw).loss.sum()
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for n, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                sums[n] += gradient.double().square()
        count += 1
    player.module.train(trained)
    found = {n: (total / count).float() for n, total in sums.items()}
    if not all(bool(f.isfinite().all()) for f in found.values()):
        raise ValueError("the Fisher information of the weights is not finite: leave the anchor out")
    return found
