"""Files of clips: what is written is read, times are kept, and what is damaged says so."""

import numpy as np
import pytest
import torch
from PIL import Image

from langevin.modalities.video.clip_files import (
    Broken,
    Clip,
    Look,
    gif,
    mp4,
    paced,
    picture,
    read_clip,
    strip,
    webp,
)
from tests import clips


def numbered(count: int, side: int = 8) -> torch.Tensor:
    """Grey frames whose brightness is ten times their number."""
    return (10 * torch.arange(count, dtype=torch.uint8))[:, None, None, None].expand(-1, 1, side, side).clone()


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_an_animation_is_read_as_it_was_written(tmp_path, suffix):
    made = clips.frames("left", "blue", count=5)
    clip = read_clip(clips.write(tmp_path / f"a{suffix}", made, 50), Look())
    assert clip.frames.shape == (5, 3, 16, 16)
    assert clip.fps == pytest.approx(20)
    wanted = torch.stack([torch.from_numpy(np.array(frame)).permute(2, 0, 1) for frame in made])
    assert torch.equal(clip.frames, wanted)


@pytest.mark.parametrize(
    ("encode", "suffix", "exact"), [(gif, ".gif", True), (webp, ".webp", True), (mp4, ".mp4", False)]
)
def test_what_is_written_is_read(tmp_path, encode, suffix, exact):
    frames = torch.randint(0, 256, (6, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    frames = frames.repeat_interleave(8, -1).repeat_interleave(8, -2)
    (tmp_path / f"a{suffix}").write_bytes(encode([picture(frame) for frame in frames], 12.5))
    clip = read_clip(tmp_path / f"a{suffix}", Look(channels=1))
    assert clip.fps == pytest.approx(12.5)
    error = (clip.frames.int() - frames.int()).abs().double()
    assert float(error.max()) == 0 if exact else float(error.mean()) < 3


def test_a_film_of_odd_sides_gets_a_further_line(tmp_path):
    (tmp_path / "a.mp4").write_bytes(mp4([picture(frame) for frame in numbered(3, 15)], 10))
    assert read_clip(tmp_path / "a.mp4", Look(channels=1)).frames.shape == (3, 1, 16, 16)


def test_frames_that_last_differently_long_are_seen_at_even_times():
    """Frames of 100, 300, 100 and 200 ms are seen at 10 frames a second as 0 1 1 1 2 3 3."""
    clip = paced(list(numbered(4)), [0.1, 0.3, 0.1, 0.2])
    assert clip.uneven
    assert clip.fps == pytest.approx(10)
    assert (clip.frames[:, 0, 0, 0] / 10).tolist() == [0, 1, 1, 1, 2, 3, 3]
    same = paced(list(numbered(4)), [0.1, 0.1, 0.1, 0.5])  # the last frame of a loop often lasts longer
    assert len(same) == 4
    assert not same.uneven


@pytest.mark.parametrize("fps", [5.0, 20.0, 24.0, 3.0])
def test_at_another_rate_a_clip_lasts_as_long_and_shows_what_is_seen_then(fps):
    clip = Clip(frames=numbered(20), fps=10.0).at(fps)
    assert len(clip) / clip.fps == pytest.approx(2.0, abs=0.5 / fps)
    shown = (clip.frames[:, 0, 0, 0] / 10).tolist()
    assert shown == [int(i / fps * 10 + 1e-6) for i in range(len(clip))]


def test_transparency_shows_the_background(tmp_path):
    frames = [Image.new("RGBA", (8, 8), (200, 0, 0, alpha)) for alpha in (255, 0)]
    clips.write(tmp_path / "a.webp", frames)
    clip = read_clip(tmp_path / "a.webp", Look(background=(0, 0, 255)))
    assert clip.frames[0, :, 0, 0].tolist() == [200, 0, 0]
    assert clip.frames[1, :, 0, 0].tolist() == [0, 0, 255]


def test_frames_are_cut_to_the_middle_square_and_resized():
    wide = Image.new("RGB", (24, 8), (0, 0, 0))
    wide.paste((255, 255, 255), (8, 0, 16, 8))
    assert Look(size=4).pixels(wide).unique().tolist() == [255]
    assert Look(size=4, channels=1).pixels(wide).shape == (1, 4, 4)


def test_a_strip_is_cut_into_frames():
    made = clips.frames(count=4)
    joined = Image.new("RGB", (64, 16))
    for i, frame in enumerate(made):
        joined.paste(frame, (16 * i, 0))
    clip = strip(encoded(joined), Look(), 8.0)
    assert torch.equal(clip.frames[2], Look().pixels(made[2]))
    with pytest.raises(Broken, match="64 pixels wide, which 5 frames"):
        strip(encoded(joined), Look(), 8.0, 5)


def encoded(image: Image.Image) -> bytes:
    import io

    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def test_frames_of_a_folder_are_in_the_order_of_their_numbers(tmp_path):
    for i in (0, 2, 10, 1):
        Image.fromarray(np.full((8, 8), 10 * i, dtype=np.uint8)).save(tmp_path / f"frame{i}.png")
    assert (read_clip(tmp_path, Look(channels=1)).frames[:, 0, 0, 0] / 10).tolist() == [0, 1, 2, 10]
    Image.fromarray(np.zeros((9, 8), dtype=np.uint8)).save(tmp_path / "frame11.png")
    with pytest.raises(Broken, match="frames of several sizes"):
        read_clip(tmp_path, Look(channels=1))
    (tmp_path / "frame11.png").write_bytes(b"\x89PNG and no more")
    with pytest.raises(Broken, match=r"has a frame, frame11\.png"):
        read_clip(tmp_path, Look(channels=1))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.gif", b"", "is empty"),
        ("a.gif", b"GIF89a nothing", "damaged"),
        ("a.webp", b"hello", "no picture"),
        ("a.mp4", b"hello", "no film"),
        ("a.mp4", b"", "no film"),
    ],
)
def test_what_is_no_clip_says_so(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Broken, match=words):
        read_clip(tmp_path / name, Look())


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_file_that_is_cut_short_is_broken_or_shorter(tmp_path, share):
    path = clips.write(tmp_path / "a.webp", clips.frames(count=6))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(Broken):
        read_clip(path, Look())


def test_a_picture_of_too_many_pixels_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.setattr("langevin.modalities.video.clip_files.LARGEST", 1000)
    with pytest.raises(Broken, match="too large to be opened safely"):
        read_clip(clips.write(tmp_path / "a.gif", clips.frames(count=6)), Look())
