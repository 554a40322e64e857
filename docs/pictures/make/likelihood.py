"""The pictures of docs/likelihood.md: python docs/pictures/make/likelihood.py [RUN]

Two are of a Gaussian with eigenvalues 4, 1, 1/4, 1/20, 1/100, in closed form; the third is of a run's evaluation.json.
"""

import json
import math
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

from langevin.diffusion.free_energy import Curve
from langevin.diffusion.schedule import Beta, Cosine, Rectified, VarianceExploding, VariancePreserving

HERE = Path(__file__).parents[1]
S = torch.tensor([4.0, 1.0, 0.25, 0.05, 0.01], dtype=torch.float64)
LOW, HIGH = math.log(1e-3), math.log(1e4)
COLOURS = ("#3b7dd8", "#e07b39", "#3a9d6e", "#b85fb3", "#c9a227")
INK, GRID = "#1c1e21", "#dfe2e6"


def mmse(log_snr):
    return (S / (1 + S * log_snr.exp()[..., None])).sum(-1)


def axes_of(figure, place, title, x, y):
    axes = figure.add_subplot(*place)
    axes.set_title(title, fontsize=10.5, color=INK, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color=GRID, linewidth=0.7)
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=INK, length=0, which="both")
    return axes


def save(figure, name):
    figure.savefig(HERE / name, dpi=110, facecolor="white")
    print(HERE / name, (HERE / name).stat().st_size // 1000, "kB")


def grid():
    levels = torch.linspace(LOW, HIGH, 400, dtype=torch.float64)
    curve = Curve(log_snr=levels, mmse=mmse(levels))
    even = torch.linspace(LOW, HIGH, 9, dtype=torch.float64)
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = axes_of(figure, (1, 2, 1), "mmse, and the knots of eight steps", "log-SNR", "mmse = E|x − D|²")
    axes.plot(levels, curve.mmse, color=INK, linewidth=1.6)
    rows = (("equal log-SNR", even, 8e-4), ("constant speed", curve.constant_speed(8), 4e-4), ("least cost", curve.optimal(8), 2e-4))
    for (name, knots, height), colour in zip(rows, COLOURS, strict=False):
        axes.plot(knots, [height] * 9, "|", color=colour, markersize=11, markeredgewidth=2, label=name)
    axes.set_yscale("log")
    axes.set_ylim(1.2e-4, 10)
    axes.legend(frameon=False, loc="upper right", fontsize=9)
    axes = axes_of(figure, (1, 2, 2), "what finite steps add to the bound", "steps", "nats above the continuous bound")
    steps = [4, 8, 16, 32, 64, 128]
    energy = curve.energy()
    clocks = {
        "equal steps of cosine time": lambda n: Cosine().log_snr(
            torch.linspace(*(float(Cosine().time(torch.tensor(v).double())) for v in (LOW, HIGH)), n + 1).double()
        ),
        "equal log-SNR": lambda n: torch.linspace(LOW, HIGH, n + 1, dtype=torch.float64),
        "constant speed": curve.constant_speed,
        "least cost": lambda n: curve.optimal(n, candidates=900),
    }
    colours = ("#7a8794", *COLOURS)
    for (name, knots), colour, mark in zip(clocks.items(), colours, ("o-", "o-", "o-", "x"), strict=False):
        axes.plot(steps, [curve.finite(knots(n)) - energy for n in steps], mark, color=colour, label=name, markersize=5)
    axes.plot(steps, [curve.length() ** 2 / (4 * n) for n in steps], "--", color=INK, linewidth=1, label="S² / 4T")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(steps, [str(n) for n in steps])
    axes.legend(frameon=False, fontsize=9)
    save(figure, "likelihood-grid.png")


def degenerate():
    shapes = {
        "rectified": Rectified(),
        "cosine": Cosine(),
        "β linear": VariancePreserving(),
        "β ∝ t³": VariancePreserving(beta=Beta.tabulate(lambda t: 0.05 + 60 * t**3, knots=257)),
        "exploding, t⁷": VarianceExploding(),
    }
    low, high = -6.0, 8.0
    figure = Figure(figsize=(10, 4), layout="constrained")
    left = axes_of(figure, (1, 2, 1), "the integrand over each schedule's own time", "time between the ends", "nats a unit of time")
    right = axes_of(figure, (1, 2, 2), "its integral: every clock pays the same", "time between the ends", "nats so far, from the noise")
    for (name, schedule), colour in zip(shapes.items(), COLOURS, strict=True):
        a, b = (float(schedule.time(torch.tensor(v).double())) for v in (high, low))
        t = torch.linspace(b, a, 4001, dtype=torch.float64)
        snr = schedule.log_snr(t).exp()
        f = -0.5 * schedule.rate(t) * snr * (S / (1 + S * snr[:, None])).sum(1) * (b - a)
        share = (t - a) / (b - a)
        total = -torch.cumulative_trapezoid(f, share)
        left.plot(share, f, color=colour, linewidth=1.7, label=name)
        right.plot(share[1:], total, color=colour, linewidth=1.7, label=name)
    true = 0.5 * float(((1 + S * math.exp(high)) / (1 + S * math.exp(low))).log().sum())
    left.set_yscale("log")
    left.legend(frameon=False, fontsize=9)
    for axes in (left, right):
        axes.set_xlim(1.02, -0.02)
    right.axhline(true, color=INK, linewidth=1, linestyle="--")
    right.annotate(f"½ Σ ln((1 + s SNR₀) / (1 + s SNR₁)) = {true:.2f} nats", (1, true), (0, -14), textcoords="offset points", fontsize=9)
    save(figure, "likelihood-degenerate.png")


def terms(run):
    found = json.loads((run / "evaluation.json").read_text())["likelihood"]
    bits = 1 / math.log(2) / found["dimensions"]
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = axes_of(
        figure, (1, 2, 1), "where the bits are paid (digits, measured)", "log-SNR", "bits a dimension, a unit of log-SNR"
    )
    for (name, curve), colour in zip(found["curves"].items(), COLOURS, strict=False):
        level, error = (torch.tensor(curve[n]).double() for n in ("log_snr", "mmse"))
        axes.plot(level, 0.5 * level.exp() * error * bits, color=colour, linewidth=1.7, label=name.replace("_", "-"))
    ceiling = 0.5 / math.log(2)
    axes.axhline(ceiling, color=INK, linewidth=1, linestyle="--")
    axes.annotate("nothing known but the noisy pixel", (level[0], ceiling), (4, -12), textcoords="offset points", fontsize=9)
    axes.legend(frameon=False, fontsize=9, loc="center left")
    level, error = (torch.tensor(found["curves"]["train"][n]).double() for n in ("log_snr", "mmse"))
    axes = axes_of(figure, (1, 2, 2), "mmse, and the constant-speed knots for sampling", "log-SNR", "mmse a dimension")
    axes.plot(level, error / found["dimensions"], color=INK, linewidth=1.6)
    knots = torch.tensor(found["knots"]).double()
    curve = Curve(log_snr=level, mmse=error).monotone()
    axes.plot(knots, curve.at(knots) / found["dimensions"], "o", color=COLOURS[1], markersize=4.5)
    axes.set_yscale("log")
    save(figure, "likelihood-digits.png")


if __name__ == "__main__":
    grid()
    degenerate()
    if len(sys.argv) > 1:
        terms(Path(sys.argv[1]))
