"""Hard constraints: projections are the nearest points, contradictions are named, and samples obey."""

import itertools

import pytest
import torch

from langevin.diffusion.constraints import (
    CoarseBand,
    Constrained,
    Fixed,
    InBall,
    InBox,
    Linear,
    project,
    require_feasible,
    violations,
)
from langevin.diffusion.measurement import Matrix
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import DPM2M, Ancestral, KarrasGrid, sample, start
from langevin.diffusion.schedule import Rectified
from tests import exact

B, D = 6, 4


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


INSIDE = torch.tensor([0.3, -0.2, 0.5, 0.1], dtype=torch.float64)
A = normal(1, 2, D, seed=3)
SETS = {
    "box": InBox(low=-0.5, high=0.8),
    "ball": InBall(radius=1.2),
    "fixed": Fixed(where=torch.tensor([True, False, False, False]), value=INSIDE),
    "linear": Linear(operator=Matrix(matrix=A.expand(B, -1, -1), shape=(D,)), y=(A @ INSIDE).expand(B, -1)),
}


@pytest.mark.parametrize("names", [c for n in (1, 2, 3, 4) for c in itertools.combinations(SETS, n)], ids="-".join)
def test_the_projection_obeys_and_no_point_that_obeys_is_nearer(names):
    """Of a convex set: <x - p, z - p> <= 0 for every z of it. Points of the intersection come from projecting others."""
    some = [SETS[name] for name in names]
    x = 2 * normal(B, D, seed=1)
    p = project(some, x, turns=5000)
    assert max(violations(some, p).values()) < 2e-4
    for seed in range(5, 25):
        z = project(some, 3 * normal(B, D, seed=seed), turns=5000)
        assert float(((x - p) * (z - p)).sum(1).max()) < 2e-3


def test_a_coarse_band_is_projected_onto_exactly_and_no_point_that_obeys_is_nearer():
    """Some blocks are white, so that all of their elements must be; others lie far outside of the box."""
    means = normal(B, 2, 3, 2, seed=2).clamp(-1, 1)
    band = CoarseBand(side=2, means=means, box=(-1.0, 1.0))
    x = 2 * normal(B, 2, 6, 4, seed=1)
    p = band.project(x)
    assert p.abs().max() <= 1 + 1e-9
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(p, 2), means, rtol=0, atol=1e-12)
    torch.testing.assert_close(band.project(p), p, rtol=0, atol=1e-9)
    for seed in range(5, 25):
        z = band.project(3 * normal(B, 2, 6, 4, seed=seed))
        assert float(((x - p) * (z - p)).flatten(1).sum(1).max()) < 1e-9
    assert (means.abs() == 1).any()
    free = CoarseBand(side=2, means=means).project(x)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(free, 2), means, rtol=0, atol=1e-12)
    assert (free - x).square().sum() < (p - x).square().sum()


def test_means_that_no_block_can_have_are_refused():
    with pytest.raises(ValueError, match="the means of some blocks lie outside of the box from -1 to 1"):
        CoarseBand(side=2, means=torch.full((1, 1, 2), 1.5), box=(-1.0, 1.0))
    with pytest.raises(ValueError, match="7 positions are not divided into blocks of 2"):
        CoarseBand(side=2, means=torch.zeros(1, 1, 3)).project(torch.zeros(1, 1, 7))


def test_what_obeys_stays():
    p = project(list(SETS.values()), normal(B, D), turns=5000)
    torch.testing.assert_close(project(list(SETS.values()), p), p, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("some", "message"),
    [
        ([InBox(low=-1, high=1), Fixed(where=torch.tensor(True), value=torch.tensor(2.0))],
         r"the box from -1 to 1 and the fixed values contradict each other"),
        ([InBox(low=0.9, high=1), InBall(radius=1.0)], r"the box from 0.9 to 1 and a norm of at most 1 contradict"),
        ([Linear(operator=Matrix(matrix=torch.ones(1, 2, D), shape=(D,)), y=torch.tensor([[1.0, 2.0]]))],
         r"the linear equations cannot be satisfied"),
        ([InBox(low=0, high=5), Linear(operator=Matrix(matrix=torch.ones(1, 1, D), shape=(D,)), y=torch.tensor([[3.0]])),
          InBall(radius=1.0)], r"the linear equations and a norm of at most 1 contradict each other"),
    ],
)  # fmt: skip
def test_contradictions_are_named(some, message):
    with pytest.raises(ValueError, match=message):
        require_feasible(some, torch.zeros(1, D, dtype=torch.float64))
    require_feasible(some[:1] if len(some) > 1 else [InBall(radius=1.0)], torch.zeros(1, D, dtype=torch.float64))


@pytest.mark.parametrize(
    "bad", [lambda: InBox(low=1, high=0), lambda: InBall(radius=-1.0), lambda: InBox(low=float("nan"), high=1)]
)
def test_empty_sets_are_refused(bad):
    with pytest.raises(ValueError, match=r"empty|at least 0"):
        bad()


@pytest.mark.parametrize("sampler", [Ancestral(), DPM2M()])
def test_samples_obey_and_keep_their_law_where_nothing_binds(sampler):
    schedule = Rectified()
    process, data = Gaussian(schedule=schedule), exact.Scalar(schedule=schedule, mean=0.1, variance=0.04)
    n = 4000
    times = KarrasGrid()(torch.full((n,), 40), schedule)

    def drawn(constraints):
        denoiser = Constrained(denoiser=data, constraints=constraints)
        state = start(sampler, process, torch.zeros(n, D, dtype=torch.float64), times, torch.arange(n))
        for told in sample(sampler, process, denoiser, state):
            state = told
        return state.x

    free, loose, tight = (
        drawn((InBall(radius=1e9),)),
        drawn((InBox(low=-9, high=9),)),
        drawn((InBox(low=0.0, high=0.2),)),
    )
    torch.testing.assert_close(free, loose)
    assert 0 <= float(tight.min()) <= float(tight.max()) <= 0.2
    assert float(free.std()) == pytest.approx(0.2, rel=0.35)
