"""A few-step solver fitted to one model by least squares against fine trajectories of that model.

A step of a multistep solver is a row of coefficients, so the best coefficients are a linear regression. On trajectories
from the prior, with x_i the state that the fitted steps have reached and D_i the output there, step i minimises the
distance from

    c_x x_i + c_0 D_i + c_1 D_{i-1} + ... + c_m D_{i-m}

to the state of a fine solver at the next knot from the same start ("Bespoke Non-Stationary Solvers for Fast Sampling of
Diffusion and Flow Models", 2024, arXiv:2403.01329; "S4S: Solving for a Diffusion Model Solver", 2025, arXiv:2502.17423, fit
all steps jointly by gradient descent). A ridge penalty on the distance from the coefficients of DPM-Solver++ 2M regularises
the fit on few trajectories. No gradients are needed.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.float64 import to_float64
from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler.exponential import DPM2M
from langevin.diffusion.sampler.linear import CallTable, init_linear, linear_update
from langevin.diffusion.sampler.loop import sample, start
from langevin.diffusion.sampler.state import Processes, Sampler, State


@dataclass(frozen=True, kw_only=True)
class FittedSolver:
    """A solver with fitted coefficients, x_{i+1} = c_x x_i + c_0 D_i + c_1 D_{i-1} + ...; see the module.

    It visits its own times; a grid must only have the same number of steps. Without `rows` it is a placeholder that a run
    replaces by the solver stored with it.

    Args:
        times: n + 1 times, of the calls and the end.
        rows: n rows (c_x, c_0, c_1, ...) of the same length.

    Raises:
        ValueError: the numbers of times and rows do not match, or coefficients that are not finite.
    """

    kind: Literal["learned"] = "learned"
    times: tuple[float, ...] = ()
    rows: tuple[tuple[float, ...], ...] = ()
    processes: ClassVar[Processes] = (Gaussian,)

    def __post_init__(self) -> None:
        if not self.rows and not self.times:
            return
        if len(self.times) != len(self.rows) + 1 or not self.rows or len({len(row) for row in self.rows}) != 1:
            raise ValueError(
                f"{len(self.times)} times need {len(self.times) - 1} rows of equal length, got {len(self.rows)} rows"
            )
        if len(self.rows[0]) < 2 or not all(math.isfinite(c) for row in self.rows for c in row):
            raise ValueError("a row needs two or more finite coefficients, (c_x, c_0, c_1, ...)")

    @property
    def convergence_order(self) -> int | None:
        return None

    def begin(self, state: State, process: Gaussian) -> State:
        b, n = len(state.call_index), len(self.rows)
        if not n:
            raise ValueError(
                "this solver has no coefficients: it is a placeholder for the fitted solver of a run (langevin fit-solver)"
            )
        if state.times.ndim != 2 or bool((state.num_calls != n).any()):
            raise ValueError(f"this solver was fitted for {n} steps and one time per sample: use a grid of {n} steps")
        times = torch.tensor(self.times, dtype=torch.float64, device=state.times.device).expand(b, -1)
        table = torch.tensor(self.rows, dtype=torch.float64, device=state.times.device).expand(b, -1, -1)
        return init_linear(replace(state, times=times), CallTable(times=times[:, :-1], weights=table.unbind(-1)))

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)


def fit_solver(
    denoiser: Denoiser,
    process: Gaussian,
    *,
    like: Tensor,
    times: Tensor,
    seeds: Tensor,
    condition: Condition | None = None,
    num_previous: int = 3,
    fine: int = 12,
    ridge: float = 1e-3,
    teacher: Sampler | None = None,
) -> FittedSolver:
    """A solver for the knots `times`, fitted on trajectories from `seeds`.

    Args:
        like: data of the right shape, type and device, (b, ...), one sample per seed.
        times: (n + 1,) float64, falling.
        seeds: (b,) int64.
        num_previous: number of earlier outputs that a step uses.
        fine: steps of the fine solver between two knots.
        ridge: weight of the distance from the coefficients of DPM-Solver++ 2M, in units of the mean square of each input.
        teacher: the fine solver; default DPM-Solver++ 2M.
    """
    b, n = len(like), len(times) - 1
    teacher = teacher or DPM2M()
    path = fine_path(denoiser, process, teacher, like, times, seeds, condition, fine)
    base = DPM2M()
    state = start(base, process, like, times.expand(b, -1), seeds, x=path[0])
    known = to_float64(state.memory["grid_weights"][0].flatten(1))  # (n, 3): weights of x, D_i, D_{i-1}
    x: Tensor = path[0]
    outputs: list[Tensor] = []
    rows: list[tuple[float, ...]] = []
    with torch.no_grad():
        for i in range(n):
            q = denoiser(x, times[i].expand(b), condition)
            assert isinstance(q, Point)
            outputs.insert(0, q.mean)
            inputs = torch.stack([to_float64(part).flatten() for part in (x, *outputs[: num_previous + 1])], 1)
            prior = torch.cat([known[i], known.new_zeros(num_previous)])[: inputs.shape[1]]
            c = prior + _regression(inputs, to_float64(path[i + 1]).flatten() - inputs @ prior, ridge)
            x = (inputs @ c).reshape(x.shape).to(x)
            rows.append(_numbers(torch.cat([c, c.new_zeros(num_previous + 2 - len(c))])))
    return FittedSolver(times=_numbers(times), rows=tuple(rows))


def _regression(inputs: Tensor, target: Tensor, ridge: float) -> Tensor:
    """Ridge regression of `target` on the columns of `inputs`."""
    gram = inputs.T @ inputs + ridge * len(inputs) * inputs.square().mean(0).diag()
    weights: Tensor = torch.linalg.solve(gram, inputs.T @ target)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return weights  # pyright: ignore[reportUnknownVariableType]


def _numbers(values: Tensor) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def fine_path(
    denoiser: Denoiser, process: Gaussian, teacher: Sampler, like: Tensor, times: Tensor, seeds: Tensor,
    condition: Condition | None, fine: int,
) -> list[Tensor]:  # fmt: skip
    """The states of the fine solver at each knot, starting from the prior; its steps are equal in log-SNR between knots."""
    b = len(like)
    x = process.prior(like, start(teacher, process, like, times.expand(b, -1), seeds).noise, times[:1].expand(b))
    path = [x]
    for t, s in pairwise(times):
        low = s if s > 0 else process.schedule.time(process.schedule.log_snr(t) + 12)
        log_snr = torch.stack([process.schedule.log_snr(t), process.schedule.log_snr(low)])
        share = torch.linspace(0, 1, fine + 1, dtype=torch.float64, device=times.device)
        knots = process.schedule.time(log_snr[0] + share * (log_snr[1] - log_snr[0]))
        knots = torch.cat([t[None], knots[1:-1], low[None], *([s[None]] if s == 0 else [])])
        state = start(teacher, process, like, knots.expand(b, -1), seeds, x=x)
        for at in sample(teacher, process, denoiser, state, condition):
            x = at.x
        path.append(x)
    return path
