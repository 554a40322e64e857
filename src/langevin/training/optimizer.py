"""AdamW, Muon and the learning rate schedule.

Muon ("Muon: An optimizer for hidden layers in neural networks", 2024) updates each hidden matrix by its orthogonalised
momentum: U V^T of its singular value decomposition U S V^T, approximated by five Newton-Schulz steps. A convolution counts
as a matrix (outputs, all else). Embeddings, first and last layers, norms and biases are left to AdamW.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import torch
from torch import Tensor, nn

from langevin.methods.method import Player
from langevin.methods.optimizer import AdamW, Muon, OptimizerConfig

Cut = Callable[[str, Tensor], Tensor]  # (name of a parameter, tensor) -> tensor
AT_ONCE = 4  # matrices in parts that are gathered before they are orthogonalised


@dataclass(frozen=True, kw_only=True)
class LRSchedule:
    """Linear warm-up, a plateau, and linear cool-down to `final_lr_factor`.

    Args:
        warmup, cooldown: as fractions of the run.
        final_lr_factor: factor on the learning rate at the end.
    """

    warmup: float = 0.02
    cooldown: float = 0.25
    final_lr_factor: float = 0.02

    def __post_init__(self) -> None:
        fractions = self.warmup, self.cooldown, self.final_lr_factor
        if not (min(fractions) >= 0 and self.warmup + self.cooldown <= 1 and self.final_lr_factor <= 1):
            raise ValueError(
                "warmup and cooldown are fractions of the run, together at most 1, and final_lr_factor is at most 1, none "
                f"negative, got {self}"
            )

    def __call__(self, step: float, total: int) -> float:
        """Factor on the learning rate at step `step`, counted from 0, of `total`."""
        rise = (step + 1) / max(1.0, self.warmup * total)
        fall = (total - step) / max(1.0, self.cooldown * total)
        final = self.final_lr_factor
        return min(1.0, rise, final + (1 - final) * fall if self.cooldown else 1.0)


def orthogonalise(g: Tensor, *, steps: int = 5, dtype: torch.dtype | None = None) -> Tensor:
    """U V^T of each matrix g = U S V^T, (..., rows, columns), by Newton-Schulz steps: all singular values become nearly 1.

    The coefficients of the quintic are the published ones, which bring singular values to about [0.7, 1.2].

    Args:
        dtype: of the matrix products; None is that of g. The error of bf16 is far below the noise of the gradient."""
    x = (g / (g.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype or g.dtype).reshape(-1, *g.shape[-2:])
    tall = x.shape[-2] > x.shape[-1]
    x = (x.mT if tall else x).contiguous()
    for _ in range(steps):
        a = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return (x.mT if tall else x).reshape(g.shape).to(g.dtype)


class MuonOptimizer(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum for parameters of two or more dimensions; matrices of equal shape are batched.

    Args:
        gather, shard: (name, tensor) -> the whole tensor of a parameter whose rows are on several ranks, and this rank's
            rows of one. Every rank orthogonalises the whole, of a few matrices at a time.
        shapes: of whole parameters; None if all of each is here.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], config: Muon, *, dtype: torch.dtype | None = None,
        gather: Cut = lambda name, tensor: tensor, shard: Cut = lambda name, tensor: tensor,
        shapes: Mapping[str, torch.Size] | None = None,
    ) -> None:  # fmt: skip
        defaults = {"lr": config.lr, "momentum": config.momentum, "weight_decay": config.weight_decay}
        super().__init__(parameters.values(), defaults)
        self.dtype, self._gather, self._shard = dtype, gather, shard
        self._names = {id(p): name for name, p in parameters.items()}
        self._shapes = {name: p.shape for name, p in parameters.items()} if shapes is None else shapes

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[nn.Parameter]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    rows, *rest = self._shapes[self._names[id(p)]]
                    by_shape.setdefault((rows, math.prod(rest)), []).append(p)
            for alike in by_shape.values():
                here = all(p.shape == self._shapes[self._names[id(p)]] for p in alike)
                size = len(alike) if here else AT_ONCE
                for first in range(0, len(alike), size):
                    self._move(alike[first : first + size], group)

    def _move(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        """A step of some matrices of one shape."""
        updates = [self._gather(self._names[id(p)], self._update(p, group)).flatten(1) for p in parameters]
        rows, columns = updates[0].shape
        scale = max(1.0, rows / columns) ** 0.5
        for p, direction in zip(parameters, orthogonalise(torch.stack(updates), dtype=self.dtype), strict=True):
            p.mul_(1 - group["lr"] * group["weight_decay"])
            own = self._shard(self._names[id(p)], direction.view(-1, *p.shape[1:]))
            p.add_(own, alpha=-group["lr"] * scale)

    def _update(self, p: nn.Parameter, group: dict[str, Any]) -> Tensor:
        """The Nesterov momentum of what is here of a parameter."""
        assert p.grad is not None
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        momentum = state["momentum"].mul_(group["momentum"]).add_(p.grad)
        return p.grad.add(momentum, alpha=group["momentum"])


class Optimizers:
    """The torch optimizers of one player, which step together.

    Args:
        player: whose parameters are trained; Muon leaves modules named in `player.non_hidden` to AdamW.
        default: the optimizer if the player has none of its own.
        precision: dtype of Muon's matrix products; None is that of the gradient.
        lr_factor: on all configured learning rates.
        weights: the player's parameters as this rank holds them; None is all of each.
        gather, shard: see `MuonOptimizer`.
    """

    def __init__(
        self, player: Player, default: OptimizerConfig, *, precision: torch.dtype | None = None, lr_factor: float = 1.0,
        weights: Mapping[str, nn.Parameter] | None = None,
        gather: Cut = lambda name, tensor: tensor, shard: Cut = lambda name, tensor: tensor,
    ) -> None:  # fmt: skip
        config = player.optimizer or default
        self.parameters = player.weights if weights is None else weights
        self._names = {id(p): name for name, p in self.parameters.items()}
        match config:
            case AdamW():
                groups = [{"params": list(self.parameters.values())}]
                self.all: list[torch.optim.Optimizer] = [_adamw(groups, config.lr, config.betas, config.weight_decay)]
            case Muon():
                self.all = _muon(player, self.parameters, config, precision, gather, shard)
            case _:
                assert_never(config)
        self.rates = [[lr_factor * group["lr"] for group in optimizer.param_groups] for optimizer in self.all]

    def step(self, factor: float) -> None:
        """One step at `factor` times the configured learning rates."""
        for optimizer, rates in zip(self.all, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """The optimizer state by 'parameter/name', e.g. 'network.out.weight/momentum'."""
        return {
            f"{self._names[id(p)]}/{name}": value
            for optimizer in self.all
            for p, state in optimizer.state.items()
            for name, value in state.items()
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore the state from `tensors()`.

        Raises:
            ValueError: it is the state of another optimizer."""
        for optimizer in self.all:
            optimizer.state.clear()
            expected = {"momentum"} if isinstance(optimizer, MuonOptimizer) else {"exp_avg", "exp_avg_sq", "step"}
            for group in optimizer.param_groups:
                for p in group["params"]:
                    prefix = self._names[id(p)] + "/"
                    state = {k.removeprefix(prefix): _like(v, p) for k, v in tensors.items() if k.startswith(prefix)}
                    if any(v.shape != p.shape for k, v in state.items() if k != "step"):
                        raise ValueError(
                            f"the checkpoint is of another network: its optimizer has {prefix[:-1]} of another shape"
                        )
                    if state and state.keys() != expected:
                        raise ValueError(
                            f"the checkpoint is of another optimizer: for {prefix[:-1]} it has {', '.join(sorted(state))} "
                            f"and needs {', '.join(sorted(expected))}; set training.optimizer back to what it was"
                        )
                    if state:
                        optimizer.state[p] = state


def _muon(
    player: Player,
    parameters: Mapping[str, nn.Parameter],
    config: Muon,
    precision: torch.dtype | None,
    gather: Cut,
    shard: Cut,
) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for embedding tables, vectors and all else."""
    outside = set(player.non_hidden)
    hidden = {n: p for n, p in parameters.items() if p.ndim >= 2 and outside.isdisjoint(n.split("."))}
    rest = [p for name, p in parameters.items() if name not in hidden]
    names = {id(p): name for name, p in player.weights.items()}
    embeddings = [m for m in player.module.modules() if isinstance(m, nn.Embedding) and config.embedding_lr]
    tables = {id(parameters[names[id(m.weight)]]) for m in embeddings if id(m.weight) in names}
    groups: list[dict[str, Any]] = [{"params": [p for p in rest if id(p) not in tables]}]
    groups.append({"params": [p for p in rest if id(p) in tables], "lr": config.embedding_lr})
    groups = [group for group in groups if group["params"]]
    optimizers: list[torch.optim.Optimizer] = []
    if groups:
        optimizers.append(_adamw(groups, config.adamw_lr, (0.9, 0.99), 0.0))
    if hidden:
        shapes = {name: player.weights[name].shape for name in hidden}
        optimizers.append(MuonOptimizer(hidden, config, dtype=precision, gather=gather, shard=shard, shapes=shapes))
    return optimizers


def _adamw(
    groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """A copy with the device and memory layout of the parameter: fused optimizers walk both in storage order."""
    if value.shape != parameter.shape:
        return value.to(parameter.device, copy=True)
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
