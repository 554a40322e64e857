"""An inverse STFT makes the signal whose spectrogram it predicts, frame by frame."""

import pytest
import torch

from langevin.diffusion.condition import Condition, Port
from langevin.networks import InverseSTFT
from langevin.networks.embedding import ConditioningConfig


def built(**options):
    torch.manual_seed(0)
    config = InverseSTFT.Config(
        **{"width": 16, "depth": 2, "channels": 8, "n_fft": 32, **options},
        conditioning=ConditioningConfig(concat_channels=5),
    )
    return config.build().eval()


def given(rows, frames, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Condition(concat=Port(tensor=torch.randn(rows, 5, frames, generator=generator)))


@pytest.mark.parametrize("prior", ["none", "unit", "energy"])
def test_a_predicted_spectrogram_becomes_its_signal(prior):
    """The layers aside: the log-magnitudes and phases of a signal come back as that signal, as by torch.istft."""
    network, frames = built(prior=prior), 12
    x = torch.randn(2, frames * 8, generator=torch.Generator().manual_seed(1))
    window = torch.hann_window(32)
    spectrogram = torch.stft(x, 32, 8, window=window, return_complex=True)[..., :frames]
    h = torch.cat([spectrogram.abs().clamp_min(1e-9).log(), spectrogram.angle()], 1).transpose(1, 2)
    y = network._signal(h, None).transpose(1, 2).flatten(1)
    assert torch.allclose(y[:, : (frames - 3) * 8], x[:, : (frames - 3) * 8], atol=1e-4)


def test_the_prior_decides_whether_noise_is_heard():
    noise, condition = torch.randn(1, 8, 9), given(1, 9)
    for prior, heard in (("none", False), ("unit", True), ("energy", True)):
        network = built(prior=prior)
        with torch.no_grad():
            two = [network(sign * noise, torch.zeros(1), condition) for sign in (1, -1)]
        assert torch.equal(two[0], two[1]) != heard


def test_the_energy_prior_follows_the_condition():
    network = built(prior="energy")
    loud, soft = (torch.nn.functional.softplus(network.spread(torch.full((1, 5, 3), v))).detach() for v in (2.0, -2.0))
    assert float(loud.mean()) == pytest.approx(2.127, abs=1e-2)  # ln(1 + e^2), the mean over bins being 2
    assert float(soft.mean()) == pytest.approx(0.127, abs=1e-2)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"kernel": 4}, "odd kernel"), ({"n_fft": 8, "channels": 8}, "twice the hop"), ({"depth": 0}, "positive")],
)
def test_absurd_sizes_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        built(**options)


def test_it_needs_a_condition():
    with pytest.raises(ValueError, match=r"needs network\.channels, network\.n_fft, and a condition"):
        InverseSTFT.Config(channels=8, n_fft=32).build()
