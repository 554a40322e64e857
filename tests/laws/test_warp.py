"""Laws of time warping: it keeps the ends and the order of times, and makes the expected error rise evenly."""

import pytest
import torch

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.objective import LogNormal, PartsLoss
from langevin.diffusion.posterior import Categorical, Joint, Point
from langevin.diffusion.process import GIDD, Gaussian, Masked, Product
from langevin.diffusion.schedule import Cosine, VariancePreserving
from langevin.diffusion.training_input import NoiseAtOwnTimes
from langevin.diffusion.warp import TimeWarp, TimeWarps, share_of, time_of

PARTS = {
    "rectified": Gaussian(sigma_data=0.5), "cosine": Gaussian(schedule=Cosine(), sigma_data=2.0),
    "masked": Masked(vocab_size=3), "quadratic": Masked(vocab_size=3, schedule="quadratic"),
}  # fmt: skip
T = torch.linspace(0, 1, 201, dtype=torch.float64)


@pytest.mark.parametrize("name", PARTS)
def test_the_share_of_uncertainty_goes_from_0_to_1_and_has_an_inverse(name):
    share = share_of(PARTS[name], T)
    assert share[0] == 0
    assert share[-1] == pytest.approx(1)
    assert bool((share.diff() > 0).all())
    assert torch.allclose(time_of(PARTS[name], share), T, atol=1e-9)


def warped(positions: int = 3, seed: int = 0) -> TimeWarp:
    warp = TimeWarp(positions)
    torch.nn.init.normal_(warp.log_slope, std=1.5, generator=torch.Generator().manual_seed(seed))
    return warp


def test_a_new_clock_is_the_common_one_and_every_clock_keeps_ends_and_order():
    assert torch.allclose(TimeWarp(2)(T), T[:, None].expand(-1, 2), atol=1e-12)
    own = warped()(T)
    assert own.shape == (201, 3)
    assert bool((own[0] == 0).all() and (own[-1] == 1).all() and (own.diff(dim=0) > 0).all())
    assert torch.equal(warped()(T.view(3, 67)), own.view(3, 67, 3))


def test_the_expected_error_rises_evenly_along_a_clock():
    """F at the own share is the common share of its largest value, but for the share of the identity."""
    warp = warped()
    errors = warp.errors(warp(T))
    rise = errors / warp.errors(torch.ones(1, 3, dtype=torch.float64))
    assert float((rise - T[:, None]).detach().abs().max()) < 0.05 + 1e-9


def test_independent_parts_keep_the_common_time_and_all_times_are_those_of_one_noise_level():
    process = Product(parts={"number": PARTS["rectified"], "other": PARTS["cosine"], "word": PARTS["masked"]})
    times = TimeWarps(process, {"number": 2, "word": 3})(T)
    assert {name: tuple(part.shape) for name, part in times.items()} == {
        "number": (201, 2), "other": (201,), "word": (201, 3)
    }  # fmt: skip
    share = T**2 / (T**2 + (1 - T) ** 2)
    for name, part in process.parts.items():
        own = share_of(part, times[name])
        assert torch.allclose(own, share if own.ndim == 1 else share[:, None].expand_as(own), atol=1e-9)
    with pytest.raises(ValueError, match="for Gaussian and masked parts, and this is GIDD"):
        TimeWarps(Product(parts={"word": GIDD(vocab_size=3)}), {})(T)


def test_clocks_are_learned_from_the_errors_of_the_exact_denoiser():
    """A number of a tenth of the spread that its process expects: its error rises early. One of the full spread rises as
    the common time."""
    process = Product(parts={"number": Gaussian(sigma_data=1.0)})
    torch.manual_seed(0)
    warps, count = TimeWarps(process, {"number": 2}), 512
    optimizer = torch.optim.Adam(warps.parameters(), lr=0.05)
    make, variance = (
        NoiseAtOwnTimes(process=process, times=LogNormal(mean=-0.5, std=2.0), warps=warps),
        torch.tensor([0.01, 1.0]),
    )
    for step in range(200):
        x = torch.randn(count, 2) * variance.sqrt()
        draw = step_randomness(seed=1, step=step, samples=torch.arange(count), count=count)
        t, x_t = make(Batch(x={"number": x}), draw)
        alpha, sigma = 1 - t["number"].float(), t["number"].float()
        mean = alpha * variance * x_t["number"] / (alpha**2 * variance + sigma**2)
        loss = warps.loss(Joint({"number": Point(mean)}), {"number": x}, t)
        assert loss.shape == (count,)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    share = torch.tensor([0.02, 0.1, 0.5, 0.9], dtype=torch.float64)
    ratio = share / (1 - share)
    truth = torch.stack([ratio * v / (ratio + v) for v in variance], 1)
    assert torch.allclose(warps.warps["number"].errors(share[:, None].expand(-1, 2)), truth, rtol=0.35)
    own = warps.warps["number"](share)
    assert float((own[:, 1] - share).abs().max()) < 0.06
    assert float(own[2, 0]) < 0.1  # half of what is known is lost at the variance 0.01 of noise


def test_training_times_are_zero_where_something_is_known_and_it_costs_nothing():
    process = Product(parts={"number": Gaussian(sigma_data=1.0), "word": Masked(vocab_size=3)})
    make = NoiseAtOwnTimes(process=process, times=LogNormal(), warps=TimeWarps(process, {"number": 2, "word": 2}))
    x = {"number": torch.randn(6, 2), "word": torch.randint(0, 3, (6, 2))}
    known = {"number": torch.tensor([[True, False]] * 6), "word": torch.tensor([[False, True]] * 6)}
    draw = step_randomness(seed=0, step=0, samples=torch.arange(6), count=6)
    t, x_t = make(Batch(x=x, known=known), draw)
    for name, at in known.items():
        assert torch.equal(x_t[name][at], x[name][at])
        assert bool((t[name][at] == 0).all() and (t[name][~at] > 0).all())
    q = Joint({"number": Point(torch.zeros(6, 2)), "word": Categorical(torch.zeros(6, 2, 3))})
    loss = PartsLoss(process=process)
    x_t["word"] = torch.tensor([[3, 0]] * 6)
    number = loss.__class__(process=Product(parts={"number": process.parts["number"]}))
    alone = number(Joint({"number": q.parts["number"]}), {"number": x["number"]}, x_t, t)
    time = t["number"][:, 1].float()
    weight = ((1 - time) / time) ** 2 + 1
    assert torch.allclose(alone, weight * x["number"][:, 1] ** 2 / 2, rtol=1e-4)


def test_variance_preserving_parts_have_clocks_too():
    part = Gaussian(schedule=VariancePreserving(), sigma_data=1.0)
    assert torch.allclose(time_of(part, share_of(part, T[1:])), T[1:], atol=1e-6)
