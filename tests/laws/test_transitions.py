"""The laws of steps: what a sampler draws, densities, and divergences by their closed forms and by enumeration."""

import itertools
import math

import pytest
import torch

from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import Categorical, MaskedCategorical, Point
from langevin.diffusion.process import Gaussian, Masked, UniformDiffusion
from langevin.diffusion.sampler import DDIM, DDPM, DPM2M, Ancestral, AncestralUnmask, TokenSampling, sample, start
from langevin.diffusion.schedule import Rectified
from langevin.diffusion.transitions import transitions_of
from tests import exact
from tests.laws.parts import FEW_SCHEDULES

SAMPLERS = [Ancestral(), DDIM(eta=1.0), DDIM(eta=0.4), DDPM(), DDPM(variance="posterior")]
T, S = torch.tensor([0.9, 0.5, 0.3], dtype=torch.float64), torch.tensor([0.7, 0.2, 0.25], dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("schedule", FEW_SCHEDULES.values(), ids=FEW_SCHEDULES)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_a_normal_step_is_what_its_sampler_draws(sampler, schedule):
    process, denoiser = Gaussian(schedule=schedule), exact.Scalar(schedule=schedule)
    law, times = transitions_of(sampler, process), torch.tensor([0.95, 0.6, 0.2, 0.0], dtype=torch.float64)
    state = start(sampler, process, torch.zeros(5, 2).double(), times.expand(5, 4), torch.arange(5))
    for after in sample(sampler, process, denoiser, state):
        t, s, noise = state.time(), state.time(1), state.noise.normal(state.x)
        a, b, c = (part[:, None] for part in law.step(t, s))
        torch.testing.assert_close(after.x, a * state.x + b * denoiser(state.x, t).mean + c * noise)
        found = law.log_probability(denoiser(state.x, t), state.x, after.x, t, s)
        ends = bool((s == 0).all())
        assert bool((law.random(t, s) == (not ends)).all())
        torch.testing.assert_close(found, torch.zeros(5).double() if ends else -0.5 * noise.square().sum(1))
        state = after


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_the_divergence_of_normal_steps_is_that_of_normal_laws_and_0_at_the_reference(sampler):
    law = transitions_of(sampler, Gaussian())
    x_t, ours, theirs = normal(3, 4), Point(normal(3, 4, seed=1)), Point(normal(3, 4, seed=2))
    a, b, c = (part[:, None] for part in law.step(T, S))
    first, second = (torch.distributions.Normal(a * x_t + b * q.mean, c) for q in (ours, theirs))
    expected = torch.distributions.kl_divergence(first, second).sum(1)
    torch.testing.assert_close(law.divergence(ours, theirs, x_t, T, S), expected)
    assert bool((law.divergence(ours, ours, x_t, T, S) == 0).all())
    x_s = normal(3, 4, seed=3)  # and the densities differ by what the normal laws' do
    ratio = law.log_probability(ours, x_t, x_s, T, S) - law.log_probability(theirs, x_t, x_s, T, S)
    torch.testing.assert_close(ratio, (first.log_prob(x_s) - second.log_prob(x_s)).sum(1))


def test_an_ancestral_step_diverges_by_half_the_snr_it_gains_times_the_squared_difference():
    law, schedule = transitions_of(Ancestral(), Gaussian()), Rectified()
    ours, theirs = Point(normal(3, 4)), Point(normal(3, 4, seed=1))
    gained = schedule.log_snr(S).exp() - schedule.log_snr(T).exp()
    expected = 0.5 * gained * (ours.mean - theirs.mean).square().sum(1)
    torch.testing.assert_close(law.divergence(ours, theirs, normal(3, 4), T, S), expected)


def test_a_masked_step_by_enumeration():
    """Two masked positions and a visible one, of three tokens: every x_s with its probability."""
    process = Masked(vocab_size=3)
    law, x_t = transitions_of(Ancestral(), process), torch.tensor([[3, 1, 3]])
    t, s = torch.tensor([0.8]).double(), torch.tensor([0.3]).double()
    ours, theirs = (Categorical(normal(1, 3, 3, seed=seed)) for seed in (1, 2))
    reveal = 0.5 / 0.8
    outcomes = [torch.tensor([[i, 1, j]]) for i, j in itertools.product(range(4), repeat=2)]

    def log_law(q, x_s):
        p, total = q.logits.softmax(-1)[0], 0.0
        for i in (0, 2):
            token = int(x_s[0, i])
            total += math.log(1 - reveal) if token == 3 else math.log(reveal * float(p[i, token]))
        return total

    expected = sum(math.exp(log_law(ours, x)) * (log_law(ours, x) - log_law(theirs, x)) for x in outcomes)
    assert float(law.divergence(ours, theirs, x_t, t, s)) == pytest.approx(expected)
    assert float(law.divergence(ours, ours, x_t, t, s)) == 0
    for x in outcomes:
        ratio = law.log_probability(ours, x_t, x, t, s) - law.log_probability(theirs, x_t, x, t, s)
        assert float(ratio) == pytest.approx(log_law(ours, x) - log_law(theirs, x))
    sparse = MaskedCategorical(ours.logits[0, [0, 2]], x_t == 3, x_t)  # logits at masked positions alone
    other = MaskedCategorical(theirs.logits[0, [0, 2]], x_t == 3, x_t)
    assert float(law.divergence(sparse, other, x_t, t, s)) == pytest.approx(expected)
    assert float(law.log_probability(sparse, x_t, outcomes[0], t, s)) == pytest.approx(
        float(law.log_probability(ours, x_t, outcomes[0], t, s))
    )


def test_what_is_drawn_from_a_masked_step_has_the_probabilities():
    process, count = Masked(vocab_size=2), 20_000
    x_t, q = torch.full((count, 1), 2), Categorical(torch.tensor([0.3, -0.5]).expand(count, 1, 2))
    t, s = (torch.full((count,), value).double() for value in (1.0, 0.0))
    noise = SampleNoise(seeds=torch.arange(count), steps=torch.zeros(count, dtype=torch.int64))
    x_s = process.transition(q, x_t, t, s, noise)
    likely = transitions_of(Ancestral(), process).log_probability(q, x_t, x_s, t, s).exp()
    for token in (0, 1):
        at = x_s[:, 0] == token
        p = float(likely[at][0])
        assert abs(float(at.double().mean()) - p) < 4 * math.sqrt(p * (1 - p) / count)


@pytest.mark.parametrize(
    ("sampler", "process"),
    [
        (DPM2M(), Gaussian()), (DDIM(), Gaussian()), (AncestralUnmask(), Masked(vocab_size=3)),
        (Ancestral(tokens=TokenSampling(temperature=0.5)), Masked(vocab_size=3)),
        (Ancestral(), UniformDiffusion(vocab_size=3)),
    ],
    ids=lambda part: part.kind,
)  # fmt: skip
def test_a_sampler_without_a_known_density_is_refused(sampler, process):
    with pytest.raises(ValueError, match="take ancestral"):
        transitions_of(sampler, process)


def test_the_divergence_of_a_masked_step_has_a_gradient_where_a_token_is_excluded():
    law = transitions_of(Ancestral(), Masked(vocab_size=3))
    x = torch.tensor([[3, 1], [3, 3]])
    hidden = x == 3
    logits = normal(3, 3).requires_grad_()
    excluded = torch.tensor([True, False, False]).expand(3, 3)
    ours, theirs = (
        MaskedCategorical(v.masked_fill(excluded, -torch.inf), hidden, x) for v in (logits, normal(3, 3, seed=1))
    )
    two = (MaskedCategorical(v[:, 1:], hidden, x) for v in (logits, normal(3, 3, seed=1)))  # without that token
    found, expected = (law.divergence(*pair, x, T[:2], S[:2]) for pair in ((ours, theirs), two))
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad(part.sum(), logits, retain_graph=True)[0] for part in (found, expected)]
    torch.testing.assert_close(*slopes)
