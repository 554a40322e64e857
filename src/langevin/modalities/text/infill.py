"""Generates tokens at masked positions, all at once or block by block, and keeps the likeliest of several samples.

Each generator function here is part of a plan: it yields requests, and returns token ids.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from langevin.diffusion.automaton import Automaton, Ruled
from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance import CopyMask, VocabularyMask
from langevin.diffusion.noise import mix
from langevin.diffusion.sampler import AncestralUnmask, GibbsSampler
from langevin.diffusion.sampler.unmask import entropy
from langevin.diffusion.sampling import Sampling
from langevin.methods.models import TokenModel
from langevin.modalities.modality import Draw, Predict, Request
from langevin.modalities.text.codec import AnyTokens
from langevin.modalities.text.gaps import FREE, Gapped
from langevin.modalities.text.task import NUMBERS, SEPARATOR

OnBlock = Callable[[Tensor, int], None]  # (token ids so far (b, n), number of finished positions)
Ids = Generator[Request, Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The token ids of a run: the codec's come first, then special tokens, then mask and padding."""

    codec: int
    tokens: int

    @property
    def mask(self) -> int:
        return self.tokens

    @property
    def padding(self) -> int:
        return self.tokens + 1

    @property
    def separator(self) -> int:
        return self.codec + SEPARATOR

    def number(self, n: int) -> int:
        return self.codec + NUMBERS + n


def vocabulary(codec: AnyTokens, model: TokenModel) -> Vocabulary:
    """The token ids of a run, from the sizes of its codec and of its process."""
    return Vocabulary(codec=codec.vocab_size, tokens=model.process.vocab_size)


def padded(parts: Sequence[Tensor], padding: int) -> Tensor:
    """Sequences (n, ...) of different lengths as one (b, longest, ...), padded on the right."""
    return torch.nn.utils.rnn.pad_sequence([part.long() for part in parts], batch_first=True, padding_value=padding)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a request changes in the model's logits.

    Args:
        limit: only token ids below it are generated.
        listed: (limit,) bool: tokens besides those of the sample that are generated; None is all.
        rule: what the whole text has to obey; None is nothing.
        mask: token id of the mask, for the rule.
    """

    limit: int
    listed: Tensor | None = None
    rule: Automaton | None = None
    mask: int = 0

    def __call__(self, denoiser: Denoiser) -> Denoiser:
        denoiser = VocabularyMask(denoiser=denoiser, limit=self.limit)
        denoiser = denoiser if self.listed is None else CopyMask(denoiser=denoiser, listed=self.listed)
        return denoiser if self.rule is None else Ruled(denoiser=denoiser, automaton=self.rule, mask=self.mask)


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Generates tokens at masked positions with one model and one `Sampling`.

    Args:
        best_of: samples drawn for each text, of which the likeliest under the model itself is kept.
        reverse_weight: weight w of the source in that choice: kept is the largest ln p(target | source) +
            w ln p(source | target), in which replies that fit every source lose ("A Diversity-Promoting Objective Function
            for Neural Conversation Models", 2015, arXiv 1510.03055).
        block: positions generated at a time, from left to right; None: all at once. Block attention has its own size.
        rule: what every text has to obey; None is nothing.
        listed: (tokens,) bool: what is written besides tokens of the source; None is all.
    """

    codec: AnyTokens
    model: TokenModel
    sampling: Sampling
    best_of: int = 1
    reverse_weight: float = 0.0
    block: int | None = None
    rule: Automaton | None = None
    listed: Tensor | None = None

    @property
    def words(self) -> Vocabulary:
        return vocabulary(self.codec, self.model)

    def write(
        self, x: Tensor, seeds: Tensor, *, on_block: OnBlock | None = None
    ) -> Ids:  # fmt: skip
        """x (b, n) with tokens at its masked positions.

        Args:
            seeds: (b,) int64: a text depends on its seed, its own positions and the options only.
            on_block: called after each block.
        """
        if self.best_of > 1:
            return (yield from self._best(x, seeds, on_block))
        network, words = self.model.network, self.words
        cached = self.model.attention == "block"
        size = network.config.block_size if cached else self.block or x.shape[1]
        known = x < words.mask
        for first in range(0, x.shape[1], size):
            last = min(first + size, x.shape[1])
            span = slice(first, last) if cached else slice(0, last)
            if bool((x[:, span] == words.mask).any()):
                names = mix(seeds, first) if first else seeds
                prompt = (known & (x < words.number(0)))[:, span]
                part = yield from self._positions(x[:, span], names, prompt, x[:, : span.start] if cached else None)
                x = torch.cat([x[:, : span.start], part, x[:, last:]], 1)
            if on_block:
                on_block(x, last)
        return x

    def _positions(
        self,
        x: Tensor,
        seeds: Tensor,
        prompt: Tensor,
        before: Tensor | None,
    ) -> Ids:
        """One block, or all positions at once."""
        sampling, words = self.sampling, self.words
        condition = Condition(prompt=prompt) if sampling.guidance and bool(prompt.any()) else None
        draw = Draw(
            shape=tuple(x.shape[1:]), seeds=seeds, sampling=sampling, condition=condition, prefix=before,
            wrap=Rules(limit=words.codec, listed=self.listed, rule=self.rule, mask=words.mask),
        )  # fmt: skip
        masked = x == words.mask
        if self.model.process.kind != "masked":
            return (yield replace(draw, clean=torch.where(masked, 0, x), known=~masked))
        if isinstance(sampling.sampler, GibbsSampler):  # resamples a complete text
            first = replace(sampling, sampler=AncestralUnmask(tokens=sampling.sampler.tokens))
            complete = yield replace(draw, x=x, sampling=first)
            return (yield replace(draw, x=complete, known=~masked))
        return (yield replace(draw, x=x))

    def _best(self, x: Tensor, seeds: Tensor, on_block: OnBlock | None) -> Ids:
        """The best of `best_of` samples of each text by `costs`, the first of which has the text's own seed."""
        if self.model.process.kind != "masked" or self.model.attention == "block":
            raise ValueError(
                f"--best-of {self.best_of} ranks samples by their likelihood under the run: it needs process.kind masked "
                "or autoregressive, and no network.attention=block"
            )
        count, chosen, single = self.best_of, list[Tensor](), replace(self, best_of=1)
        for indices in torch.arange(len(x)).split(max(1, len(x) // count)):
            repeated, names = x[indices].repeat_interleave(count, 0), seeds[indices].repeat_interleave(count)
            number = torch.arange(count).repeat(len(indices))
            names = torch.where(number > 0, mix(names, number), names)
            texts = yield from single.write(repeated, names)
            nats = yield from self.costs(texts, repeated)
            best_index = nats.view(-1, count).argmin(1) + torch.arange(len(indices)) * count
            chosen.append(texts[best_index])
        best = torch.cat(chosen)
        if on_block:
            on_block(best, best.shape[1])
        return best

    def costs(self, x: Tensor, given: Tensor) -> Ids:
        """(b,) -ln p(target | source) - w ln p(source | target), nats, w the `reverse_weight`, of texts x (b, n) that were
        drawn at the masked positions of `given`. All samples of a text are scored on the same masks."""
        words = self.words
        nats = yield from self.nats(x, given == words.mask)
        if not self.reverse_weight:
            return nats
        joint = (given != words.separator) & (given != words.padding)  # what is masked in training to learn both
        reverse = yield from self.nats(x, given < words.codec, joint)
        return nats + self.reverse_weight * reverse

    def nats(self, x: Tensor, free: Tensor, among: Tensor | None = None) -> Ids:
        """(b,) -ln p, nats, of the free positions (b, n) of texts x given the others: the chain rule, left to right.

        Args:
            among: (b, n) the positions whose masked fraction is the time; default the free ones."""
        samples = torch.arange(len(x))
        total = torch.zeros(len(x), dtype=torch.float64)
        if self.model.autoregressive:
            logits = yield Predict(x_t=x, t=torch.ones(len(x), dtype=torch.float64), where=free)
            return total.index_add(0, samples[:, None].expand_as(x)[free], surprisal(logits, x[free]))
        rank, count = free.cumsum(1) - 1, (free if among is None else among).sum(1).clamp_min(1)
        for k in range(int(free.sum(1).max())):
            masked, now = free & (rank >= k), free & (rank == k)
            t = masked.sum(1).double() / count
            logits = yield Predict(x_t=torch.where(masked, self.words.mask, x), t=t, where=now)
            total = total.index_add(0, samples[:, None].expand_as(x)[now], surprisal(logits, x[now]))
        return total

    def number(self, heads: Sequence[Tensor], count: int | None = None) -> Ids:
        """(b, count) float64 logits of the number that follows each of `heads`, 0 to count - 1; None: of all numbers."""
        words = self.words
        x = padded([torch.cat([head, torch.tensor([words.mask])]) for head in heads], words.padding)
        at = torch.tensor([len(head) for head in heads])
        t = 1 / torch.tensor([float(len(head)) for head in heads], dtype=torch.float64)
        logits = yield Predict(x_t=x, t=t, where=torch.arange(x.shape[1]) == at[:, None])
        return logits[:, words.number(0) : words.number(count or (words.tokens - words.number(0)))]

    def lengths(self, gapped: Gapped, room: int) -> Generator[Request, Tensor, tuple[int, ...]]:
        """The length of each gap, at most `room` tokens together: as given, or for a free gap that of `FREE` with the
        least mean entropy of the predictions at masked positions."""
        lengths = [n or 1 for n in gapped.gaps]
        for i, gap in enumerate(gapped.gaps):
            if gap is not None:
                continue
            most = room - sum(lengths) + 1
            scores: dict[int, float] = {}
            for n in (n for n in FREE if n <= most):
                x = gapped.tokens(self.codec, self.words.mask, (*lengths[:i], n, *lengths[i + 1 :]))[None]
                masked = x == self.words.mask
                logits = yield Predict(x_t=x, t=masked.double().mean(1), where=masked)
                scores[n] = float(entropy(logits.log_softmax(-1)).mean())
            lengths[i] = min(scores, key=lambda n: scores[n])
        return tuple(lengths)


def surprisal(logits: Tensor, tokens: Tensor) -> Tensor:
    """(m,) -ln p, nats, of tokens (m,) under logits (m, vocabulary)."""
    return torch.nn.functional.cross_entropy(logits, tokens, reduction="none").double()
