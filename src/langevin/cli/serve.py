"""`langevin serve`: serve runs over HTTP."""

import ipaddress
import logging
import socket
from contextlib import suppress
from typing import Any, get_args

from langevin.cli.show import LiveLine
from langevin.cli.verbs import Serve
from langevin.extras import require


def run(args: Serve) -> None:
    """Serve until a signal; returns when everything is drained."""
    uvicorn = require_packages()
    require_safe(args)
    from langevin.safety.manifest import Signing
    from langevin.safety.watermark import read_key
    from langevin.server.app import create
    from langevin.server.audit import Audit
    from langevin.server.keys import Keys
    from langevin.server.runs import Runs
    from langevin.server.safeguards import Safeguards, read
    from langevin.server.service import Service
    from langevin.server.store import Store
    from langevin.server.watermark import Watermark
    from langevin.serving.engine import Engine
    from langevin.serving.policy import AnyPolicy

    key = None if args.watermark is None else read_key(args.watermark)
    runs = Runs(folders=args.runs, memory=int(args.memory * 1e9), key=key)
    names = list(runs.paths())
    if not names and not any(folder.is_dir() for folder in args.runs):
        raise ValueError(f"there is no run in {', '.join(map(str, args.runs))}; `langevin train` creates one")
    policy = next(member() for member in get_args(AnyPolicy) if member.kind == args.policy)
    keys = None if args.keys is None else Keys.read(args.keys)
    rules = None if args.safeguards is None else read(args.safeguards)
    store = Store(url=args.database)
    safeguards = Safeguards()
    if rules is not None:
        safeguards = Safeguards(rules=rules, audit=Audit(engine=store.engine))
    engine = Engine(policy=policy, pending=args.pending)
    signing = None if args.sign is None else Signing.read(*args.sign)
    watermark = None if key is None else Watermark(engine=store.engine)
    service = Service(runs=runs, engine=engine, safeguards=safeguards, watermark=watermark, signing=signing)
    app = create(service, store, keys=keys, data=args.data, grace=args.grace)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    bound = listening(args.host, args.port)
    host, port = bound.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    LiveLine().say(f"serving {', '.join(names) or 'no run yet'} at http://{shown}:{port}  (Ctrl-C stops)")
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=max(1, round(args.grace)))
    with suppress(KeyboardInterrupt):  # uvicorn repeats the signal when all is drained
        uvicorn.Server(config).run(sockets=[bound])
    LiveLine().say("stopped")


def require_packages() -> Any:
    """The package uvicorn. Raises `ValueError` if one that serving needs is not installed."""
    for name in ("fastapi", "sqlalchemy", "prometheus_client"):
        require(name, "serving")
    return require("uvicorn", "serving")


def require_safe(args: Serve) -> None:
    """Check the options. Raises `ValueError` for an address that others reach without keys, or numbers out of range."""
    if not is_loopback(args.host) and args.keys is None:
        raise ValueError(f"--host {args.host} can be reached by others: give --keys FILE, or leave --host out")
    if not 0 <= args.port <= 65535:
        raise ValueError(f"--port is 0 to 65535, got {args.port}")
    if args.data is not None and not args.data.is_dir():
        raise ValueError(f"--data {args.data} is no folder")
    if not args.memory > 0 or args.pending < 1 or not 0 <= args.grace <= 3600:
        raise ValueError("--memory and --pending are positive, and --grace is 0 to 3600 seconds")


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises `ValueError` if the address is taken or unknown."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(128)  # who is told the address can connect at once
    except OSError as error:
        hint = f"cannot listen on {host} port {port}: {error.strerror or error}; --port 0 takes a free one"
        raise ValueError(hint) from error
    return bound
