"""Texts read once, checked, and told apart into a training and a held-out part.

A source's own parts are kept. Else of a plain text, or of a few, the end is held out, and of many records those whose hash
falls below `held_out`: equal records fall on the same side, whatever else is there. What is asked of a record counts (its
text, its premise and hypothesis), not the answer (summary, label). A record in both parts is dropped from training.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from langevin.modalities.paths import some
from langevin.modalities.text.fields import Form, form_of, is_target, strings
from langevin.modalities.text.reading import Read, read
from langevin.modalities.text.sources import TextSource

__all__ = ["Notes", "Progress", "TextSource", "Texts", "identity", "load_parts"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What a reader of the data should know: `broken` files or lines as (where, reason), `remarks` as sentences."""

    remarks: tuple[str, ...] = ()
    broken: tuple[tuple[str, str], ...] = ()

    def lines(self) -> list[str]:
        """Plain sentences; empty where there is nothing to say."""
        names = [f"{where} {reason}" for where, reason in self.broken]
        return [f"Cannot be read, set aside: {len(names):,} ({some(names)})."] * bool(names) + list(self.remarks)


@dataclass(frozen=True, kw_only=True, eq=False)
class Texts:
    """One part of a source: records in a fixed order, and what was found in the whole source.

    A record holds `fields`, each a string, a list of strings, or of (speaker, utterance) pairs; a plain document is
    {"text": ...}. `form` says what records are: text, dialogue, summary or inference.
    """

    records: tuple[Mapping[str, Any], ...] = field(repr=False)
    fields: tuple[str, ...] = ("text",)
    form: Form = "text"
    notes: Notes = Notes()

    def __len__(self) -> int:
        return len(self.records)

    @property
    def shape(self) -> tuple[int, ...]:
        """Records have none of their own; rows made of them do."""
        return ()

    def strings(self) -> Iterator[str]:
        """Every text of every record, as a codec is fitted on; labels left out."""
        for record in self.records:
            for name in self.fields:
                if name in record and not (self.form == "inference" and is_target(name, self.fields)):
                    yield from strings(record[name])

    @cached_property
    def characters(self) -> int:
        """Of all `strings`."""
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

    `held_out` is the share held out where the source has no parts of its own, 0 < share < 1: of characters of one text,
    else of records, expected. `progress(done, total)` counts bytes. What is odd is in `Texts.notes`, and warned of.

    Raises:
        ValueError: nothing to read; a single file that is no text; more than 1 % of lines or half of the files broken."""
    if not 0 < held_out < 1:
        raise ValueError(f"load: held_out is {held_out}; use a share between 0 and 1, such as 0.1")
    found = read(source, progress=progress)
    if found.held_out:
        train, held, remarks = _apart(found)
    elif found.plain and len(found.train) * held_out < 2:
        ends = [_ends(record["text"], held_out) for record in found.train if len(record["text"]) > 1]
        if not ends:
            raise ValueError(f"{found.where} has a character, too few to hold some out: give more text")
        train, held = [{"text": text} for text, _ in ends], [{"text": text} for _, text in ends]
        count = sum(len(record["text"]) for record in held)
        remarks = [f"Held out: the end of {'the text' if len(ends) == 1 else 'each text'}, {count:,} characters."]
    else:
        train, held = _hashed(found, held_out)
        remarks = []
    notes = Notes(remarks=(*found.remarks, *remarks), broken=tuple(found.broken))
    for line in notes.lines():
        warnings.warn(f"{found.where}: {line}", stacklevel=2)
    whole = Texts(records=(), fields=found.fields, form=form_of(found.fields, train), notes=notes)
    return replace(whole, records=tuple(train)), replace(whole, records=tuple(held))


def identity(record: Mapping[str, Any], fields: tuple[str, ...]) -> bytes:
    """sha256 of what a record asks: of its fields without labels and summaries, surrounding white space left out."""
    asked = [name for name in fields if name in record and not is_target(name, fields)] or list(record)
    values = [record[name].strip() if isinstance(record[name], str) else record[name] for name in asked]
    return hashlib.sha256(json.dumps(values).encode()).digest()


def _apart(found: Read) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]], list[str]]:
    """The own parts, the training part without what is in both."""
    away = {identity(record, found.fields) for record in found.held_out}
    train = [record for record in found.train if identity(record, found.fields) not in away]
    dropped = len(found.train) - len(train)
    if not train:
        raise ValueError(f"{found.where}: every record of the training part is in the held-out part too; give others")
    remarks = [f"Records of the held-out part in the training part too, dropped from training: {dropped:,}."]
    return train, found.held_out, remarks if dropped else []


def _ends(text: str, share: float) -> tuple[str, str]:
    """A text cut near its end: after a line where one ends nearby, else before a word, else anywhere."""
    cut = min(max(1, round(len(text) * (1 - share))), len(text) - 1)
    reach = max(1, round(len(text) * min(share, 1 - share) / 2))
    for mark in ("\n", " "):
        before, after = text.rfind(mark, cut - reach, cut), text.find(mark, cut, cut + reach)
        places = [place + 1 for place in (before, after) if place >= 0 and place + 1 < len(text)]
        if places:
            cut = min(places, key=lambda place: abs(place - cut))
            break
    return text[:cut], text[cut:]


def _hashed(found: Read, share: float) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Records by their hash: at least one different record in each part."""
    marks = [identity(record, found.fields) for record in found.train]
    order = sorted(set(marks))
    if len(order) < 2:
        raise ValueError(f"{found.where} has one record, or one many times: too few to hold some out; give more")
    limit = int(share * 2**256).to_bytes(32, "big")
    away = {mark for mark in order if mark < limit} or {order[0]}
    if len(away) == len(order):
        away.remove(order[-1])
    train = [record for record, mark in zip(found.train, marks) if mark not in away]
    return train, [record for record, mark in zip(found.train, marks) if mark in away]
