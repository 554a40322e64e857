"""N-grams of the training data that the network of a run counts before its first step, stored as RUN/counts.safetensors."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from langevin.files import read_regular, write_atomic
from langevin.networks.ngram_prior import NgramPrior, counted
from langevin.recipe.build import Built
from langevin.run.display import Display

FILE = "counts.safetensors"
LARGEST = 2**33  # bytes of the file
TOGETHER = 256  # sequences that are read at a time


def counted_in(built: Built, data: Any, display: Display) -> dict[str, Tensor]:
    """The n-grams of the training data that the network reads; none if it reads none."""
    priors = [module for module in built.model.network.modules() if isinstance(module, NgramPrior)]
    if not priors:
        return {}
    batches, progress = built.batches(data), display.progress("counting n-grams of sequence")

    def sequences() -> Iterator[Tensor]:
        for items in torch.arange(len(batches)).split(TOGETHER):
            yield batches(items).x.cpu()
            progress(int(items[-1]) + 1, len(batches))

    return counted(sequences(), vocab_size=priors[0].vocab_size, order=priors[0].order)


def put(network: nn.Module, counts: Mapping[str, Tensor]) -> None:
    """Give the counts to the parts of a network that read them.

    Raises:
        ValueError: there are none, or they are of another vocabulary or order."""
    for module in network.modules():
        if isinstance(module, NgramPrior):
            if not counts:
                raise ValueError(f"the run's {FILE} is gone, which its network reads: put a copy of it back")
            module.load(counts)


def read(path: Path) -> dict[str, Tensor]:
    """The counts of the run at a path; none if it has none.

    Raises:
        ValueError: the file is damaged."""
    file = path / FILE
    if not file.is_file():
        return {}
    try:
        return load(read_regular(file, most=LARGEST))
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"{file} is damaged ({error}): put a copy of it back, or train the run again") from error


def write(path: Path, counts: Mapping[str, Tensor]) -> None:
    """Store the counts of the run at a path, if it has some."""
    if counts:
        write_atomic(path / FILE, save({name: part.contiguous() for name, part in counts.items()}))
