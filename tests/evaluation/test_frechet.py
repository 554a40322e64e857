import mpmath
import pytest
import torch

from langevin.evaluation.frechet import Moments, frechet_distance, frechet_infinity


def distribution(d: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5
    return torch.randn(d, generator=generator, dtype=torch.float64), root @ root.T


def exact(mean_a, a, mean_b, b) -> float:
    """|mu|^2 + tr(A + B - 2 (AB)^1/2) in 50 digits, by the matrix square root of the unsymmetric product."""
    with mpmath.workdps(50):
        A, B = mpmath.matrix(a.tolist()), mpmath.matrix(b.tolist())
        root = mpmath.sqrtm(A * B)
        trace = sum(A[i, i] + B[i, i] - 2 * mpmath.re(root[i, i]) for i in range(len(a)))
        return float(trace + sum((x - y) ** 2 for x, y in zip(map(mpmath.mpf, mean_a.tolist()), mean_b.tolist())))


@pytest.mark.parametrize("d", [1, 2, 5])
def test_distance_of_gaussians_that_do_not_commute(d):
    (mean_a, a), (mean_b, b) = distribution(d, 1), distribution(d, 2)
    if d > 1:
        assert not torch.allclose(a @ b, b @ a)
    ours = frechet_distance(Moments(mean=mean_a, covariance=a, n=9), Moments(mean=mean_b, covariance=b, n=9))
    assert ours == pytest.approx(exact(mean_a, a, mean_b, b), rel=1e-12)


def test_distance_of_scaled_unit_gaussians_and_of_equal_and_singular_ones():
    eye, zero = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    unit, wide = Moments(mean=zero, covariance=eye, n=9), Moments(mean=zero + 2, covariance=9 * eye, n=9)
    assert frechet_distance(unit, wide) == pytest.approx(3 * 4 + 3 * (3 - 1) ** 2, rel=1e-14)
    flat = Moments.of(torch.randn(5, 40, generator=torch.Generator().manual_seed(0)))  # rank 4 in 40 dimensions
    assert frechet_distance(flat, flat) < 1e-6 * flat.covariance.trace().item()


def test_moments_are_those_of_torch():
    x = 1e3 + torch.randn(1000, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moments = Moments.of(x)
    assert moments.n == 1000
    torch.testing.assert_close(moments.covariance, torch.cov(x.T))


def test_infinity_removes_the_bias_of_equal_laws():
    (_, covariance), generator = distribution(40, 3), torch.Generator().manual_seed(0)
    root = torch.linalg.cholesky(covariance)
    inside = biased = 0
    for seed in range(4):
        real, fake = (torch.randn(600, 40, generator=generator, dtype=torch.float64) @ root.T for _ in range(2))
        intercept, error = frechet_infinity(real, fake, seed=seed)
        inside += abs(intercept) < 3 * error
        biased += frechet_distance(Moments.of(real), Moments.of(fake)) > 3 * error
    assert inside == 4
    assert biased == 4


def test_infinity_of_different_laws_and_of_unequal_pools():
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(3000, 8, generator=generator), 1.5 * torch.randn(800, 8, generator=generator) + 0.5
    intercept, error = frechet_infinity(real, fake, seed=0)
    assert abs(intercept - 8 * (0.25 + 0.25)) < 3 * error < 1
    assert frechet_infinity(real, fake, seed=0) == (intercept, error)


def test_errors_say_what_to_do():
    x = torch.randn(8, 3)
    with pytest.raises(ValueError, match="at least 2 samples"):
        frechet_distance(Moments.of(x), Moments.of(x[:1]))
    with pytest.raises(ValueError, match="dimension 3 and 2"):
        frechet_distance(Moments.of(x), Moments.of(x[:, :2]))
    with pytest.raises(ValueError, match="not finite"):
        Moments.of(x / 0)
    with pytest.raises(ValueError, match="5 different fractions"):
        frechet_infinity(x, x, seed=0, sizes=(0.5, 1.0))
    with pytest.raises(ValueError, match="more samples"):
        frechet_infinity(x[:3], x[:3], seed=0)
