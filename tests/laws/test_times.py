"""Laws of time densities and of the lattice that feeds them."""

import math

import pytest
import torch

from langevin.diffusion.batch import step_randomness
from langevin.diffusion.importance import AdaptiveImportance, Importance
from langevin.diffusion.objective import (
    LikelihoodWeightedMSE,
    LogitNormal,
    LogNormal,
    ShiftedTimes,
    UniformTime,
    low_discrepancy,
)
from langevin.diffusion.process import Gaussian
from langevin.diffusion.pyramid import block_means
from langevin.diffusion.schedule import Cosine, Rectified, VariancePreserving, rho
from tests import exact
from tests.laws.bounds import kolmogorov, kolmogorov_bound, normal_bound
from tests.laws.parts import DENSITIES, SCHEDULES

EVERY = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
DENSITY = pytest.mark.parametrize("density", DENSITIES.values(), ids=DENSITIES)
U = torch.linspace(0, 1, 401, dtype=torch.float64)[1:-1]


def normal_cdf(x):
    return 0.5 * torch.erfc(-x / math.sqrt(2))


def piecewise_cdf(log_snr, density, reach):
    """Mass below, of what the schedule reaches."""
    mass, whole = torch.zeros_like(log_snr), 0.0
    for a, b, w in zip(density.log_snr[:-1], density.log_snr[1:], density.weight, strict=True):
        a, b = max(a, reach), max(b, reach)
        mass = mass + w * (log_snr.clamp(a, b) - a)
        whole += w * (b - a)
    return mass / whole


@EVERY
@DENSITY
def test_a_density_turns_uniforms_into_its_own_law(schedule, density):
    t = density(U, schedule)
    assert bool((t.diff() > 0).all() and (t > 0).all() and (t < 1).all())
    if isinstance(density, UniformTime):
        back = (t - density.low) / (density.high - density.low)
    elif isinstance(density, LogNormal):
        back = normal_cdf((rho(schedule, t).log() - density.mean) / density.std)
    elif isinstance(density, ShiftedTimes):
        back = normal_cdf((rho(schedule, t).log() - density.times.mean - math.log(density.factor)) / density.times.std)
    elif isinstance(density, Importance):
        back = 1 - piecewise_cdf(schedule.log_snr(t), density, float(schedule.log_snr(torch.ones(1).double())))
    else:
        back = normal_cdf(((t / (1 - t)).log() - density.mean) / density.std)
    assert (back - U).abs().max() < 1e-10
    assert torch.equal(torch.cat([density(piece.clone(), schedule) for piece in U.split(3)]), t)


@EVERY
@DENSITY
def test_a_density_knows_the_density_of_log_snr_that_its_times_have(schedule, density):
    """dl/du = -1 / p: by central differences of the quantile function, away from the edges of pieces."""
    u, step = torch.linspace(0.03, 0.97, 95, dtype=torch.float64), 1e-5
    t = density(u, schedule)
    slope = (schedule.log_snr(density(u - step, schedule)) - schedule.log_snr(density(u + step, schedule))) / (2 * step)
    p = density.log_snr_density(t, schedule)
    smooth = (density.log_snr_density(density(u - step, schedule), schedule) / p - 1).abs() < 0.01
    assert smooth.sum() > 85
    assert torch.allclose(1 / slope[smooth], p[smooth], rtol=1e-4)


@EVERY
@DENSITY
def test_times_lie_within_zero_and_one_at_the_ends_of_the_lattice(schedule, density):
    ends = low_discrepancy(4, torch.tensor(0.0).double(), torch.tensor([0, 1, 2, 3]))
    ends = torch.cat([ends, low_discrepancy(1, torch.tensor(1 - 2.0**-53).double(), torch.tensor([0]))])
    t = density(ends, schedule)
    assert bool((t > 0).all() and (t <= 1).all())
    assert t.dtype == torch.float64


@EVERY
@pytest.mark.parametrize("side", [2, 3, 4])
def test_averaged_to_the_smaller_size_a_shifted_level_is_the_level_that_was_shifted(schedule, side):
    """SNR of the mean of k x k pixels: alpha^2 over the variance of the mean of the noise, whose covariance is propagated
    through the means of blocks as a matrix."""
    eye = torch.eye((2 * side) ** 2, dtype=torch.float64).reshape(-1, 1, 2 * side, 2 * side)
    means = block_means(eye, side).flatten(1).T  # A, whose columns are A e_i
    covariance = means @ means.T
    torch.testing.assert_close(covariance, covariance[0, 0] * torch.eye(4, dtype=torch.float64))
    t = LogNormal(mean=-1.5)(U, schedule)
    large = ShiftedTimes(times=LogNormal(mean=-1.5), factor=side)(U, schedule)
    inside = large < 1  # what the schedule reaches
    assert inside.sum() > 300
    averaged = schedule.alpha(large).square() / (schedule.sigma(large).square() * covariance[0, 0])
    torch.testing.assert_close(averaged[inside].log(), schedule.log_snr(t)[inside], rtol=0, atol=1e-9)


def test_a_log_normal_density_is_shifted_in_its_mean():
    """P_mean += ln k; in the time of the rectified schedule t' = k t / (1 + (k - 1) t)."""
    for schedule in (Rectified(), Cosine()):
        one = ShiftedTimes(times=LogNormal(mean=-1.0), factor=3.0)
        other = LogNormal(mean=-1.0 + math.log(3.0))
        t = other(U, schedule)
        torch.testing.assert_close(one(U, schedule), t, rtol=0, atol=1e-12)
        torch.testing.assert_close(one.log_snr_density(t, schedule), other.log_snr_density(t, schedule))
    t = UniformTime()(U)
    moved = ShiftedTimes(times=UniformTime(), factor=3.0)(U, Rectified())
    torch.testing.assert_close(moved, 3 * t / (1 + 2 * t), rtol=1e-12, atol=0)


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf])
def test_a_bad_shift_is_refused(factor):
    with pytest.raises(ValueError, match="shifted by a positive and finite factor"):
        ShiftedTimes(factor=factor)


def test_the_lattice_covers_evenly_and_stays_inside():
    u = low_discrepancy(8, torch.tensor(0.97).double(), torch.arange(8)).sort().values
    assert torch.allclose(u.diff(), torch.full((7,), 0.125).double(), atol=1e-15)
    for offset in (0.0, 2.0**-60, 1 - 2.0**-53):
        ends = low_discrepancy(8, torch.tensor(offset).double(), torch.arange(8))
        assert bool((ends > 0).all() and (ends < 1).all())


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_a_global_batch_split_over_ranks_or_accumulation_is_the_whole(parts):
    whole = step_randomness(seed=3, step=17, samples=torch.arange(24), count=24)
    pieces = [step_randomness(seed=3, step=17, samples=rows, count=24) for rows in torch.arange(24).chunk(parts)]
    assert torch.equal(torch.cat([p.u for p in pieces]), whole.u)
    like = torch.zeros(24, 5)
    normals = [p.noise.normal(like[: len(p.u)]) for p in pieces]
    assert torch.equal(torch.cat(normals), whole.noise.normal(like))
    assert whole.u.sort().values.diff().max() == pytest.approx(1 / 24)


def test_the_time_of_each_row_is_uniform_over_steps_and_seeds():
    u = torch.stack(
        [step_randomness(seed=s, step=k, samples=torch.tensor([0, 5]), count=7).u for s in range(2) for k in range(400)]
    )
    for row in u.T:
        assert kolmogorov(row, lambda x: x) < kolmogorov_bound(len(row))
    assert abs(float(((u[1:, 0] - 0.5) * (u[:-1, 0] - 0.5)).mean())) < normal_bound(len(u), 1 / 12)


def test_rows_steps_and_seeds_have_noise_of_their_own():
    like = torch.zeros(4000, 8, dtype=torch.float64)

    def normal(seed: int, step: int):
        return step_randomness(seed=seed, step=step, samples=torch.arange(4000), count=4000).noise.normal(like)

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


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"log_snr": (1.0,)}, "edges that rise"),
        ({"log_snr": (1.0, 0.0)}, "edges that rise"),
        ({"log_snr": (0.0, math.nan)}, "edges that rise"),
        ({"log_snr": (-99.0, 3.0)}, "within 80"),
        ({"weight": (1.0, 1.0)}, "one positive weight per piece"),
        ({"weight": (0.0,)}, "one positive weight per piece"),
        ({"weight": (math.inf,)}, "one positive weight per piece"),
    ],
)
def test_a_bad_density_over_log_snr_is_refused(bad, words):
    with pytest.raises(ValueError, match=words):
        Importance(**bad)


def test_times_that_the_schedule_never_reaches_are_refused():
    with pytest.raises(ValueError, match="below the schedule's lowest"):
        Importance(log_snr=(-20.0, -15.0))(U, VariancePreserving())


@EVERY
def test_the_bound_as_an_objective_has_the_same_mean_for_all_times(schedule):
    """Of x ~ N(0, v): half ln((1 + v SNR_0) / (1 + v SNR_1)), less at the ends that a density leaves out."""
    process, v = Gaussian(schedule=schedule), 0.4
    data = exact.Scalar(schedule=schedule, mean=0.0, variance=v)
    generator = torch.Generator().manual_seed(0)
    x, eps = math.sqrt(v) * torch.randn(2, 1, 200_000, generator=generator, dtype=torch.float64)
    u = torch.linspace(0, 1, 401, dtype=torch.float64)[1::2]
    for density in (Importance(log_snr=(-6.0, 9.0)), Importance(log_snr=(-6.0, 0.0, 9.0), weight=(3.0, 1.0))):
        t = density(u, schedule)
        error = v / (1 + v * schedule.log_snr(t).exp())  # its exact mean
        got = (LikelihoodWeightedMSE(process=process, times=density).weight(t) * error).mean()
        true = 0.5 * (math.log1p(v * math.exp(9.0)) - math.log1p(v * math.exp(-6.0)))
        assert float(got) == pytest.approx(true, rel=2e-3)
    t = torch.tensor([0.4], dtype=torch.float64)
    x_t = schedule.alpha(t) * x + schedule.sigma(t) * eps / math.sqrt(v)
    loss = LikelihoodWeightedMSE(process=process, times=density)(data(x_t, t), x, x_t, t)
    expected = LikelihoodWeightedMSE(process=process, times=density).weight(t) * v / (1 + v * schedule.log_snr(t).exp())
    assert float(loss) == pytest.approx(float(expected), rel=0.02)


def test_fitted_importance_lowers_the_variance_and_leaves_the_mean():
    """f(l) = v SNR / (1 + v SNR) / 2 times chi^2: what one row's term of the bound is, for Gaussian data."""
    schedule, v = Cosine(), 0.02
    generator = torch.Generator().manual_seed(4)

    def f(log_snr):
        chi = torch.randn(len(log_snr), generator=generator, dtype=torch.float64).square()
        return 0.5 * v * log_snr.exp() / (1 + v * log_snr.exp()) * chi

    uniform, adaptive = Importance(log_snr=(-12.0, 13.0)), AdaptiveImportance(low=-12.0, high=13.0)
    assert adaptive.density().weight == (1.0,) * 25  # nothing seen: uniform
    for _ in range(40):
        level = schedule.log_snr(uniform(torch.rand(500, generator=generator, dtype=torch.float64), schedule))
        adaptive.update(level, f(level))
    levels = torch.linspace(-12, 13, 51, dtype=torch.float64)
    fitted = Importance.fit(levels, 3 * (0.5 * v * levels.exp() / (1 + v * levels.exp())).square(), floor=1e-4)
    u, results = torch.rand(200_000, generator=generator, dtype=torch.float64), {}
    true = 0.5 * (math.log1p(v * math.exp(13.0)) - math.log1p(v * math.exp(-12.0)))
    for name, density in (("uniform", uniform), ("fitted", fitted), ("adaptive", adaptive.density())):
        t = density(u, schedule)
        weighed = f(schedule.log_snr(t)) / density.log_snr_density(t, schedule)
        results[name] = weighed.var()
        assert abs(weighed.mean() - true) < 5 * weighed.std() / math.sqrt(len(u))
    assert results["fitted"] < 0.75 * results["uniform"]
    assert results["adaptive"] < 0.75 * results["uniform"]
    # the least possible variance: (int E[f^2]^{1/2})^2 - mean^2, with E[f^2]^{1/2} = sqrt(3) E[f]
    assert results["fitted"] == pytest.approx(2 * true**2, rel=0.06)


@pytest.mark.parametrize(("levels", "moments"), [
    ([0.0], [1.0]), ([0.0, 1.0], [1.0]), ([0.0, 1.0], [0.0, 0.0]), ([0.0, 1.0], [-1.0, 1.0]),
])  # fmt: skip
def test_moments_that_fit_no_density_are_refused(levels, moments):
    with pytest.raises(ValueError, match="second moment"):
        Importance.fit(torch.tensor(levels), torch.tensor(moments))
    with pytest.raises(ValueError, match="low < high"):
        AdaptiveImportance(low=1.0, high=0.0)
