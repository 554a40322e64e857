"""Images of files and folders that a run is asked about, with the labels that they have there."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from langevin.modalities.content import is_folder
from langevin.modalities.image.data import DataReport, Folder, Images, InMemory, open_table
from langevin.modalities.image.decode import decode
from langevin.modalities.image.unreadable import Broken
from langevin.modalities.paths import existing_path, some

Read = tuple[str, str | None, str, Tensor]  # name, label, caption and pixels


def labelled_files(
    files: Sequence[str], *, size: int, channels: int, background: tuple[int, int, int], classes: tuple[str, ...],
    say: Callable[[str], None],
) -> tuple[Images, tuple[str, ...]]:  # fmt: skip
    """Images of size x size pixels from files and folders, which are read like data, with their labels as indices into
    `classes`, -1 for none; and the labels that are none of these.

    Raises:
        ValueError: no image can be read."""
    found, broken = list[Read](), list[str]()
    for file in files:
        found += _read(file, size=size, channels=channels, background=background, broken=broken)
    if broken:
        say(f"images that cannot be read, left out: {len(broken):,} ({some(broken)})")
    if not found:
        raise ValueError(f"{some(list(files))}: no image there can be read")
    numbers = {name: i for i, name in enumerate(classes)}
    unknown = sorted({label for _, label, _, _ in found if label is not None and label not in numbers})
    captions = tuple(caption for _, _, caption, _ in found)
    images = Images(
        shape=(channels, size, size), classes=classes, names=tuple(name for name, *_ in found),
        rows=tuple(range(len(found))),
        labels=torch.tensor([numbers.get(label or "", -1) for _, label, _, _ in found], dtype=torch.int64),
        captions=captions, notes=DataReport(), store=InMemory(pixels=torch.stack([pixels for *_, pixels in found])),
    )  # fmt: skip
    return images, tuple(unknown)


def _read(
    file: str, *, size: int, channels: int, background: tuple[int, int, int], broken: list[str]
) -> Iterator[Read]:
    """The images of a file or a folder; the names of those that cannot be read go to `broken`."""
    path = existing_path(file, "file or folder")
    if not is_folder(path) and path.suffix != ".parquet":
        try:
            yield path.name, None, "", decode(path, size=size, channels=channels, background=background)
        except Broken as error:
            broken.append(f"{path.name} {error.reason}")
        return
    table = open_table(Folder(path=str(path), size=size, channels=channels, background=background))  # type: ignore[arg-type]
    for row, name in enumerate(table.names):
        label = None if table.labels is None else table.labels[row]
        try:
            pixels = table.decode(row, (channels, size, size))
        except Broken as error:
            broken.append(f"{name} {error.reason}")
            continue
        yield name, label, "" if table.captions is None else table.captions[row], pixels
