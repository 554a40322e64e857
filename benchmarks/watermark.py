"""How often the watermark of `langevin sample --watermark` is found, by sampler and by what was done to the file since.

    python benchmarks/watermark.py runs/digits runs/emoji runs/shakespeare --count 40

Detected: a p-value below 1e-6 with 1,000 seeds tried. It also tests samples without a key, and ends with a line of JSON."""

import argparse
import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image, ImageFilter

from langevin.methods.models import GaussianModel
from langevin.modalities.modality import RequestContext
from langevin.modalities.options import options_of
from langevin.run.directory import load_model, open_run
from langevin.run.generate import RunModel, changed
from langevin.run.watermark import detect, marked

KEY, SEEDS, SURE = b"the key of a benchmark, long enough", 1000, -6.0
Picture = Image.Image


def jpeg(quality: int) -> Callable[[Picture], Picture]:
    def attack(image: Picture) -> Picture:
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality)
        return Image.open(out).convert(image.mode)

    return attack


def resize(image: Picture) -> Picture:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS).resize(
        image.size, Image.Resampling.LANCZOS
    )


def crop(image: Picture) -> Picture:
    """The middle, nine tenths of each side, at the old size."""
    cut = max(1, round(0.05 * image.width))
    return image.crop((cut, cut, image.width - cut, image.height - cut)).resize(image.size, Image.Resampling.LANCZOS)


def noisy(image: Picture) -> Picture:
    noise = torch.randn(image.height, image.width, len(image.getbands()), generator=torch.Generator().manual_seed(0))
    raw = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(noise.shape).float()
    return Image.frombytes(
        image.mode, image.size, bytes((raw + 10 * noise).round().clamp(0, 255).to(torch.uint8).flatten().tolist())
    )


IMAGES: dict[str, Callable[[Picture], Picture]] = {
    "nothing": lambda image: image, "JPEG 75": jpeg(75), "JPEG 25": jpeg(25),
    "blur, 0.5 pixels": lambda image: image.filter(ImageFilter.GaussianBlur(0.5)), "noise of 10 levels": noisy,
    "half size and back": resize, "crop of a tenth": crop,
}  # fmt: skip


def replaced(text: str) -> str:
    """One word in ten is another one."""
    return " ".join("the" if i % 10 == 5 else word for i, word in enumerate(text.split(" ")))


def inserted(text: str) -> str:
    """Five words more in the middle."""
    half = len(text) // 2
    return f"{text[:half]} and so it was said{text[half:]}"


TEXTS: dict[str, Callable[[str], str]] = {
    "nothing": lambda text: text, "one word in ten replaced": replaced, "five words inserted in the middle": inserted,
    "second half cut off": lambda text: text[: len(text) // 2], "first half cut off": lambda text: text[len(text) // 2 :],
    "lower case": str.lower,
}  # fmt: skip


def drawn(model: RunModel, count: int, data: Callable, seed: int = 0) -> list[torch.Tensor | str]:
    options = options_of(model.modality.kind).Sample()
    context = RequestContext(model=model, data=data, count=count, seed=seed, say=lambda line: None)
    return list(model.run(model.modality.plan(options, context)).values)


def written(value: torch.Tensor | str, path: Path, attack: Callable) -> Path:
    if isinstance(value, str):
        path.write_text(attack(value))
        return path
    raw = value.permute(1, 2, 0).contiguous()
    image = Image.frombytes(
        "RGB" if raw.shape[2] == 3 else "L", (raw.shape[1], raw.shape[0]), bytes(raw.flatten().tolist())
    )
    attack(image).save(path)
    return path


def shares(model: RunModel, values: list, attacks: dict, folder: Path) -> dict[str, dict[str, float]]:
    """The share of files that are detected, and the median of log10 p, after each attack."""
    found = dict[str, dict[str, float]]()
    for name, attack in attacks.items():
        levels = []
        for value in values:
            path = written(value, folder / ("a.txt" if isinstance(value, str) else "a.png"), attack)
            levels.append(detect(model, model.modality.encode_file(path), range(SEEDS)).log10_p)
        tensor = torch.tensor(levels)
        figures = {
            "detected": (tensor < SURE).double().mean(),
            "median_log10_p": tensor.median(),
            "lowest": tensor.min(),
        }
        found[name] = {figure: round(float(value), 2) for figure, value in figures.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("."), help="for the files under test")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = dict[str, dict]()
    for path in args.runs:
        begin = time.perf_counter()
        run = open_run(path)
        model, data = load_model(run)[0], run.open_data
        image = isinstance(model.parts, GaussianModel)
        attacks = IMAGES if model.modality.kind == "image" else TEXTS
        samplers = ("dpm2m", "heun", "unipc", "ancestral", "edm_stochastic") if image else (None,)
        here = results[path.name] = {}
        nothing = {"nothing": attacks["nothing"]}
        for sampler in samplers:
            model_ = marked(changed(model, sampler=sampler) if sampler else model, run, KEY)
            some = attacks if sampler in ("dpm2m", None) else nothing | {"JPEG 75": attacks["JPEG 75"]}
            here[sampler or "unmask"] = shares(model_, drawn(model_, args.count, data), some, args.folder)
        if image:
            guided = marked(changed(model, guidance=3.0), run, KEY)
            here["dpm2m, guidance 3"] = shares(guided, drawn(guided, args.count, data), nothing, args.folder)
        plain = drawn(model, args.count, data, seed=5000)
        here["without a key"] = shares(marked(model, run, KEY), plain, nothing, args.folder)
        for name, rows in here.items():
            for attack, row in rows.items():
                p = f"p: median 1e{row['median_log10_p']:.1f}, lowest 1e{row['lowest']:.1f}"
                print(f"{path.name:12} {name:20} {attack:34} {row['detected']:6.0%}   {p}")
        print(f"{path.name}: {time.perf_counter() - begin:.0f} s")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
