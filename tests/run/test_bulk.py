"""Many samples: the shards are the samples, each is made once, and by whom changes nothing."""

import io
import itertools
import json
import multiprocessing
import os
import shutil
import socket
import tarfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from langevin.cli import main
from langevin.files import temporary_of
from langevin.modalities.image.options import Sample
from langevin.modalities.modality import Samples
from langevin.run.bulk import Bulk, conditions_of, form_of, request_of, taken_in_turn
from langevin.run.directory import open_run
from langevin.run.drawer import Drawer, work
from langevin.run.leases import Leases, here
from langevin.run.shards import MANIFEST, Shard, ShardFolder, WorkList, digest
from langevin.run.tar import tarred


@given(st.integers(1, 2000), st.integers(1, 500), st.integers(1, 20))
def test_shards_are_the_samples_in_order_and_shares_are_the_shards(count, size, of):
    shards = WorkList(count=count, size=size)
    assert (shards[0].start, shards[-1].stop) == (0, count)
    assert all(a.stop == b.start and len(a) == size for a, b in itertools.pairwise(shards))
    assert 1 <= len(shards[-1]) <= size
    shares = [shard for index in range(of) for shard in shards.share(index, of)]
    assert sorted(s.name for s in shares) == [s.name for s in shards]  # also: names are in the order of samples


@given(st.integers(1, 1000), st.integers(1, 50), st.integers(1, 5))
def test_more_samples_are_more_shards_and_change_no_earlier_one(whole, size, more):
    few = WorkList(count=whole * size, size=size)
    assert WorkList(count=(whole + more) * size, size=size)[: len(few)] == list(few)


@given(st.integers(1, 60), st.integers(1, 25), st.integers(1, 40))
def test_samples_take_conditions_in_turn_across_shards(count, size, given):
    names = tuple(str(i) for i in range(given))
    taken = list[str]()
    for shard in WorkList(count=count, size=size):
        own = taken_in_turn(Sample(), {"condition": names}, shard).condition
        assert own == taken_in_turn(Sample(condition=names), {}, shard).condition
        taken += [own[i % len(own)] for i in range(len(shard))]  # as a modality repeats them
    assert taken == [names[i % given] for i in range(count)]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [({"count": 0}, "--count must be"), ({"count": 10, "size": 0}, "--shard-size must be"),
     ({"count": 10**9, "size": 1}, "larger --shard-size")],
)  # fmt: skip
def test_lists_out_of_range_are_refused(wanted, words):
    with pytest.raises(ValueError, match=words):
        WorkList(**wanted)


@pytest.mark.parametrize(("index", "of"), [(-1, 2), (2, 2), (0, 0)])
def test_there_are_as_many_shares_as_said(index, of):
    with pytest.raises(ValueError, match="have the indices"):
        WorkList(count=10).share(index, of)


def test_digests_tell_values_apart_and_forms_of_one_value_together():
    @dataclass
    class Piece:
        notes: tuple[int, ...]

    values = [
        torch.zeros(2, 3), torch.zeros(3, 2), torch.zeros(6), torch.zeros(2, 3, dtype=torch.float64), "", "a", b"a", "1", 1,
        1.0, None, ["a", "b"], ["ab"], [["a"], "b"], {"a": 1}, {"a": "1"}, Piece((1,)), Piece((1, 2)),
    ]  # fmt: skip
    assert len({digest(value) for value in values}) == len(values)
    assert digest(torch.arange(6).view(2, 3)) == digest(np.arange(6).reshape(2, 3))
    assert digest(torch.arange(6).view(2, 3).T) == digest(torch.arange(6).view(2, 3).T.contiguous())
    with pytest.raises(TypeError, match="no digest"):
        digest(object())


# --------------------------------------------------------------------------------------------------------------- leases


def take_and_stay(folder, taken):
    with Leases(folder=folder).held("work") as held:
        taken.put(held)
        time.sleep(60)


@pytest.fixture
def killed(tmp_path):
    """A folder with the lease of a process that was killed."""
    context = multiprocessing.get_context("fork")
    taken = context.Queue()
    process = context.Process(target=take_and_stay, args=(tmp_path, taken))
    process.start()
    assert taken.get(timeout=20)
    with Leases(folder=tmp_path).held("work") as held:
        assert not held
    process.kill()
    process.join()
    return tmp_path


def test_a_lease_is_held_by_one_and_ends_with_its_block(tmp_path):
    one, two = Leases(folder=tmp_path), Leases(folder=tmp_path)
    with one.held("work") as first, two.held("work") as second, two.held("other") as other:
        assert (first, second, other) == (True, False, True)
    with suppress(KeyError), two.held("work") as held:
        assert held
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_the_lease_of_a_process_that_was_killed_on_this_machine_has_ended(killed):
    with Leases(folder=killed).held("work") as held:
        assert held


def test_a_lease_of_elsewhere_ends_when_it_is_not_renewed(killed):
    file = killed / "work"
    file.write_text(json.dumps({**json.loads(file.read_text()), "host": "elsewhere"}))
    with Leases(folder=killed, seconds=30).held("work") as held:
        assert not held
    os.utime(file, (time.time() - 31, time.time() - 31))
    with Leases(folder=killed, seconds=30).held("work") as held:
        assert held


def test_a_lease_that_is_held_is_renewed(tmp_path):
    leases = Leases(folder=tmp_path, seconds=0.2)
    with leases.held("work") as held:
        assert held
        os.utime(tmp_path / "work", (0, 0))
        deadline = time.monotonic() + 20
        while (tmp_path / "work").stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / "work").stat().st_mtime > 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 3, "process": "x"}'])
def test_a_lease_that_cannot_be_read_ends_by_its_time(tmp_path, content):
    (tmp_path / "work").write_text(content)
    with Leases(folder=tmp_path).held("work") as held:
        assert not held
    os.utime(tmp_path / "work", (0, 0))
    with Leases(folder=tmp_path).held("work") as held:
        assert held


def test_a_process_of_another_namespace_of_the_same_machine_name_is_not_taken_for_killed(tmp_path):
    holder = {"owner": "x", "host": socket.gethostname(), "process": 2**22 - 3}
    (tmp_path / "work").write_text(json.dumps(holder))
    with Leases(folder=tmp_path).held("work") as held:
        assert held == (here() == socket.gethostname())


def test_a_lease_that_another_process_has_just_taken_over_is_given_back(tmp_path, monkeypatch):
    one, two, path = Leases(folder=tmp_path), Leases(folder=tmp_path), tmp_path / "work"
    assert one._take(path)
    kept = path.read_text()
    found = [{"owner": "of a process that was killed"}]
    read = Leases._holder
    monkeypatch.setattr(Leases, "_holder", lambda self, path: found.pop() if found else read(self, path))
    monkeypatch.setattr(Leases, "_has_ended", lambda self, path, holder: True)
    assert not two._put_away(path)
    assert path.read_text() == kept
    assert list(tmp_path.iterdir()) == [path]


def test_one_that_lost_its_lease_leaves_it_to_the_other(tmp_path):
    one, two = Leases(folder=tmp_path, seconds=1000), Leases(folder=tmp_path, seconds=1000)
    with one.held("work"):
        os.utime(tmp_path / "work", (0, 0))  # as if it had been suspended for long
        with two.held("work") as held:
            assert held
            kept = (tmp_path / "work").read_text()
            with one.held("work") as again:
                assert not again
        assert two.owner in kept
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------------------------------------- a folder


REQUEST = {"seed": 0, "count": 20, "shard_size": 10}


def test_a_folder_is_of_one_request_whose_count_may_grow_by_whole_shards(tmp_path):
    folder = ShardFolder(path=tmp_path / "out", suffix=".npz")
    folder.prepare(REQUEST)
    folder.prepare(REQUEST)
    with pytest.raises(ValueError, match="another request, whose seed differed"):
        folder.prepare({**REQUEST, "seed": 1})
    folder.prepare({**REQUEST, "count": 25})
    with pytest.raises(ValueError, match="can only grow by whole shards of 10"):
        folder.prepare({**REQUEST, "count": 30})
    with pytest.raises(ValueError, match="is of --count 25"):
        folder.prepare(REQUEST)
    (tmp_path / "out" / "request.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        folder.prepare(REQUEST)


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="not of an earlier request"):
        ShardFolder(path=tmp_path, suffix="").prepare(REQUEST)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


@pytest.fixture
def filled(tmp_path):
    """A folder for 20 samples, and what makes one of its shards."""
    folder = ShardFolder(path=tmp_path / "out", suffix=".npz")
    folder.prepare(REQUEST)

    def make(shard):
        folder.samples(shard).write_bytes(b"samples")
        folder.write_record(shard, [{"index": i} for i in range(shard.start, shard.stop)])

    return folder, make


def test_a_manifest_is_of_all_samples_though_their_count_grows_while_it_is_written(filled, monkeypatch):
    folder, make = filled
    few, more = (list(WorkList(count=count, size=10)) for count in (20, 40))
    manifest = folder.path / MANIFEST
    for shard in few:
        make(shard)
    assert folder.finish(few)
    before = manifest.read_bytes()
    folder.prepare({**REQUEST, "count": 40})
    assert folder.finish(few)
    assert not manifest.exists()
    manifest.write_bytes(before)  # by a process that had begun to before
    for shard in more[2:]:
        make(shard)
    assert folder.finish(more)
    assert [json.loads(line)["index"] for line in manifest.read_text().splitlines()] == list(range(40))


def test_what_is_being_written_of_other_shards_is_left_alone(filled):
    folder, make = filled
    few, more = (list(WorkList(count=count, size=10)) for count in (20, 40))
    for shard in few:
        make(shard)
    own, other, old = (temporary_of(folder.samples(shard)) for shard in (few[1], more[2], more[3]))
    for file in (own, other, old):
        file.mkdir()
    os.utime(old, (0, 0))
    assert folder.finish(few)
    assert [file.exists() for file in (own, other, old)] == [False, True, False]


# ---------------------------------------------------------------------------------------------------------------- a run


def bulk(run, out, **changes):
    return Bulk(**{"run": run, "out": out, "count": 11, "shard_size": 4, "options": Sample(), "form": "", **changes})


def made(request):
    """The folder of a request that was made here."""
    request.folder.prepare(request_of(request, open_run(request.run)))
    work(request, list(request.work_list))
    assert request.folder.finish(list(request.work_list))
    return request.out


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def whole(trained, tmp_path_factory):
    return made(bulk(trained, tmp_path_factory.mktemp("whole") / "out"))


def records(folder):
    return [json.loads(line) for line in (folder / MANIFEST).read_text().splitlines()]


def test_the_manifest_lists_every_sample_once(whole):
    lines = records(whole)
    assert [line["index"] for line in lines] == [line["seed"] for line in lines] == list(range(11))
    assert len({line["sha256"] for line in lines}) == 11
    files = [file for shard in sorted((whole / "samples").iterdir()) for file in sorted(shard.iterdir())]
    assert len(files) == 11
    assert all(line["condition"] in file.name for line, file in zip(lines, files, strict=True))


def test_a_shard_is_what_sample_draws(trained, whole, tmp_path):
    out = tmp_path / "sampled"
    assert main(["sample", str(trained), "--count", "4", "--seed", "4", "--out", str(out)]) == 0
    ours = sorted((whole / "samples" / "0000000004-0000000008").iterdir())
    assert [f.name for f in ours] == sorted(f.name for f in out.iterdir())
    for file in ours:
        assert np.array_equal(np.asarray(Image.open(file)), np.asarray(Image.open(out / file.name)))


def test_what_was_there_is_not_made_again_and_what_is_half_there_is(trained, whole, tmp_path):
    request = bulk(trained, tmp_path / "out")
    made(request)
    before = {p: p.stat().st_mtime_ns for p in request.out.rglob("*.png")}
    first, second, _ = request.work_list
    request.folder.record(first).unlink()  # killed between the samples and their record
    for file in request.folder.samples(second).iterdir():
        file.unlink()
    request.folder.samples(second).rmdir()  # removed by hand
    (request.out / "samples" / ".0.0123456789abcdef.tmp").mkdir()  # of a process that was killed
    assert not request.folder.finish(list(request.work_list))
    made(request)
    assert content(request.out) == content(whole)
    kept = [p for p, time in before.items() if p.stat().st_mtime_ns == time]
    assert len(kept) == 3


@pytest.mark.parametrize("form", ["", ".npz", ".tar"])
def test_a_process_that_wakes_up_when_its_shard_was_made_by_another_goes_on(trained, tmp_path, form, monkeypatch):
    request = bulk(trained, tmp_path / "out", count=4, form=form)
    request.folder.prepare({**REQUEST, "count": 4, "shard_size": 4})
    shard = request.work_list[0]
    drawer = Drawer.of(request, lambda line: None)
    samples, before = drawer.draw(shard, lambda done, total: None), dict[str, bytes]()

    def draw(*_):
        if not before:  # suspended here: the other makes the shard, and sweeps
            before["begun"] = b""
            drawer.write(shard, lambda done, total: None)
            assert request.folder.finish([shard])
            before.update(content(request.out))
        return samples

    monkeypatch.setattr(drawer, "draw", draw)
    drawer.write(shard, lambda done, total: None)
    assert content(request.out) == {name: data for name, data in before.items() if name != "begun"}


def test_a_shard_whose_temporary_files_were_swept_was_done_by_the_other(trained, tmp_path, monkeypatch):
    request = bulk(trained, tmp_path / "out", count=4)
    request.folder.prepare({**REQUEST, "count": 4, "shard_size": 4})
    shard = request.work_list[0]
    drawer = Drawer.of(request, lambda line: None)
    place, calls = Drawer._place, list[Path]()

    def placed(self, shard, made):
        calls.append(made)
        if len(calls) == 1:
            drawer.write(shard, lambda done, total: None)
            assert request.folder.finish([shard])
        place(self, shard, made)

    monkeypatch.setattr(Drawer, "_place", placed)
    drawer.write(shard, lambda done, total: None)
    assert len(calls) == 2
    assert not request.folder.missing([shard])
    assert len(list((request.out / "samples").iterdir())) == 1


def test_shares_in_folders_of_their_own_make_the_whole(trained, whole, tmp_path):
    request = bulk(trained, tmp_path / "out")
    request.folder.prepare(request_of(request, open_run(trained)))
    for index in (2, 0, 1):
        assert not request.folder.finish(list(request.work_list))
        assert work(request, request.work_list.share(index, 3)) in (3, 4)
    assert work(request, list(request.work_list)) == 0
    assert request.folder.finish(list(request.work_list))
    assert content(request.out) == content(whole)


def test_more_samples_are_added_to_those_that_are_there(trained, whole, tmp_path):
    made(bulk(trained, tmp_path / "out", count=8))
    before = content(tmp_path / "out")
    made(bulk(trained, tmp_path / "out"))
    after = content(tmp_path / "out")
    assert after == content(whole)
    assert all(after[name] == data for name, data in before.items() if name not in (MANIFEST, "request.json"))


def test_each_sample_has_the_condition_of_its_line(trained, tmp_path):
    lines = ["disc", "disc", "bar", "disc", "bar"]
    file = tmp_path / "lines.txt"
    file.write_text("\r\n".join(lines) + "\n")
    out = made(bulk(trained, tmp_path / "out", each=("condition", file)))
    assert [line["condition"] for line in records(out)] == [lines[i % 5] for i in range(11)]


def test_conditions_are_lines_and_nothing_else_ends_one(tmp_path):
    file = tmp_path / "lines.txt"
    file.write_bytes("a\u2028b\x0cc\r\nd".encode())
    assert conditions_of(("condition", file)) == ("a\u2028b\x0cc", "d")
    file.write_text("a\n \nb\n")
    with pytest.raises(ValueError, match=r"line 2 of .* is blank"):
        conditions_of(("condition", file))


def test_the_request_says_which_other_runs_draw(trained, tmp_path):
    run = open_run(trained)
    others = [tmp_path / "other" for _ in range(2)]
    shutil.copytree(trained, others[0])
    request = bulk(trained, tmp_path / "out", options=Sample(enlarge=(str(others[0]),)))
    before = request_of(request, run)
    assert before == request_of(request, run)
    recipe = others[0] / "recipe.yaml"
    recipe.write_text(recipe.read_text() + "\n# changed\n")
    assert request_of(request, run) != before


def test_a_tar_file_holds_a_sample_under_its_key_with_its_record(trained, whole, tmp_path):
    out = made(bulk(trained, tmp_path / "out", form=".tar"))
    files = sorted((whole / "samples").rglob("*.png"))
    for line, picture in zip(records(out), files, strict=True):
        with tarfile.open(out / "samples" / line["shard"]) as tar:
            key = f"{line['index']:012d}"
            assert tar.extractfile(f"{key}.png").read() == picture.read_bytes()
            about = json.loads(tar.extractfile(f"{key}.json").read())
            assert about == {k: v for k, v in line.items() if k != "shard"}
    assert [line["sha256"] for line in records(out)] == [line["sha256"] for line in records(whole)]


class Several:
    """Stands for a modality that writes several files a sample."""

    kind, forms = "several", ("",)

    def save(self, samples, out):
        out.mkdir()
        for i in range(len(samples)):
            for name in ("left.png", "right.png", "words.txt"):
                (out / f"{i:05d}-{name}").write_text(f"{i} {name}")


def test_parts_of_a_sample_with_one_suffix_keep_their_names_in_a_tar_file(tmp_path):
    lines = [{"index": 7}, {"index": 8}]
    data = tarred(Samples(modality=Several(), values=[0, 1]), tmp_path / "files", lines)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == [f"{key}.{name}" for key in ("000000000007", "000000000008")
                                  for name in ("left.png", "right.png", "txt", "json")]  # fmt: skip


def test_forms_that_show_samples_together_are_refused(trained):
    run = open_run(trained)
    assert [form_of(run, name) for name in (None, "folder", "webdataset", "npz")] == ["", "", ".tar", ".npz"]
    with pytest.raises(ValueError, match="--form npz, folder, webdataset; got png"):
        form_of(run, "png")


def test_a_request_that_cannot_be_split_is_refused(trained, tmp_path):
    request = bulk(trained, tmp_path / "out", options=Sample(rows=("a",), columns=("b",)))
    request.folder.prepare({**REQUEST, "count": 11})
    with pytest.raises(ValueError, match="a table takes"):
        work(request, list(request.work_list))
    assert list(request.folder.leases.iterdir()) == []


def test_a_worker_that_is_asked_to_stop_leaves_whole_shards(trained, tmp_path):
    request = bulk(trained, tmp_path / "out")
    request.folder.prepare({**REQUEST, "count": 11})
    seen = list[int]()
    assert work(request, list(request.work_list), progress=seen.append, stop=lambda: len(seen) > 1) == 4
    assert [s.name for s in request.folder.missing(list(request.work_list))] == [
        Shard(start=4, stop=8).name,
        Shard(start=8, stop=11).name,
    ]
    assert Path(request.out / "samples").is_dir()
