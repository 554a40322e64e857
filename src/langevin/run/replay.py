"""Samples that a run draws to remember by: under the conditions of its data, and kept if they pass a test.

A sample passes if it is near the data, and if it shows its class. Near means that its nearest neighbour among the data is
no farther than that of 99 in 100 other examples. It shows its class if that is the most frequent among its 5 nearest
neighbours. The same test of examples that are not among these neighbours says what real data would get. Classes are left
out of it where they are too few neighbours' affair: where real data has its class less often than in 6 of 10 cases.

Classes count alike: as many neighbours of each as of another, as far as there are, and a share of real data is the mean of
the classes' shares. For the samples, too, are as many of each class.

Distances are Euclidean between x, and for tokens between the square roots of their frequencies (Hellinger's distance).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.modalities.modality import Draw, Plan, Samples
from langevin.run.examples import balanced, labels_of
from langevin.run.generate import RunModel
from langevin.training.continual import select

NEIGHBOURS = 5
NEAR = 0.99  # quantile of real data's distances
TELLING = 0.6  # of real data that must show its class, for classes to count
ENOUGH = 0.25  # of the share of real data that passes: the least share of samples
REFERENCES = 6000  # examples, at most, that samples are compared with, and half as many that say what real data gets
FEWEST = 20  # examples of a class to compare with, where it has them, though another class has fewer


def drawn(
    model: RunModel, conditions: Batch, *, seed: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> Batch:
    """A sample of the model under each of the conditions, as the run draws."""
    request = Draw(
        shape=tuple(conditions.x.shape[1:]), sampling=model.sampling, condition=conditions.condition,
        seeds=torch.arange(len(conditions.x)) + 1_000_003 * (seed + 7),
    )  # fmt: skip
    found = list[Tensor]()

    def plan() -> Plan:
        x = yield request
        found.append(x)
        return Samples(modality=model.modality, values=x)

    model.run(plan(), progress=progress)
    return Batch(x=found[0], condition=conditions.condition)


@dataclass(frozen=True, kw_only=True, eq=False)
class Quality:
    """The test of samples beside that of real examples.

    Args:
        passed: (n,) bool, of the samples.
        share, real: of samples and of real examples that pass.
        classes: shares of samples and of real examples that show their class; None where there are no classes.
        counted: whether classes are a part of the test.
        reference: what the real examples are, in words.
    """

    passed: Tensor
    share: float
    real: float
    classes: tuple[float, float] | None
    counted: bool
    reference: str = "real data"

    @property
    def line(self) -> str:
        """The figures in words."""
        count = f"{len(self.passed):,}"
        text = (
            f"{self.share:.0%} of {count} samples pass the test of neighbours, and {self.real:.0%} of {self.reference}"
        )
        if self.classes is None:
            return text
        own, real = self.classes
        why = "" if self.counted else ", which is too little to count"
        return f"{text}; their class is that of their neighbours for {own:.0%}, and for {real:.0%} of {self.reference}{why}"

    def require_good(self, run: str) -> None:
        """Raises `ValueError` if too few samples pass, with the figures."""
        if self.share < ENOUGH * self.real or self.share == 0:
            raise ValueError(
                f"the samples of {run} are too bad to remember by: {self.line}. Train it longer, or give --replay 0, which "
                "keeps to stored examples"
            )


def quality_of(samples: Batch, real: Batch, *, seed: int) -> Quality:
    """Test samples beside real examples of the same data.

    Raises:
        ValueError: there are fewer than 8 real examples."""
    if len(real.x) < 8:
        raise ValueError(
            f"samples are tested beside 8 real examples or more, and {len(real.x)} are at hand: give --replay 0"
        )
    compared, held = divided(labels_of(real), seed=seed + 1)
    reference = select(real, compared)
    sides = [samples, select(real, held)]
    weights = [torch.full((len(samples.x),), 1 / len(samples.x)), _alike(labels_of(sides[1]))]
    features = _features([reference.x, *(side.x for side in sides)])
    labels = labels_of(reference)
    classes = bool((labels >= 0).any())
    near, found = zip(*(_neighbours(one, features[0], labels) for one in features[1:]), strict=True)
    bound = _quantile(near[1], weights[1])
    own, real_share = (float(w[f == labels_of(side)].sum()) for f, side, w in zip(found, sides, weights, strict=True))
    counted = classes and real_share >= TELLING
    passed = [
        (distance <= bound) & ((f == labels_of(side)) | (not counted))
        for distance, f, side in zip(near, found, sides, strict=True)
    ]
    shares = [float(w[one].sum()) for one, w in zip(passed, weights, strict=True)]
    return Quality(
        passed=passed[0],
        share=shares[0],
        real=shares[1],
        classes=(own, real_share) if classes else None,
        counted=counted,
    )


def divided(labels: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the examples that samples are compared with, and of those held out: a third of each class.

    The former are as many of each class as of that with the fewest, or `FEWEST` where a class has these."""
    order = balanced(labels, REFERENCES + REFERENCES // 2, seed=seed)
    each = [order[labels[order] == label] for label in labels.unique()]
    apart = [len(one) // 3 for one in each]
    if not any(apart):  # classes of two examples, and of one
        apart = [len(one) // 2 for one in each]
    if not any(apart):
        raise ValueError(
            "samples are tested beside several real examples of a class, and there is one of each: give --replay 0"
        )
    fewest = max(FEWEST, min(len(one) - n for one, n in zip(each, apart, strict=True)))
    compared = torch.cat([one[n:][:fewest] for one, n in zip(each, apart, strict=True)])
    return compared, torch.cat([one[:n] for one, n in zip(each, apart, strict=True)])


def _alike(labels: Tensor) -> Tensor:
    """(n,) float32: weights of examples whose sum is 1, and the same for each class."""
    _, index, counts = labels.unique(return_inverse=True, return_counts=True)
    return 1 / (counts[index] * len(counts))


def _quantile(values: Tensor, weights: Tensor) -> float:
    """The least of the values that `NEAR` of the weights do not exceed."""
    order = values.argsort()
    at = int(torch.searchsorted(weights[order].double().cumsum(0), NEAR))
    return float(values[order][min(at, len(values) - 1)])


def _features(parts: list[Tensor]) -> list[Tensor]:
    if parts[0].is_floating_point():
        return [x.float().flatten(1) for x in parts]
    count = 1 + max(int(x.max()) for x in parts)
    return [
        torch.zeros(len(x), count).scatter_add_(1, x.flatten(1), torch.ones_like(x.flatten(1), dtype=torch.float32))
        .div(x[0].numel()).sqrt()
        for x in parts
    ]  # fmt: skip


def _neighbours(x: Tensor, reference: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The distance (n,) of the nearest neighbour of x, and the most frequent class (n,) of the nearest few."""
    distances, found = list[Tensor](), list[Tensor]()
    for part in x.split(512):
        least, at = torch.cdist(part, reference).topk(min(NEIGHBOURS, len(reference)), largest=False)
        distances.append(least[:, 0])
        found.append(labels[at].mode(1).values)
    return torch.cat(distances), torch.cat(found)
