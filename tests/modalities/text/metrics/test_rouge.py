"""ROUGE against values worked out by hand, and its longest common subsequence against enumeration."""

import random
from itertools import combinations

import pytest

from langevin.modalities.text.metrics.rouge import (
    common_subsequence,
    copy_rate,
    rouge,
    rouge_l,
    rouge_n,
    rouge_tokens,
)

split = str.split


def longest_by_enumeration(a, b):
    """The longest tuple that is a subsequence of both."""
    shared = [{tuple(x[i] for i in places) for places in places_of(x)} for x in (a, b)]
    return max(map(len, shared[0] & shared[1]))


def places_of(x):
    return [places for n in range(len(x) + 1) for places in combinations(range(len(x)), n)]


def test_tokens_are_runs_of_letters_and_digits():
    assert rouge_tokens("The GPT-2's cost: 3.5%, naïve_x") == [
        "the",
        "gpt",
        "2",
        "s",
        "cost",
        "3",
        "5",
        "na",
        "ve",
        "x",
    ]


def test_overlap_counts_are_clipped():
    h, r = split("the the the cat"), split("the cat sat on the mat")
    assert rouge_n(h, r, 1) == pytest.approx(2 * 3 / (4 + 6))  # the twice, cat once
    assert rouge_n(h, r, 2) == pytest.approx(2 * 1 / (3 + 5))  # "the cat"
    assert rouge_l(h, r) == pytest.approx(2 * 2 / (4 + 6))  # the ... cat
    assert rouge_n(["a"], ["a"], 2) == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_common_subsequence_is_the_longest(seed):
    draw = random.Random(seed)
    a, b = ("".join(draw.choices("abc", k=draw.randrange(8))) for _ in range(2))
    assert common_subsequence(a, b) == longest_by_enumeration(a, b)


def test_the_best_reference_or_the_first():
    references = [["a b c", "x y"], ["p q"]]
    best, first = rouge(["x y", "p"], references), rouge(["x y", "p"], references, among="first")
    assert best.rouge1 == pytest.approx((1 + 2 / 3) / 2)
    assert best.rouge2 == pytest.approx(1 / 2)
    assert first.rouge1 == pytest.approx((0 + 2 / 3) / 2)
    assert first.length_ratio == pytest.approx(3 / (3 + 2))
    assert best.length_ratio == pytest.approx(3 / (2.5 + 2))


def test_a_reference_scores_one_and_a_stranger_nothing():
    texts = ["We bend time.", "It works on 3 tasks!"]
    same, other = rouge(texts, [[t] for t in texts]), rouge(["zz"] * 2, [[t] for t in texts])
    assert (same.rouge1, same.rouge2, same.rougeL, same.length_ratio) == (1, 1, 1, 1)
    assert (other.rouge1, other.rougeL) == (0, 0)


def test_copy_rate_is_the_share_found_in_its_own_text():
    assert copy_rate(["a b z", "c"], ["b a", "d"]) == pytest.approx(2 / 4)
    assert copy_rate(["a b z"], ["x a b"], 2) == pytest.approx(1 / 2)


@pytest.mark.parametrize("call", [
    lambda: rouge([], []), lambda: rouge(["a"], []), lambda: rouge(["a"], [[]]), lambda: rouge_n("a", "b", 0),
    lambda: copy_rate(["a"], []), lambda: copy_rate(["a"], ["a"], 2),
])  # fmt: skip
def test_what_cannot_be_scored_is_refused(call):
    with pytest.raises(ValueError, match=r"needs|n-gram|tokens long"):
        call()
