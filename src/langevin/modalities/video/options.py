"""Options of runs on clips. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from langevin.modalities.inputs import InputFile, Reads

RECOGNISED = (
    "video: a folder of animations (GIF, WebP, APNG) or films (MP4, needs PyAV), folders of frames, or a .parquet file "
    "with a column frames of pictures side by side; captions from metadata.jsonl, metadata.csv, .txt files or directories"
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the clips show, what is given of them, and how long they are."""

    EACH: ClassVar[tuple[str, ...]] = ("text",)

    text: tuple[str, ...] = ()
    """Captions, one or more, repeated up to --count. Default: captions of the data; none where frames are given."""
    frames: int | None = None
    """Number of frames, those that are given included. Default: that of training, or the next multiple of it that is longer
    than what is given."""
    seconds: float | None = None
    """The length in seconds, in place of --frames."""
    first_frames: InputFile | None = None
    """A clip, or a folder of frames, that the samples go on from."""
    keep: int | None = None
    """With --first-frames: how many of its frames are kept; the default is all."""
    image: InputFile | None = None
    """A picture that the samples begin with."""
    interpolate: tuple[InputFile, ...] = ()
    """Two pictures or clips: the samples lead from the first to the second."""
    scheduling: Literal["full_sequence", "autoregressive", "pyramid", "rolling"] | None = None
    """When each frame is drawn: all together, in chunks one after another, each some steps after the one before, or in a
    window that rolls along. Default: all together up to the length of training, autoregressive beyond."""
    chunk: int | None = None
    """Frames that are in progress at once, with --scheduling autoregressive or rolling. Default: a quarter of the
    window, half of it if rolling."""
    history: float | None = None
    """Guidance by the finished frames: above 1 strengthens what they lead to, 1 is none."""
    stabilise: float | None = None
    """The time, such as 0.02, that finished frames are said to be at, so that errors in them are not trusted; 0 is none."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Draw a part of a clip anew, or some of its frames. Several answers: where they differ, the clip is made up."""

    input: InputFile
    """A clip, or a folder of clips."""
    mask: Annotated[str | None, Reads(mask_of="input")] = None
    """The part of every frame that is drawn anew: X,Y,WIDTH,HEIGHT in pixels, or a picture that is white or transparent
    there."""
    frames: tuple[str, ...] = ()
    """The frames that are drawn anew, each FROM,TO, counted from 0, TO not included; with --mask its part of them alone."""
    text: str | None = None
    """What the clip shows, if known."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """What to evaluate in addition to sample quality."""

    long: int | None = None
    """Also continue held-out clips to so many frames, and judge the windows of them."""


def videos(*, prompt: str, seconds: float | None, reference: str | None) -> Sample:
    """Options of /v1/videos; `reference` is the path of a first picture."""
    return Sample(text=(prompt,) if prompt.strip() else (), seconds=seconds, image=reference)


ENDPOINTS = {"videos": videos}
