"""Networks over columns: what is read of each column, what is predicted of it, and what is refused."""

import pytest
import torch

from langevin.modalities.modality import Needs
from langevin.networks import ColumnMLP, ColumnTransformer
from langevin.networks.embedding import ConditioningConfig

CHOICES = (2, 5, 3)
SIZES = {"numbers": {"numbers": 4}, "tokens": {"tokens": CHOICES}}
CONFIGS = {
    "mlp": ColumnMLP.Config(width=16, depth=2, **SIZES),
    "transformer": ColumnTransformer.Config(width=16, depth=2, head_dim=8, **SIZES),
    "mlp of numbers": ColumnMLP.Config(width=16, depth=2, numbers={"numbers": 4}),
    "mlp of tokens": ColumnMLP.Config(width=16, depth=2, tokens={"tokens": CHOICES}),
    "transformer of numbers": ColumnTransformer.Config(width=16, depth=2, head_dim=8, numbers={"numbers": 4}),
    "transformer of tokens": ColumnTransformer.Config(width=16, depth=2, head_dim=8, tokens={"tokens": CHOICES}),
}
EACH = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def stirred(config):
    torch.manual_seed(1)
    network = config.build().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def inputs(config, count=3):
    generator = torch.Generator().manual_seed(0)
    x, c_time = {}, {}
    if config.numbers:
        x["numbers"] = torch.randn(count, 4, generator=generator)
        c_time["numbers"] = torch.rand(count, 4, generator=generator) - 1
    if config.tokens:
        x["tokens"] = torch.stack([torch.randint(0, n, (count,), generator=generator) for n in CHOICES], 1)
        x["tokens"][:, 1] = max(CHOICES)  # the mask
        c_time["tokens"] = torch.zeros(count, 3)
    return x, c_time


@EACH
def test_there_is_a_prediction_for_every_column_and_none_of_a_token_that_it_has_not(config):
    found = config.build()(*inputs(config))
    if config.numbers:
        assert torch.equal(found["numbers"], torch.zeros(3, 4))  # a fresh network says zero
    if config.tokens:
        assert found["tokens"].shape == (3, 3, 5)
        for column, count in enumerate(CHOICES):
            assert bool((found["tokens"][:, column, :count] == 0).all())
            assert bool((found["tokens"][:, column, count:] == -torch.inf).all())


@EACH
def test_every_column_and_every_level_matters_and_samples_do_not_mix(config):
    network, (x, c_time) = stirred(config), inputs(config)
    with torch.no_grad():
        whole = network(x, c_time)
        alone = network({n: p[1:2] for n, p in x.items()}, {n: p[1:2] for n, p in c_time.items()})
        for name, part in whole.items():
            assert torch.allclose(part[1:2], alone[name], atol=1e-5)
        for part in x:
            for column in range(x[part].shape[1]):
                changed = {n: p.clone() for n, p in x.items()}
                changed[part][0, column] = (changed[part][0, column] + 1) % 2
                other = network(changed, c_time)
                assert all(not torch.allclose(other[n][0], whole[n][0]) for n in whole)
                assert all(torch.allclose(other[n][1:], whole[n][1:], atol=1e-5) for n in whole)
        if "numbers" in x:
            levels = dict(c_time) | {"numbers": c_time["numbers"] + torch.tensor([0.0, 0.0, 0.5, 0.0])}
            assert all(not torch.allclose(network(x, levels)[n], whole[n]) for n in whole)
            shared = dict(c_time) | {"numbers": torch.full((3,), -0.3)}
            assert set(network(x, shared)) == set(whole)  # one level for all


@EACH
def test_gradients_reach_every_parameter_after_some_steps(config):
    torch.manual_seed(0)
    network, (x, c_time) = config.build(), inputs(config)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    target = torch.tensor([[0, 3, 1]] * 3)
    for _ in range(6):
        found = network(x, c_time)
        loss = sum(
            (part - 1).square().mean() if name == "numbers" else torch.nn.functional.cross_entropy(part.mT, target)
            for name, part in found.items()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name


@pytest.mark.parametrize("kind", [ColumnMLP, ColumnTransformer])
def test_sizes_are_taken_from_the_parts_of_the_data(kind):
    needs = Needs(
        processes=("product",),
        parts={
            "numbers": Needs(processes=("gaussian",), channels=4, std=1.0),
            "tokens": Needs(processes=("masked",), tokens=5, space=(3,), choices=CHOICES),
            "words": Needs(processes=("masked",), tokens=7, space=(2,)),
        },
    )
    assert needs.reads == kind.Config.reads == "parts"
    config = kind.Config().fitted(needs)
    assert config.numbers == {"numbers": 4}
    assert config.tokens == {"tokens": CHOICES, "words": (7, 7)}
    assert config.positions == {"numbers": 4, "tokens": 3, "words": 2}


@pytest.mark.parametrize("kind", [ColumnMLP, ColumnTransformer])
@pytest.mark.parametrize("values", [
    {"width": 0}, {"depth": 0}, {"dropout": 1.0}, {"numbers": {"a": 0}}, {"tokens": {"a": ()}}, {"tokens": {"a": (0,)}},
    {"conditioning": ConditioningConfig(classes=2)},
])  # fmt: skip
def test_sizes_that_no_network_can_have_are_refused(kind, values):
    with pytest.raises(ValueError, match=r"network|positive"):
        kind.Config(**values)


def test_what_does_not_fit_the_network_is_refused():
    with pytest.raises(ValueError, match=r"multiple of network\.head_dim"):
        ColumnTransformer.Config(width=40, head_dim=32)
    for kind in (ColumnMLP, ColumnTransformer):
        with pytest.raises(ValueError, match="before it is built"):
            kind.Config().build()
        network = kind.Config(width=32, depth=1, **SIZES).build()
        x, c_time = inputs(CONFIGS["mlp"])
        with pytest.raises(ValueError, match=r"has 4 numbers, got shape \(3, 2\)"):
            network(x | {"numbers": x["numbers"][:, :2]}, c_time)
        with pytest.raises(ValueError, match=r"has 3 tokens, got shape \(3, 1\)"):
            network(x | {"tokens": x["tokens"][:, :1]}, c_time)
