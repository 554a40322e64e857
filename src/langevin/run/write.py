"""Text from a run's parts, through the one sampling loop: any places of any rows, all at once or block by block."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance import Prompted, Reluctant, Within
from langevin.diffusion.noise import RowNoise, mix
from langevin.diffusion.sampler import Gibbs, Shares, sample, start
from langevin.diffusion.sampler.unmask import entropy
from langevin.modalities.image.codec import Pixels
from langevin.modalities.text.layout import BLANK, NUMBERS, SEPARATOR, Mend, Pairs
from langevin.modalities.text.rows import Mends, Stretches
from langevin.modalities.text.tokens import AnyTokens
from langevin.modalities.toy.codec import Coordinates
from langevin.networks.transformer import Transformer
from langevin.recipe.build import Built
from langevin.recipe.modality import Read
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
                scores[n] = float(entropy(built.denoiser(x, t, None).logits[hidden].double().log_softmax(-1)).mean())
        lengths[i] = min(scores, key=lambda n: scores[n])
    return tuple(lengths)


def ask_number(built: Built, heads: Sequence[Tensor], count: int | None = None) -> Tensor:
    """(b, numbers) float64 logits of the number that comes after each of `heads`; the first `count` of them."""
    words = vocabulary(built)
    x = rows_of([torch.cat([head, torch.tensor([words.mask])]) for head in heads], words.padding)
    device = next(built.network.parameters()).device
    at = torch.tensor([len(head) for head in heads], device=device)
    built.network.eval()
    with torch.no_grad():
        t = 1 / torch.tensor([float(len(head)) for head in heads], dtype=torch.float64, device=device)
        logits = built.denoiser(x.to(device), t, None).logits
    found = logits[torch.arange(len(heads), device=device), at].double()
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
