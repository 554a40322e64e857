"""A transformer over tokens: (b, n) token indices -> logits (b, n, V), with full, causal or block-wise attention.

Indices: tokens 0 .. V - 1, the mask token V, padding V + 1. Padding and positions outside a data mask are never attended
to, and the layers do not compute on them.

    full     every position attends to every position
    causal   position i attends to those before it, and its logits are of token i: the input is shifted by one, as in an
             autoregressive model
    block    positions are cut into blocks of `block_size`. A block attends to itself in both directions, and to the *clean*
             blocks before it ("Block Diffusion: Interpolating Between Autoregressive and Diffusion Language Models", 2025,
             arXiv 2503.09573). The clean blocks are one of two fields of the condition: `clean`, the clean text of the same
             positions (training: noisy and clean tokens in one pass); or `cache`, their keys and values from the method
             `cache` (sampling). Condition dropout leaves both in place: the unconditional input has a past, too

With `streams` tokens per step, such as the voices of a score, x is (b, n streams) and position p is stream p mod streams of
step p // streams. The embeddings of a step's tokens, a table per stream, are summed to one vector; attention is over the n
steps, and a linear head per stream gives the logits, so the cost is that of n positions. A step is padding if all of its
tokens are.

Tokens of the ports `cross` and `prepend` are a prefix that every position attends to. `aligned` is added position by
position. The posterior of masked diffusion does not depend on time, so by default the network is not conditioned on it
("Masked Diffusion Models are Secretly Time-Agnostic Masked Models and Exploit Inaccurate Categorical Sampling", 2024, arXiv
2409.02908). With `time_conditioning`, or a condition that is a vector, blocks are modulated as in `dit`, without gates.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langevin.diffusion.condition import NOTHING, Condition, KVCache
from langevin.networks.attention import scatter_tokens, text_rotary
from langevin.networks.embedding import ConditioningConfig, TimeEmbedding, require_bounded
from langevin.networks.encoder import ConditionEncoder, Conditioning
from langevin.networks.fused import rms_norm
from langevin.networks.masks import block_causal_mask, block_diffusion_mask, causal_mask, full_mask, with_prefix
from langevin.networks.ngram import NgramEmbedding
from langevin.networks.ngram_prior import MOST, NgramPrior
from langevin.networks.sizes import DataSizes, Reads, conditioned
from langevin.networks.transformer_block import Block, KeysValues


class Transformer(nn.Module):
    """(b, n) int64 tokens -> (b, n, V) logits, see the module."""

    head = ("output_bias", "heads", "quality")
    side_inputs = ("quality",)
    non_hidden = (
        "token_embedding", "ngram", "ngram_prior", "modulation", "time_embedding", "encoder", "output_bias", "heads",
        "quality",
    )  # fmt: skip

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Args:
        width: channels of a token, a multiple of head_dim.
        depth: number of blocks.
        head_dim: channels of an attention head, an even number.
        mlp_ratio: hidden channels of a block's MLP over `width`.
        dropout: probability, in [0, 1).
        attention: which positions a position attends to, see the module.
        block_size: positions of a block, with attention by blocks.
        time_conditioning: condition the network on time.
        streams: tokens per step, with full attention; fitted to the data, and 1 for a sequence.
        ngram_window: distance up to which tokens are added by n-gram embeddings (see `ngram`), 0 to 64; 0 for
            none; of several tokens per step, each stream by itself. With causal attention only
            tokens before the position, with attention by blocks only tokens of its block.
        ngram_order: tokens of the n-grams of the training text whose counts give the logits a start (see `ngram_prior`), 2
            to 4; 0 for none. For masked and autoregressive processes, with full or causal attention and one stream; None
            is 3 for these and 0 for others.
        quality_head: a second output, the quality of visible tokens (see `methods.quality`), for masked processes with
            full attention and one stream; set where process.quality is above 0.
        vocab_size: V, without mask and padding; None is taken from the data.
        """

        kind: Literal["transformer"] = "transformer"
        reads: ClassVar[Reads] = "tokens"
        width: int = 256
        depth: int = 4
        head_dim: int = 64
        mlp_ratio: float = 4.0
        dropout: float = 0.0
        attention: Literal["full", "block", "causal"] = "full"
        block_size: int = 16
        time_conditioning: bool = False
        streams: int = 1
        ngram_window: int = 0
        ngram_order: int | None = 0
        quality_head: bool = False
        vocab_size: int | None = None
        conditioning: ConditioningConfig = ConditioningConfig()

        def __post_init__(self) -> None:
            require_bounded(self)
            sizes = (self.width, self.depth, self.head_dim, self.block_size)
            if min(sizes) < 1 or not 1 <= self.width * self.mlp_ratio < math.inf:
                raise ValueError(f"a transformer's sizes are positive: {self}")
            if self.head_dim % 2 or self.width % self.head_dim:
                raise ValueError(
                    f"network.width {self.width} must be a multiple of network.head_dim {self.head_dim}, which is even"
                )
            if not 0 <= self.dropout < 1:
                raise ValueError(f"network.dropout is a probability below 1, got {self.dropout}")
            if self.streams < 1 or (self.streams > 1 and self.attention != "full"):
                raise ValueError(
                    f"network.streams is 1, or more with network.attention=full; got {self.streams} and {self.attention}"
                )
            if not 0 <= self.ngram_window <= 64:
                raise ValueError(f"network.ngram_window is a distance in tokens, 0 to 64, got {self.ngram_window}")
            if self.ngram_order and not 2 <= self.ngram_order <= MOST:
                raise ValueError(
                    f"network.ngram_order is a number of tokens, 2 to {MOST}, or 0, got {self.ngram_order}"
                )
            if self.ngram_order and (self.attention == "block" or self.streams > 1):
                raise ValueError(
                    f"network.ngram_order counts along one text: it needs network.attention=full or causal and one stream, "
                    f"got {self.attention} and {self.streams}"
                )
            if self.quality_head and (self.attention != "full" or self.streams > 1):
                raise ValueError(
                    f"process.quality needs network.attention=full and one stream, got {self.attention} and {self.streams}"
                )
            self.conditioning.require(self.name, self.supported_ports, cross_attends=self.attention != "block")

        @property
        def name(self) -> str:
            """The network's name, for errors."""
            return f"a transformer with network.attention={self.attention}"

        @property
        def supported_ports(self) -> tuple[str, ...]:
            """The ports that this network can be built with: with blocks only those that reduce to a vector."""
            vectors = ("global_", "global_vector", "cross", "cross_vectors")
            return vectors if self.attention == "block" else (*vectors, "prepend", "aligned")

        @property
        def facts(self) -> tuple[str, ...]:
            """The fields of a condition besides the ports that this network reads."""
            if self.attention == "block":
                return ("data_mask", "clean", "cache")
            return ("data_mask",)

        def fitted(self, sizes: DataSizes) -> "Transformer.Config":
            """For data of these sizes."""
            return replace(
                self, vocab_size=sizes.tokens or 0, streams=sizes.streams,
                conditioning=conditioned(self.conditioning, sizes),
            )  # fmt: skip

        def build(self) -> "Transformer":
            return Transformer(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        if not config.vocab_size:
            raise ValueError("a transformer needs network.vocab_size before it is built: the size of the vocabulary")
        self.config, width, num_indices = config, config.width, config.vocab_size + 2
        conditioning = config.conditioning
        self.token_embedding = nn.Embedding(num_indices * config.streams, width)
        nn.init.normal_(self.token_embedding.weight, std=width**-0.5)
        window = config.ngram_window
        before, around = tuple(range(-window, 0)), tuple(k for k in range(-window, window + 1) if k)
        offsets = before if config.attention == "causal" else around
        self.ngram = self._ngram(offsets) if window else None
        order, causal = config.ngram_order or 0, config.attention == "causal"
        prior = NgramPrior(vocab_size=config.vocab_size, order=order, causal=causal) if order else None
        self.ngram_prior = prior
        self.time_embedding = TimeEmbedding(width) if config.time_conditioning else None
        self.encoder = ConditionEncoder(conditioning, width, network=config.name, facts=config.facts)
        self.aligned_proj = nn.Linear(conditioning.aligned_width, width) if conditioning.aligned_width else None
        self.modulated = config.time_conditioning or conditioning.modulates
        hidden, heads = int(width * config.mlp_ratio), width // config.head_dim
        self.blocks = nn.ModuleList(
            Block(width, heads, hidden, config.dropout, modulated=self.modulated) for _ in range(config.depth)
        )
        tied = config.streams == 1
        self.output_bias = nn.Parameter(torch.zeros(config.vocab_size)) if tied else None
        self.heads = None if tied else nn.Linear(width, config.vocab_size * config.streams)
        self.quality = nn.Linear(width, 1) if config.quality_head else None

    def _ngram(self, offsets: tuple[int, ...]) -> NgramEmbedding:
        return NgramEmbedding(
            vocab_size=(self.padding + 1) * self.config.streams,
            width=self.config.width,
            offsets=offsets,
            padding=self.padding,
        )

    @property
    def padding(self) -> int:
        """The index of padding, V + 1."""
        return (self.config.vocab_size or 0) + 1

    def forward(
        self, x: Tensor, c_time: Tensor, condition: Condition | None = None, at: Tensor | None = None
    ) -> Tensor:
        """(b, n) int64 -> logits (b, n, V), or (m, V) of the m positions where `at` (b, n) bool holds (never padding).

        Raises:
            ValueError: indices outside the vocabulary, a condition that does not fit, or more than one block without the
                clean blocks before."""
        condition = condition or Condition()
        x, conditioning, vector = self._inputs(x, c_time, condition)
        match self.config.attention:
            case "causal":
                h = self._causal(x, vector, conditioning, at, masked=condition.data_mask is not None)
            case "full":
                h = self._full(x, vector, conditioning, at)
            case "block" if condition.clean is not None:
                h = self._noisy_and_clean(x, vector, condition, at)
            case "block":
                h = self._one_block(x, vector, condition.cache, at)
            case _:
                assert_never(self.config.attention)
        return self._with_prior(h, x, at)

    def with_quality(
        self, x: Tensor, c_time: Tensor, condition: Condition | None = None, at: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The logits, and for each position (b, n) the log-odds that its token, if it is visible, is that of clean x.

        Raises:
            ValueError: the network has no quality head, or as for a call."""
        if self.quality is None:
            raise ValueError("the network has no quality head: train one with process.quality=1")
        x, conditioning, vector = self._inputs(x, c_time, condition or Condition())
        h = self._full(x, vector, conditioning, None)
        return self._with_prior(h if at is None else h[at], x, at), self.quality(h)[..., 0]

    def _inputs(self, x: Tensor, c_time: Tensor, condition: Condition) -> tuple[Tensor, Conditioning, Tensor | None]:
        """Checked tokens with padding outside the data mask, what the condition says, and the modulation of blocks."""
        data_mask = condition.over(x)
        x = x if data_mask is None else torch.where(data_mask, x, self.padding)
        self._require_tokens(x)
        valid = self._valid(x)
        conditioning = self.encoder(condition, x, tuple(valid.shape[1:]), valid)
        return x, conditioning, self._vector(c_time, conditioning)

    def _with_prior(self, h: Tensor, x: Tensor, at: Tensor | None) -> Tensor:
        """The logits of all positions, or of those in `at`, from the outputs of `_run` and the counts of n-grams."""
        logits = self._logits(h, at)
        return logits if self.ngram_prior is None else logits + self.ngram_prior(x, at)

    def _logits(self, h: Tensor, at: Tensor | None) -> Tensor:
        """The logits of all positions, or of those in `at`, from the outputs of `_run`."""
        if self.heads is None:
            assert self.output_bias is not None
            # tied to the token embedding, without mask and padding
            return F.linear(h, self.token_embedding.weight[: len(self.output_bias)], self.output_bias)
        logits = self.heads(h).unflatten(-1, (self.config.streams, -1))  # (..., streams, V)
        if at is None:
            return logits.flatten(1, 2)
        steps = at.unflatten(1, (-1, self.config.streams))
        return logits[steps[steps.any(-1)]]

    def _valid(self, x: Tensor) -> Tensor:
        """(b, steps) bool: steps that hold a token, which are the positions of x (b, n) where there is one stream."""
        valid = x != self.padding
        return valid if self.config.streams == 1 else valid.unflatten(1, (-1, self.config.streams)).any(-1)

    def _causal(
        self, x: Tensor, vector: Tensor | None, conditioning: Conditioning, at: Tensor | None, *, masked: bool
    ) -> Tensor:
        """The mask token stands in for the token before the first."""
        shifted = torch.cat([torch.full_like(x[:, :1], self.padding - 1), x[:, :-1]], 1)
        mask = causal_mask(x.shape[1], x.device)
        mask = self._without_padding(mask, shifted) if masked else mask
        mask = mask if conditioning.token_mask is None else with_prefix(mask, conditioning.token_mask)
        return self._run(shifted, vector, mask, at=at, conditioning=conditioning)[0]

    def _full(self, x: Tensor, vector: Tensor | None, conditioning: Conditioning, at: Tensor | None) -> Tensor:
        keys = self._valid(x)
        keys = keys if conditioning.token_mask is None else torch.cat([conditioning.token_mask, keys], 1)
        # a softmax needs a key: a sample of padding alone attends to it
        whole = not torch.compiler.is_exporting() and bool(keys.all())  # an exported graph has no branches
        mask = None if whole else keys | ~keys.any(1, keepdim=True)
        return self._run(x, vector, mask, at=at, conditioning=conditioning)[0]

    def _noisy_and_clean(self, x: Tensor, vector: Tensor | None, condition: Condition, at: Tensor | None) -> Tensor:
        """All blocks at once: a pass over noisy tokens (b, n), then their clean copies; the noisy half of its output."""
        assert condition.clean is not None
        if condition.cache is not None:
            raise ValueError("a network of blocks reads condition.clean or condition.cache, and both are given")
        clean, n = self._fill_padding(condition.clean), x.shape[1]
        if clean.shape != x.shape:
            raise ValueError(f"{tuple(x.shape)} noisy positions need as many clean ones, got {tuple(clean.shape)}")
        both, positions = torch.cat([x, clean], 1), torch.arange(n, device=x.device).repeat(2)
        mask = self._without_padding(block_diffusion_mask(n, self.config.block_size, x.device), both)
        both_at = None if at is None else torch.cat([at, torch.zeros_like(at)], 1)
        h, _ = self._run(both, vector, mask, positions=positions, at=both_at)
        return h[:, :n] if at is None else h

    def _one_block(self, x: Tensor, vector: Tensor | None, cache: KVCache | None, at: Tensor | None) -> Tensor:
        """One noisy block, given the keys and values of the clean blocks before it."""
        n = x.shape[1]
        if n > self.config.block_size:
            raise ValueError(
                f"{n} positions are more than one block of {self.config.block_size}: give the clean text of all of them as "
                "condition.clean, or one block at a time, with the text before it as condition.cache"
            )
        mask = self._without_padding(full_mask(n, x.device), x)
        if cache is None:
            return self._run(x, vector, mask, at=at)[0]
        past = self._past(cache, len(x))
        mask = torch.cat([cache.mask[:, None].expand(-1, n, -1), mask.expand(len(x), -1, -1)], 2)
        positions = cache.mask.sum(1)[:, None] + torch.arange(n, device=x.device)
        return self._run(x, vector, mask, past, positions, at=at)[0]

    def cache(self, tokens: Tensor, before: KVCache | None = None) -> KVCache:
        """The cache of clean tokens (b, n), appended to that of the tokens before, for `condition.cache`.

        n is a multiple of the block size. A network that is modulated by time or a condition caches nothing.

        Raises:
            ValueError: a network without blocks, or one that is modulated; tokens that end inside a block."""
        if self.config.attention != "block" or self.modulated:
            raise ValueError(
                "a cache is of a network with network.attention=block that is conditioned on neither time nor a vector"
            )
        self._require_tokens(tokens)
        block_size, (b, n) = self.config.block_size, tokens.shape
        if n % block_size:
            raise ValueError(
                f"blocks of {block_size} do not cut {n} tokens: cache whole blocks, and leave the rest to the noisy block"
            )
        mask = self._without_padding(block_causal_mask(n, block_size, tokens.device), tokens)
        past, start = None, torch.zeros(b, dtype=torch.int64, device=tokens.device)
        if before is not None:
            past, start = self._past(before, b), before.mask.sum(1)
            mask = torch.cat([before.mask[:, None].expand(-1, n, -1), mask.expand(b, -1, -1)], 2)
        positions = start[:, None] + torch.arange(n, device=tokens.device)
        _, layers = self._run(tokens, None, mask, past, positions)
        # (b, n, depth, 2, width)
        keys_values = torch.stack([torch.stack([_merge_heads(k), _merge_heads(v)], 2) for k, v in layers], 2)
        valid = tokens != self.padding
        if before is None:
            return KVCache(keys_values=keys_values, mask=valid)
        keys_values = torch.cat([before.keys_values, keys_values.to(before.keys_values.dtype)], 1)
        return KVCache(keys_values=keys_values, mask=torch.cat([before.mask, valid], 1))

    def _past(self, cache: KVCache, b: int) -> list[KeysValues]:
        """Keys and values of each layer. Raises `ValueError` for a cache of another batch or network."""
        config, got = self.config, tuple(cache.keys_values.shape)
        expected = (b, *got[1:2], config.depth, 2, config.width)
        if got != expected or cache.mask.shape != got[:2] or cache.mask.dtype != torch.bool:
            raise ValueError(
                f"condition.cache holds keys and values ({b}, n, {config.depth}, 2, {config.width}) and a bool mask "
                f"({b}, n), got {got} and {cache.mask.dtype} {tuple(cache.mask.shape)}: take it from the network's `cache`"
            )
        layers = cache.keys_values.unflatten(-1, (-1, config.head_dim))
        layers = layers.permute(2, 3, 0, 4, 1, 5)  # (depth, 2, b, heads, n, head_dim)
        return [(layer[0], layer[1]) for layer in layers]

    def _fill_padding(self, tokens: Tensor) -> Tensor:
        """Tokens of a condition, with the padding index where there is none."""
        tokens = torch.where(tokens == NOTHING, self.padding, tokens)
        self._require_tokens(tokens)
        return tokens

    def _embed(self, x: Tensor, positions: Tensor | None) -> Tensor:
        """The sum of token and n-gram embeddings, (b, n, width); of a step's tokens where there are streams."""
        if (streams := self.config.streams) > 1:
            steps, own = x.unflatten(1, (-1, streams)), torch.arange(streams, device=x.device) * (self.padding + 1)
            h = F.embedding_bag((steps + own).flatten(0, 1), self.token_embedding.weight, mode="sum")
            h = h.unflatten(0, steps.shape[:2])
            if self.ngram is not None:
                apart = torch.where(steps == self.padding, self.padding, steps + own)
                h = sum((self.ngram(tokens) for tokens in apart.unbind(2)), h)
            return h
        h = self.token_embedding(x)
        if self.ngram is not None:
            h = h + self.ngram(x, positions, self.config.block_size if self.config.attention == "block" else None)
        return h

    def _run(
        self, x: Tensor, vector: Tensor | None, mask: Tensor | None, past: list[KeysValues] | None = None,
        positions: Tensor | None = None, *, at: Tensor | None = None, conditioning: Conditioning | None = None,
    ) -> tuple[Tensor, list[KeysValues]]:  # fmt: skip
        """The normalised output of all blocks, (b, steps, width), or (m, width) of the steps in `at`; keys and values.

        Args:
            mask: of attention, see `Attention.mix`; keys of the condition's tokens come first.
            past: keys and values of each layer that come before those of x.
            positions: (n,) or (b, n), of x in the text; default 0 .. n - 1.
        """
        h = self._embed(x, positions)
        if conditioning is not None and conditioning.channels is not None and self.aligned_proj is not None:
            aligned = conditioning.channels.transpose(1, 2)  # (b, channels, n) -> (b, n, channels)
            h = h + self.aligned_proj(aligned.to(self.aligned_proj.weight.dtype))
        prefix, valid = 0, self._valid(x)
        n = valid.shape[1]
        if at is not None and self.config.streams > 1:
            at = at.unflatten(1, (-1, self.config.streams)).any(-1)
        if conditioning is not None and conditioning.tokens is not None and conditioning.token_mask is not None:
            prefix = conditioning.tokens.shape[1]
            h = torch.cat([conditioning.tokens.to(h.dtype), h], 1)
            valid = torch.cat([conditioning.token_mask, valid], 1)
            at = None if at is None else F.pad(at, (prefix, 0))
        if torch.compiler.is_compiling() or bool(valid.all()):  # a compiled network needs one shape
            valid = None
        h = rms_norm(h if valid is None else h[valid])  # (b, n, width), or (m, width)
        rotary = text_rotary(n if positions is None else positions, self.config.head_dim, x.device, skip=prefix)
        layers: list[KeysValues] = []
        for i, block in enumerate(self.blocks):
            block_at = at if i + 1 == len(self.blocks) else None  # the last block computes the positions in `at` alone
            h, keys_values = block(h, vector, rotary, mask, None if past is None else past[i], valid, block_at)
            layers.append(keys_values)
        h = rms_norm(h)
        if at is not None:
            return h, layers
        return (h if valid is None else scatter_tokens(h, valid))[:, prefix:], layers

    def _vector(self, c_time: Tensor, conditioning: Conditioning) -> Tensor | None:
        """What modulates the blocks, (b, width); None without time conditioning and without a condition vector."""
        if not self.modulated:
            return None
        time = self.time_embedding(c_time) if self.time_embedding is not None else 0.0
        return F.silu(time + conditioning.vector)  # type: ignore[arg-type]

    def _without_padding(self, mask: Tensor, tokens: Tensor) -> Tensor:
        """`mask` (1, n, n) with the padding of tokens (b, n) removed from the keys; a position always attends to itself."""
        valid = tokens != self.padding
        if not torch.compiler.is_exporting() and bool(valid.all()):
            return mask
        return (mask & valid[:, None]) | torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device)

    def _require_tokens(self, x: Tensor) -> None:
        """Raises `ValueError` for what is not (b, n) of token, mask and padding indices."""
        if x.ndim == 2 and x.shape[1] % self.config.streams:
            raise ValueError(f"{x.shape[1]} positions are not whole steps of {self.config.streams} tokens")
        asked = not torch.compiler.is_exporting()
        if x.ndim != 2 or x.is_floating_point() or (asked and bool(((x < 0) | (x > self.padding)).any())):
            raise ValueError(
                f"this network reads tokens (b, n) in [0, {self.padding}], got {x.dtype} of shape {tuple(x.shape)}"
                + (f" with {int(x.max())}" if x.numel() and not x.is_floating_point() else "")
            )


def _merge_heads(x: Tensor) -> Tensor:
    """(b, heads, n, head_dim) -> (b, n, heads head_dim)."""
    return x.transpose(1, 2).flatten(2)
