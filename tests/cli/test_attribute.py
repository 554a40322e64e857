"""`attribute`: a ranking of the training examples, as a table, a picture and JSON, of pictures, tables and texts."""

import json

import pytest

from langevin.cli import main
from langevin.run.attribute import FOLDER
from tests import pictures, tiny

SMALL = ("--draws", "2", "--projection", "64", "--count", "3", "--most", "12")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attributed")
    return tiny.run_of(pictures.classes(folder / "data", count=24), folder / "run")


@pytest.mark.parametrize("by", ["square", "gauss_newton"])
def test_a_drawn_sample_is_attributed_and_the_gradients_are_kept(run, by, tmp_path, told):
    words = ["attribute", run, "--by", by, "--condition", "bar", "--seed", 2, *SMALL]
    status, printed, err = told(*words, "--out", tmp_path / "a")
    assert status == 0, err
    assert "most influence" in printed
    found = json.loads((tmp_path / "a" / "attribution.json").read_text())
    assert found["examples"] == 12
    most = [row["influence"] for row in found["most"]]
    assert most == sorted(most, reverse=True)
    assert found["least"][0]["influence"] <= most[-1]
    assert {row["what"] for row in found["most"]} <= {"bar", "disc"}
    assert (tmp_path / "a" / "attribution.png").is_file()
    kept = {file: file.stat().st_mtime_ns for file in (run / FOLDER).glob("gradients-*")}
    assert kept
    assert told(*words, "--damping", 1, "--out", tmp_path / "b")[0] == 0
    assert kept == {file: file.stat().st_mtime_ns for file in (run / FOLDER).glob("gradients-*")}
    for file in kept:
        file.write_bytes(b"damaged")
    assert told(*words, "--out", tmp_path / "c")[0] == 0
    assert json.loads((tmp_path / "c" / "attribution.json").read_text())["most"] == found["most"]


def test_a_training_example_is_its_own_nearest(run, tmp_path, told):
    data = next((run.parent / "data" / "disc").glob("*.png"))
    out = tmp_path / "out"
    status, _, err = told("attribute", run, data, "--condition", "disc", *SMALL[:-1], 100, "--out", out)
    assert status == 0, err
    found = json.loads((out / "attribution.json").read_text())
    if found["nearest"][0]["distance"] == 0:  # else it is held out
        assert found["nearest"][0]["what"] == "disc"


def test_texts_are_attributed_by_their_loss(tmp_path, told):
    file = tmp_path / "lines.txt"
    file.write_text(
        "\n".join(f"the {a} {b} sleeps here" for a in ("red", "blue", "old") for b in ("cat", "dog", "hen")) * 40
    )
    words = ("network.width=32", "network.head_dim=16", "network.depth=1", "training.batch=4", "training.steps=2")
    assert main(["train", str(file), "--out", str(tmp_path / "run"), *words]) == 0
    status, _, err = told("attribute", tmp_path / "run", *SMALL, "--out", tmp_path / "out")
    assert status == 0, err
    assert len(json.loads((tmp_path / "out" / "attribution.json").read_text())["most"]) == 3
    status, _, err = told("attribute", tmp_path / "run", "--by", "square", *SMALL, "--out", tmp_path / "other")
    assert status == 1
    assert "take --by loss" in err
