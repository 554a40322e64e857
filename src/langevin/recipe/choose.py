"""Which recipe for a folder: sized to the data, the machine and the time, with the reasons in words."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from langevin.modalities.image.data import Images
from langevin.recipe.read import check
from langevin.recipe.tree import Recipe, Sampling

LADDER = ((64, 4), (96, 4), (128, 4), (128, 6), (192, 6), (256, 6), (256, 8), (384, 8), (384, 12), (512, 12), (768, 12))
REMEMBERED = 20_000  # captioned images up to which what belongs to a caption is learned by heart
EFFICIENCY = 0.5  # share of the measured matrix rate that training reaches


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A recipe and the reasons for it, a line each."""

    recipe: Recipe
    reasons: tuple[str, ...]


def patch_for(side: int) -> int:
    """Patches that cut a side into about 8 to 16: few enough tokens to be fast, enough to draw with."""
    fitting = [p for p in range(1, 33) if side % p == 0]
    return min(fitting, key=lambda p: (abs(side / p - 8), p))


def multiply_adds(width: int, depth: int, tokens: int) -> int:
    """Of one forward pass of a transformer, for one image."""
    return depth * (12 * width * width * tokens + 2 * tokens * tokens * width + 6 * width * width)


def source_of(path: Path) -> dict[str, Any]:
    """The data section for a path: a parquet file or a folder."""
    return {"kind": "parquet" if path.suffix == ".parquet" else "folder", "path": str(path)}


def choose(path: Path, data: Images, *, minutes: float, rate: float) -> Choice:
    """A recipe for the images at `path`, already opened.

    Args:
        minutes: time budget.
        rate: measured FLOP/s of matrix products.
    """
    channels, side, _ = data.shape
    patch = patch_for(side)
    tokens = (side // patch) ** 2
    remembered = data.captions is not None and len(data) <= REMEMBERED
    text = 24 if data.captions is not None and not remembered else 0
    wanted = min(max(40 * len(data), 60_000), 2_000_000)
    affordable = 60 * minutes * rate * EFFICIENCY / (6 * wanted)
    rungs = [r for r in LADDER if multiply_adds(*r, tokens + text) <= affordable] or [LADDER[0]]
    width, depth = rungs[-1]
    seen = 60 * minutes * rate * EFFICIENCY / (6 * multiply_adds(width, depth, tokens + text))
    batch = 32 if remembered else 128 if side <= 16 else 64
    few = len(data) < 5000 and seen > 60 * len(data) and not remembered
    tree = {
        "name": f"image/{path.resolve().stem}",
        "about": f"chosen for {len(data)} images of {side}x{side}",
        "data": {**source_of(path), "size": side, "channels": channels},
        "network": {
            "kind": "dit", "width": width, "depth": depth, "patch": patch, "head_width": 32,
            "dropout": 0.1 if few else 0.0,
            **({"sketch": 1024, "ports": {"text": "vector"}} if remembered else {}),
        },
        "learning": {"times": {"kind": "log_normal", "mean": 1.0, "std": 1.5}} if remembered else {},
        "training": {
            "minutes": minutes, "batch": batch,
            "optimizer": {
                "kind": "muon", "lr": 0.02, "adamw_lr": 0.002, **({"embedding_lr": 0.04} if remembered else {}),
            },
        },
    }  # fmt: skip
    told = "captions" if data.captions is not None else f"{len(data.classes)} classes" if data.classes else ""
    recipe = replace(check(tree), sampling=Sampling(guidance=2.0 if told else 1.0))
    reasons = [
        f"images: {len(data)} of {side}x{side}x{channels}" + (f", told by {told}" if told else ", told nothing"),
        f"network: transformer of width {width}, depth {depth}, patches of {patch}x{patch} ({tokens} tokens): the largest "
        f"that sees about {seen / 1000:.0f}k images in {minutes:g} minutes here ({seen / max(1, len(data)):.0f} epochs)",
    ]
    if tokens > 1024:
        reasons.append(
            f"side {side} cuts badly into patches, so this will be slow: data.size={side // 8 * 8} would be faster"
        )
    if remembered:
        reasons.append(
            "few captions, each of a picture or two: drawn over all of it at once (network.sketch), learned most at high "
            "noise, where the caption is all there is to go by"
        )
    if few:
        reasons.append("dropout 0.1: few images, seen often")
    return Choice(recipe=recipe, reasons=tuple(reasons))
