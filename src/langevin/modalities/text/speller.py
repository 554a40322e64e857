"""A spelling corrector without learning: the nearest word of a lexicon; of equally near ones the most frequent.

Nearness is the Damerau-Levenshtein distance, at most two. Candidates come from an index of deletions: two words within
two edits share a string that is left after deleting at most two characters of each, and it is enough to do so with
their first seven characters. So a word looks up some thirty strings instead of the whole lexicon.

Paper of the distance: "A technique for computer detection and correction of spelling errors" (1964).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations

from langevin.modalities.text.metrics.alignment import distance
from langevin.modalities.text.words import is_word, like_case, pieces, plain_words

BEGINNING, NEAREST = 7, 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Speller:
    """A lexicon with frequencies and its index of deletions; make it by `fit` or `from_text`.

    Attributes:
        counts: frequency of each word of the lexicon, lower-cased.
        most: the largest distance that is corrected, 0..2.
        index: words by each string that deletions leave of their first characters.
    """

    counts: Mapping[str, int]
    most: int
    index: Mapping[str, Sequence[str]]

    @classmethod
    def fit(cls, counts: Mapping[str, int], *, most: int = 2) -> "Speller":
        """Index a lexicon of word -> frequency; 70,000 words take some three seconds.

        ValueError for an empty lexicon, frequencies < 1 or `most` outside 0..2.
        """
        if not counts or min(counts.values()) < 1 or most not in (0, 1, 2):
            raise ValueError(
                f"Speller.fit needs words with frequencies >= 1 and most in 0..2, got {len(counts)} words, most {most}"
            )
        lexicon = Counter[str]()
        for word, count in counts.items():
            lexicon[word.lower()] += count
        index: dict[str, list[str]] = {}
        for word in lexicon:
            for rest in _deletions(word, most):
                index.setdefault(rest, []).append(word)
        return cls(counts=lexicon, most=most, index=index)

    @classmethod
    def from_text(cls, text: str, *, least: int = 1, most: int = 2) -> "Speller":
        """Index the words of a text, lower-cased, that occur `least` times or more."""
        counts = Counter(plain_words(text))
        return cls.fit({word: count for word, count in counts.items() if count >= least}, most=most)

    @classmethod
    def of(cls, words: Sequence[str]) -> "Speller":
        """Index words that are sorted by frequency, the most frequent first."""
        return cls.fit({word: len(words) - i for i, word in enumerate(words)})

    @cached_property
    def _ranked(self) -> Callable[[str], tuple[str, ...]]:
        return lru_cache(65_536)(self._rank)

    def _rank(self, word: str) -> tuple[str, ...]:
        candidates = {near for rest in _deletions(word, self.most) for near in self.index.get(rest, ())}
        ranked = sorted((distance(word, near, most=self.most), -self.counts[near], near) for near in candidates)
        return tuple(near for d, _, near in ranked[:NEAREST] if d <= self.most)

    def near(self, word: str, *, most: int) -> list[tuple[str, int]]:
        """(word, edits) of all words of the lexicon within `most` edits, lower-cased, the word itself included."""
        lower = word.lower()
        found = {near for rest in _deletions(lower, most) for near in self.index.get(rest, ())}
        distances = [(near, distance(lower, near, most=most)) for near in found]
        return [(near, d) for near, d in distances if d <= most]

    def nearest(self, word: str, rank: int = 0) -> str:
        """The nearest word of the lexicon, lower-cased; the word itself if none is near enough.

        Ties go to the more frequent word, then to the one first in the alphabet; a word of the lexicon is its own nearest.
        With `rank` (below `NEAREST`) the next nearest, and so on; where there are fewer, the last.
        """
        lower = word.lower()
        if lower in self.counts:
            return lower
        ranked = self._ranked(lower)
        return ranked[min(rank, len(ranked) - 1)] if ranked else word

    def correct(self, text: str, rank: int = 0) -> str:
        """The text with every word outside the lexicon replaced by its nearest; case of the first letters is kept.

        Numbers, punctuation and spaces are kept, and so are words with no near word.
        """
        return "".join(self._fitted(piece, rank) if is_word(piece) else piece for piece in pieces(text))

    def _fitted(self, word: str, rank: int) -> str:
        if word.lower() in self.counts:
            return word
        near = self.nearest(word, rank)
        return word if near == word else like_case(near, word)


def _deletions(word: str, most: int) -> set[str]:
    """What is left of the word's beginning after deleting up to `most` characters."""
    beginning = word[:BEGINNING]
    strings = {beginning}
    for count in range(1, min(most, len(beginning)) + 1):
        strings.update("".join(kept) for kept in combinations(beginning, len(beginning) - count))
    return strings
