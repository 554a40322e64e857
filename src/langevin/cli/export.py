"""`langevin export`: write a run for other programs."""

import time
from pathlib import Path
from typing import assert_never

from langevin.cli.out import require_writable, unused
from langevin.cli.sample import check_guidance
from langevin.cli.show import LiveLine
from langevin.cli.verbs import Export
from langevin.exchange.export import export, prepare
from langevin.exchange.folder import facts_of, write_facts
from langevin.exchange.pipelines import write_pipeline
from langevin.exchange.targets import require_target
from langevin.exchange.weights import write_weights
from langevin.files import write_folder
from langevin.run.directory import Run, load_model, open_run
from langevin.run.display import duration
from langevin.run.generate import RunModel
from langevin.user_function import CodePermission


def run(args: Export) -> Path:
    """Write the export, and return its folder.

    Raises:
        ValueError: options out of range, a run or an operator that the target cannot express, or a folder with files."""
    check(args)
    line, begin = LiveLine(), time.perf_counter()
    original = open_run(args.run)
    whole = original.path.absolute()
    out = require_writable(args.out or unused(whole.with_name(f"{whole.name}-{args.to}")), folder=True)
    code = CodePermission.of((), allow=args.allow_code)
    model, step = load_model(
        original, ema=args.ema, code=code, say=line.say, steps=args.steps, sampler=args.sampler, guidance=args.guidance
    )
    with write_folder(out) as folder:
        write(args, original, model, step, folder, line)
    line.say(f"exported in {duration(time.perf_counter() - begin)}: {out}")
    return out


def check(args: Export) -> None:
    """Check the options before any work. Raises `ValueError` for one out of range, or a package that is missing."""
    if args.steps is not None and not 1 <= args.steps <= 10_000:
        raise ValueError(f"--steps must be between 1 and 10000 (10 to 50 are usual), got {args.steps}")
    check_guidance(args.guidance)
    graphs = args.to in ("torch", "onnx", "openvino")
    if not graphs and args.what != "all":
        raise ValueError(f"--what chooses among graphs, and --to {args.to} writes weights: leave it out")
    if not graphs and (args.steps, args.sampler, args.guidance) != (None, None, None):
        raise ValueError(
            f"--steps, --sampler and --guidance are of graphs, and --to {args.to} writes weights: leave them out"
        )
    if graphs:
        require_target(args.to)  # type: ignore[arg-type]


def write(args: Export, original: Run, model: RunModel, step: int, folder: Path, line: LiveLine) -> None:
    """Write the files of an export into an empty folder."""
    match args.to:
        case "torch" | "onnx" | "openvino" as target:
            exporting = prepare(model, tuple(original.facts["shape"]), what=args.what)
            graphs = export(exporting, folder, target, what=args.what)
            write_facts(folder, original, facts_of(original, exporting, graphs, target, step))
            for graph in graphs:
                line.say(
                    f"{graph.name}: {graph.file}, which differs from the run by {graph.difference:.1e} of its largest value"
                )
            if exporting.why:
                line.say(f"no sampler: {exporting.why}")
        case "diffusers":
            for sentence in write_pipeline(original, model, folder):
                line.say(sentence)
        case "jax":
            for sentence in write_weights(original, model, folder, step):
                line.say(sentence)
        case _:
            assert_never(args.to)
