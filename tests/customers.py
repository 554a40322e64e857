"""Small tables for tests: made by rules, and written as files."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from langevin.modalities.table import write
from langevin.modalities.table.read import Dialect
from langevin.modalities.table.sources import Mixed

COMMAS = Dialect()


def written(path: Path, *, count: int = 300, holes: bool = True, seed: int = 0, dialect: Dialect = COMMAS) -> Path:
    """A table of customers in a CSV file."""
    cells = Mixed(count=count, holes=holes, seed=seed).cells()
    path.parent.mkdir(parents=True, exist_ok=True)
    text = write.to_csv(cells.names, list(zip(*cells.columns)), cells.written, dialect)
    path.write_bytes(text.encode("utf-8-sig" if dialect.bom else "utf-8"))
    return path


def whole(folder: Path) -> Path:
    return written(folder / "customers.csv", holes=False)


def with_holes(folder: Path) -> Path:
    return written(folder / "customers.csv")


def numbers(folder: Path) -> Path:
    """A table of numbers alone, with semicolons and decimal commas."""
    folder.mkdir(parents=True, exist_ok=True)
    z = np.random.default_rng(0).normal(size=(200, 3)) * [1, 20, 0.1] + [0, 5, 3]
    lines = [";".join(f"{v:.3f}".replace(".", ",") for v in row) for row in z.tolist()]
    (folder / "numbers.csv").write_text("\n".join(["a;b;c", *lines]) + "\n")
    return folder / "numbers.csv"


def read_back(form: str, out: Path, samples) -> None:
    """Check that a file holds the samples."""
    from langevin.modalities.table.read import read

    columns = write.written(samples.modality.columns)
    if form == ".png":
        assert Picture.open(io.BytesIO(out.read_bytes())).size > (100, 100)
    elif form == ".json":
        held = json.loads(out.read_text())
        assert [tuple(row) for row in held] == [tuple(column.name for column in columns)] * len(samples)
        for row, sample in zip(held, samples.values):
            assert [None if cell is None else str(cell).lower() for cell in row.values()] == [
                None if value is None else str(write.typed(column, value)).lower()
                for column, value in zip(columns, sample)
            ]
    elif form == ".parquet":
        cells = read(out)
        for column, held, given in zip(columns, cells.columns, zip(*samples.values)):
            assert (
                [None if c is None else column.number(c) for c in given]
                == [None if c is None else column.number(c.replace(".", "," if column.comma else ".")) for c in held]
                if column.kind == "number"
                else [c is None for c in given] == [c is None for c in held]
            )
    else:
        cells = read(out)
        assert cells.names == tuple(column.name for column in columns)
        assert list(zip(*cells.columns)) == list(samples.values)
