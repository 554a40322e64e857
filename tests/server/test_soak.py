"""Half an hour of mixed load: memory and handles stay flat, and nothing is stuck. LANGEVIN_SOAK is the time in minutes."""

import os
import random
import statistics
import threading
import time
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.server.conftest import serving

MINUTES = float(os.environ.get("LANGEVIN_SOAK", "30"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(60 * MINUTES + 300),
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc"),
]


def load(url, seed, until, problems):
    """What one client does: plain, streamed and left requests, jobs, cancellations, nonsense."""
    draw = random.Random(seed)
    with httpx.Client(base_url=url, timeout=60) as http:
        while time.monotonic() < until:
            steps, kind = draw.randint(1, 30), draw.random()
            body = {"model": "classes", "prompt": "disc", "num_inference_steps": steps, "seed": draw.randint(0, 99)}
            if kind < 0.3:
                statuses = {http.post("/v1/images/generations", json=body).status_code}
            elif kind < 0.5:
                with http.stream(
                    "POST", "/v1/images/generations", json={**body, "stream": True, "partial_images": 2}
                ) as got:
                    statuses = {got.status_code}
                    next(got.iter_bytes(), None)  # and leaves
            elif kind < 0.8:
                response = http.post("/v1/jobs", json={"model": "classes", "count": draw.randint(1, 3), "steps": steps})
                statuses = {response.status_code}
                if response.status_code == 202 and draw.random() < 0.5:
                    statuses.add(http.delete(f"/v1/jobs/{response.json()['id']}").status_code)
            elif kind < 0.9:
                statuses = {http.post("/v1/jobs", json={"model": "classes", "nonsense": 1}).status_code}
            else:
                statuses = {http.get("/v1/jobs").status_code, http.get("/metrics").status_code}
            if any(status >= 500 for status in statuses):
                problems.append((kind, statuses))


def test_memory_and_handles_are_flat_under_mixed_load(runs, tmp_path):
    page, problems = os.sysconf("SC_PAGE_SIZE"), []
    with serving([runs / "classes"], tmp_path / "jobs.db") as (url, service, _):
        until = time.monotonic() + 60 * MINUTES
        clients = [threading.Thread(target=load, args=(url, seed, until, problems)) for seed in range(4)]
        for client in clients:
            client.start()
        memory, handles = [], []
        while any(client.is_alive() for client in clients):
            time.sleep(min(5.0, MINUTES))
            memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * page / 1e6)
            handles.append(len(os.listdir("/proc/self/fd")))
        time.sleep(3)
        with httpx.Client(base_url=url, timeout=60) as http:
            while any(job["ended_at"] is None for job in http.get("/v1/jobs?limit=100").json()["data"]):
                time.sleep(0.2)
        assert service.engine.items == []
    assert problems == []
    third = len(memory) // 3
    early, late = memory[third : 2 * third], memory[2 * third :]
    found = (statistics.mean(early), statistics.mean(late), max(handles[:-third]), max(handles[-third:]))
    assert found[1] < 1.03 * found[0] + 5, found
    assert found[3] <= found[2] + 5, found
