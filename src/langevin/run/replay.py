"""Samples that a run draws to remember by: under the conditions of its data, and kept if they pass a test.

A sample passes if it is near the data, and if it shows its class. Near means that its nearest neighbour among the data is
no farther than that of 99 in 100 other examples. It shows its class if that is the most frequent among its 5 nearest
neighbours. The same test of examples that are not among these neighbours says what real data would get. Classes are left
out of it where they are too few neighbours' affair: where real data has its class less often than in 6 of 10 cases.

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
    """

    passed: Tensor
    share: float
    real: float
    classes: tuple[float, float] | None
    counted: bool

    @property
    def line(self) -> str:
        """The figures in words."""
        count = f"{len(self.passed):,}"
        text = f"{self.share:.0%} of {count} samples pass the test of neighbours, and {self.real:.0%} of real data"
        if self.classes is None:
            return text
        own, real = self.classes
        why = "" if self.counted else ", which is too little to count"
        return f"{text}; their class is that of their neighbours for {own:.0%}, and for {real:.0%} of real data{why}"

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
    order = balanced(labels_of(real), REFERENCES + REFERENCES // 2, seed=seed + 1)
    held = order[: max(2, len(order) // 3)]
    reference = select(real, order[len(held) :])
    sides = [samples, select(real, held)]
    features = _features([reference.x, *(side.x for side in sides)])
    labels = labels_of(reference)
    classes = bool((labels >= 0).any())
    near, found = zip(*(_neighbours(one, features[0], labels) for one in features[1:]), strict=True)
    bound = float(near[1].quantile(NEAR))
    own, real_share = (float((f == labels_of(side)).float().mean()) for f, side in zip(found, sides, strict=True))
    counted = classes and real_share >= TELLING
    passed = [
        (distance <= bound) & ((f == labels_of(side)) | (not counted))
        for distance, f, side in zip(near, found, sides, strict=True)
    ]
    shares = [float(one.float().mean()) for one in passed]
    return Quality(
        passed=passed[0],
        share=shares[0],
        real=shares[1],
        classes=(own, real_share) if classes else None,
        counted=counted,
    )


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
