"""`langevin sample`: draw samples from a run, with the options of its modality."""

import math
import sys
import time
from pathlib import Path
from typing import Any

from langevin.cli.show import LiveLine
from langevin.cli.verbs import Drawing, Sample
from langevin.diffusion.guidance import weight_of
from langevin.modalities.modality import RequestContext, Samples, require_form
from langevin.recipe.sampling import describe
from langevin.recipe.user_function import CodePermission
from langevin.run.directory import Run, load_model, open_run
from langevin.run.display import duration
from langevin.run.generate import RunModel
from langevin.training import machine


def run(args: Any) -> Path | None:
    """Draw the samples and write them; returns their path, None for standard output.

    Raises:
        ValueError: options out of range, or a condition that the run does not know."""
    check(args)
    line, begin = LiveLine(), time.perf_counter()
    run = open_run(args.run)
    given = named_out(args.out, run)
    if args.gif:
        require_form(run.recipe.data, ".gif", "--gif")
    model, step = loaded(args, run, line)
    out = given if args.out is not None else default_out(run, step, args)
    animated = args.gif or (out is not None and out.suffix == ".gif")
    streamed: list[str] = []

    def stream(text: str) -> None:
        streamed.append(text)
        sys.stdout.write(text)
        sys.stdout.flush()

    progress = line.progress("sampling")
    plan = run.recipe.data.plan(
        args.options,
        RequestContext(
            model=model, data=run.open_data, count=args.count, seed=args.seed, say=line.say, batch=args.batch,
            stream=stream if out is None else None, progress=progress,
        ),
    )  # fmt: skip
    samples = model.run(plan, batch=args.batch, frames=animated, progress=progress)
    line.close()
    if not streamed:
        deliver(samples, out)
    if animated and out is not None and out.suffix != ".gif":
        samples.save(out.with_suffix(".gif"))
    weight = weight_of(model.sampling.guidance)
    method = f"{describe(model.sampling.sampler)}, {samples.nfe} function evaluations"
    method += f", guidance {weight:g}" if weight != 1 else ""
    line.say(
        f"{len(samples)} samples ({method}) in {duration(time.perf_counter() - begin)}" + (f": {out}" if out else "")
    )
    return out


def check(args: Sample) -> None:
    """Check the options of `sample` before any work. Raises `ValueError` for one out of range."""
    if (args.count is not None and args.count < 1) or args.batch < 1:
        raise ValueError(f"--count and --batch must be at least 1, got {args.count} and {args.batch}")
    check_drawing(args)
    check_seed(args.seed)


def check_drawing(args: Drawing) -> None:
    """Check the options that all drawing verbs share. Raises `ValueError` for one out of range."""
    if args.batch < 1:
        raise ValueError(f"--batch must be at least 1, got {args.batch}")
    if args.steps is not None and not 1 <= args.steps <= 10_000:
        raise ValueError(f"--steps must be between 1 and 10000 (10 to 50 are usual), got {args.steps}")
    if args.guidance is not None and not math.isfinite(args.guidance):
        raise ValueError(
            f"--guidance must be a finite number (1 is no guidance, 1.5 to 3 is usual), got {args.guidance}"
        )


def check_seed(seed: int) -> None:
    """Check `--seed`. Raises `ValueError` if it is out of range."""
    if not -(2**62) < seed < 2**62:
        raise ValueError(f"--seed must fit into 62 bits, got {seed}")


def loaded(args: Drawing, run: Run, line: LiveLine) -> tuple[RunModel, int]:
    """The run's model with the sampling options of the command, and the training step of its weights."""
    return load_model(
        run, ema=args.ema, device=machine.device(), code=CodePermission.of((), allow=args.allow_code), say=line.say,
        steps=args.steps, sampler=args.sampler, guidance=args.guidance,
    )  # fmt: skip


def named_out(out: Path | None, run: Run) -> Path | None:
    """The path that --out names; None for standard output, which is also "-".

    Raises:
        ValueError: the modality does not write files like this; the message lists the formats that it writes."""
    if out is None:
        return None
    standard = str(out) == "-"
    require_form(run.recipe.data, "-" if standard else out.suffix, f"--out {out}")
    return None if standard else out


def default_out(run: Run, step: int, args: Sample) -> Path | None:
    """The path of a preview in the run, or None for standard output."""
    form = run.recipe.data.forms[0]
    return None if form == "-" else run.samples / f"sample-step{step}-seed{args.seed}{form}"


def deliver(samples: Samples, out: Path | None) -> None:
    """Write the samples to a file or folder, or as text to standard output."""
    if out is None:
        sys.stdout.write(samples.text())
        return
    samples.save(out)
