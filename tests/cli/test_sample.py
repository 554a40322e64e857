"""`sample`: every form of output, what it may be conditioned on, and what it says of the rest."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from langevin.cli import main
from langevin.run.version import VERSION
from langevin.training import checkpoint
from tests import pictures, tiny


def array(run, out, *options):
    assert main(["sample", str(run), "--out", str(out), *map(str, options)]) == 0
    return np.load(out)


def test_a_grid_is_the_default_and_lies_in_the_run(trained, tmp_path, told):
    run = shutil.copytree(trained, tmp_path / "run")
    status, _, err = told("sample", run)
    assert status == 0
    path = run / "samples" / "sample-step4-dpm2m-3-guidance2-seed0.png"
    assert str(path) in err
    assert "16 samples (dpm2m, 3 function evaluations, guidance 2)" in err
    assert Image.open(path).mode == "RGB"


def test_an_array_holds_images_labels_and_the_seed(trained, tmp_path):
    found = array(trained, tmp_path / "new" / "a.npz", "--count", 5, "--seed", 3)
    assert sorted(found.files) == ["images", "labels", "names", "seed"]
    assert found["names"].tolist() == ["bar", "disc", "bar", "disc", "bar"]
    assert found["images"].shape == (5, 8, 8, 3)
    assert found["images"].dtype == np.uint8
    assert found["labels"].tolist() == [0, 1, 0, 1, 0]
    assert found["seed"].tolist() == [3, 4, 5, 6, 7]


def test_a_folder_holds_one_file_a_sample_named_by_its_class(trained, tmp_path):
    assert main(["sample", str(trained), "--count", "3", "--out", str(tmp_path / "some")]) == 0
    names = sorted(p.name for p in (tmp_path / "some").iterdir())
    assert names == ["00000-bar.png", "00001-disc.png", "00002-bar.png"]
    found = array(trained, tmp_path / "a.npz", "--count", 3)["images"]
    for name, image in zip(names, found, strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "some" / name)), image)


@pytest.mark.parametrize("options", [["--out", "a.gif"], ["--out", "a.png", "--gif"], ["--out", "a", "--gif"]])
def test_an_animation_shows_the_denoising(trained, tmp_path, options, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", str(trained), "--count", "2", "--steps", "5", *options]) == 0
    film = Image.open(tmp_path / "a.gif")
    assert film.n_frames >= 5
    assert (tmp_path / options[1]).exists()


def test_a_sample_is_named_by_its_seed_whatever_the_batch(trained, tmp_path):
    whole = array(trained, tmp_path / "a.npz", "--count", 6, "--condition", "bar")["images"]
    small = array(trained, tmp_path / "b.npz", "--count", 6, "--condition", "bar", "--batch", 4)["images"]
    later = array(trained, tmp_path / "c.npz", "--count", 2, "--condition", "bar", "--seed", 4)["images"]
    assert np.abs(whole.astype(int) - small).max() <= 1
    assert np.abs(whole[4:].astype(int) - later).max() <= 1
    again = array(trained, tmp_path / "d.npz", "--count", 6, "--condition", "bar")["images"]
    assert np.array_equal(whole, again)
    other = array(trained, tmp_path / "e.npz", "--count", 6, "--condition", "disc")["images"]
    assert not np.array_equal(whole, other)


def test_classes_are_repeated_to_fill_the_count(trained, tmp_path):
    found = array(trained, tmp_path / "a.npz", "--count", 5, "--condition", "disc", "disc", "bar")
    assert found["labels"].tolist() == [1, 1, 0, 1, 1]


@pytest.mark.parametrize("options", [
    ["--sampler", "heun"], ["--sampler", "ddim eta=1"], ["--sampler", "{kind: unipc, p: 3}"],
    ["--sampler", "ancestral"], ["--ema", "0"],
    ["--ema", "0.2"], ["--guidance", "1"], ["--guidance", "0"], ["--steps", "1"], ["--seed", "-5"],
])  # fmt: skip
def test_options_are_taken(trained, tmp_path, options):
    assert array(trained, tmp_path / "a.npz", "--count", 2, *options)["images"].shape == (2, 8, 8, 3)


def test_captions_may_hold_words_that_were_never_seen_and_that_is_said(captioned, tmp_path, told):
    captions = ["red disc", "grean disc", "a huge red zebra"]
    status, _, err = told("sample", captioned, "--count", 3, "--out", tmp_path / "a.png", "--condition", *captions)
    assert status == 0
    assert "caption 'grean disc': 'grean' was never seen in training; nearest: green" in err
    assert "'zebra' was never seen in training" in err
    assert "only the first 2 of 4 words are read" in err
    assert "caption 'red disc'" not in err


def test_captions_of_the_data_are_the_default(captioned, tmp_path, told):
    status, _, err = told("sample", captioned, "--count", 3, "--out", tmp_path / "a")
    assert status == 0
    assert "never seen" not in err
    names = [p.stem.split("-", 1)[1] for p in (tmp_path / "a").iterdir()]
    assert all(name.split("_")[0] in pictures.COLOURS for name in names)


def test_captions_change_the_picture(captioned, tmp_path):
    first, second = (
        array(captioned, tmp_path / f"{i}.npz", "--count", 1, "--condition", c)["images"]
        for i, c in enumerate(("red disc", "blue bar"))
    )
    assert not np.array_equal(first, second)


def test_a_run_of_classes_and_captions_is_conditioned_on_both(tmp_path, told):
    data = pictures.classes(tmp_path / "data", count=12)
    for i, path in enumerate(sorted(data.rglob("*.png"))):
        path.with_suffix(".txt").write_text(f"{list(pictures.COLOURS)[i % 3]} {path.parent.name}")
    run = tiny.run_of(data, tmp_path / "run", steps=1)
    for name, condition in (("a", []), ("b", ["--condition", "bar"]), ("c", ["--condition", "blue disc"])):
        status, _, err = told("sample", run, "--count", 4, "--out", tmp_path / name, *condition)
        assert status == 0, err
    names = sorted(p.stem for p in (tmp_path / "c").iterdir())
    assert len(names) == 4
    assert all("disc__blue_disc" in name for name in names)


def test_a_run_without_conditions_samples(tmp_path, told, refused):
    run = tiny.run_of(pictures.plain(tmp_path / "data"), tmp_path / "run", steps=1)
    assert told("sample", run, "--count", 2)[0] == 0
    assert "it cannot be conditioned on 'cat'" in refused("sample", run, "--condition", "cat")


@pytest.mark.parametrize(("options", "words"), [
    (["--condition", "cat"], "no class is called 'cat'; the run's classes are bar, disc"),
    (["--steps", "0"], "--steps must be between 1 and 10000"),
    (["--steps", "1000000000000"], "--steps must be between 1 and 10000"),
    (["--count", "0"], "--count must be 1 to"),
    (["--batch", "0"], "--batch must be 1 to"),
    (["--guidance", "nan"], "--guidance must be a finite number"),
    (["--guidance", "inf"], "--guidance must be a finite number"),
    (["--sampler", "ddim eta=2"], "between 0 (deterministic) and 1"),
    (["--sampler", "dmp2m"], "(did you mean 'dpm2m'?)"),
    (["--sampler", "unmask"], "is not for a gaussian process"),
    (["--sampler", "exponential max_oder=3"], "max_oder: no such key; did you mean 'max_order'?"),
    (["--ema", "0.9"], "between 0 and 0.28"),
    (["--ema", "nan"], "between 0 and 0.28"),
    (["--seed", str(2**70)], "--seed must fit"),
    (["--prompt", "a"], "--prompt is an option of runs of text, and "),
    (["--top-p=0.5"], "--top-p is an option of runs of text, and "),
    (["--iterations", "3"], "--iterations is an option of densities, and "),
    (["--out", "a.jpg"], "samples of image are written as .png, .npz, .gif, a folder; got --out a.jpg"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(trained, options, words, refused):
    assert words in refused("sample", trained, *options)


def test_an_out_that_is_in_the_way_is_refused(trained, tmp_path, refused):
    (tmp_path / "a.png").mkdir()
    assert "a.png" in refused("sample", trained, "--count", 1, "--out", tmp_path / "a.png")
    (tmp_path / "b").write_text("mine")
    assert str(tmp_path / "b") in refused("sample", trained, "--count", 1, "--out", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "mine"


def test_an_existing_picture_is_replaced(trained, tmp_path):
    (tmp_path / "a.png").write_text("old")
    assert main(["sample", str(trained), "--count", "1", "--out", str(tmp_path / "a.png")]) == 0
    Image.open(tmp_path / "a.png").verify()


def test_a_run_that_is_none_or_damaged_is_refused(trained, tmp_path, refused):
    assert "there is no run at" in refused("sample", tmp_path / "nowhere")
    run = shutil.copytree(trained, tmp_path / "run")
    for path in checkpoint.steps(run / "checkpoints"):
        (path / "model.safetensors").write_bytes(b"")
    assert "no complete checkpoint to load" in refused("sample", run)
    environment = (run / "environment.json").read_text()
    (run / "environment.json").write_text(environment.replace(f'"version": {VERSION}', '"version": 0'))
    assert f"was written as version 0 of a run; this langevin reads version {VERSION}" in refused("sample", run)
    (run / "environment.json").write_text("{")
    assert "environment.json is missing or damaged" in refused("sample", run)
    (run / "recipe.yaml").unlink()
    assert "it has no recipe.yaml" in refused("sample", run)


@pytest.mark.parametrize("verb", ["sample", "evaluate", "resume", "inspect"])
def test_a_run_of_a_modality_that_this_langevin_does_not_know_is_refused(trained, tmp_path, refused, verb):
    run = shutil.copytree(trained, tmp_path / "run")
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text.replace("kind: image", "kind: smells"))
    message = refused(verb, run)
    assert "smells" in message
    assert re.search("image, .*points, .*text|image, speech, .*text, points", message)
    (run / "recipe.yaml").write_text(text.replace("  kind: image\n", ""))
    assert "data.kind" in refused(verb, run)


def test_a_folder_of_ones_own_is_not_mistaken_for_a_run(tmp_path, refused):
    pictures.plain(tmp_path / "data")
    for verb in ("sample", "evaluate", "resume"):
        assert f"{tmp_path / 'data'} is not a run, as it has no recipe.yaml" in refused(verb, tmp_path / "data")


@pytest.mark.parametrize(
    "arguments", [["sample"], ["sample", "a", "--count", "many"], ["dream"], ["train", "a", "--fast"]]
)
def test_what_is_asked_wrongly_is_a_usage_error(arguments, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err
