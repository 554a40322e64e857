"""Laws of the variational bound: never below the true negative log-likelihood, and equal to it for an exact denoiser.

Expectations are sums and quadratures, not draws.

Symbols. With m of n places hidden, a pattern has probability t^m (1 - t)^(n - m), so the bound of a word is

    int_0^1 sum_patterns t^m (1 - t)^(n - m) / t  sum_hidden -ln q(x_i | shown) dt,

a polynomial in t, exact with a few Gauss nodes. As int t^(m-1) (1 - t)^(n - m) dt weighs the patterns like a place
revealed next in a random order, the exact conditionals make it the chain rule averaged over orders: -ln p(word) itself,
word by word, for any law.

Numbers. For x ~ N(0, v) and the exact denoiser, with I the information that x_t holds about x,

    E prior = I(x; x_1) + KL(law of x_1 || prior),   E int_{t_0}^1 diffusion = I(x; x_{t_0}) - I(x; x_1)   (I-MMSE),

and the end term E[-ln p(x | x_{t_0})] = H(x) - I(x; x_{t_0}): the sum is the entropy H(x) plus that KL, which is zero
where the process knows the data's standard deviation.
"""

import itertools
import math

import pytest
import torch

from langevin.diffusion.posterior import Categorical, Point
from langevin.diffusion.process import Gaussian, Masked
from tests import exact
from tests.laws.parts import SCHEDULES

EVERY = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def gauss_legendre(n: int, low: float, high: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes and weights on [low, high] by Golub and Welsch."""
    i = torch.arange(1, n, dtype=torch.float64)
    off = i / (4 * i * i - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return low + (high - low) * (nodes + 1) / 2, (high - low) * vectors[0] ** 2


def bound_of_words(law: exact.Enumerated, denoiser) -> torch.Tensor:
    """(words,): the bound of each word."""
    process, words, total = Masked(vocab_size=law.vocab_size), law.words, torch.zeros(len(law.p), dtype=torch.float64)
    for t, weight in zip(*gauss_legendre(law.places + 1, 0, 1), strict=True):
        for pattern in itertools.product((False, True), repeat=law.places):
            m = sum(pattern)
            x_t = torch.where(torch.tensor(pattern), process.mask, words)
            times = t.expand(len(words))
            terms = process.bound(denoiser(x_t, times, None), words, x_t, times)
            chance = t**m * (1 - t) ** (law.places - m)
            total += weight * chance * terms.diffusion.sum(1)
    return total


@pytest.mark.parametrize("make", [exact.entangled, exact.factorised])
def test_the_bound_of_symbols_with_the_exact_posterior_is_the_log_likelihood_word_by_word(make):
    law = make()
    assert torch.allclose(bound_of_words(law, law), -law.p.log(), rtol=1e-10)


@pytest.mark.parametrize("bend", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("make", [exact.entangled, exact.factorised])
def test_the_bound_of_symbols_with_any_other_posterior_is_above_the_entropy(make, bend):
    law = make()
    noise = torch.randn(64, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def bent(x_t, t, condition):
        key = (x_t * torch.tensor([16, 4, 1])).sum(1)  # another error for each question
        return Categorical(law(x_t, t).logits + bend * noise[key])

    entropy = float(-(law.p * law.p.log()).sum())
    average = float((law.p * bound_of_words(law, bent)).sum())
    assert entropy + 1e-4 < average


def test_ignoring_what_is_shown_costs_the_information_that_places_share():
    law = exact.entangled()
    alone = law.marginals(torch.full((1, 3), 3))[0]  # each place's law, as if the others told nothing

    def ignorant(x_t, t, condition):
        return Categorical(alone.log().expand(len(x_t), 3, 3))

    sum_of_entropies = float(-(alone * alone.log()).sum())
    average = float((law.p * bound_of_words(law, ignorant)).sum())
    assert average == pytest.approx(sum_of_entropies, rel=1e-10)
    assert average > float(-(law.p * law.p.log()).sum()) + 0.1


# ------------------------------------------------------------------------------------------------------- numbers


def hermite() -> tuple[torch.Tensor, torch.Tensor]:
    """Four nodes and weights of a standard normal: exact for polynomials up to degree seven."""
    off = torch.arange(1, 4, dtype=torch.float64).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return nodes, vectors[0] ** 2


def expected_terms(process: Gaussian, variance: float, t: torch.Tensor):
    """(E prior, E diffusion (times,)) for x ~ N(0, variance) and its exact denoiser."""
    denoiser = exact.Scalar(schedule=process.schedule, mean=0.0, variance=variance)
    nodes, weights = hermite()
    x = (math.sqrt(variance) * nodes).repeat_interleave(4).expand(len(t), 16)
    eps, weight = nodes.repeat(4), weights.repeat_interleave(4) * weights.repeat(4)
    x_t = process.schedule.alpha(t)[:, None] * x + process.schedule.sigma(t)[:, None] * eps
    terms = process.bound(denoiser(x_t, t), x, x_t, t)
    return float((terms.prior[0] * weight).sum()), (terms.diffusion * weight).sum(1)


@EVERY
@pytest.mark.parametrize("variance", [0.49, 0.2, 1.5])
def test_the_bound_of_numbers_with_the_exact_denoiser_is_the_entropy(schedule, variance):
    process, first = Gaussian(schedule=schedule, sigma_data=0.7), 9.0
    end = float(schedule.log_snr(torch.ones(1, dtype=torch.float64)).clamp_min(-70))
    log_snr, weights = gauss_legendre(120, end, first)  # dt = d log_snr / rate
    t = schedule.time(log_snr)
    prior, diffusion = expected_terms(process, variance, t)
    integral = float((weights * diffusion / schedule.rate(t).abs()).sum())
    left = 1 / (1 / variance + math.exp(first))  # variance of x given x_{t_0}
    bound = prior + integral + 0.5 * math.log(2 * math.pi * math.e * left)
    entropy = 0.5 * math.log(2 * math.pi * math.e * variance)
    one = torch.ones(1, dtype=torch.float64)
    a, s = float(schedule.alpha(one)) ** 2, float(schedule.sigma(one)) ** 2
    ratio = (a * variance + s) / (a * 0.49 + s)
    assert bound == pytest.approx(entropy + 0.5 * (ratio - 1 - math.log(ratio)), abs=1e-8)


@EVERY
def test_the_bound_does_not_depend_on_the_schedule_but_for_its_end(schedule):
    """At equal log-SNR the integrand over log-SNR is the same: half the mean squared error times SNR."""
    log_snr = torch.linspace(-6, 8, 29, dtype=torch.float64)
    t = schedule.time(log_snr)
    diffusion = expected_terms(Gaussian(schedule=schedule), 0.3, t)[1] / schedule.rate(t).abs()
    snr = log_snr.exp()
    assert torch.allclose(diffusion, 0.5 * snr / (1 / 0.3 + snr), rtol=1e-9)


@EVERY
def test_places_that_are_known_add_nothing_to_the_bound_or_its_gradient(schedule):
    process, x = Gaussian(schedule=schedule), torch.ones(2, 3)
    t = torch.tensor([[0.0, 0.3, 0.8], [0.5, 0.0, 0.2]], dtype=torch.float64)
    answer = torch.where(t == 0, x, 0.5).requires_grad_()
    diffusion = process.bound(Point(answer), x, x, t).diffusion
    diffusion.sum().backward()
    assert torch.equal(diffusion == 0, t == 0)
    assert bool(answer.grad.isfinite().all())


@EVERY
def test_terms_come_a_value_a_place(schedule):
    process, t = Gaussian(schedule=schedule), torch.tensor([0.3, 0.8])
    x = torch.ones(2, 3, 4)
    terms = process.bound(exact.Scalar(schedule=schedule)(x, t), x, x, t)
    assert terms.prior.shape == terms.diffusion.shape == terms.reconstruction.shape == x.shape
    assert bool((terms.reconstruction == 0).all())
