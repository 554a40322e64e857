"""The n-gram model: probabilities by hand, laws, and the entropy rate of a chain that is known."""

import numpy as np
import pytest

from langevin.modalities.text.codec import Letters
from langevin.modalities.text.metrics.ngram import NgramModel


def chain(n, seed=0):
    """A chain of two states that stays with probability 0.9 in state 0 and 0.6 in state 1."""
    stay, x, draws = (0.9, 0.6), [0], np.random.default_rng(seed).random(n)
    for u in draws[1:]:
        x.append(x[-1] if u < stay[x[-1]] else 1 - x[-1])
    return np.array(x)


def entropy(p):
    return -p * np.log2(p) - (1 - p) * np.log2(1 - p)


def test_probabilities_by_hand():
    """After 0, 0, 1: P(0) = (2 + 2/2) / 5 = .6; 0 has two: P(1 | 0) = (1 + 2 * .4) / 4 = .45; 1 has none: P(0 | 1) = .6.

    The first symbol has no context.
    """
    model = NgramModel.fit(np.array([0, 0, 1]), order=2, size=2)
    assert model.bits(np.array([0, 1, 0])) == pytest.approx(-np.log2([0.6, 0.45, 0.6]))
    assert model.following(np.array([[0], [1]])) == pytest.approx(np.array([[0.55, 0.45], [0.6, 0.4]]))
    assert model.bits_per_token(np.array([0, 1, 0])) == pytest.approx(-np.log2([0.6, 0.45, 0.6]).mean())


@pytest.mark.parametrize("order", [1, 3, 6])
def test_every_law_sums_to_one_and_is_what_bits_say(order):
    draw = np.random.default_rng(order)
    text, seen = draw.integers(0, 27, 4000), draw.integers(0, 27, (50, 8))
    model = NgramModel.fit(np.repeat(text, 2), order=order)
    law = model.following(seen)
    assert law.sum(1) == pytest.approx(1)
    assert law.min() > 0
    last = draw.integers(0, 27, 50)
    bits = [model.bits(np.append(row, x))[-1] for row, x in zip(seen, last)]
    assert bits == pytest.approx(-np.log2(law[np.arange(50), last]))


def test_it_finds_the_entropy_rate_of_a_chain():
    train, held_out = chain(200_000), chain(100_000, seed=1)
    pi = 0.4 / (0.1 + 0.4)  # the share of state 0
    rate, alone = pi * entropy(0.9) + (1 - pi) * entropy(0.6), entropy(pi)
    model = NgramModel.fit(train, order=4, size=2)
    measured = [model.shortened(n).bits_per_token(held_out) for n in (1, 2, 4)]
    assert measured == pytest.approx([alone, rate, rate], abs=0.01)


def test_counting_in_place_and_by_sorting_agree():
    text = chain(5000)
    in_place, sorted_ = NgramModel.fit(text, order=3, size=2), NgramModel.fit(text, order=3, size=300)
    for a, b in zip(in_place.orders, sorted_.orders):
        assert a.counts.tolist() == b.counts.tolist()
        assert a.kinds.tolist() == b.kinds.tolist()
        assert a.sums.tolist() == b.sums.tolist()


def test_shortening_is_fitting_at_that_order():
    text = Letters().encode("the rain in spain stays mainly in the plain " * 3).numpy()
    long, short = NgramModel.fit(text, order=5), NgramModel.fit(text, order=2)
    assert long.shortened(2).bits(text) == pytest.approx(short.bits(text))
    with pytest.raises(ValueError, match=r"1\.\.5"):
        long.shortened(6)


def test_samples_have_the_law_of_the_chain():
    model = NgramModel.fit(chain(100_000), order=2, size=2)
    x = model.sample(400, 100, seed=5)
    assert (x[:, 1:] == x[:, :-1])[x[:, :-1] == 0].mean() == pytest.approx(0.9, abs=0.01)
    assert (x[:, 1:] == x[:, :-1])[x[:, :-1] == 1].mean() == pytest.approx(0.6, abs=0.02)
    assert (x == model.sample(400, 100, seed=5)).all()


@pytest.mark.parametrize("call", [
    lambda: NgramModel.fit(np.array([0, 27])), lambda: NgramModel.fit(np.array([0, -1])),
    lambda: NgramModel.fit(np.array([])),
    lambda: NgramModel.fit(np.array([0, 1]), order=3), lambda: NgramModel.fit(np.arange(20), order=14, size=27),
    lambda: NgramModel.fit(np.arange(20) / 2), lambda: NgramModel.fit(np.arange(9), order=0),
    lambda: NgramModel.fit(np.arange(9)).bits(np.array([30])), lambda: NgramModel.fit(np.arange(9)).following(np.arange(3)),
])  # fmt: skip
def test_what_cannot_be_counted_is_refused(call):
    with pytest.raises(ValueError, match="NgramModel"):
        call()
