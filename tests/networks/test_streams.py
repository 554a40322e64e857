"""Several tokens per step: what a step sees, by routes that must agree and by changes that must not be felt. In float64."""

import pytest
import torch

from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.denoiser import TokenDenoiser
from langevin.diffusion.process import Masked
from langevin.networks import Transformer
from langevin.networks.embedding import ConditioningConfig

V, MASK, PAD, STREAMS, STEPS = 5, 5, 6, 3, 6
NEAR = {"rtol": 0, "atol": 1e-12}


def stirred(**options) -> Transformer:
    torch.manual_seed(1)
    sizes = {"width": 32, "depth": 2, "head_dim": 8, "vocab_size": V, "streams": STREAMS}
    network = Transformer.Config(**{**sizes, **options}).build().double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def scores(steps: int, *, count: int = 4, seed: int = 0) -> torch.Tensor:
    """(count, steps * STREAMS) tokens, about half of them masked."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, V, (count, steps * STREAMS), generator=generator)
    return torch.where(torch.rand(x.shape, generator=generator) < 0.5, MASK, x)


def logits(network: Transformer, x: torch.Tensor, condition: Condition | None = None, at=None) -> torch.Tensor:
    with torch.no_grad():
        return network(x, torch.zeros(len(x), dtype=torch.float64), condition, at)


def test_a_step_is_the_sum_of_its_tokens_and_each_stream_has_a_head():
    """Without blocks the formula is short: h = rms(sum of embeddings), logits = W_v h + b_v."""
    network, x = stirred(depth=1), scores(STEPS)
    for block in network.blocks:
        for layer in (block.attention.out, block.down):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    table = network.token_embedding.weight.view(STREAMS, V + 2, -1)
    steps = x.view(len(x), STEPS, STREAMS)
    h = sum(table[v][steps[..., v]] for v in range(STREAMS))
    for _ in range(2):
        h = h / h.square().mean(-1, keepdim=True).add(torch.finfo(h.dtype).eps).sqrt()
    weight, bias = network.heads.weight.view(STREAMS, V, -1), network.heads.bias.view(STREAMS, V)
    expected = torch.stack([h @ weight[v].mT + bias[v] for v in range(STREAMS)], 2).flatten(1, 2)
    torch.testing.assert_close(logits(network, x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("window", [0, 2])
def test_padded_steps_change_nothing_before_them(window):
    network, x = stirred(ngram_window=window), scores(STEPS)
    padded = torch.nn.functional.pad(x, (0, 2 * STREAMS), value=PAD)
    torch.testing.assert_close(logits(network, padded)[:, : x.shape[1]], logits(network, x), **NEAR)
    hidden = torch.nn.functional.pad(torch.ones_like(x, dtype=torch.bool), (0, 2 * STREAMS))
    anything = torch.cat([x, scores(2, seed=3)], 1)
    masked = logits(network, anything, Condition(data_mask=hidden))
    torch.testing.assert_close(masked[:, : x.shape[1]], logits(network, x), **NEAR)


def test_a_step_with_one_real_token_is_no_padding():
    network, x = stirred(), scores(STEPS)
    one = torch.nn.functional.pad(x, (0, STREAMS), value=PAD)
    one[:, -1] = 2
    assert not torch.allclose(logits(network, one)[:, : x.shape[1]], logits(network, x))


def test_chosen_positions_are_those_of_all():
    network, x = stirred(), scores(STEPS)
    padded = torch.nn.functional.pad(x, (0, STREAMS), value=PAD)
    for tokens in (x, padded):
        at = tokens == MASK
        torch.testing.assert_close(logits(network, tokens, at=at), logits(network, tokens)[at], **NEAR)


def test_the_prediction_of_masked_tokens_is_blind_to_them_and_sees_all_else():
    """As the denoiser calls it: the tokens under the masks of a step change nothing, those of any other position do."""
    network, process = stirred(), Masked(vocab_size=V)
    denoiser = TokenDenoiser(network=network, process=process, output="posterior", at_masks_only=True)
    clean = torch.randint(0, V, (1, STEPS * STREAMS), generator=torch.Generator().manual_seed(4))
    hidden = torch.zeros_like(clean, dtype=torch.bool)
    hidden[0, [4, 5, 11]] = True

    def predicted(x: torch.Tensor) -> torch.Tensor:
        x_t = torch.where(hidden, MASK, x)
        with torch.no_grad():
            return denoiser(x_t, torch.full((1,), 0.3, dtype=torch.float64)).logits_at(hidden)

    for position in range(STEPS * STREAMS):
        other = clean.clone()
        other[0, position] = (other[0, position] + 1) % V
        same = torch.equal(predicted(other), predicted(clean))
        assert same == bool(hidden[0, position]), position


def test_n_grams_are_of_each_stream_alone():
    """Without blocks a token changes the logits of its own step and of those within the window, and of no others."""
    network, x = stirred(depth=1, ngram_window=1), scores(STEPS)
    for block in network.blocks:
        for layer in (block.attention.out, block.down):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    for position in (0, 7, STEPS * STREAMS - 1):
        other = x.clone()
        other[:, position] = (other[:, position] + 1) % V
        differ = (logits(network, other) != logits(network, x)).unflatten(1, (STEPS, STREAMS)).flatten(2).any(2).all(0)
        assert {i for i in range(STEPS) if differ[i]} == {i for i in range(STEPS) if abs(i - position // STREAMS) <= 1}
    with torch.no_grad():
        network.ngram.table.weight.view(2, STREAMS, V + 2, -1)[:, 1] = 0  # of the second stream
        network.token_embedding.weight.view(STREAMS, V + 2, -1)[1] = 0
    other = x.clone()
    other[:, 1::STREAMS] = (other[:, 1::STREAMS] + 1) % V
    assert torch.equal(logits(network, other), logits(network, x))


def test_samples_do_not_mix():
    network, x = stirred(), scores(STEPS)
    for i in range(len(x)):
        torch.testing.assert_close(logits(network, x[i : i + 1]), logits(network, x)[i : i + 1], **NEAR)


def test_ports_are_read_over_steps():
    network = stirred(conditioning=ConditioningConfig(classes=3, aligned_width=2))
    x, along = scores(STEPS), torch.randn(4, STEPS, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    key = torch.tensor([0, 1, 2, 0])
    base = logits(network, x, Condition(global_=Port(tensor=key), aligned=Port(tensor=along)))
    assert base.shape == (4, STEPS * STREAMS, V)
    other = logits(network, x, Condition(global_=Port(tensor=(key + 1) % 3), aligned=Port(tensor=along)))
    assert not torch.allclose(base, other)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"streams": 0}, "network.streams is 1, or more"),
        ({"attention": "causal"}, "got 3 and causal"),
        ({"attention": "block"}, "got 3 and block"),
        ({"streams": 2000}, "at most 1,024"),
    ],
)
def test_what_does_not_go_with_streams_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        stirred(**options)


def test_half_a_step_is_refused():
    with pytest.raises(ValueError, match="not whole steps of 3 tokens"):
        logits(stirred(), scores(STEPS)[:, :-1])


def test_one_stream_has_the_weights_of_a_sequence():
    plain = Transformer.Config(width=32, depth=1, head_dim=8, vocab_size=V).build()
    assert plain.heads is None
    assert set(dict(plain.named_parameters())) >= {"token_embedding.weight", "output_bias"}
