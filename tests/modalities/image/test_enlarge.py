"""Enlargers and cascades: what the network reads, a plan of several draws, the same from the command line, a server and
Python, and what cannot be a cascade."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from langevin import notebook
from langevin.cli import main
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.image.codec import Pixels
from langevin.modalities.image.enlarge import Enlarging
from langevin.modalities.image.options import Edit, Explain, Sample
from langevin.modalities.modality import Draw, RequestContext
from langevin.run.directory import load_model, open_run
from langevin.run.generate import changed
from tests import pictures, tiny

ENLARGING = Enlarging(side=4, size=8, augment=40.0, codec=Pixels())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pictures of 16 x 16 in two classes."""
    return pictures.classes(tmp_path_factory.mktemp("cascade") / "data", side=16)


@pytest.fixture(scope="module")
def large(data):
    """The run of an enlarger from 8 to 16 pixels on them."""
    return tiny.run_of(data, data.parent / "large", "data.size=16", "data.enlarge=8", tiny.DIT)


@pytest.fixture(scope="module")
def small(data):
    """The run of a base on them, at 8 pixels."""
    return tiny.run_of(data, data.parent / "small", "data.size=8")


@pytest.fixture(scope="module")
def models(small, large):
    return load_model(open_run(small))[0], load_model(open_run(large))[0]


def drawn(models, *, count=3, seed=1, batch=256, **options):
    base, enlarger = models
    model = replace(base, others={f"enlarge-{i}": enlarger for i in range(len(options.get("enlarge", ())))})
    context = RequestContext(model=model, data=lambda: (None, None), count=count, seed=seed)
    return model.run(model.modality.plan(Sample(**options), context), batch=batch)


# -------------------------------------------------------------------------------------------------------- the condition


def noise(count, seed=0):
    return SampleNoise(seeds=seed + torch.arange(count), steps=torch.zeros(count).long())


def test_an_enlarger_reads_the_smaller_image_and_its_level():
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    port = ENLARGING.of_example(x, None)
    assert port.shape == (2, 4, 8, 8)
    pooled = torch.nn.functional.avg_pool2d(x, 2)
    torch.testing.assert_close(port[:, :3], torch.nn.functional.interpolate(pooled, scale_factor=2))
    assert (port[:, 3] == 0).all()


def test_in_training_the_smaller_image_has_noise_of_the_level_that_the_network_is_given():
    """Levels are uniform up to `augment`, and the noise has them as its standard deviation: within 4 standard errors."""
    n = 4000
    port = ENLARGING.of_example(torch.zeros(n, 1, 8, 8), noise(n))
    share, added = port[:, 1, 0, 0].double(), port[:, 0, ::2, ::2].flatten(1).double()
    assert (port[:, 1] == port[:, 1, :1, :1]).all()
    torch.testing.assert_close(port[:, 0, 1::2, 1::2].flatten(1).double(), added)  # one number for each smaller pixel
    assert abs(share.mean() - 0.5) < 4 * (1 / 12 / n) ** 0.5
    assert 0 < share.min() < 0.01
    assert 0.99 < share.max() < 1
    scaled = added / (share * 40 / 127.5)[:, None]
    assert abs(scaled.square().mean() - 1) < 4 * (2 / scaled.numel()) ** 0.5
    assert abs(scaled.mean()) < 4 * scaled.numel() ** -0.5


def test_examples_are_a_function_of_their_own_noise_and_of_nothing_else(models, data):
    batches = models[1].batches(models[1].modality.open()[0])
    items, streams = torch.tensor([5, 2, 9]), noise(3, seed=7)
    whole = batches(items, streams)
    one = SampleNoise(seeds=streams.seeds[1:2], steps=streams.steps[1:2])
    alone = batches(items[1:2], one)
    assert torch.equal(whole.condition.concat.tensor[1:2], alone.condition.concat.tensor)
    assert torch.equal(whole.x[1:2], alone.x)
    other = batches(items, noise(3, seed=70))
    assert (whole.condition.concat.tensor != other.condition.concat.tensor).any()


# ----------------------------------------------------------------------------------------------------------- cascades


def test_a_cascade_is_a_plan_of_a_draw_for_each_run(models):
    base, enlarger = models
    model = replace(base, others={"enlarge-0": enlarger})
    context = RequestContext(model=model, data=lambda: (None, None), count=2, seed=3)
    plan = model.modality.plan(Sample(enlarge=("large",), enlarge_noise=0.0, condition=("bar",)), context)
    first = next(plan)
    assert isinstance(first, Draw)
    assert (first.model, first.shape) == ("run", (3, 8, 8))
    x = torch.linspace(-1, 1, 384).reshape(2, 3, 8, 8)
    second = plan.send(x)
    assert (second.model, second.shape) == ("enlarge-0", (3, 16, 16))
    assert second.sampling == enlarger.sampling
    port = second.condition.concat.tensor
    torch.testing.assert_close(port[:, :3, ::2, ::2], base.modality.codec.encode(base.modality.decode(x)))
    assert (port[:, 3] == 0).all()
    assert torch.equal(second.condition.global_.tensor, first.condition.global_.tensor)
    assert not set(second.seeds.tolist()) & set(first.seeds.tolist())  # else the noise would be that of the base
    with pytest.raises(StopIteration) as done:
        plan.send(torch.zeros(2, 3, 16, 16))
    assert done.value.value.values.shape == (2, 3, 16, 16)


def test_an_image_of_a_cascade_is_a_function_of_its_seed_alone_and_in_any_batch(models):
    whole = drawn(models, enlarge=("large",), condition=("disc",))
    assert whole.values.shape == (3, 3, 16, 16)
    assert torch.equal(drawn(models, enlarge=("large",), condition=("disc",)).values, whole.values)
    for seed in (1, 2, 3):
        alone = drawn(models, count=1, seed=seed, enlarge=("large",), condition=("disc",)).values[0]
        assert (alone.int() - whole.values[seed - 1].int()).abs().max() <= 1  # products of other sizes round otherwise
    pieces = drawn(models, batch=2, enlarge=("large",), condition=("disc",)).values
    assert (pieces.int() - whole.values.int()).abs().max() <= 1
    assert len({one.numpy().tobytes() for one in whole.values}) == 3
    assert torch.equal(whole.arrays["seed"], torch.tensor([1, 2, 3]))


def test_the_level_of_the_noise_reaches_the_network(models):
    levels = [drawn(models, enlarge=("large",), enlarge_noise=level).values for level in (0.0, 10.0, 50.0)]
    assert torch.equal(levels[1], drawn(models, enlarge=("large",)).values)  # the default
    assert (levels[0] != levels[1]).any()
    assert (levels[1] != levels[2]).any()


class Copy(torch.nn.Module):
    """An ideal enlarger of images that are as smooth as the smaller ones: it returns what it reads."""

    def __init__(self, network):
        super().__init__()
        self.config, self.parameter = network.config, torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, c_time, condition):
        return condition.concat.tensor[:, :3]


def test_the_enlarged_image_is_near_the_base_when_downsampled(models):
    base, enlarger = models
    parts = enlarger.parts
    ideal = replace(parts.denoiser, network=Copy(parts.network), prediction="clean")
    perfect = replace(enlarger, built=replace(enlarger.built, model=replace(parts, denoiser=ideal)))
    plain = drawn(models).values.float()
    found = drawn((base, perfect), enlarge=("large",), enlarge_noise=0.0).values.float()
    assert (torch.nn.functional.avg_pool2d(found, 2) - plain).abs().max() <= 0.5
    hidden = drawn((base, perfect), enlarge=("large",), enlarge_noise=20.0).values.float()
    off = torch.nn.functional.avg_pool2d(hidden, 2) - plain
    inside = (plain > 80) & (plain < 175)  # where nothing is clipped
    assert 15 < off[inside].std() < 25


def test_an_enlarger_alone_enlarges_images_of_the_validation_part(models, large, tmp_path):
    assert main(["sample", str(large), "--count", "3", "--out", str(tmp_path / "some.npz")]) == 0
    assert np.load(tmp_path / "some.npz")["images"].shape[0] == 3
    model = models[1]
    train, val = model.modality.open()
    context = RequestContext(model=model, data=lambda: (train, val), count=2)
    draw = next(model.modality.plan(Sample(), context))
    wanted = model.modality.enlarging.smaller(model.modality.codec.encode(val.read(torch.tensor([0, len(val) // 2]))))
    torch.testing.assert_close(draw.condition.concat.tensor[:, :3, ::2, ::2], wanted)
    assert torch.equal(draw.condition.global_.tensor, val.labels[[0, len(val) // 2]])


# --------------------------------------------------------------------------------------- command line, Python, evaluation


def test_the_command_line_and_python_draw_the_same(small, large, tmp_path):
    out = tmp_path / "cascade.npz"
    words = ["sample", str(small), "--enlarge", str(large), "--condition", "bar", "--count", "2", "--seed", "5"]
    assert main([*words, "--out", str(out)]) == 0
    found = notebook.load(small).sample(2, seed=5, condition="bar", enlarge=large)
    assert np.load(out)["images"].shape == (2, 16, 16, 3)
    assert np.array_equal(np.load(out)["images"], found.values.permute(0, 2, 3, 1).numpy())
    plain = notebook.load(small).sample(2, seed=5, condition="bar")
    assert found.nfe == 2 * plain.nfe


def test_a_file_is_enlarged(large, tmp_path, models):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "small.png")
    assert (
        main(["edit", str(large), str(tmp_path / "small.png"), "--count", "2", "--out", str(tmp_path / "a.npz")]) == 0
    )
    file = str(tmp_path / "small.png")

    def draw(**options):
        context = RequestContext(model=models[1], data=lambda: (None, None), count=2)
        return next(models[1].modality.plan(Edit(input=file, **options), context))

    plain, noisy = draw().condition, draw(denoise=20.0, condition=("bar",)).condition
    torch.testing.assert_close(
        plain.concat.tensor[0, :3, ::2, ::2], Pixels().encode(torch.from_numpy(pixels).permute(2, 0, 1))
    )
    assert not plain.global_.kept().any()
    assert plain.concat.kept().all()
    assert noisy.global_.kept().all()
    assert (noisy.concat.tensor[:, 3] == 20 / 50).all()
    assert torch.equal(noisy.concat.tensor[:, :3], plain.concat.tensor[:, :3])
    for options, message in (
        ({"mask": "0,0,2,2"}, "enlarges images of 8 pixels, and --mask is for runs of whole images"),
        ({"denoise": 60.0}, "--denoise is at most the 50 grey levels"),
        ({"fit": "tile"}, "does not draw in tiles"),
    ):
        with pytest.raises(ValueError, match=message):
            draw(**options)


def test_an_enlarger_is_evaluated_like_any_other_run(large, capsys):
    assert main(["evaluate", str(large), "--count", "8", "--seeds", "1"]) == 0
    assert "FD train" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------------- refusals


def refused(models, message, **options):
    with pytest.raises(ValueError, match=message):
        drawn(models, **options)


def test_what_is_no_cascade_is_refused_with_what_to_do(models, captioned):
    base, enlarger = models
    words = load_model(open_run(captioned))[0]
    named = {"enlarge": ("large",)}
    refused((base, base), r"--enlarge large enlarges nothing, .*data.size=16 data.enlarge=8", **named)
    refused((enlarger, enlarger), "enlarges images of 8 pixels, and these have 16", **named)
    twice = {"enlarge": ("large", "large")}
    refused(models, "enlarges images of 8 pixels, and these have 16", **twice)
    grey = replace(enlarger, built=replace(enlarger.built, recipe=replace(
        enlarger.built.recipe, data=replace(enlarger.modality, channels=1))))  # fmt: skip
    refused((base, grey), "1 channels, and these have 3: train it with data.channels=3", **named)
    refused((words, enlarger), "is conditioned on bar, disc, and these images are not", **named)
    refused(models, "from 0 to the 50 grey levels that large was trained with", **named, enlarge_noise=51.0)
    refused(models, "--enlarge-noise has no effect", enlarge_noise=5.0)
    refused(models, "--reward does not go with --enlarge", **named, reward="taste:red")
    refused((enlarger, enlarger), "enlarges images of the validation part", condition=("bar",))
    context = RequestContext(model=enlarger, data=lambda: (None, None))
    with pytest.raises(ValueError, match="explain the run that draws the smaller ones"):
        enlarger.modality.plan(Explain(), context)


def test_a_watermark_of_two_runs_is_refused(small, large, tmp_path, capsys):
    (tmp_path / "key").write_text("k" * 40)
    assert main(["sample", str(small), "--enlarge", str(large), "--watermark", str(tmp_path / "key")]) == 1
    assert "a watermark marks what one run draws" in capsys.readouterr().err


@pytest.mark.parametrize("changes", [["data.enlarge=6"], ["data.enlarge=16"], ["data.enlarge=0"], ["data.augment=300"]])
def test_sizes_that_do_not_fit_are_refused_before_training(data, changes, capsys, tmp_path):
    assert main(["train", str(data), "--out", str(tmp_path / "run"), "data.size=16", "training.steps=1", *changes]) == 1
    err = capsys.readouterr().err
    assert "they are enlarged a whole number of times, from 1, 2, 4, 8 pixels" in err or "0 to 255 grey levels" in err


def test_noise_without_a_smaller_image_and_an_enlarger_as_a_part_are_refused(data, captioned, capsys, tmp_path):
    words = ["--out", str(tmp_path / "run"), "training.steps=1"]
    assert main(["train", str(data), "data.augment=20", *words]) == 1
    assert "data.augment is the noise of smaller images, and there are none" in capsys.readouterr().err
    pairs = f"data.parts.picture.path={captioned.parent / 'data'}"
    changes = ["data.parts.picture.size=8", "data.parts.picture.enlarge=4"]
    assert main(["train", "joint/caption-emoji", pairs, *changes, *words]) == 1
    assert "data.parts.picture.enlarge: an enlarger is a run of its own" in capsys.readouterr().err


def test_the_run_of_a_cascade_may_be_changed_and_keeps_its_enlargers(models):
    model = replace(models[0], others={"enlarge-0": models[1]})
    assert changed(model, steps=2).others == model.others
