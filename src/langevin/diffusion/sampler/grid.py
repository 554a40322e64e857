"""The times that a sampler visits: falling from `high` to `low` in rho = sigma / alpha, then 0.

    karras    rho_i = (high^(1/p) + i / (n - 1) (low^(1/p) - high^(1/p)))^p     EDM's, p = 7
    log_snr   rho_i = high^(1 - i / (n - 1)) low^(i / (n - 1))                  equal steps of log-SNR
    uniform   t_i = 1 - i / n                                                   equal steps of the schedule's own time
    fixed     the given log-SNR, interpolated for another number of steps       a measured profile
    unmask    t_i = 1 - i / n or cos(pi i / 2 n)                                for processes of tokens

`n` steps visit n knots and then t = 0, where the denoiser's output D is the sample. With `to_zero=False` the last knot is
`low` instead; convergence orders are measured on such grids. Samples of a batch may have different numbers of steps:
shorter grids repeat their last time. `high` is cut to what the schedule reaches.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

import torch
from torch import Tensor

from langevin.diffusion.schedule import AnySchedule, rho, shifted, time_of_rho


class Grid(Protocol):
    """The times that a sampler visits."""

    def __call__(self, steps: Tensor, schedule: AnySchedule) -> Tensor:
        """Falling times (b, max(steps) + 1) float64 for steps (b,) int64, each at least 1; shorter grids repeat their last.

        Raises:
            ValueError: steps below 1, or noise levels that the schedule does not reach."""
        ...


def _fractions(steps: Tensor, last_knot: Tensor) -> Tensor:
    """i / last_knot, (b, max(steps) + 1), and 1 beyond the last knot."""
    if steps.ndim != 1 or len(steps) == 0 or int(steps.min()) < 1:
        raise ValueError(f"steps is the number of steps of each sample, (b,), at least 1 each; got {steps}")
    i = torch.arange(int(steps.max()) + 1, device=steps.device, dtype=torch.float64)
    return (i / last_knot.clamp_min(1).double()[:, None]).clamp_max(1)


def _end(times: Tensor, steps: Tensor, to_zero: bool) -> Tensor:
    i = torch.arange(times.shape[1], device=times.device)
    return torch.where(i >= steps[:, None], 0.0, times) if to_zero else times


def _require_range(low: float, high: float) -> None:
    if not 0 < low < high < float("inf"):
        raise ValueError(f"a grid needs 0 < low < high in units of sigma / alpha, got low {low}, high {high}")


@dataclass(frozen=True, kw_only=True)
class KarrasGrid:
    """The grid of Karras et al., equal steps of rho^(1/power) ("Elucidating the Design Space of Diffusion-Based Generative
    Models", 2022, arXiv:2206.00364).

    Args:
        low, high: the last and the first knot, in sigma / alpha.
        power: the paper's rho; 7 is its choice, 1 gives equal steps of sigma / alpha.
        to_zero: end with a jump to t = 0.
    """

    kind: Literal["karras"] = "karras"
    low: float = 0.002
    high: float = 80.0
    power: float = 7.0
    to_zero: bool = True

    def __post_init__(self) -> None:
        _require_range(self.low, self.high)
        if not 0 < self.power < float("inf"):
            raise ValueError(f"the grid's power must be positive and finite, got {self.power}")

    def __call__(self, steps: Tensor, schedule: AnySchedule) -> Tensor:
        fraction = _fractions(steps, steps - 1 if self.to_zero else steps)
        high, low = _ends(self.low, self.high, schedule, fraction)
        root = high ** (1 / self.power) + fraction * (low ** (1 / self.power) - high ** (1 / self.power))
        return _end(time_of_rho(schedule, torch.exp(self.power * root.log())), steps, self.to_zero)


@dataclass(frozen=True, kw_only=True)
class LogSNR:
    """Equal steps of log-SNR.

    Args:
        low, high: the last and the first knot, in sigma / alpha.
        to_zero: end with a jump to t = 0.
    """

    kind: Literal["log_snr"] = "log_snr"
    low: float = 0.002
    high: float = 80.0
    to_zero: bool = True

    def __post_init__(self) -> None:
        _require_range(self.low, self.high)

    def __call__(self, steps: Tensor, schedule: AnySchedule) -> Tensor:
        fraction = _fractions(steps, steps - 1 if self.to_zero else steps)
        high, low = _ends(self.low, self.high, schedule, fraction)
        ratio = torch.exp(high.log() + fraction * (low.log() - high.log()))
        return _end(time_of_rho(schedule, ratio), steps, self.to_zero)


@dataclass(frozen=True, kw_only=True)
class UniformTimeGrid:
    """Equal steps of the schedule's own time.

    Args:
        low: the last knot in sigma / alpha, used if `to_zero` is False.
        high: the first knot in sigma / alpha; None starts at t = 1.
        to_zero: end at t = 0.
    """

    kind: Literal["uniform"] = "uniform"
    low: float = 0.002
    high: float | None = None
    to_zero: bool = True

    def __post_init__(self) -> None:
        _require_range(self.low, 1e300 if self.high is None else self.high)

    def __call__(self, steps: Tensor, schedule: AnySchedule) -> Tensor:
        fraction = _fractions(steps, steps)
        floor = 0.0 if self.to_zero else self.low
        high, low = _ends(floor, self.high or float("inf"), schedule, fraction)
        begin = fraction.new_ones(()) if self.high is None else time_of_rho(schedule, high)
        end = time_of_rho(schedule, low)
        return _end(begin + fraction * (end - begin), steps, self.to_zero)


@dataclass(frozen=True, kw_only=True)
class FixedGrid:
    """A profile of log-SNR, such as a measured grid (`free_energy.Curve`), noisiest first.

    With as many knots as the profile has, the grid is the profile; another number of knots interpolates it linearly.

    Args:
        log_snr: the profile, rising, within 80 of 0.
        to_zero: end with a jump to t = 0.

    Raises:
        ValueError: fewer than two log-SNR, or they do not rise.
    """

    kind: Literal["fixed"] = "fixed"
    log_snr: tuple[float, ...] = (-8.0, -4.0, -1.5, 0.0, 1.5, 3.0, 5.0, 8.0)
    to_zero: bool = True

    def __post_init__(self) -> None:
        level = self.log_snr
        if len(level) < 2 or not all(-80 <= a < b <= 80 for a, b in pairwise(level)):
            raise ValueError(f"a fixed grid needs two or more log-SNR that rise, within 80 of 0; got {level[:8]}")

    @property
    def low(self) -> float:
        return math.exp(-0.5 * self.log_snr[-1])

    @property
    def high(self) -> float:
        return math.exp(-0.5 * self.log_snr[0])

    def __call__(self, steps: Tensor, schedule: AnySchedule) -> Tensor:
        fraction = _fractions(steps, steps - 1 if self.to_zero else steps)
        high, _ = _ends(self.low, self.high, schedule, fraction)
        level = fraction.new_tensor(self.log_snr)
        begin = torch.minimum(-2 * high.log(), level[-1])  # where the profile starts, cut to the schedule
        i = (torch.searchsorted(level, begin[None], right=True)[0] - 1).clamp(0, len(level) - 2)
        start = i + ((begin - level[i]) / (level[i + 1] - level[i])).clamp(0, 1)
        position = start + fraction * (len(level) - 1 - start)
        i = position.floor().long().clamp(0, len(level) - 2)
        log_snr = level[i] + (position - i) * (level[i + 1] - level[i])
        return _end(time_of_rho(schedule, torch.exp(-0.5 * log_snr)), steps, self.to_zero)


def _ends(low: float, high: float, schedule: AnySchedule, like: Tensor) -> tuple[Tensor, Tensor]:
    """(high, low) as tensors, high cut to what the schedule reaches.

    Raises:
        ValueError: the schedule never gets as noisy as `low`.
    """
    reach = rho(schedule, like.new_ones(()))
    top = torch.minimum(like.new_tensor(high), reach)
    if not bool(top > low):
        raise ValueError(f"the grid ends at sigma / alpha = {low}, but the schedule only reaches {reach.item():.4g}")
    return top, like.new_tensor(low)


@dataclass(frozen=True, kw_only=True)
class ShiftedGrid:
    """Another grid with every noise level times `factor`, for images of `factor` times the side length, where neighbouring
    pixels average the noise out ("simple diffusion: End-to-end diffusion for high resolution images", 2023,
    arXiv:2301.11093). In the time of the rectified schedule, t' = k t / (1 + (k - 1) t) with k the factor.

    Args:
        grid: the grid that is shifted.
        factor: k, positive.

    Raises:
        ValueError: a factor that is not positive and finite.
    """

    kind: Literal["shifted"] = "shifted"
    grid: KarrasGrid | LogSNR | UniformTimeGrid = KarrasGrid()
    factor: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.factor < float("inf"):
            raise ValueError(f"a grid is shifted by a positive and finite factor, got {self.factor}")

    def __call__(self, steps: Tensor, schedule: AnySchedule) -> Tensor:
        times = self.grid(steps, schedule)
        moved = shifted(times, schedule, self.factor)
        if bool((moved[:, 1:] >= 1).any()):
            raise ValueError(
                f"shifted by {self.factor}, several knots lie beyond the highest noise of the schedule, sigma / alpha = "
                f"{float(rho(schedule, times.new_ones(()))):.4g}: lower the grid's high"
            )
        return moved


@dataclass(frozen=True, kw_only=True)
class UnmaskGrid:
    """Times for processes of tokens: t_k = 1 - k / n, or cos(pi k / 2 n), which takes small steps first ("MaskGIT:
    Masked Generative Image Transformer", 2022, arXiv:2202.04200).

    Args:
        shape: which of the two.
    """

    kind: Literal["unmask"] = "unmask"
    shape: Literal["linear", "cosine"] = "cosine"

    def __call__(self, steps: Tensor, schedule: AnySchedule | None = None) -> Tensor:
        fraction = _fractions(steps, steps)
        times = 1 - fraction if self.shape == "linear" else torch.cos(0.5 * math.pi * fraction)
        return _end(times.clamp(0, 1), steps, True)


AnyGrid = KarrasGrid | LogSNR | UniformTimeGrid | FixedGrid | ShiftedGrid | UnmaskGrid
