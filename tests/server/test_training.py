"""Training over HTTP: a queue of processes, what a running one can be asked for, and what no request can reach."""

import json
import os
import signal
import time

import httpx2 as httpx
import pytest
from safetensors.torch import load_file

from langevin.run.directory import is_being_written, open_run, writing
from langevin.server.keys import Keys
from langevin.server.processes import reason
from langevin.server.store import Store
from langevin.training import checkpoint
from tests import pictures, tiny
from tests.server.conftest import serving
from tests.server.test_jobs import ended, events_of
from tests.server.test_process import process

CHANGES = [*(change for change in tiny.SMALL if "[" not in change), "data.val_fraction=0.2"]
LONG = [*CHANGES, "training.steps=100000"]
LIMIT = 120  # seconds for a process to begin and end


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("offered")
    pictures.classes(folder / "pictures")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture(scope="module")
def shop(data, tmp_path_factory):
    """A server without any run, that can train."""
    folder = tmp_path_factory.mktemp("served")
    with (
        serving([folder / "runs"], folder / "jobs.db", data=data, grace=30.0) as (url, _, store),
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        http.runs, http.store = folder / "runs", store
        yield http


def asked(http, **fields):
    response = http.post("/v1/jobs", json=fields)
    assert response.status_code == 202, response.text
    return response.json()


def until(true, limit=LIMIT):
    end = time.monotonic() + limit
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_run_is_trained_measured_and_sampled_over_http(shop):
    offered = shop.get("/v1/training").json()
    assert offered["data"] == ["empty", "pictures"]
    assert {"id", "description", "needs_data"} == set(offered["recipes"][0])
    job = asked(shop, verb="train", target="pictures", changes=[*CHANGES, "training.steps=6"], seed=3)
    assert (job["model"], job["request"]["seed"]) == ("pictures", 3)
    found = events_of(shop, job["id"])
    assert "trained 6 steps" in "".join(data["lines"] for kind, data in found if kind == "output")
    assert found[-1][1]["status"] == "completed"
    job = shop.get(f"/v1/jobs/{job['id']}").json()
    assert job["progress"] == {"done": 6, "total": 6}
    assert any("trained 6 steps" in line for line in job["lines"])
    [run] = shop.get("/v1/runs").json()["data"]
    assert (run["id"], run["step"], run["steps"], run["training"], run["report"]) == ("pictures", 6, 6, False, False)
    assert open_run(shop.runs / "pictures").recipe.training.seed == 3
    measured = ended(shop, asked(shop, verb="evaluate", model="pictures", count=8, seeds=1, steps=2)["id"], limit=LIMIT)
    assert measured["status"] == "completed", measured["error"]
    assert "<html" in shop.get("/v1/runs/pictures/report").text
    assert ended(shop, asked(shop, model="pictures", count=1)["id"])["status"] == "completed"
    assert asked(shop, verb="train", target="pictures", changes=["training.steps=1", *CHANGES])["model"] == "pictures-2"
    assert [one["request"]["verb"] for one in shop.get("/v1/jobs").json()["data"]] == [
        "train",
        "sample",
        "evaluate",
        "train",
    ]


def test_a_run_that_trains_is_asked_for_a_preview_a_checkpoint_and_its_end(shop):
    job = asked(shop, verb="train", target="pictures", model="long", changes=LONG)
    run = shop.runs / "long"
    until(lambda: shop.get("/v1/runs/long/metrics").json().get("steps"))
    before = {*run.glob("samples/*"), *checkpoint.steps(run / "checkpoints")}
    for action in ("sample", "save"):
        answer = shop.post("/v1/runs/long/requests", json={"action": action})
        assert answer.status_code == 202, answer.text
    until(
        lambda: (
            len({*run.glob("samples/*")} - before) == 1 and len({*checkpoint.steps(run / "checkpoints")} - before) == 1
        )
    )
    until(lambda: shop.get(f"/v1/jobs/{job['id']}").json()["progress"]["total"] == 100_000)
    assert shop.delete(f"/v1/jobs/{job['id']}").json()["status"] == "cancelled"
    job = ended(shop, job["id"], limit=LIMIT)
    assert (job["status"], job["error"]) == ("cancelled", None)
    assert "which is saved" in job["lines"][-1]
    assert not is_being_written(run)
    step = max(map(checkpoint.step_of, checkpoint.steps(run / "checkpoints")))
    again = asked(shop, verb="resume", model="long")
    until(lambda: shop.get("/v1/runs/long").json()["step"] > step)
    assert shop.post("/v1/runs/long/requests", json={"action": "stop"}).status_code == 202
    assert ended(shop, again["id"], limit=LIMIT)["status"] == "cancelled"
    assert shop.post("/v1/runs/long/requests", json={"action": "stop"}).json()["error"]["code"] == "not_training"


def test_jobs_wait_for_each_other_and_a_waiting_one_is_cancelled(shop):
    first = asked(shop, verb="train", target="pictures", model="one", changes=LONG)
    second = asked(shop, verb="train", target="pictures", model="two", changes=LONG)
    until(lambda: shop.get(f"/v1/jobs/{first['id']}").json()["status"] == "in_progress")
    assert shop.get(f"/v1/jobs/{second['id']}").json()["status"] == "queued"
    for job in (second, first):
        shop.delete(f"/v1/jobs/{job['id']}")
        assert ended(shop, job["id"], limit=LIMIT)["status"] == "cancelled"
    assert not (shop.runs / "two").exists()


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"target": "../secret"}, 404, "neither a recipe nor data"),
        ({"target": "pictures/../../secret"}, 404, "neither a recipe nor data"),
        ({"target": "/etc"}, 404, "neither a recipe nor data"),
        ({"target": "."}, 404, "neither a recipe nor data"),
        ({"target": "pictures", "data": "pictures"}, 400, "leave it out"),
        ({"target": "text/books"}, 400, "needs data"),
        ({"target": "pictures", "model": "../x"}, 400, "a name has letters"),
        ({"target": "pictures", "model": ".hidden"}, 400, "a name has letters"),
        ({"target": "pictures", "changes": ["data.path=secret"]}, 400, "is no change"),
        ({"target": "pictures", "changes": ["data.path=1"]}, 400, "is no change"),
        ({"target": "pictures", "changes": ["data.path=null"]}, 400, "is no change"),
        ({"target": "pictures", "changes": ["sampling.guidance.run=x"]}, 400, "is no change"),
        ({"target": "pictures", "changes": ["init_from=x"]}, 400, "is no change"),
        ({"target": "pictures", "changes": ["training.steps=os:system"]}, 400, "is no change"),
        ({"target": "pictures", "changes": ["--allow-code"]}, 400, "is no change"),
        ({"target": "pictures", "changes": ["network={kind: dit}"]}, 400, "is no change"),
        ({"target": "pictures", "changes": ["training.steps=1\n--x"]}, 400, "is no change"),
        ({"target": "pictures", "minutes": 0}, 400, "minutes: "),
        ({"target": "pictures", "minutes": 1e9}, 400, "minutes: "),
        ({"target": "pictures", "allow_code": True}, 400, "allow_code: "),
        ({}, 400, "target: "),
    ],
    ids=str,
)  # fmt: skip
def test_a_request_reaches_no_other_file_and_no_code(shop, fields, status, said):
    answer = shop.post("/v1/jobs", json={"verb": "train", **fields})
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]


def test_what_fails_says_why(shop):
    job = ended(shop, asked(shop, verb="train", target="empty")["id"], limit=LIMIT)
    assert job["status"] == "failed"
    assert "holds nothing that can be trained on" in job["error"]["message"]
    assert shop.post("/v1/jobs", json={"verb": "resume", "model": "nothing"}).status_code == 404
    assert reason([], -9).startswith("the process was killed by signal 9")
    assert reason(["step 1", "langevin: the disk is full", "free some"], 1) == "the disk is full\nfree some"


def test_a_repeated_request_is_made_once_and_a_taken_name_is_refused(shop):
    body, headers = {"verb": "train", "target": "empty"}, {"Idempotency-Key": "once"}
    first, second = (shop.post("/v1/jobs", json=body, headers=headers).json() for _ in range(2))
    assert first["id"] == second["id"]
    other = shop.post("/v1/jobs", json={**body, "seed": 1}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_conflict")
    (shop.runs / "taken").mkdir(parents=True, exist_ok=True)
    taken = shop.post("/v1/jobs", json={"verb": "train", "target": "pictures", "model": "taken"})
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "run_exists")
    ended(shop, first["id"], limit=LIMIT)


def test_training_needs_the_role_of_a_trainer(trained, data, tmp_path):
    (tmp_path / "keys").write_text("anna a-key-of-more-than-16 trainer\nben b-key-of-more-than-16\n")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "classes").symlink_to(trained)
    keys = Keys.read(tmp_path / "keys")
    with serving([tmp_path / "runs", trained], tmp_path / "jobs.db", keys=keys, data=data) as (url, _, _):
        anna, ben = (
            httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}-key-of-more-than-16"}) for key in "ab"
        )
        train = {"verb": "train", "target": "empty"}
        assert ben.post("/v1/jobs", json=train).json()["error"]["code"] == "not_a_trainer"
        assert ben.post(f"/v1/runs/{trained.name}/requests", json={"action": "stop"}).status_code == 403
        job = anna.post("/v1/jobs", json=train).json()
        assert ben.get(f"/v1/jobs/{job['id']}").status_code == 200
        assert ben.delete(f"/v1/jobs/{job['id']}").status_code == 403
        ended(anna, job["id"], limit=LIMIT)


def test_a_key_sees_its_own_jobs_alone(trained, tmp_path):
    (tmp_path / "keys").write_text("anna a-key-of-more-than-16\nben b-key-of-more-than-16\n")
    with serving([trained], tmp_path / "jobs.db", keys=Keys.read(tmp_path / "keys")) as (url, _, _):
        anna, ben = (
            httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}-key-of-more-than-16"}) for key in "ab"
        )
        body, headers = {"model": trained.name, "count": 1}, {"Idempotency-Key": "same"}
        hers, his = (http.post("/v1/jobs", json=body, headers=headers).json()["id"] for http in (anna, ben))
        assert hers != his
        ended(anna, hers)
        for path in ("", "/content", "/events"):
            assert ben.get(f"/v1/jobs/{hers}{path}").status_code == 404
        assert ben.delete(f"/v1/jobs/{hers}").status_code == 404
        assert [job["id"] for job in ben.get("/v1/jobs").json()["data"]] == [his]
        assert anna.get(f"/v1/jobs/{hers}/content").status_code == 200


@pytest.mark.slow
def test_training_that_a_server_leaves_goes_on_with_the_next_one_to_the_same_weights(data, tmp_path):
    """A kill of the server also ends the training, which the next server takes up at its newest checkpoint."""
    changes = [*CHANGES, "training.steps=400", "training.checkpoint_minutes=0.01"]
    weights = {}
    for folder, kill in ((tmp_path / "whole", False), (tmp_path / "parts", True)):
        (folder / "runs").mkdir(parents=True)
        run = folder / "runs" / "pictures"
        arguments = (folder / "runs", folder / "jobs.db", "--data", str(data))
        with process(*arguments) as (_, http):
            id = asked(http, verb="train", target="pictures", changes=changes)["id"]
            if kill:
                until(lambda run=run: len(checkpoint.steps(run / "checkpoints")) > 1)
            else:
                assert ended(http, id, limit=LIMIT)["status"] == "completed"
        if kill:
            until(lambda run=run: not is_being_written(run))
            with process(*arguments) as (_, http):
                job = ended(http, id, limit=LIMIT)
                assert job["status"] == "completed"
                assert any("resuming from step" in line for line in job["lines"])
        newest = next(iter(checkpoint.steps(run / "checkpoints")))
        assert checkpoint.step_of(newest) == 400
        weights[kill] = {file.name: load_file(file) for file in newest.glob("*.safetensors")}
    assert json.dumps(sorted(weights[True])) == json.dumps(sorted(weights[False]))
    for file, tensors in weights[False].items():
        for name, value in tensors.items():
            assert value.equal(weights[True][file][name]), name


def test_a_signal_to_the_whole_group_leaves_training_to_the_next_server(data, tmp_path):
    """As Ctrl-C in a terminal and service managers send it, with a reader of its events connected."""
    (tmp_path / "runs").mkdir()
    run, arguments = tmp_path / "runs" / "pictures", (tmp_path / "runs", tmp_path / "jobs.db", "--data", str(data))
    with process(*arguments, start_new_session=True) as (served, http):
        id = asked(http, verb="train", target="pictures", changes=LONG)["id"]
        until(lambda: http.get(f"/v1/jobs/{id}").json()["progress"]["done"] > 0)
        with http.stream("GET", f"/v1/jobs/{id}/events") as reader:
            next(reader.iter_text())
            os.killpg(served.pid, signal.SIGINT)
            assert served.wait(60) == 0
    store = Store(url=f"sqlite:///{tmp_path / 'jobs.db'}")
    assert store.get(id).status == "queued"
    with process(*arguments) as (_, http):
        step = max(map(checkpoint.step_of, checkpoint.steps(run / "checkpoints")))
        until(lambda: http.get(f"/v1/jobs/{id}").json()["progress"]["done"] > step)
        http.delete(f"/v1/jobs/{id}")
        assert ended(http, id, limit=LIMIT)["status"] == "cancelled"
    store.close()


@pytest.mark.slow
def test_a_job_whose_run_is_still_written_waits(shop, data):
    """As after a kill of the server, while the process that it left ends its step."""
    job = asked(shop, verb="train", target="pictures", model="held", changes=LONG)
    run = shop.runs / "held"
    until(lambda: shop.get("/v1/runs/held/metrics").status_code == 200)
    shop.post("/v1/runs/held/requests", json={"action": "stop"})
    ended(shop, job["id"], limit=LIMIT)
    with writing(run):
        store = shop.store
        again = store.add(store.get(job["id"]).body, queue="process")[0]
        store.claim(queue="process")
        store.keep(again.id, b"begun")
        store.release(again.id)
        time.sleep(3)
        assert store.get(again.id).status in ("queued", "in_progress")
    until(lambda: shop.get(f"/v1/jobs/{again.id}").json()["progress"]["done"] > 0)
    shop.delete(f"/v1/jobs/{again.id}")
    assert ended(shop, again.id, limit=LIMIT)["status"] == "cancelled"
