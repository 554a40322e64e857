import pytest
import torch

from langevin.evaluation.statistics import mean_interval, student_quantile


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062047362), (2, 4.30265272975), (3, 3.18244630528), (9, 2.26215716279), (30, 2.04227245630)],
)
def test_quantiles_of_student(freedom, quantile):
    assert student_quantile(0.975, freedom) == pytest.approx(quantile, rel=1e-10)
    assert student_quantile(0.025, freedom) == pytest.approx(-quantile, rel=1e-10)


def test_mean_interval():
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval.estimate == 2
    assert interval.half_width == pytest.approx(4.30265272975 / 3**0.5, rel=1e-10)
    one = mean_interval([5.0])
    assert (one.estimate, one.low, one.half_width) == (5.0, None, None)


def test_intervals_cover_as_often_as_they_say():
    draws = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    covered = sum(interval.low <= 0 <= interval.high for interval in map(mean_interval, draws)) / 2000
    assert covered == pytest.approx(0.95, abs=0.015)


def test_errors():
    with pytest.raises(ValueError, match="at least one value"):
        mean_interval([])
    with pytest.raises(ValueError, match="level"):
        mean_interval([1.0], level=95)
    with pytest.raises(ValueError, match="freedom"):
        student_quantile(0.9, 0)
