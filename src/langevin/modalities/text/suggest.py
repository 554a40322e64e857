"""Suggests a recipe for texts: the task by their form, the codec and network by their size, the machine and the time."""

from typing import Any, assert_never

from langevin.modalities.modality import Budget, Suggestion
from langevin.modalities.text.data import Texts

SIZES = ((128, 4), (192, 4), (256, 4), (256, 6), (384, 6), (384, 8), (512, 8), (512, 12), (768, 12), (1024, 16))
FEW_CHARACTERS = 3_000_000  # up to so many the codec is of characters
SEEN_AGAIN = 20  # epochs beyond which the network would memorise, so that it gets dropout


def weights(width: int, depth: int) -> int:
    """Number of weights of the hidden matrices."""
    return 12 * width * width * depth


def suggest(train: Texts, budget: Budget, *, name: str) -> Suggestion:
    """Sections of a recipe for these texts, with reasons."""
    task, what = _task(train)
    small = train.form == "text" and train.characters <= FEW_CHARACTERS
    codec: dict[str, Any] = {"kind": "characters"}
    if not small:
        codec = {"kind": "bpe", "size": 1024 if train.characters < 10_000_000 else 2048}
    tokens = train.characters / (1 if small else 3.3)
    training_tokens = max(4 * tokens, 2_000_000) if small else max(tokens, 4_000_000)
    fitting = [size for size in SIZES if weights(*size) * training_tokens <= budget.multiply_adds] or [SIZES[0]]
    width, depth = fitting[-1]
    seen = budget.multiply_adds / weights(width, depth)
    repeated = seen > SEEN_AGAIN * tokens
    length = task["context_length"]
    recipe = {
        "name": f"text/{name}",
        "description": f"chosen for {len(train):,} records, {train.characters:,} characters of text",
        "data": {"codec": codec, "task": task},
        "network": {
            "kind": "transformer", "width": width, "depth": depth, "head_dim": 32 if width < 256 else 64,
            "dropout": 0.1 if repeated else 0.0,
        },
        "process": {"kind": "masked"},
        "training": {
            "batch": max(8, 64 * 128 // length), "optimizer": {"kind": "muon", "lr": 0.02, "adamw_lr": 0.002},
        },
        "sampling": {
            "sampler": {"kind": "unmask"}, "steps": min(128, length), "grid": {"kind": "unmask", "shape": "linear"},
        },
    }  # fmt: skip
    reasons = [
        f"text: {len(train):,} records, {train.characters:,} characters: {what}",
        f"codec: {'characters' if small else 'byte pairs, ' + str(codec['size'])}, as the text is "
        f"{'short' if small else 'long enough to learn words as tokens'}",
        f"network: transformer of width {width}, depth {depth}: the largest that sees about {seen / 1e6:.1f} M tokens in "
        f"{budget.minutes:g} minutes here ({seen / max(1.0, tokens):.1f} times the text)",
    ]
    if repeated:
        reasons.append("dropout 0.1: little text, in many epochs")
    return Suggestion(recipe=recipe, reasons=tuple(reasons))


def _task(data: Texts) -> tuple[dict[str, Any], str]:
    match data.form:
        case "dialogue":
            return {
                "kind": "seq2seq",
                "context_length": 160,
                "max_target_length": 48,
            }, "dialogues, so replies are learned"
        case "summary":
            return {
                "kind": "seq2seq",
                "context_length": 448,
                "max_target_length": 80,
            }, "texts with summaries, so summaries are learned"
        case "inference":
            return {"kind": "classification", "context_length": 96}, "pairs with labels, so labels are learned"
        case "text":
            return {
                "kind": "language_model",
                "context_length": 128,
            }, "plain texts, to generate, continue and infill"
        case _:
            assert_never(data.form)
