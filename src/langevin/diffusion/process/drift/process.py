"""`Drift(f, g)`: the general equation dx = f(x, t) dt + g(t) dw as a process.

Its density obeys Fokker and Planck's equation dp/dt = -div(f p) + g^2 / 2 lap p; backwards runs
dx = (f - g^2 grad ln p) dt + g dw ("Reverse-Time Diffusion Equation Models", 1982), and its flow is
dx/dt = f - g^2 grad ln p / 2. So all that has to be learned is the score of p_t, which is the regression

    grad ln p_t(x) = E[grad ln p(x_t | x_s) | x_t = x]   for every s < t (Fisher's identity).

An affine f has a Gaussian p(x_t | x_0), solved once: s = 0. Any other is simulated to t by Heun's steps whose last one is
Euler's and short, a Gaussian p(x_t | x_s): unbiased for the simulated chain, whose law is off by O(steps^-2) ("What's the
score?", 2024). The target z / (g sqrt(t - s)) is long, but each path is used twice, with z and -z: between the two the
noise cancels and the variance stays bounded however short the step.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch does not say the types of norms, splits, triangular solves and Fourier transforms)

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.noise import Noise
from langevin.diffusion.posterior import Score
from langevin.diffusion.process.drift.affine import LARGEST, Kernel, is_affine
from langevin.diffusion.process.drift.end import AnyEnd, Normal
from langevin.diffusion.process.drift.equation import Field, Level, call, clock, level
from langevin.diffusion.process.drift.gap import Gap
from langevin.diffusion.process.drift.simulate import euler, path, steps_noise
from langevin.diffusion.process.terms import Terms
from langevin.diffusion.schedule import Brownian
from langevin.diffusion.shape import require_times, right_pad

SHORT = 4  # the last step is that many times shorter than a step of the whole horizon, or as short as the others
EARLIEST = 1e-5  # the time below which the noise is not told apart


@dataclass(frozen=True, kw_only=True)
class Question:
    """x_t (b, ...), and the score of the kernel that led there: its mean given x_t is the score of p_t."""

    x_t: Tensor
    target: Score


@dataclass(frozen=True, kw_only=True, eq=False)
class Drift:
    """dx = f(x, t) dt + g(t) dw over 0 <= t <= horizon; see the module.

    Args:
        f: x (b, ...), t (b,) -> (b, ...), the equation's own time, float64 or float32.
        g: a number, or t (b,) -> (b,).
        horizon: how long the equation runs; the house's t = 1.
        steps: of a simulation, however long it is.
        end: the law that it ends in.
        sigma_data: root mean square of the data, about 0.
        spreads: root mean square of x_t at equal steps of t from 0 to 1; filled by `measured`.
        edges: largest coordinate of x_t seen at the same times; filled by `measured`.
        reach: states beyond it in any coordinate are brought back to it on the way to data, because a score that was
            never seen there, under a drift that pulls, would run away; filled by `measured` from what simulations reached.
        kernel: of an affine drift; filled by `settled`.

    Raises:
        ValueError: a horizon, noise or number of steps that makes no sense.
    """

    f: Field
    g: Level = 1.0
    horizon: float = 1.0
    steps: int = 50
    end: AnyEnd = Normal()
    sigma_data: float = 1.0
    spreads: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    reach: float | None = None
    kernel: Kernel | None = None
    kind: Literal["drift"] = "drift"

    def __post_init__(self) -> None:
        if not callable(self.f):
            raise ValueError(f"f is a function of x (b, ...) and t (b,), got {type(self.f).__name__}")
        if self.steps < 2:
            raise ValueError(f"a simulation takes at least 2 steps, got {self.steps}")
        if not 0 < self.sigma_data < float("inf"):
            raise ValueError(f"sigma_data is a standard deviation: positive and finite, got {self.sigma_data}")
        _ = self.schedule

    @cached_property
    def schedule(self) -> Brownian:
        """The noise added so far, as the clock of grids and time densities: sigma(t)^2 = int g^2."""
        return clock(self.g, self.horizon)

    # ------------------------------------------------------------------------------------------- what is known of it

    def settled(self, like: Tensor, *, affine: bool | None = None) -> "Drift":
        """This process with its closed form if the drift is affine, found out for rows like `like` (1, ...) or declared.

        Raises:
            ValueError: f returns another shape, or is declared affine and is not."""
        found = affine is not False and is_affine(self.f, horizon=self.horizon, like=like)
        if affine and not found:
            raise ValueError("the drift was declared affine, but f(x + y) + f(0) is not f(x) + f(y)")
        if not found or (affine is None and like[0].numel() > LARGEST):
            return replace(self, kernel=None)
        kernel = Kernel.solve(self.f, self.g, horizon=self.horizon, like=like)
        times = torch.linspace(0, 1, 33, dtype=torch.float64)
        spreads = kernel.spread(times, self.sigma_data).tolist()
        return replace(self, kernel=kernel, spreads=tuple(spreads))

    def measured(self, x: Tensor, noise: Noise) -> tuple["Drift", Gap]:
        """This process with the spreads of x_t as simulated from data x (n, ...), and the gap between its end and `end`.

        The gap is from at least 8 rows; a closed form is used where it is known."""
        data = x.double()
        sigma = float(data.square().mean().sqrt())
        if self.kernel is None:
            states = path(
                self.f, self.g, data, torch.full((len(x),), self.horizon), steps=self.steps, noise=noise.fork(1)
            )
            spreads = tuple(float(state.square().mean().sqrt()) for state in states)
            edges = tuple(1.1 * float(state.abs().max()) for state in states)
            ends = states[-1]
        else:
            spreads = tuple(self.kernel.spread(torch.linspace(0, 1, 33, dtype=torch.float64), sigma).tolist())
            states, edges = [data], ()
            ends = self.corrupt(data, torch.ones(len(x), dtype=torch.float64), noise.fork(1))
        prior = self.end.draw(data, noise.fork(2))
        reach = None if self.kernel else 1.5 * max(float(part.abs().max()) for part in (*states, prior))
        return replace(self, sigma_data=sigma, spreads=spreads, edges=edges, reach=reach), Gap.of(ends, prior)

    def spread(self, t: Tensor) -> Tensor:
        """Root mean square of x_t, (b,), float64: measured, or that of the data with the noise so far."""
        if not self.spreads:
            return (self.sigma_data**2 + self.schedule.sigma(t.double()).square()).sqrt()
        return _look_up(self.spreads, t)

    def edge(self, t: Tensor) -> Tensor:
        """The largest coordinate of x_t that was seen, (b,), float64; infinite if nothing was measured."""
        return _look_up(self.edges, t) if self.edges else torch.full_like(t, torch.inf, dtype=torch.float64)

    def scale(self, t: Tensor) -> Tensor:
        """How fine x_t is, (b,) float64: 1 / scale^2 = 1 / V + 1 / spread^2, V the noise so far; about 1 / score."""
        noise = self.schedule.sigma(t.double().clamp_min(EARLIEST))
        return noise / (1 + (noise / self.spread(t)).square()).sqrt()

    def scales(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """(1, width) with 1 + width^2 / sigma_data^2 the growth of the spread: what pictures of x_t are divided by."""
        more = (self.spread(t).square() - self.sigma_data**2).clamp_min(0).sqrt()
        return right_pad(torch.ones_like(more), like).to(like.dtype), right_pad(more, like).to(like.dtype)

    def time(self, t: Tensor) -> Tensor:
        """The equation's own time."""
        return self.horizon * t.double()

    def field(self, x: Tensor, t: Tensor) -> Tensor:
        """f at the house's t (b,), checked."""
        return call(self.f, x, self.time(t))

    def level(self, t: Tensor) -> Tensor:
        """g at the house's t, (b,) float64."""
        return level(self.g, self.time(t))

    def velocity(self, q: Score, x: Tensor, t: Tensor, share: float = 0.5) -> Tensor:
        """f - share g^2 score, in the equation's own time: the flow at a half, the reversed drift at one."""
        return self.field(x, t) - right_pad(share * self.level(t).square(), x).to(x.dtype) * q.score

    # --------------------------------------------------------------------------------------------------- the process

    def prior(self, like: Tensor, noise: Noise, t: Tensor | None = None) -> Tensor:
        """A draw of the end law.

        Raises:
            ValueError: t < 1, where no law is known: start the grid at 1."""
        if t is not None and bool((t < 1 - 1e-9).any()):
            raise ValueError(
                f"a drift's prior is the law that it ends in, at t = 1, and the grid starts at {float(t.min()):.4g}: leave "
                "the grid's high at what the schedule reaches"
            )
        return self.end.draw(like, noise)

    def corrupt(self, x: Tensor, t: Tensor, noise: Noise, known: Tensor | None = None) -> Tensor:
        """x_t given x, by the closed form or by simulation; places in `known` stay clean."""
        x_t = self.questions(x, t, noise)[0].x_t
        return x_t if known is None else torch.where(known, x, x_t)

    def questions(self, x: Tensor, t: Tensor, noise: Noise) -> tuple[Question, ...]:
        """x_t with the target of its score; of a simulated drift two, whose last steps are opposite.

        Raises:
            ValueError: a time a place (an equation has one), or what the drift does wrong."""
        require_times(t, x)
        if t.ndim != 1:
            raise ValueError(f"an equation runs on one time a row, (b,), got times of shape {tuple(t.shape)}")
        if self.kernel is not None:
            x_t, score = self.kernel.draw(x, t, noise.normal(x))
            return (Question(x_t=x_t, target=Score(score)),)
        end = self.time(t)
        h = (end / self.steps).clamp_max(self.horizon / (SHORT * self.steps))
        before = path(self.f, self.g, x, end - h, steps=self.steps - 1, noise=noise.fork(1))[-1]
        mean, width = euler(self.f, self.g, before, end - h, h)
        z = steps_noise(x, 1, noise.fork(2))[:, 0]
        narrow = width.clamp_min(1e-30)
        return tuple(Question(x_t=mean + sign * width * z, target=Score(-sign * z / narrow)) for sign in (1.0, -1.0))

    def transition(self, q: Score, x_t: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """x_s by Euler's step of the reversed equation."""
        return self.step_back(q, x_t, t, s, noise, eta=1.0)

    def step_back(self, q: Score, x_t: Tensor, t: Tensor, s: Tensor, noise: Noise, *, eta: float) -> Tensor:
        """x_s = x_t - h (f - (1 + eta) / 2 g^2 score) + sqrt(eta V) n, V the noise between s and t."""
        h = right_pad(self.time(t) - self.time(s), x_t).to(x_t.dtype)
        added = (self.schedule.sigma(t.double()).square() - self.schedule.sigma(s.double()).square()).clamp_min(0)
        x = x_t - h * self.field(x_t, t) + right_pad(0.5 * (1 + eta) * added, x_t).to(x_t.dtype) * q.score
        return self.within(x if eta == 0 else x + right_pad((eta * added).sqrt(), x).to(x.dtype) * noise.normal(x))

    def within(self, x: Tensor) -> Tensor:
        """x with what lies beyond the reach brought back to it."""
        return x if self.reach is None else x.clamp(-self.reach, self.reach)

    def bound(self, q: Score, x: Tensor, x_t: Tensor, t: Tensor) -> Terms:
        """Not known: the kernel of a simulated drift has no closed form.

        Raises:
            ValueError: always; `drift.log_density` follows the flow instead."""
        raise ValueError("a drift has no variational bound here; its flow gives ln p itself: process.drift.log_density")


def _look_up(values: tuple[float, ...], t: Tensor) -> Tensor:
    """A table over equal steps of t in [0, 1], linearly."""
    table = torch.tensor(values, dtype=torch.float64, device=t.device)
    place = t.double() * (len(table) - 1)
    i = place.floor().clamp(0, len(table) - 2).long()
    return table[i] + (table[i + 1] - table[i]) * (place - i)


def from_gradient(energy: Callable[[Tensor], Tensor], *, g: float) -> Field:
    """f = -g^2 grad(energy) / 2, the drift that leaves e^-energy unchanged; energy: x (b, ...) -> (b,)."""

    def f(x: Tensor, time: Tensor) -> Tensor:
        with torch.enable_grad():
            asked = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(energy(asked).sum(), asked)
        return -0.5 * g * g * slope

    return f
