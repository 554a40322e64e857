"""Recipes from YAML, strictly: an unknown key is an error that names the nearest known one."""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from langevin.recipe.density import DensityRecipe
from langevin.recipe.tree import Recipe


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def shipped() -> dict[str, Path]:
    """The recipes inside the package, by name."""
    root = Path(str(resources.files("langevin"))) / "recipes"
    return {str(p.relative_to(root).with_suffix("")): p for p in sorted(root.rglob("*.yaml"))}


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers: 1e-3 is one, which PyYAML takes for a text."""


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would take for a number."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )


def _yaml(text: str) -> Any:
    """Raises yaml.YAMLError, or ValueError for what looks like a date and is none."""
    return yaml.load(text, Loader=_Loader)  # it is a SafeLoader


def read_tree(name: str | Path) -> dict[str, Any]:
    """A recipe's mapping with what it `extends` merged in, by shipped name or by path; not yet checked.

    Raises:
        ValueError: no such recipe (naming the nearest), not YAML, or a circle of `extends`.
    """
    return _read(str(name), (), Path())


def _read(name: str, seen: tuple[str, ...], beside: Path) -> dict[str, Any]:
    known = shipped()
    path = known.get(name, beside / name)
    here = str(path.resolve())
    if here in seen:
        raise ValueError(f"recipes extend each other in a circle: {' -> '.join([*seen, here])}")
    if not path.is_file():
        near = get_close_matches(name, known, n=3, cutoff=0.3)
        raise ValueError(
            f"there is no recipe '{name}'; shipped are {', '.join(near or known)}, or give a path to a YAML file"
        )
    try:
        tree = _yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path} is not readable as YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{path} should hold a mapping (name, data, network, ...), it holds {type(tree).__name__}")
    base = tree.pop("extends", None)
    return tree if base is None else merge(_read(str(base), (*seen, here), path.parent), tree)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, mapping by mapping; another `kind` replaces a whole mapping that has one."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if (
            isinstance(old, Mapping)
            and isinstance(value, Mapping)
            and ("kind" not in old or value.get("kind", old["kind"]) == old["kind"])
        ):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def override(tree: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """The tree with dotted `a.b=value` assignments (values are YAML); their order matters only for the same key.

    Raises:
        ValueError: an assignment without '=' or a value that is not YAML."""
    changes: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(f"'{text}' is no override: write key.key=value, e.g. network.width=128")
        try:
            nested: Any = _yaml(value)
        except (yaml.YAMLError, ValueError) as error:
            raise ValueError(f"the value of '{text}' is not readable as YAML: {error}") from error
        for part in reversed(key.strip().split(".")):
            nested = {part: nested}
        changes = merge(changes, nested)
    return merge(tree, changes)


def check(tree: Mapping[str, Any], *, where: str = "the recipe") -> Recipe:
    """The recipe that a mapping describes.

    Raises:
        ValueError: every mistake on a line of its own: where it is, what is wrong, what would be right."""
    if "density" in tree:
        raise ValueError(
            f"{where} is a density, with nothing to learn: draw from it by `langevin sample {tree.get('name', where)}`"
        )
    return _checked(_implied(_plain(tree)), Recipe, where)


def check_density(tree: Mapping[str, Any], *, where: str) -> DensityRecipe:
    """The density that a mapping describes; raises as `check`."""
    return _checked(_plain(tree), DensityRecipe, where)


def is_density(name: str | Path) -> bool:
    """Whether a shipped name, or a YAML file, describes a density; False where there is none."""
    known = str(name) in shipped() or (Path(name).suffix in (".yaml", ".yml") and Path(name).is_file())
    return known and "density" in read_tree(name)


def _checked(plain: dict[str, Any], schema: type[Any], where: str) -> Any:
    lines = list(_strangers(plain, schema, ""))
    if not lines:
        try:
            return _adapter(schema).validate_json(json.dumps(plain), strict=True)
        except ValidationError:
            lines = list(dict.fromkeys(_mistakes(plain, schema, "")))
        except (TypeError, RecursionError) as error:  # YAML's dates and sets have no place in JSON
            lines = [f"something in it is neither text, number, list nor mapping: {error}"]
    raise ValueError(f"{where} is not usable:\n" + "\n".join(f"  {line}" for line in lines))


def dump(recipe: Recipe) -> str:
    """The complete recipe as YAML, every default written out."""
    tree = _plain(dataclasses.asdict(recipe))
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _implied(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with the kinds that may be left out: a recipe is of pixels under Gaussian noise unless it says otherwise."""
    kinds = {"codec": "pixels", "process": "gaussian"}
    return {
        name: {"kind": kinds[name], **value} if name in kinds and isinstance(value, Mapping) else value
        for name, value in tree.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _kinds(annotation: Any) -> dict[Any, type[Any]]:
    """The dataclasses among an annotation's choices, by their `kind`."""
    choices = [a for a in (get_args(annotation) or (annotation,)) if dataclasses.is_dataclass(a)]
    return {next((f.default for f in dataclasses.fields(c) if f.name == "kind"), c): c for c in choices}  # type: ignore[misc]


def _chosen(tree: Mapping[str, Any], annotation: Any) -> type[Any] | None:
    """The dataclass that a mapping describes; None if its `kind` is wrong or missing."""
    kinds = _kinds(annotation)
    given = tree.get("kind")
    return next(iter(kinds.values())) if len(kinds) == 1 else kinds.get(given) if isinstance(given, str) else None


def _strangers(tree: Any, annotation: Any, path: str) -> Iterator[str]:
    """A line for every key, and every `kind`, that the schema does not have."""
    kinds = _kinds(annotation)
    if not isinstance(tree, Mapping) or not kinds:
        return
    kind = _chosen(tree, annotation)
    if kind is None:
        wrong = f"there is no '{tree['kind']}'" + _nearest(str(tree["kind"]), kinds) if "kind" in tree else "missing"
        yield f"{path}kind: {wrong}; one of {', '.join(map(str, kinds))}"
        return
    hints = get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind)]
    for key, value in tree.items():
        if key in known:
            yield from _strangers(value, hints[key], f"{path}{key}.")
        else:
            yield f"{path}{key}: no such key" + (_nearest(key, known) or f"; known: {', '.join(known)}")


def _mistakes(tree: Mapping[str, Any], annotation: Any, path: str) -> Iterator[str]:
    """A line for every value that is wrong, each section read as the kind that it says it is."""
    kind = _chosen(tree, annotation)
    assert kind is not None
    try:
        _adapter(kind).validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        hints = get_type_hints(kind)
        for one in error.errors(include_url=False):
            key = one["loc"][0] if one["loc"] else ""
            value = tree.get(str(key))
            if not _kinds(hints.get(str(key))):
                where = ".".join(map(str, one["loc"])) or path.removesuffix(".") or "recipe"
                yield f"{path if one['loc'] else ''}{where}: {_words(one)}"
            elif isinstance(value, Mapping):
                yield from _mistakes(value, hints[str(key)], f"{path}{key}.")
            else:
                yield f"{path}{key}: " + (
                    f"should be a mapping (key: value), got {value!r}" if key in tree else "missing"
                )


def _nearest(word: str, known: Iterable[Any]) -> str:
    near = get_close_matches(word, [str(k) for k in known], n=1, cutoff=0.4)
    return f"; did you mean '{near[0]}'?" if near else ""


def _words(error: Any) -> str:
    if error["type"] == "missing":
        return "missing"
    given = "" if isinstance(error["input"], Mapping) else f", got {error['input']!r}"
    return error["msg"].removeprefix("Value error, ") + given
