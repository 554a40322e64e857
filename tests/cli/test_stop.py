"""Ctrl-C and SIGTERM end a run after the current step, saved; what is printed is true; a second signal leaves at once."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from langevin.cli import main
from langevin.cli.show import LiveLine
from langevin.training import checkpoint
from tests import pictures, tiny

STEPS = 30


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return pictures.classes(tmp_path_factory.mktemp("stop") / "data")


@pytest.fixture(autouse=True)
def heard():
    """Signals as in the foreground: a shell has a job in the background ignore Ctrl-C."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def command(data, out):
    return ["train", str(data), "--out", str(out), f"training.steps={STEPS}", *tiny.SMALL]


def at_step(monkeypatch, step, *signals):
    """Send signals to this process after a step."""
    real = LiveLine.training

    def training(self, progress):
        if progress.step == step:
            monkeypatch.setattr(LiveLine, "training", real)
            for number in signals:
                os.kill(os.getpid(), number)

    monkeypatch.setattr(LiveLine, "training", training)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_step_saves_and_resuming_gives_the_same_bits(
    data, tmp_path, monkeypatch, capfd, number, status
):
    assert main(command(data, tmp_path / "whole")) == 0
    at_step(monkeypatch, 7, number)
    assert main(command(data, tmp_path / "stopped")) == status
    said = capfd.readouterr().err
    assert f"stopped after step 7 of {STEPS}, which is saved" in said
    (again,) = re.findall(r"`langevin (resume \S+)`", said)
    assert checkpoint.load_latest(tmp_path / "stopped" / "checkpoints")[0].state["step"] == 7
    assert signal.getsignal(number) is (signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    assert main(again.split()) == 0
    ends = [checkpoint.load_latest(tmp_path / run / "checkpoints")[0] for run in ("whole", "stopped")]
    assert ends[0].state["step"] == ends[1].state["step"] == STEPS
    for group, tensors in ends[0].groups.items():
        assert all(torch.equal(tensor, ends[1].groups[group][name]) for name, tensor in tensors.items())


def test_a_signal_that_is_ignored_stays_ignored(data, tmp_path, monkeypatch):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    at_step(monkeypatch, 7, signal.SIGINT)
    assert main(command(data, tmp_path / "run")) == 0
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_second_signal_leaves_at_once(data, tmp_path, monkeypatch, capfd):
    at_step(monkeypatch, 7, signal.SIGINT, signal.SIGINT)
    assert main(command(data, tmp_path / "run")) == 130
    said = capfd.readouterr().err
    assert "left at step 7: `langevin resume" in said
    assert "which is saved" not in said
    assert checkpoint.load_latest(tmp_path / "run" / "checkpoints")[0].state["step"] == 6  # that of the last evaluation


def test_a_signal_in_the_last_evaluation_is_heard(data, tmp_path, monkeypatch, capfd):
    at_step(monkeypatch, STEPS, signal.SIGINT)
    assert main(command(data, tmp_path / "run")) == 130
    assert "is complete" in capfd.readouterr().err
    assert checkpoint.load_latest(tmp_path / "run" / "checkpoints")[0].state["step"] == STEPS


def test_an_interruption_before_training_keeps_nothing(data, tmp_path, monkeypatch, capfd):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("langevin.run.teacher.build", interrupt)
    assert main(command(data, tmp_path / "runs" / "new")) == 130
    assert "before training began: nothing was kept" in capfd.readouterr().err
    assert not (tmp_path / "runs" / "new").exists()


def test_a_terminated_process_says_what_is_left(data, tmp_path):
    """From outside, as a scheduler does it."""
    code = "from langevin.cli import entry; entry()"
    arguments = [*command(data, tmp_path / "run"), "training.steps=100000"]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not list((tmp_path / "run" / "samples").glob("step-*")) and time.monotonic() < end:
        time.sleep(0.1)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    (step,) = re.findall(r"stopped after step (\d+) of 100000, which is saved", said)
    assert checkpoint.load_latest(tmp_path / "run" / "checkpoints")[0].state["step"] == int(step)
