"""N-gram counts under a network: probabilities by counting again, posteriors of a Markov chain, and what is not read."""

from collections import Counter

import pytest
import torch

from langevin.networks import Transformer
from langevin.networks.ngram_prior import NgramPrior, counted

V, MASK, PAD, ORDER = 5, 5, 6, 3


def drawn(rows: int, n: int, seed: int = 0) -> torch.Tensor:
    """Texts of a chain of order two, in which every n-gram of three tokens that occurs, occurs often."""
    g = torch.Generator().manual_seed(seed)
    likely = torch.randint(0, V, (V, V), generator=g)
    x = torch.randint(0, V, (rows, n), generator=g)
    for i in range(2, n):
        take = torch.rand(rows, generator=g) < 0.7
        x[:, i] = torch.where(take, likely[x[:, i - 2], x[:, i - 1]], x[:, i])
    return x


def prior(x: torch.Tensor, *, order: int = ORDER, causal: bool = False) -> NgramPrior:
    made = NgramPrior(vocab_size=V, order=order, causal=causal).eval()
    made.load(counted([x], vocab_size=V, order=order))
    return made


def by_hand(x: torch.Tensor, context: tuple[int, ...], sign: int, lower: int = 0) -> torch.Tensor:
    """p(v | context) of the module's docstring; the context's nearest token first, on the side of `sign`."""
    counts = Counter(x.flatten().tolist())
    p = torch.tensor([(counts[v] + 1) / (x.numel() + V) for v in range(V)])
    for k in range(1, len(context) + 1):
        found = Counter[int]()
        for row in x.tolist():
            for i, v in enumerate(row):
                near = [row[i + sign * j] for j in range(1, k + 1) if 0 <= i + sign * j < len(row)]
                found[v] += tuple(near) == context[:k]
        kept = {v: c for v, c in found.items() if c >= (2 if k > 1 else 1)}
        if kept:
            c = torch.tensor([float(max(kept.get(v, 0) - lower, 0)) for v in range(V)])
            total = sum(kept.values()) - lower
            p = (c + len(kept) * p) / (total + len(kept))
    return p


@pytest.mark.parametrize("training", [False, True])
def test_probabilities_are_those_of_counting_the_text_again(training):
    x = drawn(6, 15)
    made = prior(x)
    made.train(training)
    text = torch.tensor([[2, 0, MASK, 1, 3]])
    (p,) = made(text, text == MASK).detach()
    w = made.weights[2 * ORDER + 2].detach()
    logs = [by_hand(x, (0, 2), -1, training).log(), by_hand(x, (1, 3), 1, training).log(), by_hand(x, (), 1).log()]
    torch.testing.assert_close(p, (w[:, None] * torch.stack(logs)).sum(0), rtol=1e-5, atol=1e-7)


def test_the_posterior_of_a_markov_chain_is_exact_where_both_neighbours_are_visible():
    g = torch.Generator().manual_seed(1)
    pair = torch.randint(1, 9, (V, V), generator=g) * 10_000_000  # so many pairs that smoothing is nothing
    pair = pair + pair.T  # with equal marginal distributions of both tokens
    made = NgramPrior(vocab_size=V, order=2).eval()
    keys, counts = torch.arange(V * V), pair.flatten()
    made.load({"1.counts": pair.sum(1), "2.keys": keys, "2.counts": counts})
    a, c = torch.cartesian_prod(torch.arange(V), torch.arange(V)).unbind(1)
    text = torch.stack([a, torch.full_like(a, MASK), c], 1)
    exact = pair[a] * pair[:, c].T / pair.sum(1)  # p(a, b) p(b, c) / p(b)
    found = made(text, text == MASK).softmax(-1)
    torch.testing.assert_close(found, exact / exact.sum(1, keepdim=True), rtol=1e-5, atol=1e-6)


def test_the_context_ends_at_a_masked_token_and_at_the_end_of_the_text():
    made = prior(drawn(20, 30))
    torch.nn.init.normal_(made.weights)

    def at(tokens: list[int], i: int) -> torch.Tensor:
        return made(torch.tensor([tokens]))[0, i]

    seen = at([3, 1, MASK, 2, 4], 2)
    assert torch.equal(at([0, 3, 1, MASK, 2, 4, 0], 3), seen), "no more than order - 1 tokens on a side"
    assert not torch.equal(at([0, 1, MASK, 2, 4], 2), seen)
    assert torch.equal(at([4, MASK, MASK, 2, 4], 2), at([0, MASK, MASK, 2, 4], 2)), "nothing beyond a masked one"
    assert torch.equal(at([PAD, 1, MASK, PAD, 4], 2), at([1, MASK], 1)), "padding is the end"


def test_positions_that_are_asked_for_are_those_of_all_positions():
    made, x = prior(drawn(20, 30)), drawn(3, 8, seed=4)
    x[0, 2:5], at = MASK, torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.4
    assert torch.equal(made(x, at), made(x)[at])


def test_causal_reads_nothing_at_or_after_a_position():
    made, x = prior(drawn(20, 30), causal=True), drawn(1, 8, seed=4)
    torch.nn.init.normal_(made.weights)
    before = made(x)
    for i in range(8):
        other = x.clone()
        other[:, i:] = (other[:, i:] + 1) % V
        assert torch.equal(made(other)[:, : i + 1], before[:, : i + 1])


def test_counts_do_not_depend_on_how_the_texts_are_cut_into_batches(monkeypatch):
    x = drawn(9, 20)
    whole = counted([x], vocab_size=V, order=ORDER)
    monkeypatch.setattr("langevin.networks.ngram_prior.TOGETHER", 30)
    parts = counted(x.split(2), vocab_size=V, order=ORDER)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert int(whole["2.counts"].sum()) == 9 * 19
    padded = torch.nn.functional.pad(x, (0, 4), value=PAD)
    padded = counted([padded], vocab_size=V, order=ORDER)
    assert all(torch.equal(whole[name], padded[name]) for name in whole), "padding is not counted"


def test_in_training_a_text_of_one_occurrence_tells_nothing():
    """Every bigram occurs once: one lower, what is left is the shorter context, the same for all tokens."""
    made = prior(torch.tensor([[0, 1, 2, 3, 4]]), order=2).train()
    text = torch.tensor([[0, MASK, 2, 3, 4]])
    torch.testing.assert_close(made(text, text == MASK).softmax(-1), torch.full((1, V), 1 / V))
    made.eval()
    assert int(made(text, text == MASK).argmax()) == 1


def test_the_network_starts_from_the_prior_and_learns_its_weights():
    torch.manual_seed(0)
    config = Transformer.Config(width=16, depth=1, head_dim=8, vocab_size=V, ngram_order=ORDER)
    network = config.build().eval()
    prior = network.ngram_prior
    assert prior is not None
    prior.load(counted([drawn(20, 30)], vocab_size=V, order=ORDER))
    x = drawn(2, 8, seed=3)
    x[:, 3] = MASK
    at, time = x == MASK, torch.zeros(2)
    plain = network(x, time, at=at) - prior(x, at)
    network.ngram_prior = None
    torch.testing.assert_close(network(x, time, at=at), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("order", [1, 5, -1])
def test_an_order_that_cannot_be_is_refused(order):
    with pytest.raises(ValueError, match=rf"network\.ngram_order is a number of tokens, 2 to 4, or 0, got {order}"):
        Transformer.Config(ngram_order=order)


def test_counts_of_another_vocabulary_or_order_are_refused():
    made = NgramPrior(vocab_size=V + 1, order=2)
    with pytest.raises(ValueError, match="not of 6 tokens and order 2"):
        made.load(counted([drawn(2, 9)], vocab_size=V, order=2))
    with pytest.raises(ValueError, match="not of 5 tokens and order 3"):
        NgramPrior(vocab_size=V, order=3).load(counted([drawn(2, 9)], vocab_size=V, order=2))


def test_n_grams_that_cannot_be_numbered_are_refused():
    NgramPrior(vocab_size=50_000, order=4)
    with pytest.raises(ValueError, match=r"100,000 tokens have too many n-grams of 4 tokens .* network\.ngram_order=3"):
        NgramPrior(vocab_size=100_000, order=4)
