"""The recipe chosen for a folder fits the data, grows with the time, and says why."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from langevin.modalities.image.data import InMemory
from langevin.recipe.build import build, complete
from langevin.recipe.choose import LADDER, choose, multiply_adds, patch_for
from langevin.recipe.read import check, dump, override, read_tree
from tests import tiny

RATE = 5e10
WORDS = ("a red disc", "a green bar", "a blue ring")


def images(count, side=8, *, channels=3, told="classes"):
    """Images of any number whose pixels are all the same few."""
    captions = tuple(WORDS[i % 3] for i in range(count)) if told == "captions" else None
    some = tiny.images(1, side=side, channels=channels, labelled=False)
    pixels = some.store.pixels.expand(count, -1, -1, -1)
    labels = torch.arange(count) % 3 if told == "classes" else None
    return replace(
        some, classes=tiny.CLASSES if told == "classes" else (), labels=labels, captions=captions,
        names=tuple(map(str, range(count))), rows=tuple(range(count)), store=InMemory(pixels=pixels),
    )  # fmt: skip


def chosen(data, *, minutes=10.0, rate=RATE):
    return choose(Path("somewhere/pictures"), data, minutes=minutes, rate=rate)


def cost(recipe, side):
    return multiply_adds(recipe.network.width, recipe.network.depth, (side // recipe.network.patch) ** 2)


def test_the_ladder_climbs():
    costs = [multiply_adds(width, depth, 64) for width, depth in LADDER]
    assert costs == sorted(costs)


def test_multiply_adds_are_those_that_a_transformer_makes():
    with torch.device("meta"):
        block = build_block()
    matrices = sum(p.numel() for n, p in block.named_parameters() if p.ndim == 2 and "modulate" not in n)
    modulation = sum(p.numel() for n, p in block.named_parameters() if p.ndim == 2 and "modulate" in n)
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


def test_a_faster_machine_never_gets_a_smaller_network():
    data = images(2000, 32)
    costs = [cost(chosen(data, rate=rate).recipe, 32) for rate in (1e8, 1e10, 1e12, 1e15)]
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
@pytest.mark.parametrize("told", ["classes", "captions", "nothing"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_choice_is_valid_for_any_data_and_says_why(count, told, channels, tmp_path):
    data = images(count, 16, channels=channels, told=told)
    found = chosen(data)
    recipe = found.recipe
    assert recipe.sampling.guidance == (1.0 if told == "nothing" else 2.0)
    assert {"nothing": "told nothing", "classes": "3 classes", "captions": "captions"}[told] in found.reasons[0]
    assert f"{count} of 16x16x{channels}" in found.reasons[0]
    assert f"width {recipe.network.width}" in found.reasons[1]
    path = tmp_path / "a.yaml"
    path.write_text(dump(recipe))
    assert check(read_tree(path)) == recipe


def test_few_images_seen_often_get_dropout():
    assert chosen(images(100), minutes=60).recipe.network.dropout > 0
    assert chosen(images(100_000), minutes=1).recipe.network.dropout == 0


def test_few_captions_are_remembered_and_many_are_read():
    few, many = (chosen(images(n, told="captions")).recipe for n in (3000, 50_000))
    assert few.network.sketch > 0
    assert few.network.ports.text == "vector"
    assert few.learning.times.mean > many.learning.times.mean
    assert (many.network.sketch, many.network.ports.text) == (0, "tokens")
    assert chosen(images(3000, told="classes")).recipe.network.sketch == 0


def test_a_chosen_recipe_completes_builds_and_takes_changes():
    data = tiny.images(30, channels=3)
    recipe = complete(chosen(data).recipe, data)
    with torch.device("meta"):
        recipe.network.build()
    assert recipe.classes == tiny.CLASSES
    assert recipe.network.ports.classes == 3
    path = chosen(data).recipe.data.path
    assert Path(path) == Path("somewhere/pictures")
    assert build(complete(small(chosen(data).recipe), data)).network.config.width == 32


def small(recipe):
    return replace(recipe, network=replace(recipe.network, width=32, depth=1))


@pytest.mark.parametrize(("changes", "words"), [
    (["network.patch=3"], "images of side 8 do not fit patches of 3"),
    (["network={kind: unet, multipliers: [1, 1, 1, 1, 1], attention: []}"], "multiple of 16"),
    (["network={kind: mlp}"], "mlp reads no images"),
    (["network.dimensions=3"], "dimensions"),
])  # fmt: skip
def test_a_network_that_does_not_fit_the_pictures_says_why(changes, words):
    data = tiny.images(30)
    tree = override({"data": {"kind": "folder", "path": "a"}, "network": {"kind": "dit"}}, changes)
    with pytest.raises(ValueError, match=words):
        complete(check(tree), data)


def test_pictures_that_are_all_the_same_teach_nothing():
    data = tiny.images(30)
    flat = replace(data, store=InMemory(pixels=torch.full((30, 1, 8, 8), 7, dtype=torch.uint8)))
    with pytest.raises(ValueError, match="nothing to learn"):
        complete(chosen(data).recipe, flat)
