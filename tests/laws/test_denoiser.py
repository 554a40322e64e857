"""Laws of denoisers: every prediction target is the same posterior; what is shown is certain."""

import math

import pytest
import torch

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import FARTHEST, GaussianDenoiser, JointDenoiser, TokenDenoiser, affine
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import MaskedCategorical
from langevin.diffusion.process import GIDD, Gaussian, Masked, Product, UniformDiffusion
from langevin.diffusion.schedule import Rectified
from tests import exact
from tests.laws.parts import PREDICTIONS, SCHEDULES

EVERY = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
TARGET = pytest.mark.parametrize("prediction", PREDICTIONS)
T = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
S_DATA = 0.7


def ask(prediction, schedule, network, x_t, t):
    process = Gaussian(schedule=schedule, sigma_data=S_DATA)
    return GaussianDenoiser(network=network, process=process, prediction=prediction)(x_t, t).mean


def exact_output(prediction, schedule, x_t, t, clean):
    """What a perfect network says, from the definitions; EDM's in canonical coordinates y = x / alpha, rho."""
    alpha, sigma, t = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None], t[:, None]
    eps, y, rho = (x_t - alpha * clean) / sigma, x_t / alpha, sigma / alpha
    a, b = schedule.tangent(t)
    return {
        "clean": clean,
        "noise": eps,
        "velocity": a * clean + b * eps,
        "edm": (clean - S_DATA**2 / (rho**2 + S_DATA**2) * y) / (rho * S_DATA / (rho**2 + S_DATA**2).sqrt()),
    }[prediction]


@EVERY
@TARGET
def test_every_target_gives_the_same_posterior(schedule, prediction):
    data = exact.Mixture(schedule=schedule)
    x_t = data.quantile(torch.linspace(0.05, 0.95, 9, dtype=torch.float64).expand(25, 9), T)
    clean = data(x_t, T).mean
    output = exact_output(prediction, schedule, x_t, T, clean)
    got = ask(prediction, schedule, lambda x, c_time, condition: output, x_t, T)
    scale = torch.maximum(torch.ones(()), 1e-6 * (schedule.sigma(T) / schedule.alpha(T)))[:, None]
    assert ((got - clean).abs() / scale).max() < 1e-9


@EVERY
@TARGET
def test_the_network_sees_unit_variance_and_the_noise_level(schedule, prediction):
    seen = {}

    def network(x, c_time, condition):
        seen.update(x=x, c_time=c_time)
        return x

    ask(prediction, schedule, network, torch.ones(25, 3, dtype=torch.float64), T)
    variance = schedule.sigma(T) ** 2 + (schedule.alpha(T) * S_DATA) ** 2
    assert torch.allclose(seen["x"], (1 / variance.sqrt())[:, None].expand(25, 3), rtol=1e-12)
    assert seen["c_time"].dtype == torch.float32
    level = (schedule.sigma(T) / schedule.alpha(T)).log().clamp(-FARTHEST / 2, FARTHEST / 2) / 4
    assert torch.allclose(seen["c_time"], level.float(), atol=1e-6)


@EVERY
def test_the_edm_target_has_unit_variance_on_gaussian_data(schedule):
    c_skip, c_out, c_in, _ = affine("edm", schedule, T, S_DATA)
    alpha, sigma = schedule.alpha(T), schedule.sigma(T)  # F = (x - c_skip (alpha x + sigma eps)) / c_out
    variance = ((1 - c_skip * alpha) * S_DATA / c_out) ** 2 + (c_skip * sigma / c_out) ** 2
    assert variance == pytest.approx(torch.ones(25, dtype=torch.float64), rel=1e-10)
    assert c_in.square() * (sigma**2 + (alpha * S_DATA) ** 2) == pytest.approx(torch.ones(25, dtype=torch.float64))


@EVERY
@TARGET
def test_answers_are_finite_at_the_singular_ends(schedule, prediction):
    t = torch.tensor([0.0, 1e-12, 1e-3, 1 - 1e-3, 1 - 1e-12, 1.0], dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        x_t = torch.linspace(-3, 3, 6, dtype=dtype)[:, None] * schedule.sigma(t).clamp_min(1)[:, None].to(dtype)
        got = ask(prediction, schedule, lambda x, c_time, condition: torch.tanh(x), x_t, t)
        assert bool(got.isfinite().all())
        assert got.dtype == dtype
        assert got.abs().max() < 1e7
        if prediction != "clean":
            assert torch.equal(got[0], x_t[0])  # nothing to remove


@EVERY
@TARGET
def test_each_place_has_its_own_time(schedule, prediction):
    t = T[:20].reshape(4, 5)
    x_t = torch.linspace(-1, 1, 40, dtype=torch.float64).reshape(4, 5, 2)

    def network(x, c_time, condition):
        return torch.sin(3 * x)

    together = ask(prediction, schedule, network, x_t, t)
    alone = ask(prediction, schedule, network, x_t.flatten(0, 1), t.flatten())
    assert torch.allclose(together.flatten(0, 1), alone, rtol=1e-13)


@TARGET
def test_reduced_precision_stays_inside_the_network(prediction):
    linear, kinds = torch.nn.Linear(3, 3), []

    def network(x, c_time, condition):
        out = linear(x)
        kinds.append((x.dtype, c_time.dtype, out.dtype))
        return out

    denoiser = GaussianDenoiser(network=network, process=Gaussian(), prediction=prediction, precision=torch.bfloat16)
    assert denoiser(torch.ones(2, 3), torch.tensor([0.3, 0.6])).mean.dtype == torch.float32
    assert kinds == [(torch.float32, torch.float32, torch.bfloat16)]


def test_a_precision_that_would_be_ignored_is_refused():
    for build in (
        lambda: GaussianDenoiser(network=torch.nn.Identity(), process=Gaussian(), precision=torch.float16),
        lambda: TokenDenoiser(network=torch.nn.Identity(), process=Masked(vocab_size=2), precision=torch.float16),
    ):
        with pytest.raises(ValueError, match="precision"):
            build()


def test_the_condition_reaches_the_network():
    told = Condition(prompt=torch.ones(2, 3, dtype=torch.bool))
    heard = []
    denoiser = GaussianDenoiser(network=lambda x, c_time, condition: heard.append(condition) or x, process=Gaussian())
    denoiser(torch.ones(2, 3), torch.tensor([0.3, 0.6]), told)
    assert heard == [told]


# --------------------------------------------------------------------------------------------------------- tokens


def test_a_shown_place_is_certain_and_a_hidden_one_is_the_networks():
    process = Masked(vocab_size=4)
    logits = torch.arange(24.0).reshape(2, 3, 4).sin() * 50
    x_t = torch.tensor([[4, 0, 4], [3, 4, 2]])
    q = TokenDenoiser(network=lambda x, t, condition: logits, process=process)(x_t, torch.tensor([0.5, 0.9]))
    p, shown = q.logits.softmax(-1), x_t != 4
    assert torch.equal(p[shown], torch.nn.functional.one_hot(x_t[shown], 4).float())
    assert torch.equal(q.logits[~shown], logits[~shown])
    assert bool((q.error(torch.where(shown, x_t, 0))[shown] == 0).all())


def test_a_posterior_asked_at_masked_places_only_is_the_same():
    process = Masked(vocab_size=4)
    logits = torch.arange(24.0).reshape(2, 3, 4).sin() * 5
    x_t, x, t = torch.tensor([[4, 0, 4], [3, 4, 5]]), torch.tensor([[1, 0, 2], [3, 3, 5]]), torch.tensor([0.5, 0.9])
    whole = TokenDenoiser(network=lambda x, t, condition: logits, process=process)(x_t, t)
    partly = TokenDenoiser(network=lambda x, t, condition, at: logits[at], process=process, at_masks_only=True)(x_t, t)
    assert isinstance(partly, MaskedCategorical)
    real = x_t < 5
    assert torch.equal(partly.dense().logits.log_softmax(-1)[real], whole.logits.log_softmax(-1)[real])
    assert torch.equal(partly.error(x)[real], whole.error(torch.where(real, x, 0))[real])
    wrong = torch.where(x_t == 0, 1, x)
    assert partly.error(wrong)[0, 1] == torch.inf  # what is shown is certain
    noise = SampleNoise(seeds=torch.arange(2), steps=torch.zeros(2, dtype=torch.int64))
    for at in (None, x_t < 4, x_t == 4, torch.tensor([[True, False, False], [True, True, False]])):
        assert torch.equal(partly.draw(noise, at)[real], whole.draw(noise, at)[real])
        if at is not None:
            assert torch.equal(partly.logits_at(at).softmax(-1), whole.logits_at(at).softmax(-1))
    for rows in (slice(1, 2), torch.tensor([1, 1, 0])):
        assert torch.equal(partly.select(rows).dense().logits, partly.dense().select(rows).logits)
        assert torch.equal(partly.select(rows).logits, partly.dense().select(rows).logits_at(x_t[rows] == 4))
    hotter, weight = partly.map_logits(lambda q, z: q * (z - 2)[..., None], x_t), torch.tensor([0.5, 2.0])
    assert torch.equal(hotter.logits_at(x_t == 4), 2 * logits[x_t == 4])
    torch.testing.assert_close(
        hotter.extrapolate_from(partly, weight).dense().logits[real],
        hotter.dense().extrapolate_from(partly.dense(), weight).logits[real],
    )
    blind = MaskedCategorical(
        logits.flatten(0, 1), torch.ones_like(real), torch.full_like(x_t, 4)
    )  # the prompt hidden as well
    for w in (0.0, 0.5, 1.0, 2.0):
        found = partly.extrapolate_from(blind, torch.full((2,), w)).dense().logits.softmax(-1)
        torch.testing.assert_close(
            found, partly.dense().extrapolate_from(blind.dense(), torch.full((2,), w)).logits.softmax(-1)
        )
    for a, b in zip(vars(process.bound(partly, x, x_t, t)).values(), vars(process.bound(whole, x, x_t, t)).values()):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="masked process"):
        TokenDenoiser(
            network=lambda x, t, condition: logits, process=UniformDiffusion(vocab_size=4), at_masks_only=True
        )


def test_the_gradient_of_a_token_denoiser_is_finite():
    logits = torch.zeros(1, 2, 3, requires_grad=True)
    denoiser = TokenDenoiser(network=lambda x, t, condition: logits, process=Masked(vocab_size=3))
    denoiser(torch.tensor([[3, 1]]), torch.tensor([0.5])).error(torch.tensor([[0, 1]])).sum().backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    assert bool((logits.grad[0, 1] == 0).all())


def test_a_joint_denoiser_names_its_parts():
    """Each is what the denoiser of its process predicts, at times of its own."""
    number, word = Gaussian(sigma_data=0.7), Masked(vocab_size=3)
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    x = {"number": torch.ones(2, 5), "word": torch.tensor([[3, 1, 3, 0], [3, 3, 3, 3]])}
    t = {"number": torch.tensor([[0.1, 0.5, 0.0, 1.0, 0.3]] * 2).double(), "word": torch.tensor([0.4, 1.0]).double()}
    joint = JointDenoiser(
        network=lambda x, c, condition: {"number": x["number"] * c["number"], "word": logits},
        process=Product(parts={"number": number, "word": word}),
    )(x, t)
    alone = GaussianDenoiser(network=lambda x, c, condition: x * c, process=number)(x["number"], t["number"])
    assert torch.equal(joint.parts["number"].mean, alone.mean)
    assert torch.equal(joint.parts["number"].mean[:, 2], x["number"][:, 2])  # which is clean
    tokens = TokenDenoiser(network=lambda x, c, condition: logits, process=word)(x["word"], t["word"])
    target = torch.tensor([[0, 1, 2, 0], [0, 0, 1, 1]])
    assert torch.allclose(joint.parts["word"].error(target), tokens.error(target))
    with pytest.raises(ValueError, match="the part word of a product is Gaussian or masked, got GIDD"):
        JointDenoiser(network=lambda *_: {}, process=Product(parts={"word": GIDD(vocab_size=3)}))


def test_noise_tells_nothing_where_no_signal_is_left():
    t = torch.ones(1, dtype=torch.float64)
    assert [float(c) for c in affine("noise", Rectified(), t, S_DATA)[:2]] == [0, 0]
    assert math.isfinite(float(affine("noise", Rectified(), t, S_DATA)[3]))
