"""The real client of OpenAI's API, plain and streaming, on every endpoint."""

import asyncio
import base64
import io
import struct
import time

import httpx2 as httpx
import numpy as np
import openai
import pytest
from PIL import Image

from langevin.modalities.text.options import Chat
from langevin.run.directory import load_model, open_run
from langevin.server.openai.text import between
from tests.serving.driving import alone


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server}/v1", api_key="unused", max_retries=0) as client:
        yield client


def image(data):
    return Image.open(io.BytesIO(base64.b64decode(data)))


def pixels(data):
    return list(image(data).convert("RGB").tobytes())


def test_models_are_the_runs(client):
    names = [model.id for model in client.models.list()]
    assert names == ["blocks", "captions", "classes", "speech", "table", "talk", "text"]
    assert client.models.retrieve("text").owned_by == "langevin"
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("nothing")
    assert refused.value.code == "model_not_found"
    assert refused.value.request_id


def test_images_of_a_class_are_those_of_the_command_line(client, trained):
    from langevin.modalities.image.options import Sample

    found = client.images.generate(
        model="classes",
        prompt="disc",
        n=3,
        size="8x8",
        extra_body={"seed": 5, "num_inference_steps": 4, "sampler": "heun"},
    )
    model = load_model(open_run(trained))[0]
    expected = alone(model, Sample(condition=("disc",)), count=3, seed=5, changes={"steps": 4, "sampler": "heun"})
    assert len(found.data) == 3
    for one, wanted in zip(found.data, expected.values, strict=True):
        own = wanted.permute(1, 2, 0).flatten().tolist()
        assert max(abs(a - b) for a, b in zip(pixels(one.b64_json), own, strict=True)) <= 1


def test_images_stream_with_previews(client):
    """Partial ones come before the image, whose bytes are those of a plain request with the same seed."""
    body = {"seed": 9, "num_inference_steps": 12, "reproducible": True}
    events = list(
        client.images.generate(model="captions", prompt="red disc", stream=True, partial_images=2, extra_body=body)
    )
    kinds = [event.type for event in events]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    plain = client.images.generate(model="captions", prompt="red disc", extra_body=body)
    assert plain.data[0].b64_json == events[-1].b64_json
    assert pixels(events[0].b64_json) != pixels(events[-1].b64_json)


@pytest.mark.parametrize("form", ["png", "webp", "jpeg"])
def test_images_have_the_form_that_is_asked_for(client, form):
    found = client.images.generate(
        model="classes", prompt="", output_format=form, extra_body={"num_inference_steps": 1}
    )
    assert image(found.data[0].b64_json).format.lower() == form


def test_speech_has_the_form_that_is_asked_for(client):
    said = {}
    for form in ("wav", "pcm", "flac", "mp3", "opus"):
        said[form] = client.audio.speech.create(
            model="speech", voice="ben", input="ah", response_format=form, extra_body={"seed": 1, "reproducible": True}
        ).read()
    assert said["wav"][:4] == b"RIFF"
    assert said["flac"][:4] == b"fLaC"
    assert said["opus"][:4] == b"OggS"
    assert said["mp3"][:3] == b"ID3" or said["mp3"][0] == 0xFF
    data = said["wav"].index(b"data")
    (size,) = struct.unpack("<I", said["wav"][data + 4 : data + 8])
    assert said["wav"][data + 8 : data + 8 + size] == said["pcm"]
    with client.audio.speech.with_streaming_response.create(
        model="speech", voice="ben", input="ah", response_format="wav"
    ) as response:
        assert b"".join(response.iter_bytes())[:4] == b"RIFF"


def test_completions_go_on_from_a_prompt_and_fill_gaps(client):
    body = {"seed": 3, "reproducible": True}
    found = client.completions.create(model="text", prompt="the cat", max_tokens=8, n=2, extra_body=body)
    assert found.object == "text_completion"
    assert [choice.index for choice in found.choices] == [0, 1]
    assert found.choices[0].text != found.choices[1].text
    whole = client.completions.create(model="text", prompt="the cat", max_tokens=8, n=2, echo=True, extra_body=body)
    for choice, other in zip(found.choices, whole.choices, strict=True):
        assert other.text == "the cat" + choice.text
    filled = client.completions.create(
        model="text", prompt="the ", suffix=" sea.", max_tokens=6, echo=True, extra_body=body
    )
    assert filled.choices[0].text.startswith("the ")
    assert filled.choices[0].text.endswith(" sea.")


@pytest.mark.parametrize("model", ["text", "blocks"])
def test_completions_stream_what_a_plain_request_gives(client, model):
    """Pieces append; a run that generates blocks sends one after another."""
    body = {"seed": 4, "reproducible": True}
    plain = client.completions.create(model=model, prompt="the cat", max_tokens=20, extra_body=body)
    events = list(client.completions.create(model=model, prompt="the cat", max_tokens=20, stream=True, extra_body=body))
    assert "".join(event.choices[0].text for event in events).rstrip("\n") == plain.choices[0].text.rstrip("\n")
    assert events[-1].choices[0].finish_reason == "length"
    assert (len(events) > 2) == (model == "blocks")


def test_a_dialogue_is_answered(client):
    messages = [{"role": "user", "content": "what do you see?"}]
    body = {"seed": 3, "reproducible": True}
    plain = client.chat.completions.create(model="talk", messages=messages, extra_body=body)
    assert plain.choices[0].message.role == "assistant"
    events = list(client.chat.completions.create(model="talk", messages=messages, stream=True, extra_body=body))
    assert "".join(event.choices[0].delta.content for event in events) == plain.choices[0].message.content


@pytest.mark.parametrize("ranked", [{}, {"best_of": 3}, {"best_of": 3, "reverse_weight": 2.0}])
def test_a_dialogue_is_answered_as_in_the_terminal(client, runs, ranked):
    """With as much of the history as a source holds in training, and the reply that the ranking chooses."""
    turns = [("user", "what do you see?"), ("assistant", "i see the moon."), ("user", "and  now?")]
    messages = [{"role": role, "content": text} for role, text in turns]
    body = {"seed": 3, "reproducible": True, **ranked}
    said = client.chat.completions.create(model="talk", messages=messages, n=2, extra_body=body)
    model = load_model(open_run(runs / "talk"))[0]
    assert model.modality.task.turns == 2
    expected = alone(model, Chat(**ranked).request(turns[1:]), count=2, seed=3)
    assert [choice.message.content for choice in said.choices] == [text.strip() for text in expected.values]


def test_the_asynchronous_client_asks_for_many_at_once(server):
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="unused", max_retries=0) as client:
            many = [
                client.images.generate(model="classes", prompt="bar", extra_body={"seed": i, "num_inference_steps": 3 + i})
                for i in range(8)
            ]  # fmt: skip
            return await asyncio.gather(*many)

    assert len({one.data[0].b64_json for one in asyncio.run(ask())}) == 8


def test_a_stream_that_is_left_ends_its_request(server, http):
    """The connection is closed after the first bytes."""

    def pending():
        lines = http.get("/metrics").text.splitlines()
        return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("langevin_requests")}

    body = {"model": "classes", "prompt": "disc", "stream": True, "partial_images": 3, "num_inference_steps": 9999}
    with httpx.stream("POST", f"{server}/v1/images/generations", json=body, timeout=30) as response:
        assert response.status_code == 200
        assert pending()["langevin_requests_pending"] == 1
    until = time.monotonic() + 5
    while pending()["langevin_requests_pending"] and time.monotonic() < until:
        time.sleep(0.05)
    assert pending()["langevin_requests_pending"] == 0


REFUSALS = {
    "a class that there is not": (lambda c: c.images.generate(model="classes", prompt="zebra"), openai.BadRequestError),
    "a model that there is not": (lambda c: c.images.generate(model="no", prompt="disc"), openai.NotFoundError),
    "a size that it has not": (
        lambda c: c.images.generate(model="classes", prompt="disc", size="1024x1024"), openai.BadRequestError
    ),
    "a link": (
        lambda c: c.images.generate(model="classes", prompt="disc", response_format="url"), openai.BadRequestError
    ),
    "too many": (lambda c: c.images.generate(model="classes", prompt="disc", n=11), openai.BadRequestError),
    "text of a run of images": (lambda c: c.completions.create(model="classes", prompt="a"), openai.BadRequestError),
    "an unknown sampler": (
        lambda c: c.images.generate(model="classes", prompt="disc", extra_body={"sampler": "magic"}),
        openai.BadRequestError,
    ),
    "penalties": (
        lambda c: c.completions.create(model="text", prompt="a", frequency_penalty=1.0), openai.BadRequestError
    ),
    "several prompts": (lambda c: c.completions.create(model="text", prompt=["a", "b"]), openai.BadRequestError),
    "instructions": (
        lambda c: c.chat.completions.create(model="talk", messages=[{"role": "system", "content": "be kind"}]),
        openai.BadRequestError,
    ),
    "messages of nothing": (
        lambda c: c.chat.completions.create(model="talk", messages=[{"role": "user", "content": " "}]),
        openai.BadRequestError,
    ),
    "messages for a run that does not reply": (
        lambda c: c.chat.completions.create(model="text", messages=[{"role": "user", "content": "hello"}]),
        openai.BadRequestError,
    ),
    "a weight among one reply": (
        lambda c: c.chat.completions.create(
            model="talk", messages=[{"role": "user", "content": "hello"}], extra_body={"reverse_weight": 1}
        ),
        openai.BadRequestError,
    ),
    "aac": (
        lambda c: c.audio.speech.create(model="speech", voice="ben", input="ah", response_format="aac"),
        openai.BadRequestError,
    ),
    "an unknown voice": (
        lambda c: c.audio.speech.create(model="speech", voice="alloy", input="ah", response_format="wav"),
        openai.BadRequestError,
    ),
    "too many steps": (
        lambda c: c.images.generate(model="classes", prompt="disc", n=10, extra_body={"num_inference_steps": 9999}),
        openai.BadRequestError,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSALS)
def test_what_cannot_be_done_is_refused_in_the_form_of_openai(client, what):
    request, kind = REFUSALS[what]
    with pytest.raises(kind) as refused:
        request(client)
    assert refused.value.body["message"]
    assert refused.value.body["type"] in ("invalid_request_error", "not_found_error")
    assert "Traceback" not in str(refused.value)


def test_a_request_that_is_left_costs_one_more_step_at_most(server, http):
    """The client gives up after a while; the engine's evaluations stop."""
    impatient = openai.OpenAI(base_url=f"{server}/v1", api_key="unused", max_retries=0, timeout=1.5)
    with pytest.raises(openai.APITimeoutError):
        impatient.images.generate(model="classes", prompt="disc", n=1, extra_body={"num_inference_steps": 9999})

    def evaluations():
        lines = http.get("/metrics").text.splitlines()
        return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("langevin_")}

    time.sleep(1.0)
    before = evaluations()
    time.sleep(1.0)
    assert evaluations()["langevin_function_evaluations"] == before["langevin_function_evaluations"]
    assert before["langevin_requests_pending"] == 0


def picture(array, mode=None):
    out = io.BytesIO()
    Image.fromarray(array, mode).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("listed", [False, True])
def test_the_masked_part_of_an_image_is_drawn_anew(client, listed):
    given = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    alpha = np.full((8, 8), 255, np.uint8)
    alpha[:4] = 0
    image, mask = picture(given), picture(np.dstack([given, alpha]), "RGBA")
    named = ("image.png", image, "image/png")
    found = client.images.edit(
        model="classes", image=[named] if listed else named, mask=("mask.png", mask, "image/png"), prompt="disc", n=2,
        extra_body={"seed": 3, "num_inference_steps": 5},
    )  # fmt: skip
    drawn = [np.frombuffer(bytes(pixels(one.b64_json)), np.uint8).reshape(8, 8, 3) for one in found.data]
    assert all((one[4:] == given[4:]).all() for one in drawn)
    assert (drawn[0][:4] != drawn[1][:4]).any()
    events = list(
        client.images.edit(
            model="classes", image=named, mask=("mask.png", mask, "image/png"), prompt="disc", stream=True,
            partial_images=1, extra_body={"num_inference_steps": 8},
        )
    )  # fmt: skip
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]


def test_edits_that_cannot_be_made_are_refused(client):
    image = ("image.png", picture(np.zeros((8, 8, 3), np.uint8)), "image/png")
    bomb = ("mask.png", picture(np.zeros((8, 8), np.uint8))[:40], "image/png")
    for files in ({"image": image}, {"image": image, "mask": bomb}, {"image": [image, image], "mask": image}):
        with pytest.raises(openai.BadRequestError):
            client.images.edit(model="classes", prompt="disc", **files)


def test_what_a_file_was_made_from_is_read_back(client, http):
    found = client.images.generate(model="classes", prompt="disc", extra_body={"seed": 77})
    content = base64.b64decode(found.data[0].b64_json)
    told = http.post("/v1/content_provenance_checks", files={"file": ("a.png", content)}).json()["results"][0]
    assert (told["outcome"], told["recipe"]["seed"], told["recipe"]["model"]) == ("detected", 77, "classes")
    other = http.post("/v1/content_provenance_checks", files={"file": ("a.png", b"nothing")}).json()["results"][0]
    assert (other["outcome"], other["recipe"]) == ("not_detected", None)


@pytest.mark.parametrize(
    ("text", "prompt", "suffix", "expected"),
    [
        ("My lord, I\nLEO", "My lord, I ", "", "\nLEO"), ("My lord, I go", "My lord, I ", "", "go"),
        ("My lo", "My lord, I ", "", ""), ("a b c", "a", "c", " b "), ("a bc", "a", " c", " b"),
    ],
)  # fmt: skip
def test_what_lies_between_a_prompt_and_a_suffix(text, prompt, suffix, expected):
    assert between(text, prompt, suffix) == expected
