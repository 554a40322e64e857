"""Jobs that train or evaluate: a process of the command line each, one at a time on this machine."""

import logging
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from langevin.run.directory import is_being_written
from langevin.run.supervised import environment
from langevin.server.errors import Refused, refusal
from langevin.server.store import LEASE, Job, Store
from langevin.server.training import AnyRequest, Training
from langevin.training.metrics import read_metrics

LOG = logging.getLogger("langevin.server")
POLL, RENEW = 0.5, LEASE / 3  # seconds between looks for jobs, and between renewals of leases
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # statuses of a process that has saved its state and left
KEPT, MOST = 500, 100  # lines of output; jobs that wait
PATIENCE = 60.0  # seconds from a stop to the next, which leaves at once
COUNTED = re.compile(r"(\d+)/(\d+)")


@dataclass(eq=False, kw_only=True)
class Process:
    """A job's process, and what it has printed.

    Args:
        run: the directory of its run.
    """

    job: Job
    run: Path
    popen: subprocess.Popen[bytes]
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT))
    progress: tuple[int, int] = (0, 0)
    cancelled: bool = False
    stopped: float | None = None  # when it was told to stop

    def stop(self) -> None:
        """Tell it to stop: training saves its state. Told again after a while it leaves at once, and then is killed."""
        now = time.monotonic()
        if self.stopped is None:
            self.stopped = now
            self.popen.terminate()
        elif now - self.stopped > 2 * PATIENCE:
            self.popen.kill()
        elif now - self.stopped > PATIENCE:
            self.popen.terminate()


@dataclass(eq=False, kw_only=True)
class Processes:
    """Claims the jobs of `Training`, runs each as a process, and writes what becomes of it.

    A process whose server dies stops by itself. Claimed again, training goes on from its newest checkpoint.

    Args:
        notify: called with the id of a job and what happens to it: lines that it prints (str), None at its end.
    """

    training: Training
    store: Store
    notify: Callable[[str, Any], None] = lambda id, event: None
    current: Process | None = None
    _wake: threading.Event = field(default_factory=threading.Event)
    _naming: Any = field(default_factory=threading.Lock)
    _stop: bool = False
    _thread: threading.Thread | None = None

    def add(self, request: AnyRequest, *, idempotency: str | None = None, client: str = "") -> tuple[Job, bool]:
        """Write a request down, under a name for its run that no other has.

        Returns:
            the job, and whether it is new.

        Raises:
            Refused: it names something that is not there, or too many are waiting."""
        with self._naming:
            before = None if idempotency is None else self.store.repeated(idempotency, client)
            if before is not None:
                return before, False
            waiting = self.store.open_models("process")
            if len(waiting) >= MOST:
                raise Refused("the queue is full: try again later", status=429, code="queue_full",
                              headers={"Retry-After": "60"})  # fmt: skip
            named = self.training.named(request, set(waiting)).model_dump(mode="json")
            return self.store.add(named, idempotency=idempotency, queue="process", client=client)

    def start(self) -> None:
        """Run on a thread until `stop`."""
        self._thread = threading.Thread(target=self._run, name="processes", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Begin nothing more, and stop the process that runs; its job goes on after the next start."""
        self._stop = True
        self._wake.set()

    def stop(self, grace: float) -> None:
        """`close`, and wait until the process has saved its state, at most `grace` seconds."""
        self.close()
        if self._thread is not None:
            self._thread.join(grace)
        if (one := self.current) is not None:
            one.popen.kill()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> None:
        """Look for new jobs now."""
        self._wake.set()

    def cancel(self, id: str) -> None:
        """Stop a job that runs here."""
        if (one := self.current) is not None and one.job.id == id:
            one.cancelled = True
            one.stop()

    def lines_of(self, id: str) -> list[str]:
        """What a job has printed, the last lines of it."""
        if (one := self.current) is not None and one.job.id == id:
            return list(one.lines)
        file = self.store.file(id, 0, role="log")
        return [] if file is None else file.content.decode(errors="replace").splitlines()

    def _run(self) -> None:
        while not self._stop:
            self._wake.clear()
            try:
                job = self.store.claim(queue="process")
                if job is not None:
                    self._perform(job)
                    continue
            except SQLAlchemyError as error:
                LOG.error("the database does not answer: %s", str(error).splitlines()[0])
            except Exception:  # not foreseen: one job must not stop the others
                LOG.exception("a training job went wrong")
            self._wake.wait(4 * POLL)

    def _perform(self, job: Job) -> None:
        """Run a job to its end. One whose run another process still writes in, such as one that is ending, waits."""
        again = self.store.file(job.id, 0, role="state") is not None
        try:
            run, words = self.training.command(job.body, again=again)
            if self._stop or (again and run.is_dir() and is_being_written(run)):
                self.store.release(job.id)
                self._wake.wait(4 * POLL)
                return
            self.store.keep(job.id, b"begun")
            run.parent.mkdir(parents=True, exist_ok=True)
            popen = subprocess.Popen(
                [sys.executable, "-m", "langevin.cli.attended", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, env=environment() | {"PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # a signal to the server's group is the server's to pass on
            )  # fmt: skip
        except Exception as error:
            if isinstance(error, SQLAlchemyError):
                raise
            refused = refusal(error)
            self.store.end(job.id, "failed", error={"message": refused.message, "code": refused.code})
            self.notify(job.id, None)
            return
        one = self.current = Process(job=job, run=run, popen=popen)
        reader = threading.Thread(target=self._read, args=(one,), daemon=True)
        reader.start()
        try:
            self._attend(one)
        finally:
            popen.kill()
            popen.wait()
            reader.join(5.0)
            try:
                self._end(one)
            finally:
                self.current = None
                self.notify(job.id, None)

    def _read(self, one: Process) -> None:
        assert one.popen.stdout is not None
        for raw in one.popen.stdout:
            line = raw.decode(errors="replace").rstrip()
            one.lines.append(line)
            if one.job.body["verb"] == "evaluate" and (counted := COUNTED.search(line)):
                one.progress = (int(counted[1]), int(counted[2]))
            self.notify(one.job.id, line + "\n")

    def _attend(self, one: Process) -> None:
        """Wait for the end of a process; meanwhile keep its lease and its progress, and stop it if that is asked for."""
        renewed = looked = 0.0
        while one.popen.poll() is None:
            now = time.monotonic()
            if self._stop or one.cancelled:
                one.stop()
            if now - looked > 2.0 and one.job.body["verb"] != "evaluate":
                looked, one.progress = now, progress_of(one.run)
            if now - renewed > RENEW:
                renewed = now
                try:
                    one.cancelled = one.cancelled or one.job.id in self.store.renew({one.job.id: one.progress})
                except SQLAlchemyError as error:  # it may answer the next time; until then the lease runs
                    LOG.error("the lease was not renewed: %s", str(error).splitlines()[0])
            try:
                one.popen.wait(0.2)
            except subprocess.TimeoutExpired:
                continue

    def _end(self, one: Process) -> None:
        """Write how a job ended."""
        code, id = one.popen.returncode, one.job.id
        done, total = one.progress if one.job.body["verb"] == "evaluate" else progress_of(one.run)
        if code == 0:
            status, error, done = "completed", None, total
        elif self._stop and not one.cancelled:
            self.store.release(id)
            return
        elif one.cancelled or code in STOPPED:  # by this job's end, or by a request to the process
            status, error = "cancelled", None
        else:
            status, error = "failed", {"message": reason(one.lines, code), "code": "process_failed"}
        for wait in (0.5, 2.0, 8.0, None):
            try:
                self.store.end(id, status, error=error, progress=(done, total), log="\n".join(one.lines))
                return
            except SQLAlchemyError as failure:
                LOG.error("the outcome of job %s was not written: %s", id, str(failure).splitlines()[0])
                if wait is not None:
                    time.sleep(wait)


def progress_of(run: Path) -> tuple[int, int]:
    """The last step that a training run has noted, and the steps that it will have; 0 as long as it has noted none."""
    lines = read_metrics(run / "metrics.jsonl")
    planned = (line["steps"] for line in reversed(lines) if line.get("event") == "plan")
    return max((line["step"] for line in lines), default=0), next(planned, 0)


def reason(lines: deque[str], code: int) -> str:
    """Why a process failed: what it said last, or the signal that killed it."""
    if code < 0:
        return f"the process was killed by signal {-code}, perhaps for want of memory"
    said = [line for line in lines if line.strip()]
    begin = next((i for i in reversed(range(len(said))) if said[i].startswith("langevin: ")), len(said) - 1)
    return "\n".join(said[max(begin, 0) :]).removeprefix("langevin: ") or f"the process ended with status {code}"


__all__ = ["Process", "Processes", "progress_of"]
