"""`langevin generate`: by one process or several, at once or after a kill, the same files."""

import errno
import json
import multiprocessing
import threading
import time

import pytest

from langevin.modalities.image.options import Sample
from langevin.run.bulk import Bulk, request_of
from langevin.run.directory import open_run
from langevin.run.drawer import Drawer
from langevin.run.shards import ShardFolder
from langevin.run.workers import work_here
from tests.run.test_bulk import content


def test_a_repeated_command_adds_nothing_and_a_larger_count_adds_the_rest(told, trained, tmp_path):
    command = (
        "generate",
        trained,
        "--shard-size",
        "4",
        "--out",
        tmp_path / "out",
        "--workers",
        "1",
        "--condition",
        "disc",
    )
    status, _, err = told(*command, "--count", "8")
    assert status == 0
    assert f"8 samples in 2 shards: {tmp_path / 'out'}, listed in" in err
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.png")}
    status, _, err = told(*command, "--count", "8")
    assert (status, "samples/s" in err) == (0, False)
    assert told(*command, "--count", "12")[0] == 0
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.png")}
    assert len(after) == 12
    assert {p: t for p, t in after.items() if p in before} == before


def test_without_a_name_the_same_command_finds_its_folder(told, trained, refused):
    command = ("generate", trained, "--shard-size", "4", "--workers", "1", "--seed", "77")
    assert told(*command, "--count", "4")[0] == 0
    assert told(*command, "--count", "8")[0] == 0
    assert told(*command, "--count", "8", "--steps", "2")[0] == 0
    folders = sorted((trained / "generated").iterdir())
    assert len(folders) == 2
    assert [len((f / "manifest.jsonl").read_text().splitlines()) for f in folders] == [8, 8]
    words = (*command, "--count", "8", "--steps", "3", "--out", folders[0])
    assert "holds samples of another request, whose steps differed" in refused(*words)


def test_shares_say_what_is_missing_and_the_last_one_lists_all(told, trained, tmp_path, monkeypatch):
    command = ("generate", trained, "--count", "10", "--shard-size", "4", "--out", tmp_path / "out", "--workers", "1")
    status, _, err = told(*command, "--of", "2", "--index", "1")
    assert status == 0
    assert "share 1 of 2 is done; 2 of 3 shards are not there yet" in err
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    assert "10 samples in 3 shards" in told(*command, "--of", "2")[2]


def test_a_full_disk_is_said_and_the_command_goes_on(told, refused, trained, tmp_path, monkeypatch):

    command = ("generate", trained, "--count", "8", "--shard-size", "4", "--out", tmp_path / "out", "--workers", "1")
    write = ShardFolder.write_record

    def full(self, shard, lines):
        if shard.start:
            raise OSError(errno.ENOSPC, "disk full while writing a record: free some disk space and repeat the command")
        write(self, shard, lines)

    with monkeypatch.context() as patch:
        patch.setattr(ShardFolder, "write_record", full)
        assert "repeat the command" in refused(*command)
    assert [f.name for f in (tmp_path / "out" / "records").iterdir()] == ["0000000000-0000000004.jsonl"]
    assert not list((tmp_path / "out" / "leases").iterdir())
    assert told(*command)[0] == 0
    lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == list(range(8))


def test_a_first_command_that_is_interrupted_leaves_what_others_have_made_meanwhile(
    told, trained, tmp_path, monkeypatch
):
    request = Bulk(run=trained, out=tmp_path / "out", count=8, shard_size=4, options=Sample(), form=".npz")
    words = ("generate", trained, "--count", 8, "--shard-size", 4, "--form", "npz", "--out", request.out)

    def interrupted(*_, **__):
        request.folder.prepare(request_of(request, open_run(trained)))
        (request.out / "samples" / "theirs.npz").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Drawer, "of", interrupted)
        assert told(*words)[0] != 0
    assert (request.out / "samples" / "theirs.npz").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Drawer, "of", lambda *_, **__: pytest.fail("loaded for the folder of another request"))
        assert told(*words, "--steps", "3")[0] != 0
    assert told(*words[:-1], tmp_path / "no", "--condition", "nothing")[0] != 0
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_three_workers_of_which_one_is_killed_make_the_files_of_one(trained, tmp_path):
    def made(name, workers, then=lambda bulk: None):
        bulk = Bulk(run=trained, out=tmp_path / name, count=6000, shard_size=100, options=Sample(), form=".npz")
        bulk.folder.prepare(request_of(bulk, open_run(trained)))
        killing = threading.Thread(target=then, args=(bulk,), daemon=True)
        killing.start()
        said = list[str]()
        work_here(bulk, list(bulk.work_list), workers=workers, say=said.append, update=lambda text: None)
        killing.join(1)
        assert not killing.is_alive()
        assert bulk.folder.finish(list(bulk.work_list))
        assert not list((bulk.out / "leases").iterdir())
        return content(bulk.out), said

    def kill(bulk):
        shards = list(bulk.work_list)
        while len(bulk.folder.missing(shards)) > len(shards) - 2:
            time.sleep(0.01)
        multiprocessing.active_children()[0].kill()

    one, _ = made("one", 1)
    three, said = made("three", 3, kill)
    assert three == one
    assert [line for line in said if "was killed (signal 9)" in line]


@pytest.mark.slow
def test_an_error_of_a_worker_ends_all_of_them(trained, tmp_path):
    bulk = Bulk(run=trained, out=tmp_path / "out", count=20, shard_size=4, options=Sample(condition=("no",)), form="")
    bulk.folder.prepare(request_of(bulk, open_run(trained)))
    with pytest.raises(ValueError, match="no class is called 'no'"):
        work_here(bulk, list(bulk.work_list), workers=2, say=lambda line: None, update=lambda text: None)
    assert multiprocessing.active_children() == []
