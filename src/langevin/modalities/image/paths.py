"""The files under a directory, listed and counted, and pickles refused by their names."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from langevin.modalities.image.decode import SUFFIXES

PICKLES = (".pkl", ".pickle")  # never opened; beside images they are left alone


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files under a directory, by relative path with `/`, sorted: images, others, and all counted by suffix."""

    root: Path
    images: tuple[str, ...]
    others: tuple[str, ...]
    files: dict[str, int]


def list_files(root: Path) -> Listing:
    """Every file under `root` that is not hidden, links followed. Raises `ValueError` where a directory is closed."""
    images: list[str] = []
    others: list[str] = []
    seen: set[str] = set()

    def closed(error: OSError) -> None:
        raise ValueError(f"{error.filename} cannot be listed: {error.strerror}; check its rights, or move it away")

    for folder, below, files in os.walk(root, onerror=closed, followlinks=True):
        real = os.path.realpath(folder)
        below[:] = [] if real in seen else sorted(name for name in below if not name.startswith("."))
        for name in () if real in seen else files:
            if not name.startswith("."):
                relative = Path(folder, name).relative_to(root).as_posix()
                (images if Path(name).suffix.lower() in SUFFIXES else others).append(relative)
        seen.add(real)
    counts = Counter(Path(name).suffix.lower() or "(no suffix)" for name in images + others)
    return Listing(
        root=root, images=tuple(sorted(images)), others=tuple(sorted(others)), files=dict(counts.most_common())
    )


def refuse_pickles(folder: Path, names: Iterable[str]) -> None:
    """Raise `ValueError` at the first of these names that is a pickle's, with what to use instead."""
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
