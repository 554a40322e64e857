"""Examples to classify, and what is known of their classes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.modalities.modality import Batches, Model, RequestContext

READ = 256  # examples whose labels are read together


@dataclass(frozen=True, kw_only=True, eq=False)
class Items:
    """n encoded examples.

    Args:
        classes: the names of the classes that the network was trained with.
        batches: the examples.
        names: one for each.
        labels: (n,) int64, the class that each is labelled with; -1 where there is none.
    """

    classes: tuple[str, ...]
    batches: Batches
    names: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.names)

    @property
    def known(self) -> Tensor:
        """The items that are labelled, int64."""
        return (self.labels >= 0).nonzero()[:, 0]

    def chunks(self, size: int, index: Tensor | None = None) -> Iterator[tuple[Tensor, Batch]]:
        """Some items (all by default), `size` together: their indices (b,), and the batch."""
        at = torch.arange(len(self)) if index is None else index
        for items in at.split(max(1, size)):
            yield items, self.batches(items)


def classes_of(modality: Any) -> tuple[str, ...]:
    """The classes that a run was trained with.

    Raises:
        ValueError: none, or a single one."""
    names: tuple[str, ...] = getattr(modality, "class_names", ())
    if not names:
        raise ValueError(
            "this run was trained without classes, so it cannot tell them apart: train on data with labels, of which most "
            "may be missing"
        )
    if len(names) == 1:
        raise ValueError(f"this run knows the single class '{names[0]}', so there is nothing to tell apart")
    return names


def items_of(model: Model, dataset: Any) -> Items:
    """The items of a part of the run's own data, with its labels."""
    batches = model.batches(dataset)
    names: Sequence[str] = getattr(dataset, "names", None) or [f"item {i}" for i in range(len(batches))]
    found = [labels_in(batches(items)) for items in torch.arange(len(batches)).split(READ)]
    labels = torch.cat(found) if found else torch.zeros(0, dtype=torch.int64)
    return Items(classes=classes_of(model.modality), batches=batches, names=tuple(names), labels=labels)


def labels_in(batch: Batch) -> Tensor:
    """The classes that examples are conditioned on, (b,) int64; -1 where it is withheld.

    Raises:
        ValueError: they are not conditioned on classes."""
    port = None if batch.condition is None else batch.condition.global_
    if port is None:
        raise ValueError("these examples are not conditioned on classes, and the run is: they are not of its kind")
    return port.tensor.where(port.kept(), -1).cpu()


def files_of(context: RequestContext, files: Sequence[str]) -> Items:
    """The items in files or folders, with the labels that they have there.

    Raises:
        ValueError: the run's kind of data does not read files of its own for this, or these cannot be read."""
    modality = context.model.modality
    reader = getattr(modality, "labelled_files", None)
    if reader is None:
        raise ValueError(f"runs of {modality.kind} classify their own data only: leave the files out")
    dataset, unknown = reader(files, context.say)
    if unknown:
        context.say(f"classes that the run does not know, taken as no label: {', '.join(unknown)}")
    return items_of(context.model, dataset)
