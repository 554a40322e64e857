"""Laws of grids: they fall from the start that they name to the end that they name, row by row."""

import math
from dataclasses import replace

import pytest
import torch

from langevin.diffusion.sampler.grid import FixedGrid, KarrasGrid, LogSNR, ShiftedGrid, UniformTimeGrid, UnmaskGrid
from langevin.diffusion.schedule import Cosine, Rectified, VarianceExploding, VariancePreserving, rho, time_of_rho
from tests.laws.parts import GRIDS, SCHEDULES

EVERY = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
PLAIN = {
    name: grid for name, grid in GRIDS.items() if not isinstance(grid, ShiftedGrid)
}  # a shifted one has its own laws
GRID = pytest.mark.parametrize("grid", PLAIN.values(), ids=PLAIN)
STEPS = torch.tensor([1, 2, 3, 7, 50, 200])


@EVERY
@GRID
@pytest.mark.parametrize("to_zero", [True, False])
def test_times_fall_strictly_until_the_end_and_stay_there(schedule, grid, to_zero):
    times = replace(grid, to_zero=to_zero)(STEPS, schedule)
    assert times.dtype == torch.float64
    assert times.shape == (6, 201)
    assert bool(((times >= 0) & (times <= 1)).all())
    end = torch.zeros(()).double() if to_zero else time_of_rho(schedule, torch.tensor(grid.low, dtype=torch.float64))
    for row, n in zip(times, STEPS.tolist(), strict=True):
        assert bool((row[: n + 1].diff() < 0).all())
        assert row[n:] == pytest.approx(end.expand(201 - n), rel=1e-9)
        assert not to_zero or bool((row[n:] == 0).all())


@EVERY
@GRID
def test_times_start_where_the_grid_says_cut_to_what_the_schedule_reaches(schedule, grid):
    start = grid(STEPS, schedule)[:, 0]
    reach = float(rho(schedule, torch.ones(1, dtype=torch.float64)))
    if grid.high is None:
        assert start.tolist() == [1.0] * 6
    else:
        assert rho(schedule, start) == pytest.approx(min(grid.high, reach), rel=1e-9)


@EVERY
@GRID
def test_a_row_does_not_depend_on_the_others(schedule, grid):
    together = grid(STEPS, schedule)
    for row, n in zip(together, STEPS, strict=True):
        assert torch.equal(grid(n[None], schedule)[0], row[: n + 1])


@EVERY
def test_the_last_knot_before_zero_is_low_and_the_spacing_is_the_formula(schedule):
    steps = torch.tensor([9])
    high = min(80.0, float(rho(schedule, torch.ones(1, dtype=torch.float64))))
    i = torch.arange(9, dtype=torch.float64) / 8
    edm = (high ** (1 / 7) + i * (0.002 ** (1 / 7) - high ** (1 / 7))) ** 7
    assert rho(schedule, KarrasGrid()(steps, schedule)[0, :9]) == pytest.approx(edm, rel=1e-9)
    log_snr = schedule.log_snr(LogSNR()(steps, schedule)[0, :9])
    assert log_snr.diff() == pytest.approx(2 * math.log(high / 0.002) / 8, rel=1e-9)
    assert UniformTimeGrid()(steps, schedule)[0] == pytest.approx(torch.linspace(1, 0, 10).double(), abs=1e-7)


def test_the_uniform_grid_of_the_exploding_schedule_is_edms_down_to_zero():
    times = UniformTimeGrid()(torch.tensor([5]), VarianceExploding())[0]
    edm = (80 ** (1 / 7) * (1 - torch.arange(6, dtype=torch.float64) / 5)) ** 7
    assert rho(VarianceExploding(), times) == pytest.approx(edm, rel=1e-12)


@GRID
@pytest.mark.parametrize(
    "steps", [torch.tensor([0]), torch.tensor([5, 0]), torch.tensor([-1]), torch.zeros(0).long(), torch.tensor(5)]
)
def test_bad_step_counts_are_refused(grid, steps):
    for to_zero in (True, False):
        with pytest.raises(ValueError, match="steps"):
            replace(grid, to_zero=to_zero)(steps, Rectified())


@pytest.mark.parametrize("kind", [KarrasGrid, LogSNR, UniformTimeGrid])
@pytest.mark.parametrize(
    "bad",
    [{"low": 0.0}, {"low": -1.0}, {"low": math.nan}, {"low": 2.0, "high": 1.0}, {"high": 0.0}, {"high": math.nan}],
)
def test_bad_ranges_are_refused(kind, bad):
    with pytest.raises(ValueError, match="low < high"):
        kind(**bad)


@pytest.mark.parametrize("kind", [KarrasGrid, LogSNR])
def test_an_infinite_start_is_refused_where_it_has_no_place(kind):
    with pytest.raises(ValueError, match="low < high"):
        kind(high=math.inf)


@pytest.mark.parametrize("power", [0.0, -7.0, math.nan, math.inf])
def test_a_bad_power_is_refused(power):
    with pytest.raises(ValueError, match="power"):
        KarrasGrid(power=power)


@pytest.mark.parametrize("schedule", [VariancePreserving(), VarianceExploding()])
@pytest.mark.parametrize(
    "grid", [KarrasGrid(low=200, high=300), LogSNR(low=200, high=300), UniformTimeGrid(low=200, to_zero=False)]
)
def test_an_end_that_the_schedule_never_reaches_is_refused(schedule, grid):
    with pytest.raises(ValueError, match="only reaches"):
        grid(STEPS, schedule)


def test_the_uniform_grid_down_to_zero_needs_no_low():
    assert UniformTimeGrid(low=200.0)(torch.tensor([4]), VarianceExploding())[0].tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert UniformTimeGrid(low=1e-6)(torch.tensor([2]), Cosine())[0].tolist() == [1, 0.5, 0]


@EVERY
def test_knots_are_visited_as_given_and_shared_out_for_other_counts(schedule):
    given = (-6.0, -1.0, 0.0, 2.5, 9.0)
    grid = FixedGrid(log_snr=given, to_zero=False)
    assert schedule.log_snr(grid(torch.tensor([4]), schedule)[0]) == pytest.approx(
        torch.tensor(given).double(), rel=1e-9
    )
    twice = schedule.log_snr(grid(torch.tensor([8]), schedule)[0])
    assert twice[1::2] == pytest.approx(torch.tensor([-3.5, -0.5, 1.25, 5.75]).double(), rel=1e-9)
    exact_steps = schedule.log_snr(FixedGrid(log_snr=given)(torch.tensor([5]), schedule)[0, :5])
    assert exact_steps == pytest.approx(torch.tensor(given).double(), rel=1e-9)


@pytest.mark.parametrize("bad", [(), (1.0,), (1.0, 1.0), (2.0, 1.0), (0.0, math.nan), (0.0, math.inf), (-90.0, 0.0)])
def test_knots_that_do_not_rise_are_refused(bad):
    with pytest.raises(ValueError, match="rise"):
        FixedGrid(log_snr=bad)


@EVERY
def test_a_shifted_grid_is_the_grid_at_other_noise_levels(schedule):
    """rho' = k rho, cut to what the schedule reaches; in flow time t' = k t / (1 + (k - 1) t)."""
    plain = LogSNR(low=0.01, high=10.0, to_zero=False)
    for factor in (0.5, 3.0):
        times = ShiftedGrid(grid=plain, factor=factor)(STEPS, schedule)
        reach = rho(schedule, torch.ones(1, dtype=torch.float64))
        wanted = torch.minimum(rho(schedule, plain(STEPS, schedule)) * factor, reach)
        assert torch.allclose(rho(schedule, times), wanted, rtol=1e-9)
    t = UniformTimeGrid()(torch.tensor([8]), Rectified())
    moved = ShiftedGrid(grid=UniformTimeGrid(), factor=3.0)(torch.tensor([8]), Rectified())
    assert torch.allclose(moved, 3 * t / (1 + 2 * t), rtol=1e-12)


def test_a_shift_beyond_what_the_schedule_reaches_is_refused():
    with pytest.raises(ValueError, match="lower the grid's high"):
        ShiftedGrid(factor=50.0)(STEPS, VariancePreserving())


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf])
def test_a_bad_shift_is_refused(factor):
    with pytest.raises(ValueError, match="factor"):
        ShiftedGrid(factor=factor)


def test_shares_fall_from_one_to_zero_evenly_or_with_small_steps_first():
    even, cosine = (UnmaskGrid(shape=shape)(STEPS) for shape in ("linear", "cosine"))
    for times in (even, cosine):
        for row, n in zip(times, STEPS.tolist(), strict=True):
            assert row[0] == 1
            assert bool((row[: n + 1].diff() < 0).all())
            assert bool((row[n:] == 0).all())
    assert torch.allclose(even[3, :8], 1 - torch.arange(8).double() / 7)
    assert torch.allclose(cosine[3, :8], torch.cos(torch.pi * torch.arange(8).double() / 14))
    assert bool((cosine[3, :8].diff().diff() < 0).all())  # steps grow
