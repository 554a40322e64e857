"""`langevin solver`: fit solvers of a few steps to a run, and keep them with it."""

import math
import time
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from langevin.cli.show import LiveLine, counting, duration
from langevin.cli.verbs import Solver
from langevin.run.directory import open_run
from langevin.run.fitting import condition_of, fit
from langevin.run.generate import with_options
from langevin.run.solvers import Fitted, save
from langevin.training import machine


def run(asked: Solver) -> list[Fitted]:
    """Fit one solver for each number of steps, keep them, and show their errors beside those of others.

    Raises:
        ValueError: options that make no sense, or a run that has no such solvers."""
    if not asked.steps or asked.count < 2 or asked.batch < 1 or not 2 <= asked.fine <= 1000:
        raise ValueError(
            f"fitting takes one or more --steps, a --count of 2 or more, a --batch of 1 or more and --fine 2 to 1000, got "
            f"{asked.steps}, {asked.count}, {asked.batch} and {asked.fine}"
        )
    if not all(2 <= n <= 32 for n in asked.steps):
        raise ValueError(f"a fitted solver makes 2 to 32 steps, got {', '.join(map(str, asked.steps))}")
    if asked.guidance is not None and not math.isfinite(asked.guidance):
        raise ValueError(f"--guidance must be a finite number (1 is none, 1.5 to 3 usual), got {asked.guidance}")
    if not 0 <= asked.seed < 2**20:
        raise ValueError(f"--seed must lie between 0 and {2**20 - 1}, got {asked.seed}")
    line, begin = LiveLine(), time.perf_counter()
    made = open_run(asked.run)
    built, step, complaints = made.load(average=asked.average, device=machine.device())
    for text in complaints:
        line.say(text)
    built = replace(built, recipe=made.recipe)
    condition = condition_of(made, built, 2 * asked.count)
    found: list[Fitted] = []
    for steps in dict.fromkeys(asked.steps):
        sampling = with_options(made.recipe.sampling, steps=steps, guidance=asked.guidance)
        with counting(f"fitting {steps} steps, network calls") as progress:
            fitted = fit(
                built, sampling, condition, shape=tuple(made.facts["shape"]), count=asked.count, fine=asked.fine,
                seed=asked.seed, average=made.width(asked.average), step=step, batch=asked.batch, progress=progress,
            )  # fmt: skip
        line.say(f"{steps} steps: {save(made.path, fitted)}")
        found.append(fitted)
    show(found)
    same = "".join(f" --{n} {v:g}" for n in ("guidance", "average") if (v := getattr(asked, n)) is not None)
    use = f"langevin sample {made.path} --sampler learned --steps {found[-1].steps}{same}"
    line.say(f"fitted in {duration(time.perf_counter() - begin)}: {use}")
    return found


def show(found: list[Fitted]) -> None:
    """Errors at equal network calls."""
    table = Table(
        title=f"distance from the fine trajectories' ends, {found[0].trajectories} that were not fitted to",
        title_justify="left",
    )
    table.add_column("network calls", justify="right")
    for name in found[0].errors:
        table.add_column(name, justify="right")
    for fitted in found:
        table.add_row(str(fitted.steps), *(f"{error:.4f}" for error in fitted.errors.values()))
    Console().print(table)
