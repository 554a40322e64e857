"""Checkpoints whose tensors are in parts, a file for each rank and group: safetensors that `torch.distributed.checkpoint`
writes, with the offsets of each part beside it."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

SHARD = "shard-"  # begins the names of its files
_OFFSETS = "DCP_SHARDING_INFO"


def assembled(
    files: Sequence[Path], *, shapes: Mapping[str, Any] | None = None, only: Collection[str] | None = None
) -> dict[str, dict[str, Tensor]]:
    """The whole tensors of a checkpoint in parts, by group and name.

    Args:
        files: with the parts.
        shapes: of all whole tensors, by "group/name"; None if they are not known.
        only: names of the groups to read; None is all.

    Raises:
        ValueError: parts are missing, or overlap, or are of other types than each other, or a file is malformed.
        OSError: a file cannot be read."""
    parts: dict[str, list[tuple[tuple[int, ...], Tensor]]] = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            offsets = json.loads((opened.metadata() or {}).get(_OFFSETS, "{}"))
            for key in opened.keys():  # noqa: SIM118
                if only is None or key.split("/", 1)[0] in only:
                    parts.setdefault(key, []).append((_offset(offsets, key), opened.get_tensor(key)))
    if shapes is not None:
        expected = {key for key in shapes if only is None or key.split("/", 1)[0] in only}
        if different := expected ^ parts.keys():
            raise ValueError(f"'{min(different)}' is missing, or is none of its tensors")
    groups: dict[str, dict[str, Tensor]] = {}
    for key, found in parts.items():
        group, name = key.split("/", 1)
        whole = groups.setdefault(group, {})[name] = _joined(key, found)
        if shapes is not None and list(whole.shape) != shapes[key]:
            raise ValueError(f"parts of '{key}' are missing: they make {list(whole.shape)} of {shapes[key]}")
    return groups


def _offset(offsets: Any, key: str) -> tuple[int, ...]:
    """Where a part begins in its whole tensor; empty if the file does not say."""
    about = offsets.get(key, {}) if isinstance(offsets, dict) else None
    at = about.get("saved_offsets", []) if isinstance(about, dict) else None
    if not isinstance(at, list) or any(type(start) is not int or start < 0 for start in at):
        raise ValueError(f"it is not said where the part of '{key}' begins")
    return tuple(at)


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
