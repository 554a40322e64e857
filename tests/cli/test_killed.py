"""A run that is killed without warning, again and again, ends in the bits of one that was left alone."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from langevin.cli import main
from langevin.training import checkpoint
from langevin.training.metrics import read_metrics
from tests import pictures, tiny

CHANGES = ["training.checkpoint_minutes=0.00001", "training.micro_batch=5", "network.dropout=0.2",
           "data.flip=true"]  # fmt: skip


def groups(run):
    return checkpoint.load(checkpoint.steps(run / "checkpoints")[0]).groups


def go(data, out, steps):
    """The command that goes on: train where there is no run yet, else resume."""
    if (out / "recipe.yaml").exists():
        return ["resume", str(out)]
    return ["train", str(data), "--out", str(out), f"training.steps={steps}", *tiny.SMALL, *CHANGES]


def forked(arguments):
    """A process of the command line, without a second import of everything."""

    def run():
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os._exit(main(arguments))

    process = multiprocessing.get_context("fork").Process(target=run, daemon=True)
    process.start()
    return process.pid, lambda: process.join(120) or process.exitcode


def started(arguments):
    """A process of the command line, from the beginning."""
    code = "from langevin.cli import entry; entry()"
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.DEVNULL)
    return process.pid, lambda: process.wait(120)


def kill_and_resume(folder, begin, *, steps, kills, longest):
    """Kill a run `kills` times at random moments and let it end; returns the steps that its checkpoints had reached.

    Only kills that hit a living process count; a run that ends before it has been killed so often is no test."""
    data = pictures.classes(folder / "data")
    whole, broken = folder / "whole", folder / "broken"
    assert main(go(data, whole, steps)) == 0
    moment = torch.Generator().manual_seed(4)
    seen = []
    while len(seen) < kills:
        pid, wait = begin(go(data, broken, steps))
        time.sleep(longest * float(torch.rand((), generator=moment)))
        os.kill(pid, signal.SIGKILL)
        assert wait() == -signal.SIGKILL, f"the run ended after {len(seen)} kills of {kills}"
        found, complaints = checkpoint.load_latest(broken / "checkpoints")
        assert complaints == []
        seen.append(found.state["step"] if found else 0)
    assert main(go(data, broken, steps)) == 0
    first, second = groups(whole), groups(broken)
    assert first.keys() == second.keys()
    for group, tensors in first.items():
        assert all(torch.equal(tensor, second[group][name]) for name, tensor in tensors.items())
    for kind in ("loss", "val_loss"):
        steps = [[m["step"] for m in read_metrics(run / "metrics.jsonl") if kind in m] for run in (whole, broken)]
        assert steps[0] == steps[1]
    names = [sorted(p.name for p in (run / "ema").iterdir()) for run in (whole, broken)]
    assert names[0] == names[1]
    return seen


def test_a_run_killed_three_times_ends_as_one_that_was_not(tmp_path):
    kill_and_resume(tmp_path, forked, steps=100, kills=3, longest=1.0)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_killed_fifty_times_ends_as_one_that_was_not(tmp_path):
    seen = kill_and_resume(tmp_path, forked, steps=1500, kills=50, longest=0.8)
    assert len(set(seen)) > 25, seen


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_processes_killed_while_they_start_and_train_end_as_one_that_was_not(tmp_path):
    kill_and_resume(tmp_path, started, steps=1000, kills=8, longest=12.0)
