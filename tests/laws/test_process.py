"""Laws of processes: clean at t = 0, the prior at t = 1, steps back that agree with corruption, places that keep apart."""

import pytest
import torch

from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import Categorical, Joint, Point
from langevin.diffusion.process import Gaussian, Masked, Product
from langevin.diffusion.process.gaussian import reverse_step
from tests.laws.bounds import chi_square, chi_square_bound, normal_bound
from tests.laws.parts import SCHEDULES

GAUSSIANS = {f"gaussian_{name}": Gaussian(schedule=schedule) for name, schedule in SCHEDULES.items()}
MASKED = Masked(vocab_size=3)
MIXED = Product(parts={"number": Gaussian(), "other": GAUSSIANS["gaussian_cosine"], "word": MASKED, "more": MASKED})
PROCESSES = {**GAUSSIANS, "masked": MASKED, "product": MIXED}

EVERY = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
EVERY_GAUSSIAN = pytest.mark.parametrize("process", GAUSSIANS.values(), ids=GAUSSIANS)
PLACES = 6


def over(function, *values):
    """`function` on tensors, or on each part of mappings."""
    if isinstance(values[0], dict):
        return {name: over(function, *(v[name] for v in values)) for name in values[0]}
    return function(*values)


def flat(x):
    return torch.cat([flat(part) for part in x.values()], 1) if isinstance(x, dict) else x.double()


def data(process, rows: int):
    """Clean data of the process, the certain posterior of it, and an uncertain one."""
    if isinstance(process, Product):
        parts = {name: data(part, rows) for name, part in process.parts.items()}
        return tuple(
            kind({name: part[i] for name, part in parts.items()}) for i, kind in enumerate((dict, Joint, Joint))
        )
    noise = SampleNoise(seeds=torch.arange(rows), steps=torch.full((rows,), 99))
    if isinstance(process, Masked):
        x = (noise.uniform(torch.zeros(rows, PLACES)) * 3).long()
        certain = torch.full((rows, PLACES, 3), -torch.inf).scatter(-1, x[..., None], 0.0)
        return x, Categorical(certain), Categorical(noise.normal(certain))
    x = noise.normal(torch.zeros(rows, PLACES, dtype=torch.float64))
    return x, Point(x), Point(torch.tanh(x + 1))


def rows_noise(rows: int, step: int = 0) -> SampleNoise:
    return SampleNoise(seeds=torch.arange(rows), steps=torch.full((rows,), step))


def times(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------- every process


@EVERY
def test_time_zero_changes_nothing_and_time_one_hides_everything(process):
    x, _, _ = data(process, 5)
    assert torch.equal(flat(process.corrupt(x, torch.zeros(5), rows_noise(5))), flat(x))
    one = flat(process.corrupt(x, torch.ones(5), rows_noise(5)))
    assert bool((one != flat(x)).all())


@EVERY
def test_known_places_stay_clean(process):
    x, _, _ = data(process, 50)
    known = over(lambda part: torch.arange(PLACES).expand(50, -1) % 2 == 0, x)
    x_t = process.corrupt(x, torch.full((50,), 0.9), rows_noise(50), known)
    held = flat(known) == 1
    assert torch.equal(flat(x_t)[held], flat(x)[held])
    free = process.corrupt(x, torch.full((50,), 0.9), rows_noise(50))
    assert torch.equal(flat(x_t)[~held], flat(free)[~held])


@EVERY
def test_each_place_with_its_own_time_behaves_as_if_alone(process):
    rows = 40
    x, _, q = data(process, rows)
    t = torch.linspace(0, 1, PLACES, dtype=torch.float64).expand(rows, -1)
    s = 0.7 * t
    together = process.corrupt(x, t, rows_noise(rows))
    back = process.transition(q, together, t, s, rows_noise(rows, 1))
    for i in range(PLACES):
        alone = process.corrupt(x, t[:, i], rows_noise(rows))
        step = process.transition(q, together, t[:, i], s[:, i], rows_noise(rows, 1))
        for one, all_ in ((alone, together), (step, back)):
            over(lambda a, b, i=i: torch.testing.assert_close(a[:, i], b[:, i], rtol=0, atol=0), one, all_)


@EVERY
def test_places_of_time_zero_never_change(process):
    x, _, q = data(process, 30)
    t = torch.tensor([0.0, 0.5, 1.0, 0.0, 0.2, 0.0], dtype=torch.float64).expand(30, -1)
    x_t = process.corrupt(x, t, rows_noise(30))
    x_s = process.transition(q, x_t, t, t / 2, rows_noise(30, 1))
    clean = flat(over(lambda part: t == 0, x)) == 1
    assert torch.equal(flat(x_s)[clean], flat(x)[clean])


@EVERY
@pytest.mark.parametrize("time", [0.0, 0.3, 1.0])
def test_a_step_to_the_same_time_changes_nothing(process, time):
    x, _, q = data(process, 5)
    t = torch.full((5,), time)
    x_t = process.corrupt(x, t, rows_noise(5))
    assert torch.equal(flat(process.transition(q, x_t, t, t, rows_noise(5, 1))), flat(x_t))


@EVERY
def test_a_step_to_time_zero_returns_the_certain_answer(process):
    x, certain, _ = data(process, 20)
    x_t = process.corrupt(x, torch.full((20,), 0.8), rows_noise(20))
    clean = process.transition(certain, x_t, torch.full((20,), 0.8), torch.zeros(20), rows_noise(20, 1))
    assert torch.equal(flat(clean), flat(x))


@EVERY
def test_rows_do_not_mix(process):
    x, _, q = data(process, 9)
    t = torch.linspace(0.1, 1, 9, dtype=torch.float64)
    x_t = process.corrupt(x, t, rows_noise(9))
    x_s = process.transition(q, x_t, t, t / 3, rows_noise(9, 1))
    for i in range(9):
        row = slice(i, i + 1)
        noise = SampleNoise(seeds=torch.tensor([i]), steps=torch.tensor([0]))
        one = process.corrupt(over(lambda part, row=row: part[row], x), t[row], noise)
        assert torch.equal(flat(one), flat(x_t)[row])
        noise = SampleNoise(seeds=torch.tensor([i]), steps=torch.tensor([1]))
        two = process.transition(q.select(row), one, t[row], t[row] / 3, noise)
        assert torch.equal(flat(two), flat(x_s)[row])


def test_the_parts_of_a_product_draw_apart():
    x = {name: torch.zeros(2000, PLACES, dtype=torch.float64) for name in ("a", "b", "c", "d", "e")}
    product = Product(parts={name: Gaussian() for name in x})
    z = product.corrupt(x, torch.ones(2000), rows_noise(2000))
    pairs = [(a, b) for a in x for b in x if a < b]
    assert all(abs(float((z[a] * z[b]).mean())) < normal_bound(12000) for a, b in pairs)


# ------------------------------------------------------------------------------------------------------ Gaussian


@EVERY_GAUSSIAN
def test_corruption_has_the_moments_of_its_law(process):
    x, t = torch.full((4, 20_000), 1.7, dtype=torch.float64), times(0.05, 0.4, 0.8, 1.0)
    alpha, sigma = process.schedule.alpha(t), process.schedule.sigma(t)
    z = (process.corrupt(x, t, rows_noise(4)) - alpha[:, None] * 1.7) / sigma[:, None]
    assert z.mean(1).abs().max() < normal_bound(20_000)
    assert (z.square().mean(1) - 1).abs().max() < normal_bound(20_000, 2**0.5)


@EVERY_GAUSSIAN
def test_the_prior_is_the_law_of_corrupted_data_but_for_its_mean(process):
    like, noise = torch.zeros(3, 4, dtype=torch.float64), rows_noise(3)
    for t in (None, times(0.3, 0.9, 1.0)):
        at = torch.ones(3, dtype=torch.float64) if t is None else t
        alpha, sigma = process.schedule.alpha(at), process.schedule.sigma(at)
        scale = (alpha**2 * process.sigma_data**2 + sigma**2).sqrt()
        assert torch.allclose(process.prior(like, noise, t), scale[:, None] * noise.normal(like), rtol=1e-14)
    one = times(1.0)  # x_1 given x is N(alpha x, sigma^2): what is left of x is alpha(1) of its size
    left = process.schedule.alpha(one) * process.sigma_data
    assert abs(process.prior(like, noise) / noise.normal(like) / process.schedule.sigma(one) - 1).max() <= left**2


def pairs_of_times() -> tuple[torch.Tensor, torch.Tensor]:
    t = torch.cat([torch.linspace(0.02, 1, 50, dtype=torch.float64), times(0.5, 1.0, 1e-3)])
    fraction = torch.cat([torch.linspace(0.999, 0.01, 50, dtype=torch.float64), times(1e-6, 1e-4, 0.9999)])
    return t, fraction * t


@EVERY_GAUSSIAN
def test_the_ancestral_step_is_bayes_rule(process):
    """x_t = (alpha_t / alpha_s) x_s + more noise, so given x the pair (x_s, x_t) is jointly Gaussian with covariance
    (alpha_t / alpha_s) sigma_s^2; the step back is x_s conditioned on x_t."""
    t, s = pairs_of_times()
    alpha, sigma = process.schedule.alpha, process.schedule.sigma
    covariance = alpha(t) / alpha(s) * sigma(s) ** 2
    gain = covariance / sigma(t) ** 2  # E[x_s | x_t, x] = alpha_s x + gain (x_t - alpha_t x)
    a, b, c = reverse_step(process.schedule, t, s, 1.0)
    assert torch.allclose(a, gain, rtol=1e-12, atol=1e-15)
    assert torch.allclose(b, alpha(s) - gain * alpha(t), rtol=1e-11, atol=1e-15)
    assert torch.allclose(c.square(), sigma(s) ** 2 - gain * covariance, rtol=1e-9, atol=1e-14 * float(sigma(t).max()))


@EVERY_GAUSSIAN
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_a_step_with_the_true_data_reproduces_corruption(process, eta):
    t, s = pairs_of_times()
    alpha, sigma = process.schedule.alpha, process.schedule.sigma
    a, b, c = reverse_step(process.schedule, t, s, eta)
    assert torch.allclose(a * alpha(t) + b, alpha(s), rtol=1e-13)
    assert torch.allclose(a**2 * sigma(t) ** 2 + c**2, sigma(s) ** 2, rtol=1e-10, atol=0)


@EVERY_GAUSSIAN
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_two_steps_are_one_in_law(process, eta):
    t, s = pairs_of_times()
    r = 0.6 * s
    a, b, c = reverse_step(process.schedule, t, r, eta)
    a_1, b_1, c_1 = reverse_step(process.schedule, t, s, eta)
    a_2, b_2, c_2 = reverse_step(process.schedule, s, r, eta)
    assert torch.allclose(a_2 * a_1, a, rtol=1e-10, atol=0)
    assert torch.allclose(a_2 * b_1 + b_2, b, rtol=1e-10, atol=1e-13)
    assert torch.allclose(
        (a_2 * c_1) ** 2 + c_2**2, c**2, rtol=1e-8, atol=1e-14 * float(process.schedule.sigma(t).max())
    )


@EVERY_GAUSSIAN
def test_the_transition_takes_the_ancestral_step(process):
    t, s = pairs_of_times()
    rows = len(t)
    x, _, q = data(process, rows)
    noise = rows_noise(rows, 1)
    a, b, c = (k[:, None] for k in reverse_step(process.schedule, t, s, 1.0))
    assert torch.allclose(process.transition(q, x, t, s, noise), a * x + b * q.mean + c * noise.normal(x), rtol=1e-12)


# -------------------------------------------------------------------------------------------------------- masked


def hidden(x) -> torch.Tensor:
    return (x == MASKED.mask).double()


def test_masking_keeps_a_place_with_probability_one_minus_t():
    x, t = torch.zeros(5, 40_000, dtype=torch.int64), times(0.0, 0.1, 0.5, 0.97, 1.0)
    share = hidden(MASKED.corrupt(x, t, rows_noise(5))).mean(1)
    assert share[[0, 4]].tolist() == [0, 1]
    assert ((share - t).abs() < normal_bound(40_000, 0.5)).all()


def test_masked_data_at_time_one_is_exactly_the_prior():
    x, _, _ = data(MASKED, 30)
    noise = rows_noise(30)
    assert torch.equal(MASKED.corrupt(x, torch.ones(30), noise), MASKED.prior(x, noise))


def test_unmasking_with_the_true_data_reproduces_masking_and_two_steps_are_one():
    x, certain, _ = data(MASKED, 8000)
    t, s, r = (torch.full((8000,), time, dtype=torch.float64) for time in (0.9, 0.5, 0.2))
    x_t = MASKED.corrupt(x, t, rows_noise(8000))
    x_s = MASKED.transition(certain, x_t, t, s, rows_noise(8000, 1))
    x_r = MASKED.transition(certain, x_s, s, r, rows_noise(8000, 2))
    straight = MASKED.transition(certain, x_t, t, r, rows_noise(8000, 3))
    bound = normal_bound(8000 * PLACES, 0.5)
    for got, time in ((x_s, 0.5), (x_r, 0.2), (straight, 0.2)):
        assert abs(float(hidden(got).mean()) - time) < bound
        pairs = hidden(got)[:, :-1] * hidden(got)[:, 1:]  # places are hidden independently
        assert abs(float(pairs.mean()) - time**2) < bound
        assert bool(((got == x) | (got == MASKED.mask)).all())


def test_a_shown_place_never_changes_whatever_the_answer():
    x, _, q = data(MASKED, 500)
    x_t = MASKED.corrupt(x, torch.full((500,), 0.5), rows_noise(500))
    x_s = MASKED.transition(q, x_t, torch.full((500,), 0.5), torch.full((500,), 0.1), rows_noise(500, 1))
    shown = x_t != MASKED.mask
    assert torch.equal(x_s[shown], x[shown])


def test_revealed_symbols_follow_the_answer():
    p = torch.tensor([0.5, 0.1, 0.4], dtype=torch.float64)
    q = Categorical(p.log().expand(4000, 10, 3))
    x_t = torch.full((4000, 10), MASKED.mask)
    x_s = MASKED.transition(q, x_t, torch.ones(4000), torch.full((4000,), 0.25), rows_noise(4000))
    counts = torch.bincount(x_s.flatten(), minlength=4).double()
    assert chi_square(counts, torch.cat([0.75 * p, times(0.25)])) < chi_square_bound(3)


# ------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bad_standard_deviation_is_refused(bad):
    with pytest.raises(ValueError, match="sigma_data"):
        Gaussian(sigma_data=bad)


def test_an_empty_vocabulary_is_refused():
    with pytest.raises(ValueError, match="vocab_size"):
        Masked(vocab_size=0)
