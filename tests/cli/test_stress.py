"""`stress` on the command line: the game, the limits, and a run that is trained on what was found."""

import json

import pytest

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


def test_the_hardened_run_is_a_run_with_limits_or_a_reason(run, told, tmp_path):
    out = tmp_path / "hardened"
    status, _, err = told("stress", run, *GAME, "--harden", "--train-steps", 1, "--out", out)
    if status == 0:
        low, high = open_run(out).recipe.sampling.guidance_range
        assert low <= high
        status, _, err = told("sample", out, "--count", 1, "--guidance", high + 1, "--out", tmp_path / "a.png")
        assert status == 1
        assert "within which this run holds up" in err
    else:
        assert "does not help" in err
        assert not out.exists()


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
