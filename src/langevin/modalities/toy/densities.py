"""Densities given as formulas, ln p(x) at rows x (b, d), that ship as examples for chains."""

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from langevin.modalities.toy.data import log_density


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """p(x1, x2) = exp(-(x1 - x2)^2 / 2) / (2 pi): x1 - x2 is N(0, 1), and along (1, 1) nothing holds x: no integral."""

    kind: Literal["ridge"] = "ridge"

    def __call__(self, x: Tensor) -> Tensor:
        return -0.5 * (x[:, 0] - x[:, 1]).square() - math.log(2 * math.pi)


@dataclass(frozen=True, kw_only=True)
class Bumps:
    """Three bumps in the plane, far apart: a chain stays on the one where it starts, the path from a Gaussian finds all."""

    kind: Literal["bumps"] = "bumps"

    def __call__(self, x: Tensor) -> Tensor:
        log_p = log_density("mixture", x)
        assert log_p is not None
        return log_p


AnyDensity = Ridge | Bumps
