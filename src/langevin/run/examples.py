"""Examples as a file, named by its hash: what a run keeps of earlier data, within a number of bytes.

Numbers are stored in float16, and tokens in the smallest integers that hold them.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import FACTS, PORTS, Condition, Port, class_labels
from langevin.files import own_folder, read_regular, write_atomic
from langevin.training.continual import select
from langevin.training.order import permutation

FOLDER = "continual"
LARGEST = 2**33  # bytes of a file
INTEGERS = (torch.uint8, torch.int16, torch.int32)


def labels_of(examples: Batch) -> Tensor:
    """(n,) int64: the class of each example, -1 where there is none."""
    port = None if examples.condition is None else examples.condition.global_
    if port is None:
        return torch.full((len(examples.x),), -1)
    return class_labels(port).cpu()


def balanced(labels: Tensor, count: int, *, seed: int) -> Tensor:
    """Indices (m,) of `count` examples in random order, as many of each class as of another; all if there are fewer.

    Classes with too few leave their places to the others. The first k of them are balanced too, for any k."""
    order = permutation(len(labels), seed=seed, epoch=0)
    rank = torch.empty_like(order)
    for label in labels.unique():
        at = labels[order] == label
        rank[at] = torch.arange(int(at.sum()))
    return order[rank.argsort(stable=True)][:count]


def in_turn(labels: Tensor, count: int, *, seed: int) -> Tensor:
    """Indices (count,) of examples of one class after another; each class's own come again when all were taken."""
    order = balanced(labels, len(labels), seed=seed)
    number = len(labels.unique())
    found = torch.empty(count, dtype=torch.int64)
    for i, label in enumerate(labels[order[: min(number, count)]]):  # one of each class
        own, at = order[labels[order] == label], torch.arange(i, count, number)
        found[at] = own[(at // number) % len(own)]
    return found


def tensors_of(examples: Batch) -> dict[str, Tensor]:
    """The tensors of examples by name: x, mask, known, port.part and facts of the condition.

    Raises:
        ValueError: examples that consist of several parts."""
    if not isinstance(examples.x, Tensor):
        raise ValueError("only examples that are one tensor each are kept, and these consist of parts")
    found: dict[str, Any] = {"x": examples.x, "mask": examples.mask, "known": examples.known}
    condition = examples.condition or Condition()
    for name, port in condition.ports.items():
        found |= {f"{name}.{f.name}": getattr(port, f.name) for f in fields(port)}
    found |= {name: getattr(condition, name) for name in FACTS if isinstance(getattr(condition, name), Tensor)}
    return {name: tensor.detach().cpu() for name, tensor in found.items() if tensor is not None}


def examples_of(tensors: Mapping[str, Tensor]) -> Batch:
    """The examples of `tensors_of`; int64 and float32 again.

    Raises:
        ValueError: there is no x, a name that is not known, or another number of examples in one of them."""
    wide = {
        n: t if t.dtype == torch.bool else t.float() if t.is_floating_point() else t.long() for n, t in tensors.items()
    }
    if "x" not in wide or not all(t.ndim and len(t) == len(wide["x"]) > 0 for t in wide.values()):
        raise ValueError("it does not hold examples")
    if not all(bool(t.isfinite().all()) for t in wide.values()):
        raise ValueError("it holds numbers that are not finite")
    parts = {name: wide.pop(name, None) for name in ("x", "mask", "known")}
    ports = dict[str, dict[str, Tensor]]()
    facts = {name: wide.pop(name) for name in FACTS if name in wide}
    for name, tensor in wide.items():
        port, _, part = name.partition(".")
        if port not in PORTS or part not in {f.name for f in fields(Port)}:
            raise ValueError(f"it holds '{name}', which is no part of an example")
        ports.setdefault(port, {})[part] = tensor
    condition = Condition(**{name: Port(**port) for name, port in ports.items()}, **facts) if ports or facts else None  # type: ignore[arg-type]
    return Batch(x=parts["x"], condition=condition, mask=parts["mask"], known=parts["known"])


def packed(examples: Batch) -> bytes:
    """The content of the file of examples."""
    return save({name: _small(tensor).contiguous() for name, tensor in tensors_of(examples).items()})


def _small(tensor: Tensor) -> Tensor:
    if tensor.dtype == torch.bool:
        return tensor
    if tensor.is_floating_point():
        return tensor.half()
    fits = (
        kind for kind in INTEGERS if tensor.min() >= torch.iinfo(kind).min and tensor.max() <= torch.iinfo(kind).max
    )
    return tensor.to(next(fits, torch.int64))


def within(examples: Batch, budget: int, *, seed: int) -> Batch:
    """As many of the examples as a file of `budget` bytes holds, balanced over their classes.

    Raises:
        ValueError: not even one."""
    order = balanced(labels_of(examples), len(examples.x), seed=seed)
    low, high = 0, len(order)
    while low < high:  # the size grows with the number of examples
        middle = (low + high + 1) // 2
        fits = len(packed(select(examples, order[:middle]))) <= budget
        low, high = (middle, high) if fits else (low, middle - 1)
    if not low:
        least = len(packed(select(examples, order[:1])))
        raise ValueError(
            f"--exemplars {budget:,} bytes are too few for one example, which takes {least:,}: give more, or 0 for none"
        )
    return select(examples, order[:low])


def hash_of(content: bytes) -> str:
    """SHA-256 of the content of a file, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def write(run: Path, kind: str, content: bytes) -> None:
    """Write a file of a run, which is named by its hash."""
    write_atomic(file_of(run, kind, hash_of(content), create=True), content)


def file_of(run: Path, kind: str, sha256: str, *, create: bool = False) -> Path:
    """The file of a kind and a hash in a run."""
    return own_folder(run, FOLDER, create=create) / f"{kind}-{sha256[:16]}.safetensors"


def read(run: Path, kind: str, sha256: str) -> bytes:
    """The content of a file of a run.

    Raises:
        ValueError: it is gone, or not the one that the run's recipe names by its hash."""
    file = file_of(run, kind, sha256)
    try:
        content = read_regular(file, most=LARGEST)
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error}): put a copy of it back") from error
    if hash_of(content) != sha256:
        raise ValueError(
            f"{file} is damaged or of another run, as its hash is not the one that the recipe names: put a copy of it back"
        )
    return content


def unpacked(content: bytes) -> dict[str, Tensor]:
    """The tensors of a file. Raises `ValueError` where it is not readable."""
    try:
        return load(content)
    except (ValueError, SafetensorError) as error:
        raise ValueError(f"a file of this run's memory is damaged ({error}): put a copy of it back") from error
