"""The steps of the samplers as their papers write them, executable: what the samplers' tables are held to.

Each function goes from knot i to knot i + 1 of a `Walk`: it calls the model at x, and returns x_s. t and s are the two
knots, D the model's output, eps = (x - alpha_t D) / sigma_t the noise that it implies, y = x / alpha, rho = sigma / alpha,
lambda = ln(alpha / sigma), h = lambda_s - lambda_t. Everything is in float64, on one grid for all rows, whose knots have
finite lambda.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import mpmath
import numpy as np
import torch
from torch import Tensor

from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.schedule import AnySchedule


@dataclass
class Walk:
    """A trajectory: the knots `t` (n + 1,), the model `data`, the names of the rows, and the outputs so far."""

    data: Any
    schedule: AnySchedule
    t: Tensor
    seeds: Tensor
    D: list[Tensor] = field(default_factory=list)
    corrected: Tensor | None = None  # UniPC's

    def __post_init__(self):
        self.alpha, self.sigma = self.schedule.alpha(self.t), self.schedule.sigma(self.t)
        self.rho, self.lam = self.sigma / self.alpha, (self.alpha / self.sigma).log()

    def call(self, x: Tensor, t: Tensor) -> Tensor:
        """D(x, t), remembered."""
        self.D.append(self.data(x, t.expand(len(x))).mean)
        return self.D[-1]

    def noise(self, x: Tensor) -> Tensor:
        """The noise that belongs to the latest call."""
        return SampleNoise(seeds=self.seeds, steps=torch.full_like(self.seeds, len(self.D) - 1)).normal(x)

    def knots(self, i: int):
        """alpha_t, sigma_t, alpha_s, sigma_s, h."""
        return self.alpha[i], self.sigma[i], self.alpha[i + 1], self.sigma[i + 1], self.lam[i + 1] - self.lam[i]

    def order(self, i: int, most: int, lower_order_final: bool) -> int:
        """Of a multistep step: it rises from 1, and may fall to 1."""
        return min(most, i + 1, len(self.t) - 1 - i if lower_order_final else most)


def walk(step, w: Walk, x: Tensor, **parameters) -> Tensor:
    """Where the steps lead."""
    for i in range(len(w.t) - 1):
        x = step(w, i, x, **parameters)
    return x


# --------------------------------------------------------------------------------------------------- one call, no memory


def ddim(w, i, x, *, eta=0.0):
    """arXiv:2010.02502, equation 12; there sigma^2 = 1 - alpha^2."""
    alpha_t, sigma_t, alpha_s, sigma_s, _ = w.knots(i)
    D = w.call(x, w.t[i])
    eps = (x - alpha_t * D) / sigma_t
    c = eta * sigma_s / sigma_t * torch.sqrt(sigma_t**2 - (alpha_t / alpha_s) ** 2 * sigma_s**2)
    return alpha_s * D + torch.sqrt(sigma_s**2 - c**2) * eps + c * w.noise(x)


def ddpm(w, i, x, *, variance="forward"):
    """arXiv:2006.11239, equations 6 and 7: the posterior of one forward step x_t = a x_s + sqrt(beta) n."""
    alpha_t, sigma_t, alpha_s, sigma_s, _ = w.knots(i)
    a, beta = alpha_t / alpha_s, sigma_t**2 - (alpha_t / alpha_s) ** 2 * sigma_s**2
    D = w.call(x, w.t[i])
    mean = (alpha_s * beta * D + a * sigma_s**2 * x) / sigma_t**2
    return mean + torch.sqrt(beta if variance == "forward" else beta * sigma_s**2 / sigma_t**2) * w.noise(x)


def euler(w, i, x):
    """dy / drho = eps."""
    alpha_t, sigma_t, alpha_s, _, _ = w.knots(i)
    eps = (x - alpha_t * w.call(x, w.t[i])) / sigma_t
    return alpha_s * (x / alpha_t + (w.rho[i + 1] - w.rho[i]) * eps)


def euler_maruyama(w, i, x):
    """arXiv:2011.13456, equation 6 for the exploding process: dy = 2 eps drho + sqrt(2 rho) dw."""
    alpha_t, sigma_t, alpha_s, _, _ = w.knots(i)
    eps, change = (x - alpha_t * w.call(x, w.t[i])) / sigma_t, w.rho[i + 1] - w.rho[i]
    return alpha_s * (x / alpha_t + 2 * change * eps + torch.sqrt(-2 * w.rho[i] * change) * w.noise(x))


def langevin(w, i, x, *, ratio=0.16, corrections=1):
    """arXiv:2011.13456, algorithm 4, with expected norms and its step shortened by min(1, h)."""
    _, _, alpha_s, sigma_s, h = w.knots(i)
    x = ddim(w, i, x)
    for _ in range(corrections):
        score = (alpha_s * w.call(x, w.t[i + 1]) - x) / sigma_s**2
        d = 2 * ratio**2 * sigma_s**2 * min(1.0, float(h))
        x = x + d * score + math.sqrt(2 * d) * w.noise(x)
    return x


# ----------------------------------------------------------------------------------------------------- two calls a step


def heun(w, i, x):
    """arXiv:2206.00364, algorithm 1 in y."""
    return w.alpha[i + 1] * _heun(w, x / w.alpha[i], w.t[i], w.t[i + 1])


def _heun(w, y, t, s):
    def slope(y, t):
        alpha = w.schedule.alpha(t)
        return (y - w.call(alpha * y, t)) * alpha / w.schedule.sigma(t)

    change = w.schedule.sigma(s) / w.schedule.alpha(s) - w.schedule.sigma(t) / w.schedule.alpha(t)
    first = slope(y, t)
    return y + change * (first + slope(y + change * first, s)) / 2


def dpm2(w, i, x, *, r=0.5):
    """arXiv:2206.00927, algorithm 4 of its appendix (DPM-Solver-2)."""
    alpha_t, sigma_t, alpha_s, sigma_s, h = w.knots(i)
    u = w.schedule.time(2 * (w.lam[i] + r * h))
    alpha_u, sigma_u = w.schedule.alpha(u), w.schedule.sigma(u)
    eps = (x - alpha_t * w.call(x, w.t[i])) / sigma_t
    x_u = alpha_u / alpha_t * x - sigma_u * torch.expm1(r * h) * eps
    eps_u = (x_u - alpha_u * w.call(x_u, u)) / sigma_u
    return alpha_s / alpha_t * x - sigma_s * torch.expm1(h) * (eps + (eps_u - eps) / (2 * r))


def dpm2s(w, i, x, *, r=0.5):
    """arXiv:2211.01095, algorithm 1 (DPM-Solver++ 2S)."""
    _, sigma_t, alpha_s, sigma_s, h = w.knots(i)
    u = w.schedule.time(2 * (w.lam[i] + r * h))
    D = w.call(x, w.t[i])
    x_u = w.schedule.sigma(u) / sigma_t * x - w.schedule.alpha(u) * torch.expm1(-r * h) * D
    D_u = w.call(x_u, u)
    return sigma_s / sigma_t * x - alpha_s * torch.expm1(-h) * ((1 - 1 / (2 * r)) * D + D_u / (2 * r))


def edm_stochastic(w, i, x, *, s_churn, s_min, s_max, s_noise=1.0):
    """arXiv:2206.00364, algorithm 2 in y, with its noise drawn when a step ends; none before the first."""
    y, t, rho = x / w.alpha[i], w.t[i], w.rho[i]
    if i > 0 and s_min <= float(rho) <= s_max:
        raised = rho * (1 + min(s_churn / (len(w.t) - 1), math.sqrt(2) - 1))
        y, t = y + s_noise * torch.sqrt(raised**2 - rho**2) * w.noise(y), w.schedule.time(-2 * raised.log())
    return w.alpha[i + 1] * _heun(w, y, t, w.t[i + 1])


def restart(w, i, x, *, low, high, num_restarts):
    """arXiv:2306.14878, algorithm 1."""
    x = heun(w, i, x)
    low_at = next((j for j, rho in enumerate(w.rho.tolist()) if rho <= low), None)
    high_at = max((j for j, rho in enumerate(w.rho.tolist()[:-1]) if rho >= high), default=None)
    if i + 1 != low_at or high_at is None or high_at > i:
        return x
    for _ in range(num_restarts):
        added = torch.sqrt(w.rho[high_at] ** 2 - w.rho[low_at] ** 2)
        x = w.alpha[high_at] * (x / w.alpha[low_at] + added * w.noise(x))
        for j in range(high_at, low_at):
            x = heun(w, j, x)
    return x


def repaint(w, i, x, *, jump, repeats):
    """arXiv:2201.09865, algorithm 1 without a mask; the noise of a step down and of the way up after it is one normal."""

    def down(j, x, up=None):
        alpha_t, sigma_t, alpha_s, sigma_s, _ = w.knots(j)
        D = w.call(x, w.t[j])
        ratio = alpha_t / alpha_s  # q(x_t | x_s) = N(ratio x_s, between)
        between = sigma_t**2 - (ratio * sigma_s) ** 2
        mean = (ratio * sigma_s**2 * x + alpha_s * between * D) / sigma_t**2
        variance = sigma_s**2 * between / sigma_t**2
        if up is not None:
            ratio = w.alpha[up] / alpha_s
            mean, variance = ratio * mean, ratio**2 * variance + w.sigma[up] ** 2 - (ratio * sigma_s) ** 2
        return mean + torch.sqrt(variance) * w.noise(x)

    k, n = i + 1, len(w.t) - 1
    again = repeats - 1 if (n - k) % jump == 0 and k >= jump else 0
    x = down(i, x, k - jump if again else None)
    for left in range(again, 0, -1):
        for j in range(k - jump, k):
            x = down(j, x, k - jump if j == k - 1 and left > 1 else None)
    return x


# ------------------------------------------------------------------------------------------------------------ multistep


def dpm2m(w, i, x, *, eta=0.0, lower_order_final=False):
    """arXiv:2211.01095, algorithm 2 (2M) and, with noise, its SDE-DPM-Solver++ 2M."""
    _, sigma_t, alpha_s, sigma_s, h = w.knots(i)
    w.call(x, w.t[i])
    D = w.D[i]
    if w.order(i, 2, lower_order_final) == 2:
        r = (w.lam[i] - w.lam[i - 1]) / h
        D = D + (w.D[i] - w.D[i - 1]) / (2 * r)
    mean = sigma_s / sigma_t * torch.exp(-eta * h) * x - alpha_s * torch.expm1(-(1 + eta) * h) * D
    return mean + sigma_s * torch.sqrt(-torch.expm1(-2 * eta * h)) * w.noise(x)


def dpm3m(w, i, x, *, lower_order_final=False):
    """DPM-Solver++ 3M as it is published in code."""
    if w.order(i, 3, lower_order_final) < 3:
        return dpm2m(w, i, x, lower_order_final=lower_order_final)
    return third_order(w, i, x, second=1)


def third_order(w, i, x, *, second):
    """3M's step with `second` times its second difference: 2 makes it exact."""
    _, sigma_t, alpha_s, sigma_s, h = w.knots(i)
    w.call(x, w.t[i])
    r_0, r_1 = (w.lam[i] - w.lam[i - 1]) / h, (w.lam[i - 1] - w.lam[i - 2]) / h
    D_1a, D_1b = (w.D[i] - w.D[i - 1]) / r_0, (w.D[i - 1] - w.D[i - 2]) / r_1
    D_1, D_2 = D_1a + r_0 / (r_0 + r_1) * (D_1a - D_1b), (D_1a - D_1b) / (r_0 + r_1)
    E = -torch.expm1(-h)
    psi_1, psi_2 = 1 - E / h, 1 / 2 - (h - E) / h**2
    return sigma_s / sigma_t * x + alpha_s * (E * w.D[i] + psi_1 * D_1 + second * psi_2 * D_2)


def _integral(nodes, values, start, end, kernel, points=64):
    """int kernel(u) P(u) du from `start` to `end`, P the polynomial through `values` at the `nodes`."""
    z, weights = np.polynomial.legendre.leggauss(points)
    u = start + (end - start) * (torch.from_numpy(z) + 1) / 2
    total = torch.zeros_like(values[0])
    for j, value in enumerate(values):
        others = [k for k in range(len(nodes)) if k != j]
        basis = math.prod(((u - nodes[k]) / (nodes[j] - nodes[k]) for k in others), start=torch.ones_like(u))
        total = total + (torch.from_numpy(weights) * kernel(u) * basis).sum() * (end - start) / 2 * value
    return total


def exponential(w, i, x, *, max_order=3, eta=0.0, lower_order_final=False, full_start=True):
    """Variation of constants, with the polynomial in lambda through the last outputs."""
    _, sigma_t, alpha_s, sigma_s, h = w.knots(i)
    w.call(x, w.t[i])
    past, kappa = [i - j for j in range(w.order(i, max_order, lower_order_final))], 1 + eta
    integral = _integral(
        [w.lam[j] for j in past], [w.D[j] for j in past], w.lam[i], w.lam[i + 1],
        lambda lam: kappa * torch.exp(-kappa * (w.lam[i + 1] - lam)),
    )  # fmt: skip
    mean = sigma_s / sigma_t * torch.exp(-eta * h) * x + alpha_s * integral
    return mean + sigma_s * torch.sqrt(-torch.expm1(-2 * eta * h)) * w.noise(x)


def _past_eps(w, i, x, most):
    """The last values of eps, the newest first; w.eps holds all so far."""
    w.call(x, w.t[i])
    w.eps = getattr(w, "eps", [])
    w.eps.append((x - w.alpha[i] * w.D[i]) / w.sigma[i])
    return [w.eps[i - j] for j in range(min(most, i + 1))]


def adams(w, i, x, *, max_order=3, full_start=True):
    """Adams-Bashforth in rho on unequal steps."""
    eps = _past_eps(w, i, x, max_order)
    nodes = [w.rho[i - j] for j in range(len(eps))]
    return w.alpha[i + 1] * (x / w.alpha[i] + _integral(nodes, eps, w.rho[i], w.rho[i + 1], torch.ones_like))


def deis(w, i, x, *, max_order=3, full_start=True):
    """arXiv:2204.13902, tAB: the polynomial in the time u of the linear variance-preserving process."""
    eps = _past_eps(w, i, x, max_order)

    def time(rho):  # ln(1 + rho^2) = 0.1 u + 9.95 u^2
        b = torch.log1p(rho**2)
        return 2 * b / (0.1 + torch.sqrt(0.01 + 4 * 9.95 * b))

    def slope(u):  # drho / du
        b = 0.1 * u + 9.95 * u**2
        return b.exp() * (0.1 + 2 * 9.95 * u) / (2 * torch.sqrt(torch.expm1(b)))

    nodes = [time(w.rho[i - j]) for j in range(len(eps))]
    integral = _integral(nodes, eps, time(w.rho[i]), time(w.rho[i + 1]), slope)
    return w.alpha[i + 1] * (x / w.alpha[i] + integral)


def ipndm(w, i, x, *, max_order=4):
    """arXiv:2204.13902, appendix: the coefficients of equal steps."""
    eps = _past_eps(w, i, x, max_order)
    c = {1: (1.0,), 2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12), 4: (55 / 24, -59 / 24, 37 / 24, -9 / 24)}
    slope = sum(weight * value for weight, value in zip(c[len(eps)], eps, strict=True))
    return w.alpha[i + 1] * (x / w.alpha[i] + (w.rho[i + 1] - w.rho[i]) * slope)


def unipc(w, i, x, *, p=2, lower_order_final=False, full_start=True):
    """arXiv:2302.04867, algorithms 1 and 2 with B_2(h): correct the step before, then predict."""
    w.call(x, w.t[i])
    if i > 0:
        x = _unipc(w, i - 1, w.corrected, w.order(i - 1, p, lower_order_final), correct=True)
    w.corrected = x
    return _unipc(w, i, x, w.order(i, p, lower_order_final), correct=False)


def _unipc(w, i, x, p, *, correct):
    _, sigma_t, alpha_s, sigma_s, h = w.knots(i)
    length, B = mpmath.mpf(float(h)), math.expm1(-float(h))
    r = [float((w.lam[i - j] - w.lam[i]) / h) for j in range(1, p)]
    differences = [(w.D[i - j] - w.D[i]) / r[j - 1] for j in range(1, p)]
    if correct:
        r, differences = [*r, 1.0], [*differences, w.D[i + 1] - w.D[i]]
    b = []
    with mpmath.workdps(60):  # small steps cancel
        phi = -mpmath.expm1(-length) / length - 1
        for n in range(1, len(r) + 1):
            b.append(float(mpmath.factorial(n) * phi / mpmath.expm1(-length)))
            phi = -phi / length - 1 / mpmath.factorial(n + 1)
    weights = [0.5] if len(r) == 1 else np.linalg.solve([[v**n for v in r] for n in range(len(r))], b) if r else []
    change = sum(weight * difference for weight, difference in zip(weights, differences, strict=True))
    return sigma_s / sigma_t * x - alpha_s * B * (w.D[i] + change)
