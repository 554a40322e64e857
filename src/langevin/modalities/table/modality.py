"""The modality of tables."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from langevin.files import write_atomic
from langevin.modalities.modality import (
    Budget,
    Detected,
    Evaluation,
    File,
    Measuring,
    Needs,
    Plan,
    Progress,
    RequestContext,
    Samples,
    Scorer,
    Suggestion,
)
from langevin.modalities.table import inspect, plans, preview, suggest, write
from langevin.modalities.table.batches import TableBatches
from langevin.modalities.table.codec import NUMBERS, TOKENS, TableCodec, fit_column
from langevin.modalities.table.columns import Column
from langevin.modalities.table.data import TableSet, split, typed
from langevin.modalities.table.detect import detect
from langevin.modalities.table.infer import Typed
from langevin.modalities.table.options import Evaluate, Impute, Sample
from langevin.modalities.table.read import MISSING, Cells, Dialect, read
from langevin.modalities.table.sources import AnySource

PREVIEWED = 500
ColumnKind = Literal["number", "category", "date", "ignored"]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Tables: rows of texts when decoded, None for missing cells.

    Args:
        path: a .csv, .tsv or .parquet file.
        source: without a path, a table that ships with scikit-learn, or one made by rules.
        header: whether a CSV file's first line has the names of the columns; None finds out.
        missing: texts of cells that are missing.
        kinds: of columns by name, where what is found out is wrong: number, category, date or ignored.
        categories: the largest number of categories of a column; rarer ones become one.
        context: probability that some cells of a training sample are given, so that the run can fill holes.
        val_fraction: fraction of the samples that is held out.
        columns, dialect, types: the columns, and how the file is written; fitted to the data.
    """

    kind: Literal["table"] = "table"
    path: str | None = None
    source: AnySource | None = None
    header: bool | None = None
    missing: tuple[str, ...] = MISSING
    kinds: dict[str, ColumnKind] = field(default_factory=dict)
    categories: int = 256
    context: float = 0.5
    val_fraction: float = 0.1
    columns: tuple[Column, ...] = ()
    dialect: Dialect = Dialect()
    types: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path is None and self.source is None:
            raise ValueError("a table needs a file (data.path) or a source (data.source)")
        if not 0 < self.val_fraction < 1 or not 0 <= self.context <= 1:
            raise ValueError(
                f"data.val_fraction is between 0 and 1 and data.context from 0 to 1, got {self.val_fraction} and "
                f"{self.context}"
            )
        if not 2 <= self.categories <= 10_000:
            raise ValueError(f"data.categories must be 2 to 10,000, got {self.categories}")

    @property
    def forms(self) -> tuple[str, ...]:
        """File suffixes that samples can be written with, the default first."""
        return ("-", ".csv", ".tsv", ".parquet", ".json", ".png")

    @property
    def codec(self) -> TableCodec:
        """The map between cells and x."""
        return TableCodec(columns=self.columns)

    @property
    def choices(self) -> dict[str, tuple[str, ...]]:
        """The columns, by which samples can be balanced."""
        return {"balance": tuple(column.name for column in self.columns if column.kind == "category")}

    @classmethod
    def detect(cls, path: Path) -> Detected | None:
        found = detect(path)
        return None if found is None else Detected(modality=cls(path=str(path)), score=found[0], reason=found[1])

    def inspect(self, *, progress: Progress | None = None) -> inspect.Inspection:
        return inspect.inspect(self)

    def load(self) -> tuple[Cells, list[Typed]]:
        """The table, and its columns with their types and values."""
        name = self.path or str(self.source)
        if self.path is not None:
            cells = read(Path(self.path), missing=self.missing, header=self.header)
        else:
            assert self.source is not None, "checked in __post_init__"
            cells = self.source.cells()
        return cells, typed(cells, most=self.categories, kinds=self.kinds, path=name)

    def open(self, *, progress: Progress | None = None) -> tuple[TableSet, TableSet]:
        cells, found = self.load()
        return split(cells, found, val_fraction=self.val_fraction, path=self.path or str(self.source))

    def fitted(self, train: TableSet, *, base: Self | None = None) -> Self:
        if base is not None:
            mine, theirs = ([(c.name, c.kind, c.categories, c.holes) for c in t.columns] for t in (train, base))
            if mine != theirs:
                raise ValueError(
                    "the run to initialise from is of another table: its columns, or their categories, are others, and "
                    "embeddings would be mixed up"
                )
            return replace(self, columns=base.columns, dialect=base.dialect, types=base.types)
        columns = tuple(fit_column(column, values) for column, values in zip(train.columns, train.values))
        types = {} if train.types is None else dict(zip(train.names, train.types))
        return replace(self, columns=columns, dialect=train.dialect, types=types)

    def needs(self, train: TableSet) -> Needs:
        codec, parts = self.codec, dict[str, Needs]()
        if codec.numbers:
            parts[NUMBERS] = Needs(processes=("gaussian",), channels=len(codec.numbers), std=1.0)
        if codec.choices:
            parts[TOKENS] = Needs(
                processes=("masked",), tokens=max(codec.choices), space=(len(codec.choices),), choices=codec.choices
            )
        return Needs(processes=("product",), parts=parts)

    def suggest(self, train: TableSet, budget: Budget) -> Suggestion:
        name = (
            Path(self.path).resolve().stem
            if self.path
            else str(getattr(self.source, "name", self.source and self.source.kind))
        )
        return suggest.suggest(self.fitted(train).codec, len(train), budget, name=name)

    def batches(self, dataset: TableSet, *, device: torch.device) -> TableBatches:
        return TableBatches(dataset=dataset, codec=self.codec, context=self.context, device=device)

    # ---------------------------------------------------------------------------------------------------- requests

    def plan(self, options: Sample | Impute, context: RequestContext) -> Plan:
        if isinstance(options, Impute):
            return plans.impute_plan(self, options, context)
        return plans.sample_plan(self, options, context)

    def preview_plan(self, context: RequestContext) -> Plan:
        return plans.samples_of(self, plans.nothing_given(self.codec, PREVIEWED), context, PREVIEWED)

    def plan_like(self, dataset: TableSet, context: RequestContext) -> Plan:
        count = context.count or len(dataset)
        return plans.samples_of(self, plans.nothing_given(self.codec, count), context, count)

    def rows(self, values: tuple[np.ndarray, ...]) -> list[write.Row]:
        """The values of the columns as rows of texts."""
        return write.rows(self.columns, values)

    def decode(self, x: dict[str, Tensor]) -> list[write.Row]:
        return self.rows(self.codec.decode(x))

    def preview(self, samples: Samples) -> File:
        return preview.preview(self, samples)

    def text(self, samples: Samples) -> str:
        columns = write.written(self.columns)
        dialect = replace(self.dialect, header=True, newline="\n", sep=False)
        return write.to_csv(
            [column.name for column in columns], list(samples.values), [column.missing for column in columns], dialect
        )

    def save(self, samples: Samples, out: Path) -> None:
        columns, values = write.written(self.columns), list(samples.values)
        if out.suffix == ".png":
            shown = preview.preview(self, replace(samples, document=False))
            content = samples.stamped(shown.content) if shown.suffix == ".png" else shown.content
        elif out.suffix == ".parquet":
            content = write.to_parquet(columns, values, self.types)
        elif out.suffix == ".json":
            content = write.to_json(columns, values).encode()
        else:
            dialect = replace(self.dialect, delimiter="\t") if out.suffix == ".tsv" else self.dialect
            names, missing = [column.name for column in columns], [column.missing for column in columns]
            text = write.to_csv(names, values, missing, dialect)
            content = text.encode("utf-8-sig" if self.dialect.bom else "utf-8")
        write_atomic(out, content)

    # ---------------------------------------------------------------------------------------------------- measuring

    def evaluate(self, options: Evaluate, measuring: Measuring) -> Evaluation:
        from langevin.modalities.table.evaluate import evaluate  # with all metrics, which only this needs

        return evaluate(self, options, measuring)

    def scorer(self, measuring: Measuring) -> Scorer:
        from langevin.modalities.table.evaluate import scorer

        return scorer(self, measuring)
