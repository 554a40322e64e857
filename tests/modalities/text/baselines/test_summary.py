"""Sentences of a text as its summary."""

import pytest

from langevin.modalities.text.baselines.summary import best_sentence, last, lead, sentences

TEXT = " We train nets. Do they learn? They do!  It costs 3.5 hours."


def test_sentences_end_where_white_space_follows():
    assert sentences(TEXT) == ["We train nets.", "Do they learn?", "They do!", "It costs 3.5 hours."]
    assert (lead(TEXT), lead(TEXT, 2), last(TEXT)) == (
        "We train nets.",
        "We train nets. Do they learn?",
        "It costs 3.5 hours.",
    )
    assert (lead(""), last(""), best_sentence("", ["a"])) == ("", "", "")
    with pytest.raises(ValueError, match="count"):
        lead(TEXT, 0)


def test_the_best_sentence_is_nearest_to_any_reference():
    assert best_sentence(TEXT, ["unrelated words", "hours it costs"]) == "It costs 3.5 hours."
    assert best_sentence(TEXT, ["nets learn if we train nets"]) == "We train nets."
