"""The schema of a recipe: frozen dataclasses whose defaults are the defaults.

Every choice among kinds is one union here, told apart by `kind`.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from langevin.diffusion.denoiser import Prediction
from langevin.diffusion.objective import LogNormal, TimeDensity
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler.grid import AnyGrid, Rho
from langevin.modalities.image.codec import Pixels
from langevin.modalities.image.data import Source
from langevin.modalities.text.codec import Words
from langevin.networks import MLP, DiT, UNet
from langevin.training.averages import gamma_of_width
from langevin.training.loop import TrainingConfig

NetworkConfig = DiT.Config | UNet.Config | MLP.Config
SamplerName = Literal["dpm2m", "heun", "ddim", "euler", "ancestral"]


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What the denoiser is asked, and how its answers are weighed.

    Args:
        prediction: what the network's output means.
        weighting: on the squared error at each noise level; bound divides by the density of `times` and so is the
        variational
            bound in nats, whatever they are.
        uncertainty: learn the size of the loss at each noise level and divide by it.
        times: density of training times.
        drop: probability that the condition is withheld, for guidance.
        flip: show images mirrored half of the time.
    """

    prediction: Prediction = "edm"
    weighting: Literal["edm", "velocity", "noise", "min_snr", "bound"] = "edm"
    gamma: float = 5.0
    uncertainty: bool = False
    times: TimeDensity = LogNormal()
    drop: float = 0.1
    flip: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.drop < 1:
            raise ValueError(f"learning.drop is a probability below 1, got {self.drop}")
        if not 0 < self.gamma < math.inf:
            raise ValueError(f"learning.gamma must be positive, got {self.gamma}")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How samples are drawn unless asked otherwise.

    Args:
        steps: of the grid; Heun asks twice a step.
        guidance: weight of classifier-free guidance, 1 is none.
        interval: guide where low < sigma / alpha <= high.
        average: width of the average of the weights to use; 0 is the weights themselves.
        eta: fresh noise of DDIM.
    """

    sampler: SamplerName = "dpm2m"
    steps: int = 20
    grid: AnyGrid = Rho()
    guidance: float = 1.0
    interval: tuple[float, float] | None = None
    average: float = 0.05
    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 10_000:
            raise ValueError(f"sampling takes 1 to 10000 steps, got {self.steps}; 10 to 50 are usual")
        if not math.isfinite(self.guidance):
            raise ValueError(f"guidance must be a finite number (1 is none), got {self.guidance}")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is a share of fresh noise, between 0 and 1, got {self.eta}")
        if self.interval is not None and not 0 <= self.interval[0] < self.interval[1]:
            raise ValueError(f"the interval of guidance goes from low to high noise, got {self.interval}")
        if self.average != 0:
            gamma_of_width(self.average)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole run.

    Args:
        name: modality/name.
        about: one line.
        result: what it measured, where, when; kept beside the recipe.
        data: where the data is.
        held_out: share of the data kept from training, where the data has no such part of its own.
        tiny: overrides that make a run of seconds for tests.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}  # also for all that is below

    name: str = "image/custom"
    about: str = ""
    result: str = ""
    data: Source
    held_out: float = 0.1
    codec: Pixels = Pixels()
    words: Words | None = None
    classes: tuple[str, ...] = ()
    network: NetworkConfig = DiT.Config()
    process: Gaussian = Gaussian()
    learning: Learning = Learning()
    training: TrainingConfig = TrainingConfig()
    sampling: Sampling = Sampling()
    tiny: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is a share of the data between 0 and 1, got {self.held_out}")
