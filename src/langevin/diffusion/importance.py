"""Importance sampling of log-SNR for the variational bound.

The diffusion term of the bound is the integral of f(l) = SNR |x - D|^2 / 2 over log-SNR l. With l ~ p the estimate f / p is
unbiased for every p, and has the least variance for

    p(l) proportional to E[f^2]^{1/2},

the mean over data and noise. Under uniform t a schedule is such a density, p = 1 / |dl/dt|. So learning p is equivalent to
learning a monotone schedule ("Variational Diffusion Models", 2021, arXiv:2107.00630), and simpler.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.schedule import AnySchedule


@dataclass(frozen=True, kw_only=True)
class Importance:
    """p(l) proportional to weight_i for log_snr_i <= l < log_snr_{i+1}: a piecewise constant density of log-SNR l.

    A single piece is uniform log-SNR. The density is cut at the lowest log-SNR that the schedule reaches.

    Args:
        log_snr: edges of the pieces, rising, within 80 of 0.
        weight: one positive number per piece.

    Raises:
        ValueError: the edges do not rise, or there is not one positive weight per piece.
    """

    kind: Literal["importance"] = "importance"
    log_snr: tuple[float, ...] = (-12.0, 13.0)
    weight: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        edges = self.log_snr
        if len(edges) < 2 or not all(-80 <= a < b <= 80 for a, b in pairwise(edges)):
            raise ValueError(
                f"a density over log-SNR needs two or more edges that rise, within 80 of 0; got {edges[:8]}"
            )
        if len(self.weight) != len(edges) - 1 or not all(0 < w < math.inf for w in self.weight):
            raise ValueError(
                f"a density over log-SNR needs one positive weight per piece: {len(edges) - 1}, got {self.weight[:8]}"
            )

    @classmethod
    def fit(cls, log_snr: Tensor, second_moment: Tensor, *, floor: float = 0.05) -> "Importance":
        """The density of least variance for E[f^2] (n,) measured at rising log-SNR (n,); its edges are the midpoints.

        No weight is below `floor` times the largest, so that every level is drawn: an error of E[f^2] costs variance
        only."""
        if log_snr.ndim != 1 or len(log_snr) < 2 or log_snr.shape != second_moment.shape:
            raise ValueError(
                f"fit needs one second moment per log-SNR, two or more, got shapes {tuple(second_moment.shape)} and "
                f"{tuple(log_snr.shape)}"
            )
        if not bool((second_moment >= 0).all()) or not bool((second_moment > 0).any()):
            raise ValueError("second moments must not be negative and not all be zero")
        middle = (log_snr[1:] + log_snr[:-1]) / 2
        edges = torch.cat([log_snr[:1], middle, log_snr[-1:]]).double()
        weight = second_moment.double().sqrt()
        weight = weight.clamp_min(floor * float(weight.max()))
        return cls(log_snr=_numbers(edges), weight=_numbers(weight))

    def _pieces(self, schedule: AnySchedule, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """(edges, density of each piece, distribution function at the edges), float64, cut to what the schedule reaches."""
        reach = schedule.log_snr(torch.ones(1, dtype=torch.float64, device=device))
        edges = torch.tensor(self.log_snr, dtype=torch.float64, device=device)
        if not bool(edges[-1] > reach):
            raise ValueError(
                f"the density ends at log-SNR {self.log_snr[-1]}, below the schedule's lowest, {float(reach):.4g}: raise it"
            )
        edges = torch.maximum(edges, reach)
        weight = torch.tensor(self.weight, dtype=torch.float64, device=device)
        mass = weight * edges.diff()
        total = mass.sum()
        return edges, weight / total, torch.cat([mass.new_zeros(1), mass.cumsum(0) / total])

    def ends(self, schedule: AnySchedule) -> tuple[float, float]:
        """The cleanest and the noisiest log-SNR that are drawn."""
        edges, _, _ = self._pieces(schedule, torch.device("cpu"))
        return float(edges[-1]), float(edges[0])

    def __call__(self, u: Tensor, schedule: AnySchedule) -> Tensor:
        """Times for uniforms u in (0, 1), rising in u."""
        edges, height, cdf = self._pieces(schedule, u.device)
        p = 1 - u.double()  # u rises with t, log-SNR falls
        i = (torch.searchsorted(cdf, p, right=True) - 1).clamp(0, len(height) - 1)
        level = torch.minimum(edges[i] + (p - cdf[i]) / height[i], edges[i + 1])
        return schedule.time(level).clamp(0, 1)

    def log_snr_density(self, t: Tensor, schedule: AnySchedule) -> Tensor:
        """p(l) at the log-SNR l of times t."""
        edges, height, _ = self._pieces(schedule, t.device)
        level = schedule.log_snr(t.double())
        return height[(torch.searchsorted(edges, level, right=True) - 1).clamp(0, len(height) - 1)]


class AdaptiveImportance:
    """A running estimate of E[f^2] per bin of log-SNR during training or evaluation; `density` is the fitted `Importance`.

    Args:
        low, high: range of log-SNR.
        bins: number of equally wide bins.
        decay: of a bin's exponential moving average, per update that visits it.
    """

    def __init__(self, *, low: float = -12.0, high: float = 13.0, bins: int = 25, decay: float = 0.9) -> None:
        if not low < high or bins < 2 or not 0 <= decay < 1:
            raise ValueError(
                f"need low < high, 2 or more bins and a decay in [0, 1): got {low}, {high}, {bins} and {decay}"
            )
        self.edges = torch.linspace(low, high, bins + 1, dtype=torch.float64)
        self.decay = decay
        self.moment = torch.zeros(bins, dtype=torch.float64)
        self.trust = torch.zeros(bins, dtype=torch.float64)  # 1 - decay^visits: corrects the bias of the start at zero

    def update(self, log_snr: Tensor, f: Tensor) -> None:
        """Add integrands f (n,), not divided by a density, at their log-SNR (n,)."""
        i = (torch.searchsorted(self.edges, log_snr.cpu().double(), right=True) - 1).clamp(0, len(self.moment) - 1)
        counts = torch.bincount(i, minlength=len(self.moment))
        sums = torch.bincount(i, weights=f.detach().cpu().double().square(), minlength=len(self.moment))
        keep = torch.where(counts > 0, self.decay, 1.0)
        self.moment = keep * self.moment + (1 - keep) * sums / counts.clamp_min(1)
        self.trust = keep * self.trust + (1 - keep)

    def density(self, *, floor: float = 0.05) -> Importance:
        """The density of least variance; uniform in log-SNR until every bin has been visited."""
        edges = _numbers(self.edges)
        if not bool((self.trust > 0).all()) or not bool((self.moment > 0).any()):
            return Importance(log_snr=edges, weight=(1.0,) * len(self.moment))
        weight = (self.moment / self.trust).sqrt()
        return Importance(log_snr=edges, weight=_numbers(weight.clamp_min(floor * float(weight.max()))))


def _numbers(values: Tensor) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
