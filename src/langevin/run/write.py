"""Text from a run's parts, through the one sampling loop: any places of any rows, all at once or block by block."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance import Prompted, Reluctant, Within
from langevin.diffusion.likelihood.tokens import in_order, whole
from langevin.diffusion.noise import RowNoise, mix
from langevin.diffusion.sampler import Gibbs, Shares, sample, start
from langevin.diffusion.sampler.unmask import entropy
from langevin.modalities.image.codec import Pixels
from langevin.modalities.text.layout import BLANK, NUMBERS, SEPARATOR, Mend, Pairs
from langevin.modalities.text.tokens import AnyTokens
from langevin.modalities.toy.codec import Coordinates
from langevin.networks.transformer import Transformer
from langevin.recipe.build import Built
from langevin.recipe.samplers import sampler_of
from langevin.recipe.tree import LeftToRight, Sampling, Symbols
from langevin.run.gaps import FREE, Gapped

Settled = Callable[[Tensor, int], None]  # (rows so far (b, n), places that are settled)


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The symbols of a run: the codec's come first, then controls, then mask and padding."""

    codec: int
    symbols: int

    @property
    def mask(self) -> int:
        return self.symbols

    @property
    def padding(self) -> int:
        return self.symbols + 1

    @property
    def separator(self) -> int:
        return self.codec + SEPARATOR

    def number(self, n: int) -> int:
        return self.codec + NUMBERS + n


def codec_of(built: Built) -> AnyTokens:
    """The codec of a run of text."""
    codec = built.recipe.codec
    assert not isinstance(codec, Pixels | Coordinates)
    return codec


def vocabulary(built: Built) -> Vocabulary:
    """Of a run of text."""
    assert isinstance(built.recipe.process, Symbols)
    return Vocabulary(codec=codec_of(built).symbols, symbols=built.recipe.process.symbols)


def token_network(built: Built) -> Transformer:
    """The network of a run of text."""
    assert isinstance(built.network, Transformer)
    return built.network


def rows_of(parts: Sequence[Tensor], padding: int) -> Tensor:
    """Rows (n, ...) of different lengths as one (b, longest, ...), padded on the right."""
    return torch.nn.utils.rnn.pad_sequence([part.long() for part in parts], batch_first=True, padding_value=padding)


def fill(
    built: Built, sampling: Sampling, x: Tensor, *, seeds: Tensor, settled: Settled | None = None, block: int | None = None,
    beside: Tensor | None = None, reluctance: float = 0.0,
) -> tuple[Tensor, int]:  # fmt: skip
    """x (b, n) with its masked places written; returns it and the network calls made.

    Args:
        seeds: (b,) int64 names of the rows: a row's text depends on its seed, its own places and the options only.
        settled: called after each block.
        block: write so many places at a time, from left to right; a network that attends by blocks always does, with the
            keys and values of what is written kept.
        beside: symbols (b, rows, n) of a text that is repaired, then of readings of it, and `reluctance` to change the
            text, in nats.
    """
    require_guidable(built, sampling.guidance)
    if sampling.best > 1:
        return _best(built, sampling, x, seeds, settled, block)
    device = next(built.network.parameters()).device
    x, seeds = x.to(device), seeds.to(device)
    built.network.eval()
    network = token_network(built)
    cached = network.config.attention == "block"
    size = network.config.block if cached else block or x.shape[1]
    words, calls, before = vocabulary(built), 0, None
    known = x < words.mask
    for first in range(0, x.shape[1], size):
        last = min(first + size, x.shape[1])
        here = slice(first, last) if cached else slice(0, last)
        if bool((x[:, here] == words.mask).any()):
            names = mix(seeds, first) if first else seeds
            told = _told((known & (x < words.number(0)))[:, here], sampling.guidance, before)
            if beside is not None:
                told = Condition(concat=Port(tensor=beside.to(device)))
            part, made = _written(built, sampling, x[:, here], names, told, reluctance)
            x, calls = torch.cat([x[:, : here.start], part, x[:, last:]], 1), calls + made
        if settled:
            settled(x, last)
        if cached and last < x.shape[1]:
            with torch.no_grad():
                before = network.cache(x[:, here], before)
    return x, calls


def _best(
    built: Built, sampling: Sampling, x: Tensor, seeds: Tensor, settled: Settled | None, block: int | None
) -> tuple[Tensor, int]:
    """Of `sampling.best` texts of each row, the first by its own name, that which the run itself finds likeliest."""
    if built.process.kind != "masked" or token_network(built).config.attention == "block":
        raise ValueError(
            f"best {sampling.best} compares what the run says of whole texts: it needs process.kind masked or causal, and "
            "no attention by blocks"
        )
    words, count, chosen, most = vocabulary(built), sampling.best, list[Tensor](), 0
    other = torch.arange(count)
    for rows in torch.arange(len(x)).split(max(1, len(x) // count)):
        asked, names = x[rows].repeat_interleave(count, 0), seeds.cpu()[rows].repeat_interleave(count)
        number = other.repeat(len(rows))
        names = torch.where(number > 0, mix(names, number), names)
        texts, calls = fill(built, replace(sampling, best=1), asked, seeds=names, block=block)
        free = asked.to(texts.device) == words.mask
        batch = Batch(x=texts, mask=free, known=~free)
        if isinstance(built.recipe.process, LeftToRight):
            nats = whole(built.denoiser, batch)
        else:
            nats = in_order(built.denoiser, built.process, batch)
        most = max(most, calls + int(free.sum(1).max()))
        index = nats.view(-1, count).argmin(1) + torch.arange(len(rows), device=nats.device) * count
        chosen.append(texts[index])
    best = torch.cat(chosen)
    if settled:
        settled(best, best.shape[1])
    return best, most


def _told(prompt: Tensor, guidance: float, before: Port | None) -> Condition | None:
    """What came before, and the places of the prompt, which guidance hides: all but the number that is a length."""
    guided = guidance != 1 and bool(prompt.any())
    if before is None and not guided:
        return None
    weight = torch.full((len(prompt),), guidance, dtype=torch.float64, device=prompt.device) if guided else None
    return Condition(prepend=before, concat=Port(tensor=prompt) if guided else None, guidance=weight)


def require_guidable(built: Built, guidance: float) -> None:
    """Check that the question without a prompt is one that the run was trained on. Raises `ValueError` where it is none."""
    if guidance == 1:
        return
    layout, process = built.recipe.layout, built.recipe.process.kind
    if token_network(built).config.attention != "full" or process not in ("masked", "hybrid"):
        raise ValueError(
            f"guidance {guidance:g} compares with the prompt masked: it needs network.attention=full and process.kind "
            f"masked or hybrid; this run has {token_network(built).config.attention} and {process}"
        )
    if isinstance(layout, Pairs) and not layout.joint:
        raise ValueError(
            f"guidance {guidance:g} compares with the source masked, which this run never saw: train it with layout.joint "
            "above 0, or leave guidance at 1"
        )


def _written(
    built: Built, sampling: Sampling, x: Tensor, seeds: Tensor, told: Condition | None, reluctance: float
) -> tuple[Tensor, int]:
    words, process = vocabulary(built), built.process
    steps = torch.full((len(x),), sampling.steps, device=x.device)
    if not isinstance(sampling.grid, Shares):
        raise ValueError(f"text is written on a grid of shares (sampling.grid.kind=shares), not {sampling.grid.kind}")
    times = sampling.grid(steps)
    denoiser: Denoiser = built.denoiser
    if isinstance(built.recipe.layout, Mend):
        denoiser = Within(denoiser=Reluctant(denoiser=denoiser, nats=reluctance), first=words.codec + BLANK + 1)
    else:
        guided = told is not None and told.guidance is not None
        denoiser = Prompted(denoiser=denoiser, mask=words.mask) if guided else denoiser
        denoiser = Within(denoiser=denoiser, first=words.codec)
    if isinstance(built.recipe.process, LeftToRight) and sampling.sampler != "left_to_right":
        raise ValueError(f"an autoregressive run writes by --sampler left_to_right only, not {sampling.sampler}")
    sampler, calls = sampler_of(process, sampling), 0
    if process.kind != "masked" or isinstance(sampler, Gibbs):  # places that are given have time 0
        times = torch.where((x == words.mask)[:, None], times[..., None], 0.0)
    if isinstance(sampler, Gibbs):  # goes over a whole text
        first = replace(sampling, sampler="ancestral")
        x, calls = _written(built, first, x, seeds, told, reluctance)
    elif process.kind != "masked":
        x = process.corrupt(torch.where(x == words.mask, 0, x), times[:, 0], _stream(seeds))
    state = start(sampler, process, x, times, seeds, x=x)
    for after in sample(sampler, denoiser, state, told):
        state, calls = after, calls + 1
    return state.x, calls


def _stream(seeds: Tensor) -> RowNoise:
    return RowNoise(seeds=seeds, steps=torch.full_like(seeds, -1))


def free_lengths(built: Built, gapped: Gapped, room: int) -> tuple[int, ...]:
    """A length for each gap, `room` symbols together at most: as asked, and where it is free the one of `FREE` at which the
    model is surest of what it would write, one call a candidate (the mean entropy of the masked places is least)."""
    words, codec = vocabulary(built), codec_of(built)
    lengths = [n or 1 for n in gapped.gaps]
    device = next(built.network.parameters()).device
    for i, gap in enumerate(gapped.gaps):
        if gap is not None:
            continue
        most = room - sum(lengths) + 1
        scores: dict[int, float] = {}
        for n in (n for n in FREE if n <= most):
            tried = (*lengths[:i], n, *lengths[i + 1 :])
            x = gapped.symbols(codec, words.mask, tried)[None].to(device)
            with torch.no_grad():
                hidden = x == words.mask
                t = hidden.double().mean(1)
                scores[n] = float(entropy(built.denoiser(x, t, None).at(hidden).double().log_softmax(-1)).mean())
        lengths[i] = min(scores, key=lambda n: scores[n])
    return tuple(lengths)
