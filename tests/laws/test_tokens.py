"""Laws of the estimators of nats a text: with exact conditionals each is -ln p(word), by whatever order and estimator;
with others the counts' mean is the mean over all orders; what is known is conditioned on; padding adds nothing.
"""

import itertools
from dataclasses import replace

import pytest
import torch

from langevin.diffusion.batch import Batch
from langevin.diffusion.denoiser import TokenDenoiser
from langevin.diffusion.likelihood.tokens import (
    at_shares,
    count_bound,
    in_order,
    share_losses,
    time_bound,
    time_losses,
    whole,
)
from langevin.diffusion.posterior import Categorical
from langevin.diffusion.process import GIDD, Masked, UniformDiffusion
from tests import exact
from tests.laws.bounds import normal_bound

LAW = exact.entangled()
N = LAW.places
MASKED = Masked(vocab_size=LAW.vocab_size)
WORDS = LAW.words
NAMES = torch.arange(len(WORDS))
KNOWN = torch.tensor([[False, True, False]]).expand(len(WORDS), N)


def bent(x_t, t, condition=None):
    """Not the law: another error for each question."""
    noise = torch.randn(64, N, LAW.vocab_size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Categorical(LAW(x_t, t).logits + noise[(x_t * torch.tensor([16, 4, 1])).sum(1)])


def chain(denoiser, order) -> torch.Tensor:
    """(words,) nats of the places revealed one by one in an order, written out."""
    total = torch.zeros(len(WORDS), dtype=torch.float64)
    for k, i in enumerate(order):
        hidden = torch.zeros(N, dtype=torch.bool)
        hidden[list(order[k:])] = True
        x_t = torch.where(hidden, MASKED.mask, WORDS)
        logp = denoiser(x_t, torch.full((len(WORDS),), (N - k) / N), None).logits.log_softmax(-1)
        total -= logp[NAMES, i, WORDS[:, i]]
    return total


def repeated(find, denoiser, batch, seeds=400, draws=3):
    """(mean, standard error) over seeds, (words,) each; `draws` is not a multiple of anything here."""
    found = torch.stack([find(denoiser, MASKED, batch, names=NAMES, draws=draws, seed=seed) for seed in range(seeds)])
    return found.mean(0), found.std(0) / seeds**0.5


def agree(mean, error, truth) -> None:
    z = (mean - truth).abs() / error.clamp_min(1e-12)
    assert float(z.max()) < normal_bound(1), z


@pytest.mark.parametrize("order", ["left", "random"])
def test_every_order_of_exact_conditionals_is_the_likelihood(order):
    found = in_order(LAW, MASKED, Batch(x=WORDS), order=order, names=NAMES)
    torch.testing.assert_close(found, -LAW.p.log(), rtol=1e-10, atol=0)


def test_from_left_to_right_is_the_chain_written_out():
    torch.testing.assert_close(in_order(bent, MASKED, Batch(x=WORDS)), chain(bent, range(N)), rtol=1e-10, atol=0)


@pytest.mark.parametrize("draws", [1, 3, 4])
def test_the_bound_by_counts_is_the_mean_over_orders(draws):
    truth = torch.stack([chain(bent, order) for order in itertools.permutations(range(N))]).mean(0)
    agree(*repeated(count_bound, bent, Batch(x=WORDS), draws=draws), truth)
    entropy = float(-(LAW.p * LAW.p.log()).sum())
    assert float((LAW.p * truth).sum()) > entropy + 1e-3


@pytest.mark.parametrize("find", [count_bound, time_bound])
def test_the_bound_of_exact_conditionals_is_the_likelihood(find):
    agree(*repeated(find, LAW, Batch(x=WORDS)), -LAW.p.log())


@pytest.mark.parametrize("find", [count_bound, time_bound])
def test_what_is_known_is_conditioned_on(find):
    given = torch.stack([LAW.p[WORDS[:, 1] == s].sum() for s in range(LAW.vocab_size)])[WORDS[:, 1]]
    truth = -(LAW.p / given).log()
    batch = Batch(x=WORDS, known=KNOWN)
    torch.testing.assert_close(in_order(LAW, MASKED, batch), truth, rtol=1e-10, atol=0)
    agree(*repeated(find, LAW, batch), truth)


def test_padding_adds_nothing():
    pad = torch.full((len(WORDS), 2), MASKED.vocab_size + 1)
    wide = Batch(x=torch.cat([WORDS, pad], 1))

    def narrow(x_t, t, condition=None):
        logits = bent(x_t[:, :N], t).logits
        return Categorical(torch.cat([logits, torch.full((len(x_t), 2, LAW.vocab_size), torch.nan).double()], 1))

    torch.testing.assert_close(in_order(narrow, MASKED, wide), in_order(bent, MASKED, Batch(x=WORDS)))
    mean, error = repeated(count_bound, narrow, wide)
    agree(mean, error, torch.stack([chain(bent, order) for order in itertools.permutations(range(N))]).mean(0))


def test_an_autoregressive_model_is_asked_once_for_the_places_asked_for():
    logp = (
        torch.randn(len(WORDS), N, LAW.vocab_size, generator=torch.Generator().manual_seed(2)).double().log_softmax(-1)
    )
    each = -logp.gather(-1, WORDS[..., None])[..., 0]
    calls = []

    def model(x, t, condition=None):
        calls.append(x)
        return Categorical(logp)

    torch.testing.assert_close(whole(model, Batch(x=WORDS)), each.sum(1))
    torch.testing.assert_close(whole(model, Batch(x=WORDS, mask=~KNOWN)), each[:, 0] + each[:, 2])
    assert len(calls) == 2


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_losses_by_share_are_the_mean_cross_entropy_of_so_many_places(share):
    shares = torch.tensor([share], dtype=torch.float64)
    ((hidden, logits),) = at_shares(bent, MASKED, Batch(x=WORDS), shares=shares, names=NAMES)
    assert hidden.sum(1).tolist() == [-int(-share * N // 1)] * len(WORDS)
    x_t = torch.where(hidden, MASKED.mask, WORDS)
    logp = bent(x_t, shares).logits.log_softmax(-1)
    each = -logp.gather(-1, WORDS[..., None])[..., 0]
    truth = torch.where(hidden, each, 0.0).sum(1) / hidden.sum(1)
    (found,) = share_losses(bent, MASKED, Batch(x=WORDS), shares=shares, names=NAMES)
    torch.testing.assert_close(found.double(), truth)
    torch.testing.assert_close(logits.log_softmax(-1), logp[hidden])


@pytest.mark.parametrize("process", [UniformDiffusion(vocab_size=LAW.vocab_size), GIDD(vocab_size=LAW.vocab_size)])
def test_losses_by_time_are_of_what_the_process_itself_corrupts(process):
    """For a posterior that is the same everywhere the loss is its cross-entropy with x where x is not known."""
    logp, seen = torch.randn(LAW.vocab_size, dtype=torch.float64).log_softmax(-1), []

    def model(x_t, t, condition=None):
        seen.append((x_t, t))
        return Categorical(logp.expand(*x_t.shape, -1))

    x = WORDS.repeat(200, 1)
    known, times = KNOWN[:1].expand(len(x), N), torch.tensor([0.25, 0.75], dtype=torch.float64)
    found = time_losses(model, process, Batch(x=x, known=known), times=times, names=torch.arange(len(x)))
    truth = -logp[x].where(~known, 0.0).sum(1) / (N - 1)
    for (x_t, t), time, losses in zip(seen, times, found, strict=True):
        torch.testing.assert_close(losses.double(), truth)
        assert torch.equal(t, time.expand(len(x)))
        assert torch.equal(x_t[known], x[known])
        kept = float((x_t == x)[~known].double().mean())
        marginals = process.arrivals(time[None])
        assert kept == pytest.approx(float(marginals.alpha + marginals.uniform), abs=0.02)


@pytest.mark.parametrize("known", [None, KNOWN])
def test_a_network_asked_at_masked_places_alone_costs_the_same_nats(known):
    seen = []

    def network(x, c_time, condition, at=None):
        seen.append(at)
        logits = bent(torch.where(x == MASKED.mask, x, x.clamp_max(2)), c_time).logits.float()
        return logits if at is None else logits[at]

    dense = TokenDenoiser(network=network, process=MASKED)
    batch = Batch(x=WORDS, known=known)
    shares = torch.tensor([0.4, 1.0], dtype=torch.float64)
    routes = {
        "counts": lambda d: count_bound(d, MASKED, batch, names=NAMES, draws=3),
        "order": lambda d: in_order(d, MASKED, batch),
        "shares": lambda d: share_losses(d, MASKED, batch, shares=shares, names=NAMES),
    }
    for find in routes.values():
        seen.clear()
        alone = find(replace(dense, at_masks_only=True))
        assert all(at is not None for at in seen)
        torch.testing.assert_close(alone, find(dense), rtol=1e-6, atol=1e-6)
