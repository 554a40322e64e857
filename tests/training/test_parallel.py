"""Layouts of ranks, worlds of hundreds of ranks by arithmetic, and worlds that do not come together."""

import os
import re
import socket
from dataclasses import dataclass

import pytest
import torch
import torch.distributed as dist

from langevin.training.distributed import World, join_world
from langevin.training.order import DataOrder
from langevin.training.parallel import Mesh, Parallel, bytes_per_weight, mesh_again, mesh_of, size_of
from langevin.training.placement import REPLICATED, Sharded, placed
from tests import tiny
from tests.training.test_placement import spread

GB = 1e9


def test_weights_are_whole_where_they_fit_and_else_in_the_fewest_parts():
    def shard(needed, memory, size=8, **parallel):
        return mesh_of(Parallel(**parallel), size=size, needed=needed * GB, memory=memory and memory * GB)

    assert shard(40, 80) == Mesh(data=8, shard=1)
    assert shard(41, 80) == Mesh(data=4, shard=2)
    assert shard(161, 80) == Mesh(data=1, shard=8)
    assert shard(10**6, None) == Mesh(data=8, shard=1)
    assert shard(10**6, 80, shard=4) == Mesh(data=2, shard=4)
    assert shard(41, 80, data=2) == Mesh(data=2, shard=4)
    assert shard(41, 80, size=1) == Mesh(data=1, shard=1)
    assert shard(41, 80, size=7) == Mesh(data=1, shard=7)


@pytest.mark.parametrize(
    ("parallel", "message"),
    [
        ({"data": 2, "shard": 2}, "asks for 2 x 2 ranks (data x shard), and there are 6"),
        ({"shard": 4}, "asks for 1 x 4 ranks"),
        ({"data": 4}, "data=4 does not divide 6 ranks: start a multiple of 4"),
        ({}, "take 900.0 GB, and 6 parts of it do not fit into half of 80.0 GB a rank"),
    ],
)
def test_layouts_that_do_not_fit_are_refused(parallel, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        mesh_of(Parallel(**parallel), size=6, needed=900 * GB, memory=80 * GB)


@pytest.mark.parametrize("wrong", [{"data": 0}, {"shard": -1}, {"data": 10**7}])
def test_counts_of_ranks_have_bounds(wrong):
    with pytest.raises(ValueError, match="is a number of ranks, at least 1"):
        Parallel(**wrong)


def test_a_run_goes_on_at_any_number_of_ranks():
    for size in range(1, 65):
        for parallel in (Parallel(data=4, shard=4), Parallel(shard=3), Parallel(data=2), Parallel()):
            found = mesh_again(parallel, size=size, needed=GB, memory=80 * GB)
            assert found.data * found.shard == size
            if isinstance(parallel.shard, int) and size % parallel.shard == 0:
                assert found.shard == parallel.shard


def test_the_bytes_of_a_weight_are_those_of_the_tensors_of_a_state():
    for name, moments in (("adamw", 2), ("muon", 1)):
        made, training = tiny.method(), tiny.config(optimizer=tiny.OPTIMIZERS[name], ema_lengths=(0.05, 0.1))
        state = tiny.state_of(made, training)
        tiny.advance(state, made, training, until=1)
        weights, tensors = state.weights["denoiser"], state.optimizers["denoiser"].tensors()
        expected = size_of(weights) * (bytes_per_weight(moments=moments, emas=2) - 4)  # less the gradient
        seconds = [p for n, p in weights.items() if f"{n}/exp_avg_sq" in tensors and moments == 1]  # left to AdamW
        steps = [name for name in tensors if name.endswith("/step")]
        kept = sum(size_of(group) for group in state.groups().values())
        assert 4 * kept == expected + 4 * (sum(p.numel() for p in seconds) + len(steps))


@pytest.mark.parametrize("size", [2, 3, 8, 100, 512])
def test_the_order_of_examples_is_the_same_at_every_world_size(size):
    """All ranks together read what one reads; each has its share, which differs by at most one sample."""
    batch = 1024 + 5
    order = DataOrder(count=3000, batch=batch, seed=3, lengths=torch.arange(3000) % 17)
    for step in (0, 2, 7):
        rows = [World(rank=rank, size=size).own_samples(batch) for rank in range(size)]
        assert {len(own) for own in rows} <= {batch // size, batch // size + 1}
        together = torch.cat(rows)
        read = torch.empty(batch, dtype=torch.int64)
        read[together] = torch.cat([order.items(step, own) for own in rows])
        assert torch.equal(read, order.items(step, torch.arange(batch)))


@pytest.mark.parametrize("micro", [None, 1, 3])
@pytest.mark.parametrize("batch", [512, 513, 1500])
def test_all_ranks_make_as_many_evaluations_and_every_sample_counts_once(batch, micro):
    size, counts, seen = 512, set(), []
    for rank in range(size):
        world = World(rank=rank, size=size)
        found = Sharded.micro_batches(None, world.own_samples(batch), batch=batch, size=micro, world=world)
        counts.add(len(found))
        seen += [samples for samples, factor in found if factor == 1]
        assert all(len(samples) >= 1 for samples, _ in found)
    assert len(counts) == 1
    assert torch.cat(seen).sort().values.tolist() == list(range(batch))


@dataclass
class Held:
    """What one rank of a world holds."""

    numbers: int
    whole: int


def hold(rank, size, where):
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=size)
    assert (join_world().rank, join_world().size) == (rank, size), "a group that is there is used"
    made = tiny.method("dit", uncertainty=True)
    whole = size_of(made.players["denoiser"].weights)
    state = tiny.TrainingState.new(made, tiny.config(), placement=placed(made, where))
    return Held(numbers=size_of(state.weights["denoiser"]), whole=whole)


def held_by(world, rank, size, where, folder):
    held = hold(rank, size, where)
    (folder / str(rank)).write_text(f"{held.numbers} {held.whole}")


@pytest.mark.parametrize(("size", "where"), [(512, Mesh(data=64, shard=8)), (512, Mesh(shard=512))])
def test_a_rank_of_hundreds_holds_its_rows_alone(tmp_path, size, where):
    """In a world of one process that takes itself for one of 512."""
    for rank in (0, size - 1):
        spread(1, held_by, rank, size, where, tmp_path)
    first, last = (list(map(int, (tmp_path / str(rank)).read_text().split())) for rank in (0, size - 1))
    made = tiny.method("dit", uncertainty=True)
    small = sum(p.numel() for p in made.uncertainty.parameters())
    network = made.players["denoiser"].module["network"]
    rows = sum(-(-len(p) // where.shard) * (p.numel() // len(p)) for p in network.parameters())
    assert first == [rows + small, first[1]]
    assert last[0] <= first[0]
    if where.shard == 8:
        assert first[0] < 0.15 * first[1]


def test_weights_that_are_whole_need_no_process_group():
    assert placed(tiny.method(), Mesh(data=7)) is REPLICATED


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_world_that_does_not_come_together_says_who_is_missing(monkeypatch):
    named = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "RANK": "0"}
    for name, value in {**named, "LANGEVIN_ASSEMBLE_SECONDS": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"rank 0: 2 ranks did not meet at 127\.0\.0\.1:\d+ within 1 s .*1/2 clients"):
        join_world()


def test_a_port_in_use_is_said(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        named = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": "0"}
        for name, value in named.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ValueError, match=f"port {port} of 127.0.0.1 is in use.*set MASTER_PORT"):
            join_world()
    assert not dist.is_initialized()
    assert os.environ["WORLD_SIZE"] == "2"
