"""Diffusion training: draw a time, corrupt, denoise, compare with x; the same code for every process."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.condition import Condition
from langevin.diffusion.coupling import OptimalTransport
from langevin.diffusion.denoiser import Denoiser, PredictionType, affine
from langevin.diffusion.importance import Importance
from langevin.diffusion.levels import AnyLevels, require_shares
from langevin.diffusion.objective import (
    LikelihoodWeightedMSE,
    LogNormal,
    Objective,
    ShiftedTimes,
    TimeDensity,
    Uncertainty,
    WeightedMSE,
)
from langevin.diffusion.process import Gaussian, Process
from langevin.diffusion.shape import first_leaf
from langevin.diffusion.training_input import NoiseAtTime, TrainingInput
from langevin.diffusion.warp import TimeWarps
from langevin.methods.anchor import Anchor
from langevin.methods.dropout import require_probability
from langevin.methods.method import Player, Report
from langevin.methods.quality import QualityLoss
from langevin.methods.terms import LossTerms, require_weight


class Diffusion:
    """A denoiser trained to predict x from x_t: one player, `denoiser`.

    Args:
        process: the forward process, which corrupts x to x_t.
        denoiser: the trained denoiser; it holds `network`.
        network: the module whose weights are trained.
        objective: the loss per sample.
        times: density of training times.
        levels: how the times of frames depend on each other; empty: one time for all.
        schedule: of the process, for time densities over noise levels; None for processes without one.
        condition_dropout: probability that a sample's condition is dropped.
        port_dropout: probability that a port of it is dropped alone.
        uncertainty: learn the expected loss at each noise level and divide by it.
        training_input: how a sample is corrupted; default x_t at a time drawn from `times`.
        terms: further terms of the loss; None for none.
        quality: the loss of the quality of tokens, if the network has such a head.
        non_hidden: names of the network's modules that hold no hidden matrices, which Muon leaves to AdamW.
        generator: the denoiser that is sampled from, if not `denoiser`, which may be compiled for one shape.
        warps: the clocks of a product's parts, which are trained with the network.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The prediction target, the loss weighting and the training times.

        Args:
            prediction: the target that the network's output predicts.
            weighting: of the squared error by noise level. `bound` divides by the density of `times`, so the loss is the
                variational bound in nats for any `times`.
            gamma: cap on the SNR of weighting `min_snr`.
            uncertainty: learn the expected loss at each noise level and divide by it.
            times: density of training times.
            levels: for data in frames, how the noise levels of an example's frames depend on each other, mixed by their
                shares; empty: one level for all.
            condition_dropout: probability that the condition is dropped, for guidance ("Classifier-Free Diffusion
                Guidance", 2022, arXiv 2207.12598).
            port_dropout: probability that a port of the condition is dropped alone, each independently, so that the network
                learns what each of them means without the others.
            coupling: which example each noise is trained with; left out, they are independent. The trained denoiser is that
                of the coupling's flow, which samplers without noise follow.
            terms: weight of the terms that the data's modality adds to the loss, such as errors of positions that follow
                from rotations; 0 for none.
        """

        kind: Literal["diffusion"] = "diffusion"
        one_step: ClassVar[bool] = False
        ranked_by_loss: ClassVar[bool] = True
        prediction: PredictionType = "edm"
        weighting: Literal["edm", "velocity", "noise", "min_snr", "bound"] = "edm"
        gamma: float = 5.0
        uncertainty: bool = False
        times: TimeDensity = LogNormal()
        levels: tuple[AnyLevels, ...] = ()
        coupling: OptimalTransport | None = None
        condition_dropout: float = 0.1
        port_dropout: float = 0.0
        terms: float = 0.0

        def __post_init__(self) -> None:
            require_probability("condition_dropout", self.condition_dropout)
            require_probability("port_dropout", self.port_dropout)
            require_shares(self.levels)
            require_weight(self.terms)
            if self.levels and (self.uncertainty or self.weighting == "bound"):
                what = "uncertainty is" if self.uncertainty else "weighting=bound is"
                raise ValueError(f"method.{what} for one noise level per example: leave it out, or method.levels")
            if self.coupling is not None and (self.levels or self.weighting == "bound"):
                what = (
                    "method.levels, whose frames have noise of their own" if self.levels else "method.weighting=bound"
                )
                raise ValueError(
                    f"method.coupling changes the law of x_t, and does not fit {what}: leave one of them out"
                )
            if not 0 < self.gamma < math.inf:
                raise ValueError(f"method.gamma must be positive, got {self.gamma}")

        def objective(self, process: Gaussian) -> Objective:
            """The loss per sample under a Gaussian process."""
            if self.weighting == "bound":
                return LikelihoodWeightedMSE(process=process, times=self.times)
            return WeightedMSE(process=process, weighting=self.weighting, gamma=self.gamma)

    def __init__(
        self,
        *,
        process: Process,
        denoiser: Denoiser,
        network: nn.Module,
        objective: Objective,
        times: TimeDensity,
        levels: tuple[AnyLevels, ...] = (),
        schedule: Any = None,
        condition_dropout: float = 0.0,
        port_dropout: float = 0.0,
        uncertainty: bool = False,
        terms: LossTerms | None = None,
        quality: QualityLoss | None = None,
        training_input: TrainingInput | None = None,
        non_hidden: tuple[str, ...] = (),
        generator: Denoiser | None = None,
        warps: TimeWarps | None = None,
    ) -> None:
        require_probability("condition_dropout", condition_dropout)
        require_probability("port_dropout", port_dropout)
        if schedule is None and (uncertainty or isinstance(times, LogNormal | Importance | ShiftedTimes)):
            part = "a learned uncertainty" if uncertainty else f"a {times.kind.replace('_', '-')} time density"
            raise ValueError(f"{part} needs noise levels, which {type(process).__name__} has not: give a schedule")
        self.process, self.denoiser, self.objective, self.times = process, denoiser, objective, times
        self.schedule: Any = schedule
        self.levels = levels
        self.training_input = training_input or NoiseAtTime(
            process=process, times=times, schedule=schedule, levels=levels
        )
        self.condition_dropout, self.port_dropout = condition_dropout, port_dropout
        self.terms, self.quality = terms, quality
        self.anchor: Anchor | None = None  # of a run that learns new data, see `run.continual`
        self.uncertainty = Uncertainty() if uncertainty else None
        self.warps = warps
        modules = {"network": network, "uncertainty": self.uncertainty, "warps": warps}
        modules = {name: module for name, module in modules.items() if module is not None}
        player = Player(module=nn.ModuleDict(modules), non_hidden=(*non_hidden, "uncertainty", "warps"))
        self.players: Mapping[str, Player] = {"denoiser": player}
        self._generator = generator or denoiser

    def loss(self, player: str, batch: Batch, draw: StepRandomness) -> Report:
        """The losses of a batch's samples; see `Method.loss`."""
        condition = batch.condition
        if condition is not None:
            condition = self._with_dropout(condition, first_leaf(batch.x), draw)
        t, x_t = self.training_input(batch, draw)
        q: Any = self.denoiser(x_t, t, condition)
        loss = plain = self.objective(q, batch.x, x_t, t, batch.counted())
        if self.uncertainty is not None:
            c_time = affine("edm", self.schedule, t, 1.0)[3].to(plain.device, torch.float32)
            loss = self.uncertainty(plain, c_time)
        if self.warps is not None:
            loss = loss + self.warps.loss(q, batch.x, t)  # type: ignore[arg-type]
        further = {} if self.terms is None else self.terms(q, batch, t)
        if self.quality is not None:
            further |= {"quality": self.quality(q, batch, x_t, t, condition, draw.noise.fork(4))}
        if self.anchor is not None:
            further |= {"anchor": self.anchor().expand(len(loss))}
        for term in further.values():
            loss = loss + term
        return Report(loss=loss, plain=plain.detach(), terms={name: term.detach() for name, term in further.items()})

    def _with_dropout(self, condition: Condition, x: Tensor, draw: StepRandomness) -> Condition:
        """The condition of x (b, ...) without what is withheld from each sample in this step."""
        if not (self.condition_dropout or self.port_dropout):
            return condition
        u = draw.noise.fork(1).uniform(x.new_empty(len(x), 1 + len(condition.ports)))
        kept = {
            name: port.only((u[:, i] >= self.port_dropout).to(x.device))
            for i, (name, port) in enumerate(condition.ports.items(), start=1)
        }
        return replace(condition, **kept).only((u[:, 0] >= self.condition_dropout).to(x.device))

    def generator(self) -> Denoiser:
        """The denoiser, for sampling and evaluation."""
        return self._generator
