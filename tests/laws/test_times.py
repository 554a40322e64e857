"""Laws of time densities and of the lattice that feeds them."""

import math

import pytest
import torch

from langevin.diffusion.batch import draw
from langevin.diffusion.objective import LogitNormal, LogNormal, UniformTime, lattice
from langevin.diffusion.schedule import rho
from tests.laws.bounds import kolmogorov, kolmogorov_bound, normal_bound
from tests.laws.parts import DENSITIES, SCHEDULES

EVERY = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
DENSITY = pytest.mark.parametrize("density", DENSITIES.values(), ids=DENSITIES)
U = torch.linspace(0, 1, 401, dtype=torch.float64)[1:-1]


def normal_cdf(x):
    return 0.5 * torch.erfc(-x / math.sqrt(2))


@EVERY
@DENSITY
def test_a_density_turns_uniforms_into_its_own_law(schedule, density):
    t = density(U, schedule)
    assert bool((t.diff() > 0).all() and (t > 0).all() and (t < 1).all())
    if isinstance(density, UniformTime):
        back = (t - density.low) / (density.high - density.low)
    elif isinstance(density, LogNormal):
        back = normal_cdf((rho(schedule, t).log() - density.mean) / density.std)
    else:
        back = normal_cdf(((t / (1 - t)).log() - density.mean) / density.std)
    assert (back - U).abs().max() < 1e-10
    assert torch.equal(torch.cat([density(piece.clone(), schedule) for piece in U.split(3)]), t)


@EVERY
@DENSITY
def test_times_lie_within_zero_and_one_at_the_ends_of_the_lattice(schedule, density):
    ends = lattice(4, torch.tensor(0.0).double(), torch.tensor([0, 1, 2, 3]))
    ends = torch.cat([ends, lattice(1, torch.tensor(1 - 2.0**-53).double(), torch.tensor([0]))])
    t = density(ends, schedule)
    assert bool((t > 0).all() and (t <= 1).all())
    assert t.dtype == torch.float64


def test_the_lattice_covers_evenly_and_stays_inside():
    u = lattice(8, torch.tensor(0.97).double(), torch.arange(8)).sort().values
    assert torch.allclose(u.diff(), torch.full((7,), 0.125).double(), atol=1e-15)
    for offset in (0.0, 2.0**-60, 1 - 2.0**-53):
        ends = lattice(8, torch.tensor(offset).double(), torch.arange(8))
        assert bool((ends > 0).all() and (ends < 1).all())


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_a_global_batch_split_over_ranks_or_accumulation_is_the_whole(parts):
    whole = draw(seed=3, step=17, rows=torch.arange(24), count=24)
    pieces = [draw(seed=3, step=17, rows=rows, count=24) for rows in torch.arange(24).chunk(parts)]
    assert torch.equal(torch.cat([p.u for p in pieces]), whole.u)
    like = torch.zeros(24, 5)
    normals = [p.noise.normal(like[: len(p.u)]) for p in pieces]
    assert torch.equal(torch.cat(normals), whole.noise.normal(like))
    assert whole.u.sort().values.diff().max() == pytest.approx(1 / 24)


def test_the_time_of_each_row_is_uniform_over_steps_and_seeds():
    u = torch.stack([draw(seed=s, step=k, rows=torch.tensor([0, 5]), count=7).u for s in range(2) for k in range(400)])
    for row in u.T:
        assert kolmogorov(row, lambda x: x) < kolmogorov_bound(len(row))
    assert abs(float(((u[1:, 0] - 0.5) * (u[:-1, 0] - 0.5)).mean())) < normal_bound(len(u), 1 / 12)


def test_rows_steps_and_seeds_have_noise_of_their_own():
    like = torch.zeros(4000, 8, dtype=torch.float64)

    def normal(seed: int, step: int):
        return draw(seed=seed, step=step, rows=torch.arange(4000), count=4000).noise.normal(like)

    z = normal(0, 0)
    for other in (z.roll(1, 0), normal(0, 1), normal(1, 0)):
        assert abs(float((z * other).mean())) < normal_bound(like.numel())


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (UniformTime, {"low": -0.1}),
        (UniformTime, {"low": 0.5, "high": 0.5}),
        (UniformTime, {"high": 1.1}),
        (UniformTime, {"low": math.nan}),
        (LogNormal, {"std": 0.0}),
        (LogNormal, {"mean": math.nan}),
        (LogNormal, {"std": math.inf}),
        (LogitNormal, {"std": -1.0}),
        (LogitNormal, {"mean": math.inf}),
    ],
)
def test_a_bad_density_is_refused(kind, bad):
    with pytest.raises(ValueError, match=r"times need|density needs"):
        kind(**bad)
