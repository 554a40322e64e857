"""Servers that share jobs in a real PostgreSQL: nothing is made twice, nothing is lost, and the log is one chain.

It needs a PostgreSQL of the system and the extra `postgres`."""

import glob
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx2 as httpx
import pytest

from langevin.server.audit import Audit
from langevin.server.store import Store
from tests.server.conftest import serving
from tests.server.test_jobs import ended

pytest.importorskip("psycopg", reason="PostgreSQL is read by psycopg, which is not installed")
PROGRAMS = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
pytestmark = pytest.mark.skipif(not PROGRAMS, reason="there is no PostgreSQL on this machine")


@pytest.fixture(scope="module")
def database():
    """The URL of a database of a server of its own."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    root = hasattr(os, "geteuid") and os.geteuid() == 0  # which PostgreSQL does not run as
    if root:
        shutil.chown(folder, "postgres")
    who = {"user": "postgres"} if root else {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = {"check": True, "capture_output": True, "cwd": folder, **who}
    subprocess.run([f"{PROGRAMS[-1]}/initdb", "-D", folder / "data", "-U", "tester", "-A", "trust"], **run)
    command = [f"{PROGRAMS[-1]}/postgres", "-D", folder / "data", "-p", str(port), "-k", str(folder), "-c", "fsync=off"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **who)
    url = f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres"
    for _ in range(100):
        try:
            Store(url=url).close()
            break
        except ValueError:
            time.sleep(0.1)
    yield url
    server.terminate()
    server.wait(30)
    shutil.rmtree(folder, ignore_errors=True)


def test_no_job_is_claimed_twice(database):
    stores = [Store(url=database) for _ in range(4)]
    ids = {stores[0].add({"model": "m", "count": 1})[0].id for _ in range(60)}
    claimed, lock = [], threading.Lock()

    def claim(store):
        misses = 0
        while misses < 5:
            job = store.claim()
            if job is None:
                misses += 1
                time.sleep(0.01)
                continue
            with lock:
                claimed.append(job.id)
            assert store.end(job.id, "completed")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(claim, stores))
    assert sorted(claimed) == sorted(ids)
    for store in stores:
        store.close()


def test_two_servers_share_jobs_and_their_log(database, runs, tmp_path):
    with ExitStack() as stack:
        servers = [stack.enter_context(serving([runs / "classes"], database)) for _ in range(2)]
        clients = [stack.enter_context(httpx.Client(base_url=url, timeout=30)) for url, _, _ in servers]
        asked = {"model": "classes", "count": 1, "steps": 30, "reproducible": True}
        ids = [clients[i % 2].post("/v1/jobs", json={**asked, "seed": i % 4}).json()["id"] for i in range(16)]
        contents = {}
        for i, id in enumerate(ids):
            other = clients[1 - i % 2]  # asked of the server that did not take it in
            assert ended(other, id)["status"] == "completed"
            contents.setdefault(i % 4, set()).add(other.get(f"/v1/jobs/{id}/content").content)
        assert all(len(found) == 1 for found in contents.values())
        assert all(service.engine.evaluations > 0 for _, service, _ in servers)
        logs = [Audit(engine=store.engine) for _, _, store in servers]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda i: logs[i % 2].append("request", {"n": i}), range(40)))
        assert logs[0].verify() == (40, None)
