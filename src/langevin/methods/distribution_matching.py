"""Training a generator G that draws in a few steps to have the distribution of a trained denoiser, the teacher, by the
difference of two scores of its own noised samples y = G(...), y_t = alpha_t y + sigma_t n:

    grad KL(p_G,t | p_teacher,t) = E[(s_fake(y_t, t) - s_teacher(y_t, t)) alpha_t dG],    s = (alpha_t D - y_t) / sigma_t^2

"One-step Diffusion with Distribution Matching Distillation" (2023, arXiv 2311.18828). s_fake is the score of the
generator's own samples, of a second denoiser, `fake`, which is trained on them, more often than the generator: "Improved
Distribution Matching Distillation for Fast Image Synthesis" (2024, arXiv 2405.14867). The gradient by a sample is
(D_fake - D_teacher) / c, with c = sigma_t s_d / sqrt(sigma_t^2 + alpha_t^2 s_d^2) the error of the best linear denoiser:
that of the mean over t of these divergences, weighted by (sigma_t / alpha_t)^2 / c. It vanishes for every sample where the
two denoisers agree. c depends on the time alone, where the papers divide by the error of the teacher's own denoiser.

The teacher may be guided. Guided scores are in general those of no single distribution noised to each time, so the student
then has one that agrees with them on average over the times.

A student is as wrong as its teacher. As in the second paper, a discriminator that has seen data corrects it: it compares
y_t with data at the same time and noise, x_t, and adds its weight times softplus(D(x_t) - D(y_t)) to the generator's loss.
It is a network of its own, with the loss and the penalties of `adversarial.py`; one that wins is flat, and leaves the other
term.

A generator of several steps noises its own sample to the time of the next one, as `MultistepConsistency` does. It is
trained at each of these times, on inputs that its own earlier steps have made. It, `fake` and the teacher start from the
weights of a run.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser, GaussianDenoiser
from langevin.diffusion.float64 import float64_device
from langevin.diffusion.noise import Noise
from langevin.diffusion.objective import LogNormal, TimeDensity, WeightedMSE, mean_per_sample
from langevin.diffusion.process import Gaussian
from langevin.diffusion.shape import append_dims
from langevin.methods.adversarial import GAMMA, relativistic, scored, with_squared_slope
from langevin.methods.dropout import require_probability, with_dropout
from langevin.methods.method import Player, Report

Teacher = Callable[[], Denoiser[Any]]  # of no trained weights; loaded when it is first called


class DistributionMatching:
    """A generator that is matched to a teacher: the players `generator`, `fake` and, with an adversarial term,
    `discriminator`.

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
        adversarial: weight of the loss against the discriminator.
        discriminator: for that loss; reads noised examples at their time, and holds `discriminator_network`.
        discriminator_network: the module whose weights the discriminator trains.
        non_hidden: see `Player`; of all.
        generator: the denoiser that is sampled from, if not `denoiser`.

    Raises:
        ValueError: an adversarial term without a discriminator, or the other way round.
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
            guidance: match the teacher with the guidance of its recipe, as it draws; else its denoiser alone.
            adversarial: weight of the loss against a discriminator of noised samples and noised data; 0 for none.
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
        guidance: bool = True
        adversarial: float = 0.0

        def __post_init__(self) -> None:
            if not 1 <= self.steps <= 64:
                raise ValueError(f"method.steps is 1 to 64, got {self.steps}")
            if not 1 <= self.every <= 100:
                raise ValueError(f"method.every is 1 to 100, got {self.every}")
            require_probability("condition_dropout", self.condition_dropout)
            if not 0 <= self.adversarial < math.inf:
                raise ValueError(f"method.adversarial is a weight, at least 0 and finite, got {self.adversarial}")

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
        adversarial: float = 0.0,
        discriminator: GaussianDenoiser | None = None,
        discriminator_network: nn.Module | None = None,
        non_hidden: tuple[str, ...] = (),
        generator: GaussianDenoiser | None = None,
    ) -> None:
        if {adversarial > 0, discriminator is not None, discriminator_network is not None} == {True, False}:
            raise ValueError("an adversarial term has a weight above 0 and a discriminator, or neither")
        self.process, self.denoiser, self.fake, self.teacher = process, denoiser, fake, teacher
        self.steps, self.times, self.condition_dropout = steps, times, condition_dropout
        self.adversarial, self.discriminator = adversarial, discriminator
        self.objective = WeightedMSE(process=process)
        self.players: Mapping[str, Player] = {
            # first, so that its loss is the run's: the generator's is zero where the two denoisers agree, as at the start
            "fake": Player(module=nn.ModuleDict({"network": fake_network}), non_hidden=non_hidden, ema=False),
            "generator": Player(module=nn.ModuleDict({"network": network}), every=every, non_hidden=non_hidden),
        }
        if discriminator_network is not None:
            module = nn.ModuleDict({"network": discriminator_network})
            player = Player(module=module, non_hidden=non_hidden, ema=False, pretrained=False)
            self.players = {**self.players, "discriminator": player}
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
        noise = draw.noise.fork(3)
        y_t = self.process.corrupt(y.detach(), t, noise, batch.known)
        if player == "fake":
            loss = self.objective(self.fake(y_t, t, condition), y, y_t, t, batch.counted())
            return Report(loss=loss, plain=loss.detach())
        if player == "discriminator":
            return self._judged(y_t, t, condition, batch, noise)
        away = self.gradient(y_t, t, condition)
        loss = plain = 0.5 * mean_per_sample((y - (y.detach() - away)).square(), batch.counted())
        terms = dict[str, Tensor]()
        if self.discriminator is not None:
            seen = self.process.corrupt(y, t, noise, batch.known)
            terms["adversarial"] = self._against(seen, t, condition, batch, noise)
            loss = loss + self.adversarial * terms["adversarial"]
        return Report(loss=loss, plain=plain.detach(), terms={name: term.detach() for name, term in terms.items()})

    def _against(self, y_t: Tensor, t: Tensor, condition: Condition | None, batch: Batch, noise: Noise) -> Tensor:
        """softplus(D(x_t) - D(y_t)), (b,), of the data x_t with the same noise."""
        discriminator, counted = self.discriminator, batch.counted()
        assert discriminator is not None, "there is an adversarial term"
        with torch.no_grad():
            x_t = self.process.corrupt(batch.x, t, noise, batch.known)
            real = scored(discriminator, x_t, t, condition, counted)
        return relativistic(scored(discriminator, y_t, t, condition, counted) - real)

    def _judged(self, y_t: Tensor, t: Tensor, condition: Condition | None, batch: Batch, noise: Noise) -> Report:
        """The discriminator's loss, with the penalties of its slope at x_t and y_t."""
        assert self.discriminator is not None, "there is an adversarial term"
        score = partial(scored, self.discriminator, t=t, condition=condition, counted=batch.counted())
        real = with_squared_slope(score, self.process.corrupt(batch.x, t, noise, batch.known))
        fake = with_squared_slope(score, y_t)
        plain, penalty = relativistic(real[0] - fake[0]), real[1] + fake[1]
        return Report(loss=plain + 0.5 * GAMMA * penalty, plain=plain.detach(), terms={"penalty": penalty.detach()})

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
