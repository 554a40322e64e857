"""Samples as a file of text or of JSON lines."""

import json
from pathlib import Path

from langevin.files import write_atomic
from langevin.modalities.modality import File, Samples
from langevin.modalities.text.files import JSONL


def content(samples: Samples) -> str:
    """The pieces of a document joined, or separate texts, numbered if there are several."""
    if samples.document:
        return "".join(samples.values)
    many = len(samples) > 1
    return "".join((f"--- {i}\n" if many else "") + f"{text}\n" for i, text in enumerate(samples.values))


def preview(samples: Samples) -> File:
    """All samples, each after its input."""
    given = samples.names or [""] * len(samples)
    shown = [f"{source}\n  -> {text}" if source else text for source, text in zip(given, samples.values, strict=True)]
    return File(suffix=".txt", content="\n\n".join(shown).encode())


def save(samples: Samples, out: Path) -> None:
    """Write a file of text, or JSON lines by the suffix."""
    text = content(samples)
    if out.suffix in JSONL:
        lines = [json.dumps({"text": value.removesuffix("\n")}, ensure_ascii=False) for value in samples.values]
        text = "".join(f"{line}\n" for line in lines)
    write_atomic(out, text.encode())
