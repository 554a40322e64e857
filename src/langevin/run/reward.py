"""The states of a run that is tuned by a reward: what is measured of each, and which is taken.

Whatever is trained pleases the reward in the end. So states are measured by what the training does not see: a second judge,
diversity, the held-out loss, and the divergence from the run. A state in which the reward has risen and the judge has not
only pleases its judge. The last state before is taken, or none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from langevin.evaluation.neighbours import density_coverage
from langevin.modalities.modality import spread
from langevin.modalities.rating import Rating
from langevin.run.generate import RunModel
from langevin.run.refine import held_out_losses
from langevin.run.rollouts import Source

NEAREST = 5  # neighbours of the balls by which coverage is counted
MOST = 1000  # held-out examples that coverage is of


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """What was measured of a state of the training, on the same conditions and noise as of every other.

    Args:
        step: of the training; 0 is the run itself.
        seconds: of the training so far.
        reward, judge: of each sample, (b,) float64; the judge may be None.
        divergence: of each chain from that of the run with the same weights, (b,) float64 in nats.
        spread: root mean squared distance of two samples of one condition, per number; of tokens, the share that differs.
        coverage: the share of held-out examples with a sample near; None of tokens.
        losses: (n,) of held-out examples.
    """

    step: int
    seconds: float
    reward: Tensor
    judge: Tensor | None
    divergence: Tensor
    spread: float
    coverage: float | None
    losses: Tensor

    def figures(self) -> dict[str, Any]:
        """Means, with standard errors, of JSON types."""
        found: dict[str, Any] = {"step": self.step, "event": "reward", "seconds": round(self.seconds, 2)}
        for name in ("reward", "judge", "divergence"):
            part = getattr(self, name)
            if part is not None:
                found |= {name: float(part.mean()), f"{name}_error": float(part.std()) / math.sqrt(len(part))}
        return found | {
            "spread": self.spread, "coverage": self.coverage, "held_out_loss": float(self.losses.mean()),
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Measure:
    """Measures states of the training.

    Args:
        reward: that is trained.
        judge: that the training does not see; None for none.
        val: the held-out data.
        count: samples.
        seed: of these.
    """

    source: Source
    reward: Rating
    judge: Rating | None
    val: Any
    count: int
    seed: int

    def __call__(self, step: int, seconds: float) -> State:
        """Measure the current weights. Raises `ValueError` for a rating that fails."""
        drawn = self.source.draw(self.count, self.seed)
        model, x = self.source.model, drawn.chains.x.cpu()
        coverage = None
        if x.is_floating_point():
            real = _examples(model, self.val)
            few = len(real) <= NEAREST or len(x) <= NEAREST or real.shape[1] != x[0].numel()
            coverage = None if few else density_coverage(real, x.flatten(1), k=NEAREST).coverage
        return State(
            step=step, seconds=seconds, reward=self.reward(drawn.values, drawn.classes),
            judge=None if self.judge is None else self.judge(drawn.values, drawn.classes),
            divergence=drawn.chains.divergence.sum(0).cpu(), spread=spread_of(x, self.source.group), coverage=coverage,
            losses=held_out_losses(model, self.val),
        )  # fmt: skip


def _examples(model: RunModel, val: Any) -> Tensor:
    batches = model.batches(val)
    items = spread(len(batches), MOST)
    return batches(items).x.cpu().flatten(1)


def spread_of(x: Tensor, group: int) -> float:
    """How far two samples of one condition are from each other: see `State`."""
    groups = x.flatten(1).view(-1, group, x[0].numel())
    if not x.is_floating_point():
        differs = (groups[:, :, None] != groups[:, None]).double().mean(3).sum((1, 2)) / (group * (group - 1))
        return float(differs.mean())
    return float((2 * groups.double().var(1)).mean().sqrt())  # E(x - y)^2 = 2 var


def scale_of(reward: Tensor, group: int, name: str) -> float:
    """The standard deviation of the rewards within a condition, by which they are divided.

    Raises:
        ValueError: they are all the same there, so that nothing can be learned from them."""
    scale = float(reward.view(-1, group).var(1).mean().sqrt())
    if not scale > 1e-9 * max(1.0, float(reward.abs().max())):
        raise ValueError(
            f"{name} is the same for all samples of a condition ({float(reward[0]):.4g} for the first), so it changes "
            "nothing: take a reward by which the run's samples differ"
        )
    return scale


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Which state is taken.

    Args:
        taken: index of a state; None for none.
        only_pleases: steps of the states after that one that only please their judge.
        lines: the reasons in words.
    """

    taken: int | None
    only_pleases: tuple[int, ...]
    lines: tuple[str, ...]


def change(before: Tensor, after: Tensor) -> tuple[float, float]:
    """The mean change of samples with the same conditions and noise, and twice its standard error."""
    each = after - before
    return float(each.mean()), 2 * float(each.std()) / math.sqrt(len(each))


def verdict(states: Sequence[State], *, same: bool) -> Verdict:
    """The last state whose reward is above the run's, beyond the noise, and that does not only please its judge.

    Args:
        states: in their order, the run itself first.
        same: whether the second judge measures what the reward does. Then it has to rise with it, beyond the noise; else it
            must not fall. It must not fall below its best state before, either."""
    first, taken, pleasing, best = states[0], None, list[int](), states[0]
    for i, state in enumerate(states[1:], 1):
        gain, noise = change(first.reward, state.reward)
        risen, good = gain > noise, True
        if state.judge is not None and first.judge is not None and best.judge is not None:
            own, own_noise = change(first.judge, state.judge)
            beside, beside_noise = change(best.judge, state.judge)
            good = (own > own_noise if same else own >= -own_noise) and beside >= -beside_noise
            best = state if good and float(state.judge.mean()) > float(best.judge.mean()) else best
        if risen and good:
            taken, pleasing = i, []
        elif risen:
            pleasing.append(state.step)
    return Verdict(taken=taken, only_pleases=tuple(pleasing), lines=tuple(_reasons(states, taken, pleasing, same)))


def _reasons(states: Sequence[State], taken: int | None, pleasing: Sequence[int], same: bool) -> list[str]:
    first, lines = states[0], list[str]()
    if pleasing:
        state = next(s for s in reversed(states) if s.step == pleasing[-1])
        assert first.judge is not None, "a judge is asked of all states"
        assert state.judge is not None, "a judge is asked of all states"
        (gain, noise), (own, own_noise) = change(first.reward, state.reward), change(first.judge, state.judge)
        at = f"at step{'s' if len(pleasing) > 1 else ''} {', '.join(map(str, pleasing))}"
        lines.append(
            f"{at} it only pleases its judge: the reward has changed by {gain:.4g} +- {noise:.2g} at the last, and the "
            f"second judge, which has to {'rise with it' if same else 'keep its level'}, by {own:.4g} +- {own_noise:.2g}"
        )
    elif taken is None:
        gain, noise = change(first.reward, states[-1].reward)
        lines.append(f"the reward has not risen beyond the noise (by {gain:.4g} +- {noise:.2g} at the end)")
    return lines
