"""Laws of the chain's likelihood: weighted paths give the density of the model that samples, and the bound is above it.

A denoiser D = k(t) y of the line makes the chain affine, so its law is Gaussian with a variance that a recursion gives:
exact, whether or not D is the posterior mean of anything. The family

    D = y (v + e s) / (v + s),   s = rho^2,  W = v + s from w_0 to w_1,  L = ln(w_1 / w_0)

is right for N(0, v) at e = 0 and for no data otherwise. In continuous time, from the prior of variance w_1,

    flow    variance w_0 e^{eL}: its divergence from the data, (e^{-eL} - 1 + eL) / 2, grows like e^2 L^2 / 4
    chain   variance w_0 (1 + (c - 1) e^{-cL}) / c, c = 1 - 2e: it forgets, within 1 / c for any L
    bound   above the entropy by the divergence of paths, e^2 L / 2

so for long ways the flow's divergence is above the chain's bound: no inequality orders the two, and the tests say so.
"""

import math
from itertools import pairwise

import pytest
import torch

from langevin.diffusion.importance import Importance
from langevin.diffusion.likelihood import (
    Decoded,
    Levels,
    bound,
    chain_likelihood,
    finite_bound,
    flow_likelihood,
)
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian
from tests import exact
from tests.laws.parts import FEW_SCHEDULES, SCHEDULES

EVERY = pytest.mark.parametrize("schedule", FEW_SCHEDULES.values(), ids=FEW_SCHEDULES)
V = 0.49
WIDE = Levels(
    scale=0.6, offset=-2.1, count=8
)  # over all that the chains reach: what lies beyond goes to the last levels
EIGHT = Levels(scale=0.25, offset=-0.875, count=8)


class Greedy:
    """D = y (v + e s) / (v + s)."""

    def __init__(self, schedule, e):
        self.schedule, self.e = schedule, e

    def gain(self, s):
        return (V + self.e * s) / (V + s)

    def __call__(self, x_t, t, condition=None):
        a, sigma = self.schedule.alpha(t)[:, None], self.schedule.sigma(t)[:, None]
        return Point(self.gain((sigma / a) ** 2) * x_t / a)

    def chain(self, log_snr):
        """Variance of x decoded from the chain along log-SNR."""
        s = torch.exp(-log_snr)
        total = V + s[0]
        for a, b in pairwise(s):
            r = b / a
            total = (r + (1 - r) * self.gain(a)) ** 2 * total + b * (1 - r)
        return total + s[-1]


def nats(x, variance):
    return 0.5 * (x.square() / variance + math.log(2 * math.pi * variance)).sum(1)


def rows(count, places=2):
    return V**0.5 * torch.randn(count, places, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@EVERY
@pytest.mark.parametrize("e", [0.0, 0.15, -0.2])
def test_weighted_paths_give_the_density_of_the_chain_of_any_linear_denoiser(schedule, e):
    process, model, x = Gaussian(schedule=schedule, sigma_data=V**0.5), Greedy(schedule, e), rows(12)
    log_snr = torch.linspace(-5, 5, 41, dtype=torch.float64)
    got = chain_likelihood(model, process, x, schedule.time(log_snr), paths=800, batch=10**6)
    true = nats(x, float(model.chain(log_snr)))
    spread = (1 / got.effective - 1 / 800).sqrt()  # relative standard error of the mean weight
    assert bool(((got.exact - true).abs() < 6 * spread + 1e-9).all())
    assert float(spread.max()) < 0.16
    assert bool((got.bound > got.exact).all())


@EVERY
def test_the_mean_of_the_weights_logarithm_is_the_bound_on_the_same_grid(schedule):
    process, model, x = Gaussian(schedule=schedule, sigma_data=V**0.5), Greedy(schedule, 0.2), rows(20)
    times = schedule.time(torch.linspace(-5, 5, 31, dtype=torch.float64))
    paths = chain_likelihood(model, process, x, times, paths=300, batch=10**6)
    other = finite_bound(model, process, x, times, draws=60).nats
    error = 5 * math.hypot(*(float(n.mean(0).std()) / n.shape[1] ** 0.5 for n in (paths.log_weights, other)))
    assert float(paths.bound.mean()) == pytest.approx(float(other.mean()), abs=error)


def test_levels_have_the_probability_that_the_chain_gives_them():
    """The probabilities of all levels add up to one, and the bound lies above each."""
    schedule = SCHEDULES["cosine"]
    points = WIDE.values(torch.zeros(1, dtype=torch.float64))[:, None]
    process, model = Gaussian(schedule=schedule, sigma_data=V**0.5), Greedy(schedule, 0.1)
    times = schedule.time(torch.linspace(-4, 4, 41, dtype=torch.float64))
    got = chain_likelihood(model, process, points, times, levels=WIDE, paths=2000, batch=10**6)
    spread = torch.exp(-2 * got.exact) @ (1 / got.effective)
    assert float(torch.exp(-got.exact).sum()) == pytest.approx(1, abs=5 * float(spread.sqrt()))
    assert bool((got.bound > got.exact).all())


@EVERY
def test_paths_of_the_exact_denoiser_all_weigh_what_the_mixture_does_as_steps_become_small(schedule):
    data, gaps = exact.white_clouds(schedule), []
    process, x = Gaussian(schedule=schedule, sigma_data=0.6), data.draw(20, torch.Generator().manual_seed(2))
    true = -data.log_density(x, torch.zeros(20, dtype=torch.float64))
    for steps in (50, 200):
        times = schedule.time(torch.linspace(-6.5, 9, steps + 1, dtype=torch.float64))
        got = chain_likelihood(data, process, x, times, paths=100, batch=10**6)
        assert bool((got.bound > got.exact).all())
        gaps.append(float((got.bound - true).mean()))
    assert float((got.exact - true).abs().mean()) < 0.1
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.4)


def test_more_paths_bring_the_estimate_down_and_never_below_in_the_mean():
    schedule = SCHEDULES["rectified"]
    process, model, x = Gaussian(schedule=schedule, sigma_data=V**0.5), Greedy(schedule, 0.3), rows(150, 4)
    log_snr = torch.linspace(-6, 5, 25, dtype=torch.float64)
    true = float(nats(x, float(model.chain(log_snr))).mean())
    times, found = schedule.time(log_snr), []
    for paths in (1, 8, 64, 512):
        got = chain_likelihood(model, process, x, times, paths=paths, batch=10**6)
        found.append(float(got.exact.mean()))
        assert bool((got.bound >= got.exact - 1e-12).all())
    assert found[0] > found[1] + 0.2 > found[2] + 0.3 > found[3] + 0.3
    assert true < found[3] < true + 0.3


def test_the_chain_is_bounded_and_the_flow_of_the_same_network_is_not():
    """e = 0.1 along L = 11: the closed forms of the module, and the flow's divergence above the chain's bound."""
    schedule, e = SCHEDULES["variance_exploding"], 0.1
    process, model = Gaussian(schedule=schedule, sigma_data=V**0.5), Greedy(schedule, e)
    first, last = 9.0, -7.0
    x, w_0, w_1 = rows(400), V + math.exp(-first), V + math.exp(-last)
    length, c = math.log(w_1 / w_0), 1 - 2 * e
    fine = torch.linspace(last, first, 20001, dtype=torch.float64)
    chain = w_0 * (1 + (c - 1) * math.exp(-c * length)) / c
    assert float(model.chain(fine)) == pytest.approx(chain + math.exp(-first), rel=2e-3)
    flow = flow_likelihood(model, process, x, first=first, last=last, steps=64)
    assert torch.allclose(flow.nats[:, 0], nats(x, w_0 * math.exp(e * length)), atol=1e-4)
    entropy = float(nats(x, w_0).mean())
    terms = bound(model, process, x, density=Importance(log_snr=(last, first)), times=40, draws=8).nats
    error = 5 * float(terms.mean(0).std()) / 8**0.5
    assert float(terms.mean()) - entropy == pytest.approx(e * e * length, abs=error + 0.03)  # two places of e^2 L / 2
    on_chain = float(nats(x, chain).mean())
    assert on_chain < float(terms.mean()) < float(flow.nats.mean()) - 0.05


def test_noise_two_sample_accuracy_by_the_decoder_is_the_bounds_own_end():
    """With the flow asked at the same y, only what happens between the ends differs from the bound."""
    schedule = SCHEDULES["rectified"]
    points = EIGHT.values(torch.zeros(1, dtype=torch.float64))[:, None]
    p = torch.tensor([1.0, 5, 9, 6, 2, 4, 3, 1], dtype=torch.float64) / 31
    process = Gaussian(schedule=schedule, sigma_data=float((p * points[:, 0].square()).sum().sqrt()))
    data = exact.Empirical(schedule=schedule, points=points, weights=p)
    for first in (4.0, 6.0):  # noise a bin and a third of a bin wide
        many, names = points.repeat(400, 1), torch.arange(3200)
        found = flow_likelihood(
            data, process, many, levels=EIGHT, dequantise=Decoded(), first=first, steps=64, names=names
        )
        mean = float(found.nats[:, 0].view(400, 8).mean(0) @ p)
        chain = bound(data, process, points, levels=EIGHT, density=Importance(log_snr=(-12.0, first)), draws=60)
        total = chain.nats.T @ p
        errors = 5 * math.hypot(
            float((found.nats[:, 0].view(400, 8) @ p).std()) / 20, float(total.std()) / math.sqrt(60)
        )
        assert mean == pytest.approx(float(total.mean()), abs=errors + 5e-3)
        assert mean > float(-(p * p.log()).sum()) - errors


def test_a_rows_paths_depend_on_its_name_alone():
    schedule = SCHEDULES["cosine"]
    process, model, x = Gaussian(schedule=schedule, sigma_data=V**0.5), Greedy(schedule, 0.1), rows(5)
    times, names = schedule.time(torch.linspace(-4, 4, 9, dtype=torch.float64)), torch.arange(5) + 30
    whole = chain_likelihood(model, process, x, times, paths=3, names=names)
    part = chain_likelihood(model, process, x[1:3], times, paths=3, batch=4, names=names[1:3])
    assert torch.allclose(whole.log_weights[1:3], part.log_weights, rtol=1e-12)
    other = chain_likelihood(model, process, x[1:3], times, paths=3, names=names[1:3], seed=1)
    assert not torch.allclose(other.log_weights, part.log_weights, rtol=1e-3)


@pytest.mark.parametrize(("times", "paths", "words"), [
    ([0.5, 0.0], 2, "fall within"), ([0.2, 0.5], 2, "fall within"), ([0.5], 2, "two or more times"),
    ([0.5, 0.1], 0, "at least 1"),
])  # fmt: skip
def test_what_is_no_chain_is_refused(times, paths, words):
    process = Gaussian(sigma_data=V**0.5)
    with pytest.raises(ValueError, match=words):
        chain_likelihood(Greedy(process.schedule, 0), process, rows(2), torch.tensor(times), paths=paths)
