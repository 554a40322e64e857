"""The noise of DDPM's steps as a schedule in continuous time.

`T` betas give alpha_bar_k = (1 - beta_0) ... (1 - beta_k). The schedule has alpha^2 = alpha_bar_k at t = (k + 1) / T
exactly, and t = 0 is clean. Between these, beta(t) is linear in two pieces: at the ends of a step the smaller of its
neighbours' mean rates, and in its middle what makes the integral exact, which is positive.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.schedule import Beta, VariancePreserving

MOST = 10_000  # timesteps


@dataclass(frozen=True, kw_only=True)
class Betas:
    """The betas of integer timesteps ("Denoising Diffusion Probabilistic Models", 2020, arXiv:2006.11239; "Improved
    Denoising Diffusion Probabilistic Models", 2021, arXiv:2102.09672), as diffusers names and rounds them.

    Args:
        beta_schedule: linear from beta_start to beta_end; scaled_linear, whose square roots are; squaredcos_cap_v2, those
            of a cosine, at most 0.999.
        num_train_timesteps: T, 2 to 10000.
        trained: the betas themselves, in place of a formula; empty for none.

    Raises:
        ValueError: numbers out of range.
    """

    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    beta_start: float = 1e-4
    beta_end: float = 0.02
    num_train_timesteps: int = 1000
    trained: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 2 <= self.num_train_timesteps <= MOST:
            raise ValueError(f"num_train_timesteps is 2 to {MOST}, got {self.num_train_timesteps}")
        if not 0 < self.beta_start < 1 or not 0 < self.beta_end < 1:
            raise ValueError(f"betas lie between 0 and 1, got {self.beta_start} and {self.beta_end}")
        if self.trained and (len(self.trained) != self.num_train_timesteps or not all(0 < b < 1 for b in self.trained)):
            raise ValueError(f"there is a beta between 0 and 1 for each of the {self.num_train_timesteps} timesteps")

    def values(self) -> Tensor:
        """The betas, (T,) float32."""
        n = self.num_train_timesteps
        if self.trained:
            return torch.tensor(self.trained, dtype=torch.float32)
        if self.beta_schedule == "linear":
            return torch.linspace(self.beta_start, self.beta_end, n, dtype=torch.float32)
        if self.beta_schedule == "scaled_linear":
            return torch.linspace(self.beta_start**0.5, self.beta_end**0.5, n, dtype=torch.float32) ** 2

        def bar(u: float) -> float:
            return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

        found = [min(1 - bar((i + 1) / n) / bar(i / n), 0.999) for i in range(n)]
        return torch.tensor(found, dtype=torch.float32)

    def alpha_bar(self) -> Tensor:
        """alpha_bar_k, (T,) float64 of the float32 numbers that diffusers computes."""
        return torch.cumprod(1.0 - self.values(), 0).double()

    def log_snr(self) -> Tensor:
        """Of each timestep, (T,) float64, falling."""
        bar = self.alpha_bar()
        return bar.log() - torch.log1p(-bar)

    def schedule(self) -> VariancePreserving:
        """The schedule, with timestep k at t = (k + 1) / T."""
        return _schedule(self)


@lru_cache(maxsize=16)
def _schedule(betas: Betas) -> VariancePreserving:
    n = betas.num_train_timesteps
    total = torch.cat([torch.zeros(1, dtype=torch.float64), -betas.alpha_bar().log()])
    rate = total.diff() * n  # the mean of beta(t) over each step
    ends = torch.cat([rate[:1], torch.minimum(rate[1:], rate[:-1]), rate[-1:]])
    middle = (4 * rate - ends[1:] - ends[:-1]) / 2
    knots: list[float] = torch.stack([ends[:-1], middle], 1).flatten().tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return VariancePreserving(beta=Beta(values=(*knots, float(ends[-1]))))
