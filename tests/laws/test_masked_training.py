"""Shares of masks in training: counts follow the density, and for each density the exact posterior has the least loss."""

import itertools
import math

import pytest
import torch

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.objective import ELBO, LogitNormal
from langevin.diffusion.posterior import Categorical
from langevin.diffusion.process import Masked
from langevin.diffusion.training_input import MaskByCount, MaskByCountPerBlock
from tests import exact

SHARES = {"uniform": None, "bell": LogitNormal(), "narrow": LogitNormal(std=0.5), "high": LogitNormal(mean=1.0)}
EVERY = pytest.mark.parametrize("shares", SHARES.values(), ids=SHARES)


def probabilities(shares, places: int) -> torch.Tensor:
    """(places,): of 1 .. places masks, the mass of the density over each interval of shares."""
    edges = torch.linspace(0, 1, places + 1, dtype=torch.float64)
    if shares is None:
        return edges.diff()
    return (0.5 * torch.erfc(-(torch.logit(edges) - shares.mean) / (shares.std * math.sqrt(2)))).diff()


@EVERY
@pytest.mark.parametrize("block", [None, 4])
def test_counts_of_masks_follow_the_density(shares, block):
    rows, places = 4001, block or 6
    process, x = Masked(vocab_size=5), torch.zeros(rows, 12 if block else 6, dtype=torch.int64)
    made = (
        MaskByCountPerBlock(process=process, block=block, shares=shares)
        if block
        else MaskByCount(process=process, shares=shares)
    )
    noise = SampleNoise(seeds=torch.arange(rows), steps=torch.zeros(rows, dtype=torch.int64))
    t, x_t = made(Batch(x=x), StepRandomness(noise=noise, u=(torch.arange(rows).double() + 0.5) / rows))
    expected = probabilities(shares, places)
    assert float(expected.sum()) == pytest.approx(1.0, abs=1e-12)
    for first in range(0, x.shape[1], places):
        count = (x_t[:, first : first + places] == process.mask).sum(1)
        assert torch.equal(count.double() / places, t[:, first] if block else t)
        share = torch.bincount(count, minlength=places + 1)[1:] / rows
        assert (
            float((share - expected).abs().max()) <= 1 / rows + 1e-9
        )  # a lattice misses an interval's mass by a point


def expected_loss(law: exact.Enumerated, denoiser, shares) -> float:
    """The training loss over words, counts and patterns, each with its probability."""
    process, words = Masked(vocab_size=law.vocab_size), law.words
    objective, total = ELBO(process=process), 0.0
    for n, chance in enumerate(probabilities(shares, law.places).tolist(), start=1):
        patterns = [p for p in itertools.product((False, True), repeat=law.places) if sum(p) == n]
        for pattern in patterns:
            x_t = torch.where(torch.tensor(pattern), process.mask, words)
            t = torch.full((len(words),), n / law.places, dtype=torch.float64)
            losses = objective(denoiser(x_t, t, None), words, x_t, t).double()
            total += chance / len(patterns) * float((law.p * losses).sum())
    return total


@EVERY
@pytest.mark.parametrize("bend", [-0.5, -0.05, 0.05, 0.5])
@pytest.mark.parametrize("make", [exact.entangled, exact.factorised])
def test_no_posterior_has_less_loss_than_the_exact_one(shares, bend, make):
    law = make()
    noise = torch.randn(64, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def bent(x_t, t, condition):
        key = (x_t * torch.tensor([16, 4, 1])).sum(1)  # another error for each question
        return Categorical(law(x_t, t).logits + bend * noise[key])

    assert expected_loss(law, law, shares) + 1e-5 < expected_loss(law, bent, shares)
