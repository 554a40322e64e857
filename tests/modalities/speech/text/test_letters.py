"""Letter-to-sound: held to enumeration, to a language with a known rule, and to a baseline on held-out words."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

from langevin.modalities.speech.text.align import Pairs, align, chunk_codes
from langevin.modalities.speech.text.dictionary import without_stress
from langevin.modalities.speech.text.joint import END
from langevin.modalities.speech.text.letters import (
    _PHONEME,
    LETTERS,
    LONGEST,
    PHONEMES,
    LetterToSound,
    _encode,
    accuracy,
    held_out_accuracy,
)
from tests.modalities.speech.text.conftest import part


def spoken(word):
    """A language where c is S before e and K elsewhere, x is two phonemes, and a final e is silent."""
    sounds = {"a": ("AA1",), "b": ("B",), "e": ("EH1",), "t": ("T",), "x": ("K", "S")}
    found = []
    for i, letter in enumerate(word):
        if letter == "c":
            found.append("S" if word[i + 1 : i + 2] == "e" else "K")
        elif letter != "e" or i < len(word) - 1:
            found.extend(sounds[letter])
    return tuple(found)


def test_a_language_with_rules_of_context_is_learned():
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abcetx"), random.integers(2, 9))) for _ in range(3000)]
    words = list(dict.fromkeys(word for word in words if spoken(word)))
    model = LetterToSound.fit((word, spoken(word)) for word in words[:-300])
    assert model.pronounce(words[-300:]) == [spoken(word) for word in words[-300:]]


def test_a_wide_beam_finds_the_best_of_all_sequences(model):
    random = np.random.default_rng(1)
    for word in ["".join(random.choice(list("jhwqy"), 3)) for _ in range(6)]:
        choices = [[t for t in model.candidates[LETTERS.index(c) + 1] if t >= 0] for c in word]
        sequences = np.array([(*tokens, END) for tokens in product(*choices)])
        total, context = np.zeros(len(sequences)), np.full(len(sequences), model.ngram.beginning)
        for i in range(sequences.shape[1]):
            log_prob, context = model.ngram.follow(context, sequences[:, i])
            total += log_prob
        best = sequences[total > total.max() - 1e-9]
        possible = {tuple(p for t in tokens[:-1] for p in model.chunks[t - 2]) for tokens in best}
        assert model.pronounce([word], beam=10**6)[0] in possible


def test_a_word_is_pronounced_alike_alone_and_among_others(model):
    words = [word for word, _ in part(5, 400)]
    assert model.pronounce(words) == [model.pronounce([word])[0] for word in words]
    assert model.pronounce([]) == []


def test_learning_is_deterministic(model):
    again = LetterToSound.fit(part(1, 12))
    assert (again.ngram.keys == model.ngram.keys).all()
    assert (again.ngram.log_prob == model.ngram.log_prob).all()


def baseline(train, words):
    """Each letter by its most frequent chunk."""
    pairs, base = _encode(train), len(PHONEMES) + 1
    sizes, starts = align(Pairs(letters=pairs.letters, phonemes=pairs.phonemes))
    chunks = chunk_codes(pairs.phonemes, sizes, starts, base)
    best = {}
    for i, letter in enumerate(LETTERS, 1):
        code = Counter(chunks[pairs.letters == i].tolist()).most_common(1)
        best[letter] = [p for p in (code[0][0] % base, code[0][0] // base) if p] if code else []
    return [tuple(PHONEMES[p - 1] for letter in word for p in best[letter]) for word in words]


def test_it_is_far_better_than_the_most_frequent_chunk_of_each_letter(model):
    test = part(7, 160)
    words, truth = [word for word, _ in test], [(phonemes,) for _, phonemes in test]
    learned, frequent = accuracy(model.pronounce(words), truth), accuracy(baseline(part(1, 12), words), truth)
    assert learned.words == len(words) > 600
    assert learned.word_accuracy > frequent.word_accuracy + 0.35
    assert learned.error_rate < frequent.error_rate / 2
    assert learned.word_accuracy_stress > frequent.word_accuracy_stress + 0.3


def test_accuracy_counts_the_nearest_variant_and_stress_apart():
    truth = [(("AA1", "B"),), (("K", "AE1", "T"), ("K", "AA1", "T", "S"))]
    found = accuracy([("AA0", "B"), ("K", "AA1", "S")], truth)
    assert (found.words, found.word_accuracy, found.word_accuracy_stress) == (2, 0.5, 0)
    assert found.error_rate == 1 / (2 + 4)  # a T is missing of the second variant
    assert found.error_rate_stress == 2 / (2 + 4)
    assert accuracy([variants[0] for variants in truth], truth).error_rate_stress == 0


@pytest.mark.parametrize("word", ["", "É", "a b", "a.", "x" * (LONGEST + 1)])
def test_what_is_no_word_is_refused(model, word):
    with pytest.raises(ValueError, match="no word of 1 to 64 letters"):
        model.pronounce(["fine", word])


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(ValueError, match="no word to learn"):
        LetterToSound.fit([("42", ("F",)), ("a", ("AA1", "B", "K"))])


def test_phonemes_are_those_of_the_dictionary():
    assert len({*without_stress(PHONEMES)}) == 39
    assert {p for _, phonemes in part(0, 3) for p in phonemes} <= _PHONEME.keys()


@pytest.mark.slow
def test_accuracy_on_a_tenth_of_the_dictionary():
    found = held_out_accuracy()
    assert found.words > 12_000
    assert found.word_accuracy > 0.65
    assert found.word_accuracy_stress > 0.55
    assert found.error_rate < found.error_rate_stress < 0.12
