"""Where the parameters of a run live: whole on every rank, or in parts that ranks share.

Optimizers, EMAs and checks see `weights`, the plain tensors that this rank holds: all of a parameter, or the rows of its
part. What is elementwise is the same code for both. A placement says how gradients get into these tensors, what their norm
over all ranks is, and how a whole tensor is gathered and cut.

Parts are those of FSDP2 (`torch.distributed.fsdp.fully_shard`): rows, gathered before a block is evaluated and freed
after ("PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel", 2023, arXiv 2304.11277).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from langevin.methods.method import Method, Player
from langevin.training.distributed import World, transfer_limit
from langevin.training.parallel import Mesh

Weights = Mapping[str, nn.Parameter]
ENTRIES = (
    "with_quality",
    "reusing",
    "latent",
    "decode",
    "cache",
)  # methods of networks that are called beside `forward`


class Placement(Protocol):
    """How the parameters of all players live on the ranks of a world."""

    def weights(self, name: str, player: Player) -> Weights:
        """The trained parameters of a player, as this rank holds them."""
        ...

    def takes_part(self, world: World) -> bool:
        """Whether this rank is needed where weights are read outside of a step: to save, evaluate and draw."""
        ...

    def decided(self, world: World, thing: Any) -> Any:
        """The first rank's `thing`, on every rank that takes part."""
        ...

    def micro_batches(self, own: Tensor, *, batch: int, size: int | None, world: World) -> list[tuple[Tensor, float]]:
        """A rank's samples in micro-batches of at most `size`, with the factor of their loss."""
        ...

    def backward(self, loss: Tensor, weights: list[nn.Parameter]) -> None:
        """Add the gradient of a loss to that of a player's module."""
        ...

    def sum(self, world: World, due: Mapping[str, Player], more: list[Tensor]) -> None:
        """Sum gradients and further tensors over all ranks, and set the gradients of `weights`."""
        ...

    def norm(self, name: str, weights: Weights) -> Tensor:
        """The norm of a player's whole gradient."""
        ...

    def gather(self, key: str, part: Tensor) -> Tensor:
        """A tensor of the whole shape of a parameter `player.name`, from the parts of all ranks; all of them must call."""
        ...

    def shard(self, key: str, whole: Tensor) -> Tensor:
        """This rank's part of such a tensor."""
        ...

    def holds(self, world: World, here: bool) -> bool:
        """Whether something holds on all ranks that take part, each of which must ask."""
        ...


@dataclass(frozen=True, kw_only=True)
class Replicated:
    """All parameters on every rank. Gradients are summed in one transfer."""

    def weights(self, name: str, player: Player) -> Weights:
        return player.weights

    def takes_part(self, world: World) -> bool:
        return world.first

    def decided(self, world: World, thing: Any) -> Any:
        return thing

    def micro_batches(self, own: Tensor, *, batch: int, size: int | None, world: World) -> list[tuple[Tensor, float]]:
        return [(samples, 1.0) for samples in own.split(size or max(1, len(own)))]

    def backward(self, loss: Tensor, weights: list[nn.Parameter]) -> None:
        loss.backward(inputs=weights)

    def sum(self, world: World, due: Mapping[str, Player], more: list[Tensor]) -> None:
        grads = [p.grad for player in due.values() for p in player.weights.values() if p.grad is not None]
        world.all_reduce([*grads, *more])

    def norm(self, name: str, weights: Weights) -> Tensor:
        return nn.utils.get_total_norm([p.grad for p in weights.values() if p.grad is not None])

    def gather(self, key: str, part: Tensor) -> Tensor:
        return part

    def shard(self, key: str, whole: Tensor) -> Tensor:
        return whole

    def holds(self, world: World, here: bool) -> bool:
        return here


REPLICATED = Replicated()


class Sharded:
    """Rows of a network's parameters on each rank of a group, by FSDP2; other modules of the player, all small, whole.

    Args:
        method: whose one player is cut, in place.
        where: how many copies, and of how many parts; together the ranks of the world.

    Raises:
        ValueError: the method has several players, whose gradients cannot be told apart then.
    """

    def __init__(self, method: Method, where: Mesh) -> None:
        if len(method.players) > 1:
            raise ValueError(
                f"training.parallel.shard={where.shard}: a method of several players ({', '.join(method.players)}) is "
                "trained with whole copies of its weights: set training.parallel.shard=1"
            )
        ((self._name, player),) = method.players.items()
        network = player.module.get_submodule("network")
        device = next(network.parameters()).device.type
        mesh = _mesh(device, where)
        self._group = mesh.get_group("shard")
        _cut(network, mesh["shard"] if where.data == 1 else mesh)
        self._sharded: dict[str, Any] = {}
        self._weights: dict[str, nn.Parameter] = {}
        for name, parameter in player.weights.items():
            key = f"{self._name}.{name}"
            if hasattr(parameter, "to_local"):
                self._sharded[key] = parameter
                self._weights[name] = nn.Parameter(parameter.to_local().detach())  # type: ignore[attr-defined]
            else:
                self._weights[name] = parameter

    def weights(self, name: str, player: Player) -> Weights:
        return self._weights

    def takes_part(self, world: World) -> bool:
        return True

    def decided(self, world: World, thing: Any) -> Any:
        return world.broadcast(thing)

    def micro_batches(self, own: Tensor, *, batch: int, size: int | None, world: World) -> list[tuple[Tensor, float]]:
        """As many on every rank, as each evaluation is one of all ranks: those with fewer samples repeat one, without
        effect."""
        most = math.ceil(batch / world.size)
        count = math.ceil(most / (size or most))
        found = [(samples, 1.0) for samples in own.split(size or max(1, len(own)))]
        return [*found, *[(own[:1], 0.0)] * (count - len(found))]

    def backward(self, loss: Tensor, weights: list[nn.Parameter]) -> None:
        loss.backward()  # the gathered weights are other tensors, whose gradients FSDP2 sums and cuts

    def sum(self, world: World, due: Mapping[str, Player], more: list[Tensor]) -> None:
        whole: list[Tensor] = []
        for name, weight in self._weights.items():
            cut = self._sharded.get(f"{self._name}.{name}")
            if cut is not None:
                weight.grad = None if cut.grad is None else cut.grad.to_local()
            elif weight.grad is not None:
                whole.append(weight.grad)
        world.all_reduce([*whole, *more])

    def norm(self, name: str, weights: Weights) -> Tensor:
        cut = [p.grad for n, p in weights.items() if f"{name}.{n}" in self._sharded and p.grad is not None]
        rest = [p.grad for n, p in weights.items() if f"{name}.{n}" not in self._sharded and p.grad is not None]
        squares = nn.utils.get_total_norm(cut).square()
        torch.distributed.all_reduce(squares, group=self._group)
        return (squares + (nn.utils.get_total_norm(rest).square() if rest else 0.0)).sqrt()

    def gather(self, key: str, part: Tensor) -> Tensor:
        return self.dtensor(key, part).full_tensor() if key in self._sharded else part

    def shard(self, key: str, whole: Tensor) -> Tensor:
        from torch.distributed.tensor import distribute_tensor

        like = self._sharded.get(key)
        if like is None:
            return whole
        if whole.shape != like.shape:
            raise ValueError(f"the checkpoint is of another network: its '{key}' has another shape")
        moved = whole.to(like.device)
        return distribute_tensor(moved, like.device_mesh, like.placements, src_data_rank=None).to_local().clone()

    def dtensor(self, key: str, part: Tensor) -> Any:
        """The parts of all ranks as one DTensor; a whole tensor stays as it is."""
        from torch.distributed.tensor import DTensor

        like = self._sharded.get(key)
        if like is None:
            return part
        return DTensor.from_local(
            part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
        )

    def holds(self, world: World, here: bool) -> bool:
        return not world.any(not here)


def placed(method: Method, where: Mesh) -> Replicated | Sharded:
    """Put the parameters of a method's players where they live; before its optimizers are made.

    Raises:
        ValueError: see `Sharded`."""
    return REPLICATED if where.shard == 1 else Sharded(method, where)


def _mesh(device: str, where: Mesh) -> Any:
    """The process groups of copies and of parts, whose transfers have the limit of all others."""
    from torch.distributed.device_mesh import DeviceMesh

    ranks = torch.arange(where.data * where.shard).view(where.data, where.shard)
    groups: list[Any] = [
        torch.distributed.new_subgroups_by_enumeration(table.tolist(), timeout=transfer_limit())[0]
        for table in (ranks.T, ranks)
    ]
    return DeviceMesh.from_group(groups, device, mesh=ranks, mesh_dim_names=("data", "shard"))


def _cut(network: nn.Module, mesh: Any) -> None:
    """Cut each block of a network, then what is left of it. Gradients are sums over ranks, and parts are freed at once."""
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    with torch.no_grad():
        for parameter in network.parameters():
            parameter.data = parameter.data.contiguous()  # FSDP2 cuts rows, which channels_last has not
    blocks: Iterable[nn.Module] = getattr(network, "blocks", ())
    for block in blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(network, mesh=mesh, reshard_after_forward=True)
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo sums, and does not scale
    for name in ENTRIES:
        if hasattr(network, name):
            register_fsdp_forward_method(network, name)
