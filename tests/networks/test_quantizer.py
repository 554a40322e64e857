"""Codes of a latent: there and back, the nearest one, gradients, a uniform prior, and causality."""

import itertools
import math

import pytest
import torch

from langevin.diffusion.noise import SampleNoise
from langevin.networks import Autoencoder
from langevin.networks.quantizer import FSQ, KL, VQ

LEVELS = [(2,), (3,), (8, 5, 5, 5), (4, 3, 2), (7, 6)]
QUANTIZERS = {"fsq": FSQ(levels=(5, 4, 3)), "vq": VQ(codes=60)}


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noise(count):
    return SampleNoise(seeds=torch.arange(count), steps=torch.zeros(count, dtype=torch.int64))


def network(quantizer, **sizes):
    built = Autoencoder.Config(
        width=8, channel_mult=(1, 2), latent_channels=3, channels=2, quantizer=quantizer, **sizes
    ).build()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return built.double()


@pytest.mark.parametrize("levels", LEVELS)
def test_every_code_of_levels_comes_back_and_no_two_are_one(levels):
    quantizer = FSQ(levels=levels).build(len(levels))
    codes = torch.arange(math.prod(levels))[:, None]
    z = quantizer.embed(codes)
    assert torch.equal(quantizer.tokens(z), codes)
    grid = {
        tuple(2 * i / (n - 1) - 1 for i, n in zip(digits, levels)) for digits in itertools.product(*map(range, levels))
    }
    torch.testing.assert_close(z.unique(dim=0), torch.tensor(sorted(grid))[:, :, None])


@pytest.mark.parametrize("levels", LEVELS)
def test_levels_are_the_nearest_of_the_bounded_number(levels):
    h = 2 * randn(200, len(levels), 3)
    z, variance = FSQ(levels=levels).build(len(levels)).encode(h)
    for channel, n in enumerate(levels):
        grid = torch.linspace(-1, 1, n, dtype=torch.float64)
        nearest = grid[(h[:, channel, :, None].tanh() - grid).abs().argmin(-1)]
        torch.testing.assert_close(z[:, channel], nearest)
    assert float(variance.exp().max()) < 1e-8


def test_the_gradient_of_rounding_is_that_of_what_is_rounded():
    """d tanh(h) = 1 - tanh(h)^2, by finite differences of tanh alone: nothing of the rounding is left."""
    h, way = randn(5, 3, 4).requires_grad_(True), randn(5, 3, 4, seed=1)
    quantizer = FSQ(levels=(8, 5, 2)).build(3)
    latent = quantizer.draw(h, noise(5))
    assert (
        torch.equal(latent.z.detach(), quantizer.encode(h.detach())[0])
        or float((latent.z - quantizer.encode(h)[0]).abs().max()) < 1e-12
    )
    (found,) = torch.autograd.grad((latent.z * way).sum(), h)
    with torch.no_grad():
        expected = way * ((h + 1e-6).tanh() - (h - 1e-6).tanh()) / 2e-6
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    assert torch.equal(latent.distance, torch.zeros_like(latent.distance))
    torch.testing.assert_close(latent.nats, torch.full_like(latent.nats, math.log(80)))


@pytest.mark.parametrize("places", [(), (6,), (3, 4), (2, 3, 2)])
def test_a_codebook_takes_the_nearest_vector_by_brute_force(places):
    quantizer = VQ(codes=17).build(4).double()
    h = randn(5, 4, *places)
    tokens = quantizer.tokens(h)
    flat = h.movedim(1, -1).reshape(-1, 4)
    nearest = torch.tensor(
        [min(range(17), key=lambda k: float((v - quantizer.vectors[k]).detach().norm())) for v in flat]
    )
    assert torch.equal(tokens.flatten(), nearest)
    assert tokens.shape == (5, *places)
    z = quantizer.encode(h)[0]
    assert torch.equal(z, quantizer.embed(tokens))
    assert torch.equal(quantizer.tokens(z), tokens)


def test_the_distances_of_a_codebook_are_the_formula_and_pull_both_and_the_unused():
    """|sg(h) - e|^2 + b |h - sg(e)|^2, and for every code its nearest latent; h takes the gradient of z as it is."""
    quantizer = VQ(codes=9, commitment=0.5, attraction=0.7).build(2).double()
    h = randn(3, 2, 5).requires_grad_(True)
    latent = quantizer.draw(h, noise(3))
    flat, vectors = h.detach().movedim(1, -1).reshape(-1, 2), quantizer.vectors.detach()
    code = vectors[torch.cdist(flat, vectors).argmin(1)]
    unused = torch.cdist(flat, vectors).min(0).values.square().mean() / 2
    expected = 1.5 * (code - flat).square().mean() + 0.7 * unused
    torch.testing.assert_close(latent.distance.mean(), expected)
    way = randn(3, 2, 5, seed=2)
    (through,) = torch.autograd.grad((latent.z * way).sum(), h, retain_graph=True)
    torch.testing.assert_close(through, way)
    to_h, to_codes = torch.autograd.grad(latent.distance.sum(), [h, quantizer.vectors])
    torch.testing.assert_close(to_h.movedim(1, -1).reshape(-1, 2), 0.5 * (flat - code))
    assert bool((to_codes.abs().sum(1) > 0).all())  # also of codes that are nearest to nothing
    assert len(set(quantizer.tokens(h).flatten().tolist())) < 9


@pytest.mark.parametrize("kind", QUANTIZERS)
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_an_autoencoder_of_codes_decodes_its_tokens_as_its_latent(kind, dimensions):
    built = network(QUANTIZERS[kind], dimensions=dimensions)
    x = randn(2, 2, *(8,) * dimensions)
    tokens = built.tokens(x)
    assert (tokens.shape, tokens.dtype) == ((2, *(8 // s for s in built.config.strides)), torch.int64)
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < built.config.codes == 60
    torch.testing.assert_close(built.decode_tokens(tokens), built.decode(built.encode(x)[0]), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(built.latent(x, noise(2)).z, built.encode(x)[0])
    assert built(x, torch.zeros(2)).shape == x.shape


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_codes_of_a_causal_autoencoder_never_look_ahead(kind):
    built = network(QUANTIZERS[kind], dimensions=3, causal=True).requires_grad_(False)
    x = randn(1, 2, 5, 8, 8)
    tokens = built.tokens(x)
    y = built.decode_tokens(tokens)
    for at in range(5):
        other = x.clone()
        other[:, :, at] *= -3
        changed = (built.tokens(other) != tokens).flatten(2).any(2)[0]
        assert not bool(changed[:at].any())
        assert bool(changed[at])
        swapped = tokens.clone()
        swapped[:, at] = (swapped[:, at] + 1) % 60
        moved = (built.decode_tokens(swapped) - y).abs().amax((0, 1, 3, 4))
        assert bool((moved[:at] == 0).all())
        assert float(moved[at]) > 0
    assert torch.equal(built.tokens(x[:, :, :2]), tokens[:, :2])


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_a_latent_from_the_prior_has_every_code_equally_often(kind):
    built = network(QUANTIZERS[kind], dimensions=1)
    count = 24_000
    z = built.latent_of(noise(count).normal(torch.empty(count, 2, 4)).double())
    seen = torch.bincount(built.quantizer.tokens(z).flatten(), minlength=60).double()
    chi_squared = float(((seen - seen.mean()).square() / seen.mean()).sum())
    assert chi_squared < 59 + 5 * math.sqrt(2 * 59)
    assert torch.equal(built.quantizer.encode(z)[0], z) or kind == "fsq"  # what is drawn is a code


def test_a_normal_latent_has_no_codes():
    built = network(KL())
    assert built.config.codes is None
    with pytest.raises(ValueError, match=r"no codes: .*network\.quantizer\.kind fsq or vq"):
        built.tokens(randn(1, 2, 8, 8))
    with pytest.raises(ValueError, match="no codes"):
        built.decode_tokens(torch.zeros(1, 2, 2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FSQ(levels=()), "1 to 16 numbers"), (lambda: FSQ(levels=(1, 5)), "at least 2"),
        (lambda: FSQ(levels=(4096, 4097)), "at most 2"), (lambda: VQ(codes=1), "codes is 2 to"),
        (lambda: VQ(codes=2**17), "codes is 2 to"), (lambda: VQ(commitment=0.0), "commitment is positive"),
        (lambda: VQ(attraction=float("nan")), "attraction at least 0"),
        (lambda: Autoencoder.Config(quantizer=FSQ(levels=(5, 5)), latent_channels=4), "set it to 2"),
    ],
)  # fmt: skip
def test_absurd_codes_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
