"""Checkpoints are whole or not there, whatever kills the writer, fills the disk or alters the files."""

import errno
import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from langevin import files
from langevin.files import write_atomic
from langevin.training import checkpoint
from langevin.training.checkpoint import Damaged, load, load_latest, prune, save, steps

GROUPS = ("model", "optimizer")


def groups(step):
    """Tensors whose every number is the step, of shapes that are not all contiguous."""
    values = torch.full((4, 6), float(step))
    return {"model": {"w": values, "t": values.T}, "optimizer": {"w/step": torch.tensor(step)}}


def put(root, step):
    return save(root, step, groups(step), {"step": step, "samples_seen": 8 * step})


def flip(file, place):
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


def test_what_was_saved_is_loaded(tmp_path):
    path = put(tmp_path, 7)
    found = load(path)
    assert found.state == {"step": 7, "samples_seen": 56}
    assert set(found.groups) == set(GROUPS)
    for group, tensors in groups(7).items():
        for name, tensor in tensors.items():
            assert torch.equal(found.groups[group][name], tensor)
    assert set(load(path, only=("model",)).groups) == {"model"}


def test_numbers_come_back_in_the_same_bits(tmp_path):
    generator = torch.Generator().manual_seed(0)
    saved = {t: torch.randn(50, generator=generator).to(getattr(torch, t)) for t in ("float32", "float64", "bfloat16")}
    saved["int64"] = torch.randint(-(2**62), 2**62, (50,), generator=generator)
    saved["channels_last"] = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    back = load(save(tmp_path, 1, {"model": saved}, {"step": 1})).groups["model"]
    assert all(torch.equal(back[name], tensor) for name, tensor in saved.items())


def test_the_newest_whole_checkpoint_is_the_latest(tmp_path):
    assert load_latest(tmp_path / "nothing here") == (None, [])
    for step in (9, 10, 100):
        put(tmp_path, step)
    found, complaints = load_latest(tmp_path)
    assert found.state["step"] == 100
    assert complaints == []


def remove(file):
    file.unlink()


def cut(file):
    file.write_bytes(file.read_bytes()[:-1])


def alter(file):
    flip(file, file.stat().st_size // 2)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("harm", [remove, cut, alter])
def test_a_damaged_file_is_named_and_the_checkpoint_before_is_taken(tmp_path, name, harm):
    put(tmp_path, 1)
    bad = put(tmp_path, 2)
    harm(bad / name)
    if not (name == "manifest.json" and harm is alter):  # one bit of a manifest may show only in what it describes
        with pytest.raises(Damaged, match=name):
            load(bad)
    found, (complaint,) = load_latest(tmp_path)
    assert found.state["step"] == 1
    assert str(bad) in complaint


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"format": 1}', '{"format": 1, "files": []}',
                                  '{"format": 1, "files": {"a": 3}}', '{"format": 1, "files": {}}', "\xff"])  # fmt: skip
def test_a_manifest_that_is_none_is_damage(tmp_path, text):
    path = put(tmp_path, 1)
    (path / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(Damaged):
        load(path)


def test_any_single_bit_of_the_weights_is_noticed(tmp_path):
    path = put(tmp_path, 1)
    file = path / "model.safetensors"
    for place in range(0, file.stat().st_size, 37):
        flip(file, place)
        with pytest.raises(Damaged, match=r"model\.safetensors"):
            load(path)
        flip(file, place)
    assert load(path).state["step"] == 1


def test_another_format_is_told_by_its_number(tmp_path):
    path = put(tmp_path, 1)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(Damaged, match="format 99, this version reads format 1"):
        load(path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused_and_nothing_is_written(tmp_path, bad):
    put(tmp_path, 1)
    before = sorted(tmp_path.rglob("*"))
    wrong = groups(2)
    wrong["optimizer"]["m"] = torch.tensor([1.0, bad])
    with pytest.raises(ValueError, match="'m' of optimizer"):
        save(tmp_path, 2, wrong, {"step": 2})
    assert sorted(tmp_path.rglob("*")) == before


def test_a_disk_that_is_full_before_writing_is_said_with_what_to_do(tmp_path, monkeypatch):
    put(tmp_path, 1)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1000, 900, 100))
    with pytest.raises(OSError, match=r"disk full .*free some disk space.*langevin resume") as caught:
        put(tmp_path, 2)
    assert caught.value.errno == errno.ENOSPC
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("error", [
    OSError(errno.ENOSPC, "No space left on device"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
])  # fmt: skip
@pytest.mark.parametrize("at", [0, 1])
def test_a_disk_that_fills_while_writing_leaves_what_was_there(tmp_path, monkeypatch, error, at):
    put(tmp_path, 1)
    before = sorted(tmp_path.rglob("*"))
    written, real = [], checkpoint.save_file

    def save_file(tensors, path):
        if len(written) == at:
            Path(path).write_bytes(b"the first bytes")
            raise error
        written.append(path)
        real(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", save_file)
    with pytest.raises(OSError, match="disk full") as caught:
        put(tmp_path, 2)
    assert caught.value.errno == errno.ENOSPC
    assert sorted(tmp_path.rglob("*")) == before
    assert load_latest(tmp_path)[0].state["step"] == 1


def test_a_disk_that_refuses_is_said_with_the_place(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=r"could not write .*step-00000001.*input/output error"):
        put(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


def test_folders_are_not_opened_on_windows_which_has_no_handle_of_them(tmp_path, monkeypatch):
    real, opened = os.open, []

    def refuse(path, flags, *rest, **options):
        opened.append(Path(path))
        if Path(path).is_dir() or not flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "permission denied")
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(files, "WINDOWS", True)
    monkeypatch.setattr(os, "open", refuse)
    put(tmp_path, 3)
    monkeypatch.undo()
    assert load(tmp_path / "step-00000003").state["step"] == 3
    assert opened


def test_writing_a_file_that_fails_keeps_the_old_one(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    write_atomic(file, b"old")

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(file, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert file.read_bytes() == b"old"


def test_pruning_keeps_the_newest_and_clears_what_a_killed_process_left(tmp_path):
    for step in (1, 2, 3, 10):
        put(tmp_path, step)
    left = files.temporary_of(tmp_path / "step-00000011")
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    prune(tmp_path, keep=2, step=10)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003", "step-00000010"]


def test_pruning_counts_back_from_the_step_just_saved_and_keeps_two_marks(tmp_path):
    for step in (0, 1, 2, 4, 5, 6, 7, 90):
        put(tmp_path, step)
    alter(tmp_path / "step-00000090" / "model.safetensors")  # passed over on resume, so the run is at step 7
    prune(tmp_path, keep=1, step=7, eval_steps={0, 2, 4, 6, 90})
    assert [int(p.name[-8:]) for p in steps(tmp_path)] == [90, 7, 6, 4]


def test_the_same_step_can_be_saved_again(tmp_path):
    path = put(tmp_path, 5)
    inode = path.stat().st_ino
    put(tmp_path, 5)
    assert path.stat().st_ino == inode, "the same contents should have stayed as they were"
    save(tmp_path, 5, groups(6), {"step": 5})
    assert load(path).groups["model"]["w"][0, 0] == 6
    alter(path / "model.safetensors")
    put(tmp_path, 5)
    assert load(path).groups["model"]["w"][0, 0] == 5
    assert [p.name for p in steps(tmp_path)] == ["step-00000005"]


def write_forever(root, step, ready):
    while True:
        step += 1
        put(root, step)
        prune(root, keep=1, step=step)
        ready.set()


def kill_repeatedly(root, kills):
    """Start a process that saves without pause, kill it at some moment, and look, again and again."""
    context, moment = multiprocessing.get_context("fork"), torch.Generator().manual_seed(2)
    step = 0
    put(root, 0)
    for _ in range(kills):
        ready = context.Event()
        writer = context.Process(target=write_forever, args=(root, step, ready), daemon=True)
        writer.start()
        assert ready.wait(60)
        time.sleep(0.1 * float(torch.rand((), generator=moment)))
        writer.kill()
        writer.join()
        found, complaints = load_latest(root)
        assert found is not None
        assert complaints == []
        assert found.state["step"] > step
        step = found.state["step"]
        assert torch.equal(found.groups["model"]["w"], groups(step)["model"]["w"])


def test_a_writer_killed_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    kill_repeatedly(tmp_path, 12)


@pytest.mark.slow
def test_a_writer_killed_five_hundred_times_leaves_a_whole_checkpoint(tmp_path):
    kill_repeatedly(tmp_path, 500)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
@pytest.mark.parametrize("name", ["manifest.json", "state.json", "model.safetensors"])
def test_a_file_that_cannot_be_read_is_passed_over_for_the_checkpoint_before(tmp_path, monkeypatch, name, number):
    put(tmp_path, 1)
    bad = put(tmp_path, 2)
    real, real_open = Path.open, os.open

    def open_(self, *arguments, **options):
        if self == bad / name:
            raise OSError(number, os.strerror(number), str(self))
        return real(self, *arguments, **options)

    def opened(path, *arguments, **options):
        if Path(path) == bad / name:
            raise OSError(number, os.strerror(number), str(path))
        return real_open(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_)
    monkeypatch.setattr(os, "open", opened)
    found, (complaint,) = load_latest(tmp_path)
    assert found.state["step"] == 1
    assert os.strerror(number) in complaint


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path, monkeypatch):
    put(tmp_path, 1)

    def refuse(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        load_latest(tmp_path)


def test_a_reader_finds_a_whole_checkpoint_whenever_the_writer_prunes(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    put(tmp_path, 0)
    writer = context.Process(target=write_forever, args=(tmp_path, 0, ready), daemon=True)
    writer.start()
    try:
        assert ready.wait(60)
        steps_seen, end = [], time.monotonic() + 1.5
        while time.monotonic() < end:
            found, complaints = load_latest(tmp_path)
            assert found is not None
            assert complaints == []
            steps_seen.append(found.state["step"])
    finally:
        writer.kill()
        writer.join()
    assert steps_seen == sorted(steps_seen)
    assert len(set(steps_seen)) > 3


def test_a_checkpoint_that_is_pruned_while_it_is_read_gives_way_to_a_newer_one(tmp_path, monkeypatch):
    """The listing was taken before, so all that it names is gone."""
    put(tmp_path, 12)
    real = checkpoint._digest

    def digest(path):
        monkeypatch.setattr(checkpoint, "_digest", real)
        put(tmp_path, 13)
        shutil.rmtree(tmp_path / "step-00000012")
        return real(path)

    monkeypatch.setattr(checkpoint, "_digest", digest)
    found, complaints = load_latest(tmp_path)
    assert (found.state["step"], complaints) == (13, [])


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_files_of_a_checkpoint_follow_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        path = put(tmp_path / "checkpoints", 1)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {mode}


@pytest.mark.parametrize("name", ["../../x", "/etc/hostname", "a/b"])
def test_a_manifest_names_no_file_elsewhere(tmp_path, name):
    path = put(tmp_path, 1)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": 1, "sha256": "0"}
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Damaged, match="outside the checkpoint"):
        load(path)


@pytest.mark.parametrize("name", ["step-²", "step-", "step-1x", "step-" + "9" * 30])
def test_what_is_not_named_like_a_checkpoint_is_none(tmp_path, name):
    put(tmp_path, 1)
    (tmp_path / name).mkdir()
    assert [p.name for p in steps(tmp_path)] == ["step-00000001"]


def test_links_to_checkpoints_are_removed_and_what_they_lead_to_stays(tmp_path):
    elsewhere = put(tmp_path / "elsewhere", 3)
    root = tmp_path / "checkpoints"
    root.mkdir()
    (root / elsewhere.name).symlink_to(elsewhere)
    put(root, 3)
    assert not (root / elsewhere.name).is_symlink()
    (root / "step-00000001").symlink_to(elsewhere)
    put(root, 4)
    prune(root, keep=1, step=4)
    assert sorted(p.name for p in root.iterdir()) == ["step-00000004"]
    assert load(elsewhere).state["step"] == 3
