"""RMS norm, squared ReLU and dropout that are fast on the CPU; on other devices PyTorch's own kernels are used.

Autograd makes several passes over memory for either formula; the fused ones make fewer. They have first derivatives only;
for second ones a network is called within `twice_differentiable`. PyTorch draws a dropout mask one number at a time; here a
draw is worth four.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel

EPS = 1e-6
_fused = True  # whether the fused formulas are used on a CPU


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Within it networks are made of formulas whose gradients have gradients, and which forward-mode differentiation takes:
    these, and attention."""
    global _fused
    before, _fused = _fused, False
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        _fused = before


def plain(x: Tensor) -> Tensor:
    """x; within `twice_differentiable` in float32 or float64, and laid out in order: the forward-mode derivative of
    PyTorch's group norm needs both."""
    return x if _fused else (x if x.dtype == torch.float64 else x.float()).contiguous()


def _is_fused(x: Tensor) -> bool:
    return _fused and x.device.type == "cpu"


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=dtype)
        inv_rms = norm.square_().div_(x.shape[-1]).add_(EPS).rsqrt_()  # 1 / sqrt(mean x^2 + eps)
        y = torch.mul(x, inv_rms, out=torch.empty_like(x))
        ctx.save_for_backward(y, inv_rms)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,), (y, inv_rms) = grads, ctx.saved_tensors
        # dL/dx = (grad - y mean(grad y)) / rms
        projection = (grad * y).sum(-1, keepdim=True, dtype=inv_rms.dtype).div_(-y.shape[-1])
        return torch.addcmul(grad, y, projection.to(y.dtype)).mul_(inv_rms.to(y.dtype))


class _SquaredReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        relu = x.clamp_min(0)
        ctx.save_for_backward(relu)
        return relu * relu

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (relu,) = ctx.saved_tensors
        return torch.mul(grads[0], relu).mul_(2)  # dL/dx = 2 relu(x) grad


def rms_norm(x: Tensor) -> Tensor:
    """x / sqrt(mean x^2 + eps) over the last dimension ("Root Mean Square Layer Normalization", 2019, arXiv 1910.07467)."""
    return _RMSNorm.apply(x) if _is_fused(x) else F.rms_norm(x, (x.shape[-1],), eps=EPS)  # type: ignore[return-value]


def squared_relu(x: Tensor) -> Tensor:
    """max(x, 0)^2 ("Primer: Searching for Efficient Transformers for Language Modeling", 2021, arXiv 2109.08668)."""
    return _SquaredReLU.apply(x) if _is_fused(x) else F.relu(x).square()  # type: ignore[return-value]


class Dropout(nn.Dropout):
    """Dropout of probability p, on a CPU rounded to 1/65536 ("Dropout: A Simple Way to Prevent Neural Networks from
    Overfitting", 2014)."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0 or input.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(input)
        draws = torch.empty(-(-input.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        dropped = min(round(self.p * 2**16), 2**16 - 1)  # of the values that 16 bits have
        keep = draws.view(torch.int16)[: input.numel()].view(input.shape) >= dropped - 2**15
        return input * keep.to(input.dtype).mul_(2**16 / (2**16 - dropped))
