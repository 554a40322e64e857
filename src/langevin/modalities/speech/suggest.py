"""A recipe for speech, sized to the data, the machine and the time, with reasons."""

from langevin.modalities.modality import Budget, Suggestion
from langevin.modalities.speech.data import Clips

EXAMPLES = 20_000  # until a voice is understood, and as many again for each hour of recordings
SHORT = 0.3  # of the speed of long sequences, which short ones reach
WEIGHTS = 100  # per frame of the recordings, at most: more would learn them by heart
SENTENCE = 3  # words of a text, on average, from which units of equal length are a poor guess
SIZES = ((96, 3), (128, 4), (192, 4), (192, 6), (256, 6), (320, 8), (384, 8), (512, 8), (512, 12))


def multiply_adds(width: int, depth: int, frames: float) -> float:
    """Multiply-adds of a forward pass of the transformer on one example."""
    return depth * (12 * width * width * frames + 2 * frames * frames * width + 6 * width * width)


def suggest(train: Clips, budget: Budget, *, name: str, window: int, stride: int) -> Suggestion:
    """A recipe for these recordings within the budget, for examples of at most `window` frames."""
    seconds = float(train.lengths.double().sum()) / train.rate
    frames = min(window, float(train.lengths.double().mean()) / stride)
    hours = f"{seconds / 3600:.1f} hours" if seconds > 5400 else f"{seconds / 60:.1f} minutes"
    wanted = EXAMPLES * (1 + seconds / 3600)
    available = SHORT * budget.multiply_adds
    held = WEIGHTS * seconds * train.rate / stride
    fitting = [s for s in SIZES if multiply_adds(*s, frames) * wanted <= available and 12 * s[0] ** 2 * s[1] <= held]
    width, depth = fitting[-1] if fitting else SIZES[0]
    seen = available / multiply_adds(width, depth, frames)
    batch = 32 if frames < 150 else 16
    conditioned = " and ".join(
        [*(["text"] if train.has_text else []), *([f"{len(train.speakers)} speakers"] if train.speakers else [])]
    )
    recipe = {
        "name": f"speech/{name}",
        "description": f"chosen for {len(train):,} recordings, {hours}",
        "network": {
            "kind": "dit", "dimensions": 1, "patch": 1, "kernel": 5, "width": width, "depth": depth,
            "head_dim": 64 if width % 64 == 0 else 32,
        },
        "method": {"kind": "diffusion", "times": {"kind": "log_normal", "mean": 0.0, "std": 1.0}},
        "training": {"batch": batch, "optimizer": {"kind": "muon", "lr": 0.02, "adamw_lr": 0.002}},
        "sampling": {"steps": 16, "guidance": [{"kind": "classifier_free", "weight": 1.5}]} if conditioned else {},
    }  # fmt: skip
    searched = train.has_text and sum(len(text.split()) for text in train.texts) >= SENTENCE * len(train)
    if searched:
        recipe["data"] = {"alignment": {"kind": "monotonic"}}
    reasons = (
        f"speech: {len(train):,} recordings, {hours} at {train.rate:,} Hz, conditioned on {conditioned or 'nothing'}",
        f"network: transformer of width {width}, depth {depth} over frames of {1000 * stride / train.rate:g} ms: the "
        f"largest that trains on about {seen / 1000:.0f}k examples in {budget.minutes:g} minutes on this machine "
        f"({seen / max(1, len(train)):.0f} epochs)",
        *(["alignment: searched, as the texts are sentences"] if searched else []),
    )
    return Suggestion(recipe=recipe, reasons=reasons)
