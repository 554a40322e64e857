"""The log of what was decided: what is appended stays, and what is changed shows."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from langevin.server.audit import Audit
from langevin.server.store import Store
from langevin.server.tables import AUDIT


@pytest.fixture
def log(tmp_path):
    store = Store(url=f"sqlite:///{tmp_path / 'jobs.db'}")
    yield Audit(engine=store.engine)
    store.close()


def test_rows_are_in_order_and_verify(log):
    assert log.verify() == (0, None)
    assert [log.append("request", {"n": i}) for i in range(20)] == list(range(1, 21))
    assert log.verify() == (20, None)
    assert [row["facts"] for row in log.entries()] == [f'{{"n": {i}}}' for i in range(20)]


CHANGES = {
    "facts": lambda c: c.execute(sa.update(AUDIT).where(AUDIT.c.number == 3).values(facts='{"n": 99}')),
    "event": lambda c: c.execute(sa.update(AUDIT).where(AUDIT.c.number == 3).values(event="allow")),
    "time": lambda c: c.execute(sa.update(AUDIT).where(AUDIT.c.number == 3).values(time=1.0)),
    "hash": lambda c: c.execute(sa.update(AUDIT).where(AUDIT.c.number == 3).values(hash="f" * 64)),
    "removed": lambda c: c.execute(sa.delete(AUDIT).where(AUDIT.c.number == 3)),
    "first": lambda c: c.execute(sa.delete(AUDIT).where(AUDIT.c.number == 1)),
    "swapped": lambda c: [
        c.execute(sa.update(AUDIT).where(AUDIT.c.number == 3).values(number=99)),
        c.execute(sa.update(AUDIT).where(AUDIT.c.number == 4).values(number=3)),
        c.execute(sa.update(AUDIT).where(AUDIT.c.number == 99).values(number=4)),
    ],
}


@pytest.mark.parametrize("what", CHANGES)
def test_any_change_shows(log, what):
    for i in range(6):
        log.append("request", {"n": i})
    with log.engine.begin() as connection:
        CHANGES[what](connection)
    _, wrong = log.verify()
    assert wrong is not None
    assert f"row {1 if what == 'first' else 3}" in wrong


def test_servers_append_to_one_chain(tmp_path):
    stores = [Store(url=f"sqlite:///{tmp_path / 'jobs.db'}") for _ in range(3)]
    logs = [Audit(engine=store.engine) for store in stores]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda i: logs[i % 3].append("request", {"n": i}), range(60)))
    assert logs[0].verify() == (60, None)
    for store in stores:
        store.close()
