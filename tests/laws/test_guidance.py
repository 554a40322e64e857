"""Laws of guidance: neutral weights change nothing, rows are apart, and Gaussians have their closed forms.

The toy denoiser answers for N(m_c, S_c) where a row is told its class and for N(m_u, S_u) where it is not.
"""

import math
from dataclasses import dataclass, field, replace

import pytest
import torch

from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.guidance import ClassifierFree
from langevin.diffusion.posterior import Categorical, Joint, Point
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import Rho, sample, start
from langevin.diffusion.schedule import Rectified, VarianceExploding, rho
from tests import exact
from tests.laws.parts import SCHEDULES, sampler

SCHEDULE = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
M_C, S_C, M_U, S_U = 0.5, 0.2, 0.0, 1.0


@dataclass
class Toy:
    """Exact for each class of row; remembers what it was asked."""

    schedule: object
    asked: list = field(default_factory=list)

    def __call__(self, x_t, t, condition=None):
        self.asked.append((x_t, t, condition))
        told = exact.Scalar(schedule=self.schedule, mean=M_C, variance=S_C)(x_t, t).mean
        blind = exact.Scalar(schedule=self.schedule, mean=M_U, variance=S_U)(x_t, t).mean
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
    return Condition(global_=Port(tensor=torch.arange(len(weights)) % 3), guidance=weights)


X = torch.linspace(-2, 2, 18, dtype=torch.float64).reshape(6, 3)
T = torch.tensor([0.9, 0.5, 0.3, 0.7, 0.2, 0.6], dtype=torch.float64)


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
        cross=Port(tensor=torch.zeros(6, 4, 2), mask=torch.arange(4) < torch.arange(1, 7)[:, None]),
        prepend=Port(tensor=torch.zeros(6, 1, 2)),
        concat=Port(tensor=torch.ones(6, 3)),
        aligned=Port(tensor=torch.zeros(6, 5, 2)),
        guidance=torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0, 0.0]),
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
    guided = ClassifierFree(denoiser=Toy(schedule), schedule=schedule, interval=(0.5, 4.0))
    told = condition([1, 0, 3, 1, 7.5, -0.5])
    together = guided(X, T, told).mean
    for i in range(6):
        row = slice(i, i + 1)
        assert torch.equal(guided(X[row], T[row], told.rows(row)).mean[0], together[i])


@SCHEDULE
def test_outside_the_interval_nothing_is_touched(schedule):
    toy, interval = Toy(schedule), (0.6, 1.7)
    guided = ClassifierFree(denoiser=toy, schedule=schedule, interval=interval)
    t = torch.linspace(0, 1, 60, dtype=torch.float64)
    x, told = torch.ones(60, 2, dtype=torch.float64), condition([4.0] * 60)
    got, plain, blind = guided(x, t, told).mean, toy(x, t, told).mean, toy(x, t, told.dropped()).mean
    ratio = rho(schedule, t)
    inside = (ratio > interval[0]) & (ratio <= interval[1])
    assert 0 < int(inside.sum()) < 60
    assert torch.equal(got[~inside], plain[~inside])
    assert torch.allclose(got[inside], (blind + 4 * (plain - blind))[inside], rtol=1e-12)


def test_the_interval_is_open_below_and_closed_above():
    toy, t = Toy(Rectified()), torch.tensor([0.5, 0.8], dtype=torch.float64)
    low, high = (float(r) for r in rho(Rectified(), t))
    told, x = condition([3.0, 3.0]), torch.ones(2, 1, dtype=torch.float64)
    got = ClassifierFree(denoiser=toy, schedule=Rectified(), interval=(low, high))(x, t, told).mean
    plain = toy(x, t, told).mean
    assert torch.equal(got[0], plain[0])
    assert not torch.equal(got[1], plain[1])


def test_places_with_times_of_their_own_are_inside_or_outside_by_themselves():
    toy, schedule = Toy(Rectified()), Rectified()
    guided = ClassifierFree(denoiser=toy, schedule=schedule, interval=(0.6, 1.7))
    t = torch.tensor([[0.1, 0.5, 0.9], [0.0, 0.05, 0.1], [0.5, 0.5, 0.5]], dtype=torch.float64)
    x, told = torch.ones(3, 3, 2, dtype=torch.float64), condition([4.0, 4.0, 1.0])
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
        ClassifierFree(denoiser=Toy(Rectified()), schedule=Rectified(), interval=interval)


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
    times = Rho(low=0.002, high=3000.0)(torch.tensor([300, 300]), schedule)
    tool = sampler("heun", process)
    state = start(tool, process, torch.zeros(2, 1, dtype=torch.float64), times, torch.arange(2))
    state = replace(state, x=torch.tensor([[0.0], [3000.0]], dtype=torch.float64))
    for told in sample(tool, guided, state, condition([weight] * 2)):
        state = told
    got_mean, deviation = float(state.x[0]), float(state.x[1] - state.x[0])
    assert deviation**2 == pytest.approx(S_C**weight * S_U ** (1 - weight), rel=1e-2)
    assert deviation**2 == pytest.approx(variance, rel=2e-2)
    assert got_mean == pytest.approx(mean, abs=2e-3)
