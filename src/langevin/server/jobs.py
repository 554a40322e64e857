"""Runs the jobs of the store on the engine, from claim to result."""

import json
import logging
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from sqlalchemy.exc import SQLAlchemyError

from langevin.server.errors import Refused, refusal
from langevin.server.processes import POLL, RENEW, Processes
from langevin.server.safeguards import as_json
from langevin.server.service import JobRequest, Service, files_of
from langevin.server.store import Job, Store
from langevin.serving.suspend import Suspended
from langevin.serving.ticket import Event, QueueFull, Ticket

LOG = logging.getLogger("langevin.server")
KEEP = 30.0  # seconds between states kept


@dataclass(eq=False, kw_only=True)
class Running:
    """A job on the engine."""

    job: Job
    ticket: Ticket
    folder: Path
    kept: float = field(default_factory=time.monotonic)


@dataclass(eq=False, kw_only=True)
class Jobs:
    """Claims jobs, hands them to the service, and writes what becomes of them.

    Args:
        processes: runs the jobs that train or evaluate.
        most: jobs on the engine at once.
    """

    service: Service
    store: Store
    processes: Processes
    most: int = 64
    running: dict[str, Running] = field(default_factory=dict)
    listeners: dict[str, list[Any]] = field(default_factory=dict)  # by job: called with its events
    _wake: threading.Event = field(default_factory=threading.Event)
    _stop: bool = False
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _leases: threading.Thread | None = None

    def start(self) -> "Jobs":
        """Run on a thread until `stop`."""
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._leases = threading.Thread(target=self._keep_leases, name="leases", daemon=True)
        self._thread.start()
        self._leases.start()
        self.processes.notify = self.notify
        self.processes.start()
        return self

    def stop(self, suspended: dict[str, Suspended], *, grace: float) -> None:
        """Keep what the engine had made of the jobs, and give them back to the queue."""
        self.close()
        self.processes.stop(grace)
        self._stopped.set()
        for thread in (self._thread, self._leases):
            if thread is not None:
                thread.join()
        for id, one in list(self.running.items()):
            try:
                if id in suspended:
                    self._keep(one, suspended[id])
                if not one.ticket.ended:
                    self.store.release(id)
            except SQLAlchemyError as error:
                LOG.error("job %s was not given back: %s", id, error)
            shutil.rmtree(one.folder, ignore_errors=True)

    def close(self) -> None:
        """Begin no more jobs; those on the engine go on, and training stops with its state saved."""
        self.processes.close()
        self._stop = True
        self._wake.set()

    def require_room(self) -> None:
        """Raise `Refused` if as many jobs wait for the engine as may."""
        if len(self.store.open_models()) >= 4 * self.service.engine.pending:
            headers = {"Retry-After": "10"}
            raise Refused("the queue is full: try again later", status=429, code="queue_full", headers=headers)

    def look(self) -> None:
        """Look for new jobs now."""
        self._wake.set()
        self.processes.look()

    def _run(self) -> None:
        """Begin jobs; renewing has a thread of its own, as loading a model can take longer than a lease."""
        while not self._stop:
            self._wake.clear()
            try:
                while not self._stop and len(self.running) < self.most:
                    job = self.store.claim(tuple(self.running), models=list(self.service.runs.paths()))
                    if job is None or not self._begin(job):
                        break
            except SQLAlchemyError as error:
                LOG.error("the database does not answer: %s", str(error).splitlines()[0])
                self._wake.wait(2.0)
            except Exception:  # not foreseen: one job must not stop the others
                LOG.exception("a job could not be begun")
            self._wake.wait(POLL)

    def _keep_leases(self) -> None:
        while not self._stopped.wait(RENEW):
            try:
                self._renew()
            except Exception:  # the database may answer the next time
                LOG.exception("leases were not renewed")

    def _begin(self, job: Job) -> bool:
        """Hand a job to the engine; False if there is no room now."""
        folder = Path(tempfile.mkdtemp(prefix="langevin-job-"))
        try:
            state = self.store.file(job.id, 0, role="state")
            ticket = self.service.submit(
                JobRequest.model_validate(job.body), folder=folder, id=job.id, durable=True,
                listen=partial(self.notify, job.id), state=None if state is None else partial(state_of, state.content),
            )  # fmt: skip
        except Exception as error:
            shutil.rmtree(folder, ignore_errors=True)
            if passing(error):
                self.store.release(job.id)
                self._stopped.wait(1.0)  # not at once, as nothing has changed
                return False
            refused = refusal(error)
            self.store.end(job.id, "failed", error={"message": refused.message, "code": refused.code})
            self.notify(job.id, None)
            return True
        one = self.running[job.id] = Running(job=job, ticket=ticket, folder=folder)
        ticket.when_ended(lambda _: self.service.engine.executor.submit(self._ended, one))
        return True

    def _ended(self, one: Running) -> None:
        """Write the outcome of a job."""
        id, ticket = one.job.id, one.ticket
        progress = (ticket.evaluations, max(ticket.expected, ticket.evaluations))
        for wait in (0.5, 2.0, 8.0, None):
            try:
                self._write(id, ticket, progress)
                break
            except SQLAlchemyError as error:
                LOG.error("the outcome of job %s was not written: %s", id, str(error).splitlines()[0])
                if wait is None:
                    break  # its lease runs out, and it is made again
                time.sleep(wait)
        shutil.rmtree(one.folder, ignore_errors=True)
        self.running.pop(id, None)
        self.notify(id, None)
        self._wake.set()

    def _write(self, id: str, ticket: Ticket, progress: tuple[int, int]) -> None:
        """Write how a job ended, with its files, and whether they are released, held or denied."""
        if ticket.status == "cancelled":
            self.store.end(id, "cancelled", progress=progress)
            return
        try:
            samples = ticket.result(0)
            decision = ticket.decide(samples)
            files = [] if decision.verdict == "deny" else files_of(samples)
            files = [replace(one, content=self.service.signed(one.content, one.media_type, samples)) for one in files]
        except Exception as failure:
            if isinstance(failure.__cause__ or failure, SQLAlchemyError):
                raise failure.__cause__ or failure from failure  # the log of decisions: try again
            refused = refusal(failure)
            error = {"message": refused.message, "code": refused.code}
            self.store.end(id, "failed", error=error, progress=progress)
            return
        status = {"allow": "completed", "hold": "held", "deny": "denied"}[decision.verdict]
        review = None if status == "completed" else as_json(decision)
        error = (
            {"message": f"refused: {decision.reason}", "code": "content_policy_violation"}
            if status == "denied"
            else None
        )
        self.store.end(id, status, files=files, progress=progress, review=review, error=error)

    def _renew(self) -> None:
        """Renew leases, cancel what is to be cancelled, keep states of long jobs."""
        progress = {id: (one.ticket.evaluations, one.ticket.expected) for id, one in list(self.running.items())}
        for id in self.store.renew(progress):
            self.cancel(id)
        for one in list(self.running.values()):
            if time.monotonic() - one.kept > KEEP and not one.ticket.ended:
                one.kept = time.monotonic()
                self._keep(one, self.service.engine.suspend(one.ticket))

    def _keep(self, one: Running, state: Suspended) -> None:
        """Keep the state of a job, with the weights that it is of."""
        self.store.keep(one.job.id, save(state.tensors(), {"weights": one.ticket.weights}))

    def cancel(self, id: str) -> None:
        """Cancel a job that runs here."""
        self.processes.cancel(id)
        if (one := self.running.get(id)) is not None:
            one.ticket.cancel()

    def progress(self, job: Job) -> tuple[int, int]:
        """The work that is done of a job, and all of it: function evaluations, or steps of training."""
        if (one := self.running.get(job.id)) is not None:
            return one.ticket.evaluations, one.ticket.expected
        if (process := self.processes.current) is not None and process.job.id == job.id:
            return process.progress
        return job.done, job.total

    def notify(self, id: str, event: Event | str | None) -> None:
        """Pass on to who listens what happens to a job."""
        for listener in list(self.listeners.get(id, ())):
            listener(event)


def passing(error: BaseException) -> bool:
    """Whether an error is of the moment: a full queue, a database or a model that does not answer now."""
    causes = (error, error.__cause__)
    return any(isinstance(one, QueueFull | SQLAlchemyError) for one in causes) or getattr(error, "status", 0) == 503


def state_of(content: bytes, weights: str) -> Suspended | None:
    """What a job's state holds; None if it is damaged or of other weights, so that the job begins anew."""
    try:
        size = int.from_bytes(content[:8], "little")
        if json.loads(content[8 : 8 + size]).get("__metadata__", {}).get("weights") != weights:
            return None
        return Suspended.of(load(content))
    except (SafetensorError, ValueError, KeyError, AttributeError):
        return None
