"""What `inspect` reports of a table."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from langevin.modalities.paths import some
from langevin.modalities.table.columns import Column
from langevin.modalities.table.data import divided, remarks
from langevin.modalities.table.infer import Typed

if TYPE_CHECKING:
    from langevin.modalities.table.modality import Table

FAR = 20.0  # interquartile ranges from the quartiles beyond which a number is suspicious
SENTINELS = (-1.0, -9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0, 99999.0)
SHOWN = 60  # columns


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The report on a table.

    Args:
        columns: name, type, share of missing cells and a summary of the values, of each.
        findings: sentences on what is left out, broken or unusual.
    """

    path: str
    samples: int
    columns: tuple[dict[str, Any], ...]
    duplicates: int
    findings: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report as text."""
        wide = max((len(column["name"]) for column in self.columns), default=0)
        shown = [
            f"  {column['name']:{min(wide, 32)}}  {column['type']:10}  {column['summary']}"
            + (f"; {column['missing']:.1%} missing" if column["missing"] else "")
            for column in self.columns[:SHOWN]
        ]
        more = [f"  and {len(self.columns) - SHOWN:,} more columns"] if len(self.columns) > SHOWN else []
        return [f"{self.path}: {self.samples:,} samples, {len(self.columns)} columns", *shown, *more, *self.findings]

    def as_dict(self) -> dict[str, Any]:
        """The report, of JSON types."""
        return asdict(self) | {"columns": list(self.columns)}


def inspect(table: "Table") -> Inspection:
    """Read the whole table, and report on it."""
    cells, found = table.load()
    copies = Counter(zip(*cells.columns))
    duplicates = sum(count - 1 for count in copies.values())
    lines = [f"{where} {why}" for where, why in cells.broken]
    findings = [f"Lines that are left out: {len(lines):,} ({some(lines, between='; ')})."] if lines else []
    findings += [*cells.remarks, *remarks(cells, found)]
    if duplicates:
        apart = divided(copies)
        but = f", but for those of {len(apart):,} that are frequent" if apart else ""
        findings.append(f"{duplicates:,} samples are copies of others; copies stay in one part of the data{but}.")
    findings += [line for one in found for line in suspicious(one)]
    return Inspection(
        path=table.path or str(table.source), samples=len(cells), columns=tuple(map(described, found)),
        duplicates=duplicates, findings=tuple(findings),
    )  # fmt: skip


def described(one: Typed) -> dict[str, Any]:
    """A column in a few words."""
    column, values = one.column, one.values
    kind = column.form if column.kind == "category" and column.form == "boolean" else column.kind
    missing = float(np.isnan(values).mean()) if column.continuous else 0.0
    missing = float((values < 0).mean()) if column.kind == "category" else missing
    return {"name": column.name, "type": kind, "missing": missing, "summary": _summary(column, values)}


def _summary(column: Column, values: np.ndarray) -> str:
    if column.kind == "category":
        counts = np.bincount(values[values >= 0], minlength=len(column.categories)) / max(1, (values >= 0).sum())
        shown = [f"{name} {share:.0%}" for name, share in zip(column.categories, counts.tolist())]
        return f"{len(shown)} values: {some(shown, limit=4)}"
    if not column.continuous:
        return column.reason
    known = values[~np.isnan(values)]
    low, middle, high = (column.text(v) for v in (known.min(), float(np.median(known)), known.max()))
    return f"{low} to {high}, median {middle}" + (f", {column.reason}" if column.reason else "")


def suspicious(one: Typed) -> list[str]:
    """Sentences on values that may be mistakes."""
    column, values = one.column, one.values
    if column.kind == "category":
        counts = np.bincount(values[values >= 0], minlength=len(column.categories))
        once = [name for name, count in zip(column.categories, counts.tolist()) if count == 1]
        folded = Counter(name.strip().lower() for name in column.categories)
        alike = [name for name in column.categories if folded[name.strip().lower()] > 1]
        lines = [f"'{column.name}' has {len(once):,} values that occur once: {some(once)}."] if once else []
        return [*lines, *([f"'{column.name}' has values that differ in case alone: {some(alike)}."] if alike else [])]
    if column.kind != "number":
        return []
    known = values[~np.isnan(values)]
    low, high = np.quantile(known, [0.25, 0.75])
    reach = FAR * max(float(high - low), 1e-12)
    far = known[(known < low - reach) | (known > high + reach)]
    lines = list[str]()
    if 0 < len(far) <= 0.01 * len(known) and high > low:
        shown = some([column.text(v) for v in dict.fromkeys(far.tolist())])
        lines.append(f"'{column.name}' has {len(far):,} values far from all others: {shown}. Are they mistakes?")
    for sentinel in SENTINELS:
        count = int((known == sentinel).sum())
        outside = sentinel == known.min() or sentinel == known.max()
        rest = known[known != sentinel]
        if count < 3 or not outside or not len(rest):
            continue
        alone = sentinel < 0 <= rest.min()  # the only negative value
        if alone or abs(sentinel - np.median(rest)) > 3 * (np.ptp(rest) / 2 + 1e-12):
            text = column.text(sentinel)
            lines.append(
                f"'{column.name}' is {text} in {count:,} samples: if that means missing, add it to data.missing."
            )
    return lines
