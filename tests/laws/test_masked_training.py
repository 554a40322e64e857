"""Losses of masked diffusion in training: least at the exact posterior, and the same wherever logits are computed."""

import itertools

import pytest
import torch

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.denoiser import TokenDenoiser
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.objective import ELBO, CrossEntropy
from langevin.diffusion.posterior import Categorical
from langevin.diffusion.process import Masked
from langevin.diffusion.training_input import MaskByCount
from tests import exact

PROCESS = Masked(vocab_size=3)
LOSSES = {"bound": ELBO(process=PROCESS), "cross_entropy": CrossEntropy()}
EVERY = pytest.mark.parametrize("objective", LOSSES.values(), ids=LOSSES)


def questions(law: exact.Enumerated):
    """(probability, t, x_t of all words) of each pattern of masks in training by counts."""
    for n in range(1, law.places + 1):
        patterns = [p for p in itertools.product((False, True), repeat=law.places) if sum(p) == n]
        for pattern in patterns:
            t = torch.full((len(law.words),), n / law.places, dtype=torch.float64)
            yield 1 / (law.places * len(patterns)), t, torch.where(torch.tensor(pattern), PROCESS.mask, law.words)


def expected_loss(law: exact.Enumerated, denoiser, objective) -> float:
    """The training loss over words, counts and patterns, each with its probability."""
    total = 0.0
    for chance, t, x_t in questions(law):
        losses = objective(denoiser(x_t, t, None), law.words, x_t, t).double()
        total += chance * float((law.p * losses).sum())
    return total


@EVERY
@pytest.mark.parametrize("bend", [-0.5, -0.05, 0.05, 0.5])
@pytest.mark.parametrize("make", [exact.entangled, exact.factorised])
def test_no_posterior_has_less_loss_than_the_exact_one(objective, bend, make):
    law = make()
    noise = torch.randn(64, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def bent(x_t, t, condition):
        key = (x_t * torch.tensor([16, 4, 1])).sum(1)  # another error for each question
        hidden = (x_t == PROCESS.mask)[..., None]
        return Categorical(law(x_t, t).logits + torch.where(hidden, bend * noise[key], 0.0))

    assert expected_loss(law, law, objective) + 1e-5 < expected_loss(law, bent, objective)


def test_the_cross_entropy_is_the_bound_without_its_weight():
    law = exact.entangled()
    for _, t, x_t in questions(law):
        bound, plain = (LOSSES[name](law(x_t, t), law.words, x_t, t) for name in ("bound", "cross_entropy"))
        torch.testing.assert_close(plain.double(), t * bound.double(), rtol=1e-6, atol=0)


@EVERY
def test_loss_and_gradient_are_the_same_where_logits_are_at_masks_only(objective):
    table = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def network(x_t, c_time, condition=None, at=None):
        place = torch.arange(4) * 16 + (x_t * torch.arange(1, 5)).sum(1, keepdim=True) % 16
        logits = table[place]
        return logits if at is None else logits[at]

    x = torch.randint(0, 3, (32, 4), generator=torch.Generator().manual_seed(2))
    known = torch.zeros_like(x, dtype=torch.bool)
    known[:, 0] = True
    noise = SampleNoise(seeds=torch.arange(32), steps=torch.zeros(32, dtype=torch.int64))
    u = (torch.arange(32).double() + 0.5) / 32
    batch = Batch(x=x, known=known, mask=~known)
    t, x_t = MaskByCount(process=PROCESS)(batch, StepRandomness(noise=noise, u=u))
    found = []
    for only in (False, True):
        q = TokenDenoiser(network=network, process=PROCESS, at_masks_only=only)(x_t, t)
        loss = objective(q, x, x_t, t, batch.counted())
        found.append((loss, *torch.autograd.grad(loss.sum(), table)))
    for dense, sparse in zip(*found, strict=True):
        torch.testing.assert_close(dense, sparse)
