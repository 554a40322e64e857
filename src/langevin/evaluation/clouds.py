"""Plots of point sets: histograms in one dimension, density maps of the first two coordinates otherwise."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

INK, TRUTH = "#1f4e9c", "#d1495b"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A density p (n,) over x (n,), drawn as a line."""

    x: Tensor
    p: Tensor
    label: str = "truth"


def png(figure: Any) -> bytes:
    """The figure as the bytes of a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100)
    return content.getvalue()


def clouds(named: Mapping[str, Tensor], *, curve: Curve | None = None) -> bytes:
    """A PNG of samples (n, d) by name: histograms in one plot for d = 1, else one density map per name."""
    from matplotlib.figure import Figure

    first = next(iter(named.values()))
    if first.shape[1] == 1:
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        lines(figure.subplots(), named, curve=curve)
        return png(figure)
    figure = Figure(figsize=(3.6 * len(named), 3.6), layout="constrained")
    reach = float(torch.cat([x[:, :2] for x in named.values()]).abs().quantile(0.995)) * 1.15
    axes = figure.subplots(1, len(named), squeeze=False)[0]
    for panel, (name, x) in zip(axes, named.items(), strict=True):
        plane(panel, x, reach=reach, title=name)
    return png(figure)


def lines(axes: Any, named: Mapping[str, Tensor], *, curve: Curve | None = None) -> None:
    """Draw histograms of samples (n, 1), and `curve` over them."""
    every = torch.cat([x[:, 0] for x in named.values()]).double()
    low, high = (float(every.quantile(q)) for q in (0.001, 0.999))
    margin = 0.1 * (high - low)
    for (name, x), style in zip(named.items(), _styles(len(named))):
        bins = max(20, min(80, round(len(x) ** 0.5)))
        axes.hist(x[:, 0].tolist(), bins=bins, range=(low - margin, high + margin), density=True, label=name, **style)
    if curve is not None:
        inside = (curve.x > low - margin) & (curve.x < high + margin)
        axes.plot(curve.x[inside].tolist(), curve.p[inside].tolist(), color=TRUTH, linewidth=1.6, label=curve.label)
    axes.set(xlabel="x", ylabel="density")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _styles(count: int) -> Sequence[dict[str, Any]]:
    return [{"color": INK, "alpha": 0.45}, *[{"histtype": "step", "color": "#444444", "linewidth": 1.0}] * (count - 1)]


def plane(axes: Any, x: Tensor, *, reach: float, title: str) -> None:
    """Draw the first two coordinates of x (n, d) as a density map over [-reach, reach]^2."""
    edges = [[-reach, reach], [-reach, reach]]
    bins = max(30, min(90, round(len(x) ** 0.5)))
    axes.hist2d(x[:, 0].tolist(), x[:, 1].tolist(), bins=bins, range=edges, cmap="magma", density=True)
    axes.set(title=title, aspect="equal", xticks=[], yticks=[])
