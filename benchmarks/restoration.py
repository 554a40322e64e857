"""Restoration of held-out images by trained runs: fidelity, calibration and cost, beside filters and published methods.

    python benchmarks/restoration.py runs/digits runs/emoji runs/cifar10 --count 24 --pictures pictures

Each task hides part of an image that the run has not seen. 19 answers are drawn to each: their range, from the smallest to
the largest value of a pixel, has the truth in it with probability 18/20 if they are samples of the posterior, whatever it
is. PSNR, SSIM and the distance in random features are of the answers' mean, and of one answer. DPS and RePaint are run by
the loops of their papers (1,000 steps, and 250 steps with jumps), on `--published` images, as they take long. Needs the
extra `bench`. It ends with a line of JSON."""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.restoration_peers import dps, repaint
from skimage import metrics, restoration
from torch import Tensor

from langevin.diffusion.condition import Condition, join
from langevin.diffusion.guidance import DDNM, MMPS, AnyGuidance, Box, PiGDM
from langevin.diffusion.measurement import Mask, Measurement
from langevin.diffusion.measurement.kinds import downsampling, gaussian_blur, grey
from langevin.diffusion.posterior import Point
from langevin.diffusion.sampler import Ancestral, KarrasGrid, sample
from langevin.modalities.image.metrics import RandomConvolutions
from langevin.modalities.image.preview import grid
from langevin.modalities.modality import Draw
from langevin.recipe.build import guided
from langevin.run.begin import begin
from langevin.run.directory import load_model, open_run
from langevin.run.generate import RunModel

ANSWERS, STEPS = 19, 40
METHODS: dict[str, AnyGuidance] = {"mmps": MMPS(), "pigdm": PiGDM(), "ddnm": DDNM()}


@dataclass
class Counter:
    """A denoiser that counts its inputs and the products with its Jacobian."""

    denoiser: Any
    calls: int = 0
    products: int = 0

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Point:
        q = self.denoiser(x_t, t, condition)
        self.calls += len(x_t)
        if q.mean.requires_grad:
            q.mean.register_hook(self._product)
        return q

    def _product(self, gradient: Tensor) -> None:
        self.products += len(gradient)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is seen of images, and a filter that restores them from it.

    Args:
        operator: from (count, height, width) to the operator.
        levels: standard deviation of the noise, in grey levels.
        baseline: from what is seen, as an image of numpy (h, w, c) in [0, 1], to the restored one.
        hidden: the pixels that are hidden, if the others are given.
    """

    operator: Callable[[int, int, int], Any]
    levels: float
    baselines: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = field(default_factory=dict)
    hidden: Callable[[int, int], Tensor] | None = None


def box(h: int, w: int) -> Tensor:
    mask = torch.zeros(h, w, dtype=torch.bool)
    mask[h // 4 : h - h // 4, w // 4 : w - w // 4] = True
    return mask


def enlarged(factor: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def bicubic(seen: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(seen).permute(2, 0, 1)[None].double()
        return torch.nn.functional.interpolate(x, scale_factor=factor, mode="bicubic")[0].permute(1, 2, 0).numpy()

    return bicubic


def wiener(balance: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def filtered(seen: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        reach = min(6, (min(seen.shape[:2]) - 1) // 2)
        bump = np.exp(-0.5 * (np.arange(-reach, reach + 1) / 1.5) ** 2)
        kernel = np.outer(bump, bump) / bump.sum() ** 2
        channels = [restoration.wiener(seen[..., c], kernel, balance, clip=False) for c in range(seen.shape[2])]
        return np.stack(channels, -1)

    return filtered


WIENER = {f"Wiener {balance:g}": wiener(balance) for balance in (0.001, 0.01, 0.1)}


def biharmonic(seen: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    return restoration.inpaint_biharmonic(seen, hidden, channel_axis=-1)


def total_variation(weight: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda seen, hidden: restoration.denoise_tv_chambolle(seen, weight=weight, channel_axis=-1)


def non_local(std: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def means(seen: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        return restoration.denoise_nl_means(
            seen, h=0.8 * std, sigma=std, patch_size=3, patch_distance=5, fast_mode=False, channel_axis=-1
        )

    return means


def everything(n: int, h: int, w: int) -> Mask:
    return Mask(seen=torch.ones(n, 1, h, w, dtype=torch.bool))


def noise(levels: float) -> Task:
    filters = {"total variation": total_variation(levels / 255), "non-local means": non_local(levels / 255)}
    return Task(operator=everything, levels=levels, baselines=filters)


TASKS = {
    "fill the middle": Task(
        operator=lambda n, h, w: Mask(seen=~box(h, w).expand(n, 1, h, w)), levels=1, hidden=box,
        baselines={"biharmonic": biharmonic},
    ),
    "enlarge 2x": Task(
        operator=lambda n, h, w: downsampling(2, height=h, side=w, count=n), levels=1, baselines={"bicubic": enlarged(2)}
    ),
    "enlarge 4x": Task(
        operator=lambda n, h, w: downsampling(4, height=h, side=w, count=n), levels=1, baselines={"bicubic": enlarged(4)}
    ),
    "deblur 1.5": Task(
        operator=lambda n, h, w: gaussian_blur(1.5, height=h, side=w, count=n), levels=2, baselines=WIENER
    ),
    "denoise 10": noise(10), "denoise 25": noise(25), "denoise 50": noise(50),
    "colour": Task(
        operator=lambda n, h, w: grey(n), levels=1, baselines={"grey": lambda seen, hidden: np.repeat(seen, 3, -1)}
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Images:
    """Held-out images of a run, encoded."""

    model: RunModel
    x: Tensor

    def measured(self, task: Task, seed: int = 1) -> Measurement:
        n, c, h, w = self.x.shape
        std = task.levels * self.model.modality.codec.scale
        operator = task.operator(n, h, w)
        y = operator.forward(self.x)
        y = y + std * torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
        if task.hidden is not None:
            y = torch.where(task.hidden(h, w), 0.0, y)
        return Measurement(operator=operator, y=y, noise=torch.full((n,), std), shape=(c, h, w))


def blank(model: RunModel, count: int) -> Condition | None:
    """The condition of a run, withheld."""
    condition = model.modality.known.blank(count).encoded(model.modality.captions)
    return None if condition is None else condition.dropped()


def answers(
    images: Images,
    task: Task,
    method: AnyGuidance | None,
    measurement: Measurement | None,
    counter: Counter,
    count: int,
) -> Tensor:
    """(n, count, c, h, w) draws; noise alone is removed by starting from it, without a measurement, unless one is given."""
    model, n = images.model, len(images.x)
    low, high = (float(end) for end in model.modality.codec.encode(torch.tensor([0, 255], dtype=torch.uint8)))
    guidance = (*(() if method is None else (method,)), Box(low=low, high=high))
    sampling = replace(model.sampling, sampler=Ancestral(), steps=STEPS, guidance=guidance)
    start = None
    if measurement is not None and method is None:
        std = float(measurement.noise[0])
        sampling = replace(sampling, grid=KarrasGrid(low=std / 10, high=std))
        alpha = model.parts.process.schedule.alpha(
            sampling.grid(torch.tensor([STEPS]), model.parts.process.schedule)[0, 0]
        )
        start = (alpha.float() * measurement.y).repeat_interleave(count, 0)
        measurement = None
    drawn = list[Tensor]()
    condition = blank(model, n * count)
    if measurement is not None:
        repeated = measurement.map(lambda part: part.repeat_interleave(count, 0))
        condition = replace(condition or Condition(), measurement=repeated)
    built = replace(model.built, model=replace(model.parts, denoiser=counter))
    for index in torch.arange(n * count).split(114):
        draw = Draw(
            shape=tuple(images.x.shape[1:]),
            seeds=torch.arange(n * count),
            sampling=sampling,
            condition=condition,
            x=start,
        )
        begun = begin(model.built, draw, index)
        denoiser = guided(built, sampling)
        *_, state = sample(begun.sampler, model.parts.process, denoiser, begun.state, begun.condition)
        drawn.append(state.x)
    return torch.cat(drawn).view(n, count, *images.x.shape[1:])


def as_array(x: Tensor) -> np.ndarray:
    """(h, w, c) in [0, 1]."""
    return ((x + 1) / 2).permute(1, 2, 0).double().numpy()


def as_tensor(x: np.ndarray) -> Tensor:
    """(c, h, w) in [-1, 1]; a filter may have dropped a channel of one."""
    return torch.from_numpy(2 * (x if x.ndim == 3 else x[..., None]) - 1).permute(2, 0, 1).float()


def fidelity(images: Images, restored: Tensor, features: RandomConvolutions, far: float) -> dict[str, float]:
    """PSNR, SSIM, and the distance in random features as a share of that between two images."""
    truth = images.x
    psnr, ssim = list[float](), list[float]()
    window = 7 if truth.shape[-1] >= 7 else 3
    for a, b in zip(restored, truth, strict=True):
        x, y = as_array(a).clip(0, 1), as_array(b)
        psnr.append(metrics.peak_signal_noise_ratio(y, x, data_range=1))
        ssim.append(metrics.structural_similarity(y, x, data_range=1, channel_axis=-1, win_size=window))
    decode = images.model.modality.decode
    off = features.features(decode(restored)) - features.features(decode(truth))
    return {
        "psnr": float(np.mean(psnr)), "ssim": float(np.mean(ssim)), "features": float(off.norm(dim=1).mean()) / far,
    }  # fmt: skip


def covered(x: Tensor, truth: Tensor, unknown: Tensor) -> float:
    """The share of unknown values within the range of the answers, to the rounding of a level."""
    level = 1 / 255
    inside = (truth >= x.amin(1) - level) & (truth <= x.amax(1) + level)
    return float(inside[unknown.expand_as(inside)].float().mean())


def measure(images: Images, name: str, task: Task, args: argparse.Namespace, pictures: Path | None) -> dict[str, Any]:
    """All methods on one task."""
    n, _, h, w = images.x.shape
    measurement, seen = images.measured(task), None
    decode = images.model.modality.decode
    features = RandomConvolutions(channels=images.x.shape[1])
    f = features.features(decode(images.x))
    far = float((f - f.roll(1, 0)).norm(dim=1).mean())
    unknown = torch.ones(1, 1, h, w, dtype=torch.bool) if task.hidden is None else task.hidden(h, w)[None, None]
    found = dict[str, Any]()
    methods = dict[str, AnyGuidance | None](METHODS)
    if name.startswith("denoise"):
        methods = {"from its noise": None, **methods}
    for kind, method in methods.items():
        counter = Counter(images.model.parts.denoiser)
        begun = time.perf_counter()
        x = answers(images, task, method, measurement, counter, ANSWERS)
        seconds = time.perf_counter() - begun
        found[kind] = {
            **fidelity(images, x.mean(1), features, far), "one": fidelity(images, x[:, 0], features, far),
            "coverage": covered(x, images.x, unknown), "seconds": seconds,
            "calls": counter.calls / (n * ANSWERS), "products": counter.products / (n * ANSWERS),
        }  # fmt: skip
        if seen is None:
            seen = x
    hidden = np.zeros((h, w), bool) if task.hidden is None else task.hidden(h, w).numpy()
    for kind, baseline in task.baselines.items():
        restored = torch.stack([
            as_tensor(baseline(as_array(y), hidden)) for y in measurement.y
        ])  # fmt: skip
        found[kind] = fidelity(images, restored, features, far)
    if args.published and name in ("fill the middle", "enlarge 2x", "deblur 1.5"):
        found |= published(images, task, measurement, args.published, features, far, unknown, name)
    if pictures is not None and seen is not None:
        show(images, measurement, seen, pictures / f"{name.replace(' ', '-')}.png")
    return found


def published(
    images: Images,
    task: Task,
    measurement: Measurement,
    count: int,
    features: Any,
    far: float,
    unknown: Tensor,
    name: str,
) -> dict[str, Any]:
    """DPS and RePaint by the loops of their papers, and ours on the same few images."""
    few = Images(model=images.model, x=images.x[:count])
    part = measurement.map(lambda tensor: tensor[:count])
    repeated = part.map(lambda tensor: tensor.repeat_interleave(ANSWERS, 0))
    condition = blank(images.model, count * ANSWERS)
    loops = {"dps": dps, **({"repaint": repaint} if name == "fill the middle" else {})}
    found = dict[str, Any]()
    for kind, loop in loops.items():
        counter = Counter(images.model.parts.denoiser)
        begun = time.perf_counter()
        x = loop(counter, images.model.parts.process, repeated, condition).view(count, ANSWERS, *images.x.shape[1:])
        found[f"{kind} (paper)"] = {
            **fidelity(few, x.mean(1), features, far), "one": fidelity(few, x[:, 0], features, far), "images": count,
            "coverage": covered(x, few.x, unknown), "seconds": time.perf_counter() - begun,
            "calls": counter.calls / (count * ANSWERS), "products": counter.products / (count * ANSWERS),
        }  # fmt: skip
    counter = Counter(images.model.parts.denoiser)
    x = answers(few, task, MMPS(), part, counter, ANSWERS)
    found["mmps on these"] = {
        **fidelity(few, x.mean(1), features, far), "one": fidelity(few, x[:, 0], features, far), "images": count,
        "coverage": covered(x, few.x, unknown),
    }  # fmt: skip
    return found


def show(images: Images, measurement: Measurement, x: Tensor, path: Path, rows: int = 4) -> None:
    """Lines of input, three answers, mean, spread and truth."""
    decode, cells = images.model.modality.decode, list[Tensor]()
    side = images.x.shape[-1]
    for i in range(min(rows, len(x))):
        y = measurement.y[i : i + 1]
        y = y.repeat_interleave(side // y.shape[-1], -1).repeat_interleave(side // y.shape[-2], -2)
        y = y.expand(-1, images.x.shape[1], -1, -1)
        spread = 2 * x[i].std(0, keepdim=True) - 1
        cells.append(decode(torch.cat([y, x[i, :3], x[i].mean(0, keepdim=True), spread, images.x[i : i + 1]])))
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ["input", "answer 1", "answer 2", "answer 3", "mean", "spread", "truth"] * min(rows, len(x))
    grid(torch.cat(cells), columns=7, captions=names).save(path)


def mixed(images: Images) -> dict[str, float]:
    """All tasks in one batch: the answers are those of each by itself, in the time of all together."""
    names = [name for name in TASKS if name != "colour" or images.x.shape[1] == 3]
    few = Images(model=images.model, x=images.x[:2])
    parts = [few.measured(TASKS[name]) for name in names]
    together = join(*(Condition(measurement=part) for part in parts)).measurement
    model, n = images.model, 2 * len(parts)
    low, high = -1.0, 1.0
    guidance = (MMPS(), Box(low=low, high=high))
    sampling = replace(model.sampling, sampler=Ancestral(), steps=STEPS, guidance=guidance)

    def drawn(measurement: Measurement, seeds: Tensor) -> Tensor:
        condition = replace(blank(model, len(seeds)) or Condition(), measurement=measurement)
        draw = Draw(shape=tuple(images.x.shape[1:]), seeds=seeds, sampling=sampling, condition=condition)
        begun = begin(model.built, draw, torch.arange(len(seeds)))
        denoiser = guided(model.built, sampling)
        *_, state = sample(begun.sampler, model.parts.process, denoiser, begun.state, begun.condition)
        return state.x

    begun = time.perf_counter()
    whole = drawn(together, torch.arange(n))
    seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    alone = torch.cat([drawn(part, torch.arange(2 * i, 2 * i + 2)) for i, part in enumerate(parts)])
    apart = time.perf_counter() - begun
    return {"difference": float((whole - alone).abs().mean()), "seconds": seconds, "one_by_one": apart}


def line(name: str, kind: str, row: dict[str, Any]) -> str:
    one = row.get("one")
    parts = [
        f"{name:16} {kind:18} {row['psnr']:6.2f} {row['ssim']:6.3f} {row['features']:6.3f}",
        f"{one['psnr']:6.2f} {one['features']:6.3f}" if one else " " * 13,
        f"{row['coverage']:6.3f}" if "coverage" in row else " " * 6,
        f"{row['calls']:6.0f} {row['products']:6.0f}" if "calls" in row else "",
    ]
    return "  ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=24, help="held-out images")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--published", type=int, default=0, help="images for DPS and RePaint")
    parser.add_argument("--pictures", type=Path, default=None)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = dict[str, Any]()
    for path in args.runs:
        run = open_run(path)
        model = load_model(run)[0]
        val = run.open_data()[1]
        index = torch.arange(args.count) * len(val) // args.count
        images = Images(model=model, x=model.modality.codec.encode(val.read(index)))
        here = results[path.name] = {}
        counter = Counter(model.parts.denoiser)
        plain = Task(operator=everything, levels=1)
        answers(images, plain, None, None, counter, 2)  # warm
        begun = time.perf_counter()
        answers(images, plain, None, None, counter, ANSWERS)
        unguided = time.perf_counter() - begun
        print(f"{path.name}: PSNR, SSIM, features of the mean; PSNR, features of one; coverage; calls, products")
        for name in args.tasks:
            if name == "colour" and images.x.shape[1] != 3:
                continue
            here[name] = measure(
                images, name, TASKS[name], args, None if args.pictures is None else args.pictures / path.name
            )
            for kind, row in here[name].items():
                print(line(name, kind, row), flush=True)
        tasks = [row for name, row in here.items() if not name.startswith("denoise")]
        best = [max(r["psnr"] for k, r in row.items() if k in TASKS[name].baselines) for name, row in here.items()]
        default = [row.get("from its noise", row["mmps"]) for row in here.values()]
        here["summary"] = {
            "cost_ratio": round(float(np.median([row["mmps"]["seconds"] / unguided for row in tasks])), 2),
            "coverage": round(float(np.mean([row["coverage"] for row in default])), 3),
            "psnr_gain": round(float(np.mean([row["psnr"] - b for row, b in zip(default, best, strict=True)])), 2),
            "unguided_seconds": round(unguided, 1), "mixed": mixed(images),
        }  # fmt: skip
        print(json.dumps({path.name: here["summary"]}), flush=True)
    keys = ("cost_ratio", "coverage", "psnr_gain")
    print(
        json.dumps(
            {
                **{k: round(float(np.mean([r["summary"][k] for r in results.values()])), 3) for k in keys},
                "runs": results,
            }
        )
    )


if __name__ == "__main__":
    main()
