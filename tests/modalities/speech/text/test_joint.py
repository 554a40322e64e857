"""The n-gram, held to its formula with dictionaries of counts, and to conservation of probability."""

from collections import Counter

import numpy as np
import pytest

from langevin.modalities.speech.text.joint import BEGIN, END, fit_ngram

VOCABULARY = 7


def corpus(seed, count=60):
    """Sequences of a chain that prefers some tokens after others."""
    random = np.random.default_rng(seed)
    after = random.dirichlet(np.full(VOCABULARY - 2, 0.4), VOCABULARY)
    sequences = []
    for _ in range(count):
        sequence = [BEGIN]
        for _ in range(random.integers(1, 8)):
            sequence.append(2 + int(random.choice(VOCABULARY - 2, p=after[sequence[-1]])))
        sequences.append([*sequence, END])
    return sequences


def grams(sequences, n):
    return Counter(tuple(s[i : i + n]) for s in sequences for i in range(len(s) - n + 1))


def expected(sequences, order):
    """p(token | context) by the formula, recursively."""
    counts = {n: grams(sequences, n) for n in range(1, order + 1)}

    def adjusted(n):
        before = Counter(gram[1:] for gram in counts[n + 1]) if n < order else Counter()
        kept = {gram: before[gram] or count for gram, count in counts[n].items()}
        return Counter({gram: 0 if gram == (BEGIN,) else count for gram, count in kept.items()})

    tables = {n: adjusted(n) for n in counts}

    def discount(n, c):
        k = [max(sum(v == i for v in tables[n].values()), 1) for i in (1, 2, 3, 4)]
        y, i = k[0] / (k[0] + 2 * k[1]), min(c, 3)
        return min(max(i - (i + 1) * y * k[i] / k[i - 1], 0), i) if c else 0

    def prob(token, context):
        n = len(context) + 1
        lower = prob(token, context[1:]) if context else 1 / VOCABULARY
        seen = {g: c for g, c in tables[n].items() if g[:-1] == tuple(context)}
        total = sum(seen.values())
        if not total:
            return lower
        freed = sum(discount(n, c) for c in seen.values())
        c = seen.get((*context, token), 0)
        return (c - discount(n, c)) / total + freed / total * lower

    return prob


def flat(sequences):
    return np.array([token for sequence in sequences for token in sequence])


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_probabilities_are_those_of_the_formula(order, seed):
    sequences = corpus(seed)
    ngram, prob = fit_ngram(flat(sequences), vocabulary=VOCABULARY, order=order), expected(sequences, order)
    for sequence in corpus(seed + 10, 12):
        context = np.array([ngram.beginning])
        for i, token in enumerate(sequence[1:], 1):
            log_prob, following = ngram.follow(context, np.array([token]))
            assert np.exp(log_prob[0]) == pytest.approx(prob(token, sequence[max(i - order + 1, 0) : i]))
            context = following


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_of_all_tokens_sum_to_one_after_any_context(order):
    ngram = fit_ngram(flat(corpus(3)), vocabulary=VOCABULARY, order=order)
    random = np.random.default_rng(0)
    contexts = np.full(50, ngram.beginning)
    for _ in range(6):
        every = [ngram.follow(contexts, np.full(50, token))[0] for token in range(VOCABULARY)]
        assert np.exp(every).sum(0) == pytest.approx(1)
        _, contexts = ngram.follow(contexts, random.integers(1, VOCABULARY, 50))


def test_contexts_never_reach_beyond_a_beginning():
    """The order of the sequences in the corpus does not matter."""
    sequences = corpus(5)
    one, other = (fit_ngram(flat(s), vocabulary=VOCABULARY, order=4) for s in (sequences, sequences[::-1]))
    assert (one.keys == other.keys).all()
    assert one.log_prob == pytest.approx(other.log_prob)
