"""What belongs to the user stays: a run in its data is no data, and no verb changes a file outside its run or its --out."""

import hashlib
import os
import shutil
import stat

import pytest

from langevin.cli import main
from langevin.modalities.paths import walk
from langevin.run.directory import open_run, writing
from tests import pictures, texts, tiny

TEXT = ("network.width=32", "network.depth=1", "network.head_dim=16", "training.batch=8", "training.ema_lengths=[0.1]",
        "sampling.ema=0.1", "training.precision=float32", "data.codec.kind=characters")  # fmt: skip
KINDS = {"image": (pictures.classes, (*tiny.SMALL, "data.val_fraction=0.3")), "text": (texts.corpus, TEXT)}


def snapshot(root, *leaving):
    """Type, permissions and content of everything under a folder, but in the folders `leaving`; links not followed."""
    found = {}
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if os.path.join(folder, name) not in map(str, leaving)]
        for name in (*below, *names):
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            content = os.readlink(path) if stat.S_ISLNK(mode) else ""
            if stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
            found[path] = (mode, content)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_inside_its_data_is_no_data(kind, tmp_path, told, monkeypatch):
    """`cd photos; langevin train .`, and a run that was asked for inside: both are resumed, and are no data later."""
    make, small = KINDS[kind]
    data = make(tmp_path / "photos")
    before, names = snapshot(tmp_path), walk(data)
    monkeypatch.chdir(data)
    status, _, err = told("train", ".", "training.steps=3", *small)
    assert status == 0, err
    assert snapshot(tmp_path, tmp_path / "runs") == before
    run = tmp_path / "runs" / "photos"
    assert f"{os.path.relpath(run)}" in err
    for out in (data / "deep" / "mine",):
        assert told("train", ".", "--out", out, "training.steps=3", *small)[0] == 0
        assert list((out / "samples").glob("step-*"))
    assert walk(data) == names
    assert told("resume", run)[0] == told("resume", data / "deep" / "mine")[0] == 0
    open_run(run).open_data()
    status, out, _ = told("inspect", data)
    assert status == 0
    assert "mine" not in out


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_not_made_of_the_data_folder_or_of_one_with_files(kind, tmp_path, refused):
    make, small = KINDS[kind]
    data = make(tmp_path / "photos")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "metrics.jsonl").write_text("mine")
    before = snapshot(tmp_path)
    assert "--out" in refused("train", data, "--out", data, "training.steps=1", *small)
    assert "metrics.jsonl" in refused("train", data, "--out", tmp_path / "mine", "training.steps=1", *small)
    assert snapshot(tmp_path) == before


def test_a_start_that_fails_leaves_nothing_and_keeps_the_name(tmp_path, refused, told, monkeypatch):
    data = pictures.classes(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    refused("train", data, "training.steps=1", *tiny.SMALL, "sampling.sampler={kind: gibbs}")
    (tmp_path / "runs").rmdir()
    assert snapshot(tmp_path) == before
    left = tmp_path / "runs" / "photos"  # of a process that was killed before there was a run
    left.mkdir(parents=True)
    for name in (".lock", "environment.json", ".recipe.yaml.0123456789abcdef.tmp"):
        (left / name).write_text("")
    assert told("train", data, "training.steps=1", *tiny.SMALL)[0] == 0
    assert open_run(left).recipe.training.steps == 1


def test_a_start_beside_another_takes_the_next_name(tmp_path, told, monkeypatch):
    data = pictures.classes(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    with writing(tmp_path / "runs" / "photos"):  # as one does that is still calibrating
        assert told("train", data, "training.steps=1", *tiny.SMALL)[0] == 0
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["photos-2"]


def test_a_run_is_made_beside_files_of_other_names(tmp_path, told):
    """A job's own log, say."""
    data, out = pictures.classes(tmp_path / "photos"), tmp_path / "run"
    out.mkdir()
    (out / "log.txt").write_text("mine")
    assert told("train", data, "--out", out, "training.steps=1", *tiny.SMALL)[0] == 0
    assert (out / "log.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["environment.json", "metrics.jsonl", "checkpoints/step-00000012/manifest.json",
                                  "checkpoints/step-00000012/state.json", "recipe.yaml"])  # fmt: skip
def test_a_pipe_in_a_run_holds_no_verb_up(name, runs, tmp_path, told):
    run = shutil.copytree(runs["image"] / "ended", tmp_path / "run")
    (run / name).unlink()
    os.mkfifo(run / name)
    for verb in ("inspect", "resume", "sample"):
        _, _, err = told(verb, run)
        assert "not foreseen" not in err


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A stopped and a finished run of each kind: kind -> folder of `data`, `stopped`, `ended`."""
    made = {}
    for kind, (make, small) in KINDS.items():
        folder = tmp_path_factory.mktemp(kind)
        data = make(folder / "data")
        assert (
            main(
                [
                    "train",
                    str(data),
                    "--out",
                    str(folder / "ended"),
                    "training.steps=12",
                    "training.keep_checkpoints=20",
                    *small,
                ]
            )
            == 0
        )
        stopped = shutil.copytree(folder / "ended", folder / "stopped")
        for path in (stopped / "checkpoints").iterdir():
            if path.name == "best" or int(path.name[5:]) > 6:
                shutil.rmtree(path)
        made[kind] = folder
    return made


VERBS = {
    "resume": ("image", ["resume", "RUN"]),
    "resume text": ("text", ["resume", "RUN"]),
    "sample": ("image", ["sample", "RUN", "--count", "3"]),
    "sample gif": ("image", ["sample", "RUN", "--count", "3", "--gif"]),
    "sample text": ("text", ["sample", "RUN", "--count", "1", "--out", "OUT/text.txt"]),
    "sample out": ("image", ["sample", "RUN", "--count", "2", "--out", "OUT/pictures"]),
    "sample npz": ("image", ["sample", "RUN", "--count", "2", "--out", "OUT/pictures.npz"]),
    "evaluate": ("image", ["evaluate", "RUN", "--count", "12", "--seeds", "1", "--steps", "1"]),
    "evaluate text": ("text", ["evaluate", "RUN", "--count", "8", "--steps", "2"]),
    "fit-solver": ("image", ["fit-solver", "RUN", "--steps", "2", "--count", "2", "--fine", "2"]),
    "compare": ("image", ["compare", "RUN", "--count", "10", "--steps", "1", "--samplers", "ddim"]),
    "inspect": ("image", ["inspect", "RUN"]),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_writes_through_a_link(verb, runs, tmp_path, monkeypatch, capfd):
    """A first run shows what the verb writes. Then a link to a file elsewhere is planted at each of these names, and in the
    end at each folder: elsewhere nothing changes, whatever the verb answers."""
    kind, words = VERBS[verb]
    folder = runs[kind]
    before = snapshot(folder)
    source = folder / ("stopped" if "resume" in words else "ended")
    plain, linked, folders = (tmp_path / name / "run" for name in ("plain", "linked", "folders"))
    for run in (plain, linked, folders):
        shutil.copytree(source, run)
        (run.parent / "out").mkdir()

    def carry_out(run):
        monkeypatch.chdir(run.parent)
        return main([w.replace("RUN", str(run)).replace("OUT", str(run.parent / "out")) for w in words])

    assert carry_out(plain) == 0, capfd.readouterr().err
    assert snapshot(folder) == before
    assert sorted(p.name for p in plain.parent.iterdir()) == ["out", "run"]

    elsewhere = tmp_path / "elsewhere"
    names = {path.relative_to(plain) for path in plain.rglob("*") if path.is_file()}
    names |= {name.with_name(f".{name.name}.tmp") for name in names} | {
        name.with_name(name.name + ".part") for name in names
    }
    for name in names:
        victim, link = elsewhere / name, linked / name
        victim.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(link, victim) if link.is_file() else victim.write_text("precious")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(victim)
    for name in ("checkpoints", "samples", "ema", "solvers", "evaluation", "tensorboard", "comparison"):
        victim = elsewhere / "folders" / name
        shutil.move(folders / name, victim) if (folders / name).is_dir() else victim.mkdir(parents=True)
        (folders / name).symlink_to(victim)
    there = snapshot(elsewhere)
    status = carry_out(linked)
    said = capfd.readouterr().err
    assert snapshot(elsewhere) == there
    assert status == 0, said  # every file could be read, and what was written replaced the links
    carry_out(folders)
    assert snapshot(elsewhere) == there
    assert "not foreseen" not in capfd.readouterr().err


def test_a_link_and_the_permissions_of_what_the_user_names_are_kept(runs, tmp_path, told):
    target, link = tmp_path / "elsewhere" / "mine.npz", tmp_path / "link.npz"
    target.parent.mkdir()
    target.write_text("mine")
    target.chmod(0o600)
    link.symlink_to(target)
    assert told("sample", runs["image"] / "ended", "--count", "2", "--out", link)[0] == 0
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert target.read_bytes()[:2] == b"PK"  # an .npz is a zip archive
