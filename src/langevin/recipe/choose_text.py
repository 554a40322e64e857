"""Which recipe for a path of text: by what its records are, sized to the text, the machine and the time."""

from pathlib import Path
from typing import Any

from langevin.modalities.text.data import Texts
from langevin.recipe.choose import EFFICIENCY, Choice
from langevin.recipe.read import check

LADDER = ((128, 4), (192, 4), (256, 4), (256, 6), (384, 6), (384, 8), (512, 8), (512, 12), (768, 12), (1024, 16))
FEW_CHARACTERS = 3_000_000  # up to which characters are coded one by one
SEEN_AGAIN = 20  # epochs beyond which a larger network would only learn by heart


def source_of_text(path: Path) -> dict[str, Any]:
    """The data section for a path."""
    return {"kind": "text", "path": str(path)}


def weights(width: int, depth: int) -> int:
    """Of the hidden matrices."""
    return 12 * width * width * depth


def choose_text(path: Path, data: Texts, *, minutes: float, rate: float) -> Choice:
    """A recipe for the texts at `path`, already opened.

    Args:
        minutes: time budget.
        rate: measured FLOP/s of matrix products.
    """
    layout, what = _layout(data)
    small = data.form == "text" and data.characters <= FEW_CHARACTERS
    codec = {"kind": "characters"} if small else {"kind": "bpe", "size": 1024 if data.characters < 10_000_000 else 2048}
    affordable = 60 * minutes * rate * EFFICIENCY / 6  # weights times symbols
    symbols = data.characters / (1 if small else 3.3)
    wanted = max(4 * symbols, 2_000_000) if small else max(symbols, 4_000_000)
    rungs = [rung for rung in LADDER if weights(*rung) * wanted <= affordable] or [LADDER[0]]
    width, depth = rungs[-1]
    seen = affordable / weights(width, depth)
    few = seen > SEEN_AGAIN * symbols
    length = layout["length"]
    tree = {
        "name": f"text/{path.resolve().stem}",
        "about": f"chosen for {len(data):,} records, {data.characters:,} characters of text",
        "data": source_of_text(path),
        "codec": codec,
        "layout": layout,
        "network": {
            "kind": "transformer", "width": width, "depth": depth, "head_width": 32 if width < 256 else 64,
            "dropout": 0.1 if few else 0.0,
        },
        "process": {"kind": "masked"},
        "training": {
            "minutes": minutes, "batch": max(8, 64 * 128 // length),
            "optimizer": {"kind": "muon", "lr": 0.02, "adamw_lr": 0.002},
        },
        "sampling": {"sampler": "ancestral", "steps": min(128, length), "grid": {"kind": "shares", "shape": "linear"}},
    }  # fmt: skip
    reasons = [
        f"text: {len(data):,} records, {data.characters:,} characters: {what}",
        f"codec: {'characters' if small else 'byte pairs, ' + str(codec['size'])}, as the text is "
        f"{'short' if small else 'long enough to learn words as symbols'}",
        f"network: transformer of width {width}, depth {depth}: the largest that sees about {seen / 1e6:.1f} M symbols in "
        f"{minutes:g} minutes here ({seen / max(1.0, symbols):.1f} times the text)",
    ]
    if few:
        reasons.append("dropout 0.1: little text, seen often")
    return Choice(recipe=check(tree), reasons=tuple(reasons))


def _layout(data: Texts) -> tuple[dict[str, Any], str]:
    match data.form:
        case "dialogue":
            return {"kind": "pairs", "length": 160, "target": 48}, "dialogues, so replies are learned"
        case "summary":
            return {"kind": "pairs", "length": 448, "target": 80}, "texts with summaries, so summaries are learned"
        case "inference":
            return {"kind": "labels", "length": 96}, "pairs with labels, so labels are learned"
        case _:
            return {"kind": "corpus", "length": 128}, "one text after another, written, continued and filled in"
