"""Reads a dataset file: which folders it names, how often each is seen, where captions come from, and all other options.

kohya's sd-scripts: `[general]`, `[[datasets]]` and `[[datasets.subsets]]` with `image_dir`, where the option of a
subset comes before that of its data set, and that before the general one. diffusion-pipe: options, and `[[directory]]`
with `path`.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from langevin.files import read_regular

SUFFIX = ".toml"
_LARGEST = 2**24  # bytes of a file
_MOST_REPEATS = 10_000
_MOST_FOLDERS = 10_000


@dataclass(frozen=True, kw_only=True)
class Subset:
    """A folder of a dataset file.

    Args:
        repeats: how often each file is seen, relative to those of other folders.
        caption_suffix: of the files with captions, with its dot.
        caption: of files that have none; empty for none.
        before, after: what is put around every caption.
        described_by: a JSON of captions by file name; None without one.
    """

    folder: Path
    repeats: int = 1
    caption_suffix: str = ".txt"
    caption: str = ""
    before: str = ""
    after: str = ""
    described_by: Path | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetFile:
    """A dataset file.

    Args:
        of: whose format it is.
        subsets: the folders.
        options: further options, by name, each with its value in every folder, of which equal ones are one.
        remarks: sentences on what is read otherwise.
    """

    path: Path
    of: Literal["kohya", "diffusion-pipe"]
    subsets: tuple[Subset, ...]
    options: Mapping[str, tuple[Any, ...]]
    remarks: tuple[str, ...] = ()


def is_dataset_file(path: Path) -> bool:
    """Whether a file is one, by its name."""
    return path.suffix.lower() == SUFFIX and path.is_file()


def read(path: Path) -> DatasetFile:
    """A dataset file.

    Raises:
        ValueError: it is no TOML, names no folder, or an option has a value that it cannot have."""
    try:
        tree = tomllib.loads(read_regular(path, most=_LARGEST).decode())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not readable as TOML: {str(error)[:200]}") from error
    if "directory" in tree:
        return _pipe(path, tree)
    if "datasets" in tree:
        return _kohya(path, tree)
    raise ValueError(
        f"{path} names no folders of data: expected are [[datasets.subsets]] with image_dir (kohya), or [[directory]] with "
        "path (diffusion-pipe)"
    )


def _kohya(path: Path, tree: dict[str, Any]) -> DatasetFile:
    general, subsets, every, remarks = (
        _table(path, tree.get("general", {}), "general"),
        list[Subset](),
        list[dict[str, Any]](),
        list[str](),
    )
    for number, given in enumerate(_tables(path, tree["datasets"], "datasets")):
        shared = {**general, **given}
        listed = _tables(path, shared.pop("subsets", []), f"datasets[{number}].subsets")
        for table in listed:
            options = {**shared, **table}
            if options.pop("is_reg", False):
                remarks.append(f"{options.get('image_dir')} is of regularisation images (is_reg), and is left out.")
                continue
            where = f"{path}, datasets[{number}].subsets"
            metadata = options.pop("metadata_file", None)
            subsets.append(
                Subset(
                    folder=_folder(path, options.pop("image_dir", None), "image_dir"),
                    repeats=_count(where, "num_repeats", options.pop("num_repeats", 1)),
                    caption_suffix=_suffix(where, _extension(options)),
                    caption=_text(where, "class_tokens", options.pop("class_tokens", "")),
                    before=_text(where, "caption_prefix", options.pop("caption_prefix", "")),
                    after=_text(where, "caption_suffix", options.pop("caption_suffix", "")),
                    described_by=None if metadata is None else _beside(path, _text(where, "metadata_file", metadata)),
                )
            )  # fmt: skip
            every.append(options)
    return _made(path, "kohya", subsets, every, remarks)


def _pipe(path: Path, tree: dict[str, Any]) -> DatasetFile:
    general = {key: value for key, value in tree.items() if key != "directory"}
    subsets, every = list[Subset](), list[dict[str, Any]]()
    for table in _tables(path, tree["directory"], "directory"):
        options = {**general, **table}
        where = f"{path}, [[directory]]"
        subsets.append(
            Subset(
                folder=_folder(path, options.pop("path", None), "path"),
                repeats=_count(where, "num_repeats", options.pop("num_repeats", 1)),
                before=_text(where, "caption_prefix", options.pop("caption_prefix", "")),
            )
        )  # fmt: skip
        every.append(options)
    return _made(path, "diffusion-pipe", subsets, every, [])


def _made(
    path: Path,
    of: Literal["kohya", "diffusion-pipe"],
    subsets: list[Subset],
    options: list[dict[str, Any]],
    remarks: list[str],
) -> DatasetFile:
    if not 1 <= len(subsets) <= _MOST_FOLDERS:
        raise ValueError(f"{path} names {len(subsets):,} folders of data, and 1 to {_MOST_FOLDERS:,} are read")
    common = math.gcd(*(subset.repeats for subset in subsets))
    fair = tuple(Subset(**{**vars(subset), "repeats": subset.repeats // common}) for subset in subsets)
    if common > 1:
        remarks = [*remarks, f"num_repeats are divided by {common}, which they share: it only makes an epoch longer."]
    names = dict.fromkeys(name for one in options for name in one)
    values = {name: tuple(_distinct([one.get(name) for one in options])) for name in names}
    return DatasetFile(path=path, of=of, subsets=fair, options=values, remarks=tuple(remarks))


def _distinct(values: list[Any]) -> list[Any]:
    return [value for i, value in enumerate(values) if value not in values[:i]]


def _tables(path: Path, found: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise ValueError(f"{path}: {name} should be tables, [[{name}]]")
    return [dict(table) for table in found]


def _table(path: Path, found: Any, name: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"{path}: {name} should be a table, [{name}]")
    return found


def _extension(options: dict[str, Any]) -> Any:
    misspelt = options.pop("caption_extention", ".caption")  # as kohya's first versions had it
    return options.pop("caption_extension", misspelt)


def _beside(path: Path, name: str) -> Path:
    """A path as the file says: from the file's folder, or from here."""
    given = Path(name).expanduser()
    beside = path.absolute().parent / given
    return beside if beside.exists() or not given.exists() else given.absolute()


def _folder(path: Path, name: Any, option: str) -> Path:
    if not isinstance(name, str) or not name:
        raise ValueError(f"{path}: a folder of data has no {option}, the path of its files")
    folder = _beside(path, name)
    if not folder.is_dir():
        raise ValueError(f"{path}: {option} is {name}, and there is no such folder: correct it")
    return folder


def _count(where: str, name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST_REPEATS:
        raise ValueError(f"{where}: {name} is a number from 1 to {_MOST_REPEATS:,}, got {value!r}")
    return value


def _text(where: str, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where}: {name} is a text, got {value!r}")
    return value.strip()


def _suffix(where: str, value: Any) -> str:
    text = _text(where, "caption_extension", value)
    if not text.strip(".") or "/" in text or "\\" in text:
        raise ValueError(f"{where}: caption_extension is a suffix such as .txt, got {value!r}")
    return text if text.startswith(".") else f".{text}"
