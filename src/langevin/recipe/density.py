"""The schema of a density: something to draw from by chains, with nothing to learn. Shipped beside the other recipes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from langevin.diffusion.chain import Density
from langevin.modalities.toy.densities import AnyDensity
from langevin.recipe.entry import Code, load_entry
from langevin.recipe.tree import Entry

MethodName = Literal["adjusted", "unadjusted", "annealed"]


@dataclass(frozen=True, kw_only=True)
class ChainConfig:
    """How chains go.

    Args:
        method: adjusted (Metropolis' test), unadjusted, or annealed (one draw a chain along the path from a Gaussian).
        size: first step, or the step itself if unadjusted.
        start: width of the Gaussian that chains start from.
        rungs: of the annealed path.
    """

    method: MethodName = "adjusted"
    chains: int = 64
    warmup: int = 500
    moves: int = 2000
    size: float = 0.1
    start: float = 2.0
    rungs: int = 80

    def __post_init__(self) -> None:
        if self.chains < 4 or self.warmup < 0 or self.moves < 40 or self.rungs < 1:
            raise ValueError(
                f"judging chains takes at least 4 chains of 40 moves, got {self.chains} of {self.moves} "
                f"(warmup {self.warmup}, rungs {self.rungs})"
            )
        if not (0 < self.size < math.inf and 0 < self.start < math.inf):
            raise ValueError(f"the size of a step and the start's width are positive, got {self.size} and {self.start}")


@dataclass(frozen=True, kw_only=True)
class DensityRecipe:
    """A density, its dimensions and how to draw from it.

    Args:
        energy: whether the function is an energy, -ln p, and not ln p.
        box: (low, high) of every coordinate, outside of which p is 0.
        confine: multiply p by exp(-|x|^2 / (2 confine^2)).
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    name: str = "density/custom"
    about: str = ""
    result: str = ""
    density: AnyDensity | Entry
    dimensions: int = 2
    energy: bool = False
    box: tuple[float, float] | None = None
    confine: float | None = None
    chains: ChainConfig = ChainConfig()

    def __post_init__(self) -> None:
        if not 1 <= self.dimensions <= 10_000:
            raise ValueError(f"dimensions counts the numbers of a state, 1 to 10000, got {self.dimensions}")

    def build(self, code: Code) -> Density:
        """The density itself.

        Raises:
            ValueError: code that the command does not allow, or limits that make no sense."""
        function: Callable[[Tensor], Tensor]
        function = load_entry(self.density.function, code) if isinstance(self.density, Entry) else self.density
        log_p = (lambda x: -function(x)) if self.energy else function
        return Density(log_p=log_p, box=self.box, confine=self.confine)
