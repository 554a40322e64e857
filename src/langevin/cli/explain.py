"""`langevin explain`: why a sample is as it is, as a picture, a report and JSON."""

import json
import shlex
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from langevin.cli.out import require_writable, unused
from langevin.cli.sample import check_drawing, check_seed, chosen, loaded, short
from langevin.cli.show import LiveLine, output
from langevin.cli.verbs import Drawing
from langevin.evaluation.report import Facts, Picture, Pictures, Report, Section, Source
from langevin.files import own_folder, write_atomic
from langevin.modalities.modality import RequestContext, Samples
from langevin.run.directory import open_run
from langevin.run.display import duration
from langevin.run.provenance import words_of


def run(args: Any) -> Path:
    """Explain the sample, print the findings, and write the picture and the report; returns their folder.

    Raises:
        ValueError: options out of range, or a condition that the run does not know."""
    check_drawing(args)
    check_seed(args.seed)
    line, begin = LiveLine(), time.perf_counter()
    run = open_run(args.run)
    if args.out is None:
        name = "-".join([f"seed{args.seed}", *(short(word) for word in words_of(args.options) if word[:2] != "--")])
        out = unused(own_folder(run.path, "explanations", create=False) / name)
    else:
        out = require_writable(args.out, folder=True)
    model, _ = loaded(args, run, line)
    plan = run.recipe.data.plan(
        args.options,
        RequestContext(
            model=model, data=run.open_data, count=1, seed=args.seed, say=line.say, batch=args.batch,
            guided=args.guidance not in (None, 1), chosen=chosen(args),
        ),
    )  # fmt: skip
    samples = model.run(plan, batch=args.batch, progress=line.progress("sampling"))
    line.close()
    write(samples, out, command_of(args), args.seed)
    assert samples.explanation is not None, "the plan of an explanation returns one"
    for text in samples.explanation.lines:
        output(text)
    line.say(f"explained in {duration(time.perf_counter() - begin)}: {out}")
    return out


def command_of(args: Any, verb: str = "explain") -> str:
    """The command line, with the options of drawing that differ from their defaults."""
    given = {f.name: getattr(args, f.name) for f in fields(Drawing) if f.name not in ("run", "batch")}
    words = list[str]()
    for name, value in given.items():
        if value not in (None, False, ()):
            words += [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
    return shlex.join(["langevin", verb, str(args.run), "--seed", str(args.seed), *words, *words_of(args.options)])


def write(samples: Samples, out: Path, command: str, seed: int) -> None:
    """Write explanation.json, the picture, and report.html with its JSON."""
    found = samples.explanation
    assert found is not None, "the plan of an explanation returns one"
    source = Source(samples={"explained": 1}, seeds=[seed], command=command)
    shown = samples.preview()
    sections: list[Section] = [
        Facts(heading=heading, rows=rows, source=source) for heading, rows in found.tables.items()
    ]
    sections += found.curves
    if shown.suffix == ".png":
        sections.append(Pictures(heading="Pictures", pictures=[Picture(image=shown.content, caption="")]))
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "explanation.json", (json.dumps(dict(found.figures), indent=1) + "\n").encode())
    write_atomic(out / f"explanation{shown.suffix}", shown.content)
    Report(title="Explanation of a sample", sections=sections, summary=". ".join(found.lines) + ".").write(out)
