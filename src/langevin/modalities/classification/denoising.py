"""The posterior of the classes of examples by denoising errors, as a plan: at the same noises for all classes, and without
those that have lost."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.class_posterior import Evidence, NoiseLevels, nats
from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.noise import SampleNoise, mix
from langevin.diffusion.posterior import Categorical, Point
from langevin.diffusion.process import Bounded
from langevin.methods import Diffusion
from langevin.modalities.classification.items import Items
from langevin.modalities.modality import Model, Predict, Progress, Request

ROUND = 8  # noises before losers are dropped
TOGETHER = 4096  # predictions of one request
Judged = Generator[Request, Tensor, Evidence]


def require_posteriors(model: Model) -> None:
    """Check that a run predicts clean data at every noise level, with a variational bound.

    Raises:
        ValueError: it does not."""
    parts = model.parts
    fits = isinstance(parts.method, Diffusion) and isinstance(parts.process, Bounded) and not hasattr(parts, "warps")
    if not fits or getattr(parts, "autoregressive", False):
        raise ValueError(
            "classes are compared by the errors of a denoiser at every noise level, and this run has none: take one of "
            f"method.kind diffusion on one kind of data, not {type(parts.method).__name__} on {parts.process.kind}"  # type: ignore[union-attr]
        )


def judged(
    model: Model, items: Items, *, noises: int, seed: int, progress: Progress, index: Tensor | None = None,
    levels: NoiseLevels = NoiseLevels(),  # noqa: B008
) -> Judged:  # fmt: skip
    """The evidence on some items, all by default, by up to `noises` draws for each class."""
    require_posteriors(model)
    count = len(items) if index is None else len(index)
    found = list[Evidence]()
    for at, batch in items.chunks(max(1, TOGETHER // (len(items.classes) * ROUND)), index):
        seeds = mix(torch.full_like(at, seed), at)
        judging = Judging(model=model, batch=batch, seeds=seeds, levels=levels, classes=len(items.classes))
        found.append((yield from judging.run(noises)))
        progress(min(count, sum(len(one.values) for one in found)), count)
    draws = max((one.values.shape[2] for one in found), default=0)
    padded = [torch.nn.functional.pad(e.values, (0, draws - e.values.shape[2]), value=torch.nan) for e in found]
    return Evidence(values=torch.cat(padded)) if padded else Evidence.none(0, len(items.classes))


@dataclass(frozen=True, kw_only=True, eq=False)
class Judging:
    """The comparison of classes for b examples.

    Args:
        seeds: (b,) int64, of the noises of each.
    """

    model: Model
    batch: Batch
    seeds: Tensor
    levels: NoiseLevels
    classes: int

    def run(self, noises: int) -> Judged:
        """The evidence by up to so many draws."""
        evidence = Evidence.none(len(self.seeds), self.classes)
        while (made := evidence.values.shape[2]) < noises:
            alive = evidence.alive()
            alive &= alive.sum(1, keepdim=True) > 1
            if made and not bool(alive.any()):
                break
            evidence = evidence.and_then((yield from self.round(alive, made, min(ROUND, noises - made))))
        return evidence

    def round(self, alive: Tensor, made: int, count: int) -> Generator[Request, Tensor, Tensor]:
        """`count` further draws (b, classes, count) of the classes that are alive, after `made`."""
        sample, label = alive.nonzero(as_tuple=True)
        found = torch.full((len(alive), self.classes, count), torch.nan, dtype=torch.float64)
        shift = self.noise(made).fork(-1).uniform(torch.empty(len(alive), 1))[:, 0].double().cpu()
        for i in range(count):
            u = ((shift + i / count) % 1).clamp(2.0**-40, 1 - 2.0**-40)
            found[sample, label, i] = yield from self.drawn(sample, label, u, made + i)
        return found

    def drawn(self, sample: Tensor, label: Tensor, u: Tensor, draw: int) -> Generator[Request, Tensor, Tensor]:
        """One draw of the bound, (m,), for pairs of a sample and a class, by uniforms u (b,) for its times."""
        process: Any = self.model.parts.process
        batch = self.batch
        t, weight = self.levels.times(process, u)
        x = batch.x.cpu()
        x_t = process.corrupt(x, t, self.noise(draw), None if batch.known is None else batch.known.cpu())
        where = None if x.is_floating_point() else torch.ones(len(sample), x.shape[1], dtype=torch.bool)
        condition = replace((batch.condition or Condition()).to(x.device).select(sample), global_=Port(tensor=label))
        result = yield Predict(x_t=x_t[sample], t=t[sample], where=where, condition=condition)
        q = Point(result) if where is None else Categorical(result.view(*where.shape, -1))
        counted = batch.counted()
        mask = None if counted is None else counted.cpu()[sample]
        found = nats(process, q, x[sample], x_t[sample], t[sample], mask) * weight[sample]
        if bool(found.isnan().any()):
            raise ValueError(
                "the network predicts values that are not numbers: its weights are damaged, train it again"
            )
        return found

    def noise(self, draw: int) -> SampleNoise:
        """The noise of a draw, the same for all classes."""
        return SampleNoise(seeds=self.seeds, steps=torch.full_like(self.seeds, draw))
