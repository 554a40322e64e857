"""Spelling in sentences: corrupted words that are detected and restored, and clean words that are changed.

A corrector may split a word, join two, drop or add one, so the words of a source are first matched with those of the
reference and of the hypothesis. A word may match none, one or two words, and two words one, at the least total cost of

    one to one: d(a, b) / max(|a|, |b|)     two to one or one to two: the same of the joined word + 0.1     else: 1

with d the Damerau-Levenshtein distance of characters. Words that share a match are one unit. A unit is *corrupted* if
the reference differs from the source, *changed* if the hypothesis does, *restored* if it was corrupted and hypothesis and
reference agree. A word that was added belongs to the unit before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from langevin.modalities.text.metrics.alignment import distance

JOINED = 0.1


@dataclass(frozen=True, kw_only=True)
class SpellingScore:
    """Counts of units (see the module), and ratios of them in [0, 1].

    Attributes:
        corrupted: units that the reference changes.
        clean: units that it does not change.
        found: corrupted units that were changed in any way.
        restored: corrupted units that became the reference.
        alarms: clean units that were changed.
    """

    corrupted: int
    clean: int
    found: int
    restored: int
    alarms: int

    @property
    def precision(self) -> float:
        """Of detection: fraction of the changed units that were corrupted; 1 if none was changed."""
        changed = self.found + self.alarms
        return self.found / changed if changed else 1.0

    @property
    def recall(self) -> float:
        """Of detection: fraction of the corrupted units that were changed; 1 if none was corrupted."""
        return self.found / self.corrupted if self.corrupted else 1.0

    @property
    def f1(self) -> float:
        """Of detection: 2 P R / (P + R)."""
        p, r = self.precision, self.recall
        return 2 * p * r / (p + r) if p + r else 0.0

    @property
    def accuracy(self) -> float | None:
        """Of correction: fraction of the corrupted units that were restored; None if none was corrupted."""
        return self.restored / self.corrupted if self.corrupted else None

    @property
    def alarm_rate(self) -> float | None:
        """Fraction of the clean units that were changed; None if there are none."""
        return self.alarms / self.clean if self.clean else None


def spelling_score(
    sources: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[str]]
) -> SpellingScore:
    """Counts over sentences given as word lists; the three of a sentence may have different lengths.

    ValueError for unequal numbers of sentences.
    """
    if not len(sources) == len(hypotheses) == len(references):
        raise ValueError(
            f"spelling_score needs three word lists per sentence, got {len(sources)}, {len(hypotheses)}, {len(references)}"
        )
    corrupted = clean = found = restored = alarms = 0
    for source, hypothesis, reference in zip(sources, hypotheses, references):
        for words, output, expected in units(source, hypothesis, reference):
            changed = words != output
            if words != expected:
                corrupted, found, restored = corrupted + 1, found + changed, restored + (output == expected)
            else:
                clean, alarms = clean + 1, alarms + changed
    return SpellingScore(corrupted=corrupted, clean=clean, found=found, restored=restored, alarms=alarms)


def units(
    source: Sequence[str], hypothesis: Sequence[str], reference: Sequence[str]
) -> list[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]]:
    """Units (words of the source, of the hypothesis, of the reference) in order; together they hold every word."""
    to_hypothesis, to_reference = _spans(source, hypothesis), _spans(source, reference)
    result, i, j, k = [], 0, 0, 0
    for end in sorted(to_hypothesis.keys() & to_reference.keys()):
        parts = source[i:end], hypothesis[j : to_hypothesis[end]], reference[k : to_reference[end]]
        i, j, k = end, to_hypothesis[end], to_reference[end]
        if any(parts):
            result.append(tuple(tuple(part) for part in parts))
    return result


def _spans(source: Sequence[str], other: Sequence[str]) -> dict[int, int]:
    """For each end of a match in the source, its end in the other; words added before the first match belong to it."""
    start = _shared(source, other)
    stop = _shared(source[start:][::-1], other[start:][::-1])
    ends = [(i, i) for i in range(1, start + 1)]
    ends += _matches(source[start : len(source) - stop], other[start : len(other) - stop], start)
    ends += [(len(source) - i, len(other) - i) for i in range(stop - 1, -1, -1)]
    spans = dict(ends)  # an added word ends with the match before it: the later end is kept
    if source:
        spans.pop(0, None)
        return spans
    return {0: len(other)}


def _shared(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the common beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def _matches(a: Sequence[str], b: Sequence[str], offset: int) -> list[tuple[int, int]]:
    """Ends of the cheapest matches of two word lists, both counted from `offset`."""
    costs: dict[tuple[int, int], tuple[float, int, int]] = {(0, 0): (0.0, 0, 0)}
    for i in range(len(a) + 1):
        for j in range(len(b) + 1):
            if i or j:
                costs[i, j] = min(
                    (costs[i - di, j - dj][0] + _cost(a[i - di : i], b[j - dj : j]), di, dj)
                    for di, dj in ((1, 1), (1, 0), (0, 1), (1, 2), (2, 1))
                    if di <= i and dj <= j
                )
    ends, i, j = [], len(a), len(b)
    while i or j:
        ends.append((offset + i, offset + j))
        _, di, dj = costs[i, j]
        i, j = i - di, j - dj
    return ends[::-1]


def _cost(a: Sequence[str], b: Sequence[str]) -> float:
    if not a or not b:
        return 1.0
    return _difference("".join(a), "".join(b)) + JOINED * (len(a) != len(b))


@lru_cache(maxsize=1 << 16)
def _difference(a: str, b: str) -> float:
    return distance(a, b) / max(len(a), len(b), 1)
