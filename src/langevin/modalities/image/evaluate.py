"""Evaluation of images: the sections of the report."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langevin.evaluation.report import MetricRow, Metrics, Picture, Pictures, Section, Source
from langevin.evaluation.statistics import mean_interval
from langevin.methods import Diffusion
from langevin.methods.models import GaussianModel
from langevin.modalities.image.codec import require_pixels
from langevin.modalities.image.data import Images
from langevin.modalities.image.likelihood.held_out import bound_metric, metric_of
from langevin.modalities.image.likelihood.measure import LikelihoodFound, measure_likelihood
from langevin.modalities.image.likelihood.show import lines_of, sections_of
from langevin.modalities.image.measure import Measured, feature_spaces, measure_run, require_enough, scorer, searched
from langevin.modalities.image.options import Evaluate
from langevin.modalities.image.preview import grid, png, side_by_side
from langevin.modalities.losses import loss_gap_metric, loss_section
from langevin.modalities.modality import Evaluation, Measuring, Samples
from langevin.safety.memorisation import nearest

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image

__all__ = ["evaluate", "scorer"]


def evaluate(image: "Image", options: Evaluate, m: Measuring) -> Evaluation:
    """Metrics in several feature spaces, class consistency, memorisation, denoising loss, ELBO; optionally the likelihood.

    Raises:
        ValueError: too few images."""
    if options.likelihood and options.likelihood_count < 2:
        raise ValueError(f"--likelihood-count must be at least 2 for a standard error, got {options.likelihood_count}")
    if not options.likelihood and options.likelihood_count != Evaluate.likelihood_count:
        raise ValueError("--likelihood-count has no effect without --likelihood: give both, or neither")
    model = m.model.parts
    method = model.method.Config
    if options.likelihood and method is not Diffusion.Config:
        raise ValueError(f"--likelihood is of diffusion, and this run is of method.kind {method.kind}: leave it out")
    if options.likelihood:
        require_pixels(image.codec, "a likelihood")
        if image.buckets is not None:
            raise ValueError(
                "--likelihood compares with densities of one shape, and this run has several (data.buckets): leave it out; "
                "the ELBO is measured without it"
            )
    require_enough(m.train, m.val)
    # as many as there are real images for the floor
    count = m.count or min(max(len(m.val), len(m.train) // 2, 8), 2000)
    measured = measure_run(image, m, feature_spaces(image, m), count)
    likelihood: LikelihoodFound | None = None
    if options.likelihood:
        assert isinstance(model, GaussianModel), "pixels have a Gaussian process"
        n = options.likelihood_count
        likelihood = measure_likelihood(image, model, m, examples=n, bound_examples=8 * n, batch=min(m.batch, 64))
    elbo = None if likelihood is None else metric_of(likelihood)
    if elbo is None and isinstance(model, GaussianModel):
        elbo = bound_metric(image, model, m)
    rows = [*measured.measures.rows, *own_rows(measured, model.levels), *([] if elbo is None else [elbo])]
    source = Source(samples=measured.measures.samples, seeds=list(range(m.seeds)), command=m.command)
    sections: list[Section] = [
        Pictures(
            heading="Samples",
            pictures=[sample_grid(image, measured.drawn[0])],
            note="Not cherry-picked: first of seed 0.",
        ),
        Metrics(heading="Measured", rows=rows, source=source, note=" ".join(measured.measures.notes)),
        *(sections_of(likelihood, train=len(m.train), val=len(m.val), command=m.command) if likelihood else []),
        Pictures(
            heading="Nearest training images",
            pictures=[_neighbours(image, measured, m.train)],
            note="Sample left, nearest training image right.",
        ),
        loss_section(measured.losses, source, model.levels),
    ]
    figures = {
        "count": count, "seeds": m.seeds, **measured.as_dict(),
        "likelihood": None if likelihood is None else likelihood.as_dict(),
    }  # fmt: skip
    return Evaluation(
        rows=rows, samples=measured.drawn[0], sections=sections, figures=figures,
        title=f"{count} samples x {m.seeds} seeds, {measured.nfe} function evaluations each",
        lines=lines_of(likelihood) if likelihood else [],
    )  # fmt: skip


def own_rows(found: Measured, levels: tuple[str, Tensor]) -> list[MetricRow]:
    """Rows of the metrics table: class consistency, retrieval and memorisation."""
    rows: list[MetricRow] = []
    if found.consistency is not None:
        rows.append(
            MetricRow(
                metric="class consistency",
                generated=found.consistency,
                floor=found.real_accuracy,
                better="higher",
                meaning="share of samples classified as their class; real is the accuracy on validation images",
            )
        )
    rows += [
        MetricRow(
            metric="retrieval",
            group=part,
            generated=mean_interval([result.share]),
            standard_error=(result.share * (1 - result.share) / result.count) ** 0.5,
            floor=1.0,
            better="higher",
            meaning=f"share of {result.count} samples whose nearest of {result.gallery} real images has the caption",
        )
        for part, result in found.retrieval.items()
    ]
    memory = found.memory
    rows.append(
        MetricRow(
            metric="C_T",
            group="pixels",
            generated=mean_interval([memory.c_t]),
            floor=0.0,
            copycat=memory.c_t_copycat,
            better="near real",
            meaning="are samples nearer to training images than validation images are? Far below 0 means copying",
        )
    )
    rows.append(
        MetricRow(
            metric="authentic share",
            group="pixels",
            generated=mean_interval([memory.authentic]),
            floor=memory.authentic_held_out,
            copycat=0.0,
            better="near real",
            meaning="share of samples farther from their nearest training image than that image is from its own nearest",
        )
    )
    return [*rows, loss_gap_metric(found.gap, levels)]


def sample_grid(image: "Image", samples: Samples) -> Picture:
    """A labelled grid of samples: eight of each of the first twelve classes, or 32 of all."""
    images, labels = samples.values, samples.arrays.get("labels")
    if labels is not None and image.classes:
        per = 8
        order = torch.cat([(labels == c).nonzero()[:per, 0] for c in range(min(len(image.classes), 12))])
        captions = [image.classes[i] for i in labels[order].tolist()]
        shown = grid([images[i] for i in order.tolist()], columns=per, captions=captions)
    else:
        pick = (torch.arange(min(32, len(images))) * len(images) // min(32, len(images))).tolist()
        captions = [samples.names[i] for i in pick] if samples.names else None
        shown = grid([images[i] for i in pick], columns=8, captions=captions)
    return Picture(image=png(shown), caption="Samples")


def _neighbours(image: "Image", measured: Measured, train: Images) -> Picture:
    images = image.comparable(measured.drawn[0].values)
    pick = torch.arange(min(16, len(images))) * len(images) // min(16, len(images))
    real = searched(train)
    _, index = nearest(real, images[pick])
    pairs = side_by_side(images[pick], real[index[:, 0]])
    return Picture(
        image=png(grid(pairs, columns=4)), caption="Each sample with its nearest training image (L2 in pixels)"
    )
