"""The recipe chosen for a folder fits the data, grows with the time, and says why."""

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from langevin.diffusion.guidance import weight_of
from langevin.diffusion.schedule import rho
from langevin.modalities.image.data import InMemory
from langevin.modalities.image.modality import Image
from langevin.modalities.image.suggest import SIZES, multiply_adds, patch_for
from langevin.modalities.modality import Budget
from langevin.recipe.build import build
from langevin.recipe.complete import complete
from langevin.recipe.read import check, dump, merge, override, read_tree
from langevin.run.plan import Wanted, plan
from langevin.training import machine
from tests import pictures, tiny

FLOPS = 3e11
CAPTIONS = ("a red disc", "a green bar", "a blue ring")


def images(count, side=8, *, channels=3, known="classes"):
    """Images of any number whose pixels are all the same few."""
    captions = tuple(CAPTIONS[i % 3] for i in range(count)) if known == "captions" else None
    some = tiny.images(1, side=side, channels=channels, labelled=False)
    pixels = some.store.pixels.expand(count, -1, -1, -1)
    labels = torch.arange(count) % 3 if known == "classes" else None
    return replace(
        some, classes=tiny.CLASSES if known == "classes" else (), labels=labels, captions=captions,
        names=tuple(map(str, range(count))), rows=tuple(range(count)), store=InMemory(pixels=pixels),
    )  # fmt: skip


def chosen(data, *, minutes=10.0, flops=FLOPS):
    image = Image(path="somewhere/pictures")
    found = image.suggest(data, Budget(minutes=minutes, flops=flops))
    tree = merge({"data": asdict(image), "training": {"minutes": minutes}}, found.recipe)
    return SimpleNamespace(recipe=check(tree), reasons=found.reasons)


def cost(recipe, side):
    return multiply_adds(recipe.network.width, recipe.network.depth, (side // recipe.network.patch) ** 2)


def test_the_ladder_climbs():
    costs = [multiply_adds(width, depth, 64) for width, depth in SIZES]
    assert costs == sorted(costs)


def test_multiply_adds_are_those_that_a_transformer_makes():
    with torch.device("meta"):
        block = build_block()
    matrices = sum(p.numel() for n, p in block.named_parameters() if p.ndim == 2 and "modulation" not in n)
    modulation = sum(p.numel() for n, p in block.named_parameters() if p.ndim == 2 and "modulation" in n)
    tokens, width = 50, 64
    assert multiply_adds(width, 1, tokens) == matrices * tokens + modulation + 2 * tokens * tokens * width


def build_block():
    return replace(tiny.NETWORKS["dit"], width=64, depth=1).build().blocks[0]


def test_more_minutes_never_give_a_smaller_network_and_in_the_end_a_larger_one():
    for side in (8, 32, 64):
        data = images(2000, side)
        costs = [cost(chosen(data, minutes=m).recipe, side) for m in (0.1, 1, 3, 10, 60, 600, 6000)]
        assert costs == sorted(costs)
        assert costs[0] < costs[-1]


def test_noise_is_shifted_with_the_size_of_images_larger_than_64_pixels_and_not_for_an_enlarger():
    """So that, averaged to 64 pixels, training times and the grid of sampling have the levels of 64 pixels."""
    small, large = chosen(images(300, 64)).recipe, chosen(images(300, 128)).recipe
    plain = small.process.schedule
    u, steps = torch.linspace(0.01, 0.99, 50, dtype=torch.float64), torch.tensor([12])
    for mine, other in (
        (large.method.times(u, plain), small.method.times(u, plain)),
        (large.sampling.grid(steps, plain)[0, :-1], small.sampling.grid(steps, plain)[0, :-1]),
    ):
        torch.testing.assert_close(rho(plain, mine), 2 * rho(plain, other))
    assert "noise 2 times as strong as for 64 pixels" in " ".join(chosen(images(300, 128)).reasons)
    worded = chosen(images(300, 128, known="captions")).recipe
    assert worded.method.times.times.mean == chosen(images(300, 64, known="captions")).recipe.method.times.mean
    found = Image(path="pictures", size=128, enlarge=32).suggest(images(300, 128), Budget(minutes=10, flops=FLOPS))
    assert "times" not in found.recipe["method"]
    assert "grid" not in found.recipe["sampling"]
    assert "conditioned on the image at 32 pixels and 3 classes" in found.reasons[0]


def test_a_faster_machine_never_gets_a_smaller_network():
    data = images(2000, 32)
    costs = [cost(chosen(data, flops=flops).recipe, 32) for flops in (1e8, 1e10, 1e12, 1e15)]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


@pytest.mark.parametrize(
    "side", [4, 5, 7, 8, 12, 16, 24, 28, 32, 45, 48, 50, 64, 81, 96, 97, 99, 100, 128, 200, 224, 256]
)
def test_a_choice_is_valid_for_any_side(side):
    data = images(40, side)
    found = chosen(data)
    recipe = found.recipe
    assert side % recipe.network.patch == 0
    torch.manual_seed(0)
    varied = torch.randint(0, 256, (40, *data.shape), dtype=torch.uint8)
    complete(recipe, replace(data, store=InMemory(pixels=varied)))
    grid = side // recipe.network.patch
    assert grid <= 32 or any(f"data.size={side // 8 * 8}" in reason for reason in found.reasons)


def test_patches_leave_eight_to_sixteen_a_side_where_the_side_allows_it():
    for side in (16, 24, 28, 32, 48, 50, 64, 96, 128, 200, 224, 256):
        assert 7 <= side // patch_for(side) <= 16


@pytest.mark.parametrize("count", [1, 2, 10, 1000, 100_000])
@pytest.mark.parametrize("known", ["classes", "captions", "nothing"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_choice_is_valid_for_any_data_and_says_why(count, known, channels, tmp_path):
    data = images(count, 16, channels=channels, known=known)
    found = chosen(data)
    recipe = found.recipe
    assert weight_of(recipe.sampling.guidance) == (1.0 if known == "nothing" else 2.0)
    condition = {"nothing": "nothing", "classes": "3 classes", "captions": "captions"}[known]
    assert f"conditioned on {condition}" in found.reasons[0]
    assert f"{count} of 16x16x{channels}" in found.reasons[0]
    assert f"width {recipe.network.width}" in found.reasons[1]
    path = tmp_path / "a.yaml"
    path.write_text(dump(recipe))
    assert check(read_tree(path)) == recipe


def test_few_images_seen_often_get_dropout():
    assert chosen(images(100), minutes=60).recipe.network.dropout > 0
    assert chosen(images(100_000), minutes=1).recipe.network.dropout == 0


def test_few_captions_are_remembered_and_many_are_read():
    few, many = (chosen(images(n, known="captions")).recipe for n in (3000, 50_000))
    assert few.network.caption_prior > 0
    assert few.network.conditioning.text == "pooled"
    assert few.method.times.mean > many.method.times.mean
    assert (many.network.caption_prior, many.network.conditioning.text) == (0, "cross_attention")
    assert chosen(images(3000, known="classes")).recipe.network.caption_prior == 0


def test_a_chosen_recipe_completes_builds_and_takes_changes():
    data = tiny.images(30, channels=3)
    recipe = complete(chosen(data).recipe, data)
    with torch.device("meta"):
        recipe.network.build()
    assert recipe.data.classes == tiny.CLASSES
    assert (recipe.data.size, recipe.data.channels) == (8, 3)
    assert recipe.network.conditioning.classes == 3
    path = chosen(data).recipe.data.path
    assert Path(path) == Path("somewhere/pictures")
    assert build(complete(small(chosen(data).recipe), data)).model.network.config.width == 32


def small(recipe):
    return replace(recipe, network=replace(recipe.network, width=32, depth=1))


@pytest.mark.parametrize(("changes", "words"), [
    (["network.patch=3"], "data of side 8 does not fit patches of 3"),
    (["network={kind: unet, channel_mult: [1, 1, 1, 1, 1], attention: []}"], "multiples of 16"),
    (["network={kind: mlp}"], "read by network.kind dit or unet or autoencoder or unet2d or dit2d, and this is mlp"),
    (["network.dimensions=3"], "network.dimensions is 3, and this data has 2"),
    (["process={kind: masked}"], "image data needs process.kind gaussian, and this is masked"),
])  # fmt: skip
def test_a_network_that_does_not_fit_the_pictures_says_why(changes, words):
    data = tiny.images(30)
    tree = override({"data": {"kind": "image", "path": "a"}, "network": {"kind": "dit"}}, changes)
    with pytest.raises(ValueError, match=words):
        complete(check(tree), data)


@pytest.mark.parametrize("side", range(8, 65))
def test_patches_divide_the_side_and_leave_four_or_more(side):
    patch = patch_for(side)
    assert side % patch == 0
    assert patch == 1 or side // patch >= 4


def test_minutes_of_the_recipe_are_those_of_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "matrix_rate", lambda dtype, **_: 4e10)
    folder = pictures.plain(tmp_path / "data", count=20, side=8)
    by_option = plan(Wanted(target=str(folder), minutes=0.05)).recipe
    assert plan(Wanted(target=str(folder), overrides=("training.minutes=0.05",))).recipe == by_option
    assert plan(Wanted(target=str(folder))).recipe.network != by_option.network


def test_pictures_that_are_all_the_same_teach_nothing():
    data = tiny.images(30)
    flat = replace(data, store=InMemory(pixels=torch.full((30, 1, 8, 8), 7, dtype=torch.uint8)))
    with pytest.raises(ValueError, match="nothing to learn"):
        complete(chosen(data).recipe, flat)
