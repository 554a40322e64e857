"""A vocoder run as the codec of another: by its hash and its rate, in samples and in the ceiling alike."""

import json
from dataclasses import replace

import pytest
import soundfile
import torch

from langevin.cli import main
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.modality import RequestContext
from langevin.modalities.speech import plans
from langevin.modalities.speech.codec import LogMel, Vocoder
from langevin.modalities.speech.modality import Speech
from langevin.run.directory import load_model, open_run
from tests.voices import RATE, spoken, vowel

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
        with pytest.raises(ValueError, match=r"the vocoder .* where there is one with other weights"):
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


def test_windows_have_the_spectrogram_of_the_whole_recording(tmp_path):
    """The windows of long recordings are cut with what their first and last frames reach, and encoded alone."""
    for number, pitch in enumerate((110, 150, 190, 230)):
        soundfile.write(tmp_path / f"{number}.wav", vowel("ah", pitch, 1.1, seed=number), RATE)
    speech = Speech(path=str(tmp_path), vocoder=LogMel(bins=40), seconds=0.2, val_fraction=0.3)
    train, _ = speech.open()
    speech = speech.fitted(train)
    batches, hop = speech.batches(train, device=torch.device("cpu")), speech.vocoder.stride
    items = torch.arange(400) % len(train)
    batch = batches(items, SampleNoise(seeds=torch.arange(400), steps=torch.zeros(400, dtype=torch.int64)))
    starts = set()
    for row, item in enumerate(items.tolist()):
        signal, frames = train.signal(item), int(batch.condition.data_mask[row].sum())
        x = batch.x[row, :, :frames].T.flatten() * speech.codec.std
        starts_at = signal[: len(signal) // hop * hop].view(-1, hop)
        start = int((starts_at - x[:hop]).abs().sum(1).argmin())
        assert torch.allclose(signal[start * hop : start * hop + len(x)], x, atol=1e-6)
        whole = speech.vocoder.encode([signal], RATE)[0]
        assert torch.allclose(
            batch.condition.concat.tensor[row, :, :frames], whole[:, start : start + frames], atol=1e-4
        )
        starts.add(start)
    assert 0 in starts
    assert max(starts) == len(signal) // hop - speech.window
