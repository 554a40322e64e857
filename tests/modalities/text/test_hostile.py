"""Text data that is damaged or made to do harm is set aside by file and line; nothing waits for it or fills memory."""

import io
import json
import os
import subprocess
import sys

import pytest

from langevin.modalities.text.data import TextSource, load_parts
from langevin.modalities.text.input import read_records, read_text
from langevin.modalities.text.sources import detect, guess
from langevin.recipe.detect import chosen
from tests.modalities.text.test_data import jsonl, numbered, parquet

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
WORDS = "words that anyone can read\n" * 9


def load(path, **options):
    return load_parts(TextSource(path=str(path), **options))


def broken(path) -> list[tuple[str, str]]:
    train, _ = load(path, fields=("text",))
    return list(train.notes.broken)


def fifo(path):
    os.mkfifo(path)
    return path


def link(path, target):
    path.symlink_to(target)
    return path


# ---------------------------------------------------------------------------------------------- what is no regular file


@pytest.mark.parametrize("name", ["b.txt", "b.md"])
def test_a_fifo_and_a_device_in_a_folder_of_texts_are_left_out(tmp_path, name):
    for i in range(5):
        (tmp_path / f"a{i}.txt").write_text(WORDS)
    fifo(tmp_path / name)
    link(tmp_path / "zero.txt", "/dev/zero")
    modality = chosen(tmp_path)
    assert modality.kind == "text"
    left = dict(load(tmp_path)[0].notes.broken)
    assert set(left) == {str(tmp_path / name), str(tmp_path / "zero.txt")}
    assert all("no regular file" in why for why in left.values())
    assert modality.inspect().documents == 5


@pytest.mark.parametrize("make", [fifo, lambda path: link(path, "/dev/zero"), lambda path: link(path, "nowhere")])
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.parquet"])
def test_a_folder_of_one_file_that_cannot_be_read_says_what_it_is(tmp_path, name, make):
    make(tmp_path / name)
    assert detect(tmp_path)
    with pytest.raises(ValueError, match=r"a\.\w+ is (no regular file|a link to nowhere, where nothing is)"):
        load(tmp_path)


@pytest.mark.parametrize("make", [fifo, lambda path: link(path, "/dev/zero")])
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.parquet", "a"])
def test_a_path_that_is_no_file_is_no_data(tmp_path, name, make):
    path = make(tmp_path / name)
    assert detect(path) is None
    with pytest.raises(ValueError, match="no regular file"):
        load(path)
    with pytest.raises(ValueError, match="no regular file"):
        load("/dev/zero")


def test_a_file_that_may_not_be_read_is_named_and_not_called_no_images(tmp_path):
    (tmp_path / "a.txt").write_text(WORDS)
    link(tmp_path / "b.txt", "nowhere")
    assert chosen(tmp_path).kind == "text"
    assert load(tmp_path)[0].notes.broken[0] == (
        str(tmp_path / "b.txt"), "is a link to nowhere, where nothing is: repair it, or take it out",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_a_file_of_a_terabyte_of_zeros_fills_no_memory(tmp_path, name):
    with (tmp_path / name).open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=r"is longer than 256 MiB|does not fit into memory"):
        load(tmp_path / name)


# -------------------------------------------------------------------------------------------------------------- records


@pytest.mark.parametrize(("line", "why"), [
    ('{"text": "a", "n": ' + "9" * 5000 + "}", "a number with too many digits"),
    ('{"text": "a", "n": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    ('{"text": "a", "n": ' + '{"a":' * 100_000, "nested too deeply"),
    ('{"\\ud83d": 1, "text": "a"}', "no JSON object of named fields"),
    ('{"text": "half \\ud83d"}', "is not Unicode"), ("[1]", "no JSON object"), ("{", "is not JSON"), ("\0", "is zero"),
    (json.dumps({"n" * 10_000 + str(i): i for i in range(100)}), "has no field 'text'"),
])  # fmt: skip
def test_one_damaged_record_costs_that_record(tmp_path, line, why):
    path = jsonl(tmp_path / "a.jsonl", numbered(200), more=line + "\n" + json.dumps({"text": "last"}))
    ((where, said),) = broken(path)
    assert where in (f"{path}, line 201", f"{path}, record 201")
    assert why in said
    assert len(said) < 3000
    said.encode()


@pytest.mark.parametrize("first", [b"\n", b" \n\n\r\n", b"{broken\n", b"\0\n", b"\xff\n", b"[[[[\n", b"\xef\xbb\xbf\n",
    b'{"n": ' + b"9" * 5000 + b"}\n", b"[" * 5000 + b"\n"])  # fmt: skip
def test_records_are_known_by_the_first_line_that_parses(tmp_path, first):
    (tmp_path / "a.jsonl").write_bytes(first + b"".join(json.dumps(r).encode() + b"\n" for r in numbered(200)))
    for path in (tmp_path, tmp_path / "a.jsonl"):
        assert chosen(path).kind == "text"
        train, held = load(path)
        assert len(train) + len(held) == 200


def test_records_of_which_no_line_parses_are_said_by_the_reader_of_text(tmp_path):
    for content, said in ((b"{a\n" * 99, "no record can be read"), (b"\x1f\x8b\x08\0" * 99, "a gzip archive")):
        (tmp_path / "a.jsonl").write_bytes(content)
        assert chosen(tmp_path).kind == "text"
        with pytest.raises(ValueError, match=said):
            guess(tmp_path)


def test_metadata_that_cannot_be_read_does_not_make_texts_of_images(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"\x89PNG")
    (tmp_path / "metadata.jsonl").write_bytes(b"{broken\n")
    assert detect(tmp_path) is None


# -------------------------------------------------------------------------------------------------------------- Parquet


def test_a_small_file_that_unpacks_to_gigabytes_is_refused_in_little_memory(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    rows = pyarrow.array([0] * 2048, pyarrow.int32())
    path = parquet(tmp_path / "a.parquet", text=pyarrow.DictionaryArray.from_arrays(rows, ["x" * 4_000_000]))
    assert path.stat().st_size < 1 << 20
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))\n"
        "from langevin.modalities.text.data import TextSource, load_parts\n"
        "try: load_parts(TextSource(path=sys.argv[1]))\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=250)
    assert "unpacks to more than" in done.stdout, done.stderr


def test_a_table_with_odd_columns_is_read_or_said(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    twice = pyarrow.table([["a b c"] * 9, ["d e f"] * 9], names=["text", "text"])
    pytest.importorskip("pyarrow.parquet").write_table(twice, tmp_path / "twice.parquet")
    nested = b'{"info": {"features": ' + b"[" * 100_000
    deep = pyarrow.table({"text": [f"a b {i}" for i in range(30)]}).replace_schema_metadata({b"huggingface": nested})
    pytest.importorskip("pyarrow.parquet").write_table(deep, tmp_path / "deep.parquet")
    train, held = load(tmp_path / "deep.parquet")
    assert len(train) + len(held) == 30
    try:
        load(tmp_path / "twice.parquet")
    except ValueError as error:
        assert "twice.parquet" in str(error)  # noqa: PT017


# --------------------------------------------------------------------------------------------------------------- inputs


def test_a_byte_order_mark_is_no_part_of_an_input(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbffirst\r\nsecond")
    assert read_text(str(tmp_path / "a.txt")) == "first\r\nsecond"
    assert read_records(str(tmp_path / "a.txt"), ("text",))[0] == {"text": "first"}
    monkeypatch.setattr(sys, "stdin", io.StringIO("\ufefffirst"))
    assert read_text("-") == "first"


@pytest.mark.parametrize("line", ['{"a": ' + "9" * 5000 + "}", '{"a": ' + "[" * 100_000])
def test_an_input_that_is_no_json_is_said_with_its_line(tmp_path, line):
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n' + line)
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2: is not JSON"):
        read_records(str(tmp_path / "a.jsonl"), ("text",))
