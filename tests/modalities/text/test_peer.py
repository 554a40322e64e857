"""The autoregressive peer of the benchmark: writing with kept keys and values is the network itself."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from langevin.networks import Transformer
from langevin.networks.ngram_prior import counted

VOCABULARY, LIMIT, COUNT, LENGTH = 7, 5, 300, 6


@pytest.fixture
def peer(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    return importlib.import_module("text_peer")


def network(*, window, order):
    torch.manual_seed(0)
    config = Transformer.Config(
        width=16, depth=2, head_dim=8, attention="causal", ngram_window=window, ngram_order=order, vocab_size=VOCABULARY
    )
    built = config.build().eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    if built.ngram_prior is not None:
        text = torch.randint(0, VOCABULARY, (9, 40))
        built.ngram_prior.load(counted([text], vocab_size=VOCABULARY, order=order))
    return built


@pytest.mark.parametrize(("window", "order"), [(0, 0), (2, 0), (1, 3), (2, 2)])
def test_a_text_has_the_nats_that_the_whole_network_gives_it(peer, window, order):
    built = network(window=window, order=order)
    x, nats = peer.write(built, COUNT, LENGTH, limit=LIMIT, seed=3)
    assert x.shape == (COUNT, LENGTH)
    assert int(x.max()) < LIMIT
    with torch.no_grad():
        whole = built(x, torch.ones(COUNT)).log_softmax(-1)
    assert torch.allclose(nats, -whole.gather(-1, x[..., None])[..., 0], atol=1e-4)


def test_first_tokens_are_drawn_by_the_law_of_the_network(peer):
    built = network(window=2, order=0)
    x, _ = peer.write(built, 4000, 1, limit=LIMIT)
    with torch.no_grad():
        p = built(x[:1], torch.ones(1))[0, 0, :LIMIT].softmax(-1)
    frequency = torch.bincount(x[:, 0], minlength=LIMIT) / len(x)
    assert (frequency - p).abs().max() < 5 * 0.5 / len(x) ** 0.5


def test_the_weights_of_the_least_loss_stay_and_training_goes_on(peer):
    built, losses = network(window=0, order=0), [3.0, 1.0, 2.0]

    class Average:
        def tensors(self, length):
            return {f"network.{n}": p + state.step for n, p in built.named_parameters()}

    state = SimpleNamespace(step=0, ema={"denoiser": Average()})
    keeper = peer.EarlyStop(state=state, network=built, length=0.05, measure=lambda: losses.pop(0))
    before = {name: p.detach().clone() for name, p in built.named_parameters()}
    for step in (10, 20, 30):
        state.step = step
        keeper.look()
    assert all(torch.equal(p, before[name]) for name, p in built.named_parameters())
    assert (keeper.step, keeper.loss) == (20, 1.0)
    keeper.best()
    assert all(torch.equal(p, before[name] + 20) for name, p in built.named_parameters())
