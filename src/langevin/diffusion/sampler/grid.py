"""The times that a sampler visits: falling from `high` to `low` in rho = sigma / alpha, then 0.

    rho       rho_i = (high^(1/p) + i / (n - 1) (low^(1/p) - high^(1/p)))^p     EDM's, p = 7
    log_snr   rho_i = high^(1 - i / (n - 1)) low^(i / (n - 1))                  equal steps of log-SNR
    uniform   t_i = 1 - i / n                                                   equal steps of the schedule's own time
    knots     log-SNR as given, or equal shares of them                         a measured profile

`n` steps visit n knots and end with the jump to t = 0, where the answer itself is the sample. With `to_zero` off the last
knot is `low` instead: what orders of convergence are measured on. A batch may mix step counts: rows are padded by their
last time. `high` beyond what the schedule reaches is cut there.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

import torch
from torch import Tensor

from langevin.diffusion.schedule import AnySchedule, rho, time_of_rho


class Grid(Protocol):
    """steps (b,) int64 -> times (b, max(steps) + 1), float64."""

    def __call__(self, steps: Tensor, schedule: AnySchedule) -> Tensor: ...


def _fractions(steps: Tensor, last_knot: Tensor) -> Tensor:
    """i / last_knot, (b, max(steps) + 1), with 1 for the last knot and beyond."""
    if steps.ndim != 1 or len(steps) == 0 or int(steps.min()) < 1:
        raise ValueError(f"steps counts the steps of each row, (b,), at least 1 each; got {steps}")
    i = torch.arange(int(steps.max()) + 1, device=steps.device, dtype=torch.float64)
    return (i / last_knot.clamp_min(1).double()[:, None]).clamp_max(1)


def _end(times: Tensor, steps: Tensor, to_zero: bool) -> Tensor:
    i = torch.arange(times.shape[1], device=times.device)
    return torch.where(i >= steps[:, None], 0.0, times) if to_zero else times


def _require_range(low: float, high: float) -> None:
    if not 0 < low < high < float("inf"):
        raise ValueError(f"a grid needs 0 < low < high in units of sigma / alpha, got low {low}, high {high}")


@dataclass(frozen=True, kw_only=True)
class Rho:
    """EDM's grid ("Elucidating the Design Space of Diffusion-Based Generative Models", 2022)."""

    kind: Literal["rho"] = "rho"
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
    """Equal steps of log-SNR."""

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
class UniformGrid:
    """Equal steps of the schedule's own time, from 1; with `to_zero` off down to the time of `low`.

    Args:
        low: the last knot in sigma / alpha, used with `to_zero` off only.
        high: start where sigma / alpha is this; None starts at t = 1, the prior itself.
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
class Knots:
    """Given log-SNR, rising: the profile of a measured grid (`free_energy.Curve`), noisiest first.

    As many steps as the profile has visit it exactly; any other number visits equal shares of it, linear in between."""

    kind: Literal["knots"] = "knots"
    log_snr: tuple[float, ...] = (-8.0, -4.0, -1.5, 0.0, 1.5, 3.0, 5.0, 8.0)
    to_zero: bool = True

    def __post_init__(self) -> None:
        level = self.log_snr
        if len(level) < 2 or not all(-80 <= a < b <= 80 for a, b in pairwise(level)):
            raise ValueError(f"knots are two or more log-SNR that rise, within 80 of 0 (low < high); got {level[:8]}")

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
        begin = torch.minimum(-2 * high.log(), level[-1])  # where the schedule reaches it, as a place on the profile
        i = (torch.searchsorted(level, begin[None], right=True)[0] - 1).clamp(0, len(level) - 2)
        start = i + ((begin - level[i]) / (level[i + 1] - level[i])).clamp(0, 1)
        place = start + fraction * (len(level) - 1 - start)
        i = place.floor().long().clamp(0, len(level) - 2)
        log_snr = level[i] + (place - i) * (level[i + 1] - level[i])
        return _end(time_of_rho(schedule, torch.exp(-0.5 * log_snr)), steps, self.to_zero)


def _ends(low: float, high: float, schedule: AnySchedule, like: Tensor) -> tuple[Tensor, Tensor]:
    """high and low as tensors, high cut to what the schedule reaches.

    Raises:
        ValueError: the schedule never gets as noisy as `low`.
    """
    reach = rho(schedule, like.new_ones(()))
    top = torch.minimum(like.new_tensor(high), reach)
    if not bool(top > low):
        raise ValueError(f"the grid ends at sigma / alpha = {low}, but the schedule only reaches {reach.item():.4g}")
    return top, like.new_tensor(low)


@dataclass(frozen=True, kw_only=True)
class Shifted:
    """Another grid with every noise level times `factor`: for pictures whose side is `factor` times as long, as averaging
    over neighbours takes their noise away ("simple diffusion", 2023). In flow time t' = k t / (1 + (k - 1) t).

    Args:
        factor: ratio of the sides.
    """

    kind: Literal["shifted"] = "shifted"
    grid: Rho | LogSNR | UniformGrid = Rho()
    factor: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.factor < float("inf"):
            raise ValueError(f"the shift of a grid is a positive and finite factor, got {self.factor}")

    def __call__(self, steps: Tensor, schedule: AnySchedule) -> Tensor:
        times = self.grid(steps, schedule)
        log_snr = schedule.log_snr(times) - 2 * math.log(self.factor)
        moved = torch.where((times == 0) | (times == 1), times, schedule.time(log_snr).clamp(0, 1))
        if bool((moved[:, 1:] >= 1).any()):
            raise ValueError(
                f"shifted by {self.factor}, several knots lie beyond what the schedule reaches, sigma / alpha = "
                f"{float(rho(schedule, times.new_ones(()))):.4g}: lower the grid's high"
            )
        return moved


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Times of processes of symbols: t_k = 1 - k / n, or cos(pi k / 2 n), small steps first ("MaskGIT", 2022)."""

    kind: Literal["shares"] = "shares"
    shape: Literal["linear", "cosine"] = "cosine"

    def __call__(self, steps: Tensor, schedule: AnySchedule | None = None) -> Tensor:
        fraction = _fractions(steps, steps)
        times = 1 - fraction if self.shape == "linear" else torch.cos(0.5 * math.pi * fraction)
        return _end(times.clamp(0, 1), steps, True)


AnyGrid = Rho | LogSNR | UniformGrid | Knots | Shifted | Shares
