"""Plans of steps: progress without a jump, exact where there is one decision, and a budget kept when the speed changes."""

from fractions import Fraction
from itertools import pairwise

import pytest
import torch

from langevin.training import checkpoint
from langevin.training.loop import Clock
from langevin.training.metrics import read_metrics
from langevin.training.optimizer import LRSchedule
from langevin.training.plan import StepPlan, replanned, steps_within
from langevin.training.session import Hooks, train
from tests import tiny
from tests.methods.game import Game, batches

ONE = StepPlan.of(120)
SHORTER, LONGER = ONE.decided(30, 60), ONE.decided(30, 500)
TWICE = SHORTER.decided(47, 300)


@pytest.mark.parametrize("total", [1, 2, 7, 120, 99_991])
def test_the_position_in_a_run_planned_once_is_the_step(total):
    plan = StepPlan.of(total)
    assert all(plan.position(step) == step for step in {0, 1, total // 3, total - 1, total})
    assert plan.progress(total) == 1


@pytest.mark.parametrize("plan", [SHORTER, LONGER, TWICE])
def test_progress_has_no_jump_where_a_decision_is_made_and_ends_at_one(plan):
    before, step = StepPlan(decisions=plan.decisions[:-1]), plan.decisions[-1][0]
    assert plan.progress(step) == before.progress(step)
    assert plan.progress(plan.total) == 1
    assert plan.progress(step + 1) - plan.progress(step) == (1 - plan.progress(step)) / (plan.total - step)


@pytest.mark.parametrize("plan", [SHORTER, LONGER, TWICE])
def test_the_learning_rate_has_no_jump_where_a_decision_is_made(plan):
    schedule, step = LRSchedule(), plan.decisions[-1][0]
    before = StepPlan(decisions=plan.decisions[:-1])
    old, new = (schedule(p.position(step), p.total) for p in (before, plan))
    assert new == pytest.approx(old, abs=1e-12)
    factors = [schedule(plan.position(s), plan.total) for s in range(step, plan.total)]
    moves = [abs(b - a) for a, b in pairwise(factors)]
    # in the cool-down of a quarter of the run, progress a step makes four times as much in the factor
    assert max(moves) <= 4.0001 * float((1 - plan.progress(step)) / (plan.total - step))
    assert factors[-1] < 0.25


def test_parts_of_the_progress_are_the_first_steps_that_reach_them():
    assert ONE.steps_at(4) == {30, 60, 90, 120}
    assert StepPlan.of(3).steps_at(10) == {1, 2, 3}
    for plan in (SHORTER, LONGER, TWICE):
        reached = {}
        for step in range(1, plan.total + 1):
            known = [d for d in plan.decisions if d[0] < step]
            progress = StepPlan(decisions=tuple(known)).progress(step)
            for i in range(1, 11):
                if progress >= Fraction(i, 10):
                    reached.setdefault(i, step)
        assert plan.steps_at(10) == set(reached.values())


@pytest.mark.parametrize("step", [5, 12, 59])
def test_parts_that_were_reached_stay_where_they_were(step):
    later = ONE.decided(step, 200)
    assert {s for s in ONE.steps_at(10) if s <= step} == {s for s in later.steps_at(10) if s <= step}


@pytest.mark.parametrize("decisions", [(), ((1, 5),), ((0, 0),), ((0, 10), (10, 10)), ((0, 10), (8, 20), (4, 30))])
def test_decisions_that_leave_no_step_or_go_back_are_refused(decisions):
    with pytest.raises(ValueError, match="decisions"):
        StepPlan(decisions=decisions)


def test_a_plan_that_keeps_the_budget_is_left_alone():
    left = {"step": 50, "budget": 1000.0, "elapsed": 400.0}
    plan = StepPlan.of(100)
    kept = 0.93 * 600 / 50  # seconds a step that fill what is left
    assert replanned(plan, **left, recent=[kept] * 15) is None
    assert replanned(plan, **left, recent=[1.05 * kept] * 15) is None
    one = replanned(plan, **left, recent=[kept] * 14 + [1e6]).total
    assert 75 < one < 100, "one endless step is no endless slowness"
    assert replanned(plan, **left, recent=[3 * kept] * 4) is None, "a few steps are too few to go by"
    assert replanned(plan, **left, recent=[2 * kept] * 15).total == 75
    assert replanned(plan, **left, recent=[kept / 2] * 15).total == 150


def test_a_run_whose_time_is_over_makes_one_more_step():
    assert replanned(StepPlan.of(100), step=50, budget=10.0, elapsed=99.0, recent=[1.0] * 15).total == 51
    assert steps_within(0.0, 1.0) == 1


BUDGET = 600.0  # seconds


class Machine:
    """A clock that stands still but in steps and evaluations; a step takes as long as `speed` says of its number."""

    def __init__(self, seconds, *, evaluation=0.0):
        self.seconds, self.evaluation, self.now = seconds, evaluation, 0.0
        self.evaluated = []
        self.clock = Clock(wall=lambda: self.now, cpu=lambda: self.now)

    def read(self, training):
        read = batches(training.batch)

        def batch(step, rows, draw):
            self.now += self.seconds(step, self.now)
            return read(step, rows, draw)

        return batch

    def evaluate(self, step):
        self.evaluated.append(step)
        self.now += self.evaluation
        return {}


def timed(folder, machine, *, until=None):
    """A run of `BUDGET` by the machine's clock; returns the state."""
    training = tiny.config(steps=None, minutes=BUDGET / 60, checkpoint_minutes=0.5, batch=2, threads=1, snapshots=4)
    made = Game()
    state = tiny.state_of(made, training)

    def progress(at):
        if at.step == until:
            raise KeyboardInterrupt

    hooks = Hooks(progress=progress, measure=machine.evaluate)
    train(folder, state, machine.read(training), made, training, hooks=hooks, world=tiny.ALONE, clock=machine.clock)
    return state


CHANGES = {
    "steady": lambda step, now: 2.0,
    "3 times slower after a fifth": lambda step, now: 2.0 if now < 0.2 * BUDGET else 6.0,
    "3 times faster after a fifth": lambda step, now: 6.0 if now < 0.2 * BUDGET else 2.0,
    "3 times slower near the end": lambda step, now: 2.0 if now < 0.8 * BUDGET else 6.0,
    "slow in the middle": lambda step, now: 6.0 if 0.3 * BUDGET < now < 0.6 * BUDGET else 2.0,
    "every tenth step is long": lambda step, now: 20.0 if step % 10 == 9 else 2.0,
}


@pytest.mark.parametrize("evaluation", [0.0, 4.0, 40.0], ids=lambda seconds: f"evaluations of {seconds:g} s")
@pytest.mark.parametrize("change", CHANGES)
def test_a_run_ends_within_its_budget_whatever_its_speed_does(tmp_path, change, evaluation):
    machine = Machine(CHANGES[change], evaluation=evaluation)
    state = timed(tmp_path, machine)
    assert abs(machine.now - BUDGET) < 0.15 * BUDGET
    assert state.step == state.plan.total
    decided = [m for m in read_metrics(tmp_path / "metrics.jsonl") if m.get("event") == "plan"]
    assert [(m["step"], m["steps"]) for m in decided] == list(state.plan.decisions)
    if change == "steady" and not evaluation:
        assert len(decided) == 1
    if change.startswith("3 times"):
        assert decided
    last = [m for m in read_metrics(tmp_path / "metrics.jsonl") if "loss" in m][-1]
    assert last["step"] == state.step
    assert last["lr_factor"] < 0.3
    assert state.evaluating <= 0.1 * BUDGET + evaluation
    assert machine.evaluated[-1] == state.step
    assert (len(machine.evaluated) == 10) == (evaluation < 40)


@pytest.mark.parametrize("change", ["3 times slower after a fifth", "3 times faster after a fifth"])
def test_a_run_that_is_planned_anew_and_stopped_follows_the_same_plan_to_the_same_bits(tmp_path, change):
    whole = timed(tmp_path / "whole", Machine(CHANGES[change]))
    at = [step for step, _ in whole.plan.decisions]
    assert len(at) > 1
    for stop in (at[1] - 3, at[1] + 1):
        folder, machine = tmp_path / f"stopped-{stop}", Machine(CHANGES[change])
        with pytest.raises(KeyboardInterrupt):
            timed(folder, machine, until=stop)
        saved = checkpoint.load_latest(folder / "checkpoints")[0].state
        machine.now = saved["elapsed"]  # a step that was not saved is made again, and takes its time again
        state = timed(folder, machine)
        assert state.plan == whole.plan
        tiny.assert_same(tiny.everything(whole), tiny.everything(state))
        assert state.elapsed == pytest.approx(whole.elapsed)


def test_a_run_of_a_number_of_steps_is_never_planned_anew(tmp_path):
    ends = []
    for name, machine in (
        ("quick", Machine(lambda s, now: 1e-3)),
        ("slow", Machine(lambda s, now: 1e3 if s > 4 else 1.0)),
    ):
        training, made = tiny.config(steps=30, minutes=1.0, batch=2, threads=1), Game()
        state = tiny.state_of(made, training)
        train(tmp_path / name, state, machine.read(training), made, training, hooks=Hooks(), world=tiny.ALONE,
              clock=machine.clock)  # fmt: skip
        assert state.plan == StepPlan.of(30)
        ends.append(tiny.everything(state))
    tiny.assert_same(*ends)


def test_a_saved_plan_gives_way_to_a_recipes_number_of_steps(tmp_path):
    training, made = tiny.config(steps=6), Game()
    train(tmp_path, tiny.state_of(made, training), batches(8), made, training, hooks=Hooks(), world=tiny.ALONE)
    longer, made = tiny.config(steps=9), Game()
    state = tiny.state_of(made, longer)
    train(tmp_path, state, batches(8), made, longer, hooks=Hooks(), world=tiny.ALONE)
    assert state.step == 9


def test_averages_of_a_run_planned_anew_are_those_of_its_steps(tmp_path):
    """The profile is of steps: the average kept along the run is that of the trajectory, whatever was decided when."""
    state = timed(tmp_path, Machine(CHANGES["3 times slower after a fifth"]))
    assert sorted(p.name for p in (tmp_path / "ema").iterdir()) == [
        f"step-{step:08d}.safetensors" for step in sorted(state.plan.steps_at(4))
    ]
    assert all(torch.isfinite(t).all() for t in state.groups()["ema-0.05"].values())
