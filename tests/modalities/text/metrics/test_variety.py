"""Variety against laws whose entropy and divergence are known."""

import math
import random
from collections import Counter

import pytest

from langevin.modalities.text.metrics.variety import distinct, gram_divergence, jensen_shannon, unigram_entropy


def test_entropy_of_known_samples():
    assert unigram_entropy(["abcd"]) == pytest.approx(math.log(4))
    assert unigram_entropy([["x"] * 9]) == 0
    assert unigram_entropy(["aabb", "aaaa"]) == pytest.approx(math.log(2) / 2)  # a mean over samples, not of the pool


def test_distinct_counts_within_samples_only():
    assert distinct(["abab"], 1) == pytest.approx(2 / 4)
    assert distinct(["abab"], 2) == pytest.approx(2 / 3)
    assert distinct(["ab", "ba"], 2) == 1.0
    assert distinct([["a", "b"], ["c", "a"], ["z"]], 1, tokens=4) == pytest.approx(3 / 4)


def test_repetition_lowers_both():
    draw = random.Random(0)
    rich, poor = draw.choices(range(100), k=200), draw.choices(range(3), k=200)
    assert unigram_entropy([poor]) < unigram_entropy([rich])
    assert distinct([poor], 2) < distinct([rich], 2)


def test_divergence_of_known_laws():
    p, q = Counter(a=4), Counter(a=1, b=1)
    by_hand = (math.log(1 / 0.75) + 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)) / 2
    assert jensen_shannon(p, q) == jensen_shannon(q, p) == pytest.approx(by_hand)
    assert jensen_shannon(p, Counter(b=3)) == pytest.approx(math.log(2))
    assert jensen_shannon(q, Counter(a=5, b=5)) == 0


def test_equal_laws_measure_the_floor_and_others_more():
    draw = random.Random(1)
    law = [draw.choices("abcde", weights=(5, 4, 3, 2, 1), k=60) for _ in range(300)]
    other = [draw.choices("abcde", k=60) for _ in range(100)]
    same, different = gram_divergence(law[:100], law[100:]), gram_divergence(other, law[100:])
    assert same.counts == (6000, 5900, 5800, 5700)
    for value, floor, more in zip(same.values, same.floor, different.values):
        assert value == pytest.approx(floor, rel=1.0, abs=1e-4)
        assert more > 2 * floor


@pytest.mark.parametrize("call", [
    lambda: unigram_entropy([]), lambda: unigram_entropy([""]), lambda: distinct(["a"], 2), lambda: distinct(["ab"], 0),
    lambda: distinct(["ab"], 1, tokens=3), lambda: jensen_shannon(Counter(), Counter("a")),
    lambda: gram_divergence(["ab"], ["ab"]),
])  # fmt: skip
def test_what_cannot_be_measured_is_refused(call):
    with pytest.raises(ValueError, match=r"needs|tokens|n-gram|-grams"):
        call()
