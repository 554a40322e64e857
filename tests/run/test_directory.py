"""A run directory is read whole or refused with what is wrong; one process writes at a time."""

import json
import multiprocessing
import shutil
import sys
from dataclasses import replace

import pytest
import torch

from langevin.recipe.read import dump
from langevin.run.directory import VERSION, create, open_run, writing
from langevin.training import checkpoint
from langevin.training.averages import gamma_of_width


@pytest.fixture
def run(trained, tmp_path):
    """A copy to harm."""
    return shutil.copytree(trained, tmp_path / "run")


def test_a_run_is_what_was_made(run, tmp_path):
    made = open_run(run)
    again = create(tmp_path / "again", made.recipe, {k: made.facts[k] for k in ("data", "images", "shape")})
    assert open_run(tmp_path / "again").recipe == made.recipe == again.recipe
    assert open_run(tmp_path / "again").facts == again.facts
    assert (tmp_path / "again" / "recipe.yaml").read_text() == dump(made.recipe)


def test_a_run_holds_the_files_that_its_layout_says(run):
    names = {p.name for p in run.iterdir() if not p.name.startswith(".")}
    assert names == {"recipe.yaml", "environment.json", "metrics.jsonl", "samples", "checkpoints", "averages"}
    newest = checkpoint.steps(run / "checkpoints")[0]
    assert newest.name == "step-00000004"
    assert {p.name for p in newest.iterdir()} == {
        "model.safetensors", "average-0.1.safetensors", "optimizer.safetensors", "state.json", "manifest.json",
    }  # fmt: skip


def test_weights_and_averages_are_loaded_by_width(run):
    made = open_run(run)
    saved = checkpoint.load(checkpoint.steps(run / "checkpoints")[0])
    for width, group in ((0.0, "model"), (0.1, "average-0.1"), (None, "average-0.1")):
        built, step, lines = made.load(average=width)
        assert step == 4
        assert lines == []
        for name, parameter in built.network.named_parameters():
            assert torch.equal(parameter, saved.groups[group][f"denoiser.network.{name}"])
        assert not built.network.training


def test_a_width_that_was_not_kept_is_reconstructed_and_said(run):
    built, _, lines = open_run(run).load(average=0.15)
    assert any("0.15 reconstructed" in line for line in lines)
    assert all(bool(torch.isfinite(p).all()) for p in built.network.parameters())
    gamma = gamma_of_width(0.15)
    saved = checkpoint.load(checkpoint.steps(run / "checkpoints")[0]).groups
    name, parameter = max(built.network.named_parameters(), key=lambda pair: pair[1].numel())
    near = [torch.dist(parameter, saved[g][f"denoiser.network.{name}"]) for g in ("average-0.1", "model")]
    assert gamma > 0
    assert near[0] < near[1]  # a wider average is nearer to the average than to the last weights


def test_a_run_without_averages_gives_its_weights(run):
    made = open_run(run)
    bare = replace(made, recipe=replace(made.recipe, training=replace(made.recipe.training, averages=())))
    built, _, _ = bare.load()
    exact, _, _ = made.load(average=0)
    assert all(torch.equal(a, b) for a, b in zip(built.network.parameters(), exact.network.parameters(), strict=True))


@pytest.mark.parametrize(("here", "drawn", "said"), [("float32", torch.float32, 1), ("bfloat16", torch.bfloat16, 0)])
def test_a_run_of_bf16_is_drawn_in_float32_where_bf16_is_slow(run, monkeypatch, here, drawn, said):
    made = open_run(run)
    half = replace(made, recipe=replace(made.recipe, training=replace(made.recipe.training, precision="bfloat16")))
    monkeypatch.setattr("langevin.run.directory.precision", lambda wish: here)
    built, _, lines = half.load()
    assert built.denoiser.precision == drawn
    assert built.recipe == half.recipe
    assert len(lines) == said


def test_a_damaged_newest_checkpoint_is_passed_over_and_said(run):
    newest, before = checkpoint.steps(run / "checkpoints")[:2]
    (newest / "model.safetensors").write_bytes(b"cut")
    _, step, lines = open_run(run).load()
    assert step == int(before.name.removeprefix("step-"))
    assert any("model.safetensors" in line for line in lines)


def test_a_run_without_a_whole_checkpoint_names_what_is_damaged(run):
    for path in checkpoint.steps(run / "checkpoints"):
        (path / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"no whole checkpoint to load[\s\S]*step-00000004[\s\S]*manifest"):
        open_run(run).load()
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(ValueError, match="no whole checkpoint to load"):
        open_run(run).load()


def test_a_checkpoint_of_another_network_is_refused(run):
    made = open_run(run)
    deeper = replace(made.recipe, network=replace(made.recipe.network, depth=2))
    with pytest.raises(ValueError, match=r"another network: .*blocks.1"):
        replace(made, recipe=deeper).load()


def test_a_directory_that_is_not_there_names_the_runs_beside_it(run):
    with pytest.raises(ValueError, match=f"there is no run at .*elsewhere; there are {run}"):
        open_run(run.parent / "elsewhere")
    with pytest.raises(ValueError, match="`langevin train` makes one"):
        open_run(run.parent / "deep" / "elsewhere")
    with pytest.raises(ValueError, match=r"it has no recipe.yaml"):
        open_run(run / "samples")


def cut_environment(run):
    path = run / "environment.json"
    path.write_text(path.read_text()[:40])


def cut_recipe(run):
    path = run / "recipe.yaml"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-5]))


def cut_recipe_inside_a_word(run):
    path = run / "recipe.yaml"
    text = path.read_text()
    path.write_text(text[: text.index("multiplier") if "multiplier" in text else text.index("head_width") + 4])


def other_environment(text):
    def harm(run):
        (run / "environment.json").write_text(text)

    return harm


@pytest.mark.parametrize(("harm", "words"), [
    (lambda run: (run / "environment.json").unlink(), "environment.json is missing or damaged"),
    (cut_environment, "environment.json is missing or damaged"),
    (other_environment("[]"), "environment.json is missing or damaged"),
    (other_environment("3"), "environment.json is missing or damaged"),
    (other_environment("{}"), "environment.json is missing or damaged"),
    (other_environment(json.dumps({"version": VERSION})), "does not say what data"),
    (other_environment(json.dumps({"version": 99})), "written as version 99 of a run; this langevin reads"),
    (lambda run: (run / "recipe.yaml").unlink(), "it has no recipe.yaml"),
    (lambda run: (run / "recipe.yaml").write_text(""), "recipe.yaml should hold a mapping"),
    (cut_recipe, "recipe.yaml is cut"),
    (cut_recipe_inside_a_word, "recipe.yaml is "),
])  # fmt: skip
def test_a_damaged_run_says_which_file_and_what_is_wrong(run, harm, words):
    harm(run)
    with pytest.raises(ValueError, match=r".") as caught:
        open_run(run)
    assert words in str(caught.value)
    assert str(run) in str(caught.value)


def test_every_prefix_of_a_recipe_is_refused_or_the_same_run(run):
    path = run / "recipe.yaml"
    text = path.read_text()
    whole = open_run(run).recipe
    for end in range(0, len(text), 61):
        path.write_text(text[:end])
        try:
            found = open_run(run).recipe
        except ValueError as error:
            said = str(error)
        else:
            said = str(path) if replace(found, tiny=whole.tiny) == whole else f"taken for whole at {end}"
        assert str(path) in said


def try_to_write(path):
    try:
        with writing(path):
            pass
    except ValueError:
        sys.exit(7)


def test_a_second_writer_in_the_same_process_or_another_is_refused(tmp_path):
    with writing(tmp_path / "run"):
        with pytest.raises(ValueError, match="being written by another process"), writing(tmp_path / "run"):
            pass
        other = multiprocessing.get_context("fork").Process(target=try_to_write, args=(tmp_path / "run",))
        other.start()
        other.join()
        assert other.exitcode == 7
    with writing(tmp_path / "run"):
        pass
