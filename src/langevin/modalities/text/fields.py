"""Guesses the fields of a record to read and their form: text, dialogue, text with summaries, inference pair."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from langevin.modalities.paths import some

Form = Literal["text", "dialogue", "summary", "inference"]
TEXTS = ("text", "document", "article", "abstract", "source")
SUMMARIES = ("summary", "summaries", "highlights", "abstract", "target")
LABELS = ("label", "gold_label", "entailment_judgment")
PREMISES, HYPOTHESES = ("premise", "sentence1"), ("hypothesis", "sentence2")
_SPEAKER, _SAID = ("speaker", "role", "from", "author"), ("utterance", "content", "value", "text")
Turns = list[tuple[str, str]]


def guess_fields(records: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The fields to read, by preference: turns; premise, hypothesis, label; a text and its summaries; the longest text.

    Raises:
        ValueError: no field holds text."""
    names = list(dict.fromkeys(name for record in records for name in record))
    usual = [name for name in names if sum(_said(record.get(name)) for record in records) * 2 > len(records)]
    dialogues = [name for name in usual if all(as_turns(r[name]) is not None for r in records if _said(r.get(name)))]
    if dialogues:
        return (max(dialogues, key=lambda name: _length(records, name)),)
    premise, hypothesis, label = (_first(usual, known) for known in (PREMISES, HYPOTHESES, LABELS))
    if premise and hypothesis:
        return (premise, hypothesis, label) if label else (premise, hypothesis)
    text = _first(usual, TEXTS)
    if text and (summaries := tuple(name for name in SUMMARIES if name in usual and name != text)):
        return (text, *summaries)
    texts = [name for name in usual if any(isinstance(record.get(name), str) for record in records)]
    if not texts:
        there = some([str(name)[:80] for name in names], limit=20) or "none"
        raise ValueError(f"no field holds text; the fields are {there}")
    return (max(texts, key=lambda name: _length(records, name)),)


def form_of(fields: Sequence[str], records: Sequence[Mapping[str, Any]]) -> Form:
    """The form of records, by the names of their fields and the first records."""
    if any(name in fields for name in PREMISES) and any(name in fields for name in HYPOTHESES):
        return "inference"
    if len(fields) > 1 and _first(fields, TEXTS) and any(n in SUMMARIES and n != _first(fields, TEXTS) for n in fields):
        return "summary"
    first = records[:16]
    if first and any(all(as_turns(record.get(name)) is not None for record in first) for name in fields):
        return "dialogue"
    return "text"


def as_turns(value: Any) -> Turns | None:
    """(speaker, utterance) pairs of [[speaker, utterance], ...] or of [{"role": ..., "content": ...}, ...]; else None."""
    if not isinstance(value, list | tuple) or not value:
        return None
    turns: Turns = []
    for turn in value:
        if isinstance(turn, Mapping):
            speaker, said = _first(turn, _SPEAKER), _first(turn, _SAID)
            turn = (turn[speaker], turn[said]) if speaker and said else ()
        if not isinstance(turn, list | tuple) or len(turn) != 2 or not all(isinstance(part, str) for part in turn):
            return None
        turns.append((turn[0], turn[1]))
    return turns


def read_value(value: Any) -> Any:
    """A field's value as stored: a string, a list of strings, or (speaker, utterance) pairs; numbers become strings.

    Raises:
        ValueError: None, an object, or a list of other things."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):  # a bool is an int
        return str(value)
    if (turns := as_turns(value)) is not None:
        return turns
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return list(value)
    raise ValueError(f"is {'empty (null)' if value is None else str(value)[:40]}, not text, texts or turns")


def strings(value: Any) -> Iterator[str]:
    """Every text of a stored value; of turns the utterances without the speakers."""
    if isinstance(value, str):
        yield value
    else:
        for part in value:
            yield part if isinstance(part, str) else part[1]


def is_target(name: str, fields: Sequence[str]) -> bool:
    """Whether a field is a target: a label, or the summary of a text."""
    text = _first(fields, TEXTS)
    return name in LABELS or (text is not None and name != text and name in SUMMARIES)


def near(name: str, there: Sequence[str]) -> str:
    """'; did you mean ...?', or nothing."""
    close = difflib.get_close_matches(name, there, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _said(value: Any) -> bool:
    return isinstance(value, int) or bool(value.strip() if isinstance(value, str) else value)


def _first(names: Any, wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _length(records: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(len(text) for r in records if isinstance(r.get(name), str | list | tuple) for text in _all(r[name]))


def _all(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [part if isinstance(part, str) else str(part) for part in value]
