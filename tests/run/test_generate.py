"""Samples are a function of their seed and condition, whatever is drawn beside them; watching leaves training alone."""

import json
from dataclasses import replace

import pytest
import torch

from langevin.modalities.image.reader import tell
from langevin.recipe.build import open_data, reader
from langevin.recipe.samplers import SAMPLERS
from langevin.run.directory import open_run
from langevin.run.generate import generate, with_options
from langevin.run.watch import LEVELS, Watch, examples
from langevin.training.loop import TrainingState
from tests import tiny

SHAPE = (3, 8, 8)


@pytest.fixture(scope="module")
def built(trained):
    return open_run(trained).load()[0]


def drawn(built, seeds, labels=None, *, batch=256, frames=False, **changes):
    sampling = with_options(built.recipe.sampling, **changes)
    labels = torch.zeros(len(seeds), dtype=torch.int64) if labels is None else labels
    condition = tell(labels, None, None, torch.device("cpu"))
    seeds = torch.as_tensor(seeds)
    return generate(built, sampling, shape=SHAPE, seeds=seeds, condition=condition, batch=batch, frames=frames)


def near(a, b):
    """The same images, up to a rounding in a few places."""
    difference = (a.int() - b.int()).abs()
    assert int(difference.max()) <= 1
    assert float((difference > 0).double().mean()) < 0.01


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_does_not_depend_on_what_is_drawn_beside_it(built, sampler):
    labels = torch.arange(7) % 2
    whole = drawn(built, range(7), labels, sampler=sampler, guidance=2.0)
    assert whole.images.shape == (7, *SHAPE)
    assert whole.images.dtype == torch.uint8
    near(drawn(built, range(7), labels, batch=3, sampler=sampler, guidance=2.0).images, whole.images)
    near(drawn(built, [5, 2], labels[[5, 2]], sampler=sampler, guidance=2.0).images, whole.images[[5, 2]])
    assert torch.equal(drawn(built, range(7), labels, sampler=sampler, guidance=2.0).images, whole.images)


def test_an_order_is_for_samplers_that_have_several_and_for_grids_that_are_long_enough(built):
    images = [drawn(built, range(2), sampler="exponential", order=k).images for k in (1, 2, 3)]
    near(images[0], drawn(built, range(2), sampler="ddim").images)
    assert not torch.equal(images[1], images[2])
    with pytest.raises(ValueError, match="has one order only"):
        drawn(built, range(2), sampler="heun", order=3)
    with pytest.raises(ValueError, match="1 to the 4 steps"):
        drawn(built, range(2), sampler="exponential", order=5, steps=4)


def test_other_seeds_and_classes_give_other_images(built):
    images = drawn(built, range(6)).images
    assert len({image.numpy().tobytes() for image in images}) == 6
    assert not torch.equal(drawn(built, range(6), torch.ones(6, dtype=torch.int64)).images, images)


def test_guidance_of_one_is_the_plain_conditional(built):
    a, b = (drawn(built, range(3), guidance=w).images for w in (1.0, 3.0))
    assert not torch.equal(a, b)
    asked = drawn(built, range(3), guidance=3.0, interval=(1e8, 1e9)).images  # guided nowhere
    near(asked, a)


def test_network_calls_are_counted_and_frames_kept(built):
    found = drawn(built, range(4), steps=5, frames=True, batch=3)
    assert found.calls == 5
    assert all(frame.shape == (4, *SHAPE) for frame in found.frames)
    near(found.frames[-1], found.images)
    assert not torch.equal(found.frames[0], found.frames[-1])


def test_progress_ends_at_all(built):
    seen = []
    generate(
        built, built.recipe.sampling, shape=SHAPE, seeds=torch.arange(5), batch=2,
        condition=tell(torch.zeros(5, dtype=torch.int64), None, None, torch.device("cpu")),
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize("captions", [False, True])
def test_watching_measures_and_draws_and_leaves_training_as_it_was(trained, captioned, captions, tmp_path):
    made = open_run(captioned if captions else trained)
    built = made.load()[0]
    made = replace(made, path=tmp_path)
    data, held_out = open_data(made.recipe)
    state = TrainingState.new(built.method, made.recipe.training, edges=built.edges)
    with torch.no_grad():
        for average in state.averages["denoiser"].values[0.1]:
            average.mul_(1.1)
    before, random = tiny.everything(state), torch.get_rng_state()
    watch = Watch(made, built, state, reader(made.recipe, data), reader(made.recipe, held_out), tensorboard=False)
    found = watch.measure(3)
    assert set(found) == {"log_snr", "train_loss", "held_out_loss"}
    assert all(len(values) == len(LEVELS) for values in found.values())
    json.dumps(found, allow_nan=False)
    assert watch.measure(4) == found
    watch.sheet(7)
    assert (tmp_path / "samples" / "step-00000007.png").stat().st_size > 0
    watch.close()
    tiny.assert_same(before, tiny.everything(state))
    assert torch.equal(random, torch.get_rng_state())
    assert built.network.training


def test_examples_are_all_classes_in_turn_and_captions_of_the_data(trained, captioned):
    made = open_run(trained)
    built, held_out = made.load()[0], open_data(made.recipe)[1]
    labels, captions = examples(built, reader(made.recipe, held_out), 5)
    assert labels.tolist() == [0, 1, 0, 1, 0]
    assert captions is None
    made = open_run(captioned)
    built, held_out = made.load()[0], open_data(made.recipe)[1]
    labels, captions = examples(built, reader(made.recipe, held_out), 5)
    assert labels is None
    assert set(captions) <= set(held_out.captions)
