"""YAML without what recipes do not need: aliases, tags, repeated keys and deep nesting are refused, so that reading a small
text takes little time and memory. Numbers are those of YAML 1.2: PyYAML reads 1e-3 as a string."""

import re
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

DEEPEST = 50  # mappings and lists within each other
MOST = 1_000_000  # keys and values
LONGEST_NUMBER = 100  # characters


class _Loader(yaml.SafeLoader):
    depth = count = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        at = event.start_mark
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise ComposerError(None, None, "anchors and aliases (&name, *name) are not read: write the value out", at)
        if event.tag is not None:
            raise ComposerError(None, None, f"tags ({event.tag}) are not read: leave it out", at)
        self.depth, self.count = self.depth + 1, self.count + 1
        if self.depth > DEEPEST:
            raise ComposerError(None, None, f"it is nested more than {DEEPEST} deep", at)
        if self.count > MOST:
            raise ComposerError(None, None, f"it has more than {MOST:,} keys and values", at)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: dict[str, Any] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConstructorError(None, None, "a key must be a word, not a list or mapping", key.start_mark)
            if key.tag == "tag:yaml.org,2002:merge":
                raise ConstructorError(None, None, "merge keys (<<) are not read: write the keys out", key.start_mark)
            if key.value in seen:
                line = seen[key.value].start_mark.line + 1
                raise ConstructorError(
                    None, None, f"the key {key.value[:80]!r} stands already in line {line}", key.start_mark
                )
            seen[key.value] = key
        return super().construct_mapping(node, deep)

    def construct_number(self, node: Any) -> Any:
        if len(node.value) > LONGEST_NUMBER:
            message = f"a number of {len(node.value):,} characters; put text between quotes"
            raise ConstructorError(None, None, message, node.start_mark)
        return self.construct_yaml_int(node) if node.tag.endswith(":int") else self.construct_yaml_float(node)


class Dumper(yaml.SafeDumper):
    """A safe dumper that quotes strings which `parse` would read as numbers, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, data: str) -> yaml.ScalarNode:
        style = '"' if any(c in data for c in "\x85\u2028\u2029") else None  # line breaks, which other styles fold
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


for _kind in (_Loader, Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )
Dumper.add_representer(str, Dumper.represent_text)
for _name in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _Loader.construct_number)


def parse(text: str) -> Any:
    """The value of one YAML document.

    Raises:
        ValueError: not YAML, or YAML with more than recipes need, with line and column."""
    try:
        return yaml.load(text, Loader=_Loader)  # it is a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
