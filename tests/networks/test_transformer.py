"""The transformer over tokens: what a place sees, proven by routes that must agree and by changes that must not be felt.

In float64; `stirred` networks, whose zeros are not zero any more, so that every block matters.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch

from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.denoiser import CausalDenoiser, TokenDenoiser
from langevin.diffusion.process import Masked
from langevin.diffusion.sampler import AncestralUnmask, UniformTimeGrid, sample, start
from langevin.diffusion.schedule import Rectified
from langevin.networks import Transformer
from langevin.networks.embedding import ConditioningConfig
from langevin.networks.ngram import NgramEmbedding
from tests.laws.chains import follows

V, MASK, PAD = 7, 7, 8
BLOCK, BLOCKS = 4, 3
N = BLOCK * BLOCKS
ATTENTIONS = ("full", "block", "causal")
EVERY = pytest.mark.parametrize("attention", ATTENTIONS)
NEAR = {"rtol": 0, "atol": 1e-12}


def config(attention: str = "full", **options: Any) -> Transformer.Config:
    sizes = {"width": 32, "depth": 2, "head_dim": 8, "block_size": BLOCK, "vocab_size": V, "ngram_window": 2}
    return Transformer.Config(**{**sizes, "attention": attention, **options})


def stirred(made: Transformer.Config) -> Transformer:
    torch.manual_seed(1)
    network = made.build().double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def text(rows: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, V, (rows, n), generator=torch.Generator().manual_seed(seed))


def noisy(clean: torch.Tensor, seed: int = 1) -> torch.Tensor:
    hidden = torch.rand(clean.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    return torch.where(hidden & (clean != PAD), MASK, clean)


def ask(network: Transformer, x: torch.Tensor, condition: Condition | None = None) -> torch.Tensor:
    with torch.no_grad():
        return network(x, torch.zeros(len(x), dtype=torch.float64), condition)


def beside(clean: torch.Tensor) -> Condition:
    return Condition(clean=clean)


def after(network: Transformer, before: torch.Tensor) -> Condition:
    with torch.no_grad():
        return Condition(cache=network.cache(before))


def padded(x: torch.Tensor, by: int) -> torch.Tensor:
    return torch.cat([x, x.new_full((len(x), by), PAD)], 1)


def felt(network: Transformer, x: torch.Tensor, condition: Condition | None = None) -> torch.Tensor:
    """(n, n) bool: the logits at a place (row) change when another symbol stands at a place (column)."""
    base = ask(network, x, condition)
    out = []
    for i in range(x.shape[1]):
        other = x.clone()
        other[:, i] = (other[:, i] + 1) % V
        out.append((ask(network, other, condition) != base).any(0).any(-1))
    return torch.stack(out, 1)


# ------------------------------------------------------------------------------------------------------ what it sees


@pytest.mark.parametrize("neighbours", [0, 2])
def test_attention_in_full_sees_everything_and_causal_attention_what_is_before(neighbours: int):
    x, options = text(3, N), {"ngram_window": neighbours}
    assert bool(felt(stirred(config("full", **options)), x).all())
    assert torch.equal(felt(stirred(config("causal", **options)), x), torch.ones(N, N, dtype=torch.bool).tril(-1))


@pytest.mark.parametrize(("offsets", "block"), [((-2, -1, 1, 2), None), ((-2, -1), None), ((-3, 3), 4)])
def test_neighbours_are_those_at_their_offsets_and_in_the_same_block(offsets, block):
    n, table = 24, NgramEmbedding(vocab_size=PAD + 1, width=8, offsets=offsets, padding=PAD)
    torch.nn.init.normal_(table.table.weight)
    x = text(1, n)
    for place in range(n):
        other = x.clone()
        other[:, place] = (other[:, place] + 1) % V
        changed = (table(other, block_size=block) != table(x, block_size=block)).any(-1)[0]
        near = {place - offset for offset in offsets} & set(range(n))
        assert {i for i in range(n) if changed[i]} == {i for i in near if not block or i // block == place // block}


def test_neighbours_of_two_stretches_in_a_row_are_those_of_each():
    table = NgramEmbedding(vocab_size=PAD + 1, width=8, offsets=(-2, -1, 1, 2), padding=PAD)
    torch.nn.init.normal_(table.table.weight)
    x, places = text(1, 10), torch.arange(5).repeat(2)
    assert torch.equal(table(x, places), torch.cat([table(x[:, :5]), table(x[:, 5:])], 1))


def test_neighbours_say_nothing_at_the_start_and_are_the_same_in_a_longer_row():
    x, plain, more = noisy(text(3, N)), config(ngram_window=0).build().double(), config().build().double()
    more.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(ask(more, x), ask(plain, x))
    network = stirred(config())
    torch.testing.assert_close(ask(network, padded(x, 5))[:, :N], ask(network, x), **NEAR)


def test_a_noisy_block_sees_itself_and_the_clean_blocks_before_it():
    network, clean = stirred(config("block")), text(3, N)
    number = torch.arange(N) // BLOCK
    x = noisy(clean)
    assert torch.equal(felt(network, x, beside(clean)), number[:, None] == number)
    base, seen = ask(network, x, beside(clean)), []
    for i in range(N):
        other = clean.clone()
        other[:, i] = (other[:, i] + 1) % V
        seen.append((ask(network, x, beside(other)) != base).any(0).any(-1))
    assert torch.equal(torch.stack(seen, 1), number[:, None] > number)


def test_the_clean_half_does_not_see_the_noisy_half():
    """Neither its values nor its gradients: what the last block attends to, both halves run at once."""
    network, clean = stirred(config("block")), text(2, N)
    halves: list[torch.Tensor] = []
    network.blocks[-1].register_forward_hook(lambda _, args, out: halves.append(out[1][1].transpose(1, 2).flatten(2)))
    ask(network, noisy(clean, seed=1), beside(clean))
    ask(network, noisy(clean, seed=2), beside(clean))
    first, second = halves
    assert torch.equal(first[:, N:], second[:, N:])
    assert not torch.equal(first[:, :N], second[:, :N])
    halves.clear()
    embedded: list[torch.Tensor] = []
    network.token_embedding.register_forward_hook(
        lambda _, args, out: embedded.append(out.requires_grad_().retain_grad() or out)
    )
    network(noisy(clean), torch.zeros(2), beside(clean))
    halves[0][:, N:].square().sum().backward()
    gradient = embedded[0].grad
    assert gradient is not None
    assert bool((gradient[:, :N] == 0).all())
    assert bool((gradient[:, N:] != 0).any(-1).all())


def test_blocks_of_one_place_are_the_causal_order():
    """A masked place sees the clean ones before it, and of itself only that it is masked."""
    network, clean = stirred(config("block", block_size=1)), text(3, 8)
    x = torch.full_like(clean, MASK)
    base = ask(network, x, beside(clean))
    assert torch.equal(felt(network, x, beside(clean)), torch.eye(8, dtype=torch.bool))
    for i in range(8):
        other = clean.clone()
        other[:, i:] = (other[:, i:] + 1 + torch.arange(8 - i) % 3) % V
        told = ask(network, x, beside(other))
        assert torch.equal(told[:, : i + 1], base[:, : i + 1])
        assert i == 7 or not torch.allclose(told[:, i + 1], base[:, i + 1])


@pytest.mark.parametrize("n", [1, BLOCK - 1, BLOCK])
def test_one_block_is_attention_in_full(n):
    block, full = stirred(config("block")), stirred(config("full"))
    full.load_state_dict(block.state_dict())
    x = noisy(text(3, n))
    torch.testing.assert_close(ask(block, x), ask(full, x), **NEAR)
    torch.testing.assert_close(ask(block, x, beside(text(3, n, seed=9))), ask(full, x), **NEAR)
    wide = padded(x, BLOCK - n)
    torch.testing.assert_close(ask(block, wide)[:, :n], ask(full, x), **NEAR)
    torch.testing.assert_close(ask(full, wide)[:, :n], ask(full, x), **NEAR)


# --------------------------------------------------------------------------------------------- routes that must agree


def naive(network: Transformer, x: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """Each block asked alone, after the tokens before it."""
    parts = []
    for i in range(0, x.shape[1], BLOCK):
        told = after(network, clean[:, :i]) if i else None
        parts.append(ask(network, x[:, i : i + BLOCK], told))
    return torch.cat(parts, 1)


def test_all_blocks_at_once_are_blocks_after_their_text_and_blocks_after_its_cache():
    network, clean = stirred(config("block")), text(3, N)
    x = noisy(clean)
    fused = ask(network, x, beside(clean))
    torch.testing.assert_close(naive(network, x, clean), fused, **NEAR)
    cached, past = [], None
    with torch.no_grad():
        for i in range(0, N, BLOCK):
            told = None if past is None else Condition(cache=past)
            cached.append(ask(network, x[:, i : i + BLOCK], told))
            past = network.cache(clean[:, i : i + BLOCK], past)
            whole = network.cache(clean[:, : i + BLOCK])
            assert torch.equal(past.mask, whole.mask)
            torch.testing.assert_close(past.keys_values, whole.keys_values, **NEAR)
    torch.testing.assert_close(torch.cat(cached, 1), fused, **NEAR)
    assert (ask(network, x[:, BLOCK : 2 * BLOCK]) - fused[:, BLOCK : 2 * BLOCK]).abs().max() > 1e-3  # the past matters


def test_the_keys_of_a_noisy_pass_would_be_wrong():
    """Why a finished block is run once more: what it looked like half masked is not what it says."""
    network, clean = stirred(config("block")), text(3, 2 * BLOCK)
    x = noisy(clean)
    with torch.no_grad():
        told = Condition(cache=network.cache(x[:, :BLOCK]))
    right = ask(network, x, beside(clean))[:, BLOCK:]
    assert (ask(network, x[:, BLOCK:], told) - right).abs().max() > 1e-3


def test_prompts_of_different_lengths_in_one_batch_are_prompts_alone():
    """By one cache, by a cache that grew, and with keys that a mask hides; the empty prompt included."""
    network, lengths = stirred(config("block")), [8, 4, 3, 0]
    prompt, x = text(4, 8), noisy(text(4, BLOCK, seed=5))
    real = torch.arange(8) < torch.tensor(lengths)[:, None]
    alone = []
    for i, n in enumerate(lengths):
        whole = -(-n // BLOCK) * BLOCK
        told = after(network, padded(prompt[i : i + 1, :n], whole - n)) if n else None
        alone.append(ask(network, x[i : i + 1], told))
    alone = torch.cat(alone)
    said = torch.where(real, prompt, PAD)
    torch.testing.assert_close(ask(network, x, after(network, padded(said, BLOCK))), alone, **NEAR)
    scribbled = after(network, prompt)
    scribbled = replace(scribbled, cache=replace(scribbled.cache, mask=real))  # keys of whole blocks
    torch.testing.assert_close(ask(network, x, scribbled)[[0, 1, 3]], alone[[0, 1, 3]], **NEAR)
    with torch.no_grad():
        past = network.cache(said)
        torch.testing.assert_close(ask(network, x, Condition(cache=past)), alone, **NEAR)
        one = network.cache(said[:, :BLOCK])
        torch.testing.assert_close(ask(network, x, Condition(cache=network.cache(said[:, BLOCK:], one))), alone, **NEAR)
        rows = torch.tensor([2, 0])
        torch.testing.assert_close(ask(network, x[rows], Condition(cache=past).select(rows)), alone[rows], **NEAR)


def test_a_row_continues_after_a_prompt_as_it_would_in_one_text():
    """A cache grows by a whole block after a prompt that fills its own."""
    network, clean = stirred(config("block")), text(2, N)
    with torch.no_grad():
        past = network.cache(clean[:, :BLOCK])
        past = network.cache(clean[:, BLOCK : 2 * BLOCK], past)
    x = noisy(clean)
    told = ask(network, x[:, 2 * BLOCK :], Condition(cache=past))
    torch.testing.assert_close(told, ask(network, x, beside(clean))[:, 2 * BLOCK :], **NEAR)


@pytest.mark.parametrize("port", ["clean", "cache"])
def test_the_text_before_a_block_is_no_condition_that_could_be_withheld(port):
    """The unconditional question of guidance, and rows whose class is dropped in training, have a past all the same."""
    network, clean = (
        stirred(config("block", conditioning=ConditioningConfig(classes=3 if port == "clean" else 0))),
        text(4, 2 * BLOCK),
    )
    x, told = noisy(clean), Condition(global_=Port(tensor=torch.tensor([0, 1, 2, 1])))
    if port == "clean":
        told = replace(told, clean=clean)
    else:
        x, told = x[:, BLOCK:], after(network, clean[:, :BLOCK])
    whole, dropped = ask(network, x, told), ask(network, x, told.dropped())
    if port == "clean":
        assert not torch.allclose(whole, dropped)  # the class is withheld
        past = replace(told.dropped(), clean=clean)
        torch.testing.assert_close(dropped, ask(network, x, past), **NEAR)
    else:
        torch.testing.assert_close(dropped, whole, **NEAR)
        assert (whole - ask(network, x)).abs().max() > 1e-3


# ------------------------------------------------------------------------------------------------------ padding, rows


@EVERY
@pytest.mark.parametrize("by", [1, 4, 9])
def test_padding_changes_nothing(attention, by):
    network, clean = stirred(config(attention)), text(3, N)
    x = noisy(clean)
    told = [beside(text_) if attention == "block" else None for text_ in (clean, padded(clean, by))]
    torch.testing.assert_close(ask(network, padded(x, by), told[1])[:, :N], ask(network, x, told[0]), **NEAR)


@EVERY
def test_rows_of_other_lengths_change_nothing(attention):
    """Every length from none to all, mixed in one batch, against each row alone and unpadded; an empty row is finite."""
    network, clean = stirred(config(attention)), text(N + 1, N)
    length = torch.arange(N + 1)
    clean = torch.where(torch.arange(N) < length[:, None], clean, PAD)
    x = noisy(clean)
    together = ask(network, x, beside(clean) if attention == "block" else None)
    assert bool(together.isfinite().all())
    for i in range(1, N + 1):
        told = beside(clean[i : i + 1, :i]) if attention == "block" else None
        torch.testing.assert_close(together[i, :i], ask(network, x[i : i + 1, :i], told)[0], **NEAR)


@pytest.mark.parametrize("timed", [False, True])
@EVERY
def test_gradients_of_rows_with_padding_are_those_of_the_rows_alone(attention, timed):
    network, clean = stirred(config(attention, time_conditioning=timed)), text(4, N)
    length = torch.tensor([N, 5, 1, 8])
    clean = torch.where(torch.arange(N) < length[:, None], clean, PAD)
    x, time = noisy(clean), torch.linspace(-1, 1, 4, dtype=torch.float64)

    def gradients(rows: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> list[torch.Tensor]:
        for parameter in network.parameters():
            parameter.grad = None
        for part, its, t in rows:
            logits = network(part, t, beside(its) if attention == "block" else None)
            logits[part != PAD].square().sum().backward()
        return [p.grad for p in network.parameters() if p.grad is not None]

    alone = gradients(
        [(x[i : i + 1, :n], clean[i : i + 1, :n], time[i : i + 1]) for i, n in enumerate(length.tolist())]
    )
    together = gradients([(x, clean, time)])
    assert len(alone) == len(together) > 20
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-9)


def test_layers_work_on_no_padding():
    network, rows = stirred(config()), []
    network.blocks[0].up.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].numel() // 32))
    ask(network, padded(text(3, 5), 7))
    assert rows == [3 * 5]


@EVERY
def test_a_network_that_is_told_time_and_class_hears_them_row_by_row(attention):
    network = stirred(config(attention, time_conditioning=True, conditioning=ConditioningConfig(classes=3)))
    x = noisy(text(4, BLOCK))
    time, told = (
        torch.linspace(-1, 1, 4, dtype=torch.float64),
        Condition(global_=Port(tensor=torch.tensor([0, 1, 2, 1]))),
    )
    with torch.no_grad():
        whole = network(x, time, told)
        for i in range(4):
            row = slice(i, i + 1)
            torch.testing.assert_close(network(x[row], time[row], told.select(row)), whole[row], **NEAR)
        assert not torch.allclose(network(x, time + 0.5, told), whole)
        assert not torch.allclose(network(x, time, Condition(global_=Port(tensor=torch.tensor([1, 2, 0, 0])))), whole)
        silent = stirred(config(attention))
        assert torch.equal(silent(x, time), silent(x, time + 1))


# ----------------------------------------------------------------------------------------------------------- refusals


@EVERY
@pytest.mark.parametrize("bad", [-1, PAD + 1])
def test_tokens_outside_the_vocabulary_are_refused_by_name(attention, bad):
    network, x = stirred(config(attention)), text(2, BLOCK)
    wrong = x.clone()
    wrong[1, 2] = bad
    with pytest.raises(ValueError, match=r"tokens \(b, n\) in \[0, 8\]"):
        ask(network, wrong)
    if attention == "block":
        if bad != -1:  # which stands for padding in a condition
            with pytest.raises(ValueError, match=r"tokens \(b, n\) in \[0, 8\]"):
                ask(network, x, beside(wrong))
        with pytest.raises(ValueError, match=r"tokens \(b, n\) in \[0, 8\]"):
            network.cache(wrong)


@pytest.mark.parametrize("bad", [torch.zeros(2, BLOCK), torch.zeros(BLOCK, dtype=torch.int64)])
def test_what_is_not_a_batch_of_tokens_is_refused(bad):
    with pytest.raises(ValueError, match="reads tokens"):
        ask(stirred(config()), bad)


def test_what_a_block_network_cannot_do_is_said():
    network, x = stirred(config("block")), text(2, N)
    with pytest.raises(
        ValueError, match=r"12 positions are more than one block of 4.*condition.clean.*condition.cache"
    ):
        ask(network, x)
    with pytest.raises(ValueError, match="more than one block"):
        ask(network, x, after(network, x))
    with pytest.raises(ValueError, match=r"\(2, 12\) noisy positions .* got \(2, 8\)"):
        ask(network, x, beside(x[:, :8]))
    with pytest.raises(ValueError, match="blocks of 4 do not cut 6 tokens"):
        network.cache(x[:, :6])


def test_a_cache_of_another_network_or_batch_and_a_second_past_are_refused():
    network, clean = stirred(config("block")), text(2, BLOCK)
    cache, x = network.cache(clean), noisy(clean)
    others = [
        cache.map(lambda tensor: tensor[:1]),
        replace(cache, keys_values=cache.keys_values[:, :, :1]),
        replace(cache, keys_values=cache.keys_values[..., :8]),
        replace(cache, mask=cache.mask[:, :2]),
        replace(cache, mask=cache.mask.float()),
    ]
    for other in others:
        with pytest.raises(
            ValueError, match=r"condition.cache holds keys and values \(2, n, 2, 2, 32\) and a bool mask"
        ):
            ask(network, x, Condition(cache=other))
        with pytest.raises(ValueError, match=r"condition.cache holds"):
            network.cache(clean, other)
    with pytest.raises(ValueError, match=r"condition.clean or condition.cache, and both"):
        ask(network, x, Condition(cache=cache, clean=clean))


@pytest.mark.parametrize("made", [config("full"), config("causal"), config("block", time_conditioning=True),
                                  config("block", conditioning=ConditioningConfig(classes=2))])  # fmt: skip
def test_networks_that_have_no_cache_say_so(made):
    with pytest.raises(ValueError, match="a cache is of a network with"):
        made.build().cache(text(1, BLOCK))


@pytest.mark.parametrize("options", [{"width": 0}, {"depth": 0}, {"block_size": 0}, {"width": 20}, {"head_dim": 1},
                                     {"dropout": 1.0}, {"mlp_ratio": 0.0},
                                     {"ngram_window": -1}, {"ngram_window": 65}])  # fmt: skip
def test_sizes_that_no_network_can_have_are_refused(options):
    with pytest.raises(ValueError, match=r"transformer|network"):
        config(**options)


def test_a_vocabulary_that_nobody_named_is_asked_for():
    with pytest.raises(ValueError, match="vocabulary"):
        replace(config(), vocab_size=None).build()


# ----------------------------------------------------------------------------------------------------------- learning


@EVERY
def test_a_fresh_network_reads_one_token_at_a_place(attention):
    """Its blocks add nothing yet: equal tokens have equal logits, whatever is around them."""
    torch.manual_seed(0)
    network = config(attention).build().double()
    x = noisy(text(6, BLOCK))
    logits = ask(network, x)
    read = torch.cat([torch.full_like(x[:, :1], MASK), x[:, :-1]], 1) if attention == "causal" else x
    for token in read.unique():
        same = logits[read == token]
        torch.testing.assert_close(same, same[:1].expand_as(same), **NEAR)
    assert len(logits.flatten(0, 1).unique(dim=0)) == len(read.unique()) > 2


def toy(attention: str) -> tuple[torch.Tensor, torch.Tensor, Condition | None]:
    """(masked text, the text, what else is told): the second half repeats the first."""
    half = text(64, N // 2)
    clean = torch.cat([half, half], 1)
    x = noisy(clean) if attention != "causal" else clean
    return x, clean, beside(clean) if attention == "block" else None


def loss_of(network: Transformer, attention: str) -> torch.Tensor:
    x, clean, told = toy(attention)
    logits = network(x, torch.linspace(-1, 1, len(x)), told)
    error = torch.nn.functional.cross_entropy(logits.transpose(1, 2), clean, reduction="none")
    return error.mean() if attention == "causal" else error[x == MASK].mean()


@EVERY
@pytest.mark.parametrize("timed", [False, True])
def test_gradients_reach_every_parameter(attention, timed):
    torch.manual_seed(0)
    network = config(attention, time_conditioning=timed).build()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):  # the last layers of the blocks first, then what is behind them
        optimizer.zero_grad()
        loss_of(network, attention).backward()
        optimizer.step()
    assert [n for n, p in network.named_parameters() if p.grad is None or not bool((p.grad != 0).any())] == []


@EVERY
def test_it_learns(attention):
    """Two steps lower the loss, and some more go below what any law of single symbols can."""
    torch.manual_seed(0)
    network = config(attention).build()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(80):
        optimizer.zero_grad()
        loss = loss_of(network, attention)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[0]
    assert losses[-1] < 0.8 * float(torch.tensor(float(V)).log())


@EVERY
def test_bf16_is_near_float32(attention):
    network = stirred(config(attention)).float()
    x, clean = noisy(text(3, N)), text(3, N)
    told = beside(clean) if attention == "block" else None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        roughly = ask(network, x, told).float()
    exactly = ask(network, x, told)
    assert float((roughly - exactly).norm()) < 0.1 * float(exactly.norm())


@pytest.mark.parametrize(
    ("attention", "timed"), [("full", False), ("full", True), ("block", False), ("causal", False), ("causal", True)]
)
def test_places_asked_alone_are_answered_alike_with_the_same_gradients(attention, timed):
    network, clean = stirred(config(attention, time_conditioning=timed)), text(3, N)
    clean[0, -2:] = PAD
    x, told = noisy(clean), beside(clean) if attention == "block" else None
    at, times = x == MASK, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    found = []
    for some in (network(x, times, told)[at], network(x, times, told, at=at)):
        network.zero_grad()
        some.log_softmax(-1)[:, 1].sum().backward()
        found.append([some.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)])
    assert found[0][0].shape == (int(at.sum()), V)
    for whole, part in zip(*found, strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-9, atol=1e-11)


# ------------------------------------------------------------------------------------------------- sampling with it


@EVERY
def test_samples_alone_are_samples_in_a_batch_with_padding(attention):
    """Through the whole stack: network, denoiser and sampler, rows of other lengths; block by block where it is so."""
    network, process = stirred(config(attention)), Masked(vocab_size=V)
    denoiser = (
        CausalDenoiser(network=network) if attention == "causal" else TokenDenoiser(network=network, process=process)
    )
    tool = AncestralUnmask(order="left_to_right" if attention == "causal" else "step")
    n = BLOCK
    x = torch.full((n, n), MASK)
    x = torch.where(torch.arange(n) <= torch.arange(n)[:, None], x, PAD)
    x[2, 0] = 5
    with torch.no_grad():
        past = Condition(cache=network.cache(text(n, 2 * BLOCK))) if attention == "block" else None
    times = UniformTimeGrid()(torch.tensor([6]), Rectified())

    def written(rows: torch.Tensor, width: int) -> torch.Tensor:
        begin = x[rows, :width]
        state = start(tool, process, begin, times.expand(len(rows), -1), rows, x=begin)
        for told in sample(tool, process, denoiser, state, None if past is None else past.select(rows)):
            state = told
        return state.x

    together = written(torch.arange(n), n)
    assert bool((together[x == MASK] < V).all())
    assert int(together[2, 0]) == 5
    for i in range(n):
        assert torch.equal(written(torch.tensor([i]), i + 1)[0], together[i, : i + 1])


def test_what_a_causal_network_says_left_to_right_has_the_likelihood_it_gives():
    """Drawn rows, against the enumerated product of its conditionals."""
    torch.manual_seed(3)
    network = replace(config("causal"), vocab_size=3).build().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    words = torch.cartesian_prod(*[torch.arange(3)] * 3)
    p = ask(network, words).log_softmax(-1).gather(-1, words[..., None])[..., 0].sum(1).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    process, rows = Masked(vocab_size=3), 6000
    tool = AncestralUnmask(order="left_to_right")
    like = torch.zeros(rows, 3, dtype=torch.int64)
    state = start(
        tool, process, like, torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(rows, -1), torch.arange(rows)
    )
    for told in sample(tool, process, CausalDenoiser(network=network), state):
        state = told
    assert follows(state.x @ torch.tensor([9, 3, 1]), p)
    uniform = torch.full((27,), 1 / 27, dtype=torch.float64)
    assert not follows(state.x @ torch.tensor([9, 3, 1]), uniform)
