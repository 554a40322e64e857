"""Whatever is wrong with a file, it is `Broken` with a reason in plain words: never half a picture, never another error."""

import os
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from langevin.modalities.image.decode import decode, file_bytes, stored_size
from langevin.modalities.image.memory import Room
from langevin.modalities.image.unreadable import Broken
from tests.fuzz import images as fuzz
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
        (tmp_path / "zero.png").symlink_to("/dev/zero")
        for name in ("pipe.png", "zero.png"):
            for function in (file_bytes, stored_size):
                with pytest.raises(Broken, match="not a regular file"):
                    function(tmp_path / name)


# ------------------------------------------------------------------------------------------------- larger than its data


def retagged(data: bytes, **tags: int) -> bytes:
    """A little-endian TIFF with other values of tags such as `t257`, its height."""
    out = bytearray(data)
    start = struct.unpack_from("<I", out, 4)[0]
    for entry in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", out, start)[0], 12):
        tag = struct.unpack_from("<H", out, entry)[0]
        if f"t{tag}" in tags:
            struct.pack_into("<HII", out, entry + 2, 4, 1, tags[f"t{tag}"])
    return bytes(out)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
@pytest.mark.parametrize("tags", [{"t257": 64}, {"t257": 64, "t278": 64}, {"t257": 2_000_000}])
def test_a_tiff_that_says_it_is_larger_than_its_data_is_never_half_a_picture(compression, tags, capfd):
    data = encoded(Image.new("L", (16, 16), 200), "TIFF", compression=compression)
    assert decode(data, size=None, channels=1).shape == (1, 16, 16)
    with pytest.raises(Broken, match="cut short"):
        decode(retagged(data, **tags), size=None, channels=1)
    if list(Path(Image.__file__).parents[1].glob("pillow.libs/libtiff*")):
        assert capfd.readouterr().err == ""  # libtiff would name no file


@pytest.mark.parametrize("name", ["png L", "png RGBA", "png P", "png 1", "png I;16", "png interlaced"])
def test_a_png_that_says_it_is_larger_than_its_data_is_never_half_a_picture(name):
    """The height of the header is raised, with a true checksum; the end of the data is where the data says."""
    data = fuzz.forms()[name]
    width, height = stored_size(data)
    for more in (1, 100):
        with pytest.raises(Broken, match="cut short"):
            decode(fuzz.repaired(data[:20] + struct.pack(">I", height + more) + data[24:]), size=None, channels=3)
    assert decode(data, size=None, channels=3).shape == (3, height, width)


def test_black_and_clear_pictures_are_whole_ones():
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        for side in (1, 5, 600):
            assert not decode(encoded(Image.new(mode, (side, side))), size=None, channels=3, background=(0, 0, 0)).any()


def test_the_tiles_of_a_tiff_are_not_larger_than_the_picture():
    data = fuzz.forms()["tiff tiled"]
    assert decode(data, size=None, channels=1)[0, 3, 7] == 55
    for tags in ({"t322": 2**15, "t323": 2**15}, {"t322": 2**31, "t323": 16}):
        with pytest.raises(Broken, match="tiles are larger"):
            decode(retagged(data, **tags), size=None, channels=1)


def test_very_wide_pictures_are_refused():
    """Of one row of a hundred megabytes Pillow copies the beginning again for each 64 kB that it reads."""
    with pytest.raises(Broken, match="too wide to be opened safely: 30000000 x 1 pixels"):
        decode(b"P6 30000000 1 255\n" + bytes(90_000_000), size=8, channels=3)
    assert decode(encoded(Image.new("L", (500_000, 1), 9)), size=8, channels=1).unique().tolist() == [9]


def test_a_jpeg_of_very_many_scans_is_refused():
    """Each scan of some bytes goes over all pixels: a hundred kilobytes would take minutes."""
    data = encoded(Image.new("L", (4000, 4000), 128), "JPEG", progressive=True)
    assert decode(data, size=8, channels=1).unique().tolist() == [128]
    at = data.rindex(b"\xff\xda")
    with pytest.raises(Broken, match="too many scans"):
        decode(data[:at] + data[at:-2] * 200 + data[-2:], size=8, channels=1)


def test_the_picture_in_an_icon_may_not_be_larger_than_any_picture():
    icon = encoded(noise(32, 32).convert("RGBA"), "ICO", sizes=[(32, 32)])
    at = icon.index(b"IHDR") + 4
    huge = icon[:at] + struct.pack(">II", 12_000, 12_000) + icon[at + 8 :]
    for function in (stored_size, lambda data: decode(data, size=8, channels=3)):
        with pytest.raises(Broken, match="12000 x 12000 pixels"):
            function(huge)
    bitmap = encoded(noise(32, 32).convert("RGBA"), "ICO", sizes=[(32, 32)], bitmap_format="bmp")
    at = bitmap.index(struct.pack("<ii", 32, 64))
    with pytest.raises(Broken, match="9000 x 18000 pixels"):
        stored_size(bitmap[:at] + struct.pack("<ii", 9000, 18000) + bitmap[at + 8 :])


def test_files_of_more_bytes_than_memory_may_hold_are_not_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.write(encoded(noise()))
        file.truncate(2**40)
    with pytest.raises(Broken, match="too large to be read safely"):
        decode(tmp_path / "a.png", size=8, channels=3)


# --------------------------------------------------------------------------------------------------------------- memory


def zeros(path: Path, width: int, height: int, depth: int) -> None:
    """A grey PNG of zeros."""
    pack = zlib.compressobj(9)
    row = bytes(1 + width * depth // 8)
    pixels = b"".join(pack.compress(row * 100) for _ in range(height // 100)) + pack.flush()
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b"")]
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, data in parts:
            file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_folder_of_bombs_takes_less_than_a_gigabyte_and_a_half(tmp_path):
    """Files of some kilobytes, each of 89 million pixels; all at once they would take many gigabytes."""
    zeros(tmp_path / "1.png", 9400, 9500, depth=1)
    zeros(tmp_path / "16.png", 9400, 9500, depth=16)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 400_000
    script = f"""
import os
os.cpu_count = lambda: 8
from pathlib import Path
from langevin.modalities.image.inspect import inspect
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
inspect
before = peak()
report = inspect(Path({str(tmp_path)!r}), size=8)
print(report.readable, peak() - before)
"""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    readable, grown = run.stdout.split()
    assert readable == "2"
    assert float(grown) < 1500


def test_room_is_shared_and_the_largest_has_it_alone():
    room, held, most = Room(100), [], []
    lock, amounts = threading.Lock(), [30, 30, 60, 100, 1000, 10] * 10

    def work(amount: int) -> None:
        with room.taken(amount), room.taken(amount):  # the inner one asks for no more
            with lock:
                held.append(min(amount, 100))
                most.append(sum(held))
            with lock:
                held.remove(min(amount, 100))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, amounts))
    assert len(most) == len(amounts)
    assert max(most) <= 100
    with pytest.raises(KeyError), room.taken(100):
        raise KeyError
    with room.taken(100):  # what failed has given its room back
        pass
