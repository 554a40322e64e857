"""Points, drifts and densities from the command line."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from langevin.cli import main
from langevin.diffusion.process.sde import sliced
from langevin.modalities.points.data import draw
from langevin.notebook import load
from langevin.run.directory import open_run

SMALL = ("network.width=32", "network.depth=1", "training.batch=32", "training.ema_lengths=[0.1]", "sampling.ema=0.1")
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
    """The limit cycle runs on around a ring, which no Gaussian is: the distance of end points is that of chance."""
    gaps = {}
    for end in ("empirical", "normal"):
        status, _, err = told("train", "toy/limit-cycle", "--out", tmp_path / end, "training.steps=1", "data.count=600",
                              "process.steps=20", "sampling.steps=6", f"process.terminal={end}", *SMALL)  # fmt: skip
        assert status == 0, err
        found = re.search(r"against the prior: W1 ([0-9.]+), two halves of the simulation ([0-9.]+)", err)
        gaps[end] = [float(number) for number in found.groups()]
    assert gaps["empirical"][0] < 3 * gaps["empirical"][1]
    assert gaps["normal"][0] > 3 * gaps["empirical"][0]
    points = open_run(tmp_path / "empirical").recipe.process.points
    assert len(points) == 540  # the training points, of which 1,000 at most are kept
    assert told("sample", tmp_path / "empirical", "--count", 40, "--out", tmp_path / "points.npz")[0] == 0


def test_training_says_how_far_the_end_is_from_the_prior(tmp_path, told):
    status, _, err = told(
        "train", "toy/double-well", "--out", tmp_path / "a", "training.steps=1", "data.count=200", *SMALL
    )
    assert status == 0, err
    assert "drift: simulated in 30 steps, ending in its stationary" in err
    assert "end of the simulation against the prior: W1" in err
    status, _, err = told("train", "toy/double-well", "--out", tmp_path / "b", "training.steps=1", "data.count=200", *SMALL,
                          "process.terminal=normal", "process.terminal_std=4")  # fmt: skip
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


def on_the_way(run):
    """Width and height of the report's picture of the states between data and prior."""
    sections = json.loads((run / "report.json").read_text())["sections"]
    (found,) = [picture for picture in sections[0]["pictures"] if picture["caption"].startswith("Marginals from data")]
    return found["size"]


def test_evaluate_measures_points_beside_their_floor_and_the_way_beside_the_grid(well, told):
    status, out, err = told("evaluate", well, "--seeds", "2", "--count", "50")
    assert status == 0, err
    assert "W1 to validation points" in out
    found = json.loads((well / "evaluation.json").read_text())
    assert found["wasserstein"]["floor"] > 0
    assert len(found["wasserstein"]["generated"]) == 2
    assert [shot["t"] for shot in found["on_the_way"]] == [0.0, 0.1, 0.3, 0.6, 1.0]
    assert all(shot["forward"] < 10 * shot["floor"] + 0.2 for shot in found["on_the_way"])
    assert "against the prior" in found["end"]
    assert "Marginals from data to prior: forward SDE, sampler, Fokker-Planck" in (well / "report.html").read_text()
    assert on_the_way(well)[0] > 1000


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
                 "data.count=4000", "training.ema_lengths=[0.1]", "sampling.ema=0.1"]) == 0  # fmt: skip
    assert main(["sample", str(out), "--count", "800", "--out", str(tmp_path / "a.npz"), "--batch", "800"]) == 0
    x, data = torch.from_numpy(np.load(tmp_path / "a.npz")["points"]), draw("mixture", 800, seed=9)
    noise = torch.randn(800, 2, generator=torch.Generator().manual_seed(0)) * data.std(0) + data.mean(0)
    assert sliced(x, data) < 0.5 * sliced(noise, data)


def test_a_drift_in_the_plane_that_blends_trains_samples_and_is_measured(tmp_path, told):
    out = tmp_path / "run"
    assert train(out, "toy/limit-cycle", "data.count=400", "sampling.steps=12") == 0
    status, _, err = told("evaluate", out, "--seeds", "1", "--count", "40")
    assert status == 0, err
    assert on_the_way(out)[1] > 300


@pytest.mark.parametrize("sampler", ["reverse", "flow"])
def test_points_are_compared_and_followed_through_training(well, tmp_path, told, sampler):
    out = tmp_path / "cells"
    asked = ["--samplers", sampler, "--steps", 4, 8, "--count", 20, "--out", out]
    status, printed, err = told("compare", well, *asked)
    assert status == 0, err
    assert "W1, 20 samples per cell" in printed
    found = json.loads((out / "comparison.json").read_text())
    assert found["real_against_real"] > 0
    assert [cell["nfe"] for cell in found["cells"]] == ([3, 7] if sampler == "flow" else [4, 8])
    assert len(list(out.parent.glob("cells/*-*.png"))) == 2
    run = shutil.copytree(well, tmp_path / "run")
    assert told("evaluate", run, "--seeds", 1, "--count", 20, "--curve", "--steps", 4, "--sampler", sampler)[0] == 0
    assert [point["step"] for point in json.loads((run / "evaluation.json").read_text())["curve"]] == [1, 2, 3]


def test_points_of_ones_own_are_a_file(tmp_path):
    np.savez(tmp_path / "a.npz", points=draw("ring", 300).numpy())
    assert train(tmp_path / "run", "toy/mixture", f"data={{kind: points, path: {tmp_path / 'a.npz'}}}") == 0


@pytest.mark.parametrize(("options", "words"), [
    (("sample", "--sampler", "heun"), "the sampler 'heun' is not for an sde process: choose reverse, flow"),
    (("sample", "--gif"), "samples of points are written as .png, .npz; got --gif"),
    (("sample", "--out", "folder"), "samples of points are written as .png, .npz; got --out folder"),
    (("sample", "--condition", "cat"), "--condition is an option of runs of image, and "),
    (("sample", "--chains", "3"), "--chains is an option of densities, and "),
    (("evaluate", "--likelihood"), "--likelihood is an option of runs of image, and "),
    (("compare",), "the sampler 'dpm2m' is not for an sde process: choose reverse, flow"),
])  # fmt: skip
def test_what_makes_no_sense_for_points_is_refused(well, options, words, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verb, *rest = options
    assert words in refused(verb, well, *rest)


@pytest.mark.parametrize(("changes", "words"), [
    (["network={kind: dit, width: 32, head_dim: 16}"], "points data is read by network.kind mlp, and this is dit"),
    (["data.codec={kind: pixels}"], "data.codec.kind: Input should be 'coordinates', got 'pixels'"),
    (["process.drift={kind: limit_cycle}", "process.terminal=blend"], "points in the plane"),
    (["process.drift={kind: limit_cycle}"], "limit_cycle has no energy"),
    (["process.drift={kind: function, function: 'no function'}"], "a function is named module:function"),
    (["process.drift={kind: spiral}"], "process.drift.kind: there is no 'spiral'"),
    (["process.diffusion=0"], "positive"),
    (["process.steps=1"], "at least 2"),
    (["data.distribution=heart"], "data.distribution"),
    (["method={kind: diffusion}"], "method.kind diffusion does not train under process.kind sde"),
    (["data.count=2"], "16 to 10 million"),
    (["process.steps=4"], "the drift is not finite at time"),
])  # fmt: skip
def test_a_recipe_of_points_that_makes_no_sense_is_refused(changes, words, refused, tmp_path):
    assert words in refused("train", "toy/double-well", "--out", tmp_path / "a", "training.steps=1", *SMALL, *changes)


# ------------------------------------------------------------------------------------------------- code of one's own


def test_a_drift_of_ones_own_is_run_only_if_the_command_names_or_allows_it(here, refused, told):
    own = (
        "process.drift={kind: function, function: 'mine:spring'}",
        "process.terminal=blend",
        "data.count=400",
        "sampling.steps=8",
    )
    status, _, err = told("train", "toy/double-well", "--out", "run", "training.steps=2", *SMALL, *own)
    assert status == 0, err
    sys.modules.pop("mine")
    (here / "ran").unlink()
    for verb in ("sample", "evaluate", "resume"):
        message = refused(verb, "run")
        assert "mine:spring, whose code would be run" in message
        assert "--allow-code" in message
    recipe = (here / "run" / "recipe.yaml").read_text()
    (here / "given.yaml").write_text(recipe)
    assert "--allow-code" in refused("train", "given.yaml", "--out", "other")
    assert not (here / "ran").exists(), "the module was imported without leave"
    assert told("sample", "run", "--allow-code", "--count", "20", "--out", "a.npz")[0] == 0
    assert told("evaluate", "run", "--allow-code", "--seeds", "1", "--count", "30")[0] == 0
    assert (here / "ran").exists()
    assert told("compare", "run", "--allow-code", "--samplers", "reverse", "--steps", 2, "--count", 10)[0] == 0
    assert told("train", "given.yaml", "--allow-code", "--out", "next", "init_from=run", "training.steps=1")[0] == 0
    assert load("run", allow_code=True).resume().step == 2
    with pytest.raises(ValueError, match="whose code would be run"):
        load("run")


@pytest.mark.parametrize(("name", "words"), [
    ("mine:nothing", "mine has no function nothing"),
    ("elsewhere:f", "there is no module elsewhere"),
    ("mine:number", "mine:number is a int and not a function"),
    ("mine:wrong", "the drift returned (24,) for states of shape (24, 1)"),
])  # fmt: skip
def test_code_that_is_not_there_or_wrong_is_said(here, name, words, refused):
    entry = f"process.drift={{kind: function, function: '{name}'}}"
    assert words in refused(
        "train", "toy/double-well", "--out", "a", "training.steps=1", *SMALL, entry, "process.terminal=blend"
    )


# --------------------------------------------------------------------------------------------------------- densities


def test_the_ridge_is_said_not_to_settle_and_what_would_help(tmp_path, told):
    status, _, err = told("sample", "toy/ridge", "--iterations", "1500", "--out", tmp_path / "a.npz", "--count", "5000")
    assert status == 0
    assert all(
        words in err
        for words in ("NOT converged", "(+0.71, +0.71)", "cannot be normalised", "--box", "--gaussian-envelope")
    )
    found = np.load(tmp_path / "a.npz")
    difference = found["points"][:, 0] - found["points"][:, 1]
    assert abs(difference.mean()) < 0.1
    assert abs(difference.std() - 1) < 0.05
    assert found["r_hat"] > 1.05
    assert not found["converged"]
    status, _, err = told(
        "sample", "toy/ridge", "--iterations", "1500", "--gaussian-envelope", "1.5", "--out", tmp_path / "a.png"
    )
    assert status == 0
    assert "the chains have converged" in err
    assert Image.open(tmp_path / "a.png").width > 200


def test_a_box_holds_what_is_drawn(tmp_path, told):
    status, _, err = told("sample", "toy/ridge", "--iterations", 600, "--box", -1, 2, "--out", tmp_path / "a.npz")
    assert status == 0, err
    points = np.load(tmp_path / "a.npz")["points"]
    assert points.min() >= -1
    assert points.max() <= 2


def test_the_annealed_path_finds_all_bumps(tmp_path, told):
    status, _, err = told("sample", "toy/bumps", "--count", 1000, "--chains", 1000, "--out", tmp_path / "a.npz")
    assert status == 0
    assert "effective sample size" in err
    x = np.load(tmp_path / "a.npz")["points"]
    shares = [((x - c) ** 2).sum(1) < 2.2 for c in ((-1.5, 0.9), (1.4, 1.1), (0.2, -1.4))]
    assert all(share.mean() > 0.1 for share in shares)


def test_a_density_of_ones_own_is_a_function(here, told, refused):
    for name, more in (("log_p", ()), ("energy", ("--energy",))):
        status, _, err = told("sample", f"mine:{name}", "--dimensions", 3, "--iterations", 400, "--out", "a.npz", *more)
        assert status == 0, err
        assert np.load("a.npz")["points"].shape == (16, 3)
        assert abs(np.load("a.npz")["chains"].std() - 1) < 0.1
    assert "--dimensions 2" in refused("sample", "mine:log_p")
    assert "the log-density is nan at state [" in refused("sample", "mine:bad", "--dimensions", 2)
    message = refused("sample", "toy/ridge", "--steps", 3)
    assert "--steps is an option of runs, and toy/ridge is a density: see `langevin sample toy/ridge --help`" in message
    assert "--prompt is an option of runs of text, and" in refused("sample", "toy/ridge", "--prompt", "a")
    assert "written as .npz or plotted as .png" in refused("sample", "toy/ridge", "--out", "a.gif")
    assert "at least 4 chains" in refused("sample", "toy/ridge", "--chains", 1)
    assert "which is not trained" in refused("train", "toy/ridge")


def test_a_density_may_stand_after_its_options(here, told):
    for target in (("toy/bumps",), ("mine:log_p", "--dimensions", "2")):
        options = ("--count", "4", "--box", "-3", "3", "--chains", "40", "--out", "b.npz")
        assert told("sample", *target[1:], *options, target[0])[0] == 0
        assert np.load("b.npz")["points"].shape == (4, 2)


def test_autoguidance_acts_without_a_condition(tmp_path):
    """Away from weight 1, samples of an unconditional run move."""
    run, guided = tmp_path / "a", tmp_path / "b"
    assert train(run, "toy/mixture", "data.count=300", "sampling.steps=4", steps=6) == 0
    assert train(guided, "toy/mixture", "data.count=300", "sampling.steps=4",
                 "sampling.guidance=[{kind: autoguidance, weight: 3, ema: 0}]", steps=6) == 0  # fmt: skip
    for path in (run, guided):
        assert main(["sample", str(path), "--count", "20", "--out", f"{path}.npz"]) == 0
    free, moved = (np.load(f"{path}.npz")["points"] for path in (run, guided))
    assert np.abs(free - moved).max() > 1e-3
