"""What every network obeys: shapes, rows apart, a start at zero, and what it is told or not told."""

from dataclasses import replace

import pytest
import torch

from langevin.diffusion.condition import Condition, Port
from langevin.networks import (
    MLP,
    Autoencoder,
    ColumnMLP,
    ColumnTransformer,
    DiT,
    DiT2D,
    InverseSTFT,
    JointDiT,
    Transformer,
    UNet,
    UNet2D,
)
from langevin.networks.embedding import ConditioningConfig
from langevin.recipe.tree import NetworkConfig

TEXT = ConditioningConfig(classes=3, vocabulary=9, length=5, text_layers=1)


def dit(dimensions=2, patch=2, **options):
    defaults = {"width": 32, "depth": 2, "head_dim": 16, "channels": 2, "conditioning": TEXT}
    return DiT.Config(**{**defaults, "dimensions": dimensions, "patch": patch, **options})


def unet(dimensions=2, **options):
    defaults = {"width": 8, "channel_mult": (1, 2), "blocks": 1, "attention": (1,), "head_dim": 8, "channels": 2}
    return UNet.Config(**{**defaults, "dimensions": dimensions, "conditioning": TEXT, **options})


def mlp(**options):
    pooled = replace(TEXT, text="pooled")
    return MLP.Config(**{"width": 16, "depth": 2, "channels": 6, "conditioning": pooled, **options})


EVERY = {
    "dit 1d": (dit(1), (2, 8)),
    "dit with convolutions": (dit(1, kernel=3), (2, 8)),
    "dit 2d": (dit(2, kernel=5), (2, 8, 6)),
    "dit 3d": (dit(3), (2, 4, 2, 6)),
    "dit of clips": (dit(3, patch=(1, 2, 2)), (2, 4, 2, 6)),
    "dit of frames and times": (dit(3, patch=(1, 2, 2), attention="factorised"), (2, 4, 2, 6)),
    "dit of sketches": (dit(2, caption_prior=8, num_patches=12), (2, 8, 6)),
    "unet 1d": (unet(1), (2, 8)),
    "unet 2d": (unet(2), (2, 8, 6)),
    "unet 3d": (unet(3), (2, 4, 2, 6)),
    "unet of patches": (unet(2, patch=2), (2, 8, 8)),
    "unet of waves": (unet(2, channel_mult=(1,), attention=(), fourier=(1, 3), patch=2), (2, 8, 8)),
    "mlp": (mlp(), (6,)),
}
ALL = pytest.mark.parametrize(("config", "shape"), EVERY.values(), ids=EVERY)
NO_PORTS = ConditioningConfig()


def stirred(config):
    """A network whose zeros are not zero any more."""
    torch.manual_seed(1)
    network = config.build().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def asked(rows, shape, *, seed=0):
    """(x, c_time, condition) with texts of 0 to 5 tokens."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, *shape, generator=generator)
    tokens = torch.randint(1, 9, (rows, 5), generator=generator)
    mask = torch.arange(5) < (torch.arange(rows) % 6)[:, None]
    condition = Condition(
        global_=Port(tensor=torch.arange(rows) % 3), cross=Port(tensor=torch.where(mask, tokens, 0), mask=mask)
    )
    return x, torch.linspace(-2, 2, rows), condition


def near(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)


def test_every_kind_is_tested():
    kinds = {type(config) for config, _ in EVERY.values()}
    others = {
        Autoencoder.Config,
        Transformer.Config,
        InverseSTFT.Config,
        JointDiT.Config,
        ColumnMLP.Config,
        ColumnTransformer.Config,
        UNet2D.Config,
        DiT2D.Config,
    }  # have their own files
    assert kinds | others == set(NetworkConfig.__args__)


@ALL
@pytest.mark.parametrize("rows", [1, 3])
def test_the_output_has_the_shape_and_type_of_the_input(config, shape, rows):
    x, c_time, condition = asked(rows, shape)
    with torch.no_grad():
        y = stirred(config)(x, c_time, condition)
    assert y.shape == x.shape
    assert y.dtype == torch.float32
    assert bool(torch.isfinite(y).all())


@ALL
def test_a_fresh_network_says_zero(config, shape):
    with torch.no_grad():
        assert config.build()(*asked(3, shape)).abs().max() == 0


@ALL
def test_a_row_alone_is_the_row_in_a_batch(config, shape):
    network = stirred(config)
    x, c_time, condition = asked(7, shape)
    with torch.no_grad():
        whole = network(x, c_time, condition)
        for rows in (torch.tensor([2]), torch.tensor([6, 0, 3])):
            near(network(x[rows], c_time[rows], condition.select(rows)), whole[rows])


@ALL
def test_time_class_text_and_data_all_matter(config, shape):
    network = stirred(config)
    x, c_time, condition = asked(6, shape)
    text = condition.cross
    others = {
        "time": (x, c_time + 0.3, condition),
        "data": (x + 0.3, c_time, condition),
        "class": (x, c_time, replace(condition, global_=Port(tensor=(condition.global_.tensor + 1) % 3))),
        "text": (x, c_time, replace(condition, cross=Port(tensor=text.tensor.flip(0), mask=text.mask.flip(0)))),
    }
    with torch.no_grad():
        first = network(x, c_time, condition)
        for what, other in others.items():
            assert (network(*other) - first).abs().flatten(1).amax(1).max() > 1e-3, what


@ALL
def test_what_stands_in_the_padding_never_changes_a_result(config, shape):
    network = stirred(config)
    x, c_time, condition = asked(6, shape)
    text = condition.cross
    scribbled = torch.where(text.mask, text.tensor, 7)
    with torch.no_grad():
        whole = network(x, c_time, condition)
        near(network(x, c_time, replace(condition, cross=Port(tensor=scribbled, mask=text.mask))), whole)
        short = Port(tensor=text.tensor[:4, :3], mask=text.mask[:4, :3])  # rows 0 to 3 have at most 3 tokens
        near(network(x[:4], c_time[:4], replace(condition.select(slice(0, 4)), cross=short)), whole[:4])
        near(network(x, c_time, replace(condition, cross=Port(tensor=text.tensor))), whole)  # 0 is padding by itself


@ALL
def test_a_withheld_port_says_nothing_whatever_it_holds(config, shape):
    network = stirred(config)
    x, c_time, condition = asked(6, shape)
    _, _, other = asked(6, shape, seed=9)
    other = replace(other, global_=Port(tensor=(other.global_.tensor + 1) % 3))
    with torch.no_grad():
        near(network(x, c_time, condition.dropped()), network(x, c_time, other.dropped()))
        keep = torch.arange(6) % 2 == 0
        mixed = network(x, c_time, condition.only(keep))
        near(mixed[keep], network(x, c_time, condition)[keep])
        near(mixed[~keep], network(x, c_time, condition.dropped())[~keep])
        assert (mixed - network(x, c_time, condition))[~keep].abs().max() > 1e-3


@ALL
def test_an_empty_text_is_a_withheld_one(config, shape):
    network = stirred(replace(config, conditioning=replace(config.conditioning, classes=0)))
    x, c_time, condition = asked(3, shape)
    empty = Condition(cross=Port(tensor=torch.zeros(3, 5, dtype=torch.int64)))
    with torch.no_grad():
        near(network(x, c_time, empty), network(x, c_time, Condition(cross=condition.cross).dropped()))


@ALL
def test_a_network_that_is_told_nothing_needs_no_condition(config, shape):
    network = stirred(replace(config, conditioning=NO_PORTS))
    x, c_time, _ = asked(3, shape)
    with torch.no_grad():
        assert torch.equal(network(x, c_time, None), network(x, c_time, Condition()))


@ALL
def test_gradients_reach_every_parameter_after_two_steps(config, shape):
    torch.manual_seed(0)
    network = config.build()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    x, c_time, condition = asked(7, shape)
    condition = condition.only(torch.arange(7) != 3)
    target = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    for _ in range(3):  # the last layer moves first, then the gates, then what is behind them
        optimizer.zero_grad()
        (network(x, c_time, condition) - target).square().mean().backward()
        optimizer.step()
    assert [n for n, p in network.named_parameters() if p.grad is None or not bool((p.grad != 0).any())] == []


@ALL
def test_bf16_is_near_float32(config, shape):
    network = stirred(config)
    inputs = asked(3, shape)
    with torch.no_grad():
        exactly = network(*inputs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            roughly = network(*inputs).float()
    assert float((roughly - exactly).norm()) < 0.2 * float(exactly.norm())


@ALL
def test_a_network_builds_without_memory(config, shape):
    with torch.device("meta"):
        network = config.build()
    assert {p.device.type for p in network.parameters()} == {"meta"}
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in config.build().parameters())


@ALL
def test_non_hidden_names_modules_that_are_there(config, shape):
    parts = {part for name, _ in config.build().named_parameters() for part in name.split(".")}
    names = set(config.build().non_hidden)
    assert names <= parts


@pytest.mark.parametrize("config", [
    DiT.Config(width=224, head_dim=32, depth=1, channels=1, patch=4),
    UNet.Config(width=112, channel_mult=(1,), head_dim=56, attention=(), channels=1),
])  # fmt: skip
def test_text_is_read_at_widths_that_are_no_multiple_of_64(config):
    network = replace(config, conditioning=ConditioningConfig(vocabulary=9, length=3)).build()
    told = Condition(cross=Port(tensor=torch.tensor([[2, 3, 0], [4, 0, 0]])))
    assert network(torch.zeros(2, 1, 8, 8), torch.zeros(2), told).shape == (2, 1, 8, 8)


def test_a_mean_of_the_text_is_told_without_its_tokens():
    """The same weights but those of tokens: as many places in the blocks as patches, and still an answer to the text."""
    network = stirred(dit(2, conditioning=replace(TEXT, text="pooled")))
    seen = []
    network.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    x, c_time, condition = asked(6, (2, 8, 6))
    assert network.token_proj is None
    other = replace(condition, cross=Port(tensor=condition.cross.tensor.flip(0), mask=condition.cross.mask.flip(0)))
    with torch.no_grad():
        assert not torch.allclose(network(x, c_time, condition), network(x, c_time, other))
    assert seen == [12, 12]


def test_a_sketch_is_of_one_size():
    network = dit(2, caption_prior=8, num_patches=12).build()
    with pytest.raises(ValueError, match="12 patches, and the data has 16"):
        network(*asked(2, (2, 8, 8)))
    with pytest.raises(ValueError, match="number of patches"):
        dit(2, caption_prior=8).build()
