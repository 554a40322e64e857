"""p(typed | meant) of single words, by edits of characters.

    p(typed | meant) = product over the edits of the alignment of  count(edit) / count(place where it was possible)

with counts smoothed by those of the edit's class, so that edits that a list does not hold, or no list at all, leave the
rates of `CLASSES`. Paper: "A Spelling Correction Program Based on a Noisy Channel Model" (1990).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from langevin.modalities.text.corruption.confusions import Confusions
from langevin.modalities.text.corruption.typos import NEIGHBOURS, Characters, edit_of
from langevin.modalities.text.metrics.alignment import align

VOWELS = frozenset("aeiouy")
CLASSES: Mapping[str, float] = {  # rate of one edit where it is possible, in 24,000 misspellings of one or two edits
    "swap": 0.009, "doubled": 0.007, "vowel": 0.018, "key": 0.0017, "replaced": 0.0014, "deleted": 0.064,
    "inserted": 0.0012, "apostrophe": 0.5,
}  # fmt: skip
SMOOTHING = 200.0  # places that the rate of a class counts as
LISTED = 0.5  # share of a listed word's misspellings that are listed


def edit_class(right: str, wrong: str) -> str:
    """The class of an edit as `Characters` writes it."""
    if len(right) == 2:
        return "swap"
    if not wrong:
        return "apostrophe" if right == "'" else "deleted"
    if len(wrong) == 2:
        return "apostrophe" if wrong[1] == "'" else "doubled" if wrong[1] == right else "inserted"
    if right in VOWELS and wrong in VOWELS:
        return "vowel"
    return "key" if wrong in NEIGHBOURS.get(right, "") else "replaced"


@dataclass(frozen=True, kw_only=True, eq=False)
class Channel:
    """How words are misspelt; `Channel()` by classes of edits alone, or learned by `fit`.

    Attributes:
        characters: counts of edits.
        listed: by a typed word, what it may mean, with p(typed | meant).
    """

    characters: Characters | None = None
    listed: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def fit(cls, confusions: Confusions) -> "Channel":
        """Learn from pairs, in lower case. ValueError if no pair has one or two edits."""
        listed: dict[str, dict[str, float]] = {}
        for right, ways in confusions.counts.items():
            total = sum(ways.values())
            for wrong, count in ways.items():
                meant = listed.setdefault(wrong.lower(), {})
                meant[right.lower()] = max(meant.get(right.lower(), 0.0), count / (total + 1))
        return cls(characters=Characters.fit(confusions), listed=listed)

    @cached_property
    def words(self) -> frozenset[str]:
        """The words whose misspellings are listed."""
        return frozenset(word for meant in self.listed.values() for text in meant for word in text.split())

    @cached_property
    def log_probability(self) -> Callable[[str, str], float]:
        """ln p(typed | meant, misspelt) of two words in lower case."""
        return lru_cache(1 << 18)(self._log_probability)

    def _log_probability(self, typed: str, meant: str) -> float:
        p = math.exp(sum(self._rate(edit) for edit in _edits(typed, meant)))
        listed = self.listed.get(typed, {}).get(meant)
        return math.log(p if listed is None else LISTED * listed + (1 - LISTED) * p)

    def _rate(self, edit: tuple[str, str]) -> float:
        rate = CLASSES[edit_class(*edit)]
        if self.characters is None:
            return math.log(rate)
        made, possible = self.characters.edits.get(edit, 0), self.characters.chances.get(edit[0], 0)
        return math.log((made + SMOOTHING * rate) / (possible + SMOOTHING))


def _edits(typed: str, meant: str) -> list[tuple[str, str]]:
    return [edit_of(meant, i, meant[i:k], typed[j:m]) for i, k, j, m in align(meant, typed) if meant[i:k] != typed[j:m]]
