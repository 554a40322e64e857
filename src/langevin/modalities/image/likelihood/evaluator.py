"""Likelihoods of data under a run's model: ELBO, importance-weighted paths, probability flow, and the MMSE curve."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition
from langevin.diffusion.free_energy import Curve, measure_curve
from langevin.diffusion.importance import Importance
from langevin.diffusion.likelihood import (
    Dequantisation,
    ELBOTerms,
    ExactLikelihood,
    ImportanceWeightedPaths,
    Levels,
    bound,
    chain_likelihood,
    flow_likelihood,
)
from langevin.diffusion.likelihood.results import join
from langevin.methods.models import GaussianModel
from langevin.modalities.image.data import Images
from langevin.modalities.modality import Batches, Measuring, spread

CURVE_LEVELS, CURVE_ROWS = 26, 256


class LikelihoodEvaluator:
    """Computes likelihoods of parts of the data, by default both, with one progress count over all of them."""

    def __init__(
        self, model: GaussianModel, m: Measuring, levels: Levels, batch: int, seed: int,
        parts: Mapping[str, Images] | None = None,
    ) -> None:  # fmt: skip
        self.model, self.levels, self.batch, self.seed = model, levels, batch, seed
        self.progress, self.done, self.total = m.progress("likelihood, images"), 0, 0
        self.parts = {"train": m.train, "held_out": m.val} if parts is None else dict(parts)
        self.batches: dict[str, Batches] = {name: m.model.batches(part) for name, part in self.parts.items()}

    def chunks(self, name: str, examples: int) -> Iterator[tuple[Tensor, Batch]]:
        """(item indices, batch) of examples evenly spaced over a part, without augmentation; a batch is of one shape."""
        read = self.batches[name]
        chosen = spread(len(read), examples)
        for _, at in self.parts[name].by_bucket(chosen):
            for items in chosen[at].split(self.batch):
                yield items, read(items)
                self.done += len(items)
                self.progress(self.done, self.total)

    def bounds(
        self, density: Importance, examples: int, *, draws: int = 2, conditional: bool = True
    ) -> dict[str, ELBOTerms]:
        """The variational bound; `conditional` False drops the conditions."""
        results: dict[str, ELBOTerms] = {}
        for name in self.parts:
            estimates = [
                bound(
                    self.model.denoiser, self.model.process, b.x, condition=_condition(b, conditional), levels=self.levels,
                    density=density, times=16, draws=draws, seed=self.seed, names=items,
                )
                for items, b in self.chunks(name, examples)
            ]  # fmt: skip
            columns = {
                n: torch.cat([getattr(g, n) for g in estimates]).cpu() for n in ("prior", "diffusion", "reconstruction")
            }
            dimensions = sum(g.dimensions * len(g.prior) for g in estimates) / sum(len(g.prior) for g in estimates)
            results[name] = ELBOTerms(**columns, dimensions=dimensions)
        return results

    def chain(self, levels: Tensor, examples: int, paths: int) -> dict[str, ImportanceWeightedPaths]:
        """Importance-weighted paths of the ancestral chain along increasing log-SNR `levels`."""
        times = self.model.process.schedule.time(levels)
        results: dict[str, ImportanceWeightedPaths] = {}
        for name in self.parts:
            estimates = [
                chain_likelihood(
                    self.model.denoiser, self.model.process, b.x, times, condition=b.condition, levels=self.levels,
                    paths=paths, batch=self.batch, seed=self.seed, names=items,
                )
                for items, b in self.chunks(name, examples)
            ]  # fmt: skip
            results[name] = ImportanceWeightedPaths(
                log_weights=torch.cat([g.log_weights for g in estimates]).cpu(), dimensions=estimates[0].dimensions
            )
        return results

    def flow(
        self, kind: Dequantisation, examples: int, *, first: float, last: float, steps: int, probes: int
    ) -> dict[str, ExactLikelihood]:
        """The likelihood by the probability flow under the dequantisation `kind`."""
        results: dict[str, ExactLikelihood] = {}
        for name in self.parts:
            estimates = [
                flow_likelihood(
                    self.model.denoiser, self.model.process, b.x, condition=b.condition, levels=self.levels,
                    dequantise=kind, first=first, last=last, steps=steps, probes=probes, dtype=torch.float32,
                    seed=self.seed, names=items,
                )
                for items, b in self.chunks(name, examples)
            ]  # fmt: skip
            results[name] = join(estimates)
        return results

    def curves(self, first: float, last: float, examples: int) -> dict[str, Curve]:
        """The MMSE curve: E|x - D|^2 by log-SNR."""
        levels = torch.linspace(last, first, CURVE_LEVELS, dtype=torch.float64)
        results: dict[str, Curve] = {}
        for name in self.parts:
            estimates = [
                (
                    measure_curve(self.model.denoiser, self.model.process, b, log_snr=levels, seed=self.seed, names=i)[
                        0
                    ],
                    len(i),
                )
                for i, b in self.chunks(name, examples)
            ]
            total = sum(n for _, n in estimates)
            results[name] = Curve(log_snr=levels, mmse=torch.stack([c.mmse * (n / total) for c, n in estimates]).sum(0))
        return results


def _condition(batch: Batch, conditional: bool) -> Condition | None:
    return batch.condition if conditional or batch.condition is None else batch.condition.dropped()


@contextmanager
def without_weight_gradients(model: GaussianModel) -> Iterator[None]:
    """The network in evaluation mode with `requires_grad` False: only x is differentiated."""
    before = [(p, p.requires_grad) for p in model.network.parameters()]
    training = model.network.training
    model.network.eval().requires_grad_(False)
    try:
        yield
    finally:
        for parameter, value in before:
            parameter.requires_grad_(value)
        model.network.train(training)
