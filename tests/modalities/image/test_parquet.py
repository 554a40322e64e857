"""Parquet gives back what was put in; missing columns, labels and images are named."""

import io
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from langevin.modalities.image.data import Folder, Parquet, load_parts, open_table
from langevin.modalities.image.decode import decode
from langevin.modalities.image.sources import resolve
from langevin.modalities.image.unreadable import Broken
from langevin.modalities.parquet_pages import column_chunks, page_sizes
from tests.fuzz.parquets import forms
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
    assert found.names == ["0.png", "1.png", "2.png", "3.png"]
    assert found.labels == ["b", "a", None, "b"]
    assert found.notes.without_label == ("2.png",)
    make_parquet(tmp_path / "unknown.parquet", 4, label=[-1, 0, 1, 2])
    assert open_table(Parquet(path=str(tmp_path / "unknown.parquet"))).labels == [None, "ant", "bee", "cow"]
    make_parquet(tmp_path / "none.parquet", 4, label=[-1, -1, -1, -1])
    none = open_table(Parquet(path=str(tmp_path / "none.parquet")))
    assert (none.labels, none.class_names(), none.notes.without_label) == (None, (), ())
    make_parquet(tmp_path / "high.parquet", 4, label=[0, 1, 2, 3])
    with pytest.raises(ValueError, match="label 3, but there are 3 class names"):
        open_table(Parquet(path=str(tmp_path / "high.parquet")))


def test_parquet_plain_bytes_and_nothing_else(tmp_path):
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


# --------------------------------------------------------------------------------------------------------------- hostile


def test_texts_that_are_no_texts_cost_their_own_row(tmp_path):
    images = [{"bytes": encoded(picture(n)), "path": f"{n}.png"} for n in range(4)]
    half = pa.array([b"ant", "cat \ud83d".encode(errors="surrogatepass"), b"x" * 2**21, b"bee"])
    words = pa.StringArray.from_buffers(4, half.buffers()[1], half.buffers()[2])
    pq.write_table(pa.table({"image": images, "label": words, "text": words}), tmp_path / "a.parquet")
    found = open_table(Parquet(path=str(tmp_path / "a.parquet")))
    assert (found.labels, found.captions) == (["ant", None, None, "bee"], ["ant", "", "", "bee"])
    assert [name for name, _ in found.notes.captions_unreadable] == ["1.png", "1.png", "2.png", "2.png"]
    assert "not UTF-8" in found.notes.captions_unreadable[0][1]


def test_names_are_texts_whatever_their_column_holds(tmp_path):
    images = [{"bytes": encoded(picture(n)), "path": b"\xff%d" % n} for n in range(4)]
    make_parquet(tmp_path / "a.parquet", 4, image=images)
    assert open_table(Parquet(path=str(tmp_path / "a.parquet"))).names == [f"\ufffd{n}" for n in range(4)]


def test_class_names_are_bounded_and_can_be_stored(tmp_path):
    content = pa.table({"image": [encoded(picture(n)) for n in range(4)], "label": [0, 1, 0, 1]})
    for stored, names in (
        ("[" * 100_000, ("0", "1")),
        ('{"info": {"features": {"label": {"names": ["a", "cat \\ud83d"]}}}}', ("a", "cat \ufffd")),
        ('{"info": {"features": {"label": {"names": [' + "9" * 5000 + "]}}}}", ("0", "1")),
    ):
        pq.write_table(content.replace_schema_metadata({"huggingface": stored}), tmp_path / "a.parquet")
        assert open_table(Parquet(path=str(tmp_path / "a.parquet"))).class_names() == names


def test_two_columns_of_one_name_are_refused(tmp_path):
    image = pa.array([encoded(picture(0))])
    pq.write_table(pa.table([image, image], names=["image", "image"]), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="more than one column 'image'"):
        open_table(Parquet(path=str(tmp_path / "a.parquet")))


BOMBS = {
    "one value in a dictionary": ("[bytes(1_000_000)] * 300", {}, "64 times its size"),
    "one value after another": (
        "[bytes(1_000_000)] * 300",
        {"use_dictionary": False, "column_encoding": {"image": "DELTA_BYTE_ARRAY"}},
        "64 times its size",
    ),
    "one cell": ("[bytes(270_000_000)]", {}, "packed into"),
    "rows of nothing": ("pa.nulls(20_000_000, pa.binary())", {}, "20,000,000 rows"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_file_never_fills_the_memory(tmp_path, bomb):
    cells, options, reason = BOMBS[bomb]
    path = tmp_path / "a.parquet"
    write = f"""
import pyarrow as pa, pyarrow.parquet as pq
pq.write_table(pa.table({{"image": pa.array({cells})}}), {str(path)!r}, compression="zstd", **{options!r})
"""
    subprocess.run([sys.executable, "-c", write], check=True)
    assert path.stat().st_size < 100_000
    read = f"""
from pathlib import Path
from langevin.modalities.image.parquet import open_parquet
from langevin.modalities.image.sources import Parquet
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
before = peak()
try:
    open_parquet(Parquet(path={str(path)!r}))
except ValueError as error:
    print(peak() - before, error)
"""
    run = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True)
    grown, _, told = run.stdout.partition(" ")
    assert str(path) in told
    assert reason in told
    assert float(grown) < 1500


def test_pages_are_measured_as_pyarrow_counts_them():
    """All pages of a column chunk, with their headers, are as long as the chunk; unpacked, as the file says."""
    for name, data in forms().items():
        metadata = pq.ParquetFile(io.BytesIO(data)).metadata
        groups = column_chunks(io.BytesIO(data))
        assert len(groups) == metadata.num_row_groups
        for number, found in enumerate(groups):
            group = metadata.row_group(number)
            assert len(found) == (group.num_columns if group.num_rows else 0)
            for i, own in enumerate(found):
                chunk = group.column(i)
                assert own.column == chunk.path_in_schema.split(".")[0]
                pages = list(page_sizes(io.BytesIO(data), own))
                headers = chunk.total_compressed_size - sum(stored for stored, _ in pages)
                assert headers > 0, name
                assert sum(unpacked for _, unpacked in pages) + headers == chunk.total_uncompressed_size, name


def test_a_footer_of_lists_in_lists_is_damaged(tmp_path):
    """5,000 deep, where the description of the columns belongs."""
    footer = b"\x19" * 5000
    content = b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    with pytest.raises(ValueError, match="nested too deep"):
        column_chunks(io.BytesIO(content))
