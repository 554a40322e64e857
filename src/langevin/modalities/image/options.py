"""Options of runs on images. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from langevin.modalities.classification.request import ClassifyByDenoising
from langevin.modalities.inputs import InputFile, LocalFunction, OtherRun, Reads

RECOGNISED = (
    "images: a folder of image files (classes from directories, captions from metadata.jsonl or .txt files), a .parquet "
    "file with an image column, or CIFAR-10's binary version"
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the samples are conditioned on."""

    EACH: ClassVar[tuple[str, ...]] = ("condition", "avoid")

    condition: tuple[str, ...] = ()
    """Class names or captions, one or more, repeated up to --count. Default: all classes in turn, or captions of the
    data."""
    avoid: tuple[str, ...] = ()
    """Class names or captions, repeated up to --count, that guidance leads away from; it needs --guidance above 1."""
    also: tuple[str, ...] = ()
    """Further class names or captions that every image is to show too, each NAME or NAME:WEIGHT (default 1.5); a negative
    weight is "not"."""
    rows: tuple[str, ...] = ()
    """With --columns: a table in which each caption is the words of its row, then of its column. Captions absent from
    training are framed."""
    columns: tuple[str, ...] = ()
    """See --rows."""
    reward: LocalFunction | None = None
    """MODULE:FUNCTION, of images (b, c, h, w) in [0, 1], that returns a number for each, (b,): images are drawn in
    proportion to its exponential. It guides by its gradient, unless there are --particles."""
    particles: int | None = None
    """With --reward, which then can be any function: draw each image from so many weighted trajectories. Exact as their
    number grows, and says how many of them counted."""
    size: str | None = None
    """WIDTHxHEIGHT of the images, of a run with data.buckets: of its sizes the one with the nearest ratio is drawn.
    Default: sizes as frequent as among the training images, or those of the class."""
    ratio: str | None = None
    """WIDTH:HEIGHT, such as 2:1, in place of --size."""
    enlarge: tuple[OtherRun, ...] = ()
    """Runs that enlarge the images, one after the other: each was trained with data.enlarge set to the size of what it is
    given."""
    enlarge_noise: float | None = None
    """With --enlarge: standard deviation, in grey levels of 255, of the noise in which the faults of an image are hidden
    before it is enlarged; at most the data.augment of the runs. Default: 10, or as much as they know."""


@dataclass(frozen=True, kw_only=True)
class Explain:
    """Explain one image: what each part of its condition changed, where and when; what the seed decided; its neighbours."""

    condition: tuple[str, ...] = ()
    """A class or a caption. Default: the first class, or a caption of the data."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """What to evaluate in addition to sample quality."""

    likelihood: bool = False
    """Also compute bits per dimension: the terms of the ELBO, the probability-flow likelihood, Gaussian baselines."""
    likelihood_count: int = 64
    """Images of each part for the probability-flow likelihood, which is slow; the ELBO uses eight times as many."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Repair, enhance or change images with a trained run: fill a part, remove noise or blur, enlarge, colour, restyle.
    Shows several answers, their mean and their spread: where they differ, the image is made up."""

    input: InputFile
    """An image, or a folder of images."""
    mask: Annotated[str, Reads(mask_of="input")] | None = None
    """The part that is drawn anew: X,Y,WIDTH,HEIGHT in pixels, or an image of the same size that is transparent, or white,
    there. Default: where the input itself is transparent."""
    denoise: float | None = None
    """Remove Gaussian noise of this standard deviation, in grey levels of 255: 10 is faint, 50 strong."""
    deblur: float | None = None
    """Remove a Gaussian blur of this standard deviation, in pixels."""
    enlarge: int | None = None
    """Make an image of so many times the width and height, 2 or more."""
    colour: bool = False
    """Colour a grey image."""
    outpaint: int | None = None
    """Draw a border of so many pixels around the input."""
    lock_coarse: int | None = None
    """Keep the means of so many by so many squares, and draw what is finer anew."""
    to: tuple[str, ...] = ()
    """A class or caption to change the image to, one or more, repeated up to --count."""
    strength: float | None = None
    """How much is changed, in (0, 1]: the share of noise in what is begun from; 0.6 with --to. Without --to: variations of
    the input."""
    invert: bool = False
    """With --to: follow the flow from the image to its noise, and back under the new condition; one answer for each."""
    source: OtherRun | None = None
    """Directory of another run, which the image is like: its flow takes it to noise, and this run's flow makes an image of
    that. Says how much of content and style changed."""
    between: InputFile | None = None
    """A second image: draw --count images between the two, on the way through their noises."""
    condition: tuple[str, ...] = ()
    """What the image shows, if known: a class or a caption."""
    noise: float = 1.0
    """Standard deviation of the noise of what is given, in grey levels of 255; --denoise gives a larger one."""
    method: Literal["mmps", "pigdm", "ddnm", "dps", "daps", "gibbs"] = "mmps"
    """How what is given is kept: mmps is calibrated; pigdm and ddnm are faster, the others slow."""
    spread: bool = False
    """Also show the smallest and the largest value of each pixel over the answers: of 19, the truth is between with
    probability 0.9."""
    fit: Literal["refuse", "resize", "tile"] = "refuse"
    """What becomes of an input of another size than the run's: refuse it; resize its central square; or tile, which draws
    at its own size, piece by piece."""


@dataclass(frozen=True, kw_only=True)
class Classify(ClassifyByDenoising):
    """Say the class of images with a run that was trained with classes: its own, those of files or of folders."""


def generations(*, prompt: str, size: str | None = None) -> Sample:
    """Options of /v1/images/generations: the prompt is a class or a caption; a blank one leaves the choice to the run."""
    return Sample(condition=(prompt,), size=size) if prompt.strip() else Sample(size=size)


def edits(*, prompt: str, image: str, mask: str | None) -> Edit:
    """Options of /v1/images/edits; `image` and `mask` are paths of files."""
    shown = (prompt,) if prompt.strip() else ()
    return Edit(input=image, mask=mask, condition=shown, fit="resize")


ENDPOINTS = {"images/generations": generations, "images/edits": edits}
