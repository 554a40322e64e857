"""The law of data masks: a sample among others of other sizes is the sample alone, in its output and in its gradients.

What stands outside a mask is NaN here, so nothing of it can be read. In float64.
"""

from dataclasses import replace

import pytest
import torch

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.condition import Condition, join, pad_to
from langevin.diffusion.denoiser import GaussianDenoiser, TokenDenoiser
from langevin.diffusion.objective import UniformTime, WeightedMSE
from langevin.diffusion.process import Gaussian, Masked
from langevin.methods.diffusion import Diffusion
from langevin.methods.levels import level_losses
from langevin.networks import MLP, DiT, Transformer, UNet
from tests.networks.test_ports import NETWORKS, built, data, stirred, told

NEAR = {"rtol": 0, "atol": 1e-10}
SIZES = {1: [(4,), (16,), (8,), (12,)], 2: [(4, 8), (16, 4), (8, 16), (12, 12)], 3: [(4, 4, 8), (8, 4, 4), (4, 8, 4)]}
ODD = {1: [(3,), (13,), (16,), (6,)], 2: [(3, 7), (16, 2), (9, 16), (1, 1)], 3: [(3, 4, 5), (8, 2, 4)]}
MASKED = {
    name: config for name, config in NETWORKS.items() if not isinstance(config, MLP.Config) and "blocks" not in name
}
EVERY = pytest.mark.parametrize("config", MASKED.values(), ids=MASKED)


def sizes(config, odd: bool) -> list[tuple[int, ...]]:
    """Those that a network reads without a mask, or any."""
    return (ODD if odd else SIZES)[getattr(config, "dimensions", 1)]


def canvas(config, spaces) -> tuple[int, ...]:
    """The smallest space that holds all, and that the network can cut."""
    match config:
        case UNet.Config():
            factor = config.patch * 2 ** (len(config.channel_mult) - 1)
        case DiT.Config():
            factor = config.patch
        case _:
            factor = 1
    return tuple(-(-max(side) // factor) * factor for side in zip(*spaces, strict=True))


def inside(space, at) -> torch.Tensor:
    """(1, *at) bool: a box of size `space` at the beginning."""
    mask = torch.zeros(1, *at, dtype=torch.bool)
    mask[(0, *(slice(n) for n in space))] = True
    return mask


def placed(config, x, space, at, fill) -> tuple[torch.Tensor, Condition]:
    """x on a canvas of `fill`, and its mask, which is left out where it is all of it."""
    return pad_to(x, (*x.shape[1 : x.ndim - len(space)], *at), fill), Condition(data_mask=inside(space, at))


def samples(config, odd: bool) -> list[tuple[torch.Tensor, Condition, tuple[int, ...]]]:
    return [
        (data(config, 1, space, seed=i), told(config, 1, space, n=1 + i, seed=i), space)
        for i, space in enumerate(sizes(config, odd))
    ]


def together(config, parts, extra: int = 0) -> tuple[torch.Tensor, Condition]:
    """All samples in one batch, on a canvas with room to spare."""
    at = canvas(config, [space for _, _, space in parts])
    at = tuple(n + extra for n in at)
    fill = -5 if isinstance(config, Transformer.Config) else torch.nan
    rows, condition = [], None
    for x, its, space in parts:
        wide, mask = placed(config, x, space, at, fill)
        its = replace(its, data_mask=mask.data_mask)
        if its.concat is not None:
            its = replace(its, concat=replace(its.concat, tensor=pad_to(its.concat.tensor, (2, *at), torch.nan)))
        rows.append(wide)
        condition = its if condition is None else join(condition, its)
    return torch.cat(rows), condition


def alone(config, x, its, space) -> tuple[torch.Tensor, Condition, tuple[int, ...]]:
    """As it is, or on the smallest canvas that the network can cut."""
    at = canvas(config, [space])
    if at == space:
        return x, its, at
    wide, mask = placed(config, x, space, at, 0)
    if its.concat is not None:
        its = replace(its, concat=replace(its.concat, tensor=pad_to(its.concat.tensor, (2, *at))))
    return wide, replace(its, data_mask=mask.data_mask), at


def valid(y, i, space, config) -> torch.Tensor:
    box = tuple(slice(n) for n in space)
    return y[(i, *box)] if isinstance(config, Transformer.Config) else y[(i, slice(None), *box)]


@pytest.mark.parametrize("odd", [False, True], ids=["whole patches", "cut patches"])
@EVERY
def test_a_sample_among_others_is_the_sample_alone_and_so_are_its_gradients(config, odd):
    network, parts = built(config), samples(config, odd)
    times = torch.linspace(-1, 1, len(parts), dtype=torch.float64)
    continuous = not isinstance(config, Transformer.Config)

    def gradients(losses) -> list[torch.Tensor]:
        network.zero_grad()
        sum(losses).backward()
        return [p.grad.clone() for p in network.parameters() if p.grad is not None]

    x, condition = together(config, parts, extra=8)
    x = x.requires_grad_() if continuous else x
    y = network(x, times, condition)
    losses, want = [], []
    for i, (one, its, space) in enumerate(parts):
        wide, its, _ = alone(config, one, its, space)
        wide = wide.requires_grad_() if continuous else wide
        single = valid(network(wide, times[i : i + 1], its), 0, space, config)
        torch.testing.assert_close(valid(y, i, space, config), single, **NEAR)
        losses.append(single.square().sum())
        want.append(valid(wide, 0, space, config) if continuous else None)
    ours = gradients([valid(y, i, space, config).square().sum() for i, (_, _, space) in enumerate(parts)])
    theirs = gradients(losses)
    assert len(ours) == len(theirs) > 10
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
    if continuous:
        assert bool(y[~condition.over(x).expand_as(x)].eq(0).all())
        assert bool(x.grad[~condition.over(x).expand_as(x)].eq(0).all())
        assert bool(x.grad.isfinite().all())


@EVERY
def test_a_mask_of_all_changes_nothing_and_one_of_nothing_is_finite(config):
    network, space = stirred(config), sizes(config, False)[0]
    x = data(config, 2, space)
    times = torch.zeros(2, dtype=torch.float64)
    plain = network(x, times, None)
    all_ = torch.ones(2, *space, dtype=torch.bool)
    torch.testing.assert_close(network(x, times, Condition(data_mask=all_)), plain, **NEAR)
    all_[1] = False
    y = network(x, times, Condition(data_mask=all_))
    torch.testing.assert_close(y[0], plain[0], **NEAR)
    y.square().sum().backward()
    assert bool(y.isfinite().all())
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)


@EVERY
def test_what_stands_in_a_hole_of_a_mask_changes_nothing(config):
    network, space = stirred(config), sizes(config, False)[-1]
    x, times = data(config, 2, space), torch.zeros(2, dtype=torch.float64)
    mask = torch.rand(2, *space, generator=torch.Generator().manual_seed(0)) < 0.6
    condition = Condition(data_mask=mask)
    over = condition.over(x).expand_as(x)
    other = torch.where(over, x, (x + 1) % 7 if x.dtype == torch.int64 else 1e3 * x)
    with torch.no_grad():
        one, two = network(x, times, condition), network(other, times, condition)
    marked = mask if x.dtype == torch.int64 else over
    torch.testing.assert_close(one[marked], two[marked], **NEAR)


def test_bf16_is_near_float32_under_a_mask():
    config = MASKED["unet 2d"]
    network = stirred(config).float()
    x = data(config, 2, (8, 8)).float()
    condition = Condition(data_mask=torch.cat([inside((8, 4), (8, 8)), inside((4, 8), (8, 8))]))
    with torch.no_grad():
        exactly = network(x, torch.zeros(2), condition)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            roughly = network(x, torch.zeros(2), condition).float()
    assert float((roughly - exactly).norm()) < 0.2 * float(exactly.norm())


def test_a_caption_prior_is_of_one_size_and_takes_no_mask():
    network = replace(NETWORKS["dit 2d"], caption_prior=4, num_patches=8).build()
    with pytest.raises(ValueError, match=r"DiT with network.caption_prior is given condition.data_mask"):
        network(torch.zeros(1, 2, 4, 8), torch.zeros(1), Condition(data_mask=torch.ones(1, 4, 8).bool()))


# --------------------------------------------------------------------------------------------- denoisers, objectives


def method(network) -> Diffusion:
    process = Gaussian()
    denoiser = GaussianDenoiser(network=network, process=process)
    return Diffusion(
        process=process, denoiser=denoiser, network=network, objective=WeightedMSE(process=process), times=UniformTime(),
        schedule=process.schedule,
    )  # fmt: skip


def test_a_denoiser_says_nothing_outside_the_mask_and_reads_nothing_there():
    config = MASKED["dit 1d"]
    denoiser = GaussianDenoiser(network=stirred(config), process=Gaussian())
    x, mask = data(config, 2, (8,)), torch.cat([inside((4,), (8,)), inside((8,), (8,))])
    t = torch.tensor([0.4, 0.7], dtype=torch.float64)
    scribbled = torch.where(mask[:, None], x, torch.nan)
    with torch.no_grad():
        mean = denoiser(scribbled, t, Condition(data_mask=mask)).mean
        alone = denoiser(x[:1, :, :4], t[:1]).mean
    assert bool((mean[0, :, 4:] == 0).all())
    torch.testing.assert_close(mean[:1, :, :4], alone, **NEAR)


def test_a_masked_token_outside_the_data_is_not_asked_for():
    config = replace(MASKED["tokens"], time_conditioning=False)
    denoiser = TokenDenoiser(network=stirred(config), process=Masked(vocab_size=7), at_masks_only=True)
    x = torch.tensor([[1, 7, 2, 7, 7, 7]])
    with torch.no_grad():
        q = denoiser(x, torch.tensor([0.5]), Condition(data_mask=inside((4,), (6,))))
        alone = denoiser(x[:, :4], torch.tensor([0.5]))
    assert q.open.tolist() == [[False, True, False, True, False, False]]
    torch.testing.assert_close(q.logits, alone.logits, **NEAR)


def test_a_loss_counts_the_positions_of_the_data_and_of_the_batchs_mask():
    config = MASKED["unet 2d"]
    network = stirred(config)
    learned = method(network)
    x, mask = data(config, 2, (8, 8)), torch.cat([inside((8, 8), (8, 8)), inside((4, 8), (8, 8))])
    random = step_randomness(seed=0, step=0, samples=torch.arange(2), count=2)
    some = (torch.arange(8) % 2 == 0).expand(2, 1, 8, 8)

    def losses(batch: Batch) -> torch.Tensor:
        return learned.loss("denoiser", batch, random).plain

    def by_hand(counted: torch.Tensor) -> torch.Tensor:
        condition = Condition(data_mask=mask)
        t, x_t = learned.training_input(Batch(x=x), random)
        with torch.no_grad():
            error = (learned.denoiser(x_t, t, condition).mean - x).square() * learned.objective.weight(t)[
                :, None, None, None
            ]
        return torch.stack([e[c].mean() for e, c in zip(error, counted.expand_as(error), strict=True)])

    condition = Condition(data_mask=mask)
    torch.testing.assert_close(losses(Batch(x=x, condition=condition)), by_hand(mask[:, None]))
    torch.testing.assert_close(losses(Batch(x=x, condition=condition, mask=some)), by_hand(mask[:, None] & some))
    outside = torch.where(mask[:, None], x, 9.0)
    torch.testing.assert_close(losses(Batch(x=outside, condition=condition)), losses(Batch(x=x, condition=condition)))


def test_losses_by_noise_level_count_the_data_alone():
    config = MASKED["dit 1d"]
    denoiser, process = GaussianDenoiser(network=stirred(config), process=Gaussian()), Gaussian()
    x, mask, level = data(config, 2, (8,)), inside((4,), (8,)).expand(2, -1), torch.tensor([0.0], dtype=torch.float64)
    one, two = (
        level_losses(
            denoiser,
            process,
            Batch(x=torch.where(mask[:, None], x, v), condition=Condition(data_mask=mask)),
            log_snr=level,
        )
        for v in (0.0, 7.0)
    )
    torch.testing.assert_close(one, two)
