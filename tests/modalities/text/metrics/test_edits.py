"""Edits: that they make the target, and counts worked out by hand."""

import random
from itertools import pairwise

import pytest

from langevin.modalities.text.metrics.edits import apply_edits, changed_share, edit_score, edits

split = str.split

SOURCE = split("i has a apples in the the bag")
TARGET = split("i have apples in the bag .")


def test_neighbouring_changes_are_one_edit():
    assert edits(SOURCE, TARGET) == [(1, 3, ("have",)), (5, 6, ()), (8, 8, (".",))]
    assert edits(split("a b"), split("b a")) == [(0, 2, ("b", "a"))]
    assert edits([], ["x"]) == [(0, 0, ("x",))]


@pytest.mark.parametrize("seed", range(40))
def test_edits_make_the_target(seed):
    draw = random.Random(seed)
    a, b = (draw.choices("abcd", k=draw.randrange(10)) for _ in range(2))
    made = edits(a, b)
    assert apply_edits(a, made) == b
    assert all(end < start for (_, end, _), (start, _, _) in pairwise(made))  # never touching: they were merged


def test_counts_by_hand():
    """One right edit, one wrong, two missed: P = 1/2, R = 1/3, F0.5 = 1.25/6 / (1/8 + 1/3) = 5/11."""
    score = edit_score([SOURCE], [split("i have apples in the the sack")], [[TARGET]])
    assert (score.right, score.wrong, score.missed) == (1, 1, 2)
    assert score.f05 == pytest.approx(5 / 11)


def test_a_copy_has_precision_one_and_f_zero_and_a_reference_f_one():
    copy, perfect = edit_score([SOURCE], [SOURCE], [[TARGET]]), edit_score([SOURCE], [TARGET], [[TARGET]])
    assert (copy.precision, copy.recall, copy.f05) == (1, 0, 0)
    assert (perfect.precision, perfect.recall, perfect.f05) == (1, 1, 1)


def test_the_best_reference_counts_whatever_its_place():
    one, other = split("i have apples in the bag ."), split("i has an apple in the bag")
    scores = [edit_score([SOURCE], [other], [choices]) for choices in ([one, other], [other, one])]
    assert scores[0] == scores[1]
    assert (scores[0].wrong, scores[0].missed) == (0, 0)


def test_harm_to_clean_sentences():
    clean, faulty = split("all is well"), split("all are well")
    score = edit_score([clean, clean, faulty], [clean, faulty, clean], [[clean], [clean, clean], [clean]])
    assert (score.clean, score.alarms, score.clean_changed) == (2, 1, 0.5)
    assert (score.right, score.wrong, score.missed) == (1, 1, 0)
    assert edit_score([faulty], [faulty], [[clean]]).clean_changed is None
    assert changed_share([clean, clean, faulty], [clean, faulty, clean]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("call", [
    lambda: edit_score([["a"]], [["a"]], [[]]), lambda: edit_score([["a"]], [], []), lambda: changed_share([], []),
    lambda: apply_edits(["a"], [(1, 1, ("x",)), (0, 1, ())]), lambda: apply_edits(["a"], [(0, 2, ())]),
])  # fmt: skip
def test_what_cannot_be_scored_is_refused(call):
    with pytest.raises(ValueError, match=r"needs|does not follow"):
        call()
