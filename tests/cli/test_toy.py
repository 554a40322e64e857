"""Points, drifts and densities from the command line."""

import json
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from langevin.cli import main
from langevin.diffusion.process.drift import sliced
from langevin.modalities.toy.data import draw
from langevin.run.directory import open_run

SMALL = ("network.width=32", "network.depth=1", "training.batch=32", "training.averages=[0.1]", "sampling.average=0.1")
CODE = """
import torch
open("ran", "a").write("x")
def spring(x, t):
    return -2 * x + 0.3 * torch.sin(3 * x)
def wrong(x, t):
    return x.sum(1)
def log_p(x):
    return -0.5 * (x ** 2).sum(1)
def energy(x):
    return 0.5 * (x ** 2).sum(1)
def bad(x):
    return x.sum(1) * float("nan")
number = 3
"""


def train(out, name, *changes, steps=3):
    return main(["train", name, "--out", str(out), f"training.steps={steps}", *SMALL, *changes])


@pytest.fixture(scope="module")
def well(tmp_path_factory):
    out = tmp_path_factory.mktemp("well") / "run"
    assert train(out, "toy/double-well", "data.count=600", "sampling.steps=12") == 0
    return out


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with a module of the user's own."""
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("mine", None)
    yield tmp_path
    sys.modules.pop("mine", None)


def test_a_drift_may_end_where_its_simulation_ends(tmp_path, told):
    """The limit cycle runs on around a ring, which no Gaussian is: the reservoir's distance is that of chance."""
    gaps = {}
    for end in ("reservoir", "normal"):
        status, _, err = told("train", "toy/limit-cycle", "--out", tmp_path / end, "training.steps=1", "data.count=600",
                              "process.steps=20", "sampling.steps=6", f"process.end={end}", *SMALL)  # fmt: skip
        assert status == 0, err
        found = re.search(r"against the prior: W1 ([0-9.]+), two halves of the simulation ([0-9.]+)", err)
        gaps[end] = [float(number) for number in found.groups()]
    assert gaps["reservoir"][0] < 3 * gaps["reservoir"][1]
    assert gaps["normal"][0] > 3 * gaps["reservoir"][0]
    points = open_run(tmp_path / "reservoir").recipe.process.points
    assert len(points) == 540  # the training points, of which 1,000 at most are kept
    assert told("sample", tmp_path / "reservoir", "--count", 40, "--out", tmp_path / "points.npz")[0] == 0


def test_training_says_how_far_the_end_is_from_the_prior(tmp_path, told):
    status, _, err = told(
        "train", "toy/double-well", "--out", tmp_path / "a", "training.steps=1", "data.count=200", *SMALL
    )
    assert status == 0, err
    assert "drift: simulated in 30 steps, ending in its stationary law" in err
    assert "end of the simulation against the prior: W1" in err
    status, _, err = told("train", "toy/double-well", "--out", tmp_path / "b", "training.steps=1", "data.count=200", *SMALL,
                          "process.end=normal", "process.end_std=4")  # fmt: skip
    assert status == 0, err
    assert "the prior does not fit" in err


def test_samples_are_points_and_a_picture(well, tmp_path):
    assert main(["sample", str(well), "--count", "40", "--out", str(tmp_path / "a.npz"), "--seed", "2"]) == 0
    found = np.load(tmp_path / "a.npz")
    assert found["points"].shape == (40, 1)
    assert np.isfinite(found["points"]).all()
    assert (
        main(["sample", str(well), "--count", "8", "--out", str(tmp_path / "b.npz"), "--seed", "4", "--batch", "3"])
        == 0
    )
    assert np.allclose(np.load(tmp_path / "b.npz")["points"], found["points"][2:10], atol=1e-5)
    assert main(["sample", str(well), "--count", "300", "--sampler", "flow", "--out", str(tmp_path / "a.png")]) == 0
    assert Image.open(tmp_path / "a.png").width > 300


def test_evaluate_measures_points_beside_their_floor_and_the_way_beside_the_grid(well, told):
    status, out, err = told("evaluate", well, "--seeds", "2", "--count", "50")
    assert status == 0, err
    assert "W1 held-out" in out
    found = json.loads((well / "evaluation.json").read_text())
    assert found["wasserstein"]["floor"] > 0
    assert len(found["wasserstein"]["generated"]) == 2
    assert [shot["t"] for shot in found["on_the_way"]] == [0.0, 0.1, 0.3, 0.6, 1.0]
    assert all(shot["forward"] < 10 * shot["floor"] + 0.2 for shot in found["on_the_way"])
    assert "against the prior" in found["end"]
    assert (well / "report.html").is_file()
    assert Image.open(well / "samples" / "flow.png").width > 1000


def test_a_run_of_points_is_resumed_to_the_same_bits(tmp_path):
    from safetensors.torch import load_file

    from langevin.training import checkpoint

    weights = []
    for name, stop in (("whole", False), ("cut", True)):
        out = tmp_path / name
        assert train(out, "toy/double-well", "data.count=300", "sampling.steps=3", steps=4) == 0
        if stop:
            for path in checkpoint.steps(out / "checkpoints")[-1:]:
                (path / "manifest.json").unlink()
            assert main(["resume", str(out)]) == 0
        last = checkpoint.steps(out / "checkpoints")[-1]
        weights.append(load_file(last / "model.safetensors"))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_ordinary_diffusion_learns_points(tmp_path):
    """Three bumps in the plane, seconds of training: much nearer to the data than noise of its spread."""
    out = tmp_path / "run"
    assert main(["train", "toy/mixture", "--out", str(out), "training.steps=150", "network.width=64",
                 "network.depth=2", "training.batch=256",
                 "data.count=4000", "training.averages=[0.1]", "sampling.average=0.1"]) == 0  # fmt: skip
    assert main(["sample", str(out), "--count", "800", "--out", str(tmp_path / "a.npz"), "--batch", "800"]) == 0
    x, data = torch.from_numpy(np.load(tmp_path / "a.npz")["points"]), draw("mixture", 800, seed=9)
    noise = torch.randn(800, 2, generator=torch.Generator().manual_seed(0)) * data.std(0) + data.mean(0)
    assert sliced(x, data) < 0.5 * sliced(noise, data)


def test_a_drift_in_the_plane_that_blends_trains_samples_and_is_measured(tmp_path, told):
    out = tmp_path / "run"
    assert train(out, "toy/limit-cycle", "data.count=400", "sampling.steps=12") == 0
    status, _, err = told("evaluate", out, "--seeds", "1", "--count", "40")
    assert status == 0, err
    assert Image.open(out / "samples" / "flow.png").height > 300


def test_points_of_ones_own_are_a_file(tmp_path):
    np.savez(tmp_path / "a.npz", points=draw("ring", 300).numpy())
    assert train(tmp_path / "run", "toy/mixture", f"data={{kind: points, path: {tmp_path / 'a.npz'}}}") == 0


@pytest.mark.parametrize(("options", "words"), [
    (("sample", "--sampler", "heun"), "the sampler heun is not one of a drift process: choose reverse, flow"),
    (("sample", "--gif"), "points have no animation"),
    (("sample", "--out", "folder"), "points are written as .npz, or shown as .png"),
    (("sample", "--condition", "cat"), "cannot be told 'cat'"),
    (("evaluate", "--curve"), "--curve is for images"),
    (("compare",), "compare is for runs on images"),
])  # fmt: skip
def test_what_makes_no_sense_for_points_is_refused(well, options, words, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verb, *rest = options
    assert words in refused(verb, well, *rest)


@pytest.mark.parametrize(("changes", "words"), [
    (["network={kind: dit, width: 32, head_width: 16}"], "codec.kind=coordinates network.kind=mlp"),
    (["codec={kind: pixels}"], "codec.kind=coordinates network.kind=mlp"),
    (["process.f={kind: limit_cycle}", "process.end=blend"], "lives in the plane"),
    (["process.f={kind: limit_cycle}"], "needs the energy that limit_cycle goes down"),
    (["process.f={kind: entry, function: 'no function'}"], "an entry is written module:function"),
    (["process.f={kind: spiral}"], "process.f.kind: there is no 'spiral'"),
    (["process.g=0"], "positive"),
    (["process.steps=1"], "at least 2"),
    (["data.law=heart"], "data.law"),
    (["data.count=2"], "16 to 10 million"),
    (["process.steps=4"], "the drift is not finite at time"),
])  # fmt: skip
def test_a_recipe_of_points_that_makes_no_sense_is_refused(changes, words, refused, tmp_path):
    assert words in refused("train", "toy/double-well", "--out", tmp_path / "a", "training.steps=1", *SMALL, *changes)


# ------------------------------------------------------------------------------------------------- code of one's own


def test_a_drift_of_ones_own_is_run_only_if_the_command_names_or_allows_it(here, refused, told):
    own = (
        "process.f={kind: entry, function: 'mine:spring'}",
        "process.end=blend",
        "data.count=400",
        "sampling.steps=8",
    )
    status, _, err = told("train", "toy/double-well", "--out", "run", "training.steps=2", *SMALL, *own)
    assert status == 0, err
    sys.modules.pop("mine")
    (here / "ran").unlink()
    for verb in ("sample", "evaluate", "resume"):
        message = refused(verb, "run")
        assert "mine:spring, which is code that would be run" in message
        assert "--allow-code" in message
    recipe = (here / "run" / "recipe.yaml").read_text()
    (here / "given.yaml").write_text(recipe)
    assert "--allow-code" in refused("train", "given.yaml", "--out", "other")
    assert not (here / "ran").exists(), "the module was imported without leave"
    assert told("sample", "run", "--allow-code", "--count", "20", "--out", "a.npz")[0] == 0
    assert told("evaluate", "run", "--allow-code", "--seeds", "1", "--count", "30")[0] == 0
    assert (here / "ran").exists()


@pytest.mark.parametrize(("name", "words"), [
    ("mine:nothing", "mine has no function nothing"),
    ("elsewhere:f", "there is no module elsewhere"),
    ("mine:number", "mine:number is a int; a function is asked for"),
    ("mine:wrong", "the drift returned (24,) for states of shape (24, 1)"),
])  # fmt: skip
def test_code_that_is_not_there_or_wrong_is_said(here, name, words, refused):
    entry = f"process.f={{kind: entry, function: '{name}'}}"
    assert words in refused(
        "train", "toy/double-well", "--out", "a", "training.steps=1", *SMALL, entry, "process.end=blend"
    )


# --------------------------------------------------------------------------------------------------------- densities


def test_the_ridge_is_said_not_to_settle_and_what_would_help(tmp_path, told):
    status, _, err = told("sample", "toy/ridge", "--moves", "1500", "--out", tmp_path / "a.npz", "--count", "5000")
    assert status == 0
    assert all(
        words in err for words in ("NOT settled", "(+0.71, +0.71)", "cannot be normalised", "--box", "--confine")
    )
    found = np.load(tmp_path / "a.npz")
    difference = found["points"][:, 0] - found["points"][:, 1]
    assert abs(difference.mean()) < 0.1
    assert abs(difference.std() - 1) < 0.05
    assert found["r_hat"] > 1.05
    assert not found["settled"]
    status, _, err = told("sample", "toy/ridge", "--moves", "1500", "--confine", "1.5", "--out", tmp_path / "a.png")
    assert status == 0
    assert "the chains have settled" in err
    assert Image.open(tmp_path / "a.png").width > 200


def test_a_box_holds_what_is_drawn(tmp_path, told):
    status, _, err = told("sample", "toy/ridge", "--moves", 600, "--box", -1, 2, "--out", tmp_path / "a.npz")
    assert status == 0, err
    points = np.load(tmp_path / "a.npz")["points"]
    assert points.min() >= -1
    assert points.max() <= 2


def test_the_annealed_path_finds_all_bumps(tmp_path, told):
    status, _, err = told("sample", "toy/bumps", "--count", 1000, "--chains", 1000, "--out", tmp_path / "a.npz")
    assert status == 0
    assert "effective of 1000 draws" in err
    x = np.load(tmp_path / "a.npz")["points"]
    shares = [((x - c) ** 2).sum(1) < 2.2 for c in ((-1.5, 0.9), (1.4, 1.1), (0.2, -1.4))]
    assert all(share.mean() > 0.1 for share in shares)


def test_a_density_of_ones_own_is_a_function(here, told, refused):
    for name, more in (("log_p", ()), ("energy", ("--energy",))):
        status, _, err = told("sample", f"mine:{name}", "--dimensions", 3, "--moves", 400, "--out", "a.npz", *more)
        assert status == 0, err
        assert np.load("a.npz")["points"].shape == (16, 3)
        assert abs(np.load("a.npz")["chains"].std() - 1) < 0.1
    assert "--dimensions 2" in refused("sample", "mine:log_p")
    assert "the log-density is nan at state [" in refused("sample", "mine:bad", "--dimensions", 2)
    assert "--steps is for runs" in refused("sample", "toy/ridge", "--steps", 3)
    assert "written as .npz, or shown as .png" in refused("sample", "toy/ridge", "--out", "a.gif")
    assert "at least 4 chains" in refused("sample", "toy/ridge", "--chains", 1)
    assert "nothing to learn" in refused("train", "toy/ridge")
