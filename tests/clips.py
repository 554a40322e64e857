"""Tiny clips for tests: a square that moves over a plain ground, as animations with captions, as frames, as strips."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from langevin.modalities.video.clip_files import Look, read_clip

WAYS = {"right": (0, 1), "left": (0, -1), "down": (1, 0), "up": (-1, 0)}
COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}


def frames(way="right", colour="red", *, count=4, side=16, start=(4, 4), step=2) -> list[Image.Image]:
    """A square of four pixels, that moves two pixels a frame and around the edges."""
    made = []
    for f in range(count):
        picture = np.full((side, side, 3), 240, dtype=np.uint8)
        rows = (np.arange(4) + start[0] + f * step * WAYS[way][0]) % side
        columns = (np.arange(4) + start[1] + f * step * WAYS[way][1]) % side
        picture[np.ix_(rows, columns)] = COLOURS[colour]
        made.append(Image.fromarray(picture))
    return made


def write(path: Path, pictures: list[Image.Image], duration: int | list[int] = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"lossless": True} if path.suffix == ".webp" else {}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration, loop=0, **options)
    return path


def captioned(folder: Path, *, count: int = 24, length: int = 4) -> Path:
    """Animations with metadata: a caption, and the labels way and colour."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(count):
        way, colour = list(WAYS)[i % 4], list(COLOURS)[i // 4 % 2]
        name = f"{i:03d}{('.gif', '.webp', '.png')[i % 3]}"
        write(folder / name, frames(way, colour, count=length, start=(i % 7, i % 5)))
        lines.append({"file_name": name, "text": f"{colour} square moving {way}", "direction": way, "colour": colour})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def framed(folder: Path, *, count: int = 12) -> Path:
    """Folders of frames without captions, of different lengths."""
    for i in range(count):
        way = list(WAYS)[i % 4]
        for f, picture in enumerate(frames(way, count=3 + i % 4)):
            path = folder / f"clip{i}" / f"frame{f}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    return folder


def keeps_its_bound(modality, train) -> None:
    """What is encoded is decoded to the same pixels."""
    windows = train.windows(torch.arange(3), modality.window)
    assert torch.equal(torch.stack(modality.decode(modality.codec.encode(windows))), windows)


def read_back(form: str, out: Path, samples) -> None:
    """Check that a file holds the samples."""
    if form == ".npz":
        held = np.load(out)["clips"]
        assert np.array_equal(held, torch.stack(list(samples.values)).permute(0, 1, 3, 4, 2).numpy())
    elif form == ".png":
        assert Image.open(out).size[0] > 16 * len(samples.values[0])
    elif form == "":
        for path, clip in zip(sorted(out.iterdir()), samples.values, strict=True):
            read = read_clip(path, Look(channels=clip.shape[1]))
            assert torch.equal(read.frames, clip)
            assert read.fps == pytest.approx(samples.modality.fps, rel=0.02)
    else:
        read = read_clip(out, Look())
        assert len(read) == len(samples.values[0])
        assert read.fps == pytest.approx(samples.modality.fps, rel=0.2)


def characters(folder: Path) -> Path:
    """Strips with the attributes of characters, of which there are eight."""
    at = [i // 2 for i in range(32)]
    columns = {"body": [i % 2 for i in at], "bottomwear": [i // 2 % 2 for i in at], "topwear": [i // 4 % 2 for i in at]}
    return strips(folder / "characters.parquet", count=32, **columns, hair=[0] * 32)


def strips(path: Path, *, count: int = 16, **columns: list[int]) -> Path:
    """A Parquet file with pictures of four frames side by side, and further columns."""
    import io

    import pyarrow as pa
    from pyarrow import parquet

    cells = []
    for i in range(count):
        made = frames(list(WAYS)[i % 4], list(COLOURS)[i % 2])
        strip = Image.new("RGB", (16 * len(made), 16))
        for f, picture in enumerate(made):
            strip.paste(picture, (16 * f, 0))
        content = io.BytesIO()
        strip.save(content, "PNG")
        cells.append({"bytes": content.getvalue(), "path": f"{i}.png"})
    features = {"way": {"_type": "ClassLabel", "names": list(WAYS)}}
    table = pa.table({
        "frames": pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()})), "fps": [8.0] * count,
        "text": [f"clip {i % 4}" for i in range(count)], "way": [i % 4 for i in range(count)],
        **columns,
    }).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)
    return path
