"""The early head of a DiT: trained with the rest, and without effect on it where it is not."""

from dataclasses import replace

import pytest
import torch

from langevin.diffusion.batch import step_randomness
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.networks import DiT
from tests import tiny

CONFIG = replace(tiny.NETWORKS["dit"], depth=2, early_depth=1)


def batch_and_draw():
    from langevin.modalities.image.batches import ImageBatches
    from langevin.modalities.image.codec import Pixels

    data = tiny.images(8)
    batches = ImageBatches(
        dataset=data, codec=Pixels(), captions=None, labelled=True, flip=False, device=torch.device("cpu")
    )
    return batches(torch.arange(8)), step_randomness(seed=0, step=0, samples=torch.arange(8), count=8)


def test_the_loss_is_that_of_both_heads_and_reaches_the_early_one():
    method = tiny.method(CONFIG, condition_dropout=0.0)
    batch, draw = batch_and_draw()
    report = method.loss("denoiser", batch, draw)
    t, x_t = method.training_input(batch, draw)
    q, early = method.denoiser.with_early(x_t, t, batch.condition)
    both = [method.objective(one, batch.x, x_t, t, batch.counted()) for one in (q, early)]
    torch.testing.assert_close(report.loss, both[0] + 0.5 * both[1])
    torch.testing.assert_close(report.plain, both[0].detach())
    report.loss.mean().backward()
    network = method.denoiser.network
    assert float(network.early_proj.weight.grad.abs().sum()) > 0
    assert float(network.early_modulation.weight.grad.abs().sum()) > 0


def test_the_head_changes_nothing_of_the_prediction():
    torch.manual_seed(0)
    network = CONFIG.build()
    plain = replace(CONFIG, early_depth=0).build()
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("early")})
    batch, _ = batch_and_draw()
    c_time = torch.linspace(-1, 1, 8)
    y, early = network.with_early(batch.x, c_time, batch.condition)
    assert torch.equal(y, network(batch.x, c_time, batch.condition))
    assert torch.equal(y, plain(batch.x, c_time, batch.condition))
    assert not bool(early.any())  # it begins at zero


def test_a_network_without_an_early_head_says_how_to_get_one():
    denoiser = GaussianDenoiser(network=tiny.NETWORKS["dit"].build(), process=tiny.method().process)
    with pytest.raises(ValueError, match=r"train one with network.early_depth"):
        denoiser.with_early(torch.zeros(1, 1, 8, 8), torch.ones(1), None)
    for depth in (-1, 2):
        with pytest.raises(ValueError, match=r"network.early_depth is a number of blocks below network.depth"):
            DiT.Config(depth=2, early_depth=depth)
