"""A run from its published files, which may be of anyone: their names, sizes and hashes are checked before they are read,
only known names are fetched, and none holds code.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from langevin import strict_yaml
from langevin.files import write_atomic, write_folder
from langevin.recipe.build import build
from langevin.recipe.read import check
from langevin.run import counts
from langevin.run.adapters import FILE, adapter_file
from langevin.run.directory import Run, open_run, put
from langevin.run.plan import require_no_run
from langevin.run.published import FORMAT, MANIFEST, NAMES, WEIGHTS
from langevin.training import checkpoint
from langevin.training.references import named_references
from langevin.user_function import NAME as FUNCTION
from langevin.user_function import CodePermission

NEEDED = {"recipe.yaml", "environment.json", WEIGHTS}
MOST, MOST_OTHERWISE = {WEIGHTS: 2**40, counts.FILE: counts.LARGEST}, 2**26  # bytes of a file
_HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What langevin.json states.

    Args:
        step: of the weights.
        ema: length of the EMA that they are.
        files: name -> (bytes, SHA-256).
    """

    step: int
    ema: float
    files: dict[str, tuple[int, str]]


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """The files of a published run."""

    manifest: Manifest
    files: Mapping[str, bytes]


def checked_manifest(content: bytes, sizes: Mapping[str, int]) -> Manifest:
    """The manifest of a repository.

    Args:
        sizes: the files that it has, with their bytes.

    Raises:
        ValueError: it is damaged or of another version, names a file that is no part of a run, or one that is not there or
            of another size."""
    try:
        tree = json.loads(content)
        if tree["format"] != FORMAT:
            raise ValueError(f"format {tree['format']}, and this version reads {FORMAT}")
        files = {name: (about["bytes"], about["sha256"]) for name, about in tree["files"].items()}
        step, ema = tree["step"], float(tree["ema"])
        sound = type(step) is int and 0 <= step < 10**18 and math.isfinite(ema)
        sound = sound and all(type(n) is int and n >= 0 and _HASH.fullmatch(sha) for n, sha in files.values())
        if not sound:
            raise ValueError("a value is of another type")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{MANIFEST} is damaged or of another version: {error}") from error
    for name, (size, _) in files.items():
        if not NAMES.fullmatch(name):
            raise ValueError(f"{MANIFEST} names {name!r}, which is no file of a run: nothing was pulled")
        if sizes.get(name, size) != size or name not in sizes:
            raise ValueError(
                f"{name} is missing, or not of the {size:,} bytes that {MANIFEST} states: nothing was pulled"
            )
        if size > MOST.get(name, MOST_OTHERWISE):
            raise ValueError(f"{name} has {size:,} bytes, which is too large for one of a run: nothing was pulled")
    if missing := sorted(NEEDED - files.keys()):
        raise ValueError(f"{MANIFEST} does not name {missing[0]}, so it describes no run")
    return Manifest(step=step, ema=ema, files=files)


def assemble(pulled: Pulled, out: Path, *, code: CodePermission, say: Any) -> Run:
    """Write the run, whole or not at all, and return it.

    Raises:
        ValueError: a file is damaged, or names a function that may not be imported; the weights are of another network than
            the recipe's; or there is something at `out`."""
    require_no_run(out)
    manifest, files = pulled.manifest, pulled.files
    for name, (_, sha256) in manifest.files.items():
        if hashlib.sha256(files[name]).hexdigest() != sha256:
            raise ValueError(f"{name} is not what {MANIFEST} states: pull again, or ask its owner to push again")
    tree = strict_yaml.parse(files["recipe.yaml"].decode("utf-8", "replace"))
    recipe = check(tree if isinstance(tree, dict) else {}, where="the recipe of the repository")
    if found := sorted(set(functions(tree)) - code.named) if not code.everything else []:
        raise ValueError(
            f"the run names the function {found[0]}, whose code would be run by what draws from it: look at it, and repeat "
            "the command with --allow-code if you trust it"
        )
    try:
        tensors = load(files[WEIGHTS])
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{WEIGHTS} cannot be read: {error}") from error
    if recipe.adapter is None:  # the network of an adapted run is known with its base alone
        put(build(recipe, device=torch.device("meta"), code=code), tensors)
    with write_folder(out) as folder:
        for name in manifest.files.keys() - {WEIGHTS, "config.json"}:
            (folder / name).parent.mkdir(exist_ok=True)
            write_atomic(folder / name, files[name])
        state = {"step": manifest.step, "drawn_ema": manifest.ema}
        checkpoint.save(folder / "checkpoints", manifest.step, {"model": tensors}, state)
        run = open_run(folder)
        if recipe.adapter is not None:
            write_atomic(folder / FILE, adapter_file(recipe, run.facts, tensors))
    for name, sha256 in named_references(tree):
        say(f"{out} needs the run {name} (weights {sha256[:12]}) beside it: pull or copy it to {out.parent / name}")
    return open_run(out)


def functions(tree: Any) -> list[str]:
    """The user functions, module:function, that a recipe's tree names."""
    if isinstance(tree, Mapping):
        named = [tree["function"]] if isinstance(tree.get("function"), str) else []
        return [name for name in named if FUNCTION.fullmatch(name)] + functions(list(tree.values()))
    return [name for part in tree for name in functions(part)] if isinstance(tree, list) else []
