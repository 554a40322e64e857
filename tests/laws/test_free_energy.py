"""Laws of the free energy: what of it a schedule can change, and that what claims to be least is.

The reference is a Gaussian with eigenvalues (4, 1, 1/4, 1/20, 1/100) between SNR 1e-3 and 1e4: mmse = sum s / (1 + s
SNR), so that L = 1/2 sum ln((1 + s SNR_0) / (1 + s SNR_1)) = 19.23 nats. Alone, a place of variance s has the best T
steps at equal ratios of 1 + s SNR, T / 2 (r^{1/T} - 1) with r the ratio of the ends.
"""

import math

import pytest
import torch

from langevin.diffusion.batch import Batch
from langevin.diffusion.free_energy import Curve, learn_ends, learn_paths, measure_curve
from langevin.diffusion.importance import Importance
from langevin.diffusion.likelihood import Levels, finite_bound, prior_nats, reconstruction_nats
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.objective import LogitNormal, UniformTime
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler.grid import FixedGrid
from langevin.diffusion.schedule import Beta, Cosine, Rectified, VarianceExploding, VariancePreserving
from tests import exact
from tests.laws.parts import SCHEDULES

S = torch.tensor([4.0, 1.0, 0.25, 0.05, 0.01], dtype=torch.float64)
LOW, HIGH = math.log(1e-3), math.log(1e4)
TRUE = 0.5 * float(((1 + S * 1e4) / (1 + S * 1e-3)).log().sum())
LEVELS = torch.linspace(LOW, HIGH, 400, dtype=torch.float64)


def mmse(log_snr):
    return (S / (1 + S * log_snr.exp()[..., None])).sum(-1)


CURVE = Curve(log_snr=LEVELS, mmse=mmse(LEVELS))


def gap(knots):
    """L_T - L with the exact mmse."""
    return float(0.5 * (knots.exp().diff() * mmse(knots[:-1])).sum()) - TRUE


def test_the_energy_of_the_reference_is_its_closed_form():
    assert pytest.approx(19.23, abs=5e-3) == TRUE
    assert CURVE.energy() == pytest.approx(TRUE, abs=2e-4)
    # S is the integral of sqrt(sum (s / (1 + s SNR))^2) dSNR
    snr = torch.linspace(LOW, HIGH, 200_001, dtype=torch.float64).exp()
    speed = (S / (1 + S * snr[:, None])).square().sum(1).sqrt()
    assert CURVE.length() == pytest.approx(float(torch.trapezoid(speed, snr)), rel=1e-3)


@pytest.mark.parametrize(("steps", "uniform", "speed", "best", "limit"), [
    (8, 34.7, 17.34, 17.17, 10.93), (32, 4.95, 3.038, 3.035, 2.733), (64, 2.28, 1.440, 1.440, 1.366),
])  # fmt: skip
def test_grids_cost_what_was_derived_for_them(steps, uniform, speed, best, limit):
    t = torch.linspace(
        *(float(Cosine().time(torch.tensor(level).double())) for level in (LOW, HIGH)), steps + 1, dtype=torch.float64
    )
    even = torch.linspace(LOW, HIGH, steps + 1, dtype=torch.float64)
    constant, optimal = CURVE.constant_speed(steps), CURVE.optimal(steps, candidates=1500)
    assert gap(even) == pytest.approx(uniform, rel=2e-3)
    assert gap(constant) == pytest.approx(speed, rel=2e-3)
    assert gap(optimal) == pytest.approx(best, rel=2e-3)
    assert CURVE.length() ** 2 / (4 * steps) == pytest.approx(limit, rel=2e-3)
    assert gap(optimal) <= gap(constant) * (1 + 1e-3)
    assert gap(constant) < gap(even) < gap(Cosine().log_snr(t)) / 8  # equal steps of the cosine's own time
    assert CURVE.finite(optimal) == pytest.approx(TRUE + gap(optimal), rel=1e-3)
    assert (float(constant[0]), float(constant[-1])) == pytest.approx((LOW, HIGH))


def test_no_grid_of_few_steps_is_better_than_the_one_found():
    best = CURVE.optimal(4, candidates=900)
    for knot in (1, 2, 3):
        for shift in (-0.05, 0.05):
            moved = best.clone()
            moved[knot] += shift
            assert gap(moved) > gap(best)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        other = torch.rand(3, generator=generator, dtype=torch.float64).sort().values * (HIGH - LOW) + LOW
        assert gap(torch.cat([best[:1], other, best[-1:]])) >= gap(best) - 1e-6


def test_the_gap_of_constant_speed_tends_to_its_limit():
    ratios = [gap(CURVE.constant_speed(n)) / (CURVE.length() ** 2 / (4 * n)) for n in (64, 256, 1024)]
    assert ratios[0] > ratios[1] > ratios[2] > 0.99
    assert ratios[2] == pytest.approx(1, abs=0.01)


def test_a_measured_curve_gives_a_grid_for_samplers_that_costs_less():
    schedule = Rectified()
    data = exact.Gaussian(schedule=schedule, mean=torch.zeros(5).double(), cov=S.diag())
    process = Gaussian(schedule=schedule, sigma_data=1.03)
    x = torch.randn(4000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * S.sqrt()
    levels = torch.linspace(LOW, HIGH, 33, dtype=torch.float64)
    curve, moments = measure_curve(data, process, Batch(x=x), log_snr=levels)
    assert (curve.mmse / mmse(levels) - 1).abs().max() < 0.06
    assert torch.allclose(moments.sqrt(), 0.5 * levels.exp() * mmse(levels), rtol=0.8)
    smooth = curve.monotone()
    assert bool((smooth.mmse.diff() <= 0).all())
    knots = FixedGrid(log_snr=tuple(smooth.constant_speed(32).tolist()), to_zero=False)
    times = knots(torch.tensor([32, 16]), schedule)
    assert gap(schedule.log_snr(times[0])) == pytest.approx(3.038, rel=0.02)
    assert gap(schedule.log_snr(times[1, :17])) == pytest.approx(gap(CURVE.constant_speed(16)), rel=0.02)
    # and it is what ancestral steps along it pay
    nats = finite_bound(data, process, x[:1500], times[0], draws=2).diffusion
    assert float(nats.mean()) == pytest.approx(TRUE + 3.038, rel=0.03)


def test_pooling_leaves_a_falling_curve_and_mends_a_rising_one():
    falling = Curve(log_snr=torch.arange(4.0), mmse=torch.tensor([8.0, 4.0, 2.0, 1.0]))
    assert torch.allclose(falling.monotone().mmse, falling.mmse.double())
    rising = Curve(log_snr=torch.arange(4.0), mmse=torch.tensor([8.0, 2.0, 8.0, 1.0]))
    assert rising.monotone().mmse.tolist() == pytest.approx([8.0, 4.0, 4.0, 1.0])


# ------------------------------------------------------------------------------------------------- degenerate minimum


def test_the_continuous_bound_does_not_depend_on_the_schedules_shape():
    """Gaussian data, 1/2 int -SNR'(t) mmse dt by quadrature over t: any clock between two ends gives the same energy."""
    shapes = [
        *SCHEDULES.values(),
        *(VariancePreserving(beta=Beta.tabulate(lambda t, k=k: 0.05 + 30 * t**k, knots=257)) for k in (0.5, 1, 3)),
        VarianceExploding(sigma_max=100.0, power=2.0),
    ]
    low, high = -5.0, 7.0
    true = 0.5 * float(((1 + S * math.exp(high)) / (1 + S * math.exp(low))).log().sum())
    found = []
    for schedule in shapes:
        a, b = (float(schedule.time(torch.tensor(level).double())) for level in (high, low))
        edges = torch.linspace(a, b, 200_001, dtype=torch.float64)
        t = (edges[1:] + edges[:-1]) / 2
        snr = schedule.log_snr(t).exp()
        integrand = -0.5 * schedule.rate(t) * snr * (S / (1 + S * snr[:, None])).sum(1)
        found.append(float(integrand.mean() * (b - a)))
    assert found == pytest.approx([true] * len(shapes), rel=2e-4)


@pytest.mark.parametrize("density", [
    Importance(log_snr=(-5.0, 7.0)), Importance(log_snr=(-5.0, -2.0, 3.0, 7.0), weight=(5.0, 1.0, 0.3)),
], ids=["even", "bent"])  # fmt: skip
def test_nor_does_its_estimate_but_its_variance_does(density):
    schedule = Cosine()
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    t = density(u, schedule)
    snr = schedule.log_snr(t).exp()
    f = 0.5 * snr * (S / (1 + S * snr[:, None])).sum(1) / density.log_snr_density(t, schedule)
    true = 0.5 * float(((1 + S * math.exp(7.0)) / (1 + S * math.exp(-5.0))).log().sum())
    assert float(f.mean()) == pytest.approx(true, rel=1e-3)
    even = len(density.weight) == 1
    assert (float(f.std()) < 0.8 * true) == even


def test_which_density_or_schedule_draws_the_times_is_one_question():
    """Uniform t under a schedule is the density 1 / |dl/dt| of log-SNR, and so is logit-normal t."""
    t = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    uniform = UniformTime(low=0.05, high=0.95)
    for schedule in SCHEDULES.values():
        assert torch.allclose(
            uniform.log_snr_density(t, schedule) * schedule.rate(t).abs() * 0.9, torch.ones(9).double()
        )
        mass = torch.trapezoid(LogitNormal().log_snr_density(t, schedule), schedule.log_snr(t))
        assert -1 < float(mass) < 0  # what lies between, over falling log-SNR


# ------------------------------------------------------------------------------------------------- ends


def test_learned_ends_are_where_no_other_ends_cost_less():
    """Eight levels and their exact denoiser in 24 even steps of log-SNR: prior, steps and reconstruction pull apart."""
    levels, p = (
        Levels(scale=0.25, offset=-0.875, count=8),
        torch.tensor([1.0, 5, 9, 6, 2, 4, 3, 1], dtype=torch.float64) / 31,
    )
    values = levels.values(p)
    process = Gaussian(schedule=Rectified(), sigma_data=float((p * values.square()).sum().sqrt()))
    eps = torch.special.ndtri((torch.arange(200, dtype=torch.float64) + 0.5) / 200)
    noise = SampleNoise(seeds=torch.arange(8 * 400), steps=torch.zeros(8 * 400, dtype=torch.int64))
    many, weight = values[:, None].repeat(400, 1), p.repeat(400) / 400

    def mmse_of_levels(level):
        rho = torch.exp(-0.5 * level)[:, None, None]
        y = values[:, None] + rho * eps  # (l, levels, eps)
        far = (y[..., None] - values).square() / (2 * rho[..., None].square())
        mean = (p.log() - far).softmax(-1) @ values
        return ((mean - values[:, None]).square().mean(-1) * p).sum(-1)

    def nats(first, last):
        level = last + (first - last) * torch.linspace(0, 1, 25, dtype=torch.float64)
        steps = 0.5 * (level.exp().diff() * mmse_of_levels(level[:-1])).sum()
        prior = (prior_nats(process, values[:, None], process.schedule.time(last).expand(8))[:, 0] * p).sum()
        left = reconstruction_nats(many, levels, torch.exp(-0.5 * first).expand(len(many)), noise)
        return prior + steps + (left * weight).sum()

    def at(a, b):
        return float(nats(torch.tensor(a).double(), torch.tensor(b).double()))

    first, last, course = learn_ends(nats, first=8.0, last=-9.0, steps=250, rate=0.3)
    best = at(first, last)
    assert best < course[0] - 0.05
    around = [at(a, b) for a in (3.5, 4.5, 5.5, 6.5, 8.0) for b in (-9.0, -6.0, -4.5, -3.0, -2.0)]
    nearby = [at(first + a, last + b) for a in (-0.3, 0, 0.3) for b in (-0.3, 0, 0.3)]
    assert min(around + nearby) > best - 1e-3
    assert best > float(-(p * p.log()).sum())


# ------------------------------------------------------------------------------------------------- a schedule a place


def separate(paths):
    """L_T of places that are independent: each pays for its own SNR."""
    snr = paths.exp()
    return 0.5 * (snr.diff(dim=1) * (S[:, None] / (1 + S[:, None] * snr[:, :-1]))).sum()


def test_a_schedule_a_place_lowers_the_cost_of_finite_steps_to_its_closed_form():
    steps = 16
    paths, course = learn_paths(separate, dimensions=5, knots=steps + 1, first=HIGH, last=LOW, steps=800, rate=0.1)
    assert bool((paths.diff(dim=1) > 0).all())
    ratio = (1 + S * math.exp(HIGH)) / (1 + S * math.exp(LOW))
    best = float((steps / 2 * torch.expm1(ratio.log() / steps)).sum())
    assert best * (1 - 1e-9) <= course[-1] < best * 1.005
    common = CURVE.optimal(steps)
    assert course[-1] < TRUE + gap(common) - 0.5  # below what any schedule that all places share can do
    lengths = ratio.log()  # S_j, int s / (1 + s SNR) dSNR
    assert float(lengths.square().sum()) < CURVE.length() ** 2  # Minkowski


CORRELATION = 0.8
REST = 1 - CORRELATION**2


def line_integral(paths, error, *, fine=24):
    """1/2 sum_j int mse_j dSNR_j along log-SNR (2, knots), by midpoints; `error` maps SNR (n, 2) to (n, 2)."""
    place = torch.linspace(0, paths.shape[1] - 1, fine * (paths.shape[1] - 1) + 1, dtype=torch.float64)
    i = place.floor().long().clamp_max(paths.shape[1] - 2)
    level = torch.lerp(paths[:, i], paths[:, i + 1], place - i)
    snr = ((level[:, 1:] + level[:, :-1]) / 2).exp().T
    return 0.5 * (error(snr) * snr * level.diff(dim=1).T).sum()


def of_exact(snr):
    """(C^-1 + diag(SNR))^-1, the posterior variances of two standard normals of correlation 0.8."""
    cov = torch.tensor([[1.0, CORRELATION], [CORRELATION, 1.0]], dtype=torch.float64)
    return torch.linalg.inv(torch.linalg.inv(cov) + torch.diag_embed(snr)).diagonal(dim1=1, dim2=2)


def of_credulous(snr):
    """D_1 ignores y_2, and D_2 takes y_1 at its word: D_2 = c y_1 + g (y_2 - c y_1), right once y_1 is clean."""
    k, g = snr[:, 0] / (1 + snr[:, 0]), REST * snr[:, 1] / (1 + REST * snr[:, 1])
    first = (1 - k).square() + k.square() / snr[:, 0]
    second = (1 - g).square() * (REST + CORRELATION**2 / snr[:, 0]) + g.square() / snr[:, 1]
    return torch.stack([first, second], 1)


def test_the_path_does_not_matter_to_the_exact_denoiser():
    """I-MMSE: the errors are a gradient, and what it adds up to is the information."""
    same = torch.linspace(-6, 6, 9, dtype=torch.float64).expand(2, 9)
    apart = torch.stack([same[0], 12 * ((same[0] + 6) / 12) ** 3 - 6])
    cov = torch.tensor([[1.0, CORRELATION], [CORRELATION, 1.0]], dtype=torch.float64)
    eye = torch.eye(2).double()
    true = 0.5 * float(torch.logdet(eye + math.exp(6.0) * cov) - torch.logdet(eye + math.exp(-6.0) * cov))
    for path in (same, apart, apart.flip(0)):
        assert float(line_integral(path, of_exact)) == pytest.approx(true, rel=2e-3)


def test_it_does_to_one_that_no_law_has_and_a_learned_path_finds_the_order_that_suits_it():
    """The best path of the credulous denoiser shows place 1 first: then all but its last noise e^-6 is as it believes."""
    low, high = math.exp(-6.0), math.exp(6.0)
    first = 0.5 * math.log((1 + high) / (1 + low))
    second = 0.5 * math.log((1 + REST * high) / (1 + REST * low))
    trust = 0.5 * CORRELATION**2 * low / REST * (1 / (1 + REST * low) - 1 / (1 + REST * high))
    best = first + second + trust

    def nats(paths):
        return line_integral(paths, of_credulous)

    shared = float(nats(torch.linspace(-6, 6, 17, dtype=torch.float64).expand(2, 17)))
    paths, course = learn_paths(nats, dimensions=2, knots=17, first=6.0, last=-6.0, steps=600, rate=0.1)
    assert shared > best + 0.5
    assert best - 1e-2 < course[-1] < best + 0.1 * (shared - best)
    half = (paths > 0).long().argmax(1)
    assert half[0] < half[1]


# ------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(("level", "e", "words"), [
    ([0.0, 1.0], [1.0, 1.0], "three or more"), ([0.0, 2.0, 1.0], [1.0] * 3, "rise"), ([0.0, 1.0, 2.0], [1.0] * 2, "shapes"),
    ([0.0, 1.0, 2.0], [1.0, 0.0, 1.0], "positive"), ([0.0, 1.0, 2.0], [1.0, math.nan, 1.0], "positive and finite"),
])  # fmt: skip
def test_what_is_no_curve_is_refused(level, e, words):
    with pytest.raises(ValueError, match=words):
        Curve(log_snr=torch.tensor(level), mmse=torch.tensor(e))


def test_what_cannot_be_minimised_is_refused():
    flat = Curve(log_snr=torch.arange(3.0), mmse=torch.ones(3))
    with pytest.raises(ValueError, match="does not fall"):
        flat.constant_speed(4)
    for steps in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            CURVE.optimal(steps)
        with pytest.raises(ValueError, match="at least 1"):
            CURVE.constant_speed(steps)
    with pytest.raises(ValueError, match="more candidates"):
        CURVE.optimal(10, candidates=10)
    with pytest.raises(ValueError, match="last < first"):
        learn_paths(separate, dimensions=5, knots=3, first=0.0, last=1.0)
    with pytest.raises(ValueError, match="at step 0"):
        learn_ends(lambda a, b: (a - b) / 0 * math.inf)
