"""Edits of recordings: what is given stays to the bit, what is not is drawn, and what does not fit is refused."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampling import Sampling
from langevin.modalities.modality import Draw, RequestContext
from langevin.modalities.speech.codec import LogMel, Waveform
from langevin.modalities.speech.edit import below, masked, untouched
from langevin.modalities.speech.modality import Speech
from langevin.modalities.speech.options import Edit
from langevin.modalities.speech.plans import Utterance
from langevin.modalities.speech.reconstruct import reconstruct
from langevin.modalities.speech.text.units import Characters
from tests.voices import RATE, spoken, vowel

MEL = LogMel(bins=40, n_fft=256, hop=80)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return spoken(tmp_path_factory.mktemp("voices"))


def fitted(data, **changes):
    speech = Speech(path=str(data), units=Characters(), val_fraction=0.3, seconds=0.6, **changes)
    train, val = speech.open()
    return speech.fitted(train), train, val


@pytest.fixture(scope="module")
def voices(data):
    return fitted(data, codec=MEL)


@pytest.fixture(scope="module")
def patches(data):
    return fitted(data, codec=Waveform(patch=40), context=0.0)


def drawn(voices, options, *, count=2, value=None, chosen=frozenset(), say=lambda line: None):
    """The samples of an edit if every draw were `value`, or what is given of it, and the draws."""
    speech, train, val = voices
    model = SimpleNamespace(sampling=Sampling(), parts=SimpleNamespace(process=Gaussian()), modality=speech)
    context = RequestContext(
        model=model, data=lambda: (train, val), count=count, seed=3, chosen=frozenset(chosen), say=say
    )
    plan, draws, result = speech.plan(options, context), list[Draw](), None
    while True:
        try:
            request = plan.send(result)
        except StopIteration as done:
            return done.value, draws
        draws.append(request)
        result = torch.zeros(len(request.seeds), *request.shape)
        if value is not None:
            result = result + value[..., : request.shape[-1]]


def written(path, signal, *, subtype="PCM_16"):
    soundfile.write(path, signal, RATE, subtype=subtype)
    return str(path)


@pytest.mark.parametrize("which", ["voices", "patches"])
def test_samples_outside_the_mask_stay_to_the_bit_and_those_inside_are_drawn(which, request, tmp_path):
    parts = request.getfixturevalue(which)
    path = written(tmp_path / "clip.wav", 0.3 * vowel("ee", 150, 0.4))
    samples, draws = drawn(parts, Edit(input=path, mask=("0.1,0.2",), text="ee", speaker="ben"))
    samples.save(tmp_path / "out")
    files = sorted((tmp_path / "out").iterdir())
    assert [f.name for f in files] == ["00000-answer_1.wav", "00001-answer_2.wav", "00002-input.wav"]
    given = soundfile.read(path, dtype="int16")[0]
    inside = np.zeros(len(given), dtype=bool)
    inside[800:1600] = True
    for file in files[:2]:
        made = soundfile.read(file, dtype="int16")[0]
        assert (made[~inside] == given[~inside]).all()
        assert (made[inside] != given[inside]).mean() > 0.9
    assert (soundfile.read(files[2], dtype="int16")[0][inside] == 0).all()
    assert len(draws) == 1
    assert draws[0].seeds.tolist() == [3, 4]
    assert samples.num_drawn == 2


def test_what_sounded_in_the_mask_changes_nothing(voices, tmp_path):
    signal = 0.3 * vowel("ee", 150, 0.4)
    loud = signal.copy()
    loud[800:1600] = 0.99
    made = [
        drawn(voices, Edit(input=written(tmp_path / f"{i}.wav", one), mask=("0.1,0.2",), text="ee"))
        for i, one in enumerate((signal, loud))
    ]
    (first, (a,)), (second, (b,)) = made
    assert all(torch.equal(x, y) for x, y in zip(first.values, second.values, strict=True))
    assert torch.equal(a.condition.concat.tensor, b.condition.concat.tensor)


def test_frames_that_touch_the_mask_are_not_given(voices, patches):
    kept = ~masked(("0.1,0.2",), 3200, RATE)  # 3,200 samples of 8 kHz
    known = untouched(voices[0], kept, 41)
    for frame in range(41):  # of 256 samples around sample 80 frame
        window = kept[max(0, 80 * frame - 128) : 80 * frame + 128]
        assert bool(known[frame]) == bool(window.all())
    known = untouched(patches[0], kept, 80)
    assert [bool(k) for k in known] == [bool(kept[40 * i : 40 * i + 40].all()) for i in range(80)]


def test_a_run_that_reads_context_is_given_frames_and_another_is_guided_by_a_measurement(voices, patches, tmp_path):
    path = written(tmp_path / "clip.wav", 0.3 * vowel("ee", 150, 0.4))
    _, (draw,) = drawn(voices, Edit(input=path, mask=("0.1,0.2",), text="ee"))
    assert draw.shape[1] < 41  # a window around the gap, and not the whole recording
    known = draw.condition.concat.tensor[:, -1].bool()
    assert draw.condition.measurement is None
    assert known.any(1).all()
    assert not draw.sampling.guidance
    _, (guided,) = drawn(voices, Edit(input=path, mask=("0.1,0.2",)))
    seen = guided.condition.measurement
    weight = seen.operator.weight
    assert torch.equal(weight, known[:, None].expand_as(weight).float())
    assert torch.equal(seen.y, draw.condition.concat.tensor[:, :-1])
    assert [one.kind for one in guided.sampling.guidance] == ["mmps"]
    _, (other,) = drawn(patches, Edit(input=path, mask=("0.1,0.2",)))
    assert other.condition.measurement is not None
    assert other.condition.concat is None


def test_a_gap_is_filled_in_phase_with_what_is_around_it(voices):
    """Given the spectrogram of what was there, a tone goes on through the gap."""
    speech = voices[0]
    tone = 0.4 * torch.sin(2 * math.pi * 437 * torch.arange(4000) / RATE)
    kept = ~masked(("0.2,0.25",), 4000, RATE)
    x = speech.encoder.signals([tone])[0]
    made = reconstruct(speech.codec, x, torch.where(kept, tone, 0.0), kept, RATE)
    free = speech.codec.decode(x[None], RATE, torch.tensor([0]))[0]
    assert torch.equal(made[kept], tone[kept])
    gap = ~kept
    assert float((made - tone)[gap].square().mean()) < 0.01 * float(tone[gap].square().mean())
    assert float((free - tone)[:4000][gap].square().mean()) > 0.5 * float(tone[gap].square().mean())


def test_only_what_is_around_a_gap_is_made_anew(voices):
    """A long recording is reconstructed as a short one around the same gap."""
    speech = voices[0]
    random = torch.Generator().manual_seed(0)
    long = 0.1 * torch.randn(40_000, generator=random)
    kept = ~masked(("2.0,2.05",), 40_000, RATE)
    x = speech.encoder.signals([long])[0]
    made = reconstruct(speech.codec, x, torch.where(kept, long, 0.0), kept, RATE)
    assert torch.equal(made[kept], long[kept])
    lost = (~kept).nonzero()[:, 0]
    a, b = int(lost[0]) // 80 - 32, int(lost[-1]) // 80 + 32  # frames
    part = slice(a * 80, (b - 1) * 80)
    alone = reconstruct(speech.codec, x[:, a:b], torch.where(kept, long, 0.0)[part], kept[part], RATE)
    assert torch.equal(made[part], alone)


def test_what_noise_leaves_of_a_sound_is_known_as_well_as_is_said(voices):
    """Over many noises: errors of known bins have the stated spread, and noise alone is known nowhere."""
    speech, std = voices[0], 0.02
    generator = torch.Generator().manual_seed(0)
    t = torch.arange(8000) / RATE
    sound = sum(0.1 * torch.sin(2 * math.pi * 110 * k * t + k * k) for k in range(1, 20))
    noise = std * torch.randn(40, 8000, generator=generator)
    (truth,) = speech.encoder.signals([sound])
    errors = list[torch.Tensor]()
    for x in speech.encoder.signals(list(sound + noise)):
        made = below(speech, Utterance(frames=x.shape[1], aligned=None, speaker=None, text="", name="", x=x), std)
        errors.append(((made.x - truth) / made.error)[made.error.isfinite() & (made.error < 1)])
    z = torch.cat(errors)
    assert len(z) > 1000
    assert abs(float(z.mean())) < 0.5
    assert 0.3 < float(z.square().mean().sqrt()) < 1.2  # filters average over frequencies, so it is less than 1
    (x,) = speech.encoder.signals([noise[0]])
    made = below(speech, Utterance(frames=x.shape[1], aligned=None, speaker=None, text="", name="", x=x), std)
    assert float(made.error.isfinite().double().mean()) < 0.01


def test_noise_is_removed_by_drawing_what_it_drowns(voices, tmp_path):
    random = np.random.default_rng(0)
    signal = 0.3 * vowel("ee", 150, 0.25)
    path = written(tmp_path / "clip.wav", signal + 0.01 * random.standard_normal(len(signal)))
    said = list[str]()
    samples, (draw,) = drawn(voices, Edit(input=path, denoise=0.01), say=said.append)
    weight = draw.condition.measurement.operator.weight
    assert 0.05 < float((weight > 0).double().mean()) < 0.95
    assert not draw.condition.concat.kept().any()  # nothing is known but the measurement, as without any condition
    assert [len(one) for one in samples.values] == [len(signal)] * 3
    assert "of the spectrogram is drawn" in said[0]


def test_another_voice_says_it_at_the_loudness_of_the_input(voices, tmp_path):
    path = written(tmp_path / "clip.wav", 0.3 * vowel("ee", 150, 0.25))
    samples, (draw,) = drawn(voices, Edit(input=path, to="anna", text="ee", strength=0.6))
    assert draw.clean is not None
    assert draw.condition.global_.tensor.tolist() == [voices[0].speakers.index("anna")] * 2
    assert samples.names == ("answer 1", "answer 2", "input")
    assert samples.values[2].numpy() == pytest.approx(soundfile.read(path)[0], abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "nothing to edit: give --mask FROM,TO or --denoise, or --to SPEAKER"),
        ({"mask": ("0.3,0.2",)}, "--mask 0.3,0.2 is no part of a recording of 0.40 seconds"),
        ({"mask": ("1,2",)}, "--mask 1,2 is no part of a recording of 0.40 seconds"),
        ({"mask": ("nan,1",)}, "--mask nan,1 is no part"),
        ({"mask": ("0,0.4",)}, "covers all of the recording"),
        ({"mask": ("0.3,0.5",)}, "--mask 0.3,0.5 is no part"),
        ({"mask": ("a",)}, "--mask a is FROM,TO in seconds"),
        ({"mask": ("0.1,0.2",), "denoise": 0.1}, "do one after the other"),
        ({"mask": ("0.1,0.2",), "to": "anna"}, "do one after the other"),
        ({"denoise": 0.0}, "--denoise is a standard deviation above 0 and at most 1, got 0"),
        ({"denoise": math.nan}, "--denoise is a standard deviation above 0"),
        ({"denoise": 0.1, "method": "context"}, "leave --method out"),
        ({"mask": ("0.1,0.2",), "strength": 0.5}, "--strength goes with --to SPEAKER"),
        ({"mask": ("0.1,0.2",), "speaker": "bn"}, "no speaker is called 'bn'"),
        ({"to": "anna", "text": "ee", "strength": 0.0}, "--strength must be in (0, 1], got 0"),
        ({"to": "anna"}, "--to SPEAKER needs --text"),
        ({"denoise": 1e-9}, "drowns nothing"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(voices, tmp_path, changes, message):
    path = written(tmp_path / "clip.wav", 0.3 * vowel("ee", 150, 0.4))
    with pytest.raises(ValueError, match=re.escape(message)):
        drawn(voices, Edit(input=path, **changes))


def test_guidance_that_leads_nowhere_is_refused(voices, tmp_path):
    path = written(tmp_path / "clip.wav", 0.3 * vowel("ee", 150, 0.25))
    context = RequestContext(model=None, data=lambda: (None, None), guided=True)
    with pytest.raises(ValueError, match="--guidance leads to what is said by whom"):
        voices[0].plan(Edit(input=path, mask=("0.1,0.2",)), context)


def test_silence_and_what_is_no_sound_are_refused(voices, patches, tmp_path):
    silent = written(tmp_path / "silent.wav", np.zeros(4000))
    with pytest.raises(ValueError, match="is silent where it is given"):
        drawn(voices, Edit(input=silent, mask=("0.1,0.2",)))
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(ValueError, match="is no sound that can be read"):
        drawn(voices, Edit(input=str(tmp_path / "text.wav"), mask=("0.1,0.2",)))
    path = written(tmp_path / "clip.wav", 0.3 * vowel("ee", 150, 0.4))
    with pytest.raises(ValueError, match=re.escape("--method context needs a run trained with given context")):
        drawn(patches, Edit(input=path, mask=("0.1,0.2",), method="context"))
    with pytest.raises(ValueError, match="needs a run on spectrograms"):
        drawn(patches, Edit(input=path, denoise=0.1))
