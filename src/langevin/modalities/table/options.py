"""Options of runs on tables. Imports no torch."""

from dataclasses import dataclass

from langevin.modalities.inputs import InputFile

RECOGNISED = "tables: a .csv or .tsv file (comma, semicolon or tab) with a line of names, or a .parquet file of columns"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What is known of the samples."""

    given: tuple[str, ...] = ()
    """COLUMN=VALUE, one or more: every sample has this value, exactly; COLUMN= is a missing one. Of numbers, categories and
    dates alike."""
    balance: str | None = None
    """A column of categories: as many samples of each of its values, to train others on rare ones."""


@dataclass(frozen=True, kw_only=True)
class Impute:
    """Fill the holes of a table, several times if asked: where the answers differ, the data do not tell. What is there
    stays as it is, to the byte."""

    file: InputFile
    """A table with the run's columns, of which some cells are missing."""
    imputations: int = 1
    """How many filled tables to draw; more than one are written one after another, with a first column `imputation`."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """What to evaluate in addition to the distributions."""

    target: str | None = None
    """The column that others are trained to predict, from samples and from real data; default: the last one that can be."""
    holes: float = 0.2
    """The share of held-out cells that is hidden and imputed."""
    imputations: int = 20
    """How many times each is imputed, for intervals."""


VERBS = (Impute,)
