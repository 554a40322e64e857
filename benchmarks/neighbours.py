"""Training beside other jobs: samples/s of `image/digits` alone, beside a torch job of all cores, and beside a niced one.

Each figure is of a fresh process that trains for some seconds by the real session, from its first step on, so that what
it takes to find the right threads is counted. The neighbour is another training on as many threads as there are cores,
or a niced one on one thread; it starts before and ends after. `chosen` is the default; the others fix what it chooses
among. Run it on a machine that does nothing else.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

import harness
from langevin.recipe.build import build, training_batches
from langevin.recipe.complete import complete
from langevin.recipe.read import check, read_tree
from langevin.training import machine
from langevin.training.distributed import World
from langevin.training.loop import TrainingConfig, TrainingState
from langevin.training.session import Hooks, Progress, train

CORES = os.cpu_count() or 1
WAYS = {"chosen": {}, "chosen, passive": {"OMP_WAIT_POLICY": "PASSIVE"}, "all threads": {}, "one thread": {},
        "all threads, passive": {"OMP_WAIT_POLICY": "PASSIVE"}}  # fmt: skip
SCENES = ("quiet", f"beside {CORES} threads", "beside a niced thread")


class Over(Exception):
    """The time of a measurement is over."""


def threads_of(way: str) -> int | None:
    """`training.threads` of a way; None chooses."""
    return None if way.startswith("chosen") else 1 if way == "one thread" else CORES


def measure(threads: int | None, seconds: float) -> float:
    """Samples/s of a training of `image/digits` that begins now and is stopped after some seconds."""
    recipe = check(read_tree("image/digits"))
    data, _ = recipe.data.open()
    settings: TrainingConfig = replace(
        recipe.training, steps=10**6, threads=threads, precision="float32", checkpoint_minutes=1e6, snapshots=0
    )
    recipe = complete(replace(recipe, training=settings), data)
    built = build(recipe)
    method = built.model.method
    state = TrainingState.new(method, settings)
    begin = time.perf_counter()

    def progress(at: Progress) -> None:
        if time.perf_counter() - begin > seconds:
            raise Over

    with tempfile.TemporaryDirectory() as folder:
        try:
            batches = training_batches(recipe, built.batches(data))
            train(Path(folder), state, batches, method, settings, hooks=Hooks(progress=progress), world=World())
        except Over:
            pass
    return state.samples_seen / (time.perf_counter() - begin)


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """This script again, as a process."""
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})


@contextmanager
def neighbour(scene: str) -> Iterator[None]:
    """Within it the scene's other job runs, and has begun to train."""
    if scene == "quiet":
        yield
        return
    niced = "niced" in scene
    job = start("--job", 1 if niced else CORES, *(["--nice"] if niced else []))
    assert job.stdout is not None
    job.stdout.readline()  # it says when it trains
    try:
        yield
    finally:
        job.kill()
        job.wait()


def be_a_neighbour(threads: int, *, nice: bool) -> None:
    """Multiply on some threads for ever, in small products as a training does."""
    if nice:
        os.nice(19)
    torch.set_num_threads(threads)
    a, b = torch.randn(1024, 128), torch.randn(128, 512)
    print("ready", flush=True)
    while True:
        a = (a @ b @ b.T).relu() * 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="of each figure")
    parser.add_argument("--quick", action="store_true", help="5 seconds each: shows that it works")
    parser.add_argument("--cell", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--job", type=int, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--nice", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.job:
        be_a_neighbour(asked.job, nice=asked.nice)
    if asked.cell:
        print(json.dumps(measure(threads_of(asked.cell), asked.seconds)))
        return
    figures = harness.introduce(machine.describe(), asked)
    seconds = 5.0 if asked.quick else asked.seconds
    found: dict[str, dict[str, float]] = {way: {} for way in WAYS}
    for scene in SCENES:
        for way, environment in WAYS.items():
            with neighbour(scene):
                out, _ = start("--cell", way, "--seconds", seconds, **environment).communicate()
            found[way][scene] = json.loads(out.splitlines()[-1])
            print(f"{scene}, {way}: {found[way][scene]:.0f} samples/s", flush=True)
    harness.show(
        "samples/s of image/digits", ("threads", *SCENES), [(w, *(f[s] for s in SCENES)) for w, f in found.items()]
    )
    harness.conclude({**figures, "samples_per_second": found})


if __name__ == "__main__":
    main()
