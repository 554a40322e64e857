"""Pictures: minutes to equal quality beside diffusers' training script, quality at few evaluations, latents of 128 pixels.

    python benchmarks/quality.py --quick                                it runs; its figures mean nothing
    python benchmarks/quality.py --data cifar10 --search 2              settings of the peer, each for 2 minutes of CPU
    python benchmarks/quality.py --data cifar10 --minutes 30            both sides, 30 minutes of CPU each

Ours is the recipe image/cifar10. The peer is diffusers' U-Net in the loop of its train_unconditional.py: noise loss, AdamW,
a cosine schedule with a warm-up, clip 1, its average of the weights, images mirrored at random; it is told the class, as
ours is. It draws by DPMSolverMultistepScheduler in 20 steps, better for it than its own 1,000. `--search` trains it for
some minutes with each width, batch and rate of `GRID`, in bf16 where the machine has units for it, and prints the
distances; what it found best is the default of --width, --peer-batch and --rate.

Both train in turns, by CPU time on one thread. At every check, twice as late as the one before, each draws `--samples`
pictures with the classes of the data,
and their Frechet distance (FD) to training pictures is taken in the features of a classifier and of random convolutions.
`minutes_ratio` is the minutes in which the peer reached its least distance over the minutes in which ours reached the same,
the lower of both feature spaces.

`latent_ratio`: seconds a picture of 128 pixels by one U-Net in pixels over those by the same U-Net in the latents of an
autoencoder (8 times shorter sides), its decoder included, at equal evaluations; weights are random, as only time is taken.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import harness
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.process import Gaussian
from langevin.evaluation.frechet import Moments, frechet_distance
from langevin.modalities.image.data import Images
from langevin.modalities.image.measure import feature_spaces
from langevin.modalities.modality import Measuring, RequestContext, spread
from langevin.networks import Autoencoder, UNet
from langevin.recipe.build import build, training_batches
from langevin.recipe.complete import complete
from langevin.recipe.read import check, merge, override, read_tree
from langevin.run.generate import RunModel, changed
from langevin.training import machine
from langevin.training.distributed import World
from langevin.training.ema import standard_length
from langevin.training.loop import TrainingState, fit
from langevin.training.plan import StepPlan

GRID: Mapping[str, tuple[Any, ...]] = {"width": (32, 64), "batch": (32, 64, 128), "rate": (1e-4, 4e-4)}
CALLS = (1, 2, 4, 8, 16)
TIMED = 6  # steps by which the number of steps within the minutes is estimated


class Ours:
    """A recipe without a directory."""

    def __init__(self, asked: argparse.Namespace) -> None:
        tree = read_tree("image/digits" if asked.quick else "image/cifar10")
        tree = merge(tree, tree.pop("smoke_test")) if asked.quick else tree
        if asked.data:
            tree["data"] = {"kind": "image", "path": asked.data, "flip": True}
        changes = [f"training.seed={asked.seed}", "training.steps=1000000", "training.minutes=null"]
        recipe = check(override(tree, [*changes, *asked.changes]))
        training = replace(recipe.training, precision=machine.precision("auto"))
        self.train, self.val = recipe.data.open()
        recipe = complete(replace(recipe, training=training), self.train)
        self.built, self.batch, self.spent = build(recipe), training.batch, 0.0
        self.state = TrainingState.new(self.built.model.method, training)
        self.state.plan = StepPlan.of(10**6)
        batches = training_batches(recipe, self.built.batches(self.train))
        self.steps: Iterator[Any] = fit(self.state, batches, self.built.model.method, training, world=World())

    def step(self) -> None:
        assert next(self.steps).applied

    @property
    def finished(self) -> bool:
        """Whether all planned steps were made."""
        return self.state.plan is not None and self.state.step >= self.state.plan.total

    def plan(self, steps: int) -> None:
        """The number of steps by which rates fall."""
        self.state.plan = StepPlan.of(steps)

    @property
    def network(self) -> nn.Module:
        return self.built.model.network

    def draw(self, count: int, calls: int | None = None) -> Tensor:
        """Images with the classes of the training data, by the average of the weights."""
        parameters = dict(self.state.players["denoiser"].module.named_parameters())
        kept = {name: p.detach().clone() for name, p in parameters.items()}
        with torch.no_grad():
            length = standard_length(self.built.recipe.training.ema_lengths)
            for name, value in self.state.ema["denoiser"].tensors(length).items():
                parameters[name].copy_(value)
        model = RunModel(built=self.built, sampling=self.built.recipe.sampling)
        model = model if calls is None else changed(model, steps=calls)
        context = RequestContext(model=model, data=lambda: (self.train, self.val), count=count, seed=1_000_000)
        self.network.eval()
        images: Tensor = model.run(self.built.recipe.data.plan_like(self.train, context), batch=128).values
        self.network.train()
        with torch.no_grad():
            for name, value in kept.items():
                parameters[name].copy_(value)
        return images


class Peer:
    """diffusers' U-Net in the loop of its own example."""

    def __init__(self, ours: Ours, *, width: int, batch: int, rate: float, seed: int, quick: bool = False) -> None:
        diffusers, training_utils = harness.peer(), __import__("diffusers.training_utils").training_utils
        torch.manual_seed(seed)
        channels, side, _ = ours.train.shape
        widths = (width, 2 * width) if quick else (width, 2 * width, 2 * width)
        down = ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"][: len(widths)]
        self.network: Any = diffusers.UNet2DModel(
            sample_size=side, in_channels=channels, out_channels=channels, block_out_channels=widths, layers_per_block=2,
            down_block_types=tuple(down), norm_num_groups=8, num_class_embeds=len(ours.train.classes),
            up_block_types=tuple(name.replace("Down", "Up") for name in reversed(down)),
        ).to(memory_format=torch.channels_last)  # fmt: skip
        self.data: Images = ours.train
        self.batch, self.rate, self.total, self.done, self.spent = batch, rate, 10**6, 0, 0.0
        self.scheduler = diffusers.DDPMScheduler(num_train_timesteps=1000)
        self.solver = diffusers.DPMSolverMultistepScheduler.from_config(self.scheduler.config)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=rate, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8, fused=True
        )
        self.average = training_utils.EMAModel(
            self.network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75
        )
        self.half, self.generator = machine.has_bf16_units(), torch.Generator().manual_seed(seed)

    @property
    def finished(self) -> bool:
        """Whether all planned steps were made."""
        return self.done >= self.total

    def plan(self, steps: int) -> None:
        """The number of steps by which the rate falls."""
        self.total = steps

    def step(self) -> None:
        items = torch.randint(0, len(self.data), (self.batch,), generator=self.generator)
        x = self.data.read(items).float() / 127.5 - 1
        mirrored = torch.rand(self.batch, generator=self.generator) < 0.5
        x = torch.where(mirrored[:, None, None, None], x.flip(-1), x).contiguous(memory_format=torch.channels_last)
        noise = torch.randn(x.shape, generator=self.generator)
        t = torch.randint(0, 1000, (self.batch,), generator=self.generator)
        warm_up = min(500, self.total // 10)
        falling = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0, self.done - warm_up) / max(1, self.total - warm_up))))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * min(1.0, (self.done + 1) / max(1, warm_up)) * falling
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.half):
            answer = self.network(self.scheduler.add_noise(x, noise, t), t, class_labels=self.data.labels[items]).sample
        F.mse_loss(answer.float(), noise).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.step(self.network.parameters())
        self.done += 1

    @torch.no_grad()
    def draw(self, count: int, steps: int = 20) -> Tensor:
        """Images with the classes of the training data, by the average of the weights."""
        self.average.store(self.network.parameters())
        self.average.copy_to(self.network.parameters())
        self.network.eval()
        found, labels = list[Tensor](), self.data.labels[spread(len(self.data), count)]
        for part in labels.split(128):
            x = torch.randn(len(part), *self.data.shape, generator=self.generator)
            self.solver.set_timesteps(steps)
            for t in self.solver.timesteps:
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.half):
                    noise = self.network(x, t, class_labels=part).sample
                x = self.solver.step(noise.float(), t, x).prev_sample
            found.append(((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))
        self.network.train()
        self.average.restore(self.network.parameters())
        return torch.cat(found)


class Judge:
    """Distances of images to the training data in feature spaces."""

    def __init__(self, ours: Ours, folder: Path) -> None:
        model = RunModel(built=ours.built, sampling=ours.built.recipe.sampling)
        measuring = Measuring(
            model=model, train=ours.train, val=ours.val, folder=folder, facts={}, load=lambda path: model, count=None,
            say=print, progress=lambda name: lambda done, total: None,
        )  # fmt: skip
        self.spaces = {
            name: space for name, space in feature_spaces(ours.built.recipe.data, measuring).spaces.items()
            if name != "pixels"
        }  # fmt: skip
        real = ours.train.read(spread(len(ours.train), 10_000))
        self.real = {name: Moments.of(space(real)) for name, space in self.spaces.items()}
        self.val = ours.val

    def __call__(self, images: Tensor) -> dict[str, float]:
        return {name: frechet_distance(self.real[name], Moments.of(of(images))) for name, of in self.spaces.items()}

    def floor(self, count: int) -> dict[str, float]:
        """The distances of real images."""
        return self(self.val.read(spread(len(self.val), count)))


def spend(side: Ours | Peer, seconds: float) -> None:
    """Train for so many seconds of CPU time, or until all planned steps are made."""
    begin = time.process_time()
    while not side.finished and time.process_time() - begin < seconds:
        side.step()
    side.spent += time.process_time() - begin


def planned(side: Ours | Peer, minutes: float) -> None:
    """Time some steps, and plan as many as fit into the minutes."""
    side.step()
    begin = time.process_time()
    for _ in range(TIMED):
        side.step()
    used = time.process_time() - begin
    side.spent += used
    side.plan(max(TIMED + 2, int(60 * minutes / (used / TIMED))))


def searched(ours: Ours, judge: Judge, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Each setting of the peer for `asked.search` minutes, and the distances of what it then draws, the best first."""
    found = list[dict[str, Any]]()
    for width, batch, rate in product(*GRID.values()):
        side = Peer(ours, width=width, batch=batch, rate=rate, seed=asked.seed)
        planned(side, asked.search)
        spend(side, 60 * asked.search - side.spent)
        found.append({"width": width, "batch": batch, "rate": rate, **judge(side.draw(asked.samples))})
        print(found[-1], flush=True)
    return sorted(found, key=lambda one: one["random convolutions"])


def raced(sides: dict[str, Ours | Peer], judge: Judge, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Both trained in turns, and their distances at every check."""
    checks = list[dict[str, Any]]()
    for side in sides.values():
        planned(side, asked.minutes)
    for k in range(asked.checks):
        for side in sides.values():
            spend(side, 60 * asked.minutes / 2 ** (asked.checks - 1 - k) - side.spent)
        line = {name: {"minutes": s.spent / 60, **judge(s.draw(asked.samples))} for name, s in sides.items()}
        print(line, flush=True)
        checks.append(line)
    return checks


def minutes_to_equal(checks: list[dict[str, Any]], space: str) -> dict[str, float | None]:
    """The minutes to the peer's least distance, of both; None where ours does not reach it. Between checks the logarithm
    of the distance is taken to be linear."""
    best = min(checks, key=lambda line: line["peer"][space])["peer"]
    goal, before = math.log(best[space]), None
    for line in checks:
        minutes, value = line["ours"]["minutes"], math.log(line["ours"][space])
        if value <= goal:
            if before is not None and before[1] > value:
                minutes = before[0] + (minutes - before[0]) * (before[1] - goal) / (before[1] - value)
            return {
                "peer": best["minutes"],
                "ours": minutes,
                "ratio": best["minutes"] / minutes,
                "distance": best[space],
            }
        before = minutes, value
    return {"peer": best["minutes"], "ours": None, "ratio": None, "distance": best[space]}


def latent_ratio(asked: argparse.Namespace) -> dict[str, Any]:
    """Seconds a picture of 128 pixels, in pixels and in latents, four at a time."""
    side, levels, steps = (32, (1, 2), 2) if asked.quick else (128, (1, 2, 2), 8)
    codec = Autoencoder.Config(width=32, patch=4, channel_mult=(1, 2), latent_channels=16, channels=3).build()
    config = UNet.Config(width=64, channel_mult=levels, blocks=2, channels=3)
    dtype = torch.bfloat16 if machine.precision("auto") == "bfloat16" else torch.float32

    def drawing(channels: int, side: int, finish: Callable[[Tensor], Tensor]) -> Callable[[], float]:
        process, network = Gaussian(sigma_data=0.5), replace(config, channels=channels).build().eval()
        denoiser = GaussianDenoiser(network=network, process=process, precision=dtype)
        noise, t = torch.randn(4, channels, side, side), torch.full((4,), 0.5, dtype=torch.float64)

        @torch.no_grad()
        def run() -> float:
            begin, x = time.process_time(), noise
            for _ in range(steps):
                x = denoiser(noise, t, None).mean
            finish(x)
            return (time.process_time() - begin) / len(noise)

        return run

    runs = {"pixels": drawing(3, side, lambda x: x), "latents": drawing(16, side // 8, codec.decode)}
    got = harness.interleave(runs, pairs=asked.pairs)
    return {
        "latent_ratio": harness.ratio(got["pixels"], got["latents"]),
        "seconds_a_picture": got,
        "evaluations": steps,
    }


def parsed() -> argparse.Namespace:
    parser = harness.options(__doc__ or "")
    parser.add_argument("--data", default=None, help="CIFAR-10 as a folder; default: what the recipe finds")
    parser.add_argument("--minutes", type=float, default=30.0, help="of CPU time of each side")
    parser.add_argument(
        "--checks", type=int, default=7, help="times that both are measured, each twice as late as the last"
    )
    parser.add_argument("--samples", type=int, default=1000, help="pictures of each check")
    parser.add_argument(
        "--search", type=float, default=0.0, help="minutes of each setting of the peer; 0 does not search"
    )
    parser.add_argument("--width", type=int, default=64, help="of the peer's finest level")
    parser.add_argument("--peer-batch", type=int, default=32, help="pictures of a step of the peer")
    parser.add_argument("--rate", type=float, default=4e-4, help="the peer's learning rate")
    parser.add_argument("--judges", default=str(Path(gettempdir()) / "langevin-judges"), help="folder of classifiers")
    parser.add_argument("changes", nargs="*", help="changes of our recipe, such as sampling.steps=10")
    asked = harness.parse(parser)
    if asked.quick:
        asked.minutes, asked.checks, asked.samples, asked.search, asked.width = 0.02, 2, 16, 0.0, 8
    return asked


def main() -> None:
    asked = parsed()
    torch.set_num_threads(1)  # of which CPU time is the time
    figures = harness.introduce(machine.describe() | {"precision": machine.precision("auto")}, asked)
    ours = Ours(asked)
    judge = Judge(ours, Path(asked.judges))
    if asked.search:
        found = searched(ours, judge, asked)
        return harness.conclude({"benchmark": "quality", **figures, "search": found})
    peer = Peer(ours, width=asked.width, batch=asked.peer_batch, rate=asked.rate, seed=asked.seed, quick=asked.quick)
    sizes = {"ours": ours.network, "peer": peer.network}
    checks = raced({"ours": ours, "peer": peer}, judge, asked)
    rows = [
        [f"{line['ours']['minutes']:.1f}", *(line[side][space] for space in judge.spaces for side in ("ours", "peer"))]
        for line in checks
    ]
    head = ["minutes", *(f"{side}, {space}" for space in judge.spaces for side in ("ours", "peer"))]
    harness.show(f"Frechet distance of {asked.samples} pictures", head, rows)
    equal = {space: minutes_to_equal(checks, space) for space in judge.spaces}
    ratios = [one["ratio"] for one in equal.values()]
    few = {str(calls): judge(ours.draw(asked.samples, calls)) for calls in CALLS}
    harness.show(
        "ours by function evaluations", ["steps", *judge.spaces], [[n, *one.values()] for n, one in few.items()]
    )
    latent = latent_ratio(asked)
    times = {name: statistics.median(got) for name, got in latent["seconds_a_picture"].items()}
    harness.show("128 pixels", ["space", "seconds a picture"], [[name, seconds] for name, seconds in times.items()])
    harness.conclude({
        "benchmark": "quality", **figures, "floor": judge.floor(asked.samples), "checks": checks, "equal": equal,
        "weights": {name: sum(p.numel() for p in network.parameters()) for name, network in sizes.items()},
        "minutes_ratio": None if None in ratios else min(ratios), "few_steps": few, **latent,
    })  # fmt: skip


if __name__ == "__main__":
    main()
