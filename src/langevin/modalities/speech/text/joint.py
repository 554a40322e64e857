"""An interpolated Kneser-Ney n-gram over sequences of integer tokens, as a trie in numpy arrays.

    p(w | h) = (c(h w) - D(c(h w))) / c(h) + b(h) p(w | h'),   b(h) = sum_w D(c(h w)) / c(h),   h' is h without its first

c counts occurrences at the highest order and after a beginning of sequence, else the distinct tokens before. The
discounts of counts 1, 2 and more are D_k = k - (k + 1) Y n_{k+1} / n_k, Y = n_1 / (n_1 + 2 n_2), where n_k n-grams of the
order have the count k (modified Kneser-Ney).

Paper: "An empirical study of smoothing techniques for language modeling" (1999).
"""

from dataclasses import dataclass

import numpy as np

BEGIN, END = 0, 1  # tokens of every sequence; the others are 2..vocabulary-1


@dataclass(frozen=True, kw_only=True, eq=False)
class NGram:
    """A trie; node 0 is the empty context, and a node is an n-gram: a token after the context that its parent is.

    Attributes:
        vocabulary: number of tokens.
        keys: parent * vocabulary + token of nodes 1.., int64, rising.
        log_prob: of a node's token after its parent, (nodes,).
        log_back_off: weight of the shorter context where a node is the context, (nodes,).
        context: the context after a node: itself, at the highest order the shorter node, (nodes,).
        shorter: the node without its first token, (nodes,).
    """

    vocabulary: int
    keys: np.ndarray
    log_prob: np.ndarray
    log_back_off: np.ndarray
    context: np.ndarray
    shorter: np.ndarray

    @property
    def beginning(self) -> int:
        """The context at the beginning of a sequence."""
        return int(self.follow(np.array([0]), np.array([BEGIN]))[1][0])

    def follow(self, contexts: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ln p(token | context) and the next context, (n,) each, of contexts and tokens (n,)."""
        log_prob, found = np.zeros(len(contexts)), np.zeros(len(contexts), dtype=np.int64)
        left, nodes = np.arange(len(contexts)), contexts
        while len(left):
            key = nodes * self.vocabulary + tokens[left]
            at = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
            hit = self.keys[at] == key
            found[left[hit]] = at[hit] + 1
            left, nodes = left[~hit], nodes[~hit]
            log_prob[left] += self.log_back_off[nodes]
            nodes = self.shorter[nodes]
        return log_prob + self.log_prob[found], self.context[found]


def fit_ngram(tokens: np.ndarray, *, vocabulary: int, order: int) -> NGram:
    """The n-gram of sequences laid end to end, each BEGIN ... END, (n,)."""
    position = np.arange(len(tokens)) - np.maximum.accumulate(np.where(tokens == BEGIN, np.arange(len(tokens)), 0))
    here = np.zeros(len(tokens), dtype=np.int64)  # the node of the n-gram of each order that ends at a token
    levels = [_Level(first=0, keys=np.zeros(1, dtype=np.int64), count=np.zeros(1), shorter=np.zeros(1, dtype=np.int64))]
    for size in range(1, order + 1):
        valid = np.flatnonzero(position >= size - 1)
        before = here[valid - 1] if size > 1 else 0
        keys, where, inverse, count = np.unique(
            before * vocabulary + tokens[valid], return_index=True, return_inverse=True, return_counts=True
        )
        first = levels[-1].first + len(levels[-1].keys)
        levels.append(_Level(first=first, keys=keys, count=count, shorter=here[valid[where]]))
        here = np.zeros_like(here)
        here[valid] = first + inverse
    return _smoothed(levels, vocabulary)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Level:
    """The nodes of an order: the number of the first, and keys, counts and shorter nodes of all."""

    first: int
    keys: np.ndarray
    count: np.ndarray
    shorter: np.ndarray


def _discounts(count: np.ndarray) -> np.ndarray:
    """D(c) of each count."""
    n = [max(int((count == k).sum()), 1) for k in (1, 2, 3, 4)]
    y = n[0] / (n[0] + 2 * n[1])
    table = np.array([0, *(k - (k + 1) * y * n[k] / n[k - 1] for k in (1, 2, 3))])
    return table.clip(0, [0, 1, 2, 3])[np.minimum(count, 3).astype(int)]


def _smoothed(levels: list[_Level], vocabulary: int) -> NGram:
    """Probabilities and back-off weights of all nodes, order by order."""
    nodes = sum(len(level.keys) for level in levels)
    prob, weight = np.ones(nodes), np.ones(nodes)
    for size, level in enumerate(levels[1:], 1):
        count = level.count.astype(float)
        parents, own = level.keys // vocabulary, np.arange(len(level.keys)) + level.first
        if size < len(levels) - 1:
            longer = levels[size + 1]
            kinds = np.bincount(longer.shorter - level.first, minlength=len(count))
            count = np.where(kinds > 0, kinds, count)
        if size == 1:
            count[level.keys % vocabulary == BEGIN] = 0
        discount = _discounts(count)
        total = np.bincount(parents, count, minlength=nodes)
        freed = np.bincount(parents, discount, minlength=nodes)
        lower = prob[level.shorter] if size > 1 else np.full(len(count), 1 / vocabulary)
        weight[total > 0] = (freed / np.maximum(total, 1))[total > 0]
        prob[own] = (count - discount) / total[parents] + weight[parents] * lower
    keys = np.concatenate([level.keys for level in levels[1:]])
    shorter = np.concatenate([level.shorter for level in levels])
    context = np.arange(nodes)
    last = levels[-1]
    context[last.first :] = last.shorter
    log_prob, log_back_off = (np.log(np.maximum(values, 1e-30)) for values in (prob, weight))
    return NGram(
        vocabulary=vocabulary, keys=keys, log_prob=log_prob, log_back_off=log_back_off, context=context, shorter=shorter
    )
