"""Time warping: a clock for each position of each part, learned so that all lose what is known of them evenly.

The share of uncertainty of a position at time t, if nothing else were known of it, is

    Gaussian   r = sigma^2 / (sigma^2 + alpha^2 s_d^2)     the error of the best linear denoiser, relative to the variance
    masked     r = 1 - alpha(t)                            the probability that the token is not known

With the other positions known in part, the expected error is another function F(r) of its own share, which rises from 0.
It is learned from the losses of training as a sum of positive increments between knots. With G = F / F(1), a position has
at the common time t the share G^-1(r(t)): then every position's expected error is the fraction r(t) of its own largest one,
and a position that is independent of all others keeps the common time.

"Continuous diffusion for mixed-type tabular data" (2023, arXiv:2312.10431) learns such schedules for each feature, after
"Continuous diffusion for categorical data" (2022, arXiv:2211.15089). Errors vary in proportion to their mean, so the fit is
by the deviance F -> error / F + ln F, which is least at the mean.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from langevin.diffusion.float64 import to_float64
from langevin.diffusion.posterior import Joint
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.process.masked import Masked
from langevin.diffusion.process.product import Product
from langevin.diffusion.schedule import rho, time_of_rho
from langevin.diffusion.shape import Data, part_of

FIRST, LAST, KNOTS = -5.0, 3.0, 17  # knots in ln(sigma / alpha), of standardised data
IDENTITY = 0.05  # share of the identity in a map, so that no range of noise levels is ever left out


def share_of(process: Gaussian | Masked, t: Tensor) -> Tensor:
    """r(t), float64 in [0, 1], shaped like t."""
    t = to_float64(t)
    if isinstance(process, Masked):
        return process.mask_probability(t)
    ratio = (rho(process.schedule, t) / process.sigma_data).square()
    return torch.where(ratio.isinf(), 1.0, ratio / (1 + ratio))


def time_of(process: Gaussian | Masked, share: Tensor) -> Tensor:
    """The inverse of `share_of`."""
    if isinstance(process, Masked):
        return process.time(share)
    return time_of_rho(process.schedule, process.sigma_data * (share / (1 - share)).sqrt())


class TimeWarp(nn.Module):
    """The clocks of the n positions of one part.

    Args:
        positions: n.
    """

    def __init__(self, positions: int) -> None:
        super().__init__()
        self.log_slope = nn.Parameter(torch.zeros(positions, KNOTS + 1))  # of F between knots: 0 is F(r) = r

    @staticmethod
    def _knots(device: torch.device) -> Tensor:
        """(KNOTS + 2,) float64 shares from 0 to 1."""
        ratio = torch.linspace(FIRST, LAST, KNOTS, dtype=torch.float64, device=device).exp().square()
        inside = ratio / (1 + ratio)
        return torch.cat([inside.new_zeros(1), inside, inside.new_ones(1)])

    def errors(self, share: Tensor) -> Tensor:
        """F at the positions' own shares (b, n), float64."""
        knots = self._knots(share.device)
        slope = to_float64(self.log_slope).to(share.device).exp()
        below = torch.nn.functional.pad((slope * knots.diff())[:, :-1].cumsum(1), (1, 0))  # F at each bin's lower knot
        i = torch.bucketize(share.contiguous(), knots[1:-1], right=True)
        column = torch.arange(len(slope), device=i.device).expand_as(i)
        return below[column, i] + slope[column, i] * (share - knots[i])

    @torch.no_grad()
    def forward(self, share: Tensor) -> Tensor:
        """G^-1 of common shares (...): the own shares (..., n), float64."""
        knots = self._knots(share.device)
        rise = to_float64(self.log_slope).to(share.device).exp() * knots.diff()
        rise = (1 - IDENTITY) * rise / rise.sum(1, keepdim=True) + IDENTITY * knots.diff()
        total = torch.nn.functional.pad(rise.cumsum(1), (1, 0))
        flat = share.flatten().expand(len(total), -1).contiguous()
        i = (torch.searchsorted(total, flat, right=True) - 1).clamp(0, KNOTS)
        low, step = total.gather(1, i), rise.gather(1, i)
        own = knots[i] + (flat - low) / step * knots.diff()[i]
        own = torch.where(flat <= 0, 0.0, torch.where(flat >= 1, 1.0, own.clamp(0, 1)))
        return own.t().reshape(*share.shape, -1)


class TimeWarps(nn.Module):
    """The clocks of a product: the common time t to the times of every part's positions.

    Args:
        process: whose parts are Gaussian or masked; the common time is that of its `schedule`, for data of unit variance.
        positions: the number of positions of each part; a part that is left out keeps the common noise level.
    """

    def __init__(self, process: Product, positions: Mapping[str, int]) -> None:
        super().__init__()
        self.process = process
        self.warps = nn.ModuleDict({name: TimeWarp(count) for name, count in positions.items()})

    def forward(self, t: Data) -> dict[str, Tensor]:
        """The times of each part at common times t (...), or a mapping of such: (..., positions); (...) of a part without
        own clocks."""
        common = Gaussian(schedule=self.process.schedule, sigma_data=1.0)
        times = dict[str, Tensor]()
        for name, part in self.process.parts.items():
            share = share_of(common, part_of(t, name))
            times[name] = time_of(_simple(part), self.warps[name](share) if name in self.warps else share)
        return times

    def loss(self, q: Joint, x: Mapping[str, Any], t: Mapping[str, Tensor]) -> Tensor:
        """The deviance of F from the errors of q, (b,) float32, a function of F only; positions at time 0 do not count."""
        total: list[Tensor] = []
        count: list[Tensor] = []
        for name, warp in self.warps.items():
            assert isinstance(warp, TimeWarp)
            free = t[name] > 0
            expected = warp.errors(share_of(_simple(self.process.parts[name]), t[name])).clamp_min(1e-12)
            error = to_float64(q.parts[name].error(x[name]).detach()).to(expected)
            deviance = error / expected + expected.log()
            total.append(torch.where(free, deviance, 0.0).sum(1))
            count.append(free.sum(1))
        return (torch.stack(total).sum(0) / torch.stack(count).sum(0).clamp_min(1)).to(torch.float32)


def _simple(process: Any) -> Gaussian | Masked:
    """The process of a part. Raises `ValueError` for one that is neither Gaussian nor masked."""
    if not isinstance(process, Gaussian | Masked):
        raise ValueError(f"clocks are for Gaussian and masked parts, and this is {type(process).__name__}")
    return process
