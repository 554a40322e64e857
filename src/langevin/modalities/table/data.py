"""A table with the values of its columns, split into a training and a validation part."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from torch import Tensor

from langevin.modalities.paths import did_you_mean, some
from langevin.modalities.remarks import Remarks
from langevin.modalities.table.columns import Column
from langevin.modalities.table.infer import Typed, infer
from langevin.modalities.table.read import Cells, Dialect

FEWEST = 20  # samples
COPIES, FREQUENT = 0.75, 0.01  # shares of all copies, and of one sample, above which copies may be in both parts


@dataclass(frozen=True, kw_only=True, eq=False)
class TableSet:
    """The training or the validation part.

    Args:
        columns: their types, not fitted.
        values: of each column, float64 with NaN where a cell is missing, or int64 codes of categories with -1.
        dialect: how the file is written.
        types: of the columns of a Parquet file.
    """

    columns: tuple[Column, ...]
    values: tuple[np.ndarray, ...]
    dialect: Dialect = Dialect()
    types: tuple[str, ...] | None = None
    notes: Remarks = Remarks()

    def __len__(self) -> int:
        return len(self.values[0])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of names, types and values, in hexadecimal."""
        digest = hashlib.sha256(repr([(c.name, c.kind, c.categories) for c in self.columns]).encode())
        for values in self.values:
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def there(self, column: int) -> np.ndarray:
        """(n,) bool: whether a column's cells have a value."""
        values = self.values[column]
        return values >= 0 if values.dtype == np.int64 else ~np.isnan(values)

    def select(self, index: np.ndarray | Tensor | Sequence[int]) -> "TableSet":
        """Some of the samples."""
        at = np.asarray(index)
        return replace(self, values=tuple(values[at] for values in self.values))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


def typed(cells: Cells, *, most: int, kinds: Mapping[str, str], path: str) -> list[Typed]:
    """The columns of a table with their types.

    Raises:
        ValueError: `kinds` names a column that is not there."""
    for name in kinds:
        if name not in cells.names:
            raise ValueError(f"data.kinds names '{name}', which {path} has not{did_you_mean(name, cells.names)}")
    types = cells.types or (None,) * len(cells.names)
    return [
        infer(
            name,
            column,
            most=most,
            kind=kinds.get(name),
            written=written,
            arrow=arrow,
            delimiter=cells.dialect.delimiter,
        )
        for name, column, written, arrow in zip(cells.names, cells.columns, cells.written, types)
    ]


def split(cells: Cells, found: Sequence[Typed], *, val_fraction: float, path: str) -> tuple[TableSet, TableSet]:
    """Both parts of a table: a hash of the cells decides, so that equal samples stay together, but for those that are as
    frequent as a value is in data of few different ones (`divided`).

    Raises:
        ValueError: there is nothing to learn from, or there are too few samples."""
    columns = tuple(one.column for one in found)
    if len(cells) < FEWEST:
        raise ValueError(
            f"{path} has {len(cells)} {'sample' if len(cells) == 1 else 'samples'}, and training needs {FEWEST} or more"
        )
    if not any(column.modelled for column in columns):
        reasons = some([f"{c.name}: {c.reason}" for c in columns], between="; ")
        raise ValueError(f"{path}: no column can be learned ({reasons})")
    copies = Counter(zip(*cells.columns))
    apart, seen = divided(copies), Counter[tuple[str | None, ...]]()
    position = np.zeros(len(cells))
    for i, row in enumerate(zip(*cells.columns)):
        seen[row] += row in apart
        position[i] = _position(row if seen[row] < 2 else (*row, str(seen[row])))
    held_out = position < val_fraction
    if not held_out.any() or held_out.all():
        several = np.unique(position)  # two or more, as a column that is learned has different cells
        held_out = position <= several[min(int(val_fraction * (len(several) - 1)), len(several) - 2)]
    values = tuple(one.values for one in found)
    whole = TableSet(
        columns=columns, values=values, dialect=cells.dialect, types=cells.types,
        notes=Remarks(broken=cells.broken, remarks=(*cells.remarks, *remarks(cells, found))),
    )  # fmt: skip
    return whole.select(np.flatnonzero(~held_out)), whole.select(np.flatnonzero(held_out))


def divided(copies: Counter[tuple[str | None, ...]]) -> set[tuple[str | None, ...]]:
    """The samples whose copies may be in both parts: those of which one part would get too many, or all if most samples are
    copies, so that whole samples in one part would be missing from the other's distribution."""
    count = copies.total()
    most = 1 if count - len(copies) > COPIES * count else max(3, FREQUENT * count)
    return {sample for sample, times in copies.items() if times > most}


def _position(row: tuple[str | None, ...]) -> float:
    return int(hashlib.sha256(repr(row).encode(errors="replace")).hexdigest()[:8], 16) / 2**32


def remarks(cells: Cells, found: Sequence[Typed]) -> list[str]:
    """A sentence for each thing to know of the columns."""
    lines = list[str]()
    for kind, what in (
        ("ignored", "Left out"),
        ("constant", "Constant, written back"),
        ("empty", "Empty, written back"),
    ):
        those = [f"'{one.column.name}' ({one.column.reason})" for one in found if one.column.kind == kind]
        if those:
            lines.append(f"{what}: {some(those, limit=8)}.")
    for one in found:
        if one.unreadable:
            shown = some([f"{text!r} in line {cells.lines[i]:,}" for i, text in one.unreadable])
            lines.append(
                f"'{one.column.name}' is a {one.column.kind}, and {len(one.unreadable):,} of its cells are none, and count "
                f"as missing: {shown}."
            )
        if one.column.kind == "category" and one.column.reason.startswith("its "):
            lines.append(f"'{one.column.name}' has many values: {one.column.reason}.")
        if one.column.kind == "date" and one.column.reason:
            lines.append(f"'{one.column.name}' is {one.column.reason}: set data.kinds if it is another way round.")
        if one.column.kind == "number" and one.column.reason:
            lines.append(
                f"'{one.column.name}' is {one.column.reason}: write its numbers without commas if that is wrong."
            )
    return lines
