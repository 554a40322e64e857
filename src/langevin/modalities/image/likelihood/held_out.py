"""The variational bound of a few held-out images, as a metric of every method that has one."""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from langevin.diffusion.likelihood import Estimate, Levels, mean_of
from langevin.diffusion.likelihood.results import BITS
from langevin.diffusion.noise import SampleNoise, mix
from langevin.evaluation.report import MetricRow
from langevin.evaluation.statistics import mean_interval
from langevin.methods import Autoencoding, Diffusion
from langevin.methods.models import GaussianModel
from langevin.modalities.image.likelihood.evaluator import LikelihoodEvaluator, without_weight_gradients
from langevin.modalities.image.likelihood.measure import LikelihoodFound, trained_times
from langevin.modalities.modality import Measuring

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image

EXAMPLES, DRAWS = 64, 4
METRIC = "ELBO, bits a dimension"


def bound_metric(image: "Image", model: GaussianModel, m: Measuring) -> MetricRow | None:
    """The bound of up to `EXAMPLES` held-out images; None for a method without one, or images without recorded levels."""
    levels = getattr(image.codec, "levels", None)
    if not isinstance(levels, Levels) or len(m.val) < 2:
        return None
    model = replace(model, denoiser=replace(model.denoiser, precision=torch.float32))
    work = LikelihoodEvaluator(model, m, levels, min(m.batch, EXAMPLES), 0, {"held_out": m.val})
    work.total = min(EXAMPLES, len(m.val))
    with without_weight_gradients(model):
        match model.method:
            case Diffusion():
                density, notes = trained_times(model, bool(image.classes or image.captions))
                bits = work.bounds(density, EXAMPLES)["held_out"].bits()["total"]
                how = "in continuous time. " + " ".join(notes)
            case Autoencoding():
                bits = copied(model.method, work, levels)
                how = "of the encoder, by the mass of the decoder's Gaussian between the levels."
            case _:
                return None
    return _row(bits, f"variational bound on the code length of {work.total} held-out images, {how}".strip())


def metric_of(found: LikelihoodFound) -> MetricRow:
    """The row of a likelihood that was measured on more images."""
    return _row(found.rows[0].held_out, found.rows[0].meaning)


def copied(method: Autoencoding, work: LikelihoodEvaluator, levels: Levels) -> Estimate:
    """Bits per dimension of an autoencoder's copies, by `DRAWS` latents of each image."""
    nats, dimensions = list[torch.Tensor](), 0
    for items, batch in work.chunks("held_out", EXAMPLES):
        seeds = mix(torch.zeros_like(items), items).to(batch.x.device)
        draws = [SampleNoise(seeds=seeds, steps=torch.full_like(seeds, i)) for i in range(DRAWS)]
        nats.append(torch.stack([method.bound(batch.x, noise, levels) for noise in draws], 1))
        dimensions += batch.x.numel()
    found = torch.cat(nats)
    return mean_of(found).times(BITS * len(found) / dimensions)


def _row(bits: Estimate, meaning: str) -> MetricRow:
    error = bits.samples
    return MetricRow(
        metric=METRIC, generated=mean_interval([bits.mean]), standard_error=error, better="lower", meaning=meaning
    )
