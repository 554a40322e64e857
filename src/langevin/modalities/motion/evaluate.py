"""Evaluation of motion: the sections of the report."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from langevin.evaluation.frechet import Moments, frechet_distance
from langevin.evaluation.report import (
    Better,
    Facts,
    MetricRow,
    Metrics,
    Picture,
    Pictures,
    Section,
    Source,
)
from langevin.evaluation.statistics import mean_interval
from langevin.methods.models import LOG_SNR
from langevin.modalities.losses import loss_gap_metric, loss_section
from langevin.modalities.modality import Evaluation, Measuring, Scorer
from langevin.modalities.motion.codec import Poses
from langevin.modalities.motion.metrics import physics, skeletal
from langevin.modalities.motion.metrics.judge import compared, judge_of, windows
from langevin.modalities.motion.metrics.measure import BETWEEN, KEPT, SHOWN, Measured, Way, measure_run, some, trained
from langevin.modalities.motion.options import Evaluate
from langevin.modalities.motion.preview import animated

if TYPE_CHECKING:
    from langevin.modalities.motion.modality import Motion

PICTURED = 6  # motions of a picture of the report
REFERENCE = 2000  # training motions that samplers are ranked by, at most
MOST = 256  # motions per seed by default
ROW: dict[str, tuple[Better, str]] = {
    "energy deviation": ("near real", "standard deviation of the energy over time, median over trajectories"),
    "equation residual": ("near real", "root mean square residual of the equation of motion, in units of acceleration"),
}


def evaluate(motion: "Motion", options: Evaluate, m: Measuring) -> Evaluation:
    """Distribution and physics together, as drawn and projected, each beside real motions.

    Raises:
        ValueError: too few motions."""
    held = windows(motion, m.val)[0]
    if len(m.model.batches(m.train)) < 4 or len(held) < 2:
        raise ValueError(
            f"evaluate needs 4 training and 2 validation windows of motions, and there are {len(m.model.batches(m.train))} "
            f"and {len(held)}: give more, or a smaller data.window"
        )
    count = m.count or min(max(len(held), 32), MOST)
    found = measure_run(motion, m, count)
    rows = [row for name, way in found.ways.items() for row in way_rows(motion, found, name, way)]
    rows += other_rows(motion, found)
    first = found.ways[""]
    source = Source(samples=first.measures.samples, seeds=list(range(m.seeds)), command=m.command)
    sections: list[Section] = [
        Pictures(heading="Samples", pictures=pictures(motion, found), note="Not cherry-picked: first of seed 0."),
        Metrics(heading="Measured", rows=rows, source=source, note=" ".join(first.measures.notes) + notes(motion, found)),
        loss_section(found.losses, source),
    ]  # fmt: skip
    codec = motion.known_codec
    if isinstance(codec, Poses):
        facts = {
            "ground": codec.ground, "height of contact": codec.contact_height, "speed of contact": codec.contact_speed,
            "feet": ", ".join(codec.known.names[i] for i in codec.feet), "round trip of the codec": found.ceiling,
        }  # fmt: skip
        sections.append(Facts(heading="Calibrated on the training data", rows=facts, source=source))
    return Evaluation(
        rows=rows, samples=first.drawn[0], sections=sections, figures=figures(found, count, m.seeds),
        lines=lines(motion, found),
        title=f"{count} samples x {m.seeds} seeds, {found.nfe} function evaluations each",
    )  # fmt: skip


def pictures(motion: "Motion", found: Measured) -> list[Picture]:
    """Samples as drawn and projected: a picture each, and an animation of a skeleton."""
    shown = list[Picture]()
    for name, way in found.ways.items():
        first = way.drawn[0].first(PICTURED)
        told = "Projected" if name else "As drawn"
        shown.append(Picture(image=motion.picture(first), caption=told))
        if motion.skeleton is not None:
            shown.append(Picture(image=animated(motion, first, "WEBP"), caption=f"{told}, moving"))
    return shown


def notes(motion: "Motion", found: Measured) -> str:
    """How to read the table."""
    told = " Projection makes any samples obey; whether the network has learned the data is in the distribution."
    if trained(motion):
        told += (
            f" The classifier of actions is right on {100 * found.judge.accuracy:.0f} % of held-out motions."
            if found.judge.accuracy >= 0 else " No held-out motion has an action, so the classifier's own error is unknown."
        )  # fmt: skip
    return told


def lines(motion: "Motion", found: Measured) -> list[str]:
    """Lines for the terminal."""
    told = [f"codec: a motion that is encoded and decoded is off by at most {found.ceiling:.2g}"]
    if trained(motion) and found.judge.accuracy >= 0:
        told.append(f"classifier of actions: right on {100 * found.judge.accuracy:.1f} % of held-out motions")
    codec = motion.known_codec
    if isinstance(codec, Poses):
        told.append(
            f"contact: feet lower than {codec.contact_height:.3g}, at up to {codec.contact_speed:.3g} a second; ground at "
            f"{codec.ground:.3g}"
        )
    return told


def way_rows(motion: "Motion", found: Measured, name: str, way: Way) -> list[MetricRow]:
    """Rows of samples that were drawn in one way."""
    group, rows = name or "as drawn", list[MetricRow]()

    def add(metric: str, values: Sequence[float], real: float | None, better: Better, meaning: str) -> None:
        rows.append(
            MetricRow(
                metric=metric, group=group, generated=mean_interval(values), values=tuple(values), floor=real,
                better=better, meaning=meaning,
            )
        )  # fmt: skip

    if way.right:
        real = found.judge.accuracy if found.judge.accuracy >= 0 else None
        add(
            "action",
            way.right,
            real,
            "higher",
            "share of samples in which the classifier sees the action; real is its accuracy",
        )
    if way.physics and found.real_physics is not None:
        usual = physics.by_name(found.real_physics)
        for metric, one in usual.items():
            values = [physics.by_name(p)[metric] for p in way.physics]
            better, meaning = ROW.get(metric, ("near real", "quantile over trajectories"))
            add(metric, values, one, better, meaning)
        ratio = [p.energy_deviation / max(found.real_physics.energy_deviation, 1e-12) for p in way.physics]
        add("energy deviation, ratio", ratio, 1.0, "near 1", "to that of the integrator's own trajectories, in float32")
    if way.skeletal and found.real_skeletal is not None:
        codec, real_ones = motion.known_codec, found.real_skeletal.by_name()
        assert isinstance(codec, Poses), "only a skeleton has feet"
        for metric, one in real_ones.items():
            better: Better = "lower" if metric == "bone-length error" else "near real"
            values = [s.by_name()[metric] for s in way.skeletal]
            add(metric, values, one, better, skeletal.meaning_of(metric, codec))
    if way.apart:
        meaning = (
            "accuracy of a classifier between samples and held-out motions; 0.5 is chance, real is between halves of the "
            "latter, of 16 or more"
        )
        add("two-sample accuracy", way.apart, found.real_apart, "near real", meaning)
    rows += [replace(row, group=f"{group}, {row.group}") for row in way.measures.rows]
    add("seconds per sample", [way.seconds], None, "lower", "of computing, on this machine")
    return rows


def other_rows(motion: "Motion", found: Measured) -> list[MetricRow]:
    """Rows of copying, of motions that were begun or given in part, and of losses."""
    memory = found.memory
    rows = [
        MetricRow(
            metric="C_T", generated=mean_interval([memory.c_t]), floor=0.0, copycat=memory.c_t_copycat, better="near real",
            meaning="are samples nearer to training motions than held-out motions are? Far below 0 means copying",
        ),
        MetricRow(
            metric="authentic share", generated=mean_interval([memory.authentic]), floor=memory.authentic_held_out,
            copycat=0.0, better="near real",
            meaning="share of samples farther from their nearest training motion than that one is from its own nearest",
        ),
        MetricRow(
            metric="distance to training", generated=mean_interval([memory.median_generated]), floor=memory.median_held_out,
            copycat=0.0, better="near real", meaning="to the nearest training motion, median, in 16 frames of each",
        ),
        loss_gap_metric(found.gap),
    ]  # fmt: skip
    for name, one in found.continued.items():
        where = "of higher energies than any in training" if "outside" in name else "like the data"
        rows += [
            MetricRow(
                metric="error", group=name, generated=mean_interval([one.error]), copycat=one.still, better="lower",
                floor=0.0, meaning=f"of trajectories {where}, from their first {SHOWN} frames, in standard deviations; "
                "copycat goes on at the last velocity",
            ),
            MetricRow(
                metric="energy deviation", group=name, generated=mean_interval([one.physics.energy_deviation]),
                better="lower", floor=None if found.real_physics is None else found.real_physics.energy_deviation,
                meaning=f"of these, as drawn ({where})",
            ),
        ]  # fmt: skip
    if found.between is not None:
        rows.append(
            MetricRow(
                metric="in-betweening error", generated=mean_interval([found.between.error]), better="lower", floor=0.0,
                copycat=found.between.interpolated,
                meaning=f"of joints in the middle of {min(BETWEEN, found.between.count)} held-out motions of which "
                f"{100 * KEPT:.0f} % at either end are given; copycat is lines and slerp",
            )
        )  # fmt: skip
    return rows


def figures(found: Measured, count: int, seeds: int) -> dict[str, object]:
    """All results, of JSON types."""
    return {
        "count": count, "seeds": seeds, "nfe": found.nfe, "ceiling": found.ceiling, "memorisation": asdict(found.memory),
        "ways": {
            name or "as drawn": {
                "measures": way.measures.as_dict(), "physics": [asdict(p) for p in way.physics],
                "skeletal": [asdict(s) for s in way.skeletal], "action": list(way.right), "seconds": way.seconds,
                "two_sample_accuracy": list(way.apart),
            }
            for name, way in found.ways.items()
        },
        "real": {
            "physics": None if found.real_physics is None else asdict(found.real_physics),
            "skeletal": None if found.real_skeletal is None else asdict(found.real_skeletal),
            "action": found.judge.accuracy, "two_sample_accuracy": found.real_apart,
        },
        "continued": {name: asdict(one) for name, one in found.continued.items()},
        "in_between": None if found.between is None else asdict(found.between), "losses": dict(found.losses),
        "loss_gap": {"log_snr": LOG_SNR.tolist(), "gap": found.gap.gap.tolist(), "z": found.gap.z.tolist()},
    }  # fmt: skip


def scorer(motion: "Motion", m: Measuring) -> Scorer:
    """The Fréchet distance to training motions: in the features of the classifier, or of 16 frames."""
    known, real = some(windows(motion, m.train), REFERENCE)[0], some(windows(motion, m.val), m.count or MOST)[0]
    if len(known) < 4 or len(real) < 2:
        raise ValueError("ranking needs 4 training and 2 validation windows: see `langevin evaluate` for other metrics")
    judge = judge_of(motion, m) if m.train_judges and trained(motion) else None

    def moments(motions: Sequence[object]) -> Moments:
        values: list[object] = list(motions)
        return Moments.of(compared(motion, values) if judge is None else judge.features(motion, values))  # type: ignore[arg-type]

    reference = moments(known)
    return Scorer(
        name="FD (frames)" if judge is None else "FD (actions)", floor=frechet_distance(reference, moments(real)),
        score=lambda samples: frechet_distance(reference, moments(list(samples.values))),
    )  # fmt: skip
