"""The parts that are particular to one network: patches, positions, published sizes."""

import math

import pytest
import torch

from langevin.networks import DiT, UNet
from langevin.networks.attention import Attention, rotary_angles, rotate
from langevin.networks.dit import sine_positions
from langevin.networks.embedding import ConditioningConfig, TimeEmbedding
from langevin.networks.patches import patchify, unpatchify


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_the_u_net_of_ddpm_on_cifar_has_its_published_size():
    config = UNet.Config(width=128, channel_mult=(1, 2, 2, 2), blocks=2, attention=(1,), head_dim=None, channels=3)
    with torch.device("meta"):
        network = config.build()
    assert parameters(network) == pytest.approx(35.7e6, rel=0.015)


@pytest.mark.parametrize(("width", "depth", "heads", "millions"), [(384, 12, 6, 33.0), (768, 12, 12, 130.0)])
def test_transformers_have_the_published_sizes(width, depth, heads, millions):
    config = DiT.Config(
        width=width,
        depth=depth,
        head_dim=width // heads,
        patch=2,
        channels=4,
        conditioning=ConditioningConfig(classes=1000),
    )
    with torch.device("meta"):
        network = config.build()
    assert parameters(network) == pytest.approx(millions * 1e6, rel=0.02)


@pytest.mark.parametrize(("dimensions", "shape"), [(1, (8,)), (2, (4, 6)), (3, (2, 4, 6))])
@pytest.mark.parametrize("patch", [1, 2])
def test_unfolding_undoes_folding(dimensions, shape, patch):
    x = torch.arange(2 * 3 * math.prod(shape)).reshape(2, 3, *shape).float()
    folded = patchify(x, patch)
    assert folded.shape == (2, 3 * patch**dimensions, *(n // patch for n in shape))
    assert torch.equal(unpatchify(folded, patch), x)


def test_channels_of_a_place_are_a_patch_of_the_picture():
    x = torch.arange(48.0).reshape(1, 2, 4, 6)
    assert patchify(x, 2)[0, :, 1, 1].tolist() == x[0, :, 2:4, 2:4].flatten().tolist()


def test_a_side_that_is_no_multiple_of_the_patch_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 6\) cannot be cut into patches of side 4"):
        patchify(torch.zeros(1, 1, 4, 6), 4)


def test_rotations_depend_on_distance_alone_along_every_axis():
    generator = torch.Generator().manual_seed(0)
    angles = rotary_angles((5, 6), 16)
    assert angles.shape == (30, 8)
    q, k = torch.randn(2, 16, generator=generator)
    turned_q = rotate(q.expand(30, 16), angles.cos(), angles.sin()).reshape(5, 6, 16)
    turned_k = rotate(k.expand(30, 16), angles.cos(), angles.sin()).reshape(5, 6, 16)
    for down, right in ((0, 1), (1, 0), (2, 3)):
        first = (turned_q[0, 0] * turned_k[down, right]).sum()
        moved = (turned_q[2, 2] * turned_k[2 + down, 2 + right]).sum()
        assert float(first) == pytest.approx(float(moved), abs=1e-4)
    torch.testing.assert_close(turned_q.square().sum(-1), q.square().sum().expand(5, 6))


def test_tokens_before_the_grid_are_not_turned():
    assert rotary_angles((3,), 8, skip=2)[:2].abs().max() == 0
    assert torch.equal(rotary_angles((3,), 8, skip=2)[2:], rotary_angles((3,), 8))


@pytest.mark.parametrize(("shape", "width"), [((4,), 16), ((5, 7), 32), ((2, 3, 4), 24), ((4, 4), 7)])
def test_places_have_different_positions(shape, width):
    positions = sine_positions(shape, width)
    assert positions.shape == (math.prod(shape), width)
    distance = torch.cdist(positions, positions) + 10 * torch.eye(len(positions))
    assert float(distance.min()) > 0.01


def test_time_embeddings_tell_near_noise_levels_apart_and_far_ones_too():
    times = torch.linspace(-2.5, 2.5, 101)  # ln(sigma / alpha) / 4 over all that a network is told
    torch.manual_seed(0)
    embedding = TimeEmbedding(32)
    angle = times[:, None] * embedding.frequency
    features = torch.cat([angle.cos(), angle.sin()], -1)
    distance = torch.cdist(features, features) + 100 * torch.eye(101)
    assert float(distance.min()) > 1.0
    assert embedding(times).shape == (101, 32)


def test_masked_keys_are_not_seen():
    torch.manual_seed(0)
    attention = Attention(16, heads=2, context_width=4)
    x, extra = torch.randn(3, 5, 16), torch.randn(3, 2, 4)
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[:, 4], mask[:, 6] = False, False
    changed, more = x.clone(), extra.clone()
    more[:, 1] = 100.0
    torch.testing.assert_close(attention(x, mask=mask, context=extra), attention(x, mask=mask, context=more))
    changed[:, 4] = 100.0
    torch.testing.assert_close(
        attention(x, mask=mask, context=extra)[:, :4], attention(changed, mask=mask, context=extra)[:, :4]
    )
    assert not torch.allclose(attention(x, context=extra), attention(x, mask=mask, context=extra))


def test_attention_equals_its_plain_restatement():
    torch.manual_seed(0)
    attention = Attention(8, heads=2).double()
    with torch.no_grad():
        attention.q_norm.weight.uniform_(0.5, 2)
        attention.k_norm.weight.uniform_(0.5, 2)
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    q, k, v = attention.qkv(x).chunk(3, -1)
    out = torch.empty(2, 5, 8, dtype=torch.float64)
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        a, b = q[..., part], k[..., part]
        a = a / (a.square().mean(-1, keepdim=True) + 1e-6).sqrt() * attention.q_norm.weight
        b = b / (b.square().mean(-1, keepdim=True) + 1e-6).sqrt() * attention.k_norm.weight
        out[..., part] = torch.softmax(a @ b.transpose(1, 2) / 2, -1) @ v[..., part]  # sqrt(4) channels a head
    torch.testing.assert_close(attention(x), attention.out(out))
