"""Errors of image files: what a file is instead of an image, or what is wrong with it."""

from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

LARGEST = 89_478_485  # pixels, a quarter of a gigabyte as RGB; the limit at which Pillow warns
_BEGINNINGS = {  # first bytes of image files
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"BM": "BMP",
    b"\0\0\1\0": "ICO",
}
_OTHERS = {  # first bytes of what is often found under the name of an image
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive or office document",
    b"<svg": "an SVG drawing (convert it to PNG)",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
    b"version https://git-lfs": "a Git LFS pointer (run `git lfs pull` to get the image)",
}


class Broken(ValueError):
    """An image file that cannot be read: `reason` continues "The file ...", `name` is the file, if known."""

    def __init__(self, reason: str, name: str | None = None) -> None:
        super().__init__(reason if name is None else f"{name} {reason}")
        self.reason = reason
        self.name = name


@contextmanager
def in_plain_words(content: bytes, name: str | None) -> Iterator[None]:
    """Turn anything that Pillow raises on a damaged or hostile file into `Broken`; only Pillow runs inside."""
    try:
        yield
    except Broken as error:
        raise Broken(error.reason, error.name or name) from error
    except Image.UnidentifiedImageError as error:
        raise Broken(_what_it_is(content), name) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Broken(f"is too large to be opened safely: more than {LARGEST:,} pixels", name) from error
    except MemoryError as error:
        raise Broken("does not fit the memory", name) from error
    except Exception as error:
        kind = "is cut short" if "truncated" in str(error).lower() else "is damaged or cut short"
        raise Broken(f"{kind} ({error or type(error).__name__})", name) from error


def _what_it_is(content: bytes) -> str:
    """What a file is that Pillow does not recognise, from its first bytes."""
    if not content:
        return "is empty (0 bytes)"
    head = content[:64].lstrip()
    for start, name in _BEGINNINGS.items():
        if head.startswith(start):
            return f"begins like a {name} but is damaged or cut short"
    for start, name in _OTHERS.items():
        if head.lower().startswith(start.lower()):
            return f"is not an image: it is {name}"
    if head[4:8] == b"ftyp":
        return (
            "is damaged or cut short" if head[8:11] == b"avi" else "is a HEIC photograph or a film: convert it to JPEG"
        )
    shown = head[:12].decode("ascii", "backslashreplace") if head.isascii() else head[:8].hex(" ")
    return f"is not an image: its content begins with {shown!r}"
