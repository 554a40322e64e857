"""Convergence diagnostics of chains: effective sample size, R-hat of rank-normalised half chains, and growing variance.

    z = Phi^-1((rank - 3/8) / (S + 1/4))                     over all S draws of a quantity
    R^ = sqrt(((n - 1) / n W + B / n) / W)                   W within, B / n between the halves of chains, of z
    ESS = m n / (1 + 2 sum_k rho_k)                          by Geyer's initial monotone sequence

("Rank-Normalization, Folding, and Localization: An Improved R-hat for Assessing Convergence of MCMC", 2021,
arXiv:1903.08008). R-hat is the larger one of the draws and of the folded draws |x - median|, so it compares both location
and scale. To detect a density that cannot be normalised, the covariance of the last quarter of all chains is compared with
that of the first. The direction in which it has grown most, the first eigenvector of C_first^-1 C_last, is reported if
R-hat along it is large as well.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch does not say the types of norms, splits, triangular solves and Fourier transforms)

import math
from dataclasses import dataclass

import torch
from torch import Tensor

SETTLED = 1.01  # R-hat below which chains have converged; sampling noise gives about 1 + 1 / (2 e) at e effective draws
AT_MOST = 1.05  # the threshold with few effective draws
WALKS = 1.05  # R-hat along the growing direction above which the growth counts
GROWS = 1.4  # ratio of the variances of the last and the first quarter above which the growth counts
ENOUGH = 100.0  # least number of effective draws


def _halves(draws: Tensor) -> Tensor:
    n = draws.shape[1] // 2
    return torch.cat([draws[:, :n], draws[:, -n:]])


def _normalised(x: Tensor) -> Tensor:
    ranks = x.flatten().argsort().argsort().double().view(x.shape) + 1
    return torch.special.ndtri((ranks - 0.375) / (x.numel() + 0.25))


def _require(draws: Tensor) -> None:
    if draws.ndim != 2 or draws.shape[0] < 2 or draws.shape[1] < 8:
        raise ValueError(
            f"diagnostics need draws (chains, n) with 2 or more chains and n >= 8, got {tuple(draws.shape)}"
        )


def _plain_r_hat(z: Tensor) -> float:
    n = z.shape[1]
    within, between = z.var(1).mean(), z.mean(1).var()
    if float(within) == 0:
        return math.inf if float(between) > 0 else 1.0
    return float((((n - 1) / n * within + between) / within).sqrt())


def r_hat(draws: Tensor) -> float:
    """Rank-normalised split R-hat of one quantity (chains, n); 1 is converged, above 1.01 is not."""
    _require(draws)
    x = _halves(draws.double())
    return max(_plain_r_hat(_normalised(x)), _plain_r_hat(_normalised((x - x.median()).abs())))


def effective_size(draws: Tensor) -> float:
    """Bulk effective sample size of one quantity (chains, n)."""
    _require(draws)
    z = _normalised(_halves(draws.double()))
    m, n = z.shape
    centred = z - z.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centred, n=2 * n)
    power = torch.fft.irfft(spectrum * spectrum.conj(), n=2 * n)[:, :n] / n
    within = z.var(1).mean()
    total = (n - 1) / n * within + z.mean(1).var()
    if float(total) == 0:
        return float(m * n)
    rho = 1 - (within - power.mean(0)) / total
    pairs = (rho[0 : n - 1 : 2] + rho[1:n:2]).tolist()
    sum_, least = 0.0, math.inf  # Geyer: sums of pairs while positive, made monotone
    for pair in pairs:
        if pair < 0:
            break
        least = min(least, pair)
        sum_ += least
    return m * n / max(2 * sum_ - 1, 1 / math.log10(max(m * n, 10)))


@dataclass(frozen=True, kw_only=True)
class Diagnostics:
    """Whether chains have converged, and what to do if not.

    Args:
        r_hat: the largest over coordinates and the growing direction.
        effective_size: the smallest effective sample size.
        allowed: the R-hat that converged chains of that effective size may have, 1.01 to 1.05.
        growth: variance of the last quarter over that of the first, along `direction` (d,).
        converged: R-hat below `allowed`, 100 or more effective draws, and not `walks`.
        walks: the variance along `direction` keeps growing.
    """

    r_hat: float
    effective_size: float
    allowed: float
    growth: float
    direction: tuple[float, ...]
    converged: bool
    walks: bool

    def lines(self) -> list[str]:
        """The result in words, and what to do."""
        figures = (
            f"R-hat {self.r_hat:.3f} (converged below {self.allowed:.3f}), effective draws {self.effective_size:.0f}"
        )
        if self.walks:
            direction = ", ".join(f"{v:+.2f}" for v in self.direction[:6]) + (
                ", ..." if len(self.direction) > 6 else ""
            )
            return [
                f"the chains have NOT converged: {figures}",
                f"along the direction ({direction}) the spread keeps growing: the variance of the last quarter is "
                f"{self.growth:.1f} times that of the first. Either the density cannot be normalised along it, and no "
                "number of iterations helps, or it is far wider than the start",
                "to make it proper give a box (--box LOW HIGH) or --gaussian-envelope WIDTH; if it is only wide, "
                "take more iterations (--iterations)",
            ]
        if self.converged:
            return [f"the chains have converged: {figures}"]
        return [
            f"the chains have NOT converged: {figures}; take more iterations (--iterations), or start nearer to the modes"
        ]


def diagnose(draws: Tensor) -> Diagnostics:
    """Convergence diagnostics of chains (chains, n, ...), 2 or more with n >= 8."""
    x = draws.double().flatten(2)
    m = len(x)
    growth, direction = _growing(x)
    along = x @ direction
    quantities = [*x.unbind(2), along]
    worst = max(r_hat(q) for q in quantities)
    fewest = min(effective_size(q) for q in quantities)
    walks = m >= 4 and growth > GROWS and r_hat(along) > WALKS
    allowed = min(AT_MOST, max(SETTLED, 1 + 2 * m / fewest))
    sign = 1.0 if float(direction.sum()) >= 0 else -1.0
    return Diagnostics(
        r_hat=worst,
        effective_size=fewest,
        allowed=allowed,
        growth=growth,
        direction=tuple((sign * direction).tolist()),
        converged=worst < allowed and fewest >= ENOUGH and not walks,
        walks=walks,
    )


def _growing(x: Tensor) -> tuple[float, Tensor]:
    """The largest ratio of variances, last quarter over first, and its unit direction."""
    quarter = max(2, x.shape[1] // 4)
    first, last = (part.flatten(0, 1) - part.flatten(0, 1).mean(0) for part in (x[:, :quarter], x[:, -quarter:]))
    d = x.shape[2]
    before = first.T @ first / len(first)
    before = before + 1e-9 * (before.diagonal().mean() + 1e-300) * torch.eye(d, dtype=x.dtype)
    after = last.T @ last / len(last)
    lower = torch.linalg.cholesky(before)
    half = torch.linalg.solve_triangular(lower, after, upper=False)
    values, vectors = torch.linalg.eigh(torch.linalg.solve_triangular(lower, half.T, upper=False))
    way = torch.linalg.solve_triangular(lower.T, vectors[:, -1:], upper=True)[:, 0]
    spread = after @ way  # where the draws of the last quarter spread to along this eigenvector
    return float(values[-1]), spread / spread.norm().clamp_min(1e-300)
