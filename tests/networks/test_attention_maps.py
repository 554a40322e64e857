"""Recorded attention is that which the layer used, and belongs to the words."""

import pytest
import torch

from langevin.diffusion.condition import Condition, Port
from langevin.networks.attention import Attention
from langevin.networks.attention_maps import attention_to_tokens, weights_of
from langevin.networks.dit import DiT
from langevin.networks.embedding import ConditioningConfig
from langevin.networks.unet import UNet

WORDS = ConditioningConfig(vocabulary=9, length=5)
NETWORKS = {
    "dit": lambda: DiT(DiT.Config(channels=3, dimensions=2, width=16, depth=2, head_dim=8, conditioning=WORDS)),
    "unet": lambda: UNet(
        UNet.Config(
            channels=3, width=16, channel_mult=(1, 2), blocks=1, attention=(1,), head_dim=8, conditioning=WORDS
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("context_width", [0, 6])
def test_weights_make_the_output_of_the_layer(context_width):
    torch.manual_seed(0)
    layer = Attention(8, heads=1, context_width=context_width)
    x, context = torch.randn(2, 5, 8), torch.randn(2, 3, 6) if context_width else None
    mask = torch.ones(2, 5 + 3 * bool(context_width)).bool()
    mask[1, -1] = False
    weights = weights_of(layer, x, mask=mask, context=context)
    values = layer.project(x)[2]
    if context is not None:
        values = torch.cat([values, layer.project_context(context)[1]], 2)
    expected = layer.out(weights @ values[:, 0])
    assert torch.allclose(layer(x, mask=mask, context=context), expected, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_positions_attend_to_words_that_are_there(name):
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    tokens = torch.tensor([[2, 3, 4, 0, 0], [5, 0, 0, 0, 0]])
    condition = Condition(cross=Port(tensor=tokens, mask=tokens > 0))
    x, c = torch.randn(2, 3, 8, 8), torch.zeros(2)
    with attention_to_tokens(network, 5) as found:
        network(x, c, condition)
        seen = len(found)
    assert seen >= 1
    for layer in found:
        assert layer.shape[0] == 2
        assert layer.shape[2] == 5
        assert layer.shape[1] in (4, 16, 64)
        assert (layer[0, :, :3] > 0).all()
        assert (layer[0, :, 3:] == 0).all()
        assert (layer[1, :, 1:] == 0).all()
        assert (layer.sum(2) < 1).all()
    network(x, c, condition)
    assert len(found) == seen  # nothing more afterwards
