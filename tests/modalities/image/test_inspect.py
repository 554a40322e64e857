"""An inspection counts what is there, names what is wrong, and survives being written as JSON."""

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from langevin.modalities.image.data import Folder, open_table
from langevin.modalities.image.inspect import Inspection, inspect
from langevin.modalities.image.shape import choose_shape


def picture(seed: int, side: int = 24) -> Image.Image:
    """Smooth and different, so that near copies are near and others are not."""
    values = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((side, side), Image.Resampling.BICUBIC)


def save(image: Image.Image, path: Path, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def zoo(root: Path) -> Path:
    """One of everything."""
    for number in range(12):
        save(picture(number), root / f"{number:02d}.png")
    shutil.copy(root / "00.png", root / "copy.png")
    save(picture(0), root / "copy.bmp")
    save(picture(1), root / "near.jpg", quality=90, subsampling=0)
    save(picture(2).resize((30, 30)), root / "near.png")
    save(picture(20).quantize(16), root / "palette.gif")
    save(picture(21).convert("L"), root / "grey.png")
    save(Image.new("RGBA", (40, 30), (255, 0, 0, 9)), root / "clear.png")
    save(Image.new("RGB", (24, 24), "white"), root / "blank.png")
    save(Image.fromarray(np.arange(576, dtype=np.uint16).reshape(24, 24) * 113), root / "deep.png")
    save(picture(22), root / "moves.gif", save_all=True, append_images=[picture(23)])
    (root / "cut.png").write_bytes((root / "00.png").read_bytes()[:200])
    (root / "none.jpg").write_bytes(b"")
    (root / "thumbs.db").write_bytes(b"x")
    return root


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Inspection:
    return inspect(zoo(tmp_path_factory.mktemp("zoo")))


def test_counts(found):
    assert found.kind == "folder"
    assert found.files == {".png": 19, ".gif": 2, ".jpg": 2, ".bmp": 1, ".db": 1}
    assert (found.found, found.readable) == (24, 22)
    assert [name for name, _ in found.broken] == ["cut.png", "none.jpg"]
    assert found.sides == (24, 24.0, 30)
    assert found.sizes == (((24, 24), 20), ((40, 30), 1), ((30, 30), 1))
    assert found.animated == 1
    assert found.modes["RGBA"] == 1
    assert found.modes["16-bit grey"] == 1
    assert found.modes["grey"] == 1
    assert found.modes["palette"] >= 1
    assert sum(found.modes.values()) == found.readable
    assert found.parts == {"all": 22}
    assert found.classes == {}
    assert found.captions is None


def test_copies(found):
    assert found.duplicates == (("00.png", "copy.bmp", "copy.png"),)
    assert found.near_duplicates == 2
    assert found.near_examples == (("01.png", "near.jpg"), ("02.png", "near.png"))


def test_choice_is_that_of_load(found):
    root = Path(found.path)
    channels, size, _ = choose_shape(open_table(Folder(path=str(root))))
    assert (found.channels, found.size) == (channels, size) == (3, 16)
    assert inspect(root, size=20).size == 20


def test_json_and_lines(found):
    again = json.loads(json.dumps(found.as_dict()))
    assert again["readable"] == 22
    assert again["sizes"][0] == [[24, 24], 20]
    text = "\n".join(found.lines())
    for part in (
        "22 readable images of 24",
        "24x24 (20)",
        "Animated: 1",
        "00.png = copy.bmp",
        "cut.png is cut short",
        "16x16",
    ):
        assert part in text
    assert "none.jpg is empty" in text
    assert "No classes and no captions" in text


def test_classes_and_singletons(tmp_path):
    for number in range(4):
        save(picture(number), tmp_path / "cat" / f"{number}.png")
    save(picture(9), tmp_path / "dog" / "only.png")
    found = inspect(tmp_path)
    assert found.classes == {"cat": 4, "dog": 1}
    assert found.singletons == ("dog",)
    assert "Classes: 2 (cat 4, dog 1)" in found.lines()


def test_captions(tmp_path):
    texts = ["a red cat", "a blue cat", "the Cat, again"]
    for number in range(4):
        save(picture(number), tmp_path / f"{number}.png")
    lines = [{"file_name": f"{n}.png", "text": text} for n, text in enumerate(texts)] + [
        {"file_name": "9.png", "text": "x"}
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    told = inspect(tmp_path).captions
    assert told is not None
    assert (told.count, told.mean_words, told.vocabulary, told.missing) == (3, 3.0, 6, 1)
    assert told.examples == tuple(texts)
    assert told.absent == ("9.png",)
    text = "\n".join(inspect(tmp_path).lines())
    assert "Images without a caption: 1" in text
    assert "Captions of files that do not exist: 1 (9.png)" in text


def test_parts(tmp_path):
    for number in range(6):
        save(picture(number), tmp_path / ("train" if number < 4 else "val") / f"{number}.png")
    assert inspect(tmp_path).parts == {"train": 4, "held_out": 2}


def test_everything_broken_is_reported_and_not_raised(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"no")
    found = inspect(tmp_path)
    assert (found.found, found.readable, found.size, found.channels, found.sides) == (3, 0, None, None, None)
    assert len(found.broken) == 3
    assert json.dumps(found.as_dict())
    assert "0 readable images of 3" in found.lines()[0]


def test_nothing_there_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="holds no images"):
        inspect(tmp_path)
    with pytest.raises(ValueError, match="There is no folder"):
        inspect(tmp_path / "gone")


def test_parquet_and_progress(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    def encoded(image: Image.Image) -> bytes:
        file = io.BytesIO()
        image.save(file, "PNG")
        return file.getvalue()

    pq.write_table(pa.table({"image": [encoded(picture(n)) for n in range(70)]}), tmp_path / "all.parquet")
    told: list[tuple[int, int]] = []
    found = inspect(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert (found.kind, found.readable, found.files) == ("parquet", 70, {".parquet": 1})
    assert told == [(64, 70), (70, 70)]


@pytest.mark.slow
def test_real_emoji():
    folder = os.environ.get("LANGEVIN_DATA")
    if not folder or not (Path(folder) / "emoji").is_dir():
        pytest.skip("set LANGEVIN_DATA to a folder that holds emoji/")
    found = inspect(Path(folder) / "emoji")
    assert (found.found, found.readable, found.size, found.channels) == (3399, 3399, 32, 3)
    assert found.captions is not None
    assert (found.captions.count, found.captions.missing, found.captions.absent) == (3399, 0, ())
    assert found.sizes == (((72, 72), 3399),)
    assert found.duplicates
