"""Have chains settled? Effective sample size and R-hat of rank-normalised half chains, and spread that grows.

    z = Phi^-1((rank - 3/8) / (S + 1/4))                     over all S draws of a quantity
    R^ = sqrt(((n - 1) / n W + B / n) / W)                   W within, B / n between the halves of chains, of z
    ESS = m n / (1 + 2 sum_k rho_k)                          by Geyer's initial monotone sequence

("Rank-Normalization, Folding, and Localization: An Improved R-hat for Assessing Convergence of MCMC", 2021). R-hat is the
larger of that of z and of |z|-folded draws, so that it sees spread as well as place. Neither says why: so the covariance
of the last quarter of all chains is set against that of the first. The direction in which it has grown most, the largest
eigenvector of C_first^-1 C_last, is named if its own R-hat agrees: a chain that walks off without end does that.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch does not say the types of norms, splits, triangular solves and Fourier transforms)

import math
from dataclasses import dataclass

import torch
from torch import Tensor

SETTLED = (
    1.01  # R-hat below which chains are taken as one; chance alone gives 1 + 1 / (2 e) to parts of e effective draws
)
AT_MOST = 1.05
WALKS = 1.05  # R-hat above which growth is taken as a walk
GROWS = 1.4  # ratio of variances of the last and the first quarter
ENOUGH = 100.0  # effective draws


def _halves(draws: Tensor) -> Tensor:
    n = draws.shape[1] // 2
    return torch.cat([draws[:, :n], draws[:, -n:]])


def _normalised(x: Tensor) -> Tensor:
    ranks = x.flatten().argsort().argsort().double().view(x.shape) + 1
    return torch.special.ndtri((ranks - 0.375) / (x.numel() + 0.25))


def _require(draws: Tensor) -> None:
    if draws.ndim != 2 or draws.shape[0] < 2 or draws.shape[1] < 8:
        raise ValueError(
            f"judging chains needs (2 or more chains, 8 or more draws) of one quantity, got {tuple(draws.shape)}"
        )


def _plain_r_hat(z: Tensor) -> float:
    n = z.shape[1]
    within, between = z.var(1).mean(), z.mean(1).var()
    if float(within) == 0:
        return math.inf if float(between) > 0 else 1.0
    return float((((n - 1) / n * within + between) / within).sqrt())


def r_hat(draws: Tensor) -> float:
    """Rank-normalised split R-hat of one quantity (chains, n); 1 is settled, above 1.01 is not."""
    _require(draws)
    x = _halves(draws.double())
    return max(_plain_r_hat(_normalised(x)), _plain_r_hat(_normalised((x - x.median()).abs())))


def effective_size(draws: Tensor) -> float:
    """Of how many independent draws the chains (chains, n) of one quantity are worth, for its centre."""
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
    sum_, least = 0.0, math.inf
    for pair in pairs:
        if pair < 0:
            break
        least = min(least, pair)
        sum_ += least
    return m * n / max(2 * sum_ - 1, 1 / math.log10(max(m * n, 10)))


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What chains look like, and what to do about it.

    Args:
        r_hat: the largest over coordinates and the growing direction.
        effective_size: the smallest.
        growth: variance of the last quarter over that of the first, in `direction` (d,).
        allowed: the R-hat that settled chains of that many effective draws may have, 1.01 to 1.05.
        settled: R-hat below that and at least 100 effective draws.
        walks: spreads along `direction` and does not stop.
    """

    r_hat: float
    effective_size: float
    allowed: float
    growth: float
    direction: tuple[float, ...]
    settled: bool
    walks: bool

    def lines(self) -> list[str]:
        """In words."""
        figures = (
            f"R-hat {self.r_hat:.3f} (settled below {self.allowed:.3f}), effective draws {self.effective_size:.0f}"
        )
        if self.walks:
            way = ", ".join(f"{v:+.2f}" for v in self.direction[:6]) + (", ..." if len(self.direction) > 6 else "")
            return [
                f"the chains have NOT settled: {figures}",
                f"along the direction ({way}) the spread keeps growing: the variance of the last quarter is "
                f"{self.growth:.1f} times that of the first. Either the density cannot be normalised along it, and no "
                "number of moves will do, or it is far wider than the start",
                "to make it proper give a box (--box LOW HIGH) or a confining term (--confine WIDTH); if it is only wide, "
                "more moves (--moves)",
            ]
        if self.settled:
            return [f"the chains have settled: {figures}"]
        return [
            f"the chains have NOT settled: {figures}; take more moves (--moves), or start nearer to where the mass is"
        ]


def judge(draws: Tensor) -> Verdict:
    """The verdict on chains (chains, n, ...)."""
    x = draws.double().flatten(2)
    m = len(x)
    growth, way = _growing(x)
    along = x @ way
    quantities = [*x.unbind(2), along]
    worst = max(r_hat(q) for q in quantities)
    fewest = min(effective_size(q) for q in quantities)
    walks = m >= 4 and growth > GROWS and r_hat(along) > WALKS
    allowed = min(AT_MOST, max(SETTLED, 1 + 2 * m / fewest))
    sign = 1.0 if float(way.sum()) >= 0 else -1.0
    return Verdict(
        r_hat=worst,
        effective_size=fewest,
        allowed=allowed,
        growth=growth,
        direction=tuple((sign * way).tolist()),
        settled=worst < allowed and fewest >= ENOUGH and not walks,
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
    # the direction in which a variance has grown is that of the cloud it has grown into
    cloud = after @ way
    return float(values[-1]), cloud / cloud.norm().clamp_min(1e-300)
