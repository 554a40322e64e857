"""A device without float64, pretended on the CPU.

`meta` stands for it: tensors "there" hold their numbers in a CPU tensor, every operation on them is carried out on that,
and one that would make float64 there, or mix it with a tensor that lives on the CPU, raises as such a device would.
"""

from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from langevin.diffusion import float64

DEVICE = torch.device("meta")
aten = torch.ops.aten
COPYING = {aten._to_copy.default, aten.copy_.default}  # from one device to the other
INDEXING = {aten.index.Tensor, aten.index_put_.default}  # of a tensor there by indices on the CPU, and not the reverse


class There(Tensor):
    """A tensor on the pretended device."""

    @staticmethod
    def __new__(cls, held: Tensor):
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=DEVICE,
            requires_grad=held.requires_grad,
        )  # fmt: skip

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def tolist(self):
        return self.held.tolist()

    def __repr__(self) -> str:
        return f"There({self.held})"

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} outside of the pretended device")


def held(value):
    return value.held if isinstance(value, There) else value


class WithoutFloat64(TorchDispatchMode):
    """Carries out what happens on the pretended device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        indexed = func in INDEXING and isinstance(args[0], There)
        asked = [part for i, part in enumerate(args) if not (indexed and i == 1)]
        tensors = [part for part in tree_flatten((asked, kwargs))[0] if isinstance(part, Tensor)]
        there = any(isinstance(part, There) for part in tensors)
        strangers = [part for part in tensors if not isinstance(part, There) and part.ndim > 0]
        if there and strangers and func not in COPYING:
            raise RuntimeError(
                f"{func} of tensors on two devices: {[tuple(part.shape) for part in strangers]} are on the CPU"
            )
        if kwargs.get("device") is not None:
            there, kwargs["device"] = torch.device(kwargs["device"]) == DEVICE, torch.device("cpu")
        elif func in COPYING:
            there = isinstance(args[0], There)
        result = func(*tree_map(held, args), **tree_map(held, kwargs))

        def put(part):
            if not (there and isinstance(part, Tensor)):
                return part
            if part.dtype in (torch.float64, torch.complex128):
                raise TypeError(f"{func} makes float64 {tuple(part.shape)} on a device that has none")
            return There(part)

        return tree_map(put, result)


@contextmanager
def without_float64():
    """Within, `DEVICE` is a device without float64 that the mathematics knows as one."""
    made = torch.tensor

    def tensor(data, *, dtype=None, device=None):  # which would make a tensor of `meta` without asking any mode
        return made(data, dtype=dtype).to(device or "cpu")

    known = mock.patch.object(float64, "LACKING", frozenset({DEVICE.type}))
    with known, mock.patch.object(torch, "tensor", tensor), WithoutFloat64():
        yield DEVICE


def back(x: Tensor) -> Tensor:
    """The numbers of x on the CPU."""
    return x.held if isinstance(x, There) else x
