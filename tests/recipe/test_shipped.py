"""Every shipped recipe loads, completes on data, builds without memory, comes back from its dump, and trains."""

import pytest
import torch

from langevin.diffusion.objective import LikelihoodWeightedMSE
from langevin.modalities.modality import Needs
from langevin.networks.embedding import ConditioningConfig
from langevin.recipe.build import build, training_batches
from langevin.recipe.complete import complete
from langevin.recipe.read import check, check_density, dump, is_density, merge, read_tree, shipped
from langevin.training.loop import TrainingState, fit
from langevin.user_function import CodePermission
from tests import clips, motions, pictures, scores, texts, tiny, voices

EVERY = pytest.mark.parametrize("name", sorted(name for name in shipped() if not is_density(name)))
DENSITIES = pytest.mark.parametrize("name", sorted(name for name in shipped() if is_density(name)))
MAKE = {
    "image/cifar10": pictures.classes,
    "image/cifar10-likelihood": pictures.classes,
    "image/emoji": pictures.captions,
    "image/emoji-enlarger": pictures.captions,
}
TEXTS = {
    "text/shakespeare": texts.corpus,
    "text/books": texts.corpus,
    "text/dialogue": texts.dialogues,
    "text/summary": texts.summaries,
    "text/inference": texts.inferences,
}
SCORES = {"music/chorales": scores.chorales}
MOTIONS = {"motion/human": motions.captured}
CLIPS = {"video/sprites": clips.characters, "video/sprites-autoencoder": clips.characters}
VOICES = dict.fromkeys(("speech/digits", "speech/open", "speech/strings", "speech/vocoder"), voices.spoken)


def small(name, folder):
    """The recipe at its tiny size, on data that is there."""
    tree = read_tree(name)
    if name in MAKE:
        enlarge = {"enlarge": 16} if "enlarge" in tree["data"] else {}
        tree["data"] = {"kind": "image", "path": str(MAKE[name](folder, side=32)), "size": 32, **enlarge}
    if make := (TEXTS | SCORES | VOICES | MOTIONS | CLIPS).get(name):
        tree["data"] = {**tree["data"], "path": str(make(folder))}
    if name == "joint/digits":
        tree["data"]["parts"]["sound"]["path"] = str(voices.digits(folder))
    if name == "joint/caption-emoji":
        tree["data"]["parts"]["picture"]["path"] = str(pictures.captions(folder, side=32))
    return check(merge(tree, tree["smoke_test"]), where=name)


def yaml_of(recipe, folder):
    path = folder / "recipe.yaml"
    path.write_text(dump(recipe))
    return read_tree(path)


def test_there_are_recipes():
    assert {"image/digits", "image/cifar10", "image/emoji", "toy/double-well", "toy/ridge"} <= set(shipped())


@DENSITIES
def test_a_shipped_density_says_what_it_is_and_is_nothing_to_train(name):
    recipe = check_density(read_tree(name), where=name)
    assert recipe.name == name
    assert recipe.description
    value, slope = recipe.build(CodePermission())(torch.zeros(3, recipe.dimensions))
    assert value.shape == (3,)
    assert bool(slope.isfinite().all())
    with pytest.raises(ValueError, match=f"which is not trained: draw from it by `langevin sample {name}`"):
        check(read_tree(name), where=name)


@EVERY
def test_a_shipped_recipe_says_what_it_is_and_where_it_belongs(name):
    recipe = check(read_tree(name), where=name)
    assert recipe.name == name
    assert recipe.description
    assert recipe.smoke_test


@EVERY
def test_dumping_and_reading_a_recipe_is_the_identity(name, tmp_path):
    recipe = check(read_tree(name), where=name)
    assert check(yaml_of(recipe, tmp_path)) == recipe


@EVERY
def test_a_shipped_recipe_builds_at_full_size_without_memory(name):
    recipe = check(read_tree(name), where=name)
    with torch.device("meta"):
        known = {"vocab_size": 1000} if name in TEXTS | SCORES else {"channels": 3}
        known |= {"num_patches": 64} if getattr(recipe.network, "caption_prior", 0) else {}
        if recipe.network.kind == "column_mlp":
            known = {"numbers": {"numbers": 4}, "tokens": {"tokens": (3, 2, 4)}}
        if recipe.network.kind == "inverse_stft":
            known = {"channels": 128, "n_fft": 512, "conditioning": ConditioningConfig(concat_channels=64)}
        if recipe.network.kind == "joint_dit":
            spaces = {"clip": (12, 32, 32), "sound": (56,), "picture": (32, 32)}
            parts = {**recipe.network.patches, **recipe.network.unets}
            needs = {name: Needs(processes=("gaussian",), channels=3, space=spaces[name]) for name in parts}
            known = vars(recipe.network.fitted(Needs(processes=("product",), parts=needs)))
        network = type(recipe.network)(**{**vars(recipe.network), **known}).build()
    assert sum(p.numel() for p in network.parameters()) > 100_000


@EVERY
def test_a_shipped_recipe_completes_and_trains_two_steps_at_its_tiny_size(name, tmp_path):
    recipe = small(name, tmp_path)
    train, val = recipe.data.open()
    recipe = complete(recipe, train)
    assert check(yaml_of(recipe, tmp_path)) == recipe
    assert complete(recipe, train) == recipe
    data = recipe.data
    match data.kind:
        case "text":
            assert recipe.network.vocab_size == recipe.process.vocab_size >= data.codec.vocab_size
            assert (data.classes != ()) == (name == "text/inference")
        case "image":
            assert recipe.network.channels == train.shape[0]
            assert data.classes == train.classes
            assert (data.captions is not None) == (train.captions is not None)
            assert 0.05 < recipe.process.sigma_data < 2
        case "music":
            assert recipe.network.vocab_size == recipe.process.vocab_size == data.codec.vocab_size
            assert recipe.network.streams == data.codec.streams == 4
        case "speech":
            assert recipe.network.channels == data.codec.channels
            assert recipe.network.conditioning.classes == len(data.speakers)
            assert bool(recipe.network.conditioning.aligned_width) == data.texts
        case "points":
            assert recipe.network.channels == data.columns == train.shape[0]
    assert len(val) > 0
    built = build(recipe)
    again = build(recipe)
    assert all(
        torch.equal(a, b)
        for a, b in zip(built.model.network.parameters(), again.model.network.parameters(), strict=True)
    )
    method, network = built.model.method, built.model.network
    state = TrainingState.new(method, recipe.training)
    before = [p.detach().clone() for p in network.parameters()]
    batches = training_batches(recipe, built.batches(train))
    reports = list(fit(state, batches, method, recipe.training, until=2, world=tiny.ALONE))
    assert len(reports) == 2
    assert all(r.applied for r in reports)
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


@pytest.mark.parametrize("name", ["image/digits-likelihood", "image/cifar10-likelihood"])
def test_recipes_for_likelihood_minimise_the_bound_without_down_sampling(name):
    recipe = check(read_tree(name), where=name)
    assert recipe.method.objective(recipe.process) == LikelihoodWeightedMSE(
        process=recipe.process, times=recipe.method.times
    )
    assert recipe.network.channel_mult == (1,)
    assert recipe.network.patch == 1
    first, last = recipe.method.times.ends(recipe.process.schedule)
    half_a_level = recipe.data.codec.scale / 2
    assert half_a_level > 2.5 * 2.718281828 ** (-first / 2)  # the smallest noise seldom reaches the next level
    assert last < -9
