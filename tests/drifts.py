"""Drifts whose truth is known: a double well on a grid, Gaussians in closed form, and small networks to learn them."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.denoiser import ScoreDenoiser
from langevin.diffusion.fokker_planck import GridBox, fokker_planck, score_on_grid
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.objective import UniformTime
from langevin.diffusion.posterior import Score
from langevin.diffusion.process.sde import SDE, DoubleWell, StationaryTerminal
from langevin.diffusion.sampler import UniformTimeGrid, sample, start
from langevin.methods import ScoreMatching
from langevin.networks import MLP

HORIZON = 1.5
WELL = DoubleWell()
BOX = GridBox(low=-3.2, high=3.2, cells=256)


def noise(rows: int, *, step: int = 0, first: int = 0) -> SampleNoise:
    return SampleNoise(seeds=torch.arange(rows) + first, steps=torch.full((rows,), step))


def bumps(rows: int, *, first: int = 0) -> Tensor:
    """(rows, 1) of N(-2, 0.25^2) with weight 1/4 and N(0.3, 0.2^2)."""
    stream = noise(rows, step=-7, first=first)
    z, u = stream.normal(torch.empty(rows, 1, dtype=torch.float64)), stream.fork(1).uniform(torch.empty(rows, 1))
    return torch.where(u < 0.25, -2 + 0.25 * z, 0.3 + 0.2 * z)


def bumps_density(x: Tensor) -> Tensor:
    """ln p up to a constant, (n,), of points (n, 1)."""
    z = torch.stack([(x[:, 0] + 2) / 0.25, (x[:, 0] - 0.3) / 0.2])
    return (-0.5 * z * z + torch.tensor([[1.0], [3.75]], dtype=torch.float64).log()).logsumexp(0)


def well(**changes) -> SDE:
    """The double well in its own units, ending in its stationary law."""
    end = StationaryTerminal(energy=lambda x: WELL.energy(x, 1.0), start=1.2)
    return replace(SDE(drift=WELL, duration=HORIZON, terminal=end), **changes)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Densities p (n + 1, cells) of the double well from the two bumps at equal times, and their scores."""

    p: Tensor
    scores: Tensor

    @classmethod
    def solve(cls, count: int = 60) -> "Truth":
        times = torch.linspace(0, HORIZON, count + 1).tolist()
        p = fokker_planck(WELL, 1.0, BOX.density(bumps_density(BOX.points)), times, box=BOX)
        return cls(p=torch.stack(p), scores=torch.stack([score_on_grid(q, BOX)[:, 0] for q in p]))

    def __call__(self, x_t: Tensor, t: Tensor, condition: object = None) -> Score:
        """The score, linear between times and cells."""
        last = len(self.p) - 1
        when = (t.double() * last).clamp(0, last - 1e-9)
        where = ((x_t[:, 0].double() - BOX.low) / BOX.width - 0.5).clamp(0, BOX.cells - 1 - 1e-9)
        i, j = when.floor().long(), where.floor().long()
        u, v = when - i, where - j
        low = self.scores[i, j] * (1 - v) + self.scores[i, j + 1] * v
        high = self.scores[i + 1, j] * (1 - v) + self.scores[i + 1, j + 1] * v
        return Score((low * (1 - u) + high * u)[:, None].to(x_t.dtype))

    def cdf(self, k: int, x: Tensor) -> Tensor:
        """Distribution function at time k, linear within cells; x (n,)."""
        total = torch.cat([torch.zeros(1, dtype=torch.float64), self.p[k].cumsum(0) * BOX.width])
        place = ((x.double() - BOX.low) / BOX.width).clamp(0, BOX.cells - 1e-9)
        i = place.floor().long()
        return total[i] + (total[i + 1] - total[i]) * (place - i)


def drawn(
    tool, process, denoiser, *, rows: int, width: int, steps: int, first: int = 10**6, low: float = 0.0
) -> Tensor:
    """(rows, width) samples on an even grid of times, or one that ends at `low`."""
    times = UniformTimeGrid()(torch.tensor([steps]), process.schedule).expand(rows, -1)
    times = low + (1 - low) * times
    state = start(tool, process, torch.zeros(rows, width, dtype=torch.float64), times, torch.arange(rows) + first)
    for told in sample(tool, process, denoiser, state):
        state = told
    return state.x


def learned(process: SDE, data, *, steps: int, batch: int = 256, width: int = 64, lr: float = 3e-3, times=None):
    """A score learned from data(step, rows) -> (rows, d), by Adam with a falling rate."""
    some = data(0, 2)
    torch.manual_seed(0)
    network = MLP.Config(width=width, depth=2, channels=some.shape[1]).build()
    denoiser = ScoreDenoiser(network=network, process=process)
    times = times or UniformTime(low=0.01)
    method = ScoreMatching(process=process, denoiser=denoiser, network=network, times=times)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr, betas=(0.9, 0.99))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps) + 1e-5
        x = data(step, batch).float()
        told = step_randomness(seed=1, step=step, samples=torch.arange(batch), count=batch)
        loss = method.loss("denoiser", Batch(x=x), told).loss.mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    network.eval()
    return denoiser


def score_error(denoiser, truth, x: Tensor, t: float) -> float:
    """Root mean square difference of two scores at points x, over the root mean square of the true one."""
    rows = torch.full((len(x),), t, dtype=torch.float64)
    with torch.no_grad():
        found, want = denoiser(x, rows, None).score, truth(x, rows, None).score
    return float((found - want).square().mean().sqrt() / want.square().mean().sqrt())
