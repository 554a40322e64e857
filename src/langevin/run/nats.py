"""What a run of text costs held-out text: nats a row by bound or chain rule, bits a character and a byte with errors."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from langevin.diffusion.batch import Batch, Draw
from langevin.diffusion.likelihood.tokens import at_shares, count_bound, in_order, time_bound, whole
from langevin.diffusion.noise import RowNoise, mix
from langevin.diffusion.process import Masked
from langevin.diffusion.question import Blocks
from langevin.modalities.text.rows import RowReader, counts
from langevin.recipe.build import SHARES, Built
from langevin.run.write import codec_of, token_network

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Bits a character and a byte of some rows (None where what is asked for is no text), with standard errors over the
    rows; and how they were found.

    Args:
        estimator: count, time, left to right, or autoregressive.
        places: symbols asked for, in all.
    """

    estimator: str
    rows: int
    places: int
    characters: int
    nats: float
    bits_per_character: float | None
    error: float | None
    bits_per_byte: float | None
    byte_error: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def cost(built: Built, read: RowReader, items: Tensor, *, estimator: str = "bound", draws: int = 4, batch: int = 32,
         progress: Progress | None = None) -> Cost:  # fmt: skip
    """Of the rows `items` (n,): by the bound (counts, or times of processes with wrong symbols) or from left to right.

    `draws` stratified counts or times a row. An autoregressive run has one estimator, the exact one."""
    causal = built.recipe.process.kind == "causal"
    kind = "autoregressive" if causal else estimator
    if kind == "bound":
        kind = "count" if isinstance(built.process, Masked) else "time"
    built.network.eval()
    nats: list[Tensor] = []
    rows: list[Tensor] = []
    for part in items.split(batch):
        asked = read(part)
        nats.append(_nats(built, asked, part, kind, draws).cpu())
        assert asked.mask is not None
        rows += [x[free] for x, free in zip(asked.x.cpu(), asked.mask.cpu(), strict=True)]
        if progress:
            progress(len(rows), len(items))
    return _summed(torch.cat(nats), rows, built, kind)


def _nats(built: Built, asked: Batch, names: Tensor, kind: str, draws: int) -> Tensor:
    denoiser, process = built.denoiser, built.process
    if kind == "autoregressive":
        return whole(denoiser, asked)
    if kind == "left to right":
        return in_order(denoiser, process, asked, names=names)
    if token_network(built).config.attention == "block":
        return block_bound(built, asked, names, draws)
    find = count_bound if kind == "count" else time_bound
    return find(denoiser, process, asked, names=names, draws=draws)


def block_bound(built: Built, asked: Batch, names: Tensor, draws: int) -> Tensor:
    """(b,) nats: the bound of every block given the clean ones before it, by counts in each."""
    ask = Blocks(process=built.process, block=token_network(built).config.block)
    streams = mix(torch.zeros_like(names), names).to(asked.x.device)
    total = torch.zeros(len(names), dtype=torch.float64, device=asked.x.device)
    offset = RowNoise(seeds=streams, steps=torch.full_like(streams, -1)).uniform(total[:, None])[:, 0]
    with torch.no_grad():
        for k in range(draws):
            noise = RowNoise(seeds=streams, steps=torch.full_like(streams, k))
            t, x_t = ask(asked, Draw(noise=noise, u=(k + offset) / draws))
            terms = built.process.bound(built.denoiser(x_t, t, asked.condition), asked.x, x_t, t)
            total += terms.diffusion.sum(1)
    return total / draws


def _summed(nats: Tensor, rows: Sequence[Tensor], built: Built, kind: str) -> Cost:
    characters, size = counts(codec_of(built), rows)
    bits = nats / math.log(2)

    def ratio(units: Tensor) -> tuple[float | None, float | None]:
        """Sum of bits over sum of units, and its standard error over the rows."""
        if not float(units.sum()):  # labels have no characters
            return None, None
        r = float(bits.sum() / units.sum())
        spread = (bits - r * units).square().sum().sqrt() / units.sum()
        return r, float(spread) * math.sqrt(len(bits) / max(1, len(bits) - 1))

    (by_character, error), (by_byte, byte_error) = ratio(characters), ratio(size)
    return Cost(
        estimator=kind, rows=len(nats), places=sum(map(len, rows)), characters=int(characters.sum()),
        nats=float(nats.sum()), bits_per_character=by_character, error=error, bits_per_byte=by_byte,
        byte_error=byte_error,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sureness:
    """Masked symbols by the share that is masked: how often the likeliest is right, the cross-entropy, and by confidence.

    Args:
        accuracy, nats: of each of `shares`.
        confidence, right, weight: mean confidence of ten bins, how often right there, and how many, all shares together.
    """

    shares: list[float]
    accuracy: list[float]
    nats: list[float]
    confidence: list[float]
    right: list[float]
    weight: list[float]


def sureness(built: Built, read: RowReader, items: Tensor, batch: int = 32) -> Sureness:
    """Of the rows `items`; of a masked process."""
    right, nats, places = (torch.zeros(len(SHARES), dtype=torch.float64) for _ in range(3))
    bins = torch.zeros(3, 10, dtype=torch.float64)
    for part in items.split(batch):
        asked = read(part)
        found = at_shares(built.denoiser, built.process, asked, shares=SHARES, names=part)
        for i, (hidden, logits) in enumerate(found):
            truth = asked.x[hidden]
            nats[i] += float(F.cross_entropy(logits, truth, reduction="sum"))
            places[i] += len(truth)
            confidence, best = (value.cpu() for value in logits.softmax(-1).max(-1))
            hit = best == truth.cpu()
            right[i] += hit.sum()
            index = (confidence * 10).long().clamp(0, 9)
            for j, value in enumerate((confidence, hit, torch.ones_like(confidence))):
                bins[j].index_add_(0, index, value.double())
    few = bins[2].clamp_min(1)
    return Sureness(
        shares=SHARES.tolist(), accuracy=(right / places.clamp_min(1)).tolist(), nats=(nats / places.clamp_min(1)).tolist(),
        confidence=(bins[0] / few).tolist(), right=(bins[1] / few).tolist(), weight=bins[2].tolist(),
    )  # fmt: skip


def spread(count: int, most: int) -> Tensor:
    """At most `most` of `count` rows, evenly."""
    few = min(count, most)
    return torch.arange(few) * count // few
