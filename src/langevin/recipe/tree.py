"""The schema of a recipe: frozen dataclasses whose defaults are the defaults.

Every choice among kinds is one union here, told apart by `kind`.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from langevin.diffusion.denoiser import Prediction
from langevin.diffusion.objective import LogNormal, TimeDensity
from langevin.diffusion.process import Gaussian
from langevin.diffusion.process.drift.fields import AnyField
from langevin.diffusion.sampler.grid import AnyGrid, Rho
from langevin.modalities.image.codec import Pixels
from langevin.modalities.image.data import Source as ImageSource
from langevin.modalities.text.codec import Words
from langevin.modalities.toy.codec import Coordinates
from langevin.modalities.toy.data import Source as ToySource
from langevin.networks import MLP, DiT, UNet
from langevin.training.averages import gamma_of_width
from langevin.training.loop import TrainingConfig

NetworkConfig = DiT.Config | UNet.Config | MLP.Config
SamplerName = Literal[
    "dpm2m", "heun", "ddim", "euler", "ancestral", "ddpm", "euler_maruyama", "langevin", "dpm2", "dpm2s", "sde_dpm2m",
    "dpm3m", "exponential", "adams", "deis", "ipndm", "unipc", "churn", "restart", "adaptive", "learned", "reverse", "flow",
]  # fmt: skip
Source = ImageSource | ToySource
Codec = Pixels | Coordinates


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A function of the user's own, f(x, t). A name and no code: it is imported only where a command names or allows it.

    Args:
        function: module:function, found as Python finds modules.
    """

    kind: Literal["entry"] = "entry"
    function: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", self.function):
            raise ValueError(f"an entry is written module:function, got '{self.function}'")


@dataclass(frozen=True, kw_only=True)
class Equation:
    """dx = f(x, t) dt + g dw: what becomes a `Drift`.

    Args:
        end: the law it ends in: stationary (f is a gradient, and knows its energy), blend (turned into a Gaussian over the
            last 30 % of the time), or normal (ends in N(0, end_std^2) by itself).
        spreads, edges, reach, sigma_data: of what was simulated from the data; filled before training.
    """

    kind: Literal["drift"] = "drift"
    f: AnyField | Entry
    g: float = 1.0
    horizon: float = 1.0
    steps: int = 50
    end: Literal["stationary", "blend", "normal"] = "blend"
    end_std: float = 1.0
    sigma_data: float = 1.0
    spreads: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    reach: float | None = None

    def __post_init__(self) -> None:
        numbers = (self.g, self.horizon, self.end_std, self.sigma_data)
        if not all(0 < number < math.inf for number in numbers) or self.steps < 2:
            raise ValueError(
                f"a drift's g, horizon, end_std and sigma_data are positive and its steps at least 2: {numbers}"
            )


ProcessConfig = Gaussian | Equation


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
        order: of the multistep solvers exponential, adams, deis, ipndm and unipc; None takes each one's usual.
        eta: fresh noise of ddim, exponential and sde_dpm2m.
        corrections: Langevin steps after each step of a reversed drift.
    """

    sampler: SamplerName = "dpm2m"
    steps: int = 20
    grid: AnyGrid = Rho()
    guidance: float = 1.0
    interval: tuple[float, float] | None = None
    average: float = 0.05
    order: int | None = None
    eta: float = 0.0
    corrections: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.corrections <= 100:
            raise ValueError(
                f"sampling.corrections counts the Langevin steps after a step, 0 to 100, got {self.corrections}"
            )
        if not 1 <= self.steps <= 10_000:
            raise ValueError(f"sampling takes 1 to 10000 steps, got {self.steps}; 10 to 50 are usual")
        if self.order is not None and not 1 <= self.order <= self.steps:
            raise ValueError(
                f"an order counts past answers, from 1 to the {self.steps} steps of the grid, got {self.order}"
            )
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
    codec: Codec = Pixels()
    words: Words | None = None
    classes: tuple[str, ...] = ()
    network: NetworkConfig = DiT.Config()
    process: ProcessConfig = Gaussian()
    learning: Learning = Learning()
    training: TrainingConfig = TrainingConfig()
    sampling: Sampling = Sampling()
    tiny: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is a share of the data between 0 and 1, got {self.held_out}")
        if self.sampling.sampler == "learned":
            raise ValueError(
                "a recipe cannot ask for the learned sampler, which is fitted to a model that is trained: leave "
                "sampling.sampler as it is, train, then `langevin solver RUN` and `langevin sample RUN --sampler learned`"
            )
