"""Laws of the bound as it is estimated: its terms add up to at least the likelihood, and to it where they must.

Equality has two halves. For data of a density the exact denoiser makes every row's bound its -ln p (I-MMSE holds point by
point), but for the ends: KL at the noisy one, and what x_{t_0} does not say at the clean one. On a finite grid the sum
is an upper Riemann sum, above by a gap that falls with the number of steps as 1 / T.
"""

import math

import pytest
import torch

from langevin.diffusion.importance import Importance
from langevin.diffusion.likelihood import Levels, bound, finite_bound, flow_likelihood, prior_nats
from langevin.diffusion.objective import UniformTime
from langevin.diffusion.posterior import Joint, Point
from langevin.diffusion.process import Gaussian, Masked, Product
from langevin.modalities.image.codec import Pixels
from tests import exact
from tests.laws.parts import SCHEDULES

EVERY = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
WIDE = Importance(log_snr=(-16.0, 16.0))
P = torch.tensor([1.0, 5, 9, 6, 2, 4, 3, 1], dtype=torch.float64) / 31
EIGHT = Levels(scale=0.25, offset=-0.875, count=8)
ENTROPY = float(-(P * P.log()).sum())


def eight_points(schedule):
    points = EIGHT.values(P)[:, None]
    process = Gaussian(schedule=schedule, sigma_data=float((P * points[:, 0].square()).sum().sqrt()))
    return exact.Empirical(schedule=schedule, points=points, weights=P), process, points


def chance_of(values):
    """Five standard errors of the mean over draws (b, draws), a row."""
    return 5 * values.std(1) / math.sqrt(values.shape[1])


@EVERY
def test_matched_gaussian_data_has_its_bound_without_any_noise(schedule):
    """The linear guess is the denoiser, so nothing is left to chance."""
    process = Gaussian(schedule=schedule, sigma_data=0.7)
    data = exact.Scalar(schedule=schedule, mean=0.0, variance=0.49)
    x = torch.tensor([[0.1, -0.9], [1.4, 0.3]], dtype=torch.float64)
    got = bound(data, process, x, density=WIDE, times=2)
    true = torch.distributions.Normal(x.new_tensor(0.0), 0.7).log_prob(x).sum(1)
    assert (got.nats + true[:, None]).abs().max() < 1e-5
    assert got.nats.shape == (2, 2)


@EVERY
def test_the_bound_of_a_mixture_is_its_likelihood_row_by_row_and_any_other_denoisers_is_above(schedule):
    data = exact.white_clouds(schedule)
    process = Gaussian(schedule=schedule, sigma_data=0.6)
    x = data.draw(6, torch.Generator().manual_seed(2))
    got = bound(data, process, x, density=WIDE, times=40, draws=40)
    true = -data.log_density(x, torch.zeros(6, dtype=torch.float64))
    assert bool(((got.nats.mean(1) - true).abs() < chance_of(got.nats) + 0.01).all())

    def duller(x_t, t, condition):
        return Point(0.9 * data(x_t, t).mean)

    many = data.draw(400, torch.Generator().manual_seed(3))
    worse = bound(duller, process, many, density=WIDE, times=40, draws=4).nats
    exactly = -data.log_density(many, torch.zeros(400, dtype=torch.float64))
    assert float(worse.mean() - exactly.mean()) > 1


def test_the_bound_is_above_the_exact_likelihood_of_the_same_wrong_model():
    """A denoiser that is the exact one of other data: its flow has that data's density, its bound on ours is above."""
    schedule = SCHEDULES["cosine"]
    process = Gaussian(schedule=schedule, sigma_data=0.7)
    model = exact.Scalar(schedule=schedule, mean=0.2, variance=0.3)
    x = 0.7 * torch.randn(300, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    flow = flow_likelihood(model, process, x, first=14.0, last=-14.0, steps=48).nats[:, 0]
    terms = bound(model, process, x, density=Importance(log_snr=(-14.0, 14.0)), times=60, draws=8).nats
    assert torch.allclose(flow, -torch.distributions.Normal(x.new_tensor(0.2), 0.3**0.5).log_prob(x).sum(1), atol=5e-3)
    assert float(terms.mean() - flow.mean()) > -5 * float(terms.mean(0).std()) / math.sqrt(8)


@EVERY
def test_the_prior_is_the_divergence_of_two_gaussians_and_zero_without_signal(schedule):
    process = Gaussian(schedule=schedule, sigma_data=0.5)
    x, t = torch.tensor([[0.7], [-2.0]], dtype=torch.float64), torch.tensor([0.8, 0.95], dtype=torch.float64)
    a, s = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
    q = torch.distributions.Normal(a * x, s)
    p = torch.distributions.Normal(torch.zeros_like(a), (a * a * 0.25 + s * s).sqrt())
    assert torch.allclose(prior_nats(process, x, t), torch.distributions.kl_divergence(q, p), rtol=1e-8)
    one = torch.ones(2, dtype=torch.float64)
    assert torch.allclose(prior_nats(process, x, one), process.bound(Point(x), x, x, one).prior, rtol=1e-8)


# ------------------------------------------------------------------------------------------------- lossless


@EVERY
def test_the_lossless_bound_of_levels_is_their_entropy(schedule):
    data, process, points = eight_points(schedule)
    got = bound(data, process, points, levels=EIGHT, density=Importance(log_snr=(-12.0, 9.0)), times=48, draws=40)
    nats = got.nats.T @ P  # (draws,)
    assert float(nats.mean()) == pytest.approx(ENTROPY, abs=5 * float(nats.std()) / math.sqrt(40) + 2e-3)
    assert float(got.reconstruction.mean()) < 1e-3  # rho is a tenth of half a step
    bits = got.bits()
    assert bits["total"].mean == pytest.approx(sum(bits[n].mean for n in ("prior", "diffusion", "reconstruction")))


def test_what_ends_too_early_is_paid_for_in_the_reconstruction():
    """The sum stays a bound at every smallest level, and the share of its terms moves."""
    data, process, points = eight_points(SCHEDULES["rectified"])
    found = {}
    for first in (2.0, 4.0, 6.0):
        density = Importance(log_snr=(-12.0, first))
        got = bound(data, process, points, levels=EIGHT, density=density, times=24, draws=40)
        total, left = got.nats.T @ P, got.reconstruction.T @ P
        assert float(total.mean()) > ENTROPY - 5 * float(total.std()) / math.sqrt(40)
        found[first] = float(left.mean())
    assert found[2.0] > found[4.0] + 0.1 > found[6.0] + 0.1


def test_the_finite_lossless_bound_falls_to_the_entropy_from_above_as_one_over_the_steps():
    data, process, points = eight_points(SCHEDULES["variance_preserving"])
    gaps = []
    for steps in (16, 64, 256):
        times = process.schedule.time(torch.linspace(-9, 8, steps + 1, dtype=torch.float64))
        many = points.repeat(1500, 1)
        nats = finite_bound(data, process, many, times, levels=EIGHT).nats.mean(1).view(-1, 8) @ P
        gaps.append(float(nats.mean()) - ENTROPY)
        assert float(nats.std()) / math.sqrt(len(nats)) < 0.1 * gaps[-1]
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[1] / gaps[2] == pytest.approx(4, rel=0.35)


# ------------------------------------------------------------------------------------------------- symbols


def test_the_bound_of_symbols_is_their_log_likelihood_in_the_mean():
    law = exact.entangled()
    words = law.words[[0, 5, 13, 26]]
    got = bound(law, Masked(vocab_size=3), words, times=64, draws=64)
    assert bool(((got.nats.mean(1) + law.p[[0, 5, 13, 26]].log()).abs() < chance_of(got.nats)).all())
    assert float(got.prior.abs().max()) == float(got.reconstruction.abs().max()) == 0


def test_the_finite_bound_of_symbols_falls_to_the_entropy_and_is_the_entropy_of_independent_places_at_once():
    law, process = exact.entangled(), Masked(vocab_size=3)
    entropy = float(-(law.p * law.p.log()).sum())
    found = []
    for steps in (1, 4, 64):
        times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        nats = finite_bound(law, process, law.words, times, draws=256 // steps + 4).nats.T @ law.p
        found.append(float(nats.mean()))
    alone = law.marginals(torch.full((1, 3), 3))[0]
    assert found[0] == pytest.approx(float(-(alone * alone.log()).sum()), rel=1e-9)  # all places told at once
    assert found[0] > found[1] + 0.05 > found[2] + 0.05
    assert found[2] == pytest.approx(entropy, abs=0.15)


def test_parts_of_a_product_add_up():
    """A number and a symbol that know nothing of each other: the sum of their own bounds."""
    law = exact.factorised()
    number = Gaussian(sigma_data=0.7)
    process = Product(parts={"number": number, "word": Masked(vocab_size=3)})
    scalar = exact.Scalar(mean=0.0, variance=0.49)

    def denoiser(x_t, t, condition):
        return Joint({"number": scalar(x_t["number"], t), "word": law(x_t["word"], t)})

    x = {"number": torch.tensor([[0.3], [-1.0]], dtype=torch.float64), "word": law.words[[4, 19]]}
    got = bound(denoiser, process, x, density=UniformTime(low=0.01, high=1.0), times=100, draws=20)
    true = (
        torch.distributions.Normal(torch.tensor(0.0).double(), 0.7).log_prob(x["number"])[:, 0] + law.p[[4, 19]].log()
    )
    assert bool(((got.nats.mean(1) + true).abs() < chance_of(got.nats) + 0.02).all())
    assert got.dimensions == 4


# ------------------------------------------------------------------------------------------------- rows and refusals


def test_a_rows_bound_depends_on_its_name_alone():
    data, process, points = eight_points(SCHEDULES["cosine"])
    names = torch.arange(8) + 40
    whole = bound(data, process, points, levels=EIGHT, names=names, seed=3)
    part = bound(data, process, points[2:5], levels=EIGHT, names=names[2:5], seed=3)
    assert torch.allclose(whole.nats[2:5], part.nats, rtol=1e-12)
    times = process.schedule.time(torch.linspace(-6, 6, 9, dtype=torch.float64))
    whole = finite_bound(data, process, points, times, levels=EIGHT, names=names)
    part = finite_bound(data, process, points[:3], times, levels=EIGHT, names=names[:3])
    assert torch.allclose(whole.nats[:3], part.nats, rtol=1e-12)
    assert not torch.allclose(part.nats, finite_bound(data, process, points[:3], times, levels=EIGHT, seed=9).nats)


@pytest.mark.parametrize(("changes", "words"), [
    ({"times": 0}, "at least one time"), ({"draws": 0}, "one draw"), ({"levels": Pixels().levels}, "not on the 256 levels"),
    ({"density": UniformTime(low=0.0)}, "infinite at t = 0"),
])  # fmt: skip
def test_what_has_no_bound_is_refused(changes, words):
    data, process, points = eight_points(SCHEDULES["cosine"])
    with pytest.raises(ValueError, match=words):
        bound(data, process, points + 0.013, **changes)


@pytest.mark.parametrize("times", [[0.5], [0.2, 0.5], [0.5, 0.5], [1.2, 0.5], [0.9, 0.0], [0.9, -0.1], [math.nan, 0.5]])
def test_grids_without_a_bound_are_refused(times):
    data, process, points = eight_points(SCHEDULES["cosine"])
    with pytest.raises(ValueError, match="two or more falling times"):
        finite_bound(data, process, points, torch.tensor(times, dtype=torch.float64))


def test_symbols_have_no_log_snr_to_draw_times_by():
    with pytest.raises(ValueError, match="UniformTime"):
        bound(exact.factorised(), Masked(vocab_size=3), exact.factorised().words, density=WIDE)
    with pytest.raises(ValueError, match="starts at t = 1"):
        bound(
            exact.factorised(), Masked(vocab_size=3), exact.factorised().words, density=UniformTime(low=0.1, high=0.9)
        )
