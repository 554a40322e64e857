"""Options of runs on speech. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from tyro.conf import arg

from langevin.modalities.classification.request import ClassifyByDenoising
from langevin.modalities.inputs import InputFile

RECOGNISED = (
    "speech: a folder of sound files, with transcripts (metadata.csv, metadata.jsonl, LJSpeech's layout, or .txt files "
    "beside them), with a directory per speaker or class, or alone"
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What is said, by whom, and what is given of it."""

    EACH: ClassVar[tuple[str, ...]] = ("text", "speaker")

    text: tuple[str, ...] = ()
    """What to say, one or more, repeated up to --count; - reads a text per line from standard input. Default: texts of
    the data."""
    file: InputFile | None = None
    """A file with a text per line, each of which is said."""
    speaker: tuple[str, ...] = ()
    """Names of speakers, or of classes, one or more, repeated up to --count. Default: all in turn."""
    seconds: float | None = None
    """Length of each sample; default: drawn from the model of durations."""
    continue_: Annotated[InputFile | None, arg(name="continue")] = None
    """A sound file that the samples go on from; --text is what follows."""
    infill: InputFile | None = None
    """A sound file of which the part from --from to --to is made anew; --text is what is said in all of it."""
    from_: Annotated[float | None, arg(name="from")] = None
    """Seconds at which the part begins."""
    to: float | None = None
    """Seconds at which the part ends."""
    voice: str | None = None
    """The speaker who says --clip again."""
    clip: InputFile | None = None
    """A sound file that --voice says again; --text is what is said in it."""
    strength: float = 0.7
    """How much of --clip is forgotten, in (0, 1]: the time t to which it is corrupted."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Draw parts of a recording anew, remove noise, or say it in another voice. Several answers: where they differ, the
    sound is made up."""

    input: InputFile
    """A sound file, or a folder of sound files."""
    mask: tuple[str, ...] = ()
    """The parts that are drawn anew, each FROM,TO in seconds. The rest of the recording stays as it is."""
    denoise: float | None = None
    """Remove white noise of this standard deviation, as a share of full scale: 0.01 is faint, 0.1 strong. What it drowns is
    drawn anew."""
    text: str | None = None
    """What is said in all of it, if known."""
    speaker: str | None = None
    """Who says it, if known."""
    to: str | None = None
    """The speaker who says it again; --text is what is said."""
    strength: float | None = None
    """With --to: how much of the recording is forgotten, in (0, 1]; 0.7 by default."""
    method: Literal["context", "mmps"] | None = None
    """How what is given is kept: as the network was trained to read it, or by guidance, which needs no such training.
    Default: context where the run has it and --text is given, else mmps."""


@dataclass(frozen=True, kw_only=True)
class Classify(ClassifyByDenoising):
    """Say the speaker or the class of recordings with a run that was trained with several: of the run's own data."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """How the speech is judged."""

    recogniser: str = "auto"
    """auto: a network trained on the real training part, on words if texts repeat, else on letters; pocketsphinx: the
    program's own model of US English."""


def speech(*, input: str, voice: str) -> Sample:
    """Options of /v1/audio/speech: the voice is a speaker; "default" leaves the choice to the run."""
    return Sample(text=(input,), speaker=() if voice == "default" else (voice,))


ENDPOINTS = {"audio/speech": speech}
