"""Corpora of text with random edits of their bytes, and the law that reading them obeys."""

import io
import json
import os
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path

import pyarrow
import pyarrow.parquet

from langevin.modalities.text.data import TextSource, load_parts
from langevin.modalities.text.input import read_records
from langevin.modalities.text.inspect import inspect
from langevin.modalities.text.sources import detect, guess
from tests.fuzz.mutate import many

LONGEST = 20_000  # characters of a message
COUNT = 300  # records: of these up to three may be broken


@cache
def forms() -> dict[str, bytes]:
    """Sound corpora; the suffix of a name is that of the file."""
    texts = [{"id": i, "text": f"text number {i} with é, 😀 and \\ud83d\\ude00"} for i in range(COUNT)]
    turns = [{"turns": [["user", f"hello {i}"], ["system", "yes, what?"]], "n": [1, 2]} for i in range(COUNT)]
    chats = [
        {"messages": [{"role": "user", "content": f"hello {i}"}, {"role": "bot", "content": "ok"}]}
        for i in range(COUNT)
    ]
    pairs = [{"premise": f"a cat {i}", "hypothesis": "an animal", "label": ["yes", "no"][i % 2]} for i in range(COUNT)]
    longer = [{"document": f"a long story {i} " * 3, "summary": ["a story", f"story {i}"]} for i in range(COUNT)]
    prose = "".join(f"Line {i} of a text with é and 😀.\r\n" for i in range(COUNT)).encode()
    return {
        "texts.jsonl": _lines(texts), "turns.jsonl": _lines(turns), "chats.ndjson": _lines(chats),
        "pairs.jsonl": _lines(pairs),
        "longer.jsonl": b"\xef\xbb\xbf\n" + _lines(longer), "escaped.jsonl": _lines(texts, ascii_only=True),
        "prose.txt": prose, "marked.md": b"\xef\xbb\xbf" + prose,
        "texts.parquet": _table(texts), "turns.parquet": _table(turns), "pairs.parquet": _table(pairs),
    }  # fmt: skip


def _lines(records: list[dict], *, ascii_only: bool = False) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=ascii_only) + "\n" for record in records).encode()


def _table(records: list[dict]) -> bytes:
    out = io.BytesIO()
    names = {b"huggingface": json.dumps({"info": {"features": {"id": {"names": ["a", "b"]}}}}).encode()}
    table = pyarrow.Table.from_pylist(records).replace_schema_metadata(names)
    pyarrow.parquet.write_table(table, out)
    return out.getvalue()


def read(data: bytes, path: Path) -> str:
    """Read one file, alone and in its folder, and say what came of it.

    The law: Unicode texts and remarks that can be printed, or a `ValueError` with the path."""
    path.write_bytes(data)
    detect(path)
    detect(path.parent)
    told = {}
    for where in (path, path.parent):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                source = guess(where)
                train, held = load_parts(TextSource(path=str(where), fields=source.fields))
                lines = inspect(str(where)).lines()
        except ValueError as error:
            told[where] = _said(str(error), path.parent)
            continue
        assert len(train)
        assert len(held)
        for text in (*train.strings(), *held.strings(), *train.notes.lines(), *lines, *train.fields):
            text.encode()
        assert train.fingerprint
        told[where] = "read"
    if path.suffix != ".parquet":
        try:
            read_records(str(path), ("text",))
        except ValueError as error:
            _said(str(error), path)
    return told[path]


def _said(said: str, path: Path) -> str:
    assert str(path) in said, said
    assert len(said) < LONGEST, said[:500]
    said.encode()
    return "refused"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as root:
        for i, (name, form) in enumerate(forms().items()):
            folder = Path(root, str(i))
            folder.mkdir()
            share = -(-int(sys.argv[1]) // len(forms()))
            many(share, int(sys.argv[2]), {name: form}, lambda data, file=folder / name: read(data, file))
