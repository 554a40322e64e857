"""The options of a modality as a JSON schema, and JSON as these options. Nothing here knows a modality.

An option that names a file (`InputFile`) takes the file's content, as a data: URL or plain base64. One of this machine
(`LocalFile`) is not offered.
"""

import ast
import base64
import binascii
import inspect
import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from langevin.modalities.inputs import marker_of
from langevin.modalities.options import options_of
from langevin.server.errors import Refused, in_words

STANDARD_INPUT = re.compile(r"; - reads [^.;]*")  # of the command line alone
FILE_NOTE = "The content of the file, as a data: URL or in base64."


def verbs_of(kind: str) -> dict[str, type[Any]]:
    """What can be requested of a run of a modality, by verb, with the class of its options."""
    module = options_of(kind)
    others = {name: getattr(module, name.title()) for name in ("edit", "classify") if hasattr(module, name.title())}
    return {"sample": module.Sample} | others | {verb.__name__.lower(): verb for verb in getattr(module, "VERBS", ())}


@lru_cache(maxsize=64)
def schema_of(options: type[Any], name: str) -> type[BaseModel]:
    """The model of JSON that an options class takes."""
    hints, notes = get_type_hints(options, include_extras=True), docs_of(options)
    found = dict[str, Any]()
    for one in fields(options):
        marker = marker_of(hints[one.name])
        if marker is not None and not marker.uploaded:
            continue
        default = ... if one.default is MISSING and one.default_factory is MISSING else one.default
        note = STANDARD_INPUT.sub("", notes.get(one.name, "")) + (f" {FILE_NOTE}" if marker is not None else "")
        form: dict[str, Any] | None = None if marker is None else {"contentEncoding": "base64"}
        if form is not None and marker is not None and marker.mask_of:
            form["x-mask-of"] = marker.mask_of
        declared = Field(default, description=note, json_schema_extra=form)
        found[one.name.removesuffix("_")] = (plain(hints[one.name]), declared)
    config = ConfigDict(extra="forbid", title=name)
    return create_model(name, __config__=config, __doc__=options.__doc__, **found)


def plain(hint: Any) -> Any:
    """A type without annotations, as JSON has it."""
    if get_origin(hint) is Annotated:
        return plain(get_args(hint)[0])
    if get_origin(hint) is tuple:
        return tuple[tuple(one if one is ... else plain(one) for one in get_args(hint))]  # type: ignore[misc]
    if get_origin(hint) in (Union, UnionType):
        return Union[tuple(plain(one) for one in get_args(hint))]  # noqa: UP007
    return str if hint is Path else hint


def docs_of(options: type[Any]) -> dict[str, str]:
    """The docstrings below the fields of a class."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(options))).body[0].body  # type: ignore[attr-defined]
    except (OSError, TypeError, SyntaxError):  # a class without source
        return {}
    return {
        one.target.id: inspect.cleandoc(str(note.value.value)).replace("\n", " ")
        for one, note in pairwise(body)
        if isinstance(one, ast.AnnAssign)
        and isinstance(one.target, ast.Name)
        and isinstance(note, ast.Expr)
        and isinstance(note.value, ast.Constant)
    }


def sound(value: Any) -> Any:
    """JSON as it is. Raises `ValueError` for text that is no Unicode, which could be stored and never be sent."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("the text holds half a character (a lone surrogate)") from error
    except (TypeError, ValueError):  # no JSON: what it should be is checked elsewhere
        pass
    return value


def checked(options: type[Any], given: Mapping[str, Any]) -> BaseModel:
    """JSON in the schema of an options class. Raises `Refused` for a name or a value that it does not take."""
    try:
        return schema_of(options, options.__name__).model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["options", *map(str, first["loc"])])
        known = schema_of(options, options.__name__).model_fields
        raise Refused(f"{where}: {in_words(first, known)}", code="invalid_value", param=where) from error


def options_from(options: type[Any], given: Mapping[str, Any], folder: Path) -> Any:
    """The options that JSON gives, with the files that it holds written into a folder.

    Raises:
        Refused: a name or a value that they do not take."""
    found = checked(options, given)
    hints, values = get_type_hints(options, include_extras=True), dict[str, Any]()
    for one in fields(options):
        name = one.name.removesuffix("_")
        if name not in found.model_fields_set:
            continue
        value = getattr(found, name)
        if "-" in ((value,) if isinstance(value, str) else value if isinstance(value, tuple) else ()):
            raise Refused(
                f"options.{name}: a lone - is standard input, which a server has not", param=f"options.{name}"
            )
        if marker_of(hints[one.name]) is not None and isinstance(value, tuple):
            value = tuple(str(written(v, folder / f"{name}-{i}", f"options.{name}")) for i, v in enumerate(value))
        elif marker_of(hints[one.name]) is not None and value is not None:
            value = str(written(str(value), folder / name, f"options.{name}"))
        values[one.name] = value
    return options(**values)


def without_folders(options: Any) -> Any:
    """The options with the names of files alone, not where they were kept."""
    hints = get_type_hints(type(options), include_extras=True)
    files = [one.name for one in fields(options) if marker_of(hints[one.name]) is not None]
    kept = {name: getattr(options, name) for name in files}
    names = {
        name: tuple(Path(one).name for one in value) if isinstance(value, tuple) else Path(value).name
        for name, value in kept.items()
        if value is not None
    }
    return replace(options, **names)


def written(content: str, path: Path, where: str) -> Path:
    """A file with the content that a data: URL or base64 holds. Raises `Refused` if it is neither."""
    data = content.partition(",")[2] if content.startswith("data:") else content
    try:
        decoded = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(
            f"{where}: give the content of the file, as a data: URL or in base64", code="invalid_value", param=where
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(decoded)
    return path
