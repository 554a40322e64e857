"""Variants of a recipe at equal minutes: each is a list of changes, trained with several seeds, measured by equal judges.

    python benchmarks/ablation.py --quick                                          it runs; its figures mean nothing
    python benchmarks/ablation.py --minutes 3 --seeds 3 --out runs/ablation        image/digits
    python benchmarks/ablation.py --variants --add wide network.width=192          one variant of your own
    LANGEVIN_DATA=FOLDER python benchmarks/ablation.py --target image/cifar10 --data cifar10 --minutes 30 --out runs/a

The minutes are of the whole training, with whatever a variant does before its first step. Seeds are trained in turns over
all variants, so that other jobs of the machine fall on all. What was trained or measured is not done again: a run that was
stopped is resumed, with the same command. A metric is better or worse than that of the base if no seed of one side reaches
a seed of the other; else the difference is within the spread. Of n seeds a side, this happens by chance in 2 of
(2 n)! / (n!)^2 cases: 1 in 3 for two, 1 in 10 for three, and there are many metrics. The last line is JSON.
"""

import argparse
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import harness
from langevin.files import own_folder, write_atomic
from langevin.modalities.modality import Measuring
from langevin.modalities.options import options_of
from langevin.run.directory import Run, load_model, open_run
from langevin.run.display import Display
from langevin.run.evaluate import metrics_of
from langevin.run.plan import Wanted
from langevin.run.train import resume_run, train_run
from langevin.training import machine

BASE = "base"
VARIANTS: dict[str, tuple[str, ...]] = {
    BASE: (),
    "coupling": ("method.coupling={kind: optimal_transport}",),
    "longer EMA": ("training.ema_lengths=[0.1, 0.2]", "sampling.ema=0.2"),
}
Figures = dict[str, dict[str, Any]]  # of a run, by metric: estimate, better, floor


def trained(folder: Path, name: str, seed: int, asked: argparse.Namespace) -> Run:
    """The run of a variant and a seed; what is left of it is trained."""
    path = folder / f"{name.replace(' ', '-')}-{seed}"
    show = Display(say=lambda line: print(f"  {line}", flush=True))
    if (path / "recipe.yaml").is_file():
        return resume_run(path, display=show)
    root = os.environ.get("LANGEVIN_DATA", "")
    data = None if asked.data is None else Path(root) / asked.data
    changes = (*VARIANTS[name], *asked.change)
    wanted = Wanted(target=asked.target, overrides=changes, minutes=asked.minutes, seed=seed, out=path, data=data)
    return train_run(wanted, show)


def measured(run: Run, judges: Path, asked: argparse.Namespace) -> Figures:
    """The metrics of a run, by the judges that are kept in a folder; from its file if they were measured before."""
    file = run.path / "ablation.json"
    if file.is_file():
        known = json.loads(file.read_text())
        if known["count"] == asked.count:
            return known["figures"]
    model, _ = load_model(run, device=machine.device())
    train, val = run.open_data()
    measuring = Measuring(
        model=model, train=train, val=val, folder=judges, facts=run.facts, count=asked.count, seeds=1, run=run.path,
        load=lambda path: load_model(open_run(path), device=machine.device())[0],
    )  # fmt: skip
    rows = run.recipe.data.evaluate(options_of(run.recipe.data.kind).Evaluate(), measuring).rows
    figures = {row.name: {"value": row.generated.estimate, "better": row.better, "floor": row.floor} for row in rows}
    write_atomic(file, json.dumps({"count": asked.count, "figures": figures}).encode())
    return figures


def badness(figure: Mapping[str, Any]) -> float:
    """A figure as one of which less is better: a distance from the floor where that is the aim."""
    value: float = figure["value"]
    match figure["better"]:
        case "higher":
            return -value
        case "near real" if figure["floor"] is not None:
            return abs(value - figure["floor"])
        case "near 1":
            return abs(value - 1)
        case _:
            return value


def verdict(ours: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]]) -> str:
    """better or worse, if the ranges over seeds are apart; else within the spread."""
    a, b = [badness(f) for f in ours], [badness(f) for f in base]
    return "better" if max(a) < min(b) else "worse" if min(a) > max(b) else "within the spread"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="image/digits", help="a shipped recipe, or a folder or file of data")
    parser.add_argument("--data", help="the data of a recipe, within LANGEVIN_DATA if that is set")
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=[*VARIANTS], help="besides the base")
    parser.add_argument(
        "--add", nargs="+", action="append", default=[], help="a further variant: its name, its changes"
    )
    parser.add_argument("--change", nargs="*", default=[], help="changes of the recipe for all variants")
    parser.add_argument("--minutes", type=float, default=3.0, help="of each training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=500, help="samples of each run that are measured")
    parser.add_argument("--threads", type=int, default=None, help="of training and measuring")
    parser.add_argument("--out", default="runs/ablation", help="folder of the runs")
    parser.add_argument("--quick", action="store_true", help="20 steps of a small DiT: its figures mean nothing")
    asked = parser.parse_args()
    VARIANTS.update({name: tuple(changes) for name, *changes in asked.add})
    asked.variants += [name for name, *_ in asked.add]
    if asked.quick:
        asked.minutes, asked.seeds, asked.count = None, 2, 20
        asked.change = ["training.steps=20", "network.width=32", "network.depth=4", "sampling.steps=4", *asked.change]
    if asked.threads:
        torch.set_num_threads(asked.threads)
        asked.change = [f"training.threads={asked.threads}", *asked.change]
    figures = harness.introduce(machine.describe(), asked)
    names = [BASE, *(name for name in asked.variants if name != BASE)]
    require_same(Path(asked.out), {n: VARIANTS[n] for n in names}, asked)
    found: dict[str, list[Figures]] = {name: [] for name in names}
    facts: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    judges = None
    for seed in range(asked.seeds):
        for name in names:
            print(f"{name}, seed {seed}: {' '.join(VARIANTS[name]) or 'the recipe'}", flush=True)
            run = trained(Path(asked.out), name, seed, asked)
            judges = judges or own_folder(run.path, "evaluation")
            found[name].append(measured(run, judges, asked))
            last = [line for line in metrics_of(run) if "samples" in line][-1]
            facts[name].append({"steps": last["step"], "minutes in steps": last["seconds"] / 60})
    conclude(figures, names, found, facts)


def require_same(folder: Path, variants: Mapping[str, Sequence[str]], asked: argparse.Namespace) -> None:
    """Check that runs in the folder are of the same question, and write it down."""
    file = folder / "ablation.json"
    question = {"target": asked.target, "data": asked.data, "minutes": asked.minutes, "change": asked.change}
    known = json.loads(file.read_text()) if file.is_file() else {**question, "variants": {}}
    changed = [n for n, changes in variants.items() if known["variants"].get(n, list(changes)) != list(changes)]
    if changed or {k: known[k] for k in question} != question:
        what = f"another '{changed[0]}'" if changed else "another target, data, minutes or changes"
        raise SystemExit(f"{folder} holds runs of {what}: choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    known["variants"] |= {name: list(changes) for name, changes in variants.items()}
    write_atomic(file, json.dumps(known).encode())


def conclude(
    figures: dict[str, object], names: Sequence[str], found: Mapping[str, list[Figures]],
    facts: Mapping[str, list[dict[str, float]]],
) -> None:  # fmt: skip
    """Print the table, and the last line."""
    rows, result = [], dict[str, Any]()
    for metric in [
        m for m in found[BASE][0] if all(m in run for run in found[BASE])
    ]:  # some are named by where they are
        of = {name: [run[metric] for run in runs] for name, runs in found.items() if all(metric in r for r in runs)}
        values = {name: [figure["value"] for figure in each] for name, each in of.items()}
        verdicts = {name: verdict(each, of[BASE]) for name, each in of.items() if name != BASE}
        result[metric] = {"values": values, "floor": of[BASE][0]["floor"], "against the base": verdicts} | {
            "ratio": {
                n: harness.ratio(v, values[BASE]) for n, v in values.items() if n != BASE and min(values[BASE]) > 0
            }
        }
        cells = [
            f"{statistics.median(values[n]):.3g} ({min(values[n]):.3g} to {max(values[n]):.3g})"
            + {"better": " +", "worse": " -"}.get(verdicts.get(n, ""), "")
            for n in names if n in values
        ]  # fmt: skip
        rows.append((metric, "" if of[BASE][0]["floor"] is None else float(of[BASE][0]["floor"]), *cells))
    seeds = len(found[BASE])
    harness.show(
        f"median (range) of {seeds} seeds; + better and - worse than base on every seed", ("", "real", *names), rows
    )
    for name in names[1:]:
        wins = [m for m, f in result.items() if f["against the base"].get(name) == "better"]
        losses = [m for m, f in result.items() if f["against the base"].get(name) == "worse"]
        print(f"{name}: better in {', '.join(wins) or 'nothing'}; worse in {', '.join(losses) or 'nothing'}")
    harness.conclude({**figures, "runs": facts, "metrics": result})


if __name__ == "__main__":
    main()
