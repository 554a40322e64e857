"""Influence by gradients: exact on a linear model with squared errors, whatever is projected."""

import pytest
import torch

from langevin.evaluation.influence import CountSketch, Curvature, influence


def regression(n=40, k=5, seed=0):
    """(X, y, least-squares weights) in float64."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(n, k, generator=random, dtype=torch.float64)
    y = x @ torch.randn(k, generator=random, dtype=torch.float64) + torch.randn(
        n, generator=random, dtype=torch.float64
    )
    return x, y, torch.linalg.lstsq(x, y[:, None]).solution[:, 0]


def exact(x, y, point):
    """The influences of all examples on the prediction at a point: its Gauss-Newton rows are the inputs."""
    w = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    gradients = (x @ w - y)[:, None] * x  # of |x w - y|^2 / 2
    return influence(point[None], gradients, Curvature(root=x, damping=0.0))[0]


def test_on_a_linear_model_it_is_the_change_without_the_example_but_for_its_leverage():
    """The prediction changes by influence / (1 - h), h = x (X^T X)^-1 x: exactly, by the Sherman-Morrison formula."""
    x, y, w = regression()
    point = torch.tensor([0.3, -1.0, 2.0, 0.1, 0.7], dtype=torch.float64)
    leverage = (x @ torch.linalg.inv(x.T @ x) * x).sum(1)
    changes = list[torch.Tensor]()
    for i in range(len(x)):
        left = torch.arange(len(x)) != i
        changes.append(point @ (torch.linalg.lstsq(x[left], y[left, None]).solution[:, 0] - w))
    torch.testing.assert_close(exact(x, y, point) / (1 - leverage), torch.stack(changes))


def test_it_is_the_derivative_by_the_weight_of_the_example():
    x, y, w = regression()
    point, small = torch.ones(5, dtype=torch.float64), 1e-6
    for i in (0, 7):
        weight = torch.ones(len(x), dtype=torch.float64)
        weight[i] -= small
        moved = torch.linalg.solve(x.T @ (weight[:, None] * x), x.T @ (weight * y))
        torch.testing.assert_close((point @ (moved - w)) / small, exact(x, y, point)[i], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_both_systems_of_equations_have_the_damped_solution(shape):
    random = torch.Generator().manual_seed(1)
    rows = torch.randn(*shape, generator=random, dtype=torch.float64)
    asked = torch.randn(3, shape[1], generator=random, dtype=torch.float64)
    curvature = Curvature(root=rows, damping=0.2)
    whole = rows.T @ rows + curvature.lam * torch.eye(shape[1], dtype=torch.float64)
    torch.testing.assert_close(curvature.solve(asked) @ whole, asked)
    assert curvature.lam == pytest.approx(0.2 * float(rows.square().sum()) / 8)


def test_without_a_size_nothing_is_projected_and_the_influence_is_that_of_the_gradients():
    x, y, _ = regression()
    point = torch.arange(5, dtype=torch.float64)
    same = CountSketch(length=5, size=None)
    assert torch.equal(same(point), point)
    rows = torch.stack([same(row) for row in x])
    assert torch.equal(rows, x)
    torch.testing.assert_close(exact(rows, y, same(point)), exact(x, y, point))


def test_a_projection_that_merges_no_numbers_keeps_every_influence():
    """Of 5 numbers to 4096 these seeds let none meet, so the projection turns the space and changes no product."""
    x, y, _ = regression()
    sketch = CountSketch(length=5, size=4096, seed=3)
    assert int((sketch(torch.ones(5)) != 0).sum()) == 5
    point = torch.arange(5, dtype=torch.float64)
    w = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    gradients = (x @ w - y)[:, None] * x
    rows, projected = (torch.stack([sketch(row) for row in every]) for every in (x, gradients))
    found = influence(sketch(point)[None], projected, Curvature(root=rows, damping=0.1))
    # lambda is a share of trace / min(m, k): of 40 numbers here, and of 5 without projection
    known = influence(point[None], gradients, Curvature(root=x, damping=0.1 * 5 / 40))
    torch.testing.assert_close(found, known)


def test_products_of_projections_are_right_on_average_and_their_variance_is_as_the_size():
    random = torch.Generator().manual_seed(2)
    a, b = torch.randn(2, 500, generator=random)
    for size in (16, 256):
        found = torch.stack([(s := CountSketch(length=500, size=size, seed=i))(a) @ s(b) for i in range(400)])
        spread = (a.square().sum() * b.square().sum() / size).sqrt()
        assert abs(found.mean() - a @ b) < 4 * spread / 20
        assert 0.8 * spread < found.std() < 1.25 * spread


def test_what_cannot_be_solved_is_refused():
    rows = torch.ones(2, 3)
    with pytest.raises(ValueError, match="positive with fewer rows than columns"):
        Curvature(root=rows, damping=0.0)
    with pytest.raises(ValueError, match="not finite"):
        Curvature(root=rows / 0 * 0, damping=1.0)
    with pytest.raises(ValueError, match="at least one number to at least one"):
        CountSketch(length=3, size=0)
