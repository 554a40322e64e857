"""Options of runs of motion. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from tyro.conf import arg

from langevin.modalities.classification.request import ClassifyByDenoising
from langevin.modalities.inputs import InputFile

RECOGNISED = (
    "motion: a folder of BVH files, of DeepMimic's JSON with its characters, or of states as CSV (a frame per line, with a "
    "column of times) or NPZ (n, frames, columns); actions from metadata.csv, metadata.jsonl, directories or file names"
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What moves, how long, and what is given of it."""

    EACH: ClassVar[tuple[str, ...]] = ("action", "text")

    action: tuple[str, ...] = ()
    """Names of actions, one or more, repeated up to --count. Default: all in turn."""
    text: tuple[str, ...] = ()
    """Captions, one or more, repeated up to --count, of a run that was trained with some."""
    seconds: float | None = None
    """Length of each motion, or of what follows --continue; default: that of most motions of its action."""
    continue_: Annotated[InputFile | None, arg(name="continue")] = None
    """A file with a motion (.bvh, .json, .npz; .csv of states) that the samples go on from."""
    keyframes: InputFile | None = None
    """A file with a motion whose poses at --times the samples take at these times: two are in-betweening. Without --times:
    every frame of the file, at its own time."""
    times: tuple[float, ...] = ()
    """Seconds of the key frames, one or more."""
    path: InputFile | None = None
    """A CSV of time,x,z or time,x,z,heading (radians): the way that the skeleton's root takes."""
    project: tuple[str, ...] = ()
    """What the motions are made to obey: none, or one or more of dynamics (the equation of motion of data.source), feet
    (that touch the ground stand still), limits (of joints), range (of the data). Default: data.projectors."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Draw parts of a motion anew, or turn it into another action. Several answers: where they differ, the motion is made
    up."""

    STRENGTH: ClassVar[float] = 0.6  # with --to, by default

    input: InputFile
    """A file with a motion, or a folder of such files."""
    mask: tuple[str, ...] = ()
    """The parts that are drawn anew, each FROM,TO in seconds. All other frames stay as they are."""
    action: str | None = None
    """What is done in it, if known."""
    text: str | None = None
    """What happens in it, if known."""
    to: str | None = None
    """An action to turn the motion into."""
    strength: float | None = None
    """With --to: how much of the motion is forgotten, in (0, 1]; 0.6 by default."""


@dataclass(frozen=True, kw_only=True)
class Classify(ClassifyByDenoising):
    """Say the actions of motions with a run that was trained with actions: of the run's own data."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """No options beyond those of all runs."""
