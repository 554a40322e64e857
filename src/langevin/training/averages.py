"""Power-function averages of the weights, and averages of any width afterwards
("Analyzing and Improving the Training Dynamics of Diffusion Models", 2024).

    theta_hat_t = beta_t theta_hat_{t-1} + (1 - beta_t) theta_t,   beta_t = (1 - 1 / t)^(gamma + 1)

weighs the weights at time tau in proportion to tau^gamma: its width is a constant fraction of the run so far,
sigma = sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3)). From copies of two such averages along the run the average of any
other width is the least-squares combination, with the Gram matrix of profiles in closed form:

    <p_a, p_b> = (g_a + 1)(g_b + 1) / (g_a + g_b + 1) min(t_a, t_b)^(g_a + g_b + 1) / (t_a^(g_a + 1) t_b^(g_b + 1)),

the exponent of min belonging to the profile that ends first.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def gamma_of_width(width: float) -> float:
    """The exponent of the profile whose relative standard deviation is `width`.

    The larger root of width^2 (g + 2)^2 (g + 3) = g + 1, by bisection.

    Raises:
        ValueError: width outside (0, 0.28], which no growing profile has.
    """
    if not 0 < width <= 0.28:
        raise ValueError(f"the width of an average is a fraction of the run between 0 and 0.28, got {width}")
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        wide = (middle + 1) ** 0.5 / ((middle + 2) * (middle + 3) ** 0.5) > width
        low, high = (middle, high) if wide else (low, middle)
    return (low + high) / 2


class Averages:
    """Running averages of named parameters, one for each width, in float32.

    Args:
        parameters: name -> parameter; averages start as copies.
        widths: fractions of the run, e.g. (0.05, 0.10).
    """

    def __init__(self, parameters: Mapping[str, Tensor], *, widths: Iterable[float]) -> None:
        self.names = list(parameters)
        self.gammas = {width: gamma_of_width(width) for width in widths}
        self.values = {width: [parameters[n].detach().clone() for n in self.names] for width in self.gammas}

    def update(self, parameters: Mapping[str, Tensor], *, step: int) -> None:
        """Take in the weights after `step` steps (counted from 1)."""
        current = [parameters[n].detach() for n in self.names]
        for width, gamma in self.gammas.items():
            beta = (1 - 1 / step) ** (gamma + 1)
            torch._foreach_lerp_(self.values[width], current, 1 - beta)

    def tensors(self, width: float) -> dict[str, Tensor]:
        """One average, by name."""
        return dict(zip(self.names, self.values[width], strict=True))

    def load(self, width: float, tensors: Mapping[str, Tensor]) -> None:
        for name, value in zip(self.names, self.values[width], strict=True):
            value.copy_(tensors[name])


@dataclass(frozen=True, kw_only=True)
class Profile:
    """An average with exponent `gamma`, taken after `step` steps."""

    step: int
    gamma: float


def _inner(a: Profile, b: Profile) -> float:
    """Inner product of two profiles p(tau) = (g + 1) tau^g / t^(g + 1) on [0, t], with time in units of the longer."""
    longest = max(a.step, b.step)
    t_a, t_b, shortest = a.step / longest, b.step / longest, min(a.step, b.step) / longest
    total = a.gamma + b.gamma + 1
    scale = (a.gamma + 1) * (b.gamma + 1) / (total * longest)
    # in logarithms: narrow profiles have exponents of hundreds
    return scale * math.exp(total * math.log(shortest) - (a.gamma + 1) * math.log(t_a) - (b.gamma + 1) * math.log(t_b))


def combination(saved: Sequence[Profile], wanted: Profile) -> Tensor:
    """(len(saved),) float64 weights, of sum 1, whose combination of the saved profiles is nearest to the wanted one.

    The sum is held by a Lagrange multiplier: what does not move along the run is kept exactly."""
    gram = torch.tensor([[_inner(a, b) for b in saved] for a in saved], dtype=torch.float64)
    target = torch.tensor([_inner(a, wanted) for a in saved], dtype=torch.float64)
    scale = gram.diagonal().rsqrt()  # lengths of the profiles, so that the system is well scaled
    system = torch.zeros(len(saved) + 1, len(saved) + 1, dtype=torch.float64)
    system[:-1, :-1] = gram * scale[:, None] * scale
    system[:-1, -1] = system[-1, :-1] = scale
    right = torch.cat([target * scale, target.new_ones(1)])
    return torch.linalg.lstsq(system, right, driver="gelsd").solution[:-1] * scale
