"""A run with a coupling: pairs are those of a step's noise, it resumes to the bit, and what has no pairs is refused."""

import shutil

import pytest
import torch

from langevin.cli import main
from langevin.diffusion.batch import step_randomness
from langevin.diffusion.coupling import Coupling
from langevin.diffusion.levels import PerFrame
from langevin.methods import Diffusion
from langevin.recipe import coupling as fitting
from langevin.recipe.build import build, training_batches
from langevin.recipe.coupling import coupling_of, examples, fitted
from langevin.recipe.read import check
from langevin.run.coupling import FILE
from langevin.run.directory import load_model, open_run
from langevin.training import checkpoint
from tests import pictures, tiny

TRANSPORT = "method.coupling={kind: optimal_transport, draws: 4}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coupled")
    return tiny.run_of(pictures.classes(folder / "data"), folder / "run", TRANSPORT, "sampling.sampler={kind: dpm2m}")


def parts(path):
    made = open_run(path)
    data, _ = made.open_data()
    batches = build(made.recipe).batches(data)
    coupling = fitted(made.recipe, batches)
    assert isinstance(coupling, Coupling)
    return made.recipe, batches, coupling


def weights(path):
    return checkpoint.load_latest(path / "checkpoints")[0].groups["model"]


def test_the_pair_of_a_sample_is_that_of_its_noise_whatever_the_seed_and_the_batch(run):
    """The training loop gives the randomness, also after a rollback, when its seed is another."""
    recipe, batches, coupling = parts(run)
    read, plain = training_batches(recipe, batches, coupling), training_batches(recipe, batches)
    x, groups = examples(batches)
    rows, count = torch.arange(8), recipe.training.batch
    chosen = []
    for seed in (recipe.training.seed, 1_000_003):
        draw = step_randomness(seed=seed, step=3, samples=rows, count=count)
        batch, before = read(3, rows, draw), plain(3, rows, draw)
        labels = batch.condition.global_.tensor
        assert torch.equal(labels, before.condition.global_.tensor)  # the order of the data says the class
        z = draw.corruption.normal(batch.x).flatten(1)
        cost = 0.5 * (z[:, None] - (x - x.mean(0))).double().square().sum(2) - coupling.dual
        cost[groups != labels[:, None]] = torch.inf
        assert torch.equal(batch.x.flatten(1), x[cost.argmin(1)])
        few = read(3, rows[5:], step_randomness(seed=seed, step=3, samples=rows[5:], count=count))
        assert torch.equal(few.x, batch.x[5:])
        chosen.append(cost.argmin(1))
    assert not torch.equal(*chosen)


@pytest.mark.parametrize("kept", [True, False])
def test_a_run_resumed_from_its_first_checkpoint_ends_in_the_same_bits(run, tmp_path, kept):
    """With the stored dual vector, or fitted again where a kill came before it was stored."""
    copy = shutil.copytree(run, tmp_path / "run")
    for path in checkpoint.steps(copy / "checkpoints"):
        if checkpoint.step_of(path) > 0:
            shutil.rmtree(path)
    if not kept:
        (copy / FILE).unlink()
    assert main(["resume", str(copy)]) == 0
    before, after = weights(run), weights(copy)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (copy / FILE).read_bytes() == (run / FILE).read_bytes()


def test_the_coupling_changes_the_run_and_its_stored_numbers_are_used(run, tmp_path):
    plain = tiny.run_of(run.parent / "data", tmp_path / "plain", "sampling.sampler={kind: dpm2m}")
    assert any(not torch.equal(weights(run)[name], value) for name, value in weights(plain).items())
    assert not (plain / FILE).exists()
    assert coupling_of(open_run(plain).recipe) is None


def test_a_damaged_file_is_refused_and_removing_it_helps(run, tmp_path, capfd):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / FILE).write_bytes(b"no numbers")
    assert main(["resume", str(copy)]) == 1
    assert "remove it" in capfd.readouterr().err


def test_samplers_that_add_noise_are_refused(run, tmp_path, capfd):
    assert main(["sample", str(run), "--count", "1", "--out", str(tmp_path / "a.png")]) == 0
    assert main(["sample", str(run), "--count", "1", "--sampler", "ddpm", "--out", str(tmp_path / "b.png")]) == 1
    assert "adds noise on the way" in capfd.readouterr().err
    model = load_model(open_run(run))[0]
    tree = {"data": {"kind": "image", "path": "x"}, "method": {"coupling": {"kind": "optimal_transport"}}}
    assert check(tree).method.coupling is not None
    with pytest.raises(ValueError, match="'ddpm' adds noise on the way"):
        check(tree | {"sampling": {"sampler": {"kind": "ddpm"}}})
    assert model.sampling.sampler.kind == "dpm2m"


@pytest.mark.parametrize(
    ("data", "changes", "words"),
    [
        (pictures.classes, ["data.flip=true"], "change at random whenever they are read"),
        (pictures.captions, [], "conditions that are no classes (cross)"),
        (pictures.classes, ["method.weighting=bound"], "does not fit method.weighting=bound"),
    ],
)
def test_what_cannot_be_coupled_is_refused_before_there_is_a_run(data, changes, words, tmp_path, capfd):
    folder = data(tmp_path / "data", count=8)
    command = ["train", str(folder), "--out", str(tmp_path / "run"), "training.steps=1", *tiny.SMALL, TRANSPORT]
    assert main([*command, *changes]) == 1
    assert words in " ".join(capfd.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_too_many_examples_too_little_memory_and_too_little_time_are_refused(run, monkeypatch):
    made = open_run(run)
    batches = build(made.recipe).batches(made.open_data()[0])
    monkeypatch.setattr(fitting, "total_memory", lambda: 10_000)
    with pytest.raises(ValueError, match="keeps all examples in memory"):
        examples(batches)
    monkeypatch.setattr(fitting, "MOST", 10)
    with pytest.raises(ValueError, match="at most 10, and this data has 29"):
        examples(batches)
    late = iter([0.0, 0.2, 2.0])
    monkeypatch.setattr(fitting.time, "perf_counter", lambda: next(late))
    report = fitting.within(0.1, lambda done, total: None, "fitting", "or not at all")
    report(1, 100)
    with pytest.raises(ValueError, match=r"fitting would take 3\.3 of the 0\.1 minutes: train longer, or not at all"):
        report(1, 100)


def test_frames_with_noise_of_their_own_are_refused():
    with pytest.raises(ValueError, match="frames have noise of their own"):
        Diffusion.Config(coupling=fitting.OptimalTransport(), levels=(PerFrame(),))
