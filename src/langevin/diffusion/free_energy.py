"""Minimising the free energy (the diffusion term of the variational bound) over the noise schedule.

In continuous time the diffusion term L = 1/2 int mmse dSNR depends on the ends of a scalar schedule and not on its shape: a
change of the clock is a change of variables. Every beta(t) between the same ends is a minimum. The schedule matters where

    (i)    the steps are finite: L_T = 1/2 sum (SNR_s - SNR_t) mmse(SNR_t) is an upper Riemann sum of a falling function.
           For T steps the gap L_T - L is least on equal increments of int sqrt(-mmse') dSNR ("constant speed"). It tends
           to S^2 / 4T with S the whole integral. `Curve` has both these knots and the optimum by dynamic programming.
    (ii)   the ends are free: moving them trades the diffusion term against prior and reconstruction: `learn_ends`.
    (iii)  the bound is estimated: the density of times changes the variance and not the mean: `importance`.
    (iv)   every dimension has its own schedule SNR_j(t): L = 1/2 sum_j int mmse_j dSNR_j is a line integral. For an exact
           posterior mean mmse_j is a gradient (of twice the mutual information, I-MMSE), so L does not depend on the path.
           It does in finitely many steps, where every dimension can have its own constant speed, sum_j S_j^2 <= S^2. It
           also does for a trained denoiser, which is no exact posterior mean: `learn_paths` ("Diffusion Models with
           Learned Adaptive Noise", 2024, arXiv:2312.13236).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.float64 import float64_device, to_float64
from langevin.diffusion.likelihood.gaussian import chance
from langevin.diffusion.noise import SampleNoise, mix
from langevin.diffusion.process import Gaussian


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The denoising error E|x - D|^2, summed over dimensions, at rising log-SNR.

    Args:
        log_snr: (n,) float64, rising.
        mmse: (n,) float64, positive.

    Raises:
        ValueError: fewer than three levels, levels that do not rise, or errors that are not positive and finite.
    """

    log_snr: Tensor
    mmse: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_snr", to_float64(self.log_snr))
        object.__setattr__(self, "mmse", to_float64(self.mmse))
        level, error = self.log_snr, self.mmse
        if level.ndim != 1 or level.shape != error.shape or len(level) < 3 or not bool((level.diff() > 0).all()):
            raise ValueError(
                "a curve needs three or more log-SNR that rise, and an error at each; got shapes "
                f"{tuple(level.shape)}, {tuple(error.shape)}"
            )
        if not bool((error.isfinite() & (error > 0)).all()):
            raise ValueError("a curve's squared errors must be positive and finite: some are not")

    def monotone(self) -> "Curve":
        """The nearest non-increasing curve in ln mmse, by isotonic regression (pool adjacent violators)."""
        blocks: list[tuple[float, int]] = []
        for value in to_float64(self.mmse).log():
            blocks.append((float(value), 1))
            while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
                (a, n), (b, m) = blocks[-2:]
                blocks[-2:] = [((a * n + b * m) / (n + m), n + m)]
        pooled = [value for value, n in blocks for _ in range(n)]
        return Curve(log_snr=self.log_snr, mmse=torch.tensor(pooled, dtype=torch.float64).exp())

    def at(self, log_snr: Tensor) -> Tensor:
        """mmse at any log-SNR: ln mmse is linear in log-SNR between the levels, and constant beyond them."""
        level = log_snr.clamp(self.log_snr[0], self.log_snr[-1])
        return _interpolate(level, self.log_snr, self.mmse.log()).exp()

    def fine(self, per_piece: int = 32) -> "Curve":
        """The same curve at `per_piece` points for each piece."""
        n = (len(self.log_snr) - 1) * per_piece + 1
        position = torch.linspace(0, len(self.log_snr) - 1, n, dtype=torch.float64)
        index = torch.arange(len(self.log_snr), dtype=torch.float64)
        level = _interpolate(position, index, to_float64(self.log_snr))
        return Curve(log_snr=level, mmse=self.at(level))

    def energy(self) -> float:
        """L = 1/2 int mmse dSNR between the ends, in nats: exact for the interpolated curve."""
        return float(0.5 * _pieces(self.log_snr, self.mmse.log() + self.log_snr).sum())

    def finite(self, log_snr: Tensor) -> float:
        """L_T of ancestral steps between knots (T + 1,), rising, in nats."""
        snr = to_float64(log_snr).exp()
        return float(0.5 * (snr.diff() * self.at(log_snr[:-1])).sum())

    def travelled(self) -> Tensor:
        """int sqrt(-dmmse/dSNR) dSNR up to each level, (n,); the last entry is S."""
        # over a piece mmse = c SNR^-p, so sqrt(-dmmse/dl SNR) = sqrt(p mmse SNR) is an exponential in l
        slope = (-self.mmse.log().diff() / self.log_snr.diff()).clamp_min(0)
        log_root = 0.5 * (self.mmse.log() + self.log_snr)
        return torch.cat([slope.new_zeros(1), (slope.sqrt() * _pieces(self.log_snr, log_root)).cumsum(0)]).double()

    def length(self) -> float:
        """S = int sqrt(-dmmse/dSNR) dSNR; the gap of the best T steps tends to S^2 / 4T."""
        return float(self.travelled()[-1])

    def constant_speed(self, steps: int) -> Tensor:
        """log-SNR of `steps` + 1 knots at equal distances of `travelled`, rising."""
        _require_steps(steps)
        fine = self.fine()
        distance = fine.travelled()
        if not distance[-1] > 0:
            raise ValueError("this curve does not fall, so all grids cost the same: measure it over more levels")
        targets = torch.linspace(0, 1, steps + 1, dtype=torch.float64) * distance[-1]
        knots = _interpolate(targets, distance, fine.log_snr)
        knots[0], knots[-1] = self.log_snr[0], self.log_snr[-1]
        return knots

    def optimal(self, steps: int, *, candidates: int = 1200) -> Tensor:
        """log-SNR of the `steps` + 1 knots of least L_T, rising, among evenly spaced candidates. By dynamic programming,

        V_k(j) = min_i V_{k-1}(i) + 1/2 (SNR_j - SNR_i) mmse_i."""
        _require_steps(steps)
        if candidates <= steps:
            raise ValueError(f"{steps} steps need more candidates than {candidates}")
        level = torch.linspace(float(self.log_snr[0]), float(self.log_snr[-1]), candidates, dtype=torch.float64)
        snr = level.exp()
        cost = 0.5 * (snr[None, :] - snr[:, None]) * self.at(level)[:, None]
        cost = torch.where(torch.arange(candidates)[:, None] < torch.arange(candidates), cost, torch.inf)
        value = cost[0]
        predecessors: list[Tensor] = []
        for _ in range(steps - 1):
            value, best = (value[:, None] + cost).min(0)
            predecessors.append(best)
        path = [candidates - 1]
        for best in reversed(predecessors):
            path.append(int(best[path[-1]]))
        return level[torch.tensor([0, *reversed(path)])]


def measure_curve(
    denoiser: Denoiser, process: Gaussian, batch: Batch, *, log_snr: Tensor, seed: int = 0, names: Tensor | None = None
) -> tuple[Curve, Tensor]:
    """E|x - D|^2 of a denoiser at rising log-SNR (n,), and E[f^2] (n,) of the bound's integrand f = SNR |x - D|^2 / 2.

    The noise is a function of `seed` and the names (b,) int64 of the samples; n function evaluations."""
    x: Tensor = batch.x
    host = float64_device(x.device)
    names = torch.arange(len(x), device=host) if names is None else names.to(host)
    seeds = mix(torch.full_like(names, seed), names)
    errors: list[float] = []
    moments: list[float] = []
    with torch.no_grad():
        for i, level in enumerate(to_float64(log_snr)):
            t = process.schedule.time(level.to(host)).expand(len(x))
            x_t = process.corrupt(x, t, SampleNoise(seeds=seeds, steps=torch.full_like(names, i)))
            error = to_float64(denoiser(x_t, t, batch.condition).error(x))
            reduced = (error - chance(process, x, x_t, t)).flatten(1).sum(1).mean()
            total = error.flatten(1).sum(1)
            errors.append(float(reduced) if float(reduced) > 0 else float(total.mean()))
            moments.append(float((0.5 * level.exp() * total).square().mean()))
    curve = Curve(log_snr=to_float64(log_snr).cpu(), mmse=torch.tensor(errors, dtype=torch.float64))
    return curve, torch.tensor(moments, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------- learned schedules


def learn_ends(
    nats: Callable[[Tensor, Tensor], Tensor],
    *,
    first: float = 8.0,
    last: float = -6.0,
    steps: int = 300,
    rate: float = 0.05,
) -> tuple[float, float, list[float]]:
    """The cleanest and the noisiest log-SNR that minimise the bound, by gradient descent, and its values on the way.

    Args:
        nats: (first, last) -> prior + diffusion + reconstruction, differentiable; may be a stochastic estimate.
        first, last: initial values.
        steps, rate: number of steps of Adam, and its initial learning rate.
    """
    ends = torch.tensor([first, last], dtype=torch.float64, requires_grad=True)
    history = _descend([ends], lambda: nats(ends[0], ends[1]), steps=steps, rate=rate)
    return float(ends[0].detach()), float(ends[1].detach()), history


def learn_paths(
    nats: Callable[[Tensor], Tensor],
    *,
    dimensions: int,
    knots: int,
    first: float,
    last: float,
    steps: int = 500,
    rate: float = 0.05,
) -> tuple[Tensor, list[float]]:
    """A monotone schedule per dimension of least free energy: log-SNR (dimensions, knots), and the values on the way.

    Args:
        nats: log-SNR (dimensions, knots) -> the free energy of that path, differentiable. The increments between the fixed
            ends are a softmax, initially equal: the same schedule for all dimensions.
        first, last: log-SNR of the cleanest and the noisiest knot.
        steps, rate: number of steps of Adam, and its initial learning rate.
    """
    if dimensions < 1 or knots < 2 or not last < first:
        raise ValueError(
            f"paths need one or more dimensions, two or more knots and last < first, got {dimensions} dimensions, {knots} "
            f"knots, last {last}, first {first}"
        )
    shares = torch.zeros(dimensions, knots - 1, dtype=torch.float64, requires_grad=True)
    history = _descend([shares], lambda: nats(_path(shares, first, last)), steps=steps, rate=rate)
    return _path(shares, first, last).detach(), history


def _path(shares: Tensor, first: float, last: float) -> Tensor:
    rise = shares.softmax(1).cumsum(1) * (first - last)
    return torch.cat([torch.full_like(rise[:, :1], last), last + rise], 1)


def _descend(parameters: list[Tensor], nats: Callable[[], Tensor], *, steps: int, rate: float) -> list[float]:
    """Adam with cosine decay of the rate to zero; returns the values on the way."""
    _require_steps(steps)
    optimizer = torch.optim.Adam(parameters, lr=rate, betas=(0.9, 0.99))
    history: list[float] = []
    for i in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * i / steps))
        optimizer.zero_grad()
        value = nats()
        if not bool(value.isfinite()):
            raise ValueError(
                f"the free energy is {float(value.detach())} at step {i}: start from other ends, or lower the rate"
            )
        value.backward()  # pyright: ignore[reportUnknownMemberType]
        optimizer.step()  # pyright: ignore[reportUnknownMemberType]
        history.append(float(value.detach()))
    return history


def _require_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")


def _pieces(level: Tensor, log_f: Tensor) -> Tensor:
    """int e^{log_f} dl over each piece between two levels, log_f linear in l."""
    rise = log_f.diff()
    flat = rise.abs() < 1e-6
    factor = torch.where(flat, 1 + rise / 2, torch.expm1(rise) / torch.where(flat, 1.0, rise))
    return log_f[:-1].exp() * level.diff() * factor


def _interpolate(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """y at points `at`, linear between rising x."""
    i = (torch.searchsorted(x, at, right=True) - 1).clamp(0, len(x) - 2)
    width = (x[i + 1] - x[i]).clamp_min(1e-300)
    return torch.lerp(y[i], y[i + 1], ((at - x[i]) / width).clamp(0, 1))
