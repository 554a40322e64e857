"""Adapters of trained runs as files, and several of them on one base.

The file of an adapted run, adapter.safetensors, has the weights that it draws with, and in its header the run's recipe,
which names the base by the hash of its weights. On the base's weights W, adapters with weights w_i and networks of
weights W_i give

    W + sum_i w_i (W_i - W)

("Editing Models with Task Arithmetic", 2022, arXiv 2212.04089), which for low rank is a sum of products B A.
It is summed in float64, so one adapter of weight 1 is the adapted run, to the bit.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from langevin import strict_yaml
from langevin.files import read_regular, write_atomic
from langevin.networks.adapters import Adapter, merge, widened
from langevin.recipe.build import Built, build
from langevin.recipe.read import check, dump
from langevin.recipe.tree import Recipe
from langevin.run import counts
from langevin.run.directory import Run, load_model, put
from langevin.run.generate import RunModel
from langevin.training import checkpoint
from langevin.training.references import agrees
from langevin.user_function import NO_CODE, CodePermission

FILE = "adapter.safetensors"
FORMAT = "langevin adapter 1"
LARGEST = 2**33  # bytes of the file
Weights = Mapping[str, Mapping[str, Tensor]]  # player -> parameter -> weight


@dataclass(frozen=True, kw_only=True, eq=False)
class AdapterFile:
    """An adapter that was read.

    Args:
        recipe: of the adapted run.
        facts: of its data: fingerprint, number of items, shape of a sample.
        weights: by player.parameter.
        sha256: of its weights.
    """

    path: Path
    recipe: Recipe
    facts: dict[str, Any]
    weights: dict[str, Tensor]
    sha256: str

    @property
    def adapter(self) -> Adapter:
        assert self.recipe.adapter is not None, "checked when it was read"
        return self.recipe.adapter


def write_adapter(run: Run, *, device: torch.device | None = None, code: CodePermission = NO_CODE) -> None:
    """Write the weights that an adapted run draws with as its file; nothing for other runs."""
    if run.recipe.adapter is None:
        return
    built, _, _ = run.load(device=device, code=code, merged=False)
    tensors = {
        f"{name}.{n}": p.detach().cpu().contiguous()
        for name, player in built.model.method.players.items()
        for n, p in player.weights.items()
    }
    write_atomic(run.path / FILE, adapter_file(run.recipe, run.facts, tensors))


def adapter_file(recipe: Recipe, about_data: Mapping[str, Any], tensors: dict[str, Tensor]) -> bytes:
    """The file of an adapter, from the recipe and the facts of its run, and its weights by player.parameter."""
    assert recipe.adapter is not None, "the caller has looked"
    facts = {name: about_data[name] for name in ("data", "items", "shape")}
    header, data = _split(save(tensors))
    about = {
        "format": FORMAT, "base": recipe.adapter.sha256, "recipe": dump(recipe), "facts": json.dumps(facts),
        "sha256": hashlib.sha256(data).hexdigest(),
    }  # fmt: skip
    return _joined({"__metadata__": about, **header}, data)


def read_adapter(path: Path) -> AdapterFile:
    """Read an adapter, from its file or from the directory of its run.

    Raises:
        ValueError: there is none, or it is damaged, or of another version."""
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        known = f"{path} is a run, but has no {FILE}, which its training writes at its end" if path.is_dir() else ""
        raise ValueError(known or f"there is no adapter at {path}: name an adapted run, or its {FILE}")
    try:
        content = read_regular(file, most=LARGEST)
        header, data = _split(content)
        weights = load(content)
    except (OSError, ValueError, SafetensorError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error}): copy it again") from error
    about = header.get("__metadata__", {})
    if about.get("format") != FORMAT:
        raise ValueError(f"{file} is not an adapter of this version: its header does not say '{FORMAT}'")
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != about.get("sha256"):
        raise ValueError(f"{file} is damaged: its weights are not those that its header names: copy it again")
    if not all(bool(weight.isfinite().all()) for weight in weights.values()):  # such are not written
        raise ValueError(f"{file} is damaged: it holds numbers that are not finite")
    try:
        tree = strict_yaml.parse(about["recipe"])
        if not isinstance(tree, dict):
            raise TypeError("its recipe is no mapping")
        recipe = check(tree, where=f"the recipe in {file}")
        facts = json.loads(about["facts"])
        shape = facts["shape"]
        sound = isinstance(facts["data"], str) and type(facts["items"]) is int and isinstance(shape, list)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged: its header cannot be read ({error})") from error
    if recipe.adapter is None or recipe.adapter.sha256 != about.get("base") or not sound:
        raise ValueError(f"{file} is damaged: its header does not describe an adapter")
    return AdapterFile(path=file, recipe=recipe, facts=facts, weights=weights, sha256=sha256)


def _split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a file of safetensors. Raises `ValueError` where it is cut off."""
    size = int.from_bytes(content[:8], "little")
    if not 0 < size <= len(content) - 8:
        raise ValueError("its header is cut off")
    header = json.loads(content[8 : 8 + size])
    if not isinstance(header, dict):
        raise ValueError("its header is no mapping")
    return header, content[8 + size :]


def _joined(header: dict[str, Any], data: bytes) -> bytes:
    """A file of safetensors, whose bytes follow from the order of the header's entries."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def require_base(run: Run, file: AdapterFile) -> None:
    """Check that an adapter changes the weights of a run.

    Raises:
        ValueError: it is of other weights."""
    found = checkpoint.identity(run.checkpoints)
    if not agrees(str(run.path), file.adapter.sha256):
        raise ValueError(
            f"the adapter {file.path} changes the weights {file.adapter.sha256[:12]} of {file.adapter.path}, and those of "
            f"{run.path} are {found[:12]}: use it with its base, or adapt this run to the same data"
        )


def weights_with(
    run: Run, file: AdapterFile, base: Weights, *, device: torch.device, code: CodePermission
) -> dict[str, dict[str, Tensor]]:
    """The weights of the network that an adapter makes of a run's.

    Args:
        base: the weights of the run.

    Raises:
        ValueError: the adapter's weights are of another rank or kind than its recipe, or of another network."""
    require_base(run, file)
    recipe = replace(file.recipe, adapter=replace(file.adapter, path=str(run.path)))
    built = build(recipe, device=device, code=code, base=lambda _: base)
    expected = {f"{name}.{n}" for name, player in built.model.method.players.items() for n in player.weights}
    if expected != file.weights.keys():
        different = sorted(expected ^ file.weights.keys())[0]
        raise ValueError(
            f"{file.path} is not the adapter that its recipe describes: {different} is missing, or too much"
        )
    try:
        put(built, file.weights)
    except ValueError as error:
        raise ValueError(f"{file.path} is not the adapter that its recipe describes: {error}") from error
    merge(built.model.network)
    return plain(built)


def in_plain_network(run: Run, saved: dict[str, Tensor], *, device: torch.device) -> dict[str, Tensor]:
    """The weights of a run's plain network, by player.parameter, where it has `saved` ones."""
    if run.recipe.adapter is None:
        return saved
    built, _, _ = run.load(device=device, merged=False)
    put(built, saved)
    merge(built.model.network)
    return {f"{player}.{name}": weight for player, weights in plain(built).items() for name, weight in weights.items()}


def plain(built: Built) -> dict[str, dict[str, Tensor]]:
    """All weights of a network without parametrisations, by player and parameter."""
    return {name: dict(player.module.named_parameters()) for name, player in built.model.method.players.items()}


@torch.no_grad()
def combined(base: Weights, changed: Sequence[tuple[Weights, float]]) -> dict[str, Tensor]:
    """W + sum_i w_i (W_i - W), by player.parameter; W to the bit where all w_i are 0, but for rows of new classes."""
    result = dict[str, Tensor]()
    for player, weights in base.items():
        for name, weight in weights.items():
            others = [(one[player][name], w) for one, w in changed]
            rows = max([len(weight), *(len(other) for other, _ in others)]) if weight.ndim else 0
            start = wide(weight, rows)
            total = start.double()
            for other, w in others:
                if w:
                    total = total + w * (wide(other, rows).double() - start.double())
            result[f"{player}.{name}"] = total.to(weight.dtype)
    return result


def wide(weight: Tensor, length: int) -> Tensor:
    """A weight as it is, or with rows for new classes."""
    return weight if weight.ndim == 0 or len(weight) == length else widened(weight, length - len(weight))


def with_adapters(
    model: RunModel, run: Run, adapters: Sequence[tuple[AdapterFile, float]], *, code: CodePermission = NO_CODE
) -> RunModel:
    """The model of a run with adapters, each with its weight; a plain network, as fast as the run's own.

    Raises:
        ValueError: an adapter of another base, or several that bring different classes."""
    base = plain(model.built)
    changed = [(weights_with(run, file, base, device=model.device, code=code), w) for file, w in adapters]
    recipe = recipe_with(run, [file for file, _ in adapters])
    built = build(recipe, device=model.device, code=code)
    put(built, combined(base, changed))
    counts.put(built.model.network, counts.read(run.path))
    names = tuple(f"{file.path.parent.name}:{w:g}" for file, w in adapters)
    return replace(model, built=replace(built, models=model.built.models), adapters=names)


def recipe_with(run: Run, files: Sequence[AdapterFile]) -> Recipe:
    """The recipe of a run with adapters: that of the run, with the classes that they bring.

    Raises:
        ValueError: they bring different ones."""
    own = getattr(run.recipe.data, "classes", ())
    widest = [file for file in files if getattr(file.recipe.data, "classes", ()) != own]
    if len({getattr(file.recipe.data, "classes", ()) for file in widest}) > 1:
        raise ValueError(
            f"{' and '.join(str(file.path) for file in widest[:3])} bring different classes, whose rows would be mixed up: "
            "take one of them, or adapt the run to all of these classes at once"
        )
    recipe = replace(run.recipe, adapter=None, continual=None)
    return recipe if not widest else replace(recipe, data=widest[0].recipe.data, network=widest[0].recipe.network)


def load_with(
    run: Run, adapters: Sequence[tuple[AdapterFile, float]], *, ema: float | None = None, code: CodePermission = NO_CODE,
    **changes: Any,
) -> tuple[RunModel, int]:  # fmt: skip
    """`load_model` of a run, with adapters.

    Args:
        changes: further arguments of `load_model`.

    Raises:
        ValueError: see `load_model` and `with_adapters`; or adapters of weights of other EMA lengths."""
    lengths = {file.adapter.ema or 0.0 for file, _ in adapters} | ({ema} if ema is not None and adapters else set())
    if len(lengths) > 1:
        raise ValueError(
            f"these adapters are of the EMA lengths {' and '.join(f'{one:g}' for one in sorted(lengths))}, and a base has "
            "one: leave --ema out, or use one adapter alone"
        )
    for file, _ in adapters:
        require_base(run, file)
    model, step = load_model(run, ema=next(iter(lengths), ema), code=code, **changes)
    return (with_adapters(model, run, adapters, code=code) if adapters else model), step
