"""Slips of one word: of the fingers, of chance, and those that people make, learned from pairs.

- `typing_slip`: a neighbour on the keyboard for a letter or beside it, two letters swapped, one dropped, one doubled.
- `random_slip`: a letter replaced, dropped or put in anywhere, all equally likely.
- `Characters`: edits counted over (right, wrong) pairs aligned by Damerau and Levenshtein's distance. A word
  gets one edit or two, as often as pairs have, each drawn among all edits of the word in proportion to how often its
  kind was made where it could have been.

`confusion_matrix` is the substitution part as a matrix E(z | x), for repair by a noisy channel
q(z | x) = (1 - e) 1[z = x] + e E(z | x). Paper: "A Spelling Correction Program Based on a Noisy Channel Model" (1990).
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

from langevin.modalities.text.corruption.confusions import Confusions
from langevin.modalities.text.metrics.alignment import align, distance
from langevin.modalities.text.words import like_case

_ROWS = (("qwertyuiop", 0.0), ("asdfghjkl", 0.25), ("zxcvbnm", 0.75))  # each row stands a little to the right
_PLACES = {key: (i + shift, j) for j, (row, shift) in enumerate(_ROWS) for i, key in enumerate(row)}
NEIGHBOURS: dict[str, str] = {
    key: "".join(k for k, (u, v) in _PLACES.items() if k != key and abs(u - x) <= 1 and abs(v - y) <= 1)
    for key, (x, y) in _PLACES.items()
}
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
Edit = tuple[str, str]
MOST_EDITS = 2


def typing_slip(word: str, generator: np.random.Generator) -> str:
    """The word with one slip of the fingers; as it is where it has no letter a-z. Case follows the letter struck."""
    ways = [i for i, letter in enumerate(word) if letter.lower() in NEIGHBOURS]
    if not ways:
        return word
    i = ways[int(generator.integers(len(ways)))]
    near = NEIGHBOURS[word[i].lower()]
    key = like_case(near[int(generator.integers(len(near)))], word[i])
    swaps = [j for j in range(len(word) - 1) if word[j] != word[j + 1]]
    kind = int(generator.integers(5))
    if kind == 0 and len(word) > 1:
        return word[:i] + word[i + 1 :]
    if kind == 1:
        return word[: i + 1] + word[i].lower() + word[i + 1 :]
    if kind == 2 and swaps:
        j = swaps[int(generator.integers(len(swaps)))]
        return word[:j] + word[j + 1] + word[j] + word[j + 2 :]
    return word[:i] + key + word[i + (kind != 3) :]


def random_slip(word: str, generator: np.random.Generator) -> str:
    """The word with one letter replaced by another of a-z, dropped (unless it is the only one), or put in."""
    i, letter = int(generator.integers(len(word) + 1)), ALPHABET[int(generator.integers(26))]
    kind = int(generator.integers(3))
    if kind == 0 or i == len(word):
        return word[:i] + letter + word[i:]
    if kind == 1 and len(word) > 1:
        return word[:i] + word[i + 1 :]
    if letter == word[i].lower():
        letter = ALPHABET[ALPHABET.index(letter) - 1]
    return word[:i] + like_case(letter, word[i]) + word[i + 1 :]


@dataclass(frozen=True, kw_only=True, eq=False)
class Characters:
    """Edits of characters counted over pairs; make it by `fit`. Everything is lower case.

    Attributes:
        edits: how often each (seen, written): ("a", "e") replaced, ("a", "") dropped, ("a", "ab") b put in after a,
            ("ab", "ba") swapped. "^" stands for the beginning.
        chances: how often each character, pair of them and the beginning stood in the right words.
        lengths: how many pairs had 1 and 2 edits.
    """

    edits: Mapping[Edit, int]
    chances: Mapping[str, int]
    lengths: tuple[int, ...]

    @classmethod
    def fit(cls, confusions: Confusions) -> "Characters":
        """Count the edits of all pairs of at most two edits, each pair once; others are seldom slips of characters.

        40,000 pairs take some five seconds. ValueError where no pair is near enough.
        """
        edits, chances, lengths = Counter[Edit](), Counter[str](), [0] * MOST_EDITS
        for right, wrong, _ in confusions.pairs():
            x, z = right.lower(), wrong.lower()
            made = [_edit(x, i, x[i:k], z[j:m]) for i, k, j, m in align(x, z) if x[i:k] != z[j:m]]
            if not 0 < len(made) <= MOST_EDITS:
                continue
            edits.update(made)
            chances.update(["^", *x, *(x[i : i + 2] for i in range(len(x) - 1))])
            lengths[len(made) - 1] += 1
        if not edits:
            raise ValueError(f"Characters.fit found no pair that is near enough among {len(confusions)}")
        return cls(edits=edits, chances=chances, lengths=tuple(lengths))

    def slip(self, word: str, generator: np.random.Generator) -> str:
        """The word with one or two edits; as it is where no edit of its characters was ever seen. Case follows."""
        for _ in range(1 + _pick(list(accumulate(self.lengths)), generator)):
            word = self._edited(word, generator)
        return word

    def _edited(self, word: str, generator: np.random.Generator) -> str:
        lower = word.lower()
        if len(lower) != len(word):  # a character whose lower case is longer: places would not match
            return word
        places = [(-1, 0, "^"), *((i, i + n, lower[i : i + n]) for n in (1, 2) for i in range(len(word) - n + 1))]
        places = [place for place in places if place[2] in self._ways]
        if not places:
            return word
        start, end, seen = places[_pick(list(accumulate(self._ways[s][1][-1] for *_, s in places)), generator)]
        written, sums = self._ways[seen]
        drawn = written[_pick(sums, generator)]
        return drawn[1:] + word if start < 0 else word[:start] + like_case(drawn, word[start]) + word[end:]

    @cached_property
    def _ways(self) -> dict[str, tuple[list[str], list[float]]]:
        """For each seen string what is written for it, and cumulative rates: how often over how often it could be."""
        found: dict[str, list[tuple[str, float]]] = {}
        for (seen, written), count in self.edits.items():
            found.setdefault(seen, []).append((written, count / self.chances[seen]))
        return {seen: ([w for w, _ in ways], list(accumulate(r for _, r in ways))) for seen, ways in found.items()}


def confusion_matrix(
    alphabet: Sequence[str], characters: Characters | None = None, *, keyboard: float = 0.2, floor: float = 0.1
) -> np.ndarray:
    """E(z | x), (V, V) float64: row x over the z that are written for it; rows sum to 1 and the diagonal is 0.

    `keyboard` of each row goes to neighbours on the keyboard, `floor` to all others alike, and the rest to substitutions
    in proportion to their counts; what a row has no counts or no neighbours for goes to the floor. ValueError for shares
    outside [0, 1], fewer than two or repeated symbols.
    """
    v = len(alphabet)
    if v < 2 or len(set(alphabet)) != v or min(keyboard, floor) < 0 or keyboard + floor > 1:
        raise ValueError(
            f"confusion_matrix needs two or more different symbols and shares that sum to at most 1, got {v} symbols, "
            f"keyboard {keyboard}, floor {floor}"
        )
    index = {symbol: i for i, symbol in enumerate(alphabet)}
    counted, near = np.zeros((v, v)), np.zeros((v, v))
    for (x, z), count in (characters.edits if characters else {}).items():
        if x in index and z in index and x != z:
            counted[index[x], index[z]] = count
    for x, keys in NEIGHBOURS.items():
        for z in keys:
            if x in index and z in index:
                near[index[x], index[z]] = 1
    others = (1 - np.eye(v)) / (v - 1)
    parts = [(1 - keyboard - floor, counted), (keyboard, near)]
    result = np.zeros((v, v))
    for share, part in parts:
        sums = part.sum(1, keepdims=True)
        result += share * np.where(sums > 0, part / np.maximum(sums, 1e-300), others)
    return result + floor * others


def edit_distances(confusions: Confusions) -> Counter[int]:
    """How many pairs lie 1, 2, 3, ... edits apart."""
    return Counter(distance(right.lower(), wrong.lower()) for right, wrong, _ in confusions.pairs())


def _edit(word: str, place: int, seen: str, written: str) -> Edit:
    """The edit as it is counted; a letter put in beside its like is that letter doubled, else one after the one before."""
    if seen:
        return seen, written
    before = written if word[place : place + 1] == written else word[place - 1 : place] if place else "^"
    return before, before + written


def _pick(sums: Sequence[float], generator: np.random.Generator) -> int:
    """The first index whose cumulative weight exceeds a uniform share of the sum."""
    return min(bisect_right(sums, generator.random() * sums[-1]), len(sums) - 1)
