"""Repairs texts: finds their sentences, searches what was meant, and writes it in the case and spacing of the text."""

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from langevin.modalities.modality import Progress
from langevin.modalities.text.repair.candidates import Candidates
from langevin.modalities.text.repair.language import BEFORE_CAPITALS, UNKNOWN, Token, sentences
from langevin.modalities.text.repair.search import Change, repaired
from langevin.modalities.text.target import NO_PROGRESS
from langevin.modalities.text.words import is_word, like_case

_CODE = re.compile(r"`[^`\n]{1,300}`|<[^<>\n]{1,300}>|\]\([^)\s]{0,500}\)")  # in backquotes, tags, targets of links
_NAME = re.compile(r"://|@|\\|_|/|[^\W\d]\d|\d[^\W\d]|\w\.\w")  # in addresses, names of files and variables
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
    lines, found = list(sentences(text)), list[Edit]()
    kept = _kept(text, _names(lines, candidates))
    for line in lines:
        found += _edits(text, line, candidates, threshold, kept)
        progress(line[-1].end, len(text))
    return found


def _names(lines: Sequence[Sequence[Token]], candidates: Candidates) -> list[tuple[int, int]]:
    """Spans of unknown words at the beginning of sentences that have a capital within others."""
    inside = {
        token.text for line in lines for before, token in pairwise(line)
        if token.text.istitle() and before.text not in BEFORE_CAPITALS and not candidates.language.knows(token.text)
    }  # fmt: skip
    return [(line[0].start, line[0].end) for line in lines if line[0].text in inside]


def _kept(text: str, names: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans of a text that are names or no prose, in order and apart."""
    spans = [*names, *(m.span() for m in _CODE.finditer(text))]
    spans += [m.span() for m in re.finditer(r"\S+", text) if _NAME.search(m.group())]
    found = list[tuple[int, int]]()
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
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
    at = [bisect_right(kept, (token.start, len(text))) - 1 for token in line]
    hidden = [i >= 0 and kept[i][0] <= token.start < kept[i][1] for i, token in zip(at, line, strict=True)]
    words = [UNKNOWN if hide else token.text for hide, token in zip(hidden, line, strict=True)]
    unknown = [not candidates.language.knows(word) for word in words if is_word(word)]
    if len(unknown) > 3 and sum(unknown) > MOST_UNKNOWN * len(unknown):
        return []
    if len(line) == 1 and unknown == [True] and words[0].islower() and (near := candidates.spellings(words[0])):
        new, start, end = near[0][0], line[0].start, line[0].end  # without a context only the spelling tells
        return [Edit(start=start, end=end, old=text[start:end], new=new, reason="spelling", gain=SURE)]
    changes = {
        change.start: change
        for change in repaired(words, candidates, threshold=threshold)
        if "\n" not in text[line[change.start].start : line[change.end - 1].end]  # lines are not joined
    }
    found, covered = list[Edit](), 0
    for i, word in enumerate(words):
        change = changes.get(i)
        if change is not None:
            found.append(_edit(text, line, change, candidates))
            covered = change.end
        if (i >= covered or (change is not None and change.reason == "missing" and i)) and word.islower():
            cased = candidates.language.cased.get(word, word)
            cased = cased[:1].upper() + cased[1:] if i == 0 and len(line) > 2 else cased
            if cased != word:
                old = text[line[i].start : line[i].end]
                alike = len(cased) == len(old)  # a ligature has several capitals
                new = "".join(a.upper() if b.isupper() else a for a, b in zip(old, cased)) if alike else cased
                found.append(Edit(start=line[i].start, end=line[i].end, old=old, new=new, reason="capital", gain=SURE))
    return found


def _edit(text: str, line: Sequence[Token], change: Change, candidates: Candidates) -> Edit:
    """A change of words, in the case of what it replaces; white space but that of words left out is kept."""
    start, end, model = line[change.start].start, line[change.end - 1].end, line[change.start].text
    cased, first, words = candidates.language.cased, change.start == 0, list(change.words)
    loud = len(model) > 1 and model.isupper()
    if not words:  # with the space before, but not with a line break if there is another
        before = text[line[change.start - 1].end : start] if not first else ""
        if change.end < len(line) and (first or "\n" in before):
            end = line[change.end].start
        else:
            start -= len(before)
        new = ""
    elif words[0] == ",":  # is written to the word before
        start = end = line[change.start - 1].end
        new = ","
    elif change.reason == "missing":
        lower = first and model.istitle() and model.lower() not in cased
        end = start + 1 if lower else start
        new = f"{words[0].upper() if loud else like_case(words[0], model) if first else words[0]} "
        new += model[0].lower() if lower else ""
    else:
        words = [cased.get(word, word) for word in words]
        if len(model) > 1 or first:  # I is no model
            words = [word.upper() for word in words] if loud else [like_case(words[0], model), *words[1:]]
        new = " ".join(words)
        new = new[:1].upper() + new[1:] if first and len(line) > 2 else new
    if "’" in text:
        new = new.replace("'", "’")
    return Edit(start=start, end=end, old=text[start:end], new=new, reason=change.reason, gain=change.gain)
