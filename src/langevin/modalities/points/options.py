"""Options of runs on points. Imports no torch."""

from dataclasses import dataclass

RECOGNISED = "points: a .npy, .npz or .csv file of numbers, one point per row"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Points are unconditional."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """No options beyond those of all runs."""
