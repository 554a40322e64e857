"""RePaint's resampling: ancestral steps that go back up again and again ("RePaint: Inpainting using Denoising Diffusion
Probabilistic Models", 2022, arXiv:2201.09865)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian, reverse_step
from langevin.diffusion.sampler.linear import CallTable, init_linear, linear_update
from langevin.diffusion.sampler.state import Processes, State

LONGEST = 100_000  # calls of the network for a sample


@dataclass(frozen=True, kw_only=True)
class RePaint:
    """After every `jump` ancestral steps, counted from the end, the state is noised back by as many steps, and these are
    taken again, until they have been taken `repeats` times:

        x_s ~ q(x_s | x_t, x = D),   x_u = (alpha_u / alpha_s) x_s + sqrt(sigma_u^2 - (alpha_u / alpha_s)^2 sigma_s^2) n

    With guidance `ddnm` and a mask, the part that is drawn gets so often to agree with the part that is given.

    Args:
        jump: steps, 1 to 1000.
        repeats: 1 to 1000; 1 is ancestral sampling.

    Raises:
        ValueError: a number out of range, or (at the start of sampling) too many steps.
    """

    kind: Literal["repaint"] = "repaint"
    jump: int = 10
    repeats: int = 10
    processes: ClassVar[Processes] = (Gaussian,)

    def __post_init__(self) -> None:
        if not (1 <= self.jump <= 1000 and 1 <= self.repeats <= 1000):
            raise ValueError(f"repaint takes jumps of 1 to 1000 steps and 1 to 1000 repeats, got {self}")

    @property
    def convergence_order(self) -> int | None:
        return None

    def begin(self, state: State, process: Gaussian) -> State:
        schedule, times = process.schedule, state.times
        if times.ndim > 2:
            raise ValueError("repaint takes one time per sample, (b,), and these are times per position")
        steps: list[int] = state.num_calls.tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if max(steps, default=0) * self.repeats > LONGEST:
            raise ValueError(
                f"repaint of {max(steps)} steps and {self.repeats} repeats makes more than {LONGEST:,} calls"
            )
        paths = [self._path(n) for n in steps]
        longest, last = max(map(len, paths)), times.shape[1] - 1
        index = torch.tensor([path + [last] * (longest - len(path)) for path in paths], device=times.device)
        t, s = times.gather(1, index), times.gather(1, (index + 1).clamp_max(last))
        u = torch.maximum(torch.cat([t[:, 1:], s[:, -1:]], 1), s)  # where the next call is
        a, b, c = reverse_step(schedule, t, s, 1.0)
        scale = schedule.alpha(u) / schedule.alpha(s)
        added = (schedule.sigma(u) ** 2 - (scale * schedule.sigma(s)) ** 2).clamp_min(0)
        table = CallTable(
            times=t, weights=(scale * a, scale * b), noise=((scale * c) ** 2 + added).sqrt(), called=index < last
        )
        return init_linear(state, table)

    def _path(self, steps: int) -> list[int]:
        """The indices of a sample's grid steps in the order in which they are made."""
        path = list[int]()
        for k in range(1, steps + 1):
            path.append(k - 1)
            if (steps - k) % self.jump == 0 and k >= self.jump:
                path += list(range(k - self.jump, k)) * (self.repeats - 1)
        return path

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)
