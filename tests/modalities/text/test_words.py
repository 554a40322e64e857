"""Pieces of a text, which joined are the text."""

import pytest

from langevin.modalities.text.words import is_word, like_case, pieces, plain_words

TEXTS = ["", "  It's 3 o’clock,\n\nnot_4!  ", "naïve 'quoted' x²", "a--b 猫 🙂", "\t'", "İz ß"]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_the_text(text):
    parts = pieces(text)
    assert "".join(parts) == text
    assert all(parts)


def test_words_are_letters_with_apostrophes_inside():
    assert [p for p in pieces(TEXTS[1]) if is_word(p)] == ["It's", "o’clock", "not"]
    assert list(plain_words("The 'End'")) == ["the", "end"]
    assert pieces("a,  b") == ["a", ",", "  ", "b"]


@pytest.mark.parametrize(("word", "model", "fitted"), [
    ("have", "HAS", "HAVE"), ("the", "A", "The"), ("their", "There", "Their"), ("x", "y", "x"),
    ("McX", "y", "McX"), ("", "A", ""),
])  # fmt: skip
def test_case_follows_the_model(word, model, fitted):
    assert like_case(word, model) == fitted
