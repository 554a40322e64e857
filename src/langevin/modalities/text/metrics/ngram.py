"""An interpolated n-gram model of symbols: a floor for likelihoods, and a judge that needs no training.

Witten and Bell's interpolation: with c(h, w) how often symbol w followed the context h, c(h) its sum and T(h) the
number of different symbols seen there,

    P(w | h) = (c(h, w) + T(h) P(w | h')) / (c(h) + T(h)),      h' = h without its oldest symbol, P(w) at the end 1/V

so a context that was never seen leaves its word to the shorter one, and every row sums to 1. Counting is a sort of
integers, one a place. Paper: "The zero-frequency problem: estimating the probabilities of novel events in adaptive text
compression" (1991).
"""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class Grams:
    """Counts of one order: sorted keys (m,), how often (m,), and for each context (k,) its sum and its variety."""

    keys: np.ndarray
    counts: np.ndarray
    contexts: np.ndarray
    sums: np.ndarray
    kinds: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class NgramModel:
    """A Witten-Bell model over `size` symbols whose longest n-gram has `len(orders)` symbols.

    Make it by `fit`. Bits are -log2 P; their mean is bits a character where symbols are characters.
    """

    size: int
    orders: tuple[Grams, ...]

    @classmethod
    def fit(cls, symbols: np.ndarray, *, order: int = 6, size: int = 27) -> "NgramModel":
        """Count the n-grams, n = 1..order, of symbols `(n,)` in [0, size).

        34.5M characters at order 6 take some twenty seconds and 1 GB. ValueError for symbols outside, fewer than
        `order` of them, order < 1, or size^order beyond 63 bits.
        """
        if order < 1 or size < 1 or order * math.log2(size) >= 63:
            raise ValueError(f"NgramModel.fit needs order >= 1 and size^order < 2^63, got order {order}, size {size}")
        _check(symbols, size, "NgramModel.fit")
        if len(symbols) < order:
            raise ValueError(f"NgramModel.fit needs at least {order} symbols for order {order}, got {len(symbols)}")
        return cls(size=size, orders=tuple(_grams(symbols, n, size) for n in range(1, order + 1)))

    @property
    def order(self) -> int:
        """Symbols of the longest n-gram."""
        return len(self.orders)

    def shortened(self, order: int) -> "NgramModel":
        """The model of the first `order` orders, without counting again. ValueError outside 1..order."""
        if not 1 <= order <= self.order:
            raise ValueError(f"NgramModel.shortened needs an order in 1..{self.order}, got {order}")
        return NgramModel(size=self.size, orders=self.orders[:order])

    def bits(self, symbols: np.ndarray) -> np.ndarray:
        """(n,) float64: -log2 P of each symbol of `(n,)` given those before it, the first ones by shorter contexts."""
        _check(symbols, self.size, "NgramModel.bits")
        p = np.full(len(symbols), 1 / self.size)
        for n in range(1, min(self.order, len(symbols)) + 1):
            keys = _keys(symbols, n, self.size)
            p[n - 1 :] = self._interpolated(n, keys, p[n - 1 :])
        return -np.log2(p)

    def bits_per_symbol(self, symbols: np.ndarray) -> float:
        """Mean of `bits`. ValueError for no symbols."""
        return float(self.bits(symbols).mean())

    def following(self, contexts: np.ndarray) -> np.ndarray:
        """(b, size) float64: the law of the next symbol after each row of contexts `(b, any)`."""
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
        """(count, length) int64 symbols drawn one after the other: what a text of this model looks like."""
        generator = np.random.default_rng(seed)
        rows = np.zeros((count, length), np.int64)
        for i in range(length):
            law = self.following(rows[:, max(0, i - self.order + 1) : i]).cumsum(1)
            u = generator.random((count, 1)) * law[:, -1:]
            rows[:, i] = np.minimum((law <= u).sum(1), self.size - 1)  # the first whose cumulative sum exceeds u
        return rows

    def _interpolated(self, n: int, keys: np.ndarray, shorter: np.ndarray) -> np.ndarray:
        grams = self.orders[n - 1]
        seen = _lookup(grams.keys, grams.counts, keys)
        contexts = keys // self.size
        total, kinds = _lookup(grams.contexts, grams.sums, contexts), _lookup(grams.contexts, grams.kinds, contexts)
        # P(w | h) = (c(h, w) + T(h) P(w | h')) / (c(h) + T(h))
        return np.where(total > 0, (seen + kinds * shorter) / np.maximum(total + kinds, 1), shorter)


def _keys(symbols: np.ndarray, n: int, size: int) -> np.ndarray:
    """(len - n + 1,) int64: each n-gram as a number in base `size`, oldest symbol first."""
    count = len(symbols) - n + 1
    keys = symbols[:count].astype(np.int64)
    for i in range(1, n):
        keys *= size
        keys += symbols[i : i + count]
    return keys


def _grams(symbols: np.ndarray, n: int, size: int) -> Grams:
    keys = _keys(symbols, n, size)
    if size**n <= 1 << 24:  # few enough to count in place
        table = np.bincount(keys, minlength=size**n)
        keys = np.flatnonzero(table)
        counts = table[keys]
    else:
        keys.sort()
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        counts = np.diff(starts, append=len(keys))
        keys = keys[starts]
    contexts = keys // size
    starts = np.flatnonzero(np.concatenate([[True], contexts[1:] != contexts[:-1]]))
    sums = np.add.reduceat(counts, starts)
    return Grams(
        keys=keys, counts=counts, contexts=contexts[starts], sums=sums, kinds=np.diff(starts, append=len(keys))
    )


def _lookup(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each wanted key, 0 where there is none."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)


def _check(symbols: np.ndarray, size: int, where: str) -> None:
    if symbols.ndim != 1 or not len(symbols) or not np.issubdtype(symbols.dtype, np.integer):
        raise ValueError(f"{where} needs whole symbols (n,), n >= 1, got {symbols.dtype} {symbols.shape}")
    if int(symbols.min()) < 0 or int(symbols.max()) >= size:
        raise ValueError(f"{where} needs symbols in [0, {size}), got {int(symbols.min())} to {int(symbols.max())}")
