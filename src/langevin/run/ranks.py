"""Starting the ranks of a run on this machine, and again from the newest checkpoint where one is lost.

A rank that ends with an error that was foreseen (a full disk, other data) would do so again: nothing is restarted. One that
a signal ended, that made no step for too long, or that met an error that was not foreseen is lost. Then all are ended and
started again after a pause that doubles, until so many starts in a row brought no newer checkpoint.
"""

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from langevin.run.stop import SIGNALS
from langevin.run.supervised import FOLDER
from langevin.run.webhook import LAST
from langevin.training.distributed import WAITS

POLL, LEAVE, LONGEST = 0.1, 5.0, 300.0  # seconds: between looks; to end after a second signal; of a pause
GRACE, FIRST = 5.0, LAST + 5.0  # seconds for other ranks to say why they end, and for the first to tell others of it
STOPPED = (130, 143)  # exit statuses of a run that a signal has stopped, and saved


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """How ranks are started.

    Args:
        count: ranks on this machine.
        restarts: starts in a row that may fail without a newer checkpoint.
        patience: minutes without a step after which a rank is taken to be lost; more than an evaluation takes.
        pause: seconds before the first restart.
        program: what carries out a command, and ends with its standard input.
    """

    count: int
    restarts: int = 3
    patience: float = 10.0
    pause: float = 1.0
    program: tuple[str, ...] = (sys.executable, "-m", "langevin.cli.attended")

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 1024:
            raise ValueError(f"--ranks is a number of processes on this machine, 1 to 1024, got {self.count}")
        if not 0 <= self.restarts <= 10**6:
            raise ValueError(f"--restarts is at least 0, got {self.restarts}")
        if not 0 < self.patience < 1e6:
            raise ValueError(f"--patience is a positive number of minutes, got {self.patience}")
        if (size := os.environ.get("WORLD_SIZE", "1")) != "1":
            raise ValueError(f"--ranks starts ranks itself, and a launcher has started {size} already: leave one out")


@dataclass(frozen=True, kw_only=True)
class End:
    """How a start of all ranks ended.

    Args:
        status: exit status of the command.
        reason: which rank ended how; empty if all was well.
        again: whether another start may end otherwise.
        killed: ranks that did not end after signals.
    """

    status: int
    reason: str = ""
    again: bool = False
    killed: tuple[int, ...] = ()


def supervise(
    words: Sequence[str], ranks: Ranks, *, again: Callable[[Path], Sequence[str]], say: Callable[[str], None]
) -> int:
    """Carry out a command of the command line on several ranks; returns its exit status.

    Args:
        words: the command.
        again: the command that goes on with a run.
        say: called with each message for the user."""
    failed, idle, best = 0, 0, -1  # starts that failed, and those of them without a newer checkpoint
    with tempfile.TemporaryDirectory(prefix="langevin-ranks-") as name, _signals() as signals:
        run: Path | None = None
        while True:
            folder = Path(tempfile.mkdtemp(dir=name))
            end = _Start(words if run is None else again(run), ranks, folder, signals).watched()
            run = Path((folder / "run").read_text()) if (folder / "run").is_file() else run
            goes_on = f"; `langevin resume {run} --ranks {ranks.count}` goes on" if run else ""
            if end.killed:
                say(f"ranks that did not end were killed: {', '.join(map(str, end.killed))}{goes_on}")
            if not end.reason or signals.received:
                return end.status
            step = newest_step(run)
            failed, idle, best = (1, 0, step) if step > best else (failed + 1, idle + 1, best)
            if not end.again:
                say(f"{end.reason}\nnot started again: it would end in the same way")
                return end.status
            if failed > ranks.restarts:
                starts = "1 start" if idle == 1 else f"{idle} starts in a row"
                why = f"{starts} brought no newer checkpoint" if idle else "no other start is allowed (--restarts 0)"
                say(f"{end.reason}\nstopped: {why}{goes_on}")
                return end.status
            pause = min(LONGEST, ranks.pause * 2 ** (failed - 1))
            where = f"from step {step}" if step >= 0 else "from the beginning"
            say(f"{end.reason}\nall ranks start again {where} in {pause:g} s (restart {failed} of {ranks.restarts})")
            if signals.wait(pause):
                return 128 + signals.received


def newest_step(run: Path | None) -> int:
    """The step of a run's newest checkpoint, -1 if there is none."""
    found = [] if run is None else (run / "checkpoints").glob("step-*")
    return max((int(path.name[5:]) for path in found if re.fullmatch(r"step-[0-9]{1,18}", path.name)), default=-1)


@dataclass
class _Signals:
    """Signals to this process: each is passed on to all ranks.

    Args:
        received: number of the last one; 0 if there was none.
        second: when a second one came.
    """

    received: int = 0
    second: float = math.inf
    targets: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def take(self, number: int, frame: Any) -> None:
        if self.received:
            self.second = min(self.second, time.monotonic())
        self.received = number
        for process in self.targets:
            if process.poll() is None:
                process.send_signal(number)

    @property
    def urgent(self) -> bool:
        """Whether a second signal came, and the ranks had their time to end."""
        return time.monotonic() > self.second + LEAVE

    def wait(self, seconds: float) -> bool:
        """Wait; returns whether a signal came."""
        end = time.monotonic() + seconds
        while not self.received and time.monotonic() < end:
            time.sleep(POLL)
        return bool(self.received)


@contextmanager
def _signals() -> Iterator[_Signals]:
    """Signals that are ignored, as in a job that a shell runs in the background, stay ignored."""
    signals = _Signals()
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, signals.take)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Start:
    """One start of all ranks."""

    def __init__(self, words: Sequence[str], ranks: Ranks, folder: Path, signals: _Signals) -> None:
        self.ranks, self.folder, self.signals = ranks, folder, signals
        self.logs: list[IO[bytes]] = []
        self.ended_here = set[int]()
        self.processes = signals.targets = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // ranks.count))
        common = {
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks.count),
            "LOCAL_WORLD_SIZE": str(ranks.count), "OMP_NUM_THREADS": threads, FOLDER: str(folder),
        }  # fmt: skip
        for rank in range(ranks.count):
            log = (folder / f"log-{rank}").open("w+b")
            self.logs.append(log)
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            self.processes.append(
                subprocess.Popen(
                    [*ranks.program, *words], env=os.environ | common | own,
                    stdin=subprocess.PIPE, stdout=None if rank == 0 else log, stderr=None if rank == 0 else log,
                    start_new_session=True,  # Ctrl-C is for this process, which passes it on
                )
            )  # fmt: skip

    def watched(self) -> End:
        """Wait for the end of all ranks, or end them when one is lost."""
        try:
            while True:
                statuses = [process.poll() for process in self.processes]
                stalled = self._stalled()
                if None not in statuses or any(statuses) or stalled is not None or self.signals.urgent:
                    return self._ended(stalled)
                time.sleep(POLL)
        finally:
            self._end_all(0.0)
            for log in self.logs:
                log.close()

    def _stalled(self) -> int | None:
        """The rank that has made no step for too long, if there is one: the last of those that do not wait for others, or
        of all if they do."""
        if any(process.poll() is not None for process in self.processes):
            return None  # training is over, and the first rank writes what is left
        times = {rank: file.stat().st_mtime for rank in range(self.ranks.count) if (file := self._beat(rank)).exists()}
        if len(times) < self.ranks.count:
            return None  # data is read, and networks are built
        if time.time() - min(times.values()) <= 60 * self.ranks.patience:
            return None
        return min(times, key=lambda rank: (self._beat(rank).read_text() == WAITS, times[rank]))

    def _beat(self, rank: int) -> Path:
        return self.folder / f"beat-{rank}"

    def _ended(self, stalled: int | None) -> End:
        """What has ended a start; the others get a moment to say it too."""
        lost = {} if stalled is None else {stalled: f"made no step for {self.ranks.patience:g} minutes"}
        if self.signals.received:
            self._end_all(60 * self.ranks.patience)
        elif not lost:
            self._end_all(GRACE, first=FIRST)
        self._end_all(0.0)
        if self.signals.received and self.ended_here:
            return End(status=128 + self.signals.received, killed=tuple(sorted(self.ended_here)))
        statuses = [process.returncode for process in self.processes]
        if not any(statuses):
            return End(status=0)
        said = {rank: self._said(rank) for rank in range(self.ranks.count)}
        for rank, end in said.items():
            if end is not None and end["foreseen"]:
                return End(status=1, reason=f"rank {rank}: {end['message']}")
        if set(statuses) <= {0, *STOPPED, 2}:
            return End(status=max(statuses))  # a signal or a wrong command, which the first rank has explained
        killed = {
            rank: f"was ended by {signal.Signals(-status).name}"
            for rank, status in enumerate(statuses)
            if status < 0 and rank not in self.ended_here
        }
        found = sorted((bool(end.get("broken")), rank) for rank, end in said.items() if end is not None)
        errors = {
            rank: f"ended with {(said[rank] or {})['message']}" for _, rank in found
        }  # those of others' ends last
        others = {rank: f"ended with exit status {status}" for rank, status in enumerate(statuses) if status > 0}
        rank, how = next(iter(next(filter(None, (lost, killed, errors, others))).items()))
        return End(status=1, reason=f"rank {rank} {how}{self._last_lines(rank)}", again=True)

    def _said(self, rank: int) -> dict[str, Any] | None:
        try:
            return json.loads((self.folder / f"end-{rank}.json").read_text())
        except (OSError, ValueError):
            return None

    def _last_lines(self, rank: int) -> str:
        """The end of what a rank has printed; the first prints for all to see."""
        self.logs[rank].seek(0)
        lines = self.logs[rank].read().decode(errors="replace").strip().splitlines()[-5:]
        return "".join(f"\n    {line}" for line in lines)

    def _end_all(self, seconds: float, *, first: float = 0.0) -> None:
        """Wait so long for all ranks to end, for the first one `first` seconds if that is more, then kill those that have
        not: what they saved is whole."""
        begin, limits = time.monotonic(), [max(seconds, first), *[seconds] * (self.ranks.count - 1)]
        while not self.signals.urgent and any(
            process.poll() is None and time.monotonic() < begin + limit
            for process, limit in zip(self.processes, limits, strict=True)
        ):
            time.sleep(POLL)
        left = [rank for rank, process in enumerate(self.processes) if process.poll() is None]
        self.ended_here.update(left)
        for rank in left:
            self.processes[rank].kill()
        for process in self.processes:
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
