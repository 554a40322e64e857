"""A server of small runs in a thread of this process, and clients of it."""

import socket
import threading
import time
from contextlib import contextmanager

import httpx2 as httpx
import pytest
import uvicorn

from langevin.cli import main
from langevin.server.app import create
from langevin.server.audit import Audit
from langevin.server.runs import Runs
from langevin.server.safeguards import Safeguards
from langevin.server.service import Limits, Service
from langevin.server.store import Store
from langevin.server.watermark import Watermark
from langevin.serving.engine import Engine
from tests import customers, texts, tiny, voices


@pytest.fixture(scope="session")
def runs(trained, captioned, tmp_path_factory):
    """A folder of runs: of classes, of captions, of text, of dialogues, of speech, of a table."""
    folder, data = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("data")
    (folder / "classes").symlink_to(trained)
    (folder / "captions").symlink_to(captioned)
    tiny.run_of(texts.corpus(data / "text"), folder / "text", "data.task.context_length=32")
    tiny.run_of(texts.dialogues(data / "talk"), folder / "talk", "data.codec.size=300", "data.task.context_length=64",
                "data.task.max_target_length=16", "data.task.joint_fraction=0.3", "data.task.turns=2")  # fmt: skip
    tiny.run_of(texts.corpus(data / "blocks"), folder / "blocks", "data.task.context_length=32", "network.attention=block",
                "network.block_size=8")  # fmt: skip
    tiny.run_of(voices.spoken(data / "speech"), folder / "speech", "data.val_fraction=0.3", "network.kernel=3",
                "data.units.kind=characters")  # fmt: skip
    headless = [change for change in tiny.SMALL if "head_dim" not in change]
    table = customers.with_holes(data / "table")
    assert main(["train", str(table), "--out", str(folder / "table"), "training.steps=4", *headless]) == 0
    return folder


@contextmanager
def serving(
    folders, database, *, keys=None, limits=None, rules=None, grace=5.0, data=None, key=None, signing=None, **engine
):
    """The URL of a server, its service and its store."""
    store = Store(url=database if "://" in str(database) else f"sqlite:///{database}")
    safeguards = Safeguards() if rules is None else Safeguards(rules=rules, audit=Audit(engine=store.engine))
    service = Service(
        runs=Runs(folders=folders, key=key), engine=Engine(**engine), limits=limits or Limits(), safeguards=safeguards,
        watermark=None if key is None else Watermark(engine=store.engine), signing=signing,
    )  # fmt: skip
    app = create(service, store, keys=keys, data=data, grace=grace)
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}", service, store
    finally:
        server.should_exit = True
        thread.join(60)
        bound.close()


@pytest.fixture(scope="session")
def server(runs, tmp_path_factory):
    folders = [runs / name for name in ("classes", "captions", "text", "talk", "blocks", "speech", "table")]
    with serving(folders, tmp_path_factory.mktemp("jobs") / "jobs.db") as (url, _, _):
        yield url


@pytest.fixture(scope="session")
def http(server):
    with httpx.Client(base_url=server, timeout=60) as client:
        yield client
