"""Classes by a linear classifier on a run's own activations, beside one on the data themselves."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.class_posterior import NoiseLevels
from langevin.diffusion.condition import Condition
from langevin.diffusion.noise import SampleNoise, mix
from langevin.diffusion.process import Gaussian
from langevin.modalities.classification.items import Items
from langevin.modalities.classification.linear import LinearClassifier, clusters, mutual_information
from langevin.modalities.modality import Model, Predict, Progress, Request

LEVEL = 4.0  # ln(SNR sigma_data^2): noise of a seventh of the data's standard deviation
HIDDEN = 0.2  # of the tokens, of a discrete process
MOST = 20_000  # training examples that are looked at


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Of n examples: the network's activations (n, d), and the data (n, e), None where they differ in size."""

    network: Tensor
    data: Tensor | None


def features_of(
    model: Model, items: Items, *, seed: int, progress: Progress, index: Tensor | None = None
) -> Generator[Request, Tensor, Features]:
    """The features of some items, all by default, at one noise level and without conditions.

    Raises:
        ValueError: the network has no blocks."""
    network, data = list[Tensor](), list[Tensor]()
    process: Any = model.parts.process
    count = len(items) if index is None else len(index)
    for at, batch in items.chunks(256, index):
        x = batch.x.cpu()
        noise = SampleNoise(seeds=mix(torch.full_like(at, seed), at), steps=torch.full_like(at, -7))
        t = torch.full((len(at),), HIDDEN, dtype=torch.float64)
        if isinstance(process, Gaussian):
            t, _ = NoiseLevels(low=LEVEL - 1, high=LEVEL + 1).times(process, torch.full((len(at),), 0.5))
        x_t = process.corrupt(x, t, noise, None if batch.known is None else batch.known.cpu())
        where = None if x.is_floating_point() else torch.ones_like(x, dtype=torch.bool)
        condition = (batch.condition or Condition()).to(x.device).dropped()
        network.append((yield Predict(x_t=x_t, t=t, where=where, condition=condition, activations=True)))
        data.append(x.flatten(1).float())
        progress(min(count, sum(map(len, network))), count)
    same = len({part.shape[1] for part in data}) == 1
    return Features(network=torch.cat(network), data=torch.cat(data) if same else None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """Linear classifiers fitted to a run's labelled training examples, on activations and on the data."""

    network: LinearClassifier
    data: LinearClassifier | None
    others: Tensor  # ln p(c | x) of the examples that it was fitted to, by probes that were fitted to others
    labels: Tensor  # theirs

    @classmethod
    def fit(cls, features: Features, labels: Tensor, classes: int) -> "Probe":
        """Fitted to features and labels (n,). Raises `ValueError` for labels of fewer than two classes."""
        network = LinearClassifier.fit(features.network, labels, classes)
        return cls(
            network=network,
            data=None if features.data is None else LinearClassifier.fit(features.data, labels, classes),
            others=network.cross_validated(features.network, labels, classes, network.penalty),
            labels=labels,
        )

    def lines(self, features: Features, labels: Tensor, classes: int) -> list[str]:
        """How well both do on n >= 1 labelled examples that they were not fitted to, and how well clusters fit these."""
        said = list[str]()
        for what, classifier, x in (
            ("activations", self.network, features.network), ("the data themselves", self.data, features.data)
        ):  # fmt: skip
            if classifier is None or x is None or x.shape[1] != len(classifier.mean):
                continue
            right = float((classifier.log_posterior(x).argmax(1) == labels).double().mean())
            line = f"{what}: a linear probe has an accuracy of {right:.3f} on {len(labels):,} held-out examples"
            if len(labels) > 2 * classes:
                known = mutual_information(clusters(x, classes), labels)
                line += f"; {classes} clusters share {known:.3f} of the information on the class"
            said.append(line)
        return said
