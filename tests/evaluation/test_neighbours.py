import pytest
import torch

from langevin.evaluation.neighbours import density_coverage, expected_coverage, radii


def normal(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("n", "m", "k"), [(800, 800, 5), (800, 300, 5), (300, 900, 3)])
def test_equal_laws_have_density_one_and_the_expected_coverage(n, m, k):
    results = [density_coverage(normal(n, 6, seed), normal(m, 6, seed + 99), k=k) for seed in range(8)]
    assert sum(result.density for result in results) / 8 == pytest.approx(1, abs=0.06)
    assert sum(result.coverage for result in results) / 8 == pytest.approx(expected_coverage(n, m, k), abs=0.02)


def test_expected_coverage_tends_to_one_less_a_power_of_two():
    assert expected_coverage(10_000, 10_000, 5) == pytest.approx(1 - 2**-5, abs=1e-4)
    assert expected_coverage(2, 1, 1) == 0.5


def test_equals_the_definition_and_does_not_depend_on_the_chunk():
    real, fake, k = normal(40, 3, 0).double(), normal(30, 3, 1).double() + 0.5, 3
    own = torch.cdist(real, real, compute_mode="donot_use_mm_for_euclid_dist")
    ball = own.sort(1).values[:, k]
    fake_ball = torch.cdist(fake, fake, compute_mode="donot_use_mm_for_euclid_dist").sort(1).values[:, k]
    across = torch.cdist(fake, real, compute_mode="donot_use_mm_for_euclid_dist")
    inside = across <= ball
    for chunk in (1, 7, 1024):
        result = density_coverage(real, fake, k=k, chunk=chunk)
        assert result.density == pytest.approx(inside.sum().item() / (k * 30))
        assert result.coverage == pytest.approx(inside.any(0).double().mean().item())
        assert result.precision == pytest.approx(inside.any(1).double().mean().item())
        assert result.recall == pytest.approx((across <= fake_ball[:, None]).any(0).double().mean().item())


def test_coverage_falls_with_dropped_modes_and_precision_with_outliers():
    centres = 20 * torch.eye(5)
    real = normal(1000, 5, 0) + centres.repeat_interleave(200, 0)
    kept = normal(1000, 5, 1) + centres[:3].repeat_interleave(334, 0)[:1000]
    dropped = density_coverage(real, kept)
    assert dropped.coverage == pytest.approx(0.6, abs=0.03)
    assert dropped.precision > 0.9
    fresh = normal(1000, 5, 1) + centres.repeat_interleave(200, 0)
    outside = fresh.clone()
    outside[::4] += 100
    before, after = density_coverage(real, fresh), density_coverage(real, outside)
    assert after.precision == pytest.approx(0.75 * before.precision, abs=0.02)
    assert after.density == pytest.approx(0.75 * before.density, abs=0.04)


def test_duplicates_are_neighbours_and_few_rows_an_error():
    x = torch.zeros(4, 2)
    x[3] = 3.0
    assert radii(x, k=2).tolist()[:3] == [0, 0, 0]
    with pytest.raises(ValueError, match="more samples or a smaller k"):
        density_coverage(x, x, k=4)
    with pytest.raises(ValueError, match="n > k"):
        expected_coverage(5, 5, 5)
