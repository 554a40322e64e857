"""Muon against a plain restatement, where parameters go, states that come back, and the learning rate over a run."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from langevin.methods import AdamW, Muon, Player
from langevin.networks import MLP, DiT, UNet
from langevin.networks.embedding import ConditioningConfig
from langevin.training.optimizer import (
    LRSchedule,
    MuonOptimizer,
    Optimizers,
    orthogonalise,
)

TEXT = ConditioningConfig(classes=3, vocabulary=7, length=4)
CONFIGS = {
    "dit": DiT.Config(width=32, depth=1, head_dim=16, patch=2, channels=1, conditioning=TEXT),
    "unet": UNet.Config(
        width=8, channel_mult=(1, 2), blocks=1, attention=(1,), head_dim=8, channels=1, conditioning=TEXT
    ),
    "mlp": MLP.Config(width=16, depth=2, channels=5, conditioning=replace(TEXT, text="pooled")),
}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8), (1, 5), (5, 1)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_orthogonalised_matrices_have_singular_values_near_one(shape, scale):
    values = torch.linalg.svdvals(orthogonalise(scale * normal(*shape)))
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3


def test_orthogonalising_keeps_the_singular_vectors():
    g = normal(12, 20).double()
    u, _, vh = torch.linalg.svd(g, full_matrices=False)
    inside = u.T @ orthogonalise(g) @ vh.T  # diagonal if and only if the vectors are the same
    off = inside - inside.diagonal().diag()
    assert float(off.abs().max()) < 1e-6
    assert (inside.diagonal() > 0.6).all()


@pytest.mark.parametrize("shape", [(24, 24), (10, 40), (40, 10)])
def test_matrices_that_go_together_go_as_they_would_alone_and_bf16_is_near(shape):
    g = normal(3, *shape)
    alone = torch.stack([orthogonalise(one) for one in g])
    torch.testing.assert_close(orthogonalise(g), alone, rtol=1e-4, atol=1e-5)
    rough = orthogonalise(g, dtype=torch.bfloat16)
    assert rough.dtype == torch.float32
    # a small singular value may end elsewhere in [0.7, 1.2]; the direction is the same
    assert torch.cosine_similarity(rough.flatten(1), alone.flatten(1)).min() > 0.98


def test_orthogonalising_zero_is_zero():
    assert orthogonalise(torch.zeros(4, 3)).abs().max() == 0


def restated_muon(p, grads, config):
    """Muon with the exact U V^T of the Newton-Schulz polynomial applied to singular values."""
    momentum = torch.zeros_like(p)
    for g in grads:
        momentum = config.momentum * momentum + g
        update = (g + config.momentum * momentum).flatten(1)
        u, s, vh = torch.linalg.svd(update, full_matrices=False)
        s = s / s.square().sum().sqrt()
        for _ in range(5):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        step = (u * s) @ vh * max(1.0, update.shape[0] / update.shape[1]) ** 0.5
        p = p * (1 - config.lr * config.weight_decay) - config.lr * step.view_as(p)
    return p


@pytest.mark.parametrize("shape", [(6, 6), (10, 4), (4, 10), (8, 3, 3, 3)])
def test_muon_equals_its_plain_restatement(shape):
    config = Muon(lr=0.03, momentum=0.9, weight_decay=0.1)
    p = nn.Parameter(normal(*shape).double())
    grads = [normal(*shape, seed=i).double() for i in range(1, 5)]
    expected = restated_muon(p.detach().clone(), grads, config)
    optimizer = MuonOptimizer({"p": p}, config)
    for g in grads:
        p.grad = g.clone()
        optimizer.step()
    torch.testing.assert_close(p.detach(), expected, rtol=1e-6, atol=1e-6)


def test_adamw_equals_its_plain_restatement():
    config = AdamW(lr=0.01, betas=(0.8, 0.95), weight_decay=0.1)
    layer = nn.ModuleDict({"network": nn.Linear(3, 2)})
    mine = Optimizers(Player(module=layer), config)
    expected = {n: p.detach().double() for n, p in layer.named_parameters()}
    m = {n: torch.zeros_like(p) for n, p in expected.items()}
    v = {n: torch.zeros_like(p) for n, p in expected.items()}
    for step in range(1, 6):
        for i, (n, p) in enumerate(layer.named_parameters()):
            p.grad = normal(*p.shape, seed=10 * step + i)
            g = p.grad.double()
            m[n], v[n] = 0.8 * m[n] + 0.2 * g, 0.95 * v[n] + 0.05 * g * g
            move = (m[n] / (1 - 0.8**step)) / ((v[n] / (1 - 0.95**step)).sqrt() + 1e-8)
            expected[n] = expected[n] * (1 - 0.5 * 0.01 * 0.1) - 0.5 * 0.01 * move
        mine.step(0.5)
    for n, p in layer.named_parameters():
        torch.testing.assert_close(p.detach().double(), expected[n], rtol=1e-5, atol=1e-6)


def optimizers_of(player, config):
    return Optimizers(Player(module=player, non_hidden=player["network"].non_hidden), config)


def routes(name):
    """(parameters, names that Muon has, names that AdamW has)."""
    player = nn.ModuleDict({"network": CONFIGS[name].build()})
    optimizers = optimizers_of(player, Muon())
    by_id = {id(p): n for n, p in player.named_parameters()}
    adamw, muon = ([by_id[id(p)] for g in o.param_groups for p in g["params"]] for o in optimizers.all)
    return dict(player.named_parameters()), muon, adamw


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_has_exactly_one_optimizer(name):
    parameters, muon, adamw = routes(name)
    assert sorted([*muon, *adamw]) == sorted(parameters)


@pytest.mark.parametrize("name", CONFIGS)
def test_muon_has_hidden_matrices_and_adamw_vectors_and_edges(name):
    parameters, muon, adamw = routes(name)
    assert all(parameters[n].ndim >= 2 for n in muon)
    ends = {"dit": ("patch_embedding", "proj_out"), "unet": ("conv_in", "conv_out"), "mlp": ("proj_in", "proj_out")}[
        name
    ]
    for start in (*ends, "time_embedding", "encoder"):
        mine = [n for n in parameters if n.startswith(f"network.{start}")]
        assert mine
        assert set(mine) <= set(adamw)
    hidden = {"dit": "network.blocks.0.attention.qkv.weight", "mlp": "network.blocks.0.layers.0.weight",
              "unet": "network.down.0.blocks.0.conv_1.weight"}[name]  # fmt: skip
    assert hidden in muon


def test_convolutions_are_moved_as_matrices_of_outputs_by_the_rest():
    parameters, muon, _ = routes("unet")
    assert any(parameters[n].ndim == 4 for n in muon)


def test_adamw_alone_has_everything():
    player = nn.ModuleDict({"network": CONFIGS["mlp"].build()})
    optimizers = optimizers_of(player, AdamW())
    assert len(optimizers.all) == 1
    assert len(optimizers.all[0].param_groups[0]["params"]) == len(list(player.parameters()))


@pytest.mark.parametrize("config", [AdamW(lr=0.01), Muon(lr=0.02)], ids=["adamw", "muon"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["rows", "channels_last"])
def test_a_state_that_was_saved_and_loaded_goes_on_the_same(config, layout):
    def fresh():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1))
        player = nn.ModuleDict({"network": net}).to(memory_format=layout)
        return player, Optimizers(Player(module=player, non_hidden=("1",)), config)

    def go(player, optimizers, steps):
        for step in steps:
            x = normal(4, 3, 6, 6, seed=step).contiguous(memory_format=layout)
            player.zero_grad()
            player["network"](x).square().mean().backward()
            optimizers.step(1.0)

    straight, whole = fresh()
    go(straight, whole, range(6))
    player, before = fresh()
    go(player, before, range(3))
    saved = {n: t.detach().clone(memory_format=torch.contiguous_format) for n, t in before.tensors().items()}
    weights = {n: p.detach().clone() for n, p in player.named_parameters()}
    other, after = fresh()
    go(other, after, range(7, 9))  # it had a state of its own, which must be gone
    with torch.no_grad():
        for n, p in other.named_parameters():
            p.copy_(weights[n])
    after.load(saved)
    assert after.tensors().keys() == saved.keys()
    go(other, after, range(3, 6))
    for n, p in straight.named_parameters():
        assert torch.equal(p, dict(other.named_parameters())[n]), n


@pytest.mark.parametrize("total", [1, 2, 10, 1000])
@pytest.mark.parametrize(
    "schedule",
    [LRSchedule(), LRSchedule(warmup=0.0), LRSchedule(cooldown=0.0), LRSchedule(warmup=0.4, cooldown=0.6)],
    ids=["default", "no warm-up", "no cool-down", "no plateau"],
)
def test_learning_rates_are_positive_and_at_most_one_over_any_run(schedule, total):
    factors = [schedule(step, total) for step in range(total)]
    assert all(0 < f <= 1 for f in factors)


def test_learning_rates_rise_stay_and_fall():
    schedule = LRSchedule(warmup=0.1, cooldown=0.25, final_lr_factor=0.02)
    factors = [schedule(step, 200) for step in range(200)]
    assert factors[:20] == pytest.approx([(i + 1) / 20 for i in range(20)])
    assert factors[20:151] == [1.0] * 131
    assert all(a > b for a, b in pairwise(factors[151:]))
    assert factors[0] == pytest.approx(1 / 20)
    assert factors[-1] == pytest.approx(0.02 + 0.98 / 50)


@pytest.mark.parametrize("values", [
    {"warmup": -0.1}, {"cooldown": 0.99, "warmup": 0.1}, {"final_lr_factor": -1.0}, {"warmup": float("nan")},
    {"cooldown": float("nan")}, {"final_lr_factor": float("nan")}, {"final_lr_factor": 1.5},
])  # fmt: skip
def test_a_learning_rate_that_is_no_fraction_of_the_run_is_refused(values):
    with pytest.raises(ValueError, match="fractions"):
        LRSchedule(**values)


@pytest.mark.parametrize("values", [{"lr": 0.0}, {"lr": float("nan")}, {"lr": 1e9}, {"weight_decay": -1.0}])
@pytest.mark.parametrize("kind", [AdamW, Muon])
def test_learning_rates_and_decays_out_of_range_are_refused(kind, values):
    with pytest.raises(ValueError, match="learning rate"):
        kind(**values)


@pytest.mark.parametrize(("kind", "values"), [
    (Muon, {"momentum": 1.0}), (Muon, {"momentum": -0.1}), (Muon, {"momentum": float("nan")}),
    (AdamW, {"betas": (1.0, 0.9)}), (AdamW, {"betas": (0.9, -0.1)}),
])  # fmt: skip
def test_averages_of_gradients_that_never_forget_are_refused(kind, values):
    with pytest.raises(ValueError, match="below 1"):
        kind(**values)


@pytest.mark.parametrize(("was", "now"), [(Muon(), AdamW()), (AdamW(), Muon())])
def test_the_state_of_another_optimizer_is_refused(was, now):
    player = nn.ModuleDict({"network": nn.Linear(4, 3)})
    before, after = (Optimizers(Player(module=player), config) for config in (was, now))
    player["network"](normal(2, 4)).sum().backward()
    before.step(1.0)
    with pytest.raises(ValueError, match=r"another optimizer: .*set training.optimizer back"):
        after.load(before.tensors())


def test_tables_of_vectors_go_at_a_rate_of_their_own():
    """AdamW's first step is the rate times the gradient's sign, so the rate can be read off it."""
    torch.manual_seed(0)
    player = torch.nn.ModuleDict({"network": CONFIGS["dit"].build()})
    config = Muon(adamw_lr=0.002, embedding_lr=0.04)
    made = optimizers_of(player, config)
    before = {name: p.detach().clone() for name, p in player.named_parameters()}
    for p in player.parameters():
        p.grad = torch.ones_like(p)
    made.step(0.5)
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in player.named_parameters()}
    tables = {f"network.encoder.{name}.weight" for name in ("token_embedding", "class_embedding")}
    assert all(moved[name] == pytest.approx(0.02, rel=1e-4) for name in tables)
    assert moved["network.proj_out.bias"] == pytest.approx(0.001, rel=1e-4)
    tensors = made.tensors()
    again = optimizers_of(player, config)
    again.load(tensors)
    assert {name: value.tolist() for name, value in again.tensors().items()} == {
        name: value.tolist() for name, value in tensors.items()
    }
