"""Reads texts and splits them into a training and a held-out part.

A source's own parts are kept. Otherwise the end of each of a few plain texts is held out, and of many records those whose
hash falls below `held_out`, so that equal records always fall into the same part. The hash is of a record's inputs (text,
premise, hypothesis), not of its targets (summary, label). A record in both parts is dropped from training.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from langevin.modalities.remarks import Remarks
from langevin.modalities.text.fields import Form, form_of, is_target, strings
from langevin.modalities.text.records import Read, read
from langevin.modalities.text.sources import TextSource

__all__ = ["Progress", "TextSource", "Texts", "identity", "load_parts"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Texts:
    """One part of a source: records in a fixed order, and remarks about the whole source.

    A record holds `fields`, each a string, a list of strings, or of (speaker, utterance) pairs; a plain document is
    {"text": ...}. `form` is the kind of record: text, dialogue, summary or inference.
    """

    records: tuple[Mapping[str, Any], ...] = field(repr=False)
    fields: tuple[str, ...] = ("text",)
    form: Form = "text"
    notes: Remarks = Remarks()

    def __len__(self) -> int:
        return len(self.records)

    def strings(self) -> Iterator[str]:
        """Every text of every record but labels: what a codec is fitted to."""
        for record in self.records:
            for name in self.fields:
                if name in record and not (self.form == "inference" and is_target(name, self.fields)):
                    yield from strings(record[name])

    @cached_property
    def characters(self) -> int:
        """Number of characters of all `strings`."""
        return sum(map(len, self.strings()))

    @cached_property
    def fingerprint(self) -> str:
        """sha256, in hexadecimal, of the records."""
        digest = hashlib.sha256(json.dumps([self.fields, len(self)]).encode())
        for record in self.records:
            digest.update(json.dumps(record, sort_keys=True).encode() + b"\n")
        return digest.hexdigest()


def load_parts(source: TextSource, *, held_out: float = 0.1, progress: Progress | None = None) -> tuple[Texts, Texts]:
    """The training and the held-out part, neither empty.

    `held_out` is the fraction held out if the source has no parts of its own, in (0, 1): of the characters of a text, else
    the expected fraction of records. `progress(done, total)` counts bytes. `Texts.notes` are also issued as warnings.

    Raises:
        ValueError: nothing to read; a single file that is not text; more than 1 % of lines or half of the files broken."""
    if not 0 < held_out < 1:
        raise ValueError(f"load: held_out is {held_out}; use a fraction between 0 and 1, such as 0.1")
    raw = read(source, progress=progress)
    if raw.held_out:
        train, held, remarks = _own_parts(raw)
    elif raw.plain and len(raw.train) * held_out < 2:
        ends = [_ends(record["text"], held_out) for record in raw.train if len(record["text"]) > 1]
        if not ends:
            raise ValueError(f"{raw.where} has one character, too few to hold any out: give more text")
        train, held = [{"text": text} for text, _ in ends], [{"text": text} for _, text in ends]
        count = sum(len(record["text"]) for record in held)
        remarks = [f"Held out: the end of {'the text' if len(ends) == 1 else 'each text'}, {count:,} characters."]
    else:
        train, held = _hashed(raw, held_out)
        remarks = []
    notes = Remarks(remarks=(*raw.remarks, *remarks), broken=tuple(raw.broken))
    for line in notes.lines():
        warnings.warn(f"{raw.where}: {line}", stacklevel=2)
    whole = Texts(records=(), fields=raw.fields, form=form_of(raw.fields, train), notes=notes)
    return replace(whole, records=tuple(train)), replace(whole, records=tuple(held))


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings: the same sentences are in `Texts.notes`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def identity(record: Mapping[str, Any], fields: tuple[str, ...]) -> bytes:
    """sha256 of a record's inputs: its fields but labels and summaries, without surrounding white space."""
    inputs = [name for name in fields if name in record and not is_target(name, fields)] or list(record)
    values = [record[name].strip() if isinstance(record[name], str) else record[name] for name in inputs]
    return hashlib.sha256(json.dumps(values).encode()).digest()


def _own_parts(raw: Read) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]], list[str]]:
    """The source's own parts, and remarks; records in both are dropped from training."""
    held = {identity(record, raw.fields) for record in raw.held_out}
    train = [record for record in raw.train if identity(record, raw.fields) not in held]
    dropped = len(raw.train) - len(train)
    if not train:
        raise ValueError(f"{raw.where}: every record of the training part is in the held-out part too; give others")
    remarks = [f"Records of the held-out part in the training part too, dropped from training: {dropped:,}."]
    return train, raw.held_out, remarks if dropped else []


def _ends(text: str, fraction: float) -> tuple[str, str]:
    """(beginning, held-out end) of a text, cut after a nearby line break, else after a space, else anywhere."""
    cut = min(max(1, round(len(text) * (1 - fraction))), len(text) - 1)
    reach = max(1, round(len(text) * min(fraction, 1 - fraction) / 2))
    for mark in ("\n", " "):
        before, after = text.rfind(mark, cut - reach, cut), text.find(mark, cut, cut + reach)
        cuts = [i + 1 for i in (before, after) if i >= 0 and i + 1 < len(text)]
        if cuts:
            cut = min(cuts, key=lambda i: abs(i - cut))
            break
    return text[:cut], text[cut:]


def _hashed(raw: Read, fraction: float) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """(training, held-out) records by their hash, at least one distinct record in each."""
    hashes = [identity(record, raw.fields) for record in raw.train]
    order = sorted(set(hashes))
    if len(order) < 2:
        raise ValueError(f"{raw.where} has only one distinct record, too few to hold any out; give more")
    limit = int(fraction * 2**256).to_bytes(32, "big")
    held = {value for value in order if value < limit} or {order[0]}
    if len(held) == len(order):
        held.remove(order[-1])
    train = [record for record, value in zip(raw.train, hashes) if value not in held]
    return train, [record for record, value in zip(raw.train, hashes) if value in held]
