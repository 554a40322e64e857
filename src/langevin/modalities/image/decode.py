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

Resizing crops the central square, with an antialiased (Lanczos) filter. Pixels are converted in bands of rows, and a
thread waits for room in memory before it decodes, so that files made to exhaust it do not.
"""

import hashlib
import io
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFile
from torch import Tensor

from langevin.modalities.content import content as content_of
from langevin.modalities.content import opened as opened_content
from langevin.modalities.content import size_of
from langevin.modalities.image.file_checks import hush_libtiff, is_truncated_png, is_truncated_tiff, refuse_large_icon
from langevin.modalities.image.memory import ROOM
from langevin.modalities.image.unreadable import LARGEST, Broken, in_plain_words
from langevin.modalities.paths import regular

SUFFIXES = frozenset(
    ".png .apng .jpg .jpeg .jpe .jfif .webp .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .avif .jp2 .ico".split()  # noqa: SIM905
)
REDUCE_ABOVE = 1_000_000  # pixels; larger JPEG files are reduced while they are decompressed
LARGEST_FILE = 2**29  # bytes
ALONE_ABOVE = 2**25  # bytes; of larger files one is read at a time
_BAND = 2**22  # pixels that are converted at once
_BYTES = 12  # a pixel's, at most: of the file, the decoder, the decoded and the converted image
_WIDEST = 2**19  # pixels; Pillow takes time that grows as the square of the bytes of a row
_SCANNED = 2**31  # pixels, counted in every scan of a progressive JPEG; usual are ten scans
_MORE_BYTES = {"WEBP": 18, "AVIF": 24, "JPEG2000": 24}  # of formats whose decoders keep further copies
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO")
_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")
_ORIENTATION = 0x0112  # the EXIF tag; values above 4 exchange width and height
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_MODES = {"1": "1-bit", "L": "grey", "LA": "grey+alpha", "P": "palette", "PA": "palette+alpha", "F": "float grey"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A decoded file: upright, opaque, grey (`L`) or `RGB`.

    Args:
        image: the pixels.
        width, height: size of the upright image as stored, in pixels, even if a large JPEG was decompressed at less.
        mode: the stored pixel format in words.
        animated: whether it is the first of several frames.
        encoded: bytes of the file.
        reduced_from: the file's bytes, if it was decompressed at a reduced size.
    """

    image: Image.Image
    width: int
    height: int
    mode: str
    encoded: int
    animated: bool = False
    reduced_from: bytes | None = None

    def pixels(self, *, size: int | tuple[int, int] | None, channels: int) -> Tensor:
        """The largest central part of the ratio of `size`, width and height or the side of a square, as uint8 (channels,
        height, width); for `size` None all of it."""
        image = _as(self.image, "L") if channels == 1 else self.image
        if size is not None:
            width, height = size if isinstance(size, tuple) else (size, size)
            right, bottom = image.size
            if right * height > bottom * width:
                right = bottom * width / height
            else:
                bottom = right * height / width
            left, top = (image.width - right) // 2, (image.height - bottom) // 2
            middle = (left, top, left + right, top + bottom)
            if (right, bottom) != (width, height):
                image = image.resize((width, height), Image.Resampling.LANCZOS, middle)
            elif image.size != (width, height):
                image = image.crop((int(left), int(top), int(left) + width, int(top) + height))
        image = _as(image, "L" if channels == 1 else "RGB")  # after resizing, as then it is small
        # numpy is (h, w) or (h, w, c); the copy is writable and (c, h, w)
        values = np.array(image, dtype=np.uint8).reshape(image.height, image.width, channels)
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))

    def identity(self) -> str:
        """A hash of the pixels as stored, independent of file format and requested size.

        A JPEG of more than a megapixel, which is not decompressed in full, is hashed by the bytes of its file.
        """
        digest = hashlib.sha256(f"{self.width} {self.height} ".encode())
        if self.reduced_from is not None:
            digest.update(self.reduced_from)
        else:
            for _, band in _bands(self.image):
                digest.update(_as(band, "RGB").tobytes())
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
    with opened(data, background=background, size=size) as picture:
        return picture.pixels(size=size, channels=channels)


def open_picture(
    data: bytes | Path, *, background: tuple[int, int, int] = (255, 255, 255), size: int | None = None
) -> Picture:
    """`opened`, without holding room in memory while the picture is in use. Raises `Broken`."""
    with opened(data, background=background, size=size) as picture:
        return picture


@contextmanager
def opened(
    data: bytes | Path, *, background: tuple[int, int, int] = (255, 255, 255), size: int | None = None
) -> Iterator[Picture]:
    """Decode and check one file, when there is room in memory; `size` is the side that it will be resized to, if known.

    With `size`, a JPEG of more than a megapixel is decompressed at a fraction of its size, at least four times `size`.
    Switches off Pillow's process-wide `LOAD_TRUNCATED_IMAGES`, which would accept truncated files. Raises `Broken`.
    """
    with ExitStack() as room:
        if isinstance(data, Path) and _bytes_of(data) > ALONE_ABOVE:
            room.enter_context(ROOM.taken(ROOM.limit))
        yield _decoded(data, background, size, room)


def _decoded(data: bytes | Path, background: tuple[int, int, int], size: int | None, room: ExitStack) -> Picture:
    content = file_bytes(data)
    with in_plain_words(content, None if isinstance(data, bytes) else str(data)):
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        stored = _header(io.BytesIO(content))
        width, height = stored.size
        reduced = False
        if size is not None and stored.format in ("JPEG", "MPO") and width * height > REDUCE_ABOVE:
            reduced = stored.draft(None, (4 * size, 4 * size)) is not None  # pyright: ignore[reportAttributeAccessIssue]
        mode = _mode(stored)
        if "progressive" in stored.info and content.count(b"\xff\xda") * width * height > _SCANNED:
            raise Broken("is made to take long: its pixels are stored in too many scans")
        room.enter_context(ROOM.taken(_need(stored, width * height)))
        stored.load()
        if stored.format == "PNG":
            if b"IEND" not in content:  # the only end marker that Pillow does not check
                raise Broken("is cut short (its end is missing)")
            if is_truncated_png(stored, content):
                raise Broken("is cut short (it says that it is larger than its data)")
        animated = _animated(stored)
        with suppress(Exception):  # a damaged EXIF block is ignored
            orientation = stored.getexif().get(_ORIENTATION, 1)
            if orientation in _UPRIGHT:
                upright = stored.transpose(_UPRIGHT[orientation])
                width, height = (height, width) if orientation > 4 else (width, height)
                stored.close()
                stored = upright
        image = _opaque(stored, background)
        return Picture(
            image=image,
            width=width,
            height=height,
            mode=mode,
            encoded=len(content),
            animated=animated,
            reduced_from=content if reduced else None,
        )


def stored_size(data: bytes | Path) -> tuple[int, int]:
    """Stored width and height in pixels, from the header alone: the file may be truncated. Raises `Broken`."""
    if isinstance(data, bytes):
        with in_plain_words(data, None):
            return _header(io.BytesIO(file_bytes(data))).size
    try:
        _regular(data)
        with opened_content(data) as file, in_plain_words(file.read(64), str(data)):
            file.seek(0)
            return _header(file).size
    except OSError as error:
        raise Broken(f"cannot be read: {error.strerror or error}", str(data)) from error


def file_bytes(data: bytes | Path) -> bytes:
    """The content of a file, or `data` if it is the content. Raises `Broken` if it is unreadable or empty."""
    name = None
    if isinstance(data, Path):
        name = str(data)
        try:
            _regular(data)
            if (count := size_of(data)) > LARGEST_FILE:
                raise Broken(f"is too large to be read safely: {count:,} bytes, more than {LARGEST_FILE:,}", name)
            data = content_of(data)
        except OSError as error:
            raise Broken(f"cannot be read: {error.strerror or error}", name) from error
    if not data:
        raise Broken("is empty (0 bytes)", name)
    return data


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    Image.init()
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # its complaints name no file; the error raised does
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def looks_like_image(head: bytes) -> bool:
    """Whether the first 16 bytes of a file are those of an image."""
    accepts = [Image.OPEN[name][1] for name in _formats()]
    return any(accept is not None and accept(head.ljust(16, b"\0")) is True for accept in accepts)


def _header(file: io.BufferedIOBase) -> ImageFile.ImageFile:
    """An image whose header is read, and whose size is allowed."""
    refuse_large_icon(file)
    image = Image.open(file, formats=_formats())  # pyright: ignore[reportArgumentType]
    width, height = image.size
    limit = LARGEST * _BYTES // _bytes_a_pixel(image)
    if width > _WIDEST:
        raise Broken(f"is too wide to be opened safely: {width} x {height} pixels, more than {_WIDEST:,} in a row")
    if width * height > limit:
        raise Broken(f"is too large to be opened safely: {width} x {height} pixels, more than {limit:,}")
    if image.format == "TIFF":
        hush_libtiff()
        if is_truncated_tiff(image.tag_v2, file):  # pyright: ignore[reportAttributeAccessIssue]
            raise Broken("is cut short (it says that it is larger than its data)")
    return image


def _need(image: ImageFile.ImageFile, pixels: int) -> int:
    """Bytes that decoding may need; a progressive JPEG keeps all coefficients, even if it is reduced."""
    progressive = 6 * pixels if "progressive" in image.info else 0
    return _bytes_a_pixel(image) * math.prod(image.size) + progressive


def _bytes_a_pixel(image: ImageFile.ImageFile) -> int:
    return _MORE_BYTES.get(image.format or "", _BYTES)


def _regular(path: Path) -> None:
    """Raise `Broken` for a pipe, a device or a directory, before it is opened."""
    if path.exists() and not regular(path):
        raise Broken("is not a regular file", str(path))


def _bytes_of(path: Path) -> int:
    try:
        return size_of(path)
    except OSError:
        return 0


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The image in pieces of whole rows, each with its distance from the top."""
    rows = max(1, _BAND // max(1, image.width))
    if rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _converted(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """`convert` applied to bands of an image, so that large ones need little memory; it treats every pixel alike."""
    canvas = None
    for top, band in _bands(image):
        done = convert(band)
        if band is image:
            return done
        canvas = canvas or Image.new(done.mode, image.size)
        canvas.paste(done, (0, top))
    assert canvas is not None, "there is a band"
    return canvas


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
    span = _span(image) if image.mode.startswith(("I", "F")) else None
    return _converted(image, lambda band: _opaque_band(band, background, span))


def _opaque_band(image: Image.Image, background: tuple[int, int, int], span: tuple[float, float] | None) -> Image.Image:
    profile = image.info.get("icc_profile")
    if span is not None:
        image, profile = _eight_bits(image, *span), None
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


def _span(image: Image.Image) -> tuple[float, float]:
    """The values of 16-bit and 32-bit integers and floats that are shown as black and as white."""
    low, high = math.inf, -math.inf
    for _, band in _bands(image):
        values = np.asarray(band)
        if not np.isfinite(values).all():
            raise Broken("holds values that are not numbers (NaN or infinity)")
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    for top in (1.0, 255.0) if image.mode == "F" else (65535.0,):
        if low >= 0 and high <= top:
            return 0.0, top
    return low, high


def _eight_bits(image: Image.Image, low: float, high: float) -> Image.Image:
    """Integers and floats as `L`, or as `LA` if one value is declared transparent."""
    values = np.asarray(image).astype(np.float64)
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
