"""AdamW and Muon, and the learning rate over a run.

Muon ("Muon: An optimizer for hidden layers in neural networks", 2024) moves each hidden matrix (a convolution seen as
outputs x the rest) by its momentum made orthogonal, X = U V^T of the singular value decomposition, by five
Newton-Schulz steps; embeddings, first and last layers, norms and biases are left to AdamW.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """AdamW for everything ("Decoupled Weight Decay Regularization", 2019)."""

    kind: Literal["adamw"] = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _require_rate(self.lr, self.weight_decay)
        _require_forgetting(*self.betas)


@dataclass(frozen=True, kw_only=True)
class Muon:
    """Muon for hidden matrices, AdamW at `adamw_lr` for the rest, and at `embedding_lr` (None: the same) for tables of
    vectors: the row of a rare word is in few batches, and has to move far in each."""

    kind: Literal["muon"] = "muon"
    lr: float = 0.02
    momentum: float = 0.95
    weight_decay: float = 0.0
    adamw_lr: float = 1e-3
    embedding_lr: float | None = None

    def __post_init__(self) -> None:
        _require_rate(self.lr, self.weight_decay)
        _require_rate(self.embedding_lr or self.adamw_lr, self.weight_decay)
        _require_rate(self.adamw_lr, self.weight_decay)
        _require_forgetting(self.momentum)


OptimizerConfig = AdamW | Muon


def _require_rate(lr: float, decay: float) -> None:
    if not (0 < lr < 100 and 0 <= decay < 100):
        raise ValueError(f"a learning rate is positive and a weight decay not negative, got lr {lr}, decay {decay}")


def _require_forgetting(*shares: float) -> None:
    if not all(0 <= share < 1 for share in shares):
        raise ValueError(f"momentum and betas are shares of the past, from 0 to below 1, got {shares}")


@dataclass(frozen=True, kw_only=True)
class RateSchedule:
    """Linear warm-up, constant, linear cool-down to `floor`; fractions of the run."""

    warmup: float = 0.02
    cooldown: float = 0.25
    floor: float = 0.02

    def __post_init__(self) -> None:
        if not (min(self.warmup, self.cooldown) >= 0 and self.warmup + self.cooldown <= 1 and 0 <= self.floor <= 1):
            raise ValueError(
                f"warm-up and cool-down are fractions of the run, together at most 1, and so is floor: {self}"
            )

    def __call__(self, step: int, total: int) -> float:
        """Factor on the learning rate of step `step` (from 0) of `total`."""
        rise = (step + 1) / max(1.0, self.warmup * total)
        fall = (total - step) / max(1.0, self.cooldown * total)
        return min(1.0, rise, self.floor + (1 - self.floor) * fall if self.cooldown else 1.0)


def orthogonalise(g: Tensor, *, steps: int = 5, dtype: torch.dtype | None = None) -> Tensor:
    """Newton-Schulz towards U V^T of each matrix of g (..., rows, columns): all singular values near 1.

    The quintic's coefficients are the published ones: fast from below, ending within about [0.7, 1.2]. Products are made
    in `dtype` (None: that of g); bf16's error in the direction is far below the gradient's own."""
    x = (g / (g.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype or g.dtype).reshape(-1, *g.shape[-2:])
    tall = x.shape[-2] > x.shape[-1]
    x = (x.mT if tall else x).contiguous()
    for _ in range(steps):
        a = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return (x.mT if tall else x).reshape(g.shape).to(g.dtype)


class MuonOptimizer(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal, for parameters of two or more dimensions; those of one shape go together."""

    def __init__(self, parameters: Iterable[nn.Parameter], config: Muon, *, dtype: torch.dtype | None = None) -> None:
        defaults = {"lr": config.lr, "momentum": config.momentum, "weight_decay": config.weight_decay}
        super().__init__(parameters, defaults)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p)
                momentum = state["momentum"].mul_(group["momentum"]).add_(p.grad)
                update = p.grad.add(momentum, alpha=group["momentum"]).flatten(1)
                alike.setdefault(update.shape, []).append((p, update))
            for (rows, columns), pairs in alike.items():
                directions = orthogonalise(torch.stack([update for _, update in pairs]), dtype=self.dtype)
                scale = max(1.0, rows / columns) ** 0.5
                for (p, _), direction in zip(pairs, directions, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(direction.view_as(p), alpha=-group["lr"] * scale)


class Optimizers:
    """The optimizers of one player, stepped together."""

    def __init__(
        self, player: nn.Module, config: OptimizerConfig, *, edges: Iterable[str], precision: torch.dtype | None = None
    ) -> None:
        self.parameters = {name: p for name, p in player.named_parameters() if p.requires_grad}
        names = {id(p): name for name, p in self.parameters.items()}
        outside = set(edges)
        hidden = [
            p
            for name, p in self.parameters.items()
            if p.ndim >= 2 and name.startswith("network.") and outside.isdisjoint(name.split("."))
        ]
        if config.kind == "adamw" or not hidden:
            rest, hidden = list(self.parameters.values()), []
        else:
            chosen = {id(p) for p in hidden}
            rest = [p for p in self.parameters.values() if id(p) not in chosen]
        rate = config.lr if config.kind == "adamw" else config.adamw_lr
        betas = config.betas if config.kind == "adamw" else (0.9, 0.99)
        decay = config.weight_decay if config.kind == "adamw" else 0.0
        tables = {id(m.weight) for m in player.modules() if isinstance(m, nn.Embedding)}
        apart = config.embedding_lr if config.kind == "muon" else None
        groups: list[dict[str, Any]] = [{"params": [p for p in rest if not apart or id(p) not in tables]}]
        if apart:
            groups.append({"params": [p for p in rest if id(p) in tables], "lr": apart})
        groups = [group for group in groups if group["params"]]
        self.all: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=rate, betas=betas, weight_decay=decay, fused=True)
        ]
        if hidden and config.kind == "muon":
            self.all.append(MuonOptimizer(hidden, config, dtype=precision))
        self.rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.all]
        self._names = names

    def step(self, factor: float) -> None:
        """One step at `factor` times the configured learning rates."""
        for optimizer, rates in zip(self.all, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """All state, by 'parameter/what'."""
        return {
            f"{self._names[id(p)]}/{what}": value
            for optimizer in self.all
            for p, state in optimizer.state.items()
            for what, value in state.items()
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` gave.

        Raises:
            ValueError: they are the state of another optimizer."""
        for optimizer in self.all:
            optimizer.state.clear()
            expected = {"momentum"} if isinstance(optimizer, MuonOptimizer) else {"exp_avg", "exp_avg_sq", "step"}
            for group in optimizer.param_groups:
                for p in group["params"]:
                    mine = self._names[id(p)] + "/"
                    state = {k.removeprefix(mine): _like(v, p) for k, v in tensors.items() if k.startswith(mine)}
                    if state and state.keys() != expected:
                        raise ValueError(
                            f"the checkpoint is of another optimizer: it holds {', '.join(sorted(state))} of {mine[:-1]}, "
                            f"and {', '.join(sorted(expected))} is needed; put training.optimizer back as it was"
                        )
                    if state:
                        optimizer.state[p] = state


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """A copy in the parameter's memory layout and place: fused optimizers walk both in storage order."""
    if value.shape != parameter.shape:
        return value.to(parameter.device, copy=True)
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
