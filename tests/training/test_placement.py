"""Weights in parts on several ranks take the steps of whole ones; checkpoints load at any number of ranks."""

import errno
import json
import multiprocessing
import os
import shutil
import socket
import traceback
import weakref
from datetime import timedelta

import pytest
import torch
from safetensors.torch import load_file, save_file

from langevin.training import checkpoint
from langevin.training.distributed import join_world
from langevin.training.parallel import Mesh
from langevin.training.placement import Sharded, placed
from langevin.training.session import Hooks, train
from langevin.training.writer import writer_of
from tests import tiny

STEPS = 6


def spread(size, work, *arguments):
    """Carry out `work(world, *arguments)` on so many ranks, each a fork of this process."""
    if torch.cuda.is_available():
        pytest.skip("the processes would share one accelerator")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def one(rank):
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size), "RANK": str(rank)}
        torch.set_num_threads(1)
        try:
            world = join_world()
            work(world, *arguments)
            world.barrier()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    processes = [multiprocessing.get_context("fork").Process(target=one, args=(rank,)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(180)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * size


def steps(world, where, optimizer, *, network="dit", micro=None, until=3, batch=7):
    """The whole state after some steps, and the losses."""
    made = tiny.method(network, uncertainty=True, seed=0)
    training = tiny.config(
        steps=STEPS, batch=batch, micro_batch=micro, optimizer=tiny.OPTIMIZERS[optimizer], grad_clip=0.1
    )
    state = tiny.TrainingState.new(made, training, placement=placed(made, where))
    reports = tiny.advance(state, made, training, until=until, world=world)
    assert all(report.applied for report in reports)
    found = {f"{g}/{n}": t.detach().clone() for g, tensors in state.whole_groups().items() for n, t in tensors.items()}
    return found | {"losses": torch.tensor([[r.loss, r.norm] for r in reports])}


CASES = {
    "copies": (Mesh(data=4), "adamw", None),
    "shards": (Mesh(shard=4), "adamw", None),
    "both": (Mesh(data=2, shard=2), "adamw", None),
    "micro": (Mesh(shard=4), "adamw", 1),
    "muon": (Mesh(shard=4), "muon", None),
    "unet": (Mesh(shard=4), "muon", None),
}


def on_four(world, folder):
    for name, (where, optimizer, micro) in CASES.items():
        found = steps(world, where, optimizer, micro=micro, network="unet" if name == "unet" else "dit")
        if world.first:
            save_file({n: t.contiguous() for n, t in found.items()}, folder / f"{name}.safetensors")


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """A folder of what four ranks wrote."""
    folder = tmp_path_factory.mktemp("four")
    spread(4, on_four, folder)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_four_ranks_take_the_steps_of_one_however_weights_are_placed(four, name):
    _, optimizer, _ = CASES[name]
    network = "unet" if name == "unet" else "dit"
    alone, found = steps(tiny.ALONE, Mesh(), optimizer, network=network), load_file(four / f"{name}.safetensors")
    assert found.keys() == alone.keys()
    torch.testing.assert_close(found["losses"], alone["losses"], rtol=2e-4, atol=0)
    for key, tensor in alone.items():
        assert found[key].shape == tensor.shape
        # a bias before a normalisation has a gradient of rounding errors alone, whose sign is the step of AdamW
        tolerance = 3e-2 if key.endswith("bias") and name == "unet" else 2e-3
        assert float((found[key] - tensor).norm()) < tolerance * float(tensor.norm() + 0.1), key


def session(path, world, where, *, until=None, steps=STEPS, then=lambda state: None):
    """The state at the end of a session in a directory, which all ranks stop after step `until`."""
    training, made = tiny.config(steps=steps, batch=7, checkpoint_minutes=1e-9, keep_checkpoints=9), tiny.method()
    state = tiny.TrainingState.new(made, training, placement=placed(made, where))
    hooks = Hooks(stop=lambda: state.step == until)
    train(path, state, tiny.batches(training, flip=True), made, training, hooks=hooks, world=world, num_evals=2)
    return state


def whole(state):
    return {f"{g}/{n}": t.detach().clone() for g, tensors in state.whole_groups().items() for n, t in tensors.items()}


def save_at_four(world, folder):
    ended = whole(session(folder / "whole", world, Mesh(shard=4)))
    session(folder / "stopped", world, Mesh(shard=4), until=3)
    again = whole(session(folder / "stopped", world, Mesh(shard=4)))
    assert all(torch.equal(ended[key], again[key]) for key in ended), "resumed at equal size to the bit"
    session(folder / "saved", world, Mesh(shard=2, data=2), until=3)
    if world.first:
        save_file({n: t.contiguous() for n, t in ended.items()}, folder / "end.safetensors")
        newest, complaints = checkpoint.load_latest(folder / "saved" / "checkpoints")
        assert newest is not None, complaints
        assert newest.state["step"] == 3
        save_file(
            {f"{g}/{n}": t for g, tensors in newest.groups.items() for n, t in tensors.items()},
            folder / "third.safetensors",
        )


def load_at(world, folder):
    shutil.copytree(folder / "saved", folder / f"at-{world.size}") if world.first else None
    world.barrier()
    where = {1: Mesh(), 2: Mesh(data=2), 3: Mesh(shard=3)}[world.size]
    ended = whole(session(folder / f"at-{world.size}", world, where))
    if world.first:
        save_file({n: t.contiguous() for n, t in ended.items()}, folder / f"end-{world.size}.safetensors")


def fill_the_disk(world, folder):
    """The disk fills when the first rank completes a checkpoint: all ranks end, and nothing is half there."""
    if world.first:

        def full(*arguments, **options):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

        checkpoint.complete = full
    with pytest.raises(OSError, match=r"disk full while writing|another rank could not write"):
        session(folder / "full", world, Mesh(shard=4))
    (folder / f"refused-{world.rank}").touch()


def test_a_full_disk_at_one_rank_ends_all_and_leaves_no_half_of_a_checkpoint(saved):
    spread(4, fill_the_disk, saved)
    assert len(list(saved.glob("refused-*"))) == 4
    assert list((saved / "full" / "checkpoints").iterdir()) == []


def fail_alone(world, folder):
    """The first rank alone cannot write the best weights, a rank alone holds a number that is not finite, and ranks that
    keep nothing of whole tensors have one at a time."""
    training, made = tiny.config(steps=4, batch=7, keep_best=True), tiny.method()
    state = tiny.TrainingState.new(made, training, placement=placed(made, Mesh(shard=2)))
    write, said = checkpoint.save, []

    def full(root, *arguments, **options):
        if root.name == checkpoint.BEST:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(root))
        return write(root, *arguments, **options)

    checkpoint.save = full
    hooks = Hooks(measure=lambda step: {"val_loss": [1.0]}, preview=lambda step: whole(state) and None, log=said.append)
    train(
        folder / "run", state, tiny.batches(training, flip=True), made, training, hooks=hooks, world=world, num_evals=2
    )
    assert any("could not be evaluated" in line for line in said) == world.first
    gathered, most = [], 0

    def counted(key, part):
        nonlocal most
        found = Sharded.gather(state.placement, key, part)
        gathered.append(weakref.ref(found))
        most = max(most, sum(one() is not None and one() is not part for one in gathered[-3:]))
        return found

    state.placement.gather = counted
    assert bool(state.whole_groups(keep=world.first)) == world.first
    assert world.first or most == 1
    del state.placement.gather
    writer = writer_of(state, world)
    if not world.first:
        next(iter(state.weights["denoiser"].values())).data.fill_(float("nan"))
    with pytest.raises(ValueError, match="not saving step 4"):
        writer.save(folder / "never", then=lambda: None, whole=False)
    for group in (state.placement._group, writer._group):
        assert group._get_backend(torch.device("cpu")).options._timeout == timedelta(seconds=77)
    (folder / f"ended-{world.rank}").touch()


def test_ranks_that_share_weights_end_an_evaluation_that_fails_on_one_of_them_together(tmp_path, monkeypatch):
    monkeypatch.setenv("LANGEVIN_TRANSFER_SECONDS", "77")
    spread(2, fail_alone, tmp_path)
    assert len(list(tmp_path.glob("ended-*"))) == 2


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of runs that four ranks wrote: one that ended, and one that was saved after three steps."""
    folder = tmp_path_factory.mktemp("saved")
    spread(4, save_at_four, folder)
    return folder


def test_what_is_saved_in_parts_is_read_whole_and_the_last_checkpoint_is_whole(saved):
    files = {path.name for path in (saved / "saved" / "checkpoints" / "step-00000003").iterdir()}
    assert {"manifest.json", "state.json"} < files
    assert "model.safetensors" not in files
    alone = steps(tiny.ALONE, Mesh(), "muon")
    third = load_file(saved / "third.safetensors")
    assert {key: t.shape for key, t in third.items()} == {
        key: t.shape for key, t in alone.items() if key != "losses" and "uncertainty" not in key
    }
    last = {path.name for path in (saved / "whole" / "checkpoints" / "step-00000006").iterdir()}
    assert "model.safetensors" in last
    assert not [name for name in last if name.startswith("shard-")]
    assert [path.name for path in (saved / "whole" / "checkpoints").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("size", [1, 2, 3])
def test_what_four_ranks_saved_goes_on_at_any_number_of_ranks(saved, size):
    spread(size, load_at, saved)
    expected, found = (load_file(saved / name) for name in ("end.safetensors", f"end-{size}.safetensors"))
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert float((found[key] - tensor).norm()) < 2e-3 * float(tensor.norm() + 0.1), key


def test_a_checkpoint_in_parts_that_lacks_one_is_refused_and_the_one_before_is_read(saved):
    root = shutil.copytree(saved / "saved", saved / "lacking") / "checkpoints"
    next((root / "step-00000003").glob("shard-*")).unlink()
    newest, complaints = checkpoint.load_latest(root)
    assert newest is not None, complaints
    assert newest.state["step"] == 2
    assert "missing" in complaints[0]


def rewritten(path, change):
    """A checkpoint whose manifest is right again after `change`(path, manifest)."""
    manifest = json.loads((path / "manifest.json").read_text())
    change(path, manifest)
    for file in path.glob("shard-*"):
        if file.name in manifest["files"]:
            manifest["files"][file.name] = checkpoint.seal(file)
    (path / "manifest.json").write_text(json.dumps(manifest))


def left_out(path, manifest):
    """All files but those of the first rank, whose parts begin where whole tensors do."""
    for name in [name for name in manifest["files"] if name.startswith("shard-") and "shard-00001" not in name]:
        del manifest["files"][name]
        (path / name).unlink()


def without_a_tensor(path, manifest):
    manifest["shapes"] |= {"model/another": [1]}


def with_offsets(offsets):
    def change(path, manifest):
        file = max(path.glob("shard-00002-*"))
        save_file(load_file(file), file, metadata={"DCP_SHARDING_INFO": json.dumps(offsets(load_file(file)))})

    return change


@pytest.mark.parametrize(
    "change",
    [
        left_out, without_a_tensor, with_offsets(lambda found: 3), with_offsets(lambda found: dict.fromkeys(found, 3)),
        with_offsets(lambda found: {name: {"saved_offsets": [None] * t.ndim} for name, t in found.items()}),
        with_offsets(lambda found: {name: {"saved_offsets": [-1] * t.ndim} for name, t in found.items()}),
    ],
)  # fmt: skip
def test_parts_that_are_no_whole_are_refused_though_their_manifest_is_right(saved, tmp_path, change):
    path = shutil.copytree(saved / "saved" / "checkpoints" / "step-00000003", tmp_path / "step-00000003")
    rewritten(path, change)
    with pytest.raises(checkpoint.Damaged, match="cannot be read: "):
        checkpoint.load(path)


def test_a_file_that_the_manifest_does_not_name_is_not_read(saved, tmp_path):
    path = shutil.copytree(saved / "saved" / "checkpoints" / "step-00000003", tmp_path / "step-00000003")
    (path / "shard-00009-model-00001-of-00009.safetensors").write_bytes(b"not safetensors")
    assert checkpoint.load(path).state["step"] == 3


def test_a_file_of_another_rank_that_is_not_in_the_folder_leaves_no_checkpoint(tmp_path):
    (tmp_path / "parts").mkdir()
    with pytest.raises(OSError, match="which a rank has written, is not there"):
        checkpoint.complete(tmp_path / "parts", tmp_path / "step-00000001", 1, {}, sealed={"shard-00002": {"bytes": 1}})
    assert not (tmp_path / "step-00000001").exists()
