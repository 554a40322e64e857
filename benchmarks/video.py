"""Clips: our training beside lucidrains' video trainer at equal size, what both draw after equal minutes, long clips.

    python benchmarks/video.py --quick                              it runs; its figures mean nothing
    python benchmarks/video.py --digits digits_mnist/train.parquet  training steps in turns, and the cost of a frame
    python benchmarks/video.py --digits ... --minutes 40            and what both draw after 40 minutes of CPU each

The peer is video-diffusion-pytorch (pip install --no-deps video-diffusion-pytorch einops einops-exts
rotary-embedding-torch), its widest 3D U-Net that has no more weights than
ours, l1 loss and Adam as in its trainer, gradients of one batch a step. It is conditioned on the digit and the axis as two
ones in a vector, ours on the caption in words. It
runs in float32, its default, and in bf16 where the machine has units for it (tuned). `train_ratio` is our clips a second
over those of the faster one. What ours draws is by the recipe's sampler, 20 steps of two evaluations each, guided and with
the average of its weights; the peer by DDIM in 50 steps, unguided, with its weights as they are: its trainer averages them
after 2,000 steps, which it does not reach.
The last part draws clips of 12 to 240 frames with a window that moves on: `rolling_ratio` is the cost of a frame of the
longest over that of the second shortest.
"""

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import harness
from langevin.modalities.modality import RequestContext
from langevin.modalities.video.data import Clips
from langevin.modalities.video.judge import MOST_CLIPS, Judge, train_judge
from langevin.modalities.video.measure import read_labels
from langevin.modalities.video.options import Sample
from langevin.recipe.build import build, training_batches
from langevin.recipe.complete import complete
from langevin.recipe.read import check, merge, read_tree
from langevin.run.generate import RunModel
from langevin.training import machine
from langevin.training.distributed import World
from langevin.training.loop import TrainingState, fit
from langevin.training.plan import StepPlan

LENGTHS = (12, 24, 60, 120, 240)


class Ours:
    """The recipe video/moving-digits without a directory."""

    def __init__(self, path: str | None, *, batch: int, steps: int, seed: int, quick: bool) -> None:
        tree = read_tree("video/moving-digits")
        tree = merge(tree, tree.pop("smoke_test")) if quick else tree
        tree["training"] = {
            "steps": steps, "batch": batch, "seed": seed, "optimizer": tree["training"].get("optimizer", {"kind": "muon"}),
            "precision": machine.precision("auto"), "ema_lengths": [0.05],
        }  # fmt: skip
        recipe = check(tree)
        source = replace(recipe.data.source, path=path, seed=seed)  # type: ignore[union-attr]
        source = source if quick else replace(source, size=24, digit=16)  # the peer halves frames three times
        recipe = replace(recipe, data=replace(recipe.data, source=source))  # type: ignore[call-arg]
        self.train, self.val = recipe.data.open()
        recipe = complete(recipe, self.train)
        self.built, self.batch, self.spent, self.seen = build(recipe), batch, 0.0, 0
        self.state = TrainingState.new(self.built.model.method, recipe.training)
        self.state.plan = StepPlan.of(steps)
        batches = training_batches(recipe, self.built.batches(self.train))
        self.steps = fit(self.state, batches, self.built.model.method, recipe.training, world=World())

    @property
    def size(self) -> int:
        return sum(p.numel() for p in self.built.model.network.parameters())

    def step(self) -> None:
        assert next(self.steps).applied
        self.seen += self.batch

    def model(self) -> RunModel:
        return RunModel(built=self.built, sampling=self.built.recipe.sampling)

    @torch.no_grad()
    def sample(self, count: int) -> tuple[Tensor, Tensor]:
        """Clips, and the held-out clips whose captions they were drawn from."""
        parameters = dict(self.state.players["denoiser"].module.named_parameters())
        kept = {name: p.detach().clone() for name, p in parameters.items()}
        for name, value in self.state.ema["denoiser"].tensors(0.05).items():
            parameters[name].copy_(value)
        context = RequestContext(model=self.model(), data=lambda: (self.train, self.val), count=count, seed=1_000_000)
        samples = self.model().run(self.built.recipe.data.plan_like(self.val, context), batch=64)
        for name, value in kept.items():
            parameters[name].copy_(value)
        return torch.stack(list(samples.values)), samples.arrays["items"]


class Peer:
    """The 3D U-Net and the diffusion of video-diffusion-pytorch in the loop of its trainer."""

    def __init__(self, library: ModuleType, ours: Ours, *, tuned: bool, seed: int, quick: bool) -> None:
        torch.manual_seed(seed)
        self.clips, self.batch, self.spent, self.seen = ours.train, ours.batch, 0.0, 0
        frames, (channels, side, _) = ours.built.recipe.data.window, self.clips.shape  # type: ignore[union-attr]
        self.choices = [len(names) for names, _ in self.clips.labels.values()]
        width = 8
        while not quick and self._network(library, width + 4, channels) <= ours.size:
            width += 4
        self.network = library.Unet3D(dim=width, cond_dim=sum(self.choices), channels=channels)
        self.diffusion = library.GaussianDiffusion(
            self.network, image_size=side, num_frames=frames, channels=channels, timesteps=1000
        )
        self.optimizer = torch.optim.Adam(self.diffusion.parameters(), lr=1e-4)
        self.half = tuned and machine.has_bf16_units()
        self.shape = (channels, frames, side, side)
        self.generator = torch.Generator().manual_seed(seed)

    def _network(self, library: ModuleType, width: int, channels: int) -> int:
        with torch.device("meta"):
            network = library.Unet3D(dim=width, cond_dim=sum(self.choices), channels=channels)
        return sum(p.numel() for p in network.parameters())

    @property
    def size(self) -> int:
        return sum(p.numel() for p in self.network.parameters())

    def condition(self, data: Clips, items: Tensor) -> Tensor:
        chosen = zip(data.labels.values(), self.choices, strict=True)
        return torch.cat([F.one_hot(values[items], n).float() for (_, values), n in chosen], 1)

    def step(self) -> None:
        items = torch.randint(0, len(self.clips), (self.batch,), generator=self.generator)
        x = self.clips.windows(items, self.shape[1]).transpose(1, 2).float() / 255
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.half):
            loss = self.diffusion(x, cond=self.condition(self.clips, items))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.seen += self.batch

    @torch.no_grad()
    def sample(self, data: Clips, items: Tensor, steps: int = 50) -> Tensor:
        """By DDIM, clipped to the range of the data at every step as its own sampler does; in batches as in training."""
        return torch.cat([self._sample(data, some, steps) for some in items.split(self.batch)])

    def _sample(self, data: Clips, items: Tensor, steps: int) -> Tensor:
        total = self.diffusion.alphas_cumprod
        times = torch.linspace(len(total) - 1, 0, steps).round().long()
        x = torch.randn(len(items), *self.shape, generator=self.generator)
        for i, t in enumerate(times.tolist()):
            a, b = total[t], total[times[i + 1]] if i + 1 < steps else torch.tensor(1.0)
            noise = self.network(x, torch.full((len(x),), t), cond=self.condition(data, items))
            clean = ((x - (1 - a).sqrt() * noise) / a.sqrt()).clamp(-1, 1)
            x = b.sqrt() * clean + (1 - b).sqrt() * (x - a.sqrt() * clean) / (1 - a).sqrt()
        return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).transpose(1, 2)


def peer_library() -> ModuleType:
    """The peer, without its reader of files, for which alone it imports torchvision."""
    for name in ("torchvision", "torchvision.transforms", "torchvision.utils"):
        sys.modules.setdefault(name, ModuleType(name))
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]  # type: ignore[attr-defined]
    sys.modules["torchvision.transforms"].ToTensor = lambda: None  # type: ignore[attr-defined]
    sys.modules["torchvision"].utils = sys.modules["torchvision.utils"]  # type: ignore[attr-defined]
    try:
        return importlib.import_module("video_diffusion_pytorch.video_diffusion_pytorch")
    except ImportError as error:
        raise SystemExit(f"the peer cannot be imported ({error}): see the top of this file") from error


def seconds_a_step(step: Callable[[], None], steps: int) -> float:
    begin = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - begin) / steps


def spend(side: Any, seconds: float) -> None:
    """Train for so many seconds of CPU time."""
    begin = time.process_time()
    while time.process_time() - begin < seconds:
        side.step()
    side.spent += time.process_time() - begin


def shares(judge: Judge, data: Clips, clips: Tensor, items: Tensor) -> dict[str, float]:
    """The share of clips that show each label of the held-out clips `items`."""
    found = read_labels(judge, data, clips, frames=True)
    return {name: float((found[name] == values[items]).double().mean()) for name, (_, values) in data.labels.items()}


def after_minutes(ours: Ours, peer: Peer, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Both trained in turns for as many minutes of CPU time, and the shares of right digits and directions."""
    train, val, window = ours.train, ours.val, peer.shape[1]
    judge = train_judge(
        train.windows(torch.arange(min(MOST_CLIPS, len(train))), window),
        {key: values[:MOST_CLIPS] for key, (_, values) in train.labels.items()},
        {key: len(names) for key, (names, _) in train.labels.items()},
        (val.windows(torch.arange(len(val)), window), {key: values for key, (_, values) in val.labels.items()}),
    )
    found = list[dict[str, Any]]()
    for k in range(asked.slices):
        for side in (ours, peer):
            spend(side, 60 * asked.minutes / asked.slices)
        ours.built.model.network.eval(), peer.network.eval()
        clips, items = ours.sample(asked.samples)
        line = {
            "minutes": (k + 1) * asked.minutes / asked.slices, "ours": shares(judge, val, clips, items),
            "peer": shares(judge, val, peer.sample(val, items), items),
            "clips": {"ours": ours.seen, "peer": peer.seen},
        }  # fmt: skip
        ours.built.model.network.train(), peer.network.train()
        print(line, flush=True)
        found.append(line)
    return found


def rolling(ours: Ours, lengths: tuple[int, ...]) -> dict[int, float]:
    """Seconds per frame of one clip of each length, by a window of falling noise that moves on."""
    model, video, found = ours.model(), ours.built.recipe.data, dict[int, float]()
    ours.built.model.network.eval()
    for frames in (lengths[0], *lengths):  # the first is a warm-up
        context = RequestContext(model=model, data=lambda: (ours.train, ours.val), count=1, seed=0)
        chosen = "rolling" if frames > video.window else None  # type: ignore[union-attr]
        begin = time.perf_counter()
        model.run(video.plan(Sample(frames=frames, scheduling=chosen), context))  # type: ignore[arg-type]
        found[frames] = (time.perf_counter() - begin) / frames
    return found


def parsed() -> argparse.Namespace:
    parser = harness.options(__doc__ or "")
    parser.add_argument("--digits", default=None, help="a Parquet file of MNIST; default: the digits of scikit-learn")
    parser.add_argument("--batch", type=int, default=16, help="clips of a step")
    parser.add_argument("--steps", type=int, default=2, help="steps in a row, a side and pair")
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="of CPU time of each side, to compare what both draw"
    )
    parser.add_argument(
        "--slices", type=int, default=4, help="turns into which the minutes are cut, measured after each"
    )
    parser.add_argument("--samples", type=int, default=200, help="clips that are judged")
    asked = harness.parse(parser)
    if asked.quick:
        asked.batch, asked.steps, asked.samples, asked.slices = 4, 1, 8, 1
        asked.minutes = asked.minutes and 0.02
    return asked


def main() -> None:
    asked = parsed()
    figures = harness.introduce(machine.describe() | {"precision": machine.precision("auto")}, asked)
    library = peer_library()
    ours = Ours(asked.digits, batch=asked.batch, steps=100_000, seed=asked.seed, quick=asked.quick)
    sides: dict[str, Any] = {"ours": ours}
    for name in ("default", "tuned"):
        sides[name] = Peer(library, ours, tuned=name == "tuned", seed=asked.seed, quick=asked.quick)
    sizes = {name: side.size for name, side in sides.items()}
    print(f"weights: ours {sizes['ours']:,}, peer {sizes['tuned']:,}", flush=True)
    got = harness.interleave(
        {name: lambda side=side: seconds_a_step(side.step, asked.steps) for name, side in sides.items()},
        pairs=asked.pairs,
    )
    rows = [
        [name, sizes[name], statistics.median(got[name]), asked.batch / statistics.median(got[name]),
         f"{harness.spread(got[name]):.0%}"]
        for name in sides
    ]  # fmt: skip
    harness.show(
        f"training, {asked.batch} clips of {'x'.join(map(str, sides['tuned'].shape))} a step, medians of {asked.pairs}",
        ["side", "weights", "seconds a step", "clips/s", "spread"], rows,
    )  # fmt: skip
    ratios = {name: harness.ratio(got[name], got["ours"]) for name in ("default", "tuned")}
    lower = min(ratios.values(), key=lambda r: r.median)
    for name, times in ratios.items():
        print(f"ours / {name}: {times} times the clips a second")
    drawn = after_minutes(ours, sides["tuned"], asked) if asked.minutes else []
    cost = rolling(ours, LENGTHS[:3] if asked.quick else LENGTHS)
    harness.show("a clip by a rolling window", ["frames", "seconds a frame"], [[n, s] for n, s in cost.items()])
    longest, second = max(cost), sorted(cost)[1]
    harness.conclude(
        {
            "benchmark": "video", **figures, "weights": sizes, "seconds_a_step": got, "train_ratio": lower,
            "train_ratios": ratios, "after_minutes": drawn, "seconds_a_frame": {str(n): s for n, s in cost.items()},
            "rolling_ratio": cost[longest] / cost[second],
        }
    )  # fmt: skip


if __name__ == "__main__":
    main()
