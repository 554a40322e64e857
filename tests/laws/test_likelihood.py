"""Laws of the exact likelihood: the flow's density is the data's where the denoiser is, for every schedule.

The closed forms. A Gaussian N(m, S) with the exact denoiser has, at rho, the law N(m, S + rho^2), and the flow carries its
centred coordinates along by (S + rho^2)^{1/2}: from y at rho_0 it comes to known z at the end, whatever prior is met
there. With eigenvalues s of S the integral of d ln p is a sum of logarithms, and Hutchinson's part of it the matrix M
with eigenvalues half ln((1 + s SNR_0) / (1 + s SNR_1)).
"""

import itertools
import math

import pytest
import torch

from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.likelihood import (
    Levels,
    TruncatedNormal,
    UniformDequantisation,
    flow_likelihood,
    information,
    levels_of,
    mean_of,
)
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import Categorical, Point
from langevin.diffusion.process import Gaussian
from langevin.modalities.image.codec import Pixels
from tests import exact
from tests.laws.parts import SCHEDULES

EVERY = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
COV = torch.tensor([[0.9, 0.3, -0.1], [0.3, 0.4, 0.15], [-0.1, 0.15, 0.25]], dtype=torch.float64)
MEAN = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
X = torch.tensor([[0.1, 0.4, -0.3], [1.2, -0.6, 0.9], [-0.7, 0.0, 0.5], [2.0, 1.0, 0.0]], dtype=torch.float64)


def reach(schedule, floor=-12.0):
    return max(floor, float(schedule.log_snr(torch.ones(1, dtype=torch.float64))))


def density_of_gaussian(x, first, last, spread):
    """ln p(y) under the model: its flow, and the prior N(0, spread^2 + rho^2) at the end."""
    s, vectors = torch.linalg.eigh(COV)
    rho_0, rho_1 = math.exp(-first), math.exp(-last)  # squared
    grow = ((s + rho_1) / (s + rho_0)).sqrt()
    y_1 = (
        MEAN + (vectors * grow) @ vectors.T @ (x - MEAN)[..., None].squeeze(-1).T
        if x.ndim == 1
        else (MEAN + (x - MEAN) @ ((vectors * grow) @ vectors.T))
    )
    total = spread**2 + rho_1
    at_prior = -0.5 * (y_1.square().sum(-1) / total + 3 * math.log(2 * math.pi * total))
    return at_prior + grow.log().sum()


@EVERY
def test_the_flow_gives_the_closed_form_density_of_gaussian_data_with_any_prior(schedule):
    data = exact.Gaussian(schedule=schedule, mean=MEAN, cov=COV)
    process = Gaussian(schedule=schedule, sigma_data=0.6)
    got = flow_likelihood(data, process, X, first=14.0, last=-12.0, steps=128)
    true = density_of_gaussian(X, 14.0, reach(schedule), 0.6)
    assert got.log_density.shape == (4, 1)
    assert (got.log_density[:, 0] - true).abs().max() < 3e-6
    at_14 = torch.distributions.MultivariateNormal(MEAN, COV + math.exp(-14.0) * torch.eye(3).double())
    assert (got.log_density[:, 0] - at_14.log_prob(X)).abs().max() < 0.2  # the prior met at the end is nearly right


@EVERY
def test_the_flow_gives_the_density_of_a_mixture_to_a_ten_thousandth_of_a_nat_a_dimension(schedule):
    data = exact.white_clouds(schedule)
    process = Gaussian(schedule=schedule, sigma_data=0.6)
    x = data.draw(12, torch.Generator().manual_seed(1))
    got = flow_likelihood(data, process, x, first=16.0, steps=96)
    t = schedule.time(torch.full((12,), 16.0, dtype=torch.float64))
    alpha = schedule.alpha(t)
    true = data.log_density(alpha[:, None] * x, t) + 3 * alpha.log()  # of y = x_t / alpha
    assert (got.log_density[:, 0] - true).abs().max() / 3 < 1e-4
    assert bool(((got.log_density[:, 0] - true).abs() < got.error + 1e-4).all())


def test_more_steps_are_taken_until_the_tolerance_holds():
    data = exact.white_clouds(SCHEDULES["cosine"])
    process = Gaussian(schedule=data.schedule, sigma_data=0.6)
    x = data.draw(6, torch.Generator().manual_seed(2))
    loose = flow_likelihood(data, process, x, steps=8)
    tight = flow_likelihood(data, process, x, steps=8, tolerance=1e-6)
    assert loose.steps == 8
    assert tight.steps > 32
    assert float(tight.error.mean()) < 3e-6 < float(loose.error.mean())
    capped = flow_likelihood(data, process, x, steps=8, tolerance=1e-12, most_steps=16)
    assert capped.steps == 16


def test_hutchinsons_estimate_has_the_mean_of_the_exact_trace_and_the_variance_of_the_formula():
    schedule = SCHEDULES["rectified"]
    data = exact.Gaussian(schedule=schedule, mean=MEAN, cov=COV)
    process = Gaussian(schedule=schedule, sigma_data=0.6)
    ends = {"first": 10.0, "last": -8.0, "steps": 32}
    true = flow_likelihood(data, process, X[:1], **ends).log_density[0, 0]
    drawn = flow_likelihood(data, process, X[:1].expand(4000, 3), probes=2, **ends).log_density.flatten()
    s, vectors = torch.linalg.eigh(COV)
    m = vectors @ torch.diag(0.5 * ((1 + s * math.exp(10.0)) / (1 + s * math.exp(-8.0))).log()) @ vectors.T
    variance = 2 * (m.square().sum() - m.diagonal().square().sum())  # |M|_F^2 - sum M_ii^2, twice
    assert abs(drawn.mean() - true) < 5 * (variance / 8000).sqrt()
    assert float(drawn.var()) == pytest.approx(float(variance), rel=0.06)
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)), dtype=torch.float64)
    possible = m.trace() - ((signs @ m) * signs).sum(1)  # one probe a path: the whole integral is e^T M e
    nearest = (drawn[:, None] - true - possible).abs().min(1).values
    assert nearest.max() < 1e-3


def test_above_256_dimensions_one_probe_is_the_default_and_below_the_trace_is_exact():
    process = Gaussian(sigma_data=0.7)
    data = exact.Scalar(schedule=process.schedule, mean=0.0, variance=0.49)
    x = 0.7 * torch.randn(3, 2, 130, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got = flow_likelihood(data, process, x, steps=4)
    variance = 0.49 + math.exp(-13.0)
    true = -0.5 * (x.square() / variance + math.log(2 * math.pi * variance)).sum((1, 2))
    assert (got.log_density[:, 0] - true).abs().max() < 1e-8  # a diagonal Jacobian: any probe is exact
    assert got.dimensions == 260


def test_a_row_does_not_depend_on_its_neighbours():
    data = exact.white_clouds(SCHEDULES["variance_preserving"])
    process = Gaussian(schedule=data.schedule, sigma_data=0.6)
    x, names = data.draw(5, torch.Generator().manual_seed(3)), torch.arange(5) + 70
    whole = flow_likelihood(data, process, x, probes=2, steps=8, names=names)
    part = flow_likelihood(data, process, x[2:4], probes=2, steps=8, names=names[2:4])
    assert torch.allclose(whole.log_density[2:4], part.log_density, rtol=1e-12)
    other = flow_likelihood(data, process, x[2:4], probes=2, steps=8, names=names[2:4], seed=1)
    assert not torch.allclose(other.log_density, part.log_density, rtol=1e-3)


@EVERY
def test_information_is_the_density_of_matched_gaussian_data_without_any_noise(schedule):
    """With D the linear guess nothing is left to chance; what remains are the ends."""
    process = Gaussian(schedule=schedule, sigma_data=0.7)
    data = exact.Scalar(schedule=schedule, mean=0.0, variance=0.49)
    got = information(data, process, X, first=22.0, last=-22.0, levels=2000, draws=1)
    true = torch.distributions.Normal(X.new_tensor(0.0), 0.7).log_prob(X).sum(1)
    tail = 0.5 * math.exp(max(-22.0, reach(schedule, -22.0))) * (3 * 0.49 + X.square().sum(1)) + 1e-6
    assert bool(((got.log_density[:, 0] - true).abs() < tail).all())


def test_information_is_the_density_of_a_mixture_point_by_point():
    data = exact.white_clouds(SCHEDULES["rectified"])
    process = Gaussian(schedule=data.schedule, sigma_data=0.6)
    x = data.draw(6, torch.Generator().manual_seed(5))
    got = information(data, process, x, first=16.0, last=-16.0, levels=100, draws=40).log_density
    true = data.log_density(x, torch.zeros(6, dtype=torch.float64))
    error = got.std(1) / math.sqrt(40)
    assert error.max() < 0.2
    assert bool(((got.mean(1) - true).abs() < 5 * error).all())


# ------------------------------------------------------------------------------------------------- recorded data


@pytest.mark.parametrize(("scale", "offset", "bits"), [
    (1.0, 0.0, 0.0), (1 / 256, 0.0, 8.0), (1 / 128, -1.0, 7.0), (1 / 127.5, -1.0, math.log2(127.5)),
])  # fmt: skip
def test_the_unit_of_bits_follows_from_the_recorded_map(scale, offset, bits):
    levels = levels_of(Pixels(scale=scale, offset=offset))
    assert levels == Levels(scale=scale, offset=offset, count=256)
    assert -UniformDequantisation().entropy(levels, 1e-3) / math.log(2) == pytest.approx(bits, abs=1e-12)
    if scale == 1 / 127.5:
        assert bits == pytest.approx(6.994, abs=5e-4)


@pytest.mark.parametrize("codec", [Pixels(), Pixels(scale=1 / 256, offset=0.1), Pixels(scale=0.5, offset=-3.0)])
@pytest.mark.parametrize("dequantise", [UniformDequantisation(), TruncatedNormal()])
def test_the_probability_of_recorded_data_does_not_depend_on_the_map(codec, dequantise):
    """One law of whole numbers, N(100, 30^2) in their own unit, seen through codecs."""
    raw = torch.tensor([[60, 130, 99], [20, 255, 0]], dtype=torch.uint8)
    mean, spread = 100 * codec.scale + codec.offset, 30 * codec.scale
    process = Gaussian(schedule=SCHEDULES["cosine"], sigma_data=spread)
    data = exact.Scalar(schedule=process.schedule, mean=mean, variance=spread**2)
    first = 9.0 - 2 * math.log(spread)  # the same noise in the unit of whole numbers
    got = flow_likelihood(
        data, process, codec.encode(raw).double(), levels=codec.levels, dequantise=dequantise, first=first,
        last=-16.0 - 2 * math.log(spread), steps=192,
    )  # fmt: skip
    rho = 30 * math.exp(-4.5)
    y = dequantise.draw(raw.double(), Levels(scale=1.0, offset=0.0, count=256), rho, noise_of(2))
    true = torch.distributions.Normal(y.new_tensor(100.0), math.sqrt(900 + rho**2)).log_prob(y).sum(1)
    true = true + dequantise.surprise(y, raw.double(), Levels(scale=1.0, offset=0.0, count=256), rho).sum(1)
    assert got.nats[:, 0] == pytest.approx(-true, abs=2e-2 if codec.offset < -2 else 4e-3)


def noise_of(rows):
    """The dequantising noise of rows named by their places under seed 0."""
    from langevin.diffusion.noise import mix

    names = torch.arange(rows)
    return SampleNoise(seeds=mix(torch.zeros_like(names), names), steps=torch.zeros_like(names)).fork(1)


@pytest.mark.parametrize("first", [3.0, 6.0, 9.0])
@pytest.mark.parametrize("dequantise", [UniformDequantisation(), TruncatedNormal()], ids=["uniform", "truncated"])
def test_dequantised_likelihood_is_a_bound_of_each_levels_probability(dequantise, first):
    """P(k) of a mixture is a difference of its distribution function at the level `first`; eight levels 0.4 apart."""
    data = exact.Mixture(weights=(0.4, 0.6), means=(-0.9, 0.6))
    levels, count = Levels(scale=0.4, offset=-1.4, count=8), 1500
    k = torch.arange(8).repeat_interleave(count)
    x = levels.values(torch.zeros(1))[k][:, None]
    variance = 0.4 * (0.81 + 0.35**2) + 0.6 * (0.36 + 0.25**2)
    process = Gaussian(schedule=data.schedule, sigma_data=math.sqrt(variance))
    got = flow_likelihood(data, process, x, levels=levels, dequantise=dequantise, first=first, steps=48)
    values = -got.nats.view(8, count)
    t = data.schedule.time(torch.tensor([first], dtype=torch.float64))
    edges = (levels.values(x) - 0.2)[:, None], (levels.values(x) + 0.2)[:, None]
    low, high = (data.cdf(data.schedule.alpha(t) * e, t.expand(8))[:, 0] for e in edges)
    slack = (high - low).log() - values.mean(1)
    error = values.std(1) / math.sqrt(count)
    assert bool((slack > -4 * error - 2e-3).all())
    if isinstance(dequantise, UniformDequantisation):
        assert slack.min() < 0.3  # and no idle one
    assert dequantise.entropy(levels, math.exp(-0.5 * first)) <= math.log(0.4) + 1e-12  # nothing is wider than the bin


def test_noise_of_the_smallest_level_finds_the_probability_of_levels_themselves():
    """Data that is eight points: far below their distance the density is that of the noise, and only its cut is lost."""
    levels, p = (
        Levels(scale=0.4, offset=-1.4, count=8),
        torch.tensor([1.0, 5, 9, 6, 2, 4, 3, 1], dtype=torch.float64) / 31,
    )
    points = levels.values(p)[:, None]
    process = Gaussian(sigma_data=float((p * points[:, 0].square()).sum().sqrt()))
    data = exact.Empirical(schedule=process.schedule, points=points, weights=p)
    x = points.repeat_interleave(300, 0)
    ends = {"levels": levels, "first": -2 * math.log(0.05), "steps": 200}
    nats = {
        kind: flow_likelihood(data, process, x, dequantise=kind, **ends).nats.view(8, 300)
        for kind in (TruncatedNormal(), UniformDequantisation())
    }
    lost = {kind: float((p * (values.mean(1) + p.log())).sum()) for kind, values in nats.items()}
    error = float((nats[TruncatedNormal()].var(1) * p.square() / 300).sum().sqrt())
    cut = -math.log(math.erf(4 / math.sqrt(2)))  # -ln Z: the noise beyond half a bin, which is 4 rho here
    assert abs(lost[TruncatedNormal()] - cut) < 5 * error + 1e-5
    assert lost[UniformDequantisation()] > 1


def test_the_noise_of_dequantisation_stays_in_its_bin_and_has_its_entropy():
    levels, x = Levels(scale=0.1, offset=0.0, count=4), torch.zeros(1, 200_000)
    for rho in (0.01, 0.05, 0.3):
        y = TruncatedNormal().draw(x, levels, rho, noise_of(1))[0]
        assert float(y.abs().max()) <= 0.05
        z = math.erf(0.05 / rho / math.sqrt(2))
        surprise = 0.5 * (y / rho).square() + 0.5 * math.log(2 * math.pi) + math.log(rho * z)
        assert torch.allclose(TruncatedNormal().surprise(y, x[0], levels, rho), surprise)
        assert float(surprise.mean()) == pytest.approx(TruncatedNormal().entropy(levels, rho), abs=5e-3)
    y = UniformDequantisation().draw(x, levels, 1.0, noise_of(1))[0]
    assert float(y.abs().max()) <= 0.05
    assert float(y.std()) == pytest.approx(0.1 / math.sqrt(12), rel=0.01)


# ------------------------------------------------------------------------------------------------- answers and refusals


def test_standard_errors_are_those_of_rows_and_of_draws():
    generator = torch.Generator().manual_seed(0)
    rows, draws = torch.randn(500, 1, generator=generator), torch.randn(1, 40, generator=generator)
    got = mean_of(rows + 3 * draws)
    assert got.samples == pytest.approx(float(rows.std()) / math.sqrt(500), rel=1e-5)
    assert got.draws == pytest.approx(3 * float(draws.std()) / math.sqrt(40), rel=1e-5)
    assert mean_of(torch.ones(1, 1)).samples is None
    assert mean_of(torch.ones(5, 1)).draws is None
    assert mean_of(rows).times(-2.0).samples == pytest.approx(2 * float(rows.std()) / math.sqrt(500), rel=1e-5)


def asking(**changes):
    process = Gaussian()
    given = {"denoiser": exact.Scalar(schedule=process.schedule), "process": process, "x": X, "steps": 4, **changes}
    return flow_likelihood(given.pop("denoiser"), given.pop("process"), given.pop("x"), **given)


@pytest.mark.parametrize(("changes", "words"), [
    ({"steps": 3}, "even number of steps"), ({"steps": 0}, "even number of steps"), ({"first": -20.0}, "first > last"),
    ({"first": math.nan}, "first > last"), ({"levels": Levels(scale=1.0, offset=0.0, count=4)}, "dequantisation"),
    ({"dequantise": UniformDequantisation()}, "levels"), ({"most_steps": 2}, "at most"),
    ({"levels": Levels(scale=1.0, offset=0.0, count=4), "dequantise": UniformDequantisation()}, "not on the 4 levels"),
    ({"denoiser": lambda x_t, t, c: Point(torch.zeros_like(x_t))}, "no gradient by x_t"),
    ({"denoiser": lambda x_t, t, c: Categorical(x_t[..., None])}, "Categorical"),
])  # fmt: skip
def test_what_has_no_likelihood_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        asking(**changes)


def test_data_of_unknown_scale_has_no_bits():
    class Latent:
        pass

    with pytest.raises(ValueError, match="Latent does not state one"):
        levels_of(Latent())
    for bad in ({"scale": 0.0}, {"scale": math.inf}, {"offset": math.nan}, {"count": 1}):
        with pytest.raises(ValueError, match="levels need"):
            Levels(**{"scale": 1.0, "offset": 0.0, "count": 4, **bad})
    with pytest.raises(ValueError, match="even number of levels"):
        information(exact.Scalar(), Gaussian(), X, levels=3)


def test_a_network_is_asked_in_its_own_type():
    def network(x, c_time, condition):
        assert x.dtype == torch.float32
        return torch.tanh(x)

    process = Gaussian(sigma_data=0.6)
    denoiser = GaussianDenoiser(network=network, process=process)
    got = flow_likelihood(denoiser, process, X, steps=64, dtype=torch.float32)
    with pytest.raises(ValueError, match="not on the"):
        flow_likelihood(
            denoiser, process, X, levels=Pixels().levels, dequantise=UniformDequantisation(), dtype=torch.float32
        )
    assert got.log_density.dtype == torch.float64
    assert float(got.error.max()) < 0.01


# ------------------------------------------------------------------------------------------------- where the prior is met


def mixture_away_from_zero(schedule, size):
    """Two clouds in 3-D around a mean of that size in each coordinate; their spread about it is 0.6."""
    clouds = exact.white_clouds(schedule)
    way = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    return exact.Clouds(schedule=schedule, weights=clouds.weights, means=clouds.means + size * way, covs=clouds.covs)


def density_at(data, x, first):
    """ln p of y = x_t / alpha at log-SNR `first`."""
    t = data.schedule.time(torch.full((len(x),), first, dtype=torch.float64))
    alpha = data.schedule.alpha(t)
    return data.log_density(alpha[:, None] * x, t) + x.shape[1] * alpha.log()


@EVERY
@pytest.mark.parametrize("size", [0.0, 1.5, 10.0])
def test_the_closed_form_lies_within_the_reported_error_wherever_the_mean_is(schedule, size):
    data = mixture_away_from_zero(schedule, size)
    x = data.draw(12, torch.Generator().manual_seed(1))
    got = flow_likelihood(data, Gaussian(schedule=schedule, sigma_data=0.6), x)
    off = (got.log_density[:, 0] - density_at(data, x, 13.0)).abs()
    assert bool((off < got.error).all())
    assert bool((got.mismatch <= got.error).all())


@EVERY
@pytest.mark.parametrize("size", [0.0, 1.5, 10.0])
def test_the_prior_is_met_where_its_mismatch_is_below_the_tolerance(schedule, size):
    """As far as the schedule reaches; what remains beyond that is said."""
    data = mixture_away_from_zero(schedule, size)
    x = data.draw(12, torch.Generator().manual_seed(2))
    process = Gaussian(schedule=schedule, sigma_data=0.6)
    got = flow_likelihood(data, process, x, tolerance=1e-4)
    off = (got.log_density[:, 0] - density_at(data, x, 13.0)).abs()
    assert bool((off < got.error).all())
    if reach(schedule, -100.0) == -100.0:
        assert float(off.mean()) / 3 < 1e-4
        assert float(got.error.mean()) / 3 < 2e-4
    elif size == 10.0:
        assert float(got.mismatch.min()) > 0.05  # nothing noisier to go to, so it is in the error


def test_a_prior_met_too_early_is_said():
    data = mixture_away_from_zero(SCHEDULES["rectified"], 1.5)
    x = data.draw(12, torch.Generator().manual_seed(3))
    process = Gaussian(schedule=data.schedule, sigma_data=0.6)
    for last in (-4.0, -8.0, -12.0):
        got = flow_likelihood(data, process, x, last=last, tolerance=1e-5)
        off = (got.log_density[:, 0] - density_at(data, x, 13.0)).abs()
        assert float(off.mean()) > 0.1 * math.exp(0.5 * last)  # the shift of the mean, in units of the noise
        assert bool((off < got.error).all())
        assert float(got.mismatch.mean()) < 10 * float(off.mean())  # and no idle bound
