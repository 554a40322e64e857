"""Data of several modalities, matched: each example of the first part with examples of the others that say the same."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.noise import SampleNoise, mix
from langevin.modalities.captions import split_words
from langevin.modalities.modality import DataReport
from langevin.modalities.paths import some

FIXED = 0x3A7C  # names the partners of an item where no noise is given


def said(dataset: Any, column: str) -> list[str]:
    """What each item of a dataset says in a column: one of its labels, `text` or `class`.

    Raises:
        ValueError: it has no such column."""
    labels = getattr(dataset, "labels", None)
    if isinstance(labels, Mapping) and column in labels:
        names, values = labels[column]
        return [names[i] for i in values.tolist()]
    if column == "class" and isinstance(labels, Tensor):
        return [dataset.classes[i] if i >= 0 else "" for i in labels.tolist()]
    texts = next((found for name in ("texts", "captions") if (found := getattr(dataset, name, None))), None)
    if column == "text" and texts:
        return list(texts)
    known = [*(labels if isinstance(labels, Mapping) else []), *(["class"] if isinstance(labels, Tensor) else [])]
    known += ["text"] if texts else []
    raise ValueError(f"the data has no column '{column}' to match by; it has {', '.join(known) or 'none'}")


def key(text: str) -> str:
    """What is compared: the words of a text."""
    return " ".join(split_words(text))


@dataclass(frozen=True, kw_only=True)
class Notes:
    """A `DataReport` of all parts, by name, and remarks of their match."""

    parts: Mapping[str, DataReport]
    remarks: tuple[str, ...] = ()

    @property
    def broken(self) -> tuple[tuple[str, str], ...]:
        return tuple(one for part in self.parts.values() for one in part.broken)

    def lines(self) -> list[str]:
        """One sentence per finding; empty if there are none."""
        return [*self.remarks, *(f"{name}: {line}" for name, part in self.parts.items() for line in part.lines())]


@dataclass(frozen=True, kw_only=True, eq=False)
class Matched:
    """One part of the data.

    Args:
        parts: the dataset of each modality, by name; the first one counts.
        keys: what each example of the first part says.
        partners: by name of the others, the items that say each key.
    """

    parts: Mapping[str, Any]
    keys: tuple[str, ...]
    items: Tensor
    partners: Mapping[str, Mapping[str, Tensor]]
    notes: Notes

    def __len__(self) -> int:
        return len(self.items)

    @property
    def fingerprint(self) -> str:
        parts = [part.fingerprint for part in self.parts.values()]
        return hashlib.sha256(" ".join([*parts, *self.keys]).encode()).hexdigest()

    def chosen(self, items: Tensor, noise: SampleNoise | None = None) -> dict[str, Tensor]:
        """The item of every part, (b,) each, for the examples `items`: partners at random, or without noise the same."""
        random = noise or SampleNoise(seeds=mix(items, FIXED), steps=torch.zeros_like(items))
        first, *others = self.parts
        found = {first: self.items[items]}
        for k, name in enumerate(others):
            u = random.fork(20 + k).uniform(torch.empty(len(items))).tolist()
            among = [self.partners[name][self.keys[i]] for i in items.tolist()]
            found[name] = torch.stack([own[int(v * len(own))] for own, v in zip(among, u, strict=True)])
        return found


def matched(parts: Mapping[str, Any], columns: Mapping[str, str], *, which: str = "training") -> Matched:
    """The examples of the first part that have partners in all others.

    Raises:
        ValueError: no column to match by, or no example with partners."""
    first, *others = parts
    notes = Notes(parts={name: part.notes for name, part in parts.items()})
    keys = {name: list(map(key, said(part, columns[name]))) for name, part in parts.items()} if others else {}
    if not others:
        count = len(parts[first])
        return Matched(parts=parts, keys=("",) * count, items=torch.arange(count), partners={}, notes=notes)
    partners = {name: _by_key(keys[name]) for name in others}
    kept = [i for i, word in enumerate(keys[first]) if word and all(word in partners[name] for name in others)]
    if not kept:
        shown = "; ".join(f"{name} says {some(list(dict.fromkeys(words)))}" for name, words in keys.items())
        raise ValueError(f"no {which} example of {first} has partners that say the same in all other parts: {shown}")
    alone = sorted(set(keys[first]) - {keys[first][i] for i in kept})
    remarks = [f"Examples of {first} without partners, left out: those of {some([w or 'no words' for w in alone])}."]
    notes = replace(notes, remarks=tuple(remarks) if alone else ())
    return Matched(
        parts=parts, keys=tuple(keys[first][i] for i in kept), items=torch.tensor(kept), partners=partners, notes=notes
    )


def _by_key(words: Sequence[str]) -> dict[str, Tensor]:
    found = dict[str, list[int]]()
    for i, word in enumerate(words):
        if word:
            found.setdefault(word, []).append(i)
    return {word: torch.tensor(items) for word, items in found.items()}
