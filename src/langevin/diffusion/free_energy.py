"""Minimising the free energy over the noise schedule, in the senses in which that means something.

The diffusion term of the bound, L = 1/2 int mmse dSNR, is the free energy of going from noise to data. It does not
depend on the shape of a scalar schedule, only on its ends: d SNR is all that a schedule's clock can change, and it
cancels. So the minimum over beta(t) is degenerate in continuous time. It is not where

    (i)    steps are finite: L_T = 1/2 sum (SNR_s - SNR_t) mmse(SNR_t) is an upper Riemann sum of a falling function.
           For T steps the gap L_T - L is least on equal increments of int sqrt(-mmse') dSNR and tends to S^2 / 4T,
           S the whole of that integral ("constant speed"), which dynamic programming confirms: `Curve`.
    (ii)   the ends are chosen: what is not paid between them is paid in prior and reconstruction: `learn_ends`.
    (iii)  the bound is estimated: its mean is invariant, its variance is not: `importance`.
    (iv)   places have schedules of their own, SNR_j(t): then L = 1/2 sum_j int mmse_j dSNR_j is a line integral. With
           the exact denoiser mmse_j is a gradient (of twice the information, I-MMSE) and the path does not matter
           either, nor with that of any other law. It does in finitely many steps, where every place can have its own
           constant speed, sum_j S_j^2 <= S^2, and for a denoiser that is the posterior mean of no law, as a trained
           one: `learn_paths` ("Diffusion Models with Learned Adaptive Noise", 2024).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.likelihood.gaussian import chance
from langevin.diffusion.noise import RowNoise, mix
from langevin.diffusion.process import Gaussian


@dataclass(frozen=True, kw_only=True)
class Curve:
    """mmse at rising log-SNR: E|x - D|^2 summed over places, falling.

    Args:
        log_snr: (n,) float64.
        mmse: (n,) float64.

    Raises:
        ValueError: fewer than three levels, levels that do not rise, or errors that are not positive and finite.
    """

    log_snr: Tensor
    mmse: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_snr", self.log_snr.double())
        object.__setattr__(self, "mmse", self.mmse.double())
        level, e = self.log_snr, self.mmse
        if level.ndim != 1 or level.shape != e.shape or len(level) < 3 or not bool((level.diff() > 0).all()):
            raise ValueError(
                "a curve needs as many errors as log-SNR, three or more that rise; got shapes "
                f"{tuple(level.shape)}, {tuple(e.shape)}"
            )
        if not bool((e.isfinite() & (e > 0)).all()):
            raise ValueError("a curve's squared errors must be positive and finite: some are not")

    def monotone(self) -> "Curve":
        """The nearest falling curve in ln mmse: neighbours that rise by chance are pooled to their mean."""
        blocks: list[tuple[float, int]] = []
        for value in self.mmse.double().log():
            blocks.append((float(value), 1))
            while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
                (a, n), (b, m) = blocks[-2:]
                blocks[-2:] = [((a * n + b * m) / (n + m), n + m)]
        pooled = [value for value, n in blocks for _ in range(n)]
        return Curve(log_snr=self.log_snr, mmse=torch.tensor(pooled, dtype=torch.float64).exp())

    def at(self, log_snr: Tensor) -> Tensor:
        """ln mmse is linear in log-SNR between the levels; constant beyond them."""
        level = log_snr.clamp(self.log_snr[0], self.log_snr[-1])
        return _interpolate(level, self.log_snr, self.mmse.log()).exp()

    def fine(self, per_piece: int = 32) -> "Curve":
        """The same curve on a finer grid."""
        n = (len(self.log_snr) - 1) * per_piece + 1
        place = torch.linspace(0, len(self.log_snr) - 1, n, dtype=torch.float64)
        index = torch.arange(len(self.log_snr), dtype=torch.float64)
        level = _interpolate(place, index, self.log_snr.double())
        return Curve(log_snr=level, mmse=self.at(level))

    def energy(self) -> float:
        """L = 1/2 int mmse dSNR between the ends, in nats: exact for the interpolated curve."""
        return float(0.5 * _pieces(self.log_snr, self.mmse.log() + self.log_snr).sum())

    def finite(self, log_snr: Tensor) -> float:
        """L_T of ancestral steps between knots (T + 1,), rising, in nats."""
        snr = log_snr.double().exp()
        return float(0.5 * (snr.diff() * self.at(log_snr[:-1])).sum())

    def travelled(self) -> Tensor:
        """int sqrt(-dmmse/dSNR) dSNR up to each level, (n,): the clock of constant speed; its end is S."""
        # over a piece mmse = c SNR^-p, so sqrt(-dmmse/dl SNR) = sqrt(p mmse SNR) is an exponential in l
        slope = (-self.mmse.log().diff() / self.log_snr.diff()).clamp_min(0)
        work = 0.5 * (self.mmse.log() + self.log_snr)
        return torch.cat([slope.new_zeros(1), (slope.sqrt() * _pieces(self.log_snr, work)).cumsum(0)]).double()

    def length(self) -> float:
        """S; the gap of the best T steps tends to S^2 / 4T."""
        return float(self.travelled()[-1])

    def constant_speed(self, steps: int) -> Tensor:
        """log-SNR of `steps` + 1 knots at equal distances of `travelled`, rising."""
        _require_steps(steps)
        fine = self.fine()
        way = fine.travelled()
        if not way[-1] > 0:
            raise ValueError("this curve does not fall, so no grid is better than another: measure it over more levels")
        aim = torch.linspace(0, 1, steps + 1, dtype=torch.float64) * way[-1]
        knots = _interpolate(aim, way, fine.log_snr)
        knots[0], knots[-1] = self.log_snr[0], self.log_snr[-1]
        return knots

    def optimal(self, steps: int, *, candidates: int = 1200) -> Tensor:
        """log-SNR of the `steps` + 1 knots of least L_T, rising, among evenly spaced candidates, by dynamic programming:
        V_k(j) = min_i V_{k-1}(i) + 1/2 (SNR_j - SNR_i) mmse_i."""
        _require_steps(steps)
        if candidates <= steps:
            raise ValueError(f"{steps} steps need more candidates than {candidates}")
        level = torch.linspace(float(self.log_snr[0]), float(self.log_snr[-1]), candidates, dtype=torch.float64)
        snr = level.exp()
        cost = 0.5 * (snr[None, :] - snr[:, None]) * self.at(level)[:, None]
        cost = torch.where(torch.arange(candidates)[:, None] < torch.arange(candidates), cost, torch.inf)
        value = cost[0]
        came: list[Tensor] = []
        for _ in range(steps - 1):
            value, best = (value[:, None] + cost).min(0)
            came.append(best)
        path = [candidates - 1]
        for best in reversed(came):
            path.append(int(best[path[-1]]))
        return level[torch.tensor([0, *reversed(path)])]


def measure_curve(
    denoiser: Denoiser, process: Gaussian, batch: Batch, *, log_snr: Tensor, seed: int = 0, names: Tensor | None = None
) -> tuple[Curve, Tensor]:
    """E|x - D|^2 of a denoiser at rising log-SNR (n,), and E[f^2] (n,) of the bound's integrand f = SNR |x - D|^2 / 2."""
    x: Tensor = batch.x
    rows = torch.arange(len(x), device=x.device) if names is None else names.to(x.device)
    seeds = mix(torch.full_like(rows, seed), rows)
    errors: list[float] = []
    moments: list[float] = []
    with torch.no_grad():
        for i, level in enumerate(log_snr.double()):
            t = process.schedule.time(level.to(x.device)).expand(len(x))
            x_t = process.corrupt(x, t, RowNoise(seeds=seeds, steps=torch.full_like(rows, i)))
            error = denoiser(x_t, t, batch.condition).error(x).double()
            steady = (error - chance(process, x, x_t, t)).flatten(1).sum(1).mean()
            total = error.flatten(1).sum(1)
            errors.append(float(steady) if float(steady) > 0 else float(total.mean()))
            moments.append(float((0.5 * level.exp() * total).square().mean()))
    curve = Curve(log_snr=log_snr.double().cpu(), mmse=torch.tensor(errors, dtype=torch.float64))
    return curve, torch.tensor(moments, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------- what is learned


def learn_ends(
    nats: Callable[[Tensor, Tensor], Tensor],
    *,
    first: float = 8.0,
    last: float = -6.0,
    steps: int = 300,
    rate: float = 0.05,
) -> tuple[float, float, list[float]]:
    """The cleanest and noisiest log-SNR of least total free energy, and its course, by its gradient.

    Args:
        nats: (first, last) -> prior + diffusion + reconstruction, differentiable; its draws may differ from call to call.
    """
    ends = torch.tensor([first, last], dtype=torch.float64, requires_grad=True)
    course = _descend([ends], lambda: nats(ends[0], ends[1]), steps=steps, rate=rate)
    return float(ends[0].detach()), float(ends[1].detach()), course


def learn_paths(
    nats: Callable[[Tensor], Tensor],
    *,
    places: int,
    knots: int,
    first: float,
    last: float,
    steps: int = 500,
    rate: float = 0.05,
) -> tuple[Tensor, list[float]]:
    """A monotone schedule a place, log-SNR (places, knots) from `last` up to `first`, of least free energy, its course.

    Args:
        nats: log-SNR (places, knots) -> the free energy of that path, differentiable. Between the fixed ends the increments
            are a softmax, which starts from equal ones: one schedule for all.
    """
    if places < 1 or knots < 2 or not last < first:
        raise ValueError(
            f"paths need places, two or more knots and last < first: got {places}, {knots}, {last}, {first}"
        )
    shares = torch.zeros(places, knots - 1, dtype=torch.float64, requires_grad=True)
    course = _descend([shares], lambda: nats(_path(shares, first, last)), steps=steps, rate=rate)
    return _path(shares, first, last).detach(), course


def _path(shares: Tensor, first: float, last: float) -> Tensor:
    rise = shares.softmax(1).cumsum(1) * (first - last)
    return torch.cat([torch.full_like(rise[:, :1], last), last + rise], 1)


def _descend(parameters: list[Tensor], nats: Callable[[], Tensor], *, steps: int, rate: float) -> list[float]:
    """Adam with a rate that falls to zero; the values on the way."""
    _require_steps(steps)
    optimizer = torch.optim.Adam(parameters, lr=rate, betas=(0.9, 0.99))
    course: list[float] = []
    for i in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * i / steps))
        optimizer.zero_grad()
        value = nats()
        if not bool(value.isfinite()):
            raise ValueError(
                f"the free energy is {float(value.detach())} at step {i}: start from other ends, or a lower rate"
            )
        value.backward()  # pyright: ignore[reportUnknownMemberType]
        optimizer.step()  # pyright: ignore[reportUnknownMemberType]
        course.append(float(value.detach()))
    return course


def _require_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps are counted from 1, got {steps}")


def _pieces(level: Tensor, log_f: Tensor) -> Tensor:
    """int e^{log_f} dl over each piece, log_f linear in between."""
    rise = log_f.diff()
    flat = rise.abs() < 1e-6
    factor = torch.where(flat, 1 + rise / 2, torch.expm1(rise) / torch.where(flat, 1.0, rise))
    return log_f[:-1].exp() * level.diff() * factor


def _interpolate(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """y, linear between rising x."""
    i = (torch.searchsorted(x, at, right=True) - 1).clamp(0, len(x) - 2)
    width = (x[i + 1] - x[i]).clamp_min(1e-300)
    return torch.lerp(y[i], y[i + 1], ((at - x[i]) / width).clamp(0, 1))
