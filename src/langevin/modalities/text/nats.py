"""Likelihood of validation text by the variational bound or the chain rule, in bits per character and per byte."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.float64 import float64_device
from langevin.diffusion.likelihood.tokens import at_shares, count_bound, in_order, time_bound, whole
from langevin.diffusion.noise import SampleNoise, mix
from langevin.diffusion.process import Masked
from langevin.diffusion.process.interpolating import Discrete
from langevin.diffusion.training_input import MaskByCountPerBlock
from langevin.methods.models import MASKED, TokenModel
from langevin.modalities.modality import Batches
from langevin.modalities.text.batches import counts
from langevin.modalities.text.codec import AnyTokens

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Bits per character and per byte of examples (None if labels are predicted, not text), with standard errors over the
    examples.

    Args:
        estimator: count, time, left to right, or autoregressive.
        tokens: number of predicted tokens.
    """

    estimator: str
    examples: int
    tokens: int
    characters: int
    nats: float
    bits_per_character: float | None
    error: float | None
    bits_per_byte: float | None
    byte_error: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def cost(
    model: TokenModel, codec: AnyTokens, read: Batches, items: Tensor, *, estimator: str = "bound", draws: int = 4,
    batch: int = 32, progress: Progress | None = None,
) -> Cost:  # fmt: skip
    """The `Cost` of examples `items` (n,): by the bound, or from left to right.

    The bound averages `draws` stratified mask counts per example, or times for uniform and hybrid processes. An
    autoregressive run has one estimator, the exact one."""
    kind = "autoregressive" if model.autoregressive else estimator
    if kind == "bound":
        kind = "count" if isinstance(model.process, Masked) else "time"
    model.network.eval()
    nats: list[Tensor] = []
    sequences: list[Tensor] = []
    for part in items.split(batch):
        examples = read(part)
        nats.append(_nats(model, examples, part, kind, draws).cpu())
        assert examples.mask is not None
        sequences += [x[free] for x, free in zip(examples.x.cpu(), examples.mask.cpu(), strict=True)]
        if progress:
            progress(len(sequences), len(items))
    return _summed(torch.cat(nats), sequences, codec, kind)


def _nats(model: TokenModel, batch: Batch, names: Tensor, kind: str, draws: int) -> Tensor:
    denoiser, process = model.denoiser, model.process
    if kind == "autoregressive":
        return whole(denoiser, batch)
    if kind == "left to right":
        return in_order(denoiser, masked(process), batch, names=names)
    if model.attention == "block":
        return block_bound(model, batch, names, draws)
    if isinstance(process, Masked) and kind == "count":
        return count_bound(denoiser, process, batch, names=names, draws=draws)
    return time_bound(denoiser, process, batch, names=names, draws=draws)


def masked(process: Discrete) -> Masked:
    """The process, if it is masked. Raises `ValueError` for another."""
    if not isinstance(process, Masked):
        raise ValueError(f"this needs process.kind masked, and this run has {type(process).__name__}")
    return process


def block_bound(model: TokenModel, batch: Batch, names: Tensor, draws: int) -> Tensor:
    """(b,) nats: the sum of the bounds of each block given the clean ones before it, by mask counts within blocks."""
    corrupt = MaskByCountPerBlock(process=masked(model.process), block=model.network.config.block_size)
    streams = mix(torch.zeros_like(names), names).to(batch.x.device)
    total = torch.zeros(len(names), dtype=torch.float64, device=float64_device(batch.x.device))
    offset = SampleNoise(seeds=streams, steps=torch.full_like(streams, -1)).uniform(total[:, None])[:, 0]
    with torch.no_grad():
        for k in range(draws):
            noise = SampleNoise(seeds=streams, steps=torch.full_like(streams, k))
            t, x_t = corrupt(batch, StepRandomness(noise=noise, u=(k + offset) / draws))
            terms = masked(model.process).bound(model.denoiser(x_t, t, batch.condition), batch.x, x_t, t)
            total += terms.diffusion.sum(1)
    return total / draws


def _summed(nats: Tensor, sequences: Sequence[Tensor], codec: AnyTokens, kind: str) -> Cost:
    characters, size = counts(codec, sequences)
    bits = nats / math.log(2)

    def ratio(units: Tensor) -> tuple[float | None, float | None]:
        """Sum of bits over sum of units, and its standard error over the examples."""
        if not float(units.sum()):  # labels have no characters
            return None, None
        r = float(bits.sum() / units.sum())
        spread = (bits - r * units).square().sum().sqrt() / units.sum()
        return r, float(spread) * math.sqrt(len(bits) / max(1, len(bits) - 1))

    (by_character, error), (by_byte, byte_error) = ratio(characters), ratio(size)
    return Cost(
        estimator=kind, examples=len(nats), tokens=sum(map(len, sequences)), characters=int(characters.sum()),
        nats=float(nats.sum()), bits_per_character=by_character, error=error, bits_per_byte=by_byte,
        byte_error=byte_error,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Accuracy and cross-entropy of masked tokens by the fraction that is masked, and accuracy by confidence.

    Args:
        shares: fractions masked.
        accuracy, nats: at each of them.
        confidence, right, weight: mean confidence, accuracy and count of ten bins of confidence, over all fractions.
    """

    shares: list[float]
    accuracy: list[float]
    nats: list[float]
    confidence: list[float]
    right: list[float]
    weight: list[float]


def calibration(model: TokenModel, read: Batches, items: Tensor, batch: int = 32) -> Calibration:
    """The `Calibration` of a masked process on the examples `items`."""
    right, nats, count = (torch.zeros(len(MASKED), dtype=torch.float64) for _ in range(3))
    bins = torch.zeros(3, 10, dtype=torch.float64)
    for part in items.split(batch):
        examples = read(part)
        predictions = at_shares(model.denoiser, masked(model.process), examples, shares=MASKED, names=part)
        for i, (mask, logits) in enumerate(predictions):
            truth = examples.x[mask]
            nats[i] += float(F.cross_entropy(logits, truth, reduction="sum"))
            count[i] += len(truth)
            confidence, best = (value.cpu() for value in logits.softmax(-1).max(-1))
            hit = best == truth.cpu()
            right[i] += hit.sum()
            index = (confidence * 10).long().clamp(0, 9)
            for j, value in enumerate((confidence, hit, torch.ones_like(confidence))):
                bins[j].index_add_(0, index, value.double())
    size = bins[2].clamp_min(1)
    return Calibration(
        shares=MASKED.tolist(), accuracy=(right / count.clamp_min(1)).tolist(), nats=(nats / count.clamp_min(1)).tolist(),
        confidence=(bins[0] / size).tolist(), right=(bins[1] / size).tolist(), weight=bins[2].tolist(),
    )  # fmt: skip
