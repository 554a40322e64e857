"""A supervisor starts ranks, starts them again where one is lost, and says why it stops."""

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import yaml

from langevin.cli import main
from langevin.run import ranks
from langevin.run import train as run_train
from langevin.run.agreement import code, require_agreement
from langevin.run.plan import Wanted
from langevin.run.ranks import Ranks, newest_step, supervise
from langevin.run.reporting import Reporting
from langevin.run.supervised import broken_by_another, environment
from langevin.training.distributed import ALONE, World
from tests import pictures, tiny
from tests.faults import harness
from tests.training.test_placement import spread

# ranks of a run that makes a step in 0.02 s and saves each second one; `lost` is what befalls rank 1 at step 3, once
STUB = """
import json, os, signal, sys, time
from pathlib import Path
run, how = Path(sys.argv[1]), sys.argv[2]
folder, rank = Path(os.environ["LANGEVIN_RANKS"]), int(os.environ["RANK"])
(folder / "run").write_text(str(run))
(run / "checkpoints").mkdir(parents=True, exist_ok=True)
(run / "recipe.yaml").touch()
first = not (run / f"lost-{rank}").exists()
signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
for step in range(1, 7):
    (folder / f"beat-{rank}").touch()
    time.sleep(0.02)
    if rank == 0 and step % 2 == 0:
        (run / "checkpoints" / f"step-{step:08d}").mkdir(exist_ok=True)
    if step == 3 and rank == 1 and (first or how == "always"):
        (run / "lost-1").touch()
        if how in ("killed", "always"):
            print("before the end", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "stalled":
            os.kill(os.getpid(), signal.SIGSTOP)
        if how in ("full", "bug"):
            said = {"foreseen": how == "full", "message": "the disk is full"}
            (folder / "end-1.json").write_text(json.dumps(said))
            sys.exit(1)
    if step == 3 and rank == 0 and (how in ("killed", "bug", "full", "always") and first or how == "always"):
        time.sleep(0.3)
        (run / "lost-0").touch()
        said = {"foreseen": False, "message": "RuntimeError: closed by peer", "broken": True}
        (folder / "end-0.json").write_text(json.dumps(said))
        sys.exit(1)
    if step == 3 and rank == 0 and how == "stalled" and first:
        (run / "lost-0").touch()
        time.sleep(0.2)
        (folder / "beat-0").touch()
        time.sleep(60)
    if step == 3 and how == "evaluates" and first:
        (run / f"lost-{rank}").touch()
        if rank == 1:
            (folder / "beat-1").write_text("waits")
        else:
            time.sleep(0.2)
            (folder / "beat-0").touch()
        time.sleep(60)
    if step == 3 and how == "waits":
        time.sleep(60)
    if step == 3 and how == "hangs":
        if rank == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        time.sleep(60)
"""


def carry_out(tmp_path, how, **changes):
    """(exit status, what was said, the commands that were started)."""
    run, said, started = tmp_path / "run", [], []
    options = {"count": 2, "patience": 0.01, "pause": 0.05, "program": (sys.executable, "-c", STUB), **changes}

    def again(path):
        started.append(path)
        return [str(path), how]

    status = supervise([str(run), how], Ranks(**options), again=again, say=said.append)
    return status, "\n".join(said), started


def test_ranks_that_end_well_are_started_once(tmp_path):
    assert carry_out(tmp_path, "well") == (0, "", [])
    assert newest_step(tmp_path / "run") == 6


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("killed", "rank 1 was ended by SIGKILL\n    before the end"),
        ("stalled", "rank 1 made no step for 0.01 minutes"),
        ("evaluates", "rank 0 made no step for 0.01 minutes"),
        ("bug", "rank 1 ended with the disk is full"),
    ],
)
def test_a_lost_rank_is_named_and_all_go_on_from_the_newest_checkpoint(tmp_path, how, reason):
    status, said, started = carry_out(tmp_path, how)
    assert (status, started) == (0, [tmp_path / "run"])
    assert re.match(reason, said)
    assert "all ranks start again from step 2 in 0.05 s (restart 1 of 3)" in said


def test_an_error_that_was_foreseen_is_said_and_not_tried_again(tmp_path):
    status, said, started = carry_out(tmp_path, "full")
    assert (status, started) == (1, [])
    assert said == "rank 1: the disk is full\nnot started again: it would end in the same way"


def test_starts_that_bring_no_newer_checkpoint_are_given_up(tmp_path):
    status, said, started = carry_out(tmp_path, "always", restarts=2)
    assert status == 1
    assert len(started) == 2
    assert (
        "stopped: 2 starts in a row brought no newer checkpoint; `langevin resume" in said
    )  # the first brought step 2
    assert "in 0.05 s (restart 1 of 2)" in said
    assert "in 0.1 s (restart 2 of 2)" in said


@pytest.fixture
def heard():
    """SIGINT as in the foreground, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_a_signal_reaches_all_ranks_and_none_is_started_again(tmp_path):
    timer = subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(1.5); os.kill({os.getpid()}, 2)"])
    before = signal.getsignal(signal.SIGINT)
    status, said, started = carry_out(tmp_path, "waits", patience=10.0)
    timer.wait()
    assert (status, said, started) == (130, "", [])
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("heard")
def test_a_second_signal_ends_ranks_that_hang(tmp_path, monkeypatch):
    monkeypatch.setattr(ranks, "LEAVE", 0.3)
    twice = f"import os, time; time.sleep(1); os.kill({os.getpid()}, 2); time.sleep(0.3); os.kill({os.getpid()}, 2)"
    timer = subprocess.Popen([sys.executable, "-c", twice])
    status, said, started = carry_out(tmp_path, "hangs", patience=10.0)
    timer.wait()
    assert (status, started) == (130, [])
    assert said == f"ranks that did not end were killed: 0, 1; `langevin resume {tmp_path / 'run'} --ranks 2` goes on"


def test_a_signal_that_is_ignored_stays_ignored(tmp_path, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ranks._signals():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_start_whose_rank_was_lost_is_not_said_to_have_brought_nothing(tmp_path):
    _, said, _ = carry_out(tmp_path, "killed", restarts=0)
    assert "stopped: no other start is allowed (--restarts 0); `langevin resume" in said


def test_processes_of_a_rank_are_no_ranks(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_PORT", "LANGEVIN_RANKS", "TORCHELASTIC_RUN_ID", "PATH"):
        monkeypatch.setenv(name, "1")
    assert {"RANK", "WORLD_SIZE", "MASTER_PORT", "LANGEVIN_RANKS", "TORCHELASTIC_RUN_ID"}.isdisjoint(environment())
    assert environment()["PATH"] == "1"


def test_a_transfer_that_another_rank_broke_is_told_apart_from_a_bug():
    assert broken_by_another(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"))
    assert not broken_by_another(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "--ranks is a number of processes"),
        ({"restarts": -1}, "--restarts is at least 0"),
        ({"patience": 0.0}, "--patience is a positive number of minutes"),
    ],
)
def test_wrong_numbers_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Ranks(**{"count": 2, **changes})


def test_ranks_are_not_started_by_two_launchers(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="a launcher has started 4 already"):
        Ranks(count=2)


class Four(World):
    """What four ranks say of themselves, of which one is this."""

    def gathered(self, thing):
        return [thing, {**thing, **self.other}, thing, thing]


@pytest.mark.parametrize(("name", "value"), [("code", "langevin 0, source 00"), ("data", "b"), ("torch", "1.0")])
def test_a_rank_of_other_code_or_data_is_named_on_all_ranks(name, value):
    Four.other = {name: value}
    for rank in range(4):
        with pytest.raises(ValueError, match=f"rank 1 of 4 has another {name} than the rest: {value}, and not "):
            require_agreement(Four(rank=rank, size=4), {"data": "a"})


class Recorded(World):
    """One of two ranks, which agree; it remembers what they compared."""

    def gathered(self, thing):
        self.compared.append(thing)
        return [thing, thing]


def test_no_address_of_a_webhook_is_compared_or_shown(monkeypatch, data):
    Recorded.compared = []
    secret = "https://hooks.example.org/services/T0/SECRET"
    to = Reporting(webhook=(secret,))
    assert "SECRET" not in repr(to)
    monkeypatch.setattr(run_train, "join_world", lambda: Recorded(rank=1, size=2))
    with pytest.raises(ValueError, match="is less than the 2 ranks"):
        run_train.train_run(Wanted(target=str(data), overrides=("training.batch=1", "training.steps=2"), reporting=to))
    assert Recorded.compared
    assert "SECRET" not in str(Recorded.compared)


def test_a_rank_alone_agrees_with_itself_and_the_code_has_a_hash():
    require_agreement(ALONE, {"data": "a"})
    assert re.fullmatch(r"langevin \S+, source [0-9a-f]{12}", code())


# ----------------------------------------------------------------------------------------------- ranks that really train
OPTIONS = (
    "training.steps=16", "training.threads=1", "training.precision=float32", "training.checkpoint_minutes=0.00001",
    "network.patch=4", *tiny.SMALL,
)  # fmt: skip
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return pictures.classes(tmp_path_factory.mktemp("data"))


def started(data, out, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "langevin", "train", str(data), "--out", str(out), *OPTIONS, "--ranks=2", *words],
        env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ranks_of(process):
    """The processes of the ranks, first to last."""
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        return [int(pid) for pid in file.read().split()]


def wait_for_step(run, step):
    end = time.monotonic() + 600
    while newest_step(run) < step and time.monotonic() < end:
        time.sleep(0.01)


def test_a_run_with_its_first_checkpoint_alone_goes_on_at_another_number_of_ranks(data, tmp_path):
    run = tmp_path / "run"
    assert main(["train", str(data), "--out", str(run), *OPTIONS, "training.steps=1"]) == 0
    shutil.rmtree(run / "checkpoints" / "step-00000001")
    tree = yaml.safe_load((run / "recipe.yaml").read_text())
    tree["training"]["parallel"] = {"data": 1, "shard": 2}
    (run / "recipe.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    assert main(["resume", str(run)]) == 0
    assert newest_step(run) == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_run_whose_rank_is_killed_ends_in_the_weights_of_one_that_was_not_disturbed(data, tmp_path):
    disturbed = started(data, tmp_path / "disturbed")
    wait_for_step(tmp_path / "disturbed", 3)
    os.kill(ranks_of(disturbed)[1], signal.SIGKILL)
    said, _ = disturbed.communicate(timeout=900)
    assert disturbed.returncode == 0, said
    assert "rank 1 was ended by SIGKILL" in said
    assert "(restart 1 of 3)" in said
    spread(2, lambda world: main(["train", str(data), "--out", str(tmp_path / "whole"), *OPTIONS]))
    assert harness.weights(tmp_path / "whole") == harness.weights(tmp_path / "disturbed")
    assert harness.weights(tmp_path / "whole")[0] == 16


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="faults are injected into the C library of Linux")
def test_a_full_disk_at_the_first_rank_is_said_and_not_tried_again(data, tmp_path, monkeypatch):
    library = harness.build(tmp_path) if shutil.which("cc") else None
    if library is None:
        pytest.skip("needs a C compiler, cc")
    out, said = tmp_path / "run", []
    full = textwrap.dedent(f"""
        import ctypes, os, sys
        from langevin.cli import main
        if os.environ["RANK"] == "0":
            faults = ctypes.CDLL({str(library)!r})
            faults.faults_arm.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int]
            faults.faults_arm({str(out / "checkpoints")!r}.encode(), {harness.CHANGES}, 30, 28, 1)
        sys.exit(main(sys.argv[1:]))
    """)
    for name, value in (ENVIRONMENT | {"LD_PRELOAD": str(library)}).items():
        monkeypatch.setenv(name, value)
    words = ["train", str(data), "--out", str(out), *OPTIONS]
    two = Ranks(count=2, program=(sys.executable, "-c", full))
    assert supervise(words, two, again=lambda run: ["resume", str(run)], say=said.append) == 1
    assert "rank 0: " in said[0]
    assert "disk" in said[0]
    assert "not started again" in said[0]
    assert len(said) == 1
