"""Buckets: which shapes there are, where an image goes and what of it is lost, and batches of one shape or of several."""

import itertools
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image as Pictures

from langevin.diffusion.batch import step_randomness
from langevin.diffusion.noise import SampleNoise
from langevin.methods.levels import level_losses
from langevin.modalities.image.batches import ImageBatches
from langevin.modalities.image.buckets import Buckets, cropped, parsed, said
from langevin.modalities.image.codec import Pixels
from langevin.modalities.image.data import Folder, Streaming, load_parts
from langevin.modalities.image.decode import Picture
from langevin.modalities.image.modality import Image
from langevin.modalities.image.preview import grid
from langevin.networks import DiT, UNet
from langevin.recipe.build import training_batches
from langevin.recipe.read import check
from langevin.training.order import DataOrder
from tests import tiny
from tests.modalities.image.pictures import make_cifar

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SIX = ((60, 30), (30, 60), (40, 40), (50, 40), (40, 50), (80, 30))  # width and height


def photo(width, height, seed):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Pictures.fromarray(values)


def photos(folder, sizes):
    """A picture of noise of each width and height."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, (width, height) in enumerate(sizes):
        photo(width, height, i).save(folder / f"{i:03d}.png")
    return folder


def parts(folder, side=16, **changes):
    among = Buckets(**changes)
    return load_parts(Folder(path=str(folder), size=side, channels=3), buckets=among.of_side)


# --------------------------------------------------------------------------------------------------------- which shapes


@pytest.mark.parametrize(
    ("count", "ratio", "multiple"), [*itertools.product((3, 9, 21), (1.5, 2.0, 4.0), (None, 1, 8))]
)
def test_buckets_have_one_area_are_their_own_transposes_and_reach_from_ratio_to_ratio(count, ratio, multiple):
    side, unit = 64, multiple or 8
    found = Buckets(count=count, max_ratio=ratio, multiple=multiple).of_side(side)
    assert {(h, w) for w, h in found.sizes} == set(found.sizes)
    assert (side, side) in found.sizes
    assert len(found.sizes) <= count
    assert list(found.sizes) == sorted(found.sizes, key=lambda size: Fraction(*size))
    for wide, tall in found.sizes:
        assert wide % unit == tall % unit == 0
        exact = (wide / tall) ** 0.5  # each side is rounded by at most half a multiple, from one of the area
        assert abs(wide * tall - side * side) <= unit / 2 * (wide + tall) + unit * unit / 4 + 1e-9
        assert exact < ratio**0.5 * (1 + unit / side * 2)
    wide, tall = found.sizes[-1]
    assert abs(wide - side * ratio**0.5) <= unit / 2
    assert abs(tall - side / ratio**0.5) <= unit / 2


def test_ratios_are_even_in_log_space_where_sides_are_fine():
    found = Buckets(count=9, max_ratio=2.0, multiple=1).of_side(4096)
    logs = torch.tensor([w / h for w, h in found.sizes]).log()
    torch.testing.assert_close(logs, torch.linspace(-1, 1, 9) * np.log(2), rtol=0, atol=1e-3)


def test_fitted_sizes_are_those_of_the_settings_that_they_were_fitted_to():
    fitted = Buckets(count=3).of_side(32)
    assert fitted.of_side(32) == fitted
    for changed, side in ((fitted, 64), (replace(fitted, count=5), 32), (replace(fitted, max_ratio=4.0), 32)):
        with pytest.raises(ValueError, match=r"set data.buckets.sizes=\[\]"):
            changed.of_side(side)


@pytest.mark.parametrize("among", [Buckets().of_side(32), Buckets(count=5, max_ratio=3.0).of_side(16)])
def test_an_image_goes_to_the_nearest_ratio_in_log_space(among):
    def away(size, other):
        quotient = Fraction(*size) / Fraction(*other)
        return max(quotient, 1 / quotient), max(Fraction(*other), 1 / Fraction(*other))

    for size in itertools.product(range(1, 61, 3), range(1, 61, 3)):
        best = min(range(len(among.sizes)), key=lambda i: away(size, among.sizes[i]))
        assert among.nearest(size) == best
        assert among.sizes[among.nearest(size[::-1])] == among.sizes[best][::-1]


def test_of_equally_near_buckets_the_one_nearer_to_the_square_is_taken():
    among = Buckets(sizes=((4, 16), (8, 8), (16, 4)), images=(1, 1, 1))
    assert [among.nearest((1, 2)), among.nearest((2, 1)), among.nearest((9, 9))] == [1, 1, 1]


def test_only_buckets_with_training_images_are_requested_and_drawn():
    among = Buckets(sizes=((8, 16), (11, 11), (16, 8)), images=(30, 0, 10))
    assert among.nearest((1, 1)) == 1
    assert among.nearest((10, 11), trained=True) == 0
    sizes = Counter(among.drawn(torch.arange(4000)))
    assert set(sizes) == {(8, 16), (16, 8)}
    assert abs(sizes[8, 16] - 3000) < 5 * (4000 * 0.75 * 0.25) ** 0.5
    assert among.drawn(torch.tensor([7, 3])) == [among.drawn(torch.tensor([s]))[0] for s in (7, 3)]
    assert among.usual() == (8, 16)


def test_samples_of_a_class_have_the_sizes_of_its_training_images():
    """Each class in its own proportions, a class without training images in those of all; alone as among others."""
    counts = ((10, 30, 0), (0, 0, 5), (0, 0, 0))
    among = Buckets(sizes=((8, 16), (11, 11), (16, 8)), images=(10, 30, 5), class_images=counts)
    seeds, labels = torch.arange(6000), torch.arange(6000) % 3
    sizes = among.drawn(seeds, labels)
    for label, images in enumerate((counts[0], counts[1], among.images)):
        found, n = Counter(sizes[label::3]), 2000
        for size, count in zip(among.sizes, images, strict=True):
            share = count / sum(images)
            assert abs(found[size] - n * share) <= 5 * (n * share * (1 - share)) ** 0.5
    assert among.drawn(seeds[100:105], labels[100:105]) == sizes[100:105]
    assert among.drawn(seeds, torch.full_like(seeds, 2)) == among.drawn(seeds)
    assert [among.usual(torch.tensor(kept)) for kept in ([0], [1, 1], [2], [0, 1])] == [
        (11, 11),
        (16, 8),
        (11, 11),
        (11, 11),
    ]
    old = Buckets(sizes=among.sizes, images=among.images)  # of a run that was trained before classes were counted
    assert old.drawn(seeds, labels) == old.drawn(seeds)


# ------------------------------------------------------------------------------------------------------------ what is lost


def test_what_is_cropped_is_the_share_of_the_pixels_outside():
    assert cropped((60, 30), (20, 20)) == 0.5
    assert cropped((30, 60), (40, 20)) == 0.75
    assert cropped((7, 5), (14, 10)) == 0
    among = Buckets(sizes=((10, 20), (20, 20), (20, 10)), images=(0, 0, 0)[:0])
    found = among.shares([(20, 10), (24, 10), (30, 30)])
    assert found == (("20x20", 1, 0.0), ("20x10", 2, pytest.approx((0 + 1 / 6) / 2)))
    assert said(found) == "20x20: 1 (0.0%), 20x10: 2 (8.3%); 5.6% on average"


@pytest.mark.parametrize(
    ("stored", "size"), [((24, 8), (16, 8)), ((8, 24), (8, 16)), ((17, 8), (8, 8)), ((9, 9), (9, 9))]
)
def test_the_middle_is_kept_to_the_bit_where_nothing_is_resized(stored, size):
    image = photo(*stored, seed=3)
    picture = Picture(image=image, width=stored[0], height=stored[1], mode="RGB", encoded=1)
    whole = picture.pixels(size=None, channels=3)
    left, top = (stored[0] - size[0]) // 2, (stored[1] - size[1]) // 2
    assert torch.equal(picture.pixels(size=size, channels=3), whole[:, top : top + size[1], left : left + size[0]])


def test_an_image_that_is_larger_covers_its_bucket():
    """Stripes along the longer side: those at the ends are lost, the others keep their colours and places."""
    values = np.zeros((40, 120, 3), dtype=np.uint8)
    values[:, 20:60], values[:, 60:100] = 100, 200
    picture = Picture(image=Pictures.fromarray(values), width=120, height=40, mode="RGB", encoded=1)
    kept = picture.pixels(size=(20, 10), channels=1)[0].int()
    assert kept.shape == (10, 20)
    assert (kept[:, 2:8] - 100).abs().max() <= 1
    assert (kept[:, 12:18] - 200).abs().max() <= 1


def test_the_report_has_images_and_crops_of_each_bucket_and_no_image_is_lost(tmp_path):
    train, val = parts(photos(tmp_path, [*SIX, *SIX]), count=3, max_ratio=2.0, multiple=4)
    assert train.sizes == ((12, 24), (16, 16), (24, 12))
    assert sorted((*train.names, *val.names)) == [f"{i:03d}.png" for i in range(12)]
    line = next(line for line in train.notes.lines() if line.startswith("Buckets"))
    wide = (0 + (1 - 2 / (80 / 30))) / 2
    lost = (2 * (2 * wide) + 4 * (1 - 40 / 50)) / 12
    assert f"12x24: 2 (0.0%), 16x16: 6 ({2 * 0.2 / 3:.1%}), 24x12: 4 ({wide:.1%}); {lost:.1%} on average" in line


def test_cropping_to_squares_is_remarked_on_where_much_is_lost(tmp_path):
    train, _ = load_parts(Folder(path=str(photos(tmp_path / "a", SIX)), size=16))
    assert any("data.buckets.count=9 keeps their shapes" in line for line in train.notes.lines())
    train, _ = load_parts(Folder(path=str(photos(tmp_path / "b", [(40, 40), (44, 40)])), size=16))
    assert not any("buckets" in line for line in train.notes.lines())
    found = Image(path=str(tmp_path / "a")).inspect().lines()
    shares = said(Buckets().of_side(32).shares(SIX))
    assert any("data.buckets.count=9" in line and shares in line for line in found)


def test_transposed_images_are_in_transposed_buckets(tmp_path):
    ours, _ = parts(photos(tmp_path / "a", SIX), val := 16)
    theirs, _ = parts(photos(tmp_path / "b", [size[::-1] for size in SIX]), val)
    named = [dict(zip(part.names, part.buckets.tolist(), strict=True)) for part in (ours, theirs)]
    both = named[0].keys() & named[1].keys()
    assert len(both) >= 4
    assert all(ours.sizes[named[0][name]] == theirs.sizes[named[1][name]][::-1] for name in both)


def test_images_from_disk_are_those_from_memory(tmp_path):
    source, among = Folder(path=str(photos(tmp_path, SIX)), size=16, channels=3), Buckets(count=3, multiple=4)
    kept, _ = load_parts(source, buckets=among.of_side)
    streamed, _ = load_parts(source, buckets=among.of_side, memory_limit=0)
    assert isinstance(streamed.store, Streaming)
    for i in torch.arange(len(kept)):
        assert torch.equal(kept.read_shaped(i[None]), streamed.read_shaped(i[None]))
    every = torch.arange(len(kept))
    assert torch.equal(kept.read(every), streamed.read(every))
    assert kept.read(every).shape == (len(kept), 3, 16, 16)
    assert kept.fingerprint != load_parts(source)[0].fingerprint


# ---------------------------------------------------------------------------------------------------------------- batches


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twenty images in three buckets, one of which has a single one."""
    sizes = [*[(60, 30)] * 9, *[(40, 40)] * 10, (30, 60)]
    return parts(photos(tmp_path_factory.mktemp("buckets"), sizes), count=3, multiple=4)[0]


def reading(data, **options):
    return ImageBatches(dataset=data, codec=Pixels(), **options)


def of_bucket(data, bucket):
    return (data.buckets == bucket).nonzero()[:, 0]


NETWORKS = {
    "dit": DiT.Config(width=32, depth=2, head_dim=16, patch=4, channels=3),
    "unet": UNet.Config(width=8, channel_mult=(1, 2, 2), blocks=1, attention=(2,), head_dim=8, channels=3),
}


def level(batches, denoiser, process, items):
    log_snr = torch.tensor([-2.0, 1.0], dtype=torch.float64)
    return level_losses(denoiser, process, batches(items), log_snr=log_snr, names=items)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_of_one_bucket_has_the_losses_of_its_images_one_by_one(data, name):
    method, batches = tiny.method(NETWORKS[name]), reading(data)
    method.denoiser.network.eval()
    made = method.denoiser, method.process
    for bucket in data.buckets.unique().tolist():
        items = of_bucket(data, bucket)[:5]
        batch = batches(items)
        width, height = data.sizes[bucket]
        assert batch.x.shape[1:] == (3, height, width)
        assert batch.condition is None
        together = level(batches, *made, items)
        alone = torch.cat([level(batches, *made, i[None]) for i in items], 1)
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_in_a_batch_of_several_buckets_each_image_is_padded_and_the_network_sees_it_alone(data, name):
    items = torch.cat([of_bucket(data, bucket)[:2] for bucket in (2, 0, 1)])
    batches = reading(data, flip=True)
    noise = SampleNoise(seeds=items, steps=torch.zeros_like(items))
    batch, network = batches(items, noise), tiny.method(NETWORKS[name]).denoiser.network.double().eval()
    c_time = torch.linspace(-1, 1, len(items), dtype=torch.float64)
    y = network(batch.x.double(), c_time, batch.condition)
    for i, item in enumerate(items):
        one = SampleNoise(seeds=item[None], steps=torch.zeros(1, dtype=torch.int64))
        x = batches(item[None], one).x
        inside = (i, slice(None), slice(x.shape[2]), slice(x.shape[3]))
        assert torch.equal(batch.x[inside], x[0])
        assert int(batch.condition.data_mask[i].sum()) == x[0, 0].numel()
        assert bool(batch.condition.data_mask[i, : x.shape[2], : x.shape[3]].all())
        assert bool(batch.x[i, :, ~batch.condition.data_mask[i]].eq(0).all())
        torch.testing.assert_close(y[inside], network(x.double(), c_time[i : i + 1])[0], rtol=0, atol=1e-10)


def recipe(**training):
    return check({
        "data": {"kind": "image", "path": "."}, "network": {"kind": "dit"},
        "training": {"steps": 10, "batch": 4, **training},
    })  # fmt: skip


@pytest.mark.parametrize("batch", [1, 4, 7, 20, 33])
def test_every_image_is_trained_on_once_an_epoch_however_few_its_bucket_has(data, batch):
    made, batches = recipe(batch=batch, seed=5), reading(data)
    seen = []

    def read(items, noise=None):
        seen.extend(items.tolist())
        return batches(items, noise)

    class Recording:
        buckets, shape = batches.buckets, batches.shape
        __len__, __call__ = (lambda self: len(batches)), (lambda self, items, noise=None: read(items, noise))

    steps, count, every = training_batches(made, Recording()), len(data), torch.arange(batch)
    for step in range(-(-3 * count // batch)):
        steps(step, every, step_randomness(seed=5, step=step, samples=every, count=batch))
    for epoch in range(3):
        assert sorted(seen[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_nearly_all_batches_of_a_run_are_of_one_shape(tmp_path):
    sizes = [(60, 30), (40, 40), (30, 60)] * 50
    train, _ = parts(photos(tmp_path, sizes), count=3, multiple=4)
    order, every = DataOrder(count=len(train), batch=16, seed=1, buckets=train.buckets), torch.arange(16)
    epochs = 4
    steps = epochs * len(train) // 16
    mixed = sum(len(train.buckets[order.items(step, every)].unique()) > 1 for step in range(steps))
    assert 0 < mixed <= epochs * 2  # fewer an epoch than there are buckets


# ----------------------------------------------------------------------------------------------------- shown and refused


def test_a_grid_of_several_sizes_has_every_image_in_the_middle_of_its_cell():
    images = [torch.full((3, 8, 16), 40, dtype=torch.uint8), torch.full((3, 16, 8), 90, dtype=torch.uint8)]
    sheet = np.array(grid(images, columns=2, zoom=1))
    assert sheet.shape == (16 + 8, 2 * (16 + 4) + 4, 3)
    assert (sheet == 40).all(2).sum() == (sheet == 90).all(2).sum() == 128
    assert (sheet[8:16, 4:20] == 40).all()
    assert (sheet[4:20, 28:36] == 90).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"count": 4}, "an odd number from 3 to 99"),
        ({"count": 1}, "an odd number from 3 to 99"),
        ({"max_ratio": 1.0}, "above 1 and at most 16"),
        ({"max_ratio": float("nan")}, "above 1 and at most 16"),
        ({"multiple": 0}, "at least 1"),
        ({"sizes": ((0, 4),)}, "1 to 16,384 pixels"),
        ({"sizes": ((4, 4),), "images": (1, 2)}, "for each of data.buckets.sizes"),
        ({"sizes": ((4, 4),), "images": (0,)}, "are none"),
    ],
)
def test_buckets_that_make_no_sense_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        Buckets(**changes)


def test_a_square_that_is_no_multiple_is_refused():
    with pytest.raises(ValueError, match=r"multiple 12 must divide data.size 32"):
        Buckets(multiple=12).of_side(32)
    with pytest.raises(ValueError, match=r"and a multiple of the 8 that a place"):
        Buckets(multiple=4).of_side(32, stride=8)


@pytest.mark.parametrize(
    "changes",
    [{"builtin": "digits"}, {"path": ".", "enlarge": 4}, {"path": ".", "codec": {"kind": "codes", "path": "."}}],
)
def test_what_is_of_squares_only_has_no_buckets(changes):
    with pytest.raises(ValueError, match=r"of squares only: leave it, or data\.buckets, out"):
        check({"data": {"kind": "image", "buckets": {}, **changes}, "network": {"kind": "dit"}})


def test_pictures_that_are_all_squares_have_no_buckets(tmp_path):
    make_cifar(tmp_path, 20)
    with pytest.raises(ValueError, match=r"all images are of 32x32 pixels: leave data.buckets out"):
        load_parts(Folder(path=str(tmp_path)), buckets=Buckets().of_side)


@pytest.mark.parametrize("text", ["48", "48x", "x24", "0x4", "48x0", "a:b", "-1x4", "1x2x3", "", "999999x4"])
def test_a_size_that_cannot_be_read_is_refused(text):
    for option in ({"size": text, "ratio": None}, {"size": None, "ratio": text}):
        with pytest.raises(ValueError, match="such as"):
            parsed(**option)


def test_a_size_or_a_ratio():
    assert parsed("48x24", None) == (48, 24)
    assert parsed(None, "2:1") == (2, 1)
    assert parsed(None, None) is None
    with pytest.raises(ValueError, match="give one"):
        parsed("48x24", "2:1")
