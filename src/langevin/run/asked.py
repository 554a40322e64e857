"""What a run's model says of rows of its data: bounds, weighted paths, flows, errors by noise level."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition
from langevin.diffusion.free_energy import Curve, measure_curve
from langevin.diffusion.importance import Importance
from langevin.diffusion.likelihood import (
    Bound,
    Dequantisation,
    Levels,
    Likelihood,
    Weighted,
    bound,
    chain_likelihood,
    flow_likelihood,
)
from langevin.diffusion.likelihood.answers import join
from langevin.modalities.image.data import Images
from langevin.modalities.image.reader import Reader
from langevin.recipe.build import Built, reader
from langevin.run.measure import spread

CURVE_LEVELS, CURVE_ROWS = 26, 256


class Asked:
    """A run's model and the parts of its data, asked one thing after another, with a count of what is done."""

    def __init__(
        self,
        built: Built,
        parts: dict[str, Images],
        levels: Levels,
        batch: int,
        seed: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.built, self.parts, self.levels, self.batch, self.seed = built, parts, levels, batch, seed
        self.progress = progress or (lambda done, total: None)
        self.done, self.total = 0, 0
        device = next(built.network.parameters()).device
        self.readers = {name: reader(built.recipe, part, device=device) for name, part in parts.items()}

    def chunks(self, name: str, rows: int) -> Iterator[tuple[Tensor, Batch]]:
        """(item numbers, batch) of rows spread over a part, unmirrored."""
        read: Reader = self.readers[name]
        for items in spread(len(read.images), rows).split(self.batch):
            yield items, read(items)
            self.done += len(items)
            self.progress(self.done, self.total)

    def bounds(self, density: Importance, rows: int, *, draws: int = 2, told: bool = True) -> dict[str, Bound]:
        """The variational bound; with `told` False conditions are withheld."""
        found: dict[str, Bound] = {}
        for name in self.parts:
            got = [
                bound(
                    self.built.denoiser, self.built.process, b.x, condition=_condition(b, told), levels=self.levels,
                    density=density, times=16, draws=draws, seed=self.seed, names=items,
                )
                for items, b in self.chunks(name, rows)
            ]  # fmt: skip
            columns = {
                n: torch.cat([getattr(g, n) for g in got]).cpu() for n in ("prior", "diffusion", "reconstruction")
            }
            found[name] = Bound(**columns, places=got[0].places)
        return found

    def chain(self, levels: Tensor, rows: int, paths: int) -> dict[str, Weighted]:
        """Weighted paths of the ancestral chain along log-SNR `levels`, rising."""
        times = self.built.process.schedule.time(levels)
        found: dict[str, Weighted] = {}
        for name in self.parts:
            got = [
                chain_likelihood(
                    self.built.denoiser, self.built.process, b.x, times, condition=b.condition, levels=self.levels,
                    paths=paths, batch=self.batch, seed=self.seed, names=items,
                )
                for items, b in self.chunks(name, rows)
            ]  # fmt: skip
            found[name] = Weighted(log_weights=torch.cat([g.log_weights for g in got]).cpu(), places=got[0].places)
        return found

    def flow(
        self, kind: Dequantisation, rows: int, *, first: float, last: float, steps: int, probes: int
    ) -> dict[str, Likelihood]:
        """The likelihood by the probability flow."""
        found: dict[str, Likelihood] = {}
        for name in self.parts:
            got = [
                flow_likelihood(
                    self.built.denoiser, self.built.process, b.x, condition=b.condition, levels=self.levels,
                    dequantise=kind, first=first, last=last, steps=steps, probes=probes, dtype=torch.float32,
                    seed=self.seed, names=items,
                )
                for items, b in self.chunks(name, rows)
            ]  # fmt: skip
            found[name] = join(got)
        return found

    def curves(self, first: float, last: float, rows: int) -> dict[str, Curve]:
        """E|x - D|^2 by log-SNR."""
        levels = torch.linspace(last, first, CURVE_LEVELS, dtype=torch.float64)
        found: dict[str, Curve] = {}
        for name in self.parts:
            got = [
                (
                    measure_curve(self.built.denoiser, self.built.process, b, log_snr=levels, seed=self.seed, names=i)[
                        0
                    ],
                    len(i),
                )
                for i, b in self.chunks(name, rows)
            ]
            total = sum(n for _, n in got)
            found[name] = Curve(log_snr=levels, mmse=torch.stack([c.mmse * (n / total) for c, n in got]).sum(0))
        return found


def _condition(batch: Batch, told: bool) -> Condition | None:
    return batch.condition if told or batch.condition is None else batch.condition.dropped()


@contextmanager
def asking(built: Built) -> Iterator[None]:
    """Weights that ask for no gradient of their own, in evaluation: only x is differentiated."""
    wanted = [(p, p.requires_grad) for p in built.network.parameters()]
    training = built.network.training
    built.network.eval().requires_grad_(False)
    try:
        yield
    finally:
        for parameter, value in wanted:
            parameter.requires_grad_(value)
        built.network.train(training)
