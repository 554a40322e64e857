"""A server with a key: its samples are told apart from others, by their noise."""

import io

import httpx2 as httpx
import pytest
from PIL import Image

from langevin.cli import main
from langevin.server.store import Store
from langevin.server.watermark import Watermark, once
from tests import texts, tiny
from tests.server.conftest import serving
from tests.server.test_jobs import ended

KEY = b"a secret of more than thirty-two letters"


@pytest.fixture(scope="module")
def marked(runs, tmp_path_factory):
    with (
        serving([runs / "classes", runs / "speech"], tmp_path_factory.mktemp("marked") / "jobs.db", key=KEY) as (
            url,
            _,
            _,
        ),
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        yield http


def checked(http, content, **fields):
    files = {"file": ("a.png", content)}
    results = http.post("/v1/content_provenance_checks", files=files, data=fields).json()["results"]
    return [one for one in results if one["type"] == "noise_watermark"]


def again(content, form="PNG", **options):
    """An image written anew, without what its file says."""
    out = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(out, form, **options)
    return out.getvalue()


def test_samples_are_found_again_without_what_their_files_say(marked):
    job = marked.post("/v1/jobs", json={"model": "classes", "count": 2, "steps": 20}).json()
    other = marked.post("/v1/jobs", json={"model": "classes", "count": 2, "steps": 20}).json()
    assert job["request"]["seed"] != other["request"]["seed"]  # a fresh one each
    content = [marked.get(file["url"]).content for file in ended(marked, job["id"])["files"]]
    for i, one in enumerate(content):
        [found] = checked(marked, again(one))
        assert (found["outcome"], found["model"], found["seed"]) == ("detected", "classes", job["request"]["seed"] + i)
        assert 0 < found["p_value"] < 1e-6
    [found] = checked(marked, again(content[0], "JPEG", quality=90), model="classes")
    assert found["log10_p_value"] < -3
    noise = io.BytesIO()
    Image.effect_noise((8, 8), 60).convert("RGB").save(noise, "PNG")
    [found] = checked(marked, noise.getvalue())
    assert (found["outcome"], found["seed"]) == ("not_detected", None)
    assert checked(marked, b"no image") == []
    assert (
        marked.post(
            "/v1/content_provenance_checks", files={"file": ("a.png", content[0])}, data={"model": "nothing"}
        ).status_code
        == 404
    )


def test_openai_samples_are_marked_too_and_their_files_do_not_tell_the_noise(marked):
    import base64

    body = {"model": "classes", "prompt": "disc", "num_inference_steps": 20, "response_format": "b64_json"}
    image = base64.b64decode(marked.post("/v1/images/generations", json=body).json()["data"][0]["b64_json"])
    assert checked(marked, again(image))[0]["outcome"] == "detected"


def test_the_samples_of_a_server_without_a_key_are_not_found(marked, http):
    job = http.post("/v1/jobs", json={"model": "classes", "count": 1, "steps": 20, "seed": 5}).json()
    [file] = ended(http, job["id"])["files"]
    content = http.get(file["url"]).content
    ended(marked, marked.post("/v1/jobs", json={"model": "classes", "count": 1, "steps": 20, "seed": 5}).json()["id"])
    assert checked(marked, again(content))[0]["outcome"] == "not_detected"
    assert checked(http, again(content)) == []


def test_texts_are_found_at_the_number_of_steps_that_they_were_drawn_with(tmp_path):
    free = (
        "data.codec.kind=characters",
        "network.ngram_order=0",
    )  # n-grams leave little to chance
    run = tiny.run_of(texts.corpus(tmp_path / "data"), tmp_path / "text", "data.task.context_length=40", *free)
    with (
        serving([run], tmp_path / "jobs.db", key=KEY) as (url, _, _),
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        jobs = [http.post("/v1/jobs", json={"model": "text", "count": 1, "steps": steps}).json() for steps in (8, 32)]
        for job in jobs:
            [file] = ended(http, job["id"])["files"]
            content = http.get(file["url"]).content
            files = {"file": ("a.txt", content)}
            [_, found] = http.post("/v1/content_provenance_checks", files=files).json()["results"]
            assert (found["tried"], found["model"]) == (2, "text")
            assert found["log10_p_value"] < -1  # of 40 tokens
        for nothing in (b"", b"\n\n", b"a" * 100_000):
            answer = http.post("/v1/content_provenance_checks", files={"file": ("a.txt", nothing)})
            assert answer.status_code == 200
            assert all(one["outcome"] == "not_detected" for one in answer.json()["results"])


def test_samples_of_too_few_numbers_are_refused_as_the_command_refuses_them(runs, tmp_path, capsys):
    """A text of 32 tokens can carry no mark: not as a job, not by OpenAI's endpoint, and without a key it is drawn."""
    (tmp_path / "key").write_bytes(KEY)
    assert main(["sample", str(runs / "text"), "--count", "1", "--watermark", str(tmp_path / "key")]) == 1
    told = " ".join(capsys.readouterr().err.split())
    asked = (("/v1/jobs", {"count": 1}), ("/v1/completions", {"prompt": "", "max_tokens": 8}))
    for key in (KEY, None):
        with (
            serving([runs / "text"], tmp_path / "jobs.db", key=key) as (url, _, store),
            httpx.Client(base_url=url, timeout=60) as http,
        ):
            answers = [http.post(path, json={"model": "text", "steps": 2, **body}) for path, body in asked]
            if key is None:
                assert [answer.status_code for answer in answers] == [202, 200]
                ended(http, answers[0].json()["id"])
                continue
            for answer in answers:
                assert answer.status_code == 400
                error = answer.json()["error"]
                assert "is made of 32 random numbers" in error["message"]
                assert error["message"] in told
                assert error["type"] == "invalid_request_error"
            assert store.open_models() == [], "nothing was written down"


def test_each_seed_is_tried_once(tmp_path):
    store = Store(url=f"sqlite:///{tmp_path / 'seeds.db'}")
    mark = Watermark(engine=store.engine)
    for seed, count, steps in ((5, 3, 10), (5, 3, 10), (6, 4, 10), (-2, 1, 10), (100, 2, 20), (5, 1, 10)):
        mark.note("a", seed, count, steps)
    mark.note("b", 7, 1, 10)
    assert {steps: list(once(pairs)) for steps, pairs in mark.seeds("a").items()} == {
        10: [-2, 5, 6, 7, 8, 9], 20: [100, 101],
    }  # fmt: skip
    assert mark.seeds("c") == {}
    store.close()
