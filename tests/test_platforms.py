"""Other systems, as far as this one can show: what Windows lacks is guarded, names are valid there, workers spawn."""

import ast
import multiprocessing
import os
import re
import shutil
import signal
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch

from langevin import files
from langevin.cli import attended, main
from langevin.modalities.files import file_name
from langevin.training import machine
from tests.test_source import FILES, SOURCE, name_of

OS = (
    "fork forkpty getuid geteuid getgid getpgid setsid killpg mkfifo sysconf getloadavg statvfs nice getpriority chown "
    "fchmod sched_getaffinity uname wait WNOHANG O_NOFOLLOW O_NONBLOCK"
)
SIGNAL = "SIGKILL SIGHUP SIGUSR1 SIGUSR2 SIGSTOP SIGCHLD SIGALRM alarm pause setitimer"
POSIX = {"os": set(OS.split()), "signal": set(SIGNAL.split())}
SPAWNING = {"multiprocessing.Process", "multiprocessing.Pool", "mp.Process", "mp.Pool", "torch.multiprocessing.Process"}
SUSPECT = re.compile(
    rf"\bos\.({'|'.join(POSIX['os'])})\b|signal\.({'|'.join(POSIX['signal'])})\b|multiprocessing|\bmp\.|ProcessPool|DataLoader"
)
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def guards(tree):
    """The nodes that are within a try that expects a missing attribute, or within an `if` or a choice that asks for it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any("AttributeError" in ast.unparse(h.type) for h in node.handlers if h.type):
            yield from (inner for statement in node.body for inner in ast.walk(statement))
        if isinstance(node, ast.If | ast.IfExp) and any(a in ast.unparse(node.test) for a in ("hasattr", "WINDOWS")):
            yield from ast.walk(node)


def unguarded(tree):
    kept = set(map(id, guards(tree)))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    found = [node for node in names if node.attr in POSIX.get(node.value.id, ()) and id(node) not in kept]
    return [f"line {node.lineno}: {ast.unparse(node)}" for node in found]


def forking(tree):
    """Workers that begin as the system's default says: by a fork on some, which copies the threads' locks."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name, given = name_of(node), {k.arg for k in node.keywords}
        if name in SPAWNING or (name.endswith("ProcessPoolExecutor") and "mp_context" not in given):
            yield f"line {node.lineno}: {name}"
        if name.endswith("DataLoader") and "num_workers" in given and "multiprocessing_context" not in given:
            yield f"line {node.lineno}: {name}"
        if name.endswith("get_context") and "spawn" not in ast.unparse(node):
            yield f"line {node.lineno}: {name}"


def test_what_windows_lacks_is_guarded_and_workers_are_spawned():
    texts = {str(path.relative_to(SOURCE)): path.read_text() for path in FILES}
    found = {name: ast.parse(text) for name, text in texts.items() if SUSPECT.search(text)}
    assert not {name: lines for name, tree in found.items() if (lines := [*unguarded(tree), *forking(tree)])}


def test_the_walk_finds_what_windows_lacks():
    guarded = "try:\n    os.getuid()\nexcept AttributeError:\n    pass"
    assert not unguarded(ast.parse(guarded))
    for code in (
        "os.kill(1, signal.SIGKILL)",
        "os.fork()",
        guarded.replace("Attribute", "OS"),
        "if a:\n    os.sysconf('x')",
    ):
        assert unguarded(ast.parse(code))


def test_the_walk_finds_workers_that_fork():
    for code in (
        "mp.Process(target=f)",
        "ProcessPoolExecutor(2)",
        "get_context('fork')",
        "DataLoader(d, num_workers=2)",
    ):
        assert list(forking(ast.parse(code)))


def test_a_rename_is_tried_again_where_a_reader_holds_the_file(tmp_path, monkeypatch):
    refused, rename = [1, 2], os.replace

    def held(source, target):
        if refused:
            refused.pop()
            raise PermissionError(13, "The process cannot access the file", str(target))
        rename(source, target)

    monkeypatch.setattr(files, "PAUSES", (0.0,) * 5)
    monkeypatch.setattr(os, "replace", held)
    with pytest.raises(OSError, match="could not write"):  # elsewhere a refusal is one
        files.write_atomic(tmp_path / "a", b"1")
    monkeypatch.setattr(files, "WINDOWS", True)
    refused[:] = [1, 2, 3]
    files.write_atomic(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"2"
    refused[:] = [1] * 6
    with pytest.raises(OSError, match="could not write"):
        files.write_atomic(tmp_path / "a", b"3")
    assert (tmp_path / "a").read_bytes() == b"2"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_folders_are_not_flushed_where_they_cannot_be(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "WINDOWS", True)
    monkeypatch.setattr(os, "fsync", lambda handle: pytest.fail("flushed"))
    files.flush(tmp_path)


@pytest.mark.parametrize("windows", [False, True])
def test_a_server_that_is_gone_interrupts_its_process(monkeypatch, windows):
    """Sent to itself, SIGTERM would end a process of Windows at once, with nothing saved."""
    monkeypatch.setattr(attended, "WINDOWS", windows)
    if windows:
        monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("sent"))
    got, before = [], signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
        attended.interrupt()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert got == [signal.SIGTERM]


def test_every_file_of_a_run_has_a_name_that_windows_takes(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(trained, tmp_path / "run")
    assert main(["sample", str(run), "--count", "2", "--steps", "2", "--sampler", "exponential max_order=2"]) == 0
    names = [path.relative_to(run) for path in run.rglob("*")]
    for path in names:
        assert len(str(path)) < 120  # of 260 with the folders above
        for part in path.parts:
            assert not set(part) & set('<>:"|?*\\')
            assert part == part.rstrip(". ")
            assert part.isascii()
            assert part.split(".")[0].lower() not in RESERVED
    assert len({str(path).lower() for path in names}) == len(names)


@pytest.mark.parametrize("text", ["a:b", "x/../y", "q?", "tab\t", "end.", "<a|b>"])
def test_text_in_a_file_name(text):
    assert not set(file_name(text)) & set('<>:"/\\|?*.\t ')


def test_an_apple_gpu_is_taken_and_has_neither_float64_nor_bf16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert machine.device() == torch.device("mps")
    assert machine.precision("auto") == "float32"


def _drawn(run):
    from langevin import notebook

    return torch.as_tensor(notebook.load(run).sample(2, seed=3, steps=2).values).tolist()


@pytest.mark.slow
def test_a_spawned_worker_draws_the_same_bits(trained):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(_drawn, str(trained)).result() == _drawn(str(trained))
