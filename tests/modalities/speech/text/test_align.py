"""Alignment of letters with phonemes, held to enumeration and to languages whose alignment is known."""

from itertools import pairwise, product

import numpy as np
import pytest

from langevin.modalities.speech.text.align import Pairs, align, chunk_codes

BASE = 9


def codes(sequences):
    out = np.zeros((len(sequences), max(map(len, sequences))), dtype=np.int64)
    for i, sequence in enumerate(sequences):
        out[i, : len(sequence)] = sequence
    return out


def language(random, chunk_of):
    """Words of random letters, and their phonemes letter by letter; no word without a phoneme."""
    words = [random.integers(1, len(chunk_of) + 1, random.integers(1, 9)).tolist() for _ in range(400)]
    words = [word for word in words if any(chunk_of[letter - 1] for letter in word)]
    spoken = [[p for letter in word for p in chunk_of[letter - 1]] for word in words]
    return words, spoken, Pairs(letters=codes(words), phonemes=codes(spoken))


@pytest.mark.parametrize("seed", range(4))
def test_a_language_of_one_chunk_per_letter_is_recovered(seed):
    chunk_of = [(1,), (2,), (3,), (4,), (), (5, 6), (7,), (8,)]
    words, _, pairs = language(np.random.default_rng(seed), chunk_of)
    sizes, _ = align(pairs)
    wrong = sum(sizes[i, : len(w)].tolist() != [len(chunk_of[letter - 1]) for letter in w] for i, w in enumerate(words))
    assert wrong == 0


@pytest.mark.parametrize("seed", range(4))
def test_chunks_in_order_are_the_phonemes(seed):
    random = np.random.default_rng(seed)
    letters = [random.integers(1, 6, random.integers(1, 7)).tolist() for _ in range(300)]
    phonemes = [random.integers(1, BASE, random.integers(1, 2 * len(word) + 1)).tolist() for word in letters]
    pairs = Pairs(letters=codes(letters), phonemes=codes(phonemes))
    sizes, starts = align(pairs)
    chunks = chunk_codes(pairs.phonemes, sizes, starts, BASE)
    for i, word in enumerate(letters):
        parts = [p for code in chunks[i, : len(word)].tolist() for p in (code % BASE, code // BASE) if p]
        assert parts == phonemes[i]
        assert not sizes[i, len(word) :].any()


def test_the_alignment_is_the_best_of_all_under_the_frequencies_that_it_has():
    """Viterbi training has converged where no other split of a word is more probable under the counts of the alignment."""
    random = np.random.default_rng(0)
    letters, phonemes, pairs = language(random, [(1,), (2, 3), (), (4,), (2,), (3,)])
    sizes, starts = align(pairs, iterations=20)
    chunks = chunk_codes(pairs.phonemes, sizes, starts, BASE)
    count = np.full((8, BASE * BASE), 0.01)
    np.add.at(count, (pairs.letters[pairs.letters > 0], chunks[pairs.letters > 0]), 1)
    log_prob = np.log(count / count.sum(1, keepdims=True))

    def score(word, spoken, split):
        ends = np.cumsum((0, *split))
        parts = [(*spoken[a:b], 0, 0)[:2] for a, b in pairwise(ends)]
        return sum(log_prob[letter, first + BASE * second] for letter, (first, second) in zip(word, parts))

    for i in range(0, len(letters), 4):
        word, spoken = letters[i], phonemes[i]
        splits = [split for split in product(range(3), repeat=len(word)) if sum(split) == len(spoken)]
        best = max(score(word, spoken, split) for split in splits)
        assert score(word, spoken, sizes[i, : len(word)].tolist()) == pytest.approx(best)
