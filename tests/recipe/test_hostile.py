"""Recipes that are damaged, or were written to do harm, are refused in words, soon, and without much memory."""

import os
import time

import pytest
import torch
import yaml

from langevin import strict_yaml
from langevin.networks import MLP, DiT, Transformer, UNet
from langevin.recipe import read
from langevin.recipe.build import build
from langevin.recipe.read import check, check_density, dump, is_density, override, read_tree, shipped
from langevin.user_function import CodePermission

BASE = {"data": {"kind": "image", "builtin": "digits"}, "network": {"kind": "dit", "width": 64, "head_dim": 32}}
LAUGHS = "l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]\n" for i in range(1, 10)
)


def write(folder, text, name="mine.yaml"):
    (folder / name).write_text(text, encoding="utf-8", errors="surrogatepass")
    return folder / name


@pytest.mark.parametrize(("text", "words"), [
    (LAUGHS, "anchors and aliases"),
    ("a: &a {x: *a}", "anchors and aliases"),
    ("a: &a 1", "line 1, column 4"),
    ("base: {a: 1}\n<<: {a: 2}", "merge keys"),
    ("a: !!binary aGk=", "tags"), ("a: ! b", "tags"), ("a: !!int x", "tags"), ("a: !!bool maybe", "tags"),
    ("[" * 100_000, "nested more than 50 deep"), ("- " * 100_000, "nested more than 50 deep"),
    ("? " * 100_000, "nested more than 50 deep"), ("{a: " * 60 + "1" + "}" * 60, "nested more than 50 deep"),
    ("a: 1\nb: 2\na: 3", "the key 'a' stands already in line 1"),
    ("network: {width: 3, width: 4}", "the key 'width' stands already"),
    ("1: a\n'1': b", "the key '1' stands already"),
    ("? [a]\n: b", "a key must be a word"),
    ("a: " + "9" * 5000, "a number of 5,000 characters"), ("a: 1" + ":1" * 200_000, "a number of 400,001 characters"),
    ("a: " + "1" * 200_000 + "z\nb: *c", "anchors and aliases"),
])  # fmt: skip
def test_yaml_with_more_than_a_recipe_needs_is_refused_with_its_place(tmp_path, text, words):
    path, start = write(tmp_path, text), time.perf_counter()
    with pytest.raises(ValueError, match=r"mine\.yaml is not readable as YAML") as caught:
        read_tree(path)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert time.perf_counter() - start < 10


def test_a_recipe_has_a_size_and_a_number_of_values(tmp_path, monkeypatch):
    with (tmp_path / "sparse.yaml").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=r"sparse\.yaml .* more than 64 MiB"):
        read_tree(tmp_path / "sparse.yaml")
    monkeypatch.setattr(strict_yaml, "MOST", 100)
    with pytest.raises(ValueError, match="more than 100 keys and values"):
        read_tree(write(tmp_path, "a: [" + "1, " * 100 + "]"))


def test_what_is_no_file_is_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("fifo.yaml", "zero.yaml", "folder.yaml"):
        with pytest.raises(ValueError, match=rf"{name} is no file that can be read"):
            read_tree(tmp_path / name)
        assert not is_density(tmp_path / name)
    for name in ("fifo.yaml", "zero.yaml"):
        with pytest.raises(ValueError, match=rf"{name} is no file"):
            read_tree(write(tmp_path, f"extends: {name}"))


@pytest.mark.parametrize("base", ["a\0b", "\ud83d", "x" * 100_000, "../" * 100_000])
def test_a_base_that_can_be_no_file_is_said_with_the_recipe_that_names_it(tmp_path, base):
    with pytest.raises(ValueError, match=r"mine\.yaml: there is no recipe") as caught:
        read_tree(write(tmp_path, yaml.safe_dump({"extends": base})))
    assert len(str(caught.value)) < 1000


def test_a_long_chain_of_recipes_ends(tmp_path):
    for i in range(2000):
        write(tmp_path, f"extends: {i + 1}.yaml", f"{i}.yaml")
    with pytest.raises(ValueError, match="in a circle"):
        read_tree(tmp_path / "0.yaml")


@pytest.mark.parametrize("assignment", [".".join("a" * 5000) + "=1", "a=" + "[" * 5000, "a=&a [*a]"])
def test_an_override_is_as_bounded_as_a_file(assignment):
    with pytest.raises(ValueError, match="not readable as YAML") as caught:
        override(BASE, [assignment])
    assert len(str(caught.value)) < 1500


def test_a_tree_that_holds_itself_is_refused():
    loop: dict = {"name": "a"}
    loop["smoke_test"] = loop
    with pytest.raises(ValueError, match=r"is not usable:\n.*nested more than 50 deep"):
        check({**BASE, "smoke_test": loop})


@pytest.mark.parametrize("where", ["check", "density"])
@pytest.mark.parametrize(("more", "place"), [
    ({"name": "cat \ud83d"}, "name: character 4 is U\\+D83D"), ({"data": {"classes": ["a", "\udc00"]}}, "data.classes"),
    ({"smoke_test": {"a": {"b": "\ud83d"}}}, "smoke_test.a.b"), ({"smoke_test": {"\ud83d": 1}}, "smoke_test"),
])  # fmt: skip
def test_half_a_surrogate_pair_is_refused_by_its_place(more, place, where):
    checked = check if where == "check" else check_density
    with pytest.raises(ValueError, match=rf"(?s)^x is not usable:\n  {place}.*half of a surrogate pair") as caught:
        checked({**BASE, **more}, where="x")
    str(caught.value).encode()


def test_a_recipe_that_could_not_be_read_back_is_not_written(monkeypatch):
    recipe = check(BASE)
    object.__setattr__(recipe, "name", "cat \ud83d")
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        dump(recipe)
    object.__setattr__(recipe, "name", "cat")
    monkeypatch.setattr(read, "LARGEST", 100)
    with pytest.raises(ValueError, match="take a smaller vocabulary"):
        dump(recipe)


def test_messages_stay_short_whatever_the_values_are():
    tree = {**BASE, "name": ["x" * 10_000], "network": {"kind": "y" * 10_000}, "k" * 10_000: 1}
    wide = {**BASE, **{f"unknown{i}": i for i in range(1000)}}
    for one in (tree, wide, {**BASE, "network": [1] * 10_000}, {**BASE, "network": "z" * 10_000}):
        with pytest.raises(ValueError, match="is not usable") as caught:
            check(one)
        assert len(str(caught.value)) < 10_000
    with pytest.raises(ValueError, match=r"and more$"):
        check(wide)


@pytest.mark.parametrize("text", [
    "\x85", "a\x85 b\x85", "\u2028", "a\u2028b\u2029", "\ufffe", "\ufeff", "\0\x07\x1b", "\r\n", "1e3", "1_0", "0x1f",
    "true", "null", "~", "2024-01-01", "1:30", "=", "<<", "&a", "*a", "!!int 3", "- a", "{a: b}", "#", " ", "😀",
])  # fmt: skip
def test_every_text_comes_back_from_the_file_it_is_written_to(tmp_path, text):
    recipe = check({**BASE, "name": text, "data": {**BASE["data"], "classes": [text, "b"]}, "smoke_test": {text: text}})
    assert check(read_tree(write(tmp_path, dump(recipe)))) == recipe


@pytest.mark.parametrize(("assignments", "words"), [
    (["network.width=1e9"], "network.width"), (["network.width=1000000000"], "network.width is at most"),
    (["network.depth=100000000"], "network.depth is at most 1,000"),
    (["network.mlp_ratio=1e300"], "network.mlp_ratio is at most"),
    (["network.dimensions=1000"], "network.dimensions is at most"), (["network.patch=1" + "0" * 90], "network.patch is at"),
    (["network.channels=-1"], "network.channels is not negative"),
    (["network.conditioning.text_layers=1000000"], "network.conditioning.text_layers is at most"),
    (["network={kind: unet, channel_mult: [" + "1, " * 100 + "]}"], "network.channel_mult lists at most"),
    (["network={kind: unet, blocks: 100000}"], "network.blocks is at most"),
    (["training.steps=1" + "0" * 30], "training.steps is at most"), (["training.snapshots=99999"], "training.snapshots"),
    (["training.batch=10000000"], "training.batch is at most 1,000,000"),
    (["training.seed=10000000000000000000000"], "training.seed is at most"),
    (["training.seed=-10000000000000000000000"], "training.seed is at most"),
    (["training.ema_lengths=[" + ", ".join(f"0.{i}" for i in range(10, 27)) + "]"], "at most 16 lengths"),
    (["sampling.guidance=[{kind: prompt, weight: 1e308}]"], "at most 10,000"),
    (["sampling.guidance=[{kind: classifier_free, weight: -1e20}]"], "at most 10,000"),
    (["data.captions={words: [a], length: 1000000000000}"], "length of 1 to 4096"),
])  # fmt: skip
def test_absurd_numbers_are_refused_when_the_recipe_is_checked(assignments, words):
    with pytest.raises(ValueError, match="is not usable") as caught:
        check(override(BASE, assignments))
    assert words in str(caught.value)


def test_every_network_is_bounded():
    for config in (DiT.Config, UNet.Config, MLP.Config, Transformer.Config):
        with pytest.raises(ValueError, match=r"network\.width is at most 10,000,000, got 1000000000"):
            config(width=10**9)


def test_an_ema_that_nothing_could_give_is_refused_before_training():
    never = ["training.ema_lengths=[0.1]", "training.snapshots=0", "sampling.ema=0.05"]
    with pytest.raises(ValueError, match=r"set sampling\.ema=0\.1, or training\.snapshots=8"):
        check(override(BASE, never))
    for mended in ("sampling.ema=0.1", "sampling.ema=0", "training.snapshots=8", "training.ema_lengths=[]"):
        check(override(BASE, [*never, mended]))


@pytest.mark.parametrize("network", [
    "{kind: dit, width: 1000000, head_dim: 64, channels: 1}", "{kind: unet, width: 640000, channels: 1}",
    "{kind: mlp, width: 9000000, channels: 2}", "{kind: dit, patch: 1000, dimensions: 8, channels: 1}",
    "{kind: dit, width: 640, channels: 9000000, patch: 1000, head_dim: 64}",
])  # fmt: skip
def test_a_network_that_does_not_fit_into_memory_is_refused_before_it_takes_any(network):
    recipe = check({**override(BASE, [f"network={network}"])})
    with pytest.raises(ValueError, match=r"ask for less, such as a smaller network\.width"):
        build(recipe)


def test_counting_weights_first_changes_none_of_them(monkeypatch):
    recipe = check(override(BASE, ["network.channels=1"]))
    plain = build(recipe).model.network.state_dict()
    monkeypatch.setattr("langevin.recipe.build._LARGE", 0)
    counted = build(recipe).model.network.state_dict()
    assert all(torch.equal(plain[name], counted[name]) for name in plain)


def test_every_shipped_recipe_is_still_read():
    for name in shipped():
        tree = read_tree(name)
        assert check_density(tree, where=name) if "density" in tree else check(tree, where=name)


@pytest.mark.parametrize("name", ["os:system", "builtins:len", "langevin.recipe.read:dump"])
def test_a_function_that_takes_other_arguments_is_no_drift(name):
    tree = override(read_tree("toy/limit-cycle"), [f"process.drift={{kind: function, function: '{name}'}}"])
    with pytest.raises(ValueError, match=rf"{name} cannot be called as f\(x, t\)"):
        build(check(override(tree, ["network.channels=2"])), code=CodePermission(everything=True))
