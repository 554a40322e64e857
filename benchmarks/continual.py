"""Forgetting over tasks in a row: a run of two classes is taught two more, four times, in several ways.

    python benchmarks/continual.py --quick                                   it runs; its figures mean nothing
    python benchmarks/continual.py                                           digits of scikit-learn, 8 x 8
    python benchmarks/continual.py --data FOLDER                             images with classes, in pairs by name

After each task the run draws samples of every class that it has seen, with several sampling seeds. A judge, a
classifier of all classes, says how many show their class (consistency), and gives the features of the FD from real
images of the task. Forgetting of a way is the mean over the tasks but the last of its best consistency minus the one after
the last task; that of the FD is the mean factor by which it grew from its best. `default` is `langevin continue` with no
option but the time budget. `joint` goes on with the data of all tasks so far, the ceiling; `naive` with the new data alone,
the floor. An adapter is trained for each task on the first run, and draws that task. What was measured is not done again.
The last line is JSON: `forgetting` is that of the default over that of naive, by consistency, means over the seeds of both.
"""

import argparse
import json
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

import harness
from langevin.cli import main as langevin
from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition, class_port
from langevin.evaluation.frechet import Moments, frechet_distance
from langevin.evaluation.statistics import mean_interval
from langevin.modalities.image.classifier import Classifier, train_classifier
from langevin.modalities.image.modality import Image as Picture
from langevin.run.directory import Run, load_model, open_run
from langevin.run.replay import drawn
from langevin.training import machine

NONE = ("--replay", "0", "--exemplars", "0")
WAYS: dict[str, tuple[str, ...]] = {
    "naive": NONE, "replay": ("--exemplars", "0"), "exemplars": ("--replay", "0"),
    "anchor": (*NONE, "--anchor", "{anchor}"), "replay+anchor": ("--exemplars", "0", "--anchor", "{anchor}"), "default": (),
    "adapter": ("--adapter", "lora", "adapter.share=0.2"), "joint": NONE,
}  # fmt: skip
NETWORK = ("network.width=64", "network.depth=3", "network.head_dim=32", "training.batch=64", "sampling.steps=10")
SMALLEST = ("network.width=32", "network.depth=1", "network.head_dim=16", "training.batch=16", "sampling.steps=2")


def digits(folder: Path) -> Path:
    """The digits of scikit-learn, a folder a class."""
    for i, (pixels, label) in enumerate(zip(*load_digits(return_X_y=True), strict=True)):
        path = folder / str(label)
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels.reshape(8, 8) * 15.9375).astype(np.uint8)).save(path / f"{i:04d}.png")
    return folder


def images_of(path: Path, folder: Path, each: int) -> Path:
    """The first `each` images of each class of any data of pictures, a folder a class."""
    train, _ = (opened := Picture(path=str(path))).open()
    for k, name in enumerate(opened.fitted(train).classes or ()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        index = (train.labels == k).nonzero()[:each, 0]
        for i, pixels in zip(index.tolist(), train.read(index).numpy(), strict=True):
            shown = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
            shown.save(folder / name / f"{i:05d}.png")
    return folder


def tasks_of(data: Path, out: Path) -> tuple[list[str], list[Path], list[Path]]:
    """The classes, a folder of links for each pair of them, and one for all pairs up to each."""
    classes = sorted(path.name for path in data.iterdir() if path.is_dir())
    pairs, upto = list[Path](), list[Path]()
    for k in range(len(classes) // 2):
        for folder, names in (
            (out / f"task-{k}", classes[2 * k : 2 * k + 2]),
            (out / f"upto-{k}", classes[: 2 * k + 2]),
        ):
            for name in names:
                (folder / name).mkdir(parents=True, exist_ok=True)
                for file in sorted((data / name).iterdir()):
                    if not (folder / name / file.name).exists():
                        os.link(file, folder / name / file.name)
        pairs.append(out / f"task-{k}")
        upto.append(out / f"upto-{k}")
    return classes, pairs, upto


def real_images(folder: Path) -> torch.Tensor:
    """(n, channels, side, side) uint8, sorted by name."""
    pixels = [np.atleast_3d(np.array(Image.open(file))).transpose(2, 0, 1) for file in sorted(folder.iterdir())]
    return torch.from_numpy(np.stack(pixels))


class Judge:
    """Measures samples of each class by a classifier of all classes."""

    def __init__(self, data: Path, classes: Sequence[str], asked: argparse.Namespace) -> None:
        real = [real_images(data / name) for name in classes]
        labels = torch.cat([torch.full((len(part),), i) for i, part in enumerate(real)])
        images, order = torch.cat(real), torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        held, rest = order[: len(order) // 5], order[len(order) // 5 :]
        self.asked, self.classes, self.real, self.size = asked, classes, real, real[0].shape[-1]
        folder = Path(asked.out) / "judge"
        if not (folder / "classifier.json").is_file():
            epochs, held_out = 1 if asked.quick else 12, (images[held], labels[held])
            trained = train_classifier(
                images[rest], labels[rest], len(classes), seed=0, epochs=epochs, held_out=held_out
            )
            trained.save(folder)
        self.classifier = Classifier.load(folder)

    @property
    def accuracy(self) -> float:
        record = self.classifier.training_record
        assert record is not None
        return record.held_out_accuracy or 0.0

    def figures(self, run: Run, task: int) -> dict[str, list[float]]:
        """Consistency and FD of the samples of a task, one for each sampling seed."""
        model, found = load_model(run)[0], {"consistency": list[float](), "fd": list[float]()}
        wanted = torch.tensor([2 * task, 2 * task + 1]).repeat_interleave(self.asked.count)
        names = [list(run.recipe.data.classes).index(self.classes[i]) for i in (2 * task, 2 * task + 1)]
        labels = torch.tensor(names).repeat_interleave(self.asked.count)
        shape = tuple(run.facts["shape"])
        real = Moments.of(self.classifier.features(torch.cat(self.real[2 * task : 2 * task + 2])))
        for seed in range(self.asked.sampling_seeds):
            given = Batch(x=torch.empty(len(labels), *shape), condition=Condition(global_=class_port(labels)))
            images = model.modality.decode(drawn(model, given, seed=50 + seed).x)
            found["consistency"].append(float((self.classifier.logits(images).argmax(1) == wanted).double().mean()))
            found["fd"].append(frechet_distance(real, Moments.of(self.classifier.features(images))))
        return found


def command(*words: object) -> None:
    """A command of `langevin`, which must succeed."""
    if langevin([str(word) for word in words]):
        raise SystemExit(f"langevin {' '.join(map(str, words))} failed")


def once(path: Path, make: Callable[[], None]) -> Run:
    """The finished run at a path, made if it is not there."""
    if not (path / "card.md").is_file():
        if (path / "recipe.yaml").is_file():
            raise SystemExit(f"{path} was begun and not finished: remove it")
        make()
    return open_run(path)


def base_of(tasks: Sequence[Path], seed: int, asked: argparse.Namespace) -> Path:
    """The run of the first task."""
    path, steps = Path(asked.out) / f"base-{seed}", ("training.steps=20",) if asked.quick else ()
    network = SMALLEST if asked.quick else (*NETWORK, f"network.patch={asked.patch}")
    words = ("--minutes", asked.base_minutes, "--seed", seed, "--out", path, *network, *steps, *asked.change)
    once(path, lambda: command("train", tasks[0], *words))
    return path


def chain(
    way: str, seed: int, tasks: Sequence[Path], upto: Sequence[Path], judge: Judge, asked: argparse.Namespace
) -> list[list[dict[str, list[float]]]]:
    """The figures of a way: [after task k][of task j <= k]."""
    file = Path(asked.out) / f"{way}-{seed}.json"
    if file.is_file():
        return json.loads(file.read_text())
    runs, matrix = [base_of(tasks, seed, asked)], list[list[dict[str, list[float]]]]()
    for k in range(len(tasks)):
        if k:
            path, start = Path(asked.out) / f"{way}-{seed}-{k}", runs[0] if way == "adapter" else runs[-1]
            data = (upto[k], "--same-classes") if way == "joint" else (tasks[k],)
            options = [word.format(anchor=asked.anchor) for word in WAYS[way]]
            steps = ("training.steps=20",) if asked.quick else ()
            words = (*data, "--minutes", asked.minutes, "--seed", seed, "--out", path, *options, *steps)
            once(path, lambda start=start, words=words: command("continue", start, *words))
            runs.append(path)
        of = (lambda j: runs[j]) if way == "adapter" else (lambda j: runs[-1])
        matrix.append([judge.figures(open_run(of(j)), j) for j in range(k + 1)])
        print(f"{way} {seed} task {k}: {[round(statistics.mean(f['consistency']), 3) for f in matrix[-1]]}", flush=True)
    file.write_text(json.dumps(matrix))
    return matrix


def forgetting(matrix: Sequence[Sequence[dict[str, list[float]]]], seed: int) -> tuple[float, float]:
    """The mean drop of consistency from its best, and the mean factor of FD, over the tasks but the last, of one sampling
    seed."""
    last, drops, factors = len(matrix) - 1, list[float](), list[float]()
    for j in range(last):
        column = [matrix[k][j] for k in range(j, last + 1)]
        drops.append(max(f["consistency"][seed] for f in column) - column[-1]["consistency"][seed])
        factors.append(column[-1]["fd"][seed] / min(f["fd"][seed] for f in column))
    return statistics.mean(drops), statistics.geometric_mean(factors)


def picture(ways: Sequence[str], classes: Sequence[str], asked: argparse.Namespace, file: Path) -> None:
    """Samples of all classes after the last task, a row a class and a block a way."""
    last, each, blocks = len(classes) // 2 - 1, 8, list[np.ndarray]()
    for way in ways:
        run = open_run(Path(asked.out) / f"{way}-0-{last}")
        model, _ = load_model(run)
        names = [list(run.recipe.data.classes).index(name) for name in classes]
        labels = torch.tensor(names).repeat_interleave(each)
        given = Batch(x=torch.empty(len(labels), *run.facts["shape"]), condition=Condition(global_=class_port(labels)))
        images = model.modality.decode(drawn(model, given, seed=1).x).numpy()
        images = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=96)
        channels, side = images.shape[1], images.shape[-1]
        rows = images.reshape(len(classes), each, channels, side, side).transpose(0, 3, 1, 4, 2)
        rows = rows.reshape(len(classes) * side, each * side, channels)
        blocks += [rows, np.full((len(rows), side, channels), 255, np.uint8)]
    sheet = Image.fromarray(np.concatenate(blocks[:-1], 1).squeeze())
    scale = max(1, 640 // sheet.width)
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.NEAREST).save(file, optimize=True)
    print(f"{file}: {', '.join(ways)}, {file.stat().st_size // 1000} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="images with classes; default scikit-learn's digits")
    parser.add_argument("--each", type=int, default=1000, help="images of each class of --data, at most")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS])
    parser.add_argument("--repeated", nargs="*", choices=WAYS, default=["naive", "default"], help="with all --seeds")
    parser.add_argument("--base-minutes", type=float, default=0.15)
    parser.add_argument("--minutes", type=float, default=0.12, help="of each further task")
    parser.add_argument("--anchor", type=float, default=1000.0)
    parser.add_argument("--patch", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--count", type=int, default=25, help="samples of each class and sampling seed")
    parser.add_argument("--sampling-seeds", type=int, default=3)
    parser.add_argument("--change", nargs="*", default=[], help="changes of the first run's recipe")
    parser.add_argument("--out", default="runs/continual", help="folder of the runs")
    parser.add_argument("--picture", help="a file for samples of naive, default and joint after the last task")
    parser.add_argument("--quick", action="store_true", help="20 steps of a small network: its figures mean nothing")
    asked = parser.parse_args()
    if asked.quick:
        asked.seeds, asked.count, asked.sampling_seeds, asked.ways = 1, 5, 1, ["naive", "exemplars", "joint"]
    figures = harness.introduce(machine.describe(), asked)
    out = Path(asked.out)
    data = digits(out / "data") if asked.data is None else images_of(Path(asked.data), out / "data", asked.each)
    classes, tasks, upto = tasks_of(data, out / "tasks")
    judge = Judge(data, classes, asked)
    print(f"the judge is right on {judge.accuracy:.1%} of held-out images")
    found = dict[str, dict[int, Any]]()
    for seed in range(asked.seeds):
        for way in asked.ways:
            if not seed or way in asked.repeated:
                found.setdefault(way, {})[seed] = chain(way, seed, tasks, upto, judge, asked)
    if asked.picture:
        shown = [way for way in ("naive", "default", "joint") if way in found]
        picture(shown, classes, asked, Path(asked.picture))
    report(found, {**figures, "judge": judge.accuracy}, asked)


def report(found: dict[str, dict[int, Any]], figures: dict[str, object], asked: argparse.Namespace) -> None:
    """Print the matrices and the forgetting of each way, and the line of JSON, which begins with `figures`."""
    rows, means, number = list[list[object]](), dict[str, float](), range(asked.sampling_seeds)
    for way, seeds in found.items():
        for seed, matrix in seeds.items():
            tasks = len(matrix)
            table = [
                [f"after {k}", *(_interval([*f["consistency"]]) for f in line), *[""] * (tasks - 1 - k),
                 *(_interval([*f["fd"]], 1) for f in line), *[""] * (tasks - 1 - k)]
                for k, line in enumerate(matrix)
            ]  # fmt: skip
            heads = ["", *(f"task {j}" for j in range(tasks)), *(f"FD {j}" for j in range(tasks))]
            harness.show(f"{way}, seed {seed}: consistency and FD", heads, table)
            drops, factors = zip(*(forgetting(matrix, s) for s in number), strict=True)
            new = statistics.mean(statistics.mean(matrix[k][k]["consistency"]) for k in range(1, tasks))
            last = [statistics.mean(f["consistency"][s] for f in matrix[-1]) for s in number]
            fds = [statistics.mean(f["fd"][s] for f in matrix[-1]) for s in number]
            rows.append([
                way, seed, _interval([*drops]), _interval([*factors], 2), f"{new:.3f}", _interval(last), _interval(fds, 1)
            ])  # fmt: skip
        means[way] = statistics.mean(
            statistics.mean(forgetting(matrix, s)[0] for s in number) for matrix in seeds.values()
        )
    heads = ["", "seed", "forgetting", "factor of FD", "new task", "all at the end", "FD at the end"]
    harness.show("forgetting", heads, rows)
    ratio = means["default"] / means["naive"] if {"default", "naive"} <= means.keys() and means["naive"] else None
    harness.conclude({**figures, "forgetting": ratio, "forgetting_of": means, "matrices": found})


def _interval(values: list[float], places: int = 3) -> str:
    found = mean_interval(values)
    return f"{found.estimate:.{places}f}" + ("" if found.low is None else f" ±{found.half_width:.{places}f}")


if __name__ == "__main__":
    main()
