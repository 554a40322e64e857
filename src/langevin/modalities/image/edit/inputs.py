"""What is given of an image: its pixels, and the part that is drawn."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langevin.modalities.image.decode import decode, stored_size

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image

LARGEST = 2**22  # pixels of an input that is not resized, and of an answer


@dataclass(frozen=True, kw_only=True)
class Given:
    """An input as the run sees it.

    Args:
        pixels: (c, h, w) uint8, of the run's channels, opaque.
        hidden: (h, w) bool, where it is transparent.
        stored: its width and height as stored.
        corner, scale: of the part that was kept: the pixel of its upper left corner, and its pixels per stored pixel.
    """

    pixels: Tensor
    hidden: Tensor
    stored: tuple[int, int]
    corner: tuple[int, int] = (0, 0)
    scale: float = 1.0


def read(image: "Image", path: Path, fit: str, *, side: int, least: int = 1) -> Given:
    """An input, of `side` x `side` pixels unless it is tiled.

    Args:
        least: pixels along each side of a tiled input.

    Raises:
        ValueError: it cannot be read, or is of another size and `fit` refuses it."""
    assert image.channels, "the modality of a run is fitted"
    columns, lines = stored_size(path)
    if fit != "resize" and columns * lines > LARGEST:
        raise ValueError(f"{path.name} has {columns} x {lines} pixels, more than {LARGEST:,}: give --fit resize")
    whole = decode(path, size=None, channels=image.channels)
    height, width = whole.shape[1:]
    stored = (width, height)
    if (height, width) == (side, side) or (fit == "tile" and min(height, width) >= least):
        return Given(pixels=whole, hidden=transparent(path, None), stored=stored)
    if fit == "resize":
        edge = min(height, width)
        return Given(
            pixels=decode(path, size=side, channels=image.channels), hidden=transparent(path, side), stored=stored,
            corner=((width - edge) // 2, (height - edge) // 2), scale=side / edge,
        )  # fmt: skip
    if fit == "tile":
        raise ValueError(
            f"{path.name} is {width} x {height} pixels, smaller than the {least} of a tile: give --fit resize"
        )
    raise ValueError(
        f"{path.name} is {width} x {height} pixels, and {side} x {side} are needed here: give --fit resize (its "
        "central square, scaled), or --fit tile (at its own size, piece by piece)"
    )


def transparent(path: Path, size: int | None) -> Tensor:
    """(h, w) bool: where an image is more transparent than not."""
    white, black = (
        decode(path, size=size, channels=1, background=(level, level, level))[0].int() for level in (255, 0)
    )  # fmt: skip
    return white - black >= 128


def drawn(mask: str | None, given: Given) -> Tensor:
    """(h, w) bool: the part that is drawn anew.

    Raises:
        ValueError: a mask of another size, of nothing or of all, or a rectangle outside the image."""
    if mask is None:
        part, name = given.hidden, "the input's transparency"
    elif (box := rectangle(mask)) is not None:
        part, name = inside(box, given), f"the mask {mask}"
    else:
        path, name = Path(mask), f"the mask {Path(mask).name}"
        own = decode(path, size=None, channels=1).shape[1:]
        if (own[1], own[0]) != given.stored:
            raise ValueError(
                f"{name} is {own[1]} x {own[0]} pixels, and the image {given.stored[0]} x {given.stored[1]}: they must "
                "be equal"
            )
        size = None if own == given.hidden.shape else given.hidden.shape[0]
        part = transparent(path, size)
        part = part if bool(part.any()) else decode(path, size=size, channels=1)[0] >= 128
    if not bool(part.any()) or bool(part.all()):
        what = "all of the image, so that nothing is given" if bool(part.all()) else "nothing, so that nothing is drawn"
        raise ValueError(f"{name} covers {what}: it is white or transparent where is drawn")
    return part


def rectangle(mask: str) -> tuple[int, int, int, int] | None:
    """x, y, width and height, if the mask is written so. Raises `ValueError` for an empty one."""
    words = mask.split(",")
    if not all(word.strip().lstrip("-").isdecimal() for word in words):
        return None
    if len(words) != 4:
        raise ValueError(f"--mask {mask} has {len(words)} numbers: write X,Y,WIDTH,HEIGHT in pixels, or name a file")
    x, y, width, height = (int(word) for word in words)
    if x < 0 or y < 0 or width < 1 or height < 1:
        raise ValueError(f"--mask {mask} is X,Y,WIDTH,HEIGHT in pixels: X and Y from 0, WIDTH and HEIGHT from 1")
    return x, y, width, height


def inside(box: tuple[int, int, int, int], given: Given) -> Tensor:
    """(h, w) bool: the pixels of a rectangle in stored pixels. Raises `ValueError` if it lies outside the image."""
    x, y, width, height = box
    if x + width > given.stored[0] or y + height > given.stored[1]:
        raise ValueError(
            f"--mask {x},{y},{width},{height} ends at {x + width},{y + height}, and the image is {given.stored[0]} x "
            f"{given.stored[1]} pixels"
        )
    (left, top), k = given.corner, given.scale
    part = torch.zeros_like(given.hidden)
    rows = slice(max(0, math.floor((y - top) * k)), max(0, math.ceil((y + height - top) * k)))
    columns = slice(max(0, math.floor((x - left) * k)), max(0, math.ceil((x + width - left) * k)))
    part[rows, columns] = True
    return part


def sized(given: Given, like: Tensor) -> Tensor:
    """The input at the size of the answers, its transparent part grey."""
    pixels = torch.where(given.hidden, 127, given.pixels)[None]
    factor = like.shape[-1] // pixels.shape[-1]
    return pixels.repeat_interleave(factor, -1).repeat_interleave(factor, -2).to(torch.uint8)
