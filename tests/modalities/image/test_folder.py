"""A folder gives its files' true pixels, and labels and captions from directories, metadata and text files."""

import json
import os
import re

import pytest
import torch

from langevin.modalities.image.data import Cifar10, Folder, Parquet, load_parts, open_table
from langevin.modalities.image.decode import decode
from langevin.modalities.image.modality import Image
from langevin.modalities.image.paths import list_files
from langevin.modalities.image.sources import resolve
from tests.modalities.image.pictures import fill, many, write_metadata

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_flat_folder_is_unconditional_and_its_pixels_are_true(tmp_path):
    fill(tmp_path, *many(20), ".hidden.png", ".git/object.png")
    (tmp_path / "notes.txt").write_text("not a caption")
    train, held = load_parts(Folder(path=str(tmp_path), size=12))
    assert train.shape == held.shape == (3, 12, 12)
    assert train.classes == ()
    assert train.labels is None
    assert train.captions is None
    assert sorted(train.names + held.names) == many(20)
    assert list(train.names) == sorted(train.names)
    for images in (train, held):
        for place, name in enumerate(images.names):
            own = decode(tmp_path / name, size=12, channels=3)
            assert torch.equal(images.read(torch.tensor([place]))[0], own)
    assert train.notes.lines() == []


def test_sub_directories_are_classes(tmp_path):
    fill(tmp_path, *many(9, "dog/{}.PNG"), *many(9, "cat/deep/{}.jpeg"), "ant/only.png")
    train, held = load_parts(Folder(path=str(tmp_path)))
    assert train.classes == held.classes == ("ant", "cat", "dog")
    for images in (train, held):
        assert images.labels.dtype == torch.int64
        assert [images.classes[label] for label in images.labels] == [name.split("/")[0] for name in images.names]
    assert train.notes.singletons == ("ant",)


def test_numbered_classes_are_in_order_of_number(tmp_path):
    fill(tmp_path, *[f"{number}/a.png" for number in (10, 9, 1)])
    assert open_table(Folder(path=str(tmp_path))).class_names() == ("1", "9", "10")


def test_images_outside_the_classes_are_named(tmp_path):
    fill(tmp_path, "cat/a.png", "dog/b.png", "stray.png")
    with pytest.warns(UserWarning, match="stray.png"):
        train, held = load_parts(Folder(path=str(tmp_path)))
    labels = dict(zip(train.names + held.names, [*train.labels.tolist(), *held.labels.tolist()], strict=True))
    assert labels == {"cat/a.png": 0, "dog/b.png": 1, "stray.png": -1}


def test_a_directory_beside_images_is_no_class(tmp_path):
    fill(tmp_path, "cat/a.png", "b.png", "stray.png")
    with pytest.warns(UserWarning, match="not used as a class: 2 images are outside of it"):
        train, _ = load_parts(Folder(path=str(tmp_path)))
    assert (train.labels, train.classes) == (None, ())


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
@pytest.mark.parametrize(
    ("caption", "label"), [("text", "label"), ("caption", "class"), ("text", None), (None, "class")]
)
def test_metadata(tmp_path, name, caption, label):
    fill(tmp_path, *many(8, "images/{}.png"))
    records = [{"file_name": f"images/{n}.png", caption: f"number {n}", label: n % 2} for n in range(8)]
    write_metadata(tmp_path, name, *[{key: value for key, value in record.items() if key} for record in records])
    train, held = load_parts(Folder(path=str(tmp_path)))
    for images in (train, held):
        numbers = [int(n.removeprefix("images/").removesuffix(".png")) for n in images.names]
        if caption:
            assert images.captions == tuple(f"number {number}" for number in numbers)
        else:
            assert images.captions is None
        if label:
            assert images.classes == ("0", "1")
            assert images.labels.tolist() == [number % 2 for number in numbers]
        else:
            assert images.labels is None


def test_captions_of_absent_files_and_images_without_caption_are_counted_and_named(tmp_path):
    fill(tmp_path, *many(6))
    records = [{"file_name": f"{n:03d}.png", "text": f"t{n}"} for n in range(5)] + [
        {"file_name": "x.png", "text": "lost"}
    ]
    write_metadata(tmp_path, "metadata.jsonl", *records)
    with pytest.warns(UserWarning, match="Captions of files") as caught:
        train, held = load_parts(Folder(path=str(tmp_path)))
    told = " ".join(str(warning.message) for warning in caught)
    assert "Captions of files that do not exist: 1 (x.png)" in told
    assert "Images without a caption, given an empty one: 1 (005.png)" in told
    assert train.notes.absent == ("x.png",)
    assert train.notes.without_caption == ("005.png",)
    texts = dict(zip(train.names + held.names, train.captions + held.captions))
    assert texts["005.png"] == ""
    assert texts["003.png"] == "t3"


def test_images_without_a_label_have_no_class(tmp_path):
    fill(tmp_path, *many(6))
    write_metadata(
        tmp_path, "metadata.csv", *[{"file_name": f"{n:03d}.png", "label": "a" if n else ""} for n in range(6)]
    )
    train, held = load_parts(Folder(path=str(tmp_path)))
    assert train.notes.without_label == ("000.png",)
    labels = dict(zip(train.names + held.names, [*train.labels.tolist(), *held.labels.tolist()], strict=True))
    assert labels == {f"{n:03d}.png": 0 if n else -1 for n in range(6)}


def test_metadata_names_match_whatever_the_writing_system(tmp_path):
    """A decomposed letter in the archive, a composed one in the table; a backslash for a slash; a byte order mark."""
    fill(tmp_path, "bilder/a\u0308pfel.png", "bilder/b.png")
    lines = [{"file_name": "bilder\\\u00e4pfel.png", "text": "Äpfel"}, {"file_name": "./bilder/b.png", "text": "b"}]
    write_metadata(tmp_path, "metadata.jsonl", *lines)
    content = (tmp_path / "metadata.jsonl").read_bytes()
    (tmp_path / "metadata.jsonl").write_bytes(b"\xef\xbb\xbf" + content)
    found = open_table(Folder(path=str(tmp_path)))
    assert found.captions == ["Äpfel", "b"]
    assert found.notes.absent == ()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.jsonl", b'{"file_name": "000.png", "text": "a"}\n{"file_name"', r"line 2 is not JSON"),
        ("metadata.jsonl", b'["000.png"]', r"line 1 is not a JSON object"),
        ("metadata.jsonl", b'{"file": "000.png", "text": "a"}', r"columns are file, text"),
        (
            "metadata.jsonl",
            b'{"file_name": "000.png", "text": ["a", "b"]}',
            r"line 1 has a list in `text`, which must be a text",
        ),
        ("metadata.csv", b"file_name,speaker\n000.png,bob", r"line 2.*columns are file_name, speaker"),
        ("metadata.csv", b"file_name,text\n000.png,caf\xe9", r"not UTF-8"),
        ("metadata.csv", b"file_name,label\nother.png,1", r"labels no existing image"),
    ],
)
def test_malformed_metadata_is_an_error_with_its_line(tmp_path, name, content, message):
    fill(tmp_path, *many(3))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        open_table(Folder(path=str(tmp_path)))
    assert name in str(caught.value)


def test_text_files_beside_images_are_captions(tmp_path):
    fill(tmp_path, *many(5))
    for number in range(3):
        (tmp_path / f"{number:03d}.txt").write_text(f" a picture {number}\n", encoding="utf-8")
    (tmp_path / "003.txt").write_bytes(b"caf\xe9")
    (tmp_path / "lost.txt").write_text("nobody")
    found = open_table(Folder(path=str(tmp_path)))
    assert found.captions == ["a picture 0", "a picture 1", "a picture 2", "", ""]
    assert found.notes.captions_unreadable == (("003.txt", "is not UTF-8 text"),)
    assert found.notes.without_caption == ("003.png", "004.png")
    assert found.notes.absent == ("lost.txt",)


@pytest.mark.parametrize("test", ["test", "valid", "validation", "val", "dev"])
def test_parts_are_not_classes(tmp_path, test):
    fill(tmp_path, *many(5, "train/cat/{}.png"), *many(5, "train/dog/{}.png"), *many(4, test + "/dog/{}.png"), seed=7)
    train, held = load_parts(Folder(path=str(tmp_path)))
    assert train.classes == held.classes == ("cat", "dog")
    assert (len(train), len(held)) == (10, 4)
    assert all(name.startswith("train/") for name in train.names)
    assert held.labels.tolist() == [1] * 4


def test_parts_with_their_own_or_a_common_table(tmp_path):
    for place in ("own", "common"):
        root = fill(tmp_path / place, *many(3, "train/{}.png"), *many(2, "test/{}.png"), "extra/x.png")
        if place == "own":
            for part, count in (("train", 3), ("test", 2)):
                write_metadata(
                    root / part,
                    "metadata.csv",
                    *[{"file_name": f"{n}.png", "text": f"{part} {n}"} for n in range(count)],
                )
        else:
            names = [f"train/{n}" for n in range(3)] + [f"test/{n}" for n in range(2)]
            write_metadata(
                root, "metadata.jsonl", *[{"file_name": f"{n}.png", "text": n.replace("/", " ")} for n in names]
            )
        train, held = load_parts(Folder(path=str(root)))
        assert train.captions == ("train 0", "train 1", "train 2")
        assert held.captions == ("test 0", "test 1")
        assert "extra/x.png" in " ".join(train.notes.remarks)


def test_a_lone_train_directory_is_the_folder(tmp_path):
    fill(tmp_path, *many(6, "train/a/{}.png"), *many(6, "train/b/{}.png"))
    assert open_table(Folder(path=str(tmp_path))).class_names() == ("a", "b")


def test_linked_directories_are_followed_and_loops_end(tmp_path):
    fill(tmp_path / "elsewhere", "a.png")
    root = fill(tmp_path / "root", "one/b.png")
    try:
        (root / "two").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        (root / "loop").symlink_to(root, target_is_directory=True)
    except OSError:
        pytest.skip("links cannot be made here")
    assert list_files(root).images == ("one/b.png", "two/a.png")


def test_closed_directories_are_an_error_with_their_name(tmp_path, monkeypatch):
    fill(tmp_path, "open/a.png", "closed/b.png")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ValueError, match=r"closed cannot be listed: Permission denied"):
        open_table(Folder(path=str(tmp_path)))


BAD = {
    "half a character": ('{"file_name": "003.png", "label": "cat \\ud83d"}', "holds half a character"),
    "a number of 5,000 digits": ('{"file_name": "003.png", "label": ' + "9" * 5000 + "}", "too many digits"),
    "deep nesting": ('{"file_name": "003.png", "label": ' + "[" * 100_000, "nested too deep|is not JSON"),
    "nesting in a label": ('{"file_name": "003.png", "label": ' + "[" * 400 + "]" * 400 + "}", "has a list in `label`"),
    "cut short": ('{"file_name": "003.png", "lab', "is not JSON"),
    "not UTF-8": ('{"file_name": "003.png", "label": "caf\udce9"}', "is not UTF-8 text"),
    "no file name": ('{"label": "cat"}', "needs `file_name`"),
}


@pytest.mark.parametrize("kind", BAD)
def test_one_record_that_cannot_be_read_costs_that_record(tmp_path, kind):
    """By file and line; that of a twentieth of the file, and never the corpus. What is left can be stored."""
    line, reason = BAD[kind]
    fill(tmp_path, *many(20))
    lines = [json.dumps({"file_name": f"{n:03d}.png", "label": "ab"[n % 2]}) for n in range(20)]
    lines[3] = line
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
    train, held = load_parts(Folder(path=str(tmp_path)))
    assert len(train) + len(held) == 20
    assert train.notes.without_label == ("003.png",)
    [(where, told)] = train.notes.records_unreadable
    assert where == "metadata.jsonl, line 4"
    assert re.search(reason, told)
    assert any("metadata.jsonl, line 4" in note for note in train.notes.lines())
    for name in train.classes:
        name.encode()
    (tmp_path / "metadata.jsonl").write_text("\n".join([line] * 3 + lines), encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ValueError, match=r"metadata.jsonl, line 1 .* 3 more of 23 records cannot be read"):
        open_table(Folder(path=str(tmp_path)))


def test_a_record_of_a_table_that_is_too_long_costs_that_record(tmp_path):
    fill(tmp_path, *many(20))
    rows = [f"{n:03d}.png,{'x' * (200_000 if n == 3 else 3)}" for n in range(20)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,text", *rows]))
    found = open_table(Folder(path=str(tmp_path)))
    assert [where for where, _ in found.notes.records_unreadable] == ["metadata.csv, line 5"]
    assert found.captions == ["xxx"] * 3 + [""] + ["xxx"] * 16


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_pipes_and_devices_are_no_data_and_nobody_waits_for_them(tmp_path):
    fill(tmp_path, *many(20))
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "000.txt")
    (tmp_path / "001.txt").symlink_to("/dev/zero")
    (tmp_path / "002.txt").write_text("x" * 2**21)
    (tmp_path / "003.txt").write_text("a caption")
    assert Image.detect(tmp_path) is not None
    train, _ = load_parts(Folder(path=str(tmp_path)))
    assert dict(train.notes.broken) == dict.fromkeys(("pipe.png", "zero.jpg"), "is not a regular file")
    told = dict(train.notes.captions_unreadable)
    assert told["000.txt"] == told["001.txt"] == "is not a regular file"
    assert "too long for a caption" in told["002.txt"]
    for name in ("metadata.csv", "metadata.jsonl"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(ValueError, match=f"{name} is not a regular file"):
            open_table(Folder(path=str(tmp_path)))
    for name in ("a.parquet", "cifar-10-binary.tar.gz"):
        os.mkfifo(tmp_path / name)
        assert Image.detect(tmp_path / name) is None
        with pytest.raises(ValueError, match="neither a folder nor a regular file"):
            resolve(Folder(path=str(tmp_path / name)))
        with pytest.raises(ValueError, match="not a regular file"):
            open_table((Parquet if "parquet" in name else Cifar10)(path=str(tmp_path / name)))


def test_control_characters_in_names_are_not_shown(tmp_path):
    try:
        fill(tmp_path, "cat\x1b[31m/a\n.png", "dog/b.png")
    except OSError:
        pytest.skip("such names cannot be made here")
    found = open_table(Folder(path=str(tmp_path)))
    assert found.names == ["cat\ufffd[31m/a\ufffd.png", "dog/b.png"]
    assert found.class_names() == ("cat\ufffd[31m", "dog")
