"""Labels of images besides those of a run's own data: a file of them in the place of a source's, and files to classify."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langevin.modalities.image.data_report import DataReport
from langevin.modalities.image.decode import decode
from langevin.modalities.image.folder import records
from langevin.modalities.image.sources import Folder
from langevin.modalities.image.table import Table
from langevin.modalities.image.unreadable import Broken
from langevin.modalities.paths import did_you_mean, existing_path, some

if TYPE_CHECKING:
    from langevin.modalities.image.data import Images


def relabelled(table: Table, path: Path) -> Table:
    """The images with the labels of a .csv or .jsonl file, whose records have a `file_name`, which is the name of an image,
    and a `label` or `class`. What it does not list, or lists with an empty cell, has no label.

    Raises:
        ValueError: it labels no image, or with a class that the source does not have."""
    read, lost = records(existing_path(str(path), "file of labels"))
    said = {name: label for name, _, label in read}
    labels, names = [said.get(name) for name in table.names], set(table.names)
    known = [label for label in labels if label is not None]
    absent = [name for name in said if name not in names]
    if said and len(absent) == len(said):
        near = did_you_mean(absent[0], table.names) or f"; they are called {some(table.names)}"
        raise ValueError(f"{path} labels no image of {table.where}: the first is '{absent[0]}'{near}")
    for label in dict.fromkeys(known):
        if table.classes is not None and label not in table.classes:
            where = next(name for name, own in said.items() if own == label)
            raise ValueError(
                f"{path} gives {where} the label '{label}', and the classes of {table.where} are "
                f"{some(table.classes, limit=20)}{did_you_mean(label, table.classes)}"
            )
    notes = replace(
        table.notes,
        without_label=tuple(n for n, label in zip(table.names, labels, strict=True) if label is None) if known else (),
        absent=(*table.notes.absent, *absent),
        records_unreadable=(*table.notes.records_unreadable, *((f"{path}, line {line}", why) for line, why in lost)),
    )
    return replace(table, labels=labels if known else None, classes=table.classes if known else None, notes=notes)


Read = tuple[str, str | None, str, Tensor]  # name, label, caption and pixels


def labelled_files(
    files: Sequence[str], *, size: int, channels: int, background: tuple[int, int, int], classes: tuple[str, ...],
    say: Callable[[str], None],
) -> tuple["Images", tuple[str, ...]]:  # fmt: skip
    """Images of size x size pixels from files and folders, which are read like data, with their labels as indices into
    `classes`, -1 for none; and the labels that are none of these.

    Raises:
        ValueError: no image can be read."""
    from langevin.modalities.image.data import Images, InMemory

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
    from langevin.modalities.image.data import open_table

    path = existing_path(file, "file or folder")
    if not path.is_dir() and path.suffix != ".parquet":
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
