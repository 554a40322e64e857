"""Dataset files of other trainers are the folders that they name, and what of them is not carried over is said."""

import json

import pytest
import torch

from langevin.cli import main
from langevin.modalities import content
from langevin.modalities.image.data import load_parts, quiet
from langevin.modalities.image.sources import Folder
from langevin.modalities.paths import walk
from langevin.recipe.dataset_file import imported
from langevin.run.directory import open_run
from tests import pictures, tiny

KNOWN = {"size", "buckets", "flip"}
KOHYA = """
[general]
caption_extension = "txt"
flip_aug = true
color_aug = true

[[datasets]]
resolution = [32, 8]
batch_size = 3
enable_bucket = true
max_bucket_reso = 32
bucket_reso_steps = 4

  [[datasets.subsets]]
  image_dir = "data/disc"
  class_tokens = "a disc"
  num_repeats = 4
  keep_tokens = 1

  [[datasets.subsets]]
  image_dir = "data/bar"
  class_tokens = "bar"
  caption_prefix = "one"
  num_repeats = 6
  caption_extension = ".cap"

  [[datasets.subsets]]
  image_dir = "nowhere"
  is_reg = true
"""
PIPE = """
resolutions = [8, 16]
enable_ar_bucket = true
min_ar = 0.25
max_ar = 2.0
num_ar_buckets = 6
frame_buckets = [1, 33]

[[directory]]
path = "data/disc"
num_repeats = 2

[[directory]]
path = "data/bar"
num_repeats = 2
mask_path = "masks"
"""


@pytest.fixture
def folder(tmp_path):
    pictures.classes(tmp_path / "data", count=8)
    (tmp_path / "data" / "disc" / "000.txt").write_text("a red disc\n")
    (tmp_path / "data" / "bar" / "001.cap").write_text("wide bar")
    return tmp_path


def written(folder, text):
    (folder / "dataset.toml").write_text(text)
    return folder / "dataset.toml"


def test_kohyas_subsets_are_folders_with_repeats_and_captions(folder):
    path = written(folder, KOHYA)
    discs = [f"disc/{i:03}{turn}.png" for i in range(0, 8, 2) for turn in ("", "~2")]
    bars = [f"bar/{i:03}{turn}.png" for i in range(1, 8, 2) for turn in ("", "~2", "~3")]
    assert walk(path) == sorted([*discs, *bars, "metadata.jsonl"])
    lines = [json.loads(line) for line in content.text_of(path / "metadata.jsonl").splitlines()]
    said = {line["file_name"]: line["text"] for line in lines}
    assert said["disc/000.png"] == said["disc/000~2.png"] == "a red disc"
    assert said["disc/002.png"] == "a disc"
    assert said["bar/001~3.png"] == "one wide bar"
    assert said["bar/003.png"] == "one bar"
    assert content.content(path / "bar" / "003~2.png") == (folder / "data/bar/003.png").read_bytes()


def test_kohyas_options_are_carried_over_or_said_not_to_be(folder):
    found = imported(written(folder, KOHYA), KNOWN)
    assert set(found.changes) == {
        "data.size=16", "training.batch=3", "data.flip=true", "data.buckets.count=9", "data.buckets.max_ratio=4",
        "data.buckets.multiple=4",
    }  # fmt: skip
    text = "\n".join(found.lines)
    assert "not carried over, as there is nothing like it here: color_aug, keep_tokens" in text
    assert "num_repeats are divided by 2" in text
    assert "nowhere is of regularisation images (is_reg), and is left out" in text


def test_diffusion_pipes_directories_and_options(folder):
    path = written(folder, PIPE)
    assert [name for name in walk(path) if name.endswith(".png")] == sorted(
        [f"{'disc' if i % 2 == 0 else 'bar'}/{i:03}.png" for i in range(8)]
    )
    found = imported(path, KNOWN)
    assert set(found.changes) == {"data.size=16", "data.buckets.count=7", "data.buckets.max_ratio=4"}
    assert "nothing like it here: frame_buckets, mask_path" in "\n".join(found.lines)
    assert imported(path, {"size"}).changes == ("data.size=16",)
    assert "enable_ar_bucket" in "\n".join(imported(path, {"size"}).lines)


def test_a_captions_json_of_kohya(folder):
    (folder / "meta.json").write_text(json.dumps({"data/disc/002.png": {"tags": "round"}, "004": {"caption": "a dot"}}))
    path = written(folder, '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "data/disc"\nmetadata_file = "meta.json"\n')
    lines = [json.loads(line) for line in content.text_of(path / "metadata.jsonl").splitlines()]
    assert {line["file_name"]: line["text"] for line in lines} == {"002.png": "round", "004.png": "a dot"}


def test_a_run_trains_on_a_dataset_file_and_is_that_on_its_folders(folder, capfd):
    path = written(folder, KOHYA.replace("[32, 8]", "8").replace("max_bucket_reso = 32\n", ""))
    with quiet():
        parts = load_parts(Folder(path=str(path), size=8))
        plain = load_parts(Folder(path=str(folder / "data"), size=8))
    assert sum(map(len, parts)) == 4 * 2 + 4 * 3
    expected = {name: 2 if name.startswith("disc") else 3 for part in plain for name in part.names}
    total = sum(part.read(torch.arange(len(part))).long().sum(0) for part in parts)
    weighted = [
        expected[part.names[i]] * part.read(torch.tensor([i]))[0].long() for part in plain for i in range(len(part))
    ]
    assert torch.equal(total, sum(weighted))
    run = tiny.run_of(path, folder / "run", steps=2)
    assert "flip_aug is carried over: data.flip=true" in capfd.readouterr().err
    recipe = open_run(run).recipe
    assert recipe.data.path == str(path)
    assert (recipe.training.batch, recipe.data.size, recipe.data.flip) == (8, 8, True)  # an option of the command wins
    assert main(["sample", str(run), "--count", "1", "--condition", "a disc", "--out", str(folder / "a.png")]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "is not readable as TOML"),
        ("x = 1", "names no folders of data"),
        ("datasets = 3", "should be tables"),
        ("[[datasets]]\n", "names 0 folders"),
        ('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "data/dics"\n', "there is no such folder"),
        ("[[datasets]]\n[[datasets.subsets]]\nnum_repeats = 1\n", "has no image_dir"),
        ('[[directory]]\npath = "data/disc"\nnum_repeats = 0\n', "num_repeats is a number from 1"),
        ('[[directory]]\npath = "data/disc"\nnum_repeats = true\n', "num_repeats is a number from 1"),
        ('[general]\nclass_tokens = 3\n[[datasets]]\n[[datasets.subsets]]\nimage_dir = "data/disc"\n', "is a text"),
        (
            '[[datasets]]\nresolution = "big"\n[[datasets.subsets]]\nimage_dir = "data/disc"\n',
            "resolution is a positive",
        ),
        ('resolutions = 3\n[[directory]]\npath = "data/disc"\n', "resolutions is a list"),
        ('enable_ar_bucket = true\nmax_ar = -1\n[[directory]]\npath = "data/disc"\n', "max_ar is a positive number"),
        ('[[directory]]\npath = "data/disc"\ncaption_prefix = 3\n', "caption_prefix is a text"),
        ('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "data/disc"\ncaption_extension = "/"\n', "is a suffix"),
        (
            '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "data/disc"\nmetadata_file = "none.json"\n',
            "cannot be read",
        ),
    ],
)
def test_what_is_wrong_with_a_dataset_file_is_said(folder, capfd, text, message):
    path = written(folder, text)
    assert main(["train", str(path), "--out", str(folder / "run"), "training.steps=1", *tiny.SMALL]) == 1
    assert message in capfd.readouterr().err
