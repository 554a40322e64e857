"""How losses on training and held-out examples are reported, by noise level; a method of one call has a single level."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from langevin.evaluation.report import Curves, Facts, Line, MetricRow, Section, Source
from langevin.evaluation.statistics import mean_interval
from langevin.methods.models import LOG_SNR
from langevin.safety.memorisation import LossGap

BY_LOG_SNR = ("log_snr", LOG_SNR)  # name and values of the levels of a Gaussian process
SHOWN = {"log_snr": "log-SNR", "masked": "the masked share"}


def loss_gap_metric(gap: LossGap, levels: tuple[str, Tensor] = BY_LOG_SNR) -> MetricRow:
    """The gap at the level where it is most significant; `levels` are the model's."""
    where = f" at {SHOWN.get(levels[0], levels[0])} {levels[1][gap.worst].item():g}" if len(gap.gap) > 1 else ""
    return MetricRow(
        metric=f"loss gap{where}", generated=mean_interval([gap.gap[gap.worst].item()]),
        standard_error=gap.standard_error[gap.worst].item(), floor=0.0, better="near real",
        meaning="validation minus training loss where most significant; above 3 s.e. means memorisation",
    )  # fmt: skip


def loss_section(
    losses: Mapping[str, Sequence[float]], source: Source, levels: tuple[str, Tensor] = BY_LOG_SNR
) -> Section:
    """The losses of each part of the data; `levels` are the model's."""
    squared = levels[0] == "log_snr"
    note = "Both parts with the same noise; a gap means memorisation."
    if all(len(values) == 1 for values in losses.values()):
        return Facts(
            heading="Loss", rows={name: values[0] for name, values in losses.items()}, source=source, note=note
        )
    return Curves(
        heading="Denoising loss by noise level",
        lines=[
            Line(label=name.replace("_", "-"), x=levels[1].tolist(), y=list(values)) for name, values in losses.items()
        ],
        x_label=SHOWN.get(levels[0], levels[0]), caption=note, y_log=squared,
        y_label="squared error (1 = best linear denoiser)" if squared else "cross-entropy, nats",
    )  # fmt: skip
