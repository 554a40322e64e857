"""Training a denoiser to predict under a concept what it predicted under an anchor, and else what it predicted before:

    loss = weight |D_theta(x_t, concept) - D_ref(x_t, anchor)|^2 + keep |D_theta(x_t, c) - D_ref(x_t, c)|^2

The anchor is the condition without the concept, or with another in its place. x_t are of all examples, also of those that
are not of the concept: what the anchor draws is among them. The second term has the conditions c of the examples that are
to stay, and none for those of the concept.

"Ablating Concepts in Text-to-Image Diffusion Models" (2023, arXiv 2303.13516), "Erasing Concepts from Diffusion Models"
(2023, arXiv 2303.07345).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.concept import AnyConcept, with_concept
from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.objective import Objective
from langevin.diffusion.training_input import TrainingInput
from langevin.methods.dropout import with_dropout
from langevin.methods.method import Player, Report


class Forgetting:
    """A denoiser of continuous data that forgets a concept: one player, `denoiser`.

    It is no `method` of a recipe, as its reference is that of a run that is trained already (`run.forget`).

    Args:
        denoiser: the trained denoiser; it holds `network`.
        network: the module whose weights are trained, without dropout.
        reference: the denoiser as it was, which is not trained.
        objective: the loss per sample of a mean that is to be another.
        training_input: how examples are corrupted.
        concept: what is forgotten, and what takes its place.
        asked: conditions that have the concept, one or more.
        weight, keep: of the two terms.
        everywhere: without a condition, examples of the concept are to become what the anchor predicts of them, too.
        condition_dropout: probability that the condition of an example that is to stay is dropped.
        non_hidden: see `Player`.

    Raises:
        ValueError: a weight that is negative or not finite, or no condition that has the concept.
    """

    def __init__(
        self,
        *,
        denoiser: Denoiser[Any],
        network: nn.Module,
        reference: Denoiser[Any],
        objective: Objective,
        training_input: TrainingInput,
        concept: AnyConcept,
        asked: Condition,
        weight: float = 1.0,
        keep: float = 1.0,
        everywhere: bool = False,
        condition_dropout: float = 0.1,
        non_hidden: tuple[str, ...] = (),
    ) -> None:
        if not (0 <= weight < math.inf and 0 <= keep < math.inf):
            raise ValueError(
                f"the weights of forgetting and of keeping are at least 0 and finite, got {weight} and {keep}"
            )
        if not bool(concept.holds(asked).all()) or not asked.count:
            raise ValueError("the conditions that are to be forgotten have the concept, and some of these have not")
        self.denoiser, self.network, self.reference = denoiser, network, reference
        self.objective, self.training_input, self.concept, self.asked = objective, training_input, concept, asked
        self.weight, self.keep, self.everywhere, self.condition_dropout = weight, keep, everywhere, condition_dropout
        self.players: Mapping[str, Player] = {
            "denoiser": Player(module=nn.ModuleDict({"network": network}), non_hidden=non_hidden)
        }

    def loss(self, player: str, batch: Batch, draw: StepRandomness) -> Report:
        """The losses of a batch's samples, under the concept and under their own conditions; see `Method.loss`."""
        if player not in self.players:
            raise KeyError(player)
        assert batch.condition is not None, "the run is conditioned on the concept"
        t, x_t = self.training_input(batch, draw)
        concept = with_concept(batch.condition, self._asked(batch, draw), self.concept)
        anchor, holds = self.concept.anchored(concept), self.concept.holds(batch.condition)
        own = with_dropout(batch.condition, batch.x, draw, self.condition_dropout)
        assert own is not None, "there was one before dropout"
        own = own.only(~holds)
        training = self.network.training
        self.network.eval()  # without dropout, as the reference
        with torch.no_grad():
            towards, before = self.reference(x_t, t, anchor).mean, self.reference(x_t, t, own).mean
            if self.everywhere:
                before = towards.where(holds.view(-1, *[1] * (before.ndim - 1)), before)
        forgotten = self.objective(self.denoiser(x_t, t, concept), towards, x_t, t, batch.counted())
        kept = self.objective(self.denoiser(x_t, t, own), before, x_t, t, batch.counted())
        self.network.train(training)
        loss = self.weight * forgotten + self.keep * kept
        return Report(loss=loss, plain=loss.detach(), terms={"forgotten": forgotten.detach(), "kept": kept.detach()})

    def _asked(self, batch: Batch, draw: StepRandomness) -> Condition:
        """As many conditions with the concept as samples, chosen by the randomness of the step."""
        count = self.asked.count
        assert count, "checked when it was made"
        u = draw.noise.fork(4).uniform(batch.x.new_empty(len(batch.x), 1))[:, 0]
        return self.asked.to(batch.x.device).select((u * count).long().clamp_max(count - 1).to(batch.x.device))

    def generator(self) -> Denoiser[Any]:
        """The trained denoiser."""
        return self.denoiser


def balanced(holds: Tensor) -> Tensor:
    """Items (m,) int64 of which about half are those of a concept, `holds` (n,) bool: repeated as often as it takes.

    Raises:
        ValueError: all or none of them are of the concept."""
    own, rest = holds.nonzero()[:, 0], (~holds).nonzero()[:, 0]
    if not len(own) or not len(rest):
        raise ValueError(f"{len(own)} examples of the concept and {len(rest)} others: forgetting needs some of both")
    fewer, more = sorted((own, rest), key=len)
    return torch.cat([more, fewer.repeat(math.ceil(len(more) / len(fewer)))[: len(more)]])
