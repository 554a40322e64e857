"""A loss that rises and stays finite is noticed, the run goes back, and noise or one spike is not a rise."""

import json
import math

import pytest
import torch

from langevin.training.trend import LossTrend


def after(losses, **start):
    trend = LossTrend(**start)
    for loss in losses:
        trend.add(loss)
    return trend


def test_the_smooth_loss_is_the_exponential_moving_average():
    losses = torch.rand(300, generator=torch.Generator().manual_seed(0)).tolist()
    weights = [0.98**299, *(0.02 * 0.98 ** (299 - k) for k in range(1, 300))]
    assert math.isclose(after(losses).smooth, math.fsum(w * x for w, x in zip(weights, losses)), rel_tol=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1395.0])
def test_a_rise_that_lasts_is_noticed_at_any_scale_and_noise_is_not(scale):
    noise = (1 + 5 * torch.rand(2000, generator=torch.Generator().manual_seed(1))).tolist()
    calm = [scale * x for x in noise]
    assert not after(calm).has_risen(2000)
    assert not after(calm).is_far
    risen = after(calm + [100 * scale] * 100)
    assert risen.has_risen(2000)
    assert risen.is_far


def test_a_spike_is_no_rise():
    assert not after([1.0] * 50 + [1e9] + [1.0] * 20).has_risen(1000)
    assert after([1.0] * 50 + [1e9] * 50).has_risen(1000)


def test_negative_losses_have_a_trend_too():
    falling = [-0.01 * k for k in range(1000)]
    assert not after(falling).has_risen(1000)
    assert after(falling + [200.0] * 50).has_risen(1000)


def test_a_trend_comes_back_from_json_and_a_loss_that_is_not_finite_changes_nothing():
    for trend in (LossTrend(), after([1.0, 0.5, 300.0]), after([1.0, math.nan, math.inf, 0.5, 300.0])):
        assert str(LossTrend.from_json(json.loads(json.dumps(trend.to_json())))) == str(trend)
    assert after([1.0, math.nan, math.inf, 0.5]) == after([1.0, 0.5])
