"""Recipes are read strictly: what is wrong is said with its place, what was given, and what would be right."""

import datetime
import re
from typing import get_args

import pytest
import yaml

from langevin.diffusion.process import Gaussian
from langevin.diffusion.process.sde.fields import LimitCycle
from langevin.methods import AnyMethod, Diffusion, Muon, ScoreMatching
from langevin.networks import DiT, UNet
from langevin.recipe.read import check, dump, merge, override, read_tree
from langevin.recipe.tree import AutoregressiveConfig, HybridConfig, MaskedConfig, SDEConfig, UniformConfig, methods_of

BASE = {"data": {"kind": "image", "builtin": "digits"}, "network": {"kind": "dit", "width": 64, "head_dim": 32}}


def changed(*assignments):
    return check(override(BASE, assignments))


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_a_run_of_an_earlier_version_is_read_where_what_is_gone_changed_nothing():
    assert changed("network.early_depth=0", "method.early_weight=0.5") == changed()
    with pytest.raises(ValueError, match=r"network.early_depth: no such key"):
        changed("network.early_depth=2")


@pytest.mark.parametrize(("assignment", "words"), [
    ("network.widht=64", "network.widht: no such key; did you mean 'width'?"),
    ("trainning.steps=3", "trainning: no such key; did you mean 'training'?"),
    ("training.optimiser={kind: muon}", "training.optimiser: no such key; did you mean 'optimizer'?"),
    ("xyzzy=3", "xyzzy: no such key; known: name, description,"),
    ("data.imagecolumn=a", "data.imagecolumn: no such key; did you mean 'image_column'?"),
    ("data.codec.sclae=2", "data.codec.sclae: no such key; did you mean 'scale'?"),
])  # fmt: skip
def test_an_unknown_key_names_the_nearest_or_all_known_ones(assignment, words):
    with pytest.raises(ValueError, match="is not usable") as caught:
        changed(assignment)
    assert words in str(caught.value)


@pytest.mark.parametrize(("assignment", "words"), [
    ("network.kind=dti", "network.kind: there is no 'dti'; did you mean 'dit'?; one of dit, unet, mlp"),
    ("network={width: 32}", "network.kind: there is no"),
    ("network={kind: [dit]}", "network.kind: there is no"),
    ("training.optimizer={lr: 0.1}", "training.optimizer.kind: missing; one of adamw, muon"),
    ("data={kind: xyz}", "data.kind: there is no 'xyz'; one of image, speech, video"),
    ("data={kind: imgae, path: photos}", "data.kind: there is no 'imgae'; did you mean 'image'?; one of image, speech"),
    ("data.codec.kind=mel", "data.codec.kind: there is no 'mel'; did you mean 'pixels'?; one of pixels, latents, codes"),
    ("method.kind=difusion", "method.kind: there is no 'difusion'; did you mean 'diffusion'?"),
    ("sampling.guidance=[{kind: autoguidence}]", "sampling.guidance[0].kind: there is no 'autoguidence'; did you"),
    ("sampling.sampler={kind: dmp2m}", "sampling.sampler.kind: there is no 'dmp2m'; did you mean 'dpm2m'?"),
    ("process.schedule={kind: linear}", "process.schedule.kind: there is no 'linear'"),
])  # fmt: skip
def test_a_kind_that_is_wrong_or_missing_is_said(assignment, words):
    tree = override(BASE, ["network={kind: null}"] if assignment.startswith("network={w") else [])
    with pytest.raises(ValueError, match="is not usable") as caught:
        check(override(tree, [assignment]))
    assert words in str(caught.value)


@pytest.mark.parametrize(("assignment", "words"), [
    ("network.width=wide", "network.width: Input should be a valid integer, got 'wide'"),
    ("network.width=1.5", "network.width"),
    ("network.width=", "network.width"),
    ("network.width=true", "network.width"),
    ("training.steps=ten", "training.steps"),
    ("sampling.sampler=magic", "sampling.sampler: should be a mapping (key: value), got 'magic'"),
    ("training.ema_lengths=0.05", "training.ema_lengths: Input should be a valid array, got 0.05"),
    ("training.ema_lengths=[0.1, wide]", "training.ema_lengths.1: Input should be a valid number, got 'wide'"),
    ("data.flip=3", "data.flip"),
    ("method.prediction=guess", "Input should be 'clean', 'noise', 'velocity' or 'edm', got 'guess'"),
    ("sampling.guidance=2.0", "sampling.guidance: should be a list of mappings, [{kind: classifier_free, ...}], got 2.0"),
    ("sampling.guidance=[{kind: prompt, weight: much}]", "sampling.guidance[0].weight: Input should be a valid number"),
    ("data=digits", "data: should be a mapping (key: value), got 'digits'"),
    ("network=3", "network"),
    ("name=5", "name"),
    ("training.optimizer.lr=fast", "training.optimizer"),
])  # fmt: skip
def test_a_value_of_the_wrong_type_is_said_with_its_place(assignment, words):
    with pytest.raises(ValueError, match="is not usable") as caught:
        changed(assignment)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) > 1


@pytest.mark.parametrize(("assignment", "words"), [
    ("training.steps=0", "steps = 0"),
    ("training.batch=0", "batch = 0"),
    ("training.micro_batch=0", "micro_batch = 0"),
    ("training.minutes=.nan", "a run needs an end"),
    ("training.optimizer={kind: adamw, lr: 0}", "a learning rate must be above 0"),
    ("sampling.guidance=[{kind: classifier_free, weight: .nan}]", "guidance must be a finite number"),
    ("sampling.guidance=[{kind: prompt, weight: 2.0}, {kind: prompt, weight: 3.0}]", "names prompt twice"),
    ("sampling.guidance=[{kind: autoguidance, weight: 2.0}]", "give its run, or another EMA length"),
    ("training.ema_lengths=[0.9]", "between 0 and 0.28"),
    ("sampling.steps=0", "sampling takes 1 to 10000 steps"),
    ("sampling.steps=100000000", "sampling takes 1 to 10000 steps"),
    ("sampling.sampler={kind: ddim, eta: 2}", "between 0 (deterministic) and 1"),
    ("sampling.guidance=[{kind: classifier_free, weight: 2.0, interval: [2, 1]}]", "interval"),
    ("network.conditioning.classes=-1", "none of them is negative"),
    ("network={kind: unet, conditioning: {prepend_width: 4}}", "does not read the port prepend"),
    ("sampling.ema=some", "sampling.ema: Input should be 'auto', got 'some'"),
    ("sampling.ema=0.9", "sampling.ema is a fraction of the run from 0 (the weights themselves) to 0.28, got 0.9"),
    ("network.width=100", "must be a multiple of network.head_dim"),
    ("network.dropout=1.0", "probability below 1"),
    ("network.patch=0", "sizes are positive"),
    ("network={kind: unet, attention: [7]}", "names levels outside"),
    ("method.condition_dropout=1.0", "probability below 1"),
    ("method.gamma=0", "must be positive"),
    ("data.val_fraction=1.0", "between 0 and 1"),
    ("data.val_fraction=0", "between 0 and 1"),
    ("data.codec.scale=0", "scale of pixels must be positive"),
    ("process.sigma_data=-1", "positive"),
    ("data={kind: image, path: '', size: 8}", "path is empty"),
    ("data={kind: image, path: a, size: 1}", "size is 1"),
    ("method.kind=score_matching", "method.kind score_matching does not train under process.kind gaussian"),
])  # fmt: skip
def test_an_impossible_value_says_why(assignment, words):
    with pytest.raises(ValueError, match="is not usable") as caught:
        changed(assignment)
    assert words in str(caught.value)


def test_a_mistake_in_one_kind_is_not_blamed_on_the_others():
    with pytest.raises(ValueError, match="is not usable") as caught:
        changed("network.width=100", "network.patch=2", "training.optimizer={kind: muon, lr: 0}")
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 2
    assert lines[0].strip() == "network: network.width 100 must be a multiple of network.head_dim 32"
    assert lines[1].strip().startswith("training.optimizer: a learning rate must be above 0")


def test_a_recipe_without_data_is_told_what_it_misses():
    with pytest.raises(ValueError, match=r"data: missing"):
        check({"name": "a/b"})


@pytest.mark.parametrize(("data", "words"), [
    ({"kind": "image"}, r"images need a path \(data.path\) or a builtin source \(data.builtin\)"),
    ({"kind": "text"}, "data.path: missing"),
    ({"kind": "points"}, r"points need a file \(data.path\) or a known distribution \(data.distribution\)"),
    ({"kind": "points", "distribution": "rign"}, "data.distribution: Input should be 'two_bumps', 'mixture'"),
    ({"path": "photos"}, "data.kind: missing; one of image, speech, video"),
])  # fmt: skip
def test_data_that_is_not_whole_is_told_what_it_misses(data, words):
    with pytest.raises(ValueError, match=words):
        check({"data": data})


def test_every_mistake_has_a_line_of_its_own():
    with pytest.raises(ValueError, match="is not usable") as caught:
        changed("network.widht=3", "training.stepz=2", "method={dropp: 0.1}")
    text = str(caught.value)
    assert all(word in text for word in ("network.widht", "training.stepz", "method.dropp"))


def test_yaml_values_that_are_no_json_are_refused_in_words():
    with pytest.raises(ValueError, match="neither text, number, list nor mapping"):
        check({**BASE, "description": datetime.date(2024, 1, 1)})


def test_where_says_whose_mistake_it_is():
    with pytest.raises(ValueError, match=r"my.yaml is not usable:"):
        check({**BASE, "x": 1}, where="my.yaml")


@pytest.mark.parametrize("value", ["1e-3", "1.0e-3", "0.001", "1E-3", ".1e-2", "+1e-3"])
def test_small_numbers_may_be_written_as_everyone_writes_them(value):
    assert changed(f"training.optimizer={{kind: muon, lr: {value}}}").training.optimizer == Muon(lr=0.001)
    assert changed(f"network.dropout={value}").network.dropout == 0.001


def test_overrides_change_what_they_name_and_nothing_else():
    recipe = changed("network.width=96", "training.steps=7", "training.ema_lengths=[0.1]", "name=mine")
    assert recipe.network == DiT.Config(width=96, head_dim=32)
    assert (recipe.training.steps, recipe.training.ema_lengths, recipe.name) == (7, (0.1,), "mine")
    assert changed() == check(BASE)


def test_an_override_of_the_kind_drops_what_belonged_to_the_other_kind():
    assert changed("network.kind=unet").network == UNet.Config()
    both = (["network.kind=unet", "network.width=32"], ["network.width=32", "network.kind=unet"])
    assert all(changed(*order).network == UNet.Config(width=32) for order in both)


@pytest.mark.parametrize("text", ["network.width", "=3", "network.width=[1", "network.width={", "a=2024-99-99"])
def test_an_override_that_is_none_says_how_to_write_one(text):
    with pytest.raises(ValueError, match=r"write key.key=value|not readable as YAML"):
        override(BASE, [text])


def test_merging_goes_mapping_by_mapping_and_leaves_its_arguments_alone():
    base = {"a": {"b": 1, "c": {"d": 2}}, "e": [1, 2], "n": {"kind": "x", "p": 1}}
    over = {"a": {"c": {"f": 3}}, "e": [3], "n": {"kind": "y", "q": 2}}
    assert merge(base, over) == {"a": {"b": 1, "c": {"d": 2, "f": 3}}, "e": [3], "n": {"kind": "y", "q": 2}}
    assert merge(base, {"n": {"q": 2}})["n"] == {"kind": "x", "p": 1, "q": 2}
    assert merge(base, {"n": {"kind": "x", "q": 2}})["n"] == {"kind": "x", "p": 1, "q": 2}
    assert merge(base, {"a": 5})["a"] == 5
    assert base == {"a": {"b": 1, "c": {"d": 2}}, "e": [1, 2], "n": {"kind": "x", "p": 1}}


def test_a_recipe_may_extend_a_shipped_one_or_a_file_beside_it(tmp_path, monkeypatch):
    inner = tmp_path / "deep"
    inner.mkdir()
    write(inner, "base.yaml", "extends: image/digits\ntraining: {batch: 5}\n")
    path = write(inner, "mine.yaml", "extends: base.yaml\nnetwork: {depth: 3}\n")
    monkeypatch.chdir(tmp_path)
    digits, recipe = check(read_tree("image/digits")), check(read_tree(path))
    assert (recipe.training.batch, recipe.network.depth, recipe.network.width) == (5, 3, digits.network.width)
    assert check(read_tree("deep/mine.yaml")) == recipe


@pytest.mark.parametrize("texts", [
    {"a.yaml": "extends: a.yaml\n"}, {"a.yaml": "extends: ./a.yaml\n"},
    {"a.yaml": "extends: b.yaml\n", "b.yaml": "extends: ../{folder}/a.yaml\n"},
])  # fmt: skip
def test_recipes_that_extend_each_other_in_a_circle_are_refused(tmp_path, texts):
    for name, text in texts.items():
        write(tmp_path, name, text.replace("{folder}", tmp_path.name))
    with pytest.raises(ValueError, match="in a circle"):
        read_tree(tmp_path / "a.yaml")


@pytest.mark.parametrize(("text", "words"), [
    ("", "it holds NoneType"), ("- 1\n", "it holds list"), ("just text", "it holds str"),
    ("a: [1", "not readable as YAML"), ("a: !!python/object:os.system {}", "not readable as YAML"),
    ("extends: nowhere\n", "there is no recipe 'nowhere'"), ("\x00", "not readable as YAML"),
    ("about: 2024-99-99", "not readable as YAML"),
])  # fmt: skip
def test_a_file_that_is_no_recipe_says_what_it_is(tmp_path, text, words):
    with pytest.raises(ValueError, match=r".") as caught:
        read_tree(write(tmp_path, "a.yaml", text))
    assert words in str(caught.value)


def test_bytes_that_are_no_text_are_said(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(ValueError, match="not readable as YAML"):
        read_tree(tmp_path / "a.yaml")


def test_a_name_that_is_nearly_a_recipes_gets_it_named():
    with pytest.raises(ValueError, match=r"there is no recipe 'image/digit'; shipped are image/digits"):
        read_tree("image/digit")


def test_a_dump_has_every_default_and_odd_values_come_back(tmp_path):
    recipe = changed(
        "sampling.guidance=[{kind: classifier_free, weight: 2.0, interval: [0, .inf]}]",
        "description='yes: no # é 1e-3'", "training.optimizer={kind: adamw, lr: 1e-12}",
        "data.classes=['no', '1', 'a b']", "data.captions={words: ['on', '07', '2024-01-01'], length: 3}",
    )  # fmt: skip
    text = dump(recipe)
    assert check(read_tree(write(tmp_path, "a.yaml", text))) == recipe
    assert all(word in text for word in ("mlp_ratio:", "warmup:", "max_bad_steps:", "grid:", "schedule:"))


@pytest.mark.parametrize(("name", "changes", "words"), [
    ("image/digits", ["method={kind: score_matching}"], "does not train under process.kind gaussian; use diffusion"),
    ("toy/limit-cycle", ["method.kind=diffusion"], "does not train under process.kind sde; use score_matching"),
    ("text/shakespeare", ["method={kind: score_matching}"], "does not train under process.kind masked"),
    ("text/shakespeare", ["method.uncertainty=true"], "method.uncertainty is an option of process.kind gaussian"),
    ("text/shakespeare", ["process.kind=hybrid", "method.weighting=bound"], "process hybrid has a bound of its own"),
    ("image/digits", ["method={kind: difusion}"], "there is no 'difusion'; did you mean 'diffusion'?"),
    ("toy/limit-cycle", ["method.weighting=edm"], "method.weighting: no such key"),
])  # fmt: skip
def test_a_method_that_the_process_does_not_fit_is_refused_with_those_that_do(name, changes, words):
    with pytest.raises(ValueError, match="is not usable") as caught:
        check(override(read_tree(name), changes))
    assert words in str(caught.value)


@pytest.mark.parametrize(("name", "method"), [
    ("image/digits", Diffusion.Config()), ("toy/mixture", Diffusion.Config()), ("text/shakespeare", Diffusion.Config()),
    ("toy/limit-cycle", ScoreMatching.Config()),
])  # fmt: skip
def test_a_recipe_that_names_no_method_is_trained_by_that_of_its_process(name, method):
    tree = {key: value for key, value in read_tree(name).items() if key != "method"}
    assert check(tree).method == method
    assert check({**tree, "method": {}}).method == method


def test_every_process_has_a_method_that_trains_under_it():
    kinds = {config.__dataclass_fields__["kind"].default for config in get_args(AnyMethod)}
    found = set()
    for process in (
        Gaussian(),
        MaskedConfig(),
        UniformConfig(),
        HybridConfig(),
        AutoregressiveConfig(),
        SDEConfig(drift=LimitCycle()),
    ):
        assert methods_of(process)
        found |= set(methods_of(process))
    assert found == kinds


def test_a_recipe_from_elsewhere_asks_for_no_download(tmp_path):
    """Only the command itself does."""
    file = tmp_path / "a.yaml"
    file.write_text("data: {kind: image, builtin: cifar10, download: true}\n")
    with pytest.raises(ValueError, match=r"a\.yaml asks for a download.*data\.download=true"):
        read_tree(file)
    file.write_text("data: {kind: image, builtin: cifar10}\n")
    assert check(override(read_tree(file), ["data.download=true"]), where="a").data.download


PRODUCT = {
    "data": {"kind": "table", "path": "a.csv"},
    "process": {"kind": "product"},
    "network": {"kind": "column_mlp"},
}


@pytest.mark.parametrize(("parts", "said"), [
    ({"numbers": {"kind": "gaussian", "sigma": 2}}, "process.parts.numbers.sigma: no such key; did you mean 'sigma_data'?"),
    ({"numbers": {"kind": "gausian"}}, "process.parts.numbers.kind: there is no 'gausian'; did you mean 'gaussian'?"),
    ({"numbers": {"sigma_data": 1.0}}, "process.parts.numbers.kind: missing; one of gaussian, masked"),
    ({"numbers": {"kind": "gaussian", "sigma_data": -1.0}}, "process.parts.numbers: sigma_data is a standard deviation"),
    ({"tokens": {"kind": "masked", "vocab_size": "many"}}, "process.parts.tokens.vocab_size: Input should be a valid"),
    ({"numbers": 3}, "process.parts.numbers"),
])  # fmt: skip
def test_mistakes_within_a_named_part_are_named(parts, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        check(PRODUCT | {"process": {"kind": "product", "parts": parts}})


def test_parts_come_back_from_yaml_in_their_order():
    recipe = check(
        PRODUCT | {"process": {"kind": "product", "parts": {"z": {"kind": "masked"}, "a": {"kind": "gaussian"}}}}
    )
    again = check(yaml.safe_load(dump(recipe)))
    assert again == recipe
    assert list(again.process.parts) == ["z", "a"]
