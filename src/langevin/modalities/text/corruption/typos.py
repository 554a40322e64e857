"""Misspellings of one word: typing errors, random edits, and edits learned from (right, wrong) pairs.

- `typo`: a neighbouring key instead of a letter or next to it, two letters swapped, one deleted, one doubled.
- `random_edit`: a letter replaced, deleted or inserted anywhere, all equally likely.
- `Characters`: edits counted over (right, wrong) pairs aligned by Damerau-Levenshtein distance. A word gets one or two
  edits, as often as the pairs have, each drawn among all edits of the word in proportion to its rate: how often it was
  made over how often it was possible.

`confusion_matrix` is the substitution part as a matrix E(z | x), for correction by a noisy channel
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

_ROWS = (("qwertyuiop", 0.0), ("asdfghjkl", 0.25), ("zxcvbnm", 0.75))  # each row is shifted a little to the right
_KEYS = {key: (i + shift, j) for j, (row, shift) in enumerate(_ROWS) for i, key in enumerate(row)}
NEIGHBOURS: dict[str, str] = {
    key: "".join(k for k, (u, v) in _KEYS.items() if k != key and abs(u - x) <= 1 and abs(v - y) <= 1)
    for key, (x, y) in _KEYS.items()
}
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
Edit = tuple[str, str]
MOST_EDITS = 2


def typo(word: str, generator: np.random.Generator) -> str:
    """The word with one typing error; unchanged if it has no letter a-z. Case is kept."""
    letters = [i for i, letter in enumerate(word) if letter.lower() in NEIGHBOURS]
    if not letters:
        return word
    i = letters[int(generator.integers(len(letters)))]
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


def random_edit(word: str, generator: np.random.Generator) -> str:
    """The word with one letter replaced by another of a-z, deleted (unless it is the only one), or inserted."""
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
    """Edits of characters counted over pairs, in lower case; make it by `fit`.

    Attributes:
        edits: count of each (right, wrong): ("a", "e") replaced, ("a", "") deleted, ("a", "ab") b inserted after a,
            ("ab", "ba") swapped. "^" stands for the beginning.
        chances: count of each character, pair of characters and "^" in the right words.
        lengths: number of pairs with 1 and 2 edits.
    """

    edits: Mapping[Edit, int]
    chances: Mapping[str, int]
    lengths: tuple[int, ...]

    @classmethod
    def fit(cls, confusions: Confusions) -> "Characters":
        """Count the edits of all pairs of at most two edits, each pair once; others are seldom edits of characters.

        40,000 pairs take some five seconds. ValueError if no pair has one or two edits.
        """
        edits, chances, lengths = Counter[Edit](), Counter[str](), [0] * MOST_EDITS
        for right, wrong, _ in confusions.pairs():
            x, z = right.lower(), wrong.lower()
            edited = [edit_of(x, i, x[i:k], z[j:m]) for i, k, j, m in align(x, z) if x[i:k] != z[j:m]]
            if not 0 < len(edited) <= MOST_EDITS:
                continue
            edits.update(edited)
            chances.update(["^", *x, *(x[i : i + 2] for i in range(len(x) - 1))])
            lengths[len(edited) - 1] += 1
        if not edits:
            raise ValueError(f"Characters.fit found no pair of one or two edits among {len(confusions)}")
        return cls(edits=edits, chances=chances, lengths=tuple(lengths))

    def slip(self, word: str, generator: np.random.Generator) -> str:
        """The word with one or two edits; unchanged if none of its characters was ever edited. Case is kept."""
        for _ in range(1 + _pick(list(accumulate(self.lengths)), generator)):
            word = self._edited(word, generator)
        return word

    def _edited(self, word: str, generator: np.random.Generator) -> str:
        lower = word.lower()
        if len(lower) != len(word):  # a character whose lower case is longer: indices would not match
            return word
        spans = [(-1, 0, "^"), *((i, i + n, lower[i : i + n]) for n in (1, 2) for i in range(len(word) - n + 1))]
        spans = [span for span in spans if span[2] in self._rates]
        if not spans:
            return word
        start, end, right = spans[_pick(list(accumulate(self._rates[s][1][-1] for *_, s in spans)), generator)]
        wrong, sums = self._rates[right]
        drawn = wrong[_pick(sums, generator)]
        return drawn[1:] + word if start < 0 else word[:start] + like_case(drawn, word[start]) + word[end:]

    @cached_property
    def _rates(self) -> dict[str, tuple[list[str], list[float]]]:
        """For each right string its wrong ones, and their cumulative rates: edits over chances."""
        rates: dict[str, list[tuple[str, float]]] = {}
        for (right, wrong), count in self.edits.items():
            rates.setdefault(right, []).append((wrong, count / self.chances[right]))
        return {right: ([w for w, _ in pairs], list(accumulate(r for _, r in pairs))) for right, pairs in rates.items()}


def confusion_matrix(
    alphabet: Sequence[str], characters: Characters | None = None, *, keyboard: float = 0.2, floor: float = 0.1
) -> np.ndarray:
    """E(z | x), (V, V) float64: row x is the distribution of the z written for it; rows sum to 1, the diagonal is 0.

    A fraction `keyboard` of each row goes to neighbouring keys, `floor` to all others uniformly, and the rest to
    substitutions in proportion to their counts. A row without neighbours or counts is uniform in that part. ValueError for
    fractions outside [0, 1], and fewer than two or repeated characters.
    """
    v = len(alphabet)
    if v < 2 or len(set(alphabet)) != v or min(keyboard, floor) < 0 or keyboard + floor > 1:
        raise ValueError(
            f"confusion_matrix needs two or more distinct characters and fractions that sum to at most 1, got {v} "
            f"characters, keyboard {keyboard}, floor {floor}"
        )
    index = {character: i for i, character in enumerate(alphabet)}
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
    """Number of pairs that are 1, 2, 3, ... edits apart."""
    return Counter(distance(right.lower(), wrong.lower()) for right, wrong, _ in confusions.pairs())


def edit_of(word: str, i: int, right: str, wrong: str) -> Edit:
    """The edit as it is counted: an insertion doubles an equal letter after it, else it follows the letter before it."""
    if right:
        return right, wrong
    before = wrong if word[i : i + 1] == wrong else word[i - 1 : i] if i else "^"
    return before, before + wrong


def _pick(sums: Sequence[float], generator: np.random.Generator) -> int:
    """A random index, in proportion to the weights of these cumulative sums."""
    return min(bisect_right(sums, generator.random() * sums[-1]), len(sums) - 1)
