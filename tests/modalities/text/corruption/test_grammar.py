"""Faults of grammar: where they are made, and that nothing else is touched."""

import numpy as np
import pytest

from langevin.modalities.text.corruption.grammar import TABLE, endings, grammar_noise

split = str.split

TEXT = "The dog, which has seen its bone, went to a house. It's  late,\nand we WALKED in 1885 …"


def noisy(text, rate, n=200):
    return [grammar_noise(text, rate, np.random.default_rng(i)) for i in range(n)]


def test_no_rate_is_no_change():
    assert set(noisy(TEXT, 0.0)) == {TEXT}


def test_full_rate_loses_every_comma_and_every_article():
    for text in noisy("a cat, the dog, an owl", 1.0):
        assert "," not in text
    assert all(not text.startswith("a cat") for text in noisy("a cat", 1.0))


def test_every_kind_of_fault_is_made():
    made = set(noisy("It's on the table, and she walked", 0.5, n=2000))
    for fault in ("Its on", "It's at", "on table", "table and", "she walks", "she walking", "her walked"):
        assert any(fault in text for text in made), fault


def test_a_dropped_first_word_hands_on_its_capital():
    starts = {text.split()[0] for text in noisy("The owl sleeps", 1.0)}
    assert "Owl" in starts
    assert "owl" not in starts


def test_a_dropped_word_takes_its_space_along():
    assert {"we sat a bench", "we sat on bench"} <= set(noisy("we sat on a bench", 0.3, n=500))
    assert "we sat" in set(noisy("we sat on", 0.5, n=300))


def test_words_outside_the_tables_and_other_characters_stay():
    for text in noisy("Zyx 1885 … (qi) #", 1.0):
        assert [part for part in text.split() if part not in {"a", "the", "of", "to", "in"}] == split(
            "Zyx 1885 … (qi) #"
        )


@pytest.mark.parametrize(("word", "others"), [
    ("walked", {"walk", "walks", "walking"}), ("pushing", {"push", "pushed"}), ("starts", {"start", "started", "starting"}),
    ("houses", {"house"}), ("house", {"houses"}), ("glasses", set()), ("boxes", set()),
    ("making", set()), ("wasted", set()),
    ("glass", set()), ("always", set()), ("this", set()), ("us", set()),
])  # fmt: skip
def test_endings_make_words_only(word, others):
    assert set(endings(word)) == others


def test_the_table_never_writes_a_word_for_itself():
    assert not [word for word, others in TABLE.items() if word in others or not others]


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_other_rates_are_refused(rate):
    with pytest.raises(ValueError, match="rate"):
        grammar_noise(TEXT, rate, np.random.default_rng(0))
