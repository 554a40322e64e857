"""Files are written whole or not at all, keep their permissions, and links that others have placed lead nowhere."""

import errno
import os
import stat

import pytest

from langevin import files
from langevin.files import append, own_folder, read_regular, sweep, write_atomic, write_folder


@pytest.fixture
def precious(tmp_path):
    file = tmp_path / "elsewhere" / "precious.txt"
    file.parent.mkdir()
    file.write_text("precious")
    return file


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path, precious):
    link = tmp_path / "report.html"
    link.symlink_to(precious)
    write_atomic(link, b"new")
    assert precious.read_text() == "precious"
    assert not link.is_symlink()
    assert link.read_bytes() == b"new"


def test_appending_through_a_link_is_refused(tmp_path, precious):
    for target in (precious, tmp_path / "elsewhere" / "not-there"):
        link = tmp_path / f"metrics-{target.name}"
        link.symlink_to(target)
        with pytest.raises(OSError, match="metrics"):
            append(link)
    assert precious.read_text() == "precious"
    assert [p.name for p in precious.parent.iterdir()] == ["precious.txt"]


def test_a_folder_that_is_a_link_is_refused(tmp_path, precious):
    run = tmp_path / "run"
    run.mkdir()
    (run / "samples").symlink_to(precious.parent)
    with pytest.raises(ValueError, match=r"samples is a link to .*elsewhere"):
        own_folder(run, "samples")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_the_permissions_of_a_file_are_kept(tmp_path, mode):
    file = tmp_path / "a.txt"
    file.write_text("old")
    file.chmod(mode)
    write_atomic(file, b"new")
    assert stat.S_IMODE(file.stat().st_mode) == mode


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_new_files_follow_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "a", b"")
        with append(tmp_path / "b"):
            pass
    finally:
        os.umask(before)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"} == {mode}


def test_what_is_not_a_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(OSError, match=f"could not write .*{name}: something other than a file"):
            write_atomic(tmp_path / name, b"new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "pipe"]


def test_two_writers_of_one_name_both_end(tmp_path, monkeypatch):
    """The second writes while the first is about to rename."""
    real = os.replace

    def replace(source, target):
        monkeypatch.setattr(os, "replace", real)
        write_atomic(target, b"second")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    write_atomic(tmp_path / "a", b"first")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"first"}


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    def fill(error=None):
        with write_folder(tmp_path / "out") as folder:
            (folder / "0.png").write_bytes(b"first")
            if error is not None:
                raise error

    with pytest.raises(OSError, match=r"disk full while writing .*out"):
        fill(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(KeyboardInterrupt):
        fill(KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):
        fill()
        assert [p.name for p in (tmp_path / "out").iterdir()] == ["0.png"]
        (tmp_path / "out" / "0.png").unlink()  # an empty folder is filled
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_stays_the_same_folder(tmp_path):
    """It may be a mount, the working directory of a shell, or private."""
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o2770)
    before = out.stat()
    with write_folder(out) as folder:
        (folder / "0.png").write_bytes(b"first")
        (folder / "1.png").write_bytes(b"second")
    assert (out.stat().st_ino, out.stat().st_mode) == (before.st_ino, before.st_mode)
    assert sorted(p.name for p in out.iterdir()) == ["0.png", "1.png"]


def test_only_regular_files_of_bounded_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "large").write_bytes(bytes(11))
    assert read_regular(tmp_path / "large", most=11) == bytes(11)
    for name, reason in (("pipe", "not a regular"), ("zero", "not a regular"), ("large", "more than 10 bytes")):
        with pytest.raises(OSError, match=reason):
            read_regular(tmp_path / name, most=10)


def test_a_folder_with_files_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match="holds files already"), write_folder(tmp_path / "out"):
        pass
    assert [p.read_bytes() for p in (tmp_path / "out").iterdir()] == [b"mine"]


def test_only_old_temporary_files_are_swept(tmp_path):
    old, new = (files.temporary_of(tmp_path / "a.png") for _ in range(2))
    for path in (old, new, tmp_path / "a.png"):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"a.png", new.name}
