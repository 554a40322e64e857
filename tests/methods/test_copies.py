"""Autoencoders of codes learn to copy with most of their codes; perceptual and adversarial terms, alone and in a run."""

import math

import pytest
import torch

from langevin.cli import main
from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.likelihood import Levels, gaussian_mass
from langevin.diffusion.process import Gaussian
from langevin.methods import AdamW, Autoencoding
from langevin.networks import Autoencoder
from langevin.networks.patch_discriminator import PatchDiscriminator
from langevin.networks.quantizer import FSQ, KL, VQ
from langevin.networks.random_filters import RandomFilters, perceptual_distance
from langevin.recipe.read import read_tree
from tests import pictures, tiny

QUANTIZERS = {"kl": KL(), "fsq": FSQ(levels=(5, 5)), "vq": VQ(codes=24)}
STD = 0.1


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def drawn(count, step=0):
    return step_randomness(seed=0, step=step, samples=torch.arange(count), count=count)


def made(quantizer, *, seed=0, **options):
    """An autoencoder of pictures (b, 1, 8, 8) at 4 places, and its method."""
    torch.manual_seed(seed)
    config = Autoencoder.Config(width=8, channel_mult=(1, 2), latent_channels=2, channels=1, quantizer=quantizer)
    network = config.build()
    if options.get("adversarial"):
        options["discriminator"] = PatchDiscriminator(config)
    denoiser = GaussianDenoiser(network=network, process=Gaussian(sigma_data=0.5), prediction="clean")
    return Autoencoding(network=network, denoiser=denoiser, std=STD, non_hidden=network.non_hidden, **options)


def planes(count, seed=0):
    """A place of 4x4 pixels is a plane of random height and slope: two numbers, of which a code keeps some."""
    height, slope = torch.rand(2, count, 1, 2, 2, generator=torch.Generator().manual_seed(seed)) - 0.5
    ramp = torch.linspace(-1, 1, 4).repeat(2)[None, None, None]
    wide = (part.repeat_interleave(4, 2).repeat_interleave(4, 3) for part in (height, slope))
    return next(wide) + next(wide) * ramp


@pytest.mark.parametrize("kind", ["fsq", "vq"])
def test_codes_learn_to_copy_and_most_of_them_are_used(kind):
    method, steps = made(QUANTIZERS[kind]), 160
    optimizer = torch.optim.AdamW(method.network.parameters(), lr=0.003, betas=(0.9, 0.99))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.003 * min(1, 2.5 * (1 - step / steps))
        report = method.loss("autoencoder", Batch(x=planes(64, seed=step)), drawn(64, step))
        optimizer.zero_grad()
        report.loss.mean().backward()
        optimizer.step()
    held_out = planes(500, seed=10**6)
    with torch.no_grad():
        tokens = method.network.tokens(held_out)
        error = (method.network.decode_tokens(tokens) - held_out).square().mean() / held_out.var()
    assert float(error) < 0.25  # it begins at 1, and 25 codes for two numbers leave about 0.04
    assert len(tokens.unique()) > 0.8 * method.network.config.codes


@pytest.mark.parametrize("kind", ["fsq", "vq"])
def test_the_divergence_of_codes_is_that_of_one_of_k_and_part_of_the_bound(kind):
    """ln K at each of 4 places, over 64 numbers; a decoder that says x itself has the density of a normal at 0."""
    method, x = made(QUANTIZERS[kind], kl_weight=3.0), planes(5)
    report = method.loss("autoencoder", Batch(x=x), drawn(5))
    nats = torch.full((5,), math.log(method.network.config.codes) * 4 / 64)
    torch.testing.assert_close(report.terms["kl"], nats)
    error = (method.network.decode(method.network.encode(x)[0]) - x).square().flatten(1).mean(1).detach()
    likelihood = error / (2 * STD**2) + math.log(STD * math.sqrt(2 * math.pi))
    torch.testing.assert_close(report.plain, likelihood + nats)
    torch.testing.assert_close(report.loss.detach(), likelihood + 3 * nats + report.terms["distance"] / (2 * STD**2))


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_the_bound_of_levels_has_the_divergence_of_the_loss(kind):
    """What is left of the bound without the mass of the decoder's Gaussian."""
    method, levels = made(QUANTIZERS[kind]), Levels(scale=0.1, offset=-5.0, count=101)
    x = (planes(5) / 0.1).round() * 0.1
    noise = drawn(5).noise.fork(2)
    mass = gaussian_mass(x, levels, method.network.decode(method.network.latent(x, noise).z), STD).flatten(1).sum(1)
    nats = method.bound(x, noise, levels) + mass.detach()
    torch.testing.assert_close(nats, 64 * method.loss("autoencoder", Batch(x=x), drawn(5)).terms["kl"].double())


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_padding_changes_nothing_of_a_causal_autoencoder(kind):
    """A clip of two frames alone, and padded to five."""
    config = Autoencoder.Config(
        dimensions=3, causal=True, width=8, latent_channels=2, channels=1, quantizer=QUANTIZERS[kind]
    )
    network = config.build().double()
    denoiser = GaussianDenoiser(network=network, process=Gaussian(sigma_data=0.5), prediction="clean")
    method = Autoencoding(network=network, denoiser=denoiser, std=STD, perceptual=0.0)
    x = randn(3, 1, 5, 8, 8).double()
    inside = (torch.arange(5) < 2)[None, :, None, None].expand(3, 5, 8, 8)
    padded = Batch(x=torch.where(inside[:, None], x, 0), condition=Condition(data_mask=inside))
    alone, together = (method.copied(batch, Zero()) for batch in (Batch(x=x[:, :, :2]), padded))
    torch.testing.assert_close(together.squared_error, alone.squared_error)
    torch.testing.assert_close(together.nats, alone.nats)
    torch.testing.assert_close(together.y[:, :, :2], alone.y)
    assert torch.equal(together.y[:, :, 2:], padded.x[:, :, 2:])


class Zero:
    """A noise that draws means."""

    def normal(self, like):
        return torch.zeros_like(like)


@pytest.mark.parametrize("space", [(16,), (16, 12), (3, 8, 8)])
def test_the_perceptual_distance_is_zero_at_the_example_and_grows_with_what_is_seen(space):
    filters = RandomFilters(channels=2)
    x, other = randn(4, 2, *space), 0.1 * randn(4, 2, *space, seed=1)
    assert torch.equal(perceptual_distance(x, x, filters), torch.zeros(4))
    near, far = (perceptual_distance(x + scale * other, x, filters) for scale in (1, 3))
    assert bool((near > 0).all())
    assert bool((far > 4 * near).all())
    alone = torch.cat([perceptual_distance((x + other)[i : i + 1], x[i : i + 1], filters) for i in range(4)])
    torch.testing.assert_close(alone, near)  # samples never mix


def test_the_gradient_of_the_perceptual_distance_is_that_of_finite_differences():
    filters, x = RandomFilters(channels=1), randn(3, 1, 8, 8).double()
    y = (x + randn(3, 1, 8, 8, seed=1).double()).requires_grad_(True)
    way = randn(3, 1, 8, 8, seed=2).double()
    (found,) = torch.autograd.grad(perceptual_distance(y, x, filters).sum(), y)
    above, below = (perceptual_distance(y.detach() + e * way, x, filters).sum() for e in (1e-6, -1e-6))
    assert float((found * way).sum()) == pytest.approx(float(above - below) / 2e-6, rel=1e-4)


def test_the_weights_of_the_terms_are_those_of_the_configuration():
    x, draw, losses, terms = planes(5), drawn(5), {}, {}
    for weights in ((0.0, 0.0), (2.0, 0.0), (0.0, 0.5)):
        method = made(QUANTIZERS["fsq"], perceptual=weights[0], adversarial=weights[1])
        report = method.loss("autoencoder", Batch(x=x), draw)
        losses[weights], terms[weights] = report.loss.detach(), report.terms
    plain = losses[0.0, 0.0]
    torch.testing.assert_close(losses[2.0, 0.0] - plain, terms[2.0, 0.0]["perceptual"] / STD**2)
    torch.testing.assert_close(losses[0.0, 0.5] - plain, 0.5 * terms[0.0, 0.5]["adversarial"])
    assert set(terms[0.0, 0.0]) == {"squared_error", "kl", "distance"}


def test_the_discriminator_tells_copies_from_examples_and_is_judged_in_patches():
    method, batch, draw = made(QUANTIZERS["kl"], adversarial=1.0), Batch(x=planes(6)), drawn(6)
    y = method.copied(batch, draw.noise.fork(2)).y.detach()
    real, fake = method.discriminator(batch.x), method.discriminator(y)
    assert real.shape == (6, 2, 2)
    report = method.loss("discriminator", batch, draw)
    torch.testing.assert_close(report.plain, (1 + (fake - real).exp()).log().mean((1, 2)).detach())
    slopes = sum(
        torch.autograd.grad(method.discriminator(z.requires_grad_(True)).sum(), z)[0].square().sum((1, 2, 3))
        for z in (batch.x.clone(), y.clone())
    )
    torch.testing.assert_close(report.terms["penalty"], slopes / 4)
    torch.testing.assert_close((report.loss - report.plain).detach(), slopes / 8)
    generated = method.loss("autoencoder", batch, draw).terms["adversarial"]
    torch.testing.assert_close(generated, (1 + (real - fake).exp()).log().mean((1, 2)).detach())
    with pytest.raises(KeyError):
        method.loss("critic", batch, draw)


@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_two_players_are_stopped_and_resumed_to_the_same_bits(kind):
    training = tiny.config(optimizer=AdamW(lr=1e-3, betas=(0.0, 0.99)))

    def fresh():
        method = made(QUANTIZERS[kind], adversarial=0.5, perceptual=0.5)
        return tiny.state_of(method, training), method

    def read(step, rows, randomness):
        return Batch(x=planes(8, seed=step)[rows])

    whole, first = fresh()
    tiny.advance(whole, first, training, until=6, read=read)
    half, second = fresh()
    tiny.advance(half, second, training, until=3, read=read)
    again, third = fresh()
    names = {"discriminator.network.conv_out.weight", "autoencoder.network.latent_in.space.bias"}
    assert set(half.groups()["model"]) > names
    again.load({g: {n: t.clone() for n, t in tensors.items()} for g, tensors in half.groups().items()}, half.counters())
    tiny.advance(again, third, training, until=6, read=read)
    tiny.assert_same(tiny.everything(whole), tiny.everything(again))


def test_a_run_of_codes_with_every_term_is_trained_and_drawn_from(tmp_path, capsys):
    codes = "latent_channels: 3, quantizer: {kind: fsq, levels: [5, 4, 3]}"
    network = "network={kind: autoencoder, dimensions: 2, width: 8, " + codes + "}"
    terms = "method={kind: autoencoder, perceptual: 0.5, adversarial: 0.1}"
    small = ("training.batch=8", "training.steps=2", "training.ema_lengths=[0.1]", "sampling.ema=0.1")
    data = pictures.classes(tmp_path / "data")
    assert main(["train", str(data), "--out", str(tmp_path / "run"), network, terms, *small]) == 0
    tree = read_tree(str(tmp_path / "run" / "recipe.yaml"))
    assert tree["network"]["quantizer"] == {"kind": "fsq", "levels": [5, 4, 3]}
    assert main(["sample", str(tmp_path / "run"), "--count", "4", "--out", str(tmp_path / "a.png")]) == 0
    assert "1 function evaluation" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{"perceptual": -1.0}, {"adversarial": float("nan")}])
def test_absurd_weights_are_refused(options):
    with pytest.raises(ValueError, match=r"method\.perceptual and method\.adversarial are weights"):
        Autoencoding.Config(**options)
