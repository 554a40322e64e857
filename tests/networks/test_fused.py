"""The fused functions are the formulas: values, first derivatives, types; a second derivative is refused."""

import pytest
import torch
import torch.nn.functional as F

from langevin.networks.fused import EPS, Dropout, rms_norm, squared_relu

FORMULAS = [(rms_norm, lambda x: F.rms_norm(x, (x.shape[-1],), eps=EPS)), (squared_relu, lambda x: F.relu(x).square())]


@pytest.mark.parametrize(("fused", "formula"), FORMULAS)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_values_and_derivatives_are_those_of_the_formula(fused, formula, scale):
    x = (scale * torch.randn(3, 5, 8, dtype=torch.float64)).requires_grad_()
    same = x.detach().clone().requires_grad_()
    g = torch.randn(3, 5, 8, dtype=torch.float64)
    y, z = fused(x), formula(same)
    torch.testing.assert_close(y, z, rtol=1e-12, atol=1e-14)
    y.backward(g)
    z.backward(g)
    torch.testing.assert_close(x.grad, same.grad, rtol=1e-10, atol=1e-12 * scale)


@pytest.mark.parametrize("fused", [rms_norm, squared_relu])
def test_derivatives_are_those_of_differences(fused):
    x = torch.randn(2, 3, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(fused, (x,))


@pytest.mark.parametrize(("fused", "formula"), FORMULAS)
def test_half_precision_is_rounded_once(fused, formula):
    x = torch.randn(64, 128).bfloat16()
    exact = formula(x.double())
    assert fused(x).dtype == torch.bfloat16
    assert float((fused(x).double() - exact).abs().max() / exact.abs().max()) < 2**-8


@pytest.mark.parametrize("fused", [rms_norm, squared_relu])
def test_a_second_derivative_is_refused(fused):
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(fused(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError):
        first.sum().backward()


def test_rows_of_zeros_stay_finite():
    x = torch.zeros(2, 4, requires_grad=True)
    rms_norm(x).sum().backward()
    assert bool(torch.isfinite(x.grad).all())


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_its_share_and_the_mean_and_its_derivative_has_the_same_mask(p):
    dropout, x = Dropout(p), torch.ones(401, 499).requires_grad_()
    y = dropout(x)
    y.backward(torch.full_like(y, 3.0))
    kept = float((y != 0).double().mean())
    assert abs(kept - (1 - p)) < 5 * (p * (1 - p) / y.numel()) ** 0.5 + 2**-16
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - p)), rtol=2e-4, atol=0)
    torch.testing.assert_close(x.grad, 3 * y.detach())
    neighbours = (y[:, 1:] != 0) & (y[:, :-1] != 0)  # the four draws of one number are independent
    assert abs(float(neighbours.double().mean()) - (1 - p) ** 2) < 0.006
    assert dropout.eval()(x) is x


def test_dropout_repeats_with_the_seed_and_survives_a_probability_next_to_one():
    x = torch.ones(1001)
    draws = [Dropout(0.3)(x) for _ in range(2) if torch.manual_seed(4)]
    assert torch.equal(*draws)
    assert torch.isfinite(Dropout(1 - 1e-9)(x)).all()
