"""Reads and checks user input: prompts, files and standard input."""

import json
import re
import sys
from pathlib import Path


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
            raise ValueError(f"{where}: has no text field '{missing[0]}'; it has {', '.join(record)}")
        return {name: record[name] for name in fields}
    columns = text.split("\t") if len(fields) > 1 else [text]
    if len(columns) < len(fields):
        raise ValueError(f"{where}: expected {len(fields)} columns, separated by tabs: {', '.join(fields)}")
    return dict(zip(fields, columns))


def as_dialogue(text: str) -> str:
    """Turns "user: ..." followed by the replying speaker and a colon, as in training; any other text is unchanged."""
    lines = [line for line in text.splitlines() if line.strip()]
    turns = bool(lines) and all(re.match(r"\w+:", line) for line in lines)
    if not turns or lines[-1].rstrip().endswith(":"):
        return text
    last = lines[-1].split(":", 1)[0]
    others = [who for line in reversed(lines) if (who := line.split(":", 1)[0]) != last]
    return "\n".join(lines) + f"\n{others[0] if others else 'user' if last == 'system' else 'system'}:"
