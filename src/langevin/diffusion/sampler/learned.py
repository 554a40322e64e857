"""A solver of few calls whose numbers are fitted to one model: least squares against a fine trajectory of its own.

Every solver here is a row of numbers a step, so the best row is a linear regression. Along trajectories that start from the
prior, with x_i the point that the fitted steps so far have led to and D_i the answer there, step i takes the weights that
bring

    c_x x_i + c_0 D_i + c_1 D_{i-1} + ... + c_m D_{i-m}

nearest to where a fine solver is at the next knot from the same start ("Bespoke Non-Stationary Solvers", 2024; "S4S", 2025,
fit all steps at once by gradient). A little of the squared distance from the rows of a known solver is added, so that few
trajectories do not fit noise. A few numbers a step, no gradients, as many calls of the model as trajectories are long.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler.exponential import DPM2M
from langevin.diffusion.sampler.linear import Rows, begin, update
from langevin.diffusion.sampler.loop import sample, start
from langevin.diffusion.sampler.state import Sampler, State


@dataclass(frozen=True, kw_only=True)
class Learned:
    """The fitted rows. They belong to their times: of the grid that a row comes with only the number of steps counts.

    Args:
        times: of the questions and the end, n + 1.
        rows: weights of x, of the answer and of those before it, n rows of one length.
    """

    process: Gaussian
    times: tuple[float, ...]
    rows: tuple[tuple[float, ...], ...]
    kind: Literal["learned"] = "learned"

    def __post_init__(self) -> None:
        if len(self.times) != len(self.rows) + 1 or not self.rows or len({len(row) for row in self.rows}) != 1:
            raise ValueError(f"{len(self.times)} times need one row less, all of one length, got {len(self.rows)}")
        if len(self.rows[0]) < 2 or not all(math.isfinite(c) for row in self.rows for c in row):
            raise ValueError("a row holds finite weights of x, of the answer, and of answers before it")

    @property
    def order(self) -> int | None:
        return None

    def begin(self, state: State) -> State:
        b, n = len(state.k), len(self.rows)
        if state.times.ndim != 2 or bool((state.last != n).any()):
            raise ValueError(f"this solver was fitted to {n} steps, one time a row: it makes neither more nor fewer")
        times = torch.tensor(self.times, dtype=torch.float64, device=state.times.device).expand(b, -1)
        table = torch.tensor(self.rows, dtype=torch.float64, device=state.times.device).expand(b, -1, -1)
        return begin(replace(state, times=times), Rows(times=times[:, :-1], weights=table.unbind(-1)))

    def update(self, state: State, q: Point) -> State:
        return update(state, q)


def fit_solver(
    denoiser: Denoiser,
    process: Gaussian,
    *,
    like: Tensor,
    times: Tensor,
    seeds: Tensor,
    condition: Condition | None = None,
    before: int = 3,
    fine: int = 12,
    ridge: float = 1e-3,
    teacher: Sampler | None = None,
) -> Learned:
    """A solver for the knots `times`, fitted on trajectories from `seeds`.

    Args:
        like: data of the right shape, type and device, one row a seed, (b, ...).
        times: (n + 1,) float64, falling to the end.
        before: earlier answers that a step looks at.
        fine: steps of the fine solver between two knots.
        ridge: weight on the distance from DPM-Solver++ 2M's rows, in units of the mean square of what is fitted.
        teacher: the fine solver; default DPM-Solver++ 2M.
    """
    b, n = len(like), len(times) - 1
    teacher = teacher or DPM2M(process=process)
    marks = fine_path(denoiser, process, teacher, like, times, seeds, condition, fine)
    base = DPM2M(process=process)
    state = start(base, process, like, times.expand(b, -1), seeds, x=marks[0])
    known = state.memory["grid_weights"][0].flatten(1).double()  # (n, 3): of x, of the answer, of the one before
    x: Tensor = marks[0]
    answers: list[Tensor] = []
    rows: list[tuple[float, ...]] = []
    with torch.no_grad():
        for i in range(n):
            q = denoiser(x, times[i].expand(b), condition)
            assert isinstance(q, Point)
            answers.insert(0, q.mean)
            seen = torch.stack([part.double().flatten() for part in (x, *answers[: before + 1])], 1)
            prior = torch.cat([known[i], known.new_zeros(before)])[: seen.shape[1]]
            c = prior + _regression(seen, marks[i + 1].double().flatten() - seen @ prior, ridge)
            x = (seen @ c).reshape(x.shape).to(x.dtype)
            rows.append(_numbers(torch.cat([c, c.new_zeros(before + 2 - len(c))])))
    return Learned(process=process, times=_numbers(times), rows=tuple(rows))


def _regression(seen: Tensor, wanted: Tensor, ridge: float) -> Tensor:
    """The weights on the columns of `seen` nearest to `wanted`, and a little to 0."""
    gram = seen.T @ seen + ridge * len(seen) * seen.square().mean(0).diag()
    weights: Tensor = torch.linalg.solve(gram, seen.T @ wanted)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return weights  # pyright: ignore[reportUnknownVariableType]


def _numbers(values: Tensor) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def fine_path(
    denoiser: Denoiser, process: Gaussian, teacher: Sampler, like: Tensor, times: Tensor, seeds: Tensor,
    condition: Condition | None, fine: int,
) -> list[Tensor]:  # fmt: skip
    """Where the fine solver is at each knot, from the prior at the first; its steps between knots are equal in log-SNR."""
    b = len(like)
    x = process.prior(like, start(teacher, process, like, times.expand(b, -1), seeds).noise, times[:1].expand(b))
    marks = [x]
    for t, s in pairwise(times):
        low = s if s > 0 else process.schedule.time(process.schedule.log_snr(t) + 12)
        log_snr = torch.stack([process.schedule.log_snr(t), process.schedule.log_snr(low)])
        share = torch.linspace(0, 1, fine + 1, dtype=torch.float64, device=times.device)
        knots = process.schedule.time(log_snr[0] + share * (log_snr[1] - log_snr[0]))
        knots = torch.cat([t[None], knots[1:-1], low[None], *([s[None]] if s == 0 else [])])
        state = start(teacher, process, like, knots.expand(b, -1), seeds, x=x)
        for at in sample(teacher, denoiser, state, condition):
            x = at.x
        marks.append(x)
    return marks
