"""`langevin fit-solver`: fit few-step solvers to a run, and store them in it."""

import time

from rich.console import Console
from rich.table import Table

from langevin.cli.sample import check_batch, check_guidance
from langevin.cli.show import LiveLine
from langevin.cli.verbs import FitSolver
from langevin.run.directory import load_model, open_run
from langevin.run.display import duration
from langevin.run.fitting import fit, request_of
from langevin.run.generate import changed
from langevin.run.solvers import Fitted, save
from langevin.training import machine
from langevin.user_function import CodePermission


def run(args: FitSolver) -> list[Fitted]:
    """Fit and store one solver for each number of steps, and print their errors next to those of other samplers.

    Raises:
        ValueError: options out of range, or a run whose process is not Gaussian."""
    check(args)
    line, begin = LiveLine(), time.perf_counter()
    run = open_run(args.run)
    code = CodePermission.of((), allow=args.allow_code)
    model, step = load_model(
        run, ema=args.ema, device=machine.device(), code=code, say=line.say, guidance=args.guidance
    )
    request = request_of(run, model, 2 * args.count)
    solvers: list[Fitted] = []
    for steps in dict.fromkeys(args.steps):
        sampling = changed(model, steps=steps).sampling
        fitted = fit(
            model.built, sampling, request.condition, shape=request.shape, count=args.count, fine=args.fine,
            seed=args.seed, ema=run.ema_length(args.ema), step=step, batch=args.batch,
            progress=line.progress(f"fitting {steps} steps, function evaluations"),
        )  # fmt: skip
        line.say(f"{steps} steps: {save(run.path, fitted)}")
        solvers.append(fitted)
    show(solvers)
    options = "".join(f" --{n} {v:g}" for n in ("guidance", "ema") if (v := getattr(args, n)) is not None)
    use = f"langevin sample {run.path} --sampler learned --steps {solvers[-1].steps}{options}"
    line.say(f"fitted in {duration(time.perf_counter() - begin)}: {use}")
    return solvers


def check(args: FitSolver) -> None:
    """Check the options before any work. Raises `ValueError` for one out of range."""
    if not args.steps or not all(2 <= n <= 32 for n in args.steps):
        raise ValueError(f"a fitted solver has 2 to 32 steps, got {', '.join(map(str, args.steps)) or 'none'}")
    if not 2 <= args.count <= 2**19:  # seeds of trajectories lie 2^20 apart
        raise ValueError(f"--count must be 2 to {2**19:,} trajectories, got {args.count}")
    if not 2 <= args.fine <= 1000:
        raise ValueError(f"--fine must be 2 to 1000 reference steps per step, got {args.fine}")
    check_batch(args.batch)
    check_guidance(args.guidance)
    if not 0 <= args.seed < 2**20:
        raise ValueError(f"--seed must lie between 0 and {2**20 - 1}, got {args.seed}")


def show(solvers: list[Fitted]) -> None:
    """Print the errors at equal numbers of function evaluations."""
    table = Table(
        title=f"distance from the ends of the reference trajectories, {solvers[0].trajectories} that were not fitted to",
        title_justify="left",
    )
    table.add_column("NFE", justify="right")
    for name in solvers[0].errors:
        table.add_column(name, justify="right")
    for fitted in solvers:
        table.add_row(str(fitted.steps), *(f"{error:.4f}" for error in fitted.errors.values()))
    Console().print(table)
