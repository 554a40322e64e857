"""Fitted solvers kept with a run: what is kept comes back to the bit, draws as the solver itself, and fits nothing else."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from langevin.cli import main
from langevin.diffusion.guidance import weighted
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import FittedSolver, sample, start
from langevin.diffusion.schedule import Cosine
from langevin.modalities.image.conditions import encode
from langevin.recipe.build import build, guided
from langevin.recipe.sampling import sampler_of
from langevin.run.directory import load_model, open_run
from langevin.run.fitting import fit, nfe_of, request_of
from langevin.run.solvers import find, read, save, solver_path
from tests import tiny

SHAPE = (3, 8, 8)


def fitted_to(run, *, steps=4, guidance=2.0, count=4, ema=None, **options):
    made = open_run(run)
    model, step = load_model(made, ema=ema, steps=steps, guidance=guidance)
    request = request_of(made, model, 2 * count)
    return fit(
        model.built, model.sampling, request.condition, shape=request.shape, count=count, fine=3,
        ema=made.ema_length(ema), step=step, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted(trained):
    return fitted_to(trained)


@pytest.fixture
def run(trained, fitted, tmp_path):
    """A copy of the run that keeps a solver of 4 steps, guidance 2."""
    copy = shutil.copytree(trained, tmp_path / "run")
    save(copy, fitted)
    return copy


def drawn(run, *, steps=4, guidance=2.0, ema=None, model=None, seeds=(0, 1, 2)):
    model = model or load_model(open_run(run), ema=ema)[0]
    return tiny.drawn(model, seeds, torch.arange(len(seeds)) % 2, steps=steps, guidance=guidance, sampler="learned")


def test_what_is_kept_comes_back_to_the_bit(run, fitted):
    sampling = load_model(open_run(run), steps=4, guidance=2.0)[0].sampling
    assert find(run, sampling, 0.1) == fitted
    assert [p.name for p in (run / "solvers").iterdir()] == ["steps-4-guidance-2-ema-0.1.json"]


def test_a_sample_by_the_kept_solver_is_that_of_the_solver_itself(run, fitted):
    model = load_model(open_run(run), steps=4, guidance=2.0)[0]
    sampling, process = model.sampling, model.parts.process
    condition = weighted(encode(torch.tensor([0, 1, 0]), None, None), sampling.guidance, 3)
    times = sampling.grid(torch.tensor([4, 4, 4]), process.schedule)
    state = start(fitted.solver, process, torch.zeros(3, *SHAPE), times, torch.arange(3))
    with torch.no_grad():
        for after in sample(fitted.solver, process, guided(model.built, sampling), state, condition):
            state = after
    found = drawn(run)
    assert torch.equal(found.values, model.modality.decode(state.x))
    assert found.nfe == 4


def test_it_is_compared_on_trajectories_that_it_was_not_fitted_to(fitted):
    assert set(fitted.errors) == {"learned", "ddim", "dpm2m", "ipndm"}
    assert fitted.errors["learned"] < min(fitted.errors[name] for name in ("ddim", "dpm2m", "ipndm"))


def test_a_fit_is_a_function_of_its_seed_and_not_of_the_batch(trained, fitted):
    seen = []
    again = fitted_to(trained, batch=3, progress=lambda done, total: seen.append((done, total)))
    rows = [torch.tensor(f.solver.rows, dtype=torch.float64) for f in (again, fitted)]
    assert torch.allclose(*rows, atol=1e-4)
    assert seen[0] == (1, nfe_of(4, 3))
    assert seen[-1] == (nfe_of(4, 3), nfe_of(4, 3))
    assert fitted_to(trained, seed=1).solver.rows != fitted.solver.rows


@pytest.mark.parametrize(("changes", "words"), [
    ({"steps": 5}, r"no solver of 5 steps.*are steps-4-guidance-2-ema-0.1. Fit it by `langevin fit-solver .* --steps 5"),
    ({"guidance": 1.5}, "no solver of 4 steps, guidance 1.5"),
    ({"ema": 0.0}, "EMA length 0 has been fitted"),
])  # fmt: skip
def test_what_was_not_fitted_is_refused_by_naming_what_was(run, changes, words):
    with pytest.raises(ValueError, match=words):
        drawn(run, **changes)


def test_other_weights_are_refused(run):
    model = load_model(open_run(run))[0]
    with torch.no_grad():
        next(model.parts.network.parameters()).add_(1e-3)
    with pytest.raises(ValueError, match=r"other weights \(after 4 training steps\).*langevin fit-solver"):
        drawn(run, model=model)


def test_another_process_or_grid_is_refused(run, fitted):
    other = Gaussian(schedule=Cosine(), sigma_data=fitted.process.sigma_data)
    save(run, replace(fitted, process=other))
    with pytest.raises(ValueError, match="another process"):
        drawn(run)
    save(run, replace(fitted, grid=replace(fitted.grid, low=0.01)))
    with pytest.raises(ValueError, match="another grid"):
        drawn(run)


@pytest.mark.parametrize("harm", [
    lambda text: text[: len(text) // 2],
    lambda text: "",
    lambda text: json.dumps({**json.loads(text), "version": 2}),
    lambda text: json.dumps({**json.loads(text), "step": "four"}),
    lambda text: json.dumps({**json.loads(text), "solver": {**json.loads(text)["solver"], "rows": []}}),
])  # fmt: skip
def test_a_damaged_file_is_refused(run, harm):
    path = solver_path(run, 4, 2.0, 0.1)
    path.write_text(harm(path.read_text()))
    with pytest.raises(ValueError, match=r"is damaged or of another version.*fit it again"):
        read(path)


def test_parts_without_a_run_have_no_learned_sampler(trained):
    recipe = open_run(trained).recipe
    with pytest.raises(ValueError, match="fitted to a trained run"):
        sampler_of(build(recipe).model.process, replace(recipe.sampling, sampler=FittedSolver()))
    with pytest.raises(ValueError, match="a recipe cannot name the learned sampler"):
        replace(recipe, sampling=replace(recipe.sampling, sampler=FittedSolver()))


def test_the_verb_fits_keeps_and_draws(trained, tmp_path, capfd):
    run = shutil.copytree(trained, tmp_path / "run")
    assert main(["fit-solver", str(run), "--steps", "3", "4", "--count", "4", "--fine", "2", "--guidance", "1.5"]) == 0
    assert "ipndm" in capfd.readouterr().out
    assert len(list((run / "solvers").iterdir())) == 2
    asked = ["--sampler", "learned", "--steps", "3", "--guidance", "1.5"]
    assert main(["sample", str(run), *asked, "--out", str(tmp_path / "a.png")]) == 0
    assert main(["sample", str(run), "--sampler", "learned", "--steps", "7"]) == 1
    assert "there are steps-3-guidance-1.5-ema-0.1, steps-4-" in capfd.readouterr().err
    cells = ["--samplers", "learned", "ddim", "--steps", "3", "--count", "10", "--out", str(tmp_path / "cells")]
    assert main(["compare", str(run), *cells]) == 1
    assert "no solver of 3 steps, guidance 2" in capfd.readouterr().err
    assert main(["evaluate", str(run), *asked, "--curve", "--count", "8", "--seeds", "1"]) == 1
    assert "--curve samples with snapshots of the weights" in capfd.readouterr().err


@pytest.mark.parametrize(("options", "words"), [
    (["--steps", "1"], "2 to 32 steps, got 1"),
    (["--steps", "4", "400"], "2 to 32 steps, got 4, 400"),
    (["--count", "1"], "--count must be 2 to"),
    (["--guidance", "nan"], "--guidance must be a finite number"),
    (["--seed", "-1"], "--seed must lie between"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(trained, options, words, capfd):
    assert main(["fit-solver", str(trained), *options]) == 1
    assert words in capfd.readouterr().err


def test_captions_and_points_are_fitted_to_as_well(captioned, tmp_path, capfd):
    run = shutil.copytree(captioned, tmp_path / "run")
    assert main(["fit-solver", str(run), "--steps", "3", "--count", "4", "--fine", "2"]) == 0
    assert main(["sample", str(run), "--sampler", "learned", "--steps", "3", "--count", "2"]) == 0
    points = tmp_path / "points"
    small = ["training.steps=3", "training.batch=8", "network.width=16", "network.depth=1"]
    assert main(["train", "toy/mixture", "--out", str(points), *small]) == 0
    assert main(["fit-solver", str(points), "--steps", "4", "--count", "64"]) == 0
    assert main(["sample", str(points), "--sampler", "learned", "--steps", "4", "--out", str(tmp_path / "a.npz")]) == 0


def test_a_drift_has_no_fitted_solver(tmp_path, capfd):
    run = tmp_path / "drift"
    small = ["training.steps=2", "training.batch=8", "network.width=16", "network.depth=1"]
    assert main(["train", "toy/double-well", "--out", str(run), *small]) == 0
    assert main(["fit-solver", str(run)]) == 1
    assert "gaussian process" in capfd.readouterr().err
    assert main(["sample", str(run), "--sampler", "learned", "--out", str(tmp_path / "a.npz")]) == 1
    assert "is not for an sde process" in capfd.readouterr().err
