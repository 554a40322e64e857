"""Clips as files: an animation of all of them, a grid of their frames, and the forms that samples are written in."""

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from langevin.files import write_atomic, write_folder
from langevin.modalities.files import file_name, save_arrays
from langevin.modalities.lettering import wrap_text
from langevin.modalities.modality import File, Samples
from langevin.modalities.video.clip_files import gif, mp4, picture, webp

MOST = 64  # clips in one animation or grid
SIDE = 96  # pixels to which small clips are enlarged in an animation, about
GAP, LINE = 4, 15  # pixels between pictures, and of a line of a caption
MOST_LINES = 3  # of a caption
BACKGROUND, TEXT = (255, 255, 255), (60, 64, 70)


def preview(samples: Samples) -> File:
    """All clips as one animation."""
    return File(suffix=".webp", content=webp(animated(samples), fps_of(samples)))


def fps_of(samples: Samples) -> float:
    """The rate of the run's clips."""
    modality: Any = samples.modality
    return modality.known_fps


def animated(samples: Samples) -> list[Image.Image]:
    """Pictures of all clips side by side, one per frame, with their captions. Shorter clips stand still at their end."""
    clips = list(samples.values)[:MOST]
    names = list(samples.names[:MOST]) or [""] * len(clips)
    columns = samples.columns or max(1, math.ceil(math.sqrt(len(clips))))
    zoom = max(1, SIDE // clips[0].shape[-1])
    longest = max(len(clip) for clip in clips)
    held = [clip[torch.arange(longest).clamp_max(len(clip) - 1)] for clip in clips]
    return [tiled([clip[i] for clip in held], names, columns, zoom) for i in range(longest)]


def tiled(
    frames: Sequence[Tensor], names: Sequence[str], columns: int, zoom: int, *, gap: int = GAP, wide: bool = False
) -> Image.Image:
    """Frames uint8 (c, h, w) in lines of so many columns, each above its name, which may be as `wide` as a line."""
    font = ImageFont.load_default(size=11)
    height, width = (zoom * n for n in frames[0].shape[1:])
    broken = [wrap_text(name, font, columns * width if wide else width, MOST_LINES) for name in names]
    line = LINE * max(map(len, broken), default=0)
    lines = -(-len(frames) // columns)
    size = (GAP + columns * (width + gap), GAP + lines * (height + GAP + line))
    canvas = Image.new("RGB", size, BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    for k, frame in enumerate(frames):
        x, y = GAP + k % columns * (width + gap), GAP + k // columns * (height + GAP + line)
        canvas.paste(picture(frame).convert("RGB").resize((width, height), Image.Resampling.NEAREST), (x, y))
        for i, text in enumerate(broken[k]):
            pen.text((x, y + height + 1 + i * LINE), text, fill=TEXT, font=font)
    return canvas


def frame_grid(clips: Sequence[Tensor], names: Sequence[str] = (), *, most: int = 12) -> bytes:
    """A PNG with a line per clip: up to `most` of its frames from left to right, evenly spaced."""
    count = min(most, max(len(clip) for clip in clips))
    zoom = max(1, 64 // clips[0].shape[-1])
    picked = [clip[torch.linspace(0, len(clip) - 1, count).round().long()] for clip in clips]
    frames = [frame for clip in picked for frame in clip]
    shown = [""] * len(frames)
    for i, name in enumerate(names):
        shown[i * count] = name
    content = BytesIO()
    tiled(frames, shown, count, zoom, gap=1, wide=True).save(content, "PNG", optimize=True)
    return content.getvalue()


def encoded(clip: Tensor, suffix: str, fps: float) -> bytes:
    """One clip as a file."""
    frames = [picture(frame) for frame in clip]
    return {".gif": gif, ".mp4": mp4}.get(suffix, webp)(frames, fps)


def save(samples: Samples, out: Path) -> None:
    """Write one animation (.webp, .gif, .mp4), a grid of frames (.png), arrays (.npz), or a folder, a WebP per clip."""
    fps = fps_of(samples)
    match out.suffix:
        case ".npz":
            longest = max(map(len, samples.values))
            held = [clip[torch.arange(longest).clamp_max(len(clip) - 1)] for clip in samples.values]
            save_arrays(out, samples, "clips", torch.stack(held).permute(0, 1, 3, 4, 2).numpy())
        case ".png":
            write_atomic(out, samples.stamped(frame_grid(list(samples.values)[:MOST], samples.names[:MOST])))
        case ".webp" | ".gif" | ".mp4" if len(samples) == 1:
            write_atomic(out, samples.stamped(encoded(samples.values[0], out.suffix, fps), 0))
        case ".webp" | ".gif" | ".mp4":
            make = {".gif": gif, ".mp4": mp4}.get(out.suffix, webp)
            write_atomic(out, samples.stamped(make(animated(samples), fps)))
        case _:
            names = samples.names or ("",) * len(samples)
            with write_folder(out) as folder:
                for i, (clip, name) in enumerate(zip(samples.values, names, strict=True)):
                    file = f"{i:05d}" + (f"-{file_name(name)}" if name else "") + ".webp"
                    (folder / file).write_bytes(samples.stamped(encoded(clip, ".webp", fps), i))
