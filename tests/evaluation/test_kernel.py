import math

import pytest
import torch

from langevin.evaluation.kernel import kernel_distance


def naive(x, y) -> float:
    def k(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    m, n = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    within_y = sum(k(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return within_x + within_y - 2 * sum(k(a, b) for a in x for b in y) / (m * n)


def pair(m, n, d, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(m, d, generator=generator, dtype=torch.float64)
    return x, scale * torch.randn(n, d, generator=generator, dtype=torch.float64)


def test_equals_the_double_loop_and_its_jackknife():
    x, y = pair(9, 7, 3, 0, 1.4)
    value, error = kernel_distance(x, y)
    assert value == pytest.approx(naive(x, y), rel=1e-12)
    left_x = torch.tensor([naive(torch.cat([x[:i], x[i + 1 :]]), y) for i in range(9)], dtype=torch.float64)
    left_y = torch.tensor([naive(x, torch.cat([y[:i], y[i + 1 :]])) for i in range(7)], dtype=torch.float64)
    assert error == pytest.approx(math.sqrt(8 * left_x.var(correction=0) + 6 * left_y.var(correction=0)), rel=1e-10)


@pytest.mark.parametrize("block", [50, 1000])
def test_mean_is_zero_for_one_law_and_the_error_covers_it(block):
    draws = torch.tensor([kernel_distance(*pair(200, 150, 4, seed), block=block) for seed in range(100)])
    values, errors = draws.unbind(1)
    assert abs(values.mean()) < 3 * values.std() / 10
    assert 0.9 < errors.mean() / values.std() < 2  # conservative where the distributions are equal
    assert (values.abs() < 3 * errors).all()


def test_sees_another_law_and_does_not_depend_on_the_order_of_rows_within_a_block():
    x, y = pair(400, 300, 6, 1, 1.6)
    value, error = kernel_distance(x, y)
    assert value > 5 * error
    assert kernel_distance(x.flip(0), y)[0] == pytest.approx(value, rel=1e-10)


def test_few_samples():
    x, y = pair(2, 5, 3, 0)
    value, error = kernel_distance(x, y)
    assert value == pytest.approx(naive(x, y))
    assert math.isnan(error)
    with pytest.raises(ValueError, match="at least 2 samples"):
        kernel_distance(x[:1], y)
    with pytest.raises(ValueError, match="needs \\(m, d\\)"):
        kernel_distance(x, y[:, :2])


def test_a_set_that_is_much_larger_than_the_other_takes_no_more_than_some_blocks():
    """All of it would take 80 GB; a part of it gives an estimate of the same mean."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(100_000, 2, generator=generator)
    same, error = kernel_distance(real, torch.randn(50, 2, generator=generator))
    assert abs(same) < 4 * error
    apart, error = kernel_distance(real, torch.randn(50, 2, generator=generator) + 2)
    assert apart > 4 * error
