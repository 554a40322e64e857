"""Denoising score matching for an SDE: draw a time, simulate up to it, regress on the score of the last step.

loss = scale(t)^2 (|s(x_t, t)|^2 - 2 s target), averaged over the dimensions of a sample. This is the squared error without
|target|^2, which does not depend on the prediction and would dominate the loss. `scale` is `SDE.scale`, so that the
network's output has unit weight. A simulated drift gives two targets with opposite noise; the loss is the mean over both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.float64 import float64_device
from langevin.diffusion.objective import LogNormal, TimeDensity, mean_per_sample
from langevin.diffusion.posterior import Score
from langevin.diffusion.process.sde import SDE
from langevin.diffusion.shape import append_dims
from langevin.methods.method import Player, Report


class ScoreMatching:
    """A network trained to predict the score of p_t: one player, `denoiser`.

    Args:
        process: the SDE.
        denoiser: predicts a `Score`; it holds `network`.
        network: the module whose weights are trained.
        times: density of training times.
        non_hidden: names of the network's modules that hold no hidden matrices, which Muon leaves to AdamW.
        generator: the denoiser that is sampled from, if not `denoiser`, which may be compiled for one shape.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Denoising score matching along an SDE ("A Connection Between Score Matching and Denoising
        Autoencoders", 2011).

        Args:
            times: density of training times.
        """

        kind: Literal["score_matching"] = "score_matching"
        one_step: ClassVar[bool] = False
        ranked_by_loss: ClassVar[bool] = True
        times: TimeDensity = LogNormal()

    def __init__(
        self,
        *,
        process: SDE,
        denoiser: Denoiser[Score],
        network: nn.Module,
        times: TimeDensity,
        non_hidden: tuple[str, ...] = (),
        generator: Denoiser[Score] | None = None,
    ) -> None:
        self.process, self.denoiser, self.times = process, denoiser, times
        self._generator = generator or denoiser
        player = Player(module=nn.ModuleDict({"network": network}), non_hidden=non_hidden)
        self.players: Mapping[str, Player] = {"denoiser": player}

    def loss(self, player: str, batch: Batch, draw: StepRandomness) -> Report:
        """The losses of a batch's samples; see `Method.loss`."""
        t = self.times(draw.u, self.process.schedule).to(float64_device(batch.x.device))
        with torch.no_grad():
            targets = self.process.score_targets(batch.x, t, draw.noise.fork(2))
        x_t = torch.cat([part.x_t for part in targets])
        target = torch.cat([part.target.score for part in targets])
        times = t.repeat(len(targets))
        condition = batch.condition
        if condition is not None and len(targets) > 1:
            condition = condition.select(torch.arange(len(t), device=t.device).repeat(len(targets)))
        q = self.denoiser(x_t, times, condition)
        weight = append_dims(self.process.scale(times).square(), x_t).to(x_t)
        loss = mean_per_sample(weight * q.score * (q.score - 2 * target)).view(len(targets), len(t)).mean(0)
        return Report(loss=loss, plain=loss.detach())

    def generator(self) -> Denoiser[Score]:
        """The denoiser, for sampling and evaluation."""
        return self._generator
