"""Shards are read as the files that are in them, and what is wrong with them is said."""

import json
import shutil
import tarfile

import pytest

from langevin.modalities import content
from langevin.modalities.paths import regular, shard_numbers, shard_remarks, walk
from langevin.modalities.shards import index
from langevin.modalities.shards.folder import shards_at
from langevin.modalities.shards.shard import BadShard, Changed, Shard, escaped, scanned
from langevin.run.pack import pack
from tests import shards

FILES = {
    "a.txt": b"one", "cat/1.png": b"picture", "cat/1.txt": b"", "cat/deep/2.0.png": b"x" * 2000, "dog/%2E.png": b"y",
    "dog/ä ü.png": b"z", f"dog/{'n' * 150}.png": b"long", "README": b"about",
    "metadata.jsonl": b'{"file_name": "cat/1.png", "text": "a cat"}\n',
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LANGEVIN_CACHE", str(tmp_path / "cache"))


def fill(folder, files=FILES):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def read(folder):
    return {name: content.content(folder / name) for name in walk(folder)}


@pytest.mark.parametrize("size", [2**16, 2**30])
def test_a_packed_folder_has_the_names_and_bytes_of_the_folder(tmp_path, size):
    files = FILES | {f"many/{i:04}.bin": bytes([i % 251]) * 700 for i in range(150)}
    fill(tmp_path / "data", files)
    packed = pack(tmp_path / "data", tmp_path / "out", shard_size=size)
    assert (len(packed.shards) > 1) == (size == 2**16)
    assert all(bytes <= size + 20_000 for _, bytes in packed.shards)
    assert read(tmp_path / "out") == read(tmp_path / "data") == files
    for file in tmp_path.glob("out/*.index"):  # without them, the same is read by a pass
        file.unlink()
    assert read(tmp_path / "out") == files
    (tmp_path / "again").mkdir()
    shutil.copytree(tmp_path / "out", tmp_path / "again" / "copy")
    assert read(tmp_path / "again" / "copy") == files


def test_packing_is_a_function_of_the_data(tmp_path):
    fill(tmp_path / "data")
    for out in ("a", "b"):
        pack(tmp_path / "data", tmp_path / out, shard_size=2**20)
    assert (tmp_path / "a" / "shard-000000.tar").read_bytes() == (tmp_path / "b" / "shard-000000.tar").read_bytes()


def test_shards_of_shards_are_the_same_files(tmp_path):
    fill(tmp_path / "data")
    pack(tmp_path / "data", tmp_path / "a", shard_size=2**20)
    pack(tmp_path / "a", tmp_path / "b", shard_size=2**16)
    assert read(tmp_path / "b") == FILES


def test_webdataset_reads_what_is_packed(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    files = {f"{kind}/{i}.{i}.png": bytes([i]) for kind in ("cat", "dog") for i in range(5)}
    files |= {f"{kind}/{i}.{i}.txt": f"{kind} {i}".encode() for kind in ("cat", "dog") for i in range(5)}
    pack(fill(tmp_path / "data", files), tmp_path / "out", shard_size=2**20)
    samples = list(webdataset.WebDataset(str(tmp_path / "out" / "shard-000000.tar"), shardshuffle=False))
    assert len(samples) == 10
    for sample in samples:
        kind, _, number = sample["__key__"].partition("/")
        assert sample["txt"].decode() == f"{kind} {number[0]}"
        assert sample["png"] == bytes([int(number[0])])
        assert int(sample["cls"]) == ["cat", "dog"].index(kind)


def test_records_of_metadata_are_beside_their_files_for_others(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    pack(fill(tmp_path / "data"), tmp_path / "out", shard_size=2**20)
    found = {
        s["__key__"]: s for s in webdataset.WebDataset(str(tmp_path / "out" / "shard-000000.tar"), shardshuffle=False)
    }
    assert json.loads(found["cat/1"]["json"]) == {"text": "a cat"}


def test_shards_of_others_are_read_by_folder_and_alone(tmp_path):
    one = shards.tar(
        tmp_path / "s" / "data-000.tar", [("./cat/1.jpg", b"1"), ("cat/1.cls", b"3"), ("cat/1.txt", b"a cat")]
    )
    shards.tar(tmp_path / "s" / "data-001.tar", [("cat/2.jpg", b"2"), ("cat/2.json", b'{"label": "tabby", "x": [1]}')])
    assert walk(one) == ["cat/1.jpg", "cat/1.txt", "metadata.jsonl"]
    assert content.content(one / "cat/1.jpg") == b"1"
    assert walk(tmp_path / "s") == ["cat/1.jpg", "cat/1.txt", "cat/2.jpg", "metadata.jsonl"]
    said = [json.loads(line) for line in content.text_of(tmp_path / "s" / "metadata.jsonl").splitlines()]
    assert sorted(said, key=lambda r: r["file_name"]) == [
        {"file_name": "cat/1.jpg", "label": "3", "text": "a cat"}, {"file_name": "cat/2.jpg", "label": "tabby"},
    ]  # fmt: skip
    assert content.is_folder(tmp_path / "s" / "cat")
    assert regular(tmp_path / "s" / "cat/2.jpg")
    assert not regular(one)
    assert sorted(content.entries(tmp_path / "s" / "cat")) == ["1.jpg", "1.txt", "2.jpg"]
    assert shard_numbers(tmp_path / "s", ["cat/1.jpg", "cat/2.jpg", "nowhere"]) == [1, 2, 0]


def test_shards_of_parts_are_folders_of_these_names(tmp_path):
    for part in ("train", "val"):
        shards.tar(tmp_path / f"{part}-000.tar", [("1.jpg", part.encode())])
    assert walk(tmp_path) == ["train/1.jpg", "val/1.jpg"]
    assert content.content(tmp_path / "val" / "1.jpg") == b"val"


def test_equal_names_in_several_shards_are_told_apart(tmp_path):
    for i in range(3):
        shards.tar(tmp_path / f"{i}.tar", [("a/x.jpg", f"{i}".encode()), ("a/y.jpg", f"{i}".encode())])
    assert walk(tmp_path) == [f"a/{i}~{name}.jpg" for i in range(3) for name in "xy"]
    assert any("Files of one name in several shards: 2" in line for line in shard_remarks(tmp_path))


def test_a_copy_of_a_shard_is_left_out(tmp_path):
    shards.tar(tmp_path / "a.tar", [(f"{i}.jpg", b"same") for i in range(40)])
    shutil.copy(tmp_path / "a.tar", tmp_path / "b.tar")
    assert len(walk(tmp_path)) == 40
    assert "Shards that are copies, left out: b.tar of a.tar." in shard_remarks(tmp_path)


def test_what_leads_out_of_a_shard_is_counted_and_not_read(tmp_path):
    hostile = ["../up.jpg", "/etc/passwd", "a/../../b.jpg", "C:\\x.jpg", "a\\b.jpg", "C:/x.jpg"]
    extra = [shards.link("l.jpg", "/etc/passwd"), shards.link("h.jpg", "ok.jpg", tarfile.LNKTYPE),
             shards.link("f.jpg", "", tarfile.FIFOTYPE), shards.link("d.jpg", "", tarfile.CHRTYPE)]  # fmt: skip
    shards.tar(tmp_path / "a.tar", [("ok.jpg", b"1"), *((name, b"x") for name in hostile)], extra=extra)
    assert walk(tmp_path) == ["ok.jpg"]
    assert len(scanned(tmp_path / "a.tar").refused) == len(hostile) + len(extra)
    assert any("In shards, not read: 10" in line for line in shard_remarks(tmp_path))
    with pytest.raises(OSError, match="no such file"):
        content.content(tmp_path / "l.jpg")


def test_a_name_that_is_nowhere_opens_no_archive_that_lies_about(tmp_path):
    (tmp_path / "backup.tar").write_bytes(b"no tar")
    assert not content.exists(tmp_path / "nowhere")
    assert not regular(tmp_path / "nowhere" / "a.jpg")


def test_a_name_that_is_there_twice_is_read_as_it_would_be_unpacked(tmp_path):
    shards.tar(tmp_path / "a.tar", [("x.jpg", b"first"), ("x.jpg", b"last")])
    assert walk(tmp_path) == ["x.jpg"]
    assert content.content(tmp_path / "x.jpg") == b"last"
    assert any("is there twice" in line for line in shard_remarks(tmp_path))


def test_empty_shards_are_said(tmp_path):
    shards.tar(tmp_path / "a.tar", [])
    shards.tar(tmp_path / "b.tar", [("x.jpg", b"1")])
    assert walk(tmp_path) == ["x.jpg"]
    assert "Shards without files: 1 (a.tar)." in shard_remarks(tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda data: data[:-10240], "is cut short: after 9 files"),
        (lambda data: data[:5000], "is cut short"),
        (lambda data: data[:700], "is cut short"),
        (lambda data: data[:3072] + b"\xff" * 512 + data[3584:], "is damaged at byte 3,072"),
        (lambda data: b"", "is empty"),
        (lambda data: b"\x1f\x8b" + data, "is compressed"),
        (lambda data: b"no tar at all" * 100, "is no tar archive"),
    ],
)
def test_a_shard_that_is_damaged_is_named_with_what_to_do(tmp_path, make, message):
    path = shards.tar(tmp_path / "a.tar", [(f"{i}.jpg", b"x" * 600) for i in range(9)])
    data = path.read_bytes()
    end = 9 * (512 + 1024)
    data = data[:end] + b"\0" * 10240
    path.write_bytes(make(data))
    with pytest.raises(BadShard, match=r"a\.tar " + message):
        walk(tmp_path)


def test_any_cut_of_a_shard_is_noticed_or_leaves_all_files(tmp_path):
    path = shards.tar(tmp_path / "a.tar", [(f"{i}.jpg", b"x" * 600) for i in range(3)])
    whole = path.read_bytes()
    for length in range(0, len(whole), 128):
        path.write_bytes(whole[:length])
        try:
            found = scanned(path)
        except BadShard:
            continue
        assert len(found.members) == 3


def test_packed_shards_that_are_missing_or_of_another_size_are_named(tmp_path):
    pack(
        fill(tmp_path / "data", {f"{i}.bin": bytes([i]) * 30_000 for i in range(9)}), tmp_path / "out", shard_size=2**16
    )
    second = tmp_path / "out" / "shard-000001.tar"
    data = second.read_bytes()
    second.write_bytes(data + b"\0" * 512)
    with pytest.raises(BadShard, match=r"shard-000001\.tar has .* were packed: fetch it"):
        walk(tmp_path / "out")
    second.unlink()
    with pytest.raises(BadShard, match=r"shard-000001\.tar is missing, which shards\.json lists"):
        walk(tmp_path / "out")


def test_a_gap_in_the_numbers_of_shards_is_remarked_on(tmp_path):
    for i in (0, 1, 3, 4):
        shards.tar(tmp_path / f"x-{i:03}.tar", [(f"{i}.jpg", b"1")])
    assert any("missing are 2" in line for line in shard_remarks(tmp_path))


def test_a_damaged_byte_is_noticed_where_it_was_packed(tmp_path):
    pack(fill(tmp_path / "data", {"a.bin": b"a" * 100, "b.bin": b"b" * 100}), tmp_path / "out", shard_size=2**20)
    path = tmp_path / "out" / "shard-000000.tar"
    path.write_bytes(path.read_bytes().replace(b"a" * 100, b"a" * 99 + b"!"))
    assert walk(tmp_path / "out") == ["a.bin", "b.bin"]
    assert content.content(tmp_path / "out" / "b.bin") == b"b" * 100
    with pytest.raises(Changed, match="is damaged in shard-000000"):
        content.content(tmp_path / "out" / "a.bin")


def test_a_stale_index_is_not_used(tmp_path):
    path = shards.tar(tmp_path / "s" / "a.tar", [("x.jpg", b"first"), ("y.jpg", b"2")])
    assert walk(tmp_path / "s") == ["x.jpg", "y.jpg"]
    assert len(list((tmp_path / "cache").rglob("*.json"))) == 1
    shards.tar(path, [("u.jpg", b"other"), ("y.jpg", b"2")])  # of the same size
    assert index.indexed(path).members == scanned(path).members
    beside = path.with_name("a.tar.index")
    beside.write_bytes(index.encoded(scanned(path)))
    shards.tar(path, [("v.jpg", b"other"), ("y.jpg", b"2")])
    assert [m.name for m in index.indexed(path).members] == ["v.jpg", "y.jpg"]


@pytest.mark.parametrize("members", [[["../x", 512, 1, ""]], [["x", 512, 10**9, ""]], [["x", -5, 1, ""]], [["x"]], 3])
def test_an_index_of_anyone_leads_nowhere(tmp_path, members):
    path = shards.tar(tmp_path / "a.tar", [("x.jpg", b"1")])
    tree = json.loads(index.encoded(scanned(path))) | {"members": members}
    path.with_name("a.tar.index").write_text(json.dumps(tree))
    assert [m.name for m in index.indexed(path).members] == ["x.jpg"]


def test_a_read_after_the_shard_changed_is_refused(tmp_path):
    path = shards.tar(tmp_path / "a.tar", [("x.jpg", b"first")])
    found = shards_at(tmp_path)
    shards.tar(path, [("longer.jpg", b"other bytes")])
    with pytest.raises(Changed, match="has changed"):
        found.read("x.jpg")


@pytest.mark.parametrize(
    "name",
    ["a.png", "a.b.png", "d.e/a.b.c.png", "%2E.png", "a%25b%2E.x.png", "noSuffix", "d/%2e.png", "a%2Eb/x.png",
     "100%25 wool/a.b.png", ".".join("abcdefghijklmnopqrstuvwxyz0123456789abcd")],
)  # fmt: skip
def test_escaped_names_have_one_dot_and_are_inverted(tmp_path, name):
    assert escaped(name).rpartition("/")[2].count(".") <= 1
    shards.tar(tmp_path / "a.tar", [(escaped(name), b"1")])
    found = scanned(tmp_path / "a.tar")
    assert [(m.name, found.read(m)) for m in found.members] == [(name, b"1")]


def test_names_with_control_characters_are_neither_packed_nor_read_nor_printed(tmp_path):
    packed = pack(fill(tmp_path / "data", {"a.png": b"1", "b\x1b[31m.png": b"2"}), tmp_path / "out", shard_size=2**16)
    assert (packed.files, [name for name, _ in packed.broken]) == (1, [ascii("b\x1b[31m.png")])
    shards.tar(tmp_path / "s" / "a.tar", [("././x.png", b"1"), ("c\x1b[31m.png", b"2")])
    assert walk(tmp_path / "s") == ["x.png"]
    assert any("?[31m" in line for line in shard_remarks(tmp_path / "s"))
    assert all(line.isprintable() for line in shard_remarks(tmp_path / "s"))


def test_shards_that_differ_in_one_byte_are_no_copies(tmp_path):
    for j in range(2):
        shards.tar(tmp_path / f"{j}.tar", [(f"{i:03}.jpg", b"1" if j and i == 25 else b"0") for i in range(100)])
    assert len(walk(tmp_path)) == 200


def test_a_large_file_beside_another_is_no_description_and_is_not_read(tmp_path, monkeypatch):
    large = b'{"text": "' + b"x" * 2**20 + b'"}'
    shards.tar(
        tmp_path / "a.tar", [("1.jpg", b"1"), ("1.json", large), ("2.jpg", b"2"), ("2.json", b'{"text": "cat"}')]
    )
    lengths, read = list[int](), Shard.read
    monkeypatch.setattr(Shard, "read", lambda self, member: lengths.append(member.size) or read(self, member))
    assert walk(tmp_path) == ["1.jpg", "2.jpg", "metadata.jsonl"]
    said = [json.loads(line) for line in content.text_of(tmp_path / "metadata.jsonl").splitlines()]
    assert said == [{"text": "cat", "file_name": "2.jpg"}]
    assert lengths == [15]


def test_a_packed_shard_alone_keeps_its_captions_and_one_of_others_beside_packed_ones_too(tmp_path):
    out = tmp_path / "out"
    pack(fill(tmp_path / "data"), out, shard_size=2**20)
    one = out / "shard-000000.tar"
    assert set(walk(one)) == {*FILES} - {"README"}
    assert json.loads(content.text_of(one / "metadata.jsonl")) == {"text": "a cat", "file_name": "cat/1.png"}
    (out / "metadata.jsonl").unlink()
    shards.tar(out / "more.tar", [("z/9.png", b"9"), ("z/9.json", b'{"text": "nine"}')])
    assert "z/9.json" not in walk(out)
    assert [json.loads(line)["text"] for line in content.text_of(out / "metadata.jsonl").splitlines()] == ["nine"]


@pytest.mark.parametrize("file", ["shard-000000.tar.index", "shards.json"])
def test_a_number_without_bound_in_a_file_beside_is_no_index(tmp_path, file):
    pack(fill(tmp_path / "data", {"a.png": b"1"}), tmp_path / "out", shard_size=2**16)
    path = tmp_path / "out" / file
    tree = json.loads(path.read_text())
    tree["members" if file.endswith("index") else "shards"][0][1] = float("inf")
    path.write_text(json.dumps(tree))
    assert walk(tmp_path / "out") == ["a.png"]


def test_records_for_others_hold_no_numbers_that_json_has_not(tmp_path):
    record = b'{"file_name": "a.png", "text": "t", "score": NaN, "more": [Infinity]}'
    pack(fill(tmp_path / "data", {"a.png": b"1", "metadata.jsonl": record}), tmp_path / "out", shard_size=2**16)
    with tarfile.open(tmp_path / "out" / "shard-000000.tar") as tar:
        assert json.loads(tar.extractfile("a.json").read()) == {"text": "t"}
