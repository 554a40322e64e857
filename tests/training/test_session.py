"""A training run in a directory: stopped anywhere it ends in the same bits; in trouble it goes back, or says so."""

import errno
import math
from dataclasses import replace

import pytest
import torch

from langevin.run.requests import Requests, request
from langevin.training import checkpoint
from langevin.training.calibration import calibrate
from langevin.training.loop import Diverged
from langevin.training.metrics import Metrics, read_metrics
from langevin.training.session import Hooks, train
from langevin.training.threads import ThreadPolicy
from tests import tiny


class Stop(Exception):
    """What kills a run in these tests."""


def run(folder, training, *, stop_at=None, hooks=None, spoil=None, **options):
    """Train in a folder; returns the state. `stop_at` breaks off after a step; `spoil` changes (step, batch)."""
    made = tiny.method(**options)
    state = tiny.state_of(made, training)
    read = tiny.batches(training, flip=True)

    def spoiled(step, rows, draw):
        batch = read(step, rows, draw)
        return batch if spoil is None else spoil(step, batch)

    def progress(report):
        if report.step == stop_at:
            raise Stop

    watching = Hooks(progress=progress, measure=lambda step: {"held_out_loss": [0.0]})
    try:
        train(folder, state, spoiled, made, training, hooks=hooks or watching, world=tiny.ALONE, num_evals=3)
    except Stop:
        return None
    return state


def lines(folder):
    return read_metrics(folder / "metrics.jsonl")


def reported(folder):
    """The steps whose loss was written down."""
    return [m["step"] for m in lines(folder) if "loss" in m]


@pytest.mark.parametrize("stops", [(1, 5), (11, 11, 11)])
def test_a_run_stopped_anywhere_ends_as_one_that_was_not(tmp_path, stops):
    training = tiny.config(steps=12, micro_batch=5)
    whole = run(tmp_path / "whole", training, dropout=0.2)
    for stop in stops:
        assert run(tmp_path / "stopped", training, dropout=0.2, stop_at=stop) is None
    tiny.assert_same(tiny.everything(whole), tiny.everything(run(tmp_path / "stopped", training, dropout=0.2)))
    saved = [checkpoint.load_latest(tmp_path / name / "checkpoints")[0] for name in ("whole", "stopped")]
    assert tiny.without_clock(saved[0].state) == tiny.without_clock(saved[1].state)
    assert reported(tmp_path / "whole") == reported(tmp_path / "stopped")
    pair = [sorted((tmp_path / name / "ema").iterdir()) for name in ("whole", "stopped")]
    assert [f.read_bytes() for f in pair[0]] == [f.read_bytes() for f in pair[1]]


def test_a_finished_run_is_left_as_it_is(tmp_path):
    training = tiny.config(steps=3)
    looks = []
    hooks = Hooks(measure=lambda step: {"held_out_loss": [0.0]}, preview=looks.append)
    run(tmp_path, training, hooks=hooks)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    state = run(tmp_path, training, hooks=hooks)
    assert state.step == 3
    assert looks == [0, 1, 2, 3]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_damaged_newest_checkpoint_costs_its_steps_and_nothing_else(tmp_path):
    training = tiny.config(steps=12)
    whole = run(tmp_path / "whole", training)
    run(tmp_path / "cut", training, stop_at=11)
    newest = checkpoint.steps(tmp_path / "cut" / "checkpoints")[0]
    (newest / "optimizer.safetensors").write_bytes(b"")
    said = []
    again = run(tmp_path / "cut", training, hooks=Hooks(log=said.append))
    assert any("optimizer.safetensors" in line for line in said)
    tiny.assert_same(tiny.everything(whole), tiny.everything(again))


def test_checkpoints_of_which_none_can_be_read_end_the_run_and_are_left_alone(tmp_path):
    training = tiny.config(steps=12)
    run(tmp_path, training, stop_at=11)
    for path in checkpoint.steps(tmp_path / "checkpoints"):
        (path / "manifest.json").write_text("{}")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match=r"(?s)starting again from step 0 would lose them.*manifest"):
        run(tmp_path, training)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_the_running_mean_of_the_loss_goes_on_after_a_stop(tmp_path):
    training = tiny.config(steps=12)
    for name, stop in (("whole", None), ("stopped", 9)):
        run(tmp_path / name, training, stop_at=stop)
    run(tmp_path / "stopped", training)
    ends = [next(m for m in reversed(lines(tmp_path / name)) if "smooth_loss" in m) for name in ("whole", "stopped")]
    assert ends[0]["smooth_loss"] == pytest.approx(ends[1]["smooth_loss"], abs=0.02)


def test_metrics_have_every_step_once_after_any_number_of_stops(tmp_path):
    training = tiny.config(steps=45)
    for stop in (22, 31, None):
        run(tmp_path, training, stop_at=stop)
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 12, "lo')  # what a kill in the middle of a line leaves
    assert reported(tmp_path) == [15, 20, 30, 40, 45]
    assert [m["step"] for m in lines(tmp_path) if "held_out_loss" in m] == [15, 30, 45]


def test_metrics_of_later_steps_are_dropped_and_earlier_ones_kept(tmp_path):
    metrics = Metrics(tmp_path / "metrics.jsonl")
    for step in range(1, 6):
        metrics.write(step=step, loss=float(step))
    assert read_metrics(metrics.path) == [{"step": s, "loss": float(s)} for s in range(1, 6)]
    Metrics(metrics.path, after=3).write(step=4, loss=0.0)
    assert [m["step"] for m in read_metrics(metrics.path)] == [1, 2, 3, 4]


def unfit(batch):
    return replace(batch, x=batch.x * math.nan)


def test_trouble_sends_the_run_back_to_its_checkpoint_with_new_randomness(tmp_path):
    training = tiny.config(steps=12, max_bad_steps=2)
    times = []

    def once(step, batch):
        times.append(step)
        return unfit(batch) if step in (6, 7) and times.count(step) == 1 else batch

    said = []
    state = run(tmp_path, training, spoil=once, hooks=Hooks(log=said.append))
    assert [line for line in said if "back to step 4, with new randomness" in line]
    assert times == [0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7, 8, 9, 10, 11]
    assert (state.step, state.restarts, state.skipped, state.consecutive_skips) == (12, 1, 2, 0)
    assert state.finite()
    assert reported(tmp_path) == sorted(set(reported(tmp_path)))
    untroubled = run(tmp_path / "other", training)
    assert not torch.equal(*(next(iter(tiny.everything(s)[0]["model"].values())) for s in (state, untroubled)))


def test_a_run_in_trouble_can_be_stopped_and_resumed_too(tmp_path):
    training = tiny.config(steps=12, max_bad_steps=2)

    def spoil(folder):
        seen = []

        def always_at_the_first_try(step, batch):
            seen.append(step)
            return unfit(batch) if step in (6, 7) and len(seen) < 9 else batch

        return always_at_the_first_try

    whole = run(tmp_path / "whole", training, spoil=spoil("whole"))
    for stop in (5, 9):  # the second time right after going back, or later
        folder = tmp_path / f"stopped-{stop}"
        visits = []

        def stops(progress, stop=stop, visits=visits):
            visits.append(progress.step)
            if len(visits) > 7 and progress.step == stop:
                raise Stop

        run(folder, training, spoil=spoil("stopped"), hooks=Hooks(progress=stops))
        assert visits[-1] == stop
        tiny.assert_same(tiny.everything(whole), tiny.everything(run(folder, training)))


def test_a_run_in_trouble_goes_back_to_a_mark_whatever_the_clock_saved(tmp_path):
    ends = []
    for minutes in (1e-9, 100.0):
        training = tiny.config(steps=12, max_bad_steps=2, checkpoint_minutes=minutes)
        tries = []

        def once(step, batch, tries=tries):
            tries.append(step)
            return unfit(batch) if step in (6, 7) and tries.count(step) == 1 else batch

        ends.append(run(tmp_path / f"{minutes:g}", training, spoil=once))
        assert tries[8:10] == [4, 5]
    tiny.assert_same(tiny.everything(ends[0]), tiny.everything(ends[1]))


def test_trouble_that_stays_ends_the_run_after_three_returns(tmp_path):
    training = tiny.config(steps=12, max_bad_steps=2)
    tries, said = [], []

    def late(step, batch):
        tries.append(step)
        return unfit(batch) if step >= 6 else batch

    with pytest.raises(Diverged, match=r"not finite; lower the learning rate .* or check the data"):
        run(tmp_path, training, spoil=late, hooks=Hooks(log=said.append))
    assert tries.count(6) == 4
    told = [line for line in said if "back to step" in line]
    assert ["back to step 4" in told[0], "back to step 0" in told[1], "back to step 0" in told[2]] == [True] * 3
    found, complaints = checkpoint.load_latest(tmp_path / "checkpoints")
    assert found.state["step"] == 4
    assert complaints == []


def test_weights_that_are_not_finite_are_never_saved_and_send_the_run_back(tmp_path):
    training = tiny.config(steps=12)
    poisoned = []
    made = tiny.method()
    state = tiny.state_of(made, training)

    def poison(progress):
        if progress.step == 7 and not poisoned:  # the next mark is step 8, and the loss is never asked in between
            poisoned.append(True)
            next(iter(state.ema["denoiser"].values.values()))[0].fill_(math.inf)

    said = []
    train(tmp_path, state, tiny.batches(training), made, training,
          hooks=Hooks(progress=poison, log=said.append), world=tiny.ALONE, num_evals=3)  # fmt: skip
    assert any("after step 8 weights or optimizer state are not finite" in line for line in said)
    assert state.finite()
    assert state.restarts == 1


def test_a_full_disk_stops_the_run_with_what_to_do_and_it_resumes_exactly(tmp_path, monkeypatch):
    training = tiny.config(steps=12)
    whole = run(tmp_path / "whole", training)
    real, calls = checkpoint.save_file, []

    def full(tensors, path):
        calls.append(path)
        if len(calls) > 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(OSError, match=r"disk full .*langevin resume"):
            run(tmp_path / "full", training)
    tiny.assert_same(tiny.everything(whole), tiny.everything(run(tmp_path / "full", training)))


@pytest.mark.parametrize("hook", ["measure", "preview"])
def test_a_look_that_fails_is_said_and_does_not_end_the_run(tmp_path, hook):
    def fail(step):
        raise ValueError(f"nothing to see at {step}")

    said = []
    state = run(tmp_path, tiny.config(steps=3), hooks=Hooks(log=said.append, **{hook: fail}))
    assert state.step == 3
    assert "step 3 could not be evaluated: nothing to see at 3" in said


def test_measures_and_sheets_are_taken_at_the_points_of_the_run(tmp_path):
    sheets = []
    hooks = Hooks(measure=lambda step: {"held_out_loss": [float(step)]}, preview=sheets.append)
    run(tmp_path, tiny.config(steps=12), hooks=hooks)
    assert sheets == [0, 4, 8, 12]
    assert [m["step"] for m in lines(tmp_path) if "held_out_loss" in m] == [4, 8, 12]


@pytest.mark.parametrize("step", [4, 12])
def test_a_look_that_a_kill_prevented_is_made_up_for(tmp_path, step):
    def measure(at):
        if at == step and not killed:
            killed.append(at)
            raise Stop
        return {"held_out_loss": [float(at)]}

    killed = []
    with pytest.raises(Stop):
        train_with(tmp_path, measure)
    assert checkpoint.load_latest(tmp_path / "checkpoints")[0].state["step"] == step
    for _ in range(2):
        train_with(tmp_path, measure)
        assert [m["step"] for m in lines(tmp_path) if "held_out_loss" in m] == [4, 8, 12]


def train_with(folder, measure):
    made, training = tiny.method(), tiny.config(steps=12)
    hooks, read = Hooks(measure=measure), tiny.batches(training)
    train(folder, tiny.state_of(made, training), read, made, training, hooks=hooks, world=tiny.ALONE, num_evals=3)


def test_checkpoints_are_also_saved_by_time(tmp_path):
    saved = []

    def look(progress):
        saved.append([p.name for p in checkpoint.steps(tmp_path / "checkpoints")])

    training = tiny.config(steps=6, checkpoint_minutes=1e-9, keep_checkpoints=1)
    run(tmp_path, training, hooks=Hooks(progress=look))
    # what is there before a step's own is saved: the newest, and the two newest at marks (every second step)
    assert [[int(name[-8:]) for name in names] for names in saved] == [
        [0],
        [1, 0],
        [2, 0],
        [3, 2, 0],
        [4, 2],
        [5, 4, 2],
    ]


@pytest.mark.parametrize("steps_before", [0, 3])
def test_calibrating_leaves_everything_as_it_was(steps_before):
    training = tiny.config(steps=12)
    made = tiny.method(dropout=0.3)
    state = tiny.state_of(made, training)
    tiny.advance(state, made, training, until=steps_before)
    before, random = tiny.everything(state), torch.get_rng_state()
    timed = replace(training, steps=None, minutes=0.02)
    found = calibrate(state, tiny.batches(training), made, timed, threads=ThreadPolicy((1,)), world=tiny.ALONE)
    assert found.steps >= 1
    assert found.seconds > 0
    tiny.assert_same(before, tiny.everything(state))
    assert torch.equal(random, torch.get_rng_state())
    straight = tiny.method(dropout=0.3)
    other = tiny.state_of(straight, training)
    tiny.advance(other, straight, training, until=12)
    tiny.advance(state, made, training, until=12)
    tiny.assert_same(tiny.everything(other), tiny.everything(state))


def test_steps_that_a_budget_gives_would_fill_it():
    made = tiny.method()
    training = tiny.config(steps=None, minutes=1000.0)
    state, threads = tiny.state_of(made, training), ThreadPolicy((1,))
    found = calibrate(state, tiny.batches(training), made, training, threads=threads, world=tiny.ALONE)
    assert 0.85 * 60_000 < found.steps * found.seconds < 60_000


def test_a_requested_checkpoint_and_preview_change_nothing_of_the_run(tmp_path):
    """They are made after the very step, and the run ends in the same bits, with the same evaluations."""
    training, wanted, seen = tiny.config(steps=12), {3: {"save"}, 5: {"sample"}, 7: {"save", "sample"}}, []
    whole = run(tmp_path / "whole", training)
    count = iter(range(1, 13))
    hooks = Hooks(
        measure=lambda step: {"held_out_loss": [0.0]},
        preview=seen.append,
        requests=lambda: wanted.get(next(count), set()),
    )
    state = run(tmp_path / "asked", training, hooks=hooks)
    tiny.assert_same(tiny.everything(whole), tiny.everything(state))
    evaluations = [m["step"] for m in lines(tmp_path / "whole") if "held_out_loss" in m]
    assert sorted(set(seen) - {0}) == sorted({5, 7} | set(evaluations))
    assert [m["step"] for m in lines(tmp_path / "asked") if "held_out_loss" in m] == evaluations
    kept = {checkpoint.step_of(path) for path in checkpoint.steps(tmp_path / "asked" / "checkpoints")}
    assert kept - {checkpoint.step_of(path) for path in checkpoint.steps(tmp_path / "whole" / "checkpoints")} <= {3, 7}


def test_ranks_that_begin_later_take_no_request_away_from_the_first(tmp_path):
    now = [0.0]
    first = Requests(run=tmp_path, clock=lambda: now[0])
    request(tmp_path, "stop")
    Requests(run=tmp_path, forget=False)
    now[0] = 1.0
    assert first.take() == {"stop"}


def test_requests_to_a_process_that_has_ended_are_forgotten(tmp_path):
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "stop").touch()
    now = [0.0]
    requests = Requests(run=tmp_path, clock=lambda: now[0])
    now[0] = 1.0
    assert requests.take() == set()
    request(tmp_path, "sample")
    request(tmp_path, "stop")
    assert requests.take() == set()  # it looks now and then
    now[0] = 2.0
    assert (requests.take(), requests.stop) == ({"sample", "stop"}, True)
    (tmp_path / "requests" / "save").mkdir()  # it cannot be removed as a file
    now[0] = 3.0
    assert (requests.take(), requests.stop) == (set(), True)
