"""Faults around a server: each costs the request that meets it an error, and nobody else anything."""

import io
import pickle
import shutil
import socket
import sqlite3
import struct
import time
import zlib

import httpx2 as httpx
import pytest
import torch
from sqlalchemy import event

from tests.server.conftest import serving
from tests.server.test_jobs import ended


@pytest.fixture
def two(runs, trained, tmp_path):
    """A server of two runs, `classes` and a copy of it, `other`; its service and its store."""
    shutil.copytree(trained, tmp_path / "other")
    with (
        serving([runs / "classes", tmp_path / "other"], tmp_path / "jobs.db") as (url, service, store),
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        yield http, service, store


def made(http, model="classes", **fields):
    return ended(http, http.post("/v1/jobs", json={"model": model, "count": 1, **fields}).json()["id"])


def test_numbers_that_are_not_finite_fail_their_request_alone(two):
    http, service, _ = two
    with torch.no_grad():
        for parameter in service.runs.load("other").model.parts.network.parameters():
            parameter.fill_(torch.nan)
    ids = [
        http.post("/v1/jobs", json={"model": model, "count": 2, "steps": 20, "seed": i}).json()["id"]
        for i, model in enumerate(("classes", "other", "classes", "other"))
    ]
    jobs = [ended(http, id) for id in ids]
    assert [job["status"] for job in jobs] == ["completed", "failed", "completed", "failed"]
    assert "not finite" in jobs[1]["error"]["message"]
    answer = http.post("/v1/images/generations", json={"model": "other", "prompt": "disc"})
    assert answer.status_code in (400, 500)
    assert "not finite" in answer.json()["error"]["message"]
    assert http.get("/healthz").status_code == 200


def test_a_locked_database_refuses_jobs_and_nothing_else(two, tmp_path):
    http, _, _ = two
    holder = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        answer = http.post("/v1/jobs", json={"model": "classes", "count": 1})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
        image = http.post("/v1/images/generations", json={"model": "classes", "prompt": "disc"})
        assert image.status_code == 200
        assert http.get("/healthz").status_code == 200
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    assert made(http)["status"] == "completed"


def test_a_full_disk_refuses_jobs_and_loses_none(two):
    """SQLite's own limit of pages gives the error of a full disk."""
    http, _, store = two
    before = made(http)
    full = [True]

    @event.listens_for(store.engine, "begin")
    def limit(connection):
        pages = connection.connection.cursor()
        pages.execute(f"PRAGMA max_page_count={pages.execute('PRAGMA page_count').fetchone()[0] if full[0] else 10**9}")

    answers = [http.post("/v1/jobs", json={"model": "classes", "count": 1, "options": {}}) for _ in range(60)]
    codes = {answer.status_code for answer in answers}
    assert 503 in codes
    assert codes <= {202, 503}
    assert {answer.json()["error"]["code"] for answer in answers if answer.status_code == 503} == {
        "database_unavailable"
    }
    assert http.get(before["files"][0]["url"]).status_code == 200
    assert http.get("/healthz").status_code == 200
    full[0] = False
    for answer in answers:
        if answer.status_code == 202:
            assert ended(http, answer.json()["id"], limit=120)["status"] == "completed"
    assert made(http)["status"] == "completed"


def test_a_client_that_does_not_read_holds_up_nobody(two):
    http, _, _ = two
    id = http.post("/v1/jobs", json={"model": "classes", "count": 8, "steps": 300, "previews": 10}).json()["id"]
    idle = [socket.create_connection((http.base_url.host, http.base_url.port)) for _ in range(20)]
    for one in idle:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        one.sendall(f"GET /v1/jobs/{id}/events HTTP/1.1\r\nHost: 127.0.0.1:{http.base_url.port}\r\n\r\n".encode())
    try:
        assert made(http, "other", steps=5)["status"] == "completed"
        assert ended(http, id)["status"] == "completed"
    finally:
        for one in idle:
            one.close()


def bomb(side):
    """A PNG of side x side black pixels, in a few hundred kilobytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    lines = b"".join(packer.compress(bytes(1 + 3 * side)) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def test_an_image_that_is_huge_once_decoded_is_refused(two):
    http, _, _ = two
    content, begun = bomb(20_000), time.monotonic()
    assert len(content) < 2_000_000
    files = {"image": ("a.png", content), "mask": ("b.png", content)}
    answer = http.post("/v1/images/edits", data={"model": "classes", "prompt": "disc"}, files=files)
    assert answer.status_code == 400, answer.text
    assert time.monotonic() - begun < 30
    assert http.get("/healthz").status_code == 200


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_pickle_in_place_of_weights_is_not_read(two, tmp_path):
    http, _, _ = two
    content = io.BytesIO()
    pickle.dump(Payload(tmp_path / "executed"), content)
    for file in (tmp_path / "other" / "checkpoints").rglob("*.safetensors"):
        file.write_bytes(content.getvalue())
    answer = http.post("/v1/images/generations", json={"model": "other", "prompt": "disc"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_unavailable")
    assert not (tmp_path / "executed").exists()
    assert made(http)["status"] == "completed"
