"""Law of samplers: the mean and variance that they give Gaussian data, propagated and not sampled, converge at their order.

With the exact denoiser of Gaussian data every update is affine in (x, memory, noise). Applying it to basis vectors reads
off the map v -> A v + d + c n of v = (x, memory), and then m -> A m + d, P -> A P A^T + c c^T is exact: no draws, no
tolerance but rounding. `grid_` tables and flags are not part of v, as they are the same for all rows.
"""

from dataclasses import replace

import pytest
import torch

from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import KarrasGrid, LogSNR, start
from tests import exact
from tests.laws.bounds import slope
from tests.laws.parts import FEW_SCHEDULES, SAMPLERS, order_of

EVERY = pytest.mark.parametrize("name", SAMPLERS)
SCHEDULE = pytest.mark.parametrize("schedule", FEW_SCHEDULES.values(), ids=FEW_SCHEDULES)
COUNTS = (64, 128, 256)


def names_of(state) -> list[str]:
    """The memory that is carried along and depends on x."""
    return [n for n, v in state.memory.items() if not n.startswith("grid_") and v.is_floating_point()]


def vector(state) -> torch.Tensor:
    """(rows, size): x and memory side by side."""
    return torch.cat([state.x, *(state.memory[name] for name in names_of(state))], 1)


def with_vector(state, v):
    columns = {name: v[:, i : i + 1] for i, name in enumerate(names_of(state), 1)}
    return replace(state, x=v[:, :1], memory={**state.memory, **columns})


def propagate(tool, data: exact.Scalar, process, grid, counts) -> list[tuple[float, float, float]]:
    """(mean, variance, largest coefficient of fresh noise) after each number of steps."""
    times = grid(torch.tensor(counts), data.schedule)
    like = torch.zeros(len(counts), 1, dtype=torch.float64)
    probe = start(tool, process, like, times, torch.zeros(len(counts), dtype=torch.int64))
    size = vector(probe).shape[1]
    basis = torch.cat([torch.zeros(2, size), torch.eye(size)]).double()  # twice at zero, with different noise
    rows = len(basis)
    mean, covariance = torch.zeros(len(counts), size).double(), torch.zeros(len(counts), size, size).double()
    mean[:, 0], covariance[:, 0, 0] = data.moments(probe.t)
    loudest, alive = torch.zeros(len(counts)).double(), torch.arange(len(counts))
    state = probe.select(alive.repeat_interleave(rows))
    state = replace(state, seeds=torch.tensor([1] + [0] * (rows - 1)).repeat(len(counts)))
    while len(alive):
        state = with_vector(state, basis.repeat(len(alive), 1))
        noise = state.noise.normal(state.x).reshape(len(alive), rows, 1)
        state = tool.update(state, data(state.x, state.t), process)
        out = vector(state).reshape(len(alive), rows, size)
        c = (out[:, 0] - out[:, 1]) / (noise[:, 0] - noise[:, 1])
        d, a = out[:, 1] - c * noise[:, 1], (out[:, 2:] - out[:, 1:2]).mT
        mean[alive] = (a @ mean[alive, :, None])[..., 0] + d
        covariance[alive] = a @ covariance[alive] @ a.mT + c[:, :, None] * c[:, None]
        loudest[alive] = torch.maximum(loudest[alive], c.abs().amax(1))
        going = ~state.done
        state, alive = state.select(going), alive[going[::rows]]
    return list(zip(mean[:, 0].tolist(), covariance[:, 0, 0].tolist(), loudest.tolist(), strict=True))


@EVERY
@SCHEDULE
def test_the_mean_is_exact_and_the_variance_converges_at_the_samplers_order(name, schedule):
    """A start at the true mean stays at the true mean, as D(alpha m) = m, whatever the step."""
    process, data = Gaussian(schedule=schedule), exact.Scalar(schedule=schedule, mean=0.6, variance=0.25)
    grid, tool = LogSNR(low=0.02, high=10.0, to_zero=False), SAMPLERS[name]
    mean, variance = (float(moment) for moment in data.moments(grid(torch.tensor([4]), schedule)[:, -1]))
    got = propagate(tool, data, process, grid, COUNTS)
    order = order_of(name)
    assert [m for m, _, _ in got] == pytest.approx([mean] * len(COUNTS), rel=1e-12)
    errors = torch.tensor([abs(v - variance) / variance for _, v, _ in got], dtype=torch.float64)
    measured, follows = slope(torch.tensor(COUNTS), errors), tool.convergence_order is not None
    assert errors[-1] < (0.03 if order == 1 else 1e-3)
    assert measured > (min(order, 2) - 0.4 if follows else order - 0.15)  # a flow's own order is another law's
    assert follows or measured < order + 0.15
    assert all((loudest == 0) == follows for _, _, loudest in got)  # the flow needs no noise


@EVERY
def test_samples_of_many_steps_have_the_moments_of_the_data(name):
    process, data = Gaussian(sigma_data=0.5), exact.Scalar(mean=0.6, variance=0.25)
    ((mean, variance, _),) = propagate(SAMPLERS[name], data, process, KarrasGrid(), [80])
    assert mean == pytest.approx(0.6, rel=1e-12)
    assert variance == pytest.approx(0.25, rel=0.16 if order_of(name) == 1 else 2e-2)


@EVERY
def test_the_propagated_moments_are_those_of_samples(name):
    """The propagation itself, checked once against draws: many rows of few steps."""
    process, data, rows = Gaussian(sigma_data=0.5), exact.Scalar(mean=0.0, variance=0.25), 20_000
    tool, grid = SAMPLERS[name], LogSNR(low=0.1, high=10.0, to_zero=False)
    state = start(
        tool,
        process,
        torch.zeros(rows, 1).double(),
        grid(torch.tensor([6]), data.schedule).expand(rows, -1),
        torch.arange(rows),
    )
    while not bool(state.done.all()):
        state = tool.update(state, data(state.x, state.t), process)
    ((mean, variance, _),) = propagate(tool, data, process, grid, [6])
    assert abs(float(state.x.mean()) - mean) < 6 * (variance / rows) ** 0.5
    assert float(state.x.var()) == pytest.approx(variance, rel=6 * (2 / rows) ** 0.5)
