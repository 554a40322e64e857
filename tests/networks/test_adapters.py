"""Adapters: the base to the bit until they are trained, the formulas of their papers, and a plain network when merged."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from langevin.diffusion.condition import Condition, Port
from langevin.networks import ColumnTransformer, Transformer
from langevin.networks.adapters import (
    Adapter,
    LowRank,
    adapt,
    capped,
    count_of,
    merge,
    output_norms,
    rank_within,
    take,
    weights_of,
)
from langevin.networks.embedding import ConditioningConfig
from tests.networks.test_networks import ALL, EVERY, asked, stirred

KINDS = ("lora", "dora", "head", "full")
LOW_RANK = pytest.mark.parametrize("kind", ["lora", "dora"])


def section(kind, rank=2, **options):
    return Adapter(kind=kind, rank=rank if kind in ("lora", "dora") else None, path="base", **options)


def moved(network, seed=1):
    """The network with its trained weights moved at random."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


@ALL
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_the_base_to_the_bit_then_changes_it_and_merges_without_a_trace(config, shape, kind):
    network = stirred(config)
    before, asking = copy.deepcopy(network), asked(3, shape)
    with torch.no_grad():
        adapt(network, section(kind), seed=0)
        assert torch.equal(network(*asking), before(*asking))
        live = moved(network)(*asking)
        assert not torch.equal(live, before(*asking))
        merge(network)
        assert torch.equal(network(*asking), live)
    names = {name: p.shape for name, p in before.named_parameters()}
    assert {name: p.shape for name, p in network.named_parameters()} == names
    assert all(parameter.requires_grad for parameter in network.parameters())


@LOW_RANK
def test_low_rank_trains_its_own_weights_alone_and_as_many_as_it_says(kind):
    for config, shape in EVERY.values():
        network = stirred(config)
        shapes = [weight.shape for _, _, weight in weights_of(network)]
        adapt(network, section(kind), seed=0)
        trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
        assert sum(p.numel() for p in trained.values()) == count_of(shapes, 2, kind)
        network(*asked(3, shape)).square().mean().backward()
        assert all((p.grad is not None) <= (name in trained) for name, p in network.named_parameters())
        assert any(p.grad.any() for name, p in trained.items() if name.endswith(".b") and p.grad is not None)


def test_layers_become_what_the_papers_say():
    torch.manual_seed(3)
    layers = (nn.Linear(12, 7), nn.Conv2d(5, 8, 3), nn.Conv1d(6, 6, 5, groups=6), nn.Embedding(9, 11))
    for layer in layers:
        base = layer.weight.detach().clone()
        for kind in ("lora", "dora"):
            one = copy.deepcopy(layer)
            adapt(one, section(kind), seed=4)
            factors = one.parametrizations.weight[0]
            with torch.no_grad():
                factors.b.normal_()
                if kind == "dora":
                    factors.magnitude.uniform_(0.5, 2)
            r = len(factors.a)
            v = base.flatten(1) + 8 * factors.b @ factors.a / (r * base[0].numel()) ** 0.5
            expected = v if kind == "lora" else factors.magnitude[:, None] * v / v.norm(dim=1, keepdim=True)
            torch.testing.assert_close(one.weight.flatten(1), expected)
            if kind == "lora":
                assert torch.linalg.matrix_rank(one.weight.flatten(1) - base.flatten(1)) <= r


def test_the_norm_of_dora_has_no_gradient():
    factors = LowRank(torch.Size((4, 6)), 2, torch.ones(4))
    weight = torch.randn(4, 6)
    with torch.no_grad():
        factors.b.normal_()
    factors(weight).sum().backward()
    v = weight + 8 * factors.b.detach() @ factors.a.detach() / 12**0.5
    row = (factors.magnitude.detach() / v.norm(dim=1))[:, None].expand(4, 6)  # of the sum, where the norm is a constant
    torch.testing.assert_close(factors.b.grad, 8 * row @ factors.a.detach().T / 12**0.5)


def test_a_row_of_zeros_stays_finite_in_dora():
    layer = nn.Embedding(4, 6)
    with torch.no_grad():
        layer.weight[1] = 0
    adapt(layer, section("dora"), seed=0)
    assert layer.weight.isfinite().all()
    layer.weight.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters() if p.grad is not None)


@LOW_RANK
def test_rank_0_leaves_the_base_and_is_refused_where_nothing_else_is_trained(kind):
    config, shape = EVERY["unet 2d"]
    network = stirred(config)
    before, asking = copy.deepcopy(network), asked(2, shape)
    with pytest.raises(ValueError, match=r"adapter.rank=0 leaves nothing of this network to train"):
        adapt(network, section(kind, rank=0), seed=0)
    assert torch.equal(network(*asking), before(*asking))


def test_ranks_are_capped_where_factors_would_not_save_weights():
    assert capped(8, torch.Size((64, 64))) == 8
    for shape in ((1, 50), (2, 2), (3, 4), (64, 9), (5, 3, 3, 3)):
        size, (rows, columns) = torch.Size(shape), (shape[0], torch.Size(shape[1:]).numel())
        rank = capped(10**6, size)
        assert rank * (rows + columns) < rows * columns
        assert (rank + 1) * (rows + columns) >= rows * columns


@LOW_RANK
def test_the_rank_is_the_largest_within_the_budget_by_enumeration(kind):
    shapes = [torch.Size(s) for s in ((64, 32), (16, 8, 3, 3), (7, 20), (300, 12))]
    least = count_of(shapes, 1, kind)
    for most in (least, 2 * least, 3 * least + 5, 10**7):
        rank = rank_within(shapes, most, kind)
        fitting = [r for r in range(1, 60) if count_of(shapes, r, kind) <= most]
        assert count_of(shapes, rank, kind) == count_of(shapes, max(fitting), kind)
    with pytest.raises(ValueError, match=r"rank 1 takes [\d,]+ weights, and adapter.share allows"):
        rank_within(shapes, least - 1, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_new_classes_are_no_class_at_first_and_old_ones_stay(kind):
    config, shape = EVERY["dit 2d"]
    base = stirred(config)
    wide = replace(config, conditioning=replace(config.conditioning, classes=5)).build()
    take(wide, {name: p.detach() for name, p in base.named_parameters()})
    adapt(wide, section(kind), seed=0)
    x, c_time, condition = asked(5, shape)
    none = replace(
        condition, global_=Port(tensor=torch.zeros(5, dtype=torch.int64), keep=torch.zeros(5, dtype=torch.bool))
    )
    new = replace(condition, global_=Port(tensor=torch.tensor([3, 4, 3, 4, 3])))
    old = replace(condition, global_=Port(tensor=torch.tensor([0, 1, 2, 1, 0])))
    with torch.no_grad():
        assert torch.equal(wide(x, c_time, old), base(x, c_time, old))
        assert torch.equal(wide(x, c_time, none), base(x, c_time, none))
        torch.testing.assert_close(wide(x, c_time, new), base(x, c_time, none))
    assert any(p.requires_grad for name, p in wide.named_parameters() if name.endswith("rows"))


def test_rank_0_trains_the_rows_of_new_classes_alone():
    config, shape = EVERY["dit 2d"]
    base = stirred(config)
    wide = replace(config, conditioning=replace(config.conditioning, classes=4)).build()
    take(wide, {name: p.detach() for name, p in base.named_parameters()})
    adapt(wide, section("lora", rank=0), seed=0)
    assert [name for name, p in wide.named_parameters() if p.requires_grad] == [
        "encoder.class_embedding.parametrizations.weight.0.rows"
    ]
    x, c_time, old = asked(3, shape)
    with torch.no_grad():
        assert torch.equal(moved(wide)(x, c_time, old), base(x, c_time, old))


def test_weights_of_another_network_are_refused():
    config, _ = EVERY["dit 2d"]
    weights = {name: p.detach() for name, p in stirred(config).named_parameters()}
    with pytest.raises(ValueError, match=r"the base has another network: '.*' is missing there, or of another shape"):
        take(replace(config, width=48, head_dim=24).build(), weights)
    fewer = replace(config, conditioning=replace(config.conditioning, classes=2)).build()
    with pytest.raises(ValueError, match=r"class_embedding\.weight' is missing there, or of another shape"):
        take(fewer, weights)


def test_tied_tables_and_weights_that_are_no_layer_are_adapted_where_they_are_read():
    config = Transformer.Config(
        width=16, depth=1, head_dim=8, vocab_size=12, ngram_window=1, conditioning=ConditioningConfig(classes=2)
    )
    network, tokens = stirred(config), torch.randint(0, 12, (2, 6))
    condition, before = Condition(global_=Port(tensor=torch.tensor([0, 1]))), copy.deepcopy(network)
    adapt(network, section("lora"), seed=0)
    with torch.no_grad():
        assert torch.equal(network(tokens, torch.rand(2), condition), before(tokens, torch.rand(2), condition))
        table = network.token_embedding.parametrizations.weight[0]
        table.b.fill_(0.1)
        c_time = torch.rand(2)
        changed = network(tokens, c_time, condition)
        before.token_embedding.weight.add_(0.8 * table.a.sum(0) / table.a.numel() ** 0.5)
        torch.testing.assert_close(changed, before(tokens, c_time, condition))  # read as input and as output
    columns = ColumnTransformer.Config(width=16, depth=1, head_dim=8, numbers={"a": 2}, tokens={"b": (3, 4)}).build()
    adapt(columns, section("lora"), seed=0)
    assert any("number_in.parametrizations" in name for name, _ in columns.named_parameters())
    merge(moved(columns))
    assert not any("parametrizations" in name for name, _ in columns.named_parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "head", "rank": 3}, "adapter.rank is of kind lora and dora, and this is head"),
        ({"rank": -1}, "adapter.rank is 0 to 4096, got -1"),
        ({"rank": 5000}, "adapter.rank is 0 to 4096, got 5000"),
        ({"share": 0.0}, "adapter.share is a fraction of the network's weights"),
        ({"share": 1.5}, "adapter.share is a fraction of the network's weights"),
    ],
)
def test_sections_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Adapter(path="base", **options)


def test_norms_are_of_rows():
    weight = torch.randn(3, 4, 2)
    torch.testing.assert_close(output_norms(weight), weight.reshape(3, 8).norm(dim=1))
