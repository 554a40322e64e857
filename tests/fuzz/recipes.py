"""Recipes with random changes, as trees and as bytes, and the law that reading them obeys."""

import datetime
import math
import os
import random
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from langevin.modalities.text.codec import BPE, Characters
from langevin.recipe.read import check, check_density, dump, is_density, override, read_tree, shipped
from tests.fuzz.mutate import drawn, edited, many, memory

LONGEST = 20_000  # characters of a message
KINDS = (
    "adamw", "ancestral", "autoguidance", "autoregressive", "bpe", "bytes", "characters", "classification",
    "classifier_free", "diffusion", "dit", "dpm2m", "function", "gaussian", "hybrid", "image", "karras", "letter_pairs",
    "letters", "masked", "mlp", "muon", "pixels", "points", "prompt", "score_matching", "sde", "seq2seq", "text",
    "transformer", "unet", "uniform", "unmask", "words", "", "x" * 999,
)  # fmt: skip
NUMBERS = (
    0, -1, 1, 2, 3, 7, 64, 255, 4096, 2**31, 2**63, 10**9, 10**30, -(10**30), 10**99, 0.0, -0.0, 0.5, 1e-300, 1e300, 1e308,
    -1e308, math.inf, -math.inf, math.nan,
)  # fmt: skip
TEXTS = (
    "", " ", "a", "1e3", "true", "null", "~", "=", "<<", "2024-01-01", "1:30", "0x1f", "\0", "\x85", "\u2028", "\ufeff",
    "\ufffe", "\ud83d", "cat \udc00", "😀", "../..", "/dev/zero", "a\0b", "os:system", "!!python/object:os.system {}", "*a",
    "&a b", "%", "x" * 10_000, "\n\n", "\r", "'\"", "{a: [", "#", ":", "- ", "\x1b]0;x\x07", "{" * 60, "data", "[[[[1]]]]",
)  # fmt: skip

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.dates(), st.binary(max_size=4),
    st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.sampled_from(KINDS),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["kind", "width", "path", "a", "function", "weight", *TEXTS]), inner, max_size=4
        ),
        st.sampled_from(KINDS).map(lambda kind: {"kind": kind}),
    ),
    max_leaves=8,
)
changes = st.lists(
    st.tuples(st.sampled_from(["set", "set", "drop", "add", "deep", "wrap"]), st.floats(0, 1, exclude_max=True), values),
    min_size=1, max_size=4,
)  # fmt: skip


def value(draw: random.Random, depth: int = 0) -> Any:
    """A value of any type."""
    match draw.randrange(10 if depth < 3 else 7):
        case 0:
            return draw.choice((None, True, False, datetime.date(2024, 1, 1), b"a", {1, 2}, (1, 2)))
        case 1 | 2:
            return draw.choice(NUMBERS)
        case 3:
            return draw.choice(
                (draw.getrandbits(draw.choice((3, 8, 20, 70))), draw.gauss(0, 10 ** draw.randrange(-3, 6)))
            )
        case 4 | 5:
            return draw.choice(TEXTS)
        case 6:
            return draw.choice(KINDS)
        case 7:
            return [value(draw, depth + 1) for _ in range(draw.choice((0, 1, 2, 3, 40)))]
        case 8:
            return {"kind": draw.choice(KINDS), draw.choice(TEXTS): value(draw, depth + 1)}
        case _:
            return {draw.choice((*TEXTS, "kind", "width")): value(draw, depth + 1) for _ in range(draw.randrange(4))}


@cache
def trees() -> dict[str, dict[str, Any]]:
    """Valid recipes: those that are shipped, completed ones, and some with fitted tokenizers."""
    found = {name: read_tree(name) for name in shipped()}
    text = override(found["text/shakespeare"], ["data.path=corpus"])
    codecs = {"bpe": BPE.fit(["the cat sat on the mat " * 9], size=270), "characters": Characters.fit(["abc"])}
    for kind, codec in codecs.items():
        found[kind] = {
            **text,
            "data": {**text["data"], "codec": dict(vars(codec)) if kind == "characters" else _bpe(codec)},
        }
    for name in ("image/digits", "toy/limit-cycle", "text/summary", "bpe"):
        found[f"{name} complete"] = yaml.safe_load(dump(check(found[name])))
    return found


def _bpe(codec: BPE) -> dict[str, Any]:
    return {"kind": codec.kind, "size": codec.size, "model": codec.model}


@cache
def forms() -> dict[str, bytes]:
    """The recipes as bytes of YAML."""
    return {name: yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode() for name, tree in trees().items()}


def places(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value, in order."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place for key, part in inner for place in [(tree, key), *places(part)]]


def changed(tree: dict[str, Any], edits: list[tuple[str, float, Any]]) -> dict[str, Any]:
    """The tree after some changes."""
    tree = _copy(tree)
    for operation, where, new in edits:
        every = places(tree)
        if not every:
            return tree
        container, key = every[int(where * len(every))]
        match operation:
            case "set":
                container[key] = new
            case "drop":
                del container[key]
            case "add" if isinstance(container, dict):
                container[new if isinstance(new, str | int | float | bool) else "kind"] = new
            case "deep":
                for _ in range(int(100**where)):
                    new = {"a": new} if len(str(key)) % 2 else [new]
                container[key] = new
            case "wrap":
                container[key] = [container[key], new]
    return tree


def _copy(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _copy(inner) for key, inner in part.items()}
    return [_copy(inner) for inner in part] if isinstance(part, list) else part


def read(data: bytes, path: Path) -> str:
    """Read one recipe and say what came of it.

    The law: it comes back equal from the file it is written to, or a `ValueError` names the file in text that prints.
    """
    path.write_bytes(data)
    try:
        is_density(path)
        tree = read_tree(path)
    except ValueError as error:
        return _said(error, path, "no tree")
    return read_checked(tree, path)


def read_checked(tree: Any, path: Path) -> str:
    """The same of a tree."""
    try:
        if "density" in tree:
            check_density(tree, where=str(path))
            return "density"
        recipe = check(tree, where=str(path))
    except ValueError as error:
        return _said(error, path, "refused")
    text = dump(recipe)
    path.write_text(text, encoding="utf-8")
    again = check(read_tree(path), where=str(path))
    assert dump(again) == text
    if ".nan" not in text:
        assert again == recipe
    return "read"


def _said(error: ValueError, path: Path, what: str) -> str:
    said = str(error)
    assert str(path) in said, said
    assert len(said) < LONGEST, said[:500]
    said.encode()
    return what


def changed_text(seed: int) -> bytes:
    """A recipe with changes drawn by a seed, as YAML of one of two styles."""
    draw = random.Random(seed)
    edits = [
        (draw.choice(("set", "set", "set", "drop", "add", "deep", "wrap")), draw.random(), value(draw))
        for _ in range(draw.choice((1, 1, 2, 4)))
    ]
    tree = changed(trees()[draw.choice(list(trees()))], edits)
    try:
        text = yaml.dump(
            tree, Dumper=yaml.SafeDumper, sort_keys=False, default_flow_style=draw.choice((None, True, False))
        )
    except (yaml.YAMLError, RecursionError):
        text = "a: " + "[" * 1000
    data = text.encode("utf-8", "surrogatepass")
    return edited(data, drawn(draw)) if draw.random() < 0.2 else data


if __name__ == "__main__":
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        file = Path(folder, "mine.yaml")
        many(count // 2, seed, forms(), lambda data: read(data, file))
        drawn_texts = iter(range(seed << 32, (seed << 32) + count))
        many(count - count // 2, seed, {"tree": b""}, lambda _: read(changed_text(next(drawn_texts)), file))
        print(f"{memory():.0f} MB")
