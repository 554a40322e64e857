"""A fault that a method reports and that lasts: the run goes back to before it, says so, and resumes exactly."""

import pytest
import torch

from langevin.diffusion.batch import Batch
from langevin.methods import AdamW, Player, Report
from langevin.training import trend
from langevin.training.loop import Diverged
from langevin.training.session import Hooks, train
from langevin.training.trend import FEWEST, Faults
from tests import tiny

STUCK = "the weight is stuck (set it free)"


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """A fault of 10 steps is enough, so that runs of these tests are short."""
    monkeypatch.setattr(trend, "FEWEST", 10)


class Stop(Exception):
    """What kills a run in these tests."""


class Sticky:
    """One weight, drawn to the data's mean of 1. From `since` on it is stuck, for as many tries as `tries` says.

    A try is known by `StepRandomness.restarts`, as every method's is."""

    def __init__(self, *, since, tries=1, share=1.0):
        self.module = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.module.weight)
        self.players = {"only": Player(module=self.module)}
        self.since, self.tries, self.share, self.seen = since, tries, share, []

    def loss(self, player, batch, draw):
        step = int(draw.noise.steps[0])
        self.seen.append((step, draw.restarts))
        noise = 0.1 * draw.noise.normal(batch.x)
        loss = (self.module.weight[0] - batch.x - noise).square()[:, 0]
        stuck = step >= self.since and draw.restarts < self.tries
        count = round(self.share * len(loss)) if stuck else 0
        return Report(loss=loss, plain=loss.detach(), faults={STUCK: (torch.arange(len(loss)) < count).float()})

    def generator(self):
        return self.module


def ones(step, rows, randomness):
    return Batch(x=torch.ones(len(rows), 1))


def run(folder, made, *, steps=100, stop=None, log=None):
    training = tiny.config(steps=steps, batch=10, optimizer=AdamW(lr=0.05), ema_lengths=(0.1,))
    state = tiny.state_of(made, training)

    def progress(at):
        if stop is not None and stop(at.step, state.restarts):
            raise Stop

    hooks = Hooks(progress=progress, log=log.append if log is not None else lambda line: None)
    try:
        train(folder, state, ones, made, training, hooks=hooks, world=tiny.ALONE)
    except Stop:
        return None
    return state


def test_a_fault_that_lasts_sends_the_run_back_to_the_newest_checkpoint_before_it(tmp_path):
    """Evaluations are at tenths. It is stuck from step 34: not yet at 30, but at 40. It is said 10 steps later."""
    said, made = [], Sticky(since=34)
    state = run(tmp_path, made, log=said)
    assert [line for line in said if line.startswith(f"step 44: {STUCK}: back to step 30, with new randomness")]
    tries = [[step for step, restarts in made.seen if restarts == k] for k in (0, 1)]
    assert tries == [list(range(44)), list(range(30, 100))]
    assert (state.step, state.restarts, state.faults.high) == (100, 1, {STUCK: 0})


@pytest.mark.parametrize("share", [0.0, 0.8])
def test_what_most_samples_are_free_of_is_no_fault(tmp_path, share):
    state = run(tmp_path, Sticky(since=0, share=share))
    assert state.restarts == 0


def test_a_fault_that_comes_back_ends_the_run_with_what_to_do(tmp_path):
    said, made = [], Sticky(since=34, tries=9)
    with pytest.raises(Diverged, match=r"the weight is stuck \(set it free\); lower the learning rate"):
        run(tmp_path, made, log=said)
    assert {restarts for _, restarts in made.seen} == {0, 1, 2, 3}
    told = [line for line in said if "back to step" in line]
    assert ["back to step 30" in line for line in told] == [True] * 3


@pytest.mark.parametrize(("step", "restarts"), [(42, 0), (31, 1), (77, 1)])
def test_a_run_that_is_killed_around_its_return_ends_in_the_same_bits(tmp_path, step, restarts):
    """While the fault is counted, right after the return, and later; the count of a fault is part of the checkpoint."""
    whole = run(tmp_path / "whole", Sticky(since=34))
    killed = tmp_path / "killed"
    assert run(killed, Sticky(since=34), stop=lambda *at: at == (step, restarts)) is None
    tiny.assert_same(tiny.everything(whole), tiny.everything(run(killed, Sticky(since=34))))


def test_the_count_of_a_fault_is_saved():
    made, training = Sticky(since=3), tiny.config(batch=10, steps=50)
    state = tiny.state_of(made, training)
    tiny.advance(state, made, training, until=11, read=ones)
    assert state.faults.high == {STUCK: 8}
    again = tiny.state_of(Sticky(since=3), training)
    again.load(state.groups(), state.counters())
    assert again.faults.high == {STUCK: 8}
    old = {name: value for name, value in state.counters().items() if name != "faults"}
    again.load(state.groups(), old)  # as of a version without faults
    assert again.faults.high == {}


def test_a_fault_lasts_for_a_tenth_of_the_run_and_is_forgotten_twice_as_fast():
    faults = Faults()
    for _ in range(99):
        faults.add({"a": 0.95, "b": 0.85})
    assert faults.lasting(990) == "a"
    assert faults.lasting(1000) is None
    for _ in range(49):
        faults.add({"a": 0.0})
    assert faults.high == {"a": 1, "b": 0}
    assert faults.lasting(20) is None


def test_what_a_short_run_gets_over_is_no_fault(monkeypatch):
    monkeypatch.setattr(trend, "FEWEST", FEWEST)  # as it is outside of these tests
    assert Faults(high={"a": FEWEST - 1}).lasting(50) is None
    assert Faults(high={"a": FEWEST}).lasting(50) == "a"
