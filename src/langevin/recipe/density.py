"""The schema of a density given by a formula, which is sampled by Markov chains without training."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from langevin.diffusion.chain import Density
from langevin.diffusion.chain.densities import AnyDensity
from langevin.recipe.tree import UserFunction
from langevin.user_function import CodePermission, load_function

MethodName = Literal["adjusted", "unadjusted", "annealed"]


@dataclass(frozen=True, kw_only=True)
class ChainConfig:
    """How chains are run.

    Args:
        method: adjusted (Langevin with a Metropolis test), unadjusted (without), or annealed (from a Gaussian; one draw per
            chain).
        warmup, iterations: iterations per chain before and after the warm-up ends.
        size: initial step size, adapted during warm-up; constant if unadjusted.
        start: standard deviation of the Gaussian that chains start from.
        temperatures: number of intermediate densities of annealing.
    """

    method: MethodName = "adjusted"
    chains: int = 64
    warmup: int = 500
    iterations: int = 2000
    size: float = 0.1
    start: float = 2.0
    temperatures: int = 80

    def __post_init__(self) -> None:
        if self.chains < 4 or self.warmup < 0 or self.iterations < 40 or self.temperatures < 1:
            raise ValueError(
                f"diagnostics need at least 4 chains of 40 iterations, got {self.chains} of {self.iterations} "
                f"(warmup {self.warmup}, temperatures {self.temperatures})"
            )
        if not (0 < self.size < math.inf and 0 < self.start < math.inf):
            raise ValueError(f"chains.size and chains.start must be positive, got {self.size} and {self.start}")


@dataclass(frozen=True, kw_only=True)
class DensityRecipe:
    """A density, its number of dimensions, and how it is sampled.

    Args:
        energy: whether the function is an energy, -ln p, and not ln p.
        box: (low, high): p is 0 where any coordinate is outside.
        gaussian_envelope: multiply p by exp(-|x|^2 / (2 gaussian_envelope^2)).
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    name: str = "density/custom"
    description: str = ""
    measured: str = ""
    density: AnyDensity | UserFunction
    dimensions: int = 2
    energy: bool = False
    box: tuple[float, float] | None = None
    gaussian_envelope: float | None = None
    chains: ChainConfig = ChainConfig()

    def __post_init__(self) -> None:
        if not 1 <= self.dimensions <= 10_000:
            raise ValueError(f"dimensions must be between 1 and 10000, got {self.dimensions}")

    def build(self, code: CodePermission) -> Density:
        """The density.

        Raises:
            ValueError: a function that may not be imported, or an invalid box or envelope."""
        function: Callable[[Tensor], Tensor]
        function = (
            load_function(self.density.function, code, takes=("x",))
            if isinstance(self.density, UserFunction)
            else self.density
        )
        log_p = (lambda x: -function(x)) if self.energy else function
        return Density(log_p=log_p, box=self.box, gaussian_envelope=self.gaussian_envelope)
