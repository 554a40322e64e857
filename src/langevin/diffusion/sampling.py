"""The settings of sampling: sampler, grid, guidance and EMA."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from langevin.diffusion.guidance import AnyGuidance
from langevin.diffusion.light import AnyLight, BF16Weights, Int8Weights
from langevin.diffusion.sampler import DPM2M, AnySampler
from langevin.diffusion.sampler.grid import AnyGrid, KarrasGrid
from langevin.diffusion.sampler.scheduling import AnyScheduling, FullSequence


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The default settings of sampling.

    Args:
        sampler: the sampler, with its parameters.
        steps: number of steps of the grid, 1 to 10000; the NFE can be larger (Heun's method: two per step).
        grid: the noise levels to visit.
        scheduling: when each frame is denoised, for data in frames and a network trained with levels per frame.
        guidance: the guidance methods, the last one outermost.
        guidance_range: the least and the largest weight of guidance that a request may ask for; None: any.
        ema: EMA length of the weights, as a fraction of the run, 0 to 0.28; 0 is the weights themselves; auto is chosen at
            the end of training.
        light: what makes it cheaper at some cost in quality; it is used when the run is loaded, not while it trains.

    Raises:
        ValueError: a number out of range, two guidance methods of one kind, or two light ones that exclude each other.
    """

    sampler: AnySampler = DPM2M()
    steps: int = 20
    grid: AnyGrid = KarrasGrid()
    scheduling: AnyScheduling = FullSequence()
    guidance: tuple[AnyGuidance, ...] = ()
    guidance_range: tuple[float, float] | None = None
    ema: float | Literal["auto"] = "auto"
    light: tuple[AnyLight, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 10_000:
            raise ValueError(f"sampling takes 1 to 10000 steps, got {self.steps}; 10 to 50 are usual")
        kinds = [method.kind for method in self.guidance]
        if twice := [kind for kind in kinds if kinds.count(kind) > 1]:
            raise ValueError(f"sampling.guidance names {twice[0]} twice: give it once, with one weight")
        if self.ema != "auto" and not 0 <= self.ema <= 0.28:
            raise ValueError(
                f"sampling.ema is a fraction of the run from 0 (the weights themselves) to 0.28, got {self.ema}"
            )
        require_light(self.light)


def require_light(light: Sequence[AnyLight]) -> None:
    """Check that a kind is not named twice, nor two forms of weights. Raises `ValueError`."""
    kinds = [one.kind for one in light]
    if twice := [kind for kind in kinds if kinds.count(kind) > 1]:
        raise ValueError(f"light names {twice[0]} twice: give it once, with its options")
    if stored := [one.kind for one in light if isinstance(one, BF16Weights | Int8Weights)][1:]:
        raise ValueError(f"weights are stored in one form, and light names bf16 and int8: leave {stored[0]} out")
