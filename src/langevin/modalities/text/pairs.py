"""Turns records into examples (replies, summaries, inference pairs), and splits texts into paragraphs and sentences.

The splitters are rules for cased prose, good enough for training examples. They join the lines of verse, and do not
handle tables or a sentence that ends in a dotted abbreviation ("in the U.S. He left").
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from langevin.modalities.text.fields import HYPOTHESES, LABELS, PREMISES, SUMMARIES, TEXTS, Turns, as_turns

_RULE = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t].*|#+|(?:[-*_=~][ \t]*){3,})$", re.MULTILINE
)  # a markdown heading or horizontal rule
_BLANK = re.compile(r"\n[^\S\n]*\n\s*")
_END = re.compile(
    r"""(?P<mark>[.!?…]+) (?P<close>["'”’»)\]*_]*) (?=\s+ (?P<open>["'“‘«(\[*_¿¡—-]*) (?P<next>\S))"""
    r"""|[。！？]+[」』”’）]*""",
    re.VERBOSE,
)
_BEFORE = re.compile(r"[^\s\"'“‘«(\[—-]*$")  # the word before a full stop
_SHORT = (  # abbreviations before a name or number; those that may end a sentence (etc.) are left out
    "mr mrs ms messrs mme mlle dr prof rev hon st mt ft capt col gen lt maj sgt gov sen rep pres supt esq sr vs cf viz "
    "no nos vol vols chap ch fig figs eq sec pp p art ed eds trans jan feb mar apr jun jul aug sept sep oct nov dec e.g i.e"
)
_ABBREVIATIONS = frozenset(_SHORT.split())


class Reply(NamedTuple):
    """The turns before, one per line as "user: ..."; the speaker of the reply; the reply."""

    context: str
    speaker: str
    reply: str


class Summary(NamedTuple):
    """A text and one of its summaries."""

    text: str
    summary: str


class Inference(NamedTuple):
    """A premise, a hypothesis, and the label of the pair ("" if it has none)."""

    premise: str
    hypothesis: str
    label: str


def replies(
    records: Iterable[Mapping[str, Any]], *, last: int = 5, speaker: str | None = None, field: str | None = None
) -> Iterator[Reply]:
    """Every turn but the first as a reply to at most `last` turns before it, in order.

    Args:
        speaker: only this speaker's turns; None: everyone's.
        field: of a record, with the turns; None: the first field that holds turns.

    White space inside an utterance becomes one space; empty utterances are left out.

    Raises:
        ValueError: `last` below 1, or a record without turns."""
    if last < 1:
        raise ValueError(f"replies: last is the number of turns before a reply, 1 or more, got {last}")
    for number, record in enumerate(records):
        turns = [(who.strip(), " ".join(said.split())) for who, said in _turns(record, field, number)]
        turns = [(who, said) for who, said in turns if said]
        for i in range(1, len(turns)):
            who, said = turns[i]
            if speaker in (None, who):
                yield Reply(written(turns[max(0, i - last) : i]), who, said)


def speakers(records: Iterable[Mapping[str, Any]]) -> tuple[str, str]:
    """Who begins most of the dialogues, and which other one says most of their turns; twice the first if there is no other.

    Raises:
        ValueError: a record without turns."""
    first, all_of = Counter[str](), Counter[str]()
    for number, record in enumerate(records):
        names = [who.strip() for who, _ in _turns(record, None, number)]
        first.update(names[:1])
        all_of.update(names)
    begins = max(first, key=lambda name: first[name])
    others = [name for name, _ in all_of.most_common() if name != begins]
    return begins, (others or [begins])[0]


def written(turns: Iterable[tuple[str, str]]) -> str:
    r"""Turns as text: "user: hello\nsystem: hello"."""
    return "\n".join(f"{who}: {said}" for who, said in turns)


def summaries(records: Iterable[Mapping[str, Any]], *, every: bool = True) -> Iterator[Summary]:
    """Each text with each of its distinct summaries, or with the first only.

    Raises:
        ValueError: a record without a text or a summary."""
    for number, record in enumerate(records):
        text = _field(record, TEXTS, number)
        given = [record[name] for name in SUMMARIES if name in record and record[name] is not text]
        several = [one.strip() for value in given for one in ([value] if isinstance(value, str) else value)]
        several = [one for one in dict.fromkeys(several) if one]
        if not several:
            raise ValueError(f"record {number} has no summary: one of {', '.join(SUMMARIES)} is needed")
        yield from (Summary(text.strip(), one) for one in (several if every else several[:1]))


def inferences(records: Iterable[Mapping[str, Any]]) -> Iterator[Inference]:
    """Premise, hypothesis and label.

    Raises:
        ValueError: a record without a premise or a hypothesis."""
    for number, record in enumerate(records):
        label = next((str(record[name]) for name in LABELS if name in record), "")
        yield Inference(
            _field(record, PREMISES, number).strip(), _field(record, HYPOTHESES, number).strip(), label.strip()
        )


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text, each on one line: blank lines separate them; markdown headings and rules are left out."""
    text = _RULE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return [" ".join(part.split()) for part in _BLANK.split(text) if part.strip()]


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph; joined by spaces they give it back, up to white space."""
    result: list[str] = []
    start = 0
    for end in _END.finditer(paragraph):
        if end["mark"] is None or _ends(paragraph, start, end):
            result.append(" ".join(paragraph[start : end.end()].split()))
            start = end.end()
    result.append(" ".join(paragraph[start:].split()))
    return [sentence for sentence in result if sentence]


def _ends(paragraph: str, start: int, end: re.Match[str]) -> bool:
    """Whether a mark ends a sentence: the next word can begin one, and no abbreviation or initial ends here."""
    if not (end["next"].isupper() or end["next"].isdigit() or (end["next"].isalpha() and not end["next"].islower())):
        return False
    if end["mark"] != "." or end["close"]:
        return True
    before = _BEFORE.search(paragraph, max(start, end.start() - 40), end.start())
    word = before[0] if before else ""
    initial = len(word) == 1 and word.isupper() and word != "I"
    dotted = bool(re.fullmatch(r"(?:[A-Z]\.)+[A-Z]", word))
    return not (initial or dotted or word.lower() in _ABBREVIATIONS)


def _turns(record: Mapping[str, Any], field: str | None, number: int) -> Turns:
    candidates = [as_turns(value) for name, value in record.items() if field in (None, name)]
    turns = next((turns for turns in candidates if turns is not None), None)
    if turns is None:
        raise ValueError(
            f"record {number} has no turns, as [[speaker, utterance], ...]; its fields are {', '.join(record)}"
        )
    return turns


def _field(record: Mapping[str, Any], names: tuple[str, ...], number: int) -> str:
    for name in names:
        if isinstance(record.get(name), str):
            return record[name]
    raise ValueError(f"record {number} has no {' or '.join(names)}; its fields are {', '.join(record) or 'none'}")
