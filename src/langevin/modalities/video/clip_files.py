"""Reading and writing clips: GIF, WebP and PNG animations by Pillow, films by PyAV, folders and strips of frames.

A clip is uint8 (frames, channels, height, width) with one rate. Frames of an animation may last differently long; the clip
then shows, at every tick of its rate, the frame that is seen at that time.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from langevin.extras import require
from langevin.modalities.animations import ANIMATIONS
from langevin.modalities.content import content as content_of
from langevin.modalities.content import entries, is_file_in_shard, is_folder

FILMS = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".m4v")
SUFFIXES = (*ANIMATIONS, *FILMS)
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")  # of folders of frames
LARGEST = 2**29  # pixels of a clip, over all frames
DEFAULT_FPS = 10.0  # of animations that do not say
LOWEST_FPS, HIGHEST_FPS = 0.1, 240.0


class Broken(ValueError):
    """A clip that cannot be read: the message continues "FILE ..."."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """Frames uint8 (n, channels, height, width), so many per second.

    Args:
        uneven: whether the frames of the file last differently long.
        rounding: seconds by which the file's format may have changed how long a frame lasts.
    """

    frames: Tensor
    fps: float
    uneven: bool = False
    rounding: float = 0.0

    def __len__(self) -> int:
        return len(self.frames)

    def at(self, fps: float) -> "Clip":
        """The clip at another rate: at each tick the frame that is seen then."""
        if abs(fps / self.fps - 1) < 0.01 or abs(1 / fps - 1 / self.fps) <= self.rounding:
            return replace(self, fps=fps)
        count = max(1, round(len(self) * fps / self.fps))
        index = (torch.arange(count) * (self.fps / fps) + 1e-6).long().clamp_max(len(self) - 1)
        return Clip(frames=self.frames[index], fps=fps, uneven=self.uneven)


@dataclass(frozen=True, kw_only=True)
class Look:
    """How frames are read.

    Args:
        size: side of the central square that is kept, in pixels; None keeps all of a frame.
        channels: 1 or 3.
        background: colour behind transparent pixels.
    """

    size: int | None = None
    channels: int = 3
    background: tuple[int, int, int] = (255, 255, 255)

    def pixels(self, image: Image.Image) -> Tensor:
        """A frame, uint8 (channels, height, width)."""
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, (*self.background, 255)), image)
        image = image.convert("L" if self.channels == 1 else "RGB")
        if self.size is not None and image.size != (self.size, self.size):
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            box = (left, top, left + side, top + side)
            image = image.crop(box).resize((self.size, self.size), Image.Resampling.LANCZOS)
        values = np.array(image, dtype=np.uint8).reshape(image.height, image.width, self.channels)
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def read_clip(path: Path, look: Look) -> Clip:
    """The clip of a file, or of a folder of frames.

    Raises:
        Broken: it is empty, damaged, too large, or no clip."""
    if is_folder(path):
        return read_folder(path, look)
    if path.suffix.lower() in FILMS:
        return _film(path, look)
    try:
        content = content_of(path)
    except OSError as error:
        raise Broken(f"cannot be read: {error.strerror or error}") from error
    return animation(content, look)


def animation(content: bytes, look: Look) -> Clip:
    """The clip of the bytes of an animation; a still picture is a clip of one frame. Raises `Broken`."""
    frames, seconds = list[Tensor](), list[float]()
    with in_pillow(content) as image:
        _require_small(image.width * image.height * getattr(image, "n_frames", 1))
        for frame in ImageSequence.Iterator(image):
            frame.load()
            seconds.append(float(frame.info.get("duration", 0) or 0) / 1000)
            frames.append(look.pixels(frame))
        unit = 0.01 if image.format == "GIF" else 0.001
    return replace(paced(frames, seconds), rounding=0.51 * unit)


def paced(frames: Sequence[Tensor], seconds: Sequence[float]) -> Clip:
    """A clip at one rate, that of the usual duration, of frames that last so many seconds each; 0 is not known."""
    known = Counter(round(duration, 4) for duration in seconds if duration > 0)
    usual = min(known, key=lambda duration: (-known[duration], duration)) if known else 1 / DEFAULT_FPS
    usual = min(max(usual, 1 / HIGHEST_FPS), 1 / LOWEST_FPS)
    lasting = [duration if duration > 0 else usual for duration in seconds]
    uneven = any(abs(duration / usual - 1) > 0.1 for duration in lasting[:-1])
    if not uneven:  # the last frame of a loop often lasts longer
        return Clip(frames=_stacked(frames), fps=1 / usual)
    ends = torch.tensor(lasting, dtype=torch.float64).cumsum(0)
    ticks = torch.arange(max(1, round(float(ends[-1]) / usual)), dtype=torch.float64) * usual
    if len(ticks) * frames[0].numel() > 3 * LARGEST:
        raise Broken("lasts too long at the rate of its usual frame")
    index = torch.searchsorted(ends, ticks + 1e-6, right=True).clamp_max(len(frames) - 1)
    return Clip(frames=_stacked(frames)[index], fps=1 / usual, uneven=True)


def strip(content: bytes, look: Look, fps: float, count: int | None = None) -> Clip:
    """The clip of a picture that holds frames side by side, square ones unless their number is given. Raises `Broken`."""
    with in_pillow(content) as image:
        _require_small(image.width * image.height)
        count = count or max(1, round(image.width / image.height))
        if image.width % count:
            raise Broken(f"is {image.width} pixels wide, which {count} frames side by side do not divide")
        image.load()
        shown = image.convert("RGBA") if image.mode in ("P", "PA") else image
        width = image.width // count
        boxes = [(i * width, 0, (i + 1) * width, image.height) for i in range(count)]
        return Clip(frames=torch.stack([look.pixels(shown.crop(box)) for box in boxes]), fps=fps)


def numbered(names: Sequence[str]) -> list[str]:
    """Names in the order of the numbers in them."""
    return sorted(names, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name.lower())])


def read_folder(path: Path, look: Look) -> Clip:
    """The clip of a folder whose pictures are its frames, in the order of the numbers in their names. Raises `Broken`."""
    names = numbered([name for name in entries(path) if PurePosixPath(name).suffix.lower() in PICTURES])
    if not names:
        raise Broken("holds no pictures")
    frames = list[Tensor]()
    for name in names:
        try:
            with in_pillow(content_of(path / name)) as image:
                _require_small(image.width * image.height * len(names))
                frames.append(look.pixels(image))
        except (Broken, OSError) as error:
            raise Broken(f"has a frame, {name}, that {error}") from error
    return Clip(frames=_stacked(frames), fps=DEFAULT_FPS)


def _stacked(frames: Sequence[Tensor]) -> Tensor:
    if len({frame.shape for frame in frames}) > 1:
        sizes = sorted({f"{frame.shape[2]} x {frame.shape[1]}" for frame in frames})
        raise Broken(f"has frames of several sizes ({', '.join(sizes[:3])})")
    return torch.stack(list(frames))


@contextmanager
def in_pillow(content: bytes) -> Iterator[Image.Image]:
    """Opens a picture, and turns whatever Pillow raises into `Broken`."""
    try:
        yield Image.open(BytesIO(content), formats=("GIF", "WEBP", "PNG", "JPEG", "BMP", "TIFF"))
    except Broken:
        raise
    except Image.UnidentifiedImageError as error:
        raise Broken("is empty" if not content else "is no picture or animation, or is damaged") from error
    except Exception as error:
        raise Broken(f"is damaged or cut short ({str(error) or type(error).__name__})") from error


def _require_small(pixels: int) -> None:
    if pixels > LARGEST:
        raise Broken(f"is too large to be opened safely: {pixels:,} pixels over all frames")


def _film(path: Path, look: Look) -> Clip:
    av = require("av", "video")
    frames, times, pixels = list[Tensor](), list[float](), 0
    try:
        with av.open(BytesIO(content_of(path)) if is_file_in_shard(path) else str(path)) as container:
            stream = container.streams.video[0]
            for frame in container.decode(stream):
                pixels += frame.width * frame.height
                _require_small(pixels)
                frames.append(look.pixels(frame.to_image()))
                times.append(float(frame.time if frame.time is not None else len(frames) / DEFAULT_FPS))
            rate = float(stream.average_rate or DEFAULT_FPS)
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"is no film, or is damaged ({str(error) or type(error).__name__})") from error
    if not frames:
        raise Broken("holds no frame")
    seconds = [max(0.0, later - now) for now, later in zip(times, [*times[1:], times[-1] + 1 / rate], strict=True)]
    return paced(frames, seconds)


# ----------------------------------------------------------------------------------------------------------- writing


def picture(frame: Tensor) -> Image.Image:
    """A frame uint8 (1 or 3, height, width) as a picture."""
    values = frame.permute(1, 2, 0).numpy()
    return Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)


def gif(frames: Sequence[Image.Image], fps: float) -> bytes:
    """A GIF that repeats; its durations are hundredths of a second."""
    colours = [frame.quantize(256) if frame.mode == "RGB" else frame for frame in frames]
    return _saved(colours, "GIF", duration=max(20, 10 * round(100 / fps)), disposal=2)


def webp(frames: Sequence[Image.Image], fps: float) -> bytes:
    """A lossless WebP animation that repeats."""
    return _saved([frame.convert("RGB") for frame in frames], "WEBP", duration=round(1000 / fps), lossless=True)


def _saved(frames: Sequence[Image.Image], kind: str, **options: Any) -> bytes:
    content = BytesIO()
    frames[0].save(content, kind, save_all=True, append_images=list(frames[1:]), loop=0, **options)
    return content.getvalue()


def mp4(frames: Sequence[Image.Image], fps: float) -> bytes:
    """An MP4 film; sides that are odd get a further row or column."""
    av = require("av", "video")
    content = BytesIO()
    width, height = (size + size % 2 for size in frames[0].size)
    with av.open(content, "w", format="mp4") as container:
        names = [name for name in ("libx264", "mpeg4") if name in av.codecs_available]
        if not names:
            raise ValueError("this build of PyAV writes neither H.264 nor MPEG-4: write .webp or .gif")
        stream = container.add_stream(names[0], rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "12"} if names[0] == "libx264" else {}
        for frame in frames:
            padded = Image.new("RGB", (width, height))
            padded.paste(frame.convert("RGB"))
            container.mux(stream.encode(av.VideoFrame.from_image(padded)))
        container.mux(stream.encode())
    return content.getvalue()
