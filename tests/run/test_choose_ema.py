"""The EMA length of a finished run: the best beyond the noise, at a stated cost, the same each time; numbers are obeyed."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from langevin.cli import main
from langevin.cli.inspect import of_run
from langevin.diffusion.sampling import Sampling
from langevin.methods import Adversarial
from langevin.modalities.modality import Measuring
from langevin.run.choose_ema import SETS, affordable, by_loss, by_samples, choose_ema
from langevin.run.directory import load_model, open_run
from langevin.run.display import QUIET, Display
from langevin.run.ema_choice import EMAChoice, best_length, read_choice, write_choice
from langevin.run.evaluate import ema_curve
from langevin.training import checkpoint

PLENTY = {"evaluations": 200_000.0, "seconds": 10_000.0}
MANY = "training.steps=250", "training.batch=128"  # enough for a choice of 3 steps a sample


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """A run on points that chose its EMA length by itself."""
    out = tmp_path_factory.mktemp("chosen") / "run"
    small = ("network.width=16", "network.depth=1", "data.count=1000", "sampling.steps=3", "training.threads=1")
    assert main(["train", "toy/mixture", "--out", str(out), *small, *MANY]) == 0
    return out


@pytest.fixture
def run(chosen, tmp_path):
    """A copy without its choice."""
    shutil.copytree(chosen, tmp_path / "run")
    (tmp_path / "run" / "ema" / "choice.json").unlink()
    return open_run(tmp_path / "run")


def choose(run, said=None, **changes):
    train, val = run.open_data()
    display = QUIET if said is None else Display(say=said.append)
    return choose_ema(run, train, val, step=250, display=display, **{**PLENTY, **changes})


def spoil(run, *lengths):
    """Replace EMAs of the newest checkpoint by noise."""
    saved = checkpoint.load(checkpoint.steps(run.checkpoints)[0])
    generator = torch.Generator().manual_seed(1)
    for length in lengths:
        group = saved.groups[f"ema-{length:g}"]
        group |= {name: t + torch.randn(t.shape, generator=generator) for name, t in group.items()}
    checkpoint.save(run.checkpoints, 250, saved.groups, saved.state)


def test_a_run_ends_with_a_choice_and_draws_with_it(chosen, tmp_path):
    choice, run = read_choice(chosen), open_run(chosen)
    assert choice.step == 250
    assert choice.figure == "W1"
    assert {0.05, 0.1} <= choice.values.keys()
    assert run.recipe.sampling.ema == "auto"
    assert load_model(run)[0].sampling.ema == choice.length
    assert of_run(chosen)["EMA"] == choice.line().removeprefix("EMA ")
    assert choice.line() in (chosen / "card.md").read_text()
    assert [line.x for line in ema_curve(run)[0].lines] == [sorted(choice.values)]


def test_a_complete_run_without_a_choice_chooses_the_same_when_it_is_resumed(run, chosen):
    assert main(["resume", str(run.path)]) == 0
    assert read_choice(run.path) == read_choice(chosen)


@pytest.mark.parametrize(("spoiled", "left"), [(0.05, 0.1), (0.1, 0.05)])
def test_what_draws_better_is_chosen(run, spoiled, left):
    spoil(run, spoiled)
    said = []
    choice = choose(run, said, evaluations=80_000.0)
    assert set(choice.values) == {0.05, 0.1}
    assert (choice.length, choice.standard) == (left, 0.05)
    assert f"EMA length {left:g} {'chosen' if left == 0.1 else 'kept'} of 0.05 0.1" in said[0]
    group = checkpoint.load(checkpoint.steps(run.checkpoints)[0]).groups[f"ema-{left:g}"]
    for name, parameter in run.load()[0].model.network.named_parameters():
        assert torch.equal(parameter, group[f"denoiser.network.{name}"])


def test_a_length_that_was_not_kept_is_stored_when_it_is_the_best(run):
    spoil(run, 0.05, 0.1)  # those between are reconstructed from the snapshots
    choice = choose(run)
    assert choice.length not in (0.05, 0.1)
    before = run.load()[0].model.network.state_dict()
    for snapshot in (run.path / "ema").glob("step-????????.safetensors"):
        if not snapshot.name.startswith("step-00000250"):
            snapshot.unlink()  # from the last one alone the length could not be reconstructed
    after = run.load()[0].model.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_number_is_obeyed(run):
    fixed = replace(run, recipe=replace(run.recipe, sampling=replace(run.recipe.sampling, ema=0.1)))
    assert choose(fixed) is None
    write_choice(
        run.path, EMAChoice(step=250, length=0.2, standard=0.05, figure="", count=1, values={0.2: [1], 0.05: [1]})
    )
    assert fixed.ema_length(None) == 0.1
    assert run.ema_length(None) == 0.2
    assert run.ema_length(0.14) == 0.14
    assert run.ema_length(None, at=run.path) == 0.05  # of an older checkpoint


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"evaluations": 10.0}, None), ({"stop": lambda: True}, None), ({}, "would take")],
)
def test_a_choice_that_is_too_dear_or_stopped_leaves_the_run_as_it_is(run, changes, word, monkeypatch):
    said = []
    monkeypatch.setattr("langevin.run.choose_ema.SECONDS", (0.0, 1e-6))
    assert choose(run, said, **changes) is None
    assert not (run.path / "ema" / "choice.json").exists()
    assert run.ema_length(None) == 0.05
    assert [word in line for line in said] == ([] if word is None else [True])


def test_a_failure_is_a_message(run, monkeypatch):
    monkeypatch.setattr("langevin.run.ranking.Ranking.rank", lambda *args, **keys: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        choose(run)

    def fail(*args, **keys):
        raise RuntimeError("no memory")

    monkeypatch.setattr("langevin.run.ranking.Ranking.rank", fail)
    said = []
    assert choose(run, said) is None
    assert "the standard one stays: no memory" in said[0]


def test_the_loss_ranks_where_samples_cannot_if_it_ranks_the_method(run):
    train, val = run.open_data()
    model = load_model(run)[0]
    measuring = Measuring(
        model=model, train=train, val=val, folder=run.path, facts=run.facts, load=lambda path: None, train_judges=False
    )
    judge = by_loss(measuring, model, (0.05, 0.1), (), 1e6)
    assert (judge.figure, judge.lengths, judge.count) == ("held-out loss", (0.05, 0.1), len(val) // SETS)
    batches = model.batches(val)
    items = torch.arange(SETS * judge.count) * len(val) // (SETS * judge.count)
    every = model.parts.losses(batches(items), items).double().mean()
    sets = [judge.measure(model, number) for number in range(1, SETS + 1)]
    assert sum(sets) / SETS == pytest.approx(float(every), rel=1e-6)
    other = replace(model.built.recipe, method=Adversarial.Config())
    assert by_loss(measuring, replace(model, built=replace(model.built, recipe=other)), (0.05, 0.1), (), 1e6) is None
    cost = 3 * 2 * SETS * 80  # steps, lengths, sets, samples
    assert by_samples(measuring, model, (0.05, 0.1), (), cost).count == 80
    assert by_samples(measuring, model, (0.05, 0.1), (), cost - 1) is None


def test_further_lengths_are_compared_only_if_the_budget_is_enough_for_all():
    assert affordable((0.05, 0.1), (0.07,), budget=SETS * 3 * 20, each=1, sizes=(20, 50)) == ((0.05, 0.07, 0.1), 20)
    assert affordable((0.05, 0.1), (0.07,), budget=SETS * 3 * 20 - 1, each=1, sizes=(20, 50)) == ((0.05, 0.1), 29)
    assert affordable((0.05, 0.1), (0.07,), budget=SETS * 2 * 20 - 1, each=1, sizes=(20, 50)) is None
    assert affordable((0.1,), (), budget=1e9, each=1, sizes=(20, 50)) is None


def test_the_standard_stays_unless_another_is_better_beyond_the_noise():
    noise = [0.3, -0.2, 0.1, 0.0, -0.1]
    same = {0.05: [1 + n for n in noise], 0.1: [0.9 + n for n in noise]}  # paired: the noise of both is one
    assert best_length(same, 0.05) == 0.1
    assert best_length(same, 0.1) == 0.1
    apart = {0.05: [1 + n for n in noise], 0.1: [0.9 - n for n in noise]}
    assert best_length(apart, 0.05) == 0.05
    assert best_length({0.05: [1.0], 0.1: [0.5]}, 0.05) == 0.05  # one set has no noise to compare with


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", '{"curve": [{"length": 0.5, "values": [1]}]}', '{"step": 1, "length": 0.1, "curve": []}'],
)
def test_a_damaged_record_is_named(run, content):
    (run.path / "ema" / "choice.json").write_text(content)
    with pytest.raises(ValueError, match=r"choice\.json is damaged"):
        run.ema_length(None)


@pytest.mark.parametrize(
    "changes",
    [
        {"length": 0.2},
        {"curve": [{"length": 0.05, "values": []}]},
        {"curve": [{"length": 0.05, "values": [float("nan")]}]},
    ],
)
def test_a_record_that_does_not_hold_together_is_damaged(run, changes):
    written = {"step": 1, "length": 0.05, "standard": 0.05, "figure": "FD", "count": 3,
               "curve": [{"length": 0.05, "values": [1.0]}]}  # fmt: skip
    path = run.path / "ema" / "choice.json"
    path.write_text(json.dumps(written))
    assert read_choice(run.path).length == 0.05
    path.write_text(json.dumps(written | changes))
    with pytest.raises(ValueError, match="damaged"):
        read_choice(run.path)


@pytest.mark.parametrize("length", [0.29, -0.1, float("nan")])
def test_lengths_of_a_recipe_are_numbers_or_auto(length):
    assert Sampling().ema == "auto"
    with pytest.raises(ValueError, match=r"sampling\.ema is a fraction"):
        Sampling(ema=length)
