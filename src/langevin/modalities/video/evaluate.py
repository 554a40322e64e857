"""Evaluation of clips: the sections of the report."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langevin.evaluation.frechet import Moments, frechet_distance
from langevin.evaluation.report import Facts, MetricRow, Metrics, Picture, Pictures, Section, Source
from langevin.evaluation.statistics import mean_interval
from langevin.modalities.losses import loss_gap_metric, loss_section
from langevin.modalities.modality import Evaluation, Measuring, Samples, Scorer, spread
from langevin.modalities.video.measure import (
    SEARCHED,
    Continued,
    Measured,
    feature_spaces,
    judge_of,
    measure_run,
    require_long,
    small,
)
from langevin.modalities.video.options import Evaluate
from langevin.modalities.video.preview import frame_grid
from langevin.safety.memorisation import nearest

if TYPE_CHECKING:
    from langevin.modalities.video.modality import Video

SHOWN = 9  # clips in the report
PAIRS = 6  # of them beside the nearest training clip


def evaluate(video: "Video", options: Evaluate, m: Measuring) -> Evaluation:
    """What a judge reads, where things move, likeness to real clips, memorisation, and long continuations.

    Raises:
        ValueError: too few clips, or a continuation that is none."""
    if len(m.train) < 8 or len(m.val) < 2:
        raise ValueError(
            f"evaluate needs 8 training and 2 validation clips, and there are {len(m.train)} and {len(m.val)}"
        )
    if options.long is not None:
        require_long(video, m, options.long)
    count = m.count or min(max(len(m.val), 16), 200)
    found = measure_run(video, m, count, options.long)
    rows = [*own_rows(found), *found.measures.rows]
    source = Source(samples=found.measures.samples, seeds=list(range(m.seeds)), command=m.command)
    first = found.drawn[0].first(SHOWN)
    sections: list[Section] = [
        Pictures(
            heading="Samples", pictures=pictures(first), note="Not cherry-picked: first of seed 0.",
        ),
        Metrics(heading="Measured", rows=rows, source=source, note=" ".join(found.measures.notes)),
        *([kept(found.copies, source)] if found.copies is not None else []),
        *(continued(found.continued, source) if found.continued is not None else []),
        Pictures(
            heading="Nearest training clips", pictures=[neighbours(found.drawn[0], m)],
            note="Each sample above its nearest training clip.",
        ),
        loss_section(found.losses, source),
    ]  # fmt: skip
    return Evaluation(
        rows=rows, samples=found.drawn[0], sections=sections,
        figures={"count": count, "seeds": m.seeds, **found.as_dict()},
        title=f"{count} samples x {m.seeds} seeds, {found.nfe} function evaluations each",
    )  # fmt: skip


def pictures(samples: Samples) -> list[Picture]:
    """An animation and a grid of the frames of samples."""
    return [
        Picture(image=samples.preview().content, caption="Samples, as they move"),
        Picture(image=frame_grid(list(samples.values), samples.names), caption="The same, frame by frame"),
    ]


def own_rows(found: Measured) -> list[MetricRow]:
    """Rows of labels, motion, memorisation and speed."""
    memory = found.memory
    rows = [
        MetricRow(
            metric=label, generated=mean_interval(read.generated), values=read.generated, floor=read.real,
            copycat=read.shuffled, better="higher",
            meaning=f"share of samples that show the label of the clip whose caption they are of, read from {read.how}; "
            "copycat is real clips with the labels of others",
        )
        for label, read in found.labels.items()
    ]  # fmt: skip
    return [
        *rows,
        MetricRow(
            metric="frame difference", generated=mean_interval(found.energy), values=found.energy, floor=found.real_energy,
            better="near real", meaning="mean absolute difference of consecutive frames, in grey levels: 0 stands still",
        ),
        MetricRow(
            metric="C_T", generated=mean_interval([memory.c_t]), floor=0.0, copycat=memory.c_t_copycat, better="near real",
            meaning="are samples nearer to training clips than validation clips are? Far below 0 means copying",
        ),
        MetricRow(
            metric="authentic share", generated=mean_interval([memory.authentic]), floor=memory.authentic_held_out,
            copycat=0.0, better="near real", meaning="share of samples farther from their nearest training clip than that "
            "clip is from its own nearest",
        ),
        loss_gap_metric(found.gap),
        MetricRow(
            metric="seconds per clip", generated=mean_interval([found.seconds]), better="lower",
            meaning="of drawing and decoding, on this machine",
        ),
    ]  # fmt: skip


def kept(copies: Mapping[str, float], source: Source) -> Section:
    """What an autoencoder keeps of clips."""
    facts: dict[str, str | int | float | bool | None] = dict(copies)
    note = "Of held-out clips, encoded and decoded: no sample that is decoded so can do better."
    return Facts(heading="Copies by the autoencoder", rows=facts, source=source, note=note)


def continued(found: Continued, source: Source) -> list[Section]:
    """Sections about long continuations."""
    facts: dict[str, str | int | float | bool | None] = {
        "frames": found.frames, "of these given": found.given, "seconds per frame": found.seconds,
    }  # fmt: skip
    facts |= {f"{label}, kept": share for label, share in found.kept.items()}
    facts |= {f"{label}, in the last window": share for label, share in found.end.items()}
    shown = found.samples.first(4)
    return [
        Facts(
            heading="Held-out clips, continued", rows=facts, source=source,
            note="Without captions. Shares of windows that show what the given frames do.",
        ),
        Pictures(heading="Continued clips", pictures=pictures(shown)),
    ]  # fmt: skip


def neighbours(samples: Samples, m: Measuring) -> Picture:
    """Some samples, each above its nearest training clip."""
    pick = spread(len(samples), PAIRS)
    clips = torch.stack([samples.values[i] for i in pick.tolist()])
    items = spread(len(m.train), SEARCHED)
    window = clips.shape[1]
    _, index = nearest(small(m.train.windows(items, window)), small(clips))
    pairs = list[Tensor]()
    for clip, i in zip(clips, index[:, 0].tolist(), strict=True):
        pairs += [clip, m.train.windows(items[i : i + 1], window)[0]]
    return Picture(image=frame_grid(pairs), caption="Samples and their nearest training clips (L2 in small pixels)")


def scorer(video: "Video", m: Measuring) -> Scorer:
    """The Fréchet distance to the training clips in the first feature space, with its floor."""
    if len(m.train) < 8 or len(m.val) < 2:
        raise ValueError(
            f"ranking needs 8 training and 2 validation clips, and there are {len(m.train)} and {len(m.val)}"
        )
    name, space = next(iter(feature_spaces(judge_of(video, m)).items()))
    count = min(m.count or 200, len(m.val))
    real = Moments.of(space(m.train.windows(spread(len(m.train), 2000), video.window)))
    floor = frechet_distance(real, Moments.of(space(m.val.windows(spread(len(m.val), count), video.window))))
    return Scorer(
        name=f"FD ({name})", floor=floor,
        score=lambda samples: frechet_distance(real, Moments.of(space(torch.stack(list(samples.values))))),
    )  # fmt: skip
