"""`langevin edit` on files and folders: one call, nothing lost, nothing of the user's changed."""

import json

import numpy as np
import pytest
from PIL import Image

from langevin.cli import main
from langevin.embed import extract
from tests import texts, tiny

EDIT = ("--mask", "2,2,4,4", "--count", "2", "--steps", "4")


@pytest.fixture
def folder(tmp_path):
    """Three images, one of which cannot be read, and a text."""
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(inputs / f"{i}.png")
    content = (inputs / "1.png").read_bytes()
    (inputs / "1.png").write_bytes(content[:60])
    return inputs


def bytes_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_folder_is_edited_in_one_call_and_what_cannot_be_read_is_named(trained, folder, tmp_path, capsys):
    before, out = bytes_of(folder), tmp_path / "out"
    assert main(["edit", str(trained), str(folder), *EDIT, "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert "2 of 3 edited" in said
    assert "1 could not be edited: 1.png: " in said
    assert bytes_of(folder) == before
    assert sorted(path.name for path in out.iterdir()) == ["0", "0.png", "2", "2.png", "edit.json"]
    answers = sorted(path.name for path in (out / "0").iterdir())
    assert [name.split("-", 1)[1] for name in answers] == [
        "answer_1.png", "answer_2.png", "input.png", "mean.png", "spread__doubled.png",
    ]  # fmt: skip
    given = np.asarray(Image.open(folder / "0.png"))
    drawn = np.asarray(Image.open(out / "0" / answers[0]))
    assert (drawn[:2] == given[:2]).all()
    assert (drawn[2:6, 2:6] != given[2:6, 2:6]).any()


def test_a_call_that_was_stopped_goes_on_where_it_was(trained, folder, tmp_path, capsys, monkeypatch):
    (folder / "1.png").unlink()
    whole, out = tmp_path / "whole", tmp_path / "out"
    words = ["edit", str(trained), str(folder), *EDIT, "--out"]
    assert main([*words, str(whole)]) == 0

    from langevin.cli.edit import Editing

    real = Editing.one

    def killed(self, file, progress):
        if file.name == "2.png":
            raise KeyboardInterrupt
        return real(self, file, progress)

    monkeypatch.setattr(Editing, "one", killed)
    assert main([*words, str(out)]) == 130
    assert "the same command goes on" in capsys.readouterr().err
    monkeypatch.undo()
    written = (out / "0.png").stat().st_mtime_ns
    assert main([*words, str(out)]) == 0
    assert "0.png is done already" in capsys.readouterr().err
    assert (out / "0.png").stat().st_mtime_ns == written
    assert bytes_of(out).keys() == bytes_of(whole).keys()
    assert (out / "2.png").read_bytes() == (whole / "2.png").read_bytes()
    assert main([*words, str(out), "--seed", "5"]) == 1
    assert "holds answers of another command (seed differ)" in capsys.readouterr().err


def test_one_file_becomes_a_picture_or_arrays_and_says_how_it_was_made(trained, folder, tmp_path, capsys):
    words = ["edit", str(trained), str(folder / "0.png"), *EDIT, "--out"]
    assert main([*words, str(tmp_path / "a.png")]) == 0
    assert main([*words, str(tmp_path / "a.npz")]) == 0
    facts = extract((tmp_path / "a.png").read_bytes())
    assert facts["sampler"] == "ancestral"
    assert facts["command"].startswith("langevin edit")
    arrays = np.load(tmp_path / "a.npz")
    assert arrays["images"].shape == (5, 8, 8, 3)
    assert arrays["seed"].tolist() == [0, 1, -1, -1, -1]
    assert main([*words, str(folder / "0.png")]) == 1
    assert "is the input itself" in capsys.readouterr().err


def test_by_default_answers_are_beside_the_caller_and_their_command_is_kept(trained, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["edit", str(trained), str(folder / "0.png"), *EDIT]) == 0
    assert (tmp_path / "0-edited" / "0.png").is_file()
    settings = json.loads((tmp_path / "0-edited" / "edit.json").read_text())
    assert settings["options"] == ["", "--mask", "2,2,4,4"]
    assert settings["count"] == "2"


def test_another_input_of_the_same_name_is_not_taken_for_done(trained, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["edit", str(trained), str(folder / "0.png"), *EDIT]
    assert main(words) == 0
    first = (tmp_path / "0-edited" / "0.png").read_bytes()
    (folder / "2.png").replace(folder / "0.png")
    assert main([*words, "--out", "0-edited"]) == 1
    assert "holds answers to another 0.png: choose another --out" in capsys.readouterr().err
    assert main(words) == 0
    assert (tmp_path / "0-edited" / "0.png").read_bytes() == first
    assert (tmp_path / "0-edited-2" / "0.png").read_bytes() != first


def test_a_folder_of_texts_is_edited(tmp_path):
    words = [*tiny.SMALL, "training.steps=2", "data.codec.kind=characters", "data.task.context_length=32"]
    run, drafts = tmp_path / "run", tmp_path / "drafts"
    assert main(["train", str(texts.corpus(tmp_path / "corpus")), "--out", str(run), *words]) == 0
    drafts.mkdir()
    for name in ("a", "b"):
        (drafts / f"{name}.txt").write_text("the [[4]] sea")
    words = ["edit", str(run), str(drafts), "--count", "2", "--steps", "3", "--contain", "sea"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.txt", "b.txt", "edit.json"]
    assert (tmp_path / "out" / "a.txt").read_text().count("the ") >= 2
