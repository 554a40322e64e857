"""Quality against network calls on a trained run: our samplers and diffusers', one network, equal seeds, equal knots.

Quality is the Fréchet distance to the training images in a space of `evaluate`'s, on the same samples' names for all; its
standard error is over random halves of the generated images, so differences between samplers, which share their
seeds, are surer than the errors of each. Beside it stands the root mean square distance from the end of a fine trajectory
of the flow, for what follows the flow. Numbers of steps are the most that fit into the calls.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import harness
import solver_peers
import solver_pictures
from langevin.diffusion.condition import Condition
from langevin.diffusion.guidance import weight_of, weighted
from langevin.diffusion.sampler import DPM2M, Sampler, sample, start
from langevin.diffusion.sampling import Sampling
from langevin.diffusion.schedule import rho, time_of_rho
from langevin.evaluation.frechet import Moments, frechet_distance
from langevin.modalities.image.measure import REAL, feature_spaces
from langevin.modalities.modality import Measuring, spread
from langevin.recipe.build import Built, guided
from langevin.recipe.sampling import parse_sampler
from langevin.run.directory import load_model, open_run
from langevin.run.fitting import fit, request_of

OURS = ("ddim", "dpm2m", "dpm3m", "ipndm", "exponential", "unipc", "heun", "learned", "dpm2m eta=1", "ancestral")
NOISY = ("dpm2m eta=1", "ancestral")
LOOSE = solver_peers.LOOSE
# DEIS is not here: on knots that end at 0 it takes the logarithm of 0, and all that it gives is not a number
PEERS: dict[str, solver_peers.Scheduler] = {
    "diffusers Euler": solver_peers.Scheduler(name="EulerDiscreteScheduler", face="ve", declared=1, options=LOOSE),
    "diffusers Heun": solver_peers.Scheduler(
        name="HeunDiscreteScheduler", face="ve", declared=2, options=LOOSE, questions=2
    ),
    "diffusers DPM++ 2M": solver_peers.Scheduler(name=solver_peers.DPM, face="vp", declared=2, options=LOOSE),
    "diffusers DPM++ 3M": solver_peers.Scheduler(
        name=solver_peers.DPM, face="vp", declared=3, options={**LOOSE, "solver_order": 3}
    ),
    "diffusers UniPC 2": solver_peers.Scheduler(name=solver_peers.UNIPC, face="vp", declared=3, options=LOOSE),
}
FITTED = 24  # calls up to which a solver is fitted
FEW = 16  # trajectories to fit to
RESAMPLES = 100


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The parts that all cells share: a run's network under its guidance, and the rows that every sampler draws."""

    built: Built
    sampling: Sampling
    shape: tuple[int, ...]
    seeds: Tensor
    condition: Condition | None
    taught: Condition | None  # of the samples that a solver is fitted to
    batch: int
    ours: tuple[str, ...]
    peers: dict[str, solver_peers.Scheduler]

    def parts(self) -> Iterator[tuple[Tensor, Condition | None]]:
        """(seeds, condition) of some rows at once."""
        for rows in torch.arange(len(self.seeds)).split(self.batch):
            condition = None if self.condition is None else self.condition.select(rows)
            yield self.seeds[rows], weighted(condition, self.sampling.guidance, len(rows))

    def times(self, steps: int, rows: int) -> Tensor:
        return self.sampling.grid(torch.full((rows,), steps), self.built.model.process.schedule)

    def walk(self, tool: Sampler, steps: int) -> tuple[Tensor, int]:
        """What a sampler of ours draws, and its network calls."""
        drawn, calls = [], 0
        for seeds, condition in self.parts():
            like = torch.zeros(len(seeds), *self.shape)
            state = start(tool, self.built.model.process, like, self.times(steps, len(seeds)), seeds)
            calls = int(state.num_calls.max())
            for after in sample(tool, self.built.model.process, guided(self.built, self.sampling), state, condition):
                state = after
            drawn.append(state.x)
        return torch.cat(drawn), calls

    def steps(self, tool: Sampler, calls: int) -> int | None:
        """The most steps that take no more than `calls`."""
        for n in range(calls, 0, -1):
            state = start(tool, self.built.model.process, torch.zeros(1, 1), self.times(n, 1), torch.zeros(1).long())
            if int(state.num_calls.max()) <= calls:
                return n
        return None

    def peer(self, peer: solver_peers.Scheduler, calls: int) -> tuple[Tensor, int]:
        """What a scheduler of diffusers draws from the same starts, on the same knots and told by the same network."""
        schedule, drawn = self.built.model.process.schedule, []
        steps = calls if peer.questions == 1 else (calls + 1) // 2
        for seeds, condition in self.parts():
            times = self.times(steps, len(seeds))
            like = torch.zeros(len(seeds), *self.shape)
            begun = start(DPM2M(), self.built.model.process, like, times, seeds)
            y = begun.x / schedule.alpha(times[0, 0]).float()
            drawn.append(drive(peer, rho(schedule, times[0]), y, self.clean(condition)))
        return torch.cat(drawn), steps if peer.questions == 1 else 2 * steps - 1

    def clean(self, condition: Condition | None) -> solver_peers.Clean:
        """D(y, rho) of the network."""
        schedule, denoiser = self.built.model.process.schedule, guided(self.built, self.sampling)

        def answer(y: Tensor, level: Tensor) -> Tensor:
            t = time_of_rho(schedule, level.double().reshape(1)).expand(len(y))
            return denoiser((y * schedule.alpha(t[0])).float(), t, condition).mean

        return answer


def drive(peer: solver_peers.Scheduler, knots: Tensor, y: Tensor, clean: solver_peers.Clean) -> Tensor:
    """A scheduler as it ships, but for its knots, which end at 0: there both its state and ours are clean data."""
    scheduler, n = peer.make(), len(knots) - 1
    scheduler.set_timesteps(n)
    scheduler.set_begin_index(0)
    levels = knots
    if peer.questions == 2:
        levels = torch.cat([knots[:1], knots[1:-1].repeat_interleave(2), knots[-1:]])
    scheduler.sigmas = levels.float()
    if hasattr(scheduler, "is_scale_input_called"):
        scheduler.is_scale_input_called = True
    x = solver_peers.outward(peer.face, y.double(), levels[0]).float()
    for i, level in enumerate(levels[:-1]):
        now = solver_peers.inward(peer.face, x.double(), level)
        said = solver_peers.told(scheduler, peer.face, now, level, clean).float()
        x = scheduler.step(said, scheduler.timesteps[i], x, return_dict=False)[0]
    return x


def absent(asked: argparse.Namespace) -> str | None:
    """Why there is nothing to measure, if so."""
    if not asked.run:
        return (
            "quality against calls is skipped: give a trained run of images by --run RUN, and its data by --data FOLDER"
        )
    if not (Path(asked.run) / "recipe.yaml").is_file():
        return f"quality against calls is skipped: there is no run at {asked.run}; `langevin train image/cifar10` makes one"
    if asked.data and not Path(asked.data).exists():
        return f"quality against calls is skipped: there is no data at {asked.data}"
    return None


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """All cells of samplers and calls, as a table, a plot and a picture."""
    made = open_run(Path(asked.run))
    if asked.data:
        made = replace(made, recipe=replace(made.recipe, data=replace(made.recipe.data, path=asked.data)))
    model, step = load_model(made)
    train, val = made.open_data()
    if asked.quick:
        asked.samples, asked.calls = 16, [3, 5]
    count = asked.samples
    bench = Bench(
        built=model.built, sampling=made.recipe.sampling, shape=tuple(train.shape), batch=128,
        seeds=torch.arange(count) + 2_000_000, condition=request_of(made, model, count).condition,
        taught=request_of(made, model, 2 * FEW).condition, ours=tuple(n for n in OURS if chosen(asked, n)),
        peers={n: peer for n, peer in PEERS.items() if chosen(asked, n)},
    )  # fmt: skip
    space, real, floor = judged(asked, made, model, train, val)
    fine, _ = bench.walk(DPM2M(), 12 if asked.quick else 60)
    ideal, error = distance(space, made.recipe.data.codec.decode(fine), real)
    about = {"run": made.recipe.name, "step": step, "samples": count, "space": asked.space, "floor": floor}
    about |= {"fine": ideal, "fine_error": error, "guidance": weight_of(made.recipe.sampling.guidance)}
    cells: list[dict[str, Any]] = []
    for calls in asked.calls:  # each row takes as long as all before it: what there is is shown
        cells += row(bench, calls, step, fine, space, real)
        report(asked, about, cells)
    for cell in cells:
        cell.pop("images")
    return {**about, "cells": cells}


def chosen(asked: argparse.Namespace, name: str) -> bool:
    """Whether a sampler is asked for, by all or a part of its name."""
    return not asked.samplers or any(part in name for part in asked.samplers)


def judged(asked: argparse.Namespace, made: Any, model: Any, train: Any, val: Any) -> tuple[Any, Moments, float]:
    """(features, the moments of real images, what as many validation images score)."""
    image = made.recipe.data
    image = image if asked.space == "classifier" else replace(image, classes=())  # spares training it
    measuring = Measuring(
        model=model, train=train, val=val, folder=made.path / "evaluation", facts=made.facts, say=print,
        load=lambda path: load_model(open_run(path))[0],
    )  # fmt: skip
    with torch.enable_grad():  # the classifier is trained where there is none yet
        spaces = feature_spaces(image, measuring).spaces
    if asked.space not in spaces:
        raise SystemExit(f"--space {asked.space}: this run has {', '.join(spaces)}")
    space = spaces[asked.space]
    real = Moments.of(space(train.read(spread(len(train), REAL))))
    other = space(val.read(spread(len(val), asked.samples)))
    return space, real, frechet_distance(real, Moments.of(other))


def row(
    bench: Bench, calls: int, step: int, fine: Tensor, space: Callable[[Tensor], Tensor], real: Moments
) -> Iterator[dict[str, Any]]:
    """The cells of one number of calls."""
    for name in bench.ours:
        begun = time.perf_counter()
        if name == "learned":
            if calls > FITTED:
                continue
            tool, n = fitted(bench, calls, step), calls
        else:
            tool = parse_sampler(name, bench.built.model.process)
            n = bench.steps(tool, calls)
        if n is None:
            continue
        yield cell(bench, f"ours {name}", *bench.walk(tool, n), fine, space, real, begun, flow=name not in NOISY)
    for name, peer in bench.peers.items():
        begun = time.perf_counter()
        yield cell(bench, name, *bench.peer(peer, calls), fine, space, real, begun, flow=True)


def fitted(bench: Bench, calls: int, step: int) -> Sampler:
    """A solver of so many calls, fitted to the run as `langevin fit-solver` does."""
    sampling = replace(bench.sampling, steps=calls)
    return fit(
        bench.built,
        sampling,
        bench.taught,
        shape=bench.shape,
        count=FEW,
        fine=max(2, 60 // calls),
        ema=bench.sampling.ema,
        step=step,
    ).solver


def cell(
    bench: Bench, name: str, x: Tensor, calls: int, fine: Tensor, space: Any, real: Moments, begun: float, *, flow: bool
) -> dict[str, Any]:
    images = bench.built.recipe.data.codec.decode(x.float())
    value, error = distance(space, images, real)
    far = float((x - fine).square().mean().sqrt()) if flow else None
    print(f"{name}, {calls} calls: {value:.3f} +- {error:.3f}, far {short(far)}", flush=True)
    seconds = time.perf_counter() - begun
    return {
        "sampler": name,
        "calls": calls,
        "fd": value,
        "error": error,
        "far": far,
        "seconds": seconds,
        "images": images,
    }


def distance(space: Callable[[Tensor], Tensor], images: Tensor, real: Moments) -> tuple[float, float]:
    """The Fréchet distance, and its standard error by half-sampling.

    Resampling with replacement would add the bias of repeated images. Halves are drawn without: half as many images have
    twice the variance, and half of that is left when the whole is given, so their spread is the error of the whole."""
    features = space(images)
    generator = torch.Generator().manual_seed(0)
    halves = []
    for _ in range(RESAMPLES // 10 if len(images) < 64 else RESAMPLES):
        chosen = torch.randperm(len(images), generator=generator)[: len(images) // 2]
        halves.append(frechet_distance(real, Moments.of(features[chosen])))
    return frechet_distance(real, Moments.of(features)), float(torch.tensor(halves, dtype=torch.float64).std())


def report(asked: argparse.Namespace, about: dict[str, Any], cells: list[dict[str, Any]]) -> None:
    """The table; with --pictures also the plot and the samples."""
    names = list(dict.fromkeys(c["sampler"] for c in cells))
    at = {(c["sampler"], calls_of(asked, c)): c for c in cells}

    def shown(name: str, calls: int) -> list[str]:
        c = at.get((name, calls))
        return [f"{c['fd']:.3f} ± {c['error']:.3f}", short(c["far"])] if c else ["-", "-"]

    head = ["sampler", *(h for calls in asked.calls for h in (f"FD at {calls}", "far"))]
    harness.show(
        f"FD in {about['space']} features, {about['samples']} samples, guidance {about['guidance']:g}; a fine trajectory "
        f"{about['fine']:.3f} ± {about['fine_error']:.3f}, real against real {about['floor']:.3f}; far: distance from it",
        head, [[name, *(s for calls in asked.calls for s in shown(name, calls))] for name in names],
    )  # fmt: skip
    if asked.pictures:
        solver_pictures.quality(about, cells, Path(asked.pictures) / "solvers-quality.png")
        solver_pictures.sheet(asked.calls[:2], at, names, Path(asked.pictures) / "solvers-samples.png")


def short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def calls_of(asked: argparse.Namespace, c: dict[str, Any]) -> int:
    """The column that a cell belongs to: the least number asked for that holds its calls."""
    return min(n for n in asked.calls if n >= c["calls"])
