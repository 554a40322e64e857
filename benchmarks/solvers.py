"""Error against steps and the measured order of samplers: ours, diffusers' and k-diffusion's, on one exact score.

The law is the mixture on the line of `tests/exact.py`, whose flow keeps quantiles, F_s(x_s) = F_t(x_t), in closed form;
the parts are those of `tests/laws/parts.py`. Everything is float64 and in canonical coordinates, y = x / alpha and rho =
sigma / alpha, where all schedules are one, and every grid ends at a noise level above 0, where log-SNR is finite. Errors
are root mean squares over starts from the 3% to the 97% quantile; an order is the slope over 256, 512 and 1024 steps.

With a trained run (`--run`, `--data`) the last part is quality against network calls; see `solver_quality`. `--only` makes
one part alone.

k-diffusion is looked for where Python looks, or in a folder: `pip install --no-deps --target FOLDER k-diffusion`. Only its
sampling module is loaded; without it the benchmark says so and goes on.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import harness
import solver_peers
import solver_pictures
import solver_quality
import solver_shipped
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import AnySampler, BogackiShampine, KarrasGrid, LogSNR, UniformTimeGrid, sample, start
from langevin.diffusion.sampler.state import stack
from langevin.diffusion.schedule import VariancePreserving, rho
from langevin.training import machine

sys.path.append(str(Path(__file__).parents[1]))
exact, parts, bounds = (importlib.import_module(f"tests.{name}") for name in ("exact", "laws.parts", "laws.bounds"))

GRIDS = {
    "rho-7": KarrasGrid(low=0.02, high=20.0, to_zero=False),
    "log-SNR": LogSNR(low=0.02, high=20.0, to_zero=False),
    "uniform": UniformTimeGrid(low=0.3, high=10.0, to_zero=False),
}
COUNTS = (8, 16, 32, 64, 128, 256, 512, 1024)
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
LATTICE = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 25, 50, 100, 200)
WINDOW, ROUNDED = (250, 1024), (120, 512)
QUANTILES = torch.linspace(0.03, 0.97, 16, dtype=torch.float64)


@dataclass(frozen=True)
class Canonical:
    """alpha = 1, sigma = t."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return t


LAW = exact.Mixture(schedule=Canonical())


def clean(y: Tensor, level: Tensor) -> Tensor:
    """D(y, rho) of rows (1, places), in the type of y."""
    return LAW(y.double(), level.double().reshape(1)).mean.to(y.dtype)


def quantile(level: Tensor) -> Tensor:
    """The starts and their images along the flow, (1, places)."""
    return LAW.quantile(QUANTILES[None], level.double().reshape(1))


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Errors of a sampler on a grid, by steps, with the calls that they took."""

    steps: tuple[int, ...]
    calls: tuple[int, ...]
    errors: tuple[float, ...]

    def order(self, low: int, high: int) -> float | None:
        """The slope over the steps from `low` to `high`; None where an error is not finite or there are too few."""
        kept = [(n, e) for n, e in zip(self.steps, self.errors, strict=True) if low <= n <= high]
        if len(kept) < 2 or not all(0 < e < float("inf") for _, e in kept):
            return None
        n, e = torch.tensor(kept, dtype=torch.float64).unbind(1)
        return bounds.slope(n, e)


def walk(tool: AnySampler, schedule: Any, counts: Sequence[int]) -> dict[str, Curve]:
    """Ours, on all grids and numbers of steps at once, a row each."""
    process, steps = Gaussian(schedule=schedule), torch.tensor(counts)
    data = exact.Mixture(schedule=schedule)
    states = []
    for grid in GRIDS.values():
        times, like = grid(steps, schedule), torch.zeros(len(counts), len(QUANTILES), dtype=torch.float64)
        x = data.quantile(QUANTILES.expand_as(like), times[:, 0])
        states.append(start(tool, process, like, times, torch.arange(len(counts)), x=x))
    state = stack(states)
    for after in sample(tool, process, data, state):
        state = after
    alpha = schedule.alpha(state.times[:, -1])[:, None]
    want = data.quantile(QUANTILES.expand_as(state.x), state.times[:, -1])
    errors = ((state.x - want) / alpha).square().mean(1).sqrt().reshape(len(GRIDS), -1).tolist()
    calls = state.num_calls.reshape(len(GRIDS), -1).tolist()
    return {
        name: Curve(steps=tuple(counts), calls=tuple(c), errors=tuple(e))
        for name, c, e in zip(GRIDS, calls, errors, strict=True)
    }


def adaptive(schedule: Any) -> Curve:
    """Error against calls as the tolerance falls; `steps` are calls here, over three, which a step takes."""
    errors, calls = [], []
    for tolerance in TOLERANCES:
        tool = BogackiShampine(tolerance=tolerance)
        curve = walk(tool, schedule, (1,))["log-SNR"]
        errors.append(curve.errors[0])
        calls.append(curve.calls[0])
    return Curve(steps=tuple(c // 3 for c in calls), calls=tuple(calls), errors=tuple(errors))


def peer_curves(run: solver_peers.Run, counts: Sequence[int], every: int = 1) -> dict[str, Curve]:
    """A peer's, one run after another; its numbers of steps are multiples of `every`."""
    schedule, found = VariancePreserving(), {}
    for name, grid in GRIDS.items():
        steps = tuple(n - n % every for n in counts)
        errors, calls = [], []
        for n in steps:
            knots = rho(schedule, grid(torch.tensor([n]), schedule)[0])
            y, asked = run(knots, quantile(knots[0]))
            errors.append(solver_shipped.rms(y.double(), quantile(knots[-1])))
            calls.append(asked)
        found[name] = Curve(steps=steps, calls=tuple(calls), errors=tuple(errors))
    return found


def rounded(data: Any) -> Any:
    """The exact denoiser, its answers in the type that it is asked in."""
    return lambda x, t, condition=None: Point(data(x, t).mean.to(x.dtype))


def nonfinite(steps: Sequence[int], schedules: Sequence[str]) -> dict[str, int]:
    """Cells of ours that do not end at t = 0 in finite numbers: schedules, grids, samplers, steps; float32."""
    bad = cells = 0
    for schedule in (parts.SCHEDULES[name] for name in schedules):
        process, data = Gaussian(schedule=schedule), exact.Mixture(schedule=schedule)
        times = torch.cat([grid(torch.tensor(steps), schedule) for grid in parts.GRIDS.values()])
        like, seeds = torch.zeros(len(times), 2), torch.arange(len(times))
        for tool in parts.SAMPLERS.values():
            state = start(tool, process, like, times, seeds)
            for after in sample(tool, process, rounded(data), state):
                state = after
            bad += int((~(state.x.isfinite().all(1) & (state.t == 0))).sum())
            cells += len(times)
    return {"cells": cells, "nonfinite": bad}


def short(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def row(name: str, declared: int | None, curves: dict[str, Curve], low: int, high: int) -> list[object]:
    """A line of a table: errors on rho-7 at three numbers of steps, and the order on each grid."""
    first = dict(zip(COUNTS, curves["rho-7"].errors, strict=False))
    at = [first.get(n) for n in (16, 64, 256)]
    orders = [short(curve.order(low, high), ".2f") for curve in curves.values()]
    return [name, declared, *(short(e, ".1e") for e in at), *orders]


HEAD = ["sampler", "order", "at 16 steps", "64", "256", *(f"on {name}" for name in GRIDS)]


def ours(asked: argparse.Namespace, counts: Sequence[int]) -> tuple[dict[str, dict[str, Curve]], dict[str, Any]]:
    """Curves on the variance-preserving schedule, and how far the order falls short on any schedule and grid."""
    base, rest = VariancePreserving(), [] if asked.quick else list(parts.SCHEDULES.values())
    curves, rows, found, missing = {}, [], {}, {}
    low, high = WINDOW
    for name in parts.FLOWS:
        declared = parts.SAMPLERS[name].convergence_order
        curves[name] = walk(parts.SAMPLERS[name], base, counts)
        orders = [c.order(low, high) for c in curves[name].values()]
        for schedule in rest:
            tool = parts.SAMPLERS[name]
            orders += [c.order(low, high) for c in walk(tool, schedule, counts[-3:]).values()]
        measured = [o for o in orders if o is not None]
        found[name] = {"declared": declared, "orders": orders[:3], "least": min(measured, default=None)}
        if measured:
            missing[name] = max(0.0, declared - min(measured))
        at = curves[name]["rho-7"]
        extra = at.calls[-1] - (at.steps[-1] * (2 if at.calls[-1] > 1.9 * at.steps[-1] else 1))
        rows.append([*row(name, declared, curves[name], low, high), short(found[name]["least"], ".2f"), extra])
    title = (
        "ours: error on the rho-7 grid, order over 256 to 1024 steps, the least over all schedules, calls at the start"
    )
    harness.show(title, [*HEAD, "least", "more calls"], rows)
    return curves, {"orders": found, "worst_order_error": max(missing.values(), default=None)}


def peers(asked: argparse.Namespace, module: ModuleType | None, counts: Sequence[int]) -> dict[str, dict[str, Curve]]:
    """Curves of diffusers and of k-diffusion, on our knots."""
    runs = {
        f"diffusers {name}": (solver_peers.scheduler_run(peer, clean), peer.declared, peer.every, peer.rounds)
        for name, peer in solver_peers.SCHEDULERS.items()
    }
    if module is not None:
        for name, (_, _, declared, _) in solver_peers.SAMPLERS.items():
            runs[f"k-diffusion {name}"] = (solver_peers.k_run(module, name, clean), declared, 1, False)
    curves, rows = {}, []
    for name, (run, declared, every, rounds) in runs.items():
        curves[name] = peer_curves(run, counts, every)
        low, high = ROUNDED if rounds else WINDOW
        rows.append(row(name + (" *" if rounds else ""), declared, curves[name], low, high))
    harness.show("peers on the same knots (* casts its state to float32: order over 128 to 512 steps)", HEAD, rows)
    return curves


def as_shipped(asked: argparse.Namespace, module: ModuleType | None) -> dict[str, Any]:
    """Errors that do not fall, and cells that are not finite."""
    counts = (10, 20, 40) if asked.quick else (10, 20, 40, 80, 160, 320, 640)
    ddim = {
        f"DDIM {spacing}": [solver_shipped.ddim_error(spacing, n, clean, quantile) for n in counts]
        for spacing in ("leading", "linspace", "trailing")
    }
    third = {"solver_order": 3, "use_karras_sigmas": True}
    shape = (solver_peers.DEIS, "vp", third)
    ddim["DEIS 3, karras"] = [solver_shipped.shipped(*shape, n, clean, quantile) for n in counts]
    title = "diffusers on its own knots, error"
    harness.show(title, ["", *map(str, counts)], [[n, *(f"{e:.1e}" for e in errors)] for n, errors in ddim.items()])
    steps = (5, 20) if asked.quick else solver_shipped.STEPS
    cells = {"diffusers": solver_shipped.diffusers_cells(clean, quantile, steps)}
    if module is not None:
        cells["k-diffusion"] = solver_shipped.k_cells(module, clean, quantile, steps)
    for name, found in cells.items():
        print(f"\n{name}: {found['nonfinite']} of {found['cells']} cells are not finite, by {listed(found['of'])}")
        if found["raised"]:
            print(f"{name}: {sum(found['raised'].values())} cells raise, by {listed(found['raised'])}")
    return {"steps": counts, "errors": ddim, **cells}


def listed(counts: dict[str, int]) -> str:
    return "; ".join(f"{where}: {n}" for where, n in counts.items()) or "none"


def parsed() -> argparse.Namespace:
    parser = harness.options(__doc__)
    parser.add_argument("--k-diffusion", metavar="FOLDER", help="the folder that it was installed into")
    parser.add_argument(
        "--pictures", metavar="FOLDER", help="the folder to draw the two pictures of docs/solvers.md into"
    )
    parser.add_argument("--run", metavar="RUN", help="a trained run of images, for quality against network calls")
    parser.add_argument("--data", metavar="FOLDER", help="the data of that run, where it is not where its recipe says")
    parser.add_argument("--samples", type=int, default=500, help="of each sampler, for that")
    parser.add_argument("--calls", type=int, nargs="+", default=[5, 10, 20, 40], help="network calls, for that")
    parser.add_argument(
        "--space", default="classifier", help="of evaluate's features, for that; a classifier is trained once"
    )
    parser.add_argument(
        "--samplers", nargs="+", metavar="NAME", help="those alone whose names hold one of these, for that"
    )
    parser.add_argument("--only", choices=("orders", "quality"), help="one part alone")
    asked = harness.parse(parser)
    asked.calls = sorted(set(asked.calls))
    if asked.calls[0] < 2 or asked.samples < 16:
        parser.error(f"--calls are at least 2 and --samples at least 16, got {asked.calls} and {asked.samples}")
    return asked


@torch.no_grad()
def main() -> None:
    asked = parsed()
    figures = harness.introduce(machine.describe(), asked)
    harness.peer().utils.logging.set_verbosity_error()
    measured = {} if asked.only == "quality" else orders(asked)
    why = "quality against calls was not asked for" if asked.only == "orders" else solver_quality.absent(asked)
    if why:
        print(f"\n{why}")
    else:
        measured["quality"] = solver_quality.measure(asked)
    harness.conclude({"benchmark": "solvers", **figures, **measured})


def orders(asked: argparse.Namespace) -> dict[str, Any]:
    """Errors, orders and cells that are not finite, ours and the peers'."""
    counts = COUNTS[:3] if asked.quick else COUNTS
    module = solver_peers.k_diffusion(asked.k_diffusion)
    if module is None:
        print("k-diffusion is not here: pip install --no-deps --target FOLDER k-diffusion, then --k-diffusion FOLDER")
    curves, told = ours(asked, counts)
    paced = adaptive(VariancePreserving())
    rows = [[f"{t:g}", c, f"{e:.1e}"] for t, c, e in zip(TOLERANCES, paced.calls, paced.errors, strict=True)]
    harness.show("adaptive: error by tolerance", ["tolerance", "calls", "error"], rows)
    lattice = nonfinite((1, 2, 20), ["rectified"]) if asked.quick else nonfinite(LATTICE, list(parts.SCHEDULES))
    print(f"\nours: {lattice['nonfinite']} of {lattice['cells']} cells are not finite, at {LATTICE} steps")
    others = peers(asked, module, counts)
    shipped = as_shipped(asked, module)
    if asked.pictures:
        solver_pictures.draw(curves | {"adaptive": {"log-SNR": paced}}, others, shipped, Path(asked.pictures))
    measured = {name: {grid: curve.order(*WINDOW) for grid, curve in found.items()} for name, found in others.items()}
    return {
        "nonfinite": lattice["nonfinite"], "cells": lattice["cells"], **told,
        "adaptive": {"calls": paced.calls, "errors": paced.errors}, "peers": {"orders": measured, "shipped": shipped},
    }  # fmt: skip


if __name__ == "__main__":
    main()
