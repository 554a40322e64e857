"""`langevin classify` with a run that was trained with classes, most of whose labels are missing."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from langevin.cli import main
from langevin.modalities.classification import denoising
from tests import motions, scores, tiny, voices


def grey(path, level, seed):
    """A noisy picture of 8x8 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 20, (8, 8))
    Image.fromarray(np.clip(level + noise, 0, 255).astype(np.uint8)).save(path)


def pictures(root, count, *, first=0):
    """Dark and bright pictures, in a folder for each."""
    for i in range(count):
        grey(root / "dark" / f"{first + i}.png", 60, first + i)
        grey(root / "bright" / f"{first + i}.png", 200, 1000 + first + i)
    return root


@pytest.fixture(scope="module")
def shades(tmp_path_factory):
    """A folder with dark and bright pictures, of which half have no label; new ones; and a run on the first."""
    here = tmp_path_factory.mktemp("shades")
    data = pictures(here / "data", 60)
    pictures(here / "new", 10, first=500)
    with (here / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "label"])
        for path in sorted(data.rglob("*.png")):
            label = path.parent.name if int(path.stem) % 2 else ""
            writer.writerow([path.relative_to(data).as_posix(), label])
    words = [f"data.labels={here / 'labels.csv'}", "data.val_fraction=0.3", "training.batch=32"]
    return here, tiny.run_of(data, here / "run", *words, steps=150)


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def truth(row):
    return row["file_name"].split("/")[0]


@pytest.mark.parametrize("by", ["denoising", "probe"])
def test_new_files_are_told_apart(shades, told, tmp_path, by):
    here, run = shades
    status, out, err = told("classify", run, here / "new", "--by", by)
    assert status == 0
    lines = [line.split("\t") for line in out.splitlines()]
    assert len(lines) == 20
    assert sum(name.startswith(label) for name, label, *_ in lines) >= 18
    assert "on 20 labelled examples" in err
    status, _, _ = told("classify", run, here / "new", "--by", by, "--out", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    right = sum(truth(row) == row["predicted"] for row in found["items"])
    assert (found["accuracy"], found["labelled"]) == (right / 20, 20)
    assert [(row["file_name"], row["predicted"]) for row in found["items"]] == [tuple(line[:2]) for line in lines]


def test_an_example_is_classified_the_same_alone_and_in_any_batch(shades, told, tmp_path):
    here, run = shades
    found = []
    for batch in (1, 7, 256):
        out = tmp_path / f"{batch}.csv"
        assert told("classify", run, here / "new", "--batch", batch, "--noises", 8, "--out", out)[0] == 0
        found.append(rows(out))
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            assert one["predicted"] == same["predicted"]
            assert float(one["probability"]) == pytest.approx(float(same["probability"]), abs=1e-3)


def test_labels_are_kept_where_they_are_certain_and_can_be_trained_on(shades, told, tmp_path):
    here, run = shades
    out = tmp_path / "labels.csv"
    status, _, err = told("classify", run, "--by", "probe", "--error", 0.1, "--out", out)
    assert status == 0
    assert "labels are kept from a margin of" in err
    given = {row["file_name"]: row["label"] for row in rows(here / "labels.csv")}
    found = rows(out)
    assert {row["file_name"] for row in found} == given.keys()
    assert all(row["label"] == given[row["file_name"]] for row in found if given[row["file_name"]])
    added = [row for row in found if row["label"] and not given[row["file_name"]]]
    assert added
    assert sum(truth(row) == row["label"] for row in added) >= 0.9 * len(added)
    words = [f"data.labels={out}", f"init_from={run}", "data.val_fraction=0.3"]
    again = tiny.run_of(here / "data", tmp_path / "again", *words, steps=2)
    assert (again / "recipe.yaml").is_file()


def test_what_chose_the_threshold_gets_no_label(shades, told, tmp_path):
    """Held-out examples without a label stay without, so that the next threshold is chosen by what people said."""
    _, run = shades
    out, held_out = tmp_path / "labels.csv", tmp_path / "held-out.csv"
    assert told("classify", run, "--by", "probe", "--error", 0.1, "--out", out)[0] == 0
    assert told("classify", run, "--by", "probe", "--out", held_out)[0] == 0
    apart = {row["file_name"] for row in rows(held_out)}
    assert apart
    assert all(row["label"] == row["given"] for row in rows(out) if row["file_name"] in apart)


def test_what_to_label_next_has_no_label_and_the_most_disagreement(shades, told, tmp_path):
    _, run = shades
    out = tmp_path / "next.csv"
    assert told("classify", run, "--label-next", 5, "--noises", 4, "--out", out)[0] == 0
    found = rows(out)
    assert len(found) == 5
    assert not any(row["given"] for row in found)
    values = [float(row["disagreement"]) for row in found]
    assert values == sorted(values, reverse=True)
    more = tmp_path / "more.csv"
    assert told("classify", run, "--label-next", 1000, "--noises", 4, "--out", more)[0] == 0
    assert [row["file_name"] for row in rows(more)[:5]] == [row["file_name"] for row in found]


def test_classes_that_the_run_does_not_know_are_no_label(shades, told, tmp_path):
    _, run = shades
    pictures(tmp_path / "new", 2)
    grey(tmp_path / "new" / "grey" / "0.png", 128, 5)
    grey(tmp_path / "new" / "stray.png", 200, 6)
    (tmp_path / "new" / "dark" / "broken.png").write_bytes(b"no picture")
    status, out, err = told("classify", run, tmp_path / "new", "--noises", 8)
    assert status == 0
    assert len(out.splitlines()) == 6
    assert "classes that the run does not know, taken as no label: grey" in err
    assert "images that cannot be read, left out: 1 (dark/broken.png" in err
    assert "on 4 labelled examples" in err


def test_one_file_and_what_is_no_file(shades, told, refused, tmp_path):
    here, run = shades
    status, out, _ = told("classify", run, here / "new" / "dark" / "500.png", "--noises", 8)
    assert (status, out.split("\t")[:2]) == (0, ["500.png", "dark"])
    assert "There is no file or folder" in refused("classify", run, tmp_path / "nothing.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert "no image there can be read" in refused("classify", run, tmp_path / "broken.png")


def test_one_class_only_or_none_is_refused(refused, tmp_path):
    for i in range(12):
        grey(tmp_path / "one" / "dark" / f"{i}.png", 60, i)
        grey(tmp_path / "none" / f"{i}.png", 60, i)
    one = tiny.run_of(tmp_path / "one", tmp_path / "run-one", steps=1)
    assert "knows the single class 'dark'" in refused("classify", one)
    none = tiny.run_of(tmp_path / "none", tmp_path / "run-none", steps=1)
    assert "was trained without classes" in refused("classify", none)


def test_too_few_labels_for_a_share_of_errors_are_counted(shades, refused):
    _, run = shades
    message = refused("classify", run, "--error", 0.001, "--noises", 4)
    assert "takes at least 999 of them that are right" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--noises", 1], "--noises is 2 to 100,000, got 1"),
        (["--error", 0], "--error is a share of errors between 0 and 1"),
        (["--error", 1.5], "--error is a share of errors between 0 and 1"),
        (["--label-next", 0], "--label-next is a number of examples, got 0"),
        (["--label-next", 3, "--by", "probe"], "--label-next goes by noise levels"),
        (["--label-next", 3, "--error", 0.1], "leave one out"),
        (["--steps", 3], "--steps has no effect here"),
        (["--guidance", 2], "--guidance has no effect here"),
        (["--out", "classes.png"], "classes are written as standard output, .csv, .json"),
    ],
)
def test_options_that_do_not_fit_are_refused(shades, refused, words, message):
    assert message in refused("classify", shades[1], *words)


OTHERS = {
    "speech": (voices.spoken, ["network.width=32", "network.depth=1", "network.head_dim=16"]),
    "music": (scores.chorales, ["data.key=true", "network.width=32", "network.depth=1", "network.head_dim=16"]),
    "motion": (motions.walks, ["network.width=32", "network.depth=1", "network.head_dim=16"]),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_of_data_classify_what_they_were_trained_on(kind, told, tmp_path):
    """By the same plan: each held-out example gets one of the classes, and the labels that they have are compared."""
    make, changes = OTHERS[kind]
    data, run = make(tmp_path / "data") or tmp_path / "data", tmp_path / "run"
    words = ["training.steps=1", "training.batch=4", "training.ema_lengths=[0.1]", "sampling.ema=0.1", *changes]
    assert told("train", data, "--out", run, *words)[0] == 0
    status, out, err = told("classify", run, "--noises", 3)
    assert status == 0, err
    assert "accuracy" in err
    assert out
    assert "runs of" not in err
    assert told("classify", run, "--by", "probe")[0] == 0


def test_a_network_that_predicts_no_numbers_is_not_asked_for_classes(shades, refused, monkeypatch):
    here, run = shades
    monkeypatch.setattr(denoising, "nats", lambda process, q, x, *rest: torch.full((len(x),), torch.nan))
    assert "its weights are damaged" in refused("classify", run, here / "new")


def test_help_shows_the_options(shades, capsys):
    assert main(["classify", str(shades[1]), "--help"]) == 0
    assert "--noises" in capsys.readouterr().out
