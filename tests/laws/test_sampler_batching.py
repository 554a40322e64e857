"""Law of samplers: a row alone is the row in a batch, bit for bit, whatever the others are and whenever they join.

The denoiser is elementwise here; a network whose matrix products round differently in another batch size is its own
affair. All comparisons are for equality, with no tolerance.
"""

import itertools

import pytest
import torch

from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.posterior import Joint
from langevin.diffusion.process import Gaussian, Masked, Product
from langevin.diffusion.sampler import DDIM, Ancestral, KarrasGrid, LogSNR, UniformTimeGrid, sample, start
from langevin.diffusion.sampler.state import State, gather_per_sample, stack
from langevin.diffusion.shape import tree_map
from tests import exact
from tests.laws.parts import SAMPLERS, SCHEDULES

STEPS = [1, 2, 5, 9, 14]
EVERY = pytest.mark.parametrize("name", SAMPLERS)
SCHEDULE = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
SHAPE = (2, 3)


def last(states) -> State:
    for state in states:
        final = state
    return final


def begin(tool, process, grid, steps, seeds, dtype=torch.float64, shape=SHAPE) -> State:
    times = grid(torch.tensor(steps), process.schedule)
    return start(tool, process, torch.zeros(len(steps), *shape, dtype=dtype), times, torch.tensor(seeds))


@EVERY
@SCHEDULE
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_alone_is_the_row_in_a_batch_of_other_step_counts(name, schedule, dtype):
    process, grid = Gaussian(schedule=schedule), KarrasGrid()
    tool, denoiser = SAMPLERS[name], exact.Scalar(schedule=schedule)
    seeds = [7, 1, 100, 3, 7]
    together = last(sample(tool, process, denoiser, begin(tool, process, grid, STEPS, seeds, dtype)))
    assert together.x.dtype == dtype
    assert bool(together.done.all())
    for i, (n, seed) in enumerate(zip(STEPS, seeds, strict=True)):
        alone = last(sample(tool, process, denoiser, begin(tool, process, grid, [n], [seed], dtype)))
        assert torch.equal(alone.x[0], together.x[i])


@EVERY
@SCHEDULE
def test_rows_may_join_late_and_leave_early(name, schedule):
    """A tiny server: every second tick a request joins, each with a grid of its own; one update a tick for all."""
    process = Gaussian(schedule=schedule)
    tool, denoiser = SAMPLERS[name], exact.Scalar(schedule=schedule)
    grids = [
        KarrasGrid(),
        LogSNR(low=0.01),
        UniformTimeGrid(),
        KarrasGrid(to_zero=False, low=0.1),
        UniformTimeGrid(high=5.0),
    ]
    requests = [begin(tool, process, grid, [n], [n]) for grid, n in zip(grids, STEPS, strict=True)]
    alone = [last(sample(tool, process, denoiser, request)).x for request in requests]
    waiting, active, finished, tick = list(enumerate(requests)), [], {}, 0
    while waiting or active:
        if waiting and tick % 2 == 0:
            active.append(waiting.pop())
        batch = stack([state for _, state in active])
        told = tool.update(batch, denoiser(batch.x, batch.t), process)
        active = [(i, told.select(slice(j, j + 1))) for j, (i, _) in enumerate(active)]
        finished |= {i: state.x for i, state in active if bool(state.done.all())}
        active = [(i, state) for i, state in active if not bool(state.done.all())]
        tick += 1
    assert all(torch.equal(finished[i], alone[i]) for i in range(len(requests)))


@EVERY
def test_a_state_stops_and_goes_on(name):
    process = Gaussian()
    tool, denoiser = SAMPLERS[name], exact.Scalar()
    state = begin(tool, process, KarrasGrid(), STEPS, [0, 1, 2, 3, 4])
    whole = last(sample(tool, process, denoiser, state))
    then = last(itertools.islice(sample(tool, process, denoiser, state), 4))  # in the middle of a step of Heun's
    order = torch.tensor([4, 2, 0, 1, 3])
    assert torch.equal(last(sample(tool, process, denoiser, then.select(order))).x, whole.x[order])


@EVERY
def test_equal_seeds_give_equal_samples_and_others_others(name):
    process = Gaussian()
    tool = SAMPLERS[name]
    x = last(sample(tool, process, exact.Scalar(), begin(tool, process, KarrasGrid(), [6, 6, 6], [5, 5, 6]))).x
    assert torch.equal(x[0], x[1])
    assert not torch.equal(x[0], x[2])


@EVERY
@SCHEDULE
def test_places_with_times_of_their_own_behave_as_if_alone(name, schedule):
    """Three places in one row, on grids of different spacing; the last is known from the start and never changes.

    Where a place begins without signal beside others that do not, the row's questions are not those of the place alone: the
    draws between steps have other numbers, and the knots of a start at full order lie elsewhere, so those begin at a signal
    here. Restart refuses such rows."""
    process = Gaussian(schedule=schedule)
    tool, denoiser = SAMPLERS[name], exact.Scalar(schedule=schedule)
    uniform = (
        UniformTimeGrid(high=80.0)
        if name == "edm_stochastic" or (tool.convergence_order or 0) >= 3 or "lower" in name
        else UniformTimeGrid()
    )
    grids = [grid(torch.tensor([8]), schedule)[0] for grid in (KarrasGrid(), LogSNR(low=0.05), uniform)]
    times = torch.stack([*grids, torch.zeros(9, dtype=torch.float64)], -1)[None]
    like, seeds = torch.zeros(1, 4, dtype=torch.float64), torch.tensor([3])
    if name in ("restart", "repaint"):
        with pytest.raises(ValueError, match="one time per sample"):
            start(tool, process, like, times, seeds)
        return
    state = start(tool, process, like, times, seeds)
    given = torch.tensor([[0.0, 0.0, 0.0, 1.25]], dtype=torch.float64)
    state = State(**{**vars(state), "x": torch.where(times[:, 0] == 0, given, state.x)})
    final = last(sample(tool, process, denoiser, state))
    assert bool(final.done.all())
    assert final.x[0, 3] == 1.25
    for i in range(3):
        alone = start(tool, process, like, times[..., i], seeds)
        assert last(sample(tool, process, denoiser, alone)).x[0, i] == pytest.approx(float(final.x[0, i]), abs=1e-12)


def joint_denoiser(number: exact.Scalar, word: exact.Enumerated):
    return lambda x_t, t, condition: Joint({"number": number(x_t["number"], t), "word": word(x_t["word"], t)})


def test_ancestral_sampling_of_symbols_and_of_mixed_data_does_not_depend_on_the_batch():
    law, masked = exact.entangled(), Masked(vocab_size=3)
    mixed = Product(parts={"number": Gaussian(), "word": masked})
    like = {"number": torch.zeros(5, 2, dtype=torch.float64), "word": torch.zeros(5, 3, dtype=torch.int64)}
    times = UniformTimeGrid()(torch.tensor(STEPS), exact.Rectified())
    for process, denoiser, data in ((masked, law, like["word"]), (mixed, joint_denoiser(exact.Scalar(), law), like)):
        tool = Ancestral()
        together = last(sample(tool, process, denoiser, start(tool, process, data, times, torch.arange(5)))).x
        for i, n in enumerate(STEPS):
            one = tree_map(lambda part, i=i: part[i : i + 1], data)
            state = start(tool, process, one, times[i : i + 1, : n + 1], torch.tensor([i]))
            alone = last(sample(tool, process, denoiser, state)).x
            same = tree_map(lambda a, b, i=i: (a[0] == b[i]).all(), alone, together)
            assert all(same.values()) if isinstance(same, dict) else bool(same)


def test_the_condition_follows_its_row():
    process = Gaussian()
    tool = SAMPLERS["ddim"]
    seen = []

    def denoiser(x_t, t, condition):
        seen.append(condition.global_.tensor.tolist())
        return exact.Scalar()(x_t, t)

    told = Condition(global_=Port(tensor=torch.tensor([10, 20, 30])))
    last(sample(tool, process, denoiser, begin(tool, process, KarrasGrid(), [3, 1, 2], [0, 1, 2]), told))
    assert seen == [[10, 20, 30], [10, 30], [10]]


def test_one_network_call_an_update_and_none_for_rows_that_are_done():
    process, calls = Gaussian(), []

    def denoiser(x_t, t, condition):
        calls.append(len(t))
        return exact.Scalar()(x_t, t)

    for name, want in (("ddim", [3, 2, 1]), ("heun", [3, 2, 2, 1, 1])):
        calls.clear()
        tool = SAMPLERS[name]
        assert len(
            list(sample(tool, process, denoiser, begin(tool, process, KarrasGrid(), [3, 1, 2], [0, 1, 2])))
        ) == len(want)
        assert calls == want
    done = start(tool, process, torch.zeros(1, 2), torch.zeros(1, 3), torch.tensor([0]))
    assert list(sample(tool, process, denoiser, done)) == []


def test_the_loop_records_no_gradient():
    process, scale = Gaussian(), torch.ones((), requires_grad=True)
    tool = SAMPLERS["heun"]

    def denoiser(x_t, t, condition):
        return exact.Scalar()(scale * x_t, t)

    assert not last(sample(tool, process, denoiser, begin(tool, process, KarrasGrid(), [2], [0]))).x.requires_grad


@pytest.mark.parametrize(
    ("times", "seeds"),
    [
        (torch.tensor([[0.5, 0.6, 0.0]]), [0]),
        (torch.tensor([[1.5, 0.5, 0.0]]), [0]),
        (torch.tensor([[0.5, float("nan"), 0.0]]), [0]),
        (torch.tensor([[float("nan"), 0.5, 0.0]]), [0]),
        (torch.tensor([[0.5]]), [0]),
        (torch.tensor([0.5, 0.0]), [0]),
        (torch.tensor([[0.5, 0.0]]), [0, 1]),
        (torch.tensor([[0.5, 0.0], [0.5, 0.0]]), [0]),
        (torch.ones(1, 2, 5), [0]),
    ],
)
def test_bad_times_are_refused(times, seeds):
    process = Gaussian()
    with pytest.raises(ValueError, match=r"time|rows"):
        start(SAMPLERS["ddim"], process, torch.zeros(1, 4), times, torch.tensor(seeds))


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_a_bad_share_of_noise_is_refused(eta):
    with pytest.raises(ValueError, match="eta"):
        DDIM(eta=eta)


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_what_is_due_is_the_same_for_rows_at_one_place_and_at_several(shape):
    values = torch.randn(3, 5, *shape, dtype=torch.float64)
    for places in ([2, 2, 2], [0, 4, 1], [-1, -1, -1], [9, 9, 9], [-2, 3, 7]):
        found = gather_per_sample(values, torch.tensor(places))
        assert torch.equal(found, torch.stack([values[i, min(max(k, 0), 4)] for i, k in enumerate(places)]))


def test_rows_that_have_something_left_are_told():
    tool, process = SAMPLERS["ddim"], Gaussian()
    state = begin(tool, process, KarrasGrid(), [1, 3, 2], [0, 1, 2])
    seen = []
    for told in sample(tool, process, exact.Scalar(), state):
        left = told.active_samples()
        seen.append(None if left is None else left.tolist())
        assert torch.equal(told.done, torch.tensor([i not in (left.tolist()) for i in range(3)]))
    assert state.active_samples() is None
    assert seen == [[1, 2], [1], []]
