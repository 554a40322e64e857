"""Files say what they were made from: what is written is read, and pixels, samples and notes stay the same."""

import io
import json
import shlex
import wave

import mido
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from langevin.cli import main
from langevin.embed import embed, extract
from langevin.modalities.sound import wav
from tests import scores

FACTS = {
    "command": "langevin sample runs/a --seed 3",
    "seed": 3,
    "steps": 20,
    "sampler": "ddim",
    "prompt": "Bär \u2603",
}


def png(seed=0):
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 7, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


def midi(folder):
    return scores.tune(folder).read_bytes()


@pytest.fixture(params=["png", "wav", "midi"])
def content(request, tmp_path):
    return {"png": png, "wav": lambda: wav(torch.sin(torch.arange(101) / 5), 8000), "midi": lambda: midi(tmp_path)}[
        request.param
    ]()


def test_what_is_embedded_is_read_back_and_replaces_what_was_there(content):
    assert extract(content) is None
    once = embed(content, FACTS)
    assert extract(once) == FACTS
    other = embed(once, {"seed": 4})
    assert extract(other) == {"seed": 4}
    assert embed(other, FACTS) == once


def test_pixels_stay_the_same_and_galleries_find_their_text():
    before, after = (Image.open(io.BytesIO(content)) for content in (png(), embed(png(), FACTS)))
    assert before.tobytes() == after.tobytes()
    assert after.text["parameters"].splitlines() == [
        "B\u00e4r ?",
        "Steps: 20, Sampler: ddim, Seed: 3, Version: langevin",
    ]
    assert json.loads(after.text["langevin"]) == FACTS


def test_samples_and_notes_stay_the_same(tmp_path):
    for length in (100, 101):
        sound = wav(torch.sin(torch.arange(length) / 5), 8000)
        with wave.open(io.BytesIO(sound)) as before, wave.open(io.BytesIO(embed(sound, FACTS))) as after:
            assert before.getparams() == after.getparams()
            assert before.readframes(200) == after.readframes(200)
    tune = midi(tmp_path)
    before, after = (mido.MidiFile(file=io.BytesIO(content)) for content in (tune, embed(tune, FACTS)))
    assert [list(track) for track in after.tracks[:-1]] == [list(track) for track in before.tracks]
    assert not any(message.type.startswith("note") for message in after.tracks[-1])


@given(data=st.binary(max_size=60), cut=st.integers(0, 400), flip=st.integers(0, 400))
def test_damaged_files_are_read_as_facts_or_as_none(data, cut, flip):
    for whole in (embed(png(), FACTS), embed(wav(torch.zeros(50), 8000), FACTS)):
        broken = bytearray(whole[: max(0, len(whole) - cut)])
        if flip < len(broken):
            broken[flip] ^= 0xFF
        found = extract(bytes(broken) + data)
        assert found is None or isinstance(found, dict)
    assert extract(data) is None


def test_a_command_in_a_file_makes_the_same_file_again(trained, tmp_path, capsys):
    out = tmp_path / "all"
    assert (
        main(["sample", str(trained), "--condition", "bar", "disc", "--count", "3", "--seed", "8", "--out", str(out)])
        == 0
    )
    files = sorted(out.iterdir())
    facts = [extract(file.read_bytes()) for file in files]
    assert [(one["index"], one["seed"], one["prompt"]) for one in facts] == [
        (0, 8, "bar"),
        (1, 9, "disc"),
        (2, 10, "bar"),
    ]
    assert len({one["command"] for one in facts}) == 1
    words = shlex.split(facts[0]["command"])
    assert words[:2] == ["langevin", "sample"]
    assert main([*words[1:], "--out", str(tmp_path / "again")]) == 0
    assert [file.read_bytes() for file in sorted((tmp_path / "again").iterdir())] == [
        file.read_bytes() for file in files
    ]
    capsys.readouterr()
    assert main(["inspect", str(files[1]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == facts[1]
