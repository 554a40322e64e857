"""Configurations are checked where they are made; a path that holds no images, or pickles, is refused in plain words."""

import pickle
import tarfile
from pathlib import Path

import pytest

from langevin.modalities.image.data import Cifar10, Digits, Folder, Glyphs, Parquet, Source, open_table
from tests.modalities.image.pictures import fill

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"path": ""}, "path is empty"),
        ({"path": "x", "size": 2}, "size is 2"),
        ({"path": "x", "channels": 4}, "channels is 4"),
        ({"path": "x", "background": (0, 0, 300)}, "background"),
    ],
)
def test_configurations_are_checked_where_they_are_made(wrong, message):
    for kind in (Folder, Parquet):
        with pytest.raises(ValueError, match=message):
            kind(**wrong)


def test_configurations_are_read_from_plain_data():
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(Source)
    assert adapter.validate_python({"kind": "digits"}) == Digits()
    assert adapter.validate_python({"kind": "glyphs"}) == Glyphs()
    folder = adapter.validate_python(
        {"kind": "folder", "path": "x", "background": [0, 0, 0], "hold_out_captions": ["a"]}
    )
    assert folder == Folder(path="x", background=(0, 0, 0), hold_out_captions=("a",))
    assert adapter.validate_json('{"kind": "parquet", "path": "x", "channels": 1}') == Parquet(path="x", channels=1)
    assert adapter.validate_python({"kind": "cifar10", "path": "y"}) == Cifar10(path="y")
    with pytest.raises(ValidationError, match="use 4 to 4096"):
        adapter.validate_python({"kind": "folder", "path": "x", "size": -1})


def test_empty_folder_says_what_was_looked_for_and_found(tmp_path):
    with pytest.raises(ValueError, match=r"holds no images: 0 files.*\.png"):
        open_table(Folder(path=str(tmp_path)))
    for name in ("a.docx", "b.docx", "c.heic", "README"):
        (tmp_path / name).write_text("x")
    with pytest.raises(ValueError, match=r"4 files were found there, none with an image suffix \(2 \.docx, 1 "):
        open_table(Folder(path=str(tmp_path)))


def test_paths_that_are_wrong(tmp_path):
    fill(tmp_path / "flowers", "a.png")
    for name in ("flower", "Flowers2"):
        with pytest.raises(ValueError, match=r"There is no folder .*did you mean .*flowers\?"):
            open_table(Folder(path=str(tmp_path / name)))
    with pytest.raises(ValueError, match="not even"):
        open_table(Folder(path=str(tmp_path / "x" / "y")))
    with pytest.raises(ValueError, match="is a file, not a folder: name the folder"):
        open_table(Folder(path=str(tmp_path / "flowers" / "a.png")))
    (tmp_path / "all.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match="unpack it"):
        open_table(Folder(path=str(tmp_path / "all.zip")))


def test_pickles_are_refused_and_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path(tmp_path / "sprung").touch, ())

    trap = pickle.dumps(Trap())
    for name in ("a/data_batch_1", "b/cifar-10-batches-py/data_batch_1", "c/images.pkl", "d/x.pickle"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(trap)
    for folder in "abcd":
        with pytest.raises(ValueError, match=r"pickle.*cifar-10-binary.tar.gz"):
            open_table(Folder(path=str(tmp_path / folder)))
    for folder in "ab":
        with pytest.raises(ValueError, match=r"pickle.*cifar-10-binary.tar.gz"):
            open_table(Cifar10(path=str(tmp_path / folder)))
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "b", "cifar-10-batches-py")
    for kind in (Folder, Cifar10):
        with pytest.raises(ValueError, match="pickle"):
            open_table(kind(path=str(tmp_path / "cifar-10-python.tar.gz")))
    fill(tmp_path / "c", "a.png", "b.png")  # beside images a pickle is left alone
    assert len(open_table(Folder(path=str(tmp_path / "c")))) == 2
    assert not (tmp_path / "sprung").exists()
