"""Training a denoiser to step along the probability flow from any time t to any earlier one, r, by an identity of its
average velocity u and the velocity v at t, in the straight time tau of `diffusion.flow_map`:

    u(z, t, r) + (tau_t - tau_r) du/dtau = v(z, t),    du/dtau along dz/dtau = v with r fixed

"Mean Flows for One-step Generative Modeling" (2025, arXiv 2505.13447). As in "Improved Mean Flows: On the Challenges of
Fastforward Generative Models" (2025, arXiv 2512.02012) the left side is regressed on the velocity of the example,
n - x / s_d, and du/dtau is taken along the network's own v = u(z, t, t), without its gradient. In terms of D(x_t, t, r) and
of D_0 = D(x_t, t, t), the mean of the posterior, with g = 1 - tau_r / tau_t, the loss is

    |D - x - sg[g (D - D_0 - tau dD/dtau)]|^2 / (tau s_d)^2  (1 - tau_t) / (1 - tau_r)

The last factor is of this project: with it the gradient by D is that of the same identity in rho = sigma / alpha in place
of tau, and stays finite as tau goes to 1. For r = t, where g = 0, it trains a denoiser. For r = 0, where g = 1, it asks for
a D that is constant along the flow. It starts from the weights of a diffusion run, whose D does not depend on r.

dD/dtau is a Jacobian-vector product in forward mode, which is exact also in bf16, where a difference of two evaluations
nearby would be lost in rounding. But it carries what is learned to high noise only little by little. So in all but the last
of some stages it is a difference over a part a = 1/2, 1/4, ... of the step, with z_s = z - a (tau_t - tau_r) v,

    (tau_t - tau_r) du/dtau  ~  (1 - a) / a (u(z, t, r) - u(z_s, s, r)),

without the last factor, as no derivative grows. The flow map solves it but for the error of a straight step to z_s
("AlphaFlow: Understanding and Improving MeanFlow Models", 2025, arXiv 2510.20771).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.float64 import float64_device
from langevin.diffusion.flow_map import along_flow, mean_velocity, move, straight_time, time_of_straight, with_span
from langevin.diffusion.objective import LogNormal, TimeDensity, mean_per_sample
from langevin.diffusion.process import Gaussian
from langevin.diffusion.shape import append_dims
from langevin.methods.consistency import random_devices
from langevin.methods.dropout import require_probability, with_dropout
from langevin.methods.method import Player, Report
from langevin.networks.fused import twice_differentiable

SMALLEST = 1e-3  # added to the squared error before its power


class MeanFlow:
    """A denoiser that is given the length of a step and makes it exactly: one player, `denoiser`.

    Args:
        process: the forward process.
        denoiser: the trained denoiser, of a network that reads `Condition.span`; it holds `network`.
        network: the module whose weights are trained.
        times: density of both times of a pair, of which the later one is t.
        equal: share of the pairs in which r is t.
        power: p of the weight (error + 0.001)^-p of a sample.
        stages: differences over 1/2, 1/4, ... of a step, and in the last one the derivative.
        condition_dropout: probability that a sample's condition is dropped.
        non_hidden: see `Player`.
        generator: the denoiser that is sampled from, if not `denoiser`; it may be called in forward-mode differentiation.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The pairs of times, and the weight of a sample. The network reads the length of a step
        (`network.conditioning.span=true`).

        Args:
            prediction: the target that the network's output predicts; that of the run it starts from.
            times: density of both times of a pair, of which the later one is t.
            equal: share of the pairs in which r is t, in (0, 1).
            power: p of the weight (error + 0.001)^-p of a sample, 0 to 1: 0 weighs all samples alike.
            stages: of the run: differences over 1/2, 1/4, ... of a step, and in the last one the derivative.
            condition_dropout: probability that the condition is dropped.
        """

        kind: Literal["meanflow"] = "meanflow"
        one_step: ClassVar[bool] = False
        ranked_by_loss: ClassVar[bool] = False
        prediction: Literal["edm", "velocity"] = "edm"
        times: TimeDensity = LogNormal(mean=-0.8, std=2.0)
        equal: float = 0.5
        power: float = 0.5
        stages: int = 4
        condition_dropout: float = 0.1

        def __post_init__(self) -> None:
            if not 0 < self.equal < 1:
                raise ValueError(
                    f"method.equal is a share of the pairs of times, above 0 and below 1, got {self.equal}"
                )
            if not 0 <= self.power <= 1:
                raise ValueError(f"method.power is 0 to 1, got {self.power}")
            if not 1 <= self.stages <= 8:
                raise ValueError(f"method.stages is 1 to 8, got {self.stages}")
            require_probability("condition_dropout", self.condition_dropout)

    def __init__(
        self,
        *,
        process: Gaussian,
        denoiser: GaussianDenoiser,
        network: nn.Module,
        times: TimeDensity,
        equal: float = 0.5,
        power: float = 0.5,
        stages: int = 1,
        condition_dropout: float = 0.0,
        non_hidden: tuple[str, ...] = (),
        generator: GaussianDenoiser | None = None,
    ) -> None:
        self.process, self.denoiser, self.times = process, denoiser, times
        self.equal, self.power, self.stages, self.condition_dropout = equal, power, stages, condition_dropout
        player = Player(module=nn.ModuleDict({"network": network}), non_hidden=non_hidden)
        self.players: Mapping[str, Player] = {"denoiser": player}
        self._generator = generator or denoiser

    def loss(self, player: str, batch: Batch, draw: StepRandomness) -> Report:
        """The losses of a batch's samples; see `Method.loss`."""
        x, process = batch.x, self.process
        condition = with_dropout(batch.condition, x, draw, self.condition_dropout)
        t, span = self.pairs(x, draw)
        x_t = process.corrupt(x, t, draw.corruption, batch.known)
        target, moving, part = x.clone(), (span > 0).nonzero()[:, 0], self.part(draw.progress)
        if len(moving):
            here = moving.to(x.device)
            some = None if condition is None else condition.select(here)
            target[here] += self.change(x_t[here], t[moving], some, span[moving], part)
        found = self.denoiser(x_t, t, with_span(condition, span.to(x.device, torch.float32))).mean
        unit = straight_time(process, t) * process.sigma_data
        if not part:
            unit = unit * (1 + span / (1 - straight_time(process, t))).sqrt()
        unit = append_dims(unit, x).to(x)
        error = mean_per_sample(((found - target) / unit).square(), batch.counted())
        weight = (error.detach() + SMALLEST) ** -self.power
        return Report(loss=weight * error, plain=error.detach())

    def pairs(self, x: Tensor, draw: StepRandomness) -> tuple[Tensor, Tensor]:
        """The later time of each sample's pair, and the length of its step in straight time; (b,) float64 each."""
        schedule, device = self.process.schedule, float64_device(x.device)
        u = draw.noise.fork(3).uniform(x.new_empty(len(x), 2))
        one, other = self.times(draw.u, schedule).to(device), self.times(u[:, 0], schedule).to(device)
        t = torch.maximum(one, other)
        span = straight_time(self.process, t) - straight_time(self.process, torch.minimum(one, other))
        return t, torch.where(u[:, 1] < self.equal, 0.0, span)

    def part(self, progress: float) -> float:
        """The part of a step that the difference is taken over, after a part of the run; 0 for the derivative."""
        stage = min(self.stages, 1 + math.floor(progress * self.stages))
        return 0.0 if stage == self.stages else 2.0**-stage

    @torch.no_grad()
    def change(self, x_t: Tensor, t: Tensor, condition: Condition | None, span: Tensor, part: float = 0.0) -> Tensor:
        """tau s_d (tau_t - tau_r) du/dtau, shaped like x_t: what D - x has to be in the mean.

        Args:
            part: of the step, over which a difference is taken in place of the derivative; 0 for none."""
        tau = straight_time(self.process, t)
        mean = self._same_dropout(x_t, t, condition)
        velocity = mean_velocity(self.process, mean, x_t, t)
        wide = append_dims(tau * self.process.sigma_data, x_t).to(x_t)
        if part:
            s, length = time_of_straight(self.process, tau - part * span), append_dims(part * span, x_t).to(x_t)
            x_s = move(self.process, x_t, t, s, velocity * length)
            ahead = self._same_dropout(x_t, t, with_span(condition, span.to(x_t.device, torch.float32)))
            rest = self._same_dropout(x_s, s, with_span(condition, ((1 - part) * span).to(x_t.device, torch.float32)))
            difference = mean_velocity(self.process, ahead, x_t, t) - mean_velocity(self.process, rest, x_s, s)
            return wide * ((1 - part) / part) * difference
        with torch.random.fork_rng(devices=random_devices(x_t)), twice_differentiable():
            ahead, slope = along_flow(self._generator, x_t, t, condition, span=span, velocity=velocity)
        g, tau = (append_dims(value, x_t).to(x_t) for value in (span / tau, tau))
        return g * (ahead - mean - tau * slope)

    def _same_dropout(self, x_t: Tensor, t: Tensor, condition: Condition | None) -> Tensor:
        """D, with the dropout that the next call will have too."""
        with torch.random.fork_rng(devices=random_devices(x_t)):
            return self._generator(x_t, t, condition).mean

    def generator(self) -> GaussianDenoiser:
        """The denoiser, for sampling and evaluation."""
        return self._generator
