"""What the network of a run adds to the gain of an edit: both versions of its words, given the text around them."""

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from langevin.modalities.modality import Request
from langevin.modalities.text.codec import AnyTokens
from langevin.modalities.text.infill import Writer, padded
from langevin.modalities.text.repair.text import Edit, applied

WEIGHT = 0.3  # of its nats: they are of the same words as those of the n-grams
NEAR = 300  # characters around an edit that are read
TOGETHER = 64  # versions in a batch


def weighed(
    writer: Writer, text: str, edits: Sequence[Edit], context_length: int
) -> Generator[Request, Tensor, list[Edit]]:
    """The edits with gains to which WEIGHT ln p(new) / p(old) is added, given the text around each with all other edits."""
    versions = [
        version
        for i, edit in enumerate(edits) if edit.reason != "capital"
        for version in _versions(writer.codec, text, edits, i, context_length)
    ]  # fmt: skip
    nats = torch.zeros(len(versions), dtype=torch.float64)
    order = sorted(range(len(versions)), key=lambda i: (int(versions[i][1].sum()), len(versions[i][0])))
    for indices in torch.tensor(order, dtype=torch.int64).split(TOGETHER) if order else ():
        x = padded([versions[i][0] for i in indices.tolist()], writer.words.padding)
        free = padded([versions[i][1].long() for i in indices.tolist()], 0).bool()
        nats[indices] = yield from writer.nats(x, free)
    gained = iter((WEIGHT * (nats[::2] - nats[1::2])).tolist())
    return [edit if edit.reason == "capital" else replace(edit, gain=edit.gain + next(gained)) for edit in edits]


def _versions(
    codec: AnyTokens, text: str, edits: Sequence[Edit], i: int, length: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(tokens, which differ) without and with edit i, at most `length` of them."""
    begin, end = max(0, edits[i].start - NEAR), edits[i].end + NEAR
    first = bisect_left(edits, begin, key=lambda edit: edit.start)
    around = [edit for edit in edits[first : bisect_right(edits, end, key=lambda e: e.start)] if edit.end <= end]
    near = [replace(edit, start=edit.start - begin, end=edit.end - begin) for edit in around]
    others = [moved for moved, edit in zip(near, around, strict=True) if edit is not edits[i]]
    old, new = (codec.encode(applied(text[begin:end], part)) for part in (others, near))
    shorter = min(len(old), len(new))
    same = old[:shorter] == new[:shorter]
    before = int(same.long().cumprod(0).sum())
    same = old.flip(0)[: shorter - before] == new.flip(0)[: shorter - before]
    after = int(same.long().cumprod(0).sum())
    longest = max(len(old), len(new)) - before - after
    first = max(0, before - max(0, length - longest) // 2)

    def cut(tokens: Tensor) -> tuple[Tensor, Tensor]:
        last = min(len(tokens), first + length)
        free = torch.zeros(last - first, dtype=torch.bool)
        free[before - first : len(tokens) - after - first] = True
        return tokens[first:last].long(), free

    return cut(old), cut(new)
