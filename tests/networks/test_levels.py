"""Networks with a noise level per frame: equal levels are one level, and frames are told apart."""

from dataclasses import replace

import pytest
import torch

from langevin.networks.patches import patchify, unpatchify
from tests.networks.test_networks import asked, dit, near, stirred, unet

CONFIGS = {
    "clips": (dit(3, patch=(1, 2, 2)), (2, 4, 2, 6)), "patches of two frames": (dit(3, patch=(2, 1, 2)), (2, 4, 2, 6)),
    "convolutions": (dit(3, patch=(1, 2, 2), kernel=3), (2, 4, 2, 6)),
    "factorised": (dit(3, patch=(1, 2, 2), attention="factorised"), (2, 4, 2, 6)), "sequences": (dit(1), (2, 8)),
    "U-Net": (unet(3), (2, 4, 2, 6)), "U-Net of patches": (unet(3, patch=2), (2, 8, 4, 4)),
    "U-Net of sequences": (unet(1), (2, 8)),
}  # fmt: skip
EVERY = pytest.mark.parametrize(("config", "shape"), CONFIGS.values(), ids=CONFIGS)


@EVERY
def test_equal_levels_are_one_level(config, shape):
    network = stirred(config)
    x, c_time, condition = asked(3, shape)
    whole = network(x, c_time, condition)
    near(network(x, c_time.reshape(3, 1, 1).expand(3, 1, shape[1]), condition), whole)
    near(network(x, c_time.reshape(3, *[1] * (x.ndim - 1)).expand(3, 1, *shape[1:]), condition), whole)


@EVERY
def test_another_level_of_one_frame_changes_the_output_and_other_samples_stay(config, shape):
    network = stirred(config)
    x, c_time, condition = asked(2, shape)
    levels = c_time.reshape(2, 1, 1).repeat(1, 1, shape[1])
    before = network(x, levels, condition)
    levels[0, 0, -1] += 1.5
    after = network(x, levels, condition)
    assert (after[0] - before[0]).abs().max() > 1e-3
    near(after[1], before[1])


def test_a_block_within_frames_and_one_along_time_read_what_they_say():
    """After one block within frames, a frame depends on itself alone; the second one connects them, at equal positions."""
    network = stirred(dit(3, patch=(1, 2, 2), attention="factorised", depth=1))
    x, c_time, condition = asked(1, (2, 4, 2, 6))
    levels = c_time.reshape(1, 1, 1).repeat(1, 1, 4)
    before = network(x, levels, condition)
    other = x.clone()
    other[:, :, 1] += 1
    near(network(other, levels, condition)[:, :, [0, 2, 3]], before[:, :, [0, 2, 3]])
    network.blocks[0].axis = "time"
    before, other = network(x, levels, condition), x.clone()
    other[..., :2] += 1
    after = network(other, levels, condition)
    near(after[..., 2:], before[..., 2:])
    assert (after[:, :, 1, :, :2] - before[:, :, 1, :, :2]).abs().max() > 1e-3


def test_levels_per_frame_are_the_same_with_and_without_padding():
    network = stirred(dit(3, patch=(1, 2, 2), attention="factorised"))
    x, c_time, condition = asked(2, (2, 4, 2, 6))
    levels = c_time.reshape(2, 1, 1) + torch.arange(4.0)
    mask = (torch.arange(4) < 3)[None, :, None, None].expand(2, 4, 2, 6)
    padded = network(x, levels, replace(condition, data_mask=mask))
    near(padded[:, :, :3], network(x[:, :, :3], levels[..., :3], condition))
    assert bool((padded[:, :, 3] == 0).all())


def test_each_resolution_of_a_u_net_has_the_mean_level_of_what_is_under_it():
    network = stirred(unet(3, patch=2, channel_mult=(1, 2, 2)))
    levels = torch.arange(8.0).view(1, 1, 8)
    vectors = network._vectors(levels, 0.0, 3)
    for vector, mean in zip(vectors, ([0.5, 2.5, 4.5, 6.5], [1.5, 5.5], [3.5]), strict=True):
        assert vector.shape[1:4] == (len(mean), 1, 1)
        near(vector[0, :, 0, 0], torch.nn.functional.silu(network.time_embedding(torch.tensor(mean))))


@pytest.mark.parametrize("shape", [(3, 2, 4), (3, 1, 5), (3, 4), (3, 1, 4, 5)])
def test_levels_of_another_shape_are_refused(shape):
    network = stirred(dit(3, patch=(1, 2, 2)))
    x, _, condition = asked(3, (2, 4, 2, 6))
    with pytest.raises(ValueError, match="one noise level per sample"):
        network(x, torch.zeros(shape), condition)


def test_patches_with_a_side_for_each_dimension_come_back():
    x = torch.randn(2, 3, 4, 6, 8)
    for patch in (1, 2, (1, 2, 4), (4, 3, 1)):
        assert torch.equal(unpatchify(patchify(x, patch), patch), x)
    assert patchify(x, (2, 3, 4)).shape == (2, 72, 2, 2, 2)
    one = patchify(x, (1, 2, 4))[1, :, 3, 2, 1].reshape(3, 2, 4)
    assert torch.equal(one, x[1, :, 3, 4:6, 4:8])
    with pytest.raises(ValueError, match="a side for each of the 3"):
        patchify(x, (1, 2))


def test_attention_within_frames_needs_space():
    with pytest.raises(ValueError, match="dimensions >= 2"):
        dit(1, attention="factorised")
