"""Decoding of image files to uint8 pixels, as an image viewer shows them.

Read naively, a transparent emoji turns black, a phone photograph lies on its side, a 16-bit scan is clipped to white
and a truncated file ends in grey. The rules here are:

- alpha, or a transparent palette entry, is composited over a background before resizing: with colour `c`, alpha `a` and
  background `g` the pixel is `a c + (1 - a) g`, so hidden colours under `a = 0` never bleed in;
- the EXIF orientation is applied; an embedded ICC profile is converted to sRGB if possible and ignored otherwise;
- 16-bit grey spans 0..65535, so `v` becomes `round(255 v / 65535)`; 32-bit integers beyond that range span their own
  minimum to maximum; floats span the first of 0..1, 0..255 and their own minimum to maximum that contains them all;
- of an animation or a file of several pages the first frame is taken;
- a file that is truncated, damaged or no image is `Broken`, with the reason in words.

Resizing crops the central square, with an antialiased (Lanczos) filter.
"""

import hashlib
import io
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps
from torch import Tensor

from langevin.modalities.image.unreadable import LARGEST, Broken, in_plain_words

SUFFIXES = frozenset(
    ".png .apng .jpg .jpeg .jpe .jfif .webp .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .avif .jp2 .ico".split()  # noqa: SIM905
)
REDUCE_ABOVE = 1_000_000  # pixels; larger JPEG files are reduced while they are decompressed
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO")
_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")
_ORIENTATION = 0x0112  # the EXIF tag; values above 4 exchange width and height
_MODES = {"1": "1-bit", "L": "grey", "LA": "grey+alpha", "P": "palette", "PA": "palette+alpha", "F": "float grey"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A decoded file: upright, opaque, grey (`L`) or `RGB`.

    Args:
        image: the pixels.
        width, height: size of the upright image as stored, in pixels, even if a large JPEG was decompressed at less.
        mode: the stored pixel format in words.
        animated: whether it is the first of several frames.
        reduced_from: the file's bytes, if it was decompressed at a reduced size.
    """

    image: Image.Image
    width: int
    height: int
    mode: str
    animated: bool = False
    reduced_from: bytes | None = None

    def pixels(self, *, size: int | None, channels: int) -> Tensor:
        """The central square as uint8 (channels, size, size); for `size` None all of it, (channels, height, width)."""
        image = _as(self.image, "L" if channels == 1 else "RGB")
        if size is not None:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            middle = (left, top, left + side, top + side)
            if side != size:
                image = image.resize((size, size), Image.Resampling.LANCZOS, middle)
            elif image.size != (size, size):
                image = image.crop(middle)
        # numpy is (h, w) or (h, w, c); the copy is writable and (c, h, w)
        values = np.array(image, dtype=np.uint8).reshape(image.height, image.width, channels)
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))

    def identity(self) -> str:
        """A hash of the pixels as stored, independent of file format and requested size.

        A JPEG of more than a megapixel, which is not decompressed in full, is hashed by the bytes of its file.
        """
        digest = hashlib.sha256(f"{self.width} {self.height} ".encode())
        digest.update(_as(self.image, "RGB").tobytes() if self.reduced_from is None else self.reduced_from)
        return digest.hexdigest()


def decode(
    data: bytes | Path, *, size: int | None, channels: int, background: tuple[int, int, int] = (255, 255, 255)
) -> Tensor:
    """An image file as uint8 (channels, h, w), 0 black to 255 full.

    Args:
        data: the file's content or its path.
        size: the shorter side is resized to that many pixels and the central square is cropped; None keeps the stored
            size.
        channels: 1 (luma, ITU-R 601) or 3 (sRGB).
        background: the colour behind transparent pixels.

    Raises:
        Broken: the file is empty, truncated, damaged, too large or no image.
        ValueError: an argument is out of range."""
    if channels not in (1, 3):
        raise ValueError(f"decode: channels is {channels}; use 1 for grey or 3 for colour")
    if size is not None and size < 1:
        raise ValueError(f"decode: size is {size}; use a positive number of pixels, or None to keep the stored size")
    return open_picture(data, background=background, size=size).pixels(size=size, channels=channels)


def open_picture(
    data: bytes | Path, *, background: tuple[int, int, int] = (255, 255, 255), size: int | None = None
) -> Picture:
    """Decode and check one file; `size` is the side that it will be resized to, if known.

    With `size`, a JPEG of more than a megapixel is decompressed at a fraction of its size, at least four times `size`.
    Switches off Pillow's process-wide `LOAD_TRUNCATED_IMAGES`, which would accept truncated files. Raises `Broken`.
    """
    content = file_bytes(data)
    with in_plain_words(content, None if isinstance(data, bytes) else str(data)):
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        stored = _opened(io.BytesIO(content))
        width, height = stored.size
        reduced = False
        if size is not None and stored.format in ("JPEG", "MPO") and width * height > REDUCE_ABOVE:
            reduced = stored.draft(None, (4 * size, 4 * size)) is not None  # pyright: ignore[reportAttributeAccessIssue]
        mode = _mode(stored)
        stored.load()
        if stored.format == "PNG" and b"IEND" not in content:  # the only end marker that Pillow does not check
            raise Broken("is cut short (its end is missing)")
        animated = _animated(stored)
        upright = stored
        with suppress(Exception):  # a damaged EXIF block is ignored
            orientation = stored.getexif().get(_ORIENTATION, 1)
            if orientation in range(2, 9):
                upright = ImageOps.exif_transpose(stored)
                width, height = (height, width) if orientation > 4 else (width, height)
        image = _opaque(upright, background)
        return Picture(
            image=image,
            width=width,
            height=height,
            mode=mode,
            animated=animated,
            reduced_from=content if reduced else None,
        )


def stored_size(data: bytes | Path) -> tuple[int, int]:
    """Stored width and height in pixels, from the header alone: the file may be truncated. Raises `Broken`."""
    if isinstance(data, bytes):
        with in_plain_words(data, None):
            return _opened(io.BytesIO(file_bytes(data))).size
    try:
        _regular(data)
        with data.open("rb") as file, in_plain_words(file.read(64), str(data)):
            file.seek(0)
            return _opened(file).size
    except OSError as error:
        raise Broken(f"cannot be read: {error.strerror or error}", str(data)) from error


def file_bytes(data: bytes | Path) -> bytes:
    """The content of a file, or `data` if it is the content. Raises `Broken` if it is unreadable or empty."""
    name = None
    if isinstance(data, Path):
        name = str(data)
        try:
            _regular(data)
            data = data.read_bytes()
        except OSError as error:
            raise Broken(f"cannot be read: {error.strerror or error}", name) from error
    if not data:
        raise Broken("is empty (0 bytes)", name)
    return data


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _opened(file: io.BufferedIOBase) -> ImageFile.ImageFile:
    image = Image.open(file, formats=_formats())  # pyright: ignore[reportArgumentType]
    if image.width * image.height > LARGEST:
        raise Broken(f"is too large to be opened safely: {image.width} x {image.height} pixels, more than {LARGEST:,}")
    return image


def _regular(path: Path) -> None:
    """Raise `Broken` for a pipe, a device or a directory, before it is opened."""
    if path.exists() and not path.is_file():
        raise Broken("is not a regular file", str(path))


def _animated(image: Image.Image) -> bool:
    try:
        return image.format in _ANIMATED and bool(getattr(image, "is_animated", False))
    except Exception:  # the first frame is complete; the others are not needed
        return False


def _mode(image: Image.Image) -> str:
    """The stored pixel format in words: "palette+transparency", "16-bit grey", "RGBA", ..."""
    name = _MODES.get(image.mode, image.mode)
    if image.mode.startswith("I"):
        name = "16-bit grey" if image.mode != "I" or image.format in ("PNG", "PPM") else "32-bit grey"
    elif ";16" in str(getattr(image, "tile", "")):  # Pillow keeps the upper eight bits of such colours
        name = f"16-bit {name}"
    return name + "+transparency" if "transparency" in image.info else name


def _opaque(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Any pixel format as `L` or `RGB`: eight bits, sRGB, transparency composited over the background."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        image, profile = _eight_bits(image), None
    if not image.has_transparency_data:
        if image.mode in ("1", "L") and not profile:
            return _as(image, "L")
        if image.mode not in ("L", "RGB", "CMYK"):
            image = _as(image, "RGB")
        return _standard(image, profile)
    image = _as(image, "RGBA")
    colour = _standard(_as(image, "RGB"), profile)
    composite = Image.new("RGB", image.size, background)
    composite.paste(colour, mask=image.getchannel("A"))  # a c + (1 - a) g
    return composite


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit and 32-bit integers and floats as `L`, or as `LA` if one value is declared transparent."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise Broken("holds values that are not numbers (NaN or infinity)")
    low, high = float(values.min()), float(values.max())
    for top in (1.0, 255.0) if image.mode == "F" else (65535.0,):
        if low >= 0 and high <= top:
            low, high = 0.0, top
            break
    grey = np.rint((values - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8)
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return Image.fromarray(grey)
    return Image.merge(
        "LA", (Image.fromarray(grey), Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    )


def _standard(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Colours converted from an embedded ICC profile to sRGB; unchanged without a profile, or if that fails."""
    if profile:
        try:
            from PIL import ImageCms

            source = ImageCms.getOpenProfile(io.BytesIO(profile))
            if not ImageCms.getProfileDescription(source).startswith("sRGB"):
                target = ImageCms.createProfile("sRGB")
                converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
                if converted is not None:
                    return converted.convert("L") if image.mode == "L" else converted
        except Exception:  # a damaged profile, or one for another colour space: the values are kept
            pass
    return image if image.mode == "L" else _as(image, "RGB")


def _as(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)
