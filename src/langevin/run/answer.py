"""Answers of a run that was trained on pairs or labels: how long, what, or which; and a few of them to look at."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from langevin.modalities.text.layout import Pairs
from langevin.modalities.text.rows import Mends, Stretches
from langevin.recipe.build import Built
from langevin.recipe.modality import Read
from langevin.recipe.tree import Sampling
from langevin.run.write import codec_of, fill, rows_of, vocabulary


def answer(
    built: Built, sampling: Sampling, sources: Sequence[Tensor], *, seeds: Tensor, batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[str], int]:  # fmt: skip
    """What the model makes of each source, and the network calls of the longest: first the length, then the text."""
    words, decode = vocabulary(built), codec_of(built).decode
    written: list[str] = []
    most = 0
    for rows in torch.arange(len(sources)).split(batch):
        heads = [torch.cat([sources[i].long(), torch.tensor([words.separator])]) for i in rows.tolist()]
        lengths = lengths_of(built, heads)
        parts = [
            torch.cat([head, torch.tensor([words.number(n)]), torch.full((n,), words.mask)])
            for head, n in zip(heads, lengths, strict=True)
        ]
        x, calls = fill(built, sampling, rows_of(parts, words.padding), seeds=seeds[rows])
        most = max(most, calls + 1)
        written += [
            decode(row[len(head) + 1 : len(head) + 1 + n].cpu()) for row, head, n in zip(x, heads, lengths, strict=True)
        ]
        if progress:
            progress(len(written), len(sources))
    return written, most


def lengths_of(built: Built, heads: Sequence[Tensor]) -> list[int]:
    """The median of the law of each target's length, which one call gives."""
    layout = built.recipe.layout
    assert isinstance(layout, Pairs)
    logits = ask_number(built, heads, layout.target + 1)
    return [max(1, int((row.cumsum(0) < 0.5).sum())) for row in logits.softmax(-1)]


def ask_number(built: Built, heads: Sequence[Tensor], count: int | None = None) -> Tensor:
    """(b, numbers) float64 logits of the number that comes after each of `heads`; the first `count` of them."""
    words = vocabulary(built)
    x = rows_of([torch.cat([head, torch.tensor([words.mask])]) for head in heads], words.padding)
    device = next(built.network.parameters()).device
    at = torch.tensor([len(head) for head in heads], device=device)
    built.network.eval()
    with torch.no_grad():
        t = 1 / torch.tensor([float(len(head)) for head in heads], dtype=torch.float64, device=device)
        asked = torch.arange(x.shape[1], device=device) == at[:, None]
        found = built.denoiser(x.to(device), t, None).at(asked).double()
    return found[:, words.number(0) : words.number(count or (words.symbols - words.number(0)))]


def show_texts(built: Built, sampling: Sampling, part: Read, count: int = 4) -> list[str]:
    """A few texts of the run's own task, to be looked at: stretches, or sources with what is made of them."""
    rows, words, decode = part.part, vocabulary(built), codec_of(built).decode
    seeds = torch.arange(count)
    if isinstance(rows, Stretches):
        x, _ = fill(built, sampling, torch.full((count, rows.length), words.mask), seeds=seeds)
        return [decode(row[row < words.codec].cpu()) for row in x]
    if isinstance(rows, Mends):
        return [f"{faulty}\n  <- {right}" for faulty, right in (rows.pair(i, i) for i in range(min(count, len(rows))))]
    count = min(count, len(rows))
    items = [i * len(rows) // count for i in range(count)]
    sources = [rows.sources[i] for i in items]
    told = [decode(ids[ids < words.codec]) for ids in sources]
    classes = built.recipe.classes
    if classes:
        heads = [torch.cat([ids.long(), torch.tensor([words.separator])]) for ids in sources]
        shares = ask_number(built, heads, len(classes)).softmax(-1)
        made = [", ".join(f"{name} {p:.2f}" for name, p in zip(classes, row.tolist(), strict=True)) for row in shares]
    else:
        made, _ = answer(built, sampling, sources, seeds=seeds)
    return [f"{source}\n  -> {text}" for source, text in zip(told, made, strict=True)]
