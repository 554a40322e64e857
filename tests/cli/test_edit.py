"""`langevin edit` on files and folders: one call, nothing lost, nothing of the user's changed."""

import json

import numpy as np
import pytest
import soundfile
from PIL import Image

from langevin.cli import main
from langevin.embed import extract
from langevin.modalities.music import midi
from langevin.modalities.music.piece import of_pitches
from tests import scores, texts, tiny, voices

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
    assert "is an input itself" in capsys.readouterr().err


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


def test_every_file_of_a_folder_is_edited_whatever_it_is_called(trained, tmp_path, monkeypatch):
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    names = ("photo 1.png", "photo_1.png", "photo.1.png", "a.png", "a-png.png", "a.webp")
    for i, name in enumerate(names):
        Image.fromarray(np.full((8, 8, 3), 40 * i, np.uint8)).save(inputs / name)
    out = tmp_path / "out"
    words = ["edit", str(trained), str(inputs), *EDIT, "--out", str(out)]
    assert main(words) == 0
    assert len([path for path in out.iterdir() if path.suffix == ".png"]) == len(names)
    before = bytes_of(out)
    assert main(words) == 0
    assert bytes_of(out) == before


def test_files_that_options_name_are_never_overwritten(trained, folder, tmp_path, capsys):
    mask = tmp_path / "mask.png"
    Image.fromarray(np.pad(np.full((4, 4), 255, np.uint8), 2)).save(mask)
    before = mask.read_bytes()
    words = ["edit", str(trained), str(folder / "0.png"), "--mask", str(mask), "--count", "1", "--steps", "2"]
    assert main([*words, "--out", str(mask)]) == 1
    assert "is an input itself" in capsys.readouterr().err
    assert mask.read_bytes() == before


def test_a_name_with_dots_has_a_folder_of_answers(trained, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (folder / "0.png").replace(folder / "0.v2.png")
    assert main(["edit", str(trained), str(folder / "0.v2.png"), *EDIT]) == 0
    assert (tmp_path / "0.v2-edited" / "0_v2.png").is_file()


def test_a_folder_that_may_not_be_changed_is_refused_and_not_tried_for_ever(
    trained, folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert main(["edit", str(trained), str(folder / "0.png"), *EDIT]) == 1
    assert "may not be changed" in capsys.readouterr().err


def test_an_edit_can_be_an_animation(trained, folder, tmp_path):
    out = tmp_path / "a.gif"
    assert main(["edit", str(trained), str(folder / "0.png"), *EDIT, "--out", str(out)]) == 0
    assert Image.open(out).n_frames > 2


def test_recordings_are_edited_and_what_is_kept_is_kept(tmp_path):
    """End to end with a network: a part drawn anew by both methods, noise, and another voice."""
    run, clip = tmp_path / "run", tmp_path / "clip.wav"
    data = voices.spoken(tmp_path / "voices")
    words = ["data.codec.bins=16", "data.codec.n_fft=256", "data.codec.hop=80", "training.steps=2", *tiny.SMALL]
    assert main(["train", str(data), "--out", str(run), *words]) == 0
    soundfile.write(clip, 0.3 * voices.vowel("ee", 150, 0.25), voices.RATE, subtype="PCM_16")
    given = soundfile.read(clip, dtype="int16")[0]
    few = ["--count", "2", "--steps", "3"]
    for number, more in enumerate((
        ["--mask", "0.1,0.15"], ["--mask", "0.1,0.15", "--text", "ee", "--speaker", "ben"], ["--denoise", "0.01"],
        ["--mask", "0.1,0.15", "--text", "ee", "--method", "mmps", "--guidance", "2"],
        ["--to", "anna", "--text", "ee"],
    )):  # fmt: skip
        out = tmp_path / f"out{number}"
        assert main(["edit", str(run), str(clip), *more, *few, "--out", str(out)]) == 0, more
        assert sorted(path.name for path in out.iterdir()) == ["clip", "clip.png", "clip.wav", "edit.json"]
        made = soundfile.read(out / "clip" / "00000-answer_1.wav", dtype="int16")[0]
        if "--mask" in more:
            assert (made[:800] == given[:800]).all()
            assert (made[1200:] == given[1200:]).all()
            assert (made[800:1200] != given[800:1200]).mean() > 0.5


def test_pieces_are_edited_and_what_is_kept_is_kept(tmp_path):
    run, data = tmp_path / "run", scores.chorales(tmp_path / "data")
    words = ["data.context_length=16", "training.steps=2", *tiny.SMALL]
    assert main(["train", str(data), "--out", str(run), *words]) == 0
    piece = of_pitches(np.array(scores.chorale(40, seed=3)))
    file = scores.written(piece, tmp_path / "given.mid", tempo=72.0)
    few = ["--count", "2", "--steps", "3"]
    for number, more in enumerate((
        ["--from-bar", "1"], ["--given", "soprano,bass"], ["--strength", "0.2"], ["--strength", "0.5", "--given", "1"]
    )):  # fmt: skip
        out = tmp_path / f"out{number}"
        assert main(["edit", str(run), str(file), *more, *few, "--out", str(out)]) == 0, more
        assert sorted(path.name for path in out.iterdir()) == ["edit.json", "given", "given.mid", "given.png"]
        contents = [(out / "given" / f"{i:05d}.mid").read_bytes() for i in (0, 2)]
        made, same = (midi.read(content, name="", steps_per_quarter=4)[0] for content in contents)
        assert same.notes.tolist() == piece.notes.tolist()
        if "--given" in more:
            assert made.notes[made.notes[:, 3] == 0].tolist() == piece.notes[piece.notes[:, 3] == 0].tolist()
        assert made.notes.tolist() != piece.notes.tolist()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "nothing to edit: give --from-bar for bars, --given for voices that are kept, or --strength"),
        (["--strength", "0.5", "--from-bar", "1"], "give one of them"),
        (["--strength", "1.5"], "above 0 and at most 1, got 1.5"),
        (["--strength", "0.5", "--given", "1,2,3,4"], "keeps every voice"),
        (["--from-bar", "99"], "are not a part of them"),
        (["--to-bar", "2"], "give the first by --from-bar"),
        (["--from-bar", "1", "--given", "1,2,3,4"], "every note of these bars is given"),
    ],
)
def test_edits_of_pieces_without_sense_are_refused(choir, more, message, capsys):
    run, file = choir
    assert main(["edit", str(run), str(file), *more, "--count", "1"]) == 1
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def choir(tmp_path_factory):
    """A run on chorales, and a piece."""
    folder = tmp_path_factory.mktemp("choir")
    data = scores.chorales(folder / "data")
    words = ["data.context_length=16", "training.steps=1", *tiny.SMALL]
    assert main(["train", str(data), "--out", str(folder / "run"), *words]) == 0
    piece = of_pitches(np.array(scores.chorale(40, seed=3)))
    return folder / "run", scores.written(piece, folder / "given.mid", tempo=72.0)


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


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("writer")
    words = [*tiny.SMALL, "training.steps=2", "data.codec.kind=characters", "data.task.context_length=32"]
    assert main(["train", str(texts.corpus(folder / "corpus")), "--out", str(folder / "run"), *words]) == 0
    return folder / "run"


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        ("the \u6f22 [[4]] sea", [], "the text would not stay as it is: never seen in training"),
        ("the [[4]] sea", ["--strength", "0.5"], "give one of them"),
        ("the sea " * 10, ["--strength", "0.5"], "more than the run's context of 32: edit it in parts"),
        ("the sea [[4]]", ["--without", "sea"], "(--without sea by itself)"),
        ("the [[4]] sea\n", ["--rule", "the.*sea"], "the text ends with a line break, which belongs to it"),
    ],
)
def test_texts_that_would_not_stay_or_cannot_obey_are_refused(writer, tmp_path, text, more, message, capsys):
    file = tmp_path / "draft.txt"
    file.write_text(text)
    assert main(["edit", str(writer), str(file), *more, "--count", "1", "--steps", "2"]) == 1
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_gap_of_any_length_is_long_enough_for_its_rule(writer, tmp_path):
    file, out = tmp_path / "draft.txt", tmp_path / "out.txt"
    file.write_text("the [[]] sea")
    words = ["--contain", "a red moon and a dog", "--count", "1", "--steps", "2", "--out", str(out)]
    assert main(["edit", str(writer), str(file), *words]) == 0
    assert "a red moon and a dog" in out.read_text()
