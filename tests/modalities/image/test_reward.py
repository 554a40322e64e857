"""Images in proportion to a reward: a constant one changes nothing, others what they say, and what is none is refused."""

import textwrap
from dataclasses import replace

import pytest

from langevin.modalities.image.options import Sample
from langevin.modalities.modality import RequestContext
from langevin.run.directory import load_model, open_run
from langevin.run.generate import changed


@pytest.fixture(scope="module")
def model(trained):
    return load_model(open_run(trained))[0]


@pytest.fixture(autouse=True)
def functions(tmp_path, monkeypatch):
    """Rewards of the user's own, in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tastes.py").write_text(
        textwrap.dedent("""
            import numpy as np
            import torch

            def nothing(images):
                assert images.min() > -1 and images.max() < 2
                return images.flatten(1).sum(1) * 0 + 3.0

            def bright(images):
                return 2000 * images.flatten(1).mean(1)

            def counted(images):  # of NumPy, without a gradient
                return torch.from_numpy((images.detach().numpy() > 0.5).mean((1, 2, 3)) * 2000.0)

            def lost(images):
                return bright(images) * float("nan")

            def several(images):
                return images

            def broken(images):
                raise RuntimeError("no taste")
            """)
    )


def samples(model, count=3, said=None, **options):
    drawing = changed(model, steps=8)
    say = (lambda line: None) if said is None else said.append
    context = RequestContext(model=drawing, data=model.modality.open, count=count, seed=5, say=say)
    return drawing.run(drawing.modality.plan(Sample(condition=("bar",), **options), context))


def test_a_constant_reward_guides_nowhere(model):
    plain, same = samples(model), samples(model, reward="tastes:nothing")
    assert (plain.values.int() - same.values.int()).abs().max() <= 1
    assert same.arrays["reward"].tolist() == pytest.approx([3.0] * 3)


def test_a_constant_reward_weighs_all_trajectories_alike(model):
    said = []
    samples(model, reward="tastes:nothing", particles=6, said=said)
    assert "of 6 trajectories 6.0 counted where fewest did; ln of the mean of exp(reward): 3.00" in said


@pytest.mark.parametrize(
    ("reward", "particles"), [("tastes:bright", None), ("tastes:bright", 64), ("tastes:counted", 64)]
)
def test_what_is_rewarded_is_drawn(model, reward, particles):
    plain, found = samples(model, count=4), samples(model, count=4, reward=reward, particles=particles)
    assert float(found.values.double().mean()) > float(plain.values.double().mean()) + 4


def test_an_image_does_not_depend_on_the_number_of_others(model):
    many = samples(model, reward="tastes:counted", particles=5)
    one = samples(model, count=1, reward="tastes:counted", particles=5)
    assert (many.values[:1].int() - one.values.int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reward": "tastes:missing"}, "tastes has no function missing"),
        ({"reward": "nowhere:bright"}, "there is no module nowhere"),
        ({"reward": "tastes"}, "--reward takes MODULE:FUNCTION"),
        ({"reward": "tastes:lost"}, "tastes:lost returned nan, which is no reward"),
        ({"reward": "tastes:lost", "particles": 4}, "tastes:lost returned nan, which is no reward"),
        ({"reward": "tastes:several"}, "returns a tensor of one reward an image"),
        ({"reward": "tastes:broken"}, "tastes:broken failed on"),
        ({"reward": "tastes:counted"}, "tastes:counted has no gradient in the images: give --particles"),
        ({"reward": "tastes:bright", "particles": 1}, "--particles is a number of trajectories for each image, 2 to"),
        ({"reward": "tastes:bright", "also": ("disc",)}, "does not go with --also"),
        ({"particles": 4}, "--particles are weighted by a --reward"),
    ],
)
def test_what_is_no_reward_is_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        samples(model, **options)


def test_a_sampler_or_guidance_without_effect_is_refused(model):
    context = RequestContext(model=model, data=model.modality.open, count=1, chosen=frozenset({"sampler"}))
    with pytest.raises(ValueError, match="--particles has a sampler of its own"):
        model.modality.plan(Sample(condition=("bar",), reward="tastes:bright", particles=4), context)
    with pytest.raises(ValueError, match="--particles has a sampler of its own"):
        model.modality.plan(
            Sample(condition=("bar",), reward="tastes:bright", particles=4), replace(context, guided=True)
        )
