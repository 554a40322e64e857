"""Weights in fewer bytes: representable ones exactly, others within half a step; products of int8 as the formula says."""

import copy

import pytest
import torch
from torch import nn

from langevin.diffusion.light import BF16Weights, Int8Weights
from langevin.networks import DiT, Transformer, UNet
from langevin.networks.stored import Int8Linear, quantised, store

DIT = DiT.Config(width=64, depth=1, head_dim=32, patch=2, channels=1)
UNET = UNet.Config(width=32, channel_mult=(1, 2), blocks=1, attention=(), channels=1)


def stirred(config):
    torch.manual_seed(2)
    network = config.build().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def size(network):
    return sum(t.numel() * t.element_size() for t in (*network.parameters(), *network.buffers()))


def asked():
    torch.manual_seed(3)
    return torch.randn(3, 1, 8, 8), torch.linspace(-1, 1, 3)


def representable(network, values):
    """Every matrix a whole number of steps, or of values that bf16 has."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.copy_(values(parameter))
    return network


def steps(parameter):
    q = torch.randint(-127, 128, parameter.shape)
    q.flatten(1)[:, 0] = 127
    return q * (2.0**-10 * (1 + torch.arange(len(q)) % 3)).view(-1, *(1,) * (q.ndim - 1))


@pytest.mark.parametrize("config", [DIT, UNET], ids=["dit", "unet"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_weights_that_can_be_stored_are_computed_with_exactly(config, precision):
    for storage, values in ((Int8Weights(), steps), (BF16Weights(), lambda p: p.bfloat16().float())):
        network = representable(stirred(config), values)
        stored = copy.deepcopy(network)
        store(stored, storage)
        with torch.no_grad(), torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            assert torch.equal(stored(*asked()), network(*asked()))


def test_a_weight_is_within_half_a_step_and_a_row_of_zeros_stays():
    weight = torch.randn(7, 5, 3) * torch.logspace(-6, 6, 7)[:, None, None]
    weight[3] = 0
    q, scale = quantised(weight)
    assert q.dtype == torch.int8
    back = q * scale[:, None, None]
    assert bool(((weight - back).abs() <= scale[:, None, None] * (0.5 + 1e-5)).all())
    assert torch.equal(back[3], weight[3])


@pytest.mark.parametrize("config", [DIT, UNET], ids=["dit", "unet"])
def test_bytes_are_a_half_and_a_quarter(config):
    plain = sum(4 * p.numel() for p in stirred(config).parameters() if p.ndim > 1)
    vectors = size(stirred(config)) - plain
    network = stirred(config)
    store(network, BF16Weights())
    assert size(network) - vectors == plain / 2
    for storage in (Int8Weights(), Int8Weights(products="int8")):
        network = stirred(config)
        large = 4 * store(network, storage)
        scales = size(network) - (plain + vectors - large) - large / 4
        assert 0.5 * plain < large < plain
        assert 0 < scales < 0.05 * large


def test_products_of_int8_are_sums_of_integers():
    torch.manual_seed(0)
    layer = nn.Linear(100, 50)
    x = torch.randn(6, 4, 100) * torch.logspace(-3, 3, 4)[:, None]
    x[0, 0] = 0
    integers = Int8Linear(layer)
    q, scale = quantised(layer.weight)
    step = x.abs().amax(-1, keepdim=True) / 127
    p = (x / step.clamp_min(1e-30)).round().long()
    expected = (p @ q.long().T).double() * step * scale + layer.bias
    with torch.no_grad():
        y = integers(x)
        torch.testing.assert_close(y.double(), expected.double(), rtol=1e-5, atol=1e-5)
        assert all(torch.equal(integers(x[i : i + 1, j]), y[i : i + 1, j]) for i in range(6) for j in range(4))
    assert (y - layer(x)).abs().max() < 0.02 * layer(x).abs().max()
    near = (integers.weight - layer.weight).abs().amax(1)
    assert bool((near <= scale * (0.5 + 1e-5)).all())


@pytest.mark.parametrize("config", [DIT, UNET], ids=["dit", "unet"])
def test_gradients_are_those_of_the_weights_that_are_stored(config):
    (x, c_time), found = asked(), []
    for storage in (Int8Weights(), Int8Weights(products="int8")):
        network = stirred(config)
        store(network, storage)
        given = x.clone().requires_grad_()
        found.append(torch.autograd.grad(network(given, c_time).square().sum(), given)[0])
    assert found[0].norm() > 0
    assert (found[1] - found[0]).norm() <= 0.02 * found[0].norm()


def test_rounding_moves_the_output_a_little_and_text_too():
    tokens = torch.randint(9, (2, 8))
    text = Transformer.Config(width=64, depth=1, head_dim=32, vocab_size=9, ngram_window=1)
    for config, given in ((DIT, asked()), (UNET, asked()), (text, (tokens, torch.zeros(2)))):
        network = stirred(config)
        with torch.no_grad():
            plain = network(*given)
            for storage in (BF16Weights(), Int8Weights(), Int8Weights(products="int8")):
                stored = copy.deepcopy(network)
                store(stored, storage)
                moved = (stored(*given) - plain).norm() / plain.norm()
                assert 0 < moved < 0.05


def test_what_is_not_stored_otherwise_is_refused():
    network = stirred(DIT)
    store(network, Int8Weights())
    for storage in (BF16Weights(), Int8Weights()):
        with pytest.raises(ValueError, match="in another form already"):
            store(network, storage)
    with pytest.raises(ValueError, match="nothing is gained"):
        store(nn.Sequential(nn.Linear(4, 4)), Int8Weights())
    with pytest.raises(ValueError, match="for a CPU, and this network is on meta"):
        store(nn.Linear(100, 100, device="meta"), BF16Weights())
    compiled = nn.Linear(100, 100)
    compiled._orig_mod = nn.Linear(100, 100)  # as torch.compile has it
    with pytest.raises(ValueError, match="compiled"):
        store(compiled, BF16Weights())
