"""An interpolated n-gram model of tokens: a baseline for likelihoods.

Witten-Bell interpolation: with c(h, w) the count of token w after the context h, c(h) its sum over w and T(h) the number
of distinct tokens after h,

    P(w | h) = (c(h, w) + T(h) P(w | h')) / (c(h) + T(h)),      h' = h without its oldest token, P(w) at the end 1/V

so an unseen context falls back to the shorter one, and every distribution sums to 1. Counting sorts one integer per
position. Paper: "The zero-frequency problem: estimating the probabilities of novel events in adaptive text
compression" (1991).
"""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class Grams:
    """Counts of one order: sorted keys (m,) and their counts; sorted contexts (k,), their c(h) `sums` and T(h) `kinds`."""

    keys: np.ndarray
    counts: np.ndarray
    contexts: np.ndarray
    sums: np.ndarray
    kinds: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray, counts: np.ndarray, size: int) -> "Grams":
        """Sorted keys (m,), m >= 1, and their counts (m,), over `size` tokens."""
        contexts = keys // size
        starts = np.flatnonzero(np.concatenate([[True], contexts[1:] != contexts[:-1]]))
        sums, kinds = np.add.reduceat(counts, starts), np.diff(starts, append=len(keys))
        return cls(keys=keys, counts=counts, contexts=contexts[starts], sums=sums, kinds=kinds)


@dataclass(frozen=True, kw_only=True, eq=False)
class NgramModel:
    """A Witten-Bell model over `size` tokens whose longest n-gram has `len(orders)` tokens.

    Make it by `fit`. Bits are -log2 P; their mean is bits per character if tokens are characters.
    """

    size: int
    orders: tuple[Grams, ...]

    @classmethod
    def fit(cls, tokens: np.ndarray, *, order: int = 6, size: int = 27) -> "NgramModel":
        """Count the n-grams, n = 1..order, of tokens `(n,)` in [0, size).

        34.5M characters at order 6 take some twenty seconds and 1 GB. ValueError for tokens out of range, fewer than
        `order` of them, order < 1, or size^order beyond 63 bits.
        """
        if order < 1 or size < 1 or order * math.log2(size) >= 63:
            raise ValueError(f"NgramModel.fit needs order >= 1 and size^order < 2^63, got order {order}, size {size}")
        _check(tokens, size, "NgramModel.fit")
        if len(tokens) < order:
            raise ValueError(f"NgramModel.fit needs at least {order} tokens for order {order}, got {len(tokens)}")
        return cls(size=size, orders=tuple(_grams(tokens, n, size) for n in range(1, order + 1)))

    @property
    def order(self) -> int:
        """Tokens of the longest n-gram."""
        return len(self.orders)

    def shortened(self, order: int) -> "NgramModel":
        """The model of a lower order, without counting again. ValueError outside 1..order."""
        if not 1 <= order <= self.order:
            raise ValueError(f"NgramModel.shortened needs an order in 1..{self.order}, got {order}")
        return NgramModel(size=self.size, orders=self.orders[:order])

    def bits(self, tokens: np.ndarray) -> np.ndarray:
        """(n,) float64: -log2 P of each token of `(n,)` given those before it, the first ones by shorter contexts."""
        _check(tokens, self.size, "NgramModel.bits")
        p = np.full(len(tokens), 1 / self.size)
        for n in range(1, min(self.order, len(tokens)) + 1):
            keys = _keys(tokens, n, self.size)
            p[n - 1 :] = self._interpolated(n, keys, p[n - 1 :])
        return -np.log2(p)

    def bits_per_token(self, tokens: np.ndarray) -> float:
        """Mean of `bits`. ValueError for no tokens."""
        return float(self.bits(tokens).mean())

    def log_probabilities(self, grams: np.ndarray) -> np.ndarray:
        """(m,) float64: ln P of the last token of each n-gram of `(m, n)`, n in 1..order, given those before it."""
        m, n = grams.shape
        p = np.full(m, 1 / self.size)
        for k in range(1, n + 1):
            keys = grams[:, n - k : n] @ self.size ** np.arange(k - 1, -1, -1, dtype=np.int64)
            p = self._interpolated(k, keys, p)
        return np.log(p)

    def following(self, contexts: np.ndarray) -> np.ndarray:
        """(b, size) float64: the distribution of the next token after each of contexts `(b, any)`."""
        if contexts.ndim != 2:
            raise ValueError(f"NgramModel.following needs contexts (b, any), got {contexts.shape}")
        b, width = contexts.shape
        p = np.full((b, self.size), 1 / self.size)
        context = np.zeros(b, np.int64)
        for n in range(1, min(self.order, width + 1) + 1):
            if n > 1:
                context += contexts[:, width - n + 1].astype(np.int64) * self.size ** (n - 2)
            keys = context[:, None] * self.size + np.arange(self.size)
            p = self._interpolated(n, keys.ravel(), p.ravel()).reshape(b, self.size)
        return p

    def sample(self, count: int, length: int, *, seed: int = 0) -> np.ndarray:
        """(count, length) int64 tokens sampled from left to right."""
        generator = np.random.default_rng(seed)
        samples = np.zeros((count, length), np.int64)
        for i in range(length):
            cumulative = self.following(samples[:, max(0, i - self.order + 1) : i]).cumsum(1)
            u = generator.random((count, 1)) * cumulative[:, -1:]
            # the first token whose cumulative probability exceeds u
            samples[:, i] = np.minimum((cumulative <= u).sum(1), self.size - 1)
        return samples

    def _interpolated(self, n: int, keys: np.ndarray, shorter: np.ndarray) -> np.ndarray:
        grams = self.orders[n - 1]
        counts = _lookup(grams.keys, grams.counts, keys)
        contexts = keys // self.size
        total, kinds = _lookup(grams.contexts, grams.sums, contexts), _lookup(grams.contexts, grams.kinds, contexts)
        # P(w | h) = (c(h, w) + T(h) P(w | h')) / (c(h) + T(h))
        return np.where(total > 0, (counts + kinds * shorter) / np.maximum(total + kinds, 1), shorter)


def _keys(tokens: np.ndarray, n: int, size: int) -> np.ndarray:
    """(len - n + 1,) int64: each n-gram as a number in base `size`, oldest token first."""
    count = len(tokens) - n + 1
    keys = tokens[:count].astype(np.int64)
    for i in range(1, n):
        keys *= size
        keys += tokens[i : i + count]
    return keys


def _grams(tokens: np.ndarray, n: int, size: int) -> Grams:
    keys = _keys(tokens, n, size)
    if size**n <= 1 << 24:  # few enough to count in place
        table = np.bincount(keys, minlength=size**n)
        keys = np.flatnonzero(table)
        counts = table[keys]
    else:
        keys.sort()
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        counts = np.diff(starts, append=len(keys))
        keys = keys[starts]
    return Grams.of(keys, counts, size)


def _lookup(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each of the `wanted` keys, 0 if it is not there."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)


def _check(tokens: np.ndarray, size: int, where: str) -> None:
    if tokens.ndim != 1 or not len(tokens) or not np.issubdtype(tokens.dtype, np.integer):
        raise ValueError(f"{where} needs integer tokens (n,), n >= 1, got {tokens.dtype} {tokens.shape}")
    if int(tokens.min()) < 0 or int(tokens.max()) >= size:
        raise ValueError(f"{where} needs tokens in [0, {size}), got {int(tokens.min())} to {int(tokens.max())}")
