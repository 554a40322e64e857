"""Attribution: gradients of the run's own losses, the curvature of a quadratic one, and what is kept."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.objective import LogNormal, WeightedMSE
from langevin.diffusion.process import Gaussian
from langevin.evaluation.influence import Curvature
from langevin.methods import Diffusion
from langevin.run.attribute import Gradients, Settings, distances, influences

PROCESS = Gaussian(sigma_data=1.0)
X = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))


class Linear(nn.Module):
    """F(x) = W x, so that the loss is a quadratic function of W: linear-Gaussian denoising."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([[0.5, 0.1], [-0.2, 0.3]]))

    def forward(self, x, c_time, condition):
        return x @ self.w.T


def linear(**changes):
    """Gradients of a linear model that was trained on nothing yet."""
    network = Linear()
    method = Diffusion(
        process=PROCESS, denoiser=GaussianDenoiser(network=network, process=PROCESS), network=network,
        objective=WeightedMSE(process=PROCESS), times=LogNormal(), schedule=PROCESS.schedule,
    )  # fmt: skip
    model = SimpleNamespace(parts=SimpleNamespace(method=method, network=network))
    return Gradients(model=model, settings=Settings(**{"draws": 4, "size": None, **changes}))


def loss_of(gradients, w, name):
    """The loss of an example as a function of W, on the noises of its name."""
    network, method = gradients.model.parts.network, gradients.model.parts.method
    samples = torch.arange(gradients.settings.draws)
    draw = step_randomness(seed=0, step=name, samples=samples, count=len(samples))
    batch = Batch(x=X[name : name + 1].expand(len(samples), 2))

    def call(x, c_time, condition):
        return x @ w.T

    denoiser = GaussianDenoiser(network=call, process=PROCESS)
    t, x_t = method.training_input(batch, draw)
    assert network is not None
    return method.objective(denoiser(x_t, t, None), batch.x, x_t, t, None).mean()


def test_without_projection_it_is_the_gradient_of_the_loss_on_the_noises_of_the_name():
    gradients = linear(by="loss")
    w = gradients.model.parts.network.w
    for name in (0, 5):
        expected = torch.autograd.grad(loss_of(gradients, w, name), w)[0].flatten()
        torch.testing.assert_close(gradients.of(Batch(x=X[name : name + 1]), name), expected)


def test_the_square_does_not_know_the_example_and_is_least_where_the_network_says_nothing():
    gradients = linear(by="square")
    with torch.no_grad():
        gradients.model.parts.network.w.zero_()
    assert not gradients.of(Batch(x=X[:1]), 0).any()


def test_rows_with_drawn_targets_have_the_hessian_of_a_quadratic_loss():
    gradients = linear(by="gauss_newton", draws=8)
    w = gradients.model.parts.network.w
    hessian, products = torch.zeros(4, 4), torch.zeros(4, 4)
    for name in range(12):
        hessian += (
            torch.autograd.functional.hessian(lambda at, n=name: loss_of(gradients, at, n), w.detach()).view(4, 4) / 12
        )
    for name in range(1200):
        row = gradients.of(Batch(x=X[name % 12 : name % 12 + 1]), name, kind="row")
        products += torch.outer(row, row) / 1200
    assert float((products - hessian).norm() / hessian.norm()) < 0.15


def test_with_the_hessian_the_influence_is_the_change_of_the_least_loss_to_first_order():
    """The loss of all but a thousandth of example 3 is least at weights that are solved for; the loss of another changes by
    a thousandth of the influence."""
    gradients = linear(by="loss")
    w0 = torch.zeros(2, 2)

    def parts_of(name):
        value = torch.autograd.functional.hessian(lambda at: loss_of(gradients, at, name), w0).view(4, 4)
        slope = torch.autograd.functional.jacobian(lambda at: loss_of(gradients, at, name), w0).flatten()
        return value.double(), slope.double()

    every = [parts_of(name) for name in range(12)]

    def least(weight):
        """The weights of least loss, sum_i weight_i L_i: H w = -slope, as every L_i is quadratic."""
        h = sum(w * part[0] for w, part in zip(weight, every, strict=True))
        return torch.linalg.solve(h, -sum(w * part[1] for w, part in zip(weight, every, strict=True)))

    ones = torch.ones(12, dtype=torch.float64)
    best = least(ones)
    slopes = torch.stack([value @ best + slope for value, slope in every])  # gradients at the least loss
    rows = torch.linalg.cholesky(sum(value for value, _ in every)).T  # R^T R = H
    found = influences(
        SimpleNamespace(settings=Settings(damping=0.0)), {"example": slopes, "row": rows}, slopes[7:8]
    )[0]  # fmt: skip
    less = ones.clone()
    less[3] -= 1e-3
    value, slope = every[7]
    moved = least(less)
    change = (slope @ moved + moved @ value @ moved / 2) - (slope @ best + best @ value @ best / 2)
    torch.testing.assert_close(change / 1e-3, found[3], rtol=2e-3, atol=1e-6)
    assert Curvature(root=rows, damping=0.0).lam == 0


def test_an_example_differs_from_itself_in_nothing():
    def batches(items):
        return Batch(x=X[items])

    found = distances(batches, torch.arange(12), X[4:5])
    assert found.argmin() == 4
    assert found[4] == 0
    tokens = torch.tensor([[1, 2, 3], [1, 5, 5]])
    assert distances(lambda items: Batch(x=tokens[items]), torch.arange(2), tokens[:1]).tolist() == [0, 2]
    assert distances(batches, torch.arange(12), torch.zeros(1, 3)) is None


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match="1 to 4096 draws"):
        Settings(draws=0)
    with pytest.raises(ValueError, match="1 to 4096 draws"):
        Settings(size=0)
