"""Reads and checks user input: prompts, files and standard input."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from langevin.modalities.text.options import SPEAKERS
from langevin.modalities.text.pairs import written

USUAL = tuple(SPEAKERS.values())  # who begins a dialogue, and who replies


def read_prompt(text: str) -> str:
    """The text; for '-' standard input without its final line break. Raises `ValueError` if that is empty."""
    if text != "-":
        return text
    content = read_text(text).removesuffix("\n").removesuffix("\r")
    if not content:
        raise ValueError("standard input is empty: pipe a prompt into it, or give it as --prompt TEXT")
    return content


def read_text(file: str) -> str:
    """A file, or standard input for '-', with its line ends and without a byte order mark.

    Raises:
        ValueError: it is not UTF-8."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#x}") from error
    return text.removeprefix("\ufeff")


def read_records(file: str, fields: tuple[str, ...]) -> list[dict[str, str] | None]:
    """One record per line of a file or standard input ('-'): JSON, or tab-separated columns; None for a blank line.

    Raises:
        ValueError: a line that is neither, or no text."""
    content = read_text(file).replace("\r\n", "\n").removesuffix("\n")
    records = [_record(text, fields, f"{file}, line {i}") for i, text in enumerate(content.split("\n"), start=1)]
    if not any(records):
        raise ValueError(f"{file} holds no text")
    return records


def _record(text: str, fields: tuple[str, ...], where: str) -> dict[str, str] | None:
    if not text.strip():
        return None
    if text.startswith("{"):
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: is not JSON ({error})") from error
        missing = [name for name in fields if not isinstance(record.get(name), str)]
        if missing:
            has = f"it has {', '.join(record) or 'no field'}" if missing[0] not in record else "that field is no string"
            raise ValueError(f"{where}: has no text field '{missing[0]}'; {has}")
        return {name: record[name] for name in fields}
    columns = text.split("\t") if len(fields) > 1 else [text]
    if len(columns) < len(fields):
        raise ValueError(f"{where}: expected {len(fields)} columns, separated by tabs: {', '.join(fields)}")
    return dict(zip(fields, columns))


def as_dialogue(text: str, speakers: Sequence[str] = (), *, last: int | None = None) -> str:
    """Turns "user: ..." followed by the replying speaker and a colon, as in training; any other text is unchanged.

    Args:
        speakers: the names in the run's data of who begins and of who replies, which take the place of user and system.
        last: turns that are kept, as many as a source has in training; None keeps all."""
    own = dict(zip(USUAL, speakers or USUAL, strict=True))
    names = "|".join([*map(re.escape, own.values()), r"\w+"])
    found = [re.match(rf"({names}):\s*(.*)", line) for line in text.splitlines() if line.strip()]
    turns = [(one[1], one[2].rstrip()) for one in found if one]
    if not turns or len(turns) < len(found):
        return text
    if not {who for who, _ in turns} & {*own.values()}:
        turns = [(own.get(who, who), said) for who, said in turns]
    replying = "" if turns[-1][1] else turns.pop()[0]
    if not turns:
        return text
    if not replying:
        begins, replies = own.values()
        who = turns[-1][0]
        replying = next((other for other, _ in reversed(turns) if other != who), begins if who == replies else replies)
    return f"{written(turns[-(last or len(turns)) :])}\n{replying}:"
