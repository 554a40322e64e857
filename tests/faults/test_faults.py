"""A short run is killed, its disk fills or a call fails, at any of its calls to the system: what is saved stays, what is
said is true, and when it goes on it ends in the same bits. Calls of libraries in other languages are met too."""

import errno
import random
import shutil
import sys
from collections import Counter

import numpy as np
import pytest

from tests import pictures, tiny
from tests.faults import harness

QUICK, KILLS = 3, 200


def report(line):
    """For the record of a long run: pytest -m slow -s."""
    sys.stdout.write(line + "\n")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if sys.platform != "linux":
        pytest.skip("faults are injected into the C library of Linux")
    built = harness.build(tmp_path_factory.mktemp("library"))
    if built is None:
        pytest.skip("needs a C compiler, cc")
    return built


class Short:
    """A run of three steps, saved after each, and a copy of it that was stopped after the first."""

    def __init__(self, library, folder):
        self.library, self.folder = library, folder
        self.data, self.whole, self.stopped = pictures.classes(folder / "data"), folder / "whole", folder / "stopped"
        counted = [{"arguments": self.train(self.whole), "under": str(self.whole), "kinds": harness.CHANGES}]
        (ended,) = harness.run(library, counted)
        assert ended["status"] == 0, ended["said"]
        self.changes, self.end = ended["seen"], harness.weights(self.whole)
        shutil.copytree(self.whole, self.stopped)
        for path in (self.stopped / "checkpoints").iterdir():
            if int(path.name[5:]) > 1:
                shutil.rmtree(path)
        again = shutil.copytree(self.stopped, folder / "again")
        resumed = [{"arguments": ["resume", str(again)], "under": str(again), "kinds": harness.READS}]
        (ended,) = harness.run(library, resumed)
        assert (ended["status"], harness.weights(again)) == (0, self.end), ended["said"]
        self.reads = ended["seen"]

    def train(self, out):
        changes = (
            "training.steps=3",
            "training.checkpoint_minutes=0.00001",
            "training.keep_checkpoints=4",
            "training.precision=float32",
            "network.patch=4",
        )
        return ["train", str(self.data), "--out", str(out), *changes, *tiny.SMALL]

    def go_on(self, run):
        """The command that goes on: train where there is no run yet, else resume."""
        return {"arguments": ["resume", str(run)] if (run / "recipe.yaml").exists() else self.train(run)}

    def with_faults(self, faults):
        """Carry out the run with each of the faults, go on without it, and check that nothing was lost.

        Returns the results with the fault."""
        runs, cases = [], []
        for fault in faults:
            run = self.folder / "-".join(str(fault[key]) for key in ("kinds", "what", "at"))
            resume = fault["kinds"] == harness.READS
            if resume:
                shutil.copytree(self.stopped, run)
            arguments = ["resume", str(run)] if resume else self.train(run)
            runs.append(run)
            cases.append({"arguments": arguments, "under": str(run), **fault})
        results = harness.run(self.library, cases)
        for run, again in zip(runs, harness.run(self.library, list(map(self.go_on, runs))), strict=True):
            assert again["status"] == 0, (run.name, again["said"])
            assert harness.weights(run) == self.end, run.name
            shutil.rmtree(run)
        for fault, result in zip(faults, results, strict=True):
            check(fault, result)
        return results


def killed(at):
    return {"kinds": harness.CHANGES, "what": 0, "at": at}


def full(at):
    """From this call on nothing can be written."""
    return {"kinds": harness.CHANGES, "what": errno.ENOSPC, "at": at, "stays": 1}


def failing(kinds, what, at):
    return {"kinds": kinds, "what": what, "at": at}


def check(fault, result):
    """A failure is said in words, and is no success."""
    if fault["what"] == 0:
        assert result["status"] == -9
        return
    assert result["status"] in (0, 1), result["said"]
    assert "not foreseen" not in result["said"]
    assert "Traceback" not in result["said"]
    if result["status"]:
        assert "langevin: " in result["said"]
        if fault["what"] == errno.ENOSPC:
            assert "disk full" in result["said"] or "No space left" in result["said"]


@pytest.fixture(scope="module")
def short(library, tmp_path_factory):
    return Short(library, tmp_path_factory.mktemp("faults"))


def spread(count):
    return [1 + count * i // QUICK for i in range(QUICK)]


@pytest.mark.timeout(300)
def test_a_fault_anywhere_costs_nothing_saved(short):
    faults = [make(at) for make in (killed, full) for at in spread(short.changes)]
    for kinds, count in ((harness.CHANGES, short.changes), (harness.READS, short.reads)):
        faults += [failing(kinds, errno.EIO, at) for at in spread(count)]
    short.with_faults(faults)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_200_kills_at_random_calls(short):
    points = random.Random(0).sample(range(1, short.changes + 1), KILLS)
    short.with_faults(list(map(killed, points)))
    report(f"{len(points)} kills among {short.changes} calls that change files")


@pytest.mark.slow
@pytest.mark.timeout(6000)
@pytest.mark.parametrize("what", [errno.ENOSPC, errno.EIO], ids=["full", "EIO"])
def test_a_fault_at_every_call_that_changes_files(short, what):
    every = range(1, short.changes + 1)
    full_or = full if what == errno.ENOSPC else lambda at: failing(harness.CHANGES, what, at)
    ends = Counter(result["status"] for result in short.with_faults(list(map(full_or, every))))
    report(f"{len(every)} calls that change files, errno {what}: exit statuses {dict(ends)}")


@pytest.mark.slow
@pytest.mark.timeout(6000)
def test_a_fault_at_every_call_that_reads(short):
    faults = [failing(harness.READS, errno.EIO, at) for at in range(1, short.reads + 1)]
    ends = Counter(result["status"] for result in short.with_faults(faults))
    report(f"{short.reads} calls that read: exit statuses {dict(ends)}")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", [0, errno.ENOSPC, errno.EIO], ids=["killed", "full", "EIO"])
def test_a_file_named_by_the_user_is_the_old_one_or_the_new_one(short, tmp_path, what):
    """`sample --out` over an existing file, with a fault at each call."""
    old = tmp_path / "old.npz"
    np.savez(old, mine=np.zeros(3))
    content = old.read_bytes()

    def case(name, **fault):
        out = tmp_path / name / "mine.npz"
        out.parent.mkdir()
        out.write_bytes(content)
        arguments = ["sample", str(short.whole), "--count", "2", "--out", str(out)]
        return {"arguments": arguments, "under": str(out.parent), "kinds": harness.CHANGES, **fault}

    (counted,) = harness.run(short.library, [case("whole")])
    new = (tmp_path / "whole" / "mine.npz").read_bytes()
    assert counted["status"] == 0
    assert new != content
    points = [str(at) for at in range(1, counted["seen"] + 1)]
    assert len(points) > 3
    cases = [case(name, at=int(name), what=what, stays=int(what == errno.ENOSPC)) for name in points]
    for name, result in zip(points, harness.run(short.library, cases), strict=True):
        found = (tmp_path / name / "mine.npz").read_bytes()
        if what == 0:
            assert result["status"] == -9
            assert found in (content, new)
        else:
            check({"what": what}, result)
            assert found == new if result["status"] == 0 else found in (content, new)
            assert [p.name for p in (tmp_path / name).iterdir()] == ["mine.npz"]
