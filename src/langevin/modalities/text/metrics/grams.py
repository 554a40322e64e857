"""Counts of n-grams of token lists, for ROUGE, GLEU and variety."""

from collections import Counter
from collections.abc import Hashable, Sequence


def gram_counts(tokens: Sequence[Hashable], n: int) -> Counter[tuple]:
    """Count of each n-gram; empty for fewer than n tokens. ValueError for n < 1."""
    if n < 1:
        raise ValueError(f"an n-gram has n >= 1 tokens, got n = {n}")
    return Counter(zip(*(tokens[i:] for i in range(n))))


def clipped(a: Counter[tuple], b: Counter[tuple]) -> int:
    """sum_g min(a_g, b_g)."""
    if len(b) < len(a):
        a, b = b, a
    return sum(min(count, b[gram]) for gram, count in a.items())
