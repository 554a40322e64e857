"""Spectrograms are those of librosa and of the formula, and their inverses come back."""

import math

import librosa
import numpy as np
import pytest
import torch

from langevin.modalities.speech.codec import LogMel, Waveform, peak_normalised
from langevin.modalities.speech.preview import picture
from langevin.modalities.speech.signal import STFT, mel_filters, mel_inverse, together
from tests.voices import RATE, vowel


def sung(seconds=0.5, word="ah"):
    return peak_normalised(torch.from_numpy(vowel(word, 140, seconds)).float())


@pytest.mark.slow  # librosa compiles for half a minute
@pytest.mark.parametrize(("n_fft", "hop", "samples"), [(512, 128, 4000), (256, 64, 3999), (400, 160, 1601)])
def test_a_spectrogram_is_that_of_librosa(n_fft, hop, samples):
    x = torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    ours = STFT(n_fft, hop)(x)
    theirs = librosa.stft(x.numpy(), n_fft=n_fft, hop_length=hop, pad_mode="reflect")
    assert ours.shape == theirs.shape
    assert ours.shape[-1] == STFT(n_fft, hop).frames(samples)
    assert np.abs(ours.numpy() - theirs).max() < 1e-4


@pytest.mark.parametrize(("rate", "n_fft", "bins"), [(8000, 512, 64), (16000, 1024, 80), (22050, 1024, 100)])
def test_mel_filters_are_those_of_librosa(rate, n_fft, bins):
    theirs = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=bins, htk=True, norm="slaney")
    ours = mel_filters(rate, n_fft, bins).numpy()
    filled = theirs.sum(1) > 0  # where librosa's filter misses every frequency, ours takes the nearest
    assert np.abs(ours[filled] - theirs[filled]).max() < 1e-6
    assert (ours.sum(1) > 0).all()


def test_the_inverse_of_the_filters_is_one_where_they_are_independent():
    filters, inverse = mel_filters(8000, 512, 20).double(), mel_inverse(8000, 512, 20).double()
    assert torch.allclose(filters @ inverse, torch.eye(20, dtype=torch.float64), atol=1e-5)


def test_a_transform_comes_back():
    x = torch.randn(3, 128 * 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    stft = STFT(512, 128)
    assert torch.allclose(stft.inverse(stft(x)), x, atol=1e-10)


@pytest.mark.slow
def test_griffin_lim_is_that_of_librosa():
    """The same magnitudes, initial phases and momentum give the same signal, without regard to threads."""
    magnitude = STFT(512, 128)(sung()[None].double()).abs()
    angles = torch.zeros_like(magnitude)
    ours = STFT(512, 128).griffin_lim(magnitude, angles, iterations=8)
    theirs = librosa.griffinlim(
        magnitude[0].numpy(), n_iter=8, hop_length=128, n_fft=512, init=None, momentum=0.99, pad_mode="reflect"
    )
    again = STFT(512, 128)
    distance = [(again(y[None]).abs() - magnitude).abs().mean().item() for y in (ours[0], torch.from_numpy(theirs))]
    assert distance[0] == pytest.approx(distance[1], rel=0.02)


def test_griffin_lim_comes_nearer_to_the_magnitude():
    stft = STFT(512, 128)
    magnitude = stft(sung()[None]).abs()
    phase = 2 * math.pi * torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(0))
    far = [(stft(stft.griffin_lim(magnitude, phase, iterations=n)).abs() - magnitude).norm() for n in (0, 4, 32)]
    assert far[0] > 2 * far[1] > 2.2 * far[2]


def fitted(codec=None):
    return (codec or LogMel()).at(RATE).fitted([sung(0.4, word) for word in ("ah", "ee", "oo")], RATE)


def test_a_log_mel_codec_keeps_the_spectrogram():
    """Copies differ in phase, hardly in log-mel; without Griffin-Lim they differ far more."""
    x = sung()
    far = {}
    for iterations in (0, 32):
        codec = fitted(LogMel(iterations=iterations))
        (z,) = codec.encode([x], RATE)
        y = codec.decode(z[None], RATE, torch.tensor([3]))
        assert y.shape == (1, (z.shape[1] - 1) * 128)
        far[iterations] = float((codec.encode([y[0]], RATE)[0] - z[:, : y.shape[1] // 128 + 1]).abs().mean())
    assert far[32] < 0.4
    assert far[0] > 2 * far[32]


def test_encoding_together_is_encoding_alone():
    signals = [sung(0.2), sung(0.53, "ee"), sung(0.05, "oo"), torch.zeros(10)]
    for codec in (fitted(), Waveform().fitted(signals, RATE)):
        together = codec.encode(signals, RATE)
        for signal, z in zip(signals, together, strict=True):
            (alone,) = codec.encode([signal], RATE)
            assert z.shape == alone.shape == (codec.channels, codec.frames(max(len(signal), codec.shortest)))
            assert torch.allclose(z, alone, atol=1e-4)


def test_decoding_together_is_decoding_alone():
    codec = fitted()
    z = torch.stack(codec.encode([sung(0.4), sung(0.4, "ee")], RATE))
    together = codec.decode(z, RATE, torch.tensor([5, 6]))
    for i in range(2):
        assert torch.equal(codec.decode(z[i : i + 1], RATE, torch.tensor([5 + i]))[0], together[i])


@pytest.mark.parametrize("samples", [1, 100, 160, 383, 400, 700])
def test_the_shortest_clips_come_back_from_the_default_codec(samples):
    codec = LogMel().at(8000).fitted([torch.randn(4000) * 0.1], 8000)
    (x,) = codec.encode([torch.randn(samples) * 0.1], 8000)
    signal = codec.decode(x[None], 8000, torch.tensor([3]))[0]
    assert len(signal) == (x.shape[1] - 1) * codec.stride >= 256
    assert bool(torch.isfinite(signal).all())


def test_features_of_the_training_frames_are_standardised():
    signals = [sung(0.4, word) for word in ("ah", "ee", "oo")]
    frames = torch.cat(fitted().encode(signals, RATE), 1)
    assert torch.allclose(frames.mean(1), torch.zeros(64), atol=2e-3)
    assert torch.allclose(frames.std(1), torch.ones(64), atol=2e-3)


def test_a_waveform_codec_is_lossless():
    x = sung(0.3)
    codec = Waveform(patch=32).fitted([x], RATE)
    (z,) = codec.encode([x], RATE)
    y = codec.decode(z[None], RATE, torch.tensor([0]))[0]
    assert torch.allclose(y[: len(x)], x, atol=1e-6)
    assert float(y[len(x) :].abs().sum()) == 0
    assert float(z.std()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("codec", [fitted(), Waveform()])
def test_what_diverged_is_not_decoded(codec):
    z = torch.zeros(1, codec.channels, 9)
    z[0, 0, 3] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        codec.decode(z, RATE, torch.tensor([0]))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"bins": 2}, "4 to 512 bins"), ({"n_fft": 100001}, "n_fft"), ({"n_fft": 512, "hop": 400}, "at most half"),
     ({"iterations": -1}, "iterations")],
)  # fmt: skip
def test_absurd_sizes_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        LogMel(**options)


def test_groups_of_similar_size_hold_everything_within_their_bound():
    sizes = [*torch.randint(1, 100, (200,), generator=torch.Generator().manual_seed(0)).tolist(), 1000]
    groups = list(together(sizes, 400))
    assert sorted(i for group in groups for i in group) == list(range(201))
    assert all(len(g) == 1 or len(g) * max(sizes[i] for i in g) <= 400 for g in groups)
    assert [200] in groups
    assert list(together([], 5)) == []


def test_pictures_of_texts_with_prices_are_drawn():
    signals = [torch.sin(torch.arange(4000) / 20)] * 2
    assert picture(signals, ("$5% of $7", "from $5 #2 to $9"), 8000).startswith(b"\x89PNG")
