"""Edits of images: what is given is kept, options that make no sense are refused, and inputs are read as they are meant."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from langevin import notebook
from langevin.cli import main
from langevin.diffusion.measurement.kinds import block_means, blur_matrix
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import UniformTimeGrid, kinds_for
from langevin.modalities.image.edit.change import arc
from langevin.modalities.image.edit.inputs import Given, drawn
from langevin.modalities.image.options import Edit
from langevin.modalities.modality import RequestContext
from langevin.run.directory import load_model, open_run
from langevin.run.generate import changed
from tests.tiny import images as tiny_images

KINDS = [kind for kind in kinds_for(Gaussian()) if kind not in ("learned", "flow_map")]


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
    return torch.from_numpy(pixels).permute(2, 0, 1), str(tmp_path / "image.png"), str(tmp_path / "mask.png")


def saved(tmp_path, pixels, name="other.png", mode=None) -> str:
    Image.fromarray(np.asarray(pixels, np.uint8), mode).save(tmp_path / name)
    return str(tmp_path / name)


def samples(model, options, *, count=3, said=None, **changes):
    drawing = changed(model, **changes)
    context = RequestContext(
        model=drawing, data=lambda: (None, None), count=count, seed=1, chosen=frozenset(changes),
        say=(lambda line: None) if said is None else said.append,
    )  # fmt: skip
    return drawing.run(drawing.modality.plan(options, context), batch=2)


def answers(model, options, *, count=3, **changes):
    return samples(model, options, count=count, **changes).drawn.values


# ------------------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("kind", KINDS)
def test_given_pixels_stay_to_the_bit_and_the_rest_differs(model, files, kind):
    pixels, image, mask = files
    found = answers(model, Edit(input=image, mask=mask, condition=("bar",)), sampler=kind, steps=6)
    assert all(torch.equal(one[:, :, :4], pixels[:, :, :4]) for one in found)
    assert len({one[:, :, 4:].numpy().tobytes() for one in found}) == 3


@pytest.mark.parametrize("method", ["mmps", "pigdm", "ddnm", "dps", "daps", "gibbs"])
def test_every_method_keeps_what_is_given(model, files, method):
    pixels, image, mask = files
    found = answers(model, Edit(input=image, mask=mask, method=method, noise=2.0), steps=60 if method == "dps" else 12)
    off = (found[..., :4].float() - pixels[..., :4]).square().mean().sqrt()
    free = (
        (answers(model, Edit(input=image, strength=1.0), steps=12)[..., :4].float() - pixels[..., :4])
        .square()
        .mean()
        .sqrt()
    )
    assert off < (0.7 * free if method == "dps" else 4)


def test_given_pixels_that_are_noisy_are_not_put_back(model, files):
    pixels, image, mask = files
    found = answers(model, Edit(input=image, mask=mask, denoise=40.0), steps=8)
    assert not torch.equal(found[0, :, :, :4], pixels[:, :, :4])


def test_masks_are_white_or_transparent_where_is_drawn_or_a_rectangle(tmp_path):
    right = torch.zeros(8, 8, dtype=torch.bool)
    right[2:6, 4:] = True
    given = Given(pixels=torch.zeros(3, 8, 8), hidden=torch.zeros(8, 8).bool(), stored=(8, 8))
    white = np.where(right.numpy(), 255, 0).astype(np.uint8)
    holes = np.dstack([np.full((8, 8), 90, np.uint8), 255 - white])
    masks = [saved(tmp_path, white, "white.png"), saved(tmp_path, holes, "holes.png", "LA"), "4,2,4,4"]
    Image.fromarray(white).convert("1").save(tmp_path / "bits.png")
    for mask in [*masks, str(tmp_path / "bits.png")]:
        assert torch.equal(drawn(mask, given), right), mask
    assert torch.equal(drawn(None, replace(given, hidden=right)), right)


def test_a_rectangle_is_in_pixels_of_the_file_also_where_it_is_resized():
    """A file of 40 x 20 whose central square becomes 10 x 10: one pixel for two, from x = 10 on."""
    given = Given(
        pixels=torch.zeros(3, 10, 10), hidden=torch.zeros(10, 10).bool(), stored=(40, 20), corner=(10, 0), scale=0.5
    )
    part = drawn("12,4,6,8", given)
    rows, columns = part.nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 5, 1, 3)
    with pytest.raises(ValueError, match="ends at 41,5, and the image is 40 x 20"):
        drawn("40,4,1,1", given)


def test_a_transparent_part_of_the_input_is_its_mask(model, files, tmp_path):
    pixels, _, _ = files
    alpha = np.full((8, 8, 1), 255, np.uint8)
    alpha[:3] = 0
    holed = saved(tmp_path, np.concatenate([pixels.permute(1, 2, 0).numpy(), alpha], 2), "holed.png", "RGBA")
    said = []
    found = samples(model, Edit(input=holed), said=said, steps=6)
    assert torch.equal(found.values[0, :, 3:], pixels[:, 3:])
    assert said == ["holed.png is partly transparent: what is so is drawn anew"]


# ---------------------------------------------------------------------------------------------------------- measured


def mean_of_blocks(images, factor):
    return torch.nn.functional.avg_pool2d(images.float(), factor)


@pytest.mark.parametrize("factor", [2, 4])
def test_what_is_enlarged_has_the_input_as_its_block_means(model, tmp_path, factor):
    small = np.random.default_rng(1).integers(60, 200, (8 // factor, 8 // factor, 3), np.uint8)
    found = answers(model, Edit(input=saved(tmp_path, small), enlarge=factor), steps=30)
    off = mean_of_blocks(found, factor) - torch.from_numpy(small).permute(2, 0, 1)
    assert found.shape == (3, 3, 8, 8)
    assert off.abs().mean() < 4
    assert (found[0] != found[1]).any()


def test_what_is_deblurred_is_the_input_once_blurred(model, files, tmp_path):
    pixels, _, _ = files
    blur = blur_matrix(8, 0.8)
    blurred = (blur @ pixels.float() @ blur.T).round()
    found = answers(model, Edit(input=saved(tmp_path, blurred.permute(1, 2, 0)), deblur=0.8), steps=30)
    assert ((blur @ found.float() @ blur.T) - blurred).abs().mean() < 5


def test_what_is_coloured_has_the_brightness_of_the_input(model, tmp_path):
    grey = np.random.default_rng(2).integers(60, 200, (8, 8), np.uint8)
    found = answers(model, Edit(input=saved(tmp_path, grey), colour=True), steps=30).float()
    luma = 0.299 * found[:, 0] + 0.587 * found[:, 1] + 0.114 * found[:, 2]
    assert (luma - torch.from_numpy(grey)).abs().mean() < 4
    assert (found[:, 0] - found[:, 1]).abs().mean() > 5


def test_the_coarse_is_locked_and_the_fine_drawn_anew(model, files):
    pixels, image, _ = files
    found = answers(model, Edit(input=image, lock_coarse=2), steps=30)
    assert (mean_of_blocks(found, 4) - mean_of_blocks(pixels[None], 4)).abs().max() <= 0.5  # pixels are rounded
    assert (found[0].float() - pixels).abs().mean() > 20
    loose = answers(model, Edit(input=image, lock_coarse=2, noise=20.0), steps=30)  # it is not to be trusted so far
    assert (mean_of_blocks(loose, 4) - mean_of_blocks(pixels[None], 4)).abs().max() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_locked_square_of_white_is_white_with_every_sampler(model, tmp_path, kind):
    """Where values beyond white were clipped after the drawing, its mean would be darker."""
    half = np.full((8, 8, 3), 255, np.uint8)
    half[4:] = np.random.default_rng(0).integers(0, 256, (4, 8, 3))
    found = answers(model, Edit(input=saved(tmp_path, half), lock_coarse=2), sampler=kind, steps=4)
    assert (found[:, :, :4] == 255).all()
    wanted = mean_of_blocks(torch.from_numpy(half).permute(2, 0, 1)[None], 4)
    assert (mean_of_blocks(found, 4) - wanted).abs().max() <= 0.5


@pytest.mark.parametrize("method", ["ddnm", "daps", "gibbs"])
def test_every_method_locks(model, files, method):
    pixels, image, _ = files
    found = answers(model, Edit(input=image, lock_coarse=4, method=method), steps=4)
    assert (mean_of_blocks(found, 2) - mean_of_blocks(pixels[None], 2)).abs().max() <= 0.5


def test_a_border_is_drawn_around_the_input(model, files, tmp_path):
    pixels, _, _ = files
    found = answers(model, Edit(input=saved(tmp_path, pixels[:, 2:6, 2:6].permute(1, 2, 0)), outpaint=2), steps=6)
    assert torch.equal(found[0, :, 2:6, 2:6], pixels[:, 2:6, 2:6])
    assert (found[0, :, :2] != found[1, :, :2]).any()


def test_noise_is_removed_from_where_it_is(model, files):
    """The reverse process from the input: little noise changes little, and no measurement is needed."""
    pixels, image, _ = files
    near, far = (
        (answers(model, Edit(input=image, denoise=level), steps=20).float() - pixels).square().mean().sqrt()
        for level in (2.0, 60.0)
    )
    assert near < 6
    assert far > 3 * near


def test_larger_images_are_drawn_in_tiles(model, tmp_path):
    large = np.random.default_rng(3).integers(0, 256, (12, 20, 3), np.uint8)
    file = saved(tmp_path, large)
    found = answers(model, Edit(input=file, mask="3,2,10,6", fit="tile"), steps=6)
    kept = torch.ones(12, 20).bool()
    kept[2:8, 3:13] = False
    assert found.shape == (3, 3, 12, 20)
    assert torch.equal(found[0][:, kept], torch.from_numpy(large).permute(2, 0, 1)[:, kept])
    assert answers(model, Edit(input=file, enlarge=2, fit="tile"), steps=4).shape == (3, 3, 24, 40)


def test_blocks_and_blurs_keep_brightness():
    for matrix in (block_means(8, 2), blur_matrix(8, 0.7), blur_matrix(8, 30.0), blur_matrix(3, 0.01)):
        torch.testing.assert_close(matrix.sum(1), torch.ones(len(matrix)))
    torch.testing.assert_close(blur_matrix(5, 1e-9), torch.eye(5))


# ----------------------------------------------------------------------------------------------------------- changes


def test_little_strength_changes_little_and_all_of_it_everything(model, files):
    pixels, image, _ = files
    off = [
        (answers(model, Edit(input=image, strength=s), steps=20).float() - pixels).square().mean().sqrt()
        for s in (0.02, 0.3, 1.0)
    ]
    assert off == sorted(off)
    assert off[0] < 8
    assert off[2] > 40


def test_the_flow_goes_to_noise_and_comes_back(model, files):
    """Inverted and generated under the same condition the image is what it was."""
    pixels, image, _ = files
    coarse, fine = (
        (
            answers(model, Edit(input=image, to=("bar",), condition=("bar",), invert=True), count=1, steps=steps)[
                0
            ].float()
            - pixels
        )
        .abs()
        .mean()
        for steps in (8, 100)
    )
    assert fine < 1
    assert coarse > fine


def test_from_a_run_to_itself_an_image_stays_and_the_change_is_told(model, files):
    pixels, image, _ = files
    twin, said = replace(model, others={"source": model}), []
    train = tiny_images(32, channels=3)
    context = RequestContext(
        model=twin, data=lambda: (train, train), count=1, seed=1, chosen=frozenset({"steps"}), say=said.append
    )
    options = Edit(input=image, source="elsewhere", condition=("bar",), to=("bar",))
    twin = changed(twin, steps=100)
    found = twin.run(twin.modality.plan(options, replace(context, model=twin))).drawn.values
    assert (found[0].float() - pixels).abs().mean() < 1
    assert said[-1].startswith("content: the coarse correlates 1.00 with the input; style: ")
    with pytest.raises(ValueError, match="it goes with --to and --condition only"):
        next(twin.modality.plan(Edit(input=image, source="elsewhere", strength=0.5), context))


def test_another_run_is_loaded_by_its_name_in_python_as_by_the_command(trained, files, tmp_path):
    _, image, _ = files
    options = {"source": trained, "condition": "bar", "to": "disc"}
    found = notebook.load(trained).edit(image, 1, steps=4, seed=3, **options).values
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    out = tmp_path / "out.npz"
    assert (
        main(["edit", str(trained), image, "--count", "1", "--steps", "4", "--seed", "3", *words, "--out", str(out)])
        == 0
    )
    assert np.array_equal(np.load(out)["images"], found.permute(0, 2, 3, 1).numpy())


def test_between_two_images_one_becomes_the_other(model, files, tmp_path):
    pixels, image, _ = files
    second = torch.from_numpy(np.random.default_rng(5).integers(0, 256, (3, 8, 8), np.uint8))
    between = saved(tmp_path, second.permute(1, 2, 0))
    found = answers(model, Edit(input=image, between=between), count=9, steps=60).float()
    first, last = ((found - end).square().flatten(1).mean(1) for end in (pixels, second))
    assert first[0] < first[4] < first[8]
    assert last[8] < last[4] < last[0]
    a, b = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    on = arc(a, b, torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(on[0], a)
    torch.testing.assert_close(on[2], b)
    assert on[1].norm() == pytest.approx(float((a.norm() + b.norm()) / 2), rel=0.02)


def test_the_overview_shows_input_mean_and_spread(model, files):
    pixels, image, mask = files
    found = samples(model, Edit(input=image, mask=mask), steps=6)
    assert found.names == ("answer 1", "answer 2", "answer 3", "input", "mean", "spread, doubled")
    assert torch.equal(found.values[3], pixels)
    assert (found.values[4].float() - found.values[:3].float().mean(0)).abs().max() <= 1
    assert not bool(found.values[5][:, :, :4].any())
    spread = 2 * found.values[:3, :, :, 4:].float().std(0, correction=0)
    assert (found.values[5][:, :, 4:].float() - spread.clamp_max(255)).abs().max() < 2


def test_the_range_of_the_answers_is_shown_if_asked_for(model, files):
    _, image, mask = files
    found = samples(model, Edit(input=image, mask=mask, spread=True), steps=6)
    assert found.names[-2:] == ("smallest", "largest")
    assert torch.equal(found.values[-2], found.values[:3].amin(0))
    assert torch.equal(found.values[-1], found.values[:3].amax(0))


def test_the_sampling_that_was_used_is_told(model, files):
    _, image, mask = files
    found = samples(model, Edit(input=image, mask=mask))
    assert (found.sampling.sampler.kind, found.sampling.steps) == ("ancestral", 40)
    assert samples(model, Edit(input=image, mask=mask), sampler="heun", steps=3).sampling.sampler.kind == "heun"


# ---------------------------------------------------------------------------------------------------------- refusals

REFUSED = [
    ({}, "nothing to edit: give --mask"),
    ({"denoise": 0.0}, "--denoise is a standard deviation above 0 and at most 255, got 0"),
    ({"denoise": float("nan")}, "--denoise is a standard deviation"),
    ({"deblur": -1.0}, "--deblur is a standard deviation"),
    ({"noise": 0.0, "mask": "0,0,4,4"}, "--noise is a standard deviation"),
    ({"enlarge": 1}, "--enlarge is a whole number from 2 to 1024, got 1"),
    ({"enlarge": 3}, "--enlarge 3 does not fit a run of 8 x 8 pixels"),
    ({"enlarge": 2}, r"is 8 x 8 pixels, and 4 x 4 are needed here: give --fit resize"),
    ({"outpaint": 4}, "--outpaint 4 does not fit a run of 8 x 8"),
    ({"outpaint": 1, "mask": "0,0,4,4"}, "takes neither --mask nor --enlarge"),
    ({"lock_coarse": 3}, "--lock-coarse 3 does not divide an image of 8 x 8"),
    ({"lock_coarse": 8}, "--lock-coarse 8 does not divide"),
    ({"lock_coarse": 2, "colour": True}, "do one after the other"),
    ({"mask": "0,0,4,4", "to": ("bar",)}, "--mask repairs an image and --to changes it"),
    ({"strength": 0.0}, "above 0 and at most 1, got 0"),
    ({"strength": 1.5}, "above 0 and at most 1, got 1.5"),
    ({"strength": float("nan")}, "above 0 and at most 1"),
    ({"invert": True}, "--invert generates under another condition: give it by --to"),
    ({"invert": True, "to": ("bar",), "strength": 0.5}, "give one"),
    ({"to": ("nothing",)}, "no class is called 'nothing'"),
    ({"mask": "0,0,0,4"}, "WIDTH and HEIGHT from 1"),
    ({"mask": "-1,0,4,4"}, "X and Y from 0"),
    ({"mask": "0,0,8,8"}, "covers all of the image"),
    ({"mask": "missing.png"}, "missing.png"),
    ({"mask": "1,2,3"}, "--mask 1,2,3 has 3 numbers: write X,Y,WIDTH,HEIGHT"),
    ({"denoise": 25.0, "noise": 80.0}, "--noise has no effect here"),
    ({"denoise": 25.0, "method": "pigdm"}, "--method has no effect"),
    ({"to": ("bar",), "invert": True, "noise": 9.0}, "--noise has no effect here, as a change has no noise"),
    ({"to": ("bar",), "invert": True, "spread": True}, "--spread has no effect"),
    ({"to": ("bar",), "method": "dps"}, "--method has no effect"),
    ({"to": ("bar",), "condition": ("disc",)}, "--condition has no effect"),
    ({"strength": 0.5, "fit": "tile"}, "only repairs are drawn in tiles"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[str(options) for options, _ in REFUSED])
def test_options_without_sense_are_refused_before_any_work(model, files, options, message):
    _, image, _ = files
    context = RequestContext(model=model, data=lambda: (None, None), count=1)
    with pytest.raises(ValueError, match=message):
        next(model.modality.plan(Edit(input=image, **options), context))


@pytest.mark.parametrize(
    ("options", "chosen", "message"),
    [
        ({"mask": "0,0,4,4"}, {"guidance"}, "--guidance has no effect here, as nothing leads anywhere"),
        (
            {"to": ("bar",), "invert": True},
            {"sampler"},
            "--sampler has no effect here, as the flow is followed by Heun",
        ),
        ({"mask": "0,0,4,4", "method": "gibbs"}, {"sampler"}, "has a sampler of its own"),
        ({"mask": "0,0,4,4", "method": "daps", "condition": ("bar",)}, {"guidance"}, "and no guidance"),
    ],
)
def test_drawing_options_without_effect_are_refused(model, files, options, chosen, message):
    context = RequestContext(
        model=model, data=lambda: (None, None), count=1, chosen=frozenset(chosen), guided="guidance" in chosen
    )
    with pytest.raises(ValueError, match=message):
        model.modality.plan(Edit(input=files[1], **options), context)


@pytest.mark.parametrize("options", [{"lock_coarse": 4}, {"deblur": 0.1}])
def test_other_repairs_take_what_is_transparent_for_white_as_training_does(model, tmp_path, options):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[:3, :3, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "hole.png")
    said = []
    found = samples(model, Edit(input=str(tmp_path / "hole.png"), **options), count=2, said=said).drawn.values.float()
    pixels[:3, :3, :3] = 255
    truth = torch.from_numpy(pixels[..., :3]).permute(2, 0, 1)[None].float()
    means, expected = (torch.nn.functional.avg_pool2d(x, 2) for x in (found, truth))
    assert float((means - expected).abs().mean()) < 12
    assert "hole.png is partly transparent: that is white, as in training" in said


def test_answers_that_would_be_too_large_are_refused(model, tmp_path):
    large = saved(tmp_path, np.zeros((600, 600, 3)), "large.png")
    context = RequestContext(model=model, data=lambda: (None, None), count=1)
    with pytest.raises(ValueError, match=r"would have 4800 x 4800 pixels, more than 4,194,304: give --fit resize"):
        model.modality.plan(Edit(input=large, enlarge=8, fit="tile"), context)


@pytest.mark.parametrize("method", ["daps", "gibbs"])
def test_turns_begin_below_infinity(model, files, method):
    """A grid of a run may begin at pure noise, where sigma / alpha has no number."""
    model = replace(model, sampling=replace(model.sampling, grid=UniformTimeGrid()))
    found = answers(model, Edit(input=files[1], mask=files[2], method=method), steps=3)
    assert (found[..., :4] == files[0][..., :4]).all()


def test_inputs_that_do_not_fit_are_refused(model, files, tmp_path):
    _, image, mask = files
    context = RequestContext(model=model, data=lambda: (None, None), count=1)

    def plan(**options):
        return next(model.modality.plan(Edit(**options), context))

    wide = saved(tmp_path, np.zeros((9, 12, 3)), "wide.png")
    with pytest.raises(ValueError, match=r"wide.png is 12 x 9 pixels, and 8 x 8 are needed here: give --fit resize"):
        plan(input=wide, mask="0,0,2,2")
    with pytest.raises(ValueError, match="smaller than the 8 of a tile"):
        plan(input=saved(tmp_path, np.zeros((4, 30, 3)), "flat.png"), mask="0,0,2,2", fit="tile")
    with pytest.raises(ValueError, match=r"mask.png is 8 x 8 pixels, and the image 12 x 9: they must be equal"):
        plan(input=wide, mask=mask, fit="resize")
    for level, what in ((0, "nothing"), (255, "all of the image")):
        with pytest.raises(ValueError, match=f"covers {what}"):
            plan(input=image, mask=saved(tmp_path, np.full((8, 8), level), f"{level}.png"))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(ValueError, match="broken"):
        plan(input=str(tmp_path / "broken.png"), mask=mask)
    Image.new("1", (5000, 1000)).save(tmp_path / "huge.png")
    with pytest.raises(ValueError, match=r"5000 x 1000 pixels, more than 4,194,304: give --fit resize"):
        plan(input=str(tmp_path / "huge.png"), mask="0,0,2,2", fit="tile")
