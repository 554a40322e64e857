# %% [markdown]
# A tour of the core, seconds on a CPU. The data is a mixture of two Gaussians on the line, whose denoiser and density are
# known in closed form, so each claim is a number that must come out, and an assertion says so.

# %%
import math

import torch

from langevin.diffusion.fokker_planck import GridBox, fokker_planck
from langevin.diffusion.free_energy import Curve
from langevin.diffusion.likelihood import flow_likelihood
from langevin.diffusion.noise import RowNoise
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian
from langevin.diffusion.process.drift import DoubleWell, Drift
from langevin.diffusion.sampler import DPM2M, IPNDM, Euler, Exponential, Heun, LogSNR, UniPC, sample, start
from langevin.diffusion.schedule import Cosine, Rectified, VarianceExploding, VariancePreserving, rho

WEIGHTS, MEANS, STDS = (torch.tensor(v).double() for v in ((0.3, 0.7), (-1.0, 0.8), (0.35, 0.25)))


# %% [markdown]
# **Schedules are one.** x_t = alpha x + sigma eps; in y = x_t / alpha only rho = sigma / alpha is left of a schedule.
def mixture(schedule):
    """The exact posterior mean D(x_t, t)."""

    def denoiser(x_t, t, condition=None):
        y, level = x_t[..., None] / schedule.alpha(t)[:, None, None], rho(schedule, t)[:, None, None]
        total = STDS**2 + level**2
        log_share = WEIGHTS.log() - 0.5 * ((y - MEANS) ** 2 / total + total.log())
        return Point((log_share.softmax(-1) * (MEANS + STDS**2 / total * (y - MEANS))).sum(-1))

    return denoiser


def samples(tool, schedule, steps, y):
    """y at rho = 0.02 of y (places,) at rho = 20."""
    times = LogSNR(low=0.02, high=20.0, to_zero=False)(torch.tensor([steps]), schedule)
    x = y[None] * schedule.alpha(times[:, 0])[:, None]
    state = start(tool, tool.process, x, times, torch.tensor([0]), x=x)
    for after in sample(tool, mixture(schedule), state):
        state = after
    return state.x[0] / schedule.alpha(state.t)


y = 20 * torch.linspace(-2, 2, 9).double()
found = {}
for schedule in (Rectified(), Cosine(), VariancePreserving(), VarianceExploding()):
    found[schedule.kind] = samples(DPM2M(process=Gaussian(schedule=schedule)), schedule, 20, y)
spread = max(float((end - found["rectified"]).abs().max()) for end in found.values())
print(f"four schedules, one flow: their samples differ by {spread:.0e}")
assert spread < 1e-10

# %% [markdown]
# **Samplers have an order**, and it can be seen: twice the steps, 2^order times less error.

# %%
process = Gaussian(schedule=Rectified())
truth = samples(UniPC(process=process, p=3), Rectified(), 2000, y)
tools = {
    "Euler": Euler(process=process),
    "Heun": Heun(process=process),
    "DPM-Solver++ 2M": DPM2M(process=process),
    "iPNDM": IPNDM(process=process),
    "exponential 3": Exponential(process=process, max_order=3),
    "UniPC 3": UniPC(process=process, p=3),
}
for name, tool in tools.items():
    errors = [float((samples(tool, Rectified(), n, y) - truth).square().mean().sqrt()) for n in (16, 128, 256)]
    measured = math.log2(errors[1] / errors[2])
    print(f"{name:16} order {tool.order}, measured {measured:.2f}; error at 16 steps {errors[0]:.1e}")
    assert measured > tool.order - 0.4

# %% [markdown]
# **Likelihood.** The flow carries density along, so ln p of a point is an integral; here a closed form checks it.

# %%
x = torch.linspace(-2, 2, 9).double()[:, None]
told = flow_likelihood(mixture(Rectified()), process, x, first=12.0, tolerance=1e-5)
density = (WEIGHTS * torch.exp(-0.5 * ((x - MEANS) / STDS) ** 2) / (STDS * math.sqrt(2 * math.pi))).sum(1)
miss = float((told.log_density[:, 0] - density.log()).abs().max())
print(f"ln p by the flow is within {miss:.0e} nats of the closed form")
assert miss < 1e-2

# %% [markdown]
# **Free energy.** The bound is an area, half the integral of E|x - D|^2 over SNR: in continuous time no schedule
# changes it. In finitely many steps the knots matter, and those at constant speed cost least.

# %%
level = torch.linspace(math.log(1e-3), math.log(1e4), 400).double()
curve = Curve(log_snr=level, mmse=1 / (1 + level.exp()))  # of one standard normal number
even = torch.linspace(float(level[0]), float(level[-1]), 9).double()
costs = [curve.finite(knots) - curve.energy() for knots in (even, curve.constant_speed(8), curve.optimal(8))]
print("eight steps cost {:.2f} nats on equal log-SNR, {:.2f} at constant speed, {:.2f} by search".format(*costs))
assert max(costs[1:]) < 0.6 * costs[0]

# %% [markdown]
# **Any drift.** dx = f dt + g dw in a double well: simulated paths and Fokker and Planck's equation on a grid must agree.

# %%
well, rows = DoubleWell(), torch.arange(4000)
points = 0.3 + 0.2 * torch.randn(4000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
drift = Drift(f=well, horizon=1.5)
noise = RowNoise(seeds=rows, steps=torch.ones_like(rows))
later = drift.corrupt(points, torch.ones(4000).double(), noise)
box = GridBox(low=-3.2, high=3.2, cells=320)
p = fokker_planck(well, 1.0, box.density(-0.5 * ((box.points[:, 0] - 0.3) / 0.2) ** 2), [0.0, 1.5], box=box)[1]
left = float(p[box.centres < 0].sum() * (box.centres[1] - box.centres[0]))
share = float((later < 0).double().mean())
print(f"over the barrier by time 1.5: {share:.3f} of 4000 paths, {left:.3f} on the grid")
assert abs(share - left) < 0.03
