"""Pixels to numbers and back, and pictures to look at."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from langevin.modalities.image.codec import Pixels
from langevin.modalities.image.modality import Image as Images
from langevin.modalities.image.preview import animation, grid, picture, png, side_by_side, zoom_for
from langevin.modalities.modality import Samples


def noise(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("codec", [Pixels(), Pixels(scale=1 / 64, offset=-2.0), Pixels(scale=1.0, offset=0.0)])
def test_every_value_survives_a_round_trip(codec):
    raw = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    x = codec.encode(raw)
    assert x.dtype == torch.float32
    assert torch.equal(codec.decode(x), raw)
    assert torch.equal(codec.decode(codec.encode(raw).double()), raw)


def test_the_default_spans_minus_one_to_one_and_leaves_its_input_alone():
    raw = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2)
    assert Pixels().encode(raw).flatten().tolist() == pytest.approx([-1.0, 1.0])
    assert raw.flatten().tolist() == [0, 255]


def test_values_beyond_the_range_are_cut_and_others_rounded_to_the_nearest():
    x = torch.tensor([-9.0, 9.0, -1 + 0.9 / 127.5, -1 + 0.4 / 127.5]).reshape(1, 1, 2, 2)
    assert Pixels().decode(x).flatten().tolist() == [0, 255, 1, 0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="not finite"):
        Pixels().decode(torch.full((1, 1, 2, 2), bad))


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_a_scale_that_cannot_be_undone_is_refused(scale):
    with pytest.raises(ValueError, match="scale of pixels must be positive"):
        Pixels(scale=scale)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_has_the_images_pixels(channels):
    image = noise(channels, 5, 4)
    shown = np.asarray(picture(image, zoom=3))
    expected = image.permute(1, 2, 0).numpy() if channels == 3 else image[0].numpy()
    assert np.array_equal(shown[::3, ::3], expected)
    assert shown.shape[:2] == (15, 12)


@pytest.mark.parametrize(("n", "columns"), [(1, None), (5, None), (7, 3), (4, 10)])
@pytest.mark.parametrize("captioned", [False, True])
def test_a_grid_holds_every_image_where_it_belongs(n, columns, captioned):
    images = noise(n, 3, 8, 8)
    captions = [f"number {i} with a name that is too long to stand below it" for i in range(n)] if captioned else None
    sheet = np.asarray(grid(images, columns=columns, captions=captions, zoom=2))
    across = columns or math.ceil(math.sqrt(n))
    for i in range(n):
        x, y = 4 + (i % across) * 20, 4 + (i // across) * (20 + 14 * captioned)
        assert np.array_equal(sheet[y : y + 16 : 2, x : x + 16 : 2], images[i].permute(1, 2, 0).numpy())


def test_small_images_are_enlarged_and_large_ones_are_not():
    assert zoom_for(8) == 12
    assert zoom_for(32) == 3
    assert zoom_for(4096) == 1


def test_a_png_is_lossless(tmp_path):
    image = noise(3, 6, 7)
    (tmp_path / "a.png").write_bytes(png(picture(image)))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), image.permute(1, 2, 0).numpy())


def test_files_are_one_an_image_by_name(tmp_path):
    images = noise(2, 1, 4, 4)
    samples = Samples(modality=Images(builtin="digits"), values=images, names=("a", "b/.. c"))
    samples.save(tmp_path / "new" / "folder")
    found = sorted((tmp_path / "new" / "folder").iterdir())
    assert [p.name for p in found] == ["00000-a.png", "00001-b____c.png"]
    for path, image in zip(found, images, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), image[0].numpy())
    with pytest.raises(ValueError, match=r"argument 2 is shorter"):
        replace(samples, names=("only one",)).save(tmp_path / "other")


def test_samples_are_written_in_the_forms_of_images_and_no_other(tmp_path):
    samples = Samples(modality=Images(builtin="digits"), values=noise(2, 1, 4, 4))
    assert np.array_equal(np.load(samples.save(tmp_path / "a.npz"))["images"][..., 0], samples.values[:, 0].numpy())
    assert samples.save(tmp_path / "a.png").read_bytes() == samples.preview().content == samples._repr_png_()
    with pytest.raises(ValueError, match=r"samples of image are written as .png, .npz, .gif, a folder; got .*a.jpg"):
        samples.save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="draw with frames=True to animate"):
        samples.save(tmp_path / "a.gif")


def test_an_animation_has_all_frames_and_rests_on_the_last():
    frames = [noise(2, 3, 8, 8), 255 - noise(2, 3, 8, 8), noise(2, 3, 8, 8) // 2]
    film = Image.open(io.BytesIO(animation(frames)))
    assert film.n_frames == 3
    durations = []
    for i in range(3):
        film.seek(i)
        durations.append(film.info["duration"])
    assert durations[2] == 1000
    assert durations[0] == durations[1] == 1000


def test_pairs_stand_side_by_side_with_a_bar_between():
    left, right = noise(2, 3, 4, 4), noise(2, 3, 4, 4) // 2
    both = side_by_side(left, right)
    assert both.shape == (2, 3, 4, 9)
    assert torch.equal(both[..., :4], left)
    assert torch.equal(both[..., 5:], right)
    assert (both[..., 4] == 255).all()
