"""A language model of counts under a network: what can be counted need not be learned.

    logits(x_i = v) = network(v) + w_b ln p(v | tokens before i) + w_a ln p(v | tokens after i) + w_0 ln p(v)

Both conditional distributions are n-gram models of the visible tokens next to position i, at most `order` - 1 on each side,
up to the first masked one. Were the two sides independent given x_i, w_b = w_a = 1 and w_0 = -1 would be exact. From there
the weights are learned, a set for each number of visible tokens before and after. The network learns the rest: "Residual
Learning of Neural Text Generation with n-gram Language Model" (2022, arXiv 2210.14431), here for masked positions.

With c(h, v) the count of token v in the context h, c(h) its sum over v and T(h) the number of distinct tokens in it,

    p(v | h) = (c(h, v) + T(h) p(v | h')) / (c(h) + T(h)),      h' = h without its farthest token

(Witten and Bell, "The zero-frequency problem", 1991, doi 10.1109/18.87000). A text that is trained on was counted itself,
and its own n-grams would tell the network what it has to predict. So in training mode c(h) and every c(h, v) are one
lower: for the token that is there this leaves itself out, and nothing tells which one that is.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

MOST = 4  # tokens of the longest n-gram
RARE = 2  # n-grams of three tokens and more that occur less often are left out
TOGETHER = 20_000_000  # n-grams that are counted at a time


class Successors(nn.Module):
    """Counts of the tokens in each context of a fixed number of tokens; none before `load`."""

    contexts: Tensor  # (c,) int64, sorted
    starts: Tensor  # (c + 1,) int64, of each context's tokens
    tokens: Tensor  # (k,) int64
    counts: Tensor  # (k,) float32

    def __init__(self) -> None:
        super().__init__()
        for name, dtype in (("contexts", torch.int64), ("starts", torch.int64), ("tokens", torch.int64)):
            self.register_buffer(name, torch.zeros(1 if name == "starts" else 0, dtype=dtype), persistent=False)
        self.register_buffer("counts", torch.zeros(0), persistent=False)

    def load(self, contexts: Tensor, tokens: Tensor, counts: Tensor) -> None:
        """Take the counts (k,) of tokens (k,) in contexts (k,), in any order."""
        order = contexts.argsort(stable=True)
        self.contexts, sizes = torch.unique_consecutive(contexts[order], return_counts=True)
        self.starts = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        self.tokens, self.counts = tokens[order], counts[order].float()

    def forward(self, keys: Tensor, shorter: Tensor) -> Tensor:
        """(m, V) probabilities in contexts (m,), from those in shorter contexts (m, V)."""
        if not len(self.contexts):
            return shorter
        index = torch.searchsorted(self.contexts, keys).clamp_max(len(self.contexts) - 1)
        rows = (self.contexts[index] == keys).nonzero()[:, 0]
        start, size = self.starts[index[rows]], (self.starts[1:] - self.starts[:-1])[index[rows]]
        row = torch.repeat_interleave(torch.arange(len(rows), device=keys.device), size)
        first = torch.repeat_interleave(start - size.cumsum(0) + size, size)
        entry = first + torch.arange(len(row), device=keys.device)
        counts = self.counts[entry] - float(self.training)
        total = torch.zeros(len(rows), device=keys.device).index_add_(0, row, self.counts[entry]) - float(self.training)
        kinds = size.float()
        p = shorter.clone()
        p[rows] *= (kinds / (total + kinds))[:, None]
        return p.index_put_((rows[row], self.tokens[entry]), counts / (total + kinds)[row], accumulate=True)


class NgramPrior(nn.Module):
    """(b, n) tokens -> logits of counts at each position, see the module; uniform before tokens are counted.

    Args:
        vocab_size: V; the indices V (mask) and above (padding) are no tokens.
        order: tokens of the longest n-gram, 2 to 4.
        causal: whether only tokens before a position are read.

    Raises:
        ValueError: so many n-grams that they cannot be numbered in 63 bits.
    """

    frequencies: Tensor  # (V,) float32, adds up to 1

    def __init__(self, *, vocab_size: int, order: int, causal: bool = False) -> None:
        super().__init__()
        if vocab_size**order >= 2**63:
            raise ValueError(
                f"{vocab_size:,} tokens have too many n-grams of {order} tokens to number them: set network.ngram_order="
                f"{max(n for n in (0, 2, 3) if vocab_size**n < 2**63)}"
            )
        self.vocab_size, self.order, self.sides = vocab_size, order, 1 if causal else 2
        self.register_buffer("frequencies", torch.full((vocab_size,), 1 / vocab_size), persistent=False)
        self.before = nn.ModuleList(Successors() for _ in range(order - 1))
        self.after = nn.ModuleList(Successors() for _ in range(0 if causal else order - 1))
        visible = (torch.cartesian_prod(*[torch.arange(order)] * self.sides).view(-1, self.sides) > 0).float()
        self.weights = nn.Parameter(torch.cat([visible, 1 - visible.sum(1, keepdim=True)], 1))

    def load(self, tables: Mapping[str, Tensor]) -> None:
        """Take the result of `counted`.

        Raises:
            ValueError: it is of another vocabulary or order."""
        v, names = self.vocab_size, [f"{n}.{part}" for n in range(2, self.order + 1) for part in ("keys", "counts")]
        single = tables.get("1.counts")
        if single is None or single.shape != (v,) or any(name not in tables for name in names):
            raise ValueError(f"these n-gram counts are not of {v} tokens and order {self.order}")
        device = self.frequencies.device
        self.frequencies = ((single.float() + 1) / (single.sum() + v)).to(device)
        for k in range(1, self.order):
            keys, counts = tables[f"{k + 1}.keys"].to(device), tables[f"{k + 1}.counts"].to(device)
            tokens = [keys // v**j % v for j in range(k, -1, -1)]  # in the order of the text
            _table(self.before, k).load(_key(tokens[-2::-1], v), tokens[-1], counts)
            if self.sides > 1:
                _table(self.after, k).load(_key(tokens[1:], v), tokens[0], counts)

    @torch.compiler.disable  # sizes depend on the text
    def forward(self, x: Tensor, at: Tensor | None = None) -> Tensor:
        """(b, n, V) float32, or (m, V) of the positions where `at` (b, n) bool holds."""
        reach, n = self.order - 1, x.shape[1]
        where = torch.ones_like(x, dtype=torch.bool) if at is None else at
        tokens = nn.functional.pad(x, (reach, reach), value=self.vocab_size)
        pattern, parts = torch.zeros(int(where.sum()), dtype=torch.int64, device=x.device), list[Tensor]()
        for side, sign in ((self.before, -1), (self.after, 1))[: self.sides]:
            near = torch.stack(
                [tokens[:, reach + sign * k : reach + sign * k + n][where] for k in range(1, self.order)]
            )
            visible = (near < self.vocab_size).long().cumprod(0)
            pattern = pattern * self.order + visible.sum(0)
            parts.append(self._side(side, near, visible.bool()).log())
        weights = self.weights[pattern]
        logits = weights[:, self.sides :] * self.frequencies.log()
        for i, part in enumerate(parts):
            logits = logits + weights[:, i : i + 1] * part
        return logits if at is not None else logits.view(*x.shape, -1)

    @torch.no_grad()
    def _side(self, tables: nn.ModuleList, near: Tensor, visible: Tensor) -> Tensor:
        """(m, V) probabilities given tokens (order - 1, m), the nearest first, of which the `visible` are read."""
        p = self.frequencies.expand(near.shape[1], -1)
        for k in range(1, self.order):
            rows = visible[k - 1].nonzero()[:, 0]
            p = p.index_copy(0, rows, _table(tables, k)(_key(list(near[:k, rows]), self.vocab_size), p[rows]))
        return p


def _table(tables: nn.ModuleList, k: int) -> Successors:
    """The table of contexts of k tokens."""
    table = tables[k - 1]
    assert isinstance(table, Successors)
    return table


def _key(tokens: list[Tensor], vocab_size: int) -> Tensor:
    """One integer for each context, of which `tokens` holds the nearest token first."""
    key = tokens[0]
    for i, token in enumerate(tokens[1:], start=1):
        key = key + token * vocab_size**i
    return key


def counted(sequences: Iterable[Tensor], *, vocab_size: int, order: int) -> dict[str, Tensor]:
    """The n-grams of token sequences (b, n) int64, n up to `order`, as sorted keys and int32 counts: "3.keys", "3.counts".

    Indices from `vocab_size` on are no tokens, and no n-gram holds one. Those of three tokens and more are left out where
    they occur less than `RARE` times."""
    single = torch.zeros(vocab_size, dtype=torch.int64)
    found: dict[int, list[tuple[Tensor, Tensor]]] = {n: [] for n in range(2, order + 1)}
    waiting: dict[int, list[Tensor]] = {n: [] for n in found}

    def count(n: int) -> None:
        keys, counts = torch.unique(torch.cat(waiting.pop(n)), return_counts=True)
        found[n], waiting[n] = [_summed([*found[n], (keys, counts)])], []

    for x in sequences:
        single += torch.bincount(x[x < vocab_size], minlength=vocab_size)
        for n in found:
            parts = [x[:, i : x.shape[1] - n + 1 + i] for i in range(n)]
            whole = torch.stack(parts).lt(vocab_size).all(0)
            waiting[n].append(_key([part[whole] for part in reversed(parts)], vocab_size))
            if sum(map(len, waiting[n])) > TOGETHER:
                count(n)
    tables = {"1.counts": single}
    for n in found:
        if waiting[n]:
            count(n)
        keys, counts = found[n][0] if found[n] else (torch.zeros(0, dtype=torch.int64),) * 2
        kept = counts >= (RARE if n > 2 else 1)
        tables |= {f"{n}.keys": keys[kept], f"{n}.counts": counts[kept].int()}
    return tables


def _summed(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Sorted keys of all parts, and the sums of their counts."""
    keys, inverse = torch.unique(torch.cat([keys for keys, _ in parts]), return_inverse=True)
    counts = torch.cat([counts for _, counts in parts])
    return keys, torch.zeros(len(keys), dtype=torch.int64).index_add_(0, inverse, counts)
