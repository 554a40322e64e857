"""`langevin intervene`: what the conditions and the noise of a run decide, and at which level of noise."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from langevin.cli.compare import show_groups
from langevin.cli.out import require_writable, unused
from langevin.cli.sample import check_seed
from langevin.cli.show import LiveLine
from langevin.cli.verbs import Intervene
from langevin.diffusion.condition import class_labels
from langevin.diffusion.shape import tree_map
from langevin.evaluation.report import Curves, Line, Picture, Pictures, Report, Section, Source
from langevin.evaluation.statistics import Interval
from langevin.files import own_folder, write_atomic
from langevin.modalities.modality import Measuring, Samples
from langevin.modalities.rating import parse, rating_of
from langevin.run.directory import load_model, open_run
from langevin.run.generate import RunModel, changed, joined
from langevin.run.interventions import Changes, Effect, Intervention, Subject, frequent
from langevin.run.judge import read_by_modality
from langevin.run.template import template_of
from langevin.training import machine
from langevin.user_function import CodePermission

SHOWN = 8  # samples of each change in the picture


def run(args: Intervene) -> Path:
    """Intervene, print the effects, and write the report with its picture; returns their folder.

    Raises:
        ValueError: options out of range, or a run whose samples are not drawn at once."""
    check(args)
    line, original = LiveLine(), open_run(args.run)
    out = args.out or unused(own_folder(original.path, "explanations", create=False) / f"interventions-seed{args.seed}")
    require_writable(out, folder=True)
    code = CodePermission.of((args.measure,) if args.measure else (), allow=args.allow_code)
    model, _ = load_model(original, device=machine.device(), code=code, say=line.say)
    model = changed(model, steps=args.steps, sampler=args.sampler, guidance=args.guidance)
    train, val = original.open_data(progress=line.progress("reading data"))
    measuring = Measuring(
        model=model, train=train, val=val, folder=own_folder(original.path, "evaluation", create=False),
        facts=original.facts, load=lambda path: load_model(open_run(path), device=machine.device(), code=code)[0],
        count=args.count, seeds=1, say=line.say, progress=line.progress, run=original.path,
    )  # fmt: skip
    subject = subject_of(args, model, train, measuring, code)
    changes = Changes(request=subject.request, bands=args.bands).all(words_of(args, model, subject))
    base, effects, drawn = subject.effects(changes, line.progress("interventions"))
    line.close()
    show(effects, subject, args)
    write(out, args, subject, list(zip(changes, effects, drawn)), base)
    line.say(f"report: {out / 'report.html'}")
    return out


def check(args: Intervene) -> None:
    """Check the options. Raises `ValueError` for one out of range."""
    check_seed(args.seed)
    for name, value, least, most in (
        ("count", args.count, 2, 100_000), ("bands", args.bands, 1, 1000), ("words", args.words, 0, 1000),
    ):  # fmt: skip
        if not least <= value <= most:
            raise ValueError(f"--{name} is {least} to {most:,}, got {value}")


def subject_of(
    args: Intervene, model: RunModel, train: Any, measuring: Measuring, code: CodePermission
) -> Subject:  # fmt: skip
    """The samples, the reader of their classes if the modality has one, and the rating that is asked for."""
    request = template_of(model, train, args.count, args.seed, what="an intervention", parts=True)
    if len(request.seeds) < 2:
        raise ValueError(f"of {args.count} examples fewer than two have a label: ask for more by --count")
    port = None if request.condition is None else request.condition.global_
    classes = None if port is None else class_labels(port)
    condition, rating = request.condition, None
    if args.measure is not None:
        rating = rating_of(parse(args.measure, model.modality, "--measure"), measuring, code)
    reads = read_by_modality(measuring) if isinstance(request.shape, tuple) else None
    return Subject(
        model=model, request=request,
        reads=None if reads is None or condition is None else lambda x: reads(x, condition),
        rate=None if rating is None else lambda x: rating(model.modality.decode(x), classes),
    )  # fmt: skip


def words_of(args: Intervene, model: RunModel, subject: Subject) -> list[tuple[int, str]]:
    """The tokens and texts of the words that most captions have."""
    vocabulary = getattr(model.modality, "captions", None)
    return [
        (token, vocabulary.words[token - 2] if vocabulary else str(token))
        for token in frequent(subject.request.condition, args.words)
    ]


def show(effects: Sequence[Effect], subject: Subject, args: Intervene) -> None:
    """Print a table of the effects."""
    header = ("intervention", "from", "to", "distance", "interval")
    header += ("another class read", "interval") if subject.reads else ()
    header += (f"rise of {args.measure}", "interval") if subject.rate else ()
    rows = list[tuple[str, ...]]()
    for e in effects:
        cells = (e.what, *(f"{subject.level(t):.3g}" for t in e.times), *interval(e.distance))
        cells += (f"{e.other[0]:.2f}", f"{e.other[1]:.2f} to {e.other[2]:.2f}") if e.other else ()
        cells += interval(e.rating) if e.rating else ()
        rows.append((*cells, str(e.n)))
    show_groups((*header, "samples"), {"": rows})


def interval(of: Interval) -> tuple[str, str]:
    """The estimate, and its interval."""
    return f"{of.estimate:.2f}", "" if of.low is None else f"{of.low:.2f} to {of.high:.2f}"


def write(
    out: Path, args: Intervene, subject: Subject, found: list[tuple[Intervention, Effect, Any]], base: Any
) -> None:  # fmt: skip
    """Write interventions.json, the picture and the report."""
    command = command_of(args)
    figures = [asdict(effect) | {"levels": [subject.level(t) for t in effect.times]} for _, effect, _ in found]
    shown = picture(subject, found, base)
    sections: list[Section] = curves(subject, found)
    if shown.suffix == ".png":
        sections.append(Pictures(heading="Samples", pictures=[Picture(image=shown.content, caption="")]))
    out.mkdir(parents=True, exist_ok=True)
    source = Source(samples={"drawn": len(subject.request.seeds)}, seeds=[args.seed], command=command)
    write_atomic(
        out / "interventions.json", (json.dumps({"effects": figures} | source.data(), indent=1) + "\n").encode()
    )
    write_atomic(out / f"samples{shown.suffix}", shown.content)
    Report(
        title="Interventions", sections=sections,
        summary="0 is the same sample, and 1 is as different as another one. The bands are 95 % intervals over samples.",
    ).write(out)  # fmt: skip


def command_of(args: Intervene) -> str:
    """The command line, with the options that differ from their defaults."""
    words = ["langevin", "intervene", str(args.run), "--seed", str(args.seed)]
    for field in fields(args):
        value = getattr(args, field.name)
        if field.name not in ("run", "seed", "out") and value != field.default:
            words += [f"--{field.name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return shlex.join(words)


def curves(subject: Subject, found: list[tuple[Intervention, Effect, Any]]) -> list[Section]:
    """The effect of each change by the level at which it begins, where it was made in parts of the grid."""
    last, sections = subject.request.sampling.steps, list[Section]()
    parts = [(c, e) for c, e, _ in found if c.noise or c.steps != (0, last)]
    kinds = dict.fromkeys(e.what for _, e in parts)
    for name, value in (("Distance", "distance"), ("Another class is read", "other")):
        lines = list[Line]()
        for kind in kinds:
            own = [e for _, e in parts if e.what == kind and getattr(e, value) is not None]
            y = [e.distance.estimate if value == "distance" else e.other[0] if e.other else 0.0 for e in own]
            wide = [(e.distance.half_width or 0.0) if value == "distance" else half(e.other) for e in own]
            lines += [Line(label=kind, x=[e.times[0] for e in own], y=y, error=wide)] if own else []
        if lines:
            sections.append(
                Curves(
                    heading=name, lines=lines, x_label="time at which the change begins; 1 is noise", y_label=name.lower(),
                    caption="A condition is changed in one part of the steps only; noise is fresh from there on.",
                )
            )  # fmt: skip
    return sections


def half(of: tuple[float, float, float] | None) -> float:
    """Half of the width of a share's interval."""
    return 0.0 if of is None else (of[2] - of[1]) / 2


def picture(subject: Subject, found: list[tuple[Intervention, Effect, Any]], base: Any) -> Any:
    """A preview: the first samples as they were, and below with each change."""
    rows, names = [base, *(x for *_, x in found)], ["as it was"]
    for change, effect, _ in found:
        names.append(change.what if change.steps[0] == 0 else f"{change.what}, {subject.level(effect.times[0]):.2g}")
    width, modality = min(SHOWN, len(subject.request.seeds)), subject.model.modality
    values = modality.decode(joined([tree_map(lambda part: part[:width], row) for row in rows]))
    return modality.preview(
        Samples(
            modality=modality, values=values, columns=width,
            names=tuple(name if i == 0 else "" for name in names for i in range(width)),
        )
    )  # fmt: skip
