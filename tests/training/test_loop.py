"""A step is a pure function of (weights, state, step): stopping, resuming and splitting change nothing."""

import math
from dataclasses import dataclass, replace

import pytest
import torch

from langevin.methods import Report
from langevin.training.checkpoint import load, save
from langevin.training.distributed import World
from langevin.training.loop import Diverged, TrainingConfig, _gradients
from tests import tiny


@dataclass
class Spoiled:
    """A method whose loss is not a number at some steps, or whose gradient alone is not."""

    inner: object
    read: object
    steps: set
    gradient_only: bool = False

    def __post_init__(self):
        self.players, self.generator = self.inner.players, self.inner.generator
        self.now = None

    def batches(self, step, rows, draw):
        self.now = step
        return self.read(step, rows, draw)

    def loss(self, player, batch, draw):
        report = self.inner.loss(player, batch, draw)
        if self.now not in self.steps:
            return report
        if not self.gradient_only:
            return Report(loss=report.loss * math.nan, plain=report.plain * math.nan)
        zero = sum(p.sum() for p in self.players[player].module.parameters()) * 0
        return Report(loss=report.loss + zero.abs().sqrt(), plain=report.plain)  # sqrt has no gradient at 0


def stopped_and_resumed(folder, make, training, read, *, at):
    """Train to step `at`, save, load into new parts, and train to the end."""
    made = make()
    state = tiny.state_of(made, training)
    tiny.advance(state, made, training, until=at, read=read)
    saved = load(save(folder, state.step, state.groups(), state.counters()))
    made = make()
    state = tiny.state_of(made, training)
    torch.manual_seed(999)  # whatever else drew random numbers in between
    state.load(saved.groups, saved.state)
    tiny.advance(state, made, training, until=training.steps, read=read)
    return tiny.everything(state)


CASES = {
    "plain": {},
    "accumulation": {"micro_batch": 3},
    "dropout": {"dropout": 0.3},
    "dropout, accumulation, flips": {"dropout": 0.3, "micro_batch": 5, "flip": True},
    "uncertainty": {"uncertainty": True},
    "bf16": {"precision": "bfloat16"},
}


@pytest.mark.parametrize(("network", "optimizer", "case"), [
    *(("dit", "muon", case) for case in CASES), ("dit", "adamw", "plain"), ("unet", "muon", "plain"),
    ("unet", "muon", "bf16"),
    ("unet", "adamw", "dropout, accumulation, flips"),
])  # fmt: skip
def test_ten_steps_are_five_and_a_resume_and_five_bit_for_bit(tmp_path, network, optimizer, case):
    options = dict(CASES[case])
    made = {k: options.pop(k) for k in ("dropout", "uncertainty") if k in options}
    flip = options.pop("flip", False)
    training = tiny.config(
        steps=10, optimizer=tiny.OPTIMIZERS[optimizer], **options
    )  # 23 items: an epoch ends mid-step
    read = tiny.batches(training, flip=flip)

    def make():
        return tiny.method(network, precision=training.dtype, **made)

    whole = make()
    state = tiny.state_of(whole, training)
    tiny.advance(state, whole, training, until=10, read=read)
    tiny.assert_same(tiny.everything(state), stopped_and_resumed(tmp_path, make, training, read, at=5))


class Listening:
    """A method that notes what torch's own generator gives while it is asked for a loss."""

    def __init__(self):
        self.inner, self.heard = tiny.method(dropout=0.3), []
        self.players, self.generator = self.inner.players, self.inner.generator

    def loss(self, player, batch, draw):
        self.heard.append(float(torch.rand(())))
        return self.inner.loss(player, batch, draw)


def test_what_torch_draws_in_a_step_is_a_function_of_seed_step_and_rows():
    training = tiny.config(steps=4, micro_batch=4)
    heard = []
    for seed, noise in ((11, 0), (11, 1), (12, 0)):
        made = Listening()
        state = tiny.state_of(made.inner, training)
        torch.manual_seed(noise)
        tiny.advance(state, made, tiny.config(steps=4, micro_batch=4, seed=seed), until=4)
        heard.append(made.heard)
    assert heard[0] == heard[1]
    assert len(set(heard[0] + heard[2])) == 16


def test_training_leaves_the_global_random_numbers_alone():
    made = tiny.method(dropout=0.3)
    training = tiny.config(steps=2)
    state = tiny.state_of(made, training)
    before = torch.get_rng_state()
    tiny.advance(state, made, training, until=2)
    assert torch.equal(torch.get_rng_state(), before)


def gradients(micro, *, world=tiny.ALONE, uncertainty=True, network="dit"):
    """(loss, gradients by name) of one global batch of 10 rows, by micro-batches of some size."""
    made = tiny.method(network, uncertainty=uncertainty)
    training = tiny.config(batch=10)
    rows = [(samples, 1.0) for samples in world.own_samples(10).split(micro)]
    losses, *_ = _gradients(made, made.players, rows, tiny.batches(training, flip=True), 4, 11, 10, world)
    return losses["denoiser"], {n: p.grad.clone() for n, p in made.players["denoiser"].module.named_parameters()}


def assert_near(found, expected):
    """Gradients are the same to rounding, measured by the length of the whole gradient."""
    length = float(torch.stack([g.norm() for g in expected.values()]).norm())
    for name, gradient in expected.items():
        assert float((found[name] - gradient).norm()) < 1e-6 * length, name


@pytest.mark.parametrize("network", ["dit", "unet"])
def test_micro_batches_give_the_gradient_of_the_batch_to_rounding(network):
    loss, expected = gradients(10, network=network)
    for micro in (1, 3, 7):
        split_loss, split = gradients(micro, network=network)
        assert split_loss == pytest.approx(loss, rel=1e-5)
        assert_near(split, expected)


def test_the_shares_of_ranks_add_up_to_the_batch():
    loss, expected = gradients(10)
    parts = []
    for rank in range(3):
        made = tiny.method(uncertainty=True)
        rows = [(torch.arange(rank, 10, 3), 1.0)]
        read = tiny.batches(tiny.config(batch=10), flip=True)
        losses, *_ = _gradients(made, made.players, rows, read, 4, 11, 10, tiny.ALONE)
        parts.append((losses["denoiser"], made.players["denoiser"].module))
    assert sum(p[0] for p in parts) == pytest.approx(loss, rel=1e-5)
    added = {name: sum(dict(player.named_parameters())[name].grad for _, player in parts) for name in expected}
    assert_near(added, expected)


@pytest.mark.parametrize("gradient_only", [False, True], ids=["loss", "gradient"])
def test_a_step_that_is_not_finite_is_skipped_and_counted_and_changes_no_weight(gradient_only):
    training = tiny.config(steps=6)
    made = Spoiled(tiny.method(), tiny.batches(training), steps={2, 4}, gradient_only=gradient_only)
    state = tiny.state_of(made.inner, training)
    tiny.advance(state, made, training, until=2, read=made.batches)
    before = tiny.everything(state)
    (report,) = tiny.advance(state, made, training, until=3, read=made.batches)
    assert not report.applied
    after = tiny.everything(state)
    tiny.assert_same((before[0], {}), (after[0], {}))
    assert after[1] == {
        "step": 3, "skipped": 1, "consecutive_skips": 1, "restarts": 0, "samples_seen": 24, "plan": [[0, 6]],
        "loss": before[1]["loss"], "faults": {},
    }  # fmt: skip
    reports = tiny.advance(state, made, training, until=6, read=made.batches)
    assert [r.applied for r in reports] == [True, False, True]
    assert state.skipped == 2
    assert state.consecutive_skips == 0
    assert state.finite()


def test_non_finite_steps_in_a_row_end_the_loop_after_max_bad_steps():
    training = tiny.config(steps=12, max_bad_steps=3)
    made = Spoiled(tiny.method(), tiny.batches(training), steps=set(range(4, 12)))
    state = tiny.state_of(made.inner, training)
    with pytest.raises(Diverged, match="3 consecutive steps, up to step 7"):
        tiny.advance(state, made, training, until=12, read=made.batches)


def test_a_restart_draws_anew_at_half_the_rate():
    training = tiny.config(steps=4)
    results = []
    for restarts in (0, 1):
        made = tiny.method()
        state = tiny.state_of(made, training)
        state.restarts = restarts
        results.append(tiny.advance(state, made, training, until=1)[0])
    assert results[1].lr_factor == results[0].lr_factor / 2
    assert results[1].loss != results[0].loss


def test_training_lowers_the_loss():
    training = tiny.config(steps=60, batch=8)
    data = tiny.images(4)
    made = tiny.method(condition_dropout=0.0)
    state = tiny.state_of(made, training)
    reports = tiny.advance(state, made, training, until=60, read=tiny.batches(training, data))
    losses = [r.loss for r in reports]
    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])


def test_a_checkpoint_of_another_network_is_refused():
    training = tiny.config()
    state, other = (tiny.state_of(tiny.method(n), training) for n in ("dit", "unet"))
    with pytest.raises(ValueError, match="another network"):
        state.load(other.groups(), other.counters())
    fewer = tiny.state_of(tiny.method("dit"), replace(training, ema_lengths=(0.05,)))
    with pytest.raises(ValueError, match=r"ema-0\.1"):
        state.load(fewer.groups(), fewer.counters())


def test_a_batch_smaller_than_the_world_is_refused():
    training = tiny.config(batch=2)
    made = tiny.method()
    state = tiny.state_of(made, training)
    with pytest.raises(ValueError, match="batch 2"):
        tiny.advance(state, made, training, until=1, world=World(rank=0, size=3))


@pytest.mark.parametrize("values", [
    {"steps": 0}, {"steps": -1}, {"batch": 0}, {"max_bad_steps": 0}, {"keep_checkpoints": 0},
    {"steps": None, "minutes": None}, {"steps": None, "minutes": 0.0}, {"steps": None, "minutes": float("nan")},
    {"grad_clip": 0.0}, {"grad_clip": float("nan")}, {"micro_batch": 0}, {"threads": 0}, {"snapshots": -1},
    {"checkpoint_minutes": float("nan")}, {"checkpoint_minutes": -1.0},
    {"ema_lengths": (0.5,)}, {"ema_lengths": (float("nan"),)}, {"ema_lengths": (0.05, 0.05)},
])  # fmt: skip
def test_impossible_training_is_refused_where_it_is_described(values):
    with pytest.raises(ValueError, match=r"."):
        TrainingConfig(**{"steps": 5, **values})
