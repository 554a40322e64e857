"""Configurations of the optimizers that `training.optimizer` runs."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """AdamW for everything ("Decoupled Weight Decay Regularization", 2019, arXiv 1711.05101)."""

    kind: Literal["adamw"] = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _require_lr(self.lr, self.weight_decay)
        _require_decay(*self.betas)


@dataclass(frozen=True, kw_only=True)
class Muon:
    """Muon for hidden matrices (`training.optimizer`), AdamW for all other parameters.

    Args:
        adamw_lr: learning rate of AdamW.
        embedding_lr: learning rate of embedding tables; None is `adamw_lr`. A rare word is in few batches, so its embedding
            needs large steps.
    """

    kind: Literal["muon"] = "muon"
    lr: float = 0.02
    momentum: float = 0.95
    weight_decay: float = 0.0
    adamw_lr: float = 1e-3
    embedding_lr: float | None = None

    def __post_init__(self) -> None:
        _require_lr(self.lr, self.weight_decay)
        _require_lr(self.embedding_lr or self.adamw_lr, self.weight_decay)
        _require_lr(self.adamw_lr, self.weight_decay)
        _require_decay(self.momentum)


OptimizerConfig = AdamW | Muon


def _require_lr(lr: float, decay: float) -> None:
    if not (0 < lr < 100 and 0 <= decay < 100):
        raise ValueError(
            f"a learning rate must be above 0 and below 100, and a weight decay from 0 to 100; got lr {lr}, decay {decay}"
        )


def _require_decay(*rates: float) -> None:
    if not all(0 <= rate < 1 for rate in rates):
        raise ValueError(f"momentum and betas must be at least 0 and below 1, got {rates}")
