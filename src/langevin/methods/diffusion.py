"""Diffusion as a method: draw a time, corrupt, denoise, compare. The same lines for every process."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, Draw
from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser, affine
from langevin.diffusion.importance import Importance
from langevin.diffusion.noise import RowNoise, mix
from langevin.diffusion.objective import LogNormal, Objective, TimeDensity, Uncertainty
from langevin.diffusion.process import Gaussian, Process
from langevin.diffusion.question import AtTimes, Question
from langevin.diffusion.shape import right_pad, some


@dataclass(frozen=True, kw_only=True)
class Report:
    """The losses of some rows, (b,): what is minimised, and what it is without a learned weighting."""

    loss: Tensor
    plain: Tensor


class Method(Protocol):
    """What the trainer needs to know: it gives each player its turn and its optimizer."""

    players: Mapping[str, nn.Module]

    def loss(self, player: str, batch: Batch, draw: Draw) -> Report: ...
    def generator(self) -> Any: ...


class Diffusion:
    """A denoiser trained to match x from x_t.

    Args:
        process: how data is corrupted.
        denoiser: reads the player's network.
        network: the weights.
        objective: a loss a row.
        times: the density of training times.
        schedule: of the process, for time densities in noise levels; None for processes without one.
        drop: probability that a row's condition is withheld.
        uncertainty: learn the loss's size at each noise level and divide by it.
        question: what a row is asked; default x_t at `times`.
    """

    def __init__(
        self,
        *,
        process: Process,
        denoiser: Denoiser,
        network: nn.Module,
        objective: Objective,
        times: TimeDensity,
        schedule: Any = None,
        drop: float = 0.0,
        uncertainty: bool = False,
        question: Question | None = None,
    ) -> None:
        if not 0 <= drop < 1:
            raise ValueError(f"the condition is withheld with a probability below 1, got {drop}")
        if schedule is None and (uncertainty or isinstance(times, LogNormal | Importance)):
            asks = "a learned uncertainty" if uncertainty else f"a {times.kind.replace('_', '-')} time density"
            raise ValueError(f"{asks} speaks of noise levels, which {type(process).__name__} has not: give a schedule")
        self.process, self.denoiser, self.objective, self.times = process, denoiser, objective, times
        self.schedule: Any = schedule
        self.question = question or AtTimes(process=process, times=times, schedule=schedule)
        self.drop = drop
        self.uncertainty = Uncertainty() if uncertainty else None
        player = {"network": network, **({"uncertainty": self.uncertainty} if self.uncertainty else {})}
        self.players: Mapping[str, nn.Module] = {"denoiser": nn.ModuleDict(player)}

    def loss(self, player: str, batch: Batch, draw: Draw) -> Report:
        """The losses of a batch's rows; the randomness is the draw's alone."""
        condition = batch.condition
        if condition is not None and self.drop > 0:
            keep = draw.noise.fork(1).uniform(some(batch.x).flatten(1)[:, :1])[:, 0] >= self.drop
            condition = condition.only(keep)
        t, x_t = self.question(batch, draw)
        q = self.denoiser(x_t, t, condition)
        plain = self.objective(q, batch.x, x_t, t, batch.mask)
        if self.uncertainty is None:
            return Report(loss=plain, plain=plain.detach())
        c_time = affine("edm", self.schedule, t, 1.0)[3].float()
        return Report(loss=self.uncertainty(plain, c_time), plain=plain.detach())

    def generator(self) -> Denoiser:
        """What sampling, evaluation and serving use."""
        return self.denoiser


def level_losses(
    denoiser: Denoiser, process: Gaussian, batch: Batch, *, log_snr: Tensor, seed: int = 0, names: Tensor | None = None
) -> Tensor:
    """Squared error of the posterior mean at fixed noise levels, (levels, b), in units of the best linear guess.

    1 is what that guess achieves on data of mean 0 and the process's `sigma_data`, 0 is perfect. The noise is a function
    of (seed, row name, level) alone, so models and parts of the data are compared on equal noise.

    Args:
        log_snr: (levels,) float64.
        names: (b,) int64 names of the rows; default their places.
    """
    x: Tensor = batch.x
    rows = torch.arange(len(x), device=x.device) if names is None else names.to(x.device)
    seeds = mix(torch.full_like(rows, seed), rows)
    losses: list[Tensor] = []
    with torch.no_grad():
        for i, level in enumerate(log_snr.to(x.device)):
            t = process.schedule.time(level).expand(len(x))
            x_t = process.corrupt(x, t, RowNoise(seeds=seeds, steps=torch.full_like(rows, i)))
            error = denoiser(x_t, t, batch.condition).error(x)
            rho_2, s_2 = torch.exp(-level), process.sigma_data**2
            worst = right_pad((rho_2 * s_2 / (rho_2 + s_2)).expand(len(x)), x).to(x.dtype)  # of the linear guess
            losses.append((error / worst).flatten(1).mean(1))
    return torch.stack(losses)


def told(condition: Condition | None, guidance: float, rows: int, device: torch.device) -> Condition | None:
    """The condition with one guidance weight for all rows."""
    if condition is None:
        return None
    return replace(condition, guidance=torch.full((rows,), guidance, dtype=torch.float64, device=device))
