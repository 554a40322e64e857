"""Repairs texts: finds their sentences, searches what was meant, and writes it in the case and spacing of the text."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from langevin.modalities.modality import Progress
from langevin.modalities.text.repair.candidates import Candidates
from langevin.modalities.text.repair.language import UNKNOWN, Token, sentences
from langevin.modalities.text.repair.search import Change, repaired
from langevin.modalities.text.target import NO_PROGRESS
from langevin.modalities.text.words import is_word, like_case

_KEPT = re.compile(  # code, addresses, names of files and variables, targets of links
    r"`[^`]*`|\S*(?:://|@|\\|_|/|[^\W\d]\d|\d[^\W\d]|\w\.\w)\S*|\]\([^)\s]*\)"
)
MOST_UNKNOWN = 0.5  # share of the words of a sentence that are unknown, beyond which it is in another language
SURE = math.log(200)  # nats for capitals of sentences and of words that always have one, and for unknown words alone


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Characters from `start` to `end` of a text that are replaced by `new`, why, and the nats that it gains."""

    start: int
    end: int
    old: str
    new: str
    reason: str
    gain: float

    def __str__(self) -> str:
        return f"{self.old.strip() or '(nothing)'} -> {self.new.strip() or '(nothing)'}"


def repair(text: str, candidates: Candidates, *, threshold: float, progress: Progress = NO_PROGRESS) -> list[Edit]:
    """The edits of a text, in order, each of which gains at least `threshold` nats."""
    found, kept = list[Edit](), [match.span() for match in _KEPT.finditer(text)]
    for line in sentences(text):
        found += _edits(text, line, candidates, threshold, kept)
        progress(line[-1].end, len(text))
    return found


def applied(text: str, edits: Sequence[Edit]) -> str:
    """The text with its edits."""
    parts, at = [], 0
    for edit in edits:
        parts += [text[at : edit.start], edit.new]
        at = edit.end
    return "".join([*parts, text[at:]])


def _edits(
    text: str, line: Sequence[Token], candidates: Candidates, threshold: float, kept: Sequence[tuple[int, int]]
) -> list[Edit]:
    """The edits of a sentence. None in another language; tokens within spans that are `kept` stay."""
    hidden = {i for i, t in enumerate(line) if any(start <= t.start < end for start, end in kept)}
    words = [UNKNOWN if i in hidden else token.text for i, token in enumerate(line)]
    unknown = [not candidates.language.knows(word) for word in words if is_word(word)]
    if len(unknown) > 3 and sum(unknown) > MOST_UNKNOWN * len(unknown):
        return []
    if len(line) == 1 and unknown == [True] and words[0].islower() and (near := candidates.spellings(words[0])):
        new, start, end = near[0][0], line[0].start, line[0].end  # without a context only the spelling tells
        return [Edit(start=start, end=end, old=text[start:end], new=new, reason="spelling", gain=SURE)]
    changes = {c.start: c for c in repaired(words, candidates, threshold=threshold)}
    found, covered = list[Edit](), 0
    for i, word in enumerate(words):
        if i in changes:
            found.append(_edit(text, line, changes[i], candidates))
            covered = changes[i].end
        elif i >= covered and threshold <= SURE and word.islower():
            cased = candidates.language.cased.get(word, word)
            cased = cased[:1].upper() + cased[1:] if i == 0 and len(line) > 2 else cased
            if cased != word:
                start, end = line[i].start, line[i].end
                found.append(Edit(start=start, end=end, old=word, new=cased, reason="capital", gain=SURE))
    return found


def _edit(text: str, line: Sequence[Token], change: Change, candidates: Candidates) -> Edit:
    """A change of words, in the case of what it replaces and with the spaces around it."""
    start, end, model = line[change.start].start, line[change.end - 1].end, line[change.start].text
    cased, first, words = candidates.language.cased, change.start == 0, list(change.words)
    if not words:  # with the space before, but not with a line break if there is another
        before = text[line[change.start - 1].end : start] if not first else ""
        if change.end < len(line) and (first or "\n" in before):
            end = line[change.end].start
        else:
            start -= len(before)
    elif words[0] == ",":  # is written to the word before
        start = line[change.start - 1].end
    elif change.reason != "missing":
        words = [cased.get(word, word) for word in words]
        words[0] = words[0] if len(model) == 1 and not first else like_case(words[0], model)  # I is no model
    elif first and model.istitle():
        words = [like_case(words[0], model), model if model.lower() in cased else model.lower()]
    new = " ".join(words).replace(" ,", ",")
    new = new[:1].upper() + new[1:] if first and len(line) > 2 else new
    return Edit(start=start, end=end, old=text[start:end], new=new, reason=change.reason, gain=change.gain)
