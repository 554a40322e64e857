"""The pictures of docs/solvers.md."""

from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from langevin.modalities.image import preview
from langevin.modalities.modality import spread

COLOURS = ("#7a8794", "#3b7dd8", "#3a9d6e", "#e07b39", "#b85fb3", "#c9a227", "#1c1e21", "#c0392b", "#17a2b8")
INK, LINES = "#1c1e21", "#dfe2e6"
OURS = {
    "euler": "euler", "heun": "heun", "dpm2m": "dpm2m", "dpm3m (published)": "dpm3m", "exponential 3": "exponential_3",
    "exponential 4": "exponential_4", "unipc 3": "unipc_3", "ipndm": "ipndm",
}  # fmt: skip
THIRD = {
    "diffusers EDM DPM++ 3M": "diffusers EDM DPM++ 3M", "k-diffusion dpmpp_3m_sde": "k-diffusion dpmpp_3m_sde",
    "diffusers DEIS 3": "diffusers DEIS 3", "diffusers UniPC 3": "diffusers UniPC 3",
}  # fmt: skip


def dressed(axes: Axes, title: str, x: str, y: str) -> Axes:
    axes.set_title(title, fontsize=10.5, color=INK, loc="left")
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    axes.grid(color=LINES, linewidth=0.7)
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=INK, length=0, which="both")
    return axes


def ticks(axes: Axes, at: Any) -> None:
    axes.set_xticks(list(at), [str(n) for n in at])
    axes.minorticks_off()


def ours(curves: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    both = figure.subplots(1, 2, sharey=True)
    for axes, grid in zip(both, ("rho-7", "log-SNR"), strict=True):
        dressed(axes, f"{grid} grid, rho 20 to 0.02", "network calls", "error" if grid == "rho-7" else "")
        for (label, name), colour in zip(OURS.items(), COLOURS, strict=False):
            curve = curves[name][grid]
            axes.plot(curve.calls, curve.errors, "o-", color=colour, label=label, markersize=3.5, linewidth=1.5)
        if grid in curves["adaptive"]:
            curve = curves["adaptive"][grid]
            axes.plot(curve.calls, curve.errors, "x", color=COLOURS[8], label="adaptive", markersize=6)
        ticks(axes, (8, 32, 128, 512, 2048))
    handles, labels = both[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
    figure.savefig(path, dpi=100, facecolor="white")


def peers(curves: dict[str, Any], others: dict[str, Any], shipped: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    dressed(left, "called third order, on the same knots (rho-7)", "network calls", "error")
    mine = {"ours, exponential 3": "exponential_3", "ours, unipc 3": "unipc_3"}
    for (label, name), colour in zip(mine.items(), (COLOURS[4], COLOURS[6]), strict=True):
        curve = curves[name]["rho-7"]
        left.plot(curve.calls, curve.errors, "o-", color=colour, label=label, markersize=3.5, linewidth=1.5)
    for (label, name), colour, mark in zip(
        THIRD.items(), ("#e07b39", "#c0392b", "#3b7dd8", "#3a9d6e"), "sx.^", strict=True
    ):
        if name in others:
            curve = others[name]["rho-7"]
            left.plot(curve.calls, curve.errors, f"{mark}--", color=colour, label=label, markersize=5, linewidth=1)
    left.legend(frameon=False, fontsize=9)
    ticks(left, (8, 32, 128, 512))
    dressed(right, "diffusers on its own knots", "steps", "")
    for (label, errors), colour in zip(shipped["errors"].items(), COLOURS[1:], strict=False):
        right.plot(shipped["steps"], errors, "o-", color=colour, label=label, markersize=3.5, linewidth=1.5)
    right.legend(frameon=False, fontsize=9)
    ticks(right, shipped["steps"])
    figure.savefig(path, dpi=100, facecolor="white")


def draw(curves: dict[str, Any], others: dict[str, Any], shipped: dict[str, Any], folder: Path) -> None:
    """solvers-ours.png and solvers-peers.png in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    ours(curves, folder / "solvers-ours.png")
    peers(curves, others, shipped, folder / "solvers-peers.png")
    for name in ("solvers-ours.png", "solvers-peers.png"):
        print(folder / name, (folder / name).stat().st_size // 1000, "kB")


def quality(about: dict[str, Any], cells: list[dict[str, Any]], path: Path) -> None:
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    for axes, side in zip(figure.subplots(1, 2, sharey=True), ("ours", "diffusers"), strict=True):
        dressed(axes, f"{side}, one network, equal starts and knots", "network calls", "")
        names = [n for n in dict.fromkeys(c["sampler"] for c in cells) if n.startswith(side)]
        for name, colour in zip(names, (*COLOURS, "#555555"), strict=False):
            mine = [c for c in cells if c["sampler"] == name]
            x, y, e = ([c[k] for c in mine] for k in ("calls", "fd", "error"))
            label = name.removeprefix(side + " ")
            axes.errorbar(x, y, e, marker="o", color=colour, label=label, markersize=3.5, linewidth=1.3, elinewidth=0.7)
        axes.axhline(about["fine"], color="#7a8794", linestyle=":", label="fine trajectory")
        axes.legend(frameon=False, fontsize=7, loc="upper right", ncols=2)
        ticks(axes, sorted({c["calls"] for c in cells if c["sampler"] == "ours ddim"}))
    figure.axes[0].set_ylabel(f"FD in {about['space']} features")
    figure.savefig(path, dpi=80, facecolor="white")


def sheet(columns: list[int], at: dict[tuple[str, int], Any], names: list[str], path: Path) -> None:
    """The same eight names by every sampler, at the two least numbers of calls."""
    strips, captions = [], []
    for name in names:
        for calls in columns:
            if (name, calls) in at:
                images = at[name, calls]["images"]
                strips.append(images[spread(len(images), 8)])
                captions += [f"{name} {calls}", *[""] * 7]
    whole = Image.open(BytesIO(preview.png(preview.grid(torch.cat(strips), columns=16, captions=captions))))
    whole.quantize(96).save(path, optimize=True)  # a third of the size
