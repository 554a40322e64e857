"""What Ray costs a training: the same run of two ranks under torchrun and under `--on ray`, on this machine.

    python benchmarks/scale_ray.py [--steps 300] [--turns 1]

The two take turns (torchrun, Ray, Ray, torchrun), as other work on the machine comes and goes. A run is split into its
steps, by the clock of the training itself, and all the rest: imports, the cluster, data, evaluation, the end. The overhead
of a run of five minutes is the difference of the rest, once, and the difference of the steps, in proportion. Prints a line
of JSON; wall times are of a machine that may be busy, so `load` stands beside them, and the CPU seconds of all processes of
a run, sampled twice a second, on which other work has little effect.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langevin.training import checkpoint
from langevin.training.metrics import read_metrics

FIVE_MINUTES = 300.0
PARTS = ("wall", "steps", "rest", "cpu")
RECIPE = (  # without what is measured and drawn between steps, which is the same for both
    "image/digits", "training.threads=1", "network.width=96", "network.depth=3", "training.ema_lengths=[0.1]",
    "sampling.ema=0.1", "sampling.steps=2",
)  # fmt: skip


def command(how: str, out: Path, steps: int) -> list[str]:
    """The command line of a run of two ranks."""
    words = ["train", *RECIPE, f"training.steps={steps}", "--out", str(out)]
    if how == "ray":
        return [sys.executable, "-m", "langevin", *words, "--on", "ray", "--workers", "2"]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29511", "-m", "langevin"]
    return [sys.executable, *launch, *words]


def processor_seconds(root: int, seen: dict[int, float]) -> None:
    """Update the CPU seconds of each process below one, those of earlier looks included. Linux only."""
    parents, seconds = dict[int, int](), dict[int, float]()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
        seconds[int(entry.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    for process, spent in seconds.items():
        above = process
        while above in parents and above != root:
            above = parents[above]
        if above == root or process in seen:
            seen[process] = max(spent, seen.get(process, 0.0))


def timed(how: str, out: Path, steps: int) -> dict[str, float]:
    """Seconds of a run: of all of it, of its steps, of the rest, and CPU seconds of all of its processes."""
    begin, spent = time.perf_counter(), dict[int, float]()
    with tempfile.TemporaryFile("w+") as said:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command(how, out, steps), stderr=said, env=environment)
        while process.poll() is None:
            processor_seconds(process.pid, spent)
            time.sleep(0.5)
        wall = time.perf_counter() - begin
        reached = max(map(checkpoint.step_of, checkpoint.steps(out / "checkpoints")), default=0)
        if reached != steps:  # the exit status of torchrun is that of a rank's last breath
            said.seek(0)
            raise SystemExit(f"{how} reached step {reached} of {steps}:\n{said.read()[-2000:]}")
    stepping = max(line["seconds"] for line in read_metrics(out / "metrics.jsonl") if "seconds" in line)
    return {"wall": wall, "steps": stepping, "rest": wall - stepping, "cpu": sum(spent.values())}


def measure(*, steps: int = 300, turns: int = 1) -> dict[str, Any]:
    """`ray_overhead`, a share of a run of five minutes, and what it is made of.

    Args:
        steps: of each run.
        turns: how often each launcher takes two turns."""
    found: dict[str, list[dict[str, float]]] = {"torchrun": [], "ray": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(turns):
            for i, how in enumerate(("torchrun", "ray", "ray", "torchrun")):
                found[how].append(timed(how, Path(folder) / f"{how}-{turn}-{i}", steps))
                print(json.dumps({"launcher": how, **found[how][-1], "load": os.getloadavg()[0]}), file=sys.stderr)

    def typical(how: str, what: str) -> float:
        return statistics.median(one[what] for one in found[how])

    startup = typical("ray", "rest") - typical("torchrun", "rest")
    per_step = typical("ray", "steps") / typical("torchrun", "steps") - 1
    return {
        "ray_overhead": (startup + FIVE_MINUTES * per_step) / FIVE_MINUTES,
        "ray_startup_seconds": startup, "ray_per_step": per_step, "steps": steps,
        "ray_cpu_seconds": typical("ray", "cpu") - typical("torchrun", "cpu"),
        "torchrun": {what: typical("torchrun", what) for what in PARTS},
        "ray": {what: typical("ray", what) for what in PARTS}, "cores": os.cpu_count(), "load": os.getloadavg()[0],
    }  # fmt: skip


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--turns", type=int, default=1)
    args = parser.parse_args(words)
    print(json.dumps(measure(steps=args.steps, turns=args.turns)))


if __name__ == "__main__":
    main()
