"""Runs that are moved together find each other again: at the recorded place, else beside, and the hash decides."""

import shutil

import pytest
import torch

from langevin.cli import main
from langevin.modalities import latents
from langevin.recipe.read import read_tree
from langevin.run.compare import training_of
from langevin.run.directory import load_model, open_run
from langevin.training import checkpoint
from langevin.training.references import at_hand, require_weights

STEPS = ("training.steps=2", "training.batch=8", "training.snapshots=1")
SMALL = ("network.width=32", "network.depth=1", "network.head_dim=16", "sampling.steps=2")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs in latents and in codes with their autoencoders, and a student with its teacher."""
    folder = tmp_path_factory.mktemp("trained")
    for name, changes in {"latents": (), "codes": ("process.kind=masked",)}.items():
        words = ("train", "image/digits", "--latent", "--out", folder / name, "--minutes", "0.1", *STEPS, *SMALL[:3])
        assert main([*map(str, words), *changes]) == 0
    assert main(["train", "image/digits", "--out", str(folder / "teacher"), *STEPS, *SMALL]) == 0
    words = ("distil", folder / "teacher", "--method", "distribution_matching", "--count", 10, "--steps", 1, "--out")
    assert main([*map(str, words), str(folder / "student"), "training.steps=6"]) == 0
    return folder


@pytest.fixture
def moved(trained, tmp_path, monkeypatch):
    """The folder with all of them elsewhere; where they were there is nothing, and nothing is in memory."""
    gone = tmp_path / "gone"
    shutil.copytree(trained, tmp_path / "moved")
    monkeypatch.setattr(latents, "autoencoder", latents.autoencoder.__wrapped__)
    trained.rename(gone)
    yield tmp_path / "moved"
    gone.rename(trained)


@pytest.mark.parametrize("name", ["latents", "codes"])
def test_a_run_and_its_autoencoder_that_are_moved_together_draw_the_same_images(name, trained, moved, tmp_path):
    gone = tmp_path / "gone"
    here = read_tree(moved / name / "recipe.yaml")["data"]["codec"]["path"]
    assert here == str(moved / f"{name}-autoencoder")
    assert str(trained) in (moved / name / "recipe.yaml").read_text(), "the recipe stays what it was"
    words = ["--count", "3", "--seed", "5", "--out"]
    assert main(["sample", str(moved / name), *words, str(tmp_path / "a.npz")]) == 0
    gone.rename(trained)
    assert main(["sample", str(trained / name), *words, str(tmp_path / "b.npz")]) == 0
    trained.rename(gone)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    shutil.rmtree(max((moved / name / "checkpoints").iterdir()))
    assert main(["resume", str(moved / name)]) == 0


def test_a_run_that_is_moved_alone_says_where_it_has_looked(trained, moved, refused, tmp_path):
    (moved / "latents").rename(tmp_path / "alone")
    for verb in (["sample", "--count", "2"], ["evaluate"]):
        said = refused(verb[0], tmp_path / "alone", *verb[1:])
        there = f"the autoencoder that this run was trained with is neither at {trained / 'latents-autoencoder'}"
        assert there in said
        assert "where there is no trained run, nor beside this run as latents-autoencoder" in said


def test_other_weights_under_the_same_name_are_not_taken(moved, refused):
    shutil.rmtree(moved / "latents-autoencoder")
    (moved / "codes-autoencoder").rename(moved / "latents-autoencoder")
    assert "nor beside this run as latents-autoencoder" in refused("sample", moved / "latents", "--count", 2)


def test_the_weights_beside_are_taken_where_others_are_at_the_recorded_place(trained, moved):
    shutil.copytree(moved / "codes-autoencoder", trained / "latents-autoencoder")
    try:
        model = load_model(open_run(moved / "latents"))[0]
        assert model.modality.codec.path == str(moved / "latents-autoencoder")
        assert torch.isfinite(model.modality.codec.network.encode(torch.zeros(1, 1, 8, 8))[0]).all()
    finally:
        shutil.rmtree(trained)


def test_a_student_that_is_moved_with_its_teacher_trains_on(moved, refused):
    assert main(["sample", str(moved / "student"), "--count", "2"]) == 0
    shutil.rmtree(max((moved / "student" / "checkpoints").iterdir()))
    (moved / "teacher").rename(moved / "other")
    assert "nor beside this run as teacher" in refused("resume", moved / "student")
    (moved / "other").rename(moved / "teacher")
    assert main(["resume", str(moved / "student")]) == 0


def test_training_counts_the_runs_that_a_run_was_made_with(trained, moved):
    shutil.copytree(moved / "latents", moved / "of-latents")
    recipe = moved / "of-latents" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("init_from: null", f"init_from: {trained / 'latents'}"))
    seconds = {"latents-autoencoder": 40.0, "latents": 80.0, "of-latents": 7.0, "teacher": 9.0, "student": 3.0}
    for name, found in seconds.items():
        (moved / name / "metrics.jsonl").write_text(f'{{"step": 1, "seconds": 1}}\n{{"step": 2, "seconds": {found}}}\n')
    told = {name: training_of(open_run(moved / name)) for name in seconds}
    assert told == {
        "latents-autoencoder": "40 s",
        "latents": "1 min 20 s + 40 s of latents-autoencoder",
        "of-latents": "7 s + 40 s of latents-autoencoder + 1 min 20 s of latents",
        "teacher": "9 s",
        "student": "3 s + 9 s of teacher",
    }
    shutil.rmtree(moved / "latents-autoencoder")
    assert training_of(open_run(moved / "latents")) == "1 min 20 s + that of latents-autoencoder, which is gone"


def test_a_copy_beside_changes_nothing_while_the_recorded_run_is_there(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "copy")
    tree = read_tree(tmp_path / "copy" / "latents" / "recipe.yaml")
    assert tree["data"]["codec"]["path"] == str(trained / "latents-autoencoder")


def test_only_paths_with_a_hash_are_references(trained, tmp_path):
    sha256 = checkpoint.identity(trained / "teacher" / "checkpoints")
    tree = {
        "data": {"path": "/gone/teacher", "parts": [{"path": "/gone/teacher", "sha256": sha256}]},
        "method": {"teacher": "/gone/teacher", "sha256": sha256},
        "odd": [
            {"path": 3, "sha256": sha256},
            {"path": "/gone/teacher", "sha256": 3},
            {"path": "a\0", "sha256": sha256},
        ],
    }
    here = str(trained / "teacher")
    assert at_hand(tree, trained / "student" / "recipe.yaml") == {
        "data": {"path": "/gone/teacher", "parts": [{"path": here, "sha256": sha256}]},
        "method": {"teacher": here, "sha256": sha256},
        "odd": tree["odd"],
    }
    require_weights("teacher", here, sha256)
    with pytest.raises(ValueError, match="where there is no trained run"):
        require_weights("teacher", str(tmp_path), sha256)
