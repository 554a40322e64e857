"""The modality of video: clips of moving pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.methods.diffusion import Diffusion
from langevin.modalities.captions import CaptionVocabulary
from langevin.modalities.modality import (
    Budget,
    Detected,
    Evaluation,
    File,
    Measuring,
    Model,
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
from langevin.modalities.video import evaluate, inspect, plans, preview, suggest
from langevin.modalities.video.batches import VideoBatches
from langevin.modalities.video.clip_files import Look
from langevin.modalities.video.codec import AnyCodec, Pixels
from langevin.modalities.video.data import Clips, load, usual_look
from langevin.modalities.video.detect import detect
from langevin.modalities.video.edit import edit_plan
from langevin.modalities.video.measure import judge_of, read_labels
from langevin.modalities.video.moving_digits import MovingDigits
from langevin.modalities.video.options import Edit, Evaluate, Sample
from langevin.modalities.video.sources import Listing, open_path

MEASURED = 512  # clips from which the codec's statistics are computed, about
LONGEST = 16  # frames of a window, at most, unless the recipe says so
SHOWN = 9  # clips of a preview


@dataclass(frozen=True, kw_only=True)
class Video:
    """Clips of square frames at one rate; uint8 (frames, channels, size, size) when decoded.

    Args:
        path: a folder of clips, one clip, or a Parquet file, see `sources`.
        source: without a path, a source that makes clips.
        size: side of a frame in pixels; None takes that of the clips, at most 64.
        channels: 1 or 3; None is 1 if all clips are grey, else 3.
        fps: frames per second; None takes that of most clips. Other clips are resampled.
        frames: of a window, what the network sees at once; None takes the usual length, at most 16.
        background: RGB colour behind transparent pixels.
        val_fraction: fraction of the clips that is held out, if the data has no test part of its own.
        split_by: columns of labels; clips with equal values in all of them are in one part of the data.
        codec: the map between frames and x.
        captions: the tokenizer of captions; fitted to the data.
    """

    kind: Literal["video"] = "video"
    path: str | None = None
    source: MovingDigits | None = None
    size: int | None = None
    channels: Literal[1, 3] | None = None
    fps: float | None = None
    frames: int | None = None
    background: tuple[int, int, int] = (255, 255, 255)
    val_fraction: float = 0.1
    split_by: tuple[str, ...] = ()
    codec: AnyCodec = Pixels()
    captions: CaptionVocabulary | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.source is None):
            raise ValueError(
                "video needs a path (data.path) or a source (data.source.kind=moving_digits), and not both"
            )
        if not 0 < self.val_fraction < 1:
            raise ValueError(f"data.val_fraction is between 0 and 1, got {self.val_fraction}")
        if self.size is not None and not 4 <= self.size <= 1024:
            raise ValueError(f"data.size is 4 to 1,024 pixels, got {self.size}")
        if self.fps is not None and not 0.1 <= self.fps <= 240:
            raise ValueError(f"data.fps is 0.1 to 240 frames a second, got {self.fps}")
        if self.frames is not None and not 2 <= self.frames <= 1000:
            raise ValueError(f"data.frames is 2 to 1,000, got {self.frames}")

    @property
    def forms(self) -> tuple[str, ...]:
        """File suffixes that samples can be written with, the default first; "" is a folder, a WebP per sample."""
        return (".webp", ".gif", ".mp4", ".png", ".npz", "")

    @property
    def capacity(self) -> dict[str, int]:
        """The largest number of samples that a form holds."""
        return dict.fromkeys((".webp", ".gif", ".mp4", ".png"), preview.MOST)

    @property
    def look(self) -> Look:
        """How frames are read."""
        return Look(size=self.size, channels=self.channels or 3, background=self.background)

    @property
    def known_fps(self) -> float:
        """The rate of a fitted modality."""
        assert self.fps, "the modality of a run is fitted"
        return self.fps

    @property
    def window(self) -> int:
        """The frames of a fitted modality."""
        assert self.frames, "the modality of a run is fitted"
        return self.frames

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(channels, size, size) of a frame of a fitted modality."""
        assert self.size, "the modality of a run is fitted"
        assert self.channels, "the modality of a run is fitted"
        return (self.channels, self.size, self.size)

    def leveled(self, model: Model) -> bool:
        """Whether a run was trained with a noise level per frame."""
        method = model.parts.method
        return isinstance(method, Diffusion) and bool(method.levels)

    @classmethod
    def detect(cls, path: Path) -> Detected | None:
        found = detect(path)
        return None if found is None else Detected(modality=cls(path=str(path)), score=found[0], reason=found[1])

    def listing(self) -> Listing:
        """The clips, not read yet."""
        return open_path(self.path) if self.path is not None else self.source.listing()  # type: ignore[union-attr]

    def inspect(self, *, progress: Progress | None = None) -> inspect.Inspection:
        return inspect.inspect(self.listing(), replace(self.look, size=None), progress=progress)

    def open(self, *, progress: Progress | None = None) -> tuple[Clips, Clips]:
        listing = self.listing()
        look, fps = self.look, self.fps
        if self.size is None or self.channels is None or fps is None:
            look, usual, said = usual_look(listing.records, look, self.size, self.channels)
            fps, listing = fps or usual, replace(listing, remarks=(*listing.remarks, *said))
        return load(listing, look, fps=fps, val_fraction=self.val_fraction, split_by=self.split_by, progress=progress)

    def fitted(self, train: Clips, *, base: Self | None = None) -> Self:
        if base is not None and base.size != train.shape[1]:
            raise ValueError(
                f"the run to initialise from has frames of {base.size} pixels, and these have {train.shape[1]}: set "
                f"data.size={base.size}"
            )
        captions = self.captions or (None if base is None else base.captions)
        if captions is None and train.captions is not None:
            captions = CaptionVocabulary.fit(train.captions)
        usual = int(train.lengths.median())
        channels: Any = train.shape[0]
        frames = self.frames or max(2, min(LONGEST, usual))
        some = train.windows(spread(len(train), MEASURED), min(frames, int(train.lengths.max())))
        codec = self.codec if base is None else base.codec
        return replace(
            self, captions=captions, size=train.shape[1], channels=channels, fps=train.fps, frames=frames,
            codec=codec.fitted(some),
        )  # fmt: skip

    def needs(self, train: Clips) -> Needs:
        channels, height, width = self.codec.frame_shape(self.frame_shape)
        some = self.codec.encode(train.windows(spread(len(train), MEASURED), self.window))
        return Needs(
            processes=("gaussian",), channels=channels, space=(self.window, height, width), std=float(some.std()),
            frames=True, vocabulary=self.captions.size if self.captions else 0,
            caption_length=self.captions.length if self.captions else 0,
        )  # fmt: skip

    def suggest(self, train: Clips, budget: Budget) -> Suggestion:
        fitted = self.fitted(train)
        shape = fitted.codec.frame_shape(fitted.frame_shape)
        return suggest.suggest(train, budget, name=self.name, frames=fitted.window, channels=shape[0], side=shape[1])

    def suggest_autoencoder(self, train: Clips, budget: Budget, *, codes: bool) -> Suggestion:
        """A recipe for the autoencoder whose latents another run draws. Raises `ValueError` for `codes`."""
        if codes:
            raise ValueError("clips are drawn in normal latents: leave process.kind out")
        return suggest.autoencoder(train, budget, name=self.name, frames=self.fitted(train).window)

    @property
    def name(self) -> str:
        """A name of the data."""
        return Path(self.path).resolve().stem if self.path else self.source.kind.replace("_", "-")  # type: ignore[union-attr]

    def batches(self, dataset: Clips, *, device: torch.device) -> VideoBatches:
        return VideoBatches(
            dataset=dataset, codec=self.codec, frames=self.window, captions=self.captions, device=device
        )

    def plan(self, options: Sample | Edit, context: RequestContext) -> Plan:
        if isinstance(options, Edit):
            return edit_plan(self, options, context)
        return plans.plan(self, options, context)

    @property
    def pipeline_tag(self) -> str | None:
        """The task of the Hub that a run of it is listed under; None if none fits."""
        return "text-to-video" if self.captions else None

    def preview_plan(self, context: RequestContext) -> Plan:
        return plans.like_data(self, context.data()[1], SHOWN, context)

    def plan_like(self, dataset: Clips, context: RequestContext) -> Plan:
        return plans.like_data(self, dataset, context.count or len(dataset), context)

    def decode(self, x: Tensor) -> list[Tensor]:
        return list(self.codec.decode(x))

    @property
    def duration(self) -> float:
        """Seconds of a window."""
        return self.window / self.known_fps

    def filled(self, batch: Batch) -> Tensor:
        """x of a batch, whose last frame stands still after the end of a shorter clip."""
        if batch.condition is None or batch.condition.data_mask is None:
            return batch.x
        last = batch.condition.data_mask[:, :, 0, 0].sum(1) - 1
        index = torch.arange(batch.x.shape[2], device=last.device).minimum(last[:, None])
        return torch.take_along_dim(batch.x, index[:, None, :, None, None], 2)

    def read(self, path: Path, *, say: Say) -> Tensor:
        """The beginning of a clip as x (1, channels, frames, size, size); a short one stands still. Raises `ValueError`."""
        frames = plans.read(self, str(path))
        if len(frames) > self.window:
            say(f"{path.name} is read for {self.window} of its {len(frames)} frames, as many as the run draws at once")
        return self.codec.encode(frames[torch.arange(self.window).clamp_max(len(frames) - 1)][None])

    def reader(self, measuring: Measuring, column: str) -> Callable[[Sequence[Tensor]], list[str]]:
        """What the judge of labels, trained on the real training part, sees. Raises `ValueError` for another column."""
        labels = measuring.train.labels
        if column not in labels:
            raise ValueError(f"the column '{column}' is not seen: labels are {', '.join(labels) or 'none'}")
        judge = judge_of(self, measuring)
        assert judge is not None, "there are labels"
        names = labels[column][0]

        def seen(clips: Sequence[Tensor]) -> list[str]:
            found = read_labels(judge, measuring.train, torch.stack(list(clips)), frames=True)[column]
            return [names[i] for i in found.tolist()]

        return seen

    def preview(self, samples: Samples) -> File:
        return preview.preview(samples)

    def text(self, samples: Samples) -> str:
        raise ValueError("clips have no text form: write them with --out FILE.webp")

    def save(self, samples: Samples, out: Path) -> None:
        preview.save(samples, out)

    def evaluate(self, options: Evaluate, measuring: Measuring) -> Evaluation:
        return evaluate.evaluate(self, options, measuring)

    def scorer(self, measuring: Measuring) -> Scorer:
        return evaluate.scorer(self, measuring)
