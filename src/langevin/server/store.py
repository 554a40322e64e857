"""Jobs in a database: SQLite by default, or any that SQLAlchemy reads by its URL, which several servers can share.

A job is claimed by the server that runs it, with a lease. A server that dies stops renewing its leases, and another one, or
the same after a restart, claims the jobs again.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.event import listen
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from langevin.modalities.modality import File
from langevin.server.tables import FILES, JOBS, META

OPEN = ("queued", "in_progress")
LEASE = 15.0  # seconds after which a job whose server is silent may be claimed by another


@dataclass(frozen=True, kw_only=True)
class Job:
    """A row of the table of jobs; `body` is the request as JSON, `error` {"message", "code"}, `review` the decision
    on it {"verdict", "check", "reason", "reviewer"}; both may be None. `queue` is "engine", or "process" for those that
    train or evaluate. `client` is the name of the key that it came with."""

    id: str
    created: float
    ended: float | None
    model: str
    body: dict[str, Any]
    priority: int
    status: str
    cancelled: bool
    error: dict[str, Any] | None
    done: int
    total: int
    owner: str | None
    lease: float
    idempotency: str | None
    review: dict[str, Any] | None
    queue: str
    client: str

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return self.status in OPEN


@dataclass(eq=False, kw_only=True)
class Store:
    """The database of jobs.

    Args:
        url: such as sqlite:///jobs.db or postgresql+psycopg://user@host/name.
        owner: names this server among those that share the database.
        create: make the tables; without, there must be some.

    Raises:
        ValueError: the database cannot be opened.
    """

    url: str
    owner: str = field(default_factory=lambda: uuid.uuid4().hex)
    create: bool = True

    def __post_init__(self) -> None:
        lite = self.url.startswith("sqlite")
        options: dict[str, Any] = {"connect_args": {"timeout": 5.0}} if lite else {"pool_pre_ping": True}
        try:
            self.engine = sa.create_engine(self.url, **options)
            if lite:
                listen(self.engine, "connect", _durable)
            if not self.create and lite and not Path(self.url.removeprefix("sqlite:///")).is_file():
                raise ValueError("there is no such file")  # which connecting would make
            if self.create:
                META.create_all(self.engine)
            elif not sa.inspect(self.engine).has_table(JOBS.name):
                raise ValueError("it has no jobs")
            for table in META.sorted_tables:
                there = {column["name"] for column in sa.inspect(self.engine).get_columns(table.name)}
                if missing := [column.name for column in table.columns if column.name not in there]:
                    raise ValueError(f"it is of an earlier version: its table {table.name} has no {missing[0]}")
        except (SQLAlchemyError, ImportError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"the database of jobs cannot be opened ({reason}): check --database") from error

    def add(
        self, body: Mapping[str, Any], *, id: str | None = None, idempotency: str | None = None, queue: str = "engine",
        client: str = "",
    ) -> tuple[Job, bool]:  # fmt: skip
        """Write a new job; it is not lost from here on. With a key that this client used before, the job of that time.

        Returns:
            the job, and whether it is new."""
        name = id or uuid.uuid4().hex
        row = {
            "id": name, "created": time.time(), "model": str(body["model"]), "body": json.dumps(body),
            "priority": int(body.get("priority", 0)), "status": "queued", "queue": queue, "client": client,
            "idempotency": None if idempotency is None else once(idempotency, client),
        }  # fmt: skip
        try:
            with self.engine.begin() as connection:
                connection.execute(sa.insert(JOBS).values(row))
        except IntegrityError:
            before = None if idempotency is None else self.repeated(idempotency, client)
            if before is None:
                raise
            return before, False
        job = self.get(name)
        assert job is not None, "it was written"
        return job, True

    def repeated(self, idempotency: str, client: str) -> Job | None:
        """The job that this client wrote with this idempotency key, if any."""
        with self.engine.connect() as connection:
            query = sa.select(JOBS).where(JOBS.c.idempotency == once(idempotency, client))
            row = connection.execute(query).first()
        return None if row is None else _job(row)

    def get(self, id: str) -> Job | None:
        """A job; None if there is none."""
        with self.engine.connect() as connection:
            row = connection.execute(sa.select(JOBS).where(JOBS.c.id == id)).first()
        return None if row is None else _job(row)

    def list(
        self, *, after: str | None = None, limit: int = 20, newest_first: bool = True, status: str | None = None,
        client: str | None = None, models: Sequence[str] | None = None,
    ) -> Sequence[Job]:  # fmt: skip
        """Jobs in the order of their creation, those behind `after`, of a status or of all; if a client is named, its own,
        and those that train or evaluate; if models are named, samples of these."""
        order = JOBS.c.created.desc() if newest_first else JOBS.c.created.asc()
        query = sa.select(JOBS).order_by(order).limit(limit)
        if status is not None:
            query = query.where(JOBS.c.status == status)
        if models is not None:
            query = query.where(JOBS.c.queue == "engine", JOBS.c.model.in_(models))
        if client is not None:
            query = query.where(sa.or_(JOBS.c.client == client, JOBS.c.queue == "process"))
        if after is not None and (mark := self.get(after)) is not None:
            query = query.where(JOBS.c.created < mark.created if newest_first else JOBS.c.created > mark.created)
        with self.engine.connect() as connection:
            return [_job(row) for row in connection.execute(query)]

    def open_models(self, queue: str = "engine") -> Sequence[str]:
        """The models of the jobs of a queue that have not ended, one for each job."""
        with self.engine.connect() as connection:
            query = sa.select(JOBS.c.model).where(JOBS.c.status.in_(OPEN), JOBS.c.queue == queue)
            return list(connection.execute(query).scalars())

    def claim(
        self, running: Sequence[str] = (), *, queue: str = "engine", models: Sequence[str] | None = None
    ) -> Job | None:  # fmt: skip
        """Take the next job of a queue that nobody runs; None if there is none. No two servers get the same.

        Args:
            running: jobs that this server runs, whatever became of their leases.
            models: that it serves; jobs of others wait for a server that does. None serves all."""
        now = time.time()
        served = sa.true() if models is None else JOBS.c.model.in_(models)
        free = sa.or_(JOBS.c.status == "queued", sa.and_(JOBS.c.status == "in_progress", JOBS.c.lease < now))
        with self.engine.begin() as connection:
            query = (
                sa.select(JOBS.c.id)
                .where(free, served, JOBS.c.queue == queue, JOBS.c.id.not_in(running))
                .order_by(JOBS.c.priority.desc(), JOBS.c.created)
                .limit(1)
            )
            id = connection.execute(query).scalar()
            if id is None:
                return None
            values = {"status": "in_progress", "owner": self.owner, "lease": now + LEASE}
            taken = connection.execute(sa.update(JOBS).where(JOBS.c.id == id, free).values(values)).rowcount
        return self.get(id) if taken else None

    def renew(self, progress: Mapping[str, tuple[int, int]]) -> set[str]:
        """Extend the leases of this server's jobs, and write their progress; returns those that it is to stop: cancelled
        ones, and those that another server has claimed meanwhile."""
        lost = set[str]()
        with self.engine.begin() as connection:
            for id, (done, total) in progress.items():
                values = {"lease": time.time() + LEASE, "done": done, "total": total}
                own = sa.and_(JOBS.c.id == id, JOBS.c.owner == self.owner)
                if not connection.execute(sa.update(JOBS).where(own).values(values)).rowcount:
                    lost.add(id)
            query = sa.select(JOBS.c.id).where(JOBS.c.id.in_(list(progress)), JOBS.c.cancelled)
            return lost | set(connection.execute(query).scalars())

    def end(
        self, id: str, status: str, *, files: Sequence[File] = (), error: Mapping[str, Any] | None = None,
        progress: tuple[int, int] = (0, 0), review: Mapping[str, Any] | None = None, log: str | None = None,
    ) -> bool:  # fmt: skip
        """Write the outcome of a job, files, log and status at once; False if this server does not own it any more."""
        values = {"status": status, "ended": time.time(), "error": None if error is None else json.dumps(error),
                  "done": progress[0], "total": progress[1], "lease": 0.0,
                  "review": None if review is None else json.dumps(review)}  # fmt: skip
        with self.engine.begin() as connection:
            mine = sa.and_(JOBS.c.id == id, JOBS.c.owner == self.owner, JOBS.c.status == "in_progress")
            if not connection.execute(sa.update(JOBS).where(mine).values(values)).rowcount:
                return False
            connection.execute(sa.delete(FILES).where(FILES.c.job == id))
            written = [("output", number, file) for number, file in enumerate(files)]
            written += [] if log is None else [("log", 0, File(suffix=".txt", content=log.encode()))]
            for role, number, file in written:
                name = file.name or f"{number:05d}{file.suffix}"
                row = {"job": id, "role": role, "number": number, "name": name, "content": file.content}
                connection.execute(sa.insert(FILES).values(row))
        return True

    def release(self, id: str) -> None:
        """Give a job of this server back to the queue."""
        mine = sa.and_(JOBS.c.id == id, JOBS.c.owner == self.owner, JOBS.c.status == "in_progress")
        with self.engine.begin() as connection:
            connection.execute(sa.update(JOBS).where(mine).values(status="queued", owner=None, lease=0.0))

    def cancel(self, id: str) -> bool:
        """Ask for the end of a job; one that nobody runs ends at once. False if there is no such job, or it has ended."""
        with self.engine.begin() as connection:
            waiting = sa.and_(JOBS.c.id == id, JOBS.c.status == "queued")
            values = {"status": "cancelled", "cancelled": True, "ended": time.time()}
            if connection.execute(sa.update(JOBS).where(waiting).values(values)).rowcount:
                return True
            running = sa.and_(JOBS.c.id == id, JOBS.c.status == "in_progress")
            return bool(connection.execute(sa.update(JOBS).where(running).values(cancelled=True)).rowcount)

    def decide(self, id: str, status: str, review: Mapping[str, Any]) -> bool:
        """Release (completed) or reject (denied) a held job; False if it is not held."""
        held = sa.and_(JOBS.c.id == id, JOBS.c.status == "held")
        with self.engine.begin() as connection:
            values = {"status": status, "review": json.dumps(review)}
            return bool(connection.execute(sa.update(JOBS).where(held).values(values)).rowcount)

    def delete(self, id: str) -> None:
        """Forget a job that has ended, with its files."""
        with self.engine.begin() as connection:
            connection.execute(sa.delete(FILES).where(FILES.c.job == id))
            connection.execute(sa.delete(JOBS).where(JOBS.c.id == id, JOBS.c.status.not_in(OPEN)))

    def keep(self, id: str, state: bytes) -> None:
        """Keep the state of a job of this server that is half done."""
        with self.engine.begin() as connection:
            mine = sa.and_(JOBS.c.id == id, JOBS.c.owner == self.owner, JOBS.c.status == "in_progress")
            if connection.execute(sa.select(JOBS.c.id).where(mine).with_for_update()).first() is None:
                return
            connection.execute(sa.delete(FILES).where(FILES.c.job == id, FILES.c.role == "state"))
            row = {"job": id, "role": "state", "number": 0, "name": "state.safetensors", "content": state}
            connection.execute(sa.insert(FILES).values(row))

    def file(self, id: str, number: int, *, role: str = "output") -> File | None:
        """A file of a job; None if there is none."""
        where = sa.and_(FILES.c.job == id, FILES.c.role == role, FILES.c.number == number)
        with self.engine.connect() as connection:
            row = connection.execute(sa.select(FILES.c.name, FILES.c.content).where(where)).first()
        return None if row is None else File(suffix=Path(row.name).suffix, content=bytes(row.content), name=row.name)

    def files(self, id: str) -> Sequence[str]:
        """The names of the output files of a job, in order."""
        where = sa.and_(FILES.c.job == id, FILES.c.role == "output")
        with self.engine.connect() as connection:
            return list(connection.execute(sa.select(FILES.c.name).where(where).order_by(FILES.c.number)).scalars())

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def once(idempotency: str, client: str) -> str:
    """An idempotency key together with who sent it."""
    return hashlib.sha256(json.dumps([client, idempotency]).encode()).hexdigest()


def _durable(connection: Any, record: Any) -> None:
    """A commit of SQLite is on the disk, and readers do not wait for writers."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _job(row: Any) -> Job:
    values: dict[str, Any] = dict(row._mapping)
    read: dict[str, Any] = {
        name: None if values[name] is None else json.loads(values[name]) for name in ("body", "error", "review")
    }
    return Job(**{**values, **read})
