"""What a network computes half-way, recorded while it is evaluated: features that were learned without labels."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

FEATURES = 4096  # of an example, at most


@contextmanager
def activations(network: nn.Module) -> Iterator[list[Tensor]]:
    """Record activations of a network: the output of its middle block, with its positions, of which neighbours are
    averaged where they are many.

    "Denoising Diffusion Autoencoders are Unified Self-supervised Learners" (2023, arXiv:2303.09769).

    Yields:
        A list of (b, features) float32, one for each call.

    Raises:
        ValueError: the network has no blocks."""
    found = list[Tensor]()

    def record(module: nn.Module, arguments: Any, output: Any) -> None:
        h = output[0] if isinstance(output, tuple) else output  # some return keys and values with it
        found.append(pooled(h, channels=1 if block is getattr(network, "middle_2", None) else -1))

    block = block_of(network)
    hook = block.register_forward_hook(record)
    try:
        yield found
    finally:
        hook.remove()


def block_of(network: nn.Module) -> nn.Module:
    """The block whose output is recorded. Raises `ValueError` if there are no blocks."""
    last = getattr(network, "middle_2", None)
    if isinstance(last, nn.Module):
        return last
    blocks = getattr(network, "blocks", None)
    if not isinstance(blocks, nn.ModuleList) or not len(blocks):
        raise ValueError(f"{type(network).__name__} has no blocks whose activations could be recorded")
    return blocks[len(blocks) // 2]


def pooled(h: Tensor, *, channels: int) -> Tensor:
    """h with its positions in at most `FEATURES` numbers, (b, features) float32 on the CPU; h (b, width) itself.

    Args:
        channels: the dimension of the channels."""
    h = h.detach().float().cpu()
    if h.ndim == 2:
        return h
    h = h.movedim(channels, 1).flatten(2)
    positions = max(1, min(h.shape[2], FEATURES // h.shape[1]))
    return nn.functional.adaptive_avg_pool1d(h, positions).flatten(1)
