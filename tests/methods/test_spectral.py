"""The spectral loss is that of the paper, blind to phase, and learns a signal from its condition."""

import pytest
import torch

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.process import Gaussian
from langevin.methods import SpectralLoss
from langevin.methods.spectral import spectral_distance
from langevin.networks import InverseSTFT
from langevin.networks.embedding import ConditioningConfig


def framed(x, hop=8):
    return x.unflatten(-1, (-1, hop)).transpose(-1, -2)


def test_the_distance_is_the_formula():
    x, y = torch.randn(2, 3, 512, generator=torch.Generator().manual_seed(0))
    convergence, magnitude = spectral_distance(framed(y), framed(x), (64, 128))
    for i in range(3):
        expected = []
        for n in (64, 128):
            a, b = (torch.stft(s[i], n, n // 4, window=torch.hann_window(n), return_complex=True).abs() for s in (x, y))
            expected.append(
                ((a - b).norm() / a.norm(), (a.clamp_min(1e-3).log() - b.clamp_min(1e-3).log()).abs().mean())
            )
        for got, part in zip((convergence[i], magnitude[i]), zip(*expected), strict=True):
            assert float(got) == pytest.approx(float(sum(part)) / 2, rel=1e-3)


def test_it_is_zero_for_the_signal_and_blind_to_its_sign():
    x = torch.randn(2, 8, 64, generator=torch.Generator().manual_seed(0))
    for y in (x, -x):
        assert all(float(part.max()) < 1e-5 for part in spectral_distance(y, x, (64, 128)))


def test_silence_has_a_finite_gradient():
    y = torch.zeros(1, 8, 64, requires_grad=True)
    torch.stack(spectral_distance(y, torch.zeros(1, 8, 64), (64,))).sum().backward()
    assert bool(y.grad.isfinite().all())


def test_signals_shorter_than_every_window_are_refused():
    with pytest.raises(ValueError, match="shorter than every window"):
        spectral_distance(torch.zeros(1, 8, 2), torch.zeros(1, 8, 2), (64,))


@pytest.mark.parametrize("windows", [(), (8,), (70_000,)])
def test_absurd_windows_are_refused(windows):
    with pytest.raises(ValueError, match=r"method\.windows"):
        SpectralLoss.Config(windows=windows)


def test_training_lowers_the_loss():
    """Of tones, whose frequency the condition says."""
    torch.manual_seed(0)
    config = InverseSTFT.Config(
        width=32, depth=2, channels=8, n_fft=32, conditioning=ConditioningConfig(concat_channels=2)
    )
    network, process = config.build(), Gaussian()
    method = SpectralLoss(
        process=process, denoiser=GaussianDenoiser(network=network, process=process, prediction="clean"),
        network=network, windows=(32, 64, 128),
    )  # fmt: skip
    t = torch.arange(256)
    tones = torch.stack([torch.sin(2 * torch.pi * f * t / 32) for f in (3, 9)])
    batch = Batch(x=framed(tones), condition=Condition(concat=Port(tensor=torch.eye(2)[:, :, None].repeat(1, 1, 32))))
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    losses = []
    for step in range(300):
        draw = step_randomness(seed=0, step=step, samples=torch.arange(2), count=2)
        report = method.loss("denoiser", batch, draw)
        assert set(report.terms) == {"convergence", "log_magnitude"}
        optimizer.zero_grad()
        report.loss.mean().backward()
        optimizer.step()
        losses.append(float(report.terms["log_magnitude"].mean()))
    assert losses[-1] < 0.6 * losses[0]
