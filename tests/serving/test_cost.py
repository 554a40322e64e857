"""The cost of calls is recovered from noisy ones, follows a change, and decides how large a batch is."""

import random

import pytest

from langevin.serving.cost import Cost


def observed(cost, a, b, calls=200, noise=0.0, seed=0):
    draw = random.Random(seed)
    for _ in range(calls):
        n = draw.choice((1, 2, 4, 8, 16)) * draw.choice((64, 256))
        cost.observe(n, (a + b * n) * (1 + noise * draw.uniform(-1, 1)))
    return cost


@pytest.mark.parametrize(("a", "b"), [(3e-3, 2e-6), (1e-4, 1e-5), (2e-2, 1e-7)])
def test_both_terms_are_recovered(a, b):
    assert observed(Cost(), a, b).fit() == pytest.approx((a, b), rel=1e-6)
    found = observed(Cost(), a, b, noise=0.05).fit()
    assert found[0] == pytest.approx(a, rel=0.5)
    assert found[1] == pytest.approx(b, rel=0.5)


def test_a_change_of_the_machine_is_followed():
    cost = observed(Cost(), 3e-3, 2e-6)
    observed(cost, 6e-3, 4e-6, calls=400)
    assert cost.fit() == pytest.approx((6e-3, 4e-6), rel=0.02)


def test_a_batch_keeps_the_overhead_within_its_share():
    """a / (a + b n) is the share, at most, unless one input is more than that."""
    cost = observed(Cost(overhead=0.1, most=1000), 3e-3, 2e-6)
    for size in (64, 256, 1024):
        n = cost.batch_size(size) * size
        assert 3e-3 / (3e-3 + 2e-6 * n) == pytest.approx(0.1, rel=0.1)
    assert cost.batch_size(10**6) == 1
    assert observed(Cost(most=4), 3e-3, 2e-6).batch_size(64) == 4


def test_as_long_as_little_is_known_batches_are_large():
    cost = Cost(most=7)
    assert cost.batch_size(64) == 7
    for _ in range(5):
        cost.observe(512, 0.1)
    assert cost.batch_size(64) == 7  # calls of one size say nothing of a
    assert cost.seconds(512) == pytest.approx(0.1)
    assert cost.remaining(1024, 64) == pytest.approx(0.2)
