"""Training on what an adversary has found, see `run.stress`.

Half of each batch is as before. The other half is drawn by how often an example's condition is among the adversary's worst
requests, and words of its captions are changed as the adversary's bounds allow, so that the network learns what a changed
caption means. Only the data is seen again, and no samples: nothing that the judge likes can be learned from it.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.condition import Condition, class_labels
from langevin.modalities.modality import Batches
from langevin.run.stress import EDITS, Game, Tried, edited
from langevin.training.order import DataOrder

DRAWN = 0.2  # share of the requests that were found, the worst, whose conditions are trained on
EXAMPLES = 10_000  # whose conditions are read, at most
CHUNK = 256

Key = tuple[int, ...]


def keys_of(condition: Condition | None, count: int) -> list[Key]:
    """What each of `count` samples is conditioned on: its class, or the tokens of its caption."""
    if condition is not None and condition.global_ is not None:
        return [(label,) for label in class_labels(condition.global_).tolist()]
    if condition is not None and condition.cross is not None:
        return [tuple(row) for row in condition.cross.tensor.tolist()]
    return [()] * count


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighted:
    """Training batches of which half are examples of conditions that were found.

    Args:
        batches: makes examples of items.
        order: of the items, as in any training.
        items: (n,) int64, examples whose conditions are known.
        mass: (n,) float64, cumulative probabilities of these.
        edits: words of a caption that are changed.
        pool: (c, n) captions that words come from; None without captions.
    """

    batches: Batches
    order: DataOrder
    items: Tensor
    mass: Tensor
    edits: int
    pool: Tensor | None

    @classmethod
    def of(
        cls, game: Game, found: Tried, batches: Batches, order: DataOrder,
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> "Weighted":  # fmt: skip
        """By the worst requests that were found.

        Raises:
            ValueError: no example has a condition that they have."""
        count = min(EXAMPLES, len(batches))
        items, keys = torch.arange(count) * len(batches) // count, list[Key]()
        for chunk in items.split(CHUNK):
            keys += keys_of(batches(chunk).condition, len(chunk))
            progress(len(keys), count)
        asked = keys_of(game.template.condition, game.conditions)
        worst = Counter(asked[i] for i in found.moves.condition[found.worst(most(found))].tolist())
        number = Counter(keys)
        weight = torch.tensor([worst[key] / number[key] for key in keys], dtype=torch.float64)
        if not float(weight.sum()):
            raise ValueError("no training example has a condition that was found: take more conditions (--conditions)")
        condition = game.template.condition
        pool = None if condition is None or condition.cross is None else condition.cross.tensor
        return cls(
            batches=batches, order=order, items=items, mass=weight.cumsum(0) / weight.sum(), pool=pool,
            edits=game.bounds.edits,
        )  # fmt: skip

    def __call__(self, step: int, samples: Tensor, draw: StepRandomness) -> Batch:
        u = draw.noise.fork(11).uniform(torch.empty(len(samples), 2 + 3 * self.edits)).cpu()
        chosen = u[:, 0] < 0.5
        place = torch.searchsorted(self.mass, u[:, 1].contiguous().double()).clamp_max(len(self.items) - 1)
        batch = self.batches(torch.where(chosen, self.items[place], self.order.items(step, samples)), draw.noise)
        condition = batch.condition
        if not self.edits or self.pool is None or condition is None or condition.cross is None:
            return batch
        changes = u[:, 2:].reshape(len(samples), self.edits, 3) * torch.tensor([len(EDITS), 1000, len(self.pool)])
        given = condition.cross.tensor
        tokens = edited(given.cpu(), torch.where(chosen[:, None, None], changes.long(), 0), self.pool.cpu())
        port = replace(condition.cross, tensor=tokens.to(given.device), mask=None)
        return replace(batch, condition=replace(condition, cross=port))


def most(found: Tried) -> int:
    """The number of requests that training draws from, the worst ones."""
    return max(8, round(DRAWN * len(found.ratings)))
