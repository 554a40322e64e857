"""Options of runs on images. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated

from langevin.modalities.inputs import InputFile, Reads

RECOGNISED = (
    "images: a folder of image files (classes from directories, captions from metadata.jsonl or .txt files), a .parquet "
    "file with an image column, or CIFAR-10's binary version"
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the samples are conditioned on."""

    condition: tuple[str, ...] = ()
    """Class names or captions, one or more, repeated up to --count. Default: all classes in turn, or captions of the
    data."""
    image: InputFile | None = None
    """An image of which a part is drawn anew, that of --mask."""
    mask: Annotated[str, Reads(mask_of="image")] | None = None
    """An image of the same size that is transparent, or white, where is drawn."""
    avoid: tuple[str, ...] = ()
    """Class names or captions, repeated up to --count, that guidance leads away from; it needs --guidance above 1."""
    rows: tuple[str, ...] = ()
    """With --columns: a table in which each caption is the words of its row, then of its column. Captions absent from
    training are framed."""
    columns: tuple[str, ...] = ()
    """See --rows."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """What to evaluate in addition to sample quality."""

    likelihood: bool = False
    """Also compute bits per dimension: the terms of the ELBO, the probability-flow likelihood, Gaussian baselines."""
    likelihood_count: int = 64
    """Images of each part for the probability-flow likelihood, which is slow; the ELBO uses eight times as many."""


def generations(*, prompt: str) -> Sample:
    """Options of /v1/images/generations: the prompt is a class or a caption; a blank one leaves the choice to the run."""
    return Sample(condition=(prompt,)) if prompt.strip() else Sample()


def edits(*, prompt: str, image: str, mask: str) -> Sample:
    """Options of /v1/images/edits; `image` and `mask` are paths of files."""
    return Sample(condition=(prompt,) if prompt.strip() else (), image=image, mask=mask)


ENDPOINTS = {"images/generations": generations, "images/edits": edits}
