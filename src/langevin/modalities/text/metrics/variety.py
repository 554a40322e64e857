"""Variety of generated text, and divergence of its n-grams from those of real text.

Repetition can drive the likelihood under a judging model to any value, so these are reported with it, for samples and for
real text at equal counts:

    unigram entropy  mean over samples of -sum_v (c_v / L) ln(c_v / L)          nats; OpenWebText at L = 1,024: 5.44
    distinct-n       distinct n-grams / n-grams, over a fixed number of tokens
    divergence       1/2 KL(p || m) + 1/2 KL(q || m), m = (p + q) / 2, of n-gram histograms; nats, at most ln 2

Tokens are whatever the lists hold: words, characters or indices. Papers: "A Diversity-Promoting Objective Function for
Neural Conversation Models" (2016, arXiv:1510.03055), "Divergence measures based on the Shannon entropy" (1991),
"Remasking Discrete Diffusion Models with Inference-Time Scaling" (2025, arXiv:2503.00307).
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean

from langevin.modalities.text.metrics.grams import gram_counts

Sample = Sequence[Hashable]


@dataclass(frozen=True, kw_only=True)
class GramDivergence:
    """Jensen-Shannon divergence in nats for each order, with that of two parts of the real text of the same size.

    Attributes:
        orders: the n.
        values: samples against the first part of the real text.
        floor: the second part against the first: the value of two equal distributions at this count.
        counts: n-grams per side.
    """

    orders: tuple[int, ...]
    values: tuple[float, ...]
    floor: tuple[float, ...]
    counts: tuple[int, ...]


def unigram_entropy(samples: Sequence[Sample]) -> float:
    """Mean over samples of the entropy of the tokens within one, nats; in [0, ln L]. ValueError for empty samples."""
    if not samples or not all(len(sample) for sample in samples):
        raise ValueError(f"unigram_entropy needs samples that are not empty, got {len(samples)} samples")
    return fmean(_entropy(Counter(sample)) for sample in samples)


def distinct(samples: Sequence[Sample], n: int, *, tokens: int | None = None) -> float:
    """Distinct n-grams over n-grams of the first `tokens` tokens of the samples (None: all), in (0, 1].

    It falls with the number of tokens, so compare at one number. No n-gram crosses from one sample into the next.
    ValueError for fewer tokens than `tokens`, or no sample of n tokens.
    """
    grams = Counter[tuple]()
    for sample in _first(samples, tokens, "distinct"):
        grams += gram_counts(sample, n)
    if not grams:
        raise ValueError(f"distinct: no sample is {n} tokens long")
    return len(grams) / grams.total()


def jensen_shannon(p: Counter, q: Counter) -> float:
    """Divergence of two histograms, nats in [0, ln 2]; 0 for equal distributions. ValueError for an empty one."""
    a, b = p.total(), q.total()
    if not a or not b:
        raise ValueError(f"jensen_shannon needs two histograms that are not empty, got {a} and {b} counts")
    # KL(p || m) + KL(q || m) = sum p ln p + sum q ln q - 2 sum m ln m
    total = 0.0
    for key in p.keys() | q.keys():
        x, y = p[key] / a, q[key] / b
        m = (x + y) / 2
        total += (x * math.log(x / m) if x else 0.0) + (y * math.log(y / m) if y else 0.0)
    return max(total / 2, 0.0)


def gram_divergence(
    samples: Sequence[Sample], real: Sequence[Sample], *, orders: Sequence[int] = (1, 2, 3, 4)
) -> GramDivergence:
    """Divergence of the n-gram histograms of samples and of real text at equal counts, with its floor.

    The real samples, which should be of like length and in random order, are dealt in turn into two parts; all three
    sides are cut to the n-grams of the smallest. ValueError if a side has none.
    """
    values, floor, counts = [], [], []
    for n in orders:
        sides = [_grams(part, n) for part in (samples, real[::2], real[1::2])]
        count = min(len(side) for side in sides)
        if not count:
            raise ValueError(f"gram_divergence: no {n}-grams in the samples or in half of the real text")
        ours, first, second = (Counter(side[:count]) for side in sides)
        values.append(jensen_shannon(ours, first))
        floor.append(jensen_shannon(second, first))
        counts.append(count)
    return GramDivergence(orders=tuple(orders), values=tuple(values), floor=tuple(floor), counts=tuple(counts))


def _grams(samples: Sequence[Sample], n: int) -> list[tuple]:
    return [gram for sample in samples for gram in zip(*(sample[i:] for i in range(n)))]


def _entropy(counts: Counter) -> float:
    total = counts.total()
    return -sum(c / total * math.log(c / total) for c in counts.values())


def _first(samples: Sequence[Sample], tokens: int | None, where: str) -> list[Sample]:
    if tokens is None:
        return list(samples)
    kept, remaining = [], tokens
    for sample in samples:
        if remaining <= 0:
            break
        kept.append(list(islice(sample, remaining)))
        remaining -= len(kept[-1])
    if remaining > 0:
        raise ValueError(f"{where} needs {tokens} tokens, the samples have {tokens - remaining}")
    return kept
