"""A recipe for clips, sized to the data, the machine and the time, with reasons."""

from langevin.modalities.latents import reason, suggested
from langevin.modalities.modality import Budget, Suggestion
from langevin.modalities.video.data import Clips

SIZES = ((96, 4), (128, 4), (128, 6), (192, 6), (256, 6), (256, 8), (384, 8), (384, 12))
LEVELS = (
    {"kind": "shared", "share": 0.5},
    {"kind": "per_frame", "share": 0.1},
    {"kind": "clean_prefix", "share": 0.25},
    {"kind": "random_span", "share": 0.15},
)
MODES = "alone, continued, in between, frame by frame"


def patch_for(side: int) -> int:
    """The side of a patch: a divisor of the frame's that cuts it into 6 patches or more, as small objects need."""
    fitting = [p for p in (8, 4, 2, 1) if side % p == 0 and side // p >= 6]
    return fitting[0] if fitting else 1


def multiply_adds(width: int, depth: int, tokens: int) -> int:
    """Multiply-adds of a forward pass of the transformer on one clip."""
    return depth * (12 * width * width * tokens + 2 * tokens * tokens * width)


def suggest(train: Clips, budget: Budget, *, name: str, frames: int, channels: int, side: int) -> Suggestion:
    """A recipe for these clips within the budget, as x of frames of (channels, side, side)."""
    patch = patch_for(side)
    tokens = frames * (side // patch) ** 2
    wanted = min(max(30 * len(train), 20_000), 500_000)
    fitting = [size for size in SIZES if multiply_adds(*size, tokens) * wanted <= budget.multiply_adds] or [SIZES[0]]
    width, depth = fitting[-1]
    attention = "full" if tokens <= 1024 else "factorised"
    large = patch * patch * channels > width  # noise of a whole patch does not pass through the network
    captioned = train.captions is not None
    recipe = {
        "name": f"video/{name}",
        "description": f"clips of {name}, sized to the data and {budget.minutes:g} minutes",
        "network": {
            "kind": "dit", "dimensions": 3, "patch": [1, patch, patch], "width": width, "depth": depth, "head_dim": 32,
            "kernel": 3, "attention": attention,
        },
        "method": {
            "kind": "diffusion", **({"prediction": "clean", "weighting": "velocity"} if large else {}),
            "times": {"kind": "log_normal", "mean": 0.4, "std": 1.4},  # all frames tell of one thing
            "levels": [dict(level) for level in LEVELS],
        },
        "training": {"batch": 16},
        "sampling": {"steps": 20, **({"guidance": [{"kind": "classifier_free", "weight": 2.0}]} if captioned else {})},
    }  # fmt: skip
    reasons = (
        f"{len(train):,} clips of {frames} frames, {train.shape[1]} x {train.shape[1]} pixels: {tokens} patches"
        f"{' of latents' if side != train.shape[1] else ''}, {patch} x {patch} places each",
        f"{depth} layers of width {width}: about {budget.multiply_adds / multiply_adds(width, depth, tokens):,.0f} clips "
        f"in {budget.minutes:g} minutes",
        f"a noise level per frame, so that the run draws clips {MODES}",
        *(["attention within frames and along time in turn"] if attention != "full" else []),
        *(["conditioned on captions, and guided by them"] if captioned else []),
    )
    return Suggestion(recipe=recipe, reasons=reasons)


def autoencoder(train: Clips, budget: Budget, *, name: str, frames: int) -> Suggestion:
    """A recipe for the causal autoencoder of these clips within the budget."""
    channels, side, _ = train.shape
    network = suggested(channels, side, budget, wanted=min(max(10 * len(train), 5_000), 100_000), frames=frames)
    recipe = {
        "name": f"video/{name}-autoencoder",
        "description": f"a causal autoencoder of clips of {name}, to be the codec of another run",
        "network": {"kind": "autoencoder", "dimensions": 3, "causal": True, **network},
        "method": {"kind": "autoencoder"},
        "training": {"batch": 16, "optimizer": {"kind": "muon", "lr": 0.02, "adamw_lr": 0.002}},
    }
    return Suggestion(recipe=recipe, reasons=(f"{reason(network, channels, side)}, frame by frame",))
