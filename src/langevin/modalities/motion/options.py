"""Options of runs of motion. Imports no torch."""

from dataclasses import dataclass

RECOGNISED = (
    "motion: a folder of BVH files, of DeepMimic's JSON with its characters, or of states as CSV (a frame per line, with a "
    "column of times) or NPZ (n, frames, columns); actions from metadata.csv, metadata.jsonl, directories or file names"
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What moves."""

    action: tuple[str, ...] = ()
    """Names of actions, one or more, repeated up to --count. Default: all in turn."""
    text: tuple[str, ...] = ()
    """Captions, one or more, repeated up to --count, of a run that was trained with some."""
    seconds: float | None = None
    """Length of each motion; default: that of most motions of its action."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """No options beyond those of all runs."""
