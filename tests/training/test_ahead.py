"""Reading ahead changes no bit, reads each batch once, and reads nothing while the caller does."""

import threading
import time

import pytest
import torch

from langevin.diffusion.batch import step_randomness
from langevin.training.ahead import Ahead, copied
from langevin.training.plan import StepPlan
from tests import tiny

CPU = torch.device("cpu")


def run(prefetch, *, replanned=False, micro=None):
    """Everything at the end of six steps, the loss of each, and the (step, samples) that were read."""
    training, made = tiny.config(steps=6, batch=7, micro_batch=micro, prefetch=prefetch), tiny.method(dropout=0.2)
    state, read, seen = tiny.state_of(made, training), tiny.batches(training, flip=True), []

    def counted(step, samples, draw):
        seen.append((step, tuple(samples.tolist()), draw.progress))
        return read(step, samples, draw)

    losses = []
    for report in tiny.fit(state, counted, made, training, world=tiny.ALONE):
        losses.append(report.loss)
        if replanned and report.step == 2:
            state.plan = state.plan.decided(2, 5)
    return tiny.everything(state), losses, seen


@pytest.mark.parametrize("micro", [None, 3])
@pytest.mark.parametrize("replanned", [False, True])
def test_reading_ahead_changes_no_bit(micro, replanned):
    plain, ahead = (run(prefetch, micro=micro, replanned=replanned) for prefetch in (0, 2))
    tiny.assert_same(plain[0], ahead[0])
    assert plain[1] == ahead[1]
    if replanned:
        assert set(plain[2]) <= set(ahead[2])  # what was read for the plan before is read again
        assert StepPlan.of(6).decided(2, 5).progress(3) != StepPlan.of(6).progress(3)
    else:
        assert ahead[2] == plain[2], "each batch once, in order"


def requests(count):
    rows = torch.arange(4)
    return [(step, rows, step_randomness(seed=1, step=step, samples=rows, count=4)) for step in range(count)]


def test_what_is_expected_is_read_in_another_thread_before_it_is_taken_and_an_error_reaches_the_taker():
    threads, done = [], threading.Event()

    def read(step, samples, draw):
        threads.append(threading.current_thread())
        if step == 1:
            done.set()
        if step == 2:
            raise ValueError("no such file")
        return step

    reader, wanted = Ahead(read, CPU), requests(3)
    reader.expect(wanted)
    assert done.wait(10)
    assert [reader(*request) for request in wanted[:2]] == [0, 1]
    with pytest.raises(ValueError, match="no such file"):
        reader(*wanted[2])
    assert threading.main_thread() not in threads
    reader.close()


def test_nothing_is_read_while_it_is_paused():
    seen = []
    reader = Ahead(lambda step, samples, draw: seen.append(step), CPU)
    with reader.paused():
        reader.expect(requests(2))
        time.sleep(0.05)
        assert seen == []
    reader(*requests(1)[0])
    reader.close()
    assert seen[0] == 0


def test_a_copy_to_main_memory_is_the_tensor_itself():
    tensor = torch.arange(3)
    assert copied(tensor, CPU) is tensor


@pytest.mark.parametrize("depth", [-1, 1025])
def test_a_wrong_depth_is_refused(depth):
    with pytest.raises(ValueError, match=r"training\.prefetch is a number of batches, 0 to 1024"):
        tiny.config(prefetch=depth)
