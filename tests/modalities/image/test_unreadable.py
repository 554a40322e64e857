"""Whatever is wrong with a file, it is `Broken` with a reason in plain words: never half a picture, never another error."""

import os
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, ImageFile

from langevin.modalities.image.decode import decode, file_bytes, stored_size
from langevin.modalities.image.unreadable import Broken
from tests.modalities.image.pictures import (
    encoded,
    noise,
)

FORMS = [
    *[("PNG", mode, {}) for mode in ("RGB", "P", "1", "RGBA")],
    ("JPEG", "RGB", {}),
    ("JPEG", "RGB", {"progressive": True}),
    ("GIF", "P", {}),
    ("BMP", "RGB", {}),
    ("TIFF", "RGB", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("WEBP", "RGB", {}),
    ("PPM", "L", {}),
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow remarks on the headers it reads
@pytest.mark.parametrize(("kind", "mode", "options"), FORMS, ids=lambda value: str(value))
def test_every_cut_is_noticed(kind, mode, options):
    data = encoded(noise().convert(mode), kind, **options)
    decode(data, size=None, channels=3)
    for share in (0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 0.985):
        with pytest.raises(Broken, match=r"cut short|damaged|not an image|empty"):
            decode(data[: int(share * len(data))], size=None, channels=3)


def test_truncated_images_are_refused_even_where_pillow_was_told_to_load_them(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded(noise(), "JPEG")
    with pytest.raises(Broken, match="cut short"):
        decode(data[: len(data) // 2], size=None, channels=3)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_byte_never_raises_anything_but_broken():
    generator = np.random.default_rng(3)
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"):
        data = encoded(noise(24, 16), kind)
        for place in generator.integers(0, len(data), 40):
            damaged = bytearray(data)
            damaged[place] ^= int(generator.integers(1, 256))
            with suppress(Broken):
                assert decode(bytes(damaged), size=8, channels=3).shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"PK\x03\x04....", "ZIP archive or office document"),
        (b"  <html><body>404</body></html>", "web page"),
        (b"<!doctype html>", "web page"),
        (b"<svg xmlns=''/>", "SVG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\0\0\0\x18ftypheic....", "HEIC"),
        (b"hello, world", "begins with 'hello, world'"),
        (b"\xfe\xfe\0\0\0\0\0\0\0\0", "begins with 'fe fe 00"),
        (b"\x89PNG\r\n\x1a\n", "begins like a PNG"),
        (b"\xff\xd8\xff\xe0", "damaged or cut short"),
    ],
)
def test_renamed_files_are_told_for_what_they_are(tmp_path, content, reason):
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(Broken, match=reason) as caught:
        decode(path, size=8, channels=3)
    assert caught.value.name == str(path)
    assert str(path) in str(caught.value)
    with pytest.raises(Broken, match=reason):
        stored_size(path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_refused_by_their_header():
    for side in (10_000, 20_000):
        bomb = encoded(Image.new("1", (side, side)))
        assert len(bomb) < 100_000
        with pytest.raises(Broken, match="too large"):
            decode(bomb, size=8, channels=1)


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(Broken, match="No such file"):
        decode(tmp_path / "gone.png", size=8, channels=3)
    with pytest.raises(Broken, match="not a regular file"):
        file_bytes(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
        for function in (file_bytes, stored_size):
            with pytest.raises(Broken, match="not a regular file"):
                function(tmp_path / "pipe.png")
