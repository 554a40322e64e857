"""A run directory is read whole or refused with what is wrong; one process writes at a time."""

import errno
import json
import multiprocessing
import os
import shutil
import sys
import time
from dataclasses import replace

import pytest
import torch

from langevin.recipe.read import dump
from langevin.run import directory
from langevin.run.directory import VERSION, create, open_run, writing
from langevin.training import checkpoint
from langevin.training.ema import gamma_of_length


@pytest.fixture
def run(trained, tmp_path):
    """A copy to harm."""
    return shutil.copytree(trained, tmp_path / "run")


def test_a_run_is_what_was_made(run, tmp_path):
    made = open_run(run)
    again = create(tmp_path / "again", made.recipe, {k: made.facts[k] for k in ("data", "items", "shape")})
    assert open_run(tmp_path / "again").recipe == made.recipe == again.recipe
    assert open_run(tmp_path / "again").facts == again.facts
    assert (tmp_path / "again" / "recipe.yaml").read_text() == dump(made.recipe)


def test_a_run_holds_the_files_that_its_layout_says(run):
    names = {p.name for p in run.iterdir() if not p.name.startswith(".")}
    assert names == {"recipe.yaml", "environment.json", "metrics.jsonl", "samples", "checkpoints", "ema", "card.md"}
    newest = checkpoint.steps(run / "checkpoints")[0]
    assert newest.name == "step-00000004"
    assert {p.name for p in newest.iterdir()} == {
        "model.safetensors", "ema-0.1.safetensors", "optimizer.safetensors", "state.json", "manifest.json",
    }  # fmt: skip


def test_weights_and_averages_are_loaded_by_length(run):
    made = open_run(run)
    saved = checkpoint.load(checkpoint.steps(run / "checkpoints")[0])
    for length, group in ((0.0, "model"), (0.1, "ema-0.1"), (None, "ema-0.1")):
        built, step, lines = made.load(ema=length)
        assert step == 4
        assert lines == []
        for name, parameter in built.model.network.named_parameters():
            assert torch.equal(parameter, saved.groups[group][f"denoiser.network.{name}"])
        assert not built.model.network.training


def test_a_length_that_was_not_kept_is_reconstructed_and_said(run):
    built, _, lines = open_run(run).load(ema=0.15)
    assert any("0.15 reconstructed" in line for line in lines)
    assert all(bool(torch.isfinite(p).all()) for p in built.model.network.parameters())
    gamma = gamma_of_length(0.15)
    saved = checkpoint.load(checkpoint.steps(run / "checkpoints")[0]).groups
    name, parameter = max(built.model.network.named_parameters(), key=lambda pair: pair[1].numel())
    near = [torch.dist(parameter, saved[g][f"denoiser.network.{name}"]) for g in ("ema-0.1", "model")]
    assert gamma > 0
    assert near[0] < near[1]  # a longer average is nearer to the average than to the last weights


def test_a_run_without_averages_gives_its_weights(run):
    made = open_run(run)
    bare = replace(made, recipe=replace(made.recipe, training=replace(made.recipe.training, ema_lengths=())))
    built, _, _ = bare.load()
    exact, _, _ = made.load(ema=0)
    assert all(
        torch.equal(a, b)
        for a, b in zip(built.model.network.parameters(), exact.model.network.parameters(), strict=True)
    )


@pytest.mark.parametrize(("here", "drawn", "said"), [("float32", torch.float32, 1), ("bfloat16", torch.bfloat16, 0)])
def test_a_run_of_bf16_is_drawn_in_float32_where_bf16_is_slow(run, monkeypatch, here, drawn, said):
    made = open_run(run)
    half = replace(made, recipe=replace(made.recipe, training=replace(made.recipe.training, precision="bfloat16")))
    monkeypatch.setattr("langevin.run.directory.precision", lambda wish: here)
    built, _, lines = half.load()
    assert built.model.denoiser.precision == drawn
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
    with pytest.raises(ValueError, match=r"no complete checkpoint to load[\s\S]*step-00000004[\s\S]*manifest"):
        open_run(run).load()
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(ValueError, match="no complete checkpoint to load"):
        open_run(run).load()


def test_a_checkpoint_of_another_network_is_refused(run):
    made = open_run(run)
    deeper = replace(made.recipe, network=replace(made.recipe.network, depth=2))
    with pytest.raises(ValueError, match=r"another network: .*blocks.1"):
        replace(made, recipe=deeper).load()


def test_a_directory_that_is_not_there_names_the_runs_beside_it(run):
    with pytest.raises(ValueError, match=f"there is no run at .*elsewhere; there are {run}"):
        open_run(run.parent / "elsewhere")
    with pytest.raises(ValueError, match="`langevin train` creates one"):
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
    path.write_text(text[: text.index("channel_mult") if "channel_mult" in text else text.index("head_dim") + 4])


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
    (other_environment(json.dumps({"version": VERSION})), "does not describe the data"),
    (other_environment(json.dumps({"version": 99})), "this langevin reads version 2: train it again"),
    (lambda run: (run / "recipe.yaml").unlink(), "it has no recipe.yaml"),
    (lambda run: (run / "recipe.yaml").write_text(""), "recipe.yaml must hold a mapping"),
    (cut_recipe, "recipe.yaml is truncated"),
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
            said = str(path) if replace(found, smoke_test=whole.smoke_test) == whole else f"taken for whole at {end}"
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


def write_until_killed(path, ready):
    with writing(path):
        ready.set()
        time.sleep(600)


def test_a_lock_of_a_killed_process_is_free(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    other = context.Process(target=write_until_killed, args=(tmp_path / "run", ready), daemon=True)
    other.start()
    assert ready.wait(60)
    with pytest.raises(ValueError, match="being written by another process"), writing(tmp_path / "run"):
        pass
    other.kill()
    other.join()
    with writing(tmp_path / "run"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_gets_a_lock_file(tmp_path, monkeypatch, number):
    def refuse(self, *_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(directory.FileLock, "acquire", refuse)
    with writing(tmp_path / "run"):
        (tmp_path / "run" / "mine").write_text("")
        with (
            pytest.raises(ValueError, match=r"being written by another process.*has no locks"),
            writing(tmp_path / "run"),
        ):
            pass
    with writing(tmp_path / "run"):
        pass


def test_a_lock_that_fails_otherwise_says_why(tmp_path, monkeypatch):
    def refuse(self, *_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(directory.FileLock, "acquire", refuse)
    with pytest.raises(OSError, match=r"could not write .*\.lock: Input/output error"), writing(tmp_path / "run"):
        pass


@pytest.mark.parametrize("facts", [
    {"shape": "abc"}, {"shape": [1, -8, 8]}, {"shape": [1, 10**12]}, {"machine": [1]}, {"items": "3"}, {"data": 3},
    {"shape": None},
])  # fmt: skip
def test_an_environment_of_wrong_types_is_damaged(trained, tmp_path, facts):
    run = shutil.copytree(trained, tmp_path / "run")
    environment = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(environment | facts))
    with pytest.raises(ValueError, match=r"environment\.json is damaged"):
        open_run(run)
