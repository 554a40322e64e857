"""`langevin demo`: the main job on data that ships with a dependency, timed."""

import shutil
import time
from itertools import pairwise
from pathlib import Path

from langevin.cli import evaluate, sample, train
from langevin.cli.verbs import Demo, Evaluate, Sample, Train
from langevin.run.directory import writing

MARK = ".demo"


def run(asked: Demo) -> None:
    """Train, sample, evaluate, and say where everything is and how long each part took.

    Raises:
        ValueError: the directory holds a run that is not the demo's own."""
    if asked.minutes is not None and not 0 < asked.minutes < 1e6:
        raise ValueError(f"--minutes must be positive, got {asked.minutes}")
    mark = asked.out / MARK
    if asked.out.exists() and any(asked.out.iterdir()):
        if not mark.exists():
            raise ValueError(f"{asked.out} holds what no demo made: choose another --out, or remove it yourself")
        with writing(asked.out):
            shutil.rmtree(asked.out)
    asked.out.mkdir(parents=True, exist_ok=True)
    mark.write_text("made by `langevin demo`, which may replace this directory\n")
    marks = [("", time.perf_counter())]
    train.run(Train(target="image/digits", out=asked.out, minutes=asked.minutes))
    marks.append(("train", time.perf_counter()))
    grid = asked.out / "samples" / "digits.png"
    sample.run(Sample(run=asked.out, count=50, out=grid, gif=True))
    marks.append(("sample", time.perf_counter()))
    evaluate.run(Evaluate(run=asked.out, count=500))
    marks.append(("evaluate", time.perf_counter()))
    print("\nDone. Look at:")
    for what, path in (("labelled grid", grid), ("the denoising", grid.with_suffix(".gif")),
                       ("report", asked.out / "report.html"), ("everything", asked.out)):  # fmt: skip
        print(f"  {what:14} {Path(path)}")
    print("Seconds:")
    for (_, before), (name, after) in pairwise(marks):
        print(f"  {name:14} {after - before:6.1f}")
    print(f"  {'all':14} {marks[-1][1] - marks[0][1]:6.1f}")
