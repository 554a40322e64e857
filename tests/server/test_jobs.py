"""Jobs of any modality: durable, with progress, cancelled, made once, made again after a kill."""

import base64
import io
import json
import time
from dataclasses import replace
from pathlib import Path

import httpx2 as httpx
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from langevin.cli import main
from langevin.embed import extract
from langevin.modalities.motion.files import bvh
from langevin.run.directory import load_model, open_run
from langevin.server.jobs import state_of
from langevin.server.safeguards import Rules
from langevin.server.store import LEASE, Store
from langevin.serving.suspend import Suspended
from tests import motions, pictures, scores, tiny
from tests.server.conftest import serving
from tests.serving.driving import alone


def ended(http, id, *, limit=60):
    """The job when it has ended."""
    until = time.monotonic() + limit
    while time.monotonic() < until:
        answer = http.get(f"/v1/jobs/{id}")
        if answer.status_code == 429:  # a key is asked for too often where the machine is slow
            time.sleep(float(answer.headers["retry-after"]))
            continue
        job = answer.json()
        if job["status"] not in ("queued", "in_progress"):
            return job
        time.sleep(0.05)
    raise AssertionError(f"job {id} did not end: {job}")


def events_of(http, id):
    """(kind, data) of the events of a job, to its end."""
    found = []
    with http.stream("GET", f"/v1/jobs/{id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for block in "".join(response.iter_text()).split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if fields:
                found.append((fields["event"], json.loads(fields["data"])))
    return found


@pytest.mark.parametrize("by", ["denoising", "probe"])
def test_a_job_says_the_class_of_an_image_that_is_sent_along(http, trained, tmp_path, by):
    """As the command line does; the table is a file."""
    picture = tmp_path / "a.png"
    Image.new("RGB", (8, 8), (200, 30, 30)).save(picture)
    content = base64.b64encode(picture.read_bytes()).decode()
    options = {"files": [content], "by": by, "noises": 8}
    response = http.post("/v1/jobs", json={"model": "classes", "verb": "classify", "seed": 0, "options": options})
    assert response.status_code == 202, response.text
    job = ended(http, response.json()["id"])
    assert (job["status"], job["error"]) == ("completed", None)
    (listed,) = job["files"]
    header, line = http.get(listed["url"]).text.splitlines()
    assert header.startswith("file_name,label,predicted,probability")
    main(["classify", str(trained), str(picture), "--by", by, "--noises", "8", "--out", str(tmp_path / "a.csv")])
    expected = (tmp_path / "a.csv").read_text().splitlines()[1]
    got, wanted = line.split(","), expected.split(",")
    assert got[1:3] == wanted[1:3]
    assert float(got[3]) == pytest.approx(float(wanted[3]), abs=1e-3)


def test_a_job_gives_the_files_of_the_command_line(http, trained):
    from langevin.modalities.image.options import Sample

    asked = {"model": "classes", "count": 3, "seed": 2, "options": {"condition": ["bar", "disc"]}, "reproducible": True}
    response = http.post("/v1/jobs", json=asked)
    assert response.status_code == 202
    job = ended(http, response.json()["id"])
    assert (job["status"], job["error"], job["request"]["count"]) == ("completed", None, 3)
    assert job["progress"]["done"] == job["progress"]["total"] == 9
    model = load_model(open_run(trained))[0]
    expected = alone(model, Sample(condition=("bar", "disc")), count=3, seed=2)
    assert len(job["files"]) == len(expected) == 3
    assert [file["name"] for file in job["files"]] == ["00000-bar.png", "00001-disc.png", "00002-bar.png"]
    for i, (listed, wanted) in enumerate(zip(job["files"], expected.values, strict=True)):
        got = http.get(listed["url"])
        assert got.headers["content-type"] == listed["media_type"] == "image/png"
        pixels = Image.open(io.BytesIO(got.content)).convert("RGB")
        assert torch.equal(torch.tensor(list(pixels.tobytes())), wanted.permute(1, 2, 0).flatten().long())
        facts = extract(got.content)
        assert (facts["model"], facts["seed"], facts["prompt"]) == ("classes", 2 + i, ("bar", "disc", "bar")[i])
        assert facts["command"].startswith("langevin sample classes --count 3 --seed 2 ")


def test_progress_and_previews_are_events(http):
    asked = {"model": "classes", "count": 2, "steps": 200, "previews": 2, "options": {"condition": ["disc"]}}
    id = http.post("/v1/jobs", json=asked).json()["id"]
    found = events_of(http, id)
    kinds = [kind for kind, _ in found]
    assert kinds[-1] == "job"
    assert found[-1][1]["status"] == "completed"
    done = [data["done"] for kind, data in found if kind == "progress"]
    assert done == sorted(done)
    assert len(done) > 1
    previews = [data for kind, data in found if kind == "preview"]
    assert {(data["index"], data["number"]) for data in previews} == {(i, k) for i in range(2) for k in range(2)}
    assert all(base64.b64decode(data["data"])[:4] == b"\x89PNG" for data in previews)
    assert events_of(http, id)[-1][1]["status"] == "completed"  # who comes late sees how it ended


def test_every_modality_is_served_by_its_own_options(http):
    wav = http.post(
        "/v1/audio/speech", json={"model": "speech", "voice": "ben", "input": "ah", "response_format": "wav"}
    )
    clip = base64.b64encode(wav.content).decode()
    wanted = {
        "captions": ({"condition": ["blue bar"]}, "image/png"),
        "text": ({"infill": "the [[4]] sea"}, "text/plain; charset=utf-8"),
        "talk": ({"prompt": "user: what do you see?"}, "text/plain; charset=utf-8"),
        "speech": ({"text": ["ah"], "continue": f"data:audio/wav;base64,{clip}"}, "audio/wav"),
        "table": ({"given": ["plan=plus", "age=40"]}, "text/csv; charset=utf-8"),
    }
    ids = {
        model: http.post("/v1/jobs", json={"model": model, "count": 1, "options": options}).json()["id"]
        for model, (options, _) in wanted.items()
    }
    for model, id in ids.items():
        job = ended(http, id)
        assert job["status"] == "completed", job
        assert [file["media_type"] for file in job["files"]] == [wanted[model][1]]
        assert http.get(job["files"][0]["url"]).content


def test_a_table_is_filled_over_http(http):
    """A file is sent along, and all samples come back in one."""
    names = "plan,age,joined,active,spend,visits,city"
    sent = base64.b64encode(
        f"{names}\nplus,,2021-05-06,true,,3,Cairo\nbasic,30,2020-02-02,false,,1,\n".encode()
    ).decode()
    options = {"file": f"data:text/csv;base64,{sent}"}
    id = http.post("/v1/jobs", json={"model": "table", "verb": "impute", "options": options}).json()["id"]
    job = ended(http, id)
    assert job["status"] == "completed", job
    (file,) = job["files"]
    assert file["media_type"] == "text/csv; charset=utf-8"
    lines = http.get(file["url"]).text.splitlines()
    assert lines[0] == names
    assert lines[1].startswith("plus,")
    assert ",2021-05-06,true," in lines[1]
    assert all(all(line.split(",")) for line in lines)
    wrong = {"model": "table", "count": 1, "options": {"given": ["plam=plus"]}}
    refused = ended(http, http.post("/v1/jobs", json=wrong).json()["id"])
    assert "did you mean 'plan'?" in str(refused["error"])


def test_a_run_says_what_can_be_requested_of_it(http):
    found = http.get("/v1/runs/speech").json()
    assert found["kind"] == "speech"
    assert found["endpoints"] == ["/v1/audio/speech"]
    options = found["verbs"]["sample"]["properties"]
    assert "voice" in options
    assert "What to say" in options["text"]["description"]
    assert "base64" in options["clip"]["description"]
    assert "heun" in found["samplers"]


def test_a_job_is_cancelled_and_forgotten(http):
    id = http.post("/v1/jobs", json={"model": "classes", "steps": 9000, "count": 1}).json()["id"]
    assert http.delete(f"/v1/jobs/{id}").json()["status"] == "cancelled"
    assert ended(http, id)["status"] == "cancelled"
    assert http.get(f"/v1/jobs/{id}/content").status_code == 404
    assert http.delete(f"/v1/jobs/{id}").json() == {"id": id, "object": "job.deleted", "deleted": True}
    assert http.get(f"/v1/jobs/{id}").status_code == 404


def test_a_job_is_made_once_for_each_key(http):
    asked, header = {"model": "classes", "count": 1, "seed": 11}, {"Idempotency-Key": "once"}
    first, second = (http.post("/v1/jobs", json=asked, headers=header).json() for _ in range(2))
    assert first["id"] == second["id"]
    other = http.post("/v1/jobs", json={**asked, "seed": 12}, headers=header)
    assert other.status_code == 409
    assert other.json()["error"]["code"] == "idempotency_conflict"


def test_jobs_are_listed_page_by_page(http):
    ids = [http.post("/v1/jobs", json={"model": "classes", "count": 1, "seed": i}).json()["id"] for i in range(5)]
    first = http.get("/v1/jobs", params={"limit": 3}).json()
    assert first["has_more"]
    second = http.get("/v1/jobs", params={"limit": 3, "after": first["data"][-1]["id"]}).json()
    assert [job["id"] for job in (*first["data"], *second["data"])][:5] == ids[::-1]


BAD = {
    "no model": ({}, "model"),
    "an unknown model": ({"model": "nothing"}, "model"),
    "a path": ({"model": "../../etc"}, "model"),
    "an unknown field": ({"model": "classes", "colour": 1}, "colour"),
    "an unknown option": ({"model": "classes", "options": {"prompt": "x"}}, "options.prompt"),
    "an option of another type": ({"model": "classes", "options": {"condition": 5}}, "options.condition"),
    "another verb": ({"model": "classes", "verb": "correct"}, "verb"),
    "too many": ({"model": "classes", "count": 10**6}, "count"),
    "a seed beyond": ({"model": "classes", "seed": 2**63}, "seed"),
    "standard input": ({"model": "text", "options": {"prompt": "-"}}, "options.prompt"),
    "a file of the server": ({"model": "speech", "options": {"file": "/etc/passwd"}}, "options.file"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_a_job_is_refused_at_once(http, what):
    asked, where = BAD[what]
    response = http.post("/v1/jobs", json=asked)
    if response.status_code == 202:  # what is found only when the options are read
        job = ended(http, response.json()["id"])
        assert job["status"] == "failed"
        assert job["error"]["message"].startswith(where)
        return
    assert response.status_code in (400, 404)
    assert response.json()["error"]["param"].startswith(where)


def test_jobs_that_fail_say_why(http):
    job = ended(
        http, http.post("/v1/jobs", json={"model": "classes", "options": {"condition": ["zebra"]}}).json()["id"]
    )
    assert job["status"] == "failed"
    assert "no class is called 'zebra'" in job["error"]["message"]


# ------------------------------------------------------------------------------------------------- over a restart


def test_a_job_that_is_half_done_when_the_server_stops_ends_in_the_same_bytes(runs, tmp_path):
    asked = {
        "model": "classes",
        "count": 2,
        "steps": 1000,
        "seed": 4,
        "reproducible": True,
        "options": {"condition": ["bar"]},
    }
    with serving([runs / "classes"], tmp_path / "whole.db") as (url, _, _), httpx.Client(base_url=url) as http:
        whole = ended(http, http.post("/v1/jobs", json=asked).json()["id"])
        expected = [http.get(file["url"]).content for file in whole["files"]]
    with (
        serving([runs / "classes"], tmp_path / "jobs.db", grace=0.0) as (url, service, _),
        httpx.Client(base_url=url) as http,
    ):
        id = http.post("/v1/jobs", json=asked).json()["id"]
        while service.engine.evaluations < 200:
            time.sleep(0.01)
    store = Store(url=f"sqlite:///{tmp_path / 'jobs.db'}")
    assert store.get(id).status == "queued"
    assert store.file(id, 0, role="state") is not None
    store.close()
    with serving([runs / "classes"], tmp_path / "jobs.db") as (url, service, _), httpx.Client(base_url=url) as http:
        job = ended(http, id)
        assert [http.get(file["url"]).content for file in job["files"]] == expected
        assert job["progress"] == whole["progress"]
        assert service.engine.evaluations < 2000 - 150  # what had been made was not made again


def test_a_job_whose_server_died_is_claimed_again_by_one_server(runs, tmp_path, monkeypatch):
    """The lease of the dead one has run out; two others share its database."""
    store = Store(url=f"sqlite:///{tmp_path / 'jobs.db'}", owner="dead")
    job, _ = store.add({"model": "classes", "count": 1, "steps": 5})
    assert store.claim().id == job.id
    assert store.claim() is None
    others = [Store(url=f"sqlite:///{tmp_path / 'jobs.db'}") for _ in range(2)]
    assert all(other.claim() is None for other in others)
    now = time.time()
    monkeypatch.setattr("langevin.server.store.time.time", lambda: now + LEASE + 1)
    assert [other.claim() is not None for other in others] == [True, False]
    assert not store.end(job.id, "completed")  # it wakes up, and the job is not its own any more
    assert others[0].end(job.id, "completed")


def test_jobs_wait_for_room_and_a_full_server_stops_at_once(runs, tmp_path):
    """One request at a time: the others stay in the queue, and go on after the next start."""
    with serving([runs / "classes"], tmp_path / "jobs.db", pending=1, grace=0.0) as (url, service, _):
        with httpx.Client(base_url=url) as http:
            asked = {"model": "classes", "count": 1, "steps": 4000}
            ids = [http.post("/v1/jobs", json={**asked, "seed": i}).json()["id"] for i in range(3)]
            while service.engine.evaluations < 20:
                time.sleep(0.01)
        begun = time.monotonic()
    assert time.monotonic() - begun < 10
    store = Store(url=f"sqlite:///{tmp_path / 'jobs.db'}")
    assert {store.get(id).status for id in ids} == {"queued"}
    assert sum(store.file(id, 0, role="state") is not None for id in ids) == 1
    store.close()


def test_a_server_does_not_claim_what_it_runs_itself(tmp_path, monkeypatch):
    """Its lease has run out, as after a long sleep of the machine."""
    store = Store(url=f"sqlite:///{tmp_path / 'jobs.db'}")
    id = store.add({"model": "classes", "count": 1})[0].id
    assert store.claim().id == id
    now = time.time()
    monkeypatch.setattr("langevin.server.store.time.time", lambda: now + LEASE + 1)
    assert store.claim((id,)) is None
    store.renew({id: (1, 2)})
    assert store.claim() is None
    store.close()


def test_a_state_of_other_weights_is_not_taken_up():
    content = save(Suspended(results=(), states={}, evaluations=3).tensors(), {"weights": "run step-4"})
    assert state_of(content, "run step-4").evaluations == 3
    assert state_of(content, "run step-8") is None
    assert state_of(content[:20], "run step-4") is None
    assert state_of(b"", "run step-4") is None


def test_music_comes_with_its_files(tmp_path):
    """A melody is sent along, and comes back harmonised."""
    run = tiny.run_of(scores.chorales(tmp_path / "data"), tmp_path / "run", "data.context_length=16")
    melody = base64.b64encode(scores.tune(tmp_path / "tune").read_bytes()).decode()
    with serving([run], tmp_path / "jobs.db") as (url, _, _), httpx.Client(base_url=url, timeout=60) as http:
        asked = {"model": "run", "count": 2, "options": {"melody": melody, "avoid_parallels": True}}
        job = ended(http, http.post("/v1/jobs", json=asked).json()["id"])
        assert job["status"] == "completed", job
        assert all(http.get(file["url"]).content[:4] == b"MThd" for file in job["files"])
        refused = http.post("/v1/jobs", json={"model": "run", "options": {"soundfont": "/etc/passwd"}})
        assert refused.json()["error"]["param"] == "options.soundfont"


def test_key_frames_are_sent_along_and_kept(tmp_path):
    """A motion is a file of a request, and its poses are in the file that comes back."""
    run = tiny.run_of(motions.walks(tmp_path / "data"), tmp_path / "run", "data.window=32")
    walk = base64.b64encode(Path(motions.one(tmp_path / "walk")).read_bytes()).decode()
    with serving([run], tmp_path / "jobs.db") as (url, _, _), httpx.Client(base_url=url, timeout=60) as http:
        options = {"keyframes": walk, "times": [0.0, 1.0], "action": ["walk"]}
        asked = {"model": "run", "count": 1, "options": options}
        found = http.get("/v1/runs/run").json()
        assert set(found["choices"]["action"]) == {"run", "stand", "walk"}
        job = ended(http, http.post("/v1/jobs", json=asked).json()["id"])
        assert job["status"] == "completed", job
        text, film = (http.get(file["url"]).content for file in job["files"])
        assert film[:3] == b"GIF"
        (tmp_path / "back.bvh").write_bytes(text)
        own, back = (bvh.read(path) for path in (tmp_path / "walk" / "walk.bvh", tmp_path / "back.bvh"))
        apart = [
            float((own.skeleton.positions_of(own.values[i]) - back.skeleton.positions_of(back.values[i])).abs().max())
            for i in (0, 10, 20)
        ]
        assert max(apart[0], apart[2]) < 1e-4 < apart[1]
        refused = http.post("/v1/jobs", json={"model": "run", "options": {"keyframes": walk, "times": [9.0]}})
        assert "beyond the end" in ended(http, refused.json()["id"])["error"]["message"]


def test_parts_are_drawn_after_the_one_that_is_sent_along(tmp_path):
    """A joint run: a caption after a picture, a picture after a caption, and both of one file each."""
    run, data = tmp_path / "run", pictures.captions(tmp_path / "pictures", side=32, count=60)
    changes = [change for change in tiny.SMALL if "=32" not in change]
    words = ["train", "joint/caption-emoji", f"data.parts.picture.path={data}", "--out", str(run), "training.steps=2"]
    assert main([*words, "network.width=32", *changes]) == 0
    sent = base64.b64encode((data / "003.png").read_bytes()).decode()
    with serving([run], tmp_path / "jobs.db") as (url, _, _), httpx.Client(base_url=url, timeout=60) as http:
        for options in ({"given": sent, "only": ["caption"]}, {"text": ["red disc"]}, {}):
            job = ended(http, http.post("/v1/jobs", json={"model": "run", "count": 2, "options": options}).json()["id"])
            assert job["status"] == "completed", job
            assert all(http.get(file["url"]).content for file in job["files"])
        refused = http.post("/v1/jobs", json={"model": "run", "options": {"only": ["captoin"]}})
        assert "did you mean 'caption'" in str(ended(http, refused.json()["id"])["error"])


def test_the_card_of_a_run_is_read(http):
    answer = http.get("/v1/runs/classes/card")
    assert answer.headers["content-type"].startswith("text/markdown")
    assert "Training data" in answer.text
    assert http.get("/v1/runs/nothing/card").status_code == 404


def test_a_server_leaves_jobs_of_runs_that_it_does_not_serve(runs, tmp_path):
    """They wait for one that does, and do not fail."""
    with serving([runs / "classes"], tmp_path / "jobs.db") as (url, _, store), httpx.Client(base_url=url) as http:
        other, _ = store.add({"model": "captions", "count": 1, "seed": 0, "steps": 2})
        own = http.post("/v1/jobs", json={"model": "classes", "count": 1, "steps": 2}).json()["id"]
        assert ended(http, own)["status"] == "completed"
        assert store.get(other.id).status == "queued"
    with serving([runs / "captions"], tmp_path / "jobs.db") as (url, _, _), httpx.Client(base_url=url) as http:
        assert ended(http, other.id)["status"] == "completed"


def test_a_cascade_of_served_runs_gives_the_images_of_the_two_draws(tmp_path):
    """Runs are named as they are served; what is drawn is compared with the data of the run that drew it last."""
    from langevin.modalities.image.options import Sample

    data = pictures.classes(tmp_path / "data", side=16)
    small = tiny.run_of(data, tmp_path / "runs" / "small", "data.size=8")
    large = tiny.run_of(data, tmp_path / "runs" / "large", "data.size=16", "data.enlarge=8", tiny.DIT)
    rules = Rules(near_copies="hold", allowed=("bar", "disc"))
    options = {"condition": ["bar"], "enlarge": ["large"]}
    asked = {"model": "small", "count": 2, "seed": 4, "options": options, "reproducible": True}
    with (
        serving([tmp_path / "runs"], tmp_path / "jobs.db", rules=rules) as (url, _, _),
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        job = ended(http, http.post("/v1/jobs", json=asked).json()["id"])
        assert job["status"] == "completed", job
        assert job["progress"]["done"] == job["progress"]["total"] == 12
        base, enlarger = (load_model(open_run(run))[0] for run in (small, large))
        model = replace(base, others={"enlarge-0": enlarger})
        expected = alone(model, Sample(condition=("bar",), enlarge=("large",)), count=2, seed=4)
        for listed, wanted in zip(job["files"], expected.values, strict=True):
            content = http.get(listed["url"]).content
            pixels = Image.open(io.BytesIO(content)).convert("RGB")
            assert torch.equal(torch.tensor(list(pixels.tobytes())), wanted.permute(1, 2, 0).flatten().long())
            assert "--enlarge large" in extract(content)["command"]
        for named, message in ((str(large), "there is no model"), ("small", "--enlarge small enlarges nothing")):
            wrong = {"model": "small", "options": {"enlarge": [named]}}
            assert message in str(ended(http, http.post("/v1/jobs", json=wrong).json()["id"])["error"])
