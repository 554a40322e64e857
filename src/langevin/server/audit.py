"""An append-only log of what was asked and decided, in which a change, a removal or an insertion shows.

Every row holds the SHA-256 of its own content together with the hash of the row before it.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from langevin.server.tables import AUDIT

FIRST = "0" * 64


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The log in a database; several servers can append to it."""

    engine: sa.Engine

    def append(self, event: str, facts: Mapping[str, Any]) -> int:
        """Append a row, which is on the disk when this returns; its number, from 1."""
        for _ in range(50):
            try:
                with self.engine.begin() as connection:
                    last = connection.execute(sa.select(AUDIT).order_by(AUDIT.c.number.desc()).limit(1)).first()
                    number, before = (1, FIRST) if last is None else (last.number + 1, last.hash)
                    row = {
                        "number": number,
                        "time": time.time(),
                        "event": event,
                        "facts": json.dumps(facts, sort_keys=True),
                    }
                    connection.execute(sa.insert(AUDIT).values(row | {"hash": digest(before, row)}))
                return number
            except IntegrityError:  # another server has appended the same number
                continue
        raise RuntimeError("the audit log could not be appended to: too many servers append at once")

    def entries(self, *, newest_first: bool = False) -> Iterator[dict[str, Any]]:
        """All rows, in order."""
        order = AUDIT.c.number.desc() if newest_first else AUDIT.c.number
        with self.engine.connect() as connection:
            for row in connection.execute(sa.select(AUDIT).order_by(order)):
                yield dict(row._mapping)

    def verify(self) -> tuple[int, str | None]:
        """(the number of rows, what is wrong with the first that is not as it was written); None if all are.

        Rows that were cut off at the end do not show in the log itself: compare the count and the last hash with a note
        that was kept elsewhere."""
        before, count = FIRST, 0
        for row in self.entries():
            count += 1
            if row["number"] != count:
                return count, f"row {count} is missing: row {row['number']} follows row {count - 1}"
            if digest(before, row) != row["hash"]:
                return (
                    count,
                    f"row {count} was changed, or one before it was: its hash does not follow from its content",
                )
            before = row["hash"]
        return count, None


def digest(before: str, entry: Mapping[str, Any]) -> str:
    """The hash of a row, which includes that of the row before."""
    content = json.dumps([before, entry["number"], repr(float(entry["time"])), entry["event"], entry["facts"]])
    return hashlib.sha256(content.encode()).hexdigest()
