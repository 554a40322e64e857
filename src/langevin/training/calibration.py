"""The cost of a step on this machine, measured on real steps, which are then undone."""

import statistics
from dataclasses import dataclass, replace

import torch

from langevin.methods.method import Method
from langevin.training.distributed import World
from langevin.training.loop import REAL_TIME, BatchFn, Clock, StepReport, TrainingConfig, TrainingState, fit
from langevin.training.plan import StepPlan, steps_within
from langevin.training.threads import ThreadPolicy, counts_below

LONGEST = 64  # steps of a calibration, at most


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The measured cost of a step.

    Args:
        steps: how many fit into the time budget.
        seconds: per step.
        spent: seconds that the calibration took.
        threads: the chosen number of CPU threads.
    """

    steps: int
    seconds: float
    spent: float
    threads: int


def thread_policy(config: TrainingConfig, device: torch.device, *, start: int | None = None) -> ThreadPolicy:
    """The thread policy of a run: adaptive up to torch's count, but fixed by `config.threads` or on an accelerator."""
    most = config.threads or torch.get_num_threads()
    adaptive = config.threads is None and device.type == "cpu"
    policy = ThreadPolicy(counts_below(most) if adaptive else (most,), start=start)
    set_threads(policy.count)
    return policy


def set_threads(count: int) -> None:
    """Set the number of CPU threads that torch uses from now on."""
    if count != torch.get_num_threads():
        torch.set_num_threads(count)


def follow(policy: ThreadPolicy, report: StepReport) -> bool:
    """Pass a step's times to the policy and set its thread count for the next step; returns whether it changed."""
    before = policy.count
    set_threads(policy.observe(report.seconds, cpu=report.cpu_seconds))
    return policy.count != before


def calibrate(
    state: TrainingState,
    batches: BatchFn,
    method: Method,
    config: TrainingConfig,
    *,
    threads: ThreadPolicy,
    world: World,
    clock: Clock = REAL_TIME,
    before: float = 0.0,
) -> Calibration:
    """Convert `config.minutes` to a number of steps by timing some; afterwards the state is as before.

    Args:
        before: seconds of the budget that are spent already.
    """
    start = clock.wall()
    assert config.minutes is not None
    budget = 60 * config.minutes - before
    groups = {g: {n: t.detach().clone() for n, t in tensors.items()} for g, tensors in state.groups().items()}
    counters = state.counters()
    state.plan = StepPlan.of(10**6)
    times: list[float] = []
    tolerant = replace(config, max_bad_steps=10**9)
    for report in fit(state, batches, method, tolerant, until=state.step + LONGEST, world=world, clock=clock):
        times.append(report.seconds)
        if follow(threads, report):
            times = []
        enough = len(times) >= 4 and not threads.trying and clock.wall() - start > 0.03 * budget
        if world.broadcast(enough):  # all processes stop at the same step
            break
    state.load(groups, counters)
    seconds = max(statistics.median(times[1:] or times or [report.seconds]), 1e-9)
    spent = clock.wall() - start
    steps = steps_within(budget - spent, seconds)
    return world.broadcast(Calibration(steps=steps, seconds=seconds, spent=before + spent, threads=threads.count))
