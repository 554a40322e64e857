"""Two players of one method: turns, one batch for both, steps that are all or none, checkpoints, and the saddle point."""

import json
from typing import get_args

import pytest
import torch

from langevin.diffusion.batch import step_randomness
from langevin.methods import AdamW, AnyMethod, Muon, Player
from langevin.training import checkpoint
from langevin.training.loop import _gradients
from langevin.training.metrics import read_metrics
from langevin.training.session import Hooks, train
from tests import tiny
from tests.methods.game import MEAN, Game, batches


def config(**changes):
    defaults = {"steps": 12, "batch": 16, "optimizer": AdamW(lr=0.05), "ema_lengths": (0.1,)}
    return tiny.config(**{**defaults, **changes})


def advance(game, training, *, until):
    state = tiny.state_of(game, training)
    return state, tiny.advance(state, game, training, until=until, read=batches(training.batch))


def test_the_players_of_a_game_reach_its_saddle_point():
    game = Game(every=1)
    state, _ = advance(game, config(steps=1500, batch=256), until=1500)
    end = state.ema["generator"].tensors(0.1)["weight"].flatten()
    assert (end - torch.tensor(MEAN)).abs().max() < 0.1  # it began 1.2 and 0.8 away
    assert state.ema["critic"].tensors(0.1)["weight"].abs().max() < 0.1
    moved = game.generator()(torch.zeros(1, 2))[0]
    assert (moved.detach() - torch.tensor(MEAN)).abs().max() < 0.2


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_player_steps_at_its_turns_only(every):
    game = Game(every=every)
    advance(game, config(), until=12)
    turns = {name: sorted({step for player, step, _, _ in game.seen if player == name}) for name in game.players}
    assert turns == {"generator": list(range(0, 12, every)), "critic": list(range(12))}
    thetas = [theta for _, step, _, theta in game.seen if step > 0]
    changes = {a[1] for a, b in zip(game.seen, game.seen[1:]) if a[3] != b[3]}
    assert len(thetas) > 0
    assert changes <= set(range(0, 12, every))


def test_a_players_own_optimizer_is_taken_and_the_recipes_otherwise():
    training = config(optimizer=Muon(lr=0.02, adamw_lr=0.003))
    state, _ = advance(Game(), training, until=0)
    assert state.optimizers["critic"].rates == [[0.05]]
    assert state.optimizers["critic"].all[0].param_groups[0]["betas"] == (0.0, 0.9)
    assert state.optimizers["generator"].rates == [[0.02]]  # its only matrix is hidden, and nothing says otherwise


def test_what_a_player_calls_not_hidden_is_left_to_adamw():
    training = config(optimizer=Muon(lr=0.02, adamw_lr=0.003))
    game = Game()
    game.players = {"generator": Player(module=game.theta, non_hidden=("weight",))}
    state, _ = advance(game, training, until=0)
    assert state.optimizers["generator"].rates == [[0.003]]


@pytest.mark.parametrize("micro_batch", [None, 5])
def test_the_batch_of_a_step_is_read_once_and_shown_to_all(micro_batch):
    training, reads = config(micro_batch=micro_batch), []
    read, game = batches(training.batch), Game()

    def counted(step, rows, draw):
        reads.append(step)
        return read(step, rows, draw)

    tiny.advance(tiny.state_of(game, training), game, training, until=4, read=counted)
    parts = 1 if micro_batch is None else 4
    assert reads == [step for step in range(4) for _ in range(parts)]
    pairs = [(a, b) for a, b in zip(game.seen, game.seen[1:]) if a[0] == "generator"]
    assert pairs
    assert all(a[1:] == b[1:] for a, b in pairs), "the critic saw another batch, or the generator's step"


@pytest.mark.parametrize("micro", [16, 5])
def test_each_player_has_the_gradient_of_its_own_loss_alone(micro):
    """d/d theta = -phi and d/d phi = phi - mean(x - fake), at the weights before the step."""
    game, read, rows = Game(every=1), batches(16), torch.arange(16)
    _gradients(game, game.players, [(s, 1.0) for s in rows.split(micro)], read, 3, 11, 16, tiny.ALONE)
    draw = step_randomness(seed=11, step=3, samples=rows, count=16)
    noise = draw.noise.fork(1).normal(torch.zeros(16, 2))
    gap = (read(3, rows, draw).x - 0.3 - noise).mean(0)
    torch.testing.assert_close(game.theta.weight.grad[:, 0], torch.full((2,), -0.3))
    torch.testing.assert_close(game.phi.weight.grad[0], 0.3 - gap)


@pytest.mark.parametrize("player", ["generator", "critic"])
def test_a_step_that_is_not_finite_for_one_player_is_a_step_for_none(player):
    game = Game(spoil=(player, 4))
    training = config()
    state, _ = advance(game, training, until=4)
    before = tiny.everything(state)
    (report,) = tiny.advance(state, game, training, until=5, read=batches(16))
    assert not report.applied
    after = tiny.everything(state)
    tiny.assert_same((before[0], {}), (after[0], {}))
    assert (after[1]["skipped"], after[1]["step"]) == (1, 5)
    (report,) = tiny.advance(state, game, training, until=6, read=batches(16))
    assert report.applied


def test_a_game_that_is_stopped_and_resumed_ends_in_the_same_bits(tmp_path):
    training = config(micro_batch=5, checkpoint_minutes=1e-9)
    ends = []
    for name, stop in (("whole", None), ("stopped", 7)):
        for until in (stop, None) if stop else (None,):
            game = Game()
            state = tiny.state_of(game, training)

            def progress(at, until=until):
                if at.step == until:
                    raise KeyboardInterrupt

            try:
                train(
                    tmp_path / name,
                    state,
                    batches(16),
                    game,
                    training,
                    hooks=Hooks(progress=progress),
                    world=tiny.ALONE,
                )
            except KeyboardInterrupt:
                assert state.step == stop
        ends.append(tiny.everything(state))
    tiny.assert_same(*ends)
    saved = checkpoint.load_latest(tmp_path / "stopped" / "checkpoints")[0]
    assert set(saved.groups["model"]) == {"generator.weight", "critic.weight"}


def test_a_player_without_averages_has_none_in_the_checkpoint(tmp_path):
    training = config()
    state, _ = advance(Game(critic_ema=False), training, until=3)
    groups = state.groups()
    assert set(groups["ema-0.1"]) == {"generator.weight"}
    again = tiny.state_of(Game(critic_ema=False), training)
    again.load(groups, state.counters())
    tiny.assert_same(tiny.everything(state), tiny.everything(again))


def test_named_terms_and_the_losses_of_all_players_are_written_down(tmp_path):
    game, training = Game(), config()
    state = tiny.state_of(game, training)
    train(tmp_path, state, batches(16), game, training, hooks=Hooks(), world=tiny.ALONE)
    line = [m for m in read_metrics(tmp_path / "metrics.jsonl") if "loss" in m][-1]
    assert set(line["terms"]) == {"generator.loss", "critic.loss", "critic.penalty"}
    assert json.loads(json.dumps(line)) == line
    state, reports = advance(Game(), training, until=3)
    assert [r.loss == r.loss for r in reports] == [True, False, True]  # the first player's loss, at its turns
    phi = torch.full((2,), 0.3)
    assert reports[0].terms["critic.penalty"] == pytest.approx(0.5 * float(phi.square().sum()), rel=1e-6)


def test_a_turn_that_never_comes_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Player(module=torch.nn.Linear(1, 1), every=0)


@pytest.mark.parametrize("kind", get_args(AnyMethod), ids=lambda kind: kind.__dataclass_fields__["kind"].default)
def test_every_method_says_how_its_runs_are_drawn_and_ranked(kind):
    assert {type(kind.one_step), type(kind.ranked_by_loss)} == {bool}
