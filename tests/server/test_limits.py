"""Who may ask, how much and how often; what is hostile is refused with the right status, and the server goes on."""

import http.client
import json
import socket
import time

import httpx2 as httpx
import pytest

from langevin.cli import main
from langevin.server.errors import Refused
from langevin.server.keys import Keys
from langevin.server.service import Limits
from tests.server.conftest import serving

KEY, OTHER = "a-key-of-more-than-16", "b-key-of-more-than-16"


@pytest.fixture
def keys(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# who may ask\nanna {KEY}\n\nben {OTHER}\n")
    return file


def error(response):
    """The error of a response, in the form of OpenAI."""
    found = response.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"]
    return found


# ----------------------------------------------------------------------------------------------------------------- keys


def test_a_key_is_needed_if_there_are_any(runs, keys, tmp_path, caplog):
    with (
        serving([runs / "classes"], tmp_path / "jobs.db", keys=Keys.read(keys)) as (url, _, _),
        httpx.Client(base_url=url) as http,
    ):
        for header in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": KEY},
            {"Authorization": f"Basic {KEY}"},
        ):
            response = http.get("/v1/models", headers=header)
            assert response.status_code == 401
            assert error(response)["code"] == "invalid_api_key"
        caplog.set_level("INFO", "langevin.access")
        for key in (KEY, OTHER):
            assert http.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        assert http.get("/healthz").status_code == http.get("/readyz").status_code == 200
        assert http.get("/metrics").status_code == 401
    lines = [json.loads(record.message) for record in caplog.records if record.name == "langevin.access"]
    assert {line["key"] for line in lines if line["path"] == "/v1/models"} >= {"anna", "ben"}
    assert KEY not in caplog.text


def test_a_key_makes_so_many_requests_and_no_more(keys):
    now = [0.0]
    admitted = Keys.read(keys, rate=2.0, burst=3.0)
    admitted.clock = lambda: now[0]
    assert [admitted.admit(f"Bearer {KEY}") for _ in range(3)] == ["anna"] * 3
    with pytest.raises(Refused) as refused:
        admitted.admit(f"Bearer {KEY}")
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")
    assert admitted.admit(f"Bearer {OTHER}") == "ben"
    now[0] = 0.5
    assert admitted.admit(f"Bearer {KEY}") == "anna"


@pytest.mark.parametrize(
    ("text", "message"), [("", "holds no key"), ("anna", "line 1"), ("anna short", "line 1"), ("a b c", "line 1")]
)
def test_a_file_of_keys_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "keys").write_text(text)
    with pytest.raises(ValueError, match=message):
        Keys.read(tmp_path / "keys")


def test_another_address_needs_keys(trained, capsys):
    assert main(["serve", str(trained), "--host", "0.0.0.0"]) == 1
    assert "give --keys FILE" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------------- bodies


@pytest.fixture(scope="module")
def small(runs, tmp_path_factory):
    """A server that takes bodies of 2,000 bytes, and few requests."""
    database = tmp_path_factory.mktemp("small") / "jobs.db"
    with serving([runs / "classes"], database, limits=Limits(body=2000), pending=2) as (url, service, store):
        yield url, service, store


def raw(url, sent):
    """What a server answers to these bytes."""
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=10) as connection:
        connection.sendall(sent)
        connection.settimeout(10)
        got = b""
        try:
            while chunk := connection.recv(65536):
                got += chunk
        except TimeoutError:
            pass
        return got


def test_a_body_that_is_too_large_is_refused_by_its_length_and_as_it_comes(small):
    url, _, _ = small
    with httpx.Client(base_url=url) as http:
        response = http.post("/v1/jobs", content=b"x" * 3000, headers={"Content-Type": "application/json"})
        assert response.status_code == 413
        assert error(response)["code"] == "too_large"

        def chunks():
            for _ in range(100):
                yield b"x" * 100

        response = http.post("/v1/jobs", content=chunks(), headers={"Content-Type": "application/json"})
        assert response.status_code == 413
        assert http.get("/healthz").status_code == 200


BODIES = [
    b"", b"{", b"null", b"[]", b'"text"', b'{"model": null}', b'{"model": {"$ne": 1}}', b"\xff\xfe\x00", b"[" * 1500,
    b'{"model": "classes", "count": 1e400}', b'{"model": "classes", "count": -1}', b'{"model": "classes", "steps": 0}',
    b'{"model": "classes", "steps": 10001}', b'{"model": "classes", "guidance": NaN}',
    b'{"model": "classes", "timeout": -5}', b'{"model": "classes", "options": []}',
    b'{"model": "classes", "sampler": "{kind: heun, __class__: 1}"}',
    b'{"model": "classes\\u0000", "count": 1}', b'{"model": "..", "count": 1}', b'{"model": ".", "count": 1}',
    b'{"model": "classes/../classes"}', b'{"model": "\\ud800"}',
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations", "/v1/completions", "/v1/audio/speech"])
def test_a_malformed_body_is_refused(small, path, body):
    url, _, _ = small
    with httpx.Client(base_url=url) as http:
        response = http.post(path, content=body, headers={"Content-Type": "application/json"})
        if response.status_code == 202:  # the sampler is read when the job begins
            id = response.json()["id"]
            while (job := http.get(f"/v1/jobs/{id}").json())["status"] in ("queued", "in_progress"):
                time.sleep(0.02)
            assert job["status"] == "failed"
            return
        assert response.status_code in (400, 404), response.text
        error(response)


PATHS = [
    "/v1/models/..%2f..%2fetc%2fpasswd", "/v1/models/%00", "/v1/models/" + "a" * 5000, "/v1/jobs/%2e%2e%2f", "/v1/runs/..",
    "/v1/jobs/x/content?number=-1", "/v1/jobs/x/content?number=zero", "/v1/jobs?limit=100000", "/nothing", "//",
    "/v1/jobs/'--",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_leads_elsewhere_is_refused(small, path):
    url, _, _ = small
    got = raw(url, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert got.split(b" ", 2)[1] in (b"400", b"404")
    assert b"root:" not in got


SMUGGLED = [
    b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n",
    b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a\r\n b\r\nConnection: close\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Bad\x00: 1\r\n\r\n",
    b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"G" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("sent", SMUGGLED, ids=range(len(SMUGGLED)))
def test_smuggled_headers_get_one_answer_at_most_and_no_error_of_the_server(small, sent):
    url, _, _ = small
    got = raw(url, sent)
    assert b" 500 " not in got
    statuses = [line for line in got.split(b"\r\n") if line.startswith(b"HTTP/1.1")]
    assert len(statuses) <= 1
    connection = http.client.HTTPConnection("127.0.0.1", int(url.rsplit(":", 1)[1]))
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200


def test_a_request_id_is_given_back_unless_it_is_strange(small):
    url, _, _ = small
    with httpx.Client(base_url=url) as http:
        assert http.get("/healthz", headers={"X-Request-Id": "mine-1"}).headers["x-request-id"] == "mine-1"
        assert http.get("/healthz", headers={"X-Request-Id": "a b<script>"}).headers["x-request-id"].startswith("req_")


# ------------------------------------------------------------------------------------------------------------- overflow


def test_a_full_server_says_when_to_come_back_and_is_not_ready(small):
    url, service, _ = small
    with httpx.Client(base_url=url, timeout=30) as http:
        asked = {"model": "classes", "count": 1, "steps": 9000}
        ids = [http.post("/v1/jobs", json=asked).json()["id"] for _ in range(4)]
        while len(service.engine.tickets) < 2:
            time.sleep(0.01)
        response = http.post("/v1/images/generations", json={"model": "classes", "prompt": "disc"})
        assert response.status_code == 429
        assert error(response)["code"] == "queue_full"
        assert int(response.headers["Retry-After"]) >= 1
        assert http.get("/readyz").status_code == 503
        assert http.get("/healthz").status_code == 200
        for _ in range(8):
            last = http.post("/v1/jobs", json=asked)
        assert last.status_code == 429  # jobs wait in the database, and not without end
        while listed := [job for job in http.get("/v1/jobs?limit=100").json()["data"] if job["ended_at"] is None]:
            for job in listed:
                http.delete(f"/v1/jobs/{job['id']}")
            time.sleep(0.05)
        assert {http.get(f"/v1/jobs/{id}").json()["status"] for id in ids} == {"cancelled"}
        while service.engine.tickets:
            time.sleep(0.01)
        assert http.get("/readyz").status_code == 200


def test_a_run_that_is_deleted_or_damaged_while_it_is_served_fails_its_requests_alone(runs, trained, tmp_path):
    import shutil

    folder = tmp_path / "served"
    for name in ("good", "gone", "bad"):
        shutil.copytree(trained, folder / name)
    with serving([folder], tmp_path / "jobs.db") as (url, _, _), httpx.Client(base_url=url, timeout=30) as http:
        body = {"prompt": "disc", "num_inference_steps": 2}
        for name in ("good", "gone", "bad"):
            assert http.post("/v1/images/generations", json={"model": name, **body}).status_code == 200
        shutil.rmtree(folder / "gone")
        for file in (folder / "bad" / "checkpoints").rglob("*.safetensors"):
            file.write_bytes(b"\x80\x04\x95pickled")
        (folder / "new").mkdir()
        shutil.copytree(trained, folder / "new", dirs_exist_ok=True)
        statuses = {
            name: http.post("/v1/images/generations", json={"model": name, **body}).status_code
            for name in ("good", "gone", "bad", "new")
        }
        assert (statuses["good"], statuses["gone"], statuses["new"]) == (200, 404, 200)
        assert statuses["bad"] in (200, 503)  # it is in memory; what is on the disk is not read
        (folder / "bad" / "recipe.yaml").write_text("data: [")
        assert http.post("/v1/images/generations", json={"model": "bad", **body}).status_code == 503
        assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["bad", "good", "new"]


def test_without_keys_other_sites_and_names_are_refused(small):
    """A web page elsewhere, by its own name or by one that it lets point here."""
    url, _, _ = small
    own = url.removeprefix("http://")
    with httpx.Client(base_url=url) as http:
        for headers in (
            {"Host": "evil.example"},
            {"Host": "evil.example:80"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
        ):
            response = http.get("/v1/models", headers=headers)
            assert (response.status_code, error(response)["code"]) == (403, "not_own")
        for headers in ({"Host": own}, {"Host": "localhost:1"}, {"Origin": url}):
            assert http.get("/v1/models", headers=headers).status_code == 200


def test_half_characters_are_refused_where_they_would_be_stored(small):
    url, _, _ = small
    with httpx.Client(base_url=url) as http:
        body = b'{"model": "classes", "count": 1, "options": {"condition": ["\\ud800"]}}'
        response = http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 400
        assert "surrogate" in error(response)["message"]
        assert http.get("/v1/jobs").status_code == 200


def test_a_request_for_more_than_it_may_take_fails_before_anything_is_drawn(runs, tmp_path):
    limits = Limits(evaluations=200)
    with (
        serving([runs / "captions"], tmp_path / "jobs.db", limits=limits) as (url, service, _),
        httpx.Client(base_url=url) as http,
    ):
        words = [str(i) for i in range(300)]
        for asked in ({"options": {"rows": words, "columns": words}}, {"steps": 100}):  # 90,000 images; 16 of 100 steps
            id = http.post("/v1/jobs", json={"model": "captions", **asked}).json()["id"]
            while (job := http.get(f"/v1/jobs/{id}").json())["status"] in ("queued", "in_progress"):
                time.sleep(0.02)
            assert job["status"] == "failed"
            assert "function evaluations or more, and 200 are allowed" in job["error"]["message"]
        assert service.engine.evaluations == 0


def test_a_misspelt_field_is_named_with_the_nearest(small):
    url, _, _ = small
    with httpx.Client(base_url=url) as http:
        for path, body, said in (
            ("/v1/images/generations", {"prompt": "disc", "num_inference_step": 2},
             "there is no field 'num_inference_step'; did you mean 'num_inference_steps'?"),
            ("/v1/jobs", {"model": "classes", "options": {"conditon": ["disc"]}},
             "options.conditon: there is no such field; did you mean 'condition'?"),
            ("/v1/jobs", {"model": "classes", "options": {"condition": "disc"}},
             'options.condition: give a list, as ["one"]'),
        ):  # fmt: skip
            answer = http.post(path, json=body)
            assert (answer.status_code, answer.json()["error"]["message"]) == (400, said)
        assert "Content-Type: application/json" in http.post("/v1/jobs", content=b"{}").json()["error"]["message"]
        known = {"prompt": "disc", "user": "anna", "style": "vivid", "moderation": "low", "num_inference_steps": 2}
        assert (
            http.post("/v1/images/generations", json=known).status_code == 200
        )  # OpenAI's own, without a meaning here
