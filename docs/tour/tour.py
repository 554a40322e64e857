# %% [markdown]
# A tour of the core that runs in seconds on a CPU. The data is a one-dimensional mixture of two Gaussians. Its denoiser and
# density have closed forms, so every claim is checked by an assertion.

# %%
import math

import torch

from langevin.diffusion.fokker_planck import GridBox, fokker_planck
from langevin.diffusion.free_energy import Curve
from langevin.diffusion.likelihood import flow_likelihood
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian
from langevin.diffusion.process.sde import SDE, DoubleWell
from langevin.diffusion.sampler import DPM2M, IPNDM, Euler, Exponential, Heun, LogSNR, UniPC, sample, start
from langevin.diffusion.schedule import Cosine, Rectified, VarianceExploding, VariancePreserving, rho

WEIGHTS, MEANS, STDS = (torch.tensor(v).double() for v in ((0.3, 0.7), (-1.0, 0.8), (0.35, 0.25)))


# %% [markdown]
# **All schedules are equivalent.** With x_t = alpha x + sigma eps, y = x_t / alpha depends on rho = sigma / alpha alone.
def mixture(schedule):
    """The exact posterior mean D(x_t, t)."""

    def denoiser(x_t, t, condition=None):
        y, level = x_t[..., None] / schedule.alpha(t)[:, None, None], rho(schedule, t)[:, None, None]
        total = STDS**2 + level**2
        log_weight = WEIGHTS.log() - 0.5 * ((y - MEANS) ** 2 / total + total.log())  # p(component | y), unnormalised
        return Point((log_weight.softmax(-1) * (MEANS + STDS**2 / total * (y - MEANS))).sum(-1))

    return denoiser


def integrate(sampler, schedule, steps, y):
    """The flow's y at rho = 0.02, from y (dimensions,) at rho = 20."""
    process, grid = Gaussian(schedule=schedule), LogSNR(low=0.02, high=20.0, to_zero=False)
    times = grid(torch.tensor([steps]), schedule)
    x = y[None] * schedule.alpha(times[:, 0])[:, None]
    state = start(sampler, process, x, times, torch.tensor([0]), x=x)
    *_, state = sample(sampler, process, mixture(schedule), state)
    return state.x[0] / schedule.alpha(state.t)


y = 20 * torch.linspace(-2, 2, 9).double()
results = {}
for schedule in (Rectified(), Cosine(), VariancePreserving(), VarianceExploding()):
    results[schedule.kind] = integrate(DPM2M(), schedule, 20, y)
spread = max(float((result - results["rectified"]).abs().max()) for result in results.values())
print(f"four schedules, one flow: their samples differ by {spread:.0e}")
assert spread < 1e-10

# %% [markdown]
# **Convergence order.** With twice the steps the error falls by 2^order.

# %%
reference = integrate(UniPC(p=3), Rectified(), 2000, y)
samplers = {
    "Euler": Euler(),
    "Heun": Heun(),
    "DPM-Solver++ 2M": DPM2M(),
    "iPNDM": IPNDM(),
    "exponential 3": Exponential(max_order=3),
    "UniPC 3": UniPC(p=3),
}
for name, sampler in samplers.items():
    errors = [float((integrate(sampler, Rectified(), n, y) - reference).square().mean().sqrt()) for n in (16, 128, 256)]
    measured = math.log2(errors[1] / errors[2])
    print(f"{name:16} order {sampler.convergence_order}, measured {measured:.2f}; error at 16 steps {errors[0]:.1e}")
    assert measured > sampler.convergence_order - 0.4

# %% [markdown]
# **Likelihood.** ln p of a point is an integral along the probability flow, compared here with the closed form.

# %%
x = torch.linspace(-2, 2, 9).double()[:, None]
result = flow_likelihood(mixture(Rectified()), Gaussian(), x, first=12.0, tolerance=1e-5)
density = (WEIGHTS * torch.exp(-0.5 * ((x - MEANS) / STDS) ** 2) / (STDS * math.sqrt(2 * math.pi))).sum(1)
error = float((result.log_density[:, 0] - density.log()).abs().max())
print(f"ln p by the flow is within {error:.0e} nats of the closed form")
assert error < 1e-2

# %% [markdown]
# **Free energy.** The diffusion term of the bound is half the integral of E|x - D|^2 over SNR. In continuous time it does
# not depend on the schedule. In finitely many steps the knots matter, and those at constant speed cost least.

# %%
level = torch.linspace(math.log(1e-3), math.log(1e4), 400).double()
curve = Curve(log_snr=level, mmse=1 / (1 + level.exp()))  # of N(0, 1) data
even = torch.linspace(float(level[0]), float(level[-1]), 9).double()
costs = [curve.finite(knots) - curve.energy() for knots in (even, curve.constant_speed(8), curve.optimal(8))]
print("eight steps cost {:.2f} nats on equal log-SNR, {:.2f} at constant speed, {:.2f} by search".format(*costs))
assert max(costs[1:]) < 0.6 * costs[0]

# %% [markdown]
# **Any drift.** dx = f dt + g dw in a double well: simulated paths agree with the Fokker-Planck equation on a grid.

# %%
well, seeds = DoubleWell(), torch.arange(4000)
points = 0.3 + 0.2 * torch.randn(4000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
drift = SDE(drift=well, duration=1.5)
noise = SampleNoise(seeds=seeds, steps=torch.ones_like(seeds))
ends = drift.corrupt(points, torch.ones(4000).double(), noise)
box = GridBox(low=-3.2, high=3.2, cells=320)
p = fokker_planck(well, 1.0, box.density(-0.5 * ((box.points[:, 0] - 0.3) / 0.2) ** 2), [0.0, 1.5], box=box)[1]
expected = float(p[box.centres < 0].sum() * (box.centres[1] - box.centres[0]))
fraction = float((ends < 0).double().mean())
print(f"over the barrier by time 1.5: {fraction:.3f} of 4000 paths, {expected:.3f} on the grid")
assert abs(fraction - expected) < 0.03
