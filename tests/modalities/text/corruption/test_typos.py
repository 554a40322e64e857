"""Slips of one word, and the channel of characters that pairs teach."""

import random

import numpy as np
import pytest

from langevin.modalities.text.corruption.confusions import Confusions
from langevin.modalities.text.corruption.typos import (
    ALPHABET,
    NEIGHBOURS,
    Characters,
    confusion_matrix,
    edit_distances,
    random_edit,
    typo,
)
from langevin.modalities.text.metrics.alignment import align, distance


def drawn(slip, word, n=300):
    generator = np.random.default_rng(0)
    return [slip(word, generator) for _ in range(n)]


def test_neighbours_touch_on_the_keyboard():
    assert set(NEIGHBOURS["s"]) == set("adwezx")
    assert set(NEIGHBOURS["p"]) == set("ol")
    assert all(a in NEIGHBOURS[b] for a in NEIGHBOURS for b in NEIGHBOURS[a])


@pytest.mark.parametrize("word", ["house", "Aa", "x", "don't"])
def test_fingers_slip_by_one_edit_of_near_keys(word):
    slips = drawn(typo, word, n=2000)
    assert {distance(word, slip) for slip in slips} == {1}
    new = {
        b
        for slip in slips
        for i, k, j, m in align(word, slip)
        if (k - i, m - j) == (1, 1)
        for b in [slip[j]]
        if b != word[i]
    }
    assert {letter.lower() for letter in new} == {key for letter in word.lower() for key in NEIGHBOURS.get(letter, "")}
    assert {len(slip) - len(word) for slip in slips} == ({0, 1} if len(word) == 1 else {-1, 0, 1})


def test_nothing_slips_where_there_is_no_key():
    assert set(drawn(typo, "猫")) == {"猫"}


@pytest.mark.parametrize("word", ["house", "x"])
def test_chance_slips_by_one_edit_and_never_to_nothing(word):
    slips = drawn(random_edit, word)
    assert {distance(word, slip) for slip in slips} == {1}
    assert all(slips)


def test_characters_repeat_what_they_saw():
    """Seq2Seq that only write e for a, drop an h, double a t at the end and swap ei teach nothing else."""
    pairs = {"cat": {"cet": 1}, "the": {"te": 1}, "at": {"att": 1}, "rein": {"rien": 1}, "abcdef": {"ghijkl": 1}}
    characters = Characters.fit(Confusions(counts=pairs))
    assert characters.edits == {("a", "e"): 1, ("h", ""): 1, ("t", "tt"): 1, ("ei", "ie"): 1}
    assert characters.chances["t"] == 3  # "abcdef" was too far off to learn from
    assert characters.lengths == (4, 0)
    assert set(drawn(characters.slip, "bag")) == {"beg"}
    assert set(drawn(characters.slip, "What")) == {"Wat", "Whet", "Whatt"}
    assert set(drawn(characters.slip, "Veil")) == {"Viel"}
    assert set(drawn(characters.slip, "zoo")) == {"zoo"}


def test_edits_are_as_frequent_as_they_were():
    """Of ten a, one became e and three became o: a word with one a gets o three times in four."""
    pairs = {f"{x}a": {f"{x}{z}": 1} for x, z in zip("bcdf", "eooo")} | {f"{x}aq": {f"{x}aqq": 1} for x in "ghjklm"}
    slips = drawn(Characters.fit(Confusions(counts=pairs)).slip, "na", n=2000)
    assert slips.count("no") / len(slips) == pytest.approx(0.75, abs=0.03)
    assert slips.count("ne") / len(slips) == pytest.approx(0.25, abs=0.03)


def test_an_insertion_at_the_beginning_is_seen_there():
    characters = Characters.fit(Confusions(counts={"our": {"hour": 1}}))
    assert set(drawn(characters.slip, "air")) == {"hair"}


def test_a_matrix_of_confusions_is_a_law_beside_the_diagonal():
    characters = Characters.fit(Confusions(counts={"cat": {"cet": 1}, "bat": {"bet": 1}, "pan": {"pon": 1}}))
    alphabet = " " + ALPHABET
    e = confusion_matrix(alphabet, characters, keyboard=0.2, floor=0.1)
    assert e.sum(1) == pytest.approx(1)
    assert (np.diag(e) == 0).all()
    a = e[alphabet.index("a")]
    # two of three substitutions of a, a tenth over 26 symbols, and no key beside it
    assert a[alphabet.index("e")] == pytest.approx(0.7 * 2 / 3 + 0.1 / 26)
    assert a[alphabet.index("s")] == pytest.approx(0.2 / len(NEIGHBOURS["a"]) + 0.1 / 26)
    assert e[0, 1:] == pytest.approx(1 / 26)  # a space has neither counts nor keys
    assert confusion_matrix(alphabet, floor=1.0, keyboard=0.0)[5, 7] == pytest.approx(1 / 26)


def test_distances_of_pairs_are_counted():
    assert edit_distances(Confusions(counts={"the": {"teh": 9, "tteh": 1}, "a": {"b": 1}})) == {1: 2, 2: 1}


@pytest.mark.parametrize("call", [
    lambda: confusion_matrix("a"), lambda: confusion_matrix("aa"), lambda: confusion_matrix("ab", keyboard=0.7, floor=0.7),
    lambda: Characters.fit(Confusions(counts={"abc": {"xyz": 1}})),
])  # fmt: skip
def test_what_teaches_nothing_is_refused(call):
    with pytest.raises(ValueError, match=r"confusion_matrix needs|found no pair"):
        call()


def test_slips_are_the_generators():
    words = random.Random(0).choices(["house", "tree"], k=5)
    for slip in (typo, random_edit):
        assert [slip(w, np.random.default_rng(3)) for w in words] == [slip(w, np.random.default_rng(3)) for w in words]
