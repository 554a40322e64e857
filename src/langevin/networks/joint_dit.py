"""A diffusion transformer over several parts of the data at once, each with a noise level of its own.

Parts of numbers are grids (b, channels, *space). They are cut into patches, or read by a U-Net whose middle are the blocks
("simple diffusion: End-to-end diffusion for high resolution images", 2023, arXiv 2301.11093). Parts of tokens are (b, n)
int64, beyond which there is the mask. Every part has its own layers in and out, and all share the blocks: tokens of all
parts attend to each other. The first dimension of a grid that lasts some seconds is time, so what sounds and what is seen
at one moment have one position. Noise levels c_time are (b,) per part, (b, 1, frames) along time or (b, n) of tokens, and
modulate the tokens of that part only ("One Transformer Fits All Distributions in Multi-Modal Diffusion at Scale", 2023,
arXiv 2303.06555). A bag of the words of each part of tokens modulates all.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from langevin.diffusion.condition import Condition
from langevin.diffusion.reuse import Deep
from langevin.networks.attention import axial_angles, sine_positions
from langevin.networks.deep import picked, through_blocks
from langevin.networks.dit_block import Block, levels_of_patches, modulated
from langevin.networks.embedding import BagOfWords, ConditioningConfig, TimeEmbedding, require_bounded
from langevin.networks.encoder import Conditioning
from langevin.networks.patches import Patch, patch_sides, patchify, unpatchify
from langevin.networks.sizes import DataSizes, Reads
from langevin.networks.unet import Descent, UNet

UNITS = 12.0  # positions per second
AXES = 3  # of positions: time and two of space


@dataclass(frozen=True, kw_only=True)
class PartSizes:
    """The sizes of a part.

    Args:
        channels, space: of a grid; a part of tokens has None and (n,).
        tokens: size of the vocabulary without the mask; None for a grid.
        seconds: how long the first dimension of space lasts; None if it is no time.
        patch: side of a patch, along every dimension or for each; of the positions of a U-Net's middle.
    """

    channels: int | None = None
    space: tuple[int, ...] = ()
    tokens: int | None = None
    seconds: float | None = None
    patch: Patch = 1

    @property
    def grid(self) -> tuple[int, ...]:
        """Patches along each dimension."""
        sides = patch_sides(self.patch, len(self.space))
        return tuple(size // side for size, side in zip(self.space, sides, strict=True))


class JointDiT(nn.Module):
    """Mappings by part -> a mapping: of grids the same shape, of tokens logits (b, n, vocabulary)."""

    head = ("final_modulation", "outputs", "logits")
    non_hidden = (
        *UNet.non_hidden, "inputs", "embeddings", "bags_of_words", "outputs", "logits", "final_modulation"
    )  # fmt: skip

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Args:
        width: channels of a token, a multiple of head_dim.
        depth: number of blocks.
        head_dim: channels of an attention head, an even number of 6 or more.
        mlp_ratio: hidden channels of a block's MLP over `width`.
        dropout: probability, in [0, 1).
        patches: side of a patch of each part that is a grid; 1 for those that are left out.
        unets: the U-Net of each part that is read by one, in place of patches; its dimensions and embedding_width are set.
        parts: the sizes of each part; taken from the data.
        """

        kind: Literal["joint_dit"] = "joint_dit"
        reads: ClassVar[Reads] = "parts"
        width: int = 192
        depth: int = 6
        head_dim: int = 64
        mlp_ratio: float = 4.0
        dropout: float = 0.0
        patches: dict[str, Patch] = field(default_factory=dict)
        unets: dict[str, UNet.Config] = field(default_factory=dict)
        parts: dict[str, PartSizes] = field(default_factory=dict)
        conditioning: ConditioningConfig = ConditioningConfig()

        def __post_init__(self) -> None:
            require_bounded(self)
            if min(self.width, self.depth) < 1 or not 1 <= self.width * self.mlp_ratio < math.inf:
                raise ValueError(f"a joint transformer's sizes are positive: {self}")
            if self.head_dim < 2 * AXES or self.head_dim % 2 or self.width % self.head_dim:
                raise ValueError(
                    f"network.head_dim is an even number of {2 * AXES} or more that divides network.width {self.width}, "
                    f"got {self.head_dim}"
                )
            if not 0 <= self.dropout < 1:
                raise ValueError(f"network.dropout is a probability below 1, got {self.dropout}")
            self.conditioning.require("a joint transformer", (), cross_attends=False)

        def fitted(self, sizes: DataSizes) -> "JointDiT.Config":
            """For data of these sizes. Raises `ValueError` for a patch of no part, or that does not cut it."""
            for option, names in (("patches", self.patches), ("unets", self.unets)):
                grids = [name for name, part in sizes.parts.items() if option == "patches" or part.tokens is None]
                if unknown := [name for name in names if name not in grids]:
                    raise ValueError(
                        f"network.{option} names {unknown[0]}, and the parts of this data that have any are "
                        f"{', '.join(grids)}"
                    )
            if twice := [name for name in self.unets if name in self.patches]:
                raise ValueError(f"the part {twice[0]} is read by network.unets or by network.patches: give one")
            unets = {name: self._unet(name, sizes.parts[name]) for name in self.unets}
            parts = dict[str, PartSizes]()
            for name, part in sizes.parts.items():
                patch = unets[name].factor if name in unets else self.patches.get(name, 1)
                found = PartSizes(
                    channels=part.channels,
                    space=tuple(part.space),
                    tokens=part.tokens,
                    seconds=part.seconds,
                    patch=patch,
                )
                sides = patch_sides(patch, len(found.space))
                if any(size % side for size, side in zip(found.space, sides, strict=True)) or len(found.space) > AXES:
                    raise ValueError(f"network.patches.{name} {patch} does not cut data of space {found.space}")
                parts[name] = found
            return replace(self, parts=parts, unets=unets)

        def _unet(self, name: str, sizes: DataSizes) -> UNet.Config:
            """The U-Net of a part of these sizes. Raises `ValueError` for one that does not fit."""
            unet, dimensions = self.unets[name], len(sizes.space)
            try:
                unet.conditioning.require("a U-Net of a part", ())
                return replace(unet, dimensions=dimensions, embedding_width=self.width).fitted(sizes)  # type: ignore[arg-type]
            except ValueError as error:
                raise ValueError(f"network.unets.{name}: {error}") from error

        def build(self) -> "JointDiT":
            return JointDiT(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        if not config.parts:
            raise ValueError("a joint transformer needs network.parts before it is built: the sizes of each part")
        self.config, width = config, config.width
        self.time_embedding = TimeEmbedding(width)
        self.part_embedding = nn.ParameterDict({name: 0.1 * torch.randn(width) for name in config.parts})
        self.inputs, self.outputs, self.unets = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        self.embeddings, self.logits, self.bags_of_words = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for name, part in config.parts.items():
            if part.tokens is None:
                size = (part.channels or 0) * math.prod(patch_sides(part.patch, len(part.space)))
                if name in config.unets:
                    size = config.unets[name].middle_width
                    self.unets[name] = UNet(config.unets[name], middle=False)
                self.inputs[name], self.outputs[name] = nn.Linear(size, width), nn.Linear(width, size)
            else:
                self.embeddings[name], self.logits[name] = (
                    nn.Embedding(part.tokens + 1, width),
                    nn.Linear(width, part.tokens),
                )
                nn.init.normal_(self.embeddings[name].weight, std=0.5)  # type: ignore[arg-type]
                self.bags_of_words[name] = BagOfWords(part.tokens, part.space[0], width)
        self.blocks = nn.ModuleList(
            Block(width, width // config.head_dim, config.mlp_ratio, config.dropout, 0, 1) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.final_modulation = nn.Linear(width, 2 * width)
        for layer in (*self.outputs.values(), *self.logits.values(), self.final_modulation):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        for name, part in config.parts.items():
            self.register_buffer(f"positions_{name}", _positions(part), persistent=False)

    def forward(
        self, x: Mapping[str, Tensor], c_time: Mapping[str, Tensor], condition: Condition | None = None
    ) -> dict[str, Tensor]:
        return self.reusing(x, c_time, condition, None)

    def num_layers(self) -> int:
        """See `HasDeepLayers`."""
        return (self.config.depth - 1) // 2

    def reusing(
        self, x: Mapping[str, Tensor], c_time: Mapping[str, Tensor], condition: Condition | None, deep: Deep | None
    ) -> dict[str, Tensor]:
        """The output, with what the blocks between the first and the last ones add from `deep`; None computes all."""
        tokens, vectors, index, positions = list[Tensor](), list[Tensor](), list[Tensor](), list[Tensor]()
        ways = dict[str, tuple[Tensor, Descent]]()
        words = self.final_modulation.bias.new_zeros(1, self.config.width)
        words = sum((self._words(name, x[name]) for name in self.bags_of_words), words)
        for name, part in self.config.parts.items():
            wanted = part.space if part.tokens is not None else (part.channels, *part.space)
            if tuple(x[name].shape[1:]) != wanted:
                raise ValueError(f"the part {name} is {wanted} for each sample, got {tuple(x[name].shape[1:])}")
            if name in self.unets:
                ways[name] = self._unet(name).down_to_middle(x[name], c_time[name], Conditioning(vector=words))
            h = self._read(name, part, ways[name][0] if name in ways else x[name])
            levels = c_time[name]
            if part.tokens is None or levels.ndim == 1:  # those of tokens are (b, n)
                levels = levels_of_patches(levels, part.grid, patch_sides(part.patch, len(part.space)))
            known = sum(vector.shape[1] for vector in vectors)
            of_each = torch.arange(levels.shape[1], device=h.device).repeat_interleave(h.shape[1] // levels.shape[1])
            tokens.append(h)
            vectors.append(self.time_embedding(levels) + self.part_embedding[name] + words[:, None])
            index.append(known + of_each)
            positions.append(getattr(self, f"positions_{name}"))
        h, vector, at = torch.cat(tokens, 1), nn.functional.silu(torch.cat(vectors, 1)), torch.cat(index)
        angles = axial_angles(torch.cat(positions), self.config.head_dim)
        rotary = (angles.cos(), angles.sin())

        def through(block: nn.Module, h: Tensor, index: Tensor | None) -> Tensor:
            return block(h, picked(vector, index), rotary, None, index=at)

        h = through_blocks(self.blocks, h, through, deep)
        shift, scale = self.final_modulation(vector)[:, at].chunk(2, -1)
        outs = modulated(self.norm(h), shift, scale).split([part.shape[1] for part in tokens], 1)
        written = dict[str, Tensor]()
        for (name, part), out in zip(self.config.parts.items(), outs, strict=True):
            written[name] = self._written(name, part, out)
            if name in ways:
                h, way = ways[name]
                written[name] = self._unet(name).up_from_middle(h + written[name], way)
        return written

    def _unet(self, name: str) -> UNet:
        """The U-Net of a part, without its middle."""
        unet = self.unets[name]
        assert isinstance(unet, UNet)
        return unet

    def _words(self, name: str, x: Tensor) -> Tensor:
        """The bag of words of a part of tokens, (b, width); the mask is no word."""
        mask = self.config.parts[name].tokens
        assert mask is not None, "a part of tokens"
        return self.bags_of_words[name](x.clamp_max(mask - 1), x < mask)

    def _read(self, name: str, part: PartSizes, x: Tensor) -> Tensor:
        """The tokens of a part, (b, n, width), from its data or what its U-Net made of it."""
        if part.tokens is not None:
            h = self.embeddings[name](x)
        else:
            h = self.inputs[name](patchify(x, self._cut(name, part)).flatten(2).transpose(1, 2))
        where = sine_positions(part.grid, self.config.width, device=x.device)
        return h + where.to(h.dtype) + self.part_embedding[name]

    def _written(self, name: str, part: PartSizes, h: Tensor) -> Tensor:
        """The output of a part, or what is added to the middle of its U-Net."""
        if part.tokens is not None:
            return self.logits[name](h)
        return unpatchify(self.outputs[name](h).transpose(1, 2).unflatten(2, part.grid), self._cut(name, part))

    def _cut(self, name: str, part: PartSizes) -> Patch:
        """The side of the patches that become tokens; a position of a U-Net's middle is one."""
        return 1 if name in self.unets else part.patch


def _positions(part: PartSizes) -> Tensor:
    """(n, AXES): the centre of each patch, time in 1 / `UNITS` seconds; tokens come one after another before the time 0."""
    sides = patch_sides(part.patch, len(part.space))
    axes = [(torch.arange(n) * side + (side - 1) / 2) / side for n, side in zip(part.grid, sides, strict=True)]
    if part.tokens is not None:
        axes = [torch.arange(part.space[0]) - float(part.space[0])]
    elif part.seconds is not None:
        step = part.seconds * UNITS / part.space[0]
        axes[0] = (torch.arange(part.grid[0]) * sides[0] + (sides[0] - 1) / 2) * step
    elif len(axes) < AXES:
        axes = [torch.zeros(1), *axes]  # an image lies at the time 0
    axes = [*axes, *(torch.zeros(1) for _ in range(AXES - len(axes)))]
    return torch.stack([axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")], 1).float()
