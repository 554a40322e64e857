"""`SDE(drift, diffusion)`: the general SDE dx = f(x, t) dt + g(t) dw as a process.

Its density obeys the Fokker-Planck equation dp/dt = -div(f p) + g^2 / 2 lap p. The reverse-time SDE is
dx = (f - g^2 grad ln p) dt + g dw, and the probability flow dx/dt = f - g^2 grad ln p / 2. Both need only the score of p_t,
which is the regression

    grad ln p_t(x) = E[grad ln p(x_t | x_s) | x_t = x]   for every s < t (Fisher's identity).

For an affine f, p(x_t | x_0) is Gaussian and s = 0. Any other f is simulated to t by Heun steps, then by one short
Euler step with a Gaussian p(x_t | x_s). The target is unbiased for the simulated chain, whose distribution has an error
of O(steps^-2). The target -z / (g sqrt(t - s)) has a large variance for a short step. So each path is used twice, with
z and -z, which cancels the noise and keeps the variance bounded.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch does not say the types of norms, splits, triangular solves and Fourier transforms)

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.float64 import float64_device, to_float64
from langevin.diffusion.noise import Noise
from langevin.diffusion.posterior import Score
from langevin.diffusion.process.sde.affine import LARGEST, Kernel, is_affine
from langevin.diffusion.process.sde.equation import DiffusionCoefficient, Field, clock, diffusion_at, drift_at
from langevin.diffusion.process.sde.mismatch import PriorMismatch
from langevin.diffusion.process.sde.simulate import euler, path, steps_noise
from langevin.diffusion.process.sde.terminal import AnyTerminal, GaussianTerminal
from langevin.diffusion.schedule import Brownian
from langevin.diffusion.shape import append_dims, require_times

SHORT = 4  # the last step is at most 1 / SHORT of a Heun step over the whole duration
EARLIEST = 1e-5  # smaller times are clamped to this one


@dataclass(frozen=True, kw_only=True)
class ScoreTarget:
    """x_t (b, ...), and the score of the kernel it was drawn from, whose mean given x_t is the score of p_t."""

    x_t: Tensor
    target: Score


@dataclass(frozen=True, kw_only=True, eq=False)
class SDE:
    """dx = f(x, t) dt + g(t) dw over 0 <= t <= duration; learned by its score, sampled backwards or along the flow.

    "Reverse-Time Diffusion Equation Models" (1982); "Score-Based Generative Modeling through Stochastic Differential
    Equations" (2021, arXiv:2011.13456); for drifts without a closed form "What's the score? Automated Denoising Score
    Matching for Nonlinear Diffusions" (2024, arXiv:2407.07998).

    Args:
        drift: f, (x (b, ...), t (b,)) -> (b, ...), with t in [0, duration]; called in float64 and in float32.
        diffusion: g, a number or t (b,) -> (b,).
        duration: the SDE's time that corresponds to t = 1.
        steps: number of steps of every simulation.
        terminal: the distribution at t = 1, the prior.
        sigma_data: root mean square of the data, about 0.
        rms: root mean square of x_t at equal steps of t from 0 to 1; filled by `with_statistics`.
        max_abs: largest coordinate of simulated x_t at the same times; filled by `with_statistics`.
        clip: sampling clamps coordinates to [-clip, clip], because the learned score is not valid outside the simulated
            range, where a confining drift diverges in reverse time; filled by `with_statistics`.
        kernel: of an affine drift; filled by `with_closed_form`.

    Raises:
        ValueError: a duration, noise or number of steps out of range.
    """

    drift: Field
    diffusion: DiffusionCoefficient = 1.0
    duration: float = 1.0
    steps: int = 50
    terminal: AnyTerminal = GaussianTerminal()
    sigma_data: float = 1.0
    rms: tuple[float, ...] = ()
    max_abs: tuple[float, ...] = ()
    clip: float | None = None
    kernel: Kernel | None = None
    kind: Literal["sde"] = "sde"

    def __post_init__(self) -> None:
        if not callable(self.drift):
            raise ValueError(f"the drift is a function of x (b, ...) and t (b,), got {type(self.drift).__name__}")
        if self.steps < 2:
            raise ValueError(f"a simulation takes at least 2 steps, got {self.steps}")
        if not 0 < self.sigma_data < float("inf"):
            raise ValueError(f"sigma_data is a standard deviation: positive and finite, got {self.sigma_data}")
        _ = self.schedule

    @cached_property
    def schedule(self) -> Brownian:
        """The accumulated noise sigma(t)^2 = int g^2 as a schedule, for grids and time densities."""
        return clock(self.diffusion, self.duration)

    # ---------------------------------------------------------------------------------- closed form and statistics

    def with_closed_form(self, like: Tensor, *, affine: bool | None = None) -> "SDE":
        """This process with its closed form if the drift is affine for samples like `like` (1, ...).

        `affine` None tests the drift, and skips the closed form above `LARGEST` dimensions.

        Raises:
            ValueError: the drift returns another shape, or is declared affine and is not."""
        confirmed = affine is not False and is_affine(self.drift, duration=self.duration, like=like)
        if affine and not confirmed:
            raise ValueError("the drift was declared affine, but f(x + y) + f(0) is not f(x) + f(y)")
        if not confirmed or (affine is None and like[0].numel() > LARGEST):
            return replace(self, kernel=None)
        kernel = Kernel.solve(self.drift, self.diffusion, duration=self.duration, like=like)
        times = torch.linspace(0, 1, 33, dtype=torch.float64)
        rms = kernel.rms_at(times, self.sigma_data).tolist()
        return replace(self, kernel=kernel, rms=tuple(rms))

    def with_statistics(self, x: Tensor, noise: Noise) -> tuple["SDE", PriorMismatch]:
        """This process with the statistics of x_t from data x (n, ...), and the mismatch of `terminal`.

        By the closed form if there is one, else by simulation."""
        data = to_float64(x)
        sigma = float(data.square().mean().sqrt())
        if self.kernel is None:
            states = path(
                self.drift,
                self.diffusion,
                data,
                torch.full((len(x),), self.duration),
                steps=self.steps,
                noise=noise.fork(1),
            )
            rms = tuple(float(state.square().mean().sqrt()) for state in states)
            max_abs = tuple(1.1 * float(state.abs().max()) for state in states)
            ends = states[-1]
        else:
            rms = tuple(self.kernel.rms_at(torch.linspace(0, 1, 33, dtype=torch.float64), sigma).tolist())
            states, max_abs = [data], ()
            ends = self.corrupt(data, torch.ones(len(x), dtype=torch.float64), noise.fork(1))
        prior = self.terminal.draw(data, noise.fork(2))
        clip = None if self.kernel else 1.5 * max(float(part.abs().max()) for part in (*states, prior))
        return replace(self, sigma_data=sigma, rms=rms, max_abs=max_abs, clip=clip), PriorMismatch.of(ends, prior)

    def rms_at(self, t: Tensor) -> Tensor:
        """Root mean square of x_t, (b,), float64: measured, or sqrt(sigma_data^2 + V) without statistics."""
        if not self.rms:
            return (self.sigma_data**2 + self.schedule.sigma(to_float64(t)).square()).sqrt()
        return _look_up(self.rms, t)

    def max_abs_at(self, t: Tensor) -> Tensor:
        """The largest coordinate of simulated x_t, (b,), float64; infinite without statistics."""
        return _look_up(self.max_abs, t) if self.max_abs else torch.full_like(t, torch.inf, dtype=torch.float64)

    def scale(self, t: Tensor) -> Tensor:
        """The inverse scale of the score, (b,) float64: 1 / scale^2 = 1 / V + 1 / rms^2, V the accumulated noise."""
        noise = self.schedule.sigma(to_float64(t).clamp_min(EARLIEST))
        return noise / (1 + (noise / self.rms_at(t)).square()).sqrt()

    def scales(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """(1, w) with sigma_data^2 + w^2 the mean square of x_t, the analogue of (alpha_t, sigma_t) for previews."""
        more = (self.rms_at(t).square() - self.sigma_data**2).clamp_min(0).sqrt()
        return append_dims(torch.ones_like(more), like).to(like), append_dims(more, like).to(like)

    def time(self, t: Tensor) -> Tensor:
        """The SDE's own time, duration t."""
        return self.duration * to_float64(t)

    def drift_at(self, x: Tensor, t: Tensor) -> Tensor:
        """f at t (b,) in [0, 1], checked; shaped like x."""
        return drift_at(self.drift, x, self.time(t))

    def diffusion_at(self, t: Tensor) -> Tensor:
        """g at t (b,) in [0, 1]; (b,) float64."""
        return diffusion_at(self.diffusion, self.time(t))

    def velocity(self, q: Score, x: Tensor, t: Tensor, share: float = 0.5) -> Tensor:
        """f - share g^2 score, per unit of the SDE's time: share 1/2 is the probability flow, 1 the reverse SDE's drift."""
        return self.drift_at(x, t) - append_dims(share * self.diffusion_at(t).square(), x).to(x) * q.score

    # --------------------------------------------------------------------------------------------------- the process

    def prior(self, like: Tensor, noise: Noise, t: Tensor | None = None) -> Tensor:
        """A draw of the terminal distribution.

        Raises:
            ValueError: t < 1, where no distribution is known."""
        if t is not None and bool((t < 1 - 1e-9).any()):
            raise ValueError(
                f"the prior of an SDE is its distribution at t = 1, and the grid starts at t = {float(t.min()):.4g}: "
                "do not lower the grid's high"
            )
        return self.terminal.draw(like, noise)

    def corrupt(self, x: Tensor, t: Tensor, noise: Noise, known: Tensor | None = None) -> Tensor:
        """x_t given x, by the closed form or by simulation; elements where `known` holds stay clean."""
        x_t = self.score_targets(x, t, noise)[0].x_t
        return x_t if known is None else torch.where(known, x, x_t)

    def score_targets(self, x: Tensor, t: Tensor, noise: Noise) -> tuple[ScoreTarget, ...]:
        """x_t and the target of its score; for a simulated drift two pairs, with opposite noise in the last step.

        Raises:
            ValueError: a time per position, or an error of the drift."""
        require_times(t, x)
        if t.ndim != 1:
            raise ValueError(f"an SDE takes one time per sample, (b,), got times of shape {tuple(t.shape)}")
        if self.kernel is not None:
            x_t, score = self.kernel.draw(x, t, noise.normal(x))
            return (ScoreTarget(x_t=x_t, target=Score(score)),)
        end = self.time(t)
        h = (end / self.steps).clamp_max(self.duration / (SHORT * self.steps))
        before = path(self.drift, self.diffusion, x, end - h, steps=self.steps - 1, noise=noise.fork(1))[-1]
        mean, width = euler(self.drift, self.diffusion, before, end - h, h)
        z = steps_noise(x, 1, noise.fork(2))[:, 0]
        narrow = width.clamp_min(1e-30)
        return tuple(ScoreTarget(x_t=mean + sign * width * z, target=Score(-sign * z / narrow)) for sign in (1.0, -1.0))

    def transition(self, q: Score, x_t: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """A draw of x_s by an Euler-Maruyama step of the reverse SDE."""
        return self.reverse_step(q, x_t, t, s, noise, eta=1.0)

    def reverse_step(self, q: Score, x_t: Tensor, t: Tensor, s: Tensor, noise: Noise, *, eta: float) -> Tensor:
        """x_s = x_t - h (f - (1 + eta) / 2 g^2 score) + sqrt(eta V) n, with V and g^2 h the integral of g^2 from s to t."""
        h = append_dims(self.time(t) - self.time(s), x_t).to(x_t)
        added = (self.schedule.sigma(to_float64(t)).square() - self.schedule.sigma(to_float64(s)).square()).clamp_min(0)
        x = x_t - h * self.drift_at(x_t, t) + append_dims(0.5 * (1 + eta) * added, x_t).to(x_t) * q.score
        return self.within(x if eta == 0 else x + append_dims((eta * added).sqrt(), x).to(x) * noise.normal(x))

    def within(self, x: Tensor) -> Tensor:
        """x with coordinates clamped to [-clip, clip]."""
        return x if self.clip is None else x.clamp(-self.clip, self.clip)


def _look_up(values: tuple[float, ...], t: Tensor) -> Tensor:
    """Linear interpolation of a table over equal steps of t in [0, 1]."""
    table = torch.tensor(values, dtype=torch.float64, device=float64_device(t.device))
    position = to_float64(t) * (len(table) - 1)
    i = position.floor().clamp(0, len(table) - 2).long()
    return table[i] + (table[i + 1] - table[i]) * (position - i)


def from_gradient(energy: Callable[[Tensor], Tensor], *, diffusion: float) -> Field:
    """f = -g^2 grad(energy) / 2, which leaves e^-energy stationary under the noise g; energy: x (b, ...) -> (b,)."""

    def f(x: Tensor, time: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(energy(leaf).sum(), leaf)
        return -0.5 * diffusion**2 * gradient

    return f
