"""What is seen is what the file says: true pixels for every stored form, a reason for all that is not a picture."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from langevin.modalities.image.decode import decode, open_picture, stored_size
from langevin.modalities.image.unreadable import Broken
from tests.fuzz import images as fuzz
from tests.modalities.image.pictures import encoded, noise

WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def whole(data: bytes, channels: int = 3, background: tuple[int, int, int] = WHITE) -> torch.Tensor:
    return decode(data, size=None, channels=channels, background=background)


def colour(data: bytes, background: tuple[int, int, int] = WHITE) -> list[int]:
    return whole(data, background=background)[:, 0, 0].tolist()


def png(width: int, depth: int, kind: int, row: bytes, **chunks: bytes) -> bytes:
    """A PNG of one row, written by hand: forms that Pillow reads and does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, kind, 0, 0, 0))]
    parts += [(name.encode(), data) for name, data in chunks.items()]
    parts += [(b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


# ------------------------------------------------------------------------------------------------------ transparency


def test_half_transparent_red_over_white_and_black():
    data = encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 128)))
    red, green, blue = colour(data)
    assert red == 255
    assert {green, blue} <= {127, 128}
    assert colour(data, BLACK)[0] in (127, 128)
    assert colour(data, BLACK)[1:] == [0, 0]


def test_composite_law_over_many_colours():
    """a c + (1 - a) g, to one step of rounding, for RGBA and LA."""
    generator = np.random.default_rng(1)
    for _ in range(20):
        *c, a = generator.integers(0, 256, 4).tolist()
        g = tuple(generator.integers(0, 256, 3).tolist())
        for mode, stored in (("RGBA", (*c, a)), ("LA", (c[0], a))):
            seen = colour(encoded(Image.new(mode, (2, 2), stored)), g)
            own = c if mode == "RGBA" else [c[0]] * 3
            for value, front, back in zip(seen, own, g):
                assert abs(value - (a * front + (255 - a) * back) / 255) <= 1


def test_hidden_colour_never_bleeds_through_resizing():
    """Under full transparency lies pure green; seen over white and reduced, there is no green cast."""
    image = Image.new("RGBA", (64, 64), (0, 255, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 32, 64))
    seen = decode(encoded(image), size=8, channels=3)
    assert (seen[1].int() - seen[2].int()).abs().max() <= 1
    assert seen[:, 4, 7].tolist() == [255, 255, 255]


def test_palette_with_a_transparent_index():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    plain, clear = encoded(image), encoded(image, transparency=0)
    assert whole(plain)[:, 0].T.tolist() == [[10, 20, 30], [200, 100, 50]]
    assert whole(clear)[:, 0].T.tolist() == [[255, 255, 255], [200, 100, 50]]
    half = encoded(image, transparency=bytes([255, 128]))
    assert whole(half, background=BLACK)[:, 0, 1].tolist() == [
        pytest.approx(v * 128 / 255, abs=1) for v in (200, 100, 50)
    ]
    gif = encoded(image, "GIF", transparency=0)
    assert whole(gif)[:, 0].T.tolist() == [[255, 255, 255], [200, 100, 50]]
    assert open_picture(clear).mode == "palette+transparency"


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_one_colour_declared_transparent(mode):
    image = Image.new(mode, (2, 1), (9, 8, 7) if mode == "RGB" else 9)
    image.putpixel((1, 0), (1, 2, 3) if mode == "RGB" else 1)
    seen = whole(encoded(image, transparency=(9, 8, 7) if mode == "RGB" else 9))
    assert seen[:, 0, 0].tolist() == [255, 255, 255]
    assert seen[:, 0, 1].tolist() == ([1, 2, 3] if mode == "RGB" else [1, 1, 1])


def test_background_is_seen_in_grey_as_well():
    seen = decode(encoded(Image.new("LA", (2, 2), (0, 0))), size=None, channels=1, background=(10, 10, 10))
    assert seen.shape == (1, 2, 2)
    assert (seen == 10).all()


# ------------------------------------------------------------------------------------------------------------- depth


def test_sixteen_bit_grey_uses_the_whole_range():
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        data = encoded(Image.fromarray(values), kind)
        assert whole(data, 1)[0, 0].tolist() == [0, 1, 128, 255]
        assert open_picture(data).mode == "16-bit grey"
    big_endian = b"P5 2 1 65535\n" + struct.pack(">2H", 32768, 65535)
    assert whole(big_endian, 1)[0, 0].tolist() == [128, 255]


def test_sixteen_bit_property_round_v_over_257():
    values = np.arange(0, 65536, 97, dtype=np.uint16)[None]
    assert np.array_equal(whole(encoded(Image.fromarray(values)), 1)[0].numpy(), np.rint(values / 257.0))


def test_sixteen_bit_transparency_and_colour():
    grey = struct.pack(">2H", 32768, 1000)
    assert whole(png(2, 16, 0, grey, tRNS=struct.pack(">H", 1000)), 1)[0, 0].tolist() == [128, 255]
    assert colour(png(1, 16, 4, struct.pack(">2H", 0, 32768)))[0] in (127, 128)
    rgb = png(1, 16, 2, struct.pack(">3H", 65535, 0, 32768))
    assert colour(rgb) == [255, 0, 128]
    assert open_picture(rgb).mode == "16-bit RGB"


def test_integers_and_floats_beyond_sixteen_bits():
    def seen(values: list[float], dtype: type) -> list[int]:
        return whole(encoded(Image.fromarray(np.array([values], dtype=dtype)), "TIFF"), 1)[0, 0].tolist()

    assert seen([0, 32768, 65535], np.int32) == [0, 128, 255]
    assert seen([0, 70000, 140000], np.int32) == [0, 128, 255]
    assert seen([0, 0.5, 1], np.float32) == [0, 128, 255]
    assert seen([0, 100, 200], np.float32) == [0, 100, 200]
    assert seen([-1, 0, 1], np.float32) == [0, 128, 255]
    with pytest.raises(Broken, match="not numbers"):
        seen([0, float("nan"), 1], np.float32)


def test_one_bit_grey_and_palette_of_grey():
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert whole(encoded(image), 1)[0, 0].tolist() == [0, 255]
    assert whole(encoded(image.convert("L")), 3)[:, 0, 1].tolist() == [255, 255, 255]
    assert open_picture(encoded(image)).mode == "1-bit"


def test_grey_made_colour_made_grey_is_unchanged():
    values = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    data = encoded(Image.fromarray(values[0].numpy()).convert("RGB"))
    assert torch.equal(whole(data, 1), values)


# ----------------------------------------------------------------------------------------------- colour and position


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_inks(kind):
    """Cyan ink on paper is cyan on screen, also from a JPEG, where Adobe stores the inks inverted."""
    for ink, expected in (
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 255, 0), (255, 0, 0)),
        ((0, 0, 0, 255), (0, 0, 0)),
    ):
        data = encoded(Image.new("CMYK", (16, 16), ink), kind)
        assert colour(data) == pytest.approx(expected, abs=6)
        assert open_picture(data).mode == "CMYK"


def exchanged_profile() -> bytes:
    """An sRGB profile whose red and green primaries are exchanged, under another name."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    entries = {
        bytes(data[132 + 12 * i : 136 + 12 * i]): 136 + 12 * i for i in range(struct.unpack(">I", data[128:132])[0])
    }
    red, green = entries[b"rXYZ"], entries[b"gXYZ"]
    data[red : red + 8], data[green : green + 8] = data[green : green + 8], data[red : red + 8]
    return bytes(data).replace("sRGB".encode("utf-16-be"), "sGRB".encode("utf-16-be"))


def test_icc_profile_is_converted_and_a_damaged_one_ignored():
    stored = (200, 100, 50)
    image = Image.new("RGB", (4, 4), stored)
    assert colour(encoded(image, icc_profile=exchanged_profile())) == pytest.approx((100, 200, 50), abs=2)
    clear = Image.new("RGBA", (4, 4), (*stored, 255))
    assert colour(encoded(clear, icc_profile=exchanged_profile())) == pytest.approx((100, 200, 50), abs=2)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"junk", exchanged_profile()[:300]):
        assert colour(encoded(image, icc_profile=profile)) == list(stored)
    grey = Image.new("L", (4, 4), 77)  # a profile for another kind of colour
    assert colour(encoded(grey, icc_profile=exchanged_profile())) == [77, 77, 77]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_exif_orientation_turns_the_picture(kind):
    """Orientation 6: the stored top left corner is shown at the top right."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (48, 32))
    image.paste((255, 255, 255), (0, 0, 16, 16))
    data = encoded(image, kind, exif=exif.tobytes())
    seen = whole(data, 1)[0]
    assert seen.shape == (48, 32)
    assert seen[4, 27] > 200
    assert seen[4, 4] < 50
    assert (open_picture(data).width, open_picture(data).height) == (32, 48)


def test_all_eight_orientations_show_the_same_picture():
    upright = noise(6, 4)
    undo = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90"}
    undo |= {7: "TRANSVERSE", 8: "ROTATE_270"}
    for orientation, method in undo.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(upright.transpose(Image.Transpose[method]), exif=exif.tobytes())
        assert torch.equal(whole(data), whole(encoded(upright))), orientation


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (8, 8), shade) for shade in ("red", "lime", "blue")]
    for kind in ("GIF", "PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert colour(data) == [255, 0, 0], kind
        assert open_picture(data).animated
    assert not open_picture(encoded(frames[0], "GIF")).animated


# ---------------------------------------------------------------------------------------------------------------- size


def test_shape_type_and_the_middle_square():
    image = Image.new("RGB", (90, 30), "red")
    image.paste((0, 0, 255), (30, 0, 60, 30))
    for size in (30, 15, 7, 60):
        seen = decode(encoded(image), size=size, channels=3)
        assert seen.dtype == torch.uint8
        assert seen.shape == (3, size, size)
        assert seen.is_contiguous()
        assert seen[:, size // 2, size // 2].tolist() == [0, 0, 255]
    assert (decode(encoded(image), size=30, channels=3)[2] == 255).all()
    assert decode(encoded(image), size=None, channels=1).shape == (1, 30, 90)


def test_resizing_is_antialiased():
    """A fine chequerboard becomes its mean; taking single pixels would give black or white."""
    board = (np.indices((96, 96)).sum(0) % 2 * 255).astype(np.uint8)
    for size in (32, 20):
        seen = decode(encoded(Image.fromarray(board)), size=size, channels=1).float()
        assert (seen - 127.5).abs().max() < 3


def test_large_jpeg_is_reduced_while_decompressed_and_looks_the_same():
    ramp = np.linspace(0, 255, 1600)[None, :, None] * np.ones((1200, 1, 3))
    data = encoded(Image.fromarray(ramp.astype(np.uint8)), "JPEG", quality=95)
    picture = open_picture(data, size=32)
    assert (picture.width, picture.height) == (1600, 1200)
    assert 128 <= min(picture.image.size) < 1200
    full = open_picture(data).pixels(size=32, channels=3)
    assert (picture.pixels(size=32, channels=3).int() - full.int()).abs().max() <= 2


def test_thin_pictures_need_little_memory():
    assert decode(encoded(Image.new("L", (60_000, 2), 7)), size=64, channels=1).unique().tolist() == [7]


def test_wrong_arguments():
    data = encoded(noise())
    with pytest.raises(ValueError, match="channels is 4"):
        decode(data, size=8, channels=4)
    with pytest.raises(ValueError, match="size is 0"):
        decode(data, size=0, channels=3)


def test_path_and_bytes_agree_and_identity_ignores_the_format(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(noise()))
    assert torch.equal(decode(path, size=16, channels=3), decode(path.read_bytes(), size=16, channels=3))
    assert stored_size(path) == stored_size(path.read_bytes()) == (60, 40)
    identity = open_picture(path).identity()
    assert identity == open_picture(encoded(noise(), "BMP")).identity() == open_picture(path, size=8).identity()
    assert identity != open_picture(encoded(noise(seed=1))).identity()
    grey = Image.new("L", (8, 8), 9)
    assert open_picture(encoded(grey)).identity() == open_picture(encoded(grey.convert("RGB"))).identity()
    assert open_picture(encoded(Image.new("L", (4, 16), 9))).identity() != open_picture(encoded(grey)).identity()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_converting_in_bands_of_rows_changes_nothing(monkeypatch):
    """Every form of the fuzz tests: transparency, profiles, depths, turned pictures."""
    forms = fuzz.forms()
    own = {name: (whole(data), whole(data, 1, BLACK), open_picture(data).identity()) for name, data in forms.items()}
    monkeypatch.setattr("langevin.modalities.image.decode._BAND", 70)  # two rows of 24 pixels
    for name, data in forms.items():
        assert open_picture(data).identity() == own[name][2], name
        assert torch.equal(whole(data), own[name][0]), name
        assert torch.equal(whole(data, 1, BLACK), own[name][1]), name


def test_grey_is_made_colour_after_it_is_resized_with_the_same_result():
    grey = noise(90, 70).convert("L")
    for size in (8, 33, 70):
        direct = decode(encoded(grey.convert("RGB")), size=size, channels=3)
        assert torch.equal(decode(encoded(grey), size=size, channels=3), direct)
