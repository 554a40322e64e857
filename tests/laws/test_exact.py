"""The closed-form denoisers of `tests.exact` are what they claim, by Tweedie's formula and by counting."""

import pytest
import torch

from tests import exact
from tests.laws.parts import SCHEDULES

EVERY = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
T = torch.tensor([0.05, 0.3, 0.6, 0.9], dtype=torch.float64)


@EVERY
def test_the_mixture_obeys_tweedie(schedule):
    data = exact.Mixture(schedule=schedule)
    a, s = schedule.alpha(T)[:, None], schedule.sigma(T)[:, None]
    x_t = (torch.linspace(-2, 2, 9, dtype=torch.float64) * (a * a + s * s).sqrt()).requires_grad_()
    (score,) = torch.autograd.grad(data.log_density(x_t, T).sum(), x_t)
    assert torch.allclose(data(x_t, T).mean, (x_t + s * s * score) / a, rtol=1e-7, atol=1e-7)


@EVERY
def test_the_mixture_flow_follows_its_velocity(schedule):
    data, t = exact.Mixture(schedule=schedule), T
    p = torch.linspace(0.02, 0.98, 7, dtype=torch.float64).expand(4, 7)
    x_t, step = data.quantile(p, t), 1e-4
    assert torch.allclose(data.cdf(x_t, t), p, atol=1e-12)
    canonical = [data.quantile(p, s) / schedule.alpha(s)[:, None] for s in (t - step * t, t + step * t)]
    ratio = [(schedule.sigma(s) / schedule.alpha(s))[:, None] for s in (t - step * t, t + step * t)]
    slope = (canonical[1] - canonical[0]) / (ratio[1] - ratio[0])  # dy / drho = eps
    a, s = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
    assert torch.allclose(slope, (x_t - a * data(x_t, t).mean) / s, rtol=1e-5, atol=1e-5)


@EVERY
def test_the_gaussians_agree_with_each_other_and_with_a_one_component_mixture(schedule):
    x_t = torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(4, 3)
    scalar = exact.Scalar(schedule=schedule, mean=0.3, variance=0.49)
    full = exact.Gaussian(
        schedule=schedule, mean=torch.full((3,), 0.3, dtype=torch.float64), cov=0.49 * torch.eye(3, dtype=torch.float64)
    )
    mixture = exact.Mixture(schedule=schedule, weights=(1.0,), means=(0.3,), stds=(0.7,))
    for other in (full, mixture):
        assert torch.allclose(scalar(x_t, T).mean, other(x_t, T).mean, rtol=1e-12, atol=1e-12)


@EVERY
def test_the_ideal_denoiser_is_a_mixture_of_spikes(schedule):
    points, weights = torch.tensor([[-1.0], [0.2], [0.9]]).double(), torch.tensor([0.2, 0.5, 0.3]).double()
    ideal = exact.Empirical(schedule=schedule, points=points, weights=weights)
    spikes = exact.Mixture(schedule=schedule, weights=(0.2, 0.5, 0.3), means=(-1.0, 0.2, 0.9), stds=(0.0, 0.0, 0.0))
    x_t = torch.linspace(-1, 1, 4, dtype=torch.float64)[:, None]
    assert torch.allclose(ideal(x_t, T).mean, spikes(x_t, T).mean, rtol=1e-7, atol=1e-8)


def test_the_enumerated_posterior_counts_words():
    law = exact.entangled()
    x_t = torch.tensor([[3, 3, 3], [1, 3, 2], [0, 1, 2]])
    got = law.marginals(x_t)
    p = law.p.reshape(3, 3, 3)
    assert torch.allclose(got[0], torch.stack([p.sum((1, 2)), p.sum((0, 2)), p.sum((0, 1))]))
    assert torch.allclose(got[1, 1], p[1, :, 2] / p[1, :, 2].sum())
    assert torch.equal(got[2].argmax(-1), x_t[2])
    assert torch.equal(law.words[law.index(law.words)], law.words)
