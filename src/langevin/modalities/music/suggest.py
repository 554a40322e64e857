"""Suggests a recipe for scores: the network by their size, the machine and the time."""

from langevin.modalities.modality import Budget, Suggestion
from langevin.modalities.music.data import Scores

SIZES = ((128, 4), (192, 4), (256, 6), (384, 6), (384, 8), (512, 8), (512, 12), (768, 12))
SEEN = 60_000  # windows that a network is to see
EPOCHS = 20  # beyond which few scores would be memorised, so that the network gets dropout


def suggest(train: Scores, budget: Budget, *, name: str, context_length: int) -> Suggestion:
    """Sections of a recipe for these scores, with reasons."""
    steps = sum(piece.steps for piece in train.pieces)

    def cost(width: int, depth: int) -> int:
        """Multiply-adds of a window: the hidden matrices at every step."""
        return 12 * width * width * depth * context_length

    fitting = [size for size in SIZES if cost(*size) * SEEN <= budget.multiply_adds] or [SIZES[0]]
    width, depth = fitting[-1]
    windows = budget.multiply_adds / cost(width, depth)
    epochs = windows * context_length / max(1, steps)
    dropout = 0.2 if epochs > EPOCHS else 0.0
    recipe = {
        "name": f"music/{name}",
        "description": f"chosen for {len(train):,} scores, {steps:,} steps",
        "network": {
            "kind": "transformer", "width": width, "depth": depth, "head_dim": 32 if width < 256 else 64,
            "dropout": dropout, "ngram_window": 2 if train.voices else 0,
        },
        "process": {"kind": "masked"},
        "training": {"batch": 32, "optimizer": {"kind": "muon", "lr": 0.02, "adamw_lr": 0.002, "embedding_lr": 0.008}},
        "sampling": {"sampler": {"kind": "unmask"}, "steps": 64, "grid": {"kind": "unmask", "shape": "linear"}},
    }  # fmt: skip
    what = f"{train.voices} voices" if train.voices else f"a piano roll, as {train.odd}"
    reasons = [
        f"music: {len(train):,} scores, {steps:,} steps of a grid: {what}",
        f"network: transformer of width {width}, depth {depth}: the largest that sees about {windows:,.0f} windows of "
        f"{context_length} steps in {budget.minutes:g} minutes here ({epochs:.1f} times the scores)",
    ]
    if dropout:
        reasons.append(f"dropout {dropout}: few scores, in many epochs")
    return Suggestion(recipe=recipe, reasons=tuple(reasons))
