"""Laws of noise levels per frame: in training, in sampling by every scheduling, in a window that moves, under guidance.

The data are frames of a stationary AR(1) process, x_f = r x_{f - 1} + noise, whose posterior given frames at any levels is
known: E[x | x_t] = C A (A C A + S)^-1 x_t with C_fg = r^|f - g|, A and S the frames' alpha and sigma^2.
"""

from dataclasses import dataclass, replace

import pytest
import torch

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.condition import Condition, GuidanceWeight, Port
from langevin.diffusion.guidance import HistoryGuidance, StabilisationGuidance, weighted
from langevin.diffusion.levels import (
    CleanPrefix,
    CleanStream,
    PerFrame,
    PerStream,
    Ramp,
    RandomSpan,
    Shared,
    times_per_frame,
)
from langevin.diffusion.objective import LogNormal, UniformTime, WeightedMSE
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian, Masked, Product
from langevin.diffusion.sampler import DDIM, DPM2M, KarrasGrid, UniformTimeGrid, sample, scheduling, start
from langevin.diffusion.sampler.scheduling import Autoregressive, FullSequence, Pyramid, Rolling
from langevin.diffusion.schedule import Cosine, Rectified
from langevin.diffusion.training_input import NoiseAtOwnTimes, NoiseAtTime
from langevin.diffusion.warp import TimeWarps, share_of
from langevin.diffusion.windowed import Windowed
from langevin.methods import Diffusion
from tests import exact
from tests.laws.bounds import kolmogorov, kolmogorov_bound
from tests.laws.parts import SAMPLERS

R = 0.8
SCHEDULINGS = {
    "full_sequence": FullSequence(), "autoregressive": Autoregressive(chunk=2), "pyramid": Pyramid(delay=3),
    "rolling": Rolling(window=3), "uneven": Rolling(window=5),
}  # fmt: skip
LEVELS = {
    "shared": Shared(), "per_frame": PerFrame(), "ramp": Ramp(window=4), "clean_prefix": CleanPrefix(),
    "random_span": RandomSpan(shortest=0.3, longest=0.7),
}  # fmt: skip
EVERY = pytest.mark.parametrize("plan", SCHEDULINGS.values(), ids=SCHEDULINGS)
KIND = pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
PROCESS = Gaussian(sigma_data=1.0)


def covariance(frames: int) -> torch.Tensor:
    f = torch.arange(frames, dtype=torch.float64)
    return R ** (f[:, None] - f).abs()


@dataclass
class Ar:
    """The exact denoiser of x (b, 1, frames) at t (b,) or (b, 1, frames)."""

    calls: int = 0
    largest: int = 0

    def __call__(self, x_t, t, condition=None):
        self.calls, self.largest = self.calls + 1, max(self.largest, x_t.shape[2])
        frames = x_t.shape[2]
        t = (t[:, None, None] if t.ndim == 1 else t).expand(-1, 1, frames)[:, 0]
        a, s = PROCESS.schedule.alpha(t), PROCESS.schedule.sigma(t)
        c = covariance(frames)
        total = a[:, :, None] * c * a[:, None] + torch.diag_embed(s * s + 1e-12)
        return Point((c @ (a * torch.linalg.solve(total, x_t[:, 0, :, None])[..., 0])[..., None])[..., 0][:, None])


def grids(plan, known, steps, grid=None):
    steps = torch.full((len(known),), steps) if isinstance(steps, int) else steps
    return scheduling.times_per_frame((grid or UniformTimeGrid())(steps, PROCESS.schedule), known, steps, plan)


def last(states):
    for state in states:
        final = state
    return final


def drawn(plan, x, known, steps, denoiser=None, sampler=None, told=None):
    """The end of sampling from x (b, frames) at the first times."""
    times = grids(plan, known, steps)[:, :, None]
    sampler = sampler or DDIM()
    state = start(sampler, PROCESS, x[:, None], times, torch.arange(len(x)), x=x[:, None])
    return last(sample(sampler, PROCESS, denoiser or Ar(), state, told)).x[:, 0]


# ---------------------------------------------------------------------------------------------------------- matrices


@EVERY
@pytest.mark.parametrize("steps", [1, 7, 12])
def test_times_fall_to_zero_and_known_frames_are_clean(plan, steps):
    known = torch.tensor([[True, False, False, True, False, False], [False] * 6])
    t = grids(plan, known, steps)
    assert bool((t.diff(dim=1) <= 0).all())
    assert bool((t[:, -1] == 0).all())
    assert bool((t[0, :, [0, 3]] == 0).all())
    assert bool((t[1, 0] == 1).all())
    for f in range(6):  # every frame visits the whole grid, in order
        visited = t[1, :, f].unique_consecutive()
        assert torch.equal(visited, UniformTimeGrid()(torch.tensor([steps]), PROCESS.schedule)[0])
    busy = plan.in_progress(steps)
    moving = (t.diff(dim=1) != 0).sum(2)
    assert int(moving.max()) <= (busy or 6)


@EVERY
def test_samples_of_other_lengths_and_steps_have_the_times_that_they_have_alone(plan):
    known = torch.tensor([[False] * 5, [True, True, False, False, False], [True, False, False, False, True]])
    steps = torch.tensor([4, 9, 6])
    together = grids(plan, known, steps)
    for i in range(3):
        alone = grids(plan, known[i : i + 1], steps[i : i + 1])
        assert torch.equal(together[i, : alone.shape[1]], alone[0])
        assert bool((together[i, alone.shape[1] :] == 0).all())


def test_a_pyramid_without_delay_is_full_and_one_of_all_steps_autoregressive():
    known = torch.zeros(1, 5, dtype=torch.bool)
    assert torch.equal(grids(Pyramid(delay=0), known, 8), grids(FullSequence(), known, 8))
    assert torch.equal(grids(Pyramid(delay=8), known, 8), grids(Autoregressive(chunk=1), known, 8))
    assert torch.equal(grids(Pyramid(delay=2), known, 8), grids(Rolling(window=4), known, 8))
    assert grids(Autoregressive(chunk=2), known, 8).shape[1] == 8 * 3 + 1
    assert grids(Pyramid(delay=1), known, 8).shape[1] == 8 + 4 + 1  # FIFO: each frame a step later


@pytest.mark.parametrize(
    "make", [lambda: Autoregressive(chunk=0), lambda: Pyramid(delay=-1), lambda: Rolling(window=0)]
)
def test_absurd_schedulings_are_refused(make):
    with pytest.raises(ValueError, match="at least"):
        make()


# ---------------------------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("name", [n for n in SAMPLERS if n not in ("restart", "repaint", "bs23", "learned")])
def test_every_sampler_takes_a_time_per_frame_as_one_per_position(name):
    """x (b, 1, frames) at (b, 1, frames) is x (b, frames) at (b, frames), step by step."""
    tool, like = SAMPLERS[name], torch.zeros(2, 4, dtype=torch.float64)
    times = grids(Pyramid(delay=2), torch.tensor([[False] * 4, [True, False, False, True]]), 6, KarrasGrid())
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    denoiser, seeds = exact.Scalar(), torch.tensor([3, 4])
    flat = last(sample(tool, PROCESS, denoiser, start(tool, PROCESS, like, times, seeds, x=x)))
    state = start(tool, PROCESS, like[:, None], times[:, :, None], seeds, x=x[:, None])
    framed = last(sample(tool, PROCESS, denoiser, state))
    assert torch.equal(framed.x[:, 0], flat.x)
    assert torch.equal(framed.x[1, 0, [0, 3]], x[1, [0, 3]])  # given frames stay to the bit
    assert torch.equal(framed.num_calls, flat.num_calls)


@EVERY
@pytest.mark.parametrize("known", [(), (0, 1), (0, 4)], ids=["all", "continued", "between"])
def test_with_the_exact_denoiser_samples_have_the_law_of_the_data_given_the_known_frames(plan, known):
    """The sampler is linear here, so its mean and covariance are exact: M M^T for the map M from noise to data. They
    approach the conditional Gaussian as the steps grow, with the first order of DDIM."""
    frames = 5
    given = torch.tensor([f in known for f in range(frames)])
    values = torch.tensor([1.2, -0.5, 0.3, 0.7, -1.1], dtype=torch.float64)
    free, c = ~given, covariance(frames)
    mean, cov = torch.zeros(int(free.sum()), dtype=torch.float64), c[free][:, free]
    if known:
        gain = c[free][:, given] @ torch.linalg.inv(c[given][:, given])
        mean, cov = gain @ values[given], cov - gain @ c[given][:, free]
    errors = []
    for steps in (40, 160):
        basis = torch.cat([torch.zeros(1, frames, dtype=torch.float64), torch.eye(frames, dtype=torch.float64)[free]])
        x = torch.where(given, values, basis)
        out = drawn(plan, x, given.expand(len(x), -1), steps)
        assert torch.equal(out[:, given], x[:, given])
        m = (out[1:] - out[0])[:, free].T
        errors.append(float((m @ m.T - cov).abs().max() + (out[0, free] - mean).abs().max()))
    assert errors[1] < 0.02
    assert errors[1] < 0.4 * errors[0]


@pytest.mark.parametrize("plan", [Rolling(window=3), Autoregressive(chunk=2), Pyramid(delay=6)], ids=["r", "a", "p"])
@pytest.mark.parametrize("sampler", [DDIM(), DPM2M()], ids=lambda s: s.kind)
def test_a_window_that_moves_draws_what_all_frames_at_once_do(plan, sampler):
    """Given its last clean frame, an AR(1) process forgets those before, and frames at t = 1 say nothing."""
    known = torch.zeros(3, 11, dtype=torch.bool)
    known[1, :4] = known[2, 0] = True
    x = torch.randn(3, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    whole, cut = Ar(), Ar()
    window = Windowed(denoiser=cut, frames=5, history=1)
    expected = drawn(plan, x, known, 18, whole, sampler)
    torch.testing.assert_close(drawn(plan, x, known, 18, window, sampler), expected, rtol=0, atol=1e-8)
    assert (whole.largest, cut.largest) == (11, 5)
    assert whole.calls == cut.calls


@pytest.mark.parametrize("plan", [Rolling(window=3), Autoregressive(chunk=2)], ids=["r", "a"])
def test_guidance_by_the_history_within_a_window_is_that_of_all_frames_at_once(plan):
    known = torch.zeros(2, 11, dtype=torch.bool)
    known[1, :4] = True
    x = torch.randn(2, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    guidance = HistoryGuidance(weight=1.6)
    told = weighted(Condition(), [guidance], 2)
    whole = guidance.wrap(Ar(), process=PROCESS, models=None)
    inside = guidance.wrap(Ar(), process=PROCESS, models=None)
    expected = drawn(plan, x, known, 18, whole, told=told)
    got = drawn(plan, x, known, 18, Windowed(denoiser=inside, frames=5, history=1), told=told)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-8)
    assert float((expected - drawn(plan, x, known, 18)).abs().max()) > 0.05


def test_a_window_needs_a_time_per_frame_and_room_for_those_in_progress():
    window = Windowed(denoiser=Ar(), frames=4, history=2)
    with pytest.raises(ValueError, match="moves along longer samples"):
        window(torch.zeros(1, 1, 9), torch.ones(1))
    with pytest.raises(ValueError, match="history of 0 to 3"):
        Windowed(denoiser=Ar(), frames=4, history=4)


def test_a_window_reads_the_condition_of_its_frames():
    seen = []

    def denoiser(x_t, t, condition):
        seen.append(condition)
        return Point(x_t)

    f = torch.arange(9).float().expand(2, -1)
    told = Condition(concat=Port(tensor=f[:, None]), data_mask=f < 8, global_=Port(tensor=torch.tensor([1, 2])))
    t = torch.where(f < torch.tensor([[3], [7]]), 0.0, 1.0)[:, None]
    q = Windowed(denoiser=denoiser, frames=4, history=1)(f[:, None], t.double(), told)
    assert seen[0].concat.tensor[:, 0].tolist() == [[2, 3, 4, 5], [5, 6, 7, 8]]
    assert seen[0].data_mask[1].tolist() == [True, True, True, False]
    assert seen[0].global_ is told.global_
    assert q.mean[0, 0].tolist() == [0, 1, 2, 3, 4, 5, 0, 0, 0]  # finished frames as they are, waiting ones 0


# ---------------------------------------------------------------------------------------------------------- training


@KIND
def test_levels_cover_the_density_and_clean_frames_are_the_data(levels):
    count, frames = 4000, 6
    draw = step_randomness(seed=0, step=3, samples=torch.arange(count), count=count)
    x = torch.randn(count, 2, frames, 3, generator=torch.Generator().manual_seed(0))
    given = NoiseAtTime(process=PROCESS, times=UniformTime(low=0, high=1), levels=(levels,))
    t, x_t = given(Batch(x=x), draw)
    assert t.shape == (count, 1, frames)
    clean = t[:, 0] == 0
    assert torch.equal(x_t.transpose(1, 2)[clean], x.transpose(1, 2)[clean])
    assert not torch.equal(x_t.transpose(1, 2)[~clean], x.transpose(1, 2)[~clean])
    if isinstance(levels, Ramp):
        inner = (t > 0) & (t < 1 - 1e-12)
        rise = t.diff(dim=2)[inner[..., 1:] & inner[..., :-1]]
        assert torch.allclose(rise, torch.tensor(1 / 4, dtype=torch.float64))
        return
    for f in range(isinstance(levels, CleanPrefix), frames):  # the first frame of a prefix is always clean
        free = t[:, 0, f][~clean[:, f]]
        assert kolmogorov(free, lambda p: p) < kolmogorov_bound(len(free))


def test_each_kind_gives_its_own_frames():
    count, frames = 3000, 6
    draw = step_randomness(seed=0, step=1, samples=torch.arange(count), count=count)

    def times(levels):
        return times_per_frame((levels,), UniformTime(low=0, high=1), Rectified(), draw.u, frames, draw.noise)

    assert torch.equal(times(Shared()), draw.u[:, None].expand(-1, frames))
    own = times(PerFrame())
    assert abs(float(torch.corrcoef(own.T)[0, 1])) < 4 / count**0.5
    prefix = (times(CleanPrefix()) == 0).long()
    assert prefix.sum(1).unique().tolist() == [1, 2, 3, 4, 5]
    assert bool((prefix.diff(dim=1) <= 0).all())
    span = (times(RandomSpan(shortest=0.3, longest=0.7)) > 0).long()
    assert span.sum(1).unique().tolist() == [2, 3, 4]
    edges = torch.nn.functional.pad(span, (1, 1)).diff(dim=1).abs().sum(1)
    assert bool((edges == 2).all())  # in one piece
    assert span[:, 0].sum() > 0 < span[:, -1].sum()


def test_kinds_are_mixed_by_their_shares_and_each_example_is_of_one():
    count, frames = 20_000, 6
    draw = step_randomness(seed=0, step=1, samples=torch.arange(count), count=count)
    levels = (Shared(share=3), PerFrame(share=1), CleanPrefix(share=0))
    t = times_per_frame(levels, LogNormal(), Cosine(), draw.u, frames, draw.noise)
    shared = (t == t[:, :1]).all(1)
    assert abs(float(shared.double().mean()) - 0.75) < 4 * (0.75 * 0.25 / count) ** 0.5
    assert not bool((t == 0).any())
    part = times_per_frame(levels, LogNormal(), Cosine(), draw.u[5:9], frames, replace(
        draw.noise, seeds=draw.noise.seeds[5:9], steps=draw.noise.steps[5:9]
    ))  # fmt: skip
    assert torch.equal(part, t[5:9])  # an example's levels do not depend on the others


def test_the_loss_is_of_the_frames_that_were_not_given():
    objective = WeightedMSE(process=PROCESS)
    x, t = torch.zeros(2, 3, 4, 5), torch.full((2, 1, 4), 0.5, dtype=torch.float64)
    t[0, 0, :2] = 0
    mean = torch.ones(2, 3, 4, 5)
    mean[0, :, :2] = 100.0  # of frames that were given
    loss = objective(Point(mean), x, x, t)
    weight = float(objective.weight(torch.tensor([0.5], dtype=torch.float64)))
    assert loss.tolist() == pytest.approx([weight, weight])
    mask = torch.ones(2, 4, 5, dtype=torch.bool)[:, None]
    mask[0, :, 3] = False
    mean[0, :, 3] = 100.0  # padding
    assert objective(Point(mean), x, x, t, mask).tolist() == pytest.approx([weight, weight])


def test_parts_have_levels_of_their_own_or_are_clean():
    """Of a product of two parts: x_t is x where a part is clean, and independent levels are independent."""
    count = 3000
    parts = {"a": Gaussian(), "b": Gaussian(sigma_data=1.0), "c": Masked(vocab_size=4)}
    process = Product(parts=parts)
    draw = step_randomness(seed=0, step=1, samples=torch.arange(count), count=count)
    x = {"a": torch.randn(count, 3), "b": torch.randn(count, 2), "c": torch.randint(4, (count, 5))}

    def corrupted(*levels):
        given = NoiseAtOwnTimes(process=process, times=LogNormal(), warps=TimeWarps(process, {}), levels=levels)
        return given(Batch(x=x), draw)

    t, x_t = corrupted(CleanStream())
    clean = torch.stack([t[name] == 0 for name in parts], 1)
    assert clean.sum(1).unique().tolist() == [1, 2]
    assert clean.double().mean(0).tolist() == pytest.approx([0.5] * 3, abs=0.04)
    for i, name in enumerate(parts):
        assert torch.equal(x_t[name][clean[:, i]], x[name][clean[:, i]])
    own = torch.stack([t["a"], t["b"]], 1)[~clean[:, :2].any(1)]
    shares = [share_of(Gaussian(sigma_data=s), own[:, i]) for i, s in enumerate((0.5, 1.0))]
    assert torch.allclose(*shares, atol=1e-9)  # the others have one common level
    t, _ = corrupted(PerStream())
    assert abs(float(torch.corrcoef(torch.stack([t["a"], t["b"], t["c"]]))[0, 1:].abs().max())) < 4 / count**0.5
    t, _ = corrupted()
    assert torch.allclose(share_of(Gaussian(), t["a"]), share_of(parts["c"], t["c"]), atol=1e-9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"levels": (Shared(share=0),)}, "not all 0"),
        ({"levels": (Shared(share=-1), PerFrame())}, "at least 0"),
        ({"levels": (PerFrame(),), "uncertainty": True}, "one noise level per example"),
        ({"levels": (PerFrame(),), "weighting": "bound"}, "one noise level per example"),
    ],
)
def test_levels_that_do_not_fit_a_method_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Diffusion.Config(**options)


# ---------------------------------------------------------------------------------------------------------- guidance


def guided(method, x, t, weights):
    told = Condition(guidance={method.kind: GuidanceWeight(weight=torch.tensor(weights, dtype=torch.float64))})
    return method.wrap(Ar(), process=PROCESS, models=lambda other: None)(x, t, told).mean


def test_history_guidance_goes_from_the_prediction_without_the_history_through_the_one_with_it():
    x = torch.randn(3, 1, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    t = torch.tensor([0, 0, 0.3, 0.6, 0.9], dtype=torch.float64).expand(3, 1, 5).clone()
    t[2] = 0.5  # a sample without clean frames
    plain = Ar()(x, t).mean
    alone = Ar()(x[:2, :, 2:], t[:2, :, 2:]).mean  # an exact prediction that never saw the history
    got = guided(HistoryGuidance(weight=2.0), x, t, [1.0, 3.0, 3.0])
    torch.testing.assert_close(got[0], plain[0], rtol=0, atol=0)
    torch.testing.assert_close(got[1, :, 2:], alone[1] + 3 * (plain[1, :, 2:] - alone[1]), rtol=0, atol=1e-9)
    torch.testing.assert_close(got[1, :, :2], plain[1, :, :2], rtol=0, atol=1e-12)
    assert torch.equal(got[2], plain[2])
    zero = guided(HistoryGuidance(weight=2.0), x[:2], t[:2], [0.0, 0.0])
    torch.testing.assert_close(zero[:, :, 2:], alone, rtol=0, atol=1e-9)


def test_history_at_a_level_is_strengthened_by_what_is_left_of_it():
    """A level near 1 leaves nothing of the history, and nothing is strengthened."""
    x = torch.randn(2, 1, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    t = torch.tensor([0, 0, 0.3, 0.6, 0.9], dtype=torch.float64).expand(2, 1, 5)
    plain, full = Ar()(x, t).mean, guided(HistoryGuidance(weight=2.0), x, t, [3.0, 3.0])
    size = [float((guided(HistoryGuidance(weight=2.0, level=level), x, t, [3.0, 3.0]) - plain).norm())
            for level in (1e-6, 0.999999)]  # fmt: skip
    assert size[0] == pytest.approx(float((full - plain).norm()), rel=1e-3)
    assert size[1] < 1e-4 * size[0]


def test_stabilisation_says_that_clean_frames_are_a_little_noisy():
    x = torch.randn(2, 1, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    t = torch.tensor([0, 0, 0.3, 0.6], dtype=torch.float64).expand(2, 1, 4)
    got = guided(StabilisationGuidance(), x, t, [0.0, 0.1])
    assert torch.equal(got[0], Ar()(x, t).mean[0])
    assert torch.equal(got[1], Ar()(x, torch.where(t == 0, 0.1, t)).mean[1])
    assert torch.equal(
        guided(StabilisationGuidance(), x, torch.ones(2).double(), [0.1, 0.1]), Ar()(x, torch.ones(2)).mean
    )


@pytest.mark.parametrize("make", [
    lambda: HistoryGuidance(weight=1.5, level=1.0), lambda: HistoryGuidance(weight=float("nan")),
    lambda: StabilisationGuidance(weight=1.0), lambda: StabilisationGuidance(weight=-0.1),
])  # fmt: skip
def test_absurd_guidance_by_history_is_refused(make):
    with pytest.raises(ValueError, match=r"level|finite|time from 0"):
        make()
