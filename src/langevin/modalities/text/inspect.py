"""Statistics of a text dataset: counts, lengths, characters, fields, duplicates, broken records."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np

from langevin.modalities.paths import some
from langevin.modalities.text.data import Progress, identity
from langevin.modalities.text.fields import Form, form_of, is_target, strings
from langevin.modalities.text.ids import histogram, named
from langevin.modalities.text.records import Read, read
from langevin.modalities.text.sources import TextSource

_EXAMPLES, _SHOWN = 5, 100  # lines of a sample, and characters of each
_QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Statistics of the texts at a path.

    `documents` counts records, `characters` and `bytes` (as UTF-8) all their texts; `alphabet` the distinct characters,
    and `rare` those that occur once or twice; `non_ascii` is the fraction of characters outside ASCII. `lengths` are for
    each field the number of texts, and their least, 5 %, median, 95 % and greatest length in characters. `parts` counts
    records, `labels` those of each label. `duplicates` counts records with the inputs of an earlier one of their part,
    `shared` those of the training part that are in the held-out part too. `broken` holds (location, reason).
    """

    path: str
    form: Form
    fields: tuple[str, ...]
    documents: int
    characters: int
    bytes: int
    alphabet: int
    rare: int
    non_ascii: float
    unusual: tuple[str, ...]
    lengths: dict[str, tuple[int, int, int, int, int, int]]
    parts: dict[str, int]
    labels: dict[str, int]
    duplicates: int
    shared: int
    sample: tuple[str, ...]
    broken: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The statistics as plain dictionaries, tuples, numbers and strings, ready for `json.dumps`."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The statistics as lines to read."""
        what = {"text": "texts", "dialogue": "dialogues", "summary": "texts with summaries", "inference": "inferences"}
        size = f"{self.characters:,} characters ({self.bytes:,} bytes as UTF-8)"
        lines = [f"{self.path}: {self.documents:,} {what[self.form]}, {size}"]
        for name, (count, least, low, median, high, greatest) in self.lengths.items():
            spread = f"{least:,} to {greatest:,} characters, median {median:,}, nine in ten {low:,} to {high:,}"
            lines.append(
                f"Field {name}: {count:,} of {spread}" if count > 1 else f"Field {name}: 1 of {median:,} characters"
            )
        outside = f"{self.non_ascii:.2%} outside ASCII" + (
            f", most often {named(self.unusual)}" if self.unusual else ""
        )
        lines.append(f"Different characters: {self.alphabet:,} ({self.rare:,} seen once or twice); {outside}")
        if self.labels:
            lines.append("Labels: " + some([f"{name} {count:,}" for name, count in self.labels.items()], limit=10))
        if len(self.parts) > 1:
            lines.append("Parts: " + ", ".join(f"{name} {count:,}" for name, count in self.parts.items()))
        if self.duplicates:
            lines.append(f"Copies of an earlier one in the same part: {self.duplicates:,}")
        if self.shared:
            lines.append(f"In both parts, dropped from training: {self.shared:,}")
        if self.broken:
            broken = some([f"{where} {reason}" for where, reason in self.broken], between="; ")
            lines.append(f"Cannot be read: {len(self.broken):,} ({broken})")
        return [*lines, *self.notes, "For example:", *(f"  {line}" for line in self.sample)]


def inspect(
    path: str, *, fields: tuple[str, ...] = (), within: str = "", progress: Progress | None = None
) -> Inspection:
    """Read every text under a path (see `TextSource`) and describe it; broken records are counted.

    Raises:
        ValueError: no text, or the path does not exist."""
    result = read(TextSource(path=str(path), fields=fields, within=within), progress=progress, refuse=False)
    every = [*result.train, *result.held_out]
    form = form_of(result.fields, every)
    shown = [name for name in result.fields if not (form == "inference" and is_target(name, result.fields))]
    count = histogram(text for record in every for name in shown if name in record for text in strings(record[name]))
    total, points = int(count.sum()), np.flatnonzero(count)
    outside = points[points >= 128]
    often = outside[np.argsort(-count[outside], kind="stable")]
    duplicates, shared = _copies(result)
    parts = {"train": len(result.train), "held_out": len(result.held_out)}
    return Inspection(
        path=str(path),
        form=form,
        fields=result.fields,
        documents=len(every),
        characters=total,
        bytes=int((count[points] * (1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000))).sum()),
        alphabet=len(points),
        rare=int((count[points] <= 2).sum()),
        non_ascii=float(count[outside].sum() / max(total, 1)),
        unusual=tuple(chr(point) for point in often[:_EXAMPLES]),
        lengths={name: _lengths(every, name) for name in shown},
        parts=parts if result.held_out else {"all": len(every)},
        labels=_labels(every, [name for name in result.fields if name not in shown]),
        duplicates=duplicates,
        shared=shared,
        sample=_sample(every, shown),
        broken=tuple(result.broken),
        notes=tuple(result.remarks),
    )


def _lengths(records: Sequence[Mapping[str, Any]], name: str) -> tuple[int, int, int, int, int, int]:
    lengths = [len(text) for record in records if name in record for text in strings(record[name])] or [0]
    least, low, median, high, greatest = np.quantile(lengths, _QUANTILES, method="nearest").tolist()
    return len(lengths), least, low, median, high, greatest


def _labels(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, int]:
    return dict(Counter(str(record[name]) for record in records for name in names if name in record).most_common())


def _copies(result: Read) -> tuple[int, int]:
    train, held = ([identity(record, result.fields) for record in part] for part in (result.train, result.held_out))
    held_set = set(held)
    return len(train) - len(set(train)) + len(held) - len(held_set), sum(value in held_set for value in train)


def _sample(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[str, ...]:
    """Lines from evenly spaced records, or from evenly spaced positions of one long text."""
    chosen = [records[i * len(records) // _EXAMPLES] for i in range(min(_EXAMPLES, len(records)))]
    count = -(-_EXAMPLES // max(1, len(chosen)))
    return tuple(dict.fromkeys(chain.from_iterable(_shown(record, names, count) for record in chosen)))[:_EXAMPLES]


def _shown(record: Mapping[str, Any], names: Sequence[str], count: int) -> list[str]:
    if len(names) > 1:
        texts = [next((text for text in strings(record[name])), "") for name in names if name in record]
        return [" | ".join(" ".join(text[:_SHOWN].split()) for text in texts)[: 2 * _SHOWN]]
    text = next((text for text in strings(record[names[0]]) if text.strip()), "")
    lines = []
    for i in range(count):
        start = len(text) * i // count
        line = text[text.find("\n", start, start + 10 * _SHOWN) + 1 if start else 0 :][: 10 * _SHOWN].strip()
        lines.append(line.partition("\n")[0][:_SHOWN])
    return [line for line in lines if line]
