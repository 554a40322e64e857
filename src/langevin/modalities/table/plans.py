"""Plans for requests of tables: samples, with some of their cells given, and holes filled."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from langevin.diffusion.noise import SampleNoise
from langevin.modalities.modality import Draw, Plan, RequestContext, Samples, seeds_of
from langevin.modalities.paths import did_you_mean, some
from langevin.modalities.table.codec import TOKENS, TableCodec
from langevin.modalities.table.columns import OTHER, Column
from langevin.modalities.table.data import TableSet
from langevin.modalities.table.options import Impute, Sample
from langevin.modalities.table.read import Cells, column_index, read
from langevin.modalities.table.write import Row, Stored, texts, verbatim

if TYPE_CHECKING:
    from langevin.modalities.table.modality import Table

COUNT = 10  # samples by default
IMPUTATION = "imputation"  # the column that numbers filled tables


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """Cells that are known of n samples.

    Args:
        table: n samples, of which only these cells count.
        known: (n, columns) bool: the cell is known, with a value or as a missing one.
        present: (n, columns) bool: the cell has a value, known or not.
    """

    table: TableSet
    known: np.ndarray
    present: np.ndarray

    def select(self, index: np.ndarray) -> "Given":
        """Some of the samples."""
        return Given(table=self.table.select(index), known=self.known[index], present=self.present[index])


def nothing_given(codec: TableCodec, count: int) -> Given:
    """No cell is known of `count` samples."""
    values = tuple(
        np.full(count, -1, np.int64) if column.kind == "category" else np.full(count, np.nan)
        for column in codec.columns
    )
    empty = np.zeros((count, len(codec.columns)), dtype=bool)
    return Given(table=TableSet(columns=codec.columns, values=values), known=empty, present=empty.copy())


def drawn(codec: TableCodec, given: Given, context: RequestContext, seeds: Tensor) -> Any:
    """A plan that draws the values (by column) of as many samples as there are seeds, given some of their cells."""
    x, known = None, None
    if given.known.any() or given.present.any():
        noise = SampleNoise(seeds=seeds, steps=torch.full_like(seeds, -2))
        x, known = codec.encode(given.table, torch.arange(len(seeds)), noise), known_elements(codec, given)
        for _, i in enumerate(codec.holes):
            _, hole = codec.positions(i)
            assert hole is not None
            x[TOKENS][:, hole[1]] = torch.from_numpy(given.present[:, i].astype(np.int64))
    found = yield Draw(shape=codec.shape, seeds=seeds, sampling=context.model.sampling, x=x, known=known)
    values = list(codec.decode(found))
    for i, column in enumerate(codec.columns):
        if column.modelled:
            values[i] = np.where(given.known[:, i], given.table.values[i], values[i])
    return tuple(values)


def known_elements(codec: TableCodec, given: Given) -> dict[str, Tensor]:
    """Which elements of x are known."""
    known = {name: torch.zeros(len(given.known), *size, dtype=torch.bool) for name, size in codec.shape.items()}
    for i, column in enumerate(codec.columns):
        if not column.modelled:
            continue
        (part, at), hole = codec.positions(i)
        there = torch.from_numpy(given.known[:, i] & given.table.there(i))
        known[part][:, at] = there
        if hole is not None:
            known[hole[0]][:, hole[1]] = torch.from_numpy(given.known[:, i] | given.present[:, i])
    return known


def sample_plan(table: "Table", options: Sample, context: RequestContext) -> Plan:
    """New samples. Raises `ValueError` for a column or a value that the run does not know."""
    count = COUNT if context.count is None else context.count
    codec, given = table.codec, nothing_given(table.codec, count)
    names = list[str]()
    for text in options.given:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--given takes COLUMN=VALUE, got '{text}'")
        set_cell(codec, given, name.strip(), value.strip())
        names.append(f"{name.strip()}={value.strip()}")
    labels = [", ".join(names)] * count
    if options.balance is not None:
        i = column_index(tuple(column.name for column in codec.columns), options.balance, "--balance")
        if codec.columns[i].kind != "category" or given.known[:, i].any():
            raise ValueError(
                f"--balance needs a column of categories that is not given, and '{options.balance}' is none"
            )
        codes = [codec.columns[i].categories.index(text) for text in learned(codec.columns[i]) if text != OTHER]
        given.table.values[i][:] = np.resize(codes, count)
        given.known[:, i] = given.present[:, i] = True
        labels = [
            ", ".join([*names, f"{options.balance}={codec.columns[i].categories[code]}"])
            for code in given.table.values[i].tolist()
        ]
    return samples_of(table, given, context, count, names=tuple(labels) if any(labels) else ())


def samples_of(table: "Table", given: Given, context: RequestContext, count: int, names: tuple[str, ...] = ()) -> Plan:
    """The plan of `count` samples."""
    seeds = seeds_of(context.seed, count)
    values = yield from drawn(table.codec, given, context, seeds)
    return Samples(modality=table, values=table.rows(values), names=names, arrays={"seed": seeds})


def set_cell(codec: TableCodec, given: Given, name: str, text: str) -> None:
    """Give a column a value in all samples.

    Raises:
        ValueError: there is no such column, or it cannot have this value."""
    i = column_index(tuple(column.name for column in codec.columns), name, "--given")
    column = codec.columns[i]
    if not column.modelled:
        raise ValueError(f"--given: '{name}' is not generated, as {column.reason}: leave it out")
    if given.known[:, i].any():
        raise ValueError(f"--given: '{name}' is given twice")
    given.known[:, i] = True
    if text == "" or (text == column.missing and text not in column.categories):
        if not column.holes:
            raise ValueError(
                f"--given: no cell of '{name}' is missing in the training data, so none can be: give a value"
            )
        return
    given.present[:, i] = True
    given.table.values[i][:] = parsed(column, text, "--given")


def learned(column: Column) -> tuple[str, ...]:
    """The categories that the training data have; others are held out."""
    return tuple(text for text, share in zip(column.categories, column.frequencies) if share > 0)


def parsed(column: Column, text: str, what: str) -> float:
    """The value of a text. Raises `ValueError` if the column cannot have it, with what it can have."""
    if column.kind == "category":
        if text not in learned(column):
            near = did_you_mean(text, learned(column))
            raise ValueError(
                f"{what}: '{column.name}' has no value '{text}'{near}; it has {some(learned(column), limit=10)} in the "
                "training data"
            )
        return column.categories.index(text)
    try:
        value = column.number(text)
    except ValueError as error:
        like = column.text(column.values[len(column.values) // 2])
        raise ValueError(f"{what}: '{column.name}' has {column.kind}s like {like}, got '{text}'") from error
    low, high = column.ends
    least, most = (1e-6 * (column.step or abs(end)) for end in (low, high))  # as ends are said in seven digits
    if not low - least <= value <= high + most:
        raise ValueError(
            f"{what}: '{column.name}' is from {column.text(low)} to {column.text(high)} in the training data, and nothing "
            f"was learned of {text}"
        )
    if column.step is not None and abs(column.rounded(value) - value) > 1e-6 * max(column.step, abs(value) * 1e-9):
        raise ValueError(f"{what}: '{column.name}' has values like {column.text(value)}, in steps of {column.step:g}")
    return value


# -------------------------------------------------------------------------------------------------------------- filling


def impute_plan(table: "Table", options: Impute, context: RequestContext) -> Plan:
    """Filled tables.

    Raises:
        ValueError: the file lacks a column of the run, or there are too many imputations."""
    if not 1 <= options.imputations <= 1000:
        raise ValueError(f"--imputations must be 1 to 1000, got {options.imputations}")
    path = Path(options.file)
    cells = read(path, missing=table.missing, header=table.header, raw=True)
    if cells.broken:
        raise ValueError(
            f"{path}: {some([' '.join(one) for one in cells.broken], between='; ')}: mend these lines first"
        )
    lacking = [c.name for c in table.columns if c.modelled and c.name not in cells.names]
    if lacking:
        raise ValueError(
            f"{path} has no column {some([repr(n) for n in lacking])}, which the run generates: add it, empty"
        )
    given, lines = given_of(table, cells)
    for line in (*cells.remarks, *lines):
        context.say(line)
    holes = [i for i, c in enumerate(table.columns) if c.modelled]
    open_ = np.flatnonzero((~given.present[:, holes]).any(1))
    if not len(open_):
        context.say(f"{path} has no holes: nothing is filled")
    return _filled(table, cells, given, open_, options.imputations, context)


def given_of(table: "Table", cells: Cells) -> tuple[Given, list[str]]:
    """What is known of the samples in a file, and remarks on cells that say nothing to the run."""
    given, lines = nothing_given(table.codec, len(cells)), list[str]()
    for i, column in enumerate(table.columns):
        if not column.modelled:
            continue
        strange = list[str]()
        for row, cell in enumerate(cells.columns[cells.names.index(column.name)]):
            if cell is None:
                continue
            given.present[row, i] = True
            try:
                value = column.code(cell) if column.kind == "category" else column.number(cell)
            except ValueError:
                value = None
            if value is None or value != value or abs(value) == np.inf:
                strange.append(f"{cell!r} in line {cells.lines[row]:,}")
                continue
            given.table.values[i][row], given.known[row, i] = value, True
        if strange:
            lines.append(
                f"'{column.name}': {len(strange):,} cells are no {column.kind} that the run knows; they stay, and nothing "
                f"follows from them: {some(strange)}."
            )
    return given, lines


def _filled(
    table: "Table", cells: Cells, given: Given, open_: np.ndarray, imputations: int, context: RequestContext
) -> Plan:
    index = np.tile(open_, imputations)
    own = given.select(index)
    own.present[:] = True  # every cell is to have a value
    seeds = seeds_of(context.seed, len(index))
    values: Any = tuple(v[:0] for v in own.table.values)
    if len(index):
        values = yield from drawn(table.codec, own, context, seeds)
    filled = [texts(column, part) if column.modelled else [] for column, part in zip(table.columns, values)]
    base = verbatim(cells)
    modelled = [(i, cells.names.index(column.name)) for i, column in enumerate(table.columns) if column.modelled]
    result = list[Row]()
    for k in range(imputations):
        rows = [list(row) for row in base]
        for i, at in modelled:
            for j, row in enumerate(open_.tolist()):
                if not given.present[row, i]:
                    rows[row][at] = filled[i][k * len(open_) + j]
        whole = [(str(k + 1), *row) if imputations > 1 else tuple(row) for row in rows]
        result += whole if cells.arrow is None else [Stored(row, cells, at) for at, row in enumerate(whole)]
    if imputations > 1 and len(index):
        context.say(spread(table, given, open_, values, imputations))
    columns = tuple(_column_of(table, name, i, cells) for i, name in enumerate(cells.names))
    dialect = cells.dialect
    if imputations > 1:
        dialect = replace(dialect, head=(IMPUTATION, *dialect.head) if dialect.head else ())
        columns = (Column(name=IMPUTATION, kind="number", form="integer", decimals=0), *columns)
    shown = replace(table, columns=columns, dialect=dialect, types=_types(cells))
    return Samples(modality=shown, values=result, arrays={}, document=True)


def _column_of(table: "Table", name: str, at: int, cells: Cells) -> Column:
    """The column of a file: the run's, or one that is only written back."""
    known = next((column for column in table.columns if column.name == name), None)
    missing = cells.written[at]
    if known is None or known.kind == "ignored":
        return Column(name=name, kind="category", missing=missing)
    return replace(known, missing=missing)


def _types(cells: Cells) -> dict[str, str]:
    return {} if cells.types is None else dict(zip(cells.names, cells.types))


def spread(table: "Table", given: Given, open_: np.ndarray, values: Any, imputations: int) -> str:
    """A sentence on how far the imputations of each column differ."""
    parts = list[str]()
    for i, column in enumerate(table.columns):
        hole = ~given.present[open_, i] if column.modelled else np.zeros(len(open_), dtype=bool)
        if not hole.any():
            continue
        answers = values[i].reshape(imputations, len(open_))[:, hole]
        if column.kind == "category":
            likeliest = [np.bincount(answers[:, j]).max() / imputations for j in range(answers.shape[1])]
            parts.append(
                f"'{column.name}' {hole.sum():,} holes, {np.mean(likeliest):.0%} of answers are the likeliest one"
            )
        else:
            seconds = answers.std(0).mean()
            unit = f"{seconds / 86400:.3g} days" if column.kind == "date" else f"{seconds:.3g}"
            parts.append(f"'{column.name}' {hole.sum():,} holes, standard deviation {unit}")
    return "Spread of the imputations: " + "; ".join(parts) + "."


__all__ = ["Given", "given_of", "impute_plan", "nothing_given", "sample_plan", "samples_of"]
