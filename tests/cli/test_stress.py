"""`stress` on the command line: the game, the limits, and a run that is trained on what was found."""

import json

import pytest
import torch

from langevin.cli import stress
from langevin.run.directory import open_run
from tests import pictures, tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stressed")
    return tiny.run_of(pictures.classes(folder / "data", count=60), folder / "run", "data.val_fraction=0.3")


GAME = ("--measure", "brightness", "--budget", 24, "--rounds", 2, "--conditions", 12)


def test_a_game_is_told_and_leaves_the_run_as_it_is(run, told):
    before = {file: file.read_bytes() for file in run.rglob("*.safetensors")}
    status, _, err = told("stress", run, *GAME, "--scales", 0.8, 1.2)
    assert status == 0, err
    figures = json.loads((run / "stress.json").read_text())
    assert figures["before"]["value"] <= figures["before"]["random"] + 1e-9
    assert len(figures["before"]["rounds"]) == 2
    assert {"guidance", "scale of the noise", "class"} == set(figures["before"]["by"])
    assert list((run / "samples").glob("stress-brightness-seed0.*"))
    assert all(file.read_bytes() == content for file, content in before.items())
    assert "the worst twentieth of 24 requests" in err


def playing_as(monkeypatch, *values):
    """The adversary finds these values, one game after the other, and everything else is as it is."""
    played, every = stress.figures, iter(values)
    monkeypatch.setattr(stress, "figures", lambda *given: {**played(*given), "value": next(every)})


def test_a_hardened_run_refuses_guidance_beyond_its_limits(run, told, tmp_path, monkeypatch):
    playing_as(monkeypatch, 0.1, 0.2, 0.3)
    monkeypatch.setattr(stress, "held_out_losses", lambda model, val: torch.ones(9, dtype=torch.float64))
    out = tmp_path / "hardened"
    status, _, err = told("stress", run, *GAME, "--harden", "--train-steps", 1, "--out", out)
    assert status == 0, err
    low, high = open_run(out).recipe.sampling.guidance_range
    assert low <= 1 <= high
    status, _, err = told("sample", out, "--count", 1, "--guidance", high + 1, "--out", tmp_path / "a.png")
    assert status == 1
    assert "within which this run holds up" in err


@pytest.mark.parametrize(
    ("values", "rise"), [((0.1, 0.2, 0.2), 0.0), ((0.1, 0.2, 0.3), 0.5)], ids=["worse", "by heart"]
)
def test_training_that_does_not_help_is_refused_and_the_figures_are_kept(
    run, values, rise, told, tmp_path, monkeypatch
):
    playing_as(monkeypatch, *values)
    losses = iter((1.0, 1.0 + rise))
    held_out = lambda model, val: next(losses) + torch.linspace(0, 1e-3, 9, dtype=torch.float64)  # noqa: E731
    monkeypatch.setattr(stress, "held_out_losses", held_out)
    out = tmp_path / "hardened"
    status, _, err = told("stress", run, *GAME, "--harden", "--train-steps", 1, "--out", out)
    assert status == 1
    assert "does not help" in err
    assert not out.exists()
    assert json.loads((run / "stress.json").read_text())["hardened"]["value"] == values[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--measure", "beauty"), "--measure is one of"),
        (("--measure", "brightness", "--rounds", 0), "--rounds is 1 to 100"),
        (("--measure", "brightness", "--budget", 4), "--budget 8 requests a round"),
        (("--measure", "brightness", "--guidance", 3, 1), "--guidance is the lower bound and the upper one"),
        (("--measure", "brightness", "--edits", 1), "only captions have words to change"),
    ],
)
def test_what_cannot_be_played_is_refused(run, told, options, words):
    status, _, err = told("stress", run, *options)
    assert status == 1
    assert words in err
