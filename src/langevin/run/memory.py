"""The memory of drawing: the weights, and the most bytes of further tensors that are alive at once.

Tensors are counted as operations return them, and until they are freed. So the figure is the same on every device and in
every process, unlike the memory of a process or of an allocator. Space that an operation takes and frees inside itself,
and what is no tensor, is not in it.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from langevin.run.generate import RunModel


class AliveTensors(TorchDispatchMode):
    """Counts the bytes of tensors that were made within the context and are alive: `now`, and at most, `peak`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.sizes = dict[int, int]()  # of storages, by address

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {_address(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and _address(tensor) not in given | self.sizes.keys():
                self._add(tensor)
        return result

    def _add(self, tensor: Tensor) -> None:
        storage, address = tensor.untyped_storage(), _address(tensor)
        self.sizes[address] = storage.nbytes()
        self.now += self.sizes[address]
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, address)

    def _free(self, address: int) -> None:
        self.now -= self.sizes.pop(address)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def weight_bytes(model: RunModel) -> int:
    """Bytes of the weights of a model, of its codec's network, and of the other models that its plans may request."""
    networks = [model.parts.network, getattr(getattr(model.modality, "codec", None), "network", None)]
    own = [t for n in networks if isinstance(n, nn.Module) for t in (*n.parameters(), *n.buffers())]
    return sum(t.numel() * t.element_size() for t in own) + sum(map(weight_bytes, model.others.values()))


def peak_bytes(draw: Callable[[], object]) -> int:
    """The most bytes of tensors that `draw` has alive at once, of those that it makes."""
    with AliveTensors() as alive, torch.no_grad():
        draw()
    return alive.peak
