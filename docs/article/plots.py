"""The numbers and pictures of docs/article.md: `python docs/article/plots.py [FOLDER]`, a minute of one thread.

The data is a mixture of Gaussians, whose density and denoiser have closed forms. Nothing is trained, so every error that is
printed belongs to the process, the grid or the sampler.
"""

import math
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

from langevin.diffusion.chain.densities import THREE_BUMPS, Mixture
from langevin.diffusion.fokker_planck import GridBox, fokker_planck
from langevin.diffusion.free_energy import Curve
from langevin.diffusion.likelihood import finite_bound
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import Point, Score
from langevin.diffusion.process import SDE, Gaussian
from langevin.diffusion.process.sde import DoubleWell, LimitCycle, OrnsteinUhlenbeck
from langevin.diffusion.sampler import (
    DPM2M,
    Ancestral,
    Euler,
    Heun,
    KarrasGrid,
    LogSNR,
    ReverseSDE,
    UniformTimeGrid,
    sample,
    start,
)
from langevin.diffusion.schedule import Beta, Cosine, Rectified, VarianceExploding, VariancePreserving

BUMPS = Mixture(means=((-2.0,), (0.3,)), stds=(0.25, 0.2), weights=(0.25, 0.75))  # the data of toy/double-well
M, S, W = (torch.tensor(v, dtype=torch.float64).flatten() for v in (BUMPS.means, BUMPS.stds, BUMPS.weights))
MEAN, SECOND = float((W * M).sum()), float((W * (M**2 + S**2)).sum())
LINE = torch.linspace(-5, 5, 100_001, dtype=torch.float64)
COLOURS, GREY = ("#3b7dd8", "#e07b39", "#3a9d6e", "#b85fb3", "#c9a227"), "#7a8794"


# ------------------------------------------------------------------------------------------------ the mixture, exactly


def denoiser(data, schedule):
    """E[x | x_t] of a mixture of Gaussians: the posterior means of its parts, weighted by their responsibilities."""
    m, s, w = (torch.tensor(v, dtype=torch.float64) for v in (data.means, data.stds, data.weights))

    def D(x_t, t, condition=None):
        alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
        variance = (alpha * s) ** 2 + sigma**2
        off = x_t[:, None] - alpha[..., None] * m
        log_share = w.log() - 0.5 * (off.square().sum(-1) / variance + x_t.shape[1] * variance.log())
        means = m + (alpha * s**2 / variance)[..., None] * off
        return Point((log_share.softmax(1)[..., None] * means).sum(1))

    return D


def score(data, schedule):
    """grad ln p_t = (alpha D - x_t) / sigma^2."""
    D = denoiser(data, schedule)

    def f(x_t, t, condition=None):
        return Score((schedule.alpha(t)[:, None] * D(x_t, t).mean - x_t) / schedule.sigma(t)[:, None] ** 2)

    return f


def density(x, alpha=1.0, sigma=0.0):
    """p_t of the bumps at x (n,)."""
    variance = (alpha * S) ** 2 + sigma**2
    return (W * torch.exp(-0.5 * (x[:, None] - alpha * M) ** 2 / variance) / (2 * math.pi * variance).sqrt()).sum(1)


def cdf(x, alpha=1.0, sigma=0.0):
    variance = (alpha * S) ** 2 + sigma**2
    return (W * torch.special.ndtr((x[:, None] - alpha * M) / variance.sqrt())).sum(1)


CDF = cdf(LINE)


def quantile(p, alpha=1.0, sigma=0.0):
    """x_t with cdf(x_t) = p of the bumps, flattened."""
    known = CDF if sigma == 0 else cdf(LINE, alpha, sigma)
    return LINE[torch.searchsorted(known, p.flatten()).clamp_max(len(LINE) - 1)]


def even_levels(n):
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def wasserstein(x):
    """W1 between points (n, 1) and the bumps: the mean distance of their quantiles."""
    return float((x.flatten().sort().values - quantile(even_levels(len(x)))).abs().mean())


def mismatch(alpha, sigma, std=1.0):
    """KL(p_1 || N(0, std^2)) in nats, by quadrature."""
    x = LINE * max(1.0, 2 * sigma, 2 * std)
    p = density(x, alpha, sigma)
    log_normal = -0.5 * (x / std) ** 2 - math.log(std * math.sqrt(2 * math.pi))
    return float(torch.trapezoid(p * (p.clamp_min(1e-300).log() - log_normal), x))


# -------------------------------------------------------------------------------------------------------- the sections


def ends(schedule):
    one = torch.ones(1, dtype=torch.float64)
    return float(schedule.alpha(one)), float(schedule.sigma(one))


def noise(folder):
    """1. x_t = alpha x + sigma eps: the moments of x_1, and how far its distribution is from the prior."""
    rows = torch.arange(100_000)
    x = quantile(SampleNoise(seeds=rows, steps=torch.zeros_like(rows)).uniform(torch.empty(len(rows), 1).double()))[
        :, None
    ]
    named = {
        "rectified": Rectified(),
        "cosine": Cosine(),
        "linear beta 0.1 to 20": VariancePreserving(),
        "linear beta 0.02 to 4": VariancePreserving(beta=Beta(values=(0.02, 4.0))),
        "variance exploding to 80": VarianceExploding(),
    }
    for name, schedule in named.items():
        process = Gaussian(schedule=schedule, sigma_data=math.sqrt(SECOND - MEAN**2))
        x_1 = process.corrupt(x, torch.ones(len(x), dtype=torch.float64), SampleNoise(seeds=rows, steps=rows * 0 + 1))
        alpha, sigma = ends(schedule)
        std = math.sqrt((alpha * process.sigma_data) ** 2 + sigma**2)
        print(
            f"{name:25} x_1: mean {float(x_1.mean()):+.4f} (exact {alpha * MEAN:+.4f}), "
            f"std {float(x_1.std()):.4f} ({std:.4f}); "
            f"KL to N(0, {std:.3g}^2) {mismatch(alpha, sigma, std):.2e}"
            + ("" if sigma > 2 else f", to N(0, 1) {mismatch(alpha, sigma):.2e}")
        )
    schedule = VariancePreserving()
    for t in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = torch.full((len(x),), t, dtype=torch.float64)
        x_t = Gaussian(schedule=schedule).corrupt(x, at, SampleNoise(seeds=rows, steps=rows * 0 + 1))
        alpha, sigma = float(schedule.alpha(at[:1])), float(schedule.sigma(at[:1]))
        print(
            f"  t = {t:4}: alpha {alpha:.4f} sigma {sigma:.4f} mean {float(x_t.mean()):+.4f} std {float(x_t.std()):.4f} "
            f"KL to N(0, 1) {mismatch(alpha, sigma):.2e}"
        )


def drift(folder):
    """2. dx = f dt + g dw, simulated, and the known answer."""
    rows = torch.arange(20_000)

    def end(process, x, t=1.0):
        return process.corrupt(x, torch.full((len(x),), t).double(), SampleNoise(seeds=rows, steps=rows * 0 + 1))

    two = torch.full((len(rows), 1), 2.0, dtype=torch.float64)
    x = end(SDE(drift=OrnsteinUhlenbeck(rate=1.0), diffusion=2**0.5, duration=1.0).with_closed_form(two[:1]), two)
    print(
        f"pull: mean {float(x.mean()):.3f} ({2 * math.exp(-1):.3f}), variance {float(x.var()):.3f} ({1 - math.exp(-2):.3f})"
    )

    box = GridBox(low=-3.2, high=3.2, cells=320)
    begin = 0.3 + 0.2 * torch.randn(len(rows), 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = end(SDE(drift=DoubleWell(), duration=1.5), begin)
    p_0 = box.density(-0.5 * ((box.points[:, 0] - 0.3) / 0.2) ** 2)
    p = fokker_planck(DoubleWell(), 1.0, p_0, [0.0, 1.5], box=box)[1]
    left = float(p[box.centres < 0].sum() * box.width)
    print(f"double well: {float((x < 0).double().mean()):.3f} left of the barrier ({left:.3f} on the grid)")

    box = GridBox(low=-2.4, high=2.4, cells=96, dimensions=2)
    generator = torch.Generator().manual_seed(0)
    begin = torch.tensor([1.0, 0.0]) + 0.3 * torch.randn(len(rows), 2, generator=generator, dtype=torch.float64)
    x = end(SDE(drift=LimitCycle(), diffusion=0.8, duration=1.5, steps=100), begin)
    p_0 = box.density(-0.5 * ((box.points - torch.tensor([1.0, 0.0])) / 0.3).square().sum(1))
    p = fokker_planck(LimitCycle(), 0.8, p_0, [0.0, 1.5], box=box)[1].flatten() * box.width**2
    mean = [float((p * values).sum()) for values in (*box.points.T, box.points.norm(dim=1))]
    print(
        f"limit cycle: mean ({float(x[:, 0].mean()):+.3f}, {float(x[:, 1].mean()):+.3f}), radius {float(x.norm(dim=1).mean()):.3f} "
        f"(grid: ({mean[0]:+.3f}, {mean[1]:+.3f}), {mean[2]:.3f})"
    )

    own = textbook(linear(10.0)).with_closed_form(two[:1])
    x = end(own, two, 0.5)
    half = torch.full((1,), 0.5, dtype=torch.float64)
    alpha, sigma = float(linear(10.0).alpha(half)), float(linear(10.0).sigma(half))
    print(
        f"own f = -beta x / 2 at t = 1/2: affine {own.kernel is not None}, mean {float(x.mean()):.3f} ({2 * alpha:.3f}), "
        f"std {float(x.std()):.3f} ({sigma:.3f})"
    )


def linear(total):
    """DDPM's shape, beta(t) = total (0.01 + 1.98 t): its integral over 0 <= t <= 1 is `total`."""
    return VariancePreserving(beta=Beta(values=(0.01 * total, 1.99 * total)))


def textbook(schedule):
    """dx = -beta x / 2 dt + sqrt(beta) dw, given as a drift and a noise of one's own."""
    beta = schedule.beta
    return SDE(
        drift=lambda x, t: -0.5 * beta.rate(t.double())[:, None].to(x.dtype) * x,
        diffusion=lambda t: beta.rate(t).sqrt(),
    )


def draw(tool, process, model, grid, steps, x):
    """Samples from x at the first time of the grid."""
    rows = torch.arange(len(x))
    state = start(tool, process, x, grid(torch.tensor([steps]), process.schedule).expand(len(x), -1), rows, x=x)
    for after in sample(tool, process, model, state):
        state = after
    return state.x


def normal(n):
    """n quantiles of N(0, 1): a start without the chance of draws."""
    return math.sqrt(2) * torch.erfinv(2 * even_levels(n)[:, None] - 1)


def rate(folder):
    """3. W1 of samples to the data against the integral of beta, at several numbers of steps."""
    totals, counts = (0.5, 1, 2, 4, 7, 10, 20, 40, 80, 160), (10, 20, 50, 200)
    names = ("Euler-Maruyama, equal steps of time", "DDIM, equal steps of time", "DDIM, equal steps of log-SNR")
    found = {name: [[] for _ in counts] for name in names}
    few, many, exact = normal(2000), normal(8000), []
    for total in totals:
        schedule = linear(float(total))
        alpha, sigma = ends(schedule)
        exact.append(wasserstein(quantile(cdf(few.flatten(), alpha, sigma))))  # the flow itself keeps quantiles
        process, D = Gaussian(schedule=schedule), denoiser(BUMPS, schedule)
        for i, n in enumerate(counts):
            x = draw(ReverseSDE(), textbook(schedule), score(BUMPS, schedule), UniformTimeGrid(), n, many)
            found[names[0]][i].append(wasserstein(x))
            found[names[1]][i].append(wasserstein(draw(Euler(), process, D, UniformTimeGrid(), n, few)))
            found[names[2]][i].append(wasserstein(draw(Euler(), process, D, LogSNR(low=0.01, high=50), n, few)))
    rows = torch.arange(8000)
    chance = [wasserstein(quantile(SampleNoise(seeds=rows, steps=0 * rows + i).uniform(many))) for i in range(8)]
    print(f"W1 of 8,000 exact draws, mean of {len(chance)} sets: {sum(chance) / len(chance):.4f}")
    schedules = [linear(float(total)) for total in totals]
    print("integral of beta    ", *(f"{total:8g}" for total in totals))
    print("KL of the prior     ", *(f"{mismatch(*ends(schedule)):8.1e}" for schedule in schedules))
    clock = torch.linspace(0, 1, 2001, dtype=torch.float64)
    times = [
        next((float(t) for t in clock if mismatch(float(s.alpha(t)), float(s.sigma(t))) < 0.01), math.nan)
        for s in schedules
    ]
    print("t where KL < 0.01   ", *(f"{t:8.3f}" for t in times))
    print("W1 of the prior     ", *(f"{value:8.4f}" for value in exact))
    figure = Figure(figsize=(11, 4.0), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for name, axes in zip(names, panels, strict=True):
        for n, values, colour in zip(counts, found[name], COLOURS, strict=False):
            print(f"{name[:13]} {name[-8:]:8} {n:4}", *(f"{value:8.3g}" for value in values))
            axes.plot(totals, values, "o-", color=colour, markersize=4, label=f"{n} steps")
        axes.plot(totals, exact, "--", color=GREY, label="exact flow from N(0, 1)")
        plain(axes, name, "integral of beta")
        axes.set(xscale="log", yscale="log", ylim=(3e-3, 2))
        axes.set_xticks([0.5, 2, 10, 40, 160], ["0.5", "2", "10", "40", "160"])
    panels[0].set_ylabel("W1 of samples to the data")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=9
    )
    save(figure, folder / "article-beta.png")


def iterate(folder):
    """4. From noise to data in n steps: the error by the number of network evaluations, and one trajectory in pictures."""
    schedule = VariancePreserving()
    process, D, grid = Gaussian(schedule=schedule), denoiser(BUMPS, schedule), KarrasGrid(low=0.002, high=80)
    at = torch.full((1,), -2 * math.log(80), dtype=torch.float64)
    alpha, sigma = (float(f(schedule.time(at))) for f in (schedule.alpha, schedule.sigma))
    few, many = (quantile(even_levels(n), alpha, sigma)[:, None] for n in (2000, 20_000))  # no mismatch at the start
    counts = (4, 8, 16, 32, 64, 128)
    print("evaluations    ", *(f"{n:8}" for n in counts), "   slope of the last three")
    for tool, x in ((Ancestral(), many), (Euler(), few), (Heun(), few), (DPM2M(), few)):
        calls = 2 if isinstance(tool, Heun) else 1
        values = [wasserstein(draw(tool, process, D, grid, n // calls, x)) for n in counts]
        slope = math.log2(values[-3] / values[-1]) / 2
        print(f"{tool.kind:15}", *(f"{value:8.2g}" for value in values), f"{slope:8.2f}")
    film(folder)


def film(folder):
    """Twelve steps of DPM-Solver++ 2M in the plane: x_t above, D(x_t, t) below."""
    schedule, rows = Rectified(), torch.arange(1000)
    process, D = Gaussian(schedule=schedule, sigma_data=1.2), denoiser(THREE_BUMPS, schedule)
    times = KarrasGrid(low=0.05, high=40)(torch.tensor([12]), schedule).expand(len(rows), -1)
    state = start(DPM2M(), process, torch.zeros(len(rows), 2, dtype=torch.float64), times, rows)
    states = [state, *sample(DPM2M(), process, D, state)]
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    shown = (0, 4, 6, 8, 10, 12)
    panels = figure.subplots(2, len(shown))
    for k, (top, low) in zip(shown, panels.T, strict=True):
        x, t = states[k].x, states[k].t
        top.set_title(f"{k} steps, sigma {float(schedule.sigma(t)[0]):.2f}", fontsize=9)
        for axes, points in ((top, x), (low, D(x, t).mean if k < 12 else x)):
            axes.plot(*points.T, ".", color=COLOURS[0], markersize=1.6, alpha=0.6)
            axes.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")
    panels[0, 0].set_ylabel("x_t")
    panels[1, 0].set_ylabel("D = E[x | x_t]")
    save(figure, folder / "article-steps.png", dpi=80)


def mmse(log_snr):
    """E|x - D|^2 of the bumps at log-SNR (n,), by quadrature over y = x + rho eps."""
    values = []
    for level in log_snr:
        rho = math.exp(-0.5 * float(level))
        y = torch.linspace(-5 - 8 * rho, 5 + 8 * rho, 8001, dtype=torch.float64)
        variance = S**2 + rho**2
        share = W * torch.exp(-0.5 * (y[:, None] - M) ** 2 / variance) / (2 * math.pi * variance).sqrt()
        means = M + S**2 / variance * (y[:, None] - M)
        D = (share * means).sum(1) / share.sum(1).clamp_min(1e-300)
        values.append(torch.trapezoid((share * (S**2 * rho**2 / variance + (means - D[:, None]) ** 2)).sum(1), y))
    return torch.stack(values)


def free_energy(curve, log_snr):
    """The bound of ancestral steps on knots (T,) of falling log-SNR, nats: prior, diffusion, reconstruction."""
    alpha_2 = torch.sigmoid(log_snr[-1])
    prior = 0.5 * (alpha_2 * (SECOND - 1) - torch.log1p(-alpha_2))
    snr = log_snr.exp()
    diffusion = 0.5 * ((snr[:-1] - snr[1:]) * curve.at(log_snr[1:])).sum()
    return prior + diffusion + 0.5 * (math.log(2 * math.pi * math.e) - log_snr[0])


def knots(rates):
    """log-SNR after 1, 2, ..., T equal steps of time under the rates beta (T,)."""
    return -torch.log(torch.expm1((rates / len(rates)).cumsum(0)))


def least(curve, steps):
    """The rates beta (steps,) of least free energy, by gradient descent on ln beta."""
    t = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    log_rate = (6 * (0.01 + 1.98 * t)).log().requires_grad_()
    optimizer = torch.optim.LBFGS([log_rate], max_iter=400, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def closure():
        optimizer.zero_grad()
        value = free_energy(curve, knots(log_rate.exp()))
        value.backward()
        return value

    optimizer.step(closure)
    return log_rate.detach().exp()


def energy(folder):
    """5. The free energy of beta(t) in T steps, and the beta(t) of least free energy."""
    level = torch.linspace(-14, 14, 561, dtype=torch.float64)
    curve = Curve(log_snr=level, mmse=mmse(level))
    p = density(LINE)
    entropy = float(-torch.trapezoid(p * p.clamp_min(1e-300).log(), LINE))
    print(
        f"entropy of the data {entropy:.4f} nats; continuous steps over log-SNR -14 to 14: {whole(curve) - entropy:.1e} above it"
    )
    times = (torch.arange(32, 0, -1, dtype=torch.float64)) / 32
    x = quantile(even_levels(4000))[:, None]
    process = Gaussian(schedule=VariancePreserving(), sigma_data=1.0)
    drawn = finite_bound(denoiser(BUMPS, process.schedule), process, x, times, draws=4).nats
    error = float(drawn.mean(1).std()) / math.sqrt(len(x))
    print(f"T = 32, DDPM's beta, by finite_bound: {float(drawn.mean()) - entropy:.4f} (standard error {error:.4f})")
    totals = torch.logspace(math.log10(0.3), math.log10(300), 91, dtype=torch.float64)
    counts = (8, 16, 32, 64, 128)
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for n, colour in zip(counts, COLOURS, strict=True):
        t = (torch.arange(n, dtype=torch.float64) + 1) / n
        values = [float(free_energy(curve, linear(float(b)).log_snr(t))) - entropy for b in totals]
        best = min(range(len(values)), key=values.__getitem__)
        rates = least(curve, n)
        level = knots(rates)
        rising = level.flip(0)
        within = torch.linspace(float(rising[0]), float(rising[-1]), 400, dtype=torch.float64)
        speed = Curve(log_snr=within, mmse=curve.at(within)).constant_speed(n - 1)
        assert float(free_energy(curve, level)) <= values[best] + entropy
        print(
            f"T = {n:4}: linear beta, least at integral {float(totals[best]):5.2f}: {values[best]:.4f}; DDPM's 10.05 "
            f"{float(free_energy(curve, VariancePreserving().log_snr(t))) - entropy:.4f}; "
            f"cosine {float(free_energy(curve, Cosine().log_snr(t))) - entropy:.4f}; "
            f"all beta(t): {float(free_energy(curve, level)) - entropy:.4f} with integral {float(rates.mean()):.2f}, "
            f"constant speed between the same ends {float(free_energy(curve, speed.flip(0))) - entropy:.4f}"
        )
        left.plot(totals, values, color=colour, label=f"{n} steps")
        left.plot(totals[best], values[best], "o", color=colour, markersize=5)
    plain(left, "free energy of linear beta, less the entropy", "integral of beta")
    left.set(xscale="log", yscale="log", ylabel="nats", ylim=(0.38, 4.2))
    left.set_xticks([0.3, 1, 3, 10, 30, 100, 300], ["0.3", "1", "3", "10", "30", "100", "300"])
    left.set_yticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    left.minorticks_off()
    left.legend(fontsize=8, frameon=False)
    t, n = (torch.arange(64, dtype=torch.float64) + 0.5) / 64, 64
    for name, values, colour in (
        ("linear, 0.1 to 20", VariancePreserving().beta.rate(t), COLOURS[0]),
        ("cosine", math.pi * torch.tan(math.pi / 2 * t), COLOURS[1]),
        ("least free energy, 64 steps", least(curve, n), COLOURS[2]),
    ):
        right.plot(t, values, color=colour, label=name)
    plain(right, "beta(t)", "t")
    right.set(yscale="log")
    right.legend(fontsize=8, frameon=False)
    save(figure, folder / "article-free-energy.png")


def whole(curve):
    """The free energy in continuous time between the ends of the curve."""
    low, high = curve.log_snr[:1], curve.log_snr[-1:]
    return float(free_energy(curve, low)) - 0.5 * float(high - low) + curve.energy()


# ------------------------------------------------------------------------------------------------------------- pictures


def plain(axes, title, x):
    axes.set_title(title, fontsize=10.5, loc="left")
    axes.set_xlabel(x)
    axes.grid(color="#dfe2e6", linewidth=0.7)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, which="both")


def save(figure, path, dpi=90):
    figure.savefig(path, dpi=dpi, facecolor="white")
    print(path, path.stat().st_size // 1000, "kB")


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures")
    target.mkdir(parents=True, exist_ok=True)
    for section in (noise, drift, rate, iterate, energy):
        print(f"\n{section.__doc__}")
        section(target)
