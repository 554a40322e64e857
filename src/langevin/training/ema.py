"""Power-function EMAs of the weights, and post-hoc EMAs of any length
("Analyzing and Improving the Training Dynamics of Diffusion Models", 2024, arXiv 2312.02696).

    theta_hat_t = beta_t theta_hat_{t-1} + (1 - beta_t) theta_t,   beta_t = (1 - 1 / t)^(gamma + 1)

weights the parameters at step tau in proportion to tau^gamma: its length is a constant fraction of the run so far,
sigma = sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3)). An EMA of any other length is the least-squares combination of
copies of two such EMAs along the run, with the Gram matrix of their profiles in closed form:

    <p_a, p_b> = (g_a + 1)(g_b + 1) / (g_a + g_b + 1) min(t_a, t_b)^(g_a + g_b + 1) / (t_a^(g_a + 1) t_b^(g_b + 1)),

where the exponent of min is that of the profile that ends first.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

STANDARD = 0.05  # the length that is used where nothing says which one is better


def gamma_of_length(length: float) -> float:
    """The exponent of the profile whose relative standard deviation is `length`.

    The larger root of length^2 (g + 2)^2 (g + 3) = g + 1, by bisection.

    Raises:
        ValueError: length outside (0, 0.28], the range of increasing profiles.
    """
    if not 0 < length <= 0.28:
        raise ValueError(f"an EMA length is a fraction of the run between 0 and 0.28, got {length}")
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        longer = (middle + 1) ** 0.5 / ((middle + 2) * (middle + 3) ** 0.5) > length
        low, high = (middle, high) if longer else (low, middle)
    return (low + high) / 2


def standard_length(kept: Sequence[float]) -> float:
    """The one of the kept lengths that is nearest to `STANDARD`; 0, the weights themselves, if none is kept."""
    return min(kept, key=lambda length: abs(length - STANDARD), default=0.0)


class PowerEMA:
    """Power-function EMAs of named parameters, one per length, in the parameters' dtype.

    Args:
        parameters: name -> parameter; the EMAs start as copies.
        lengths: as fractions of the run, e.g. (0.05, 0.10).
    """

    def __init__(self, parameters: Mapping[str, Tensor], *, lengths: Iterable[float]) -> None:
        self.names = list(parameters)
        self.gammas = {length: gamma_of_length(length) for length in lengths}
        self.values = {length: [parameters[n].detach().clone() for n in self.names] for length in self.gammas}

    def update(self, parameters: Mapping[str, Tensor], *, step: int) -> None:
        """Update with the weights after `step` steps; `step` counts from 1."""
        current = [parameters[n].detach() for n in self.names]
        for length, gamma in self.gammas.items():
            beta = (1 - 1 / step) ** (gamma + 1)
            torch._foreach_lerp_(self.values[length], current, 1 - beta)

    def tensors(self, length: float) -> dict[str, Tensor]:
        """The EMA of one length, by parameter name."""
        return dict(zip(self.names, self.values[length], strict=True))

    def load(self, length: float, tensors: Mapping[str, Tensor]) -> None:
        """Restore the EMA of one length from `tensors`.

        Raises:
            ValueError: it is the EMA of another network."""
        for name, value in zip(self.names, self.values[length], strict=True):
            if name not in tensors or tensors[name].shape != value.shape:
                raise ValueError(f"the checkpoint is of another network: its EMA has no {name} of this shape")
            value.copy_(tensors[name])


@dataclass(frozen=True, kw_only=True)
class EMAProfile:
    """The averaging profile of an EMA with exponent `gamma` after `step` steps."""

    step: int
    gamma: float


def _inner(a: EMAProfile, b: EMAProfile) -> float:
    """Inner product of two profiles p(tau) = (g + 1) tau^g / t^(g + 1) on [0, t], in units of the later step."""
    longest = max(a.step, b.step)
    t_a, t_b, shortest = a.step / longest, b.step / longest, min(a.step, b.step) / longest
    total = a.gamma + b.gamma + 1
    scale = (a.gamma + 1) * (b.gamma + 1) / (total * longest)
    # in logarithms: narrow profiles have exponents of hundreds
    return scale * math.exp(total * math.log(shortest) - (a.gamma + 1) * math.log(t_a) - (b.gamma + 1) * math.log(t_b))


def posthoc_weights(saved: Sequence[EMAProfile], wanted: EMAProfile) -> Tensor:
    """Weights, (len(saved),) float64 of sum 1, whose combination of the saved profiles is nearest to the wanted one.

    A Lagrange multiplier enforces the sum, so a parameter that is constant along the run is kept exactly."""
    gram, target = _inner_products(saved, wanted)
    scale = gram.diagonal().rsqrt()  # normalises the profiles, for conditioning
    system = torch.zeros(len(saved) + 1, len(saved) + 1, dtype=torch.float64)
    system[:-1, :-1] = gram * scale[:, None] * scale
    system[:-1, -1] = system[-1, :-1] = scale
    right = torch.cat([target * scale, target.new_ones(1)])
    return torch.linalg.lstsq(system, right, driver="gelsd").solution[:-1] * scale


def posthoc_error(saved: Sequence[EMAProfile], wanted: EMAProfile) -> float:
    """The distance of `posthoc_weights`' combination from the wanted profile, relative to the latter's norm, in L2."""
    gram, target = _inner_products(saved, wanted)
    weights, norm = posthoc_weights(saved, wanted), _inner(wanted, wanted)
    return math.sqrt(max(0.0, float(weights @ gram @ weights - 2 * weights @ target) / norm + 1))


def _inner_products(saved: Sequence[EMAProfile], wanted: EMAProfile) -> tuple[Tensor, Tensor]:
    """Of the saved profiles with each other (n, n), and with the wanted one (n,)."""
    gram = torch.tensor([[_inner(a, b) for b in saved] for a in saved], dtype=torch.float64)
    return gram, torch.tensor([_inner(a, wanted) for a in saved], dtype=torch.float64)
