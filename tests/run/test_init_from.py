"""A run that starts from another: its rates are a factor times the configured ones, after a stop too, and it says so."""

import torch

from langevin.cli import main
from langevin.run.directory import open_run
from langevin.training import checkpoint

SMALL = (
    "network.width=16", "network.depth=1", "data.count=200", "sampling.steps=3", "training.threads=1", "training.steps=6",
    "sampling.ema=0.1", "training.optimizer.kind=adamw",
)  # fmt: skip


def weights(path):
    return checkpoint.load(checkpoint.steps(open_run(path).checkpoints)[0]).groups["model"]


def test_the_rates_of_a_run_that_starts_from_another_are_a_factor_times_those_it_names(tmp_path, capsys):
    first = tmp_path / "first"
    assert main(["train", "toy/mixture", "--out", str(first), *SMALL]) == 0
    ends = []
    for name, rate, factor in (("gentle", 0.002, 0.25), ("named", 0.0005, 1.0), ("full", 0.002, 1.0)):
        changes = (f"init_from={first}", f"training.optimizer.lr={rate}", f"training.init_lr_factor={factor}")
        assert main(["train", "toy/mixture", "--out", str(tmp_path / name), *SMALL, *changes]) == 0
        said = capsys.readouterr()
        assert f"{factor:g} times the configured ones" in said.out + said.err
        ends.append(weights(tmp_path / name))
    gentle, named, full = ends
    assert all(torch.equal(gentle[name], named[name]) for name in gentle)
    assert not all(torch.equal(gentle[name], full[name]) for name in gentle)
    alone = tmp_path / "alone"  # a run from nothing has the rates that it names
    assert main(["train", "toy/mixture", "--out", str(alone), *SMALL, "training.init_lr_factor=0.25"]) == 0
    assert all(torch.equal(t, weights(alone)[name]) for name, t in weights(first).items())
