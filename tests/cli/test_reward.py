"""`reward`: what is trained, what is measured beside it, which state is taken, and rewards that are none."""

import json
from dataclasses import replace

import pytest
import torch

from langevin.cli import main
from langevin.cli.reward import raised
from langevin.diffusion.batch import step_randomness
from langevin.diffusion.sampler import KarrasGrid, UniformTimeGrid
from langevin.diffusion.transitions import transitions_of
from langevin.modalities.image.measure import Measuring
from langevin.modalities.image.rating import class_probabilities
from langevin.modalities.rating import ByClass, ByFunction, ByRule, Rating, parse, second
from langevin.run.directory import load_model, open_run
from langevin.run.refine import weights_of
from langevin.run.reward import State, scale_of, spread_of, verdict
from langevin.run.rollouts import Rollouts, Source
from langevin.training import checkpoint
from tests import pictures, texts, tiny

QUICK = ("--train-steps", 2, "--steps", 3, "--count", 16, "--group", 4, "--chains", 8, "--updates", 2, "--keep", "last")
DPO = ("--by", "dpo", "--pairs", 8, "--batch", 4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rewarded")
    return tiny.run_of(pictures.classes(folder / "data", count=60), folder / "run", "data.val_fraction=0.3")


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unlabelled")
    return tiny.run_of(pictures.plain(folder / "data", count=40), folder / "run", "data.val_fraction=0.3")


# ------------------------------------------------------------------------------------------------------------ verdicts


def state(step, reward, judge):
    """A measurement of 50 samples, whose rewards and judgements have noise that is the same in all states."""
    noise = torch.linspace(-1, 1, 50, dtype=torch.float64)
    own = 0.02 * torch.sin(37.0 * step + 11 * torch.arange(50, dtype=torch.float64))
    return State(
        step=step, seconds=0.0, reward=reward + noise + own, judge=None if judge is None else judge + noise + own,
        divergence=torch.zeros(50), spread=1.0, coverage=None, losses=torch.zeros(3),
    )  # fmt: skip


BASE = state(0, 1.0, 1.0)


def test_the_last_state_before_it_only_pleases_its_judge_is_taken():
    states = [BASE, state(1, 1.2, 1.1), state(2, 1.4, 1.2), state(3, 1.8, 1.0), state(4, 2.0, 0.8)]
    found = verdict(states, same=True)
    assert (found.taken, found.only_pleases) == (2, (3, 4))
    assert "only pleases its judge" in found.lines[0]
    falling = verdict([BASE, state(1, 1.2, 1.1), state(2, 1.4, 1.4), state(3, 1.8, 1.2)], same=True)
    assert (falling.taken, falling.only_pleases) == (2, (3,))  # above the run, below its best


def test_a_judge_of_the_same_quantity_has_to_rise_and_one_of_another_to_keep_its_level():
    level = [BASE, state(1, 1.5, 1.0)]
    assert verdict(level, same=True).taken is None
    assert verdict(level, same=False).taken == 1
    assert verdict([BASE, state(1, 1.5, 0.9)], same=False).taken is None


def test_without_a_judge_the_last_state_of_a_larger_reward_is_taken_and_no_gain_is_none():
    assert verdict([state(0, 1.0, None), state(1, 1.5, None), state(2, 1.6, None)], same=False).taken == 2
    found = verdict([BASE, state(1, 1.0, 1.0)], same=True)
    assert found.taken is None
    assert "has not risen beyond the noise" in found.lines[0]


def test_scales_and_spreads_are_within_a_condition():
    apart = torch.tensor([0.0, 2.0, 100.0, 102.0]).double()
    assert scale_of(apart, 2, "it") == pytest.approx(2**0.5)
    with pytest.raises(ValueError, match="it is the same for all samples of a condition"):
        scale_of(torch.tensor([1.0, 1.0, 5.0, 5.0]).double(), 2, "it")
    x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [5.0, 5.0], [5.0, 5.0]])
    assert spread_of(x, 2) == pytest.approx(1.0)  # squared distances 4 and 0, of two numbers each
    tokens = torch.tensor([[1, 2, 3, 4], [1, 2, 0, 0]])
    assert spread_of(tokens, 2) == 0.5


# ------------------------------------------------------------------------------------------------------------- ratings


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda images, classes: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda images, classes: torch.full((len(images),), float("nan")), "returned nan, which is no reward"),
        (lambda images, classes: images.float(), r"\(3,\), and this is \(3, 1, 2, 2\)"),
        (lambda images, classes: 3.0, r"\(3,\), and this is \(\)"),
        (lambda images, classes: "fine", "this is a str"),
        (lambda images, classes: None, "this is a NoneType"),
    ],
)
def test_what_is_no_reward_is_refused(function, words):
    with pytest.raises(ValueError, match=words):
        Rating(name="taste:red", quantity="red", function=function)(torch.zeros(3, 1, 2, 2), None)


def test_a_reward_cannot_change_what_it_rates():
    images, sentences = torch.ones(2, 1, 2, 2), ["one", "two"]

    def erase(values, classes):
        values[:] = torch.zeros(2, 1, 2, 2) if isinstance(values, torch.Tensor) else ["", ""]
        return [0.0, 1.0]

    rating = Rating(name="it", quantity="it", function=erase)
    assert rating(images, None).tolist() == rating(sentences, None).tolist() == [0.0, 1.0]
    assert bool((images == 1).all())
    assert sentences == ["one", "two"]


def test_ratings_are_named_and_have_a_second_judge(run):
    image = open_run(run).recipe.data
    named = {"classifier": ByClass(), "recogniser": ByClass(kind="recogniser"), "darkness": ByRule(rule="darkness"),
             "taste:red": ByFunction(function="taste:red")}  # fmt: skip
    for text, config in named.items():
        assert parse(text, image, "--reward") == config
    assert second(ByClass(), image) == ByClass(kind="recogniser")
    assert second(ByClass(kind="recogniser"), image) == ByClass()
    assert second(ByRule(rule="darkness"), image) == ByClass()
    assert second(ByRule(rule="darkness"), replace(image, classes=())) is None
    assert second(ByFunction(function="taste:red"), image) is None
    with pytest.raises(ValueError, match="one of classifier, recogniser, brightness"):
        parse("beauty", image, "--reward")


@pytest.mark.parametrize("reader", ["classifier", "recogniser"])
def test_the_two_readers_of_a_class_know_it_of_real_images(run, reader, tmp_path):
    model = load_model(open_run(run))[0]
    train, val = open_run(run).open_data()
    measuring = Measuring(model=model, train=train, val=val, folder=tmp_path, facts={}, load=lambda path: model)
    read = class_probabilities(model.modality, measuring, reader)(val.read(torch.arange(len(val))))
    torch.testing.assert_close(read.sum(1), torch.ones(len(val), dtype=torch.float64))
    assert float((read.argmax(1) == val.labels).double().mean()) > 0.7


# ------------------------------------------------------------------------------------------------------------- training


def source_of(run, **sampled):
    model = load_model(open_run(run), sampler="ancestral", steps=3, **sampled)[0]
    model = replace(model, sampling=replace(model.sampling, guidance=()))
    law = transitions_of(model.sampling.sampler, model.parts.process)
    return Source.of(model, open_run(run).open_data()[0], law, group=4, count=12, seed=1)


def test_every_step_of_a_set_is_in_one_update_with_its_condition_and_a_group_has_one(run):
    source = source_of(run)
    drawn = source.draw(8, 5)
    assert source.length == len(drawn.chains.t) == 2  # the last of the three has no noise
    assert drawn.classes.view(2, 4).unique(dim=1).shape == (2, 1)
    assert bool((drawn.chains.divergence == 0).all())
    rating = Rating(name="it", quantity="it", function=lambda images, classes: images.float().mean((1, 2, 3)))
    rollouts = Rollouts(source=source, reward=rating, chains=8, updates=2, scale=1.0, leash=0.0, seed=4)
    samples, seen = torch.arange(rollouts.batch), []
    for step in (0, 1):
        draw = step_randomness(seed=0, step=step, samples=samples, count=rollouts.batch)
        seen.append(rollouts(step, samples, draw))
    first = source.draw(8, 5)  # the seed of the first set
    every = torch.cat([batch.x.x_t for batch in seen]).flatten(1)
    expected = first.chains.x_t.flatten(0, 1).flatten(1)
    assert sorted(every.tolist()) == sorted(expected.tolist())
    by_state = {tuple(x): int(c) for x, c in zip(expected.tolist(), first.classes.repeat(2), strict=True)}
    for batch in seen:
        classes = batch.condition.global_.tensor.tolist()
        assert [by_state[tuple(x)] for x in batch.x.x_t.flatten(1).tolist()] == classes


@pytest.mark.parametrize("by", [(), DPO], ids=["policy_gradient", "dpo"])
def test_a_tuned_run_is_a_run_like_any_other_that_names_its_base(run, by, tmp_path, told):
    out, before = tmp_path / "out", weights_of(open_run(run).load()[0].model.method)
    status, _, err = told("reward", run, "--reward", "darkness", *QUICK, *by, "--out", out)
    assert status == 0, err
    assert "second judge: classifier, which has to keep its level" in err
    tuned, again = open_run(out), tmp_path / "again"
    base = {"path": str(run), "sha256": checkpoint.identity(open_run(run).checkpoints)}
    assert tuned.facts["base"] == base
    found = json.loads((out / "rewarded.json").read_text())
    assert found["base"] == base
    assert [one["step"] for one in found["states"]] == [0, 1, 2] if by else [0, 2]
    for one in found["states"]:
        assert {"reward", "judge", "divergence", "spread", "coverage", "held_out_loss"} <= one.keys()
    assert found["states"][0]["divergence"] == 0 < found["states"][-1]["divergence"]
    lines = [json.loads(text) for text in (out / "metrics.jsonl").read_text().splitlines()]
    assert lines == found["states"]
    sampling = tuned.recipe.sampling
    assert (sampling.sampler.kind, sampling.steps, sampling.guidance, sampling.grid.low) == ("ancestral", 3, (), 0.05)
    after = weights_of(tuned.load()[0].model.method)
    assert any(not torch.equal(before[name], value) for name, value in after.items())
    assert main(["sample", str(out), "--count", "2", "--out", str(tmp_path / "a.png")]) == 0
    assert main(["resume", str(out)]) == 0  # it has reached its end
    status, _, err = told("reward", run, "--reward", "darkness", *QUICK, *by, "--out", again)
    assert status == 0, err  # the same command makes the same weights
    same = weights_of(open_run(again).load()[0].model.method)
    assert all(torch.equal(after[name], value) for name, value in same.items())


def test_a_state_that_only_pleases_its_judge_is_refused_and_nothing_is_written(run, tmp_path, told, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judging.py").write_text(
        "calls = dict(rising=0, falling=0)\n"
        "def rising(images):\n    calls['rising'] += 1\n"
        "    return [calls['rising'] + 0.01 * i for i in range(len(images))]\n"
        "def falling(images):\n    calls['falling'] += 1\n"
        "    return [-calls['falling'] + 0.01 * i for i in range(len(images))]\n"
    )
    out = tmp_path / "out"
    words = ["--reward", "judging:rising", "--judge", "judging:falling", *QUICK[:-2]]
    status, _, err = told("reward", run, *words, "--out", out)
    assert status == 1
    assert "no state of" in err
    assert "only pleases its judge" in err
    assert "The run stays as it is" in err
    assert not out.exists()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return images.mean((1, 2, 3)) * 0 + 3", "is the same for all samples of a condition"),
        ("return images.mean((1, 2, 3)) / 0 * 0", "returned nan"),
        ("raise KeyError('red')", "KeyError: 'red'"),
        ("return images", "returns a number for each sample"),
    ],
)
def test_a_users_function_that_is_no_reward_is_refused_before_training(run, body, words, tmp_path, told, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f"unfit{abs(hash(body)) % 10**6}"
    (tmp_path / f"{name}.py").write_text(f"def rate(images):\n    {body}\n")
    status, _, err = told("reward", run, "--reward", f"{name}:rate", *QUICK, "--out", tmp_path / "out")
    assert status == 1
    assert words in err
    assert not (tmp_path / "out").exists()


def test_a_users_function_has_no_second_judge_and_rates_images_from_0_to_1(run, tmp_path, told, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rated.py").write_text(
        "def dark(images):\n    assert images.dtype.is_floating_point and 0 <= images.min() and images.max() <= 1\n"
        "    return 1 - images.mean((1, 2, 3)).numpy()\n"
    )
    status, _, err = told("reward", run, "--reward", "rated:dark", *QUICK, "--out", tmp_path / "out")
    assert status == 0, err
    assert "there is no second judge (--judge)" in err


def test_samplers_and_runs_without_what_is_needed_are_refused(run, unlabelled, refused):
    darkness = ("--reward", "darkness", *QUICK)
    assert "take ancestral" in refused("reward", run, *darkness, "--sampler", "dpm2m")
    assert "take ancestral" in refused("reward", run, *darkness, "--sampler", "ddim")
    assert "this run has no classes" in refused("reward", unlabelled, "--reward", "classifier", *QUICK)
    assert "is the reward itself" in refused("reward", run, *darkness, "--judge", "darkness")


def test_the_last_knot_of_a_grid_has_noise():
    assert raised(KarrasGrid(low=0.002), 0.05).low == 0.05
    assert raised(KarrasGrid(low=0.2), 0.05).low == 0.2
    assert raised(UniformTimeGrid(), 0.05) == UniformTimeGrid()


def test_a_run_of_masked_texts_is_tuned_by_the_same_method(tmp_path, told):
    texts.corpus(tmp_path / "data")
    run = tiny.run_of(tmp_path / "data", tmp_path / "run", "process.kind=masked", "data.task.context_length=16")
    out = tmp_path / "out"
    status, _, err = told("reward", run, "--reward", "length", *QUICK, "--out", out)
    assert status == 0, err
    found = json.loads((out / "rewarded.json").read_text())["states"]
    assert found[0]["divergence"] == 0 < found[-1]["divergence"]
    assert found[0]["coverage"] is None
    status, _, err = told("reward", run, "--reward", "length", *QUICK, *DPO, "--out", tmp_path / "pairs")
    assert status == 1
    assert "for runs of gaussian diffusion" in err
