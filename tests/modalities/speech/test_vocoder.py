"""A vocoder run as the codec of another: by its hash and its rate, in samples and in the ceiling alike."""

import json
from dataclasses import replace

import pytest
import torch

from langevin.cli import main
from langevin.modalities.modality import RequestContext
from langevin.modalities.speech import plans
from langevin.modalities.speech.codec import Vocoder
from langevin.run.directory import load_model, open_run
from tests.voices import RATE, spoken

SMALL = ("training.steps=2", "training.batch=4", "network.width=16", "network.depth=1")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocoder")
    data = str(spoken(folder / "data"))
    assert main(["train", "speech/vocoder", "--data", data, "--out", str(folder / "vocoder"), *SMALL]) == 0
    codec = ("data.codec.kind=vocoder", f"data.codec.path={folder / 'vocoder'}", "data.units.kind=characters")
    assert main(["train", data, "--out", str(folder / "voice"), *SMALL, "network.head_dim=16", *codec]) == 0
    return folder


def test_the_vocoder_makes_samples_and_copies(runs):
    """Both are what its network says, one evaluation each, and not what Griffin-Lim would make."""
    run = open_run(runs / "voice")
    model, _ = load_model(run)
    speech, (train, val) = run.recipe.data, run.open_data()
    signals = [val.signal(i) for i in range(2)]
    copies = model.run(plans.copies(speech, signals, ["", ""]))
    assert copies.nfe == 1
    mels = speech.encoder.signals(signals)
    rough = speech.decoded(mels, torch.arange(2))
    assert all(
        len(a) == len(b) and not torch.allclose(a, b, atol=1e-2) for a, b in zip(copies.values, rough, strict=True)
    )
    context = RequestContext(model=model, data=lambda: (train, val), count=2)
    assert model.run(speech.plan_like(val, context)).nfe == model.sampling.steps + 1


def test_other_weights_are_refused(runs):
    recipe = runs / "voice" / "recipe.yaml"
    known = open_run(runs / "voice").recipe.data.codec.sha256
    text = recipe.read_text()
    try:
        recipe.write_text(text.replace(known, "a" * 64))
        with pytest.raises(ValueError, match="has other weights than when this run was trained"):
            load_model(open_run(runs / "voice"))
    finally:
        recipe.write_text(text)


def test_what_is_no_vocoder_for_the_data_is_refused(runs):
    vocoder = Vocoder(path=str(runs / "vocoder"))
    assert vocoder.read(RATE).mel.mean
    with pytest.raises(ValueError, match="is of 8000 samples per second, and the recordings are of 16000"):
        vocoder.read(16_000)
    for path in (runs / "voice", runs / "nothing"):
        with pytest.raises(ValueError, match="no vocoder for this data"):
            replace(vocoder, path=str(path)).read(RATE)


def test_the_report_of_a_vocoder_is_beside_griffin_lim(runs):
    assert main(["evaluate", str(runs / "vocoder"), "--count", "8"]) == 0
    figures = json.loads((runs / "vocoder" / "evaluation.json").read_text())
    assert figures["real"]["mel_distance"] == 0
    assert figures["Griffin-Lim, 32"]["mel_distance"] < figures["Griffin-Lim, 0"]["mel_distance"]
