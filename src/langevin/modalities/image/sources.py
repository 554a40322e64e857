"""Sources of images: a frozen configuration per kind, and the detection of the kind at a path."""

from dataclasses import dataclass
from typing import Literal

from langevin.modalities.content import is_folder
from langevin.modalities.image.decode import SUFFIXES
from langevin.modalities.image.paths import PICKLES, list_files, refuse_pickles
from langevin.modalities.paths import existing_path, list_entries, regular

TEST_NAMES = ("test", "valid", "validation", "val", "dev")  # names of a source's test part, in order of preference


@dataclass(frozen=True, kw_only=True)
class Digits:
    """The 1,797 handwritten digits that ship with scikit-learn, 8x8 grey, ten classes."""

    kind: Literal["digits"] = "digits"


@dataclass(frozen=True, kw_only=True)
class Glyphs:
    """Letters and digits of the 21 typefaces that come with matplotlib, 32x32 grey, captioned "bold serif capital G".

    A tenth of the pairs (typeface, character) is the test part, whatever `held_out` is. Every typeface and every
    character is trained on, these pairs never.
    """

    kind: Literal["glyphs"] = "glyphs"


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A directory of image files, including sub-directories; hidden files and directories are ignored.

    Captions and labels come from `metadata.jsonl` or `metadata.csv` (`file_name` with `text` or `caption`, `label` or
    `class`). Without it a text file with the image's name is its caption, and the first directory level is its class.
    `train/` next to `test/`, `valid/`, `validation/`, `val/` or `dev/` are parts, not classes.

    Args:
        size: side in pixels; None chooses it, see `choose_size`.
        channels: 1 or 3; None is 1 if all images are grey, else 3.
        background: the colour behind transparent pixels.
        hold_out_captions: exact captions whose images are all held out, to test combinations never trained on.

    Raises:
        ValueError: a value is out of range.
    """

    kind: Literal["folder"] = "folder"
    path: str
    size: int | None = None
    channels: Literal[1, 3] | None = None
    background: tuple[int, int, int] = (255, 255, 255)
    hold_out_captions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_form(self)


@dataclass(frozen=True, kw_only=True)
class Parquet:
    """A `.parquet` file with encoded images, or a directory with `train*.parquet` and, if there is one, `test*.parquet`.

    `image`, `label` and `caption` are column names. An image is bytes, or a struct with `bytes`. A label is a string,
    or an integer, with class names in the schema's `huggingface` metadata if they are known. The other fields are
    `Folder`'s.
    """

    kind: Literal["parquet"] = "parquet"
    path: str
    size: int | None = None
    channels: Literal[1, 3] | None = None
    image: str = "image"
    label: str = "label"
    caption: str = "text"
    background: tuple[int, int, int] = (255, 255, 255)
    hold_out_captions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_form(self)


@dataclass(frozen=True, kw_only=True)
class Cifar10:
    """CIFAR-10 in its binary version (Krizhevsky, 2009): 50,000 + 10,000 colour photos of 32x32, ten classes.

    `path` is the directory of the `.bin` files, its parent, or `cifar-10-binary.tar.gz`. None is the copy in
    `~/.cache/langevin`, which is downloaded only if `download` is true.
    """

    kind: Literal["cifar10"] = "cifar10"
    path: str | None = None
    download: bool = False


Source = Digits | Glyphs | Folder | Parquet | Cifar10


def builtin_source(name: str | None, *, download: bool) -> Source:
    """The builtin source of that name."""
    builtin: dict[str | None, Source] = {"digits": Digits(), "glyphs": Glyphs(), "cifar10": Cifar10(download=download)}
    return builtin[name]


def _check_form(source: Folder | Parquet) -> None:
    where = type(source).__name__
    if not source.path:
        raise ValueError(f"{where}: path is empty; name a {'folder' if where == 'Folder' else 'file or folder'}")
    if source.size is not None and not 4 <= source.size <= 4096:
        raise ValueError(f"{where}: size is {source.size}; use 4 to 4096 pixels, or leave it out to have it chosen")
    if source.channels not in (None, 1, 3):
        raise ValueError(f"{where}: channels is {source.channels}; use 1 (grey), 3 (colour), or leave it out")
    if len(source.background) != 3 or not all(0 <= value <= 255 for value in source.background):
        raise ValueError(
            f"{where}: background is {source.background}; use three values of 0 to 255, as (255, 255, 255)"
        )


def resolve(source: Source) -> Source:
    """The source at the path of a `Folder`: the folder itself, or the `Parquet` or `Cifar10` that is there.

    Raises `ValueError` if the path does not exist, holds no images, or holds pickles, which are never opened.
    """
    if not isinstance(source, Folder):
        return source
    path = existing_path(source.path, "folder")
    if not is_folder(path) and not regular(path):
        raise ValueError(f"{path} is neither a folder nor a regular file: name a folder of images")
    if not is_folder(path):
        if path.suffix.lower() == ".parquet":
            return _as_parquet(source)
        refuse_pickles(path.parent, {path.name})
        if path.name.lower().endswith((".tar.gz", ".tgz")) and "cifar-10" in path.name.lower():
            return _as_cifar10(source)
        advice = "name the folder it lies in" if path.suffix.lower() in SUFFIXES else "name a folder of images"
        if path.name.lower().endswith((".zip", ".tar.gz", ".tgz", ".rar", ".7z")):
            advice = "unpack it and name the folder it makes"
        raise ValueError(f"{path} is a file, not a folder: {advice}")
    entries = {entry.name for entry in list_entries(path)}
    if "data_batch_1.bin" in entries or "cifar-10-batches-bin" in entries:
        return _as_cifar10(source)
    refuse_pickles(path, {name for name in entries if not name.lower().endswith(PICKLES)})
    parquet = [name for name in entries if name.lower().endswith(".parquet")]
    if any(name.startswith("train") for name in parquet):
        return _as_parquet(source)
    found = list_files(path)
    if not found.images and (parquet or any((path / "data").glob("*.parquet"))):
        return _as_parquet(source)
    if not found.images:
        refuse_pickles(path, [name for name in found.others if name.lower().endswith(PICKLES)])
        kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in found.files.items())
        raise ValueError(
            f"{path} holds no images: {sum(found.files.values()):,} files were found there, none with an image suffix"
            f"{f' ({kinds})' if kinds else ''}. Looked for {' '.join(sorted(SUFFIXES))} in it and its sub-directories"
        )
    return source


def _as_parquet(source: Folder) -> Parquet:
    return Parquet(
        path=source.path,
        size=source.size,
        channels=source.channels,
        background=source.background,
        hold_out_captions=source.hold_out_captions,
    )


def _as_cifar10(source: Folder) -> Cifar10:
    if source.size not in (None, 32) or source.channels not in (None, 3) or source.hold_out_captions:
        raise ValueError(f"{source.path} is CIFAR-10: 32x32 in colour, without captions; leave size and channels out")
    return Cifar10(path=source.path)
