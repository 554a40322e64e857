"""Training a generator G that draws in a few steps to have the distribution of a trained denoiser, the teacher, by the
difference of two scores of its own noised samples y = G(...), y_t = alpha_t y + sigma_t n:

    grad KL(p_G,t | p_teacher,t) = E[(s_fake(y_t, t) - s_teacher(y_t, t)) alpha_t dG],    s = (alpha_t D - y_t) / sigma_t^2

"One-step Diffusion with Distribution Matching Distillation" (2023, arXiv 2311.18828). s_fake is the score of the
generator's own samples, of a second denoiser, `fake`, which is trained on them, more often than the generator: "Improved
Distribution Matching Distillation for Fast Image Synthesis" (2024, arXiv 2405.14867). The gradient by a sample is
(D_fake - D_teacher) / c, with c = sigma_t s_d / sqrt(sigma_t^2 + alpha_t^2 s_d^2) the error of the best linear denoiser:
that of the mean over t of these divergences, weighted by (sigma_t / alpha_t)^2 / c. It vanishes for every sample where the
two denoisers agree. c depends on the time alone, where the papers divide by the error of the teacher's own denoiser.

A generator of several steps noises its own sample to the time of the next one, as `MultistepConsistency` does. It is
trained at each of these times, on inputs that its own earlier steps have made. All three start from the weights of a run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.float64 import float64_device
from langevin.diffusion.objective import LogNormal, TimeDensity, WeightedMSE, mean_per_sample
from langevin.diffusion.process import Gaussian
from langevin.diffusion.shape import append_dims
from langevin.methods.dropout import require_probability, with_dropout
from langevin.methods.method import Player, Report

Teacher = Callable[[], GaussianDenoiser]  # of no trained weights; loaded when it is first called


class DistributionMatching:
    """A generator that is matched to a teacher: the players `generator` and `fake`.

    Args:
        process: of the generator, of `fake` and of the teacher.
        denoiser: the trained generator; it holds `network`.
        network: the module whose weights the generator trains.
        fake: the denoiser of the generator's samples; it holds `fake_network`.
        fake_network: the module whose weights `fake` trains.
        teacher: the denoiser whose distribution is matched. It is no player, and is not saved.
        steps: the times at which the generator is asked, falling; one or more.
        times: density of the times at which the two denoisers are compared, and at which `fake` is trained.
        every: the generator steps at every n-th training step.
        condition_dropout: probability that a sample's condition is dropped.
        non_hidden: see `Player`; of both.
        generator: the denoiser that is sampled from, if not `denoiser`.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The teacher, and how the generator is matched to it.

        Args:
            prediction: the target that the outputs of the generator's and of `fake`'s network predict; that of the run that
                they start from.
            teacher: directory of the run whose distribution is matched.
            sha256: of the teacher's weights; filled in before training, and required from then on.
            steps: of the sampling grid, at each of which the generator is trained.
            times: density of the times at which the two denoisers are compared, and at which `fake` is trained.
            every: the generator steps at every n-th training step, `fake` at each.
            condition_dropout: probability that the condition is dropped.
        """

        kind: Literal["distribution_matching"] = "distribution_matching"
        one_step: ClassVar[bool] = False
        ranked_by_loss: ClassVar[bool] = False
        prediction: Literal["edm", "velocity"] = "edm"
        teacher: str = ""
        sha256: str = ""
        steps: int = 1
        times: TimeDensity = LogNormal(mean=-0.8, std=1.2)
        every: int = 5
        condition_dropout: float = 0.1

        def __post_init__(self) -> None:
            if not 1 <= self.steps <= 64:
                raise ValueError(f"method.steps is 1 to 64, got {self.steps}")
            if not 1 <= self.every <= 100:
                raise ValueError(f"method.every is 1 to 100, got {self.every}")
            require_probability("condition_dropout", self.condition_dropout)

    def __init__(
        self,
        *,
        process: Gaussian,
        denoiser: GaussianDenoiser,
        network: nn.Module,
        fake: GaussianDenoiser,
        fake_network: nn.Module,
        teacher: Teacher,
        steps: Tensor,
        times: TimeDensity,
        every: int = 5,
        condition_dropout: float = 0.0,
        non_hidden: tuple[str, ...] = (),
        generator: GaussianDenoiser | None = None,
    ) -> None:
        self.process, self.denoiser, self.fake, self.teacher = process, denoiser, fake, teacher
        self.steps, self.times, self.condition_dropout = steps, times, condition_dropout
        self.objective = WeightedMSE(process=process)
        self.players: Mapping[str, Player] = {
            "generator": Player(module=nn.ModuleDict({"network": network}), every=every, non_hidden=non_hidden),
            "fake": Player(module=nn.ModuleDict({"network": fake_network}), non_hidden=non_hidden, ema=False),
        }
        self._generator = generator or denoiser

    def loss(self, player: str, batch: Batch, draw: StepRandomness) -> Report:
        """The losses of a batch's samples; see `Method.loss`."""
        if player not in self.players:
            raise KeyError(player)
        condition = with_dropout(batch.condition, batch.x, draw, self.condition_dropout)
        with torch.set_grad_enabled(player == "generator" and torch.is_grad_enabled()):
            y = self.samples(batch, condition, draw)
        if batch.known is not None:
            y = torch.where(batch.known, batch.x, y)
        t = self.times(draw.u, self.process.schedule).to(float64_device(y.device))
        y_t = self.process.corrupt(y.detach(), t, draw.noise.fork(3), batch.known)
        if player == "fake":
            loss = self.objective(self.fake(y_t, t, condition), y, y_t, t, batch.counted())
            return Report(loss=loss, plain=loss.detach())
        away = self.gradient(y_t, t, condition)
        loss = 0.5 * mean_per_sample((y - (y.detach() - away)).square(), batch.counted())
        return Report(loss=loss, plain=loss.detach())

    @torch.no_grad()
    def gradient(self, y_t: Tensor, t: Tensor, condition: Condition | None) -> Tensor:
        """Of the divergence by the sample: (D_fake - D_teacher) / c at its noised y_t, shaped like y_t."""
        alpha, sigma = (f(t) for f in (self.process.schedule.alpha, self.process.schedule.sigma))
        signal = alpha * self.process.sigma_data
        c = sigma * self.process.sigma_data / (sigma.square() + signal.square()).sqrt()
        network = self.players["fake"].module
        training = network.training
        network.eval()  # without dropout, as the teacher
        difference = self.fake(y_t, t, condition).mean - self.teacher()(y_t, t, condition).mean
        network.train(training)
        return difference / append_dims(c, y_t).to(y_t)

    def samples(self, batch: Batch, condition: Condition | None, draw: StepRandomness) -> Tensor:
        """The generator's sample at one of its steps for each of the batch, shaped like its x; all steps are as likely."""
        x, count = batch.x, len(self.steps)
        steps, noise = self.steps.to(float64_device(x.device)), draw.noise.fork(2)
        u = noise.fork(0).uniform(x.new_empty(len(x), 1))[:, 0]
        last = (u * count).floor().long().clamp_max(count - 1)
        x_t = self.process.prior(x, noise, steps[:1].expand(len(x)))
        for i in range(count - 1):
            going = (last > i).to(x.device)
            with torch.no_grad():
                mean = self._generator(x_t, steps[i].expand(len(x)), condition).mean
                further = self.process.corrupt(mean, steps[i + 1].expand(len(x)), noise.fork(i + 1))
                x_t = torch.where(append_dims(going, x), further, x_t)
        return self.denoiser(x_t, steps[last.to(steps.device)], condition).mean

    def generator(self) -> GaussianDenoiser:
        """The denoiser that `MultistepConsistency` draws from."""
        return self._generator
