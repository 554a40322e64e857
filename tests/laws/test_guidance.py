"""Laws of guidance: neutral weights change nothing, samples are apart, and Gaussians have their closed forms.

The first part holds for every method of `AnyGuidance`; those that follow are of one method each.

The toy denoiser answers for N(m_c, S_c) where a row is told its class and for N(m_u, S_u) where it is not.
"""

import math
from dataclasses import dataclass, field, replace
from typing import get_args

import pytest
import torch

from langevin.diffusion.condition import Condition, Further, GuidanceWeight, Port, join
from langevin.diffusion.guidance import (
    DDNM,
    DPS,
    MMPS,
    AnyGuidance,
    Autoguidance,
    Box,
    ClassifierFree,
    ClassifierFreeGuidance,
    Composition,
    CopyMask,
    EnergyGuided,
    HistoryGuidance,
    OtherModel,
    PartsGuidance,
    PiGDM,
    ProjectedGuidance,
    PromptGuidance,
    RescaledGuidance,
    StabilisationGuidance,
    VocabularyMask,
    ZeroStarGuidance,
    active,
    guide,
    self_contained,
    weight_of,
    weighted,
    with_weight,
)
from langevin.diffusion.guidance.dps import paper_step
from langevin.diffusion.measurement import Mask, Measurement
from langevin.diffusion.posterior import Categorical, Joint, MaskedCategorical, Point
from langevin.diffusion.process import GIDD, Gaussian, Masked, UniformDiffusion
from langevin.diffusion.sampler import KarrasGrid, sample, start
from langevin.diffusion.schedule import Cosine, Rectified, VarianceExploding, rho
from tests import exact
from tests.laws.parts import SAMPLERS, SCHEDULES

SCHEDULE = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
M_C, S_C, M_U, S_U = 0.5, 0.2, 0.0, 1.0


@dataclass
class Toy:
    """Exact for each class of row; remembers what it was asked."""

    schedule: object
    asked: list = field(default_factory=list)
    spread: float = S_U  # variance where nothing is told

    def __call__(self, x_t, t, condition=None):
        self.asked.append((x_t, t, condition))
        told = exact.Scalar(schedule=self.schedule, mean=M_C, variance=S_C)(x_t, t).mean
        blind = exact.Scalar(schedule=self.schedule, mean=M_U, variance=self.spread)(x_t, t).mean
        keep = condition.global_.kept().reshape(-1, *(1,) * (x_t.ndim - 1))
        return Point(torch.where(keep, told, blind))


@dataclass
class Words:
    """Symbols: uniform where nothing is told, leaning to the class where it is; class symbols 3 and above forbidden."""

    def __call__(self, x_t, t, condition=None):
        logits = torch.zeros(*x_t.shape, 4)
        logits[..., 3] = -torch.inf
        told = logits + 2.0 * torch.nn.functional.one_hot(condition.global_.tensor, 4)[:, None]
        return Categorical(torch.where(condition.global_.kept()[:, None, None], told, logits))


def condition(weights) -> Condition:
    weights = torch.as_tensor(weights, dtype=torch.float32)
    guidance = {"classifier_free": GuidanceWeight(weight=weights)}
    return Condition(global_=Port(tensor=torch.arange(len(weights)) % 3), guidance=guidance)


def within(told: Condition, interval) -> Condition:
    """The same in an interval, for all samples."""
    ((kind, weights),) = told.guidance.items()
    interval = torch.tensor(interval, dtype=torch.float64).expand(len(weights.weight), 2)
    return replace(told, guidance={kind: replace(weights, interval=interval)})


X = torch.linspace(-2, 2, 18, dtype=torch.float64).reshape(6, 3)
T = torch.tensor([0.9, 0.5, 0.3, 0.7, 0.2, 0.6], dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------ every method


@dataclass(frozen=True)
class Case:
    """A method on a denoiser that is exact: the plain prediction, and what it is compared with, by formula."""

    method: AnyGuidance
    process: object
    plain: object
    reference: object
    weaker: object = None
    combine: object = None  # of D_c, D_u and w (6, 1), where that is no line
    x: torch.Tensor = X
    facts: dict = field(default_factory=dict)

    def guided(self):
        return self.method.wrap(self.plain, process=self.process, models=lambda other: self.weaker)

    def told(self, weights, interval=None) -> Condition:
        weight = GuidanceWeight(weight=torch.tensor(weights, dtype=torch.float64), interval=interval)
        port = Port(tensor=torch.arange(6) % 3)
        return Condition(global_=port, guidance={self.method.kind: weight}, **self.facts)

    def line(self, told: Condition, weights):
        """What guidance is: a line between two predictions. That of the neutral weight is plain."""
        ends = [f(self.x, T, told.unguided()) for f in (self.plain, self.reference)]
        if self.combine is not None:
            return Point(self.combine(*(q.mean for q in ends), torch.tensor(weights, dtype=torch.float64)[:, None]))
        one, zero = ends if self.method.neutral == 1 else reversed(ends)
        return one.extrapolate_from(zero, torch.tensor(weights, dtype=torch.float64))


def exactly(mean: float, variance: float):
    """The exact denoiser of N(mean, variance), whatever the condition."""
    return lambda x_t, t, told=None: exact.Scalar(schedule=SCHEDULE_OF_ALL, mean=mean, variance=variance)(x_t, t)


def tokens(x_t, t, told=None) -> Categorical:
    """Leans to the tokens that are shown, one position on."""
    return Categorical(2.0 * torch.nn.functional.one_hot(x_t.roll(1, 1), 5)[..., :4].double())


def blind(x_t, t, told) -> Categorical:
    return tokens(torch.where(told.prompt, 4, x_t), t)


def measured(step):
    """N(M_C, S_C) given `MEASURED`, by `step`: from (y - D, variance of x given x_t, r^2, alpha, sigma) to D_y - D."""

    def denoiser(x_t, t, told=None) -> Point:
        mean = exactly(M_C, S_C)(x_t, t).mean
        alpha, sigma = SCHEDULE_OF_ALL.alpha(t)[:, None], SCHEDULE_OF_ALL.sigma(t)[:, None]
        c, r2 = (v * sigma**2 / (alpha**2 * v + sigma**2) for v in (S_C, GAUSSIAN.sigma_data**2))
        return Point(mean + step(torch.where(SEEN, MEASURED.y - mean, 0.0), c, r2, alpha, sigma))

    return denoiser


def dps_step(residual, c, r2, alpha, sigma):
    """J = alpha c / sigma^2 for these data, and the gradient of |y - D| is -residual / |residual|."""
    size = (alpha**2 + sigma**2).sqrt()  # grad in x / size, and alpha / size in the factor
    slope = size * alpha * c / sigma**2 * residual / residual.norm(dim=1, keepdim=True)
    return slope / (2 * alpha / size * paper_step(2 * (alpha / sigma).log()))


def projected(c, u, w):
    """Line by line: the difference shortened to 0.3, and three quarters of its part along c removed."""
    d = torch.stack([row * min(1.0, 0.3 / float(row.norm())) for row in c - u])
    along = torch.stack([float(row @ one) / float(one @ one) * one for row, one in zip(d, c, strict=True)])
    return c + (w - 1) * (d - 0.75 * along)


def rescaled(c, u, w):
    g = u + w * (c - u)
    return torch.stack([(0.7 * a.std(correction=0) / b.std(correction=0) + 0.3) * b for a, b in zip(c, g, strict=True)])


def zero_star(c, u, w):
    """In velocities of the trigonometric schedule, x_t = cos x + sin eps in a = pi t / 2, so v = -sin D + cos eps."""
    t, rows = T[:, None], []
    a, s = torch.cos(torch.pi / 2 * t), torch.sin(torch.pi / 2 * t)
    v_c, v_u = (-s * mean + a * (X - a * mean) / s for mean in (c, u))
    for one, other, weight in zip(v_c, v_u, w, strict=True):
        fitted = float(one @ other) / float(other @ other) * other
        rows.append(fitted + weight * (one - fitted))
    v = torch.where(t > 0.8, 0.0, torch.stack(rows))
    return torch.where(w == 1, c, (v - a / s * X) / (-s - a * a / s))


def told_more(x_t, t):
    return exactly(M_C, S_C)(x_t, t).mean - exactly(M_U, S_U)(x_t, t).mean


SCHEDULE_OF_ALL = Cosine()
GAUSSIAN = Gaussian(schedule=SCHEDULE_OF_ALL)
PROMPTED = torch.tensor([[0, 1, 4], [2, 4, 4], [3, 3, 3], [4, 4, 4], [1, 4, 2], [2, 2, 4]])


MINUS_HALF = torch.full((6,), -0.5)
SEEN = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 1], [1, 1, 0], [1, 0, 0]]).bool()
STD = 0.3  # of the measurement's noise
MEASURED = Measurement(
    operator=Mask(seen=SEEN),
    y=torch.where(SEEN, X.flip(0), 0.0),
    noise=torch.full((6,), STD, dtype=torch.float64),
    shape=(3,),
)
GIVEN = {"measurement": MEASURED}
CASES = {
    MMPS: Case(
        MMPS(weight=2.0, tolerance=0.0), GAUSSIAN, exactly(M_C, S_C),
        measured(lambda d, c, *_: c / (c + STD**2) * d), facts=GIVEN,
    ),
    Box: Case(
        Box(weight=2.0, low=0.45, high=0.5), GAUSSIAN, exactly(M_C, S_C),
        lambda x_t, t, told=None: Point(exactly(M_C, S_C)(x_t, t).mean.clamp(0.45, 0.5)),
    ),
    PiGDM: Case(
        PiGDM(weight=2.0), GAUSSIAN, exactly(M_C, S_C), measured(lambda d, c, r2, *_: c / (r2 + STD**2) * d), facts=GIVEN
    ),
    DDNM: Case(
        DDNM(weight=2.0), GAUSSIAN, exactly(M_C, S_C), measured(lambda d, c, r2, *_: r2 / (r2 + STD**2) * d), facts=GIVEN
    ),
    DPS: Case(DPS(weight=2.0), GAUSSIAN, exactly(M_C, S_C), measured(dps_step), facts=GIVEN),
    ClassifierFreeGuidance: Case(
        ClassifierFreeGuidance(weight=2.0), GAUSSIAN, Toy(SCHEDULE_OF_ALL), exactly(M_U, S_U)
    ),
    ProjectedGuidance: Case(
        ProjectedGuidance(weight=2.0, parallel=0.25, radius=0.3), GAUSSIAN, Toy(SCHEDULE_OF_ALL), exactly(M_U, S_U),
        combine=projected,
    ),
    RescaledGuidance: Case(
        RescaledGuidance(weight=2.0), GAUSSIAN, Toy(SCHEDULE_OF_ALL), exactly(M_U, S_U), combine=rescaled
    ),
    ZeroStarGuidance: Case(
        ZeroStarGuidance(weight=2.0, zero=0.2), GAUSSIAN, Toy(SCHEDULE_OF_ALL, spread=0.6), exactly(M_U, 0.6),
        combine=zero_star,
    ),
    Composition: Case(
        Composition(weight=2.0), GAUSSIAN, Toy(SCHEDULE_OF_ALL),
        lambda x_t, t, told: Point(Toy(SCHEDULE_OF_ALL)(x_t, t, told).mean - 0.5 * told_more(x_t, t)),
        facts={"further": (Further(ports=Condition(global_=Port(tensor=torch.ones(6).long())), weight=MINUS_HALF),)},
    ),
    Autoguidance: Case(
        Autoguidance(weight=2.0, run="weaker"), GAUSSIAN, exactly(M_C, S_C), exactly(M_C, 2.0), weaker=exactly(M_C, 2.0)
    ),
    PromptGuidance: Case(
        PromptGuidance(weight=2.0), Masked(vocab_size=4), tokens, blind, x=PROMPTED,
        facts={"prompt": torch.tensor([[True, True, False]]).expand(6, -1) & (PROMPTED < 4)},
    ),
}  # fmt: skip
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=[kind.__name__ for kind in CASES])


def values(q) -> torch.Tensor:
    return q.mean if isinstance(q, Point) else q.logits.softmax(-1)


def test_every_method_is_tested():
    elsewhere = {HistoryGuidance, StabilisationGuidance, PartsGuidance}  # see test_levels and test_product
    assert set(CASES) | elsewhere == set(get_args(AnyGuidance))
    kinds = {kind.kind for kind in get_args(AnyGuidance)} - {kind.kind for kind in elsewhere}
    assert {case.method.kind for case in CASES.values()} == kinds


@EVERY
def test_a_neutral_weight_is_the_plain_prediction_to_the_bit(case):
    n = case.method.neutral
    plain = values(case.plain(case.x, T, case.told([n] * 6)))
    for told in (case.told([n] * 6), case.told([3.0] * 6).unguided()):
        assert torch.equal(values(case.guided()(case.x, T, told)), plain)
    mixed = values(case.guided()(case.x, T, case.told([n, 3.0, n, 0.5, -1.0, n])))
    assert torch.equal(mixed[[0, 2, 5]], plain[[0, 2, 5]])


@EVERY
def test_a_weight_is_a_place_on_the_line_through_the_reference_sample_by_sample(case):
    weights = [1.0, 0.0, 3.0, -0.5, 2.0, 0.5]
    told = case.told(weights)
    got, want = values(case.guided()(case.x, T, told)), values(case.line(told, weights))
    torch.testing.assert_close(got, want, rtol=1e-6 if case.method.kind in ("pigdm", "ddnm") else 1e-12, atol=1e-14)
    assert (got - values(case.plain(case.x, T, told))).abs().flatten(1).amax(1)[[2, 4]].min() > 1e-3


@EVERY
def test_samples_are_independent(case):
    told = case.told([1.0, 0.0, 3.0, -0.5, 2.0, 0.5])
    whole, guided = values(case.guided()(case.x, T, told)), case.guided()
    for i in range(6):
        row = slice(i, i + 1)
        torch.testing.assert_close(
            values(guided(case.x[row], T[row], told.select(row)))[0], whole[i], rtol=1e-14, atol=0
        )


@EVERY
def test_an_interval_is_each_samples_own(case):
    interval = torch.tensor([[0.0, torch.inf], [0.0, 1e-9], [1e9, torch.inf]] * 2, dtype=torch.float64)
    told = case.told([3.0] * 6, interval)
    if case.method.kind == "prompt":
        with pytest.raises(ValueError, match="which this process does not have"):
            case.guided()(case.x, T, told)
        return
    got = values(case.guided()(case.x, T, told))
    plain, guided = values(case.plain(case.x, T, told)), values(case.line(told, [3.0] * 6))
    torch.testing.assert_close(got[::3], guided[::3], rtol=1e-6, atol=0)
    for i in (1, 2, 4, 5):
        assert torch.equal(got[i], plain[i])


@EVERY
@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_no_number_is_refused(case, weight):
    with pytest.raises(ValueError, match="guidance must be a finite number"):
        replace(case.method, weight=weight)
    with pytest.raises(ValueError, match="must be finite"):
        case.guided()(case.x, T, case.told([1.0, 1.0, weight, 1.0, 2.0, 1.0]))


@EVERY
def test_the_weights_of_a_request_are_those_of_the_configuration(case):
    told = weighted(Condition(global_=Port(tensor=torch.arange(6))), [case.method], 6)
    assert told.guidance[case.method.kind].weight.tolist() == [2.0] * 6
    assert told.global_.tensor.tolist() == list(range(6))
    assert weighted(None, [], 6) is None


def test_several_methods_are_one_around_the_other_and_have_weights_of_their_own():
    methods = (ClassifierFreeGuidance(weight=2.0), Autoguidance(weight=3.0, run="weaker"))
    guided = guide(Toy(SCHEDULE_OF_ALL), methods, process=GAUSSIAN, models=lambda other: exactly(M_C, 2.0))
    told = weighted(condition([1.0] * 6), methods, 6)
    got = guided(X, T, told).mean
    inner = exactly(M_U, S_U)(X, T).mean + 2.0 * (exactly(M_C, S_C)(X, T).mean - exactly(M_U, S_U)(X, T).mean)
    weaker = exactly(M_C, 2.0)(X, T).mean
    torch.testing.assert_close(got, weaker + 3.0 * (inner - weaker), rtol=1e-12, atol=1e-14)


def test_requests_of_other_weights_and_of_none_join():
    case = CASES[ClassifierFreeGuidance]
    guided = case.guided()
    one, two = (case.told([w] * 6).select(slice(0, 3)) for w in (3.0, 1.0))
    both = join(one, replace(two, guidance={}))
    got = guided(torch.cat([X[:3], X[:3]]), torch.cat([T[:3], T[:3]]), both).mean
    assert torch.equal(got[:3], guided(X[:3], T[:3], one).mean)
    assert torch.equal(got[3:], guided(X[:3], T[:3], two.unguided()).mean)


def test_the_command_lines_weight_replaces_or_adds():
    weaker = Autoguidance(weight=3.0, run="weaker")
    free, prompt = ClassifierFreeGuidance(weight=2.0, interval=(0.1, 2.0)), PromptGuidance(weight=1.5)
    assert with_weight((), 4.0) == (ClassifierFreeGuidance(weight=4.0),)
    assert with_weight((weaker,), 4.0, kind="prompt") == (PromptGuidance(weight=4.0), weaker)
    assert with_weight((free, weaker), 4.0) == (replace(free, weight=4.0), weaker)
    assert with_weight((weaker,), 4.0) == (ClassifierFreeGuidance(weight=4.0), weaker)
    assert with_weight((prompt,), 4.0) == (PromptGuidance(weight=4.0),)
    assert [weight_of(g) for g in ((), (free,), (weaker, prompt), (weaker,))] == [1.0, 2.0, 1.5, 1.0]
    assert active((replace(free, weight=1.0), weaker)) == (weaker,)
    assert self_contained((free, weaker)) == (free,)


# -------------------------------------------------------------------------------------------------- classifier-free


@SCHEDULE
def test_weight_one_is_the_conditional_answer_and_zero_the_unconditional_one_bit_for_bit(schedule):
    toy = Toy(schedule)
    guided = ClassifierFree(denoiser=toy, schedule=schedule)
    told = condition([1, 0, 3, 1, 0, -0.5])
    got = guided(X, T, told).mean
    conditional, blind = toy(X, T, told).mean, toy(X, T, told.dropped()).mean
    for i in (0, 3):
        assert torch.equal(got[i], conditional[i])
    for i in (1, 4):
        assert torch.equal(got[i], blind[i])
    for i, w in ((2, 3.0), (5, -0.5)):
        assert torch.allclose(got[i], blind[i] + w * (conditional[i] - blind[i]), rtol=1e-13)


def test_all_weights_one_ask_the_plain_question_once():
    toy = Toy(Rectified())
    guided = ClassifierFree(denoiser=toy, schedule=Rectified())
    told = condition([1.0] * 6)
    got = guided(X, T, told)
    assert len(toy.asked) == 1
    assert toy.asked[0][2] is told
    assert torch.equal(got.mean, toy(X, T, told).mean)


@pytest.mark.parametrize("told", [None, Condition(global_=Port(tensor=torch.zeros(6).long()))])
def test_without_weights_the_denoiser_is_asked_as_it_is(told):
    asked = []
    guided = ClassifierFree(denoiser=lambda x, t, c: asked.append(c) or Point(x), schedule=Rectified())
    assert torch.equal(guided(X, T, told).mean, X)
    assert asked == [told]


def test_one_call_doubles_the_guided_rows_only_and_withholds_every_port_from_their_copies():
    toy = Toy(Rectified())
    every = Condition(
        global_=Port(tensor=torch.arange(6), keep=torch.tensor([1, 1, 1, 0, 1, 1]).bool()),
        cross=Port(tensor=torch.ones(6, 4).long(), mask=torch.arange(4) < torch.arange(1, 7)[:, None]),
        prepend=Port(tensor=torch.zeros(6, 1, 2)),
        concat=Port(tensor=torch.ones(6, 3)),
        aligned=Port(tensor=torch.zeros(6, 5, 2)),
        guidance={"classifier_free": GuidanceWeight(weight=torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0, 0.0]))},
    )
    ClassifierFree(denoiser=toy, schedule=Rectified())(X, T, every)
    ((x, t, told),) = toy.asked
    rows = [0, 1, 2, 3, 4, 5, 1, 3, 5]
    assert torch.equal(x, X[rows])
    assert torch.equal(t, T[rows])
    for name in ("global_", "cross", "prepend", "concat", "aligned"):
        port, given = getattr(told, name), getattr(every, name)
        assert torch.equal(port.tensor, given.tensor[rows])
        assert torch.equal(port.kept()[:6], given.kept())
        assert not bool(port.kept()[6:].any())
    assert torch.equal(told.cross.mask, every.cross.mask[rows])


@SCHEDULE
def test_rows_do_not_mix(schedule):
    guided = ClassifierFree(denoiser=Toy(schedule), schedule=schedule)
    told = within(condition([1, 0, 3, 1, 7.5, -0.5]), (0.5, 4.0))
    together = guided(X, T, told).mean
    for i in range(6):
        row = slice(i, i + 1)
        assert torch.equal(guided(X[row], T[row], told.select(row)).mean[0], together[i])


@SCHEDULE
def test_outside_the_interval_nothing_is_touched(schedule):
    toy, interval = Toy(schedule), (0.6, 1.7)
    guided = ClassifierFree(denoiser=toy, schedule=schedule)
    t = torch.linspace(0, 1, 60, dtype=torch.float64)
    x, told = torch.ones(60, 2, dtype=torch.float64), within(condition([4.0] * 60), interval)
    got, plain, blind = guided(x, t, told).mean, toy(x, t, told).mean, toy(x, t, told.dropped()).mean
    ratio = rho(schedule, t)
    inside = (ratio > interval[0]) & (ratio <= interval[1])
    assert 0 < int(inside.sum()) < 60
    assert torch.equal(got[~inside], plain[~inside])
    assert torch.allclose(got[inside], (blind + 4 * (plain - blind))[inside], rtol=1e-12)


def test_the_interval_is_open_below_and_closed_above():
    toy, t = Toy(Rectified()), torch.tensor([0.5, 0.8], dtype=torch.float64)
    low, high = (float(r) for r in rho(Rectified(), t))
    told, x = within(condition([3.0, 3.0]), (low, high)), torch.ones(2, 1, dtype=torch.float64)
    got = ClassifierFree(denoiser=toy, schedule=Rectified())(x, t, told).mean
    plain = toy(x, t, told).mean
    assert torch.equal(got[0], plain[0])
    assert not torch.equal(got[1], plain[1])


def test_places_with_times_of_their_own_are_inside_or_outside_by_themselves():
    toy, schedule = Toy(Rectified()), Rectified()
    guided = ClassifierFree(denoiser=toy, schedule=schedule)
    t = torch.tensor([[0.1, 0.5, 0.9], [0.0, 0.05, 0.1], [0.5, 0.5, 0.5]], dtype=torch.float64)
    x, told = torch.ones(3, 3, 2, dtype=torch.float64), within(condition([4.0, 4.0, 1.0]), (0.6, 1.7))
    got = guided(x, t, told).mean
    assert len(toy.asked[-1][0]) == 4  # only the first row has a place inside
    for i in range(3):
        assert torch.equal(guided(x[:, i], t[:, i], told).mean, got[:, i])


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_not_finite_is_refused(weight):
    guided = ClassifierFree(denoiser=Toy(Rectified()), schedule=Rectified())
    with pytest.raises(ValueError, match="finite"):
        guided(X, T, condition([1, 1, 2, weight, 1, 1]))


@pytest.mark.parametrize("interval", [(1.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (0.0, math.nan)])
def test_a_bad_interval_is_refused(interval):
    with pytest.raises(ValueError, match="interval"):
        ClassifierFreeGuidance(weight=2.0, interval=interval)
    guided = ClassifierFree(denoiser=Toy(Rectified()), schedule=Rectified())
    with pytest.raises(ValueError, match="interval"):
        guided(X, T, within(condition([2.0] * 6), interval))


# ------------------------------------------------------------------------------------------------ symbols and parts


def test_guided_symbols_lean_further_and_forbidden_ones_stay_forbidden():
    guided = ClassifierFree(denoiser=Words(), schedule=Rectified())
    told = condition([1, 0, 3])
    p = guided(torch.full((3, 2), 4), T[:3], told).logits.softmax(-1)
    assert bool((p[..., 3] == 0).all())
    plain = Words()(torch.full((3, 2), 4), T[:3], told)
    assert torch.equal(guided(torch.full((3, 2), 4), T[:3], told).logits[0], plain.logits[0])
    assert torch.allclose(p[1, 0, :3], torch.full((3,), 1 / 3))
    assert p[2, 0, 2] == pytest.approx(math.exp(6) / (math.exp(6) + 2), rel=1e-5)


def test_guidance_works_on_data_of_several_parts():
    def denoiser(x_t, t, told):
        return Joint({"number": Toy(Rectified())(x_t["number"], t, told), "word": Words()(x_t["word"], t, told)})

    x_t = {"number": X, "word": torch.full((6, 2), 4)}
    told = condition([1, 0, 3, 1, 0, -0.5])
    got = ClassifierFree(denoiser=denoiser, schedule=Rectified())(x_t, T, told)
    for name, alone in (("number", Toy(Rectified())), ("word", Words())):
        want = ClassifierFree(denoiser=alone, schedule=Rectified())(x_t[name], T, told)
        assert vars(got.parts[name]).keys() == vars(want).keys()
        assert all(torch.equal(a, b) for a, b in zip(vars(got.parts[name]).values(), vars(want).values(), strict=True))


# ------------------------------------------------------------------------------------------------------ Gaussians


@SCHEDULE
@pytest.mark.parametrize("weight", [2.0, 3.0, 0.5])
def test_the_guided_score_at_a_fixed_noise_level_has_the_tilted_precision(schedule, weight):
    """In y = x_t / alpha the guided score is linear with slope -(w / (S_c + rho^2) + (1 - w) / (S_u + rho^2))."""
    guided = ClassifierFree(denoiser=Toy(schedule), schedule=schedule)
    y, told = torch.tensor([[0.0], [1.0]], dtype=torch.float64), condition([weight] * 2)
    for t in (0.2, 0.5, 0.8):
        time = torch.full((2,), t, dtype=torch.float64)
        ratio = rho(schedule, time)[:, None]
        score = (guided(y * schedule.alpha(time)[:, None], time, told).mean - y) / ratio**2
        v = float(ratio[0]) ** 2
        precision = weight / (S_C + v) + (1 - weight) / (S_U + v)
        assert float(score[0] - score[1]) == pytest.approx(precision, rel=1e-9)
        pull = weight * M_C / (S_C + v) + (1 - weight) * M_U / (S_U + v)
        assert float(score[0]) == pytest.approx(pull, rel=1e-9)


@pytest.mark.parametrize(("weight", "mean", "variance"), [(1.0, 0.5, 0.2), (2.0, 0.660, 0.04), (3.0, 0.699, 0.008)])
def test_guided_samples_of_gaussians_have_their_closed_form_and_not_the_tilted_law(weight, mean, variance):
    """The flow's sample variance is S_c^w S_u^(1 - w) as the noise it starts from grows; the tilted law's would be
    1 / (w / S_c + (1 - w) / S_u), 0.111 at w = 2. The flow is affine: two starts tell its mean and spread."""
    schedule = VarianceExploding(sigma_max=3000.0)
    process = Gaussian(schedule=schedule)
    guided = ClassifierFree(denoiser=Toy(schedule), schedule=schedule)
    times = KarrasGrid(low=0.002, high=3000.0)(torch.tensor([300, 300]), schedule)
    tool = SAMPLERS["heun"]
    state = start(tool, process, torch.zeros(2, 1, dtype=torch.float64), times, torch.arange(2))
    state = replace(state, x=torch.tensor([[0.0], [3000.0]], dtype=torch.float64))
    for told in sample(tool, process, guided, state, condition([weight] * 2)):
        state = told
    got_mean, deviation = float(state.x[0]), float(state.x[1] - state.x[0])
    assert deviation**2 == pytest.approx(S_C**weight * S_U ** (1 - weight), rel=1e-2)
    assert deviation**2 == pytest.approx(variance, rel=2e-2)
    assert got_mean == pytest.approx(mean, abs=2e-3)


NEGATIVE = Condition(global_=Port(tensor=torch.tensor([2, 2])))


@dataclass(frozen=True)
class Classes:
    """The exact denoiser of N(mean of the class, S_C), of N(M_U, S_U) where the class is withheld."""

    means: torch.Tensor

    def __call__(self, x_t, t, condition=None):
        port = condition.global_
        told = [exact.Scalar(schedule=SCHEDULE_OF_ALL, mean=float(m), variance=S_C)(x_t, t).mean for m in self.means]
        q = torch.stack(told)[port.tensor, torch.arange(len(x_t))]
        return Point(torch.where(port.kept()[:, None], q, exactly(M_U, S_U)(x_t, t).mean))


@pytest.mark.parametrize("weight", [2.0, 3.0, 0.5])
def test_a_negative_condition_tilts_a_gaussian_away_from_another(weight):
    """In y = x_t / alpha: of equal variances S + rho^2 the guided mean is m_c + (w - 1) (m_c - m_n), at any noise level."""
    means = torch.tensor([0.5, -0.3, 1.1], dtype=torch.float64)
    guided = ClassifierFree(denoiser=Classes(means), schedule=SCHEDULE_OF_ALL)
    told = replace(condition([weight] * 2), reference=NEGATIVE)
    x, t = torch.tensor([[0.2], [-0.7]], dtype=torch.float64), torch.tensor([0.3, 0.6], dtype=torch.float64)
    moved = exact_means(means[:2] + (weight - 1) * (means[:2] - means[2]), x, t)
    torch.testing.assert_close(guided(x, t, told).mean, moved, rtol=1e-12, atol=1e-14)


def exact_means(means, x, t) -> torch.Tensor:
    return torch.cat([
        exact.Scalar(schedule=SCHEDULE_OF_ALL, mean=float(m), variance=S_C)(x[i : i + 1], t[i : i + 1]).mean
        for i, m in enumerate(means)
    ])  # fmt: skip


def test_a_sample_without_a_negative_condition_among_others_is_compared_with_nothing():
    means = torch.tensor([0.5, -0.3, 1.1], dtype=torch.float64)
    guided = ClassifierFree(denoiser=Classes(means), schedule=SCHEDULE_OF_ALL)
    plain, negative = condition([2.0] * 2), replace(condition([2.0] * 2), reference=NEGATIVE)
    x, t = torch.tensor([[0.2], [-0.7]] * 2, dtype=torch.float64), torch.tensor([0.3, 0.6] * 2, dtype=torch.float64)
    both = guided(x, t, join(plain, negative)).mean
    assert torch.equal(both[:2], guided(x[:2], t[:2], plain).mean)
    assert torch.equal(both[2:], guided(x[2:], t[2:], negative).mean)
    assert not torch.allclose(both[:2], both[2:])


# ----------------------------------------------------------------------------------------------------- autoguidance


@pytest.mark.parametrize("weight", [2.0, 0.5])
def test_autoguidance_undoes_a_bias_that_both_models_share(weight):
    """Means that are off by b and 2 b: at w = 2 the error is gone, which is what the method is for."""
    truth, bias = 0.4, 0.15
    good, weaker = exactly(truth + bias, S_C), exactly(truth + 2 * bias, S_C)
    method = Autoguidance(weight=weight, run="weaker")
    guided = method.wrap(good, process=GAUSSIAN, models=lambda other: weaker)
    got = guided(X, T, weighted(None, [method], 6)).mean
    want = exactly(truth + (2 - weight) * bias, S_C)(X, T).mean
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


def test_the_weaker_model_is_named_and_asked_only_where_it_guides():
    named, asked = [], []

    def weaker(x_t, t, told=None):
        asked.append(told)
        return exactly(M_C, 2.0)(x_t, t)

    method = Autoguidance(weight=2.0, run="runs/small", ema=0.2)
    guided = method.wrap(exactly(M_C, S_C), process=GAUSSIAN, models=lambda other: named.append(other) or weaker)
    assert named == [OtherModel(run="runs/small", ema=0.2)]
    guided(X, T, None)
    guided(X, T, condition([3.0] * 6))  # of another method
    assert asked == []
    guided(X, T, weighted(condition([3.0] * 6), [method], 6))
    assert len(asked) == 1
    assert asked[0].guidance == {}
    with pytest.raises(ValueError, match="give its run, or another EMA length"):
        Autoguidance(weight=2.0)


# ----------------------------------------------------------------------------------------------------------- tokens


def test_a_prompt_is_hidden_in_the_reference_alone_and_in_one_call():
    calls = []

    def denoiser(x_t, t, told=None):
        calls.append(x_t)
        return tokens(x_t, t)

    case = CASES[PromptGuidance]
    case.method.wrap(denoiser, process=Masked(vocab_size=4), models=None)(
        PROMPTED, T, case.told([2.0, 1.0, 1.0, 1.0, 0.5, 1.0])
    )
    (x,) = calls
    assert torch.equal(x[:6], PROMPTED)
    assert x[6:].tolist() == [[4, 4, 4], [4, 4, 2]]


@pytest.mark.parametrize("process", [UniformDiffusion(vocab_size=4), GAUSSIAN])
def test_a_prompt_is_hidden_by_processes_that_mask_alone(process):
    assert PromptGuidance(weight=2.0).wrap(tokens, process=GIDD(vocab_size=4), models=None).mask == 4
    with pytest.raises(ValueError, match="masked or hybrid"):
        PromptGuidance(weight=2.0).wrap(tokens, process=process, models=None)


def test_a_prompt_has_no_negative_condition():
    case = CASES[PromptGuidance]
    told = replace(case.told([2.0] * 6), reference=Condition(global_=Port(tensor=torch.arange(6))))
    with pytest.raises(ValueError, match="use classifier_free"):
        case.guided()(case.x, T, told)


def test_a_vocabulary_mask_forbids_controls_where_none_stands_already():
    x = torch.tensor([[4, 3, 0]])
    p = VocabularyMask(denoiser=lambda *asked: Categorical(torch.zeros(1, 3, 4)), limit=2)(x, T[:1]).logits.softmax(-1)
    torch.testing.assert_close(p, torch.tensor([[[0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0]]]))


def test_a_copy_mask_allows_what_a_sample_shows_and_a_list():
    x = torch.tensor([[1, 5, 4, 4], [0, 4, 2, 5]])  # 4 is the mask, 5 padding
    listed = torch.tensor([False, False, False, True])
    sparse = MaskedCategorical(torch.zeros(3, 4), x == 4, x)
    for given in (sparse, sparse.dense()):
        q = CopyMask(denoiser=lambda *asked, given=given: given, listed=listed)(x, T[:2])
        p = q.logits_at(x == 4).softmax(-1)
        torch.testing.assert_close(p, torch.tensor([[0, 0.5, 0, 0.5], [0, 0.5, 0, 0.5], [1 / 3, 0, 1 / 3, 1 / 3]]))


# ------------------------------------------------------------------------------------------ several conditions, energies


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, -0.5), (0.0, 2.0)])
def test_composed_gaussians_of_one_covariance_add_what_they_move(weights):
    """Scores of equal slope: the mean is m_u + sum_i w_i (m_i - m_u), at any noise level: "and", "not", neither."""
    means = torch.tensor([0.5, -0.3, 1.1], dtype=torch.float64)

    def classes(x_t, t, told):
        own = torch.where(told.global_.kept(), means[told.global_.tensor], M_U)
        return Point(exact_means(own, x_t, t))

    guided = Composition().wrap(classes, process=GAUSSIAN, models=lambda other: classes)
    x, t = torch.tensor([[0.2], [-0.7]], dtype=torch.float64), torch.tensor([0.3, 0.6], dtype=torch.float64)
    first = Condition(global_=Port(tensor=torch.tensor([0, 0])))
    further = tuple(
        Further(ports=Condition(global_=Port(tensor=torch.full((2,), i))), weight=torch.full((2,), w))
        for i, w in zip((1, 2), weights, strict=True)
    )
    got = guided(x, t, weighted(replace(first, further=further), [Composition()], 2)).mean
    mean = means[0] + sum(w * (means[i] - M_U) for i, w in zip((1, 2), weights, strict=True))
    torch.testing.assert_close(got, exact_means(mean.expand(2), x, t), rtol=1e-12, atol=1e-14)


def test_samples_with_different_numbers_of_further_conditions_join():
    told = Condition(global_=Port(tensor=torch.tensor([0])))
    more = replace(told, further=(Further(ports=told, weight=torch.tensor([2.0])),))
    both = join(told, more)
    assert both.further[0].weight.tolist() == [0.0, 2.0]
    assert both.further[0].ports.global_.kept().tolist() == [False, True]


@SCHEDULE
def test_a_likelihood_known_at_every_noise_level_gives_the_posterior(schedule):
    """x ~ N(M_C, S_C) and y = x + noise: x_t given y has the mean of the posterior's denoiser, exactly."""
    process, y, std = Gaussian(schedule=schedule), 1.3, 0.4

    def likelihood(x_t, t):
        """ln N(y; E[x | x_t], Var[x | x_t] + std^2)."""
        a, s = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
        gain = a * S_C / (a * a * S_C + s * s)
        mean, variance = M_C + gain * (x_t - a * M_C), S_C * s * s / (a * a * S_C + s * s) + std**2
        return (-0.5 * (y - mean) ** 2 / variance).sum(1)

    plain = exact.Scalar(schedule=schedule, mean=M_C, variance=S_C)
    guided = EnergyGuided(denoiser=plain, process=process, log_likelihood=likelihood, of="noisy")
    given = S_C / (S_C + std**2)
    posterior = exact.Scalar(schedule=schedule, mean=M_C + given * (y - M_C), variance=S_C * (1 - given))
    torch.testing.assert_close(guided(X, T, None).mean, posterior(X, T).mean, rtol=1e-10, atol=1e-12)
    naive = replace(guided, of="clean", log_likelihood=lambda x, t: (-0.5 * (y - x) ** 2 / std**2).sum(1))
    gap = (naive(X, T, None).mean - posterior(X, T).mean).abs() / (plain(X, T).mean - posterior(X, T).mean).abs()
    assert float(gap.max()) > 0.1  # as if x were known to be D
    assert torch.equal(replace(naive, weight=0.0)(X, T, None).mean, plain(X, T).mean)
    with pytest.raises(ValueError, match="one number a sample"):
        replace(naive, log_likelihood=lambda x, t: x)(X, T, None)


@pytest.mark.parametrize("weight", [3.0, 8.0])
def test_projected_guidance_keeps_the_length_that_classifier_free_stretches(weight):
    """Along D_c nothing is added, so |D|^2 = |D_c|^2 + |(w - 1) d_orthogonal|^2 and no more."""
    told = condition([weight] * 6)
    method = ProjectedGuidance(weight=weight)
    guided = method.wrap(Toy(SCHEDULE_OF_ALL), process=GAUSSIAN, models=lambda other: Toy(SCHEDULE_OF_ALL))
    told = weighted(told, [method], 6)
    d, c = guided(X, T, told).mean, Toy(SCHEDULE_OF_ALL)(X, T, told).mean
    torch.testing.assert_close(((d - c) * c).sum(1), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-12)


def test_rescaled_guidance_has_the_spread_of_the_conditional_prediction():
    method = RescaledGuidance(weight=5.0, rescale=1.0)
    guided = method.wrap(Toy(SCHEDULE_OF_ALL), process=GAUSSIAN, models=lambda other: Toy(SCHEDULE_OF_ALL))
    told = weighted(condition([5.0] * 6), [method], 6)
    d, c = guided(X, T, told).mean, Toy(SCHEDULE_OF_ALL)(X, T, told).mean
    torch.testing.assert_close(d.std(1), c.std(1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("bad", [{"parallel": 1.5}, {"radius": 0.0}, {"weight": math.nan}])
def test_options_of_projected_guidance_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=r"projected guidance takes|finite number"):
        ProjectedGuidance(**{"weight": 2.0, **bad})
    for refused in (lambda: RescaledGuidance(weight=2.0, rescale=2.0), lambda: ZeroStarGuidance(weight=2.0, zero=1.0)):
        with pytest.raises(ValueError, match="share"):
            refused()
