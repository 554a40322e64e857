"""Reading recipes from YAML, strictly: an unknown key is an error that names the nearest known one."""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from langevin import strict_yaml
from langevin.modalities.paths import regular
from langevin.recipe.density import DensityRecipe
from langevin.recipe.tree import Recipe
from langevin.training.references import at_hand

LARGEST = 64 << 20  # bytes of a recipe: the tokenizers of a million tokens fit
LONGEST_CHAIN = 20  # recipes that extend each other
MOST_LINES = 20  # mistakes in one message
LONGEST_SHOWN = 200  # characters of a value in a message
GONE = {  # keys that runs of earlier versions have, with the value that changes nothing
    ("network", "early_depth"): 0, ("method", "early_weight"): 0.5, ("network", "side_streams"): 0,
}  # fmt: skip


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def shipped() -> dict[str, Path]:
    """The recipes that come with the package: name -> path."""
    root = Path(str(resources.files("langevin"))) / "recipes"
    return {str(p.relative_to(root).with_suffix("")): p for p in sorted(root.rglob("*.yaml"))}


def read_tree(name: str | Path) -> dict[str, Any]:
    """The mapping of a recipe, by shipped name or path, merged with the one that it `extends`; not yet checked. Runs that
    that of a run refers to, and that were moved with it, are where they are now (`training/references.py`).

    Raises:
        ValueError: no such recipe (naming the nearest), not YAML, or a circle of `extends`.
    """
    return at_hand(_read(str(name), (), Path()), Path(name))


def _read(name: str, extending: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """`read_tree` of a path relative to `folder`, for the recipes `extending` it."""
    known = shipped()
    path = known.get(name, folder / name)
    if not regular(path):
        if os.path.exists(path):  # unlike Path.exists, of any text
            raise ValueError(f"{path} is no file that can be read as a recipe: give the path of a YAML file")
        near = get_close_matches(name, known, n=3, cutoff=0.3)
        raise ValueError(
            f"{f'{extending[-1]}: ' if extending else ''}there is no recipe {_shown(name)}; shipped are "
            f"{', '.join(near or known)}, or give the path of a YAML file"
        )
    resolved = str(path.resolve())
    if resolved in extending or len(extending) > LONGEST_CHAIN:
        raise ValueError(f"recipes extend each other in a circle: {' -> '.join([*extending, resolved])}")
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST >> 20} MiB, and a recipe is a short text")
        tree = strict_yaml.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not readable as YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{path} must hold a mapping (name, data, network, ...), it holds {type(tree).__name__}")
    if path not in known.values() and isinstance(tree.get("data"), dict) and tree["data"].get("download"):
        raise ValueError(
            f"{path} asks for a download, which only a command does: leave it out, and add data.download=true"
        )
    base = tree.pop("extends", None)
    return tree if base is None else merge(_read(str(base), (*extending, resolved), path.parent), tree)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` updated by `over`, recursively; a section with another `kind` is replaced as a whole."""
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
    """The tree updated by assignments `a.b=value`, with values in YAML; later ones win.

    Raises:
        ValueError: an assignment without '=' or a value that is not YAML."""
    changes: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(f"{_shown(text)} is no override: write key.key=value, e.g. network.width=128")
        parts = key.strip().split(".")
        try:
            nested: Any = strict_yaml.parse(value)
            if len(parts) > strict_yaml.DEEPEST:
                raise ValueError(f"its key is nested more than {strict_yaml.DEEPEST} deep")
        except ValueError as error:
            raise ValueError(f"the value of {_shown(text)} is not readable as YAML: {error}") from error
        for part in reversed(parts):
            nested = {part: nested}
        changes = merge(changes, nested)
    return merge(tree, changes)


def check(tree: Mapping[str, Any], *, where: str = "the recipe") -> Recipe:
    """The recipe that a mapping describes.

    Raises:
        ValueError: with a line for every mistake: its key, what is wrong, and what is allowed."""
    if "density" in tree:
        raise ValueError(
            f"{where} is a density, which is not trained: draw from it by `langevin sample {tree.get('name', where)}`"
        )
    return _checked(_implied(_current(_readable(tree, where))), Recipe, where)


def check_density(tree: Mapping[str, Any], *, where: str) -> DensityRecipe:
    """The density that a mapping describes; raises as `check`."""
    return _checked(_readable(tree, where), DensityRecipe, where)


def check_part(tree: Mapping[str, Any], schema: type[Any], *, where: str) -> Any:
    """The dataclass `schema` that a mapping describes; raises as `check`."""
    return _checked(_readable(tree, where), schema, where)


def is_density(name: str | Path) -> bool:
    """Whether a shipped recipe or a YAML file describes a density; False if there is no such file."""
    known = str(name) in shipped() or (Path(name).suffix in (".yaml", ".yml") and Path(name).is_file())
    return known and "density" in read_tree(name)


def _checked(plain: dict[str, Any], schema: type[Any], where: str) -> Any:
    lines = _first(_unknown(plain, schema, ""))
    if not lines:
        try:
            return _adapter(schema).validate_json(json.dumps(plain), strict=True)
        except ValidationError:
            lines = _first(dict.fromkeys(_mistakes(plain, schema, "")))
        except (TypeError, ValueError) as error:  # JSON has no dates and sets, as YAML has
            lines = [f"a value is neither text, number, list nor mapping: {error}"]
    raise _unusable(where, lines)


def _first(lines: Iterable[str]) -> list[str]:
    first = list(islice(lines, MOST_LINES + 1))
    return [*first[:MOST_LINES], "and more"] if len(first) > MOST_LINES else first


def _unusable(where: str, lines: Iterable[str]) -> ValueError:
    return ValueError(f"{where} is not usable:\n" + "\n".join(f"  {line}" for line in lines))


def dump(recipe: Recipe) -> str:
    """The complete recipe as YAML, with all defaults.

    Raises:
        ValueError: text that is not Unicode, or more than can be read back."""
    tree = _readable(dataclasses.asdict(recipe), "the recipe")
    text = yaml.dump(tree, Dumper=strict_yaml.Dumper, sort_keys=False, allow_unicode=True, width=120)
    if len(text.encode()) > LARGEST:
        raise ValueError(
            f"the recipe, with what was fitted, has more than {LARGEST >> 20} MiB: take a smaller vocabulary"
        )
    return text


def dump_checked(recipe: Recipe) -> str:
    """`dump`, after checking that it can be read back.

    Raises:
        ValueError: it cannot, so that a run with this recipe could never be opened."""
    text = dump(recipe)
    if check(strict_yaml.parse(text), where="the recipe, read back,") != recipe:
        raise ValueError("the recipe is another one when it is read back: a name in it is not kept by YAML")
    return text


def _implied(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with default kinds: process gaussian; method score_matching under an SDE, else diffusion; and in the data's
    section those of the defaults, such as the codec's."""
    process = tree.get("process")
    sde = isinstance(process, Mapping) and process.get("kind") == "sde"
    kinds = {"process": "gaussian", "method": "score_matching" if sde else "diffusion"}
    tree = {"method": {}, **tree}
    data = {"data": _with_default_kinds(tree["data"], get_type_hints(Recipe)["data"])} if "data" in tree else {}
    return (
        tree
        | data
        | {
            name: {"kind": kind, **value}
            for name, kind in kinds.items()
            if isinstance(value := tree.get(name), Mapping)
        }
    )


def _current(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree without keys of earlier versions that change nothing; any other value of such a key is an unknown key."""
    for (section, name), idle in GONE.items():
        part = tree.get(section)
        if isinstance(part, Mapping) and part.get(name) == idle and name in part:
            tree = {**tree, section: {key: value for key, value in part.items() if key != name}}
    return tree


def _with_default_kinds(section: Any, annotation: Any) -> Any:
    """A section in which every part without a `kind` has that of its default."""
    chosen = _chosen(section, annotation) if isinstance(section, Mapping) else None
    if chosen is None:
        return section
    kinds = {f.name: kind for f in dataclasses.fields(chosen) if (kind := getattr(f.default, "kind", None)) is not None}
    parts = {name: part for name, part in section.items() if name in kinds and isinstance(part, Mapping)}
    return {**section, **{name: {"kind": kinds[name], **part} for name, part in parts.items()}}


def _readable(tree: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The tree with lists for tuples. Raises `ValueError` for text that is not Unicode, and for nesting without end."""
    try:
        return _plain(tree, "", 0)
    except ValueError as error:
        raise _unusable(where, [str(error)]) from error


def _plain(value: Any, path: str, depth: int) -> Any:
    if depth > strict_yaml.DEEPEST:
        raise ValueError(f"{path[:80]}: nested more than {strict_yaml.DEEPEST} deep")
    if isinstance(value, Mapping):
        return {
            _plain(str(k), path, 0): _plain(v, f"{path}.{k}".lstrip(".")[:LONGEST_SHOWN], depth + 1)
            for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(v, path, depth + 1) for v in value]
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = f"character {error.start} is U+{ord(value[error.start]):04X}, half of a surrogate pair"
            raise ValueError(f"{path or 'a key'}: {half}: write the whole character, or leave it out") from error
    return value


def _kinds(annotation: Any) -> dict[Any, type[Any]]:
    """The dataclasses of a union, by their `kind`."""
    choices = [a for a in (get_args(annotation) or (annotation,)) if dataclasses.is_dataclass(a)]
    return {next((f.default for f in dataclasses.fields(c) if f.name == "kind"), c): c for c in choices}  # type: ignore[misc]


def _item(annotation: Any) -> Any:
    """The item type of a tuple of dataclasses; None for any other annotation."""
    item = next(iter(get_args(annotation)), None) if get_origin(annotation) is tuple else None
    return item if item is not None and _kinds(item) else None


def _value(annotation: Any) -> Any:
    """The type of the values of a mapping of dataclasses by name; None for any other annotation."""
    value = get_args(annotation)[1] if get_origin(annotation) is dict else None
    return value if value is not None and _kinds(value) else None


def _chosen(tree: Mapping[str, Any], annotation: Any) -> type[Any] | None:
    """The dataclass of a union that a mapping describes; None if its `kind` is unknown or missing."""
    kinds = _kinds(annotation)
    given = tree.get("kind")
    return next(iter(kinds.values())) if len(kinds) == 1 else kinds.get(given) if isinstance(given, str) else None


def _unknown(tree: Any, annotation: Any, path: str) -> Iterator[str]:
    """A line for every key and every `kind` that the schema does not have."""
    item = _item(annotation)
    if item is not None and isinstance(tree, list):
        for i, part in enumerate(tree):
            yield from _unknown(part, item, f"{path.removesuffix('.')}[{i}].")
    value = _value(annotation)
    if value is not None and isinstance(tree, Mapping):
        for name, part in tree.items():
            yield from _unknown(part, value, f"{path}{name[:LONGEST_SHOWN]}.")
        return
    kinds = _kinds(annotation)
    if not isinstance(tree, Mapping) or not kinds:
        return
    kind = _chosen(tree, annotation)
    if kind is None:
        wrong = (
            f"there is no {_shown(tree['kind'])}" + _nearest(str(tree["kind"]), kinds) if "kind" in tree else "missing"
        )
        yield f"{path}kind: {wrong}; one of {', '.join(map(str, kinds))}"
        return
    hints = get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind)]
    for key, value in tree.items():
        if key in known:
            yield from _unknown(value, hints[key], f"{path}{key}.")
        else:
            yield f"{path}{key[:LONGEST_SHOWN]}: no such key" + (_nearest(key, known) or f"; known: {', '.join(known)}")


def _mistakes(tree: Mapping[str, Any], annotation: Any, path: str) -> Iterator[str]:
    """A line for every invalid value, each section checked as the `kind` that it names."""
    kind = _chosen(tree, annotation)
    assert kind is not None
    try:
        _adapter(kind).validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        hints = get_type_hints(kind)
        for detail in error.errors(include_url=False):
            key = detail["loc"][0] if detail["loc"] else ""
            value, item = tree.get(str(key)), _item(hints.get(str(key)))
            named = _value(hints.get(str(key)))
            if named is not None and isinstance(value, Mapping) and all(map(_is_mapping, value.values())):
                for name, part in value.items():
                    yield from _mistakes(part, named, f"{path}{key}.{name}.")
            elif item is not None and isinstance(value, list) and all(isinstance(part, Mapping) for part in value):
                for i, part in enumerate(value):
                    yield from _mistakes(part, item, f"{path}{key}[{i}].")
            elif item is not None:
                first = next(iter(_kinds(item)))
                yield f"{path}{key}: should be a list of mappings, [{{kind: {first}, ...}}], got {_shown(value)}"
            elif not _kinds(hints.get(str(key))):
                inside = detail["loc"] if isinstance(value, Mapping | list) else detail["loc"][:1]  # else a type's name
                where = path.removesuffix(".") if not inside else path + ".".join(map(str, inside))
                yield f"{where}: {_message(detail)}" if where else _message(detail)
            elif isinstance(value, Mapping):
                yield from _mistakes(value, hints[str(key)], f"{path}{key}.")
            else:
                form = (
                    f"{{kind: {value}}}"
                    if isinstance(value, str) and value in _kinds(hints[str(key)])
                    else "a mapping (key: value)"
                )
                yield f"{path}{key}: " + (f"should be {form}, got {_shown(value)}" if key in tree else "missing")


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _nearest(word: str, known: Iterable[Any]) -> str:
    """The suffix "; did you mean ...?" of a message, or "" if no known word is near."""
    near = get_close_matches(word, [str(k) for k in known], n=1, cutoff=0.4)
    return f"; did you mean '{near[0]}'?" if near else ""


def _shown(value: Any) -> str:
    """A value as Python writes it, without the rest of a long one."""
    if isinstance(value, str):
        value = value[: 2 * LONGEST_SHOWN]
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _message(error: Any) -> str:
    """The message of one of pydantic's errors, with the value."""
    if error["type"] == "missing":
        return "missing"
    given = "" if isinstance(error["input"], Mapping) else f", got {_shown(error['input'])}"
    return error["msg"].removeprefix("Value error, ") + given
