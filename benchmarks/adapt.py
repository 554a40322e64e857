"""Adapters against full fine-tuning at equal minutes: a run of five classes of digits is taught the other five.

    python benchmarks/adapt.py --quick                                       it runs; its figures mean nothing
    python benchmarks/adapt.py --base-minutes 3 --minutes 1 --seeds 2        digits of scikit-learn, 8 x 8
    python benchmarks/adapt.py --base RUN --data FOLDER --minutes 2          your own run and new data

The minutes are of each whole training. Kinds are trained in turns, seed by seed, so that other jobs of the machine fall
on all. The score is the distance of samples from held-out new data that `compare` and `distil` rank by, lower is better, in
features that are equal for all. What was measured is not done again. The last line is JSON: of LoRA, `parameter_share`
is its trained weights over those of the network, and `quality_ratio` the score of full fine-tuning over its own, so 1 is as
good, and less is worse.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import harness
from langevin.cli.adapt import run as adapt
from langevin.cli.verbs import Adapt
from langevin.run.display import Display
from langevin.run.plan import Wanted
from langevin.run.train import resume_run, train_run
from langevin.training import machine

KINDS = ("lora", "dora", "head", "full")


def digits(folder: Path) -> tuple[Path, Path]:
    """Folders of the digits 0 to 4 and 5 to 9, a directory a class."""
    for i, (pixels, label) in enumerate(zip(*load_digits(return_X_y=True), strict=True)):
        path = folder / ("known" if label < 5 else "new") / str(label)
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels.reshape(8, 8) * 15.9375).astype(np.uint8)).save(path / f"{i:04d}.png")
    return folder / "known", folder / "new"


def base_of(data: Path, asked: argparse.Namespace) -> Path:
    """The run that is adapted, trained if it is not there."""
    path, show = Path(asked.out) / "base", Display(say=lambda line: print(f"  {line}", flush=True))
    if (path / "recipe.yaml").is_file():
        return resume_run(path, display=show).path
    changes = ("training.steps=20", "network.width=32", "network.depth=2") if asked.quick else tuple(asked.change)
    return train_run(Wanted(target=str(data), overrides=changes, minutes=asked.base_minutes, out=path), show).path


def figures_of(base: Path, data: Path, kind: str, seed: int, asked: argparse.Namespace) -> dict[str, Any]:
    """What `langevin adapt` measures of a kind and a seed."""
    path = Path(asked.out) / f"{kind}-{seed}"
    if not (path / "adapted.json").is_file():
        if (path / "recipe.yaml").is_file():
            raise SystemExit(f"{path} was begun and not measured: remove it")
        changes = ("training.steps=20",) if asked.quick else ()
        rank = asked.rank if kind in ("lora", "dora") else None
        share = asked.share if kind in ("lora", "dora") else None
        adapt(Adapt(
            run=base, data=data, kind=kind, rank=rank, share=share, minutes=asked.minutes, seed=seed, count=asked.count,  # type: ignore[arg-type]
            out=path, overrides=changes,
        ))  # fmt: skip
    found = json.loads((path / "adapted.json").read_text())
    return {**found["adapted"], "floor": found["real_against_real"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="a run to adapt, in place of one of digits")
    parser.add_argument("--data", help="new data for it")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS])
    parser.add_argument("--rank", type=int, default=None, help="of lora and dora; default by --share")
    parser.add_argument("--share", type=float, default=None, help="largest share of the weights, of lora and dora")
    parser.add_argument("--base-minutes", type=float, default=3.0)
    parser.add_argument("--minutes", type=float, default=1.0, help="of each adaptation")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--count", type=int, default=500, help="samples of each run that are measured")
    parser.add_argument("--change", nargs="*", default=[], help="changes of the base's recipe")
    parser.add_argument("--out", default="runs/adapt", help="folder of the runs")
    parser.add_argument("--quick", action="store_true", help="20 steps of a small network: its figures mean nothing")
    asked = parser.parse_args()
    if asked.quick:
        asked.seeds, asked.count, asked.base_minutes = 1, 20, None
    if (asked.base is None) != (asked.data is None):
        parser.error("--base and --data belong together")
    figures = harness.introduce(machine.describe(), asked)
    if asked.base is None:
        known, new = digits(Path(asked.out) / "data")
        base = base_of(known, asked)
    else:
        base, new = Path(asked.base), Path(asked.data)
    found = dict[str, list[dict[str, Any]]]()
    for seed in range(asked.seeds):
        for kind in asked.kinds:
            found.setdefault(kind, []).append(figures_of(base, new, kind, seed, asked))
    report(found, base, figures, asked)


def report(
    found: dict[str, list[dict[str, Any]]], base: Path, figures: dict[str, object], asked: argparse.Namespace
) -> None:
    """Print a table, and the line of JSON, which begins with `figures`."""
    rows, ratios = list[list[object]](), dict[str, float]()
    full = found.get("full")
    for kind, runs in found.items():
        scores, first = [one["score"] for one in runs], runs[0]
        if full is not None:
            ratios[kind] = statistics.mean(one["score"] for one in full) / statistics.mean(scores)
        rows.append([
            kind, "" if first["rank"] is None else first["rank"], f"{first['weights']:,}", f"{100 * first['share']:.1f} %",
            1e3 * statistics.mean(one["step_seconds"] for one in runs), first["state_bytes"] / 1e6, first["file_bytes"] /
            1e6, statistics.mean(scores), f"{min(scores):.4g} to {max(scores):.4g}",
            statistics.mean(one["held_out_loss"] for one in runs), f"{ratios.get(kind, float('nan')):.2f}",
        ])  # fmt: skip
    heads = ["", "rank", "trained", "share", "ms a step", "state, MB", "file, MB", "score", "seeds", "loss", "quality"]
    harness.show(
        f"{base}, adapted in {asked.minutes:g} minutes; real data {found[asked.kinds[0]][0]['floor']:.4g}", heads, rows
    )
    share = found["lora"][0]["share"] if "lora" in found else None
    figures = {**figures, "parameter_share": share, "quality_ratio": ratios.get("lora"), "quality_ratios": ratios}
    harness.conclude({**figures, "runs": found})


if __name__ == "__main__":
    main()
