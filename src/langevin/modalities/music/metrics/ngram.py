"""An interpolated n-gram model of tokens (steps, streams): a baseline for likelihoods, and a control.

A token's context has, in this order, the token of its stream one step before, that of the stream above in the same step, of
its own stream two steps before, of the second stream above, and of its own three steps before; and it knows its stream. An
n-gram has the first n - 1 of them. With c(h, w) the count of token w after context h, c(h) its sum over w and T(h) the
number of distinct tokens after h, Witten-Bell interpolation is

    P(w | h) = (c(h, w) + T(h) P(w | h')) / (c(h) + T(h)),      h' = h without its last part, at the end 1 / V.

What lies before the piece or above the highest stream is a token of its own. "The zero-frequency problem: estimating the
probabilities of novel events in adaptive text compression" (1991).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONTEXT = ((1, 0), (0, 1), (2, 0), (0, 2), (3, 0))  # (steps before, streams above)
ORDERS = tuple(range(1, len(CONTEXT) + 2))


@dataclass(frozen=True, kw_only=True, eq=False)
class Grams:
    """Counts of one order: sorted keys (m,) and their counts; sorted contexts (k,), their c(h) `sums` and T(h) `kinds`."""

    keys: np.ndarray
    counts: np.ndarray
    contexts: np.ndarray
    sums: np.ndarray
    kinds: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class NgramModel:
    """A Witten-Bell model of `streams` streams of `size` tokens. Make it by `fit`."""

    size: int
    streams: int
    orders: tuple[Grams, ...]

    @classmethod
    def fit(cls, pieces: Sequence[np.ndarray], *, size: int, order: int = len(ORDERS)) -> "NgramModel":
        """Count the n-grams, n = 1 .. order, of pieces (steps, streams) of tokens in [0, size).

        Raises:
            ValueError: no pieces, or so many n-grams are possible that they do not fit into 63 bits."""
        if not pieces or not 1 <= order <= len(ORDERS):
            raise ValueError(
                f"an n-gram model needs pieces and an order of 1 to {len(ORDERS)}, got {len(pieces)}, {order}"
            )
        streams = pieces[0].shape[1]
        if streams * (size + 1) ** (order + 1) >= 2**63:
            raise ValueError(f"{size} tokens in {streams} streams are too many for n-grams of order {order}")
        made = cls(size=size, streams=streams, orders=())
        parts = [made._contexts(tokens, order) for tokens in pieces]
        flat = np.concatenate([tokens.reshape(-1) for tokens in pieces]).astype(np.int64)
        orders = [
            _grams(np.concatenate([contexts[n] for contexts in parts]), flat, size) for n in range(order)
        ]  # fmt: skip
        return cls(size=size, streams=streams, orders=tuple(orders))

    def nats(self, tokens: np.ndarray) -> np.ndarray:
        """-ln P of every token of a piece for the orders 1, 2, ..., (orders, steps, streams)."""
        flat = tokens.reshape(-1).astype(np.int64)
        p, found = np.full(flat.shape, 1 / self.size), list[np.ndarray]()
        for grams, context in zip(self.orders, self._contexts(tokens, len(self.orders)), strict=True):
            p = _interpolated(grams, context, flat, p, self.size)
            found.append(-np.log(p).reshape(tokens.shape))
        return np.stack(found)

    def sample(self, count: int, steps: int, *, seed: int = 0) -> np.ndarray:
        """(count, steps, streams) int64 tokens, drawn step by step and from the highest stream down."""
        generator, base = np.random.default_rng(seed), self.size + 1
        x, every = np.zeros((count, steps, self.streams), np.int64), np.arange(self.size)
        for i in range(steps):
            for stream in range(self.streams):
                p, context = np.full((count, self.size), 1 / self.size), np.full((count, 1), stream)
                for grams, (back, above) in zip(self.orders, (*CONTEXT, (0, 0)), strict=False):
                    p = _interpolated(grams, context, every[None], p, self.size)
                    inside = back <= i and above <= stream
                    context = context * base + (x[:, i - back, stream - above, None] if inside else self.size)
                cumulative = p.cumsum(1)
                u = generator.random((count, 1)) * cumulative[:, -1:]
                x[:, i, stream] = np.minimum((cumulative <= u).sum(1), self.size - 1)
        return x

    def _contexts(self, tokens: np.ndarray, order: int) -> list[np.ndarray]:
        """The context of every token as a number, (steps * streams,) for each order from 1 on."""
        base, (steps, streams) = self.size + 1, tokens.shape
        context = np.broadcast_to(np.arange(streams, dtype=np.int64), (steps, streams))
        found = [context.reshape(-1)]
        for back, above in CONTEXT[: order - 1]:
            shifted = np.full((steps, streams), self.size, np.int64)
            if back < steps and above < streams:
                shifted[back:, above:] = tokens[: steps - back, : streams - above]
            context = context * base + shifted
            found.append(context.reshape(-1))
        return found


def _grams(contexts: np.ndarray, tokens: np.ndarray, size: int) -> Grams:
    keys, counts = np.unique(contexts * (size + 1) + tokens, return_counts=True)
    seen = keys // (size + 1)
    starts = np.flatnonzero(np.concatenate([[True], seen[1:] != seen[:-1]]))
    sums, kinds = np.add.reduceat(counts, starts), np.diff(starts, append=len(keys))
    return Grams(keys=keys, counts=counts, contexts=seen[starts], sums=sums, kinds=kinds)


def _interpolated(grams: Grams, contexts: np.ndarray, tokens: np.ndarray, shorter: np.ndarray, size: int) -> np.ndarray:
    """P(w | h) = (c(h, w) + T(h) P(w | h')) / (c(h) + T(h)), where `shorter` is P(w | h')."""
    counts = _lookup(grams.keys, grams.counts, contexts * (size + 1) + tokens)
    total, kinds = (_lookup(grams.contexts, values, contexts) for values in (grams.sums, grams.kinds))
    return np.where(total > 0, (counts + kinds * shorter) / np.maximum(total + kinds, 1), shorter)


def _lookup(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each of the `wanted` keys, 0 if it is not there."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)
