"""What is given stays to the bit, the rest is drawn, and masks are read as they are meant."""

import numpy as np
import pytest
import torch
from PIL import Image

from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import kinds_for
from langevin.modalities.image.inpaint import drawn
from langevin.modalities.image.options import Sample
from langevin.modalities.modality import RequestContext
from langevin.run.directory import load_model, open_run
from langevin.run.generate import changed

KINDS = [kind for kind in kinds_for(Gaussian()) if kind != "learned"]


@pytest.fixture(scope="module")
def model(trained):
    return load_model(open_run(trained))[0]


@pytest.fixture
def files(tmp_path):
    """An image, and a mask of its right half."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return pixels, str(tmp_path / "image.png"), str(tmp_path / "mask.png")


def made(model, options, *, count=3, **changes):
    drawing = changed(model, **changes)
    context = RequestContext(model=drawing, data=lambda: (None, None), count=count, seed=1)
    return drawing.run(drawing.modality.plan(options, context), batch=2).values


@pytest.mark.parametrize("kind", KINDS)
def test_given_pixels_stay_and_the_rest_differs(model, files, kind):
    pixels, image, mask = files
    found = made(model, Sample(condition=("bar",), image=image, mask=mask), sampler=kind, steps=6)
    wanted = torch.from_numpy(pixels).permute(2, 0, 1)
    assert all(torch.equal(one[:, :, :4], wanted[:, :, :4]) for one in found)
    assert len({one[:, :, 4:].numpy().tobytes() for one in found}) == 3


def test_masks_are_white_or_transparent_where_is_drawn(tmp_path):
    right = torch.zeros(8, 8, dtype=torch.bool)
    right[:, 4:] = True
    grey = np.full((8, 8), 90, np.uint8)
    white = np.where(right.numpy(), 255, 0).astype(np.uint8)
    Image.fromarray(white).save(tmp_path / "white.png")
    holes = np.dstack([grey, np.where(right.numpy(), 0, 255).astype(np.uint8)])
    Image.fromarray(holes, "LA").save(tmp_path / "holes.png")
    Image.fromarray(np.where(right.numpy(), 255, 0).astype(np.uint8)).convert("1").save(tmp_path / "bits.png")
    for name in ("white", "holes", "bits"):
        assert torch.equal(drawn(tmp_path / f"{name}.png", 8), right), name


def test_what_does_not_fit_is_refused(model, files, tmp_path):
    _, image, mask = files
    for level, what in ((0, "nothing"), (255, "all of the image")):
        Image.new("L", (8, 8), level).save(tmp_path / "flat.png")
        with pytest.raises(ValueError, match=f"covers {what}"):
            made(model, Sample(image=image, mask=str(tmp_path / "flat.png")))
    with pytest.raises(ValueError, match="--image and --mask belong together"):
        made(model, Sample(image=image))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(ValueError, match="broken"):
        made(model, Sample(image=str(tmp_path / "broken.png"), mask=mask))
