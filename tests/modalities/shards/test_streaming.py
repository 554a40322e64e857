"""Training on shards is training on the files in them, whatever the memory, the threads and the place of a stop."""

import json
import shutil
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from langevin.cli import main
from langevin.diffusion.batch import step_randomness
from langevin.modalities.ahead import ReadAhead
from langevin.modalities.image import parquet
from langevin.modalities.image.data import load_parts, quiet
from langevin.modalities.image.sources import Folder, Parquet
from langevin.modalities.image.store import Streaming
from langevin.modalities.row_groups import Group, RowGroups
from langevin.recipe.build import build, training_batches
from langevin.recipe.detect import chosen
from langevin.run.directory import open_run
from langevin.run.pack import pack
from langevin.training import checkpoint
from tests import clips, motions, pictures, scores, texts, tiny, voices

STREAMED = ("data.memory_limit=0", "training.shuffle_window=7")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LANGEVIN_CACHE", str(tmp_path / "cache"))


def shards_of(folder):
    pack(folder, folder.with_name(f"{folder.name}-shards"), shard_size=2**16)
    return folder.with_name(f"{folder.name}-shards")


@pytest.mark.parametrize(
    "make",
    [
        pictures.classes, pictures.captions, clips.captioned, clips.framed, voices.spoken, voices.digits, motions.walks,
        motions.mimics, motions.swings, scores.songs, texts.corpus, texts.dialogues,
    ],
)  # fmt: skip
def test_every_kind_of_files_is_the_same_data_when_it_is_packed(tmp_path, make):
    made = make(tmp_path / "data")
    folder = made if made is not None and made.is_dir() else tmp_path / "data"
    packed = shards_of(folder)
    assert {path.suffix for path in packed.rglob("*") if path.is_file()} <= {
        ".tar",
        ".index",
        ".json",
        ".jsonl",
        ".csv",
    }
    kinds = [chosen(path) for path in (folder, packed)]
    assert kinds[0].kind == kinds[1].kind
    parts = [kind.open() for kind in kinds]
    for one, other in zip(*parts, strict=True):
        assert one.fingerprint == other.fingerprint
        assert len(one) == len(other) > 0


def ends(run):
    return checkpoint.load_latest(run / "checkpoints")[0].groups


def assert_equal_runs(one, other):
    first, second = ends(one), ends(other)
    assert first.keys() == second.keys()
    for group, tensors in first.items():
        assert all(torch.equal(tensor, second[group][name]) for name, tensor in tensors.items())


def losses(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_a_run_on_shards_is_that_on_the_folder_to_the_bit(tmp_path):
    folder = pictures.classes(tmp_path / "data")
    packed = shards_of(folder)
    runs = [
        tiny.run_of(data, tmp_path / name, *changes)
        for name, data, changes in (
            ("folder", folder, ()), ("streamed", packed, ("data.memory_limit=0",)),
        )
    ]  # fmt: skip
    assert losses(runs[0]) == losses(runs[1]) != []
    assert_equal_runs(*runs)


def test_a_run_resumed_in_the_middle_of_a_window_ends_in_the_same_bits(tmp_path, capfd):
    packed = shards_of(pictures.classes(tmp_path / "data", count=40, side=32))
    assert len(list(packed.glob("*.tar"))) > 1
    whole = tiny.run_of(
        packed, tmp_path / "whole", *STREAMED, "data.size=8", "training.checkpoint_minutes=1e-9", steps=6
    )
    copy = shutil.copytree(whole, tmp_path / "copy")
    steps = checkpoint.steps(copy / "checkpoints")
    keep = next(path for path in steps if checkpoint.step_of(path) not in (0, 6))
    for path in steps:
        if path != keep:
            shutil.rmtree(path)
    assert checkpoint.step_of(keep) * 8 % 7 != 0  # in a window
    assert main(["resume", str(copy)]) == 0
    assert_equal_runs(whole, copy)


def test_a_window_without_shards_is_refused(tmp_path, capfd):
    folder = pictures.classes(tmp_path / "data")
    assert (
        main(["train", str(folder), "--out", str(tmp_path / "run"), "training.steps=1", *tiny.SMALL, STREAMED[1]]) == 1
    )
    assert "training.shuffle_window is for data in shards or Parquet files" in capfd.readouterr().err


@pytest.fixture
def parts(tmp_path):
    packed = shards_of(pictures.classes(tmp_path / "data", count=60))
    with quiet():
        return load_parts(Folder(path=str(packed)), memory_limit=0)


def test_any_number_of_threads_and_any_reading_ahead_give_the_same_pixels(parts):
    train, _ = parts
    store = train.store
    assert isinstance(store, Streaming)
    index = torch.tensor([5, 3, 3, 20, 0])
    expected = torch.stack([store.table.decode(train.rows[i], train.shape) for i in index.tolist()])
    for workers in (1, 4):
        made = Streaming(table=store.table, shapes=store.shapes, sizes=store.sizes, workers=workers)
        rows = [train.rows[i] for i in index.tolist()]
        assert torch.equal(made.read(rows), expected)
        made.expect(rows)
        made.expect([*rows, *train.rows[:30]])
        assert torch.equal(made.read(rows), expected)
        assert torch.equal(made.read(rows), expected)


def test_what_waits_is_bounded_and_what_is_not_wanted_any_more_is_let_go():
    ahead = ReadAhead(lambda row: row * row, size=lambda row: 10, limit=45, workers=3)
    for start in range(0, 300, 3):
        ahead.want(range(start, start + 20))
        assert ahead.held <= 45
        assert ahead.take([start, start + 1, start + 2]) == [n * n for n in range(start, start + 3)]
    assert ahead.most == 40
    ahead.want([1])
    assert ahead.held == 10
    ahead.take([1])
    assert ahead.held == 0


def test_an_error_while_reading_ahead_is_raised_where_the_item_is_taken_and_only_there():
    def read(row):
        if row == 2:
            raise ValueError("broken")
        return row

    ahead = ReadAhead(read, size=lambda row: 1, workers=2)
    ahead.want([1, 2, 3])
    assert ahead.take([3, 1]) == [3, 1]
    with pytest.raises(ValueError, match="broken"):
        ahead.take([2])
    assert ahead.take([1]) == [1]


# ------------------------------------------------------------------------------------------------------------ Parquet


def table_of(folder, *, count=60, rows=10):
    pictures.captions(folder / "images", count=count)
    said = [json.loads(line)["text"] for line in (folder / "images" / "metadata.jsonl").read_text().splitlines()]
    images = [{"bytes": (folder / "images" / f"{i:03d}.png").read_bytes(), "path": None} for i in range(count)]
    labels = [text.split()[1] for text in said]
    path = folder / "data.parquet"
    pq.write_table(pa.table({"image": images, "text": said, "label": labels}), path, row_group_size=rows)
    return path


@pytest.fixture
def paged(monkeypatch):
    """Parquet files that are read by row groups, however small."""
    monkeypatch.setattr(parquet, "IN_MEMORY", 0)


def test_images_of_row_groups_are_those_that_are_read_at_once(tmp_path, monkeypatch):
    source = Parquet(path=str(table_of(tmp_path)))
    with quiet():
        whole = load_parts(source)
        monkeypatch.setattr(parquet, "IN_MEMORY", 0)
        paged = load_parts(source, memory_limit=0)
    for one, other in zip(whole, paged, strict=True):
        assert one.names == other.names
        assert one.captions == other.captions
        assert torch.equal(one.labels, other.labels)
        every = torch.arange(len(one))
        assert torch.equal(one.read(every), other.read(every))
    assert paged[0].shards.tolist() == [row // 10 for row in paged[0].rows]


def test_row_groups_that_are_kept_are_bounded_and_a_window_reads_each_about_once():
    groups = [Group(file=None, number=i, rows=10, unpacked=100) for i in range(50)]
    cells = RowGroups(groups, lambda group: [group.number * 10 + i for i in range(10)], limit=600)
    assert cells.window == 30
    from langevin.training.order import in_windows

    order = in_windows(torch.tensor(cells.shards), cells.window, seed=1, epoch=0)
    for row in order.tolist():
        assert cells.read(row) == row
        assert cells.held <= 600
    assert cells.most <= 600
    assert cells.loaded == 50


def test_a_row_group_that_could_not_be_read_is_read_again(tmp_path):
    answers = [OSError("the disk is away"), list(range(4))]

    def load(group):
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    groups = RowGroups([Group(file=tmp_path, number=0, rows=4, unpacked=10)], load)
    with pytest.raises(OSError, match="is away"):
        groups.read(2)
    assert (groups.held, groups.read(2), groups.held) == (0, 2, 10)


def test_what_is_read_ahead_keeps_no_process_from_ending(tmp_path):
    program = """
import time
from pathlib import Path
from langevin.modalities.ahead import ReadAhead
def read(item):
    Path(str(item)).touch()
    time.sleep(0.05)
ReadAhead(read, size=lambda item: 1, workers=1).want(range(200))
reader = ReadAhead(read, size=lambda item: 1, workers=1)
reader.want(range(200))
raise SystemExit(3)
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path).returncode == 3
    assert len(list(tmp_path.iterdir())) < 50


def test_a_group_larger_than_the_limit_is_read_alone():
    groups = [Group(file=None, number=i, rows=2, unpacked=1000) for i in range(3)]
    cells = RowGroups(groups, lambda group: [group.number, group.number], limit=10)
    assert [cells.read(row) for row in (0, 5, 1, 3)] == [0, 2, 0, 1]


def test_a_run_on_row_groups_is_trained_in_windows_and_resumes(tmp_path, paged):
    path = table_of(tmp_path)
    run = tiny.run_of(path, tmp_path / "run", "data.memory_limit=0")
    made = open_run(run)
    data, _ = made.open_data()
    batches = build(made.recipe).batches(data)
    assert batches.window is not None
    read = training_batches(made.recipe, batches)
    samples = torch.arange(8)
    seen = [read(step, samples, step_randomness(seed=0, step=step, samples=samples, count=8)).x for step in range(3)]
    again = read(2, samples, step_randomness(seed=0, step=2, samples=samples, count=8)).x
    assert torch.equal(seen[2], again)


def test_damaged_row_groups_are_named(tmp_path, paged):
    path = table_of(tmp_path)
    data = bytearray(path.read_bytes())
    data[4:2000] = bytes(1996)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"data\.parquet"), quiet():
        load_parts(Parquet(path=str(path)), memory_limit=0)


# ------------------------------------------------------------------------------------- what was found when all were decoded


@pytest.mark.parametrize("packed", [False, True])
def test_images_that_stream_are_decoded_once_and_again_when_one_changes(tmp_path, monkeypatch, packed):
    folder = pictures.classes(tmp_path / "data")
    (folder / "disc" / "bad.png").write_bytes(b"no picture")
    source = Folder(path=str(shards_of(folder) if packed else folder))
    with quiet():
        first = load_parts(source, memory_limit=0)
        with monkeypatch.context() as forbidden:
            forbidden.setattr("langevin.modalities.image.data._decode_all", None)
            again = load_parts(source, memory_limit=0)
        assert [part.names for part in again] == [part.names for part in first]
        assert [part.fingerprint for part in again] == [part.fingerprint for part in first]
        assert again[0].notes == first[0].notes
        assert len(again[0].notes.broken) == 1
        pictures.draw("disc", "red", side=8, seed=99).save(folder / "disc" / "000.png")
        if packed:
            shutil.rmtree(source.path)
            shards_of(folder)
        changed = load_parts(source, memory_limit=0)
    assert [part.fingerprint for part in changed] != [part.fingerprint for part in first]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"identities": []}', "null"])
def test_a_damaged_record_of_what_was_found_is_made_again(tmp_path, content):
    source = Folder(path=str(pictures.classes(tmp_path / "data")))
    with quiet():
        first = load_parts(source, memory_limit=0)
        (file,) = (tmp_path / "cache" / "images").iterdir()
        file.write_text(content)
        assert [part.names for part in load_parts(source, memory_limit=0)] == [part.names for part in first]
    assert json.loads(file.read_text())["identities"]
