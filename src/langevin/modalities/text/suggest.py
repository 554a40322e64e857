"""Suggests a recipe for texts: the task by their form, the codec and network by their size, the machine and the time."""

from typing import Any, assert_never

from langevin.extras import installed
from langevin.modalities.modality import Budget, Suggestion
from langevin.modalities.text.data import Texts

SIZES = (
    (128, 2),
    (192, 2),
    (192, 4),
    (256, 4),
    (256, 6),
    (384, 6),
    (384, 8),
    (512, 8),
    (512, 12),
    (768, 12),
    (1024, 16),
)
PAIRS = ((300_000, 512), (10_000_000, 2048), (30_000_000, 4096))  # byte pairs of texts of up to so many characters
MOST_PAIRS = 8192  # of longer ones
SEEN_AGAIN = 20  # epochs beyond which the network would memorise, so that it gets dropout
SEEN_OFTEN = 4  # epochs beyond which the held-out loss may rise before the end, so that the best weights are kept


def weights(width: int, depth: int, vocabulary: int) -> int:
    """Number of weights of the hidden matrices and of the last one."""
    return 12 * width * width * depth + vocabulary * width


def suggest(train: Texts, budget: Budget, *, name: str) -> Suggestion:
    """Sections of a recipe for these texts, with reasons."""
    task, what = _task(train)
    open_text = train.form == "text"
    size = next((size for most, size in PAIRS if train.characters <= most), MOST_PAIRS)
    if not open_text:
        size = 1024 if train.characters < 10_000_000 else 2048
    pairs = installed("tokenizers") or not open_text
    tokens = train.characters / (3.3 if pairs else 1)
    size = size if pairs else 100
    costs = {sizes: weights(*sizes, size) for sizes in SIZES}
    width, depth = max(
        (s for s in SIZES if costs[s] * max(tokens, 4_000_000) <= budget.multiply_adds), default=SIZES[0]
    )
    seen = budget.multiply_adds / costs[width, depth]
    repeated, often = seen > SEEN_AGAIN * tokens, seen > SEEN_OFTEN * tokens
    length = task["context_length"]
    recipe = {
        "name": f"text/{name}",
        "description": f"chosen for {len(train):,} records, {train.characters:,} characters of text",
        "data": {"codec": {"kind": "bpe", "size": size} if pairs else {"kind": "characters"}, "task": task},
        "network": {
            "kind": "transformer", "width": width, "depth": depth, "head_dim": 32 if width < 256 else 64,
            "dropout": 0.1 if repeated else 0.0, **({"ngram_window": 2, "ngram_order": None} if open_text else {}),
        },
        "process": {"kind": "masked", "loss": "cross_entropy" if open_text else "bound"},
        "training": {
            "batch": max(8, 64 * 128 // length), "keep_best": often,
            "optimizer": {"kind": "muon", "lr": 0.02, "adamw_lr": 0.002, "embedding_lr": 0.008},
        },
        "sampling": {
            "sampler": {"kind": "unmask"}, "steps": min(128, length), "grid": {"kind": "unmask", "shape": "linear"},
        },
    }  # fmt: skip
    reasons = [
        f"text: {len(train):,} records, {train.characters:,} characters: {what}",
        f"codec: {size:,} byte pairs: words, or parts of words, are tokens"
        if pairs
        else "codec: characters; byte pairs learn faster, and need tokenizers: pip install 'langevin[text]'",
        f"network: transformer of width {width}, depth {depth}: the largest that sees about {seen / 1e6:.1f} M tokens in "
        f"{budget.minutes:g} minutes here ({seen / max(1.0, tokens):.1f} times the text)",
    ]
    if open_text:
        reasons.append(
            "n-grams of three tokens, counted in the text before the first step: the network learns the rest"
        )
        reasons.append("loss: cross-entropy, which learns faster than the bound")
    if often:
        reasons.append("the weights of the least held-out loss are kept: the text is seen several times")
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
