"""The distance against its own recursion, and the alignment against the distance."""

import random
from functools import cache

import pytest

from langevin.modalities.text.metrics.alignment import align, distance


@cache
def by_recursion(a, b):
    """The definition, from the end of both."""
    if not a or not b:
        return len(a) + len(b)
    ways = [by_recursion(a[:-1], b) + 1, by_recursion(a, b[:-1]) + 1, by_recursion(a[:-1], b[:-1]) + (a[-1] != b[-1])]
    if len(a) > 1 and len(b) > 1 and a[-1] == b[-2] and a[-2] == b[-1]:
        ways.append(by_recursion(a[:-2], b[:-2]) + 1)
    return min(ways)


def strings(seed):
    draw = random.Random(seed)
    return ["".join(draw.choices("abc", k=draw.randrange(9))) for _ in range(2)]


@pytest.mark.parametrize(("a", "b", "d"), [
    ("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("teh", "the", 1), ("recieve", "receive", 1),
    ("ca", "abc", 3),  # 2 where a swapped pair may be edited again, which it may not here
])  # fmt: skip
def test_known_distances(a, b, d):
    assert distance(a, b) == distance(b, a) == d


@pytest.mark.parametrize("seed", range(60))
def test_distance_is_the_recursion(seed):
    a, b = strings(seed)
    exact = by_recursion(a, b)
    assert distance(a, b) == exact
    assert [distance(a, b, most=most) for most in range(4)] == [min(exact, most + 1) for most in range(4)]


@pytest.mark.parametrize("seed", range(60))
def test_an_alignment_covers_both_and_costs_the_distance(seed):
    a, b = strings(seed)
    steps = align(a, b)
    assert "".join(a[i:k] for i, k, _, _ in steps) == a
    assert "".join(b[j:m] for _, _, j, m in steps) == b
    assert all((k - i, m - j) in {(1, 1), (1, 0), (0, 1), (2, 2)} for i, k, j, m in steps)
    assert all(sorted(a[i:k]) == sorted(b[j:m]) for i, k, j, m in steps if k - i == 2)
    assert sum(a[i:k] != b[j:m] for i, k, j, m in steps) == by_recursion(a, b)
