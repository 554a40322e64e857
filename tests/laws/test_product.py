"""Laws of a product of processes: its parts have times of their own, and the samples the joint distribution."""

import math

import pytest
import torch

from langevin.diffusion.condition import Condition, GuidanceWeight
from langevin.diffusion.denoiser import TokenDenoiser
from langevin.diffusion.guidance import PartsGuidance
from langevin.diffusion.posterior import Joint, Point
from langevin.diffusion.process import Gaussian, Masked, Product
from langevin.diffusion.sampler import Ancestral, JointDPM2M, KarrasGrid, UniformTimeGrid, sample, start
from langevin.diffusion.schedule import Rectified
from langevin.diffusion.shape import tree_map
from tests.laws.bounds import kolmogorov, kolmogorov_bound, variation, variation_bound
from tests.laws.parts import PRODUCT_SAMPLERS as SAMPLERS

PROCESS = Product(parts={"number": Gaussian(sigma_data=1.0), "word": Masked(vocab_size=3)})
JOINT = torch.tensor([[0.35, 0.05, 0.1], [0.05, 0.3, 0.15]], dtype=torch.float64)  # of two words
MEANS = torch.tensor([[-1.2, 0.2, 0.9], [-0.4, 1.1, 1.4]], dtype=torch.float64)  # of the first number, given the words
STD = 0.2
COUNT = 4000


def posterior(x_t, t, condition=None) -> Joint:
    """The exact posterior of two words of which the first has two values, and of two numbers: one is normal given the
    words, the other is minus the first."""
    words, numbers = x_t["word"], x_t["number"]
    times = (t if isinstance(t, torch.Tensor) else t["number"]).to(numbers)
    times = times[:, None].expand_as(numbers) if times.ndim == 1 else times
    alpha, sigma = 1 - times, times.clamp_min(1e-9)
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64)
    precision = (alpha / sigma).square().sum(1)  # of both measurements of the first number
    seen = (sign * alpha / sigma.square() * numbers).sum(1) / precision.clamp_min(1e-30)
    spread = STD**2 + 1 / precision.clamp_min(1e-30)
    belief = JOINT.log() - 0.5 * (seen[:, None, None] - MEANS).square() / spread[:, None, None]
    for position, size in enumerate((2, 3)):
        value = words[:, position]
        shown = torch.nn.functional.one_hot(value, 4)[:, :size].bool() | (value == 3)[:, None]
        shape = (-1, size, 1) if position == 0 else (-1, 1, size)
        belief = belief.masked_fill(~shown.view(shape), -torch.inf)
    p = belief.flatten(1).softmax(1).view(-1, 2, 3)
    weight = STD**2 / spread
    mean = (p * (MEANS + weight[:, None, None] * (seen[:, None, None] - MEANS))).sum((1, 2))
    tokens = torch.full((len(words), 2, 3), -torch.inf, dtype=torch.float64)
    tokens[:, 0, :2], tokens[:, 1] = p.sum(2).log(), p.sum(1).log()
    word = TokenDenoiser(network=lambda *_: tokens, process=PROCESS.parts["word"])(words, torch.zeros(len(words)))
    return Joint({"number": Point(sign * mean[:, None]), "word": word})


def like(count: int) -> dict[str, torch.Tensor]:
    return {"number": torch.zeros(count, 2, dtype=torch.float64), "word": torch.zeros(count, 2, dtype=torch.int64)}


def drawn(sampler, times, count=COUNT, **given):
    state = start(sampler, PROCESS, like(count), times, torch.arange(count), **given)
    return [*sample(sampler, PROCESS, posterior, state)][-1].x


def own_times(steps: int, count: int) -> dict[str, torch.Tensor]:
    """Every position has a clock of its own."""
    t = UniformTimeGrid()(torch.tensor([steps]), Rectified()).expand(count, -1)
    return {"number": torch.stack([t**1.5, t**0.7], 2), "word": torch.stack([t, t**2], 2)}


def normal_cdf(x):
    return 0.5 * torch.erfc(-x / math.sqrt(2))


def require_law(x, joint=JOINT, means=MEANS):
    """The words have their joint distribution, and the numbers theirs given the words."""
    index = x["word"][:, 0] * 3 + x["word"][:, 1]
    assert variation(torch.bincount(index, minlength=6).double(), joint.flatten()) < variation_bound(
        COUNT, joint.flatten()
    )
    scaled = (x["number"][:, 0] - means.flatten()[index]) / STD
    assert kolmogorov(scaled, normal_cdf) < kolmogorov_bound(COUNT) + 0.02  # and what so many steps leave
    assert float((x["number"].sum(1)).abs().max()) < 0.15  # both were drawn apart, and agree


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("own", [False, True], ids=["one clock", "own clocks"])
def test_samples_have_the_joint_distribution(name, own):
    shared = KarrasGrid(low=0.01)(torch.tensor([150]), Rectified()).expand(COUNT, -1)
    require_law(drawn(SAMPLERS[name], own_times(150, COUNT) if own else shared))


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_is_known_stays_and_the_rest_has_its_conditional_distribution(name):
    """A word and a number at time 0 from the first step on."""
    times = own_times(100, COUNT)
    word = {"number": torch.zeros(COUNT, 2).bool(), "word": torch.tensor([False, True]).expand(COUNT, 2)}
    given = like(COUNT)
    given["word"][:, 1] = 2
    x = drawn(SAMPLERS[name], clean_where(times, word), x=given, known=word)
    assert bool((x["word"][:, 1] == 2).all())
    require_law(x, joint=JOINT * torch.tensor([0, 0, 1]) / JOINT[:, 2].sum())
    number = {"number": torch.tensor([True, True]).expand(COUNT, 2), "word": torch.zeros(COUNT, 2).bool()}
    given["number"] = torch.tensor([1.0, -1.0], dtype=torch.float64).expand(COUNT, 2)
    x = drawn(SAMPLERS[name], clean_where(times, number), x=given, known=number)
    assert torch.equal(x["number"], given["number"])
    want = JOINT * torch.exp(-0.5 * ((1 - MEANS) / STD).square())
    want = (want / want.sum()).flatten()
    counts = torch.bincount(x["word"][:, 0] * 3 + x["word"][:, 1], minlength=6).double()
    assert variation(counts, want) < variation_bound(COUNT, want)


def clean_where(times, known):
    return tree_map(lambda t, at: torch.where(at[:, None], 0.0, t), times, known)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_do_not_depend_on_the_batch(name):
    times = own_times(12, 5)
    together = drawn(SAMPLERS[name], times, count=5)
    for i in range(5):
        one = start(SAMPLERS[name], PROCESS, like(1), tree_map(lambda t, i=i: t[i : i + 1], times), torch.tensor([i]))
        one = [*sample(SAMPLERS[name], PROCESS, posterior, one)][-1]
        assert torch.equal(one.x["word"][0], together["word"][i])
        assert torch.allclose(one.x["number"][0], together["number"][i], rtol=0, atol=1e-13)  # the denoiser's rounding


def test_the_flow_is_of_second_order():
    """Against a fine solution from the same noise, with the words known, so that the flow is smooth."""
    known = {"number": torch.zeros(8, 2).bool(), "word": torch.ones(8, 2).bool()}

    def end(steps: int) -> torch.Tensor:
        t = KarrasGrid(low=0.05, to_zero=False)(torch.tensor([steps]), Rectified()).expand(8, -1)
        times = {"number": t[..., None].expand(-1, -1, 2), "word": torch.zeros(8, steps + 1, 2)}
        return drawn(JointDPM2M(), times, count=8, x=like(8), known=known)["number"]

    exact = end(2048)
    errors = [float((end(steps) - exact).abs().max()) for steps in (32, 64, 128)]
    assert math.log2(errors[0] / errors[1]) > 1.6
    assert math.log2(errors[1] / errors[2]) > 1.6


def test_times_that_do_not_fit_the_parts_are_refused():
    t = torch.tensor([[1.0, 0.0]]).expand(2, -1)
    with pytest.raises(ValueError, match="given for number, and the parts of the data are number, word"):
        start(Ancestral(), PROCESS, like(2), {"number": t}, torch.arange(2))
    with pytest.raises(ValueError, match="the same calls"):
        start(Ancestral(), PROCESS, like(2), {"number": t, "word": torch.tensor([[1.0, 0.5, 0.0]]).expand(2, -1)},
              torch.arange(2))  # fmt: skip
    with pytest.raises(ValueError, match="by part are for data that is a mapping"):
        start(Ancestral(), Gaussian(), torch.zeros(2, 2), {"number": t}, torch.arange(2))
    with pytest.raises(ValueError, match="eta is the share"):
        JointDPM2M(eta=1.5)


# ------------------------------------------------------------------------------------------------- guidance by given parts


def guided(weight):
    denoiser = PartsGuidance(weight=weight).wrap(posterior, process=PROCESS, models=None)
    return denoiser, Condition(
        guidance={"parts": GuidanceWeight(weight=torch.full((COUNT,), weight, dtype=torch.float64))}
    )


def times_of(number, word):
    """(b, n) times of both parts."""
    return {
        "number": torch.full((COUNT, 2), number, dtype=torch.float64),
        "word": torch.full((COUNT, 2), word, dtype=torch.float64),
    }


def given_words():
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(COUNT, 2, generator=generator, dtype=torch.float64)
    words = torch.stack([torch.arange(COUNT) % 2, torch.arange(COUNT) % 3], 1)
    return {"number": numbers, "word": words}


@pytest.mark.parametrize("weight", [1.0, 0.0, 2.5])
def test_guidance_by_a_given_part_is_on_the_line_from_the_prediction_without_it(weight):
    x, t = given_words(), times_of(0.6, 0.0)
    denoiser, told = guided(weight)
    got = denoiser(x, t, told).parts["number"].mean
    told_words = posterior(x, t).parts["number"].mean
    blind = posterior({**x, "word": torch.full_like(x["word"], 3)}, times_of(0.6, 1.0)).parts["number"].mean
    torch.testing.assert_close(got, blind + weight * (told_words - blind), rtol=1e-12, atol=1e-12)
    if weight == 1:
        assert torch.equal(got, told_words)
    else:
        assert float((got - told_words).abs().max()) > 0.05


def test_guidance_leaves_samples_without_a_given_part_as_they_are():
    denoiser, told = guided(3.0)
    x = {**given_words(), "word": torch.full((COUNT, 2), 3)}
    for t in (times_of(0.6, 0.4), times_of(0.3, 1.0), torch.full((COUNT,), 0.5, dtype=torch.float64)):
        assert torch.equal(denoiser(x, t, told).parts["number"].mean, posterior(x, t).parts["number"].mean)


def test_guidance_of_weight_zero_draws_the_other_part_without_the_given_one():
    """The numbers have their marginal law, whichever word is given."""
    times = own_times(100, COUNT)
    known = {"number": torch.zeros(COUNT, 2).bool(), "word": torch.ones(COUNT, 2).bool()}
    given = {**like(COUNT), "word": given_words()["word"]}
    denoiser, told = guided(0.0)
    state = start(
        JointDPM2M(), PROCESS, like(COUNT), clean_where(times, known), torch.arange(COUNT), x=given, known=known
    )
    drawn_numbers = [*sample(JointDPM2M(), PROCESS, denoiser, state, told)][-1].x["number"][:, 0]

    def law(x):
        return (JOINT[..., None] * normal_cdf((x - MEANS[..., None]) / STD)).sum((0, 1))

    assert kolmogorov(drawn_numbers, law) < kolmogorov_bound(COUNT) + 0.03


def test_guidance_by_parts_is_for_products():
    with pytest.raises(ValueError, match="guides some parts of the data by others"):
        PartsGuidance(weight=2.0).wrap(posterior, process=Gaussian(), models=None)
