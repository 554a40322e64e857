"""Learning new data without forgetting the old: batches that hold some of both.

Each step's global batch of B samples has fixed numbers of new examples, of samples that the run drew itself ("Continual
Learning with Deep Generative Replay", 2017, arXiv 1705.08690), and of stored examples. Which sample is of which kind is the
same in every step, and the kinds are spread over the batch as evenly as their numbers allow. So each of them has times
over the whole range, which follow the index in the batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.condition import Condition, join
from langevin.training.loop import BatchFn
from langevin.training.order import DataOrder


@dataclass(frozen=True, kw_only=True)
class Continual:
    """The `continual:` section of a recipe: what keeps a run that learns new data from forgetting the old.

    Args:
        replay: share of each batch that are samples of the base, drawn under the conditions of its data.
        samples: how many of these are drawn before the first step; those that do not pass a test of quality are left out.
        exemplars: share of each batch that are stored examples of the base's data.
        budget: bytes of the file of these examples.
        anchor: weight of the penalty on changes of the base's weights, see `methods.anchor`.
        replay_sha256, exemplars_sha256, fisher_sha256: of the run's files; filled in before training.
    """

    replay: float = 0.0
    samples: int = 1024
    exemplars: float = 0.0
    budget: int = 2**16
    anchor: float = 0.0
    replay_sha256: str = ""
    exemplars_sha256: str = ""
    fisher_sha256: str = ""

    def __post_init__(self) -> None:
        if not (self.replay >= 0 and self.exemplars >= 0 and self.replay + self.exemplars < 1):
            raise ValueError(
                "continual.replay and continual.exemplars are shares of a batch, at least 0 and together below 1, got "
                f"{self.replay} and {self.exemplars}"
            )
        if not 0 <= self.anchor < math.inf:
            raise ValueError(f"continual.anchor is a weight, at least 0 and finite, got {self.anchor}")
        if not 8 <= self.samples <= 10**6 or not 1 <= self.budget <= 2**33:
            raise ValueError(
                "continual.samples is 8 to 1,000,000, and continual.budget 1 byte to 8 GB, got "
                f"{self.samples} and {self.budget}"
            )


def kinds(count: int, shares: Sequence[float]) -> Tensor:
    """(count,) int64: the kind of each sample of a batch, 0 for new ones and k for those of the k-th share.

    A share of a batch is rounded to a whole number of samples, and one above 0 to at least one.

    Raises:
        ValueError: nothing is left for new samples."""
    old = [max(1, round(share * count)) if share else 0 for share in shares]
    left = [count - sum(old), *old]
    if left[0] < 1:
        raise ValueError(
            f"batches of {count} have no place for new examples beside {' and '.join(map(str, old))} of the old ones: set "
            "training.batch higher, or the shares lower"
        )
    found, seen = list[int](), [0] * len(left)
    for i in range(count):  # the kind that is furthest behind
        kind = max(range(len(left)), key=lambda k: (i + 1) * left[k] / count - seen[k] if seen[k] < left[k] else -count)
        seen[kind] += 1
        found.append(kind)
    return torch.tensor(found)


def mixed(
    new: Callable[[int], BatchFn],
    old: Sequence[tuple[float, Batch]],
    *,
    batch: int,
    seed: int,
    device: torch.device | None = None,
) -> BatchFn:
    """Batches of new examples, and of old ones by their shares; those of `new` to the bit where there are no old ones.

    Args:
        new: from the number of new examples in a global batch to the batches of them.
        old: (share, examples) of each kind.
        batch: samples of a global batch.
        device: of new examples, where old ones go too; None: the CPU."""
    if not old:
        return new(batch)
    kind = kinds(batch, [share for share, _ in old])
    place = torch.stack([(kind == k).cumsum(0) - 1 for k in range(len(old) + 1)]).gather(0, kind[None])[0]
    sizes = torch.bincount(kind, minlength=len(old) + 1).tolist()
    sources = [new(sizes[0])]
    sources += [_stored(part, sizes[k], seed=seed + k, device=device) for k, (_, part) in enumerate(old, start=1)]

    def read(step: int, samples: Tensor, draw: StepRandomness) -> Batch:
        at = [(kind[samples] == k).nonzero()[:, 0] for k in range(len(sources))]
        parts = [
            source(step, place[samples[index]], draw.select(index))
            for source, index in zip(sources, at, strict=True)
            if len(index)
        ]
        return select(concatenated(parts), torch.cat(at).argsort())

    return read


def _stored(examples: Batch, count: int, *, seed: int, device: torch.device | None) -> BatchFn:
    order = DataOrder(count=len(examples.x), batch=count, seed=seed)

    def read(step: int, samples: Tensor, draw: StepRandomness) -> Batch:
        found = select(examples, order.items(step, samples))
        return found if device is None else moved(found, device)

    return read


def moved(examples: Batch, device: torch.device) -> Batch:
    """The examples on a device."""

    def there(part: Any) -> Any:
        return None if part is None else part.to(device)

    condition = None if examples.condition is None else examples.condition.to(device)
    return Batch(x=there(examples.x), condition=condition, mask=there(examples.mask), known=there(examples.known))


def select(examples: Batch, index: Tensor) -> Batch:
    """The examples of an index (m,) int64."""

    def chosen(part: Any) -> Any:
        return None if part is None else part[index.to(part.device)]

    condition = None if examples.condition is None else examples.condition.map(chosen)
    return Batch(x=chosen(examples.x), condition=condition, mask=chosen(examples.mask), known=chosen(examples.known))


def concatenated(parts: Sequence[Batch]) -> Batch:
    """The examples of all parts, in order, on the device of the first one; x of all parts has one shape."""
    device = parts[0].x.device
    if len(parts) == 1:
        return parts[0]
    counts = [len(part.x) for part in parts]
    conditions = [(part.condition or Condition()).to(device) for part in parts]
    condition = join(*conditions, counts=counts) if any(part.condition for part in parts) else None
    return Batch(
        x=torch.cat([part.x.to(device) for part in parts]), condition=condition,
        mask=_filled([part.mask for part in parts], counts, device, absent=True),
        known=_filled([part.known for part in parts], counts, device, absent=False),
    )  # fmt: skip


def _filled(masks: Sequence[Any], counts: Sequence[int], device: torch.device, *, absent: bool) -> Tensor | None:
    """The masks one after another; where one is None, `absent` everywhere."""
    like = next((mask for mask in masks if mask is not None), None)
    if like is None:
        return None
    each = [
        torch.full((count, *like.shape[1:]), absent, dtype=like.dtype) if mask is None else mask
        for mask, count in zip(masks, counts, strict=True)
    ]
    return torch.cat([mask.to(device) for mask in each])
