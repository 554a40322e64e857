"""What positions of an image attend to among the words of its caption, recorded while a network is evaluated."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from langevin.networks.attention import Attention
from langevin.networks.dit import DiT


@contextmanager
def attention_to_tokens(network: nn.Module, tokens: int) -> Iterator[list[Tensor]]:
    """Record the attention of every layer that sees the caption, in the order of the calls.

    Args:
        network: one that attends to the port `cross`; of another nothing is recorded.
        tokens: of the port.

    Yields:
        A list of (b, positions, tokens), float32: the weights of the softmax, averaged over heads; each position's sum is
        its attention to the caption, at most 1.
    """
    found = list[Tensor]()
    first = isinstance(network, DiT)  # the tokens come before the patches, and in a U-Net after the positions

    def record(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any], _: Any) -> None:
        assert isinstance(module, Attention)
        weights = weights_of(module, *arguments, **options)
        found.append(weights[:, tokens:, :tokens] if first else weights[..., -tokens:])

    hooks = [module.register_forward_hook(record, with_kwargs=True) for module in _layers(network)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _layers(network: nn.Module) -> list[Attention]:
    """The layers in which positions attend to the caption."""
    if isinstance(network, DiT):
        if network.token_proj is None:
            return []
        return [module for module in network.blocks.modules() if isinstance(module, Attention)]
    return [m for m in network.modules() if isinstance(m, Attention) and m.context_kv is not None]


@torch.no_grad()
def weights_of(
    attention: Attention, x: Tensor, *, mask: Tensor | None = None, rotary: Any = None, context: Tensor | None = None
) -> Tensor:
    """The weights (b, queries, keys) of a layer for the arguments of its `forward`, averaged over heads, float32."""
    q, k, _ = attention.project(x, rotary)
    if attention.context_kv is not None and context is not None:
        k = torch.cat([k, attention.project_context(context)[0]], 2)
    logits = q.float() @ k.float().transpose(-1, -2) / math.sqrt(q.shape[-1])
    if mask is not None:
        logits = logits.masked_fill(~(mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]), -torch.inf)
    return logits.softmax(-1).mean(1)
