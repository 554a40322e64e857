"""Laws of objectives: each weighting is the squared error that it names, and the exact posterior is where loss is least."""

import math

import pytest
import torch

from langevin.diffusion.denoiser import affine
from langevin.diffusion.objective import ELBO, Uncertainty, WeightedMSE, mean_per_sample
from langevin.diffusion.posterior import Categorical, Joint, Point
from langevin.diffusion.process import Gaussian, Masked, Product
from tests import exact
from tests.laws.parts import SCHEDULES, WEIGHTINGS, weighted

EVERY = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
WEIGHTING = pytest.mark.parametrize("weighting", WEIGHTINGS)
T = torch.linspace(0.15, 0.97, 12, dtype=torch.float64)


def question(schedule):
    """x, eps, x_t and a guess D, (12, 5)."""
    generator = torch.Generator().manual_seed(3)
    x, eps, guess = torch.randn(3, 12, 5, generator=generator, dtype=torch.float64)
    return x, eps, schedule.alpha(T)[:, None] * x + schedule.sigma(T)[:, None] * eps, guess


@EVERY
@WEIGHTING
def test_a_weighting_is_the_squared_error_that_it_names(schedule, weighting):
    x, eps, x_t, guess = question(schedule)
    alpha, sigma, t = schedule.alpha(T)[:, None], schedule.sigma(T)[:, None], T[:, None]
    a, b = schedule.tangent(t)
    guessed_eps = (x_t - alpha * guess) / sigma
    c_out = affine("edm", schedule, t, 0.5)[1]
    snr = (alpha / sigma) ** 2
    named = {
        "noise": (eps - guessed_eps) ** 2,
        "velocity": (a * x + b * eps - a * guess - b * guessed_eps) ** 2,
        "edm": ((x - guess) / c_out) ** 2,  # of the network's output F, as D = c_skip x_t + c_out F
        "min_snr": torch.minimum(snr, torch.tensor(5.0)) * (x - guess) ** 2,
    }
    got = weighted(weighting, schedule)(Point(guess), x, x_t, T)
    assert got.shape == (12,)
    assert torch.allclose(got, named[weighting].mean(1), rtol=1e-9)


@EVERY
@WEIGHTING
def test_weights_are_positive_and_finite_at_every_time(schedule, weighting):
    t = torch.tensor([0.0, 1e-9, 1e-4, 0.5, 1 - 1e-9, 1.0], dtype=torch.float64)
    weight = weighted(weighting, schedule).weight(t)
    assert bool((weight >= 0).all() and weight.isfinite().all())
    loss = weighted(weighting, schedule)(Point(torch.ones(6, 2)), torch.ones(6, 2), torch.ones(6, 2), t.float())
    assert loss.tolist() == [0] * 6
    assert loss.dtype == torch.float32


@EVERY
@WEIGHTING
def test_the_loss_is_least_at_the_exact_posterior_mean(schedule, weighting):
    points = torch.tensor([[-1.0, 0.3], [0.4, 0.9], [1.2, -0.7]], dtype=torch.float64)
    data = exact.Empirical(schedule=schedule, points=points, weights=torch.tensor([0.5, 0.2, 0.3]).double())
    x_t = schedule.alpha(T)[:, None] * points[0] + schedule.sigma(T)[:, None] * 0.8
    mean = data(x_t, T).mean.clone().requires_grad_()
    belief = data_belief(data, x_t)
    objective = weighted(weighting, schedule)

    def expected(guess):
        losses = [objective(Point(guess), point.expand(12, 2), x_t, T) for point in points]
        return (torch.stack(losses, 1) * belief).sum(1)

    best = expected(mean)
    (gradient,) = torch.autograd.grad(best.sum(), mean)
    size = objective.weight(T)[:, None]
    assert (gradient / size).abs().max() < 1e-12
    for shift in (0.01, -0.3):
        assert bool((expected(mean + shift) > best).all())


def data_belief(data, x_t):
    """(b, n): the posterior probability of each point."""
    a, s = data.schedule.alpha(T)[:, None, None], data.schedule.sigma(T)[:, None]
    far = (x_t[:, None] - a * data.points).square().sum(-1) / (2 * s * s)
    return (data.weights.log() - far).softmax(-1)


def test_the_bound_of_symbols_is_least_at_the_exact_posterior():
    law, process = exact.entangled(), Masked(vocab_size=3)
    x_t = torch.tensor([[3, 1, 3], [3, 3, 3], [2, 3, 0]])
    fits = ((x_t[:, None] == law.words) | (x_t[:, None] == 3)).all(-1) * law.p
    belief = fits / fits.sum(-1, keepdim=True)
    t = torch.tensor([0.3, 0.9, 0.5])

    def expected(q):
        losses = [ELBO(process=process)(q, word.expand(3, 3), x_t, t).double() for word in law.words]
        return (torch.stack(losses, 1).nan_to_num(posinf=0.0) * belief).sum(1)

    exact_q = law(x_t, t)
    best = expected(exact_q)
    for seed in range(3):
        bend = torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert bool((expected(Categorical(exact_q.logits + 0.2 * bend)) > best).all())


# ------------------------------------------------------------------------------------------------ masks and parts


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 4), (3, 4, 2, 5)])
def test_places_that_do_not_count_change_nothing(shape):
    values = torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape)
    mask = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1], [1, 0, 0, 0]], dtype=torch.bool)
    spoilt = values.clone()
    spoilt[~mask] = math.nan
    want = torch.stack([values[i][mask[i]].mean() for i in range(3)])
    assert torch.allclose(mean_per_sample(spoilt, mask), want, rtol=1e-14)
    assert torch.allclose(mean_per_sample(values), values.flatten(1).mean(1))


def test_a_mask_may_have_the_shape_of_pictures_with_one_channel():
    values, mask = torch.rand(2, 3, 4, 4), torch.rand(2, 1, 4, 4) > 0.5
    assert torch.allclose(mean_per_sample(values, mask), (values * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3))))


def test_a_row_without_places_that_count_costs_nothing():
    assert mean_per_sample(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool)).tolist() == [0, 0]


@WEIGHTING
def test_each_place_is_weighted_at_its_own_time(weighting):
    objective = weighted(weighting, SCHEDULES["rectified"])
    x, guess, t = torch.ones(3, 4, 2).double(), torch.zeros(3, 4, 2).double(), T.reshape(3, 4)
    assert torch.allclose(objective(Point(guess), x, x, t), objective.weight(t).mean(1), rtol=1e-12)


def test_the_bound_of_a_product_is_the_sum_of_its_parts():
    number, word = Gaussian(), Masked(vocab_size=3)
    product = Product(parts={"number": number, "word": word})
    x = {"number": torch.ones(2, 3), "word": torch.tensor([[0, 1, 2], [2, 2, 2]])}
    x_t = {"number": torch.ones(2, 3), "word": torch.tensor([[3, 1, 3], [3, 3, 3]])}
    q = Joint({"number": Point(torch.zeros(2, 3)), "word": Categorical(torch.zeros(2, 3, 3))})
    t = torch.tensor([0.4, 0.8])
    each = ELBO(process=number)(q.parts["number"], x["number"], x_t["number"], t)
    each = each + ELBO(process=word)(q.parts["word"], x["word"], x_t["word"], t)
    assert torch.allclose(ELBO(process=product)(q, x, x_t, t), each)
    nested = ELBO(process=Product(parts={"row": product, "number": number}))
    rows = {"row": x, "number": x["number"]}, {"row": x_t, "number": x_t["number"]}
    both = nested(Joint({"row": q, "number": q.parts["number"]}), *rows, t)
    assert torch.allclose(both, each + ELBO(process=number)(q.parts["number"], x["number"], x_t["number"], t))


def test_the_bound_of_symbols_is_finite_at_time_zero_and_so_is_its_gradient():
    logits = torch.zeros(1, 2, 3, requires_grad=True)
    x = torch.tensor([[0, 1]])
    loss = ELBO(process=Masked(vocab_size=3))(Categorical(logits), x, x, torch.zeros(1))
    loss.sum().backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert bool((logits.grad == 0).all())


@EVERY
def test_the_bound_of_numbers_is_finite_at_time_one(schedule):
    one = torch.ones(1, dtype=torch.float64)
    loss = ELBO(process=Gaussian(schedule=schedule))(Point(torch.zeros(1, 2)), torch.ones(1, 2), torch.ones(1, 2), one)
    assert bool(loss.isfinite().all() and (loss >= 0).all())


# ---------------------------------------------------------------------------------------------------- uncertainty


def test_learned_uncertainty_starts_neutral_and_is_least_at_the_logarithm_of_the_loss():
    head = Uncertainty(features=8)
    loss, c_time = torch.tensor([0.2, 3.0]), torch.tensor([0.1, -0.7])
    assert head(loss, c_time).tolist() == pytest.approx([0.2, 3.0])  # u = 0
    for level in (0.2, 3.0):
        given = torch.full((2,), level)
        with torch.no_grad():
            head.linear.bias.fill_(math.log(level))
        best = head(given, c_time).sum()
        (gradient,) = torch.autograd.grad(best, head.linear.bias)
        assert abs(float(gradient)) < 1e-6
        assert best.item() == pytest.approx(2 * (1 + math.log(level)), abs=1e-6)
        with torch.no_grad():
            for u in (-0.5, 0.5):
                head.linear.bias.fill_(math.log(level) + u)
                assert head(given, c_time).sum() > best


def test_learned_uncertainty_is_a_function_of_its_seed():
    a, b, c = (Uncertainty(seed=seed) for seed in (0, 0, 1))
    assert torch.equal(a.frequency, b.frequency)
    assert not torch.equal(a.frequency, c.frequency)


def test_min_snr_is_capped():
    objective = WeightedMSE(process=Gaussian(), weighting="min_snr", gamma=2.0)
    assert objective.weight(torch.tensor([1e-4, 0.1]).double()).tolist() == [2, 2]


@pytest.mark.parametrize("gamma", [0.0, -1.0, math.nan, math.inf])
def test_a_bad_cap_is_refused(gamma):
    with pytest.raises(ValueError, match="gamma"):
        WeightedMSE(process=Gaussian(), gamma=gamma)
