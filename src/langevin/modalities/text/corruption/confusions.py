"""Lists of misspellings: reading, merging, splitting and sampling.

Two formats are read. *Misspellings* have a line per word, "word: error, error*3", with counts after a star (else 1) and "_"
for a space. A word may have several lines; a pair on more than one of them keeps its largest count. *Corrections* have a
line per error, "wrong->right" or "wrong->right, other,", each target once. Pairs of equal sides and words without a letter
("?") are dropped.
"""

import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from langevin.modalities.text.words import like_case

Counts = dict[str, dict[str, int]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Confusions:
    """Counts of misspellings: `counts[right][wrong]`. ValueError for no words or counts < 1."""

    counts: Mapping[str, Mapping[str, int]]

    def __post_init__(self) -> None:
        if not self.counts or not all(ways and min(ways.values()) >= 1 for ways in self.counts.values()):
            raise ValueError(f"Confusions needs errors with counts >= 1 for each word, got {len(self.counts)} words")

    def __len__(self) -> int:
        """Number of (right, wrong) pairs."""
        return sum(len(ways) for ways in self.counts.values())

    def pairs(self) -> Iterator[tuple[str, str, int]]:
        """(right, wrong, count), in the order they were read."""
        return ((right, wrong, count) for right, ways in self.counts.items() for wrong, count in ways.items())

    def merged(self, other: "Confusions") -> "Confusions":
        """The pairs of both; a pair of both has the sum of its counts."""
        counts: Counts = {right: dict(ways) for right, ways in self.counts.items()}
        for right, wrong, count in other.pairs():
            ways = counts.setdefault(right, {})
            ways[wrong] = ways.get(wrong, 0) + count
        return Confusions(counts=counts)

    def split(self, share: float, *, seed: int = 0) -> tuple["Confusions", "Confusions"]:
        """(kept, held out): a fraction of about `share` of the right words is held out with all their errors.

        The side of a word is a function of the lower-cased word and the seed. ValueError if a side is empty.
        """
        held = {right for right in self.counts if zlib.crc32(f"{seed} {right.lower()}".encode()) < share * 2**32}
        sides = [{r: w for r, w in self.counts.items() if (r in held) == side} for side in (False, True)]
        if not all(sides):
            raise ValueError(f"Confusions.split: a fraction {share} of {len(self.counts)} words leaves a side empty")
        return Confusions(counts=sides[0]), Confusions(counts=sides[1])

    def knows(self, word: str) -> bool:
        """Whether there are errors for the word, in its own case or in lower case."""
        return word in self._cumulative or word.lower() in self._cumulative

    def draw(self, word: str, u: float) -> str:
        """A misspelling of a known word, in proportion to its counts for uniform u in [0, 1); KeyError for an unknown word.

        If the word is listed in lower case only, the misspelling gets its capitals.
        """
        listed = word in self._cumulative
        wrong, sums = self._cumulative[word if listed else word.lower()]
        drawn = wrong[min(bisect_right(sums, u * sums[-1]), len(wrong) - 1)]
        return drawn if listed else like_case(drawn, word)

    @cached_property
    def _cumulative(self) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
        """The misspellings of each right word, and their cumulative counts."""
        ways = {right: (tuple(errors), tuple(accumulate(errors.values()))) for right, errors in self.counts.items()}
        return {**{right.lower(): way for right, way in ways.items()}, **ways}


def read_misspellings(lines: Iterable[str]) -> Confusions:
    """Lines "word: error, error*3" (see the module). ValueError names a line without a colon, and a text without pairs."""
    counts: Counts = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        right, colon, errors = line.partition(":")
        if not colon:
            raise ValueError(f"line {number} of the misspellings has no colon: {line.strip()[:60]!r}")
        for error in errors.split(","):
            wrong, _, times = error.strip().partition("*")
            _add(counts, right, wrong, int(times) if times.isdigit() else 1)
    return Confusions(counts=counts)


def read_corrections(lines: Iterable[str]) -> Confusions:
    """Lines "wrong->right" or "wrong->right, other," (see the module). ValueError names a line without an arrow."""
    counts: Counts = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        wrong, arrow, targets = line.partition("->")
        if not arrow:
            raise ValueError(f"line {number} of the corrections has no '->': {line.strip()[:60]!r}")
        for right in targets.split(","):
            _add(counts, right, wrong, 1)
    return Confusions(counts=counts)


def read_confusions(lines: Sequence[str]) -> Confusions:
    """Lines of either format, told by the first twenty. ValueError as of the one that is read."""
    return read_corrections(lines) if any("->" in line for line in lines[:20]) else read_misspellings(lines)


def _add(counts: Counts, right: str, wrong: str, count: int) -> None:
    """Add a pair, unless it is dropped (see the module); a repeated one keeps the larger count."""
    right, wrong = (" ".join(side.replace("_", " ").split()) for side in (right, wrong))
    if right == wrong or not wrong or count < 1 or not any(letter.isalpha() for letter in right):
        return
    ways = counts.setdefault(right, {})
    ways[wrong] = max(ways.get(wrong, 0), count)
