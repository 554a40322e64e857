"""What a drift may do wrong is said: at which time, at which state, and what to do."""

import math

import pytest
import torch

from langevin.diffusion.fokker_planck import GridBox, fokker_planck
from langevin.diffusion.likelihood import bound
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import Score
from langevin.diffusion.process.sde import (
    SDE,
    EmpiricalTerminal,
    GaussianTerminal,
    LimitCycle,
    OrnsteinUhlenbeck,
    StationaryTerminal,
    blend,
    is_affine,
    sliced,
)
from langevin.diffusion.sampler import ReverseSDE
from tests import drifts


def ask(process, x=None, t=1.0):
    x = drifts.bumps(4) if x is None else x
    return process.corrupt(x, torch.full((len(x),), t, dtype=torch.float64), drifts.noise(len(x)))


@pytest.mark.parametrize(("f", "words"), [
    (lambda x, t: x.sum(1), "the drift returned (4,) for states of shape (4, 1) at time 0"),
    (lambda x, t: 3.0, "the drift returned float for states"),
    (lambda x, t: -x * t, "returned (4, 4)"),
    (lambda x, t: torch.where(t[:, None] > 0.5, math.nan, 0 * x), "the drift is not finite at time 0.5"),
    (lambda x, t: x**3 * 50, "it explodes there, or the steps on the way were too long"),
])  # fmt: skip
def test_a_drift_that_misbehaves_is_said_with_time_and_state(f, words):
    with pytest.raises(ValueError, match="the drift") as caught:
        ask(SDE(drift=f, duration=1.5))
    assert words in str(caught.value)
    assert "state" in str(caught.value)


@pytest.mark.parametrize(("changes", "words"), [
    ({"diffusion": 0.0}, "the noise g must be positive"),
    ({"diffusion": math.nan}, "the noise g must be positive"),
    ({"diffusion": lambda t: -t}, "the noise g is -"),
    ({"diffusion": lambda t: t[:3]}, "g(t) takes times (b,)"),
    ({"duration": 0.0}, "the duration of an SDE"),
    ({"duration": math.inf}, "the duration of an SDE"),
    ({"steps": 1}, "at least 2 steps"),
    ({"sigma_data": -1.0}, "sigma_data is a standard deviation"),
    ({"drift": 3}, "drift is a function"),
])  # fmt: skip
def test_an_equation_that_makes_no_sense_is_refused(changes, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        SDE(**{"drift": OrnsteinUhlenbeck(), **changes})
    assert words in str(caught.value)


def test_affine_drifts_are_recognised_and_others_not():
    like, b = torch.zeros(1, 2), torch.tensor([1.0, -2.0], dtype=torch.float64)
    affine = (
        OrnsteinUhlenbeck(),
        OrnsteinUhlenbeck(turn=2.0),
        lambda x, t: 0 * x,
        lambda x, t: -t[:, None] * x + b.to(x.dtype),
    )
    assert all(is_affine(f, duration=2.0, like=like) for f in affine)
    for f in (
        drifts.WELL,
        LimitCycle(),
        lambda x, t: -x.abs(),
        lambda x, t: -x - 0.01 * torch.sin(x),
        lambda x, t: -(x**5),
    ):
        assert not is_affine(f, duration=2.0, like=like)
    with pytest.raises(ValueError, match="declared affine"):
        drifts.well().with_closed_form(torch.zeros(1, 1), affine=True)
    assert SDE(drift=OrnsteinUhlenbeck()).with_closed_form(like, affine=False).kernel is None
    with pytest.raises(ValueError, match="the drift returned"):
        SDE(drift=lambda x, t: x[:, 0]).with_closed_form(like)


def test_a_closed_form_of_very_wide_rows_is_not_tried_and_says_so_if_declared():
    wide = torch.zeros(1, 300)
    assert SDE(drift=OrnsteinUhlenbeck()).with_closed_form(wide).kernel is None
    with pytest.raises(ValueError, match="at most 256 dimensions"):
        SDE(drift=OrnsteinUhlenbeck()).with_closed_form(wide, affine=True)


def test_times_a_place_and_priors_at_other_times_are_refused():
    process, x = drifts.well(), drifts.bumps(4)
    with pytest.raises(ValueError, match="one time per sample"):
        process.corrupt(x, torch.full((4, 1), 0.5, dtype=torch.float64), drifts.noise(4))
    with pytest.raises(ValueError, match=r"starts at t = 0\.5"):
        process.prior(x, drifts.noise(4), torch.full((4,), 0.5, dtype=torch.float64))
    with pytest.raises(ValueError, match="no variational bound"):
        bound(lambda x_t, t, condition: Score(x_t), process, x)


def test_known_places_stay():
    x = drifts.bumps(4)
    t = torch.ones(4, dtype=torch.float64)
    known = torch.tensor([[True], [False], [True], [False]])
    x_t = drifts.well().corrupt(x, t, drifts.noise(4), known)
    assert torch.equal(x_t[known], x[known])
    assert bool((x_t[~known] != x[~known]).all())


def test_corruption_at_time_zero_changes_nothing():
    x = drifts.bumps(4)
    for process in (drifts.well(), SDE(drift=OrnsteinUhlenbeck()).with_closed_form(x[:1])):
        assert torch.allclose(ask(process, x, 0.0), x, atol=1e-6)


def test_blending_ends_in_its_gaussian():
    f, end = blend(drifts.WELL, diffusion=1.0, duration=1.5)
    process, gap = SDE(drift=f, duration=1.5, terminal=end, steps=150).with_statistics(
        drifts.bumps(2000), drifts.noise(2000)
    )
    assert gap.distance < max(2 * gap.floor, 0.05 * gap.rms)
    assert gap.rms == pytest.approx(end.std, rel=0.05)
    assert process.kernel is None
    early = torch.full((4,), 0.5 * 1.5, dtype=torch.float64)
    assert torch.equal(f(drifts.bumps(4), early), drifts.WELL(drifts.bumps(4), early))


def test_a_stationary_law_is_drawn_row_by_row():
    end = StationaryTerminal(energy=lambda x: drifts.WELL.energy(x, 1.0))
    many, one = (
        end.draw(torch.zeros(5, 1).double(), drifts.noise(5)),
        end.draw(torch.zeros(1, 1).double(), drifts.noise(1, first=3)),
    )
    assert torch.equal(many[3:4], one)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GaussianTerminal(std=0.0),
        lambda: blend(OrnsteinUhlenbeck(), diffusion=1.0, duration=1.0, start=1.0),
        lambda: ReverseSDE(eta=2.0),
        lambda: ReverseSDE(corrections=-1),
    ],
)
def test_numbers_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match=r"must be|blend needs|between 0|0 to 100"):
        make()


def test_a_limit_cycle_lives_in_the_plane():
    with pytest.raises(ValueError, match="points in the plane"):
        ask(SDE(drift=LimitCycle()))


def test_the_grid_refuses_what_does_not_fit():
    box = GridBox(low=-1, high=1, cells=10)
    with pytest.raises(ValueError, match="times must rise"):
        fokker_planck(OrnsteinUhlenbeck(), 1.0, torch.ones(9), [0.0, 1.0], box=box)
    with pytest.raises(ValueError, match="needs noise"):
        fokker_planck(OrnsteinUhlenbeck(), 0.0, torch.ones(10), [0.0, 1.0], box=box)
    with pytest.raises(ValueError, match="1 or 2 dimensions"):
        GridBox(low=0, high=1, cells=10, dimensions=3)


def test_the_distance_of_clouds_is_that_of_shifted_laws():
    x = SampleNoise(seeds=torch.tensor([0]), steps=torch.tensor([0])).normal(torch.empty(1, 5000, dtype=torch.float64))[
        0
    ][:, None]
    assert sliced(x, x + 0.7) == pytest.approx(0.7, abs=1e-9)
    assert sliced(x, x[torch.randperm(5000)]) == 0
    assert sliced(x, 2 * x) == pytest.approx(float(x.abs().mean()), rel=1e-6)
    reservoir = EmpiricalTerminal.of(x)
    drawn = reservoir.draw(torch.zeros(5000, 1, dtype=torch.float64), drifts.noise(5000))
    assert sliced(drawn, x) < 0.08
