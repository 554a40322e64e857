"""Requests of speech: windows, what is given is kept, what does not fit is refused, and splices say what they say."""

import io
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampling import Sampling
from langevin.modalities.modality import Draw, Predict, RequestContext, Samples
from langevin.modalities.speech import alignment
from langevin.modalities.speech.alignment import Monotonic
from langevin.modalities.speech.codec import LogMel, Waveform
from langevin.modalities.speech.examples import Splice, SplicedExamples
from langevin.modalities.speech.modality import Speech
from langevin.modalities.speech.options import Sample
from langevin.modalities.speech.plans import windows_of
from langevin.modalities.speech.text.units import Characters
from langevin.modalities.speech.timeline import word_durations
from tests.voices import RATE, spoken, vowel


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """A fitted modality of waveforms, which decode exactly, and its parts."""
    folder = spoken(tmp_path_factory.mktemp("voices"))
    speech = Speech(path=str(folder), codec=Waveform(patch=40), units=Characters(), val_fraction=0.3, seconds=0.3)
    train, val = speech.open()
    return speech.fitted(train), train, val


def drawn(voices, options, *, count=None, seed=0, value=7.0) -> tuple[Samples, list[Draw]]:
    """The samples of a request if every draw were `value` everywhere, and the draws."""
    speech, train, val = voices
    model = SimpleNamespace(sampling=Sampling(), parts=SimpleNamespace(process=Gaussian()), modality=speech)
    plan = speech.plan(options, RequestContext(model=model, data=lambda: (train, val), count=count, seed=seed))
    draws, result = [], None
    while True:
        try:
            request = plan.send(result)
        except StopIteration as done:
            return done.value, draws
        draws.append(request)
        result = torch.full((len(request.seeds), *request.shape), value)


@pytest.mark.parametrize(
    ("frames", "window", "overlap"), [(10, 10, 2), (11, 10, 2), (100, 16, 4), (17, 16, 4), (5, 16, 4)]
)
def test_windows_cover_all_with_their_overlap(frames, window, overlap):
    windows = windows_of(frames, window, overlap)
    assert windows[0][0] == 0
    assert windows[-1][1] == frames
    assert all(end - start == min(frames, window) for start, end in windows)
    assert all(a[1] - b[0] >= overlap for a, b in pairwise(windows))


def clip(tmp_path, seconds=0.25):
    path = tmp_path / "clip.wav"
    soundfile.write(path, vowel("ee", 150, seconds), RATE, subtype="FLOAT")
    return path


def test_what_is_given_is_kept_and_the_rest_is_made(voices, tmp_path):
    path = clip(tmp_path)
    options = Sample(infill=str(path), from_=0.1, to=0.15, text=("ee",), speaker=("ben",))
    samples, _ = drawn(voices, options, value=0.5)
    sound = soundfile.read(path)[0]
    given = 0.9 / (np.abs(sound).max() + 1e-6) * sound
    made = samples.values[0].numpy()[: len(given)]
    inside = np.zeros(len(given), dtype=bool)
    inside[800:1200] = True
    assert np.abs(made[~inside] - given[~inside]).max() < 1e-5
    assert np.allclose(made[inside], 0.5 * voices[0].codec.std)


def test_a_continuation_begins_with_its_clip(voices, tmp_path):
    samples, draws = drawn(voices, Sample(continue_=str(clip(tmp_path)), text=("ah",), seconds=0.2))
    assert len(samples.values[0]) == 2000 + 1600
    first = draws[0].condition
    assert first.concat.tensor[0, -1, :50].eq(1).all()  # 0.25 s are given


def test_a_voice_says_a_clip_again_from_a_part_of_the_noise(voices, tmp_path):
    _, draws = drawn(voices, Sample(clip=str(clip(tmp_path)), voice="anna", text=("ee",), strength=0.6))
    times = draws[0].sampling.grid(torch.tensor([10]), Gaussian().schedule)
    assert float(times[0, 0]) == pytest.approx(0.6)
    assert draws[0].clean is not None
    assert draws[0].condition.global_.tensor.tolist() == [voices[0].speakers.index("anna")]


def test_a_clip_is_said_again_at_its_own_times(tmp_path):
    """With searched alignments: the second vowel begins after a fifth of the clip, not in its middle."""
    random, lines = np.random.default_rng(0), ["file_name,text,speaker"]
    for number in range(24):
        order = list(random.permutation(["ah", "ee", "oo"])[:2])
        parts = [vowel(word, 120, random.uniform(0.1, 0.4), seed=number) for word in order]
        soundfile.write(tmp_path / f"{number}.wav", np.concatenate(parts), RATE)
        lines.append(f"{number}.wav,{order[0][0]} {order[1][0]},{('anna', 'ben')[number % 2]}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    codec = LogMel(bins=40, n_fft=256, hop=80)
    speech = Speech(
        path=str(tmp_path), codec=codec, units=Characters(), alignment=Monotonic(states=2), val_fraction=0.2
    )
    train, val = speech.open()
    speech = speech.fitted(train)
    sound = np.concatenate([vowel("ee", 150, 0.1), vowel("ah", 150, 0.4)])
    soundfile.write(tmp_path / "clip.wav", sound, RATE)
    units = speech.units_of(train)
    found = alignment.durations_of(speech.alignment, speech, train, units)
    assert all(map(torch.equal, found, alignment.durations(speech.alignment, speech, train.each(), units)))
    assert alignment.durations_of(speech.alignment, speech, train, units) is found  # searched once
    assert len(alignment.durations_of(speech.alignment, speech, val, speech.units_of(val))) == len(val)
    file, text, index = str(tmp_path / "clip.wav"), ("e a",), int(speech.units.units("a")[0])
    again = Sample(clip=file, voice="anna", text=text, strength=0.6)
    mended = Sample(infill=file, from_=0.2, to=0.3, text=text, speaker=("anna",))
    for options in (again, mended):
        _, draws = drawn((speech, train, val), options)
        said = draws[0].condition.aligned.tensor[0, :, index]
        assert abs(int(said.argmax()) - 10) <= 3
        assert said[13:47].all()


def test_units_of_what_is_given_are_withheld_in_half_of_the_examples(voices):
    speech, train, _ = voices
    batches = speech.batches(train, device=torch.device("cpu"))
    items = torch.arange(2000) % len(train)
    condition = batches(
        items, SampleNoise(seeds=torch.arange(2000), steps=torch.zeros(2000, dtype=torch.int64))
    ).condition
    given, inside = condition.concat.tensor[:, -1] > 0, condition.data_mask
    said = condition.aligned.tensor.abs().sum(2) > 0
    assert said[inside & ~given].all()
    rows = given.any(1)
    withheld = (given & ~said).any(1)
    assert torch.equal((given & ~said)[withheld], given[withheld])
    assert abs(float(rows.double().mean()) - 0.2) < 0.04
    assert abs(float(withheld[rows].double().mean()) - 0.5) < 0.12


def test_long_texts_are_made_in_windows_that_continue_each_other(voices):
    samples, draws = drawn(voices, Sample(text=("ah ee oo",), speaker=("ben",), seconds=1.0))
    assert len(samples.values[0]) == 8000
    assert len(draws) == len(windows_of(200, voices[0].window, voices[0].window // 4)) > 2
    assert not draws[0].condition.concat.tensor[:, -1].any()
    assert all(draw.condition.concat.tensor[:, -1].any() for draw in draws[1:])
    assert len({int(draw.seeds[0]) for draw in draws}) == len(draws)


def test_samples_of_one_length_share_a_draw_and_others_do_not(voices):
    _, draws = drawn(voices, Sample(text=("ah",), speaker=("ben",), seconds=0.2), count=3)
    assert [len(draw.seeds) for draw in draws] == [3]
    assert draws[0].condition.data_mask.sum(1).tolist() == [40, 40, 40]


def test_lengths_are_a_function_of_the_seed(voices):
    one, two = (drawn(voices, Sample(text=("ah",), speaker=("ben",)), count=4, seed=seed)[0] for seed in (0, 2))
    lengths = [[len(signal) for signal in samples.values] for samples in (one, two)]
    assert lengths[0][2:] == lengths[1][:2]
    assert len(set(lengths[0])) > 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"text": ("???",)}, "there is nothing to say"),
        ({"text": ("ah",), "speaker": ("bem",)}, "no speaker is called 'bem'; did you mean 'ben'"),
        ({"text": ("ah",), "seconds": 0.0}, "--seconds must be above 0"),
        ({"text": ("ah",), "file": "x"}, "both say what to speak"),
        ({"file": "no-such-file.txt"}, "there is no file"),
        ({"infill": "a.wav", "text": ("ah",)}, "--infill takes --from and --to"),
        ({"from_": 0.1, "text": ("ah",)}, "--infill takes --from and --to"),
        ({"continue_": "a.wav", "infill": "b.wav"}, "three different requests"),
        ({"continue_": "no.wav", "text": ("ah",)}, "no.wav is not a regular file"),
        ({"continue_": "a.wav"}, "--continue needs --text"),
        ({"voice": "ben", "text": ("ah",)}, "give both"),
        ({"strength": 0.5, "text": ("ah",)}, "no effect without --clip"),
    ],
)
def test_requests_that_do_not_fit_are_refused_before_any_work(voices, options, said):
    with pytest.raises(ValueError, match=said):
        drawn(voices, Sample(**options))


def test_a_run_without_texts_is_not_told_what_to_say(voices):
    speech, train, val = voices
    mute = replace(speech, texts=False, speakers=(), context=0.0)
    for options, said in (
        (Sample(text=("ah",)), "trained without transcripts"), (Sample(speaker=("ben",)), "trained without speakers"),
        (Sample(continue_="a.wav"), "data.context=0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            drawn((mute, train, val), options)


def test_lines_of_a_file_and_of_standard_input_are_each_said(voices, tmp_path, monkeypatch):
    (tmp_path / "lines.txt").write_text("ah\n\n ee oo \n")
    for options in (Sample(file=str(tmp_path / "lines.txt")), Sample(text=("-",))):
        monkeypatch.setattr("sys.stdin", io.StringIO("ah\n\n ee oo \n"))
        samples, _ = drawn(voices, options)
        assert [name.partition(": ")[2] for name in samples.names] == ["ah", "ee oo"]


# -------------------------------------------------------------------------------------------------------------- splices


def test_a_splice_is_its_recordings_and_its_units_sound_when_they_do(voices):
    speech, train, _ = voices
    examples = SplicedExamples(
        dataset=train,
        encoder=speech.encoder,
        how=Splice(least=3, most=3, gap=0.1),
        units=speech.units_of(train),
        pause=1,
    )
    noise = SampleNoise(seeds=torch.tensor([4]), steps=torch.tensor([0]))
    joined = examples.spliced(2, noise)
    assert joined.items[0] == 2
    assert len({int(train.labels[i]) for i in joined.items}) == 1
    for (_, start, end), item in zip(joined.parts[::2], joined.items, strict=True):
        inner, recording = joined.signal[start + 40 : end - 40], train.signal(item)[40:-40]
        assert torch.allclose(inner, recording, atol=1e-6)
    frames = speech.codec.frames(len(joined.signal))
    units, durations = joined.units_and_durations(speech.encoder, frames)
    assert int(durations.sum()) == frames
    at = 0
    for part, _, end in joined.parts:
        at += int(durations[: len(part)].sum())
        durations = durations[len(part) :]
        assert abs(at - end / speech.codec.stride) <= 1
    assert examples.text(2, noise) == " ".join(train.texts[i] for i in joined.items)
    assert len(units) == sum(len(part) for part, _, _ in joined.parts)


def test_words_of_a_splice_have_equal_units():
    expected = torch.tensor([1.0, 3.0, 0.5, 1.0, 1.0, 2.0])
    durations = word_durations(torch.tensor([5, 6, 1, 7, 8, 9]), expected, 85, {1})
    assert durations.tolist() == [20, 20, 5, 13, 13, 14]


def test_a_vocoder_run_copies_recordings(tmp_path):
    speech = Speech(path=str(spoken(tmp_path)), vocoder=replace(Speech(path="x").codec, bins=20), val_fraction=0.3)
    train, val = speech.open()
    speech = speech.fitted(train)
    batch = speech.batches(train, device=torch.device("cpu"))(torch.arange(3))
    lengths = batch.condition.data_mask.sum(1).tolist()
    for i, length in enumerate(lengths):  # a short recording is its own window: its samples and its spectrogram
        signal = train.signal(i)
        (mel,) = speech.vocoder.encode([signal], RATE)
        assert torch.allclose(batch.x[i, :, :length].T.flatten() * speech.codec.std, signal[: length * 128], atol=1e-5)
        assert torch.allclose(batch.condition.concat.tensor[i, :, :length], mel[:, :length], atol=1e-4)
    model = SimpleNamespace(sampling=Sampling())
    plan = speech.plan(Sample(), RequestContext(model=model, data=lambda: (train, val), count=2))
    request = plan.send(None)
    assert isinstance(request, Predict)
    assert request.t.tolist() == [1.0] * len(request.x_t)
    with pytest.raises(ValueError, match="this run is a vocoder"):
        speech.plan(Sample(text=("ah",)), RequestContext(model=model, data=lambda: (train, val)))
