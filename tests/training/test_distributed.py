"""Two processes that share every batch take the same steps as one."""

import multiprocessing
import os
import socket

import pytest
import torch
from safetensors.torch import load_file, save_file

from langevin.training import checkpoint
from langevin.training.calibration import calibrate
from langevin.training.distributed import World, join_world
from langevin.training.loop import _gradients
from langevin.training.session import Hooks, train
from langevin.training.threads import ThreadPolicy
from tests import tiny


def test_the_rows_of_all_ranks_are_the_batch():
    for size in (1, 2, 3, 7):
        rows = torch.cat([World(rank=rank, size=size).own_samples(7) for rank in range(size)])
        assert rows.sort().values.tolist() == list(range(7))


def test_a_process_alone_is_the_first_of_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    world = join_world()
    assert (world.rank, world.size, world.first) == (0, 1, True)
    assert world.broadcast("anything") == "anything"
    tensor = torch.ones(2)
    world.all_reduce([tensor])
    world.barrier()
    assert tensor.tolist() == [1.0, 1.0]


def results(world):
    """Gradients of one batch of an odd number of rows, and what a few steps make of the weights."""
    made = tiny.method(uncertainty=True)
    training = tiny.config(steps=4, batch=7, micro_batch=2, optimizer=tiny.OPTIMIZERS["adamw"])
    read = tiny.batches(training, flip=True)
    player = made.players["denoiser"].module
    losses, *_ = _gradients(
        made, made.players, [(s, 1.0) for s in world.own_samples(7).split(2)], read, 3, 11, 7, world
    )
    found = {f"gradient/{n}": p.grad.clone() for n, p in player.named_parameters()}
    state = tiny.state_of(made, training)
    reports = tiny.advance(state, made, training, until=4, world=world)
    found |= {f"weight/{n}": p.detach().clone() for n, p in player.named_parameters()}
    return found | {"losses": torch.tensor([losses["denoiser"], *(r.loss for r in reports)])}


class Stop(Exception):
    """What stops all processes of a session at once."""


def session(path, world, *, stop=None, asked=None):
    """The state at the end of six steps in a directory, or None if they were stopped before step `stop`; the last process
    alone is asked to stop after step `asked`."""
    training, made = tiny.config(steps=6, batch=7), tiny.method(dropout=0.2)
    state, read = tiny.state_of(made, training), tiny.batches(training, flip=True)

    def until(step, rows, draw):
        if step == stop:
            raise Stop
        return read(step, rows, draw)

    hooks = Hooks(stop=lambda: world.rank == world.size - 1 and state.step == asked)
    try:
        train(path, state, until, made, training, hooks=hooks, world=world, num_evals=3)
    except Stop:
        return None
    return state


def stopped_and_resumed(folder, world):
    """Sessions that were stopped end as one that was not; processes with other checkpoints are refused, all of them."""
    whole = session(folder / "whole", world)
    assert session(folder / "stopped", world, stop=5) is None
    world.barrier()
    again = session(folder / "stopped", world)
    tiny.assert_same(tiny.everything(whole), tiny.everything(again))
    assert session(folder / "asked", world, asked=3).step == 3
    world.barrier()
    assert checkpoint.load_latest(folder / "asked" / "checkpoints")[0].state["step"] == 3
    tiny.assert_same(tiny.everything(whole), tiny.everything(session(folder / "asked", world)))
    with pytest.raises(ValueError, match="all of them must read the same checkpoints"):
        session(folder / "stopped" if world.first else folder / "elsewhere", world)
    return [p.name for p in checkpoint.steps(folder / "stopped" / "checkpoints")]


def work(folder, rank, port):
    """What each process of the test below does."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank)}
    world = join_world()
    save_file(results(world), folder / f"rank-{rank}.safetensors")
    numbers = torch.arange(3.0) + rank
    world.all_reduce([numbers, numbers.new_ones(1)])
    made = tiny.method()
    training = tiny.config(steps=None, minutes=0.1 if world.first else 1e-9)  # clocks that disagree
    found = calibrate(
        tiny.state_of(made, training), tiny.batches(training), made, training, threads=ThreadPolicy((1,)), world=world
    )
    assert world.broadcast({"rank": rank}) == {"rank": 0}
    world.barrier()
    assert stopped_and_resumed(folder, world)[0] == "step-00000006"
    world.barrier()
    (folder / f"rank-{rank}.txt").write_text(f"{numbers.tolist()} {found.steps}")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A folder of what two processes wrote."""
    if torch.cuda.is_available():
        pytest.skip("the processes would share one accelerator")
    folder = tmp_path_factory.mktemp("pair")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=(folder, rank, port)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    return folder


def test_two_processes_have_the_loss_and_gradient_of_one_to_rounding(pair):
    alone = results(tiny.ALONE)
    both = [load_file(pair / f"rank-{rank}.safetensors") for rank in range(2)]
    names = [n for n in alone if n.startswith("gradient/")]
    length = float(torch.stack([alone[n].norm() for n in names]).norm())
    for found in both:
        torch.testing.assert_close(found["losses"], alone["losses"], rtol=1e-4, atol=0)
        assert max(float((found[n] - alone[n]).norm()) for n in names) < 1e-6 * length
        for n in alone:
            if n.startswith("weight/"):
                assert float((found[n] - alone[n]).norm()) < 1e-3 * float(alone[n].norm() + 0.1)


def test_all_processes_hold_the_same_weights_bit_for_bit(pair):
    first, second = (load_file(pair / f"rank-{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(first[n], second[n]) for n in first)


def test_sums_and_decisions_are_the_same_in_all_processes(pair):
    first, second = ((pair / f"rank-{rank}.txt").read_text() for rank in range(2))
    assert first == second
    assert first.startswith("[1.0, 3.0, 5.0] ")


def test_a_session_of_two_processes_that_was_stopped_ends_in_the_same_bits(pair):
    whole, stopped = (sorted((pair / name / "ema").iterdir()) for name in ("whole", "stopped"))
    assert [f.read_bytes() for f in whole] == [f.read_bytes() for f in stopped]
