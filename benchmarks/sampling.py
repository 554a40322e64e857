"""What a sampler costs beside the network, here and in diffusers: microseconds a step, at 1, 16 and 64 requests.

Every request has its own number of steps and is at its own place, as in a server that takes requests at any time. One
state of ours holds them all and one `update` moves them; a scheduler of diffusers holds one trajectory, so n requests are
n schedulers, each stepping its own row. Both sides are given the network's answers, made before: for diffusers the noise,
with which `step` begins by estimating clean data; for us that estimate, which a denoiser makes. The columns 'with
denoiser' count that too: our `GaussianDenoiser` around a network that answers at once, against `scale_model_input` and
`step`. 'beyond data' is what an update costs beyond the multiplications and additions of whole rows that its formula needs
(and, where it draws, the normals): the price of knowing where every row is.

Rows of batches that lose or gain requests are taken and put back by `rows`, `put` and `stack`, which have a table of their
own; schedulers in a list have no such cost.
"""

import argparse
import copy
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import harness
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import DDIM, DPM2M, Ancestral, AnySampler, Euler, Heun, KarrasGrid, State, start
from langevin.diffusion.sampler.state import stack
from langevin.diffusion.schedule import VariancePreserving
from langevin.training import machine

PROCESS = Gaussian(schedule=VariancePreserving())
TICKS = 8  # steps that every request makes in a run
OURS: dict[str, AnySampler] = {
    "ddim": DDIM(),
    "euler": Euler(),
    "heun": Heun(),
    "dpm2m": DPM2M(),
    "ancestral": Ancestral(),
}
PEERS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "dpm2m": "DPMSolverMultistepScheduler",
    "ancestral": "DDPMScheduler",
}


def steps_of(request: int) -> int:
    """20 to 50 steps."""
    return 20 + 7 * request % 31


def place_of(request: int) -> int:
    """0 to 11 steps are behind it."""
    return 5 * request % 12


def begin(tool: AnySampler, rows: int, shape: tuple[int, ...], seed: int) -> State:
    """Requests at their places."""
    steps = torch.tensor([steps_of(i) for i in range(rows)])
    times = KarrasGrid()(steps, PROCESS.schedule)
    state = start(tool, PROCESS, torch.zeros(rows, *shape), times, seed + torch.arange(rows))
    for made in range(max(place_of(i) for i in range(rows))):
        behind = torch.tensor([i for i in range(rows) if place_of(i) > made])
        part = state.select(behind)
        state = state.scatter_samples(behind, tool.update(part, Point(torch.tanh(part.x)), PROCESS))
    return state


def our_run(tool: AnySampler, state: State, answer: Tensor, *, denoise: bool) -> Callable[[], None]:
    """Some steps of all rows, from the same state every time."""
    denoiser = GaussianDenoiser(network=lambda x, c_time, condition: answer, process=PROCESS, prediction="noise")
    q = Point(answer)

    def run() -> None:
        at = state
        for _ in range(TICKS):
            at = tool.update(at, denoiser(at.x, at.t) if denoise else q, PROCESS)

    return run


@dataclass
class Request:
    """One trajectory of a scheduler of diffusers."""

    scheduler: Any
    times: list[Tensor]
    x: Tensor
    answer: Tensor
    options: dict[str, Any]

    def step(self, tick: int, *, scale: bool = False) -> None:
        if scale:
            self.scheduler.scale_model_input(self.x, self.times[tick])
        told = self.scheduler.step(self.answer, self.times[tick], self.x, return_dict=False, **self.options)
        self.x = told[0]

    def again(self) -> "Request":
        """The same place again: what the scheduler changes is copied."""
        scheduler = copy.copy(self.scheduler)
        if hasattr(scheduler, "model_outputs"):
            scheduler.model_outputs = list(scheduler.model_outputs)
        return Request(scheduler, self.times, self.x, self.answer, self.options)


def peer_requests(name: str, answer: Tensor, seed: int) -> list[Request]:
    """Requests at their places, a scheduler each."""
    made: list[Request] = []
    for i in range(len(answer)):
        scheduler = getattr(harness.peer(), PEERS[name])()
        scheduler.set_timesteps(steps_of(i))
        options = {"generator": torch.Generator().manual_seed(seed + i)} if name == "ancestral" else {}
        row = answer[i : i + 1]
        request = Request(scheduler, list(scheduler.timesteps), row.clone(), row, options)
        scheduler.scale_model_input(row, scheduler.timesteps[0])  # else the first step complains, at length
        for tick in range(place_of(i)):
            request.step(tick)
        request.times = request.times[place_of(i) :]
        made.append(request)
    return made


def peer_run(requests: list[Request], *, scale: bool) -> tuple[Callable[[], list[Request]], Callable[..., None]]:
    """Fresh copies, which is not timed, and some steps of all of them, which is."""

    def run(copies: list[Request]) -> None:
        for tick in range(TICKS):
            for request in copies:
                request.step(tick, scale=scale)

    return lambda: [request.again() for request in requests], run


def floor_run(name: str, state: State) -> Callable[[], None]:
    """The arithmetic on whole rows alone, and the normals of a sampler that draws."""
    x = state.x
    c = torch.randn(len(x), *(1 for _ in x.shape[1:]))

    def run() -> None:
        for _ in range(TICKS):
            y = (c * x).addcmul_(c, x)
            if name == "ancestral":
                y.addcmul_(c, state.noise.normal(x))
            elif name in ("heun", "dpm2m"):
                y.addcmul_(c, x)

    return run


def microseconds(run: Callable[..., None], least: float, fresh: Callable[[], Any] | None = None) -> Callable[[], float]:
    """A run's microseconds a step: the mean over as many repeats as fill `least` seconds."""

    def once() -> float:
        given = () if fresh is None else (fresh(),)
        mark = time.perf_counter()
        run(*given)
        return time.perf_counter() - mark

    once()
    repeats = max(1, math.ceil(least / max(min(once(), once()), 1e-6)))
    return lambda: 1e6 * sum(once() for _ in range(repeats)) / (repeats * TICKS)


def compare(name: str, rows: int, shape: tuple[int, ...], asked: argparse.Namespace) -> dict[str, Any]:
    """Ours and diffusers' for one sampler and one number of requests."""
    tool, least = OURS[name], 0.002 if asked.quick else 0.02
    answer = torch.randn(rows, *shape, generator=torch.Generator().manual_seed(asked.seed))
    state, requests = begin(tool, rows, shape, asked.seed), peer_requests(name, answer, asked.seed)
    fresh, step = peer_run(requests, scale=False)
    _, scaled = peer_run(requests, scale=True)
    runs = {
        "ours": microseconds(our_run(tool, state, answer, denoise=False), least),
        "peer": microseconds(step, least, fresh),
        "our whole": microseconds(our_run(tool, state, answer, denoise=True), least),
        "peer whole": microseconds(scaled, least, fresh),
        "floor": microseconds(floor_run(name, state), least),
    }
    got = harness.interleave(runs, pairs=asked.pairs)
    median = {side: statistics.median(values) for side, values in got.items()}
    return {
        "sampler": name, "rows": rows, "us": median["ours"], "us_a_row": median["ours"] / rows,
        "peer_us": median["peer"], "beyond_data_us": statistics.median(
            a - b for a, b in zip(got["ours"], got["floor"], strict=True)
        ),
        "ratio": harness.ratio(got["ours"], got["peer"]),
        "whole_us": median["our whole"], "whole_ratio": harness.ratio(got["our whole"], got["peer whole"]),
        "spread": max(harness.spread(got["ours"]), harness.spread(got["peer"])),
    }  # fmt: skip


def handling(rows: int, shape: tuple[int, ...], asked: argparse.Namespace) -> dict[str, float]:
    """Microseconds of taking three quarters of the rows out of a batch, putting them back, and joining two batches."""
    tool = OURS["dpm2m"]
    state = begin(tool, rows, shape, asked.seed)
    live = torch.arange(rows)[torch.arange(rows) % 4 > 0] if rows > 1 else torch.arange(1)
    part, least = state.select(live), 0.002 if asked.quick else 0.02
    runs = {
        "rows": lambda: [state.select(live) for _ in range(TICKS)],
        "put": lambda: [state.scatter_samples(live, part) for _ in range(TICKS)],
        "stack": lambda: [stack([state, part]) for _ in range(TICKS)],
        "done": lambda: [bool(state.done.all()) for _ in range(TICKS)],
    }
    got = harness.interleave({n: microseconds(run, least) for n, run in runs.items()}, pairs=asked.pairs)
    return {name: statistics.median(values) for name, values in got.items()}


def parsed() -> argparse.Namespace:
    parser = harness.options(__doc__)
    parser.add_argument("--channels", type=int, choices=(1, 3), default=3, help="of the 32x32 data")
    parser.add_argument("--requests", type=int, nargs="+", default=[1, 16, 64], help="rows at once")
    return harness.parse(parser)


@torch.no_grad()
def main() -> None:
    asked = parsed()
    figures = harness.introduce(machine.describe(), asked)
    shape = (asked.channels, 32, 32)
    cells = [compare(name, rows, shape, asked) for name in OURS for rows in asked.requests]
    harness.show(
        f"microseconds a step beside the network, x of {shape}, float32, medians of {asked.pairs} runs",
        ["sampler", "rows", "ours", "a row", "beyond data", "diffusers", "ratio (range)", "with denoiser", "ratio (range)",
         "spread"],
        [
            [c["sampler"], c["rows"], c["us"], c["us_a_row"], c["beyond_data_us"], c["peer_us"], c["ratio"],
             c["whole_us"], c["whole_ratio"], f"{c['spread']:.0%}"]
            for c in cells
        ],
    )  # fmt: skip
    handled = {rows: handling(rows, shape, asked) for rows in asked.requests}
    harness.show(
        "microseconds of handling a batch's state: three quarters of its rows taken out and put back, two batches joined",
        ["rows", *next(iter(handled.values()))],
        [[rows, *took.values()] for rows, took in handled.items()],
    )
    samplers: dict[str, dict[str, Any]] = {name: {} for name in OURS}
    for c in cells:
        told = {
            "us": c["us"], "peer_us": c["peer_us"], "beyond_data_us": c["beyond_data_us"], "ratio": c["ratio"].median,
            "ratio_range": [c["ratio"].least, c["ratio"].greatest], "whole_ratio": c["whole_ratio"].median,
            "spread": c["spread"],
        }  # fmt: skip
        samplers[c["sampler"]] |= {f"{key}_{c['rows']}": value for key, value in told.items()}
    at_16 = {name: cell["ratio_16"] for name, cell in samplers.items() if "ratio_16" in cell}
    worst = max(at_16, key=lambda name: at_16[name]) if at_16 else None
    if worst:
        print(f"\nworst at 16 requests: {worst}, {at_16[worst]:.3g} of diffusers' time")
    harness.conclude(
        {
            "benchmark": "sampling", **figures, "samplers": samplers, "handling_us": handled,
            "worst_ratio_16": at_16[worst] if worst else None, "worst_sampler_16": worst,
        }
    )  # fmt: skip


if __name__ == "__main__":
    main()
