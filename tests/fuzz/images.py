"""Images of every format that Pillow writes here, and what reading a mutated one may do."""

import io
import os
import struct
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms
from PIL import __version__ as pillow

from langevin.modalities.image.decode import opened, stored_size
from langevin.modalities.image.unreadable import Broken
from tests.fuzz.mutate import many

WEBP = ("webp",) if int(pillow.split(".")[0]) >= 13 else ()  # Pillow 12 ends the process where its libtiff lacks it


def _saved(image: Image.Image, kind: str, **options) -> bytes | None:
    """The file, or None where this Pillow does not write the format."""
    file = io.BytesIO()
    if "append_images" in options:  # copies, as saving leaves its settings on an image
        options["append_images"] = [frame.copy() for frame in options["append_images"]]
    try:
        image.copy().save(file, kind, **options)
    except (KeyError, OSError, ValueError):
        return None
    return file.getvalue()


def forms() -> dict[str, bytes]:
    """name -> a small image file."""
    draw = np.random.default_rng(0)
    colour = Image.fromarray(draw.integers(0, 256, (16, 24, 3), dtype=np.uint8))
    smooth = Image.fromarray(np.linspace(0, 255, 16 * 24 * 3).reshape(16, 24, 3).astype(np.uint8))
    clear, palette, grey = colour.convert("RGBA"), colour.quantize(16), colour.convert("L")
    clear.putalpha(grey)
    deep = Image.fromarray(draw.integers(0, 65536, (16, 24), dtype=np.uint16))
    real = Image.fromarray(draw.random((16, 24), dtype=np.float32))
    whole = Image.fromarray(draw.integers(0, 2**20, (16, 24), dtype=np.int32))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(
        "sRGB".encode("utf-16-be"), "sGRB".encode("utf-16-be")
    )  # fmt: skip
    turned = Image.Exif()
    turned[0x0112] = 6
    frames = {"save_all": True, "append_images": [smooth, colour]}
    made = {
        **{
            f"png {image.mode}": _saved(image, "PNG")
            for image in (colour, clear, palette, grey, deep, colour.convert("1"))
        },
        "png clear index": _saved(palette, "PNG", transparency=3),
        "png grey alpha": _saved(clear.convert("LA"), "PNG"),
        "png icc": _saved(colour, "PNG", icc_profile=profile),
        "png exif": _saved(colour, "PNG", exif=turned),
        "apng": _saved(colour, "PNG", **frames),
        "jpeg": _saved(smooth, "JPEG"),
        "jpeg grey": _saved(grey, "JPEG"),
        "jpeg progressive": _saved(smooth, "JPEG", progressive=True),
        "jpeg exif": _saved(smooth, "JPEG", exif=turned),
        "jpeg icc": _saved(smooth, "JPEG", icc_profile=profile),
        "jpeg cmyk": _saved(smooth.convert("CMYK"), "JPEG"),
        "mpo": _saved(smooth, "MPO", **frames),
        "gif": _saved(palette, "GIF"),
        "gif animated": _saved(smooth, "GIF", **frames),
        "webp": _saved(smooth, "WEBP"),
        "webp lossless": _saved(clear, "WEBP", lossless=True),
        "webp animated": _saved(smooth, "WEBP", **frames),
        "bmp": _saved(colour, "BMP"),
        "bmp palette": _saved(palette, "BMP"),
        "dib": _saved(colour, "DIB"),
        "ppm": _saved(colour, "PPM"),
        "pgm": _saved(grey, "PPM"),
        "pgm deep": _saved(deep, "PPM"),
        "pbm": _saved(colour.convert("1"), "PPM"),
        "pfm": _saved(real, "PPM"),
        "avif": _saved(smooth, "AVIF", speed=10),
        "avif alpha": _saved(clear, "AVIF", speed=10),
        "avif animated": _saved(smooth, "AVIF", speed=10, **frames),
        "jp2": _saved(smooth, "JPEG2000"),
        "j2k": _saved(clear, "JPEG2000", no_jp2=True),
        "jp2 deep": _saved(deep, "JPEG2000"),
        "ico": _saved(clear, "ICO", sizes=[(16, 16)]),
        "ico bmp": _saved(clear, "ICO", sizes=[(16, 16)], bitmap_format="bmp"),
        **{f"tiff {image.mode}": _saved(image, "TIFF") for image in (colour, clear, palette, grey, deep, real, whole)},
        **{
            f"tiff {name}": _saved(colour, "TIFF", compression=name)
            for name in ("tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma", *WEBP)
        },
        **{
            f"tiff {name}": _saved(colour.convert("1"), "TIFF", compression=name)
            for name in ("group3", "group4", "tiff_ccitt")
        },
        "tiff float lzw": _saved(real, "TIFF", compression="tiff_lzw"),
        "tiff cmyk": _saved(smooth.convert("CMYK"), "TIFF"),
        "tiff pages": _saved(colour, "TIFF", **frames),
        "tiff icc": _saved(colour, "TIFF", icc_profile=profile),
        "tiff exif": _saved(colour, "TIFF", exif=turned),
    }
    made |= {"tiff tiled": _tiled(), "png interlaced": _interlaced()}
    return {name: data for name, data in made.items() if data}


def _tiled() -> bytes:
    """A grey TIFF of 24 x 16 pixels in two tiles of 16 x 16, packed; Pillow reads tiles and does not write them."""
    tiles = [zlib.compress(bytes(range(256)))] * 2
    start = 8 + 2 + 12 * 11 + 4
    offsets, lengths = (start + 16, start + 16 + len(tiles[0])), [len(tile) for tile in tiles]
    tags = [(256, 24), (257, 16), (258, 8), (259, 8), (262, 1), (277, 1), (322, 16), (323, 16)]
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags]
    entries += [struct.pack("<HHII", 324, 4, 2, start), struct.pack("<HHII", 325, 4, 2, start + 8)]
    entries += [struct.pack("<HHII", 339, 4, 1, 1)]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4)
    return head + struct.pack("<4I", *offsets, *lengths) + b"".join(tiles)


def _interlaced() -> bytes:
    """A grey PNG of 4 x 4 pixels in the passes of Adam7, which Pillow reads and does not write."""
    passes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2)]  # columns and rows of passes 1, 4, 5, 6, 7
    packed = zlib.compress(b"".join((b"\0" + b"\x96" * columns) * rows for columns, rows in passes))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 1)), (b"IDAT", packed), (b"IEND", b"")]
    return repaired(
        b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(data)) + name + data + bytes(4) for name, data in parts)
    )


def repaired(data: bytes) -> bytes:
    """A PNG with the checksums that its chunks should have, so that what was changed is read at all."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        end = at + 8 + int.from_bytes(out[at : at + 4], "big")
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(out)


def read(data: bytes, path: Path) -> str:
    """Read one file as training and `inspect` do, and say what came of it. The law: pixels, or `Broken` with the path."""
    path.write_bytes(data)
    try:
        stored_size(path)
    except Broken as error:
        assert error.name == str(path)
    try:
        with opened(path, size=8) as picture:
            pixels = picture.pixels(size=8, channels=3)
            assert pixels.shape == (3, 8, 8)
            assert len(picture.identity()) == 64
    except Broken as error:
        assert error.name == str(path), error
        assert error.reason
        return "broken"
    return "read"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        turn = iter(range(sys.maxsize))
        target = Path(folder, "a.img")
        many(
            int(sys.argv[1]), int(sys.argv[2]), forms(),
            lambda data: read(repaired(data) if next(turn) % 2 else data, target),
        )  # fmt: skip
