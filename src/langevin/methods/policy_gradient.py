"""Training a denoiser to draw samples of a larger reward, by the gradient of its sampler's chain as a policy:

    maximise  E[r(x_0)] / scale - leash KL(chain || chain of the reference)

"Training Diffusion Models with Reinforcement Learning" (2023, arXiv 2305.13301): the chain's steps have densities
(`diffusion.transitions`), so the gradient of the expectation is E[sum over steps of A grad ln p(x_s | x_t)], whatever the
reward is. The leash is that of "DPOK: Reinforcement Learning for Fine-tuning Text-to-Image Diffusion Models" (2023, arXiv
2305.16381), a sum over the steps too. Its gradient has two parts: that of each step's divergence at its state, and that a
step leads to states where later steps diverge. So the advantage of a step is

    A = r / scale - leash (sum of the divergences of the later steps) - baseline

and the baseline is the mean over the other chains of its group, which have the same condition: "DeepSeekMath: Pushing the
Limits of Mathematical Reasoning in Open Language Models" (2024, arXiv 2402.03300), but without the chain itself, so that
the expectation is exact. There each group is divided by its own standard deviation; here all are by one scale, the base's,
so that the leash has one meaning, and a group of nearly equal rewards is not blown up. Over all chains the objective is
best at p_ref exp(r / (scale leash)), normalised.

The same chains serve several updates: the gradient is that of ratio * A, with the ratio of the probabilities of a step now
and when it was drawn, and vanishes where the ratio has moved beyond a clip in the direction of A.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.process import AnyProcess
from langevin.diffusion.sampler import AnySampler, State
from langevin.diffusion.transitions import AnyTransitions
from langevin.methods.method import Player, Report


@dataclass(frozen=True, kw_only=True, eq=False)
class Steps:
    """m steps of chains, x of a batch.

    Args:
        x_t, x_s: (m, ...).
        t, s: (m,) float64.
        log_probability: of each step when it was drawn, (m,) float64.
        advantage: (m,) float64.
    """

    x_t: Tensor
    x_s: Tensor
    t: Tensor
    s: Tensor
    log_probability: Tensor
    advantage: Tensor

    def select(self, index: Tensor) -> "Steps":
        """Some of the steps."""
        return Steps(**{name: part[index.to(part.device)] for name, part in vars(self).items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class Chains:
    """b chains of n steps that have noise.

    Args:
        x: (b, ...), where they end.
        x_t, x_s: (n, b, ...).
        t, s: (n, b) float64.
        log_probability, divergence: of each step, (n, b) float64 in nats.
    """

    x: Tensor
    x_t: Tensor
    x_s: Tensor
    t: Tensor
    s: Tensor
    log_probability: Tensor
    divergence: Tensor

    def steps(self, rewards: Tensor, *, group: int, scale: float, leash: float) -> Steps:
        """All n b steps, a step of all chains after the other, with their advantages.

        Args:
            rewards: (b,).
            group: chains of one condition that follow each other."""
        later = self.divergence.flip(0).cumsum(0).flip(0) - self.divergence
        value = (rewards.to(later) / scale - leash * later).view(len(later), -1, group)
        advantage = (value - value.mean(2, keepdim=True)) * group / (group - 1)  # less the mean of the others
        flat = (self.x_t, self.x_s, self.t, self.s, self.log_probability)
        x_t, x_s, t, s, log_probability = (part.flatten(0, 1) for part in flat)
        return Steps(x_t=x_t, x_s=x_s, t=t, s=s, log_probability=log_probability, advantage=advantage.flatten())


@torch.no_grad()
def draw_chains(
    sampler: AnySampler, process: AnyProcess, transitions: AnyTransitions, denoiser: Denoiser[Any],
    reference: Denoiser[Any], state: State, condition: Condition | None,
) -> Chains:  # fmt: skip
    """Chains from a state, which all samples leave in as many steps, with their divergence from those of the reference."""
    found: dict[str, list[Tensor]] = {name: [] for name in ("x_t", "x_s", "t", "s", "log_probability", "divergence")}
    any_sampler: Any = sampler
    while not bool(state.done.all()):
        x_t, t, s = state.x, state.t, state.time(1)
        q = denoiser(x_t, t, condition)
        after = any_sampler.update(state, q, process)
        if bool(transitions.random(t, s).all()):
            divergence = transitions.divergence(q, reference(x_t, t, condition), x_t, t, s)
            log_probability = transitions.log_probability(q, x_t, after.x, t, s)
            for name, part in zip(found, (x_t, after.x, t, s, log_probability, divergence), strict=True):
                found[name].append(part)
        state = after
    return Chains(x=state.x, **{name: torch.stack(parts) for name, parts in found.items()})


class PolicyGradient:
    """A denoiser whose sampler is rewarded: one player, `denoiser`.

    It is no `method` of a recipe, as its reference is a run that is trained already (`run.reward`). Its loss is that of a
    step; n times the mean over the steps of chains of n is that of a chain.

    Args:
        transitions: the law of the sampler's steps.
        denoiser: the trained denoiser; it holds `network`.
        network: the module whose weights are trained, without dropout.
        reference: the denoiser as it was, which is not trained.
        leash: weight of the divergence, per nat, see the module.
        clip: how far the ratio of a step's probabilities may move from 1, above 0.
        non_hidden: see `Player`.

    Raises:
        ValueError: a leash that is negative or not finite, or a clip that is not positive.
    """

    def __init__(
        self,
        *,
        transitions: AnyTransitions,
        denoiser: Denoiser[Any],
        network: nn.Module,
        reference: Denoiser[Any],
        leash: float,
        clip: float = 0.2,
        non_hidden: tuple[str, ...] = (),
    ) -> None:
        if not 0 <= leash < math.inf or not clip > 0:
            raise ValueError(f"a leash is at least 0 and finite, and a clip is positive, got {leash} and {clip}")
        self.transitions, self.denoiser, self.network, self.reference = transitions, denoiser, network, reference
        self.leash, self.clip = leash, clip
        player = Player(module=nn.ModuleDict({"network": network}), non_hidden=non_hidden)
        self.players: Mapping[str, Player] = {"denoiser": player}

    def loss(self, player: str, batch: Batch, draw: StepRandomness) -> Report:
        """The losses of `Steps`; see `Method.loss`."""
        if player not in self.players:
            raise KeyError(player)
        steps: Steps = batch.x
        training = self.network.training
        self.network.eval()  # without dropout, as it draws
        q = self.denoiser(steps.x_t, steps.t, batch.condition)
        self.network.train(training)
        with torch.no_grad():
            reference = self.reference(steps.x_t, steps.t, batch.condition)
        now = self.transitions.log_probability(q, steps.x_t, steps.x_s, steps.t, steps.s)
        ratio = (now - steps.log_probability).exp()
        clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
        surrogate = -torch.minimum(ratio * steps.advantage, clipped * steps.advantage)
        divergence = self.transitions.divergence(q, reference, steps.x_t, steps.t, steps.s)
        loss = (surrogate + self.leash * divergence).float()
        beyond = (surrogate != -ratio * steps.advantage).float()
        terms = {"divergence": divergence.detach().float(), "clipped": beyond.detach()}
        return Report(loss=loss, plain=loss.detach(), terms=terms)

    def generator(self) -> Denoiser[Any]:
        """The trained denoiser."""
        return self.denoiser
