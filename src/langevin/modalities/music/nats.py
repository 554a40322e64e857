"""Likelihood of scores by the variational bound, in nats a step and a token, and that of n-grams."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.likelihood.tokens import count_bound
from langevin.diffusion.process import Masked
from langevin.methods.models import TokenModel
from langevin.modalities.music.batches import Windows
from langevin.modalities.music.metrics.ngram import NgramModel
from langevin.modalities.music.piece import Piece

if TYPE_CHECKING:
    from langevin.modalities.music.modality import Music

DRAWS, BATCH = 4, 32
MOST_TOKENS = 6_000_000  # that n-grams are counted in
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Nats a step, with the standard error over windows (None of n-grams), and nats a token."""

    steps: int
    per_step: float
    error: float | None
    per_token: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def cost(
    model: TokenModel, windows: Windows, items: Tensor, *, shuffled: bool = False, batch: int = BATCH,
    progress: Progress = lambda done, total: None,
) -> Cost:  # fmt: skip
    """The bound on windows `items` (n,), each without what is before it; `shuffled`: with its steps in random order."""
    assert isinstance(model.process, Masked), "music is modelled by a masked process"
    model.network.eval()
    nats, counts, streams, done = list[Tensor](), list[Tensor](), windows.codec.streams, 0
    for part in items.split(batch):
        examples = windows(part)
        if shuffled:
            examples = _shuffled(examples, streams)
        nats.append(count_bound(model.denoiser, model.process, examples, names=part, draws=DRAWS).cpu())
        assert examples.mask is not None
        counts.append(examples.mask.sum(1).cpu() // streams)
        done += len(part)
        progress(done, len(items))
    total, steps = torch.cat(nats), torch.cat(counts).double()
    rate = float(total.sum() / steps.sum())
    spread = float((total - rate * steps).square().sum().sqrt() / steps.sum())
    error = spread * (len(total) / max(1, len(total) - 1)) ** 0.5
    return Cost(steps=int(steps.sum()), per_step=rate, error=error, per_token=rate / streams)


def _shuffled(batch: Batch, streams: int) -> Batch:
    """The steps of each example in an order that is fixed by its length; padding stays at the end."""
    assert batch.mask is not None
    x = batch.x.unflatten(1, (-1, streams)).clone()
    for i, count in enumerate((batch.mask.sum(1) // streams).tolist()):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(count))
        x[i, :count] = x[i, order.to(x.device)]
    return replace(batch, x=x.flatten(1))


def ngrams(music: "Music", pieces: Sequence[Piece]) -> NgramModel:
    """N-grams of the training pieces in all transpositions that a run trains on, as far as `MOST_TOKENS` go."""
    codec, tokens, count = music.fixed, list[np.ndarray](), 0
    room = MOST_TOKENS // max(1, sum(piece.steps for piece in pieces) * codec.streams)
    for piece in pieces:
        encoded = codec.encode(piece)
        down, up = (max(-music.transpose, min(music.transpose, side)) for side in codec.room(piece))
        for semitones in sorted(range(down, up + 1), key=abs)[: max(1, room)]:
            tokens.append(codec.transposed(encoded, semitones).numpy())
            count += tokens[-1].size
        if count > MOST_TOKENS:
            break
    return NgramModel.fit(tokens, size=codec.vocab_size)


def ngram_costs(music: "Music", model: NgramModel, pieces: Sequence[Piece]) -> list[Cost]:
    """The likelihood of whole pieces by order, 1, 2, ..., given all that is before: more than a window of the run knows."""
    encoded = [music.fixed.encode(piece).numpy() for piece in pieces]
    nats, steps = np.sum([model.nats(tokens).sum((1, 2)) for tokens in encoded], 0), sum(map(len, encoded))
    rates = (nats / steps).tolist()
    return [Cost(steps=steps, per_step=rate, error=None, per_token=rate / music.fixed.streams) for rate in rates]
