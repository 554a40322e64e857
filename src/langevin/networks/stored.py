"""Weights of a trained network stored in fewer bytes, for drawing from it on a CPU.

    bf16    w rounded to 8 significant bits
    int8    w = s q,  q = round(w / s) in -127 .. 127,  s = max |w| / 127 of each output channel,  so |w - s q| <= s / 2

A weight is computed from what is stored where the network reads it, in the precision of the computation, and is not kept.
With products of int8 a linear layer rounds its input likewise, with a scale r for each position:

    y_j = r s_j sum_i p_i q_ji + b_j,   p_i = round(x_i / r)

The sum is of integers, and so exact: its result does not depend on the other positions, nor on the batch. Vectors, small
matrices and embeddings, of which few rows are read at a time, stay as they are under int8. Where a gradient is asked for,
inputs are not rounded.
"""

from typing import Any, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from langevin.diffusion.light import BF16Weights, Int8Weights, Storage

LEAST = 4096  # entries of a weight, below which storing it differently is not worth its time
LARGEST = 127


def quantised(weight: Tensor) -> tuple[Tensor, Tensor]:
    """q, int8 of the shape of a weight (rows, ...), and s, (rows,), float32."""
    flat = weight.detach().float().flatten(1)
    scale = flat.abs().amax(1).div_(LARGEST)
    q = (flat / scale.clamp_min(torch.finfo(torch.float32).tiny)[:, None]).round_().clamp_(-LARGEST, LARGEST)
    return q.to(torch.int8).view(weight.shape), scale


def _read(weight: Tensor) -> Tensor:
    """A weight in the precision of the computation."""
    kind = weight.device.type
    return weight.to(torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32)


class Rounded(nn.Module):
    """A weight in bf16."""

    def forward(self, stored: Tensor) -> Tensor:
        return _read(stored)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor]:
        return (weight.detach().to(torch.bfloat16),)  # a tuple may be of another type than the weight


class Scaled(nn.Module):
    """A weight (rows, ...) as int8 and a scale per row."""

    def forward(self, q: Tensor, scale: Tensor) -> Tensor:
        return _read(q.float().mul_(scale.view(-1, *(1,) * (q.ndim - 1))))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return quantised(weight)


class Int8Linear(nn.Module):
    """A linear layer whose products are of int8, see the module."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        q, scale = quantised(layer.weight)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.register_buffer("q", q)
        self.register_buffer("scale", scale)
        self.bias = layer.bias
        self.eval()

    @property
    def weight(self) -> Tensor:
        """(out_features, in_features), as the int8 weights mean it."""
        return _read(self.q.float().mul_(self.scale[:, None]))  # type: ignore[operator, union-attr]

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:  # rounding has no gradient
            return F.linear(x, self.weight, self.bias)
        flat = x.reshape(-1, self.in_features).float()
        low, high = torch.aminmax(flat, dim=1, keepdim=True)
        step = torch.maximum(-low, high).div_(LARGEST).clamp_min_(torch.finfo(torch.float32).tiny)
        p = torch.div(flat, step).round_().to(torch.int8)
        sums = torch._int_mm(p, self.q.t()).float()  # type: ignore[operator, union-attr]
        y = sums.mul_(step).mul_(self.scale)  # type: ignore[arg-type]
        y = y if self.bias is None else y.add_(self.bias)
        return _read(y).view(*x.shape[:-1], self.out_features)


@torch.no_grad()
def store(network: nn.Module, storage: Storage) -> int:
    """Store the weights of a network, in place, as `storage` says; returns how many of them.

    Raises:
        ValueError: it is compiled, is not on a CPU, has adapters that are not merged or is stored already, or has no
            weight that is large enough."""
    _require(network)
    count = 0
    for module in list(network.modules()):
        match storage:
            case BF16Weights():
                names = [name for name, p in module.named_parameters(recurse=False) if p.ndim > 1 and p.numel()]
                form: Any = Rounded
            case Int8Weights():
                names = ["weight"] if _is_layer(module) and module.weight.numel() >= LEAST else []  # type: ignore[operator]
                form = Scaled
            case _:
                assert_never(storage)
        for name in names:
            weight = getattr(module, name)
            count += weight.numel()
            weight.requires_grad_(False)
            if not (isinstance(storage, Int8Weights) and storage.products == "int8" and isinstance(module, nn.Linear)):
                parametrize.register_parametrization(module, name, form(), unsafe=True)
    if isinstance(storage, Int8Weights) and storage.products == "int8":
        _with_int8_products(network)
    if not count:
        raise ValueError(
            f"this network has no layer of {LEAST:,} weights or more, so nothing is gained by storing them as "
            f"{storage.kind}: leave it out"
        )
    return count


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)


def _with_int8_products(network: nn.Module) -> None:
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and child.weight.numel() >= LEAST:
                setattr(parent, name, Int8Linear(child))


def require_cpu(device: torch.device) -> None:
    """Raises `ValueError` for a device on which weights are not stored differently."""
    if device.type != "cpu":
        raise ValueError(
            f"weights in bf16 or int8 are for a CPU, and this network is on {device}: leave `light` out, or run with "
            "CUDA_VISIBLE_DEVICES= set to nothing"
        )


def _require(network: nn.Module) -> None:
    """Raises `ValueError` for a network whose weights cannot be stored differently."""
    require_cpu(next(network.parameters()).device)
    if hasattr(network, "_orig_mod"):
        raise ValueError("a compiled network has its weights built in: load the run without compiling it")
    if any(parametrize.is_parametrized(module) or isinstance(module, Int8Linear) for module in network.modules()):
        raise ValueError(
            "the weights of this network are stored in another form already, or have adapters: name one of bf16 and int8, "
            "and merge adapters first by `langevin merge`"
        )
