"""What a run is tuned on by a reward: chains that it draws as it is tuned, and pairs of its own samples."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.denoiser import Denoiser, weights_cast_once
from langevin.diffusion.noise import mix
from langevin.diffusion.transitions import AnyTransitions
from langevin.methods import Diffusion
from langevin.methods.log_ratio import LogRatio
from langevin.methods.models import GaussianModel
from langevin.methods.policy_gradient import Chains, PolicyGradient, Steps, draw_chains
from langevin.methods.preferences import Pairs, Preferences
from langevin.modalities.modality import Draw
from langevin.modalities.rating import Rating
from langevin.recipe.build import non_hidden
from langevin.run.begin import begin
from langevin.run.generate import RunModel
from langevin.run.refine import TAIL
from langevin.run.template import selected, template_of
from langevin.training.loop import TrainingConfig
from langevin.training.order import DataOrder

LEVELS = 2  # of noise, at which the likelihood ratio of a sample is estimated, each with both signs of its noise


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """Samples, a group of one condition after the other.

    Args:
        chains: which lead to them.
        request: by which they were drawn.
        values: the samples, decoded.
        classes: that they are conditioned on, (b,) int64; None without.
    """

    chains: Chains
    request: Draw
    values: Any
    classes: Tensor | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Draws chains of a run as it is tuned, under conditions of its data.

    Args:
        model: that is tuned, with the sampling of the chains.
        reference: its denoiser as it was, which is not trained.
        transitions: the law of the steps.
        template: a request of many samples, whose conditions are drawn from.
        group: samples of one condition.
    """

    model: RunModel
    reference: Denoiser[Any]
    transitions: AnyTransitions
    template: Draw
    group: int

    @classmethod
    def of(
        cls, model: RunModel, train: Any, transitions: AnyTransitions, *, group: int, count: int, seed: int
    ) -> "Source":
        """With `count` conditions of the training data.

        Raises:
            ValueError: samples that are not drawn at once, or of one condition only each."""
        template = template_of(model, train, count, seed, what="a reward")
        denoiser: Any = model.parts.denoiser
        network = copy.deepcopy(model.parts.network).eval().requires_grad_(False)
        return cls(
            model=model, reference=replace(denoiser, network=network), transitions=transitions, template=template,
            group=group,
        )  # fmt: skip

    @property
    def length(self) -> int:
        """The number of a chain's steps that have noise."""
        first = torch.zeros(1, dtype=torch.int64)
        times = begin(self.model.built, selected(self.template, first, first), first).state.times[0]
        return int(self.transitions.random(times[:-1], times[1:]).sum())

    @property
    def denoiser(self) -> Denoiser[Any]:
        """The denoiser that is tuned, as the request has it."""
        return self._wrapped(self.model.parts.denoiser)

    @property
    def frozen(self) -> Denoiser[Any]:
        """The reference, as the request has it."""
        return self._wrapped(self.reference)

    def _wrapped(self, denoiser: Any) -> Denoiser[Any]:
        return denoiser if self.template.wrap is None else self.template.wrap(denoiser)

    def draw(self, count: int, seed: int, *, batch: int = 256) -> Drawn:
        """`count` samples, a function of the weights and the seed: groups with conditions drawn from those of the data."""
        total = len(self.template.seeds)
        groups = mix(torch.full((count // self.group,), seed), torch.arange(count // self.group))
        index = groups.remainder(total).repeat_interleave(self.group)
        seeds = mix(torch.full((len(index),), seed), -1 - torch.arange(len(index)))
        request, parts = selected(self.template, index, seeds), list[Chains]()
        self.model.parts.network.eval()
        for at in torch.arange(len(index)).split(batch):
            begun = begin(self.model.built, request, at)
            with torch.no_grad(), weights_cast_once(self.model.device):
                parts.append(
                    draw_chains(
                        begun.sampler, self.model.parts.process, self.transitions, self.denoiser, self.frozen,
                        begun.state, begun.condition,
                    )
                )  # fmt: skip
        chains = _joined(parts)
        port = None if request.condition is None else request.condition.global_
        values = self.model.modality.decode(chains.x.cpu())
        return Drawn(chains=chains, request=request, values=values, classes=None if port is None else port.tensor)


def _joined(parts: Sequence[Chains]) -> Chains:
    """Chains of equal length, one set after another."""
    names = vars(parts[0])
    return Chains(
        **{name: torch.cat([getattr(part, name) for part in parts], 0 if name == "x" else 1) for name in names}
    )


@dataclass(kw_only=True)
class Rollouts:
    """The batches of a policy gradient: steps of chains that the current weights have drawn, each set for some updates.

    Args:
        chains: of a set.
        updates: from a set; each sees other steps of it.
    """

    source: Source
    reward: Rating
    chains: int
    updates: int
    scale: float
    leash: float
    seed: int
    steps: Steps | None = None
    request: Draw | None = None

    @property
    def batch(self) -> int:
        """Steps in an update."""
        return self.chains * self.source.length // self.updates

    def __call__(self, step: int, samples: Tensor, draw: StepRandomness) -> Batch:
        number, turn = divmod(step, self.updates)
        if turn == 0 and int(samples[0]) == 0:
            drawn = self.source.draw(self.chains, self.seed + 1 + number)
            rewards = self.reward(drawn.values, drawn.classes)
            self.steps = drawn.chains.steps(rewards, group=self.source.group, scale=self.scale, leash=self.leash)
            self.request = drawn.request
        assert self.steps is not None, "a set is drawn before its first update"
        assert self.request is not None, "a set is drawn before its first update"
        generator = torch.Generator().manual_seed(self.seed + number)
        order = torch.randperm(len(self.steps.t), generator=generator)
        index = order[turn * self.batch + samples]
        condition = self.request.condition
        condition = None if condition is None else condition.select(index % self.chains).to(self.source.model.device)
        return Batch(x=self.steps.select(index), condition=condition)


def policy_gradient(source: Source, leash: float) -> PolicyGradient:
    """The training of a run's chains."""
    return PolicyGradient(
        transitions=source.transitions, denoiser=source.denoiser, network=source.model.parts.network,
        reference=source.frozen, leash=leash, non_hidden=non_hidden(source.model.parts.network),
    )  # fmt: skip


def preferences(source: Source, leash: float) -> Preferences:
    """The training of a run of gaussian diffusion on pairs, over the levels of its training.

    Raises:
        ValueError: a run of another process, or with times of frames of their own."""
    parts, config = source.model.parts, source.model.built.recipe.method
    if not isinstance(parts, GaussianModel) or not isinstance(config, Diffusion.Config) or config.levels:
        raise ValueError(
            "--by dpo compares likelihoods by squared errors at one noise level an example, so it is for runs of gaussian "
            "diffusion without method.levels: take --by policy_gradient"
        )
    schedule, reference = parts.process.schedule, source.reference
    ends = schedule.log_snr(config.times(torch.tensor([1 - TAIL, TAIL], dtype=torch.float64), schedule))
    ratio = LogRatio(
        process=parts.process, denoiser=parts.denoiser, network=parts.network, reference=reference,  # type: ignore[arg-type]
        log_snr=(float(ends[0]), float(ends[1])), levels=LEVELS,
    )  # fmt: skip
    return Preferences(ratio=ratio, network=parts.network, leash=leash, non_hidden=non_hidden(parts.network))


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """The batches of DPO: pairs of the run's own samples of one condition, of which the one with the larger reward is
    preferred."""

    pairs: Pairs
    request: Draw  # of the better ones
    order: DataOrder

    @classmethod
    def of(cls, source: Source, reward: Rating, count: int, config: TrainingConfig) -> "Ranked":
        """Drawn twice for each of `count` conditions, with the run's weights; pairs of equal reward are left out.

        Raises:
            ValueError: no pair differs."""
        two = replace(source, group=2)
        drawn = two.draw(2 * count, config.seed + 1)
        rewards = reward(drawn.values, drawn.classes).view(-1, 2)
        at = (rewards[:, 0] != rewards[:, 1]).nonzero()[:, 0]
        if not len(at):
            raise ValueError(f"{reward.name} is the same for both samples of each of {count} pairs: it prefers none")
        better = 2 * at + (rewards[at, 1] > rewards[at, 0]).long()
        worse = 2 * at + (rewards[at, 1] <= rewards[at, 0]).long()
        x, request = drawn.chains.x, selected(drawn.request, better, drawn.request.seeds[better])
        order = DataOrder(count=len(at), batch=config.batch, seed=config.seed)
        return cls(pairs=Pairs(better=x[better], worse=x[worse]), request=request, order=order)

    def __call__(self, step: int, samples: Tensor, draw: StepRandomness) -> Batch:
        items, condition = self.order.items(step, samples), self.request.condition
        condition = None if condition is None else condition.select(items).to(self.pairs.better.device)
        return Batch(x=self.pairs.select(items.to(self.pairs.better.device)), condition=condition)
