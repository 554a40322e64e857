"""Alignment of the letters of words with their phonemes: each letter is given the 0, 1 or 2 phonemes that it stands for.

Viterbi training of p(chunk | letter): the best alignment of a word is that of greatest sum of ln p(chunk_i | letter_i)
over the splits of its phonemes into a chunk per letter, and the table is re-estimated from the best alignments. It
starts from the words with as many letters as phonemes, taken one to one.

Paper of the many-to-many alignment: "Applying many-to-many alignments and hidden Markov models to letter-to-phoneme
conversion" (2007).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

LONGEST = 2  # phonemes of a chunk
ENOUGH = 30_000  # words that the table is estimated from; of more, evenly spaced ones


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """n spellings with their phonemes, as codes from 1; 0 pads.

    Args:
        letters: (n, L) codes of letters.
        phonemes: (n, M) codes of phonemes, at most twice as many as letters.
    """

    letters: np.ndarray
    phonemes: np.ndarray

    def by_length(self) -> Iterator[np.ndarray]:
        """Indices of the words of 1, 2, ... letters, where there are any."""
        length = (self.letters > 0).sum(1)
        yield from (np.flatnonzero(length == n) for n in np.unique(length))


def align(pairs: Pairs, *, iterations: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """How many phonemes each letter takes, (n, L), and the position of the first of them, (n, L); 0 where padded."""
    base = int(pairs.phonemes.max()) + 1
    step = max(len(pairs.letters) // ENOUGH, 1)
    sample = Pairs(letters=pairs.letters[::step], phonemes=pairs.phonemes[::step])
    table = _first_table(pairs, base)
    for _ in range(iterations):
        sizes, starts = _best(sample, table, base)
        table = _estimate(sample.letters, chunk_codes(sample.phonemes, sizes, starts, base), table.shape)
    return _best(pairs, table, base)


def chunk_codes(phonemes: np.ndarray, sizes: np.ndarray, starts: np.ndarray, base: int) -> np.ndarray:
    """Code of each letter's chunk: first + base * second phoneme, each 0 where there is none, (n, L)."""
    padded = np.pad(phonemes.astype(np.int64), ((0, 0), (0, LONGEST)))
    first = np.take_along_axis(padded, starts, 1) * (sizes > 0)
    second = np.take_along_axis(padded, starts + 1, 1) * (sizes > 1)
    return first + base * second


def _first_table(pairs: Pairs, base: int) -> np.ndarray:
    """ln p(chunk | letter) from words taken one to one; a chunk of two is rarer, and none is as likely as a tenth."""
    n, m = (pairs.letters > 0).sum(1), (pairs.phonemes > 0).sum(1)
    width = min(pairs.letters.shape[1], pairs.phonemes.shape[1])
    letters, phonemes = pairs.letters[n == m, :width], pairs.phonemes[n == m, :width]
    count = np.full((int(pairs.letters.max()) + 1, base), 0.1)
    np.add.at(count, (letters[letters > 0], phonemes[letters > 0]), 1)
    single = count / count.sum(1, keepdims=True)
    table = 0.05 * single[:, :, None] * single[:, None, :]  # second, first
    table[:, 0, :] = single
    table[:, 0, 0] = 0.1
    return np.log(table.reshape(len(count), base * base))


def _estimate(letters: np.ndarray, chunks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """ln p(chunk | letter) from aligned letters; unseen chunks keep a little."""
    kept = letters > 0
    count = np.bincount(letters[kept].astype(np.int64) * shape[1] + chunks[kept], minlength=shape[0] * shape[1])
    smooth = count.reshape(shape) + 0.01
    return np.log(smooth / smooth.sum(1, keepdims=True))


def _best(pairs: Pairs, table: np.ndarray, base: int) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and starts of the best alignments, by dynamic programming over all words of a length at once."""
    sizes, starts = (np.zeros(pairs.letters.shape, dtype=np.int64) for _ in range(2))
    for words in pairs.by_length():
        n = int((pairs.letters[words[0]] > 0).sum())
        letters, phonemes = pairs.letters[words, :n].astype(np.int64), pairs.phonemes[words].astype(np.int64)
        taken = _choices(letters, phonemes, table, base)
        end = (phonemes > 0).sum(1)
        for i in reversed(range(n)):
            size = taken[np.arange(len(words)), i, end]
            end = end - size
            sizes[words, i], starts[words, i] = size, end
    return sizes, starts


def _choices(letters: np.ndarray, phonemes: np.ndarray, table: np.ndarray, base: int) -> np.ndarray:
    """Size of the last chunk in the best alignment of the first i + 1 letters with the first j phonemes, (w, n, M + 1)."""
    count, n = letters.shape
    m = phonemes.shape[1]
    chunks = (np.zeros((count, 1), dtype=np.int64), phonemes, phonemes[:, :-1] + base * phonemes[:, 1:])
    taken = np.zeros((count, n, m + 1), dtype=np.int8)
    best = np.full((count, m + 1), -np.inf)
    best[:, 0] = 0
    for i in range(n):
        row = letters[:, i, None] * table.shape[1]
        options = np.full((LONGEST + 1, count, m + 1), -np.inf)
        for size in range(min(LONGEST, m) + 1):
            options[size, :, size:] = best[:, : m + 1 - size] + table.ravel()[row + chunks[size]]
        taken[:, i] = options.argmax(0)
        best = options.max(0)
    return taken
