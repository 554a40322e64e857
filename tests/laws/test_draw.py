"""Drawing symbols from large vocabularies: every symbol as often as it is likely, and no more memory than what is asked.

A mask that is drawn among 50,000 symbols by float32 noise gives way to them a sixth as often as it should. Here it is
decided first which places change, in float64, and symbols are drawn there only.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import Categorical
from langevin.diffusion.process import GIDD, Masked, UniformDiffusion
from langevin.diffusion.sampler import AncestralUnmask, start
from tests.laws.bounds import normal_bound
from tests.laws.chains import even, follows

LARGE, STEPS = 50_000, 1000


def streams(rows: int, step: int = 0) -> SampleNoise:
    return SampleNoise(seeds=torch.arange(rows), steps=torch.full((rows,), step))


def flat(rows: int, places: int) -> Categorical:
    return Categorical(torch.zeros(()).expand(rows, places, LARGE))


@pytest.mark.parametrize(
    "process",
    [
        Masked(vocab_size=LARGE),
        Masked(vocab_size=LARGE, schedule="cosine"),
        GIDD(vocab_size=LARGE, uniform_fraction=0.0),
    ],
    ids=["linear", "cosine", "hybrid"],
)
@pytest.mark.parametrize("i", [0, 500])
def test_as_many_places_are_revealed_in_a_step_as_the_process_says(process, i):
    """One of a thousand steps, 50,000 symbols, all equally likely."""
    few = isinstance(process, GIDD)  # to leave a place out takes all its logits: fewer places, a wider step
    rows, places = (1, 200) if few else (200, 500)
    t, s = (torch.full((rows,), 1 - (i + k) / STEPS, dtype=torch.float64) for k in (0, 20 if few else 1))
    hidden = [1 - process.arrivals(time[:1]).alpha for time in (t, s)]
    share = float((hidden[0] - hidden[1]) / hidden[0])
    x = torch.full((rows, places), process.mask)
    new = process.transition(flat(rows, places), x, t, s, streams(rows, 5))
    shown = (new < LARGE).double()
    assert abs(float(shown.mean()) - share) < normal_bound(rows * places, (share * (1 - share)) ** 0.5)
    if not few and shown.sum() > 30:
        assert len(new[new < LARGE].unique()) > 0.95 * float(shown.sum())


@pytest.mark.parametrize("rate", ["linear", "cosine", "quadratic"])
def test_times_drawn_beforehand_reveal_as_many_in_each_step(rate):
    process = Masked(vocab_size=LARGE, schedule=rate)
    x, grid = torch.full((20, 20_000), process.mask), even(STEPS).expand(20, -1)
    state = start(AncestralUnmask(), process, x, grid, torch.arange(20))
    step = STEPS - torch.round(state.times[:, :-1] * STEPS).long()  # of the grid, of each question
    at = step.gather(1, state.memory["reveal_at"])
    for i in (0, 1, 10, 500, 900, 980):
        before, after = (float(process.mask_probability(torch.tensor(1 - (i + k) / STEPS))) for k in (0, 1))
        n = int((at >= i).sum())
        left, share = float((at >= i).double().mean()), (before - after) / before
        assert abs(left - before) <= normal_bound(x.numel(), (before * (1 - before)) ** 0.5) + 1e-12
        now = float((at == i).sum()) / n
        assert abs(now - share) <= normal_bound(n, (share * (1 - share)) ** 0.5) + 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_symbols_are_drawn_as_often_as_they_are_likely(dtype):
    logits = torch.tensor([0.0, -4.0, -torch.inf, 1.0, -9.0, -torch.inf, 0.5], dtype=dtype)
    p = logits.double().softmax(-1)
    drawn = Categorical(logits.expand(400, 250, -1)).draw(streams(400)).flatten()
    assert follows(drawn, p)
    assert bool((p[drawn.unique()] > 0).all())
    assert not follows(drawn, logits.double().div(1.1).softmax(-1))


def test_the_many_rare_symbols_of_a_large_vocabulary_get_their_third_of_the_mass():
    """Each is 7e-6, in runs of a thousand: all of them are reached, and the far end as well as the near one."""
    mass = torch.full((LARGE,), 1 / (3 * 49_000), dtype=torch.float64)
    mass[:1000] = 2 / 3000
    drawn = torch.cat([Categorical(mass.log().float().expand(40, 5, LARGE)).draw(streams(40, i)) for i in range(10)])
    p = torch.cat([mass[:1000].sum()[None], mass[1000:].view(49, 1000).sum(1)])
    assert follows(drawn.flatten() // 1000, p)


@pytest.mark.parametrize("u", [2.0**-53, 0.5, 1 - 2.0**-53])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_draw_however_extreme_finds_a_symbol_of_no_probability(u, dtype):
    class Extreme:
        def uniform(self, like):
            return torch.full(like.shape, u, dtype=torch.float64)

    generator = torch.Generator().manual_seed(0)
    logits = 10 * torch.randn(500, 4, 300, generator=generator, dtype=dtype)
    barred = torch.rand(500, 4, 300, generator=generator) < 0.5
    barred[..., 0], barred[..., -1] = True, True
    logits = logits.masked_fill(barred, -torch.inf)
    drawn = Categorical(logits).draw(Extreme())
    assert bool((logits.gather(-1, drawn[..., None]) > -torch.inf).all())
    one = torch.full((1, 3, 5), -torch.inf, dtype=dtype).scatter(-1, torch.tensor([[[0], [2], [4]]]), 0.0)
    assert Categorical(one).draw(Extreme()).tolist() == [[0, 2, 4]]


def test_symbols_at_some_places_are_those_of_all_places():
    generator = torch.Generator().manual_seed(0)
    q = Categorical(torch.randn(30, 12, 9, generator=generator))
    at = torch.rand(30, 12, generator=generator) < 0.3
    at[3] = False
    some, all_ = q.draw(streams(30), at), q.draw(streams(30))
    assert torch.equal(some, torch.where(at, all_, 0))
    assert torch.equal(q.draw(streams(30), torch.zeros_like(at)), torch.zeros_like(some))
    assert not torch.equal(some, all_)


class Largest(TorchDispatchMode):
    """The most numbers that any tensor made here has of its own."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


def test_drawing_a_few_places_costs_memory_of_a_few_places():
    process, rows, places, few = Masked(vocab_size=LARGE), 50, 400, 6
    x = torch.full((rows, places), process.mask)
    at = torch.zeros(rows, places, dtype=torch.bool)
    at[:few, 7] = True
    with Largest() as some:
        flat(rows, places).draw(streams(rows), at)
    assert few * LARGE <= some.numbers <= few * LARGE + rows * places
    t = torch.full((rows,), 0.5, dtype=torch.float64)
    with Largest() as step:
        shown = (process.transition(flat(rows, places), x, t, t - 2e-4, streams(rows)) < LARGE).sum()
    assert 0 < int(shown) < 40
    assert step.numbers <= int(shown) * LARGE + rows * places


def test_an_arrival_is_any_symbol_of_a_large_vocabulary():
    process = UniformDiffusion(vocab_size=LARGE)
    x = torch.full((100, 1000), 7)
    z = process.corrupt(x, torch.full((100,), 0.9, dtype=torch.float64), streams(100))
    p = torch.full((50,), 0.9 / 50, dtype=torch.float64)
    p[0] += 0.1
    assert follows((z // 1000).flatten(), p)
    assert int(z.max()) < LARGE
    assert len(z.unique()) > 0.8 * LARGE
