"""Runs the jobs of the store on the engine, from claim to result."""

import logging
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from sqlalchemy.exc import SQLAlchemyError

from langevin.server.errors import refusal
from langevin.server.safeguards import told
from langevin.server.service import JobRequest, Service, files_of
from langevin.server.store import LEASE, Job, Store
from langevin.serving.suspend import Suspended
from langevin.serving.ticket import Event, QueueFull, Ticket

LOG = logging.getLogger("langevin.server")
POLL, RENEW, KEEP = 0.5, LEASE / 3, 30.0  # seconds between looks for jobs, renewals of leases, states kept


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
        most: jobs on the engine at once.
    """

    service: Service
    store: Store
    most: int = 64
    running: dict[str, Running] = field(default_factory=dict)
    listeners: dict[str, list[Any]] = field(default_factory=dict)  # by job: called with its events
    _wake: threading.Event = field(default_factory=threading.Event)
    _stop: bool = False
    _thread: threading.Thread | None = None

    def start(self) -> "Jobs":
        """Run on a thread until `stop`."""
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._thread.start()
        return self

    def stop(self, suspended: dict[str, Suspended]) -> None:
        """Keep what the engine had made of the jobs, and give them back to the queue."""
        self._stop = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        for id, one in list(self.running.items()):
            try:
                if id in suspended:
                    self.store.keep(id, save(suspended[id].tensors()))
                if not one.ticket.ended:
                    self.store.release(id)
            except SQLAlchemyError as error:
                LOG.error("job %s was not given back: %s", id, error)
            shutil.rmtree(one.folder, ignore_errors=True)

    def look(self) -> None:
        """Look for new jobs now."""
        self._wake.set()

    def _run(self) -> None:
        renewed = 0.0
        while not self._stop:
            self._wake.clear()
            try:
                while len(self.running) < self.most and (job := self.store.claim()) is not None:
                    self._begin(job)
                if time.monotonic() - renewed > RENEW:
                    renewed = time.monotonic()
                    self._renew()
            except SQLAlchemyError as error:
                LOG.error("the database does not answer: %s", str(error).splitlines()[0])
                self._wake.wait(2.0)
            except Exception:  # not foreseen: one job must not stop the others
                LOG.exception("a job could not be begun")
            self._wake.wait(POLL)

    def _begin(self, job: Job) -> None:
        folder = Path(tempfile.mkdtemp(prefix="langevin-job-"))
        try:
            state = self.store.file(job.id, 0, role="state")
            ticket = self.service.submit(
                JobRequest.model_validate(job.body), folder=folder, id=job.id, listen=partial(self._tell, job.id),
                suspended=None if state is None else _suspended(state.content),
            )  # fmt: skip
        except Exception as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error.__cause__, QueueFull):
                self.store.release(job.id)
                self._wake.wait(min(error.__cause__.retry_after, 5.0))
                return
            refused = refusal(error)
            self.store.end(job.id, "failed", error={"message": refused.message, "code": refused.code})
            self._tell(job.id, None)
            return
        self.running[job.id] = Running(job=job, ticket=ticket, folder=folder)
        ticket.when_ended(lambda _: self.service.engine.executor.submit(self._ended, job.id))

    def _ended(self, id: str) -> None:
        """Write the outcome of a job."""
        while (one := self.running.get(id)) is None and not self._stop:
            time.sleep(0.01)  # it ended while it was being noted down
        if one is None:
            return
        ticket = one.ticket
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
        self._tell(id, None)
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
        except SQLAlchemyError:
            raise
        except Exception as failure:
            refused = refusal(failure)
            error = {"message": refused.message, "code": refused.code}
            self.store.end(id, "failed", error=error, progress=progress)
            return
        status = {"allow": "completed", "hold": "held", "deny": "denied"}[decision.verdict]
        review = None if status == "completed" else told(decision)
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
        for id, one in list(self.running.items()):
            if time.monotonic() - one.kept > KEEP and not one.ticket.ended:
                one.kept = time.monotonic()
                self.store.keep(id, save(self.service.engine.suspend(one.ticket).tensors()))

    def cancel(self, id: str) -> None:
        """Cancel a job that runs here."""
        if (one := self.running.get(id)) is not None:
            one.ticket.cancel()

    def _tell(self, id: str, event: Event | None) -> None:
        for listener in list(self.listeners.get(id, ())):
            listener(event)


def _suspended(state: bytes) -> Suspended | None:
    """What a job's state holds; None if it is damaged, so that the job begins anew."""
    try:
        return Suspended.of(load(state))
    except (SafetensorError, ValueError, KeyError):
        return None
