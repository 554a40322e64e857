"""Law of samplers: an ideal denoiser gives back the law of its data.

Numbers. The ideal denoiser of a data set returns points of it, at distance zero, as often as it holds them.

Symbols. A step reveals places independently given what is shown, so places revealed in the same step do not see each
other. One step gives the product of the marginals, many steps the data law, with a gap that falls like 1 / steps; where
places are independent every number of steps is exact. The law after n steps is enumerated as a Markov chain on all
partly masked rows, and draws are compared with that.
"""

import itertools
import math

import pytest
import torch

from langevin.diffusion.denoiser import TokenDenoiser
from langevin.diffusion.posterior import Joint, Point
from langevin.diffusion.process import Gaussian, Masked, Product
from langevin.diffusion.sampler import Ancestral, KarrasGrid, UniformTimeGrid, sample, start
from langevin.diffusion.schedule import Rectified
from tests import exact
from tests.laws.bounds import kolmogorov, kolmogorov_bound, variation, variation_bound
from tests.laws.parts import SAMPLERS, SCHEDULES

POINTS = torch.tensor([[-1.0, 0.2], [0.3, 0.9], [0.8, -0.6], [0.2, -0.1]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
ROWS = 20_000


def finish(tool, process, denoiser, like, times):
    rows = len(next(iter(like.values())) if isinstance(like, dict) else like)
    state = start(tool, process, like, times.expand(rows, -1), torch.arange(rows))
    for told in sample(tool, process, denoiser, state):
        state = told
    return state.x


def mean_and_std() -> tuple[torch.Tensor, float]:
    mean = WEIGHTS @ POINTS
    return mean, math.sqrt(float(WEIGHTS @ (POINTS - mean).square().mean(1)))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("schedule", [SCHEDULES["rectified"], SCHEDULES["variance_preserving"]], ids=lambda s: s.kind)
def test_an_ideal_denoiser_gives_back_its_data_as_often_as_it_holds_it(name, schedule):
    rows = 2000
    process = Gaussian(schedule=schedule, sigma_data=mean_and_std()[1])
    data = exact.Empirical(schedule=schedule, points=POINTS, weights=WEIGHTS)
    times = KarrasGrid()(torch.tensor([40]), schedule)
    x = finish(SAMPLERS[name], process, data, torch.zeros(rows, 2, dtype=torch.float64), times)
    distance = torch.cdist(x, POINTS)
    assert distance.amin(1).max() < 1e-12
    counts = torch.bincount(distance.argmin(1), minlength=4).double()
    assert variation(counts, WEIGHTS) < variation_bound(rows, WEIGHTS)


def test_samples_of_a_mixture_follow_its_law():
    data, process = exact.Mixture(), Gaussian(sigma_data=0.9)
    times = KarrasGrid()(torch.tensor([60]), data.schedule)
    x = finish(SAMPLERS["heun"], process, data, torch.zeros(4000, 1, dtype=torch.float64), times)
    now = torch.tensor([1e-9], dtype=torch.float64)
    assert kolmogorov(x[:, 0], lambda sample: data.cdf(sample[None], now)[0]) < kolmogorov_bound(4000)


# -------------------------------------------------------------------------------------------------------- symbols


def law_after(law: exact.Enumerated, steps: int) -> torch.Tensor:
    """(words,): what ancestral sampling on a uniform grid returns, by enumeration of the chain on partly masked rows."""
    mask = law.vocab_size
    rows = exact.Enumerated(p=torch.zeros(0), vocab_size=mask + 1, places=law.places)
    states, hidden = rows.words, rows.words == mask
    shown = torch.nn.functional.one_hot(states, mask + 1).double()
    drawn = torch.nn.functional.pad(law.marginals(states), (0, 1))
    chance = torch.zeros(len(states), dtype=torch.float64)
    chance[-1] = 1  # all masked
    for i in range(steps):
        reveal = 1 / (steps - i)  # (t - s) / t on a uniform grid
        place = torch.where(hidden[..., None], reveal * drawn + (1 - reveal) * shown, shown)
        move = torch.einsum("wa,wb,wc->wabc", *place.unbind(1)).flatten(1)
        chance = chance @ move
    return chance[rows.index(law.words)]


def gap(law: exact.Enumerated, steps: int) -> float:
    """Total variation between what sampling returns and the data law."""
    return 0.5 * float((law_after(law, steps) - law.p).abs().sum())


@pytest.mark.parametrize("steps", [1, 3, 16])
@pytest.mark.parametrize("make", [exact.entangled, exact.factorised])
def test_masked_sampling_returns_the_enumerated_law(make, steps):
    law, process = make(), Masked(vocab_size=3)
    denoiser = TokenDenoiser(network=lambda x, t, condition: law.marginals(x).log(), process=process)
    times = UniformTimeGrid()(torch.tensor([steps]), Rectified())
    x = finish(Ancestral(), process, denoiser, torch.zeros(ROWS, 3, dtype=torch.int64), times)
    assert bool((x < 3).all())
    counts, want = torch.bincount(law.index(x), minlength=27).double(), law_after(law, steps)
    assert float(want.sum()) == pytest.approx(1)
    assert variation(counts, want) < variation_bound(ROWS, want)


def test_one_step_gives_the_product_of_the_marginals():
    law = exact.entangled()
    alone = law.marginals(torch.full((1, 3), 3))[0]
    assert torch.allclose(law_after(law, 1), torch.einsum("a,b,c->abc", *alone).flatten())


def test_the_gap_to_the_data_law_falls_like_one_over_the_steps():
    law = exact.entangled()
    gaps = [gap(law, steps) for steps in (1, 4, 16, 64, 256)]
    assert gaps[0] > 0.1
    assert all(fine < coarse for coarse, fine in itertools.pairwise(gaps))
    assert gaps[3] / gaps[4] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("steps", [1, 3, 16])
def test_independent_places_are_exact_at_any_number_of_steps(steps):
    assert gap(exact.factorised(), steps) < 1e-12


def test_one_place_a_step_is_exact_for_any_law():
    """With times of their own the places are revealed one after another: the chain rule."""
    law, process = exact.entangled(), Masked(vocab_size=3)
    times = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]], dtype=torch.float64).expand(ROWS, -1, -1)
    tool = Ancestral()
    state = start(tool, process, torch.zeros(ROWS, 3, dtype=torch.int64), times, torch.arange(ROWS))
    for told in sample(tool, process, law, state):
        state = told
    counts = torch.bincount(law.index(state.x), minlength=27).double()
    assert variation(counts, law.p) < variation_bound(ROWS, law.p)


def test_a_given_prefix_stays_and_the_rest_follows_its_conditional_law():
    law, process = exact.entangled(), Masked(vocab_size=3)
    tool, like = Ancestral(), torch.zeros(ROWS, 3, dtype=torch.int64)
    times = UniformTimeGrid()(torch.tensor([32]), Rectified()).expand(ROWS, -1)
    state = start(tool, process, like, times, torch.arange(ROWS))
    given = torch.tensor([2, 3, 3]).expand(ROWS, -1)
    state = type(state)(**{**vars(state), "x": torch.where(given < 3, given, state.x)})
    for told in sample(tool, process, law, state):
        state = told
    assert bool((state.x[:, 0] == 2).all())
    rest = law.p.reshape(3, 9)[2] / law.p.reshape(3, 9)[2].sum()
    counts = torch.bincount(state.x[:, 1] * 3 + state.x[:, 2], minlength=9).double()
    assert variation(counts, rest) < variation_bound(ROWS, rest)  # 32 steps: the gap is far below the bound


def test_mixed_data_is_sampled_jointly():
    """A number whose mean is told by a symbol: both parts share one clock and one posterior."""
    rows, word_law = 4000, torch.tensor([0.7, 0.3], dtype=torch.float64)
    means, variance = torch.tensor([-1.0, 1.0], dtype=torch.float64), 0.04
    process = Product(parts={"number": Gaussian(sigma_data=0.95), "word": Masked(vocab_size=2)})

    def denoiser(x_t, t, condition):
        a, s, y = 1 - t[:, None], t[:, None], x_t["number"]
        fit = -0.5 * (y - a * means) ** 2 / (a * a * variance + s * s)  # (b, 2): both components have one variance
        shown = torch.nn.functional.one_hot(x_t["word"][:, 0], 3)[:, :2].bool()
        belief = word_law.log() + fit
        belief = torch.where(shown.any(1, keepdim=True), torch.where(shown, 0.0, -torch.inf), belief)
        each = means + a * variance / (a * a * variance + s * s) * (y - a * means)
        mean = (belief.softmax(1) * each).sum(1, keepdim=True)
        network = TokenDenoiser(network=lambda x, t, c: belief[:, None], process=process.parts["word"])
        return Joint({"number": Point(mean), "word": network(x_t["word"], t)})

    like = {"number": torch.zeros(rows, 1, dtype=torch.float64), "word": torch.zeros(rows, 1, dtype=torch.int64)}
    times = UniformTimeGrid()(torch.tensor([200]), Rectified())
    x = finish(Ancestral(), process, denoiser, like, times)
    counts = torch.bincount(x["word"][:, 0], minlength=2).double()
    assert variation(counts, word_law) < variation_bound(rows, word_law)
    assert ((x["number"] > 0) == (x["word"] == 1)).double().mean() > 0.99
    for word in (0, 1):
        number = x["number"][x["word"] == word]
        assert float(number.mean()) == pytest.approx(float(means[word]), abs=0.03)
        assert float(number.var()) == pytest.approx(variance, rel=0.15)
