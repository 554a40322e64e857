"""p(typed | meant) of single words, by edits of a few characters.

Both words are cut into as many parts of up to `PART` characters, so that

    p(typed | meant) = max over cuts, product over parts of  rate(part typed | part meant)

A part of a word that was kept, such as "^k" at its beginning, is a part too. Rates are learned from pairs of words that
are aligned by the fewest edits, where every window of the alignment is counted:

    rate(b | a) = (count(a, b) + s r(b | a)) / (count(a) + s)

r is the rate of the class of the edit if it is one of single characters (`CLASSES`), else that of the best cut of a and b
into smaller parts. So a list, or none, leaves the rates of the edits that it does not hold. Papers: "A Spelling Correction
Program Based on a Noisy Channel Model" (1990), "An Improved Error Model for Noisy Channel Spelling Correction" (2000).
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise

from langevin.modalities.text.corruption.confusions import Confusions
from langevin.modalities.text.corruption.typos import NEIGHBOURS
from langevin.modalities.text.metrics.alignment import align

VOWELS = frozenset("aeiouy")
CLASSES: Mapping[str, float] = {  # rate of one edit where it is possible, in 24,000 misspellings of one or two edits
    "swap": 0.009, "doubled": 0.007, "vowel": 0.018, "key": 0.0017, "replaced": 0.0014, "deleted": 0.064,
    "inserted": 0.0012, "apostrophe": 0.5,
}  # fmt: skip
PART = 3  # characters
SMOOTHING = 200.0  # places that the rate of a class counts as
CUT_SMOOTHING = 5.0  # and that of a cut into smaller parts
LISTED = 0.5  # share of a listed word's misspellings that are listed
BEGINNING, END = "^", "$"
Arc = tuple[int, int, float]  # of a typed word: from and to a place in it, -ln of the rate of what is between


def edit_class(right: str, wrong: str) -> str:
    """The class of an edit of one character, or of two that are swapped; one that is inserted follows `right`."""
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
        nats: -ln of the rate of a typed part, by the part that was meant.
        listed: by a typed word, what it may mean, with p(typed | meant).
    """

    nats: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    listed: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def fit(cls, confusions: Confusions) -> "Channel":
        """Learn from pairs, in lower case. 40,000 take some ten seconds."""
        listed: dict[str, dict[str, float]] = {}
        for right, ways in confusions.counts.items():
            total = sum(ways.values())
            for wrong, count in ways.items():
                meant = listed.setdefault(wrong.lower(), {})
                meant[right.lower()] = max(meant.get(right.lower(), 0.0), count / (total + 1))
        return cls(nats=_nats(*_counts(confusions)), listed=listed)

    @cached_property
    def words(self) -> frozenset[str]:
        """The words whose misspellings are listed."""
        return frozenset(word for meant in self.listed.values() for text in meant for word in text.split())

    @cached_property
    def log_probability(self) -> Callable[[str, str], float]:
        """ln p(typed | meant, misspelt) of two words in lower case; -inf if no edits lead from one to the other."""
        return lru_cache(1 << 18)(self._log_probability)

    def _log_probability(self, typed: str, meant: str) -> float:
        arcs, meant = self.arcs(typed), bounded(meant)
        rows = [start(typed)]
        for i in range(1, len(meant) + 1):
            rows.append(extended(rows, meant[:i], arcs))
        p = math.exp(-rows[-1][-1])
        listed = self.listed.get(typed, {}).get(meant[1:-1])
        p = p if listed is None else LISTED * listed + (1 - LISTED) * p
        return math.log(p) if p else -math.inf

    def arcs(self, typed: str) -> Callable[[str], list[Arc]]:
        """By a part that was meant: where in a typed word it may be, and at how many nats."""
        typed = bounded(typed)
        places: dict[str, list[tuple[int, int]]] = {}
        for n in range(PART + 1):
            for i in range(len(typed) + 1 - n):
                places.setdefault(typed[i : i + n], []).append((i, i + n))
        found: dict[str, list[Arc]] = {}

        def of(meant: str) -> list[Arc]:
            if (arcs := found.get(meant)) is None:
                learned = self.nats.get(meant, {})
                nats = {part: learned[part] for part in learned.keys() & places.keys()}
                if len(meant) <= 2 and (len(meant) == 1 or meant[::-1] in places):
                    nats = {part: nats.get(part, edit_nats(meant, part)) for part in places}
                arcs = [(*place, n) for part, n in nats.items() if n < math.inf for place in places[part]]
                found[meant] = arcs
            return arcs

        return of


def bounded(word: str) -> str:
    """A word between the signs of its beginning and its end."""
    return f"{BEGINNING}{word}{END}"


def start(typed: str) -> list[float]:
    """The costs of nothing that was meant: nothing can have been typed."""
    return [0.0] + [math.inf] * (len(typed) + 2)


def extended(costs: Sequence[list[float]], meant: str, arcs: Callable[[str], list[Arc]]) -> list[float]:
    """(-ln p(first j characters of the typed word | meant)) for all j, given those of shorter beginnings of it."""
    new = [math.inf] * len(costs[0])
    for n in range(1, min(PART, len(costs)) + 1):
        before = costs[-n]
        for i, j, nats in arcs(meant[-n:]):
            if (total := before[i] + nats) < new[j]:
                new[j] = total
    return new


def edit_nats(right: str, wrong: str) -> float:
    """-ln of the rate of an edit of single characters by its class, 0 for none; inf for others."""
    if right == wrong:
        return 0.0 if len(right) == 1 else math.inf
    if right in (BEGINNING, END):
        inside = wrong[1:] if right == BEGINNING else wrong[:-1]
        if wrong.strip(BEGINNING + END) != inside or len(inside) == len(wrong):
            return math.inf
        return -len(inside) * math.log(CLASSES["inserted"])
    if len(right) > 2 or BEGINNING in wrong + right or END in wrong + right:
        return math.inf
    if len(right) == 2:
        return -math.log(CLASSES["swap"]) if wrong == right[::-1] else math.inf
    if len(wrong) < 2:
        return -math.log(CLASSES[edit_class(right, wrong)])
    if wrong[0] != right:
        return math.inf
    return -sum(math.log(CLASSES[edit_class(a, a + b)]) for a, b in pairwise(wrong))


def _counts(confusions: Confusions) -> tuple[Counter[tuple[str, str]], Counter[str]]:
    """(how often a part was typed for another, how often a part was meant)."""
    made, meant = Counter[tuple[str, str]](), Counter[str]()
    for right, wrong, _ in confusions.pairs():
        x, z = bounded(right.lower()), bounded(wrong.lower())
        made.update(_windows(x, z))
        meant.update(x[i : i + n] for n in range(1, PART + 1) for i in range(len(x) - n + 1))
    return made, meant


def _windows(x: str, z: str) -> Iterator[tuple[str, str]]:
    steps = align(x, z)
    for a, (i, _, j, _) in enumerate(steps):
        for _, k, _, m in steps[a:]:
            if max(k - i, m - j) > PART:
                break
            if k > i:
                yield x[i:k], z[j:m]


def _nats(made: Mapping[tuple[str, str], int], meant: Mapping[str, int]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for right, wrong in sorted(made, key=lambda pair: (len(pair[0]) + len(pair[1]), pair)):
        single = edit_nats(right, wrong)
        shorter, smoothing = (single, SMOOTHING) if single < math.inf else (_cut(right, wrong, found), CUT_SMOOTHING)
        rate = (made[right, wrong] + smoothing * math.exp(-shorter)) / (meant[right] + smoothing)
        if -math.log(rate) < shorter or single < math.inf:
            found.setdefault(right, {})[wrong] = -math.log(rate)
    return found


def _cut(right: str, wrong: str, found: Mapping[str, Mapping[str, float]]) -> float:
    """-ln of the largest product of the rates of two parts of each."""

    def nats(a: str, b: str) -> float:
        known = found.get(a, {}).get(b)
        return edit_nats(a, b) if known is None else known

    return min(
        (
            nats(right[:i], wrong[:j]) + nats(right[i:], wrong[j:])
            for i in range(1, len(right)) for j in range(len(wrong) + 1)
        ), default=math.inf,
    )  # fmt: skip
