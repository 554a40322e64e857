"""The types of the columns of a table, from their cells."""

import math
import re
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from langevin.modalities.paths import some
from langevin.modalities.table.columns import OTHER, Column, Form, seconds_of

CODED = 10  # different whole numbers up to which they are categories
UNREADABLE = 0.05  # share of the cells of numbers or dates that may be none
UNIQUE = 0.5  # share of different texts above which they are identifiers, or free text
FEW = 20  # cells below which no share is computed
BOOLEANS = ({"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"}, {"on", "off"})
MOST_DECIMALS, STEPS = 9, 1e6  # digits after the point, and steps within the range, that float32 can tell apart
INTEGER = re.compile(r"[+-]?\d{1,18}")
GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")  # a number whose commas may separate thousands
CODE = re.compile(r"0\d+")  # a whole number that begins with 0: a code, as of a place
FORMATS = (
    "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%Y/%m/%d %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S",
    "%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S", "%d %b %Y", "%b %d, %Y", "%d-%b-%Y",
    "%d-%b-%y",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Typed:
    """A column with its values.

    Args:
        values: float64 with NaN for missing cells, or int64 codes with -1.
        unreadable: (index of the sample, text) of cells that do not fit the type, and count as missing.
    """

    column: Column
    values: np.ndarray
    unreadable: tuple[tuple[int, str], ...] = ()


def infer(name: str, cells: list[str | None], *, most: int, kind: str | None = None, written: str = "",
          arrow: str | None = None, delimiter: str = ",") -> Typed:  # fmt: skip
    """The type of a column, and its values.

    Args:
        most: the largest number of categories; rarer ones become one.
        kind: what the user says that it is: number, category, date or ignored.
        written: how missing cells are written.
        arrow: its type in a Parquet file.
        delimiter: of the file, a semicolon where commas are decimal ones.

    Raises:
        ValueError: it is not what the user says."""
    present = [cell for cell in cells if cell is not None]
    base = Column(name=name, kind="ignored", holes=len(present) < len(cells), missing=written)
    nothing = np.zeros(len(cells))
    if not present:
        return Typed(column=replace(base, kind="empty", reason="no cell has a value"), values=nothing)
    if kind == "ignored":
        return Typed(column=replace(base, reason="data.kinds says so"), values=nothing)
    if arrow is not None and re.match(r"list|struct|map|binary|large_binary|fixed_size|extension", arrow):
        return Typed(column=replace(base, reason=f"its type is {arrow}"), values=nothing)
    counts = Counter(present)
    if len(counts) == 1 and not base.holes:
        value = present[0]
        return Typed(
            column=replace(base, kind="constant", categories=(value,), form=_form(value), reason=f"it is always {value}"),
            values=nothing,
        )  # fmt: skip
    if kind == "category":
        return _categories(base, cells, counts, most, "data.kinds says so", form=_form_of(counts))
    if any(set(map(str.lower, counts)) <= words for words in BOOLEANS) and kind is None:
        return _categories(base, cells, counts, most, "", form="boolean")
    if kind in (None, "number"):
        found = _numbers(base, cells, present, counts, most, kind, delimiter)
        if found is not None:
            return found
    if kind in (None, "date"):
        found = _dates(base, cells, present, arrow)
        if found is not None:
            return found
    if kind is not None:
        raise ValueError(
            f"data.kinds says that '{name}' is a {kind}, and it holds cells like {some([repr(c) for c in counts])}"
        )
    if len(present) >= FEW and len(counts) > UNIQUE * len(present):
        share = len(counts) / len(present)
        reason = f"{share:.0%} of its values are unique: identifiers, or free text"
        return Typed(column=replace(base, reason=reason), values=nothing)
    return _categories(base, cells, counts, most, "")


def _form(value: str) -> Form:
    return "integer" if INTEGER.fullmatch(value) and not CODE.fullmatch(value) else "text"


def _form_of(counts: Counter[str]) -> Form:
    return "integer" if all(_form(value) == "integer" for value in counts) else "text"


def _categories(base: Column, cells: list[str | None], counts: Counter[str], most: int, reason: str,
                form: Form = "text") -> Typed:  # fmt: skip
    """A column of categories, the most frequent first."""
    order = sorted(counts, key=lambda value: (-counts[value], value))
    if len(order) > most:
        rare = len(order) - most + 1
        order = [value for value in order[: most - 1] if value != OTHER] + [OTHER]
        reason = f"its {rare:,} rarest values are one, '{OTHER}'"
        form = "text"
    code = {value: i for i, value in enumerate(order)}
    other = code.get(OTHER, -1)
    values = np.array([-1 if cell is None else code.get(cell, other) for cell in cells], dtype=np.int64)
    return Typed(
        column=replace(base, kind="category", form=form, categories=tuple(order), reason=reason), values=values
    )


def _numbers(base: Column, cells: list[str | None], present: list[str], counts: Counter[str], most: int,
             kind: str | None, delimiter: str) -> Typed | None:  # fmt: skip
    """A column of numbers, or of categories that are whole numbers; None if too many cells are none."""
    commas = [cell for cell in counts if "," in cell]
    thousands = bool(commas) and all(GROUPED.fullmatch(cell) for cell in commas)  # or decimals, if all have three
    sure = any(len(re.findall("[.,]", cell)) > 1 for cell in commas) or any(
        _number(cell) is not None for cell in counts
    )
    grouped = thousands and (sure or delimiter != ";")
    comma = bool(commas) and not grouped and not any("." in cell for cell in counts)
    base = replace(base, comma=comma, grouped=grouped)
    parsed = {cell: _number(base.standard(cell)) for cell in counts}
    bad = sum(count for cell, count in counts.items() if parsed[cell] is None)
    if bad > UNREADABLE * len(present) or bad == len(present):
        return None
    good = [cell for cell in counts if parsed[cell] is not None]
    whole = all(INTEGER.fullmatch(base.standard(cell)) for cell in good)
    if kind is None and whole and any(CODE.fullmatch(cell) for cell in good):
        return None
    if kind is None and whole and len(good) <= CODED and len(present) > 5 * len(good) and not bad:
        return _categories(base, cells, counts, most, f"{len(good)} different whole numbers",
                           form=_form_of(counts))  # fmt: skip
    values = np.array([math.nan if cell is None or parsed[cell] is None else parsed[cell] for cell in cells])
    if kind is None and whole and not base.holes and len(values) > FEW and bool((np.diff(values) == 1).all()):
        return Typed(column=replace(base, reason="it numbers the rows"), values=np.zeros(len(cells)))
    digits = [len(base.standard(cell).partition(".")[2]) for cell in good if "e" not in cell.lower()]
    decimals = max(digits) if len(digits) == len(good) and max(digits) <= MOST_DECIMALS else None
    if decimals and np.nanmax(values) - np.nanmin(values) > STEPS * 10.0**-decimals:
        decimals = None
    column = replace(
        base, kind="number", form="integer" if whole else "float", decimals=decimals,
        fixed=bool(decimals) and min(digits) == decimals, holes=base.holes or bad > 0,
        reason=f"read with commas {'between thousands' if grouped else 'for decimals'}: {commas[0]} is "
               f"{parsed[commas[0]]:.15g}" if thousands else "",
    )  # fmt: skip
    return Typed(column=column, values=values, unreadable=_unreadable(cells, parsed))


def _number(cell: str) -> float | None:
    """The finite number of a cell."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) < 1e300 and "_" not in cell else None


def _unreadable(cells: list[str | None], parsed: dict[str, float | None]) -> tuple[tuple[int, str], ...]:
    return tuple((i, cell) for i, cell in enumerate(cells) if cell is not None and parsed[cell] is None)


def _dates(base: Column, cells: list[str | None], present: list[str], arrow: str | None) -> Typed | None:
    """A column of dates; None if too many cells are none."""
    distinct = dict.fromkeys(present)
    first = list(distinct)[:200]
    fits = {form: sum(_seconds(cell, form) is not None for cell in first) for form in ("iso", *FORMATS)}
    form = max(fits, key=lambda one: fits[one])
    if not fits[form]:
        return None
    parsed = {cell: _seconds(cell, form) for cell in distinct}
    bad = sum(parsed[cell] is None for cell in present)
    if bad > UNREADABLE * len(present):
        return None
    values = np.array([math.nan if cell is None or parsed[cell] is None else parsed[cell] for cell in cells])
    days = bool((np.nan_to_num(values) % 86400 == 0).all())
    if form == "iso" and not days:
        form = "%Y-%m-%dT%H:%M:%S" if "T" in first[0] else "%Y-%m-%d %H:%M:%S"
        parsed_ok = all(_seconds(cell, form) is not None for cell in first)
        form = form if parsed_ok else "iso"
    column = replace(
        base, kind="date", form="date" if days else "datetime", format=form, holes=base.holes or bad > 0,
        reason=f"read as {form}" if form.startswith(("%m/%d/%Y", "%d/%m/%Y")) else "",
    )  # fmt: skip
    return Typed(column=column, values=values, unreadable=_unreadable(cells, parsed))


def _seconds(cell: str, form: str) -> float | None:
    if len(cell) < 6 or not any(c.isdigit() for c in cell):
        return None
    try:
        return seconds_of(cell, form)
    except ValueError:
        return None
