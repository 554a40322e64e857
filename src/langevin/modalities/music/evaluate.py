"""The report of a run of music: bounds beside n-grams, rules of harmony, and how real the pieces are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from langevin.evaluation.report import MetricRow, Metrics, Picture, Pictures, Section, Source
from langevin.evaluation.statistics import mean_interval
from langevin.modalities.modality import Evaluation, Measuring, RequestContext, Samples, Scorer, spread
from langevin.modalities.music import plans
from langevin.modalities.music.codec import Voices
from langevin.modalities.music.data import Scores
from langevin.modalities.music.metrics.copies import Memory
from langevin.modalities.music.metrics.features import FOLDS, accuracy, distance, progressions, vector
from langevin.modalities.music.metrics.ngram import NgramModel
from langevin.modalities.music.metrics.rules import MEANING, Reference, lengths, rules, vocabulary
from langevin.modalities.music.nats import Cost, cost, ngram_costs, ngrams
from langevin.modalities.music.options import Evaluate
from langevin.modalities.music.piece import Piece, in_order

if TYPE_CHECKING:
    from langevin.modalities.music.modality import Music

COUNT, SHOWN, SEED = 64, 4, 1_000_000
MOST_WINDOWS, CONTROL_WINDOWS = 1000, 64
NGRAM_CONTROL = 16  # pieces drawn from n-grams of a piano roll, whose many streams take long
SEARCHED = 32  # pieces whose longest copied run is searched


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """Pieces as long as a context, by where they are from.

    Args:
        real: of the test part, else of the validation part; `name` is which.
        train: of the training part, as many at most.
    """

    name: str
    scores: Scores
    real: list[Piece]
    train: list[Piece]


def evaluate(music: "Music", options: Evaluate, m: Measuring) -> Evaluation:
    """The metrics of a run, each beside real pieces and controls.

    Raises:
        ValueError: options out of range, or guidance, which has no effect here."""
    if m.guided:
        raise ValueError("--guidance has no effect here, as pieces are drawn without given notes: leave it out")
    if not 0 <= options.pieces <= 1000:
        raise ValueError(f"--pieces is a number of test pieces to harmonise, 0 to 1000, got {options.pieces}")
    count = m.count or COUNT
    music = music.avoiding_parallels() if options.avoid_parallels else music
    parts, model = parts_of(music, m.train, m.val, count), ngrams(music, m.train.pieces)
    costs = costs_of(music, m, model)
    context = RequestContext(model=m.model, data=lambda: (m.train, m.val), count=count, seed=SEED)
    free = m.model.run(music.plan_like(m.train, context), batch=m.batch, progress=m.progress("sampling"))
    reference = reference_of(music, m.train)
    voiced = isinstance(music.codec, Voices)
    real = rules(parts.real, reference, voiced=voiced)
    copied = rules(parts.train, reference, voiced=voiced)
    sets = {"free pieces": free.values, **controls(music, model, parts, count)}
    figures = {name: rules(pieces, reference, voiced=voiced) for name, pieces in sets.items()}
    rows = [*bound_rows(costs), *likeness_rows(m, free.values, parts)]
    for name, found in figures.items():
        rows += rule_rows(name, found, real, copied)
    written = harmonised(music, m, parts, options.pieces)
    if written is not None:
        samples, originals = written
        figures["harmonised"] = rules(samples, reference, voiced=voiced, whole=True)
        figures["harmonised, the originals"] = rules(originals, reference, voiced=voiced, whole=True)
        rows += rule_rows("harmonised melodies", figures["harmonised"], figures["harmonised, the originals"], {})
    counts = {"pieces": count, f"{parts.name} pieces": len(parts.real), "harmonised": len(written[0]) if written else 0}
    return Evaluation(
        rows=rows, samples=free.first(min(count, SHOWN)), title=f"{count} pieces, {free.nfe} function evaluations each",
        sections=sections(music, rows, free, written, Source(samples=counts, seeds=[SEED], command=m.command)),
        figures={
            "nats": {name: value.as_dict() for name, value in costs.items()}, "rules": figures, "real": real,
            "training": copied, "part": parts.name, "nfe": free.nfe, "count": count,
            "likeness": {row.metric: [row.generated.estimate, row.floor] for row in rows if row.group == "likeness"},
        },
    )  # fmt: skip


def parts_of(music: "Music", train: Scores, val: Scores, count: int) -> Parts:
    """Real pieces to compare with."""
    scores, name = (val, "validation") if val.test is None else (val.test, "test")
    real = cut(scores, music.context_length)
    kept = cut(train, music.context_length)
    chosen = spread(len(kept), max(count, len(real))).tolist()
    return Parts(name=name, scores=scores, real=real, train=[kept[i] for i in chosen])


def cut(scores: Scores, length: int) -> list[Piece]:
    """Windows of `length` steps; shorter pieces as a whole."""
    windows: list[Piece] = []
    for piece in scores.pieces:
        for first in range(0, max(1, piece.steps - length + 1), length):
            window = piece.between(first, min(first + length, piece.steps))
            windows += [window] if len(window.notes) else []
    return windows


def reference_of(music: "Music", train: Scores) -> Reference:
    """The training pieces' ranges, usual chords and lengths of notes."""
    return Reference(ranges=music.fixed.ranges, chords=vocabulary(train.pieces), lengths=lengths(train.pieces))


def controls(music: "Music", model: NgramModel, parts: Parts, count: int) -> dict[str, list[Piece]]:
    """Pieces of the n-gram model, and, of voices, real pieces whose voices are from different pieces."""
    voiced = isinstance(music.codec, Voices)
    drawn = model.sample(count if voiced else min(count, NGRAM_CONTROL), music.context_length, seed=0)
    found = {f"n-grams of order {len(model.orders)}": music.decode(torch.from_numpy(drawn).flatten(1))}
    if voiced and len(parts.real) > 1:
        found["voices of different pieces"] = [exchanged(parts.real, i) for i in range(min(count, len(parts.real)))]
    return found


def exchanged(pieces: Sequence[Piece], index: int) -> Piece:
    """A piece whose voice v is that of piece index + v."""
    piece = pieces[index]
    others = [pieces[(index + v) % len(pieces)] for v in range(piece.voices)]
    steps = min(other.steps for other in others)
    notes = [other.between(0, steps).notes for other in others]
    chosen = np.concatenate([part[part[:, 3] == v] for v, part in enumerate(notes)])
    return replace(piece, notes=in_order(chosen), steps=steps)


# ------------------------------------------------------------------------------------------------------------ figures


def costs_of(music: "Music", m: Measuring, model: NgramModel) -> dict[str, Cost]:
    """The bound and n-grams on every part that is held out, and the bound on shuffled steps."""
    parts = {"validation": m.val, **({"test": m.val.test} if m.val.test else {})}
    tokens, costs = music.tokens_of(m.model), dict[str, Cost]()
    for name, scores in parts.items():
        windows = music.batches(scores, device=m.model.device)
        items = spread(len(windows), MOST_WINDOWS)
        costs[f"{name}: bound"] = cost(tokens, windows, items, progress=m.progress(f"bound, {name}"))
        few = spread(len(windows), CONTROL_WINDOWS)
        costs[f"{name}: bound, steps shuffled"] = cost(tokens, windows, few, shuffled=True)
        for order, value in enumerate(ngram_costs(music, model, scores.pieces), start=1):
            costs[f"{name}: n-grams of order {order}"] = value
    return costs


def bound_rows(costs: dict[str, Cost]) -> list[MetricRow]:
    """Nats a step and a token of each estimate."""
    rows: list[MetricRow] = []
    for name, value in costs.items():
        part, _, what = name.partition(": ")
        meaning = "-ln p, given all steps before: a Witten-Bell model" if "n-grams" in what else "upper bound of -ln p"
        for unit, number in (("step", value.per_step), ("token", value.per_token)):
            if unit == "token" and "n-grams" in what:
                continue
            rows.append(
                MetricRow(
                    metric=f"nats a {unit}, {what}", group=f"{part} part, {value.steps:,} steps", better="lower",
                    generated=mean_interval([number]), meaning=meaning,
                    standard_error=value.error if unit == "step" else None,
                )
            )  # fmt: skip
    return rows


def rule_rows(name: str, found: dict[str, float], real: dict[str, float], copied: dict[str, float]) -> list[MetricRow]:
    """The rules that one set of pieces keeps, beside real ones."""
    return [
        MetricRow(
            metric=metric, group=name, generated=mean_interval([value]), floor=real.get(metric),
            copycat=copied.get(metric), better="near real", meaning=MEANING[metric],
        )
        for metric, value in found.items()
    ]  # fmt: skip


def likeness_rows(m: Measuring, pieces: Sequence[Piece], parts: Parts) -> list[MetricRow]:
    """A two-sample classifier, a distance, and how much is copied, each beside real pieces."""
    rows = [
        MetricRow(
            metric="distance", group="likeness", generated=mean_interval([distance(pieces, parts.real)]), better="lower",
            floor=distance(parts.train, parts.real),
            meaning="total variation of chords, progressions, lengths and intervals, averaged; floor: training pieces",
        )
    ]  # fmt: skip
    known = frozenset(name for piece in m.train.pieces[::2] for name in progressions(piece))
    own, real = (np.array([vector(piece, known) for piece in part]) for part in (pieces, parts.real))
    if min(len(own), len(real)) >= 2 * FOLDS:
        halves = real[::2], real[1::2]
        rows.append(
            MetricRow(
                metric="told apart", group="likeness", generated=mean_interval([accuracy(own, real)]), better="lower",
                floor=accuracy(*halves),
                meaning="cross-validated accuracy of a logistic regression between generated and real; 0.5 is chance",
            )
        )  # fmt: skip
    memory = Memory.of(m.train.pieces)
    runs, usual = (
        [memory.longest_run(piece) for piece in part[:SEARCHED]] for part in (list(pieces), parts.real)
    )  # fmt: skip
    for metric, one in (("longest copied run, mean", np.mean), ("longest copied run", np.max)):
        rows.append(
            MetricRow(
                metric=metric, group="likeness", generated=mean_interval([float(one(runs))]), floor=float(one(usual)),
                better="near real", meaning="steps of all voices, up to transposition, that are in a training piece, too",
            )
        )  # fmt: skip
    return rows


def harmonised(music: "Music", m: Measuring, parts: Parts, count: int) -> tuple[list[Piece], list[Piece]] | None:
    """(the highest voices of real pieces harmonised, these pieces); None of a piano roll, or of no pieces."""
    if not isinstance(music.codec, Voices) or not count:
        return None
    originals = [parts.scores.pieces[i] for i in spread(len(parts.scores), count).tolist()]
    pieces, progress = list[Piece](), m.progress("harmonising")
    for i, piece in enumerate(originals):
        context = RequestContext(model=m.model, data=lambda: (m.train, m.val), count=1, seed=SEED + i)
        score = plans.harmonised(music, piece, context)
        key = torch.tensor([plans.key_of(piece)]) if music.key else None
        plan = plans.drawn(music, score, torch.tensor([SEED + i]), key, context, tempo=piece.tempo)
        pieces += m.model.run(plan, batch=m.batch).values
        progress(i + 1, len(originals))
    return pieces, originals


def sections(
    music: "Music",
    rows: list[MetricRow],
    free: Samples,
    written: tuple[list[Piece], list[Piece]] | None,
    source: Source,
) -> list[Section]:
    """Sections of the report."""
    pictures = [Picture(image=free.first(SHOWN).preview().content, caption="Free pieces, the first of their seeds")]
    if written is not None:
        pair = Samples(modality=music, values=[written[0][0], written[1][0]], columns=1)
        pictures.append(Picture(image=pair.preview().content, caption="A melody harmonised, and its own harmony below"))
    note = (
        "Real vs. real is the figure of pieces that were not trained on, copycat that of training pieces. The bound is of "
        "windows without what is before them; n-grams know it."
    )
    return [
        Pictures(heading="Pieces", pictures=pictures),
        Metrics(heading="Measured", rows=rows, source=source, note=note),
    ]


def scorer(music: "Music", m: Measuring) -> Scorer:
    """The distance by which `compare` ranks: of chords, progressions, lengths and intervals from validation pieces."""
    real, train = cut(m.val, music.context_length), cut(m.train, music.context_length)
    kept = [train[i] for i in spread(len(train), m.count or COUNT).tolist()]
    return Scorer(
        name="distance of chords, lengths and intervals", floor=distance(kept, real),
        score=lambda samples: distance(samples.values, real),
    )  # fmt: skip
