"""`langevin audit`: check the audit log of a server, or print it."""

import json

from langevin.cli.show import LiveLine, output
from langevin.cli.verbs import Audit as Arguments
from langevin.extras import require


def run(args: Arguments) -> None:
    """Check or print the log.

    Raises:
        ValueError: it was changed, or there is no database."""
    require("sqlalchemy", "the audit log")
    from langevin.server.audit import Audit
    from langevin.server.store import Store

    store = Store(url=args.database, create=False)
    log = Audit(engine=store.engine)
    if args.action == "show":
        for row in log.entries():
            output(json.dumps(row))
        return
    count, wrong = log.verify()
    if wrong is not None:
        raise ValueError(f"the audit log was changed: {wrong}")
    last = next(iter(log.entries(newest_first=True)), None)
    LiveLine().say(f"{count:,} rows, none changed; the hash of the last is {last['hash'] if last else 'none'}")
