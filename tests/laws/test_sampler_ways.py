"""Law of samplers: ways to begin (an example, data itself), to go (from data to noise), and to choose the steps."""

import pytest
import torch

from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import (
    DDIM,
    BogackiShampine,
    Exponential,
    KarrasGrid,
    LogSNR,
    UniformTimeGrid,
    sample,
    start,
)
from langevin.diffusion.sampler.state import stack
from tests import exact
from tests.laws.parts import FEW_SCHEDULES, FLOWS, SAMPLERS, SCHEDULES

SCHEDULE = pytest.mark.parametrize("schedule", FEW_SCHEDULES.values(), ids=FEW_SCHEDULES)
QUANTILES = torch.linspace(0.05, 0.95, 9, dtype=torch.float64)


def last(states):
    for state in states:
        final = state
    return final


def on_the_line(schedule):
    return Gaussian(schedule=schedule), exact.Mixture(schedule=schedule)


@pytest.mark.parametrize("name", FLOWS)
@SCHEDULE
def test_from_data_to_noise_is_the_flow_and_back_again_the_data(name, schedule):
    """Quantiles are kept: 400 steps up the same grid land where the flow does."""
    process, data = on_the_line(schedule)
    tool = SAMPLERS[name]
    down = LogSNR(low=0.05, high=10.0, to_zero=False)(torch.tensor([400]), schedule)
    up, like = down.flip(1), QUANTILES[None]
    x = data.quantile(like, up[:, 0])
    noise = last(sample(tool, process, data, start(tool, process, like, up, torch.tensor([0]), x=x)))
    want = data.quantile(like, up[:, -1])
    assert float(((noise.x - want) / want.abs().amax()).abs().max()) < (2e-2 if tool.convergence_order == 1 else 1e-3)
    back = last(sample(tool, process, data, start(tool, process, like, down, torch.tensor([0]), x=noise.x)))
    assert float((back.x - x).abs().max()) < (5e-2 if tool.convergence_order == 1 else 1e-3)


def test_from_data_to_noise_needs_a_sampler_without_noise_data_and_a_first_level_above_zero():
    process, _ = on_the_line(SCHEDULES["cosine"])
    up, like, seeds = torch.tensor([[0.1, 0.5, 0.9]]), QUANTILES[None], torch.tensor([0])
    with pytest.raises(ValueError, match="adds noise"):
        start(DDIM(eta=1.0), process, like, up, seeds, x=like)
    with pytest.raises(ValueError, match="give the data"):
        start(DDIM(), process, like, up, seeds)
    with pytest.raises(ValueError, match="above 0"):
        start(DDIM(), process, like, up - 0.1, seeds, x=like)
    with pytest.raises(ValueError, match="repeat"):
        start(DDIM(), process, like, torch.tensor([[0.9, 0.5, 0.5, 0.2]]), seeds)
    with pytest.raises(ValueError, match="not both"):
        start(DDIM(), process, like, up.flip(1), seeds, x=like, clean=like)


def test_an_example_is_begun_from_as_the_process_corrupts_it():
    process, _ = on_the_line(SCHEDULES["rectified"])
    like, seeds, times = torch.zeros(3, 4), torch.tensor([1, 2, 3]), torch.tensor([[0.6, 0.3, 0.0]]).expand(3, -1)
    clean = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    state = start(DDIM(), process, like, times, seeds, clean=clean)
    n = SampleNoise(seeds=seeds, steps=torch.full((3,), -1)).normal(like)
    assert torch.allclose(state.x, 0.4 * clean + 0.6 * n, atol=1e-6)


@SCHEDULE
def test_adaptive_steps_keep_the_error_that_they_are_told(schedule):
    """The flow keeps quantiles: a hundred times less tolerance is at least ten times less error, and costs more calls."""
    process, data = on_the_line(schedule)
    times = LogSNR(low=0.02, high=20.0, to_zero=False)(torch.tensor([1]), schedule)
    x = data.quantile(QUANTILES[None], times[:, 0])
    errors, calls = [], []
    for tolerance in (1e-2, 1e-4, 1e-6):
        tool = BogackiShampine(tolerance=tolerance)
        states = list(sample(tool, process, data, start(tool, process, QUANTILES[None], times, torch.tensor([0]), x=x)))
        end = states[-1]
        assert bool(end.done.all())
        assert torch.allclose(end.t, times[:, -1], rtol=1e-9)
        errors.append(float((data.cdf(end.x, end.t) - QUANTILES).abs().max()))
        calls.append(len(states))
    assert errors[0] < 0.1
    assert errors[1] < errors[0] / 10
    assert errors[2] < errors[1] / 10
    assert calls[0] < calls[1] < calls[2] < 1000


def test_adaptive_rows_go_at_their_own_pace():
    process, data = on_the_line(SCHEDULES["variance_preserving"])
    tool, like, seeds = BogackiShampine(), torch.zeros(3, 5, dtype=torch.float64), torch.tensor([4, 5, 6])
    times = KarrasGrid()(torch.tensor([18]), process.schedule).expand(3, -1)
    together = last(sample(tool, process, data, start(tool, process, like, times, seeds)))
    assert bool((together.t == 0).all())
    alone = [
        last(sample(tool, process, data, start(tool, process, like[:1], times[:1], seeds[i : i + 1]))) for i in range(3)
    ]
    assert torch.equal(torch.cat([state.x for state in alone]), together.x)
    assert [int(state.num_calls) for state in alone] == together.num_calls.tolist()
    batch = stack([start(tool, process, like[:1], times[:1], seeds[i : i + 1]) for i in range(3)])
    assert torch.equal(last(sample(tool, process, data, batch)).x, together.x)


def test_adaptive_steps_say_what_they_cannot():
    process, data = on_the_line(SCHEDULES["rectified"])
    tool, like = BogackiShampine(), torch.zeros(1, 5, dtype=torch.float64)
    with pytest.raises(ValueError, match="no signal"):
        start(tool, process, like, UniformTimeGrid()(torch.tensor([5]), process.schedule), torch.tensor([0]))
    few = BogackiShampine(tolerance=1e-9, max_calls=12)
    times = KarrasGrid()(torch.tensor([18]), process.schedule)
    assert len(list(sample(few, process, data, start(few, process, like, times, torch.tensor([0]))))) == 12
    with pytest.raises(ValueError, match="tolerance"):
        BogackiShampine(tolerance=float("nan"))


def test_options_that_make_no_sense_are_refused():
    for options in ({"max_order": 0}, {"max_order": 7}, {"eta": -1.0}, {"eta": float("nan")}):
        with pytest.raises(ValueError, match=r"order|eta"):
            Exponential(**options)
