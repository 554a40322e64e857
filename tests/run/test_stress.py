"""The game against a run: what the adversary chooses, the limits, and the training on what it found."""

from dataclasses import dataclass, replace

import pytest
import torch

from langevin.diffusion.batch import step_randomness
from langevin.modalities.modality import RequestContext
from langevin.run.directory import load_model, open_run
from langevin.run.generate import changed
from langevin.run.hardening import Weighted, keys_of, most
from langevin.run.stress import (
    KEEP,
    LEFT_OUT,
    REPLACED,
    UNKNOWN,
    Bounds,
    Game,
    Moves,
    Tried,
    allowed,
    edited,
    limited,
    search,
    shares,
)
from langevin.training.order import DataOrder
from tests import pictures, tiny

WIDE = Bounds(guidance=(1.0, 2.0, 3.0, 4.0), scales=(1.0, 0.8, 1.2), edits=2)


@dataclass(frozen=True)
class Pretended:
    """A game whose ratings are a function of the moves: worst for condition 7 at weight 3 of scale 1, whatever the seed."""

    bounds: Bounds = WIDE
    conditions: int = 40

    def ratings(self, moves):
        wrong = (moves.condition == 7).double() + (moves.guidance == 2).double() + (moves.scale == 0).double()
        return 1 - wrong / 3


def test_the_adversary_finds_what_chance_does_not():
    chance = search(Pretended(), rounds=1, population=400, seed=0)
    found = search(Pretended(), rounds=10, population=40, seed=0)
    assert float(found.ratings.min()) == pytest.approx(0)
    assert found.value == pytest.approx(0)
    assert chance.value > 0.2  # 3.3 of 400 are expected to be worst, and 20 are its twentieth
    rounds = [float(found.ratings[found.rounds == r].mean()) for r in range(10)]
    assert rounds[-1] < 0.6 * rounds[0]


def test_one_round_is_chance_and_the_same_seed_the_same_game():
    one, again = (search(Pretended(), rounds=1, population=50, seed=3) for _ in range(2))
    drawn = Moves.random(50, WIDE, 40, torch.Generator().manual_seed(3))
    for name, part in vars(drawn).items():
        assert torch.equal(part, getattr(one.moves, name))
        assert torch.equal(part, getattr(again.moves, name))
    assert drawn.edits.shape == (50, 2, 3)
    for part, most_ in ((drawn.condition, 40), (drawn.guidance, 4), (drawn.scale, 3), (drawn.edits[..., 0], 4)):
        assert set(part.flatten().tolist()) <= set(range(most_))


def test_a_changed_request_has_each_part_of_one_of_both_and_not_all_of_the_first():
    first, second = (Moves.random(500, WIDE, 10**6, torch.Generator().manual_seed(s)) for s in (0, 1))
    child = first.mutated(second, torch.Generator().manual_seed(2))
    kept = [(getattr(child, n) == getattr(first, n)).flatten(1 if n == "edits" else 0) for n in vars(first)]
    of_second = [(getattr(child, n) == getattr(second, n)).flatten(1 if n == "edits" else 0) for n in vars(first)]
    for mine, other in zip(kept, of_second, strict=True):
        assert bool((mine | other).all())
    assert not bool((child.condition == first.condition).all())
    unchanged = (child.condition == first.condition) & (child.seeds == first.seeds)
    assert 0.1 < float(unchanged.double().mean()) < 0.4


def test_words_of_a_caption_are_misspelt_left_out_or_taken_from_another():
    pool = torch.tensor([[5, 6, 7, 0], [8, 9, 0, 0]])
    captions = pool[[0, 0, 0, 0, 1]]
    edits = torch.tensor(
        [[[KEEP, 0, 0]], [[UNKNOWN, 400, 0]], [[LEFT_OUT, 0, 0]], [[REPLACED, 999, 1]], [[LEFT_OUT, 999, 0]]]
    )
    want = [[5, 6, 7, 0], [5, 1, 7, 0], [6, 7, 0, 0], [5, 6, 9, 0], [8, 0, 0, 0]]
    assert edited(captions, edits, pool).tolist() == want
    alone = torch.tensor([[4, 0, 0]])
    assert edited(alone, torch.tensor([[[LEFT_OUT, 0, 0]]]), alone).tolist() == [[4, 0, 0]]  # a caption keeps a word


def test_limits_are_the_widest_interval_that_is_no_worse_than_the_own_setting():
    of = torch.arange(5).repeat_interleave(100)
    noise = torch.linspace(-0.1, 0.1, 100, dtype=torch.float64).repeat(5)
    means = torch.tensor([0.5, 0.9, 0.9, 0.895, 0.6], dtype=torch.float64)
    ratings = means[of] + noise
    values = (0.5, 1.0, 2.0, 3.0, 4.0)
    assert allowed(of, values, 2.0, ratings) == (1.0, 3.0)
    assert allowed(of, values, 4.0, ratings) == (1.0, 4.0)  # better than the own one is no harm
    assert [round(s.mean, 9) for s in shares(of, list("abcde"), ratings)] == means.tolist()
    moves = Moves.random(500, Bounds(), 1, torch.Generator())
    tried = Tried(moves=replace(moves, guidance=of), ratings=ratings, rounds=torch.zeros(500, dtype=torch.int64))
    assert limited(Bounds(guidance=values), tried, 2.0).guidance == (1.0, 2.0, 3.0)
    few = Tried(moves=tried.moves.select(of == 4), ratings=ratings[of == 4], rounds=tried.rounds[of == 4])
    assert limited(Bounds(guidance=values), few, 2.0).guidance == (2.0,)  # nothing is known of the others


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stressed")
    return tiny.run_of(pictures.classes(folder / "data", count=60), folder / "run", "data.val_fraction=0.3")


@pytest.fixture(scope="module")
def model(run):
    return load_model(open_run(run))[0]


@pytest.fixture(scope="module")
def data(run):
    return open_run(run).open_data()[0]


@pytest.fixture
def game_of(model, data):
    def made(bounds, rate=lambda values, classes: values.double().flatten(1).mean(1)):
        return Game.of(model, data, rate, bounds, conditions=12, seed=0)

    return made


def test_samples_of_requests_are_those_of_the_run_to_the_bit(model, data, game_of):
    """Two routes: the game's, by levels of guidance, and a request like the data with that weight, seed by seed."""
    game = game_of(Bounds(guidance=(1.0, 3.0), scales=(1.0, 0.5)))
    moves = Moves.random(6, game.bounds, game.conditions, torch.Generator().manual_seed(0))
    seeds = torch.arange(6) + 40
    moves = replace(moves, condition=torch.arange(6), guidance=torch.tensor([0, 1] * 3), scale=torch.zeros(6).long())
    drawn = game.draw(replace(moves, seeds=seeds))
    for weight, at in ((1.0, [0, 2, 4]), (3.0, [1, 3, 5])):
        context = RequestContext(model=changed(model, guidance=weight), data=lambda: (data, data), count=12, seed=40)
        whole = context.model.run(model.modality.plan_like(data, context)).values
        for i in at:
            assert torch.equal(drawn[i], whole[i])
    less = game.draw(replace(moves, seeds=seeds, scale=torch.ones(6).long()))
    assert not torch.equal(less, drawn)


def test_the_class_that_a_request_asks_for_reaches_the_rating(game_of):
    seen = []
    game = game_of(Bounds(), lambda values, classes: seen.append(classes) or classes.double())
    moves = Moves.random(20, game.bounds, game.conditions, torch.Generator().manual_seed(0))
    expected = game.template.condition.global_.tensor[moves.condition]
    assert torch.equal(game.ratings(moves), expected.double())
    assert torch.equal(seen[0], expected)


def test_half_of_the_training_is_of_the_conditions_that_were_found(model, data, game_of):
    game = game_of(Bounds())
    classes = game.template.condition.global_.tensor
    moves = Moves.random(400, game.bounds, game.conditions, torch.Generator().manual_seed(0))
    worst = int(classes[0])
    ratings = (classes[moves.condition] != worst).double()
    tried = Tried(moves=moves, ratings=ratings, rounds=torch.zeros(400, dtype=torch.int64))
    assert int((ratings == 0).sum()) >= most(tried)
    batches = model.batches(data)
    order = DataOrder(count=len(batches), batch=32, seed=0)
    weighted = Weighted.of(game, tried, batches, order)
    found = torch.cat([
        weighted(step, torch.arange(32), step_randomness(seed=0, step=step, samples=torch.arange(32), count=32))
        .condition.global_.tensor for step in range(60)
    ])  # fmt: skip
    share = float((torch.tensor([int(k[0]) for k in keys_of(batches(torch.arange(len(batches))).condition, len(batches))])
                   == worst).double().mean())  # fmt: skip
    assert float((found == worst).double().mean()) == pytest.approx(0.5 + 0.5 * share, abs=5 * 0.5 / 1920**0.5)


def test_conditions_without_a_label_are_not_asked_for(model, data):
    labels = torch.where(torch.arange(len(data)) % 3 == 0, -1, data.labels)
    game = Game.of(model, replace(data, labels=labels), lambda v, c: c.double(), Bounds(), conditions=12, seed=0)
    assert 0 < game.conditions < 12
    assert bool(game.template.condition.global_.kept().all())


@pytest.mark.parametrize(
    ("bounds", "words"),
    [({"edits": 1}, "only captions have words"), ({"scales": (1.0, 0.0)}, "above 0 and below 10")],
)
def test_bounds_that_do_not_fit_are_refused(game_of, bounds, words):
    with pytest.raises(ValueError, match=words):
        game_of(Bounds(**bounds))


def test_a_run_with_limits_refuses_guidance_outside_of_them(model):
    within = replace(model, sampling=replace(model.sampling, guidance_range=(1.0, 2.0)))
    assert changed(within, guidance=2.0).sampling.guidance_range == (1.0, 2.0)
    with pytest.raises(ValueError, match=r"--guidance 3 is outside of 1 to 2"):
        changed(within, guidance=3.0)
