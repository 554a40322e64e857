"""Training a denoiser to jump along the probability flow to its end, by agreeing with itself at two times of one path:

    |f(x_t, t) - sg f(x_r, r)|,    x_t = alpha_t x + sigma_t n,  x_r = alpha_r x + sigma_r n,    f(x, 0) = x

"Consistency Models Made Easy" (2024, arXiv 2406.14548). With rho = sigma / alpha, rho_r / rho_t = max(0, 1 - 2^-k n(rho_t))
and n(rho) = 1 + 8 / (1 + e^u), u = rho over twice the data's standard deviation. The stage k rises with the run's progress
from 1, where r is 0 for all but the noisiest and this trains a denoiser, to `stages`, where r is close to t. It starts from
the weights of a diffusion run. The error is a pseudo-Huber norm over rho_t - rho_r, so that all steps of a path weigh the
same.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.float64 import float64_device
from langevin.diffusion.objective import LogNormal, TimeDensity, mean_per_sample
from langevin.diffusion.process import Gaussian
from langevin.diffusion.schedule import rho, time_of_rho
from langevin.diffusion.shape import append_dims
from langevin.methods.dropout import require_probability, with_dropout
from langevin.methods.method import Player, Report

HUBER = (
    0.001  # the constant of the pseudo-Huber norm, per number of the data, in units of the data's standard deviation
)


class Consistency:
    """A denoiser that maps every point of a path to its end: one player, `denoiser`.

    Args:
        process: the forward process.
        denoiser: the trained denoiser, which is the identity at t = 0; it holds `network`.
        network: the module whose weights are trained.
        times: density of the later time.
        stages: the last k.
        condition_dropout: probability that a sample's condition is dropped.
        non_hidden: see `Player`.
        generator: the denoiser that is sampled from, if not `denoiser`.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The pairs of times.

        Args:
            prediction: the target that the network's output predicts; that of the run it starts from.
            times: density of the later time of a pair.
            stages: how close the times of a pair get: their noise levels differ by a part of 2^-stages to 5 times that.
            condition_dropout: probability that the condition is dropped.
        """

        kind: Literal["consistency"] = "consistency"
        one_step: ClassVar[bool] = False
        ranked_by_loss: ClassVar[bool] = False
        prediction: Literal["edm", "velocity"] = "edm"
        times: TimeDensity = LogNormal(mean=-0.8, std=2.0)
        stages: int = 8
        condition_dropout: float = 0.1

        def __post_init__(self) -> None:
            if not 1 <= self.stages <= 16:
                raise ValueError(f"method.stages is 1 to 16, got {self.stages}")
            require_probability("condition_dropout", self.condition_dropout)

    def __init__(
        self,
        *,
        process: Gaussian,
        denoiser: GaussianDenoiser,
        network: nn.Module,
        times: TimeDensity,
        stages: int = 8,
        condition_dropout: float = 0.0,
        non_hidden: tuple[str, ...] = (),
        generator: GaussianDenoiser | None = None,
    ) -> None:
        if denoiser.prediction not in ("edm", "velocity"):
            raise ValueError(
                "a consistency model is the identity at t = 0 and defined at t = 1, as with prediction edm or velocity; "
                f"got {denoiser.prediction}"
            )
        self.process, self.denoiser, self.times, self.stages = process, denoiser, times, stages
        self.condition_dropout = condition_dropout
        player = Player(module=nn.ModuleDict({"network": network}), non_hidden=non_hidden)
        self.players: Mapping[str, Player] = {"denoiser": player}
        self._generator = generator or denoiser

    def loss(self, player: str, batch: Batch, draw: StepRandomness) -> Report:
        """The losses of a batch's samples; see `Method.loss`."""
        condition = with_dropout(batch.condition, batch.x, draw, self.condition_dropout)
        schedule = self.process.schedule
        t = self.times(draw.u, schedule).to(float64_device(batch.x.device))
        level = rho(schedule, t)
        earlier = level * ratio(level / (2 * self.process.sigma_data), self.stage(draw.progress))
        r = torch.where(earlier > 0, time_of_rho(schedule, earlier.clamp_min(1e-12)), 0.0)
        noise = draw.corruption
        # dropout drops the same in both calls
        with torch.no_grad(), torch.random.fork_rng(devices=random_devices(batch.x)):
            x_r = self.process.corrupt(batch.x, r, noise, batch.known)
            target = torch.where(
                append_dims(r == 0, batch.x).to(batch.x.device), batch.x, self.denoiser(x_r, r, condition).mean
            )
        found = self.denoiser(self.process.corrupt(batch.x, t, noise, batch.known), t, condition).mean
        mean = mean_per_sample((found - target).square(), batch.counted())
        soft = HUBER * self.process.sigma_data
        norm = (mean + soft**2).sqrt() - soft
        loss = norm / (level - earlier).to(norm)
        return Report(loss=loss, plain=loss.detach(), terms={"distance": mean.detach().sqrt()})

    def stage(self, progress: float) -> int:
        """k after a part of the run, 1 to `stages`."""
        return min(self.stages, 1 + math.floor(progress * self.stages))

    def generator(self) -> GaussianDenoiser:
        """The denoiser, for sampling and evaluation."""
        return self._generator


def ratio(u: Tensor, stage: int) -> Tensor:
    """rho_r / rho_t of a pair whose later time has the noise level u, in units of twice the data's deviation, in [0, 1)."""
    return (1 - (1 + 8 * torch.sigmoid(-u)) * 2.0**-stage).clamp_min(0)


def random_devices(x: Tensor) -> list[torch.device]:
    """The devices besides the CPU whose random state a network with dropout uses for x."""
    return [x.device] if x.device.type == "cuda" else []
