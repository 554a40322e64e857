"""Options of runs of music. No torch here."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from tyro.conf import arg

from langevin.modalities.classification.request import ClassifyByDenoising
from langevin.modalities.inputs import InputFile, LocalFile

RECOGNISED = (
    "music: a .mid file, a folder of these, a .json of pieces in parts, or a .parquet file with a column of MIDI files"
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What is given, by one of --melody, --voices, --continue and --infill or none, and how the result sounds."""

    bars: int | None = None
    """Number of bars to generate, or to add to --continue; default: as many as the run's context holds."""
    melody: InputFile | None = None
    """A MIDI file whose highest part is harmonised: it is the highest voice of the samples."""
    voices: InputFile | None = None
    """A MIDI file some of whose voices are kept, those of --given."""
    given: str | None = None
    """The voices of --voices or --infill that are kept: names or numbers, such as soprano,bass or 1,4."""
    continue_: Annotated[InputFile | None, arg(name="continue")] = None
    """A MIDI file that is continued."""
    infill: InputFile | None = None
    """A MIDI file of which the bars --from-bar to --to-bar are generated anew."""
    from_bar: int | None = None
    """The first bar of --infill to generate, counted from 1."""
    to_bar: int | None = None
    """The last bar of --infill to generate; default: that of --from-bar."""
    key: str | None = None
    """The key, such as "G major" or "F# minor", for runs with data.key=true."""
    tempo: float | None = None
    """Quarter notes in a minute; default: those of the file that is given, or of the training data."""
    avoid_parallels: bool = False
    """Forbid parallel fifths and octaves with the notes that are known, for runs of voices."""
    soundfont: LocalFile | None = None
    """A soundfont (.sf2) with which the program fluidsynth renders .wav files; default: a plain synthesiser."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Write bars, voices or a share of the beats of a piece anew. Several answers, and then the piece itself."""

    input: InputFile
    """A MIDI file, or a folder of these."""
    from_bar: int | None = None
    """The first bar that is written anew, counted from 1."""
    to_bar: int | None = None
    """The last one; default: that of --from-bar."""
    given: str | None = None
    """The voices that are kept: names or numbers, such as soprano,bass or 1,4."""
    strength: float | None = None
    """Write this share of the beats anew, in (0, 1], each of one voice, in place of bars."""
    key: str | None = None
    """The key, such as "G major" or "F# minor", for runs with data.key=true; default: that of the piece."""
    avoid_parallels: bool = False
    """Forbid parallel fifths and octaves with the notes that are known, for runs of voices."""
    soundfont: LocalFile | None = None
    """A soundfont (.sf2) with which the program fluidsynth renders .wav files; default: a plain synthesiser."""


@dataclass(frozen=True, kw_only=True)
class Classify(ClassifyByDenoising):
    """Say the key of pieces with a run that was trained with keys: of the run's own data."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """How much is measured."""

    pieces: int = 12
    """Pieces of the test part whose highest voice is harmonised; 0 for none."""
    avoid_parallels: bool = False
    """Forbid parallel fifths and octaves in what is generated, for runs of voices."""

    UNUSED: ClassVar[dict[str, str]] = {"seeds": "pieces are measured on one set of samples"}
