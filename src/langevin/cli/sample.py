"""`langevin sample`: draw samples from a run, with the options of its modality."""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from langevin.cli.merge import adapters_of
from langevin.cli.out import require_writable, unused
from langevin.cli.show import LiveLine, write
from langevin.cli.verbs import Drawing, Evaluate, Sample
from langevin.diffusion.guidance import weight_of
from langevin.modalities.files import file_name
from langevin.modalities.modality import RequestContext, Samples, require_form
from langevin.recipe.sampling import describe
from langevin.run.adapters import load_with
from langevin.run.directory import Run, open_run
from langevin.run.display import duration
from langevin.run.generate import RunModel, with_others
from langevin.run.light import light_of, lightened
from langevin.run.provenance import facts_of
from langevin.run.watermark import marked, require_room
from langevin.safety.watermark import read_key
from langevin.training import machine
from langevin.user_function import CodePermission

MOST = 10_000_000  # samples of one command


def run(args: Any) -> Path | None:
    """Draw the samples and write them; returns their path, None for standard output.

    Raises:
        ValueError: options out of range, or a condition that the run does not know."""
    check(args)
    line, begin = LiveLine(), time.perf_counter()
    run = open_run(args.run)
    given = named_out(args.out, run, count=args.count)
    if args.gif:
        require_form(run.recipe.data, ".gif", "--gif", count=args.count)
    key = None if args.watermark is None else read_key(args.watermark)
    if key is not None:
        require_room(run)
    model, step = loaded(args, run, line)
    model = with_others(marked(model, run, key), args.options, other_loaded(args, line))
    out = given if args.out is not None else default_out(run, model, step, args)
    animated = args.gif or (out is not None and out.suffix == ".gif")
    streamed: list[str] = []

    def stream(text: str) -> None:
        streamed.append(text)
        write(text)

    progress = line.progress("sampling")
    plan = model.modality.plan(
        args.options,
        RequestContext(
            model=model, data=run.open_data, count=args.count, seed=args.seed, say=line.say, batch=args.batch,
            stream=stream if out is None else None, progress=progress, guided=args.guidance not in (None, 1),
            chosen=chosen(args), animated=animated,
        ),
    )  # fmt: skip
    samples = model.run(plan, batch=args.batch, frames=animated, progress=progress)
    line.close()
    facts = facts_of(
        samples,
        model,
        run=str(args.run),
        step=step,
        options=args.options,
        seed=args.seed,
        count=args.count,
        ema=args.ema,
    )
    samples = replace(samples, facts=facts)
    if not streamed:
        deliver(samples, out)
    if animated and out is not None and out.suffix != ".gif":
        film = out.with_suffix(".gif")
        film = unused(film) if args.out is not None else film  # a default name holds all that the samples depend on
        samples.save(film)
        line.say(f"animation: {film}")
    weight = weight_of(model.sampling.guidance)
    method = f"{describe(model.sampling.sampler)}, {samples.nfe} function evaluations"
    method += f", guidance {weight:g}" if weight != 1 else ""
    method += f", light {' and '.join(map(describe, light))}" if (light := model.sampling.light) else ""
    line.say(
        f"{len(samples)} samples ({method}) in {duration(time.perf_counter() - begin)}" + (f": {out}" if out else "")
    )
    return out


def check(args: Sample) -> None:
    """Check the options of `sample` before any work. Raises `ValueError` for one out of range."""
    if args.count is not None and not 1 <= args.count <= MOST:
        raise ValueError(f"--count must be 1 to {MOST:,}, got {args.count}")
    check_drawing(args)
    check_seed(args.seed)


def check_drawing(args: Any) -> None:
    """Check the options that all drawing verbs share. Raises `ValueError` for one out of range, or without effect."""
    check_batch(args.batch)
    if args.steps is not None and not 1 <= args.steps <= 10_000:
        raise ValueError(f"--steps must be between 1 and 10000 (10 to 50 are usual), got {args.steps}")
    check_guidance(args.guidance)
    defaults = {f.name: f.default for f in fields(args)}
    for name, reason in getattr(getattr(args, "options", None), "UNUSED", {}).items():
        if getattr(args, name) != defaults[name]:
            raise ValueError(f"--{name} has no effect here, as {reason}: leave it out")


def chosen(args: Any) -> frozenset[str]:
    """The settings of sampling that the command gives."""
    return frozenset(name for name in ("steps", "sampler", "guidance") if getattr(args, name) is not None)


def check_batch(batch: int) -> None:
    """Check `--batch`. Raises `ValueError` if it is out of range."""
    if not 1 <= batch <= 1_000_000:
        raise ValueError(f"--batch must be 1 to 1,000,000, got {batch}")


def check_guidance(guidance: float | None) -> None:
    """Check `--guidance`. Raises `ValueError` if it is not finite."""
    if guidance is not None and not math.isfinite(guidance):
        raise ValueError(f"--guidance must be a finite number (1 is no guidance, 1.5 to 3 is usual), got {guidance}")


def check_seed(seed: int) -> None:
    """Check `--seed`. Raises `ValueError` if it is out of range."""
    if not -(2**62) < seed < 2**62:
        raise ValueError(f"--seed must fit into 62 bits, got {seed}")


def loaded(args: Drawing, run: Run, line: LiveLine) -> tuple[RunModel, int]:
    """The run's model with the sampling options of the command, and the training step of its weights.

    Raises:
        ValueError: see `load_with` and `lightened`."""
    model, step = load_with(
        run, adapters_of(args.adapter), ema=args.ema, device=machine.device(),
        code=CodePermission.of((), allow=args.allow_code), say=line.say, steps=args.steps, sampler=args.sampler,
        guidance=args.guidance,
    )  # fmt: skip
    if isinstance(args, Evaluate):  # what is compared is made from the run as it is
        light = model.sampling.light if args.light is None else ()
    else:
        light = light_of(args.light, model.sampling)
    return lightened(model, light, run, keep=False, say=line.say), step


def other_loaded(args: Any, line: LiveLine) -> Callable[[str], RunModel]:
    """Loads the other runs that options name, each with its own settings of sampling."""

    def load(name: str) -> RunModel:
        path = Path(name)
        return loaded(
            replace(args, run=path, steps=None, sampler=None, guidance=None, adapter=(), light=None),
            open_run(path),
            line,
        )[0]

    return load


def named_out(
    out: Path | None, run: Run, *, count: int | None = None, forms: tuple[str, ...] | None = None
) -> Path | None:
    """The path that --out names; None for standard output, which is also "-".

    Args:
        forms: of what is written, if it is no sample of the run's kind.

    Raises:
        ValueError: the modality does not write files like this, or so many samples in one; or something is in the way."""
    if out is None:
        return None
    standard = str(out) == "-"
    form = "-" if standard else out.suffix
    if forms is None:
        require_form(run.recipe.data, form, f"--out {out}", count=count)
    elif form not in forms:
        known = ", ".join("standard output" if f == "-" else f for f in forms)
        raise ValueError(f"--out {out}: classes are written as {known}")
    if standard:
        return None
    return require_writable(out, folder=not out.suffix)


def default_out(run: Run, model: RunModel, step: int, args: Sample) -> Path | None:
    """The path of a preview in the run, named after all that the samples depend on; None for standard output.

    Raises:
        ValueError: there are too many samples for a preview."""
    form = run.recipe.data.forms[0]
    if form == "-":
        return None
    require_form(run.recipe.data, form, f"the preview {form}", count=args.count)
    return run.samples / f"{default_name(model, step, args)}{form}"


def default_name(model: RunModel, step: int, args: Any) -> str:
    """The name of a preview: step, sampler, number of steps, guidance, the options that were given, seed."""
    sampling, defaults = model.sampling, {f.name: f.default for f in fields(args.options)}
    weight = weight_of(sampling.guidance)
    parts = [f"sample-step{step}", short(describe(sampling.sampler)), str(sampling.steps)]
    parts += [f"guidance{weight:g}"] if weight != 1 else []
    parts += [f"{name}{value:g}" for name in ("ema", "count") if (value := getattr(args, name)) is not None]
    parts += [f"adapter{short('-'.join(args.adapter))}"] if args.adapter else []
    parts += [f"light{short('-'.join(args.light))}"] if args.light else []
    given = {name: value for name, value in vars(args.options).items() if value != defaults[name]}
    parts += [name + short("-".join(map(str, v if isinstance(v, tuple) else (v,)))) for name, v in given.items()]
    parts += ["watermarked"] if args.watermark is not None else []
    return "-".join([*parts, f"seed{args.seed}"])


def short(text: str) -> str:
    """The text as part of a file name; a long one ends in a digest, so that texts that begin alike stay apart."""
    name = file_name(text)
    return name if len(text) <= len(name) else f"{name[:30]}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def deliver(samples: Samples, out: Path | None) -> None:
    """Write the samples to a file or folder, or as text to standard output."""
    if out is None:
        write(samples.text(), diff=samples.diff)
        return
    samples.save(out)
