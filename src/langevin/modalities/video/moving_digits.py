"""Moving digits: a handwritten digit that moves by whole pixels, and turns back at the edges of the frame.

The captions say which digit and along which axis, as in "Sync-DRAW: Automatic Video Generation using Deep Recurrent
Attentive Architectures" (2016, arXiv 1611.10314): "3 moving left and right". So every part of a clip of any length shows
whether it is right. A digit's glyph belongs to one part of the data only.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from langevin.diffusion.noise import SampleNoise
from langevin.extras import require
from langevin.modalities.paths import existing_path
from langevin.modalities.video.clip_files import Clip, Look, in_pillow
from langevin.modalities.video.sources import Listing, Record
from langevin.modalities.video.tracking import AXES

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_SHARE = 0.1  # of the glyphs, the last ones


@dataclass(frozen=True, kw_only=True)
class MovingDigits:
    """A source of clips of moving digits.

    Args:
        path: a Parquet file of MNIST, columns image and label; None takes the 8 x 8 digits of scikit-learn.
        size: side of a frame, in pixels.
        digit: side of the digit, in pixels.
        frames: of a clip.
        fps: frames per second.
        count: number of clips, a tenth of which are for validation.
        slowest, fastest: speeds, in whole pixels a frame.
        words: whether captions and labels spell the digit: "three moving up and down".
        seed: of glyphs, places and speeds.
    """

    kind: Literal["moving_digits"] = "moving_digits"
    path: str | None = None
    size: int = 32
    digit: int = 20
    frames: int = 12
    fps: float = 12.0
    count: int = 20_000
    slowest: int = 1
    fastest: int = 2
    words: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not (8 <= self.digit < self.size <= 256 and 2 <= self.frames <= 1000 and 20 <= self.count <= 1_000_000):
            raise ValueError(
                "moving digits have 8 <= digit < size <= 256, 2 to 1,000 frames and 20 to 1,000,000 clips, got "
                f"{self.digit}, {self.size}, {self.frames} and {self.count}"
            )
        if not (1 <= self.slowest <= self.fastest <= self.size - self.digit and 0.1 <= self.fps <= 240):
            raise ValueError(
                f"moving digits have 1 <= slowest <= fastest <= size - digit and 0.1 to 240 fps, got {self.slowest}, "
                f"{self.fastest} and {self.fps}"
            )

    def listing(self) -> Listing:
        """The clips, not drawn yet.

        Raises:
            ValueError: the Parquet file is not there, or has no such columns."""
        glyphs, labels = _glyphs(self.path, self.digit)
        split = math.ceil(len(labels) * (1 - TEST_SHARE))
        own = SampleNoise(seeds=torch.tensor([self.seed]), steps=torch.tensor([0]))
        u = own.uniform(torch.empty(1, self.count, 5))[0]
        records = list[Record]()
        held_out = math.ceil(self.count * TEST_SHARE)
        for i in range(self.count):
            test = i >= self.count - held_out
            low, high = (split, len(labels)) if test else (0, split)
            glyph = low + int(u[i, 0] * (high - low))
            direction = AXES[int(u[i, 1] * len(AXES))]
            name = WORDS[labels[glyph]] if self.words else str(int(labels[glyph]))
            records.append(
                Record(
                    name=f"{i:06d}", text=f"{name} moving {direction}", labels={"digit": name, "direction": direction},
                    test=test,
                    read=partial(self.clip, partial(glyphs, glyph), direction, u[i, 2:].tolist()),
                )
            )  # fmt: skip
        return Listing(where=self.path or "digits of scikit-learn", records=records)

    def clip(self, glyph: Callable[[], Tensor], direction: str, u: Sequence[float], look: Look) -> Clip:
        """The clip of a glyph (digit, digit) in [0, 1]; `u`: where it begins, along its way and across, and how fast, in
        [0, 1)."""
        room = self.size - self.digit
        speed = self.slowest + int(u[2] * (self.fastest - self.slowest + 1))
        way = (int(u[0] * 2 * room) + speed * torch.arange(self.frames)) % (2 * room)  # there and back
        along, across = room - (way - room).abs(), torch.full_like(way, int(u[1] * (room + 1)))
        frames = torch.zeros(self.frames, self.size, self.size)
        for frame, down, right in zip(
            frames, *((along, across) if direction == AXES[1] else (across, along)), strict=True
        ):
            frame[down : down + self.digit, right : right + self.digit] = glyph()
        values = (255 * frames).round().clamp(0, 255).to(torch.uint8)[:, None]
        if look.size not in (None, self.size):
            values = torch.stack([look.pixels(Image.fromarray(frame[0].numpy())) for frame in values])
        return Clip(frames=values.expand(-1, look.channels, -1, -1), fps=self.fps)


def _glyphs(path: str | None, side: int) -> tuple[Callable[[int], Tensor], list[int]]:
    """A function from numbers to glyphs (side, side) in [0, 1], white on black, and the digit of each."""
    if path is None:
        found = require("sklearn.datasets", "the digits of scikit-learn").load_digits()
        glyphs = torch.from_numpy(found.images).float()[:, None] / 16
        resized = torch.nn.functional.interpolate(glyphs, size=(side, side), mode="bilinear")[:, 0].clamp(0, 1)
        return resized.__getitem__, found.target.tolist()
    file = existing_path(path, "file")
    try:
        table = require("pyarrow.parquet", "Parquet").read_table(Path(file))
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    missing = {"image", "label"} - set(table.column_names)
    if missing:
        raise ValueError(f"{file} has no column {' and '.join(sorted(missing))}: data.source.path is a file of digits")
    cells = table.column("image")
    return lambda i: _glyph(cells[i].as_py(), side), table.column("label").to_pylist()


def _glyph(cell: Any, side: int) -> Tensor:
    """The picture of a digit, (side, side) in [0, 1]. Raises `Broken` for one that cannot be read."""
    with in_pillow(cell["bytes"] if isinstance(cell, dict) else cell) as image:
        border = max(0, (image.width - 20) // 2)  # a digit of MNIST is 20 pixels at most, in the middle of 28
        image = image.convert("L").crop((border, border, image.width - border, image.height - border))
        image = image if image.size == (side, side) else image.resize((side, side), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(image, dtype=np.float32)) / 255
