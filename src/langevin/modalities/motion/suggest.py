"""A recipe for motions, sized to the data, the machine and the time, with reasons."""

from typing import TYPE_CHECKING

from langevin.modalities.modality import Budget, Suggestion
from langevin.modalities.motion.data import Motions

if TYPE_CHECKING:
    from langevin.modalities.motion.modality import Motion

EXAMPLES = 60_000  # seen until motions are smooth, and as many again for each hour of data
SHORT = 0.3  # of the speed of long sequences, which short ones reach
WEIGHTS = 150  # per number of the data, at most: more would learn it by heart
SIZES = ((64, 3), (96, 4), (128, 4), (192, 6), (256, 6), (256, 8), (384, 8), (512, 10))
PATCH = 2  # frames
LEVELS = (
    {"kind": "shared", "share": 0.6},
    {"kind": "clean_prefix", "share": 0.2},
    {"kind": "random_span", "share": 0.2},
)


def multiply_adds(width: int, depth: int, tokens: float) -> float:
    """Multiply-adds of a forward pass of the transformer on one example."""
    return depth * (12 * width * width * tokens + 2 * tokens * tokens * width + 6 * width * width)


def suggest(motion: "Motion", train: Motions, budget: Budget, *, name: str) -> Suggestion:
    """A recipe for these motions within the budget."""
    fitted = motion.fitted(train)
    codec = fitted.known_codec
    frames = int(train.lengths.sum())
    patch = PATCH if fitted.window % PATCH == 0 and not codec.space else 1
    tokens = fitted.window / patch * (codec.space[0] if codec.space else 1)
    wanted, available = EXAMPLES * (1 + frames / train.rate / 3600), SHORT * budget.multiply_adds
    numbers = WEIGHTS * frames * codec.channels
    fitting = [s for s in SIZES if multiply_adds(*s, tokens) * wanted <= available and 12 * s[0] ** 2 * s[1] <= numbers]
    width, depth = fitting[-1] if fitting else SIZES[0]
    seen = available / multiply_adds(width, depth, tokens)
    conditioned = bool(fitted.actions) or fitted.vocabulary is not None
    local = {} if train.skeleton is None else {"kernel": 5}
    recipe = {
        "name": f"motion/{name}",
        "description": f"chosen for {len(train):,} motions, {frames / train.rate:,.0f} seconds",
        "network": {
            "kind": "dit", "dimensions": 1 + len(codec.space), "patch": patch, "width": width, "depth": depth,
            "head_dim": 32, **local,
        },
        "method": {
            "kind": "diffusion", "prediction": "clean", "times": {"kind": "log_normal", "mean": -0.4, "std": 1.4},
            "levels": list(LEVELS),
        },
        "training": {"batch": 32, "optimizer": {"kind": "muon", "lr": 0.02, "adamw_lr": 0.002}},
        "sampling": {
            "steps": 30, **({"guidance": [{"kind": "classifier_free", "weight": 1.5}]} if conditioned else {}),
        },
    }  # fmt: skip
    reasons = (
        f"motion: {len(train):,} motions, {frames / train.rate:,.0f} s at {train.rate:g} frames per second, conditioned on "
        + ("actions or captions" if conditioned else "nothing"),
        f"network: transformer of width {width}, depth {depth} over {fitted.window} frames in patches of {patch}: "
        f"the largest that trains on about {seen / 1000:.0f}k examples in {budget.minutes:g} minutes on this machine",
        "prediction: the clean motion, which is smooth where noise is not; frames have noise levels of their own in two of "
        "five examples, so that poses and beginnings can be given",
    )
    return Suggestion(recipe=recipe, reasons=reasons)
