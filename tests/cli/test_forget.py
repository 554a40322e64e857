"""`forget`: a concept that was learned, the proof, and the run that is written."""

import json
from dataclasses import replace

import pytest
import torch

from langevin.cli import forget, main
from langevin.diffusion.concept import ClassConcept, WordConcept
from langevin.modalities.modality import Measuring
from langevin.run.directory import load_model, open_run
from langevin.run.forget import (
    Divided,
    Measured,
    Shares,
    batches_of,
    concept_of,
    forgetting_of,
    objections,
    paired,
    words_near,
)
from langevin.run.forget_measure import Trial
from langevin.run.judge import judge_of
from langevin.run.refine import slowed, trained, weights_of
from langevin.training import checkpoint
from tests import motions, pictures, tiny

WITH_HELD_OUT = "data.val_fraction=0.3"
CLASS = ClassConcept(label=0)  # bar


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forgetting")
    return tiny.run_of(pictures.classes(folder / "data", count=60), folder / "run", WITH_HELD_OUT)


@pytest.fixture(scope="module")
def worded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worded")
    return tiny.run_of(pictures.captions(folder / "data", count=40), folder / "run", WITH_HELD_OUT)


def measured(shown=60, agreement=190, distance=1.0, concept=0.0, rest=0.0, apart=0.1):
    """Measurements of three seeds, of 100 and 200 samples, and of 50 held-out examples of each side."""
    noise = torch.linspace(-1, 1, 50, dtype=torch.float64)
    return Measured(
        shown=Shares(counts=(shown, shown + 1, shown + 2), n=100), back={},
        agreement=Shares(counts=(agreement, agreement + 1, agreement + 2), n=200),
        distances=(distance, distance + 0.01, distance - 0.01), concept_losses=1 + concept + apart * noise,
        rest_losses=1 + rest + apart * noise,
    )  # fmt: skip


BEFORE = measured()
GONE = {"shown": 5, "concept": 0.3}


def test_a_run_that_forgot_and_kept_the_rest_is_taken_and_no_other():
    assert objections(BEFORE, measured(**GONE), tolerance=0.02) == []
    for changes, words in (
        ({"shown": 60}, "no fall beyond the noise"),
        ({"concept": -0.1}, "no rise beyond"),
        ({"agreement": 150}, "of the rest 0.755 show what was asked for, and 0.955 did"),
        ({"distance": 1.5}, "distance of the rest's samples rises by 0.5"),
        ({"rest": 0.05}, "held-out loss of the rest rises by 0.05"),
    ):
        (line,) = objections(BEFORE, measured(**GONE | changes), tolerance=0.02)
        assert words in line
    assert objections(BEFORE, measured(**GONE, rest=0.05), tolerance=0.06) == []


def test_a_difference_is_of_the_same_example():
    mean, error = paired(BEFORE.rest_losses, measured(rest=0.2).rest_losses)
    assert mean == pytest.approx(0.2)
    assert error < 1e-12


def test_a_class_and_words_are_known_and_what_was_never_learned_is_refused_with_near_names(run, worded):
    of_classes, of_captions = open_run(run).recipe.data, open_run(worded).recipe.data
    assert concept_of(of_classes, "bar", "disc") == ClassConcept(label=0, instead=1)
    red, blue = (of_captions.captions.words.index(word) + 2 for word in ("red", "blue"))
    assert concept_of(of_captions, "Red", "blue") == WordConcept(words=(red,), instead=(blue,))
    with pytest.raises(ValueError, match="'barr' was never learned; nearest: bar"):
        concept_of(of_classes, "barr", None)
    with pytest.raises(ValueError, match="--instead 'bar' was never learned"):
        concept_of(of_classes, "bar", "bar")
    with pytest.raises(ValueError, match="'gren' was never learned; nearest: green"):
        concept_of(of_captions, "gren disc", None)
    with pytest.raises(ValueError, match=r"what was: .*red"):
        concept_of(of_captions, "zzzz", None)
    assert words_near(of_captions, WordConcept(words=(red,))) in (None, "green")


def trial_of(run, concept, count=8, weight=1.0, steps=2):
    """A model that was trained to forget for some steps, its weights before and after, and a trial of both parts."""
    opened = open_run(run)
    model, (train, val) = load_model(opened)[0], opened.open_data()
    data = Divided.of(model.batches(train), concept)
    measuring = Measuring(
        model=model, train=train, val=val, folder=run / "evaluation", facts=opened.facts, load=lambda path: model
    )
    judge = judge_of(measuring, load_model(opened)[0], concept)
    trial = Trial(
        train=data, val=Divided.of(model.batches(val), concept), concept=concept, judge=judge, count=count, seeds=2
    )
    before = weights_of(model.parts.method)
    config = slowed(model.built.recipe.training, 0.5)
    method = forgetting_of(model, data, concept, weight=weight, keep=1.0, everywhere=False)
    after = trained(batches_of(data, config), method, replace(config, steps=steps), device=model.device)
    model.parts.network.eval()
    return model, before, after, trial


def test_weight_0_is_the_run_to_the_bit_also_with_dropout_in_the_network(tmp_path):
    run = tiny.run_of(
        pictures.classes(tmp_path / "data"), tmp_path / "run", "network.dropout=0.2", WITH_HELD_OUT, steps=3
    )
    _, before, after, _ = trial_of(run, CLASS, weight=0.0)
    assert all(torch.equal(before[name], value) for name, value in after.items())


def test_what_is_measured_is_of_the_concept_and_of_the_rest(run):
    model, _, _, trial = trial_of(run, CLASS)
    found = trial.measured(model)
    assert found.shown.n == 8
    assert found.agreement is not None
    assert found.agreement.n == 16
    assert set(found.back) == {"the rest", "without a condition"}
    assert len(found.concept_losses) + len(found.rest_losses) == len(trial.val.holds)
    wanted = trial.requests(model)
    assert set(wanted["the concept"].global_.tensor.tolist()) == {0}
    assert set(wanted["the rest"].global_.tensor.tolist()) == {1}
    assert not wanted["without a condition"].global_.kept().any()
    # read as the rest's own class, so the two are each other's complement
    assert [a + b for a, b in zip(found.agreement.counts, found.back["the rest"].counts, strict=True)] == [16, 16]


def test_words_are_read_in_the_nearest_example_and_asked_for_misspelt(worded):
    red = concept_of(open_run(worded).recipe.data, "red", None)
    model, _, _, trial = trial_of(worded, red)
    batch = trial.train.batches(torch.arange(10))
    read = trial.judge.reads(batch.x, trial.train.condition.select(slice(0, 10)))
    assert read.bool().tolist() == trial.train.holds[:10].tolist()
    wanted = trial.requests(model)
    assert {"the concept", "the rest", "without a condition", "the word misspelt"} <= set(wanted)
    misspelt = wanted["the word misspelt"].cross.tensor
    assert bool((misspelt == 1).any(1).all())
    assert not bool((misspelt == red.words[0]).any())
    found = trial.measured(model)
    assert found.agreement is None
    assert set(found.back) == set(wanted) - {"the concept"}


def test_a_run_that_forgot_is_a_run_like_any_other(run, tmp_path, monkeypatch, told):
    monkeypatch.setattr(forget, "objections", lambda *every, **named: [])
    out = tmp_path / "out"
    before = open_run(run).load()[0].model.network.state_dict()
    status, printed, err = told("forget", run, "bar", "--train-steps", 2, "--count", 8, "--seeds", 2, "--out", out)
    assert status == 0, err
    assert "asked for the concept, it is shown" in printed
    found = json.loads((out / "forgotten.json").read_text())
    assert found["concept"] == "bar"
    assert found["sha256"] == checkpoint.identity(open_run(run).checkpoints)
    after = open_run(out).load()[0].model.network.state_dict()
    assert any(not torch.equal(before[name], value) for name, value in after.items())
    assert main(["sample", str(out), "--count", "2", "--condition", "disc", "--out", str(tmp_path / "a.png")]) == 0


def test_without_proof_nothing_is_written(run, tmp_path, told):
    out = tmp_path / "out"
    status, _, err = told(
        "forget", run, "bar", "--weight", 0, "--train-steps", 1, "--count", 8, "--seeds", 2, "--out", out
    )
    assert status == 1
    assert "no fall beyond the noise" in err
    assert not out.exists()


def test_actions_of_motion_are_judged_by_the_denoising_of_the_run_before(tmp_path):
    """A modality whose classes no classifier reads."""
    data, out = motions.walks(tmp_path / "data"), tmp_path / "run"
    changes = ("training.steps=2", "training.batch=4", "network.width=32", "network.depth=1", "sampling.steps=2")
    assert main(["train", str(data), "--out", str(out), WITH_HELD_OUT, *changes]) == 0
    names = open_run(out).recipe.data.class_names
    model, _, _, trial = trial_of(out, concept_of(open_run(out).recipe.data, names[0], None), count=8)
    assert trial.judge.name.startswith("denoising errors")
    assert trial.measured(model).shown.n == 8
