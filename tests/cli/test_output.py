"""What is written where and what reaches a terminal: names, what is never replaced, streams that are not there."""

import errno
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch
from PIL import Image

from langevin.cli import expected, main, show
from langevin.cli.out import require_writable, unused
from langevin.cli.parse import SECTIONS, parse
from langevin.cli.sample import short
from langevin.cli.show import finish_output, printable
from langevin.evaluation.report import Curves, Line, plain
from langevin.modalities.image import preview
from langevin.modalities.options import kinds, options_of, requests
from langevin.recipe.read import shipped
from langevin.recipe.tree import Recipe
from tests import pictures, tiny

# ------------------------------------------------------------------------------------------------- names of files


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def new(run, told, *options):
    """The file that `sample` writes into the run's samples."""
    before = set((run / "samples").iterdir())
    status, _, err = told("sample", run, *options)
    assert status == 0, err
    (path,) = set((run / "samples").iterdir()) - before
    assert str(path) in err
    return path.name


def test_a_preview_is_named_after_all_it_depends_on_so_none_replaces_another(run, told):
    """Every command here draws other pictures, and `new` fails if it writes no file of its own."""
    assert new(run, told) == "sample-step4-dpm2m-3-guidance2-seed0.png"
    assert new(run, told, "--seed", -3) == "sample-step4-dpm2m-3-guidance2-seed-3.png"
    assert new(run, told, "--guidance", 1.25) == "sample-step4-dpm2m-3-guidance1.25-seed0.png"
    assert new(run, told, "--guidance", 1) == "sample-step4-dpm2m-3-seed0.png"
    assert new(run, told, "--steps", 2, "--sampler", "ddim eta=1") == "sample-step4-ddim_eta_1_0-2-guidance2-seed0.png"
    assert new(run, told, "--count", 2) == "sample-step4-dpm2m-3-guidance2-count2-seed0.png"
    assert new(run, told, "--ema", 0) == "sample-step4-dpm2m-3-guidance2-ema0-seed0.png"
    assert new(run, told, "--condition", "bar") == "sample-step4-dpm2m-3-guidance2-conditionbar-seed0.png"
    assert "conditiondisc-bar" in new(run, told, "--condition", "disc", "bar")


def test_a_part_of_a_name_is_safe_short_and_still_its_own():
    assert short("../../etc/passwd") == "______etc_passwd"
    first, second = short("a" * 300), short("a" * 299 + "b")
    assert first != second
    assert max(len(first), len(second)) <= 60


def test_a_folder_with_files_is_refused_and_an_empty_one_is_filled(run, tmp_path, told, refused):
    assert told("sample", run, "--count", 2, "--out", tmp_path / "some")[0] == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "some").iterdir()}
    assert "holds files; choose another folder" in refused("sample", run, "--count", 1, "--out", tmp_path / "some")
    assert {p.name: p.read_bytes() for p in (tmp_path / "some").iterdir()} == before
    (tmp_path / "empty").mkdir()
    assert told("sample", run, "--count", 1, "--out", tmp_path / "empty")[0] == 0


def test_an_animation_that_was_not_named_replaces_no_file(run, tmp_path, told):
    (tmp_path / "keep.gif").write_text("mine")
    status, _, err = told("sample", run, "--count", 1, "--gif", "--out", tmp_path / "keep.png")
    assert status == 0, err
    assert (tmp_path / "keep.gif").read_text() == "mine"
    assert f"animation: {tmp_path / 'keep-2.gif'}" in err
    assert Image.open(tmp_path / "keep-2.gif").format == "GIF"
    assert told("sample", run, "--count", 1, "--out", tmp_path / "keep.gif")[0] == 0  # named, so replaced
    assert Image.open(tmp_path / "keep.gif").format == "GIF"


def test_draws_of_a_density_replace_no_file_that_was_not_named(tmp_path, told, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bumps.png").write_text("mine")
    status, _, err = told("sample", "toy/bumps", "--chains", 40)
    assert status == 0, err
    assert (tmp_path / "bumps.png").read_text() == "mine"
    assert "bumps-2.png" in err
    assert Image.open(tmp_path / "bumps-2.png").width > 200


def test_arrays_of_a_density_are_written_whole_or_not_at_all(tmp_path, refused, monkeypatch):
    np.savez(tmp_path / "a.npz", points=np.ones(3))

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    refused("sample", "toy/bumps", "--chains", 40, "--out", tmp_path / "a.npz")
    assert np.load(tmp_path / "a.npz")["points"].tolist() == [1, 1, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_a_comparison_lies_in_the_first_run_and_replaces_no_other(tmp_path, told, monkeypatch):
    run = tiny.run_of(pictures.classes(tmp_path / "data", count=60), tmp_path / "a[/b] x$^{$", steps=1)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("COLUMNS", "400")
    for name in ("comparison", "comparison-2"):
        status, out, err = told("compare", run, "--samplers", "ddim", "--steps", 1, "--count", 10)
        assert status == 0, err
        assert str(run / name) in err
        assert (run / name / "comparison.json").is_file()
        assert f" {run} " in out  # brackets are not read as markup, nor $ as mathematics
    assert not list((tmp_path / "here").iterdir())


def test_a_missing_file_in_a_folder_without_rights_is_said_before_any_work(tmp_path, monkeypatch):
    require_writable(tmp_path / "new" / "a.png", folder=False)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match="may not be changed; choose another path"):
        require_writable(tmp_path / "new" / "a.png", folder=False)


def test_the_first_unused_name_is_taken(tmp_path):
    assert unused(tmp_path / "a.png") == tmp_path / "a.png"
    for name in ("a.png", "a-2.png"):
        (tmp_path / name).touch()
    assert unused(tmp_path / "a.png") == tmp_path / "a-3.png"


# --------------------------------------------------------------------------------------------------- large requests


def test_many_samples_are_an_array_or_a_folder_and_no_picture(trained, tmp_path, refused):
    assert "4,096" in refused("sample", trained, "--count", 4097, "--out", tmp_path / "a.png")
    with pytest.raises(ValueError, match="at most 4,096 images"):
        preview.grid(torch.zeros(4097, 1, 1, 1, dtype=torch.uint8))
    assert preview.grid(torch.zeros(4096, 1, 1, 1, dtype=torch.uint8), zoom=1).width < 1000


@pytest.mark.parametrize("error", [
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
])  # fmt: skip
def test_memory_that_ends_is_said_with_what_to_do(error, trained, refused, monkeypatch):
    from langevin.cli import inspect

    def fail(path):
        raise error

    monkeypatch.setattr(inspect, "of_run", fail)
    message = refused("inspect", trained)
    assert "out of memory; ask for fewer samples (--count), fewer at a time (--batch" in message


def test_an_allocation_of_torch_is_recognised():
    with pytest.raises(RuntimeError) as found:
        torch.empty(2**60, dtype=torch.uint8)
    assert expected.message(found.value) == expected.MEMORY
    assert expected.message(RuntimeError("shapes differ")) is None


@pytest.mark.parametrize(("error", "words"), [
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.txt"), "there is no file or folder a.txt"),
    (IsADirectoryError(errno.EISDIR, "Is a directory", "a"), "a is a folder, and a file is needed"),
    (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"), "a/b cannot be made, as a file is in the way"),
    (PermissionError(errno.EACCES, "Permission denied", "a"), "a may not be read or written: permission denied"),
    (OSError(errno.EIO, "Input/output error", "a"), "a: Input/output error"),
    (OSError(errno.ENOSPC, "could not write a: disk full"), "could not write a: disk full"),
])  # fmt: skip
def test_errors_of_the_system_are_in_words(error, words):
    assert expected.message(error).startswith(words)


# --------------------------------------------------------------------------------------------- options without effect


def test_options_without_effect_are_options_of_the_verb():
    """A name in `UNUSED` that no verb has would never be refused."""
    verbs = ("Sample", "Evaluate", "Classify")
    parts = [getattr(options_of(kind), name) for kind in kinds() for name in verbs if hasattr(options_of(kind), name)]
    parts += [options for _, options in requests().values()]
    named = {name for part in parts for name in getattr(part, "UNUSED", {})}
    assert {"seeds", "guidance", "steps"} <= named <= {"seeds", "guidance", "steps", "sampler", "seed"}


@pytest.mark.parametrize("words", [
    ["train", "data={kind: text}", "images", "--out", "x", "training.steps=1"],
    ["train", "--out", "x", "images", "training.steps=1", "data={kind: text}"],
    ["train", "training.steps=1", "--out=x", "images", "data={kind: text}"],
])  # fmt: skip
def test_whole_sections_are_overridden_anywhere(words):
    args = parse(words).args
    assert args.target == "images"
    assert str(args.out) == "x"
    assert set(args.overrides) == {"data={kind: text}", "training.steps=1"}


def test_the_value_of_an_option_is_no_override():
    args = parse(["train", "images", "--out", "network.width=3", "training.steps=1"]).args
    assert str(args.out) == "network.width=3"
    assert args.overrides == ("training.steps=1",)


def test_every_section_of_a_recipe_is_known_to_the_parser():
    assert set(SECTIONS) == {field.name for field in fields(Recipe)}


# ------------------------------------------------------------------------------------------------------- terminals

EVIL = "\x1b]0;pwned\x07name\x9b31m\u202etxt.exe\r\x00"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_control_characters_are_shown_and_not_sent():
    assert printable(EVIL) == r"\x1b]0;pwned\x07name\x9b31m\u202etxt.exe\r\x00"
    kept = "naïve — 猫 👩‍👩‍👧 مرحبا\n\ttext\xa0."
    assert printable(kept) == kept
    assert printable("a\r\nb\udc80") == "a\nb\\udc80"


def test_generated_text_is_filtered_on_a_terminal_only(monkeypatch):
    for stream, shown in ((Terminal(), printable(EVIL)), (io.StringIO(), EVIL)):
        monkeypatch.setattr(sys, "stdout", stream)
        show.write(EVIL)
        assert stream.getvalue() == shown


def test_names_of_a_foreign_run_reach_no_terminal_raw(run, told, tmp_path, refused):
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace("description: ", 'description: "\\e]0;pwned\\a"\nmeasured: ', 1)
                                     .replace("\nmeasured: ''", ""))  # fmt: skip
    facts = json.loads((run / "environment.json").read_text())
    facts["machine"]["processor"] = EVIL
    (run / "environment.json").write_text(json.dumps(facts))
    status, out, err = told("inspect", run)
    assert status == 0, err
    assert r"\x1b]0;pwned\x07" in out
    assert "\x1b" not in out
    evil = tmp_path / "a\x1b]0;pwned\x07"
    assert "\x1b" not in refused("sample", evil)
    shutil.move(run, evil)
    status, _, err = told("sample", evil, "--count", 1, "--out", evil / "a.npz")
    assert status == 0, err
    assert "\x1b" not in err


def test_the_live_line_filters_what_it_shows(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    line = show.LiveLine()
    line.update(EVIL, last=True)
    line.say(EVIL)
    line.close()
    assert not set(sys.stderr.getvalue()) & set("\x1b\x07\x9b\x00\u202e")


@pytest.mark.parametrize("name", ["$^{$", "a_$x$", "_hidden", "\x1b[31mred", "[bold]z", "100% {x}"])
def test_any_name_is_plotted_as_text(name):
    from matplotlib.figure import Figure

    lines = [Line(label=name, x=[1, 2], y=[1, 2]), Line(label="other", x=[1, 2], y=[2, 1])]
    page = Curves(heading=name, lines=lines, x_label=name, y_label=name, caption=name).html()
    assert "image/png" in page
    axes = Figure().subplots()
    axes.plot([1, 2], label=plain(name))
    (text,) = axes.legend().get_texts()
    shown = text.get_text().replace(r"\$", "$").strip()
    assert shown == name.replace("\x1b", "").strip() or shown == name


# ----------------------------------------------------------------------------------------------------------- streams

PREPARED = "import sys; from langevin.cli.show import prepare_streams, finish_output; prepare_streams(); "


def piped(code, redirection, tmp_path, **environment):
    """(status, standard error) of Python code whose streams are redirected by a shell."""
    (tmp_path / "code.py").write_text(PREPARED + code)
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" code.py {redirection}'], cwd=tmp_path, capture_output=True, timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))} | environment,
    )  # fmt: skip
    return done.returncode, done.stderr.decode()


def test_closed_streams_are_plain_errors(tmp_path):
    said = "from langevin.cli import main; sys.exit(main(sys.argv[1:]))"
    status, err = piped(said, "doctor --json >&-", tmp_path)
    assert (status, err.count("\n")) == (1, 1)
    assert "standard output is closed" in err
    assert piped(said, "inspect nowhere 2>&-", tmp_path) == (1, "")
    status, err = piped("from langevin.modalities.text.input import read_prompt\ntry:\n    read_prompt('-')\n"
                        "except ValueError as error:\n    print(error, file=sys.stderr)", "<&-", tmp_path)  # fmt: skip
    assert (status, "standard input is empty" in err) == (0, True)


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    """Libraries print to descriptor 2, and must not print into a checkpoint."""
    code = "f = open('kept', 'w'); assert f.fileno() > 2; import os; os.write(2, b'noise'); f.write('whole')"
    assert piped(code, "<&- >&- 2>&-", tmp_path)[0] == 0
    assert (tmp_path / "kept").read_text() == "whole"


def test_a_character_that_the_output_has_not_loses_no_work(tmp_path):
    code = "print('caf\\xe9 猫 \\udc80 end'); finish_output()"
    for encoding in ("latin-1", "ascii", "utf-8"):
        status, err = piped(code, "> out", tmp_path, PYTHONIOENCODING=encoding)
        assert (status, err) == (0, "")
        assert (tmp_path / "out").read_bytes().endswith(b"end\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_an_output_without_room_is_one_message(tmp_path):
    code = ("from langevin.cli.expected import message\ntry:\n    print('x')\n    finish_output()\n"
            "except (ValueError, OSError) as error:\n    sys.exit(message(error))")  # fmt: skip
    for buffered in ("", "1"):
        status, err = piped(code, "> /dev/full", tmp_path, PYTHONUNBUFFERED=buffered)
        assert status == 1
        assert err.startswith("standard output ")
        assert err.endswith("could not be written: No space left on device\n")
        assert err.count("\n") == 1


def test_a_reader_that_has_left_stays_a_broken_pipe(monkeypatch):
    class Gone(io.StringIO):
        def flush(self):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(BrokenPipeError):
        finish_output()


# --------------------------------------------------------------------------------------------------- what is said


def test_a_recipe_is_described_as_one(told, tmp_path):
    status, out, _ = told("inspect", "image/digits")
    assert status == 0
    assert "langevin train image/digits" in out
    (tmp_path / "mine.yaml").write_text("extends: image/digits\nname: mine\n")
    status, out, _ = told("inspect", tmp_path / "mine.yaml")
    assert status == 0
    assert "characters" not in out
    assert json.loads(told("inspect", tmp_path / "mine.yaml", "--json")[1])["recipe"] == "mine"
    assert "langevin sample toy/ridge" in told("inspect", "toy/ridge")[1]


STATE = json.dumps({"step": 4})


def test_a_foreign_checkpoint_without_a_plan_is_called_damaged(run, told):
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(
        recipe.replace("  steps: 4\n", "  steps: null\n", 1).replace("minutes: null", "minutes: 1.0")
    )
    for folder in (run / "checkpoints").glob("step-*"):
        (folder / "state.json").write_text(STATE)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"]["state.json"] = {"bytes": len(STATE), "sha256": hashlib.sha256(STATE.encode()).hexdigest()}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    status, out, err = told("inspect", run)
    assert (status, "Traceback" in err, "not foreseen" in err) == (0, False, False)
    assert "step-00000004 (damaged: its state.json has no plan of steps)" in out


def test_one_class_is_one_class(tmp_path, told):
    (tmp_path / "data" / "cat").mkdir(parents=True)
    pictures.plain(tmp_path / "data" / "cat", count=8)
    pictures.plain(tmp_path / "two", count=1)
    status, out, err = told("inspect", tmp_path / "data")
    assert status == 0, err
    assert "1 classes" not in out


def test_the_evaluation_after_the_last_step_is_announced(trained, tmp_path, told):
    _, _, err = told("train", trained.parent / "data", "--out", tmp_path / "run", "training.steps=2", *tiny.SMALL)
    assert "trained, now evaluating" in err
    assert "0 s left" not in err


def test_a_user_function_that_fails_is_named(tmp_path, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refused("sample", "os:system", "--dimensions", 2)
    assert "os:system failed on (64, 2): TypeError" in message
    assert main(["sample", "toy/bumps", "--chains", "40"]) == 0


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_is_described(name, told):
    status, out, err = told("inspect", name)
    assert status == 0, err
    assert name in out.splitlines()[0]
    assert out.splitlines()[-1].split()[-1] == name
