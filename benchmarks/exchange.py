"""CPU seconds a sample of a loop: torch's eager one, torch.export's, onnxruntime's and OpenVINO's, in turns, medians.

    python benchmarks/exchange.py runs/digits [--count 64] [--turns 9]

Prints one JSON line. All use as many threads as torch does (OMP_NUM_THREADS), and one thread's CPU time is its time on an
idle machine. All compute in float32.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from langevin.exchange.export import drawn, export, prepare
from langevin.exchange.graph import condition_of
from langevin.exchange.parts import loop_noise
from langevin.exchange.targets import runner
from langevin.run.directory import load_model, open_run

TARGETS = ("torch", "onnx", "openvino")


def measure(path: Path, *, count: int = 64, turns: int = 9) -> dict:
    """Median CPU seconds a sample of each, and the largest difference from the eager loop over the largest value."""
    run = open_run(path)
    model, _ = load_model(run)
    shape = tuple(run.facts["shape"])
    exporting = prepare(model, shape, what="sampler")
    labels = {one.name: one.example(count) for one in exporting.conditions}
    condition, seeds, table = condition_of(exporting.conditions, labels), torch.arange(count), exporting.table
    first, noise = loop_noise(seeds, len(table), shape, noisy=table.noise is not None)
    given = {"sample": first, **labels, **({} if noise is None else {"noise": noise})}
    with tempfile.TemporaryDirectory() as folder:
        calls = {"eager": lambda: drawn(model, shape, seeds, condition)}
        for target in TARGETS:
            (Path(folder) / target).mkdir()
            (graph,) = export(exporting, Path(folder) / target, target, what="sampler")
            call = runner(Path(folder) / target / graph.file, target)
            calls[target] = lambda call=call: call(given)
        results = {name: call() for name, call in calls.items()}
        seconds = {name: [] for name in calls}
        for _ in range(turns):
            for name, call in calls.items():
                begin = time.process_time()
                call()
                seconds[name].append((time.process_time() - begin) / count)
    reference = results["eager"]
    return {
        "run": path.name, "network": run.recipe.network.kind,
        "weights": sum(p.numel() for p in model.parts.network.parameters()),
        "calls": len(table), "count": count, "threads": torch.get_num_threads(),
        "seconds": {name: float(f"{median(values):.3g}") for name, values in seconds.items()},
        "difference": {n: float(f"{(r - reference).abs().max() / reference.abs().max():.1e}") for n, r in results.items()},
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--turns", type=int, default=9)
    given = parser.parse_args()
    print(json.dumps(measure(given.run, count=given.count, turns=given.turns)))
