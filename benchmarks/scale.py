"""Scaling: two ranks of one thread each against one, torch's DistributedDataParallel beside our transfer; a plan on paper.

One process alone, then two that share every batch, take turns of a few steps each, on one network and synthetic images. An
efficiency is the samples per second of two over twice those of one:

    weak      each rank has the batch of the one
    strong    two ranks share the batch of the one
    ddp       as weak, with gradients summed in buckets while the rest of the backward pass runs

`--plan` adds what a run of many GPUs would take: its steps, checkpoints, failures and restarts, from costs measured here
and from assumptions that are printed with it. The time between checkpoints is Young's sqrt(2 C M), for a checkpoint of C
seconds and a failure each M seconds ("A first order approximation to the optimum checkpoint interval", 1974).

`--ray 300` adds `ray_overhead` (scale_ray.py, runs of so many steps) and `--stream` adds `stream_ratio` (scale_stream.py).
"""

import math
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import harness
import scale_ray
import scale_stream
from langevin.diffusion.batch import Batch
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.objective import LogNormal, WeightedMSE
from langevin.diffusion.process import Gaussian
from langevin.methods import AdamW, Diffusion
from langevin.methods.method import Player
from langevin.networks import DiT
from langevin.training import checkpoint, machine
from langevin.training.distributed import ALONE, World, join_world
from langevin.training.loop import TrainingConfig, TrainingState, fit
from langevin.training.order import permutation
from langevin.training.parallel import bytes_per_weight
from langevin.training.placement import Replicated

SIDE, PATCH = 32, 4
H100 = 989e12  # bf16 operations per second, dense, of its data sheet
BETWEEN_FAILURES = (
    16384 * 54 * 24 / 419
)  # hours of a GPU: 419 interruptions of 16,384 GPUs in 54 days (arXiv 2407.21783)


@dataclass(frozen=True)
class Overlapped(Replicated):
    """Gradients are summed by DistributedDataParallel, which means them over ranks."""

    def backward(self, loss: Tensor, weights: list[nn.Parameter]) -> None:
        loss.backward()

    def sum(self, world: World, due: Mapping[str, Player], more: list[Tensor]) -> None:
        for player in due.values():
            for parameter in player.weights.values():
                if parameter.grad is not None:
                    parameter.grad.mul_(world.size)
        world.all_reduce(more)


class Side:
    """Training of one network in a world."""

    def __init__(self, world: World, *, batch: int, width: int, depth: int, seed: int, ddp: bool = False) -> None:
        torch.manual_seed(seed)
        network = DiT.Config(width=width, depth=depth, head_dim=min(64, width), patch=PATCH, channels=3).build()
        process = Gaussian(sigma_data=0.5)
        called = nn.parallel.DistributedDataParallel(network) if ddp else network
        method = Diffusion(
            process=process, denoiser=GaussianDenoiser(network=called, process=process, precision=torch.float32),
            network=network, objective=WeightedMSE(process=process), times=LogNormal(), schedule=process.schedule,
            non_hidden=network.non_hidden,
        )  # fmt: skip
        config = TrainingConfig(steps=10**6, batch=batch, seed=seed, optimizer=AdamW(lr=1e-4))
        self.state = TrainingState.new(method, config, placement=Overlapped() if ddp else Replicated())
        self.batch, x = batch, torch.rand(64, 3, SIDE, SIDE) * 2 - 1
        self.reports = fit(
            self.state, lambda step, rows, draw: Batch(x=x[rows % 64]), method, config, world=world
        )  # fmt: skip

    def rate(self, steps: int) -> float:
        """Samples per second of some steps."""
        begun = time.perf_counter()
        for _ in range(steps):
            next(self.reports)
        return steps * self.batch / (time.perf_counter() - begun)


def work(rank: int, port: int, asked: Any, send: Any) -> None:
    """What each of two ranks does: the first also makes the steps of one alone, while the other waits."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank)}
    world = join_world()
    sizes = {"width": asked.width, "depth": asked.depth, "seed": asked.seed}
    sides = {
        "one": Side(ALONE, batch=asked.batch, **sizes), "weak": Side(world, batch=2 * asked.batch, **sizes),
        "strong": Side(world, batch=asked.batch, **sizes), "ddp": Side(world, batch=2 * asked.batch, ddp=True, **sizes),
    }  # fmt: skip

    def turn(name: str) -> float:
        world.barrier()
        rate = sides[name].rate(asked.steps) if world.first or name != "one" else 0.0
        world.barrier()
        return rate

    rates = harness.interleave({name: (lambda name=name: turn(name)) for name in sides}, pairs=asked.pairs)
    numbers = torch.zeros(sum(p.numel() for p in sides["weak"].state.weights["denoiser"].values()))
    begun = time.perf_counter()
    for _ in range(5):
        world.all_reduce([numbers])
    if world.first:
        send.send((rates, len(numbers), (time.perf_counter() - begun) / 5))


def measure(asked: Any) -> dict[str, Any]:
    """Efficiencies of two ranks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    ranks = [context.Process(target=work, args=(rank, port, asked, send)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    rates, weights, transfer = receive.recv()
    for rank in ranks:
        rank.join()
    twice = [2 * rate for rate in rates["one"]]
    found = {name: harness.ratio(rates[name], twice) for name in ("weak", "strong", "ddp")}
    step = 2 * asked.batch / statistics.median(rates["weak"])
    harness.show(
        f"two ranks of one thread, a network of {weights / 1e6:.2f} M weights", ["side", "samples/s", "efficiency"],
        [["one", statistics.median(rates["one"]), ""], *[[n, statistics.median(rates[n]), str(found[n])] for n in found]],
    )  # fmt: skip
    print(f"a transfer of all gradients takes {transfer * 1e3:.3g} ms, {transfer / step:.1%} of a weak step")
    return {
        "efficiency_2": found["weak"], "efficiency_2_strong": found["strong"], "efficiency_2_ddp": found["ddp"],
        "ddp_over_flat": harness.ratio(rates["ddp"], rates["weak"]), "transfer_share": transfer / step, "weights": weights,
    }  # fmt: skip


def checkpoint_rate(asked: Any) -> float:
    """Bytes per second of a checkpoint that is hashed and flushed here."""
    state = Side(ALONE, batch=2, width=asked.width, depth=asked.depth, seed=0).state
    groups = {name: {n: t.detach() for n, t in tensors.items()} for name, tensors in state.groups().items()}
    size = sum(t.numel() * t.element_size() for tensors in groups.values() for t in tensors.values())
    rates = list[float]()
    with tempfile.TemporaryDirectory() as folder:
        for step in range(3):
            begun = time.perf_counter()
            checkpoint.save(Path(folder), step, groups, {"step": step})
            rates.append(size / (time.perf_counter() - begun))
    return statistics.median(rates)


def order_seconds(images: int, sample: int = 2**20) -> float:
    """Seconds to put the images of an epoch into order here, from those of a part of them."""
    begun = time.perf_counter()
    permutation(sample, seed=0, epoch=0)
    return (time.perf_counter() - begun) * images * math.log(images) / (sample * math.log(sample))


def plan(asked: Any) -> dict[str, Any]:
    """A run of many GPUs on paper."""
    rate = checkpoint_rate(asked)
    kept = (bytes_per_weight(moments=2, emas=2) - 4) * asked.weights  # all but the gradient
    steps = math.ceil(asked.epochs * asked.images / asked.global_batch)
    flops = 6 * asked.weights * asked.tokens * asked.global_batch
    compute = flops / (asked.gpus * H100 * asked.utilisation)
    transfer = 2 * 4 * asked.weights / asked.network_rate  # of a ring: all gradients out and in, not overlapped
    step = compute + transfer
    failing = BETWEEN_FAILURES * 3600 / asked.gpus  # seconds between failures of any GPU
    writing = kept / asked.gpus / rate  # each rank writes its part, at the rate of a disk of its own
    interval = math.sqrt(2 * writing * failing)
    run = steps * step
    failures = run / failing
    lost = failures * (interval / 2 + asked.restart) + run / interval * writing
    figures = {
        "gpus": asked.gpus, "images": asked.images, "weights": asked.weights, "global_batch": asked.global_batch,
        "steps": steps, "flops_a_step": flops, "seconds_a_step": step, "transfer_share": transfer / step,
        "days": run / 86400, "checkpoint_gb": kept / 1e9, "checkpoint_rate_mb_s_here": rate / 1e6,
        "checkpoint_seconds": writing, "last_checkpoint_seconds": kept / rate,
        "failure_every_hours": failing / 3600, "failures": failures,
        "young_minutes": interval / 60, "checkpoints": run / interval, "lost_share": lost / run,
        "memory_gb_a_rank_whole": bytes_per_weight(moments=2, emas=2) * asked.weights / 1e9,
        "memory_gb_a_rank_in_8": bytes_per_weight(moments=2, emas=2) * asked.weights / 8e9,
        "order_gb_a_rank": 8 * asked.images / 1e9, "order_seconds_an_epoch_here": order_seconds(asked.images),
    }  # fmt: skip
    harness.show("a run on paper", ["figure", "value"], [[name, value] for name, value in figures.items()])
    print(
        f"assumed: {asked.utilisation:.0%} of {H100 / 1e12:.0f} TFLOP/s a GPU, {asked.network_rate / 1e9:g} GB/s a GPU "
        f"for gradients, {asked.tokens} tokens an image, 6 operations a weight and token, a failure each "
        f"{BETWEEN_FAILURES:,.0f} GPU hours, {asked.restart:g} s to start again; checkpoints and order as here"
    )
    return {"plan": figures}


def main() -> None:
    parser = harness.options(__doc__ or "", pairs=9)
    parser.add_argument("--batch", type=int, default=16, help="samples a step of one rank")
    parser.add_argument("--steps", type=int, default=3, help="in a turn")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--plan", action="store_true", help="also a run of many GPUs on paper")
    parser.add_argument("--gpus", type=int, default=512)
    parser.add_argument("--images", type=int, default=100_000_000)
    parser.add_argument("--epochs", type=float, default=5.0)
    parser.add_argument("--global-batch", type=int, default=8192)
    parser.add_argument("--weights", type=float, default=675e6)
    parser.add_argument("--tokens", type=int, default=1024, help="of an image, in latents")
    parser.add_argument(
        "--utilisation", type=float, default=0.45, help="of the peak; what is reached is to be measured"
    )
    parser.add_argument("--network-rate", type=float, default=50e9, help="bytes per second of a GPU")
    parser.add_argument("--restart", type=float, default=120.0, help="seconds from a failure to the next step")
    parser.add_argument("--ray", type=int, metavar="STEPS", help="also Ray beside torchrun, in runs of so many steps")
    parser.add_argument("--stream", action="store_true", help="also reading from shards beside memory")
    asked = harness.parse(parser)
    if asked.quick:
        asked.width, asked.depth, asked.batch, asked.steps = 32, 1, 4, 1
    figures = harness.introduce(machine.describe(), asked)
    figures |= measure(asked)
    if asked.plan or asked.quick:
        figures |= plan(asked)
    if asked.ray:
        figures |= scale_ray.measure(steps=asked.ray)
    if asked.stream:
        figures |= scale_stream.measure(pairs=asked.pairs, seed=asked.seed, quick=asked.quick)
    harness.conclude(figures)


if __name__ == "__main__":
    main()
