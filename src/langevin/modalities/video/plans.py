"""From what is requested to a draw of clips: captions, lengths, frames that are given, and when each frame is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.guidance import HistoryGuidance, StabilisationGuidance, weight_of
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.sampler.scheduling import (
    AnyScheduling,
    Autoregressive,
    FullSequence,
    Pyramid,
    Rolling,
)
from langevin.diffusion.sampling import Sampling
from langevin.modalities.modality import Draw, Model, Plan, RequestContext, Samples, seeds_of
from langevin.modalities.video.batches import condition_of
from langevin.modalities.video.clip_files import Broken, read_clip
from langevin.modalities.video.data import Clips
from langevin.modalities.video.options import Sample
from langevin.networks.patches import patch_sides

if TYPE_CHECKING:
    from langevin.modalities.video.modality import Video

COUNT = 8
LONGEST = 10_000  # frames


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Clips to draw.

    Args:
        captions: of each; None is no caption, also for a run with captions.
        frames: of each clip.
        given: (frames, channels, side, side) uint8, of which those where `known` (frames,) holds are kept; None: nothing.
    """

    captions: list[str] | None
    count: int
    frames: int
    given: Tensor | None = None
    known: Tensor | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.captions or ())


def plan(video: "Video", options: Sample, context: RequestContext) -> Plan:
    """The plan of a request.

    Raises:
        ValueError: options that contradict each other or the run, or an input that cannot be read."""
    require_sense(options)
    first, last = given_ends(video, options)
    frames = length_of(video, options, len(first), len(last))
    count = COUNT if context.count is None else context.count
    given = known = None
    if len(first) or len(last):
        if not video.leveled(context.model):
            raise ValueError(
                "frames are given to a run that was trained with a noise level per frame: train with method.levels, as "
                "`langevin train FOLDER` does by itself"
            )
        known = torch.zeros(frames, dtype=torch.bool)
        known[: len(first)] = True
        known[frames - len(last) :] = True if len(last) else known[frames - len(last) :]
        given = torch.zeros(frames, *video.frame_shape, dtype=torch.uint8)
        given[: len(first)] = first
        given[frames - len(last) :] = last
    captions = captions_of(video, options.text, count, context, silent=given is not None)
    if context.guided and captions is None and weight_of(context.model.sampling.guidance) != 1:
        raise ValueError("--guidance leads to a caption: give --text, or --history for guidance by the given frames")
    wanted = Wanted(captions=captions, count=count, frames=frames, given=given, known=known)
    return drawn(video, wanted, context, sampling_of(video, options, frames, context, given=given is not None))


def require_sense(options: Sample) -> None:
    """Check the options by themselves. Raises `ValueError` for one out of range, or two that exclude each other."""
    begins = [name for name in ("first_frames", "image", "interpolate") if getattr(options, name)]
    if len(begins) > 1:
        raise ValueError(f"--{begins[0].replace('_', '-')} and --{begins[1]} both say how a clip begins: give one")
    if options.interpolate and len(options.interpolate) != 2:
        raise ValueError(f"--interpolate takes two pictures or clips, got {len(options.interpolate)}")
    if options.frames is not None and options.seconds is not None:
        raise ValueError("--frames and --seconds both say how long a clip is: give one")
    if options.frames is not None and not 2 <= options.frames <= LONGEST:
        raise ValueError(f"--frames is a number from 2 to {LONGEST:,}, got {options.frames}")
    if options.keep is not None and (options.first_frames is None or options.keep < 1):
        raise ValueError("--keep is a number of frames of --first-frames, 1 or more: give both, or leave it out")
    if options.chunk is not None and (options.scheduling in ("full_sequence", "pyramid") or options.chunk < 1):
        raise ValueError("--chunk is a number of frames, for --scheduling autoregressive or rolling")


def given_ends(video: "Video", options: Sample) -> tuple[Tensor, Tensor]:
    """The frames that clips begin and end with, uint8 (n, channels, side, side) each.

    Raises:
        ValueError: a file that cannot be read."""
    nothing = torch.zeros(0, *video.frame_shape, dtype=torch.uint8)
    if options.interpolate:
        first, last = (read(video, file) for file in options.interpolate)
        return first, last
    if options.image is not None:
        return read(video, options.image)[:1], nothing
    if options.first_frames is None:
        return nothing, nothing
    first = read(video, options.first_frames)
    if options.keep is not None and options.keep > len(first):
        raise ValueError(f"--keep {options.keep} is more than the {len(first)} frames of {options.first_frames}")
    return first[: options.keep], nothing


def read(video: "Video", file: str) -> Tensor:
    """A clip, or a picture as one frame, as the run sees it, uint8 (n, channels, side, side). Raises `ValueError`."""
    path = Path(file)
    if not path.exists():
        raise ValueError(f"there is no file {file}")
    try:
        clip = read_clip(path, video.look)
    except Broken as error:
        raise ValueError(f"{file} {error}") from error
    return clip.frames if len(clip) == 1 else clip.at(video.known_fps).frames


def length_of(video: "Video", options: Sample, first: int, last: int) -> int:
    """The number of frames of a clip.

    Raises:
        ValueError: no frame would be left to draw."""
    frames = options.frames
    if options.seconds is not None:
        if not options.seconds > 0 or options.seconds * video.known_fps > LONGEST:
            raise ValueError(
                f"--seconds is above 0 and at most {LONGEST / video.known_fps:,.0f}, got {options.seconds:g}"
            )
        frames = max(2, round(options.seconds * video.known_fps))
    given = first + last
    if frames is None:
        return video.window * (1 + given // video.window)
    if given >= frames:
        raise ValueError(f"{given} frames are given, and a clip of {frames} leaves none to draw: give more --frames")
    return frames


def captions_of(
    video: "Video", texts: Sequence[str], count: int, context: RequestContext, *, silent: bool
) -> list[str] | None:
    """The captions of so many clips; None for none.

    Raises:
        ValueError: a caption for a run without."""
    if video.captions is None:
        if texts:
            raise ValueError(f"this run was trained without captions, so that '{texts[0]}' says nothing to it")
        return None
    if texts:
        for text in dict.fromkeys(texts):
            for complaint in video.captions.complaints(text):
                context.say(f"caption '{text}': {complaint}")
        return [texts[i % len(texts)] for i in range(count)]
    if silent:
        return None
    known = [text for text in context.data()[0].captions or () if text] or [""]
    noise = SampleNoise(seeds=torch.tensor([context.seed]), steps=torch.tensor([0]))
    return [known[int(u * len(known))] for u in noise.uniform(torch.empty(1, count))[0]]


def sampling_of(
    video: "Video", options: Sample, frames: int, context: RequestContext, *, given: bool = True
) -> Sampling:
    """The run's sampling with what the options change; `given`: whether some frames are given.

    Raises:
        ValueError: a scheduling of a run that was not trained for it, or that does not fit the window."""
    sampling, window = context.model.sampling, video.window
    scheduling = scheduling_of(options, frames, window, sampling)
    if not isinstance(scheduling, FullSequence) and not video.leveled(context.model):
        raise ValueError(
            f"{frames} frames, window by window, need a run that was trained with a noise level per frame (method.levels); "
            f"this one draws {window} frames together"
        )
    asked = [name for name in ("history", "stabilise") if getattr(options, name) is not None]
    if asked and not video.leveled(context.model):
        raise ValueError(f"--{asked[0]} needs a run that was trained with a noise level per frame (method.levels)")
    if asked and not given and isinstance(scheduling, FullSequence):
        raise ValueError(
            f"--{asked[0]} is about frames that are finished while others are drawn, and all of these are drawn together: "
            "give frames, more --frames, or another --scheduling"
        )
    own = {g.kind: g for g in sampling.guidance}
    if options.stabilise is not None:
        own["stabilisation"] = StabilisationGuidance(weight=options.stabilise)
    if options.history is not None:
        own["history"] = HistoryGuidance(weight=options.history)
    last = [
        own.pop(kind) for kind in ("stabilisation", "history") if kind in own
    ]  # history sees which frames are finished
    return replace(sampling, scheduling=scheduling, guidance=(*own.values(), *last))


def scheduling_of(options: Sample, frames: int, window: int, sampling: Sampling) -> AnyScheduling:
    """When each frame is drawn. Raises `ValueError` for a chunk that does not fit the window."""
    progressive = options.scheduling in ("rolling", "pyramid")
    chunk = options.chunk or max(
        1, window // (2 if progressive else 4)
    )  # the fewer at once, the more finished ones they see
    if frames > window and chunk >= window:
        raise ValueError(
            f"--chunk {chunk} leaves no room for finished frames among the {window} that the network sees at once: give "
            f"at most {window - 1}"
        )
    kind = options.scheduling
    if kind is None:
        chosen = sampling.scheduling
        if options.chunk is not None or (frames > window and isinstance(chosen, FullSequence)):
            return Autoregressive(chunk=chunk)
        return chosen
    if kind == "full_sequence" and frames > window:
        raise ValueError(f"{frames} frames are more than the {window} of the network: take another --scheduling")
    if kind == "autoregressive":
        return Autoregressive(chunk=chunk)
    if kind == "rolling":
        return Rolling(window=chunk)
    return FullSequence() if kind == "full_sequence" else Pyramid(delay=max(1, -(-sampling.steps // chunk)))


def drawn(video: "Video", wanted: Wanted, context: RequestContext, sampling: Sampling) -> Plan:
    """The plan of some clips."""
    seeds, n = seeds_of(context.seed, wanted.count), wanted.count
    condition = conditioned(video, wanted)
    clean = known = None
    if wanted.given is not None and wanted.known is not None:
        clean = video.codec.encode(held(wanted.given, wanted.known)[None]).expand(n, -1, -1, -1, -1)
        known = wanted.known.expand(n, -1)
    channels, height, width = video.codec.frame_shape(video.frame_shape)
    more = padding(context.model, video.window, wanted.frames)
    if clean is not None and known is not None:
        clean, known = F.pad(clean, (0, 0, 0, 0, 0, more)), F.pad(known, (0, more))
    x = yield Draw(
        shape=(channels, wanted.frames + more, height, width), seeds=seeds, sampling=sampling, condition=condition,
        clean=clean, known=known, window=video.window,
    )  # fmt: skip
    values = video.codec.decode(x)[:, : wanted.frames]
    if wanted.given is not None and wanted.known is not None:
        values[:, wanted.known] = wanted.given[wanted.known]
    return Samples(modality=video, values=list(values), names=wanted.names, arrays={"seed": seeds})


def padding(model: Model, window: int, frames: int) -> int:
    """The frames that are drawn beyond those wanted, so that the network's patches cut a clip within its window."""
    patch = getattr(model.parts.network.config, "patch", 1)
    return 0 if frames > window else -frames % patch_sides(patch, 3)[0]


def held(clip: Tensor, known: Tensor) -> Tensor:
    """A clip (frames, ...) whose unknown frames are the last known one before, or the first one."""
    at = torch.where(known, torch.arange(len(clip)), -1).cummax(0).values
    return clip[at.clamp_min(int(known.int().argmax()))]


def conditioned(video: "Video", wanted: Wanted) -> Condition | None:
    """The condition of the clips."""
    if video.captions is None:
        return None
    return condition_of(wanted.captions or [""] * wanted.count, video.captions)


def like_data(video: "Video", dataset: Clips, count: int, context: RequestContext) -> Plan:
    """The plan of so many clips with captions of the data, in its proportions."""
    items = torch.arange(count) * len(dataset) // count % len(dataset)
    captions = None if dataset.captions is None else [dataset.captions[i] for i in items.tolist()]
    wanted = Wanted(captions=captions, count=count, frames=video.window)
    sampling = replace(context.model.sampling, scheduling=FullSequence())
    made = yield from drawn(video, wanted, context, sampling)
    return replace(made, arrays={**made.arrays, "items": items})
