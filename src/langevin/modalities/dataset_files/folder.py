"""The files that a dataset file names, as one folder: `dataset.toml/cats/1.jpg`.

Of several folders each is a sub-folder. A file that is seen n times more often is there n times, under further names.
Captions are a `metadata.jsonl`, so they are read as those of any folder.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from langevin.files import read_regular
from langevin.modalities.dataset_files.subsets import Subset, read

METADATA = "metadata.jsonl"
_LARGEST = 2**30  # bytes of a JSON of captions
_LONGEST = 2**20  # bytes of a caption


@dataclass(frozen=True, kw_only=True, eq=False)
class Listed:
    """Files on disk by name, and what is made of others; the same as `Shards` for readers.

    Args:
        files: the path of each name.
        made: files that are made, such as the records of captions.
        remarks: sentences on what is not read.
    """

    files: Mapping[str, Path]
    made: Mapping[str, bytes] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @cached_property
    def folders(self) -> frozenset[str]:
        """The folders in which files are."""
        return frozenset(str(folder) for name in self.names for folder in PurePosixPath(name).parents)

    @cached_property
    def names(self) -> list[str]:
        """Every file, sorted."""
        return sorted({*self.files, *self.made})

    def __contains__(self, name: str) -> bool:
        return name in self.files or name in self.made

    def size(self, name: str) -> int:
        """Bytes of a file. Raises `OSError` if it is gone."""
        return len(self.made[name]) if name in self.made else self.files[name].stat().st_size

    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises `OSError` if it cannot be read."""
        return self.made[name] if name in self.made else read_regular(self.files[name], most=2**34)


def listed(path: Path) -> Listed:
    """The files that a dataset file names. Raises `ValueError` if it is not usable."""
    return _listed(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _listed(path: Path, changed: int) -> Listed:
    found = read(path)
    twins = Counter(subset.folder.name for subset in found.subsets)
    files, records, remarks = dict[str, Path](), list[str](), list[str]()
    for number, subset in enumerate(found.subsets):
        name = subset.folder.name if twins[subset.folder.name] == 1 else f"{number}-{subset.folder.name}"
        prefix = f"{name}/" if len(found.subsets) > 1 else ""
        things, said, more = _of(subset)
        remarks += more
        for thing in things:
            stem, dot, suffix = thing.rpartition(".")
            for turn in range(subset.repeats):
                shown = prefix + (thing if turn == 0 else f"{stem}~{turn + 1}{dot}{suffix}")
                files[shown] = subset.folder / thing
                if text := said.get(thing):
                    records.append(json.dumps({"file_name": shown, "text": text}))
    made = {METADATA: "\n".join(records).encode()} if records else {}
    return Listed(files=files, made=made, remarks=tuple(remarks))


def _of(subset: Subset) -> tuple[list[str], dict[str, str], list[str]]:
    """The files of a folder that are no captions, the captions of some of them, and remarks."""
    names = sorted(entry.name for entry in subset.folder.iterdir() if entry.is_file() and entry.name[0] != ".")
    suffix = subset.caption_suffix.lower()
    texts = {name[: -len(suffix)]: name for name in names if name.lower().endswith(suffix)}
    things = [name for name in names if name not in texts.values() and name != METADATA]
    described, said, lost = _described(subset), dict[str, str](), list[str]()
    for thing in things:
        stem = thing.rpartition(".")[0]
        text = described.get(thing) or described.get(stem) or ""
        if not text and stem in texts:
            try:
                text = read_regular(subset.folder / texts[stem], most=_LONGEST).decode("utf-8-sig").strip()
            except (OSError, ValueError):
                lost.append(texts[stem])
        text = text or subset.caption
        if text:
            said[thing] = " ".join(part for part in (subset.before, text, subset.after) if part)
    remarks = [f"Captions that cannot be read: {len(lost):,} ({', '.join(lost[:3])})."] * bool(lost)
    return things, said, remarks


def _described(subset: Subset) -> dict[str, str]:
    """Captions of a JSON of kohya's, by file name with and without its suffix."""
    if subset.described_by is None:
        return {}
    try:
        tree: Any = json.loads(read_regular(subset.described_by, most=_LARGEST))
    except OSError as error:
        raise ValueError(f"{subset.described_by} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{subset.described_by} is not readable as JSON: {str(error)[:100]}") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{subset.described_by} should hold an object of captions by file name")
    return {PurePosixPath(str(name)).name: text for name, facts in tree.items() if (text := _caption(facts))}


def _caption(facts: Any) -> str:
    found: Sequence[Any] = [facts.get("caption"), facts.get("tags")] if isinstance(facts, dict) else [facts]
    return next((text.strip() for text in found if isinstance(text, str) and text.strip()), "")
