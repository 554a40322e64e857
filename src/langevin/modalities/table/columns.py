"""The columns of a table: their types, and cells as values and back."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

EPOCH = datetime(1970, 1, 1)
OTHER = "(other)"  # the category of all that are too rare
Kind = Literal["number", "date", "category", "constant", "empty", "ignored"]
Form = Literal["text", "integer", "float", "boolean", "date", "datetime"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: how its cells are read and written, and what was fitted to it.

    Args:
        kind: how it is modelled; constant, empty and ignored columns are not.
        form: what its cells are, in typed files.
        reason: why it is of this kind, or is not modelled.
        holes: whether cells are missing.
        missing: how a missing cell is written.
        decimals: digits after the point that all numbers have at most; None if there is no such number.
        fixed: whether all numbers are written with as many.
        comma: whether the decimal point is a comma.
        grouped: whether commas separate thousands.
        format: of dates, as `strptime` reads it; iso for ISO 8601.
        categories: their texts, the most frequent first; of a constant column its only value.
        frequencies: of the categories, of sum 1.
        present: share of the training cells that have a value.
        values, probabilities: knots of the distribution function, see `codec`.
    """

    name: str
    kind: Kind
    form: Form = "text"
    reason: str = ""
    holes: bool = False
    missing: str = ""
    decimals: int | None = None
    fixed: bool = False
    comma: bool = False
    grouped: bool = False
    format: str = ""
    categories: tuple[str, ...] = ()
    frequencies: tuple[float, ...] = ()
    present: float = 1.0
    values: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()

    @property
    def modelled(self) -> bool:
        """Whether the model generates it."""
        return self.kind in ("number", "date", "category")

    @property
    def fitted(self) -> bool:
        """Whether it has the distribution of the training data."""
        return bool(self.frequencies or self.values)

    @property
    def continuous(self) -> bool:
        """Whether it is a number for the model."""
        return self.kind in ("number", "date")

    @property
    def step(self) -> float | None:
        """The distance between neighbouring values; None for any number."""
        if self.kind == "date":
            return 86400.0 if self.form == "date" else 1.0
        return None if self.decimals is None else 10.0**-self.decimals

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest value of a fitted number; knots lie up to half a step beyond them."""
        step = self.step
        if step is None:
            return self.values[0], self.values[-1]
        return math.ceil(self.values[0] / step - 1e-6) * step, math.floor(self.values[-1] / step + 1e-6) * step

    def number(self, text: str) -> float:
        """The value of a cell: a number, or the seconds of a date since 1970.

        Raises:
            ValueError: it is none."""
        if self.kind == "date":
            return seconds_of(text, self.format)
        return float(self.standard(text))

    def standard(self, text: str) -> str:
        """A number as Python reads it."""
        return text.replace(",", "") if self.grouped else text.replace(",", ".") if self.comma else text

    def code(self, text: str) -> int | None:
        """The index of a category; that of the rare ones for an unknown category, if there is one, else None."""
        if text in self.categories:
            return self.categories.index(text)
        return self.categories.index(OTHER) if OTHER in self.categories else None

    def rounded(self, value: float) -> float:
        """A value as the column has them."""
        step = self.step
        if step is None:
            return value
        return round(value / step) * step if step >= 1 else round(value, self.decimals)

    def text(self, value: float) -> str:
        """A number or a date as the column writes them."""
        if self.kind == "date":
            return text_of(self.rounded(value), self.format)
        group = "," if self.grouped else ""
        if self.decimals is None:
            text = f"{value:{group}.7g}"
        else:
            text = f"{self.rounded(value):{group}.{self.decimals}f}"
            if not self.fixed and "." in text:
                text = text.rstrip("0").rstrip(".")
        text = "0" if text == "-0" else text
        return text.replace(".", ",") if self.comma else text


def seconds_of(text: str, form: str) -> float:
    """Seconds since 1970 of a date. Raises `ValueError` if it is none, or does not exist."""
    try:
        moment = datetime.fromisoformat(text) if form == "iso" else datetime.strptime(text, form)
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
    except OverflowError as error:
        raise ValueError(str(error)) from error
    return (moment - EPOCH).total_seconds()


def text_of(seconds: float, form: str) -> str:
    """A date of seconds since 1970; `iso` is a date where there is no time of day, `iso time` always has one."""
    moment = EPOCH + timedelta(seconds=seconds)
    if form == "iso":
        return moment.date().isoformat() if moment.time() == datetime.min.time() else moment.isoformat(sep=" ")
    return moment.strftime(form.replace("%Y", f"{moment.year:04d}"))  # which strftime pads on some systems only
