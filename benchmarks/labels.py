"""Few labels: what the images without a label add, at equal minutes.

    python benchmarks/labels.py --quick                           it runs; its figures mean nothing
    python benchmarks/labels.py --minutes 2                       10, 40 and 100 labels a class of scikit-learn's digits
    python benchmarks/labels.py --file digits.parquet --size 14   images of your own, in classes

The sides, each trained by the same recipe for the same minutes:

    supervised   on the labelled images alone
    missing      on all images; where a label is missing, the class is withheld
    self         a third of the minutes like that; then labels by a probe on the run's activations, the confident ones, and
                 the rest of the minutes with these
    all          on all images with all labels

Of each: class consistency, the share of samples that a classifier trained on all labels takes for the class that was
asked for; the Fréchet distance to held-out images in its features; the accuracy on held-out images of a classifier that is
trained on the samples alone ("Classification Accuracy Score for Conditional Generative Models", 2019, arXiv 1905.10887),
which copies of a few images do not help; the share of samples that are new, farther from all labelled images than these are
from each other; and the accuracy of the run itself as a classifier of held-out images, by denoising and by the probe. The
last line is JSON; `label_gain` is `self` minus `supervised` at the fewest labels.
"""

import argparse
import csv
import json
import random
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Picture

from langevin.cli import main as langevin
from langevin.evaluation.frechet import Moments, frechet_distance
from langevin.modalities.image.classifier import Classifier, train_classifier
from langevin.modalities.image.data import Digits, Folder, Images, load_parts
from langevin.modalities.image.metrics import class_consistency

SIDES = ("supervised", "missing", "self", "all")
FIRST = 1 / 3  # of the minutes of `self`, before it labels


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A side's figures: shares, and a distance."""

    side: str
    labels: int
    consistency: float
    distance: float
    score: float
    new: float
    denoising: float
    probe: float
    seconds: float


def exported(source: Any, out: Path) -> None:
    """The images of a source as PNG files, in a folder per class."""
    train, held_out = load_parts(source)
    for part in (train, held_out):
        assert part.labels is not None
        for i, name in enumerate(part.names):
            file = out / part.classes[int(part.labels[i])] / f"{Path(name).stem}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = part.read(torch.tensor([i]))[0]
            Picture.fromarray(pixels.permute(1, 2, 0).squeeze(2).numpy()).save(file)


def chosen(files: list[Path], count: int, seed: int) -> list[Path]:
    """`count` files of each class."""
    groups: dict[str, list[Path]] = {}
    for file in files:
        groups.setdefault(file.parent.name, []).append(file)
    draw = random.Random(seed)
    return [file for group in groups.values() for file in draw.sample(group, min(count, len(group)))]


def called(*words: Any) -> None:
    """A command of langevin. Raises `RuntimeError` if it fails."""
    if langevin([str(word) for word in words]):
        raise RuntimeError(" ".join(map(str, words)))


class Sides:
    """The sides of one number of labels.

    Args:
        images: the folder of all images; `work` is for what is made.
        held_out: files of the held-out part, in folders of their classes.
    """

    def __init__(
        self, options: argparse.Namespace, images: Path, held_out: Path, work: Path, judge: Classifier, real: Images
    ) -> None:
        self.options, self.images, self.held_out, self.work = options, images, held_out, work
        self.judge, self.real = judge, real

    def train(self, name: str, minutes: float, data: Path, *more: str) -> Path:
        out = self.work / name
        size = [f"data.size={self.options.size}"] if self.options.size else []
        length = [f"training.steps={self.options.steps}"] if self.options.steps else ["--minutes", minutes]
        words = [self.options.recipe, "--data", data, "--out", out, "--seed", self.options.seed, *length]
        called("train", *words, *size, "training.threads=1", *more)
        return out

    def copy(self, count: int, labelled: list[Path]) -> None:
        """The labelled images alone, in a folder of their own."""
        for file in labelled:
            target = self.work / f"few-{count}" / file.relative_to(self.images)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)

    def supervised(self, count: int) -> Path:
        return self.train(f"supervised-{count}", self.options.minutes, self.work / f"few-{count}")

    def labels(self, count: int, labelled: list[Path]) -> Path:
        """The file of labels, most of them empty."""
        path = self.work / f"labels-{count}.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file_name", "label"])
            for one in sorted(self.images.rglob("*.png")):
                name = one.relative_to(self.images).as_posix()
                writer.writerow([name, one.parent.name if one in labelled else ""])
        return path

    def missing(self, count: int, labels: Path, minutes: float, name: str = "missing") -> Path:
        return self.train(f"{name}-{count}", minutes, self.images, f"data.labels={labels}")

    def self_trained(self, count: int, labels: Path) -> Path:
        first = self.missing(count, labels, self.options.minutes * FIRST, "first")
        found = self.work / f"found-{count}.csv"
        called("classify", first, "--by", "probe", "--error", self.options.error, "--out", found)
        with found.open() as file:
            kept = {row["file_name"]: row["label"] for row in csv.DictReader(file) if row["label"]}
        right = sum(Path(name).parent.name == label for name, label in kept.items())
        print(f"labels after the first part: {len(kept):,}, {right / len(kept):.3f} of them right", flush=True)
        more = (f"data.labels={found}", f"init_from={first}")
        return self.train(f"self-{count}", self.options.minutes * (1 - FIRST), self.images, *more)

    def accuracy(self, run: Path, by: str) -> float:
        """Of the run as a classifier of the held-out images."""
        out = self.work / f"{run.name}-{by}.json"
        called("classify", run, self.held_out, "--by", by, "--noises", 16, "--out", out)
        return json.loads(out.read_text())["accuracy"]

    def new(self, images: torch.Tensor, count: int) -> float:
        """The share of images that are farther from the nearest labelled one than that one is from the others."""
        few, _ = load_parts(Folder(path=str(self.work / f"few-{count}"), size=self.options.size))
        known = few.read(torch.arange(len(few))).flatten(1).double()
        own = torch.cdist(known, known).fill_diagonal_(torch.inf).amin(1)
        distance, at = torch.cdist(images.flatten(1).double(), known).min(1)
        return float((distance > own[at]).double().mean())

    def measure(self, side: str, count: int, run: Path, begun: float) -> Measured:
        seconds = time.perf_counter() - begun
        out = self.work / f"{run.name}.npz"
        called("sample", run, "--count", self.options.samples, "--out", out)
        with np.load(out) as drawn:
            images, labels = torch.from_numpy(drawn["images"]).permute(0, 3, 1, 2), torch.from_numpy(drawn["labels"])
        real = self.real.read(torch.arange(len(self.real)))
        assert self.real.labels is not None
        pupil = train_classifier(
            images, labels, len(self.real.classes), seed=0, epochs=20, held_out=(real, self.real.labels)
        )  # fmt: skip
        assert pupil.training_record is not None
        return Measured(
            side=side, labels=count, consistency=class_consistency(self.judge, images, labels).accuracy,
            distance=frechet_distance(*(Moments.of(self.judge.features(part)) for part in (images, real))),
            score=pupil.training_record.held_out_accuracy or 0.0, new=self.new(images, count),
            denoising=self.accuracy(run, "denoising"), probe=self.accuracy(run, "probe"), seconds=seconds,
        )  # fmt: skip


def judge_of(train: Images, held_out: Images) -> Classifier:
    """A classifier trained on all labels."""
    assert train.labels is not None
    assert held_out.labels is not None
    test = (held_out.read(torch.arange(len(held_out))), held_out.labels)
    judge = train_classifier(
        train.read(torch.arange(len(train))), train.labels, len(train.classes), seed=0, epochs=20, held_out=test
    )
    record = judge.training_record
    print(f"the judge, on all labels, has an accuracy of {record.held_out_accuracy if record else 0:.3f}", flush=True)
    return judge


def compare(options: argparse.Namespace, work: Path) -> list[Measured]:
    """All sides for all numbers of labels."""
    images, held_out = work / "images", work / "held-out"
    exported(Folder(path=options.file, size=options.size) if options.file else Digits(), images)
    train, val = load_parts(Folder(path=str(images)))
    for name in val.names:
        (held_out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(images / name, held_out / name)
    sides = Sides(options, images, held_out, work, judge_of(train, val), val)
    files, found = sorted(images.rglob("*.png")), list[Measured]()

    def measured(side: str, count: int, make: Any) -> None:
        if side not in options.sides:
            return
        begun = time.perf_counter()
        found.append(sides.measure(side, count, make(), begun))
        print(found[-1], flush=True)

    for count in options.labels:
        labelled = chosen(files, count, options.seed)
        labels = sides.labels(count, labelled)
        sides.copy(count, labelled)
        measured("supervised", count, lambda count=count: sides.supervised(count))
        measured("missing", count, lambda labels=labels, count=count: sides.missing(count, labels, options.minutes))
        measured("self", count, lambda labels=labels, count=count: sides.self_trained(count, labels))
    sides.copy(len(train), files)
    measured("all", len(train), lambda: sides.train("all", options.minutes, images))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", help="a folder or Parquet file of images in classes; default scikit-learn's digits")
    parser.add_argument("--recipe", default="image/digits")
    parser.add_argument("--size", type=int)
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 40, 100])
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--steps", type=int, help="in place of the minutes, for each training")
    parser.add_argument("--error", type=float, default=0.1)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.labels, options.steps, options.samples, options.error = [40], 4, 40, 0.9
    with tempfile.TemporaryDirectory() as work:
        found = compare(options, Path(work))
    few = {row.side: row for row in found if row.labels == min(options.labels)}
    gain = {}
    if {"self", "supervised"} <= few.keys():
        names = ("consistency", "distance", "score", "new", "denoising", "probe")
        gain = {name: getattr(few["self"], name) - getattr(few["supervised"], name) for name in names}
    print(json.dumps({"label_gain": gain, "rows": [asdict(row) for row in found], "options": vars(options)}))


if __name__ == "__main__":
    main()
