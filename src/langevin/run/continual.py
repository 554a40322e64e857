"""What a run that learns new data keeps of the old: samples of its base, stored examples, and how much each weight matters.

The old data of a run are the data of its base, and what the base itself keeps of data before that. So several tasks can be
learned in a row. All is made before the first step and stored in the run, so that a resumed run has the same.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from langevin.diffusion.batch import Batch, StepRandomness, step_randomness
from langevin.methods import Diffusion
from langevin.methods.anchor import Anchor, fisher
from langevin.modalities.modality import Batches
from langevin.recipe.build import Built
from langevin.recipe.tree import Recipe
from langevin.run import examples
from langevin.run.directory import Run, load_model, open_run
from langevin.run.display import QUIET, Display
from langevin.run.examples import balanced, in_turn, labels_of
from langevin.run.replay import drawn, quality_of
from langevin.training.continual import concatenated, moved, select
from langevin.training.distributed import World
from langevin.training.order import permutation
from langevin.user_function import CodePermission

MOST = 20_000  # examples of the base's data that are looked at, at most
MOST_BYTES = 2**30  # of these in memory, by the size of the first
LEAST = 8  # of them, however large they are
MEASURED = 128  # examples by which the Fisher information is estimated


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """What is kept of earlier data.

    Args:
        old: (share of a batch, examples) of each kind.
        files: the content of the run's files by their kind.
        fisher: by weight, of the first player.
        anchor: weight of the anchor.
    """

    old: Sequence[tuple[float, Batch]] = ()
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    fisher: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    anchor: float = 0.0

    def hold(self, built: Built) -> None:
        """Anchor the weights of a model at their current values, if there is an anchor."""
        if self.fisher:
            method = built.model.method
            assert isinstance(method, Diffusion), "checked in its recipe"
            method.anchor = Anchor.at(next(iter(method.players.values())).weights, self.fisher, self.anchor)

    def write(self, run: Path) -> None:
        """Store it in a run."""
        for kind, content in self.files.items():
            examples.write(run, kind, content)


def remembered(
    recipe: Recipe, built: Built, world: World, display: Display, code: CodePermission
) -> tuple[Recipe, Memory, float]:
    """The recipe with the hashes of its memory's files, the memory, and the seconds that this took.

    Args:
        built: with the weights of the base.

    Raises:
        ValueError: the base's data is gone and it has kept nothing, its samples are bad, or the budget is too small."""
    config, begun = recipe.continual, time.perf_counter()
    display = display if world.first else QUIET
    if config is None or not (config.replay or config.exemplars or config.anchor):
        return recipe, Memory(), 0.0
    assert recipe.adapter is not None, "checked in the recipe"
    base, seed = open_run(Path(recipe.adapter.path)), recipe.training.seed
    real, everything = old_data(base, display)
    if gone := lacking(base, labels_of(everything)):
        display.say(
            f"attention: no example of the classes {named(gone)}, which {base.path} knows, is at hand, so the new run will "
            "forget them (`merge`, `adapt` and `continue --adapter` keep nothing of the data before their last): continue "
            "the run that learned them by `continue`, or put their data back"
        )
    files, kept = dict[str, bytes](), everything
    if config.exemplars:
        kept = examples.within(real, config.budget, seed=seed)
        files["exemplars"] = examples.packed(kept)
        size = f"{len(files['exemplars']):,} of {config.budget:,} bytes"
        display.say(f"exemplars: {len(kept.x):,} examples of {counted(kept)} are kept, in {size}")
    if config.replay:
        own = replayed(recipe, base, real, everything, display, code)
        files["replay"] = examples.packed(own)
        if gone := sorted({*labels_of(everything).tolist()} - {*labels_of(own).tolist(), -1}):
            elsewhere = config.exemplars and {*gone} <= {*labels_of(kept).tolist()}
            rest = "stored examples alone keep them" if elsewhere else "the new run may forget them"
            display.say(
                f"attention: no sample of the classes {named(class_names(base, gone))} is kept, so {rest}: give more "
                "--samples or --exemplars, or train the base longer"
            )
    if config.anchor:
        found = measured(built, everything, seed, display)
        files["fisher"] = save({name: f.contiguous() for name, f in found.items()})
    files = world.broadcast(files)  # samples may round otherwise in another process
    hashes = {f"{kind}_sha256": examples.hash_of(content) for kind, content in files.items()}
    recipe = replace(recipe, continual=replace(config, **hashes))  # type: ignore[arg-type]
    return recipe, memory_of(recipe, files), world.broadcast(time.perf_counter() - begun)


def replayed(recipe: Recipe, base: Run, real: Batch, old: Batch, display: Display, code: CodePermission) -> Batch:
    """Samples of the base that pass the test, drawn under conditions of the old data, balanced over classes.

    They are tested beside real examples, if these are of all classes; else earlier samples stand for the others.

    Raises:
        ValueError: too few pass."""
    config, adapter = recipe.continual, recipe.adapter
    assert config is not None, "checked by the caller"
    assert adapter is not None, "checked in the recipe"
    if old.known is not None:
        raise ValueError(f"replay draws whole samples, and {base.path} completes given ones: give --replay 0")
    items = in_turn(labels_of(old), config.samples, seed=recipe.training.seed)
    model, _ = load_model(base, ema=adapter.ema, device=None, code=code)
    conditions = select(old, items)
    samples = drawn(
        model, conditions, seed=recipe.training.seed, progress=display.progress("drawing samples to replay")
    )
    whole = {*labels_of(real).tolist()} == {*labels_of(old).tolist()}
    found = quality_of(samples, real if whole else old, seed=recipe.training.seed)
    found = found if whole else replace(found, reference="real data and earlier samples")
    display.say(f"replay: {found.line}")
    found.require_good(str(base.path))
    return select(replace(samples, mask=conditions.mask), found.passed.nonzero()[:, 0])


def measured(built: Built, old: Batch, seed: int, display: Display) -> dict[str, Tensor]:
    """The Fisher information of the weights on old data."""
    items = balanced(labels_of(old), MEASURED, seed=seed + 2)
    draws = step_randomness(seed=seed, step=0, samples=torch.arange(len(items), device=built.device), count=len(items))
    progress = display.progress("measuring what each weight matters, example")

    def one(i: int) -> tuple[Batch, StepRandomness]:
        progress(i + 1, len(items))
        return moved(select(old, items[i : i + 1]), built.device), draws.select(torch.tensor([i], device=built.device))

    found = fisher(built.model.method, map(one, range(len(items))))
    return {name: f.cpu() for name, f in found.items()}


def old_data(base: Run, display: Display) -> tuple[Batch, Batch]:
    """Real examples of all earlier data of a run that are at hand, and these with the samples that it has kept.

    Raises:
        ValueError: the data of the run is gone, and it has kept nothing; or its examples have several shapes."""
    memory, config = dict[str, Batch](), base.recipe.continual
    for kind in ("exemplars", "replay"):
        if config is not None and (sha256 := getattr(config, f"{kind}_sha256")):
            memory[kind] = examples.examples_of(examples.unpacked(examples.read(base.path, kind, sha256)))
    try:
        train, _ = base.open_data(progress=display.progress("reading the data of the base"))
    except ValueError as error:
        if not memory:
            raise ValueError(
                f"the data of {base.path} is not at hand ({error}), and it has kept nothing of it: put it back, or give "
                "--replay 0 --exemplars 0 --anchor 0"
            ) from error
        display.say(f"the data of {base.path} is not at hand: what it has kept of its earlier data is used")
        own = None
    else:
        own = some_of(base.recipe.data.batches(train, device=torch.device("cpu")), base)
    parts = [part for part in (own, memory.get("exemplars")) if part is not None]
    everything = concatenated([*parts, *([memory["replay"]] if "replay" in memory else [])])
    return (concatenated(parts) if parts else everything), everything


def lacking(base: Run, labels: Tensor) -> list[str]:
    """The classes that a run knows and that none of the labels is of."""
    known = getattr(base.recipe.data, "class_names", ())
    return class_names(base, sorted({*range(len(known))} - {*labels.tolist()}))


def class_names(base: Run, labels: Sequence[int]) -> list[str]:
    """The names of classes of a run; their numbers where it has no names."""
    known = getattr(base.recipe.data, "class_names", ())
    return [known[label] if label < len(known) else str(label) for label in labels]


def named(classes: Sequence[str]) -> str:
    """The first of many names, and how many more there are."""
    more = f" and {len(classes) - 20:,} more" if len(classes) > 20 else ""
    return ", ".join(classes[:20]) + more


def some_of(batches: Batches, base: Run) -> Batch:
    """Examples of data, all of them if they are not too many or too large.

    Raises:
        ValueError: they are of several shapes, or consist of several parts."""
    if any(getattr(batches, name, None) is not None for name in ("lengths", "buckets")):
        raise ValueError(f"examples of {base.path} have several shapes, and only those of one are kept and replayed")
    if getattr(base.recipe.network, "attention", "full") == "block":
        raise ValueError(
            f"{base.path} generates block by block (network.attention=block), and what it reads is not kept"
        )
    items = permutation(len(batches), seed=0, epoch=0)
    size = sum(part.numel() * part.element_size() for part in examples.tensors_of(batches(items[:1])).values())
    count = min(MOST, max(LEAST, MOST_BYTES // size))
    return concatenated([batches(part) for part in items[:count].split(min(256, count))])


def counted(kept: Batch) -> str:
    """How many classes the examples have, in words."""
    count = len(labels_of(kept).unique())
    return f"{count} classes" if int(labels_of(kept).max()) >= 0 else "no classes"


def memory_of(recipe: Recipe, files: Mapping[str, bytes]) -> Memory:
    """The memory with the content of its files, as it is read again when the run is resumed."""
    config = recipe.continual
    assert config is not None, "it is a run that learns new data"
    tensors = {kind: examples.unpacked(content) for kind, content in files.items()}
    old = [
        (share, examples.examples_of(tensors[kind]))
        for kind, share in (("replay", config.replay), ("exemplars", config.exemplars))
        if share
    ]
    return Memory(old=old, files=files, fisher=tensors.get("fisher", {}), anchor=config.anchor)


def stored(run: Path, recipe: Recipe) -> Memory:
    """The memory of a run that is resumed.

    Raises:
        ValueError: a file is gone, damaged or of another run."""
    config = recipe.continual
    if config is None:
        return Memory()
    hashes = {kind: getattr(config, f"{kind}_sha256") for kind in ("replay", "exemplars", "fisher")}
    files = {kind: examples.read(run, kind, sha256) for kind, sha256 in hashes.items() if sha256}
    return memory_of(recipe, files)
