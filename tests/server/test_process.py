"""The server as a process: it drains on a signal, and loses no job when it is killed."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx2 as httpx
import pytest

from langevin.server.store import Store
from tests.server.test_jobs import ended

STEPS = 40


@contextmanager
def process(run, database, *options, **more):
    """A server in a process of its own, with a client."""
    command = [
        sys.executable,
        "-m",
        "langevin",
        "serve",
        str(run),
        "--port",
        "0",
        "--database",
        f"sqlite:///{database}",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    served = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True, env=environment, **more)
    try:
        for line in served.stderr:
            if found := re.search(r"http://[\d.]+:\d+", line):
                break
        else:
            raise AssertionError(f"the server ended with {served.wait()}")
        threading.Thread(target=lambda: [None for _ in served.stderr], daemon=True).start()  # a full pipe would stop it
        with httpx.Client(base_url=found[0], timeout=30) as http:
            yield served, http
    finally:
        served.kill()
        served.wait()


def test_a_signal_drains_what_runs_and_exits_with_0(trained, tmp_path):
    with process(trained, tmp_path / "jobs.db", "--grace", "20") as (served, http):
        name = http.get("/v1/models").json()["data"][0]["id"]
        ids = [
            http.post("/v1/jobs", json={"model": name, "count": 1, "steps": 300, "seed": i}).json()["id"]
            for i in range(6)
        ]
        while http.get(f"/v1/jobs/{ids[0]}").json()["progress"]["done"] == 0:
            time.sleep(0.05)
        served.send_signal(signal.SIGTERM)
        assert served.wait(30) == 0
    store = Store(url=f"sqlite:///{tmp_path / 'jobs.db'}")
    assert {store.get(id).status for id in ids} <= {"completed", "queued"}
    assert store.get(ids[0]).status == "completed"
    store.close()


def killed(run, database, kills, seed):
    """Kill a server so many times while it makes jobs; every job that was accepted has its files in the end."""
    draw, accepted = random.Random(seed), dict[str, int]()
    for round_ in range(kills + 1):
        with process(run, database) as (served, http):
            if round_ == kills:
                return {
                    id: (seed, ended(http, id), http.get(f"/v1/jobs/{id}/content").content)
                    for id, seed in accepted.items()
                }
            until = time.monotonic() + draw.uniform(0.05, 0.8)
            name = http.get("/v1/models").json()["data"][0]["id"]
            while time.monotonic() < until:
                seed = len(accepted) % 7
                asked = {"model": name, "count": 1, "steps": STEPS, "seed": seed, "reproducible": True}
                response = http.post("/v1/jobs", json=asked)
                assert response.status_code == 202
                accepted[response.json()["id"]] = seed
                time.sleep(draw.uniform(0, 0.1))
            served.kill()
            served.wait()


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_no_accepted_job_is_lost_by_kills(trained, tmp_path, kills, monkeypatch):
    found = killed(trained, tmp_path / "jobs.db", kills, seed=kills)
    assert len(found) >= kills
    assert {job["status"] for _, job, _ in found.values()} == {"completed"}
    by_seed = dict[int, set[bytes]]()
    for seed, _, content in found.values():
        by_seed.setdefault(seed, set()).add(content)
    assert all(len(contents) == 1 for contents in by_seed.values())  # equal requests, equal bytes, whoever was killed
