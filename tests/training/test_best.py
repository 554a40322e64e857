"""The weights of the least held-out loss: those of that very step, after any stops, and what a run then draws with."""

import contextlib
import math
import shutil

import pytest
import torch

from langevin.cli import main
from langevin.run.directory import open_run
from langevin.training import checkpoint
from langevin.training.best import read_best
from langevin.training.checkpoint import BEST
from langevin.training.metrics import read_metrics
from langevin.training.session import Hooks, train
from tests import tiny

LOSSES = {2: 3.0, 4: 1.0, 6: 2.0, 8: math.nan, 10: 1.5, 12: 1.25}  # of the evaluations of 12 steps


class Stop(Exception):
    """What kills a run in these tests."""


def run(folder, *, losses=LOSSES, stop_at=None, during=None, **changes):
    """Train 12 steps with six evaluations of given losses; returns what is kept. `during`: killed after that measure."""
    training = tiny.config(keep_best=True, **changes)
    made = tiny.method()
    state = tiny.state_of(made, training)

    def progress(report):
        if report.step == stop_at:
            raise Stop

    def preview(step):
        if step and step == during:
            raise Stop  # the loss is measured and what is kept is written

    hooks = Hooks(progress=progress, measure=lambda step: {"val_loss": [losses[step]] * 2}, preview=preview)
    with contextlib.suppress(Stop):
        train(folder, state, tiny.batches(training), made, training, hooks=hooks, world=tiny.ALONE, num_evals=6)
    return read_best(folder / "checkpoints")


def kept(folder):
    """Names and bytes of what is kept, but for what the clock says."""
    (path,) = checkpoint.steps(folder / "checkpoints" / BEST)
    return path.name, {f.name: f.read_bytes() for f in path.glob("*.safetensors")}


def test_the_weights_of_the_least_loss_are_those_that_the_run_had_then(tmp_path):
    best = run(tmp_path / "whole")
    assert (best.step, best.loss) == (4, 1.0)
    saved = checkpoint.load_latest(tmp_path / "whole" / "checkpoints" / BEST)[0]
    assert "optimizer" not in saved.groups
    training = tiny.config()
    made = tiny.method()
    state = tiny.state_of(made, training)
    tiny.advance(state, made, training, until=4)
    for name, tensors in saved.groups.items():
        now = state.groups()[name]
        assert tensors.keys() == now.keys()
        assert all(torch.equal(tensors[key], now[key]) for key in tensors)


@pytest.mark.parametrize("stop", [{"stop_at": 3}, {"stop_at": 4}, {"during": 4}, {"stop_at": 5}, {"stop_at": 11}])
def test_a_run_that_is_killed_anywhere_and_resumed_keeps_the_same_to_the_bit(tmp_path, stop):
    whole = run(tmp_path / "whole")
    run(tmp_path / "killed", **stop)
    assert run(tmp_path / "killed") == whole
    assert kept(tmp_path / "killed") == kept(tmp_path / "whole")


def test_of_equal_losses_the_first_stays_and_a_falling_loss_keeps_the_last(tmp_path):
    assert run(tmp_path / "equal", losses=dict.fromkeys(LOSSES, 1.0)).step == 2
    assert run(tmp_path / "falling", losses={step: -step for step in LOSSES}).step == 12
    assert len(checkpoint.steps(tmp_path / "falling" / "checkpoints" / BEST)) == 1


def test_a_run_does_not_write_through_a_link(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / BEST).symlink_to(elsewhere)
    run(tmp_path / "run")
    assert list(elsewhere.iterdir()) == []


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory):
    """A run on points whose rate is so high that its held-out loss is not least at the end."""
    out = tmp_path_factory.mktemp("best") / "run"
    small = ("network.width=16", "network.depth=1", "data.count=200", "sampling.steps=3", "training.threads=1")
    changes = ("training.steps=40", "training.keep_best=true", "training.optimizer={kind: adamw, lr: 0.5}")
    assert main(["train", "toy/mixture", "--out", str(out), *small, *changes, "training.grad_clip=1e6"]) == 0
    return out


def test_a_run_draws_with_what_it_keeps_and_its_card_says_so(forgetful, capsys, tmp_path):
    run = open_run(forgetful)
    losses = {
        m["step"]: sum(m["val_loss"]) / len(m["val_loss"])
        for m in read_metrics(forgetful / "metrics.jsonl")
        if "val_loss" in m
    }
    best = min(losses, key=lambda step: losses[step])
    built, step, _ = run.load(ema=0.05)
    assert step == best
    group = checkpoint.load(checkpoint.steps(run.checkpoints / BEST)[0]).groups["ema-0.05"]
    assert all(torch.equal(p, group[f"denoiser.network.{n}"]) for n, p in built.model.network.named_parameters())
    card = (forgetful / "card.md").read_text()
    assert "40 steps of" in card
    assert (f"weights of step {best} kept" if best < 40 else "least after the last step, 40") in card
    assert best < 40  # else the run above tests less than it should
    with pytest.raises(ValueError, match=r"no EMA of length 0\.07, and one reconstructed .* is of the run's end"):
        run.load(ema=0.07)
    shutil.copytree(forgetful, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / BEST)
    assert open_run(tmp_path / "run").load(ema=0.05)[1] == 40


def test_a_method_whose_loss_ranks_nothing_keeps_nothing(capsys):
    assert main(["train", "toy/mixture", "method.kind=consistency", "training.keep_best=true"]) == 1
    assert "does not rank what it draws" in capsys.readouterr().err


def test_the_hash_of_a_run_is_also_of_what_is_kept(tmp_path):
    """A student or an adapter notices that its teacher or base draws with other weights."""
    run(tmp_path / "run")
    root = tmp_path / "run" / "checkpoints"
    before = checkpoint.identity(root)
    (path,) = checkpoint.steps(root / BEST)
    saved = checkpoint.load(path)
    shutil.rmtree(root / BEST)
    without = checkpoint.identity(root)
    checkpoint.save(root / BEST, 6, saved.groups, saved.state)
    assert len({before, without, checkpoint.identity(root)}) == 3
