"""What Pillow accepts although a file is damaged or made to harm: pictures that lack rows, and those that cost too much."""

import ctypes
import io
import math
import struct
import zlib
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from langevin.modalities.image.unreadable import Broken

_LARGEST_TILE = 2**22  # pixels, of a picture that is smaller
_LARGEST_ICON = 2**20  # pixels; usual are 256 x 256 at most
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # of Adam7


def refuse_large_icon(file: io.BufferedIOBase) -> None:
    """Raise `Broken` for an ICO file with a picture larger than its directory can say: Pillow decodes on opening."""
    head = file.read(6)
    entries = file.read(16 * int.from_bytes(head[4:6], "little")) if head.startswith(b"\0\0\1\0") else b""
    for at in range(0, len(entries) - 15, 16):
        file.seek(int.from_bytes(entries[at + 12 : at + 16], "little"))
        start = file.read(24).ljust(24, b"\0")
        if start.startswith(b"\x89PNG"):
            width, height = struct.unpack(">II", start[16:24])
        else:  # a BMP without its first header; its height counts the mask
            width, height = struct.unpack(
                "<HH" if start[0] == 12 else "<ii", start[4:8] if start[0] == 12 else start[4:12]
            )
        if abs(width * height) > _LARGEST_ICON:
            raise Broken(f"is too large to be opened safely: {width} x {height} pixels in an icon")
    file.seek(0)


def is_truncated_png(image: Image.Image, content: bytes) -> bool:
    """Whether a PNG has fewer rows than its size needs, of which Pillow leaves the rest black or clear."""
    width, height = image.size
    interlaced = content[28] == 1
    if not interlaced and image.crop((0, height - 1, width, height)).getbbox(alpha_only=False):
        return False  # the last row is there
    bits = content[24] * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[content[25]]
    parts = (
        [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in _PASSES] if interlaced else [image.size]
    )
    missing = sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in parts if columns > 0)
    unpack, at = zlib.decompressobj(), 8
    while at + 8 <= len(content) and missing > 0:
        length = int.from_bytes(content[at : at + 4], "big")
        packed = content[at + 8 : at + 8 + length] if content[at + 4 : at + 8] == b"IDAT" else b""
        while packed and missing > 0:
            missing -= len(unpack.decompress(packed, 2**20))
            packed = unpack.unconsumed_tail
        at += length + 12
    return missing > 0


def is_truncated_tiff(tags: Any, file: io.BufferedIOBase) -> bool:
    """Whether a TIFF has fewer strips or tiles than its size needs, or smaller ones: the rest would be left black."""
    width, height = tags[256], tags[257]
    kind = 273 if 273 in tags else 324
    if kind not in tags:  # JPEG of the old style, which has no strips
        return False
    across, down = (width, min(tags.get(278, height), height)) if kind == 273 else (tags[322], tags[323])
    if across * down > max(_LARGEST_TILE, 4 * width * height):
        raise Broken("is damaged (its tiles are larger than the picture)")
    planes = tags.get(277, 1) if tags.get(284, 1) == 2 else 1
    count = math.ceil(width / across) * math.ceil(height / down) * planes
    if len(tags[kind]) < count:
        return True
    if tags.get(259) != 7:  # of JPEG alone libtiff accepts a strip that is too small
        return False
    for i, (offset, length) in enumerate(zip(tags[kind], tags[279 if kind == 273 else 325])):
        file.seek(offset)
        strip = Image.open(io.BytesIO(file.read(length)), formats=["JPEG"])
        rows = min(down, height - i % math.ceil(height / down) * down) if kind == 273 else down
        if strip.width < across or strip.height < rows:
            return True
    return False


@lru_cache(maxsize=1)
def hush_libtiff() -> None:
    """Silence what libtiff writes to standard error, which names no file; the error that Pillow raises does.

    Found only where Pillow brings its own libtiff, as on PyPI for Linux and macOS."""
    packages = Path(Image.__file__).parents[1]
    for library in (*packages.glob("pillow.libs/libtiff*"), *packages.glob("PIL/.dylibs/libtiff*")):
        with suppress(OSError, AttributeError):
            loaded = ctypes.CDLL(str(library))
            loaded.TIFFSetErrorHandler(None)
            loaded.TIFFSetWarningHandler(None)
