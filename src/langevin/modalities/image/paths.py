"""Lists the files under a directory, and refuses pickles by name."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from langevin.modalities.image.decode import SUFFIXES
from langevin.modalities.paths import walk

PICKLES = (".pkl", ".pickle")  # never opened; ignored next to images
SURROGATE = re.compile("[\ud800-\udfff]")
LONGEST_TEXT = 2**20  # bytes of a caption or a label


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files under a directory: sorted relative paths with `/` of images and others, and counts by suffix."""

    root: Path
    images: tuple[str, ...]
    others: tuple[str, ...]
    files: dict[str, int]


def list_files(root: Path) -> Listing:
    """Every file under `root` that is not hidden; follows links. Raises `ValueError` for an unreadable directory."""
    names = walk(root)
    images = tuple(name for name in names if Path(name).suffix.lower() in SUFFIXES)
    others = tuple(name for name in names if Path(name).suffix.lower() not in SUFFIXES)
    counts = Counter(shown(Path(name).suffix.lower()) or "(no suffix)" for name in images + others)
    return Listing(root=root, images=images, others=others, files=dict(counts.most_common()))


def shown(name: str) -> str:
    """A name that can be printed and stored: "\ufffd" for what is not UTF-8, half a character or a control character."""
    try:
        name = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # half a character, which no bytes of a file name are
        name = SURROGATE.sub("\ufffd", name)
    return "".join("\ufffd" if unicodedata.category(c) == "Cc" else c for c in name)


def refuse_pickles(folder: Path, names: Iterable[str]) -> None:
    """Raise `ValueError` for the first name of a pickle file, with what to use instead."""
    for name in sorted(names):
        if re.fullmatch(r"data_batch_\d|batches\.meta|cifar-10(0)?-(batches-py|python).*", name):
            raise ValueError(
                f"{folder / name} is CIFAR in its Python version, which is a pickle: opening one runs whatever program it "
                "contains, so it is never done here. Use the binary version, cifar-10-binary.tar.gz, unpacked or not"
            )
        if name.lower().endswith(PICKLES):
            raise ValueError(
                f"{folder / name} is a Python pickle: opening one runs whatever program it contains, so it is never done "
                "here. Export the images as PNG files or as Parquet (for CIFAR-10 take cifar-10-binary.tar.gz)"
            )
