"""Spelling in sentences: units by hand, where words were split, joined, added and dropped."""

import random

import pytest

from langevin.modalities.text.metrics.spelling import spelling_score, units

split = str.split


def score(source, hypothesis, reference):
    return spelling_score([source.split()], [hypothesis.split()], [reference.split()])


def test_rates_by_hand():
    """Of three corrupted words two are changed and one restored; of three clean ones one is changed."""
    s = score("teh catt sat onn the mat", "the cart sat onn the hat", "the cat sat on the mat")
    assert (s.corrupted, s.clean, s.found, s.restored, s.alarms) == (3, 3, 2, 1, 1)
    assert (s.precision, s.recall, s.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert (s.accuracy, s.alarm_rate) == pytest.approx((1 / 3, 1 / 3))


@pytest.mark.parametrize(("source", "hypothesis", "reference", "counts"), [
    # corrupted, clean, found, restored, alarms
    ("we went in side again", "we went inside again", "we went inside again", (1, 3, 1, 1, 0)),
    ("we went in side again", "we went in side again", "we went inside again", (1, 3, 0, 0, 0)),
    ("i have alot of tiem", "i have a lot of time", "i have a lot of time", (2, 3, 2, 2, 0)),
    ("i have alot of tiem", "i have allot of tiem", "i have a lot of time", (2, 3, 1, 0, 0)),
    ("we went home", "we went went home", "we went home", (0, 3, 0, 0, 1)),
    ("we went home", "home", "we went home", (0, 3, 0, 0, 2)),
    ("we wnt home", "so we went home", "we went home", (1, 2, 1, 1, 1)),
    ("we went home", "", "we went home", (0, 3, 0, 0, 3)),
    ("", "", "", (0, 0, 0, 0, 0)), ("", "a b", "", (0, 1, 0, 0, 1)),
])  # fmt: skip
def test_words_that_were_split_joined_added_or_dropped(source, hypothesis, reference, counts):
    s = score(source, hypothesis, reference)
    assert (s.corrupted, s.clean, s.found, s.restored, s.alarms) == counts


def test_copying_alarms_nobody_and_restoring_is_perfect():
    source, reference = split("teh qick brown fox jumpd"), split("the quick brown fox jumped")
    copy, perfect = (spelling_score([source], [h], [reference]) for h in (source, reference))
    assert (copy.precision, copy.recall, copy.f1, copy.accuracy, copy.alarm_rate) == (1, 0, 0, 0, 0)
    assert (perfect.precision, perfect.recall, perfect.f1, perfect.accuracy, perfect.alarm_rate) == (1, 1, 1, 1, 0)


def test_without_corrupted_words_there_is_no_accuracy():
    s = score("all is well", "all is well", "all is well")
    assert (s.accuracy, s.recall, s.alarm_rate) == (None, 1, 0)


@pytest.mark.parametrize("seed", range(30))
def test_units_hold_every_word_in_order(seed):
    draw = random.Random(seed)
    three = [["".join(draw.choices("ab", k=draw.randrange(1, 4))) for _ in range(draw.randrange(7))] for _ in range(3)]
    for k, words in enumerate(three):
        assert [word for unit in units(*three) for word in unit[k]] == words


def test_unequal_numbers_are_refused():
    with pytest.raises(ValueError, match="three word lists"):
        spelling_score([["a"]], [], [["a"]])
