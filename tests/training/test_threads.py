"""Thread counts by what steps take: where steps are given, no case collapses and a quiet machine keeps its speed."""

from itertools import pairwise

import pytest
import torch

from langevin.training.calibration import thread_policy
from langevin.training.loop import Clock
from langevin.training.metrics import read_metrics
from langevin.training.session import Hooks, train
from langevin.training.threads import ThreadPolicy, counts_below
from tests import tiny
from tests.methods.game import Game, batches

# samples/s of a small transformer on two cores, by threads: alone, beside a job of two threads, beside a niced one
SPEED = {"quiet": {2: 326, 1: 219}, "beside": {2: 5, 1: 149}, "niced": {2: 292, 1: 219}}
SHARE = {"quiet": {2: 0.97, 1: 1.0}, "beside": {2: 0.5, 1: 0.9}, "niced": {2: 0.9, 1: 1.0}}  # of processor time


def rates(policy, scene, *, seconds=600.0, knows_cpu=True, jitter=0.05):
    """Samples/s in each scene of a machine whose scene at a second is `scene(second)`, and the counts of all steps."""
    random = torch.Generator().manual_seed(1)
    now, total, counts = 0.0, {}, []
    while now < seconds:
        name, count = scene(now), policy.count
        step = 64 / SPEED[name][count] * (1 + jitter * float(torch.rand((), generator=random)))
        done = total.setdefault(name, [0, 0.0])
        done[0], done[1], now = done[0] + 64, done[1] + step, now + step
        counts.append(count)
        policy.observe(step, cpu=SHARE[name][count] * step * count if knows_cpu else None)
    return {name: samples / taken for name, (samples, taken) in total.items()}, counts


def test_a_quiet_machine_keeps_all_its_threads():
    rate, counts = rates(ThreadPolicy((2, 1)), lambda now: "quiet")
    assert rate["quiet"] > 300
    assert set(counts) == {2}


def test_a_job_that_begins_beside_another_does_not_collapse():
    rate, _ = rates(ThreadPolicy((2, 1)), lambda now: "beside")
    assert rate["beside"] > 100
    rate, _ = rates(ThreadPolicy((2, 1)), lambda now: "beside", seconds=120)
    assert rate["beside"] > 95


@pytest.mark.parametrize("knows_cpu", [True, False])
def test_a_neighbour_that_comes_and_goes_costs_little(knows_cpu):
    policy = ThreadPolicy((2, 1))
    rate, counts = rates(policy, lambda now: "beside" if 60 < now < 300 else "quiet", knows_cpu=knows_cpu)
    assert rate["beside"] > 100
    assert counts[-1] == 2
    assert rate["quiet"] > 280  # until it is tried again whether the machine is quiet


def test_a_niced_neighbour_is_no_reason_to_give_up_a_thread():
    rate, counts = rates(ThreadPolicy((2, 1)), lambda now: "niced" if now > 60 else "quiet")
    assert rate["niced"] > 280
    assert counts.count(1) < 0.01 * len(counts)


def test_a_neighbour_that_is_there_half_of_the_time_is_no_reason_to_try_for_ever():
    rate, counts = rates(ThreadPolicy((2, 1)), lambda now: "beside" if (now // 30) % 2 else "quiet", seconds=3600)
    assert rate["beside"] > 100
    switches = sum(a != b for a, b in pairwise(counts))
    assert switches < 60


def test_one_long_step_changes_nothing():
    policy = ThreadPolicy((4, 2, 1))
    for step in range(200):
        assert policy.observe(50.0 if step % 20 == 7 else 1.0) == 4


def test_steps_that_are_slow_for_another_reason_go_back_to_all_threads_and_are_left_alone():
    policy, counts = ThreadPolicy((2, 1)), []
    for step in range(2000):
        counts.append(policy.count)
        slower = 1.0 if step < 50 else 3.0  # longer texts, say: with one thread it is twice that
        policy.observe(slower * (1 if policy.count == 2 else 2))
    assert counts[-1] == 2
    assert counts.count(1) <= 6


def test_counts_go_down_by_halves_and_each_is_judged_by_what_it_gives():
    """A box that shows 16 processors and gives the time of 4: more threads than those wait for each other."""
    policy = ThreadPolicy(counts_below(16))
    assert policy.counts == (16, 8, 4, 2, 1)
    for _ in range(400):
        count = policy.count
        step = 4 / count if count <= 4 else count / 4
        policy.observe(step, cpu=step * min(count, 4))
    assert policy.count == 4


@pytest.mark.parametrize("most", [1, 2, 3, 12, 64])
def test_counts_fall_from_the_most_to_one(most):
    counts = counts_below(most)
    assert (counts[0], counts[-1]) == (most, 1)
    assert list(counts) == sorted(set(counts), reverse=True)


@pytest.mark.parametrize("counts", [(), (0,), (1, 2), (2, 2)])
def test_counts_that_do_not_fall_are_refused(counts):
    with pytest.raises(ValueError, match="thread counts"):
        ThreadPolicy(counts)


def test_a_count_of_the_recipe_is_kept_whatever_happens(two_threads):
    policy = thread_policy(tiny.config(threads=1), torch.device("cpu"))
    assert (policy.counts, torch.get_num_threads()) == ((1,), 1)
    assert {policy.observe(seconds) for seconds in (1.0, 1.0, 1.0, 99.0, 99.0, 99.0)} == {1}


def test_threads_of_an_accelerators_run_are_left_alone(two_threads):
    assert thread_policy(tiny.config(), torch.device("cuda")).counts == (2,)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_run_follows_the_policy_writes_its_switches_down_and_gives_the_threads_back(tmp_path, two_threads):
    """Steps take 0.2 s, and from the 21st to the 60th 13 s on two threads and 0.4 s on one."""
    now, used, read = [0.0], {}, batches(4)

    def batch(step, rows, draw):
        used[step] = torch.get_num_threads()
        now[0] += (0.2 if used[step] == 2 else 0.3) if not 20 <= step < 60 else 13.0 if used[step] == 2 else 0.4
        return read(step, rows, draw)

    game, training, said = Game(), tiny.config(steps=400, batch=4, checkpoint_minutes=100.0), []
    state = tiny.state_of(game, training)
    clock = Clock(wall=lambda: now[0], cpu=lambda: 2 * now[0])
    train(tmp_path, state, batch, game, training, hooks=Hooks(log=said.append), world=tiny.ALONE, clock=clock)
    assert [used[step] for step in (0, 21, 22, 40, 59, 399)] == [2, 2, 1, 1, 1, 2]
    events = [
        (m["step"], m["threads"]) for m in read_metrics(tmp_path / "metrics.jsonl") if m.get("event") == "threads"
    ]
    assert events == [(step, used[step]) for step in range(1, 400) if used[step] != used[step - 1]]
    assert [line.split(": ")[1].split(" from")[0] for line in said if "from here on" in line] == [
        "one thread",
        "2 threads",
    ]
    assert state.counters()["threads"] == 2
    assert torch.get_num_threads() == 2
