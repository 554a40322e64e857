"""Options of joint runs. Imports no torch."""

from dataclasses import dataclass
from typing import ClassVar

from langevin.modalities.inputs import InputFile

RECOGNISED = "joint: several modalities in one run, by a recipe with data.kind=joint"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What is given, and what is drawn."""

    EACH: ClassVar[tuple[str, ...]] = ("text",)

    text: tuple[str, ...] = ()
    """Captions, one or more, repeated up to --count, if captions are a part of the run. Default: captions are drawn too."""
    given: InputFile | None = None
    """A file of one part, which stays as it is; --part says which. The other parts are drawn after it."""
    part: str | None = None
    """The part that --given is of. Default: the one that can read it."""
    only: tuple[str, ...] = ()
    """Parts that are drawn, without looking at the others. Default: all."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Which examples the given parts are from."""

    training: bool = False
    """Given parts from the training part of the data rather than from what was held out."""
