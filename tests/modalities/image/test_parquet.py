"""Parquet gives back what was put in; missing columns, labels and images are named."""

from pathlib import Path

import pytest
import torch

from langevin.modalities.image.data import Folder, Parquet, load_parts, open_table
from langevin.modalities.image.decode import decode
from langevin.modalities.image.sources import resolve
from langevin.modalities.image.unreadable import Broken
from tests.modalities.image.pictures import encoded, everything, make_parquet, picture

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_parquet_round_trip(tmp_path):
    make_parquet(tmp_path / "train.parquet", 20, text=[f"text {n}" for n in range(20)])
    make_parquet(tmp_path / "test.parquet", 5, seed=100, text=["a"] * 5)
    for source in (Parquet(path=str(tmp_path)), Folder(path=str(tmp_path))):
        train, held = load_parts(source)
        assert (len(train), len(held)) == (20, 5)
        assert train.classes == ("ant", "bee", "cow")
        assert train.labels.tolist() == [n % 3 for n in range(20)]
        assert train.captions == tuple(f"text {n}" for n in range(20))
        assert train.names[3] == "3.png"
        own = [decode(encoded(picture(n)), size=12, channels=3) for n in range(20)]
        assert torch.equal(everything(train), torch.stack(own))
    single = Folder(path=str(tmp_path / "train.parquet"), size=8, hold_out_captions=("text 3",))
    assert resolve(single) == Parquet(path=single.path, size=8, hold_out_captions=("text 3",))
    train, held = load_parts(single)
    assert "text 3" in held.captions
    assert len(train) + len(held) == 20


def test_parquet_in_pieces_and_in_a_data_directory(tmp_path):
    for piece in range(3):
        make_parquet(tmp_path / "data" / f"train-0000{piece}-of-00003.parquet", 4, seed=10 * piece)
    make_parquet(tmp_path / "data" / "validation-00000-of-00001.parquet", 3, seed=100)
    train, held = load_parts(Folder(path=str(tmp_path)))
    assert (len(train), len(held)) == (12, 3)


def test_parquet_labels_without_names_as_words_and_missing(tmp_path):
    make_parquet(tmp_path / "numbers.parquet", 12, names=None, label=[n % 12 for n in range(12)])
    assert open_table(Parquet(path=str(tmp_path / "numbers.parquet"))).class_names() == tuple(str(n) for n in range(12))
    make_parquet(tmp_path / "words.parquet", 4, names=None, label=["b", "a", None, "b"])
    found = open_table(Parquet(path=str(tmp_path / "words.parquet")))
    assert found.class_names() == ("a", "b")
    assert found.names == ["0.png", "1.png", "3.png"]
    assert found.notes.without_label == ("2.png",)
    make_parquet(tmp_path / "unknown.parquet", 4, label=[-1, 0, 1, 2])
    assert open_table(Parquet(path=str(tmp_path / "unknown.parquet"))).labels == ["ant", "bee", "cow"]
    make_parquet(tmp_path / "high.parquet", 4, label=[0, 1, 2, 3])
    with pytest.raises(ValueError, match="label 3, but there are 3 class names"):
        open_table(Parquet(path=str(tmp_path / "high.parquet")))


def test_parquet_plain_bytes_and_nothing_else(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"img": [encoded(picture(n)) for n in range(5)]}), tmp_path / "a.parquet")
    train, held = load_parts(Parquet(path=str(tmp_path / "a.parquet"), image="img"))
    assert train.labels is None
    assert train.captions is None
    assert {*train.names, *held.names} == {f"a.parquet:{n}" for n in range(5)}


def test_parquet_errors(tmp_path):
    path = str(make_parquet(tmp_path / "a.parquet", 4))
    with pytest.raises(
        ValueError, match=r"no column 'img' for the image; its columns are image \(struct.*label \(int64\)"
    ):
        open_table(Parquet(path=path, image="img"))
    with pytest.raises(ValueError, match="no column 'kind' for the label"):
        open_table(Parquet(path=path, label="kind"))
    with pytest.raises(ValueError, match="column 'label' is int64; an encoded image"):
        open_table(Parquet(path=path, image="label"))
    Path(path).write_bytes(Path(path).read_bytes()[:-200])
    with pytest.raises(Broken, match=r"a\.parquet cannot be read as Parquet"):
        open_table(Parquet(path=path))
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"holds no \.parquet file"):
        open_table(Parquet(path=str(tmp_path / "none")))
    with pytest.raises(ValueError, match="There is no file or folder"):
        open_table(Parquet(path=str(tmp_path / "b.parquet")))


def test_broken_images_inside_parquet_are_named(tmp_path):
    images = [{"bytes": encoded(picture(n)) if n else b"junk", "path": f"p{n}.png"} for n in range(20)]
    images[1] = {"bytes": None, "path": "elsewhere.png"}
    make_parquet(tmp_path / "a.parquet", 20, image=images)
    train, _ = load_parts(Parquet(path=str(tmp_path / "a.parquet")))
    assert [name for name, _ in train.notes.broken] == ["p0.png", "elsewhere.png"]
