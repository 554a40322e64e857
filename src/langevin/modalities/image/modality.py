"""The modality of images."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor

from langevin.modalities.captions import CaptionVocabulary
from langevin.modalities.classes import joined, renumbered
from langevin.modalities.image import inspect, plans, preview, suggest
from langevin.modalities.image.batches import ImageBatches
from langevin.modalities.image.buckets import Buckets, resized, spelt
from langevin.modalities.image.codec import AnyCodec, Codes, Latents, Pixels, require_pixels, stride_of
from langevin.modalities.image.conditions import Known
from langevin.modalities.image.data import Images, load_parts, open_table, quiet
from langevin.modalities.image.decode import decode, open_picture
from langevin.modalities.image.detect import detect
from langevin.modalities.image.enlarge import Enlarging
from langevin.modalities.image.files import labelled_files
from langevin.modalities.image.options import Classify, Edit, Evaluate, Explain, Sample
from langevin.modalities.image.real import real_like
from langevin.modalities.image.sources import Folder, Parquet, Source, builtin_source
from langevin.modalities.modality import (
    Budget,
    Detected,
    Evaluation,
    File,
    Measuring,
    Needs,
    Plan,
    Progress,
    RequestContext,
    Samples,
    Say,
    Scorer,
    Suggestion,
    spread,
)
from langevin.modalities.rating import ClassReader
from langevin.modalities.remarks import off_centre

if TYPE_CHECKING:
    from langevin.modalities.image.perceptual import ClassifierResponses

MEASURED = 2048  # images from which sigma_data is computed, about
TOKEN_PROCESSES = ("masked", "hybrid", "uniform", "autoregressive")  # of codes
CENTRED = 64  # images of which the mean is compared with the spread


@dataclass(frozen=True, kw_only=True)
class Image:
    """Images of one size, uint8 (n, channels, side, side) when decoded; with `buckets` of several sizes of one area, and a
    list of (channels, height, width) where these differ.

    Args:
        path: a folder of image files, a .parquet file or a folder of such, or CIFAR-10's binary version.
        builtin: without a path, data that ships with a dependency (digits, glyphs) or can be downloaded (cifar10).
        download: whether `builtin` may download; nothing else does.
        size: side in pixels; None chooses it from the data. With `buckets` its square is the area of all.
        buckets: keep the ratios of images, roughly, by training at several; None crops all to squares.
        channels: 1 or 3; None is 1 if all images are grey, else 3.
        background: RGB colour behind transparent pixels.
        image_column, label_column, caption_column: column names of Parquet files.
        labels: a .csv or .jsonl file of `file_name` and `label`, which takes the place of the data's own labels. An empty
            cell, or an image that is not listed, is a missing label: its condition is withheld in training.
        held_out_captions: exact captions whose images are all held out, to evaluate combinations never trained on.
        val_fraction: fraction of the images that is held out, if the data has no test part of its own.
        memory_limit: bytes of decoded images that are kept in memory; of more, images are decoded when they are read.
        flip: augment by mirroring images with probability 1/2.
        enlarge: train an enlarger, conditioned on the image at so many pixels along each side; None draws whole images.
        augment: the largest standard deviation of the noise in which the smaller image is given to an enlarger, in grey
            levels of 255.
        codec: the map between pixels and x: `pixels`, or the `latents` or `codes` of an autoencoder.
        classes, captions: class names, and the tokenizer of captions; fitted to the data.
    """

    kind: Literal["image"] = "image"
    path: str | None = None
    builtin: Literal["digits", "glyphs", "cifar10"] | None = None
    download: bool = False
    size: int | None = None
    buckets: Buckets | None = None
    channels: Literal[1, 3] | None = None
    background: tuple[int, int, int] = (255, 255, 255)
    image_column: str = "image"
    label_column: str = "label"
    caption_column: str = "text"
    labels: str | None = None
    held_out_captions: tuple[str, ...] = ()
    val_fraction: float = 0.1
    memory_limit: int = 2 * 2**30
    flip: bool = False
    enlarge: int | None = None
    augment: float = 50.0
    codec: AnyCodec = Pixels()
    classes: tuple[str, ...] = ()
    captions: CaptionVocabulary | None = None

    def __post_init__(self) -> None:
        if self.path is None and self.builtin is None:
            raise ValueError("images need a path (data.path) or a builtin source (data.builtin)")
        if not 0 < self.val_fraction < 1:
            raise ValueError(f"data.val_fraction must be between 0 and 1, got {self.val_fraction}")
        if not 0 <= self.augment <= 255:
            raise ValueError(f"data.augment is a standard deviation from 0 to 255 grey levels, got {self.augment}")
        if self.enlarge is None and self.augment != type(self).augment:
            raise ValueError("data.augment is the noise of smaller images, and there are none: give data.enlarge")
        if self.enlarge is not None:
            require_pixels(self.codec, "data.enlarge")
        squares = {
            f"data.builtin={self.builtin}": self.path is None, f"data.enlarge={self.enlarge}": self.enlarge is not None,
            "data.codec.kind=codes": isinstance(self.codec, Codes),
        }  # fmt: skip
        if self.buckets is not None and any(squares.values()):
            name = next(name for name, found in squares.items() if found)
            raise ValueError(f"{name} is of squares only: leave it, or data.buckets, out")
        _ = self.source

    @property
    def source(self) -> Source:
        """The source of the images."""
        if self.path is None:
            return builtin_source(self.builtin, download=self.download)
        shared = {
            "path": self.path, "size": self.size, "channels": self.channels, "background": self.background,
            "hold_out_captions": self.held_out_captions,
        }  # fmt: skip
        columns = {"image": self.image_column, "label": self.label_column, "caption": self.caption_column}
        if Path(self.path).suffix == ".parquet" or columns != {"image": "image", "label": "label", "caption": "text"}:
            return Parquet(**shared, **columns)  # type: ignore[arg-type]
        return Folder(**shared)  # type: ignore[arg-type]

    @property
    def known(self) -> Known:
        """The conditions that the network was trained with."""
        return Known(
            classes=self.classes, vocabulary=self.captions, smaller=None if self.enlarging is None else self.smaller
        )

    @property
    def enlarging(self) -> Enlarging | None:
        """How the network of an enlarger reads smaller images; None for others. Raises `ValueError` for sizes that do not
        fit."""
        if self.enlarge is None or self.size is None:
            return None
        return Enlarging(
            side=self.enlarge, size=self.size, augment=self.augment, codec=require_pixels(self.codec, "data.enlarge")
        )

    def smaller(self, part: Images, items: Tensor) -> Tensor:
        """What an enlarger reads of images of a part of the data, without noise."""
        assert self.enlarging is not None
        return self.enlarging.of_example(self.codec.encode(part.read(items)), None)

    @property
    def forms(self) -> tuple[str, ...]:
        """File suffixes that samples can be written with, the default first; "" is a folder, a file per sample."""
        return (".png", ".npz", ".gif", "")

    @property
    def capacity(self) -> dict[str, int]:
        """The largest number of samples that a form holds: a grid of more has pictures too small to see."""
        return {".png": preview.MOST, ".gif": preview.MOST}

    @classmethod
    def detect(cls, path: Path) -> Detected | None:
        found = detect(path)
        return None if found is None else Detected(modality=cls(path=str(path)), score=found[0], reason=found[1])

    @classmethod
    def of_shape(cls, shape: tuple[int, ...], *, path: str, classes: tuple[str, ...]) -> Self | None:
        """The modality of a run that was trained elsewhere, on squares (channels, side, side) in [-1, 1]; None for others.

        `path` is where the run came from: its training data are not there."""
        if len(shape) != 3 or shape[0] not in (1, 3) or shape[1] != shape[2]:
            return None
        return cls(path=path, size=shape[1], channels=shape[0], classes=classes)  # type: ignore[arg-type]

    def inspect(self, *, progress: Progress | None = None) -> inspect.Inspection:
        with quiet():
            return inspect.inspect(Path(self.path or ""), size=self.size, progress=progress)

    def open(self, *, progress: Progress | None = None) -> tuple[Images, Images]:
        with quiet():
            train, val = load_parts(
                self.source, held_out=self.val_fraction, seed=0, progress=progress, memory_limit=self.memory_limit,
                buckets=None if self.buckets is None else self.among,
                labels=None if self.labels is None else Path(self.labels),
            )  # fmt: skip
        some = train.read(torch.arange(len(train))[:: math.ceil(len(train) / CENTRED)])
        pixels = self.codec if isinstance(self.codec, Pixels) else self.codec.pixels
        found = off_centre(pixels.encode(some), pixels.offset)
        notes = replace(train.notes, remarks=(*train.notes.remarks, *found))
        return self.among_classes(replace(train, notes=notes)), self.among_classes(replace(val, notes=notes))

    def joined(self, path: Path, *, same_classes: bool) -> Self:
        """The modality of other images, with their own labels, for a run of this one; classes that are new follow those
        of the run.

        Raises:
            ValueError: see `classes.joined`."""
        other = replace(self, path=str(path), builtin=None, classes=(), labels=None)
        found = open_table(other.source).class_names()
        return replace(other, classes=joined(self.classes, found, same=same_classes, where=str(path)))

    def among_classes(self, part: Images) -> Images:
        """A part of the data, which may have some of the run's classes only, with its labels among them."""
        if part.labels is None or part.classes == self.classes or not {*part.classes} <= {*self.classes}:
            return part
        return replace(part, classes=self.classes, labels=renumbered(part.labels, part.classes, self.classes))

    def among(self, side: int) -> Buckets:
        """The buckets of images whose square has so many pixels along a side.

        Raises:
            ValueError: sides that the codec does not cut."""
        assert self.buckets is not None, "only then there are several"
        stride = 1 if isinstance(self.codec, Pixels) else stride_of(self.codec.path)
        return self.buckets.of_side(side, stride=stride)

    def fitted(self, train: Images, *, base: Self | None = None) -> Self:
        if self.size not in (None, train.shape[1]):
            raise ValueError(f"data.size is {self.size}, and these images are of {train.shape[1]} pixels: leave it out")
        if base is not None and base.classes != train.classes:
            raise ValueError(
                f"the run to initialise from knows the classes {', '.join(base.classes) or 'none'}, and this data has "
                f"{', '.join(train.classes) or 'none'}: their embeddings would be mixed up"
            )
        _ = replace(self, size=train.shape[1]).enlarging  # its sizes are checked
        captions = self.captions or (None if base is None else base.captions)
        if captions is None and train.captions is not None:
            captions = CaptionVocabulary.fit(train.captions)
        channels: Any = train.shape[0]
        buckets = self.buckets
        if buckets is not None and train.buckets is not None:
            found = train.bucket_counts()
            every = tuple(torch.bincount(train.buckets, minlength=len(train.sizes)).tolist())
            buckets = replace(self.among(train.shape[1]), images=every, class_images=found)
        return replace(
            self, buckets=buckets, captions=captions, classes=train.classes, size=train.shape[1], channels=channels,
            codec=self.fitted_codec(train, base),
            labels=None if self.labels is None else str(Path(self.labels).expanduser().absolute()),
            download=False,  # the data are there: a run never fetches them again
        )  # fmt: skip

    def fitted_codec(self, train: Images, base: Self | None) -> AnyCodec:
        """The codec fitted to the data; latents of the autoencoder that `base` draws those of keep their scale."""
        own, other = self.codec, None if base is None else base.codec
        if isinstance(own, Pixels):
            return own
        if (
            isinstance(other, Latents | Codes)
            and other.kind == own.kind
            and other.path == str(Path(own.path).absolute())
        ):
            return other
        return own.fitted(train.read(spread(len(train), MEASURED)))

    def needs(self, train: Images) -> Needs:
        if train.shape[1] != train.shape[2]:
            raise ValueError(f"images must be square, and these are {train.shape[1]} x {train.shape[2]}: set data.size")
        needs = Needs(
            processes=("gaussian",), classes=len(self.classes), vocabulary=self.captions.size if self.captions else 0,
            caption_length=self.captions.length if self.captions else 0,
        )  # fmt: skip
        if isinstance(self.codec, Codes):
            space, count = self.codec.shape(train.shape), self.codec.count
            return replace(needs, processes=TOKEN_PROCESSES, space=space, tokens=count)
        channels, height, width = self.codec.shape(train.shape)
        some = torch.arange(len(train))[:: max(1, len(train) // MEASURED)]
        x = [self.codec.encode(train.read_shaped(some[at])).flatten() for _, at in train.by_bucket(some)]
        std = float(torch.cat(x).std())
        if not math.isfinite(std):
            raise ValueError(f"data.codec is out of range: with a scale of {self.codec.scale:g} images are not finite")
        if not std > 1e-3:
            raise ValueError(f"all {len(train)} images look the same (standard deviation {std:.1e}): nothing to learn")
        concat = 0 if self.enlarge is None else channels + 1
        spaces = tuple(self.codec.shape((train.shape[0], tall, wide))[1:] for wide, tall in train.sizes)
        return replace(needs, channels=channels, space=(height, width), spaces=spaces, std=std, concat=concat)

    def suggest(self, train: Images, budget: Budget) -> Suggestion:
        codec = self.fitted_codec(train, None)
        if isinstance(codec, Codes):
            positions = codec.shape(train.shape)[0]
            return suggest.masked(train, budget, name=self.name, positions=positions, codes=codec.count)
        return suggest.suggest(train, budget, name=self.name, shape=codec.shape(train.shape), enlarge=self.enlarge)

    def suggest_autoencoder(self, train: Images, budget: Budget, *, codes: bool) -> Suggestion:
        """A recipe for the autoencoder whose latents, or `codes`, another run draws."""
        return suggest.autoencoder(train, budget, name=self.name, codes=codes)

    @property
    def name(self) -> str:
        """A name of the data."""
        return Path(self.path or str(self.builtin)).resolve().stem

    def batches(self, dataset: Images, *, device: torch.device) -> ImageBatches:
        return ImageBatches(
            dataset=dataset, codec=self.codec, captions=self.captions, labelled=bool(self.classes), flip=self.flip,
            enlarging=self.enlarging, device=device,
        )  # fmt: skip

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that the network is conditioned on."""
        return self.classes

    def labelled_files(self, files: Sequence[str], say: Callable[[str], None]) -> tuple[Images, tuple[str, ...]]:
        """Images, of one size, from files and folders, and the classes there that the run does not know.

        Raises:
            ValueError: there is no image that can be read."""
        assert self.size, "the modality of a run is fitted"
        return labelled_files(
            files,
            size=self.size,
            channels=self.channels or 3,
            background=self.background,
            classes=self.classes,
            say=say,
        )

    def read(self, path: Path, *, say: Say) -> Tensor:
        """An image file as x (1, channels, size, size). Raises `ValueError` if it cannot be read."""
        pixels = decode(path, size=self.size, channels=self.channels or 3, background=self.background)
        return self.codec.encode(pixels[None])

    def reader(self, measuring: Measuring, column: str) -> Callable[[Sequence[Tensor]], list[str]]:
        """The class of images by a classifier, or the caption of the nearest real image.

        Raises:
            ValueError: another column."""
        from langevin.modalities.image.measure import reader

        return reader(self, measuring, column)

    # ---------------------------------------------------------------------------------------------------- requests

    def plan(self, options: Sample | Edit | Explain | Classify, context: RequestContext) -> Plan:
        return plans.plan(self, options, context)

    @property
    def pipeline_tag(self) -> str:
        """The task of the Hub that a run of it is listed under."""
        return "text-to-image" if self.captions else "unconditional-image-generation"

    def preview_plan(self, context: RequestContext) -> Plan:
        return plans.preview_plan(self, context)

    def plan_like(self, dataset: Images, context: RequestContext) -> Plan:
        return plans.plan_like(self, dataset, context)

    @property
    def positions(self) -> int | None:
        """The number of codes of a sample; None if it is none of codes."""
        assert self.size, "the modality of a run is fitted"
        assert self.channels, "the modality of a run is fitted"
        shape = self.codec.shape((self.channels, self.size, self.size))
        return shape[0] if isinstance(self.codec, Codes) else None

    @property
    def choices(self) -> dict[str, tuple[str, ...]]:
        """The classes, which conditions are chosen from, and the sizes of buckets."""
        sizes = {} if self.buckets is None else {"size": tuple(map(spelt, self.buckets.trained))}
        return sizes | (dict.fromkeys(("condition", "avoid", "also", "to"), self.classes) if self.classes else {})

    def decode(self, x: torch.Tensor) -> torch.Tensor:
        return self.codec.decode(x)

    def comparable(self, values: Sequence[Tensor] | Tensor) -> Tensor:
        """Decoded images of any of the run's sizes as uint8 (n, c, side, side), stretched like `Images.read`."""
        assert self.size, "the modality of a run is fitted"
        if isinstance(values, Tensor):
            return resized(values, self.size)
        return torch.cat([resized(value[None], self.size) for value in values])

    def encode_file(self, path: Path) -> torch.Tensor:
        """The image in a file as x (1, c, h, w), of the bucket nearest to it. Raises `ValueError` if it cannot be read."""
        assert self.size, "the modality of a run is fitted"
        assert self.channels, "the modality of a run is fitted"
        if self.buckets is None:
            return self.codec.encode(decode(path, size=self.size, channels=self.channels)[None])
        picture = open_picture(path, size=max(map(max, self.buckets.sizes)))
        size = self.buckets.sizes[self.buckets.nearest((picture.width, picture.height))]
        return self.codec.encode(picture.pixels(size=size, channels=self.channels)[None])

    def preview(self, samples: Samples) -> File:
        if samples.table is not None:
            return File(suffix=".png", content=preview.png(preview.table(samples.values, samples.table)))
        names = samples.names if any(samples.names) else None
        shown = preview.grid(samples.values, captions=names, columns=samples.columns)
        return File(suffix=".png", content=preview.png(shown))

    def real_like(self, samples: Samples, parts: tuple[Images, Images]) -> Samples:
        return real_like(self, samples, parts)

    def text(self, samples: Samples) -> str:
        raise ValueError("images have no text form: give a file to write them to")

    def save(self, samples: Samples, out: Path) -> None:
        preview.save(samples, out)

    # ---------------------------------------------------------------------------------------------------- measuring

    def fit_responses(
        self, train: Images, val: Images, folder: Path | None, progress: Progress, say: Callable[[str], None]
    ) -> "ClassifierResponses":
        from langevin.modalities.image.perceptual import fit_responses  # with all metrics, which only this needs

        return fit_responses(self, train, val, folder, progress, say)

    @property
    def rules(self) -> tuple[str, ...]:
        """Names of what images can be rated by, without labels."""
        from langevin.modalities.image.rating import MEASURED, RULES

        return (*RULES, *MEASURED)

    def rule(self, name: str, measuring: Measuring) -> Callable[[Any], Tensor]:
        """A rule by its name, a function of decoded images."""
        from langevin.modalities.image.rating import rule

        return rule(self, name, measuring)

    def class_probabilities(self, measuring: Measuring, reader: ClassReader) -> Callable[[Any], Tensor]:
        from langevin.modalities.image.rating import class_probabilities

        return class_probabilities(self, measuring, reader)

    def for_function(self, values: Sequence[Tensor] | Tensor) -> Tensor:
        """What a user's function rates: images (b, c, h, w) in [0, 1]."""
        return self.comparable(values).float() / 255

    def evaluate(self, options: Evaluate, measuring: Measuring) -> Evaluation:
        from langevin.modalities.image.evaluate import evaluate  # with all metrics, which only this needs

        return evaluate(self, options, measuring)

    def scorer(self, measuring: Measuring) -> Scorer:
        from langevin.modalities.image.evaluate import scorer

        return scorer(self, measuring)
