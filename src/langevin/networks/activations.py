"""What a network computes half-way, recorded while it is evaluated: features that were learned without labels."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def activations(network: nn.Module) -> Iterator[list[Tensor]]:
    """Record the activations in the middle of a network: the output of its middle block, as its mean and its standard
    deviation over positions.

    "Denoising Diffusion Autoencoders are Unified Self-supervised Learners" (2023, arXiv:2303.09769).

    Yields:
        A list of (b, features) float32, one for each call.

    Raises:
        ValueError: the network has no blocks."""
    found = list[Tensor]()

    def record(module: nn.Module, arguments: Any, output: Tensor) -> None:
        found.append(pooled(output, channels=1 if isinstance(getattr(network, "middle_2", None), nn.Module) else -1))

    hook = middle_of(network).register_forward_hook(record)
    try:
        yield found
    finally:
        hook.remove()


def middle_of(network: nn.Module) -> nn.Module:
    """The block in the middle. Raises `ValueError` if there are no blocks."""
    last = getattr(network, "middle_2", None)
    if isinstance(last, nn.Module):
        return last
    blocks = getattr(network, "blocks", None)
    if not isinstance(blocks, nn.ModuleList) or not len(blocks):
        raise ValueError(f"{type(network).__name__} has no block in the middle, whose activations could be recorded")
    return blocks[len(blocks) // 2]


def pooled(h: Tensor, *, channels: int) -> Tensor:
    """Mean and standard deviation over the positions of h, (b, features) float32 on the CPU; h (b, width) itself.

    Args:
        channels: the dimension of the channels."""
    h = h.detach().float().cpu()
    if h.ndim == 2:
        return h
    h = h.movedim(channels, 1).flatten(2)
    return torch.cat([h.mean(2), h.std(2, correction=0)], 1)
