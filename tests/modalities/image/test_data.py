"""Loaded images are the same from memory and from disk; broken files are named, and set aside or refused."""

import os
import random
import re
import warnings
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from langevin.modalities.image.codec import Pixels
from langevin.modalities.image.data import Cifar10, Digits, Folder, Images, Parquet, load, load_parts
from langevin.modalities.image.modality import Image
from langevin.modalities.image.unreadable import Broken
from langevin.run.directory import open_run
from tests import pictures, tiny
from tests.modalities.image.pictures import everything, fill, make_cifar, make_parquet, many

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


# --------------------------------------------------------------------------------------------------------------- broken


def test_broken_files_are_named_and_set_aside(tmp_path):
    fill(tmp_path, *many(40))
    whole = (tmp_path / "000.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "letter.webp").write_bytes(b"%PDF-1.4")
    with pytest.warns(UserWarning, match="cannot be read, left out: 3"):
        train, held = load_parts(Folder(path=str(tmp_path)))
    reasons = dict(train.notes.broken)
    assert set(reasons) == {"cut.png", "empty.jpg", "letter.webp"}
    assert "cut short" in reasons["cut.png"]
    assert "empty" in reasons["empty.jpg"]
    assert "PDF" in reasons["letter.webp"]
    assert len(train) + len(held) == 40
    assert not set(reasons) & {*train.names, *held.names}


@pytest.mark.parametrize(("broken", "refused"), [(2, False), (3, True)])
def test_more_than_one_in_ten_broken_is_an_error(tmp_path, broken, refused):
    fill(tmp_path, *many(20 - broken, "good{}.png"))
    for number in range(broken):
        (tmp_path / f"bad{number}.png").write_bytes(b"no image")
    if not refused:
        assert len(load_parts(Folder(path=str(tmp_path)))[0].notes.broken) == broken
        return
    with pytest.raises(ValueError, match=r"3 of 20 images cannot be read.*bad0.png is not an image"):
        load_parts(Folder(path=str(tmp_path)))


def test_nothing_but_broken_files(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    for size in (None, 16):
        with pytest.raises(ValueError, match=r"1 of 1 images cannot be read.*a.png is empty"):
            load_parts(Folder(path=str(tmp_path), size=size))


def test_closed_files_are_broken(tmp_path, monkeypatch):
    fill(tmp_path, *many(30))
    real = Path.read_bytes

    def read_bytes(path):
        if path.name == "007.png":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    train, _ = load_parts(Folder(path=str(tmp_path)))
    assert train.notes.broken == (("007.png", "cannot be read: Permission denied"),)


def test_wrong_arguments_of_load(tmp_path):
    fill(tmp_path, *many(3))
    source = Folder(path=str(tmp_path))
    for share in (0, 1, -0.1, 2):
        with pytest.raises(ValueError, match="held_out"):
            load(source, split="train", held_out=share)
    with pytest.raises(ValueError, match="split is 'test'"):
        load(source, split="test")  # pyright: ignore[reportArgumentType]


# ---------------------------------------------------------------------------------------------- in memory and streaming


def assert_same(one: Images, other: Images) -> None:
    assert (one.shape, one.classes, one.names, one.captions) == (
        other.shape,
        other.classes,
        other.names,
        other.captions,
    )
    assert (one.labels is None) == (other.labels is None)
    assert one.labels is None or torch.equal(one.labels, other.labels)
    assert torch.equal(everything(one), everything(other))
    index = torch.tensor([0, len(one) - 1, 0])
    assert torch.equal(one.read(index), everything(one)[index])
    assert torch.equal(other.read(index), everything(one)[index])


def test_streaming_equals_memory_for_every_source(tmp_path):
    fill(tmp_path / "folder", *many(30, "a/{}.png"), *many(30, "b/{}.jpg"), side=20)
    make_parquet(tmp_path / "table.parquet", 30)
    make_cifar(tmp_path / "cifar", 3)
    for source in (
        Folder(path=str(tmp_path / "folder")),
        Parquet(path=str(tmp_path / "table.parquet")),
        Cifar10(path=str(tmp_path / "cifar")),
        Digits(),
    ):
        for split in ("train", "held_out"):
            held, streamed = load(source, split=split), load(source, split=split, memory_limit=0)
            assert held.in_memory
            assert not streamed.in_memory
            assert_same(held, streamed)


def test_both_parts_at_once_are_the_same_as_one_by_one(tmp_path):
    fill(tmp_path, *many(30))
    source = Folder(path=str(tmp_path))
    for images, split in zip(load_parts(source), ("train", "held_out")):
        assert_same(images, load(source, split=split))


def test_a_streamed_file_that_vanishes_or_breaks_is_named(tmp_path):
    fill(tmp_path, *many(12))
    train = load(Folder(path=str(tmp_path)), split="train", memory_limit=0)
    gone, cut = train.names[0], train.names[1]
    (tmp_path / gone).unlink()
    (tmp_path / cut).write_bytes((tmp_path / cut).read_bytes()[:80])
    with pytest.raises(
        Broken, match=rf"{gone} could be read when the data were loaded and cannot be read now.*No such file"
    ):
        train.read(torch.tensor([2, 0]))
    with pytest.raises(Broken, match=rf"{cut} could be read"):
        train.read(torch.tensor([1]))
    assert train.read(torch.tensor([2, 3])).shape == (2, 3, 12, 12)


def test_index_is_checked_alike(tmp_path):
    fill(tmp_path, *many(6))
    for limit in (0, 2**30):
        train = load(Folder(path=str(tmp_path)), split="train", memory_limit=limit)
        assert train.read(torch.tensor([], dtype=torch.int64)).shape == (0, 3, 12, 12)
        for wrong in (-1, len(train)):
            with pytest.raises(IndexError, match="outside 0"):
                train.read(torch.tensor([wrong]))
        with pytest.raises(ValueError, match="int64 of shape"):
            train.read(torch.tensor([0.0]))


def test_fingerprint_tells_any_change(tmp_path):
    def marks(limit: int) -> str:
        return load(Folder(path=str(tmp_path)), split="train", memory_limit=limit).fingerprint

    fill(tmp_path, *many(12))
    name = load(Folder(path=str(tmp_path)), split="train").names[0]
    seen = {0: [marks(0)], 2**30: [marks(2**30)]}
    for limit, known in seen.items():
        assert marks(limit) == known[0]
        assert len(known[0]) == 64
    (tmp_path / f"{Path(name).stem}.txt").write_text("now with words")
    for limit, known in seen.items():
        known.append(marks(limit))
    (tmp_path / name).rename(tmp_path / f"renamed-{name}")
    for limit, known in seen.items():
        known.append(marks(limit))
        assert len(set(known)) == 3


def test_progress_ends_at_the_total_and_order_does_not_depend_on_threads(tmp_path, monkeypatch):
    fill(tmp_path, *many(150), side=8)
    told: list[tuple[int, int]] = []
    one = load(Folder(path=str(tmp_path)), split="train", progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (150, 150)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert_same(one, load(Folder(path=str(tmp_path)), split="train"))


# ------------------------------------------------------------------------------------------------------------ real data


def real(name: str) -> str:
    folder = os.environ.get("LANGEVIN_DATA")
    if not folder or not (Path(folder) / name).is_dir():
        pytest.skip(f"set LANGEVIN_DATA to a folder that holds {name}/")
    return str(Path(folder) / name)


@pytest.mark.slow
def test_real_emoji():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train, held = load_parts(Folder(path=real("emoji")))
    assert len(train) + len(held) == 3399
    assert train.shape == (3, 32, 32)
    assert all(train.captions + held.captions)
    assert (everything(train)[:, :, 0, 0].float().mean() > 200).item()  # transparent corners are white, not black
    streamed, _ = load_parts(Folder(path=real("emoji")), memory_limit=0)
    index = torch.tensor(random.Random(0).sample(range(len(train)), 200))
    assert torch.equal(train.read(index), streamed.read(index))


@pytest.mark.slow
def test_real_cifar10_parquet():
    train, held = load_parts(Folder(path=real("cifar10")))
    assert (len(train), len(held)) == (50_000, 10_000)
    assert train.shape == (3, 32, 32)
    assert train.classes[:2] == ("airplane", "automobile")
    assert train.labels.bincount().tolist() == [5000] * 10
    assert held.labels.bincount().tolist() == [1000] * 10
    assert train.names[0] == f"{train.classes[train.labels[0]]}/1690.jpg"
    means = everything(train).double().mean((0, 2, 3)) / 255
    assert means.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.005)  # the known means of CIFAR-10


# --------------------------------------------------------------------------------------------------------------- centre


def test_flat_dark_pictures_are_remarked_on_and_the_advice_centres_them(tmp_path):
    for n in range(30):
        levels = np.random.default_rng(n).integers(0, 12, (8, 8), dtype=np.uint8)
        PIL.Image.fromarray(levels).save(tmp_path / f"{n}.png")
    train, held = Image(path=str(tmp_path)).open()
    [told] = train.notes.lines()
    assert held.notes.lines() == [told]
    offset = float(re.search(r"data\.codec\.offset=(\S+)", told)[1])
    codec = Pixels(offset=offset)
    assert abs(float(codec.encode(everything(train)).mean())) < 0.01
    assert Image(path=str(tmp_path), codec=codec).open()[0].notes.lines() == []
    assert Image(builtin="digits").open()[0].notes.lines() == []


def test_a_codec_that_leaves_float32_is_called_that(tmp_path):
    fill(tmp_path, *many(10))
    train, _ = Image(path=str(tmp_path)).open()
    with pytest.raises(ValueError, match=r"data\.codec is out of range"):
        Image(path=str(tmp_path), codec=Pixels(scale=1e300)).needs(train)


# ------------------------------------------------------------------------------------------------- half a character


def test_a_run_on_labels_with_half_an_emoji_can_be_opened_again(tmp_path):
    data = pictures.captions(tmp_path / "data")
    lines = (data / "metadata.jsonl").read_text().replace('"text"', '"label"').splitlines()
    lines[4] = '{"file_name": "004.png", "label": "cat \\ud83d"}'
    (data / "metadata.jsonl").write_text("\n".join(lines))
    run = tiny.run_of(data, tmp_path / "run")
    assert set(open_run(run).recipe.data.classes) == {f"{c} {s}" for c in pictures.COLOURS for s in pictures.SHAPES}
