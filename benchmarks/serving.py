"""Serving: how long requests wait under five scheduling policies of the same engine, for the same model and trace.

    python benchmarks/serving.py

Requests arrive at random, 80 % short (4 to 16 steps) and 20 % long (32 to 64), of five samplers, with guidance and without,
in two sizes. In the middle of the trace they come four times as fast, and a tenth of the clients leave half-way. Policies:

    fifo                one request at a time
    whole_requests      requests with equal sampler, steps and guidance that wait together run together
    step_batching       requests join at any step if sampler and guidance are those of the batch, in order of arrival
    continuous          requests of any sampler, guidance and number of steps join, in order of arrival
    shortest_remaining  the same, and those with the least work left go first, less a credit for their age

Every policy serves the trace in real time, at several loads; 1 is what can just be served one by one. Then all serve a part
of it reproducibly, and the outputs must be the same to the bit. The network has random weights: what it draws does not
matter here. Further figures: what the engine costs a step beside the network, and how long /healthz takes meanwhile.
"""

import dataclasses
import hashlib
import http.client
import os
import random
import socket
import statistics
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

import torch
import uvicorn

import harness
from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.guidance import ClassifierFreeGuidance
from langevin.diffusion.posterior import Point
from langevin.diffusion.sampler import DDIM, DPM2M, Ancestral, Heun, UniPC
from langevin.modalities.modality import Plan
from langevin.modalities.plans import one_draw
from langevin.recipe.build import build
from langevin.recipe.complete import complete
from langevin.recipe.read import check, merge, read_tree
from langevin.run.generate import RunModel
from langevin.server.app import create
from langevin.server.runs import Runs
from langevin.server.service import Service
from langevin.server.store import Store
from langevin.serving.engine import Engine
from langevin.serving.policy import (
    AnyPolicy,
    ContinuousBatching,
    FirstInFirstOut,
    ShortestRemaining,
    StepBatching,
    WholeRequests,
)
from langevin.serving.ticket import Event, Preview, Progress, Ticket
from langevin.training import machine

POLICIES: tuple[AnyPolicy, ...] = (
    FirstInFirstOut(), WholeRequests(), StepBatching(), ContinuousBatching(), ShortestRemaining()
)  # fmt: skip
SAMPLERS = (DDIM(), DPM2M(), Heun(), UniPC(), Ancestral())
SIZES = (16, 24)
NETWORK = {"kind": "unet", "width": 32, "channel_mult": [1, 2], "blocks": 1, "attention": [], "dropout": 0.0}
SHORT, LONG = (4, 16), (32, 64)  # steps
DEADLINE = 2.0  # seconds within which a short request is of use


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """A request of the trace; `at` is in seconds, and `leaves` says that the client goes half-way."""

    at: float
    steps: int
    sampler: Any
    weight: float
    size: int
    seed: int
    leaves: bool

    @property
    def short(self) -> bool:
        return self.steps <= SHORT[1]


@dataclasses.dataclass(kw_only=True)
class Served:
    """What became of a request; times in seconds from its arrival."""

    wanted: Wanted
    latency: float | None = None
    preview: float | None = None
    after_leaving: int = 0


def model_of(asked: Namespace) -> RunModel:
    """A model of random weights that draws images of any size."""
    tree = merge(
        read_tree("image/digits"), {"network": NETWORK, "training": {"seed": asked.seed, "precision": "float32"}}
    )
    tree["network"] = NETWORK
    recipe = check(tree)
    recipe = complete(recipe, recipe.data.open()[0])
    built = build(recipe)
    built.model.network.eval()
    return RunModel(built=built, sampling=recipe.sampling)


def trace_of(count: int, rate: float, seed: int) -> list[Wanted]:
    """Requests with exponential gaps; the middle fifth comes four times as fast."""
    draw, now, found = random.Random(seed), 0.0, list[Wanted]()
    for i in range(count):
        burst = 4.0 if 2 * count // 5 <= i < 3 * count // 5 else 1.0
        now += draw.expovariate(rate * burst)
        low, high = SHORT if draw.random() < 0.8 else LONG
        found.append(
            Wanted(
                at=now, steps=draw.randint(low, high), sampler=draw.choice(SAMPLERS), weight=draw.choice((1.0, 1.5, 3.0)),
                size=draw.choice(SIZES), seed=i, leaves=draw.random() < 0.1,
            )
        )  # fmt: skip
    return found


def plan_of(model: RunModel, wanted: Wanted) -> Plan:
    sampling = dataclasses.replace(
        model.sampling, sampler=wanted.sampler, steps=wanted.steps,
        guidance=(ClassifierFreeGuidance(weight=wanted.weight),),
    )  # fmt: skip
    return one_draw(
        model.modality, shape=(1, wanted.size, wanted.size), seeds=torch.tensor([wanted.seed]), sampling=sampling,
        condition=Condition(global_=Port(tensor=torch.tensor([wanted.seed % 10]))),
    )  # fmt: skip


def warmed(engine: Engine, model: RunModel) -> Engine:
    """The engine, started, with what it learns of the cost of calls from batches of several sizes."""
    engine.start()
    for size in SIZES:
        for count in (1, 4, 8, 2):
            many = [
                Wanted(at=0, steps=3, sampler=DDIM(), weight=1.0, size=size, seed=i, leaves=False) for i in range(count)
            ]
            for ticket in [engine.submit(plan_of(model, one), model) for one in many]:
                ticket.result(60)
    return engine


def serve(policy: AnyPolicy, model: RunModel, trace: Sequence[Wanted]) -> tuple[list[Served], float]:
    """The trace in real time; what became of each request, and the seconds until all had ended."""
    engine = warmed(Engine(policy=policy, pending=10**6), model)
    served, tickets = [Served(wanted=wanted) for wanted in trace], list[Ticket]()
    begun = time.perf_counter()

    def listener(one: Served, mine: list[Ticket]) -> Callable[[Event], None]:
        def listen(event: Event) -> None:
            if isinstance(event, Preview) and one.preview is None:
                one.preview = time.perf_counter() - begun - one.wanted.at
            if isinstance(event, Progress) and one.wanted.leaves and event.done >= event.total / 2 and mine:
                mine[0].cancel()
                one.after_leaving = event.done

        return listen

    for one in served:
        time.sleep(max(0.0, one.wanted.at - (time.perf_counter() - begun)))
        mine = list[Ticket]()
        ticket = engine.submit(plan_of(model, one.wanted), model, previews=1, listen=listener(one, mine))
        mine.append(ticket)
        tickets.append(ticket)

        def note(_: Ticket, one: Served = one) -> None:
            one.latency = time.perf_counter() - begun - one.wanted.at

        ticket.when_ended(note)
    for ticket in tickets:
        while not ticket.ended:
            time.sleep(0.001)
    seconds = time.perf_counter() - begun
    engine.stop()
    for one, ticket in zip(served, tickets, strict=True):
        one.after_leaving = ticket.evaluations - one.after_leaving if one.wanted.leaves and one.after_leaving else 0
    return served, seconds


def quantile(values: Sequence[float], share: float) -> float:
    """The value that a share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def figures_of(served: Sequence[Served], seconds: float) -> dict[str, float]:
    stayed = [one for one in served if not one.wanted.leaves and one.latency is not None]
    parts = {
        "short": [one for one in stayed if one.wanted.short],
        "long": [one for one in stayed if not one.wanted.short],
    }
    found = {
        f"{name} p{round(100 * share)}": quantile([one.latency for one in part if one.latency is not None], share)
        for name, part in parts.items() for share in (0.5, 0.95, 0.99)
    }  # fmt: skip
    previews = [one.preview for one in parts["short"] if one.preview is not None]
    in_time = sum(one.latency is not None and one.latency <= DEADLINE for one in parts["short"])
    with open("/proc/self/statm") as statm:
        memory = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return {
        **found, "first preview p50": quantile(previews, 0.5), "goodput": in_time / len(parts["short"]),
        "makespan": seconds, "steps after leaving": max(one.after_leaving for one in served), "memory_mb": memory,
    }  # fmt: skip


def digest(policy: AnyPolicy, model: RunModel, trace: Sequence[Wanted]) -> str:
    """SHA-256 of all samples of a trace that is served reproducibly, step by step, a request every three steps."""
    engine = Engine(policy=policy, pending=10**6)
    tickets = list[Ticket]()
    for wanted in trace:
        tickets.append(engine.submit(plan_of(model, wanted), model, reproducible=True))
        for _ in range(3):
            time.sleep(0.001)  # plans begin on threads of their own
            engine.tick()
    while not all(ticket.ended for ticket in tickets):
        if not engine.tick():
            time.sleep(0.001)
    found = hashlib.sha256()
    for ticket in tickets:
        found.update(ticket.result(0).values.numpy().tobytes())
    return found.hexdigest()


@dataclasses.dataclass(frozen=True)
class Zero:
    """A denoiser without a network."""

    def __call__(self, x_t: torch.Tensor, t: torch.Tensor, condition: Condition | None = None) -> Point:
        return Point(torch.zeros_like(x_t))


def step_cost(model: RunModel, samples: int = 16) -> float:
    """Milliseconds that a step of mixed samplers costs without a network, a median; guidance is a part of it."""
    parts = dataclasses.replace(model.parts, denoiser=Zero())
    empty = dataclasses.replace(model, built=dataclasses.replace(model.built, model=parts))
    engine, times = Engine(pending=1000), list[float]()
    for i in range(samples):
        weight = (1.0, 2.0)[i % 2]
        wanted = Wanted(at=0, steps=60, sampler=SAMPLERS[i % 4], weight=weight, size=16, seed=i, leaves=False)
        engine.submit(plan_of(empty, wanted), empty)
    time.sleep(1.0)
    while True:
        begun = time.perf_counter()
        if not engine.tick() or len(engine.items) < samples:
            return statistics.median(times)
        times.append(1000 * (time.perf_counter() - begun))


def health(model: RunModel, probes: int) -> float:
    """The 99th percentile of the milliseconds of /healthz while the engine generates."""
    engine = Engine(pending=10**6)
    app = create(Service(runs=Runs(folders=()), engine=engine), Store(url=f"sqlite:///{tempfile.mkdtemp()}/jobs.db"))
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    endless = Wanted(at=0, steps=5000, sampler=DDIM(), weight=2.0, size=24, seed=0, leaves=False)
    tickets = [engine.submit(plan_of(model, endless), model) for _ in range(16)]
    time.sleep(0.5)
    took, connection = list[float](), http.client.HTTPConnection("127.0.0.1", bound.getsockname()[1])
    for _ in range(probes):
        begun = time.perf_counter()
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        took.append(1000 * (time.perf_counter() - begun))
        time.sleep(0.01)
    for ticket in tickets:
        ticket.cancel()
    server.should_exit = True
    thread.join(30)
    return quantile(took, 0.99)


def capacity(model: RunModel, trace: Sequence[Wanted]) -> float:
    """Requests a second that can be served one after another, from those of a trace."""
    engine = warmed(Engine(policy=FirstInFirstOut()), model)
    begun = time.perf_counter()
    for wanted in trace:
        engine.submit(plan_of(model, wanted), model).result(60)
    seconds = time.perf_counter() - begun
    engine.stop()
    return len(trace) / seconds


def main() -> None:
    parser = harness.options(__doc__ or "")
    parser.add_argument("--count", type=int, default=300, help="requests of a trace")
    parser.add_argument("--loads", type=float, nargs="+", default=[0.7, 1.0, 1.4], help="1: what fifo can just serve")
    parser.add_argument("--threads", type=int, default=1, help="of the network; plans and HTTP have others")
    asked = harness.parse(parser)
    if asked.quick:
        asked.count, asked.loads = 12, [0.5]
    torch.set_num_threads(asked.threads)
    figures = {"benchmark": "serving", **harness.introduce(machine.describe(), asked)}
    model = model_of(asked)
    most = capacity(model, trace_of(max(10, asked.count // 5), 1.0, asked.seed + 1))
    print(f"one after another: {most:.2f} requests a second", flush=True)
    found = dict[str, dict[str, dict[str, float]]]()
    for load in asked.loads:
        trace = trace_of(asked.count, load * most, asked.seed)
        found[f"{load:g}"] = {policy.kind: figures_of(*serve(policy, model, trace)) for policy in POLICIES}
        columns = list(next(iter(found[f"{load:g}"].values())))
        harness.show(
            f"load {load:g}: seconds", ["policy", *columns],
            [[name, *values.values()] for name, values in found[f"{load:g}"].items()],
        )  # fmt: skip
    worst = max(found, key=lambda load: found[load]["fifo"]["short p95"])
    at = found[worst]
    own = at["shortest_remaining"]
    digests = {
        policy.kind: digest(policy, model, trace_of(min(40, asked.count), 1.0, asked.seed)) for policy in POLICIES
    }
    harness.conclude({
        **figures, "load": float(worst), "requests_per_second": most,
        **{f"p95_{name}_ratio": at[kind]["short p95"] / own["short p95"] for name, kind in
           (("fifo", "fifo"), ("batch", "whole_requests"), ("step", "step_batching"), ("continuous", "continuous"))},
        "makespan_ratio": own["makespan"] / min(values["makespan"] for values in at.values()),
        "outputs_equal": len(set(digests.values())) == 1, "step_cost_ms": step_cost(model),
        "healthz_p99_ms": health(model, 30 if asked.quick else 300), "policies": found,
    })  # fmt: skip


if __name__ == "__main__":
    main()
