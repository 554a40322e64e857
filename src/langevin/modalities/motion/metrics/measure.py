"""Measurements of a run on motion: as drawn, and projected, each beside real motions."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from langevin.evaluation.suite import Measures, measure
from langevin.modalities.modality import Measuring, RequestContext, Samples, spread
from langevin.modalities.motion import plans
from langevin.modalities.motion.codec import Poses, States, origin_of
from langevin.modalities.motion.conditions import Said
from langevin.modalities.motion.data import Motions
from langevin.modalities.motion.metrics import physics, skeletal
from langevin.modalities.motion.metrics.judge import Judge, compared, judge_of, windows
from langevin.modalities.motion.metrics.two_samples import FEWEST, two_sample_accuracy
from langevin.modalities.motion.plans import Given
from langevin.modalities.motion.projector import Dynamics, Feet, Limits, Projector
from langevin.safety.memorisation import LossGap, Memorisation, loss_gap, memorisation

if TYPE_CHECKING:
    from langevin.modalities.motion.modality import Motion

REAL = 2000  # windows of real motions that are compared with, at most
LOSSES = 256  # examples of each part whose denoising loss is measured
BEGUN = 64  # trajectories that are continued
SHOWN = 8  # frames of them that are given
BETWEEN = 6  # motions of which a part is drawn anew
KEPT = 0.25  # of their frames that are given at either end


@dataclass(frozen=True, kw_only=True)
class Way:
    """Measurements of samples that were drawn in one way, by seed."""

    drawn: Sequence[Samples]
    physics: Sequence[physics.Physics]
    skeletal: Sequence[skeletal.Skeletal]
    right: Sequence[float]
    apart: Sequence[float]
    measures: Measures
    seconds: float


@dataclass(frozen=True, kw_only=True)
class InBetween:
    """Parts of held-out motions that were drawn anew: mean error of the joints, and that of lines and slerp."""

    error: float
    interpolated: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All measurements of a run.

    Args:
        ways: by name: "" as drawn, and "projected".
        real: of held-out motions.
        judge: the classifier of actions; its accuracy is that on held-out motions.
        real_apart: two-sample accuracy between held-out motions; None for few.
        continued: trajectories begun by real ones, by name: like the data, and of higher energy than any; empty without.
        between: motions with a part drawn anew; None for states.
        ceiling: greatest error of an encoded and decoded motion, in the unit of the data.
    """

    ways: Mapping[str, Way]
    real_physics: physics.Physics | None
    real_skeletal: skeletal.Skeletal | None
    judge: Judge
    real_apart: float | None
    memory: Memorisation
    gap: LossGap
    losses: Mapping[str, list[float]]
    continued: Mapping[str, physics.Continued]
    between: InBetween | None
    ceiling: float

    @property
    def nfe(self) -> int:
        return max(samples.nfe for way in self.ways.values() for samples in way.drawn)


def usual_projectors(motion: "Motion") -> Sequence[Projector]:
    """The projectors of the run, or those that any motion of its kind can have."""
    if motion.projectors:
        return motion.projectors
    if motion.source is not None:
        return (Dynamics(),)
    return (Limits(), Feet()) if motion.skeleton is not None else ()


def measure_run(motion: "Motion", m: Measuring, count: int) -> Measured:
    """Draw `count` motions per seed, as they are drawn and projected, and measure them."""
    judge = judge_of(motion, m)
    real, _ = some(windows(motion, m.val), max(REAL, count))
    known, _ = some(windows(motion, m.train), REAL)
    features = [judge.features(motion, part) if trained(motion) else compared(motion, part) for part in (known, real)]
    ways = {"": way(motion, m, judge, count, (), features, real)}
    projectors = usual_projectors(motion)
    if projectors:
        ways["projected"] = way(motion, m, judge, count, projectors, features, real)
    gap, losses = denoising(m)
    drawn = list(ways[""].drawn[0].values)
    own = memorisation(*(compared(motion, part) for part in (known, real, drawn)))
    codec = motion.known_codec
    mean = torch.tensor(codec.mean)
    return Measured(
        ways=ways, judge=judge, memory=own, gap=gap, losses=losses, ceiling=ceiling(motion, real),
        real_physics=physics.measured(motion.source, torch.stack(real), mean) if motion.source is not None else None,
        real_skeletal=skeletal.measured(codec, real, motion.known_rate) if isinstance(codec, Poses) else None,
        real_apart=real_accuracy(motion, m.val), continued=continuations(motion, m), between=in_between(motion, m),
    )  # fmt: skip


def real_accuracy(motion: "Motion", part: Motions) -> float | None:
    """The two-sample accuracy between halves of real motions, drawn by chance; None for less than 16 motions.

    Of each there is one window: others of the same motion are alike, and tell the class that they are in."""
    if len(part) < 2 * FEWEST:
        return None
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(0))[:REAL].tolist()
    features = compared(motion, [part.clips[i][: motion.window] for i in order])
    return two_sample_accuracy(features[::2], features[1::2])


def trained(motion: "Motion") -> bool:
    """Whether the classifier has actions to tell apart."""
    return len(motion.actions) > 1


def some(found: tuple[list[Tensor], Tensor], most: int) -> tuple[list[Tensor], Tensor]:
    """At most so many windows, evenly spaced."""
    at = spread(len(found[0]), most)
    return [found[0][i] for i in at.tolist()], found[1][at]


def way(
    motion: "Motion", m: Measuring, judge: Judge, count: int, projectors: Sequence[Projector], features: list[Tensor],
    real: Sequence[Tensor],
) -> Way:  # fmt: skip
    """Draw and measure the samples of each seed; `features` are those of training and of held-out motions."""
    progress, drawn, begin = m.progress("sampling"), list[Samples](), time.perf_counter()
    for seed in range(m.seeds):
        context = RequestContext(model=m.model, data=lambda: (m.train, m.val), count=count, seed=1_000_000 * (seed + 1))
        drawn.append(m.model.run(motion.plan_like(m.val, context, projectors=projectors), batch=m.batch))
        progress(seed + 1, m.seeds)
    seconds = (time.perf_counter() - begin) / (m.seeds * count)
    codec, source = motion.known_codec, motion.source
    mean = torch.tensor(codec.mean)
    sets = [list(samples.values) for samples in drawn]
    own = [judge.features(motion, one) if trained(motion) else compared(motion, one) for one in sets]
    right = list[float]()
    if trained(motion):
        for samples, one in zip(drawn, sets, strict=True):
            wanted = samples.arrays["action"]
            told = wanted >= 0
            if bool(told.any()):
                right.append(float((judge.classes(motion, one) == wanted)[told].double().mean()))
    usual = compared(motion, real)
    return Way(
        drawn=drawn, right=right, seconds=seconds,
        measures=measure({space_of(motion): lambda x: x}, features[0], features[1], own, seed=0),
        physics=[physics.measured(source, torch.stack(one), mean) for one in sets] if source is not None else [],
        skeletal=[skeletal.measured(codec, one, motion.known_rate) for one in sets] if isinstance(codec, Poses) else [],
        apart=[two_sample_accuracy(compared(motion, one), usual) for one in sets if min(len(one), len(usual)) >= FEWEST],
    )  # fmt: skip


def space_of(motion: "Motion") -> str:
    """The name of the feature space."""
    return "classifier of actions" if trained(motion) else "frames"


def denoising(m: Measuring) -> tuple[LossGap, dict[str, list[float]]]:
    """The denoising loss by noise level on both parts."""
    found = dict[str, Tensor]()
    for name, part in (("training", m.train), ("validation", m.val)):
        batches = m.model.batches(part)
        items = spread(len(batches), LOSSES)
        items = items if len(items) > 1 else torch.zeros(2, dtype=torch.int64)
        rows = [m.model.parts.losses(batches(i), i) for i in items.split(64)]
        found[name] = torch.cat(rows, 1).cpu()
    return loss_gap(found["training"], found["validation"]), {n: v.mean(1).tolist() for n, v in found.items()}


def ceiling(motion: "Motion", real: Sequence[Tensor]) -> float:
    """The greatest error of encoded and decoded motions: of positions of joints, or of states."""
    codec, rate, worst = motion.known_codec, motion.known_rate, 0.0
    for values in real[:64]:
        x = codec.encode(values, rate)[None]
        if isinstance(codec, States):
            worst = max(worst, float((codec.decode(x, rate)[0] - values).abs().max()))
            continue
        back = codec.decode(x, rate, origin=origin_of(codec.known, values[:1]))[0]
        a, b = (codec.known.positions_of(v.double()) for v in (back, values))
        worst = max(worst, float((a - b).abs().max()))
    return worst


def continuations(motion: "Motion", m: Measuring) -> dict[str, physics.Continued]:
    """Trajectories of a source begun by real ones, of the data and of higher energy."""
    source = motion.source
    if source is None:
        return {}
    sets = {"begun": torch.stack(m.val.clips[:BEGUN])}
    if m.val.outside is not None:
        sets["begun outside"] = m.val.outside[:BEGUN]
    found, codec = dict[str, physics.Continued](), motion.known_codec
    for name, real in sets.items():
        frames = real.shape[1]
        known = torch.arange(frames) < SHOWN
        given = [
            Given(values=plans.between(one[:SHOWN], range(SHOWN), frames, poses=False), known=known) for one in real
        ]
        said = Said(actions=(-1,) * len(real), texts=("",) * len(real))
        context = RequestContext(model=m.model, data=lambda: (m.train, m.val), seed=55_000_000)
        plan = plans.draw(motion, said, [frames] * len(real), context, given=given, projectors=())
        drawn = torch.stack(list(m.model.run(plan, batch=m.batch).values))
        error, still = physics.error_of(drawn, real, SHOWN, torch.tensor(codec.std))
        own = physics.measured(source, drawn, torch.tensor(codec.mean))
        found[name] = physics.Continued(error=error, still=still, physics=own)
    return found


def in_between(motion: "Motion", m: Measuring) -> InBetween | None:
    """Held-out motions of which the middle half is drawn anew, and interpolated."""
    codec = motion.known_codec
    if not isinstance(codec, Poses):
        return None
    real = [one for one in windows(motion, m.val)[0] if len(one) >= SHOWN]
    errors, lines = list[float](), list[float]()
    progress = m.progress("in-betweening")
    chosen = spread(len(real), BETWEEN).tolist()
    for number, i in enumerate(chosen):
        values = real[i]
        edge = max(1, round(KEPT * len(values)))
        known = torch.ones(len(values), dtype=torch.bool)
        known[edge : len(values) - edge] = False
        line = plans.between(values[known], known.nonzero()[:, 0].tolist(), len(values), poses=True)
        context = RequestContext(model=m.model, data=lambda: (m.train, m.val), seed=66_000_000 + i)
        said = Said(actions=(-1,), texts=("",))
        given = Given(values=line, known=known)
        plan = plans.draw(motion, said, [len(values)], context, given=given, projectors=())
        made: Any = m.model.run(plan, batch=m.batch).values[0]
        errors.append(skeletal.position_error(codec, made, values, ~known))
        lines.append(skeletal.position_error(codec, line, values, ~known))
        progress(number + 1, len(chosen))
    if not errors:
        return None
    return InBetween(error=sum(errors) / len(errors), interpolated=sum(lines) / len(lines), count=len(errors))
