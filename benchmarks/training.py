"""Training speed: the CIFAR-10 U-Net of DDPM (35.7 million weights) in diffusers and here, on the same synthetic images.

A step is everything between two batches: noise, forward, loss, backward, clipping, AdamW; ours includes its two running
averages and its check for numbers that are not finite. Three sides take turns, a few steps each:

    default   diffusers as its examples/unconditional_image_generation/train_unconditional.py runs it: the configuration of
              google/ddpm-cifar10-32, float32, contiguous, noise loss, AdamW, clip 1, no average. `accelerate` is left out:
              around one process it only adds calls
    tuned     the same, as one would tune it by hand: channels_last, fused AdamW, and bf16 autocast where the machine has
              matrix units for it
    ours      networks.UNet of the same shape through methods.Diffusion and training.loop.fit, precision auto

The second part relates our steps to the matrix products that this machine makes in the same precision, measured in turns
with them: floating-point operations of one forward and backward pass, counted, over seconds of the whole step.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import harness
from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.objective import LogNormal, WeightedMSE
from langevin.diffusion.process import Gaussian
from langevin.methods import AdamW, Diffusion
from langevin.networks import DiT, UNet
from langevin.training import machine
from langevin.training.distributed import World
from langevin.training.loop import StepReport, TrainingConfig, TrainingState, fit

SHAPE = (3, 32, 32)
IMAGES = 512
TOLERANCE = 0.015  # on the ratio of parameter counts


class Images:
    """Synthetic data, in memory: batch i holds the next rows."""

    def __init__(self, *, seed: int, where: torch.device) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.x = (torch.rand(IMAGES, *SHAPE, generator=generator) * 2 - 1).to(where)

    def __call__(self, step: int, rows: Tensor) -> Batch:
        return Batch(x=self.x[(step * len(rows) + rows) % IMAGES])


class Ours:
    """A network of ours under its real trainer."""

    def __init__(self, network: nn.Module, images: Images, *, batch: int, seed: int, where: torch.device) -> None:
        self.network = network.to(where)
        if isinstance(network, UNet):
            self.network = self.network.to(memory_format=torch.channels_last)
        process = Gaussian(sigma_data=0.5)
        self.precision = machine.precision("auto")
        dtype = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
        self.method = Diffusion(
            process=process,
            denoiser=GaussianDenoiser(network=self.network, process=process, precision=dtype),
            network=self.network,
            objective=WeightedMSE(process=process),
            times=LogNormal(),
            schedule=process.schedule,
            non_hidden=self.network.non_hidden,
        )
        self.config = TrainingConfig(
            steps=100_000, batch=batch, grad_clip=1.0, seed=seed, optimizer=AdamW(lr=1e-4, betas=(0.95, 0.999))
        )
        self.images, self.where = images, where
        state = TrainingState.new(self.method, self.config)
        self.reports: Iterator[StepReport] = fit(state, images, self.method, self.config, world=World())

    def step(self) -> None:
        report = next(self.reports)
        assert report.applied

    def flops(self) -> int:
        """Of one forward and backward pass; attention is counted as its matrix products."""
        rows = torch.arange(self.config.batch, device=self.where)
        drawn = step_randomness(seed=0, step=0, samples=rows, count=len(rows))
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            self.method.loss("denoiser", self.images(0, rows), drawn).loss.mean().backward()
        return counter.get_total_flops()


class Peer:
    """diffusers' U-Net in the loop of its own example."""

    def __init__(
        self, widths: tuple[int, ...], images: Images, *, batch: int, tuned: bool, where: torch.device
    ) -> None:
        diffusers = harness.peer()
        down = ["DownBlock2D"] * len(widths)
        down[1] = "AttnDownBlock2D"
        self.network = diffusers.UNet2DModel(
            sample_size=SHAPE[-1], in_channels=3, out_channels=3, block_out_channels=widths, layers_per_block=2,
            down_block_types=tuple(down),
            up_block_types=tuple(name.replace("Down", "Up") for name in reversed(down)),
            act_fn="silu", norm_num_groups=32, norm_eps=1e-6, attention_head_dim=None, downsample_padding=0,
            mid_block_scale_factor=1, center_input_sample=False, time_embedding_type="positional", freq_shift=1,
            flip_sin_to_cos=False,
        ).to(where)  # fmt: skip
        if tuned:
            self.network = self.network.to(memory_format=torch.channels_last)
        self.network.train()
        self.scheduler = diffusers.DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8,
            **({"fused": True} if tuned else {}),
        )  # fmt: skip
        self.images, self.batch, self.where, self.tuned, self.done = images, batch, where, tuned, 0
        self.half = tuned and machine.has_bf16_units()
        self.precision = "bfloat16" if self.half else "float32"

    def step(self) -> None:
        clean: Tensor = self.images(self.done, torch.arange(self.batch, device=self.where)).x
        if self.tuned:
            clean = clean.contiguous(memory_format=torch.channels_last)
        noise = torch.randn_like(clean)
        times = torch.randint(0, 1000, (len(clean),), device=self.where)
        noisy = self.scheduler.add_noise(clean, noise, times)
        with torch.autocast(self.where.type, dtype=torch.bfloat16, enabled=self.half):
            answer = self.network(noisy, times).sample
        loss = F.mse_loss(answer.float(), noise.float())
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        assert math.isfinite(loss.detach().item())  # the example reads it every step, for its log
        self.done += 1


def seconds_a_step(step: Callable[[], None], steps: int) -> float:
    """Mean over `steps` steps."""
    begin = time.perf_counter()
    for _ in range(steps):
        step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - begin) / steps


def weights(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def profile(step: Callable[[], None]) -> str:
    """The twelve operations of one step that take longest themselves."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        step()
    return profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=12)


def parsed() -> argparse.Namespace:
    parser = harness.options(__doc__)
    parser.add_argument("--batch", type=int, default=16, help="rows of the U-Net's step")
    parser.add_argument("--transformer-batch", type=int, default=64, help="rows of the transformer's step")
    parser.add_argument("--steps", type=int, default=2, help="steps in a row, a side and pair")
    parser.add_argument("--profile", action="store_true", help="print the operations that one of our steps spends on")
    asked = harness.parse(parser)
    if asked.quick:
        asked.batch, asked.transformer_batch, asked.steps = 2, 4, 1
    return asked


def main() -> None:
    asked = parsed()
    where = machine.device()
    facts = machine.describe() | {"precision": machine.precision("auto")}
    figures = harness.introduce(facts, asked)
    width, depth, size = (32, 2, 256) if asked.quick else (128, 8, 2048)
    torch.manual_seed(asked.seed)
    images = Images(seed=asked.seed, where=where)
    unet = UNet.Config(
        width=width, channel_mult=(1, 2, 2, 2), blocks=2, attention=(1,), head_dim=None, embedding_width=2 * width,
        channels=3,
    )  # fmt: skip
    transformer = DiT.Config(width=256, depth=depth, patch=4, channels=3)
    ours = Ours(unet.build(), images, batch=asked.batch, seed=asked.seed, where=where)
    dit = Ours(transformer.build(), images, batch=asked.transformer_batch, seed=asked.seed, where=where)
    widths = (width, 2 * width, 2 * width, 2 * width)
    sides = {
        "ours": ours,
        "default": Peer(widths, images, batch=asked.batch, tuned=False, where=where),
        "tuned": Peer(widths, images, batch=asked.batch, tuned=True, where=where),
    }
    counts = {name: weights(side.network) for name, side in sides.items()}
    apart = counts["ours"] / counts["default"] - 1
    print(f"weights: ours {counts['ours']:,}, diffusers {counts['default']:,} ({apart:+.2%})", flush=True)
    if not asked.quick and abs(apart) > TOLERANCE:
        raise SystemExit(f"the networks differ by {apart:+.2%} in size, more than {TOLERANCE:.1%}: not a comparison")

    dtype = torch.bfloat16 if ours.precision == "bfloat16" else torch.float32
    runs: dict[str, Callable[[], float]] = {
        name: lambda side=side: seconds_a_step(side.step, asked.steps) for name, side in sides.items()
    }
    runs["transformer"] = lambda: seconds_a_step(dit.step, asked.steps)
    runs["matrix"] = lambda: machine.matrix_rate(dtype, size=size, seconds=1.0, where=where)
    got = harness.interleave(runs, pairs=asked.pairs)

    rows = []
    for name, side in sides.items():
        seconds = statistics.median(got[name])
        rows.append([name, side.precision, seconds, asked.batch / seconds, f"{harness.spread(got[name]):.0%}"])
    harness.show(
        f"training, batch {asked.batch}, medians of {asked.pairs} runs of {asked.steps} steps",
        ["side", "precision", "seconds a step", "samples/s", "spread"],
        rows,
    )
    speedup = {name: harness.ratio(got[name], got["ours"]) for name in ("default", "tuned")}
    for name, times in speedup.items():
        print(f"ours / {name}: {times} times the samples a second")

    peak = statistics.median(got["matrix"])
    fraction: dict[str, harness.Ratio] = {}
    rows = []
    for title, name, side in (("U-Net", "ours", ours), ("transformer", "transformer", dit)):
        flops = side.flops()
        achieved = [flops / seconds for seconds in got[name]]
        fraction[name] = harness.ratio(achieved, got["matrix"])
        rate = statistics.median(achieved)
        rows.append([title, side.config.batch, weights(side.network), flops / 1e9, rate / 1e9, str(fraction[name])])
    harness.show(
        f"share of the matrix peak: {peak / 1e9:.1f} GFLOP/s in {ours.precision} at {size} "
        f"(spread {harness.spread(got['matrix']):.0%})",
        ["network", "batch", "weights", "GFLOP a step", "GFLOP/s", "share of the peak"],
        rows,
    )
    if asked.profile:
        for title, side in (("U-Net", ours), ("transformer", dit)):
            print(f"\none step of our {title}\n{profile(side.step)}")
    harness.conclude(
        {
            "benchmark": "training", **figures, "batch": asked.batch, "parameters": counts,
            "seconds_a_step": {name: statistics.median(got[name]) for name in sides},
            "samples_a_second": {name: asked.batch / statistics.median(got[name]) for name in sides},
            "spread": {name: harness.spread(values) for name, values in got.items()},
            "speedup_default": speedup["default"].median, "speedup_tuned": speedup["tuned"].median,
            "speedup_ranges": speedup,
            "transformer_samples_a_second": asked.transformer_batch / statistics.median(got["transformer"]),
            "peak_gflops": peak / 1e9, "peak_fraction_unet": fraction["ours"].median,
            "peak_fraction_transformer": fraction["transformer"].median, "peak_fraction_ranges": fraction,
        }
    )  # fmt: skip


if __name__ == "__main__":
    main()
