"""Runs on images of many ratios: from the command line to samples of each shape, resumed, evaluated, served."""

import base64
import io
import math
import shutil
from dataclasses import replace

import numpy as np
import openai
import pytest
import torch
import yaml
from PIL import Image as Pictures

from langevin.cli import main, refine
from langevin.diffusion.likelihood import bound
from langevin.modalities.image.likelihood.held_out import bound_metric
from langevin.modalities.image.likelihood.measure import trained_times
from langevin.modalities.image.options import Sample
from langevin.modalities.modality import Measuring, RequestContext
from langevin.run.directory import load_model, open_run
from langevin.safety.policy import NearCopies
from langevin.server.safeguards import comparable
from langevin.training import checkpoint
from tests import pictures, tiny
from tests.server.conftest import serving

SHAPES = ("data.size=16", "data.buckets.count=3", "data.buckets.multiple=4", "network.patch=4")
EIGHT = "must be multiples of 8, as those of all its buckets"
SIZES = {"disc": (24, 12), "bar": (12, 24)}  # of the run's images of each class


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Discs of 48 x 24 pixels and bars of 24 x 48."""
    folder = pictures.classes(tmp_path_factory.mktemp("buckets") / "data", side=48)
    for path in folder.rglob("*.png"):
        wide = path.parent.name == "disc"
        Pictures.open(path).crop((0, 12, 48, 36) if wide else (12, 0, 36, 48)).save(path)
    return folder


@pytest.fixture(scope="module")
def run(data):
    return tiny.run_of(data, data.parent / "run", "training.checkpoint_minutes=0.00001", "data.flip=true",
                       "data.val_fraction=0.3", *SHAPES, steps=6)  # fmt: skip


@pytest.fixture(scope="module")
def model(run):
    return load_model(open_run(run))[0]


def drawn(model, *, count=6, seed=0, batch=256, **options):
    context = RequestContext(model=model, data=model.modality.open, count=count, seed=seed)
    return model.run(model.modality.plan(Sample(**options), context), batch=batch)


def sizes(folder):
    return [Pictures.open(path).size for path in sorted(folder.iterdir())]


def shape(image):
    return (image.shape[2], image.shape[1])


def test_the_run_holds_its_buckets(run):
    own = open_run(run).recipe.data
    assert own.buckets.sizes == ((12, 24), (16, 16), (24, 12))
    assert own.buckets.images[1] == 0
    assert sum(own.buckets.images) == open_run(run).facts["items"]
    tall, _, wide = own.buckets.images
    assert own.buckets.class_images == ((tall, 0, 0), (0, 0, wide))
    assert own.choices["size"] == ("12x24", "24x12")


def test_samples_of_each_shape_by_size_and_by_ratio(run, tmp_path, told):
    for name, options, size in (
        ("wide", ("--size", "24x12"), (24, 12)),
        ("tall", ("--ratio", "1:2"), (12, 24)),
        ("near", ("--size", "90x40"), (24, 12)),
    ):
        status, _, err = told("sample", run, "--count", 2, "--out", tmp_path / name, *options)
        assert status == 0
        assert sizes(tmp_path / name) == [size] * 2
        assert ("the nearest that this run draws is" in err) == (name != "wide")


def test_by_default_sizes_are_drawn_and_a_sample_is_that_of_its_seed(run, model, tmp_path):
    assert main(["sample", str(run), "--count", "9", "--seed", "5", "--out", str(tmp_path / "all")]) == 0
    found = sizes(tmp_path / "all")
    assert set(found) == {(24, 12), (12, 24)}
    many = drawn(model, count=9, seed=5)
    assert [SIZES[name] for name in many.names] == [shape(image) for image in many.values] == found
    for i in (0, 4, 7):
        alone = drawn(model, count=1, seed=5 + i, condition=many.names[i : i + 1]).values[0]
        assert (alone.int() - many.values[i].int()).abs().max() <= 1
    for i, (image, seed) in enumerate(zip(many.values, many.arrays["seed"].tolist(), strict=True)):
        same = drawn(model, count=1, seed=seed, size=f"{found[i][0]}x{found[i][1]}", condition=many.names[i : i + 1])
        assert isinstance(same.values, torch.Tensor)
        assert (same.values[0].int() - image.int()).abs().max() <= 1


def test_each_condition_stays_with_its_sample(model):
    """A sample of a mixed batch is that of its own class, whatever shapes are drawn before it."""
    both = drawn(model, count=8, seed=3, condition=("disc", "bar"))
    assert both.names == ("disc", "bar") * 4
    for i in range(8):
        alone = drawn(model, count=1, seed=3 + i, condition=(both.names[i],)).values[0]
        assert (alone.int() - both.values[i].int()).abs().max() <= 1


def test_arrays_and_sheets_of_several_sizes(run, tmp_path):
    out = tmp_path / "all.npz"
    assert main(["sample", str(run), "--count", "5", "--out", str(out)]) == 0
    saved = np.load(out)
    assert saved["images"].shape == (5, 24, 24, 3)
    for image, (width, height) in zip(saved["images"], saved["size"], strict=True):
        assert image[:height, :width].any()
        assert not image[height:].any()
        assert not image[:, width:].any()
    assert main(["sample", str(run), "--count", "5", "--out", str(tmp_path / "all.png")]) == 0
    assert main(["sample", str(run), "--count", "5", "--ratio", "2:1", "--out", str(tmp_path / "wide.gif")]) == 0
    one = ["--count", "3", "--condition", "bar", "--gif"]  # all of the class are tall
    assert main(["sample", str(run), *one, "--out", str(tmp_path / "bars.png")]) == 0
    assert (tmp_path / "bars.gif").is_file()


@pytest.mark.parametrize("out", [("all.gif",), ("all.png", "--gif")])
def test_an_animation_of_several_sizes_is_refused_before_anything_is_drawn(run, model, tmp_path, told, out):
    context = RequestContext(model=model, data=model.modality.open, count=5, animated=True)
    with pytest.raises(ValueError, match="of one size, and these are of 2 sizes: give --size"):
        next(model.modality.plan(Sample(), context))
    status, _, err = told("sample", run, "--count", 5, "--out", tmp_path / out[0], *out[1:])
    assert status == 1
    assert "give --size" in err
    assert not list(tmp_path.iterdir())


def test_no_solver_is_fitted_to_several_shapes(run, told):
    status, _, err = told("fit-solver", run)
    assert status == 1
    assert "a single draw from noise, of one shape" in err


def test_refining_names_what_to_do_instead_before_it_measures(run, told, monkeypatch):
    monkeypatch.setattr(refine, "measured", lambda *given: pytest.fail("nothing is measured"))
    status, _, err = told("refine", run, "--train-steps", 1)
    said = " ".join(err.split())
    assert status == 1
    assert "trained on examples of 2 shapes (data.buckets)" in said
    assert f"init_from={run}" in said
    out = run.parent / "longer"
    assert main(["train", str(run / "recipe.yaml"), "--out", str(out), "training.steps=1", f"init_from={run}"]) == 0


def test_samples_like_data_have_its_shapes(model):
    for part in model.modality.open():
        context = RequestContext(model=model, data=model.modality.open, count=len(part))
        like = model.run(model.modality.plan_like(part, context))
        assert [shape(image) for image in like.values] == [part.sizes[i] for i in part.buckets.tolist()]
        assert [SIZES[name] for name in like.names] == [shape(image) for image in like.values]


def test_copies_of_training_images_of_any_shape_are_known_as_such(model):
    """What compares samples with the data has them all as one tensor, in which a copy is what it is a copy of."""
    train = model.modality.open()[0]
    items = torch.tensor([0, len(train) - 1, 1])
    copies = [train.read_shaped(item[None])[0] for item in items]
    assert len({copy.shape for copy in copies}) == 2
    found = comparable(model.modality, copies)
    assert torch.equal(found, train.read(items))
    assert (
        NearCopies(items=train.read(torch.arange(len(train))).float(), below=1.0).check(found.float()).verdict == "hold"
    )
    assert comparable(model.modality, copies[0][None]).shape == (1, 3, 16, 16)


def test_a_run_resumed_across_buckets_ends_in_the_same_bits(run, tmp_path):
    resumed = shutil.copytree(run, tmp_path / "run")
    kept = checkpoint.steps(resumed / "checkpoints")
    assert checkpoint.step_of(kept[1]) < 6
    shutil.rmtree(kept[0])
    assert main(["resume", str(resumed)]) == 0
    ours, theirs = (checkpoint.load(checkpoint.steps(path / "checkpoints")[0]).groups for path in (run, resumed))
    assert ours.keys() == theirs.keys()
    for group, tensors in ours.items():
        assert all(torch.equal(tensor, theirs[group][name]) for name, tensor in tensors.items())


def test_evaluation_compares_shapes_like_the_data(run, told):
    status, out, err = told("evaluate", run, "--count", 8, "--seeds", 1)
    assert status == 0, err
    assert "FD train" in out
    assert "ELBO" in out
    status, _, err = told("evaluate", run, "--count", 8, "--likelihood")
    assert status == 1
    assert "the ELBO is measured without it" in err


def test_the_bound_of_several_shapes_is_all_their_bits_over_all_their_numbers(run, model, data, tmp_path):
    """Each image alone, under its own name, and not padded; squares have fewer numbers than the others."""
    mixed = shutil.copytree(data, tmp_path / "data")
    for path in sorted((mixed / "bar").iterdir())[::2]:
        Pictures.open(path).resize((20, 20)).save(path)
    parts = replace(model.modality, path=str(mixed), val_fraction=0.5).open()
    assert len(parts[1].buckets.unique()) == 3
    measuring = Measuring(model=model, train=parts[0], val=parts[1], folder=tmp_path, facts={}, load=open_run)
    found = bound_metric(model.modality, model.parts, measuring)
    read, exact = model.batches(parts[1]), replace(model.parts.denoiser, precision=torch.float32)
    nats, numbers = [], 0
    for i in range(len(read)):
        batch = read(torch.tensor([i]))
        nats.append(bound(
            exact, model.parts.process, batch.x, condition=batch.condition, levels=model.modality.codec.levels,
            density=trained_times(model.parts, True)[0], names=torch.tensor([i]),
        ).nats.mean())  # fmt: skip
        numbers += batch.x.numel()
    assert found.generated.estimate == pytest.approx(float(sum(nats)) / math.log(2) / numbers, rel=1e-5)
    assert f"of {len(read)} held-out images" in found.meaning


def test_a_bucket_of_one_image_and_batches_larger_than_the_data(data, tmp_path):
    few = shutil.copytree(data, tmp_path / "few")
    for path in sorted((few / "bar").iterdir())[1:]:
        path.unlink()
    run = tiny.run_of(few, tmp_path / "run", "training.batch=40", "data.val_fraction=0.02", *SHAPES, steps=2)
    assert sorted(open_run(run).recipe.data.buckets.images)[0] in (0, 1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("network.kind=unet", "network.channel_mult=[1,2,2,2]", "network.attention=[3]"), EIGHT),
        (("network.patch=8",), EIGHT),
        (("network.caption_prior=8",), "network.caption_prior fixes the size"),
        (("method.coupling.kind=optimal_transport",), "padded"),
        (("data.buckets.multiple=3",), "must divide data.size 16"),
    ],
)
def test_what_cannot_be_trained_in_buckets_is_refused(data, tmp_path, told, changes, said):
    small = [change for change in tiny.SMALL if "head_dim" not in change and "depth" not in change]
    kind = [] if "network.kind=unet" in changes else ["network.head_dim=16", "network.depth=1"]
    shapes = [text for text in SHAPES if "patch" not in text or not any("patch" in c or "unet" in c for c in changes)]
    status, _, err = told(
        "train", data, "--out", tmp_path / "run", "training.steps=2", *small, *kind, *shapes, *changes
    )  # fmt: skip
    assert status == 1
    assert said in " ".join(err.split())
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_network_of_patches_that_fit_and_a_unet_are_trained(data, tmp_path):
    changes = ("network.kind=unet", "network.width=8", "network.channel_mult=[1,2]", "network.attention=[1]")
    steps = ("training.steps=2", "training.batch=8", "sampling.steps=2")
    assert main(["train", str(data), "--out", str(tmp_path / "run"), *SHAPES[:3], *changes, *steps]) == 0


def test_sizes_of_a_run_without_buckets(trained, told, tmp_path):
    assert told("sample", trained, "--count", 1, "--size", "8x8", "--out", tmp_path / "own")[0] == 0
    assert told("sample", trained, "--count", 1, "--ratio", "3:3", "--out", tmp_path / "square")[0] == 0
    for option in (("--size", "16x16"), ("--ratio", "2:1")):
        status, _, err = told("sample", trained, "--count", 1, *option)
        assert status == 1
        assert "is of runs with data.buckets, and this one draws 8x8 only" in err


def test_an_enlarger_and_a_part_of_several_have_one_shape(run, data, tmp_path, told):
    status, _, err = told("sample", run, "--count", 1, "--enlarge", run)
    assert status == 1
    assert "draws several shapes (data.buckets)" in err
    recipe = {
        "name": "x", "network": {"kind": "joint_dit"}, "process": {"kind": "product"},
        "data": {"kind": "joint", "path": str(data), "parts": {"a": {"kind": "image", "path": str(data), "buckets": {}}}},
    }  # fmt: skip
    (tmp_path / "joint.yaml").write_text(yaml.safe_dump(recipe))
    assert told("train", tmp_path / "joint.yaml", "--out", tmp_path / "joint")[0] == 1


def test_a_server_draws_the_sizes_that_the_run_has_and_refuses_others(run, tmp_path):
    with serving([run], tmp_path / "jobs.db") as (url, *_):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        for size, expected in (("24x12", {(24, 12)}), ("12x24", {(12, 24)}), ("auto", set(SIZES.values()))):
            made = client.images.generate(model="run", prompt="disc", n=2, size=size, extra_body={"seed": 1})
            found = {Pictures.open(io.BytesIO(base64.b64decode(one.b64_json))).size for one in made.data}
            assert found <= expected
        for size in ("16x16", "48x24", "1024x1024"):
            with pytest.raises(openai.BadRequestError, match="12x24 or 24x12"):
                client.images.generate(model="run", prompt="disc", size=size)
