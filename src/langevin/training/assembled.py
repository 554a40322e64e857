"""Checkpoints whose tensors are in parts, a file for each rank and group: safetensors that `torch.distributed.checkpoint`
writes, with the offsets of each part beside it."""

import json
import math
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

SHARD = "shard-"  # begins the names of its files
_OFFSETS = "DCP_SHARDING_INFO"


def assembled(path: Path, *, only: Collection[str] | None = None) -> dict[str, dict[str, Tensor]]:
    """The whole tensors of a checkpoint in parts, by group and name.

    Args:
        only: names of the groups to read; None is all.

    Raises:
        ValueError: parts are missing, or overlap, or are of other types than each other.
        OSError: a file cannot be read."""
    parts: dict[str, list[tuple[tuple[int, ...], Tensor]]] = {}
    for file in sorted(path.glob(f"{SHARD}*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            offsets = json.loads((opened.metadata() or {}).get(_OFFSETS, "{}"))
            for key in opened.keys():  # noqa: SIM118
                if only is None or key.split("/", 1)[0] in only:
                    at = offsets.get(key, {}).get("saved_offsets", [])
                    parts.setdefault(key, []).append((tuple(map(int, at)), opened.get_tensor(key)))
    groups: dict[str, dict[str, Tensor]] = {}
    for key, found in parts.items():
        group, name = key.split("/", 1)
        groups.setdefault(group, {})[name] = _joined(key, found)
    return groups


def _joined(key: str, parts: list[tuple[tuple[int, ...], Tensor]]) -> Tensor:
    """One tensor of its parts, which cover it once."""
    first = parts[0][1]
    if len(parts) == 1 and not any(parts[0][0]):
        return first
    if any(len(at) != part.ndim or part.dtype != first.dtype for at, part in parts):
        raise ValueError(f"the parts of '{key}' do not fit each other")
    shape = [max(at[i] + part.shape[i] for at, part in parts) for i in range(first.ndim)]
    if math.prod(shape) != sum(part.numel() for _, part in parts) or len({at for at, _ in parts}) < len(parts):
        raise ValueError(f"parts of '{key}' are missing or overlap")
    whole = first.new_empty(shape)
    for at, part in parts:
        whole[tuple(slice(start, start + size) for start, size in zip(at, part.shape, strict=True))] = part
    return whole


def bytes_of(groups: dict[str, dict[str, Tensor]]) -> int:
    """Bytes of all tensors."""
    return sum(
        t.numel() * t.element_size() for tensors in groups.values() for t in tensors.values() if torch.is_tensor(t)
    )
