"""The protocol of a training method: players, a loss for each, and a generator.

A training step reads its batch once and passes it to every player whose turn it is. All losses and gradients of a step are
taken at the same weights. Then all these players step together, or none does (`training.loop`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.methods.optimizer import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class Report:
    """The losses of the b samples of a batch, float32.

    Args:
        loss: (b,), the loss to minimise.
        plain: (b,), without gradient: the loss to show, in units that stay the same along the run.
        terms: named parts of the loss to log, (b,) each; the same names in every call.
        faults: states from which training does not recover, as clauses that say what is wrong and what to do, and the
            samples that are in each, (b,) from 0 to 1. A run that stays in one is rolled back, and later draws say so
            (`StepRandomness.restarts`).
    """

    loss: Tensor
    plain: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    faults: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Player:
    """A trained module with an optimizer of its own, such as a denoiser, a generator or a discriminator.

    Args:
        module: its parameters are trained, except for those that need no gradient; no two players share one.
        optimizer: its optimizer; None is the recipe's `training.optimizer`.
        every: it steps at every n-th training step, beginning with the first.
        ema: whether EMAs of its weights are kept.
        pretrained: whether its module's `network` starts from the weights of the run that `init_from` names, if any.
        non_hidden: names of modules and parameters, at any depth, that hold no hidden matrices (embeddings, first and
            last layers, modulations): Muon leaves them to AdamW.
    """

    module: nn.Module
    optimizer: OptimizerConfig | None = None
    every: int = 1
    ema: bool = True
    pretrained: bool = True
    non_hidden: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"a player steps at every n-th training step, n at least 1, got {self.every}")

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name: what a checkpoint holds."""
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}


class Method(Protocol):
    """A training method. Its only state is that of its players' modules, so checkpoints of these are complete.

    Its `Config` says whether its generator draws in `one_step`, and whether a run's weights can be `ranked_by_loss`: the
    lower the held-out loss, the better they draw."""

    @property
    def players(self) -> Mapping[str, Player]:
        """The players by name (without dots). The plain loss of the first one is shown as the loss of the run."""
        ...

    def loss(self, player: str, batch: Batch, draw: StepRandomness) -> Report:
        """The losses of one player on a batch of b samples; a function of the weights and the arguments alone.

        Args:
            player: name of the player. Only its parameters receive the gradient.
            batch: the batch, x (b, ...), which all players of this step share and must not change.
            draw: the randomness of the batch's samples, the same for all players; fork it for independent randomness.

        Raises:
            KeyError: there is no such player.
        """
        ...

    def generator(self) -> Any:
        """The model for sampling and evaluation; in all methods so far a `Denoiser`.

        It shares the players' modules, so its predictions follow their current weights."""
        ...
