"""Autoguidance between runs: the weaker model is found, is the right one, and is refused where it is asked another."""

import shutil
from dataclasses import replace

import pytest
import torch
import yaml

from langevin.cli import main
from langevin.diffusion.guidance import Autoguidance, ClassifierFreeGuidance, OtherModel, weighted
from langevin.modalities.image.conditions import encode
from langevin.recipe.build import build, guided
from langevin.run.directory import open_run
from langevin.run.generate import RunModel
from langevin.training import checkpoint
from tests.tiny import drawn

SHAPE = (3, 8, 8)


@pytest.fixture(scope="module")
def built(trained):
    return open_run(trained).load()[0]


def images(built, *methods, count=3):
    sampling = replace(built.recipe.sampling, guidance=methods)
    return drawn(RunModel(built=built, sampling=sampling), range(count), torch.arange(count) % 2).values


def test_a_weaker_model_is_the_run_at_another_ema_length_or_one_of_its_checkpoints(trained, built):
    oldest = checkpoint.steps(trained / "checkpoints")[-1]
    for method, length, at in (
        (Autoguidance(weight=2.0, ema=0.0), 0.0, None),
        (Autoguidance(weight=2.0, run=str(trained), ema=0.0), 0.0, None),
        (Autoguidance(weight=2.0, run=str(oldest), ema=0.0), 0.0, oldest),
    ):
        weaker = open_run(trained).load(ema=length, at=at)[0]
        x, t = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0)), torch.tensor([0.4, 0.7]).double()
        condition = encode(torch.tensor([0, 1]), None, None)
        with torch.no_grad():
            weights = weighted(condition, [method], 2)
            got = guided(built, replace(built.recipe.sampling, guidance=(method,)))(x, t, weights).mean
            strong, weak = (b.model.denoiser(x, t, condition).mean for b in (built, weaker))
        torch.testing.assert_close(got, weak + 2.0 * (strong - weak))
        assert not torch.allclose(strong, weak)


def test_samples_at_weight_one_are_the_plain_ones_and_move_with_the_weight(built):
    plain, free = images(built), ClassifierFreeGuidance(weight=2.0)
    assert torch.equal(images(built, Autoguidance(weight=1.0, ema=0.0)), plain)
    assert not torch.equal(images(built, Autoguidance(weight=4.0, ema=0.0)), plain)
    assert torch.equal(images(built, free, Autoguidance(weight=1.0, ema=0.0)), images(built, free))


def test_a_model_that_is_asked_another_question_is_refused(trained, built, tmp_path):
    other = shutil.copytree(trained, tmp_path / "other")
    tree = yaml.safe_load((other / "recipe.yaml").read_text())
    tree["process"]["schedule"] = {"kind": "cosine"}
    tree["data"]["classes"] = ["x", "y"]
    (other / "recipe.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    with pytest.raises(ValueError, match="they differ in process, data"):
        built.models(OtherModel(run=str(other)))
    with pytest.raises(ValueError, match="there is no run at"):
        built.models(OtherModel(run=str(tmp_path / "none")))
    at = checkpoint.steps(trained / "checkpoints")[0]
    with pytest.raises(ValueError, match=r"has no EMA of length 0.2"):
        built.models(OtherModel(run=str(at), ema=0.2))


def test_parts_without_a_run_have_no_other_model(built):
    alone = build(built.recipe)
    with pytest.raises(ValueError, match="load the run first"):
        guided(alone, replace(built.recipe.sampling, guidance=(Autoguidance(weight=2.0, ema=0.1),)))


def test_a_run_whose_recipe_asks_for_autoguidance_is_sampled_so_by_the_verb(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    tree = yaml.safe_load((run / "recipe.yaml").read_text())
    tree["sampling"]["guidance"] = [{"kind": "autoguidance", "weight": 3.0, "ema": 0.0}]
    (run / "recipe.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    assert main(["sample", str(run), "--count", "2", "--steps", "2", "--out", str(tmp_path / "a.npz")]) == 0
    assert (
        main(["sample", str(run), "--count", "2", "--steps", "2", "--guidance", "2", "--out", str(tmp_path / "b.npz")])
        == 0
    )
    assert (tmp_path / "a.npz").read_bytes() != (tmp_path / "b.npz").read_bytes()
