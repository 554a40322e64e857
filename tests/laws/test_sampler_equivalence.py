"""Law of samplers: each is the published method, written out here as its paper writes it, and methods that are the same by
theory are the same by number, to 1e-11 (1e-9 where noise is added by the square root of a difference).

A grid of unequal steps, from sigma / alpha = 20 to 0.02; the data is a mixture on the line.
"""

import itertools
import math

import pytest
import torch

from langevin.diffusion.noise import RowNoise
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import (
    DDIM,
    DPM2M,
    DPM3M,
    IPNDM,
    Adams,
    Ancestral,
    Churn,
    EulerMaruyama,
    Exponential,
    Heun,
    Langevin,
    Restart,
    Rho,
    UniPC,
    sample,
    start,
)
from langevin.diffusion.sampler.adams import EQUAL_STEPS
from langevin.diffusion.schedule import Cosine, VarianceExploding
from tests import exact

SCHEDULE = Cosine()
PROCESS, DATA = Gaussian(schedule=SCHEDULE), exact.Mixture(schedule=SCHEDULE)
TIMES = Rho(low=0.02, high=20.0, to_zero=False)(torch.tensor([9]), SCHEDULE)
SEEDS = torch.tensor([3, 4])


def begin(tool, process=PROCESS, times=TIMES):
    return start(tool, process, torch.zeros(2, 4, dtype=torch.float64), times.expand(2, -1), SEEDS)


def final(tool, process=PROCESS, data=DATA, times=TIMES):
    for told in sample(tool, data, begin(tool, process, times)):
        state = told
    return state.x


def path(times=TIMES, schedule=SCHEDULE):
    """alpha, sigma and lambda of the knots."""
    a, s = schedule.alpha(times[0]), schedule.sigma(times[0])
    return a, s, (a / s).log()


def answer(x, t):
    return DATA(x, t.expand(len(x))).mean


def close(a, b, *, by=1e-11):
    return float((a - b).abs().max()) < by * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Exponential(process=PROCESS, max_order=1), DDIM(process=PROCESS)),
        (DPM2M(process=PROCESS, eta=1.0, lower_order_final=False), None),
        (Exponential(process=PROCESS, max_order=1, eta=1.0), Ancestral(process=PROCESS)),
        (DDIM(process=PROCESS, eta=1.0), Ancestral(process=PROCESS)),
        (Adams(process=PROCESS, max_order=1), DDIM(process=PROCESS)),
        (Adams(process=PROCESS, max_order=1, clock="vp"), DDIM(process=PROCESS)),
        (IPNDM(process=PROCESS, max_order=1), DDIM(process=PROCESS)),
        (Restart(process=PROCESS, again=0), Heun(process=PROCESS)),
        (Churn(process=PROCESS, churn=0.0), Heun(process=PROCESS)),
        (DPM2M(process=PROCESS, lower_order_final=True), DPM2M(process=PROCESS, lower_order_final=False)),
    ],
)
def test_equal_by_theory_is_equal_by_number(one, other):
    if other is None:  # its noise share is the standard reverse equation's: at one step it is ancestral
        assert close(final(one, times=TIMES[:, :2]), final(Ancestral(process=PROCESS), times=TIMES[:, :2]))
        return
    times = TIMES[:, :2] if isinstance(one, DPM2M) else TIMES
    assert close(final(one, times=times), final(other, times=times))


def multistep(update):
    """Run a published multistep update(i, x, answers, a, s, lam) with all answers so far, from the shared start."""
    a, s, lam = path()
    x, answers = begin(DDIM(process=PROCESS)).x, []
    for i in range(TIMES.shape[1] - 1):
        answers.append(answer(x, TIMES[0, i]))
        x = update(i, x, answers, a, s, lam)
    return x


def dpm(i, x, d, a, s, lam, *, most, second):
    """DPM-Solver++ in data prediction; `second` is the factor on its D2."""
    h = lam[i + 1] - lam[i]
    e = -torch.expm1(-h)
    psi_1, psi_2 = 1 - e / h, 0.5 - (h - e) / h**2
    base = s[i + 1] / s[i] * x
    if i == 0 or most == 1:
        return base + a[i + 1] * e * d[i]
    r_0 = (lam[i] - lam[i - 1]) / h
    d_1a = (d[i] - d[i - 1]) / r_0
    if i == 1 or most == 2:
        weight = e / 2 if second == 1 else psi_1
        return base + a[i + 1] * (e * d[i] + weight * d_1a)
    r_1 = (lam[i - 1] - lam[i - 2]) / h
    d_1b = (d[i - 1] - d[i - 2]) / r_1
    d_1 = d_1a + r_0 / (r_0 + r_1) * (d_1a - d_1b)
    return base + a[i + 1] * (e * d[i] + psi_1 * d_1 + psi_2 * second * (d_1a - d_1b) / (r_0 + r_1))


@pytest.mark.parametrize(
    ("tool", "most", "second"),
    [
        (DPM2M(process=PROCESS), 2, 1),
        (DPM3M(process=PROCESS), 3, 1),
        (Exponential(process=PROCESS, max_order=2), 2, 2),
        (Exponential(process=PROCESS, max_order=3, full_start=False), 3, 2),
    ],
)
def test_dpm_solvers_are_the_published_ones_and_the_exact_one_has_twice_its_second_difference(tool, most, second):
    assert close(final(tool), multistep(lambda *args: dpm(*args, most=most, second=second)))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ipndm_takes_the_coefficients_of_equal_steps(order):
    def update(i, x, answers, a, s, lam):
        slopes.append((x - a[i] * answers[i]) / s[i])
        c = EQUAL_STEPS[min(order, i + 1) - 1]
        step = s[i + 1] / a[i + 1] - s[i] / a[i]
        return a[i + 1] * (x / a[i] + step * sum(w * e for w, e in zip(c, reversed(slopes), strict=False)))

    slopes = []
    assert close(final(IPNDM(process=PROCESS, max_order=order)), multistep(update))


def test_adams_bashforth_integrates_the_polynomial_in_rho():
    """Order 2 on unequal steps: e_i + (e_i - e_{i-1}) / (rho_i - rho_{i-1}) (rho - rho_i), integrated."""

    def update(i, x, answers, a, s, lam):
        r = s / a
        slopes.append((x - a[i] * answers[i]) / s[i])
        step = r[i + 1] - r[i]
        bend = (slopes[i] - slopes[i - 1]) / (r[i] - r[i - 1]) * step**2 / 2 if i else 0
        return a[i + 1] * (x / a[i] + step * slopes[i] + bend)

    slopes = []
    assert close(final(Adams(process=PROCESS, max_order=2)), multistep(update))


@pytest.mark.parametrize("p", [1, 2, 3])
def test_unipc_is_the_published_bh2(p):
    """As "UniPC" writes it: R rho = b with B = e^-h - 1, and 1 / 2 for the predictor of 2 and the corrector of 1."""
    a, s, lam = path()
    x, answers = begin(DDIM(process=PROCESS)).x, []
    corrected = x
    for i in range(TIMES.shape[1] - 1):
        answers.append(answer(x, TIMES[0, i]))
        if i > 0:
            corrected = _unipc(i - 1, corrected, answers, a, s, lam, p, correct=True)
        x = _unipc(i, corrected, answers, a, s, lam, p, correct=False)
    assert close(final(UniPC(process=PROCESS, p=p, full_start=False)), x)


def _unipc(i, x, d, a, s, lam, most, *, correct):
    p, h = min(most, i + 1), float(lam[i + 1] - lam[i])
    m_0, big = d[i], math.expm1(-h)
    r = [float(lam[i - j] - lam[i]) / h for j in range(1, p)]
    differences = [(d[i - j] - m_0) / r[j - 1] for j in range(1, p)]
    if correct:
        r, differences = [*r, 1.0], [*differences, d[i + 1] - m_0]
    phi, b, k = big / -h - 1, [], len(r)
    for n in range(1, k + 1):
        b.append(math.factorial(n) * phi / big)
        phi = phi / -h - 1 / math.factorial(n + 1)
    base = s[i + 1] / s[i] * x - a[i + 1] * big * m_0
    if k == 0:
        return base
    if k == 1:
        rho = [0.5]
    else:
        system = torch.tensor([[v**n for v in r] for n in range(k)], dtype=torch.float64)
        rho = torch.linalg.solve(system, torch.tensor(b, dtype=torch.float64)).tolist()
    return base - a[i + 1] * big * sum(w * diff for w, diff in zip(rho, differences, strict=True))


def test_sde_dpm_2m_is_the_published_one():
    """x_s = sigma_s / sigma_t e^{-eta h} x + alpha_s G (D + D1 / 2) + sigma_s sqrt(1 - e^{-2 eta h}) n."""
    eta = 0.7
    noise = itertools.count()

    def update(i, x, d, a, s, lam):
        h = lam[i + 1] - lam[i]
        g = -torch.expm1(-(1 + eta) * h)
        d_1 = (d[i] - d[i - 1]) * h / (lam[i] - lam[i - 1]) if i else 0
        n = RowNoise(seeds=SEEDS, steps=torch.full((2,), next(noise))).normal(x)
        mean = s[i + 1] / s[i] * torch.exp(-eta * h) * x + a[i + 1] * g * (d[i] + d_1 / 2)
        return mean + s[i + 1] * torch.sqrt(-torch.expm1(-2 * eta * h)) * n

    assert close(final(DPM2M(process=PROCESS, eta=eta)), multistep(update))


def test_euler_maruyama_is_the_reverse_equation():
    noise = itertools.count()

    def update(i, x, d, a, s, lam):
        r, eps = s / a, (x - a[i] * d[i]) / s[i]
        n = RowNoise(seeds=SEEDS, steps=torch.full((2,), next(noise))).normal(x)
        return a[i + 1] * (x / a[i] + 2 * (r[i + 1] - r[i]) * eps + torch.sqrt(2 * r[i] * (r[i] - r[i + 1])) * n)

    assert close(final(EulerMaruyama(process=PROCESS)), multistep(update))


def test_churn_is_edms_stochastic_sampler():
    """Algorithm 2 of EDM with its noise drawn when a step ends: in y = x, sigma on the exploding schedule."""
    schedule = VarianceExploding()
    process, data = Gaussian(schedule=schedule), exact.Mixture(schedule=schedule)
    tool = Churn(process=process, churn=3.0, low=0.1, high=5.0, louder=1.01)
    times = Rho(low=0.02, high=20.0)(torch.tensor([9]), schedule)
    sigma = schedule.sigma(times[0])
    y, call = begin(tool, process, times).x, 0
    gamma = min(3.0 / 9, math.sqrt(2) - 1)

    def slope(y, level):
        return (y - data(y, schedule.time(-2 * level.log()).expand(2)).mean) / level

    for i in range(9):
        level = sigma[i]
        if i > 0 and 0.1 <= float(level) <= 5.0:
            n = RowNoise(seeds=SEEDS, steps=torch.full((2,), call - 1)).normal(y)
            raised = level * (1 + gamma)
            y, level = y + 1.01 * torch.sqrt(raised**2 - level**2) * n, raised
        d = slope(y, level)
        guess = y + (sigma[i + 1] - level) * d
        call += 1
        if float(sigma[i + 1]) > 0:
            guess = y + (sigma[i + 1] - level) * (d + slope(guess, sigma[i + 1])) / 2
            call += 1
        y = guess
    assert close(final(tool, process, data, times), y, by=1e-9)


def test_restart_goes_back_up_as_often_as_it_is_told():
    times = Rho(low=0.02, high=20.0)(torch.tensor([16]), SCHEDULE)
    levels = (SCHEDULE.sigma(times) / SCHEDULE.alpha(times))[0]
    tool = Restart(process=PROCESS, low=0.3, high=2.0, again=2)
    asked = []

    def denoiser(x, t, condition=None):
        asked.append(float(SCHEDULE.sigma(t[:1]) / SCHEDULE.alpha(t[:1])))
        return DATA(x, t)

    list(sample(tool, denoiser, begin(tool, PROCESS, times)))
    ups = [(a, b) for a, b in itertools.pairwise(asked) if b > a * 1.0001]
    down = max(float(v) for v in levels if v <= 0.3)
    up = min(float(v) for v in levels if v >= 2.0)
    assert len(ups) == 2
    assert all(b == pytest.approx(up) for _, b in ups)
    assert all(a == pytest.approx(down) for a, _ in ups)


def test_the_langevin_corrector_asks_again_at_the_level_it_came_to():
    tool, asked = Langevin(process=PROCESS, corrections=2), []

    def denoiser(x, t, condition=None):
        asked.append(float(t[0]))
        return DATA(x, t)

    times = Rho(low=0.02, high=20.0)(torch.tensor([3]), SCHEDULE)
    list(sample(tool, denoiser, begin(tool, PROCESS, times)))
    t = times[0].tolist()
    assert asked == pytest.approx([t[0], t[1], t[1], t[1], t[2], t[2], t[2]])


@pytest.mark.parametrize(("tool", "more"), [
    (Exponential(process=PROCESS, max_order=3), 1), (Exponential(process=PROCESS, max_order=4), 2),
    (UniPC(process=PROCESS, p=2), 0), (UniPC(process=PROCESS, p=3), 1), (Adams(process=PROCESS, max_order=2), 0),
])  # fmt: skip
def test_a_full_start_costs_as_many_calls_as_it_says(tool, more):
    assert len(list(sample(tool, DATA, begin(tool)))) == TIMES.shape[1] - 1 + more
