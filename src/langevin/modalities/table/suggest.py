"""A recipe for a table, sized to its columns, its samples and the time, with reasons."""

from langevin.modalities.modality import Budget, Suggestion
from langevin.modalities.table.codec import TableCodec

FEW_COLUMNS = 40  # up to which a transformer over columns is affordable
SIZES = ((96, 2), (128, 3), (192, 4), (256, 4), (320, 5), (384, 6))  # of the MLP
STEPS = 4000  # that a network should be trained for, at least
BATCH = 256


def multiply_adds(width: int, depth: int) -> float:
    """Multiply-adds of a forward pass of the MLP's blocks on one sample."""
    return depth * 7.0 * width * width


def suggest(codec: TableCodec, count: int, budget: Budget, *, name: str) -> Suggestion:
    """A recipe for `count` training samples of these columns within the budget."""
    columns = len(codec.numbers) + len(codec.choices)
    batch = min(BATCH, max(32, 2 ** (count.bit_length() - 1) // 2))
    available = 0.3 * budget.multiply_adds / (STEPS * batch)
    weights = 60 * count  # at most: more would learn a small table by heart
    fitting = [s for s in SIZES if multiply_adds(*s) <= available and multiply_adds(*s) <= max(weights, 120_000)]
    width, depth = fitting[-1] if fitting else SIZES[0]
    recipe = {
        "name": f"table/{name}",
        "description": f"chosen for {count:,} samples of {columns} columns",
        "network": {"kind": "column_mlp", "width": width, "depth": depth, "dropout": 0.1 if count < 2000 else 0.0},
        "process": {"kind": "product"},
        "method": {"kind": "diffusion", "times": {"kind": "log_normal", "mean": -0.5, "std": 1.2}},
        "training": {"batch": batch, "optimizer": {"kind": "adamw", "lr": 0.002}},
        "sampling": {"steps": 50, "sampler": {"kind": "joint_dpm2m"}},
    }
    what = [f"{len(codec.numbers)} numbers or dates", f"{len(codec.categories)} categories"]
    if codec.holes:
        what.append(f"{len(codec.holes)} columns with holes, whose pattern is generated too")
    reasons = (
        f"table: {count:,} samples; {', '.join(what)}",
        f"network: MLP of width {width}, depth {depth} over all columns, the largest that takes {STEPS:,} steps in "
        f"{budget.minutes:g} minutes and has no more weights than {count:,} samples bear",
        "process: Gaussian for numbers, masked for categories, with a clock for each column",
    )
    return Suggestion(recipe=recipe, reasons=reasons)
