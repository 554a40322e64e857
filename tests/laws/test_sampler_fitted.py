"""Law of fitted solvers: on starts that they were not fitted to, they end nearer to the flow than the solvers they are made
of, and rows that are known come back."""

from itertools import islice

import pytest
import torch

from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import DDIM, DPM2M, IPNDM, Heun, KarrasGrid, sample, start
from langevin.diffusion.sampler.fitted import FittedSolver, fit_solver
from langevin.diffusion.sampler.state import stack
from tests import exact
from tests.laws.parts import SCHEDULES

SCHEDULE = SCHEDULES["rectified"]
PROCESS, DATA = Gaussian(schedule=SCHEDULE, sigma_data=0.9), exact.Mixture(schedule=SCHEDULE)


def times_of(steps):
    return KarrasGrid(low=0.02, high=20.0)(torch.tensor([steps]), SCHEDULE)


def run(tool, seeds, times, x=None):
    like = torch.zeros(len(seeds), 64, dtype=torch.float64)
    state = start(tool, PROCESS, like, times.expand(len(seeds), -1), seeds, x=x)
    first = state.x
    for told in sample(tool, PROCESS, DATA, state):
        state = told
    return first, state.x


@pytest.mark.parametrize("steps", [4, 5, 6, 8, 10])
def test_a_fitted_solver_ends_nearer_to_the_flow_than_those_it_is_made_of(steps):
    times, like = times_of(steps), torch.zeros(32, 64, dtype=torch.float64)
    made = fit_solver(DATA, PROCESS, like=like, times=times[0], seeds=torch.arange(32))
    first, _ = run(made, torch.arange(1000, 1032), times)
    _, true = run(Heun(), torch.arange(32), times_of(400), x=first)

    def error(tool):
        return float((run(tool, torch.arange(32), times, x=first)[1] - true).square().mean().sqrt())

    others = [error(tool) for tool in (DDIM(), DPM2M(), IPNDM())]
    assert error(made) < min(others)


def test_a_solver_fitted_to_another_is_that_other():
    """With a teacher of one step between knots, DDIM, the regression finds DDIM's rows."""
    times, like = times_of(5), torch.zeros(16, 64, dtype=torch.float64)
    teacher = DDIM()
    tail = torch.cat([times[0, :-1]])  # ends at the smallest noise, where the last step is none to 0
    made = fit_solver(
        DATA, PROCESS, like=like, times=tail, seeds=torch.arange(16), fine=1, ridge=0.0, teacher=teacher, num_previous=0
    )
    wanted = start(teacher, PROCESS, like, tail.expand(16, -1), torch.arange(16)).memory["grid_weights"][0].flatten(1)
    assert torch.allclose(torch.tensor(made.rows, dtype=torch.float64), wanted, atol=1e-8)


def test_a_fitted_solver_makes_its_own_steps_only():
    made = FittedSolver(times=(0.9, 0.4, 0.0), rows=((0.4, 0.5, 0.0), (0.0, 1.0, 0.0)))
    with pytest.raises(ValueError, match="fitted for 2 steps"):
        run(made, torch.arange(2), times_of(5))
    with pytest.raises(ValueError, match="finite"):
        FittedSolver(times=(0.9, 0.0), rows=((float("nan"), 1.0),))
    with pytest.raises(ValueError, match="rows of equal length"):
        FittedSolver(times=(0.9, 0.0), rows=())


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_fitted_rows_are_alone_what_they_are_in_a_batch_and_end_at_0(schedule):
    """Rows of solvers of other numbers of steps, at other places of their ways, moved by one update; equal to the bit."""
    process, data = Gaussian(schedule=schedule), exact.Scalar(schedule=schedule)
    states, alone = [], []
    for i, steps in enumerate((3, 5, 8)):
        times, like = KarrasGrid()(torch.tensor([steps]), schedule), torch.zeros(8, 6, dtype=torch.float64)
        made = fit_solver(data, process, like=like, times=times[0], seeds=torch.arange(8), num_previous=2)
        state = start(made, process, like[:1], times, torch.tensor([i]))
        alone.append(list(sample(made, process, data, state))[-1])
        for told in islice(sample(made, process, data, state), i):
            state = told
        states.append(state)
    together = list(sample(made, process, data, stack(states)))[-1]
    for i, one in enumerate(alone):
        assert torch.equal(together.x[i], one.x[0])
    assert bool((together.t == 0).all() and together.x.isfinite().all())
