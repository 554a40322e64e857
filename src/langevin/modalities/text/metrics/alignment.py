"""Alignment of two sequences by the fewest edits: insertion, deletion, replacement, and swap of two neighbours.

    d(i, j) = min( d(i-1, j) + 1, d(i, j-1) + 1, d(i-1, j-1) + [a_i != b_j],
                   d(i-2, j-2) + 1  if a_i = b_{j-1} and a_{i-1} = b_j )

the restricted Damerau-Levenshtein distance (a swapped pair is not edited again). The elements are characters of a
word, or words of a sentence. Paper: "A technique for computer detection and correction of spelling errors" (1964).
"""

from collections.abc import Hashable, Sequence
from functools import cache
from typing import Any

from langevin.extras import require

Step = tuple[int, int, int, int]


def distance(a: Sequence[Hashable], b: Sequence[Hashable], *, most: int | None = None) -> int:
    """Least number of edits between two sequences; `most + 1` if it exceeds `most`."""
    return _library().OSA.distance(a, b, score_cutoff=most)


@cache  # called for every pair of words
def _library() -> Any:
    return require("rapidfuzz.distance", "Correcting texts")


def align(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[Step]:
    """Steps (start, end, other start, other end) that cover both sequences in order, by the fewest edits.

    A kept or replaced element is a step of 1 to 1 elements, an insertion 0 to 1, a deletion 1 to 0, a swap 2 to 2. Among
    alignments of equal cost one that keeps the most elements is taken; then, from the end, keeping and replacing come
    before swapping, deleting and inserting.
    """
    table, edit = _table(a, b)
    steps: list[Step] = []
    i, j = len(a), len(b)
    while i or j:
        here = table[i][j]
        if i and j and here == table[i - 1][j - 1] + (edit if a[i - 1] != b[j - 1] else -1):
            di = dj = 1
        elif _swapped(a, b, i, j) and here == table[i - 2][j - 2] + edit:
            di = dj = 2
        elif i and here == table[i - 1][j] + edit:
            di, dj = 1, 0
        else:
            di, dj = 0, 1
        steps.append((i - di, i, j - dj, j))
        i, j = i - di, j - dj
    return steps[::-1]


def _table(a: Sequence[Hashable], b: Sequence[Hashable]) -> tuple[list[list[int]], int]:
    """(edit * number of edits - elements kept, for all prefixes; that `edit`, which outweighs all kept elements)."""
    edit = len(a) + len(b) + 1
    table = [[edit * j for j in range(len(b) + 1)]]
    for i, x in enumerate(a, 1):
        row, before = [edit * i], table[-1]
        for j, y in enumerate(b, 1):
            cost = min(before[j] + edit, row[j - 1] + edit, before[j - 1] + (edit if x != y else -1))
            row.append(min(cost, table[i - 2][j - 2] + edit) if _swapped(a, b, i, j) else cost)
        table.append(row)
    return table, edit


def _swapped(a: Sequence[Hashable], b: Sequence[Hashable], i: int, j: int) -> bool:
    """Whether the two elements before i and before j are each other's swap."""
    return i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1] and a[i - 1] != a[i - 2]
