"""A diffusion transformer for any number of space dimensions ("Scalable Diffusion Models with Transformers", 2022, arXiv
2212.09748).

Space is cut into patches, one token each. Blocks of attention and MLP are modulated by the time and condition vector
(adaLN-zero: every block starts as the identity). Tokens of the ports `cross` and `prepend` come before the patches in one
self-attention. `concat` and `aligned` are concatenated to the data's channels, `aligned` along the first axis of space.
Positions enter twice: as added sinusoidal embeddings, and as axial rotary embeddings of queries and keys. So the network
runs at sizes that it was not trained on.

Time may differ by position: c_time is (b,), or (b, 1, ...) with the first dimensions of space, such as (b, 1, frames) for
video. Patches are then modulated by the mean level of their positions, and tokens before them by that of the whole.

Data outside a data mask is read as 0, patches without data are not attended to, and the output outside the mask is 0.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from langevin.diffusion.condition import Condition
from langevin.diffusion.reuse import Deep
from langevin.networks.attention import rotary_angles, sine_positions
from langevin.networks.deep import picked, through_blocks
from langevin.networks.dit_block import Block, grouped, levels_of_patches, modulated
from langevin.networks.embedding import (
    ALL_PORTS,
    SPAN,
    ConditioningConfig,
    TimeEmbedding,
    require_bounded,
    require_input,
)
from langevin.networks.encoder import ConditionEncoder
from langevin.networks.patches import patch_sides, patchify, unpatchify
from langevin.networks.sizes import DataSizes, Reads, conditioned, require_space


class DiT(nn.Module):
    """(b, channels, *space) -> the same shape; every side is a multiple of the patch."""

    side_inputs = SPAN
    head = ("final_modulation", "proj_out")
    non_hidden = (
        "patch_embedding", "proj_out", "final_modulation", "modulation", "time_embedding", "encoder", "token_proj"
    )  # fmt: skip

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Args:
        width: channels of a token, a multiple of head_dim.
        depth: number of blocks.
        head_dim: channels of an attention head, an even number.
        patch: side of a patch, along every dimension or for each of them.
        mlp_ratio: hidden channels of a block's MLP over `width`.
        dropout: probability, in [0, 1).
        dimensions: of space: 1, 2, 3 or more.
        attention: full, among all patches; or factorised, whose blocks attend in turn within a frame, the other dimensions
            of space, and along the first, time ("Latte: Latent Diffusion Transformer for Video Generation", 2024, arXiv
            2401.03048).
        kernel: side, in patches, of the depthwise convolutions in the blocks, an odd number, in up to 3 dimensions; 0 for
            none.
        channels: of the data; None is taken from the data.
        caption_prior: hidden width of an MLP from the condition vector to a bias for every patch, added before the first
            block; 0 for none. It memorises what each caption looks like at the cost of two matrices per sample, and fixes
            the data's size.
        num_patches: number of patches of that size; None is taken from the data.
        """

        kind: Literal["dit"] = "dit"
        reads: ClassVar[Reads] = "grids"
        levels_per_frame: ClassVar[bool] = True
        width: int = 256
        depth: int = 8
        head_dim: int = 64
        patch: int | tuple[int, ...] = 4
        mlp_ratio: float = 4.0
        dropout: float = 0.0
        dimensions: int = 2
        attention: Literal["full", "factorised"] = "full"
        kernel: int = 0
        channels: int | None = None
        caption_prior: int = 0
        num_patches: int | None = None
        conditioning: ConditioningConfig = ConditioningConfig()

        def __post_init__(self) -> None:
            require_bounded(self)
            sizes = (self.width, self.depth, self.head_dim, *patch_sides(self.patch, self.dimensions), self.dimensions)
            if min(sizes) < 1 or not 1 <= self.width * self.mlp_ratio < math.inf:
                raise ValueError(f"a transformer's sizes are positive: {self}")
            if self.caption_prior < 0 or (self.num_patches is not None and self.num_patches < 1):
                raise ValueError(
                    f"network.caption_prior is at least 0 and network.num_patches at least 1, got {self.caption_prior} and "
                    f"{self.num_patches}"
                )
            if self.head_dim % 2:
                raise ValueError(f"network.head_dim {self.head_dim} must be even: rotary embeddings turn channel pairs")
            if self.width % self.head_dim:
                raise ValueError(f"network.width {self.width} must be a multiple of network.head_dim {self.head_dim}")
            if self.kernel and (self.kernel % 2 == 0 or not 1 < self.kernel <= 63 or self.dimensions > 3):
                raise ValueError(
                    f"network.kernel is 0, or an odd number from 3 to 63 in up to 3 dimensions, got {self.kernel} in "
                    f"{self.dimensions}"
                )
            if not 0 <= self.dropout < 1:
                raise ValueError(f"network.dropout is a probability below 1, got {self.dropout}")
            if self.attention == "factorised" and self.dimensions < 2:
                raise ValueError(
                    "network.attention=factorised is for frames with space of their own: network.dimensions >= 2"
                )
            self.conditioning.require("a DiT", self.supported_ports, span=True)

        @property
        def patch_sides(self) -> tuple[int, ...]:
            """The side of a patch along each dimension."""
            return patch_sides(self.patch, self.dimensions)

        @property
        def supported_ports(self) -> tuple[str, ...]:
            """The ports that this network can be built with: all."""
            return ALL_PORTS

        def fitted(self, sizes: DataSizes) -> "DiT.Config":
            """For data of these sizes. Raises `ValueError` where patches do not cut it."""
            require_space(self.dimensions, sizes, self.patch_sides, f"patches of {self.patch}")
            patches = self.num_patches
            if self.caption_prior and sizes.spaces:
                raise ValueError(
                    "network.caption_prior fixes the size of the data, and this data has several (data.buckets): set it "
                    "to 0, or leave data.buckets out"
                )
            if self.caption_prior:
                patches = math.prod(size // side for size, side in zip(sizes.space, self.patch_sides, strict=True))
            conditioning = conditioned(self.conditioning, sizes)
            return replace(self, channels=sizes.channels, conditioning=conditioning, num_patches=patches)

        def build(self) -> "DiT":
            return DiT(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        if not config.channels:
            raise ValueError("a DiT needs network.channels before it is built: the number of channels of the data")
        self.config = config
        conditioning, width, volume = config.conditioning, config.width, math.prod(config.patch_sides)
        prior = config.caption_prior > 0
        name, facts = ("a DiT with network.caption_prior", ()) if prior else ("a DiT", ("data_mask",))
        self.time_embedding = TimeEmbedding(width)
        self.encoder = ConditionEncoder(conditioning, width, network=name, facts=facts)
        has_tokens = conditioning.cross_attends or conditioning.prepend_width
        self.token_proj = nn.Linear(width, width) if has_tokens else None
        more = [*(["caption_prior"] if prior else []), *(["local"] if config.kernel else [])]
        self.non_hidden = (*DiT.non_hidden, *more)
        self.caption_prior = _caption_prior(width, config.caption_prior, config.num_patches) if prior else None
        self.patch_embedding = nn.Linear((config.channels + conditioning.channels) * volume, width)
        self.blocks = nn.ModuleList(
            Block(
                width,
                width // config.head_dim,
                config.mlp_ratio,
                config.dropout,
                config.kernel,
                config.dimensions,
                axis=("space", "time")[i % 2] if config.attention == "factorised" else None,
            )
            for i in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.final_modulation = nn.Linear(width, 2 * width)
        self.proj_out = nn.Linear(width, config.channels * volume)
        for layer in (self.final_modulation, self.proj_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, c_time: Tensor, condition: Condition | None = None) -> Tensor:
        return self._output(x, c_time, condition, None)

    def num_layers(self) -> int:
        """See `HasDeepLayers`."""
        return (self.config.depth - 1) // 2

    def reusing(self, x: Tensor, c_time: Tensor, condition: Condition | None, deep: Deep) -> Tensor:
        """The output, with what the blocks between the first and the last ones add from `deep`."""
        return self._output(x, c_time, condition, deep)

    def _output(self, x: Tensor, c_time: Tensor, condition: Condition | None, deep: Deep | None) -> Tensor:
        config = self.config
        require_input(x, c_time, channels=config.channels or 0, dimensions=config.dimensions, levels=True)
        conditioning = self.encoder(condition, x, tuple(x.shape[2:]))
        sides = config.patch_sides
        data_mask = None if conditioning.data_mask is None else conditioning.data_mask[:, None]  # (b, 1, *space)
        x = x if data_mask is None else torch.where(data_mask, x, 0)
        x = x if conditioning.channels is None else torch.cat([x, conditioning.channels.to(x.dtype)], 1)
        x = patchify(x, sides)  # (b, c patch^d, *grid)
        grid, patches = tuple(x.shape[2:]), x.flatten(2).transpose(1, 2)  # (b, n, c patch^d)
        h = self.patch_embedding(patches) + sine_positions(grid, config.width, device=x.device).to(patches.dtype)
        if self.caption_prior is not None:
            h = h + self._prior(conditioning.vector, h)
        mask = None if data_mask is None else patchify(data_mask, sides).any(1).flatten(1)  # (b, n)
        vectors = self.time_embedding(_levels(c_time, grid, sides, mask))  # (b, 1 or 1 + groups, width)
        if isinstance(conditioning.vector, Tensor):
            vectors = vectors + conditioning.vector[:, None]
        vectors = nn.functional.silu(vectors)
        prefix = 0  # tokens before the patches
        if conditioning.tokens is not None and conditioning.token_mask is not None and self.token_proj is not None:
            prefix = conditioning.tokens.shape[1]
            h = torch.cat([self.token_proj(conditioning.tokens).to(h.dtype), h], 1)
            mask = mask if mask is not None else conditioning.token_mask.new_ones(x.shape[0], patches.shape[1])
            mask = torch.cat([conditioning.token_mask, mask], 1)
        elif mask is not None:
            mask = mask | ~mask.any(1, keepdim=True)  # a softmax needs a key: a sample without data sees its padding
        angles = rotary_angles(grid, config.head_dim, skip=prefix, device=x.device)
        rotary = (angles.cos(), angles.sin())

        def through(block: nn.Module, h: Tensor, index: Tensor | None) -> Tensor:
            return block(h, picked(vectors, index), rotary, None if mask is None else picked(mask, index), grid)

        h = through_blocks(self.blocks, h, through, deep)
        shift, scale = self.final_modulation(vectors).chunk(2, -1)
        h = grouped(prefix, modulated, (self.norm(h),), (shift, scale))[:, prefix:]
        y = unpatchify(self.proj_out(h).transpose(1, 2).unflatten(2, grid), sides)  # (b, c, *space)
        return y if data_mask is None else torch.where(data_mask, y, 0)

    def _prior(self, vector: Tensor | float, h: Tensor) -> Tensor:
        """The bias of the patches of h (b, n, width), the same shape."""
        assert self.caption_prior is not None
        b, n, width = h.shape
        if n != self.config.num_patches:
            raise ValueError(
                f"this network was built for {self.config.num_patches} patches, and the data has {n}: with "
                "network.caption_prior all data has one size"
            )
        vector = vector if isinstance(vector, Tensor) else h.new_zeros(b, width)
        return self.caption_prior(vector).to(h.dtype).unflatten(1, (n, width))


def _levels(c_time: Tensor, grid: tuple[int, ...], sides: tuple[int, ...], mask: Tensor | None) -> Tensor:
    """The level of each sample, (b, 1), from c_time (b,). From c_time (b, 1, ...) per position, (b, 1 + groups): the mean,
    then the level of each group of patches; `mask` (b, patches) is False at padding."""
    groups = levels_of_patches(c_time, grid, sides)
    if c_time.ndim == 1:
        return groups
    shown = torch.ones_like(groups) if mask is None else mask.unflatten(1, (groups.shape[1], -1)).any(2).to(groups)
    mean = (groups * shown).sum(1) / shown.sum(1).clamp_min(1)
    return torch.cat([mean[:, None], groups], 1)


def _caption_prior(width: int, features: int, num_patches: int | None) -> nn.Sequential:
    """(b, width) -> (b, num_patches * width)."""
    if not num_patches:
        raise ValueError("network.caption_prior needs network.num_patches before it is built: the number of patches")
    last = nn.Linear(features, num_patches * width)
    nn.init.normal_(last.weight, std=0.5 / features**0.5)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.SiLU(), nn.Linear(width, features), nn.SiLU(), last)
