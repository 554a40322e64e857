"""How long a text takes: a log-linear model of durations, fitted to the training data and sampled.

    ln L = ln sum_j d[u_j] + tempo[speaker] + residual

with a duration d per unit. The residual is drawn from its quantiles over the training data. Without texts, d has one
entry, so the model is the distribution of lengths per speaker.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

QUANTILES = 21
STEPS = 60  # of the optimizer
RIDGE = 0.3  # of ln d about its mean, against rare units


@dataclass(frozen=True, kw_only=True)
class Durations:
    """The fitted model, in seconds.

    Args:
        per_unit: duration of each unit of the inventory; one number without texts.
        tempo: per speaker, added to the logarithm.
        residual: its quantiles from 0.02 to 0.98, evenly spaced, so that outliers are not drawn.
    """

    per_unit: tuple[float, ...]
    tempo: tuple[float, ...]
    residual: tuple[float, ...]

    def expected(self, units: Tensor) -> Tensor:
        """Expected seconds of each unit (n,), before tempo; without texts (1,)."""
        table = torch.tensor(self.per_unit, dtype=torch.float64)
        return table[units] if len(self.per_unit) > 1 else table

    def with_pause(self, unit: int, seconds: float) -> "Durations":
        """With this duration for a unit."""
        per_unit = tuple(max(seconds, 1e-3) if i == unit else d for i, d in enumerate(self.per_unit))
        return replace(self, per_unit=per_unit)

    def seconds(self, units: Tensor, speaker: int, uniform: float) -> float:
        """The length for a uniform number in (0, 1); 0.5 is the median."""
        position = uniform * (len(self.residual) - 1)
        low = min(int(position), len(self.residual) - 2) if len(self.residual) > 1 else 0
        high = min(low + 1, len(self.residual) - 1)
        rest = self.residual[low] + (position - low) * (self.residual[high] - self.residual[low])
        return float(self.expected(units).sum()) * math.exp(self.tempo[speaker] + rest)


def fit_durations(
    units: Sequence[Tensor],
    speakers: Tensor,
    seconds: Tensor,
    *,
    inventory: int,
    num_speakers: int,
    known: Tensor | None = None,
) -> Durations:
    """The model of greatest posterior under normal residuals.

    Args:
        units: of each text, (n,) int64; without texts one 0 each.
        speakers, seconds: (clips,) int64 and float64.
        inventory: its size.
        known: seconds of each unit (inventory,), from alignments; None estimates them from the lengths alone.
    """
    counts = torch.stack([torch.bincount(u, minlength=inventory) for u in units]).double()
    target, mean = seconds.double().log(), float((seconds.double() / counts.sum(1).clamp_min(1)).mean().log())
    log_d = torch.full((inventory,), mean, dtype=torch.float64) if known is None else known.double().log()
    log_d.requires_grad_(known is None)
    tempo = torch.zeros(max(1, num_speakers), dtype=torch.float64, requires_grad=True)
    free = [tempo] if known is not None else [log_d, tempo]
    optimizer = torch.optim.LBFGS(free, max_iter=STEPS, line_search_fn="strong_wolfe")

    def residuals() -> Tensor:
        return target - (counts @ log_d.exp()).log() - tempo[speakers]

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = residuals().square().sum() + RIDGE * ((log_d - mean).square().sum() + tempo.square().sum())
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[arg-type]
    with torch.no_grad():
        quantiles = residuals().quantile(torch.linspace(0.02, 0.98, QUANTILES, dtype=torch.float64))
        return Durations(per_unit=_rounded(log_d.exp()), tempo=_rounded(tempo), residual=_rounded(quantiles))


def mean_durations(units: Sequence[Tensor], frames: Sequence[Tensor], inventory: int) -> Tensor:
    """Mean frames of each unit of the inventory, float64, by aligned texts; one that never occurs has the mean of all."""
    every, length = torch.cat(list(units)), torch.cat(list(frames)).double()
    count = torch.bincount(every, minlength=inventory).double()
    total = torch.zeros(inventory, dtype=torch.float64).index_add_(0, every, length)
    overall = length.mean()
    return ((total + overall) / (count + 1)).clamp_min(1e-3)


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(float(f"{value:.4g}") for value in values.tolist())
