"""Samples are a function of their seed and condition, whatever is drawn beside them; watching leaves training alone."""

import json
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from langevin.diffusion.guidance import ClassifierFreeGuidance
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import kinds_for, sample
from langevin.methods.models import LOG_SNR
from langevin.modalities.image.conditions import encode
from langevin.modalities.image.options import Sample
from langevin.modalities.modality import Draw, Predict, RequestContext, Samples
from langevin.recipe.build import guided
from langevin.run.begin import begin
from langevin.run.directory import load_model, open_run
from langevin.run.watch import Watch
from langevin.training.loop import TrainingState
from tests import tiny
from tests.tiny import drawn

SHAPE = (3, 8, 8)


@pytest.fixture(scope="module")
def model(trained):
    return load_model(open_run(trained))[0]


def near(a, b):
    """The same images, up to a rounding in a few places."""
    difference = (a.int() - b.int()).abs()
    assert int(difference.max()) <= 1
    assert float((difference > 0).double().mean()) < 0.01


@pytest.mark.parametrize("kind", [kind for kind in kinds_for(Gaussian()) if kind not in ("learned", "flow_map")])
def test_an_image_does_not_depend_on_what_is_drawn_beside_it(model, kind):
    labels = torch.arange(7) % 2
    whole = drawn(model, range(7), labels, sampler=kind, guidance=2.0).values
    assert whole.shape == (7, *SHAPE)
    assert whole.dtype == torch.uint8
    near(drawn(model, range(7), labels, batch=3, sampler=kind, guidance=2.0).values, whole)
    near(drawn(model, [5, 2], labels[[5, 2]], sampler=kind, guidance=2.0).values, whole[[5, 2]])
    assert torch.equal(drawn(model, range(7), labels, sampler=kind, guidance=2.0).values, whole)


def test_a_samplers_parameters_change_what_is_drawn(model):
    images = [drawn(model, range(2), sampler=f"exponential max_order={k}").values for k in (1, 2, 3)]
    near(images[0], drawn(model, range(2), sampler="ddim").values)
    assert not torch.equal(images[1], images[2])


def test_weights_are_cast_once_a_draw_and_anew_for_the_next(trained):
    model = load_model(open_run(trained))[0]
    denoiser = replace(model.parts.denoiser, precision=torch.bfloat16)
    half = replace(model, built=replace(model.built, model=replace(model.parts, denoiser=denoiser)))
    casts = []

    class Counted(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten._to_copy.default and isinstance(args[0], torch.nn.Parameter):
                casts.append(args[0])
            return function(*args, **(kwargs or {}))

    with Counted():
        first = drawn(half, range(2), steps=5).values
    layers = {id(part.weight) for part in model.parts.network.modules() if isinstance(part, torch.nn.Linear)}
    cast = [id(weight) for weight in casts if id(weight) in layers]
    assert len(cast) == len(set(cast)) > 0
    with torch.no_grad():
        for parameter in model.parts.network.parameters():
            parameter.mul_(1.5)
    changed = drawn(half, range(2), steps=5).values
    assert not torch.equal(first, changed)
    request = Draw(shape=SHAPE, seeds=torch.arange(2), sampling=replace(half.sampling, steps=5), condition=encode(
        torch.zeros(2, dtype=torch.int64), None, None))  # fmt: skip
    start = begin(half.built, request, torch.arange(2))
    calls = sample(start.sampler, half.parts.process, guided(half.built, half.sampling), start.state, start.condition)
    *_, state = calls  # every call casts every weight
    assert torch.equal(half.modality.decode(state.x), changed)


def test_other_seeds_and_classes_give_other_images(model):
    images = drawn(model, range(6)).values
    assert len({image.numpy().tobytes() for image in images}) == 6
    assert not torch.equal(drawn(model, range(6), torch.ones(6, dtype=torch.int64)).values, images)


def test_guidance_of_one_is_the_plain_conditional(model):
    nowhere = ClassifierFreeGuidance(weight=3.0, interval=(1e8, 1e9))
    a, b = (drawn(model, range(3), guidance=w).values for w in (1.0, 3.0))
    assert not torch.equal(a, b)
    near(drawn(replace(model, sampling=replace(model.sampling, guidance=(nowhere,))), range(3)).values, a)


def test_function_evaluations_are_counted_and_frames_kept(model):
    found = drawn(model, range(4), steps=5, frames=True, batch=3)
    assert found.nfe == 5
    assert all(frame.shape == (4, *SHAPE) for frame in found.frames)
    near(found.frames[-1], found.values)
    assert not torch.equal(found.frames[0], found.frames[-1])


def test_frames_of_batches_with_different_numbers_of_evaluations_end_at_the_samples(trained):
    model = load_model(open_run(trained))[0]
    with torch.no_grad():  # a network that is far from linear, whose samples take different numbers of steps
        for parameter in model.parts.network.parameters():
            parameter.mul_(3)
    adaptive = {"sampler": "bogacki_shampine tolerance=0.01", "frames": True}
    alone = [drawn(model, [seed], **adaptive) for seed in range(6)]
    assert len({one.nfe for one in alone}) > 1
    found = drawn(model, range(6), batch=1, **adaptive)
    assert len(found.frames) == max(len(one.frames) for one in alone)
    near(found.frames[-1], found.values)


def test_progress_ends_at_all(model):
    seen = []
    drawn(model, range(5), batch=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_the_plans_of_a_run_are_deterministic_in_the_seed_alone_and_in_batches(model, trained):
    """The requests that a person makes: default conditions, a preview, and the data's own proportions."""
    data = open_run(trained).recipe.data
    parts = data.open()
    context = RequestContext(model=model, data=lambda: parts, count=5, seed=9)
    for plan in (
        lambda: data.plan(Sample(), context), lambda: data.preview_plan(context), lambda: data.plan_like(parts[0], context),
    ):  # fmt: skip
        whole, again, split = model.run(plan()), model.run(plan()), model.run(plan(), batch=2)
        assert torch.equal(whole.values, again.values)
        near(split.values, whole.values)
        assert whole.names == again.names == split.names
        assert whole.arrays["seed"].tolist() == [9 + i for i in range(len(whole))]
    disc, two = Sample(condition=("disc",)), replace(context, count=2, seed=11)
    near(model.run(data.plan(disc, two)).values, model.run(data.plan(disc, context)).values[2:4])


def test_a_plan_of_several_requests_is_sent_what_each_gave(model):
    """A draw, a prediction of its noised samples, and a draw by another model: one generator, one driver."""
    seeds, sampling = torch.arange(3), replace(model.sampling, guidance=())
    condition = tiny.encode(torch.zeros(3, dtype=torch.int64), None, None)
    got = {}

    def plan():
        got["x"] = yield Draw(shape=SHAPE, seeds=seeds, sampling=sampling, condition=condition)
        t = torch.full((3,), 0.5, dtype=torch.float64)
        got["mean"] = yield Predict(x_t=got["x"], t=t, condition=condition)
        got["other"] = yield Draw(shape=SHAPE, seeds=seeds, sampling=sampling, condition=condition, model="twin")
        return Samples(modality=model.modality, values=model.modality.decode(got["x"]))

    found = replace(model, others={"twin": model}).run(plan(), batch=2)
    assert found.nfe == 2 * sampling.steps + 1
    assert got["mean"].shape == (3, *SHAPE)
    torch.testing.assert_close(got["other"], got["x"])
    with torch.no_grad():
        alone = model.parts.denoiser(
            got["x"][1:2], torch.tensor([0.5]).double(), condition.select(torch.tensor([1]))
        ).mean
    torch.testing.assert_close(got["mean"][1:2], alone, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("captions", [False, True])
def test_watching_measures_and_draws_and_leaves_training_as_it_was(trained, captioned, captions, tmp_path):
    made = open_run(captioned if captions else trained)
    built = made.load()[0]
    made = replace(made, path=tmp_path)
    train, val = made.open_data()
    state = TrainingState.new(built.model.method, made.recipe.training)
    with torch.no_grad():
        for average in state.ema["denoiser"].values[0.1]:
            average.mul_(1.1)
    before, random = tiny.everything(state), torch.get_rng_state()
    watch = Watch(made, built, state, built.batches(train), built.batches(val))
    found = watch.measure(3)
    assert set(found) == {"log_snr", "train_loss", "val_loss"}
    assert all(len(values) == len(LOG_SNR) for values in found.values())
    json.dumps(found, allow_nan=False)
    assert watch.measure(4) == found
    watch.preview(7)
    assert (tmp_path / "samples" / "step-00000007.png").stat().st_size > 0
    tiny.assert_same(before, tiny.everything(state))
    assert torch.equal(random, torch.get_rng_state())
    assert built.model.network.training


def test_a_preview_shows_all_classes_in_turn_and_captions_of_the_data(model, trained, captioned):
    def preview(model, data):
        parts = data.open()
        return model.run(data.preview_plan(RequestContext(model=model, data=lambda: parts)), batch=64), parts[1]

    found, _ = preview(model, open_run(trained).recipe.data)
    assert found.arrays["labels"].tolist() == [0, 1, 0, 1]
    assert found.names == ("bar", "disc", "bar", "disc")
    assert found.columns == 2
    other = load_model(open_run(captioned))[0]
    found, val = preview(other, open_run(captioned).recipe.data)
    assert "labels" not in found.arrays
    assert len(found) == 16
    assert set(found.names) == set(val.captions)
