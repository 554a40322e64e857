"""`refine`: extrapolation away from training on own samples, the proof that a candidate needs, the run that is written."""

import json
import math
import shutil
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from langevin.cli import main, refine
from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.noise import SampleNoise
from langevin.recipe.build import training_batches
from langevin.run.directory import load_model, open_run
from langevin.run.refine import (
    Measured,
    best_of,
    for_ratios,
    moved,
    objections,
    own_samples,
    ratio_of,
    slowed,
    weights_of,
)
from langevin.training.distributed import World
from langevin.training.loop import TrainingState, fit
from tests import pictures, tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refined")
    return tiny.run_of(pictures.classes(folder / "data", count=60), folder / "run", "data.val_fraction=0.3")


def figures(distance, coverage=(0.5, 0.52, 0.51), loss=0.0):
    """Measurements of three seeds and 50 held-out examples."""
    noise = torch.linspace(-1, 1, 50, dtype=torch.float64)
    return Measured(distances={"pixels": distance}, coverage={"pixels": coverage}, losses=1 + loss + 0.1 * noise)


BEFORE = figures((4.0, 4.2, 4.1))


def test_a_candidate_is_taken_if_it_is_nearer_and_neither_coverage_nor_loss_gets_worse():
    assert objections(BEFORE, figures((3.0, 3.1, 3.05))) == []
    assert "no gain beyond the noise" in objections(BEFORE, figures((4.4, 3.6, 4.0)))[0]
    (line,) = objections(BEFORE, figures((3.0, 3.1, 3.05), coverage=(0.3, 0.32, 0.31)))
    assert "coverage (pixels) falls by 0.200" in line
    (line,) = objections(BEFORE, figures((3.0, 3.1, 3.05), loss=0.01))
    assert "held-out loss rises by 0.01" in line
    assert best_of({0.0: BEFORE, 0.5: figures((3.0, 3.1, 3.0)), 1.0: figures((2.0, 2.5, 2.2))}) == 1.0


def test_weight_0_is_the_run_to_the_bit_and_1_as_far_on_the_other_side(run):
    made = load_model(open_run(run))[0].parts.method
    reference = weights_of(made)
    tuned = {name: value + 0.1 * torch.randn_like(value) for name, value in reference.items()}
    assert all(torch.equal(value, reference[name]) for name, value in moved(reference, tuned, 0.0).items())
    for name, value in moved(reference, tuned, -1.0).items():
        torch.testing.assert_close((value + tuned[name]) / 2, reference[name])


NARROW = figures((3.0, 3.1, 3.05), coverage=(0.3, 0.32, 0.31))  # nearer to held-out data, of less diversity
HEART = figures((3.0, 3.1, 3.05), loss=0.01)  # nearer, and learned by heart


def measuring_as(monkeypatch, *found):
    """The run and its candidates are measured to be so."""
    every = iter(found)
    monkeypatch.setattr(refine, "measured", lambda model, measuring: next(every))


@pytest.mark.parametrize("by", ["extrapolation", "likelihood_ratio"])
@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (BEFORE, "no gain beyond the noise"),
        (NARROW, "coverage (pixels) falls by 0.200"),
        (HEART, "held-out loss rises"),
    ],
    ids=["equal", "narrow", "by heart"],
)
def test_a_candidate_that_does_not_prove_itself_is_refused_with_figures(
    run, by, measured, words, tmp_path, monkeypatch, told
):
    measuring_as(monkeypatch, BEFORE, measured)
    before = {file: file.read_bytes() for file in run.rglob("*.safetensors")}
    out = tmp_path / "out"
    status, _, err = told("refine", run, "--by", by, "--train-steps", 1, "--samples", 8, "--weights", 1, "--out", out)
    assert status == 1
    assert words in err
    assert not out.exists()
    assert all(file.read_bytes() == content for file, content in before.items())


@pytest.mark.parametrize("by", ["extrapolation", "likelihood_ratio"])
def test_a_refined_run_is_a_run_like_any_other(run, by, tmp_path, monkeypatch, told):
    measuring_as(monkeypatch, BEFORE, figures((3.0, 3.1, 3.05)), figures((3.0, 3.1, 3.15)))
    out = tmp_path / "out"
    words = ["--by", by, "--train-steps", 3, "--samples", 8, "--weights", 0.5, 1, "--out", out]
    before = open_run(run).load()[0].model.network.state_dict()
    status, _, err = told("refine", run, *words)
    assert status == 0, err
    found = json.loads((out / "refined.json").read_text())
    assert (found["by"], found["weight"]) == (by, 0.5)
    after, step, _ = open_run(out).load()
    assert step == 4
    assert any(not torch.equal(before[n], value) for n, value in after.model.network.state_dict().items())
    assert main(["sample", str(out), "--count", "2", "--out", str(tmp_path / "a.png")]) == 0
    assert main(["resume", str(out)]) == 0  # it has reached its end


def test_the_training_against_own_samples_makes_data_likelier_beside_them(run):
    """From the run's weights, where the loss is 2 ln 2; on a part of the data that it is trained on."""
    model = load_model(open_run(run))[0]
    train, _ = open_run(run).open_data()
    x, condition = own_samples(model, train, 40, seed=5)
    method = ratio_of(model, Batch(x=x, condition=condition), 1.0)
    config = replace(for_ratios(slowed(model.built.recipe.training, 0.05)), batch=8, micro_batch=8, steps=8)
    batches = training_batches(replace(model.built.recipe, training=config), model.batches(train))
    reports = list(fit(TrainingState.new(method, config), batches, method, config, world=World()))
    assert reports[0].loss == pytest.approx(2 * math.log(2))
    draw = step_randomness(seed=9, step=0, samples=torch.arange(40), count=40)
    read = model.batches(train)(torch.arange(40))
    with torch.no_grad():
        real = method.log_ratio(read, read.condition, draw.u, draw.noise)
        fake = method.log_ratio(Batch(x=x), condition, draw.u, draw.noise)
    apart = real.mean() - fake.mean()
    assert float(apart) > 2 * float((real.var() / 40 + fake.var() / 40).sqrt())


def test_absurd_options_are_refused(run, tmp_path, refused):
    assert "of --by likelihood_ratio" in refused("refine", run, "--beta", 0.5)
    assert "--beta is a positive number" in refused("refine", run, "--by", "likelihood_ratio", "--beta", -1)
    levels = shutil.copytree(run, tmp_path / "levels")
    text = (levels / "recipe.yaml").read_text()
    (levels / "recipe.yaml").write_text(text.replace("  levels: []", "  levels: [{kind: shared}]"))
    assert "trained with method.levels" in refused("refine", levels, "--by", "likelihood_ratio")


def test_another_run_is_never_written_over(run, told):
    status, _, err = told("refine", run, "--out", run)
    assert status == 1
    assert "already holds a run" in err


def test_a_run_is_measured_by_its_modality(run, tmp_path, told):
    words = [
        "--train-steps",
        1,
        "--samples",
        8,
        "--weights",
        0.01,
        "--count",
        12,
        "--seeds",
        2,
        "--out",
        tmp_path / "out",
    ]
    status, printed, err = told("refine", run, *words)
    assert "FD held-out, pixels" in printed
    assert "coverage, pixels" in printed
    assert status == 0 or "no weight refines" in err


class Scale(torch.nn.Module):
    """A denoiser of N(0, s^2) on the line with one weight, ln s^2: D = a s^2 / (a^2 s^2 + sigma^2) x_t."""

    def __init__(self, variance):
        super().__init__()
        self.log_variance = torch.nn.Parameter(torch.tensor(variance).log())


@pytest.mark.parametrize(("variance", "nearer"), [(0.6, True), (1.5, False)])
def test_extrapolation_of_a_wrong_variance_moves_to_the_truth_where_sampler_and_model_err_alike(variance, nearer):
    """The data is N(0, 1). Few Euler steps draw too narrow samples, so training on them narrows the model, and the other
    way is wider: right for a model that is too narrow, and wrong for one that is too wide."""
    model = Scale(variance)
    t = torch.linspace(1, 0, 4, dtype=torch.float64)
    x = SampleNoise(seeds=torch.arange(20_000), steps=torch.zeros(20_000, dtype=torch.int64)).normal(
        torch.empty(20_000, 1, dtype=torch.float64)
    )

    def denoised(x_t, at, log_variance):
        a, sigma, v = 1 - at, at, log_variance.double().exp()
        return a * v / (a * a * v + sigma * sigma) * x_t

    with torch.no_grad():
        for now, then in pairwise(t):
            d = denoised(x, now, model.log_variance)
            x = (1 - then) * d + then * (x - (1 - now) * d) / now
    assert float(x.var()) < variance - 0.02
    reference = {"log_variance": model.log_variance.detach().clone()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for step in range(60):
        draw = step_randomness(seed=0, step=step, samples=torch.arange(2000), count=2000)
        batch = Batch(x=x[torch.arange(2000) * 10])
        at = 0.1 + 0.8 * draw.u[:, None]
        x_t = (1 - at) * batch.x + at * draw.corruption.normal(batch.x)
        optimizer.zero_grad()
        (denoised(x_t, at, model.log_variance) - batch.x).square().mean().backward()
        optimizer.step()
    found = moved(reference, {"log_variance": model.log_variance.detach()}, -1.0)["log_variance"]
    assert (abs(float(found)) < abs(float(reference["log_variance"]))) == nearer
    assert float(found) > float(reference["log_variance"])
