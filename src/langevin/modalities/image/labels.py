"""A file of labels in the place of those of a source: what a person wrote down, or `langevin classify`."""

from dataclasses import replace
from pathlib import Path

from langevin.modalities.image.folder import records
from langevin.modalities.image.table import Table
from langevin.modalities.paths import did_you_mean, existing_path, some


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
