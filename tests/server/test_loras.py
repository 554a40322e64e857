"""/v1/loras: adapters are loaded, chosen by a request, swapped and unloaded while the server serves."""

import base64
import io
import json
import shutil

import httpx2 as httpx
import pytest
import torch
from PIL import Image

from langevin.cli import main
from langevin.modalities.modality import Samples
from langevin.run.adapters import FILE
from langevin.run.directory import open_run
from langevin.server.errors import Refused
from langevin.server.keys import Keys
from langevin.server.runs import Runs
from langevin.server.safeguards import ALLOWED, Rules, Safeguards
from langevin.training import checkpoint
from langevin.training.checkpoint import BEST
from tests import pictures
from tests.server.conftest import serving


@pytest.fixture(scope="module")
def folder(trained, captioned, tmp_path_factory):
    """A folder of runs: a base, the same adapted to new classes, and one that has nothing to do with them."""
    place = tmp_path_factory.mktemp("served")
    shutil.copytree(trained, place / "base")
    shutil.copytree(captioned, place / "stranger")
    data = pictures.classes(place.parent / f"{place.name}-data", count=16)
    (data / "disc").rename(data / "ring")
    (data / "bar").rename(data / "rod")
    words = ["adapt", str(place / "base"), str(data), "--out", str(place / "rings"), "--rank", "2", "--count", "0"]
    assert main([*words, "training.steps=4", "training.batch=8"]) == 0
    return place


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    with (
        serving([folder], tmp_path_factory.mktemp("jobs") / "jobs.db") as (url, service, _),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        client.service = service
        yield client


def load(server, id="mine", model="base", **adapter):
    body = {"id": id, "model": model, "adapters": [{"path": "rings", **adapter}]}
    return server.post("/v1/loras", json=body)


def drawn(server, model, prompt="disc"):
    body = {"model": model, "prompt": prompt, "seed": 3, "num_inference_steps": 2, "reproducible": True}
    answer = server.post("/v1/images/generations", json=body)
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))


def pixels(picture):
    return picture.convert("RGB").tobytes()


def test_adapters_are_loaded_chosen_swapped_and_unloaded(server):
    assert server.get("/v1/loras").json() == {"object": "list", "data": []}
    before = pixels(drawn(server, "base"))
    loaded = load(server)
    assert loaded.status_code == 201, loaded.text
    assert loaded.json()["adapters"][0] | {"sha256": "", "weights": 0} == {
        "name": "rings", "weight": 1.0, "kind": "lora", "rank": 2, "weights": 0, "sha256": ""
    }  # fmt: skip
    assert [one["id"] for one in server.get("/v1/loras").json()["data"]] == ["mine"]
    listed = {one["id"]: one for one in server.get("/v1/models").json()["data"]}
    assert listed["mine"]["parent"] == "base"
    assert "parent" not in listed["base"]
    ring = pixels(drawn(server, "mine", "ring"))
    assert ring == pixels(drawn(server, "rings", "ring"))  # the adapted run itself
    assert pixels(drawn(server, "base")) == before
    assert load(server, weight=0.0).status_code == 201
    assert pixels(drawn(server, "mine")) == before
    assert load(server, weight=0.5).status_code == 201
    half = drawn(server, "mine", "ring")
    assert pixels(half) not in (ring, before)
    assert json.loads(half.text["langevin"])["adapters"] == ["rings:0.5"]
    assert server.delete("/v1/loras/mine").json() == {"id": "mine", "object": "lora", "deleted": True}
    assert server.delete("/v1/loras/mine").status_code == 404
    gone = server.post("/v1/images/generations", json={"model": "mine", "prompt": "ring"})
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "model_not_found")
    assert pixels(drawn(server, "base")) == before


def test_a_job_names_adapters_and_a_file_is_as_good_as_its_run(server):
    assert load(server, id="file", path=f"rings/{FILE}").status_code == 201
    body = {"model": "file", "count": 1, "seed": 1, "steps": 2, "options": {"condition": ["rod"]}}
    assert server.post("/v1/jobs", json=body).status_code < 300
    assert server.get("/v1/runs/file").json()["id"] == "file"
    server.delete("/v1/loras/file")


def test_what_does_not_fit_is_refused(server, folder, tmp_path):
    def error(answer):
        return answer.status_code, answer.json()["error"]["message"]

    assert error(load(server, id="base"))[0] == 409
    assert error(load(server, id="a/b"))[0] == 409
    status, said = error(load(server, model="stranger"))
    assert status == 400
    assert "changes the weights" in said
    assert error(load(server, model="nobody"))[0] == 404
    shutil.copytree(folder / "rings", tmp_path / "rings")
    for path in ("../rings", str(tmp_path / "rings"), "nothing", "rings/../../.."):
        assert "there is no adapter" in error(load(server, path=path))[1]
    assert "has no adapter.safetensors" in error(load(server, path="base"))[1]
    (folder / "rings" / "bad.safetensors").write_bytes(b"12345678901234567890")
    assert "is damaged" in error(load(server, path="rings/bad.safetensors"))[1]
    assert error(load(server, weight=1e9))[0] in (400, 422)
    assert load(server).status_code == 201
    assert "has adapters already" in error(load(server, id="twice", model="mine"))[1]
    server.delete("/v1/loras/mine")


def test_only_trainers_load_and_unload(folder, tmp_path):
    (tmp_path / "keys").write_text("reader 0123456789abcdef\nowner fedcba9876543210 trainer\n")
    keys = Keys.read(tmp_path / "keys")
    with (
        serving([folder], tmp_path / "jobs.db", keys=keys) as (url, _, _),
        httpx.Client(base_url=url, timeout=60) as one,
    ):
        one.headers["Authorization"] = "Bearer 0123456789abcdef"
        assert load(one).status_code == 403
        assert one.delete("/v1/loras/mine").status_code == 403
        assert one.get("/v1/loras").status_code == 200
        one.headers["Authorization"] = "Bearer fedcba9876543210"
        assert load(one).status_code == 201


def test_a_name_is_never_that_of_another_model(folder):
    """A run that appears later keeps its name, and what is unloaded while it is loaded is not the run alone."""
    runs = Runs(folders=[folder])
    runs.adapt("later", "base", [("rings", 1.0)])
    path, adapted = runs.find("later")
    assert (path, adapted) == (folder / "base", runs.adapted["later"])
    shutil.copytree(folder / "stranger", folder / "later")
    assert runs.find("later") == (folder / "later", None)
    assert runs.open("later").recipe == open_run(folder / "later").recipe
    with pytest.raises(Refused, match="name of a run"):
        runs.adapt("later", "base", [("rings", 1.0)])
    shutil.rmtree(folder / "later")
    read, runs._read = runs._read, lambda *args: (runs.adapted.clear(), read(*args))[1]
    assert runs.load("later").model.adapters == ("rings:1",)
    with pytest.raises(Refused, match="no model"):
        runs.load("later")


def test_samples_of_adapters_are_compared_with_what_these_were_trained_on(folder, tmp_path):
    runs, run = Runs(folders=[folder]), open_run(folder / "rings")
    (folder / "loose").mkdir()
    shutil.copy(folder / "rings" / FILE, folder / "loose" / FILE)
    loaded = runs.adapt("both", "base", [("rings", 1.0), (f"loose/{FILE}", 0.5)])
    data = str(run.facts["data"])
    assert loaded.data == ((folder / "rings", data), (folder / "loose" / FILE, data))
    values = run.open_data()[0].read(torch.tensor([1]))
    samples, guard = Samples(modality=run.recipe.data, values=values), Safeguards(rules=Rules(near_copies="deny"))
    said = guard.samples("x", samples, folder / "stranger", "", ALLOWED, loaded.data)
    assert (said.verdict, said.check) == ("deny", "near_copies")
    shutil.rmtree(folder / "loose")


def test_weights_of_a_lesser_loss_are_loaded(folder):
    """What a run draws with changes at an evaluation, after the checkpoint of that step is written."""
    shutil.copytree(folder / "base", folder / "kept")
    try:
        recipe = folder / "kept" / "recipe.yaml"
        recipe.write_text(recipe.read_text().replace("keep_best: false", "keep_best: true"))
        runs, run = Runs(folders=[folder]), open_run(folder / "kept")
        first = runs.load("kept")
        assert runs.load("kept") is first
        saved, _ = checkpoint.load_latest(run.checkpoints)
        checkpoint.save(run.checkpoints / BEST, run.last_step, saved.groups, saved.state)
        second = runs.load("kept")
        assert second is not first
        assert second.name != first.name
    finally:
        shutil.rmtree(folder / "kept")
