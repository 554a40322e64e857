"""The two parts never share a picture, whatever its name; what cannot be so is remarked on."""

import shutil

import pytest

from langevin.modalities.image.data import Folder, load_parts
from tests.modalities.image.pictures import encoded, fill, many, picture, write_metadata

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_exact_copies_fall_on_the_same_side(tmp_path):
    """Also copies in another format."""
    for number in range(40):
        fill(tmp_path, f"{number:03d}.png", seed=number)
        shutil.copy(tmp_path / f"{number:03d}.png", tmp_path / f"{number:03d} (copy).png")
        (tmp_path / f"{number:03d}.bmp").write_bytes(encoded(picture(number), "BMP"))
    for seed in range(5):
        train, held = load_parts(Folder(path=str(tmp_path), size=8), held_out=0.3, seed=seed)
        sides = [{name[:3] for name in images.names} for images in (train, held)]
        assert not sides[0] & sides[1]
        assert sides[1]


def test_adding_files_and_another_size_move_nothing(tmp_path):
    fill(tmp_path, *many(60))
    before = [set(images.names) for images in load_parts(Folder(path=str(tmp_path), size=12), held_out=0.2)]
    fill(tmp_path, *many(60, "new{}.png"), seed=1000)
    after = [set(images.names) for images in load_parts(Folder(path=str(tmp_path), size=16, channels=1), held_out=0.2)]
    assert before[0] <= after[0]
    assert before[1] <= after[1]
    assert 60 * 0.05 < len(before[1]) < 60 * 0.4
    assert {*load_parts(Folder(path=str(tmp_path)), seed=1)[1].names} != {
        *load_parts(Folder(path=str(tmp_path)), seed=2)[1].names
    }


def test_never_none_and_never_all(tmp_path):
    for count in range(2, 8):
        root = fill(tmp_path / str(count), *many(count))
        for share in (0.001, 0.1, 0.999):
            for seed in range(4):
                train, held = load_parts(Folder(path=str(root), size=8), held_out=share, seed=seed)
                assert len(train) >= 1
                assert len(held) >= 1
                assert not set(train.names) & set(held.names)


def test_one_image_is_on_both_sides_with_a_warning(tmp_path):
    fill(tmp_path, "only.png")
    with pytest.warns(UserWarning, match="only one image"):
        train, held = load_parts(Folder(path=str(tmp_path)))
    assert train.names == held.names == ("only.png",)
    shutil.copy(tmp_path / "only.png", tmp_path / "copy.png")
    train, held = load_parts(Folder(path=str(tmp_path)))
    assert (len(train), len(held)) == (2, 1)


def test_captions_are_held_out_by_name(tmp_path):
    colours, shapes = ("red", "green", "blue"), ("circle", "square")
    names = [f"{colour} {shape} {n}" for colour in colours for shape in shapes for n in range(6)]
    fill(tmp_path, *[f"{name}.png" for name in names])
    write_metadata(tmp_path, "metadata.jsonl", *[{"file_name": f"{name}.png", "text": name[:-2]} for name in names])
    shutil.copy(tmp_path / "red circle 0.png", tmp_path / "green square 9.png")  # a copy under another caption
    source = Folder(path=str(tmp_path), hold_out_captions=("red circle", "blue square"))
    train, held = load_parts(source)
    assert not {"red circle", "blue square"} & set(train.captions)
    assert sum(text in ("red circle", "blue square") for text in held.captions) == 12
    assert "green square 9.png" in held.names
    assert set(held.captions) - {"red circle", "blue square", ""}  # and the usual share of the others
    with pytest.raises(ValueError, match=r"'red circel'.*did you mean 'red circle'"):
        load_parts(Folder(path=str(tmp_path), hold_out_captions=("red circel",)))
    with pytest.raises(ValueError, match="nothing is left to train on"):
        load_parts(Folder(path=str(tmp_path), hold_out_captions=(*{name[:-2] for name in names}, "")))


def test_copies_between_official_parts_are_counted(tmp_path):
    fill(tmp_path, *many(5, "train/{}.png"))
    fill(tmp_path, *many(3, "test/{}.png"))
    train, _ = load_parts(Folder(path=str(tmp_path)))
    assert "also in the training part: 3" in train.notes.remarks[0]


def test_classes_that_cannot_be_learned_are_named(tmp_path):
    fill(tmp_path, *many(5, "train/a/{}.png"), *many(3, "test/b/{}.png"), seed=3)
    train, _ = load_parts(Folder(path=str(tmp_path)))
    assert any("without training images: 1 (b)" in remark for remark in train.notes.remarks)
