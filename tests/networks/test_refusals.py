"""What a network cannot be or be given, said in words."""

from dataclasses import replace

import pytest
import torch

from langevin.diffusion.condition import Port
from langevin.networks import MLP, DiT, UNet
from langevin.networks.embedding import ConditioningConfig
from tests.networks.test_networks import ALL, NO_PORTS, asked, dit, mlp, unet


@ALL
def test_labels_that_are_missing_too_few_or_out_of_range_are_refused(config, shape):
    network = config.build()
    x, c_time, condition = asked(3, shape)
    with pytest.raises(ValueError, match=r"class labels .* expected 3 samples of it, got nothing"):
        network(x, c_time, None)
    with pytest.raises(ValueError, match=r"class labels .* got 2 samples"):
        network(x, c_time, replace(condition, global_=Port(tensor=torch.zeros(2, dtype=torch.int64))))
    for label in (-1, 3):
        with pytest.raises(ValueError, match=r"class labels must lie in \[0, 3\)"):
            network(x, c_time, replace(condition, global_=Port(tensor=torch.full((3,), label))))


@ALL
def test_texts_that_are_missing_too_long_or_out_of_range_are_refused(config, shape):
    network = config.build()
    x, c_time, condition = asked(3, shape)
    with pytest.raises(ValueError, match=r"text .* expected 3 samples of it, got nothing"):
        network(x, c_time, replace(condition, cross=None))
    with pytest.raises(ValueError, match="at most 5 tokens, got 6"):
        network(x, c_time, replace(condition, cross=Port(tensor=torch.ones(3, 6, dtype=torch.int64))))
    for token in (-1, 9):
        with pytest.raises(ValueError, match=r"tokens must lie in \[0, 9\)"):
            network(x, c_time, replace(condition, cross=Port(tensor=torch.full((3, 5), token))))


@ALL
def test_data_of_other_channels_is_refused(config, shape):
    network = replace(config, conditioning=NO_PORTS).build()
    with pytest.raises(ValueError, match=f"{config.channels} channels"):
        network(torch.zeros(2, config.channels + 1, *shape[1:]), torch.zeros(2))


@ALL
def test_times_that_are_not_one_a_row_are_refused(config, shape):
    network = replace(config, conditioning=NO_PORTS).build()
    for times in (torch.zeros(()), torch.zeros(3), torch.zeros(2, 4)):
        with pytest.raises(ValueError, match="one noise level per sample"):
            network(torch.zeros(2, *shape), times)


@pytest.mark.parametrize(("config", "shape"), [
    (dit(2, patch=4), (2, 6, 8)), (dit(1, patch=4), (2, 8, 8)), (dit(2, patch=4), (2, 8)),
    (unet(2), (2, 7, 8)), (unet(1), (2, 8, 8)), (unet(3), (2, 8, 8)), (mlp(), (6, 6)),
])  # fmt: skip
def test_data_of_a_space_that_does_not_fit_is_refused(config, shape):
    network = replace(config, conditioning=NO_PORTS).build()
    with pytest.raises(ValueError, match=r"space|vectors"):
        network(torch.zeros(2, *shape), torch.zeros(2))


@pytest.mark.parametrize(("kind", "values"), [
    (DiT, {"width": 0}), (DiT, {"depth": 0}), (DiT, {"patch": 0}), (DiT, {"width": 48, "head_dim": 32}),
    (DiT, {"dropout": 1.0}), (DiT, {"dropout": float("nan")}), (DiT, {"mlp_ratio": 0.0}),
    (DiT, {"mlp_ratio": float("nan")}), (DiT, {"dimensions": 0}), (DiT, {"width": 8, "head_dim": 1}),
    (UNet, {"width": 0}), (UNet, {"channel_mult": ()}), (UNet, {"channel_mult": (1, 0)}), (UNet, {"attention": (3,)}),
    (UNet, {"attention": (-1,)}), (UNet, {"dropout": -0.1}), (UNet, {"head_dim": 0}), (UNet, {"embedding_width": -1}),
    (UNet, {"width": 50, "head_dim": 32}), (UNet, {"blocks": 0}), (UNet, {"fourier": (-1,)}), (UNet, {"fourier": (99,)}),
    (MLP, {"width": 0}), (MLP, {"depth": -1}), (MLP, {"dropout": 2.0}),
])  # fmt: skip
def test_sizes_that_no_network_can_have_are_refused_where_they_are_described(kind, values):
    with pytest.raises(ValueError, match=r"network|positive"):
        kind.Config(**values)


@pytest.mark.parametrize("kind", [DiT, UNet, MLP])
def test_channels_that_nobody_named_are_asked_for(kind):
    with pytest.raises(ValueError, match="channels"):
        kind.Config().build()


@pytest.mark.parametrize("values", [{"classes": -1}, {"vocabulary": 3}, {"length": 3}, {"text_layers": -1}])
def test_ports_that_count_nothing_sensible_are_refused(values):
    with pytest.raises(ValueError, match=r"network.conditioning|text needs"):
        ConditioningConfig(**values)
