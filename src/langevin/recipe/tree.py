"""The schema of a recipe: frozen dataclasses whose defaults are the defaults.

Every choice among kinds is one union here, told apart by `kind`.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from langevin.diffusion.denoiser import Prediction
from langevin.diffusion.objective import LogNormal, TimeDensity
from langevin.diffusion.process import Gaussian, Hybrid
from langevin.diffusion.process.drift.fields import AnyField
from langevin.diffusion.process.masked import Rate
from langevin.diffusion.sampler.grid import AnyGrid, Rho
from langevin.diffusion.sampler.unmask import Taste
from langevin.modalities.image.codec import Pixels
from langevin.modalities.image.data import Source as ImageSource
from langevin.modalities.text.codec import Words
from langevin.modalities.text.layout import AnyLayout
from langevin.modalities.text.sources import TextSource
from langevin.modalities.text.tokens import AnyTokens
from langevin.modalities.toy.codec import Coordinates
from langevin.modalities.toy.data import Source as ToySource
from langevin.networks import MLP, DiT, Transformer, UNet
from langevin.training.averages import gamma_of_width
from langevin.training.loop import TrainingConfig

NetworkConfig = DiT.Config | UNet.Config | MLP.Config | Transformer.Config
SamplerName = Literal[
    "dpm2m", "heun", "ddim", "euler", "ancestral", "ddpm", "euler_maruyama", "langevin", "dpm2", "dpm2s", "sde_dpm2m",
    "dpm3m", "exponential", "adams", "deis", "ipndm", "unipc", "churn", "restart", "adaptive", "learned", "reverse", "flow",
    "first_hitting", "left_to_right", "confidence", "margin", "entropy", "threshold", "factor", "entropy_bound", "remask",
    "psi", "gibbs",
]  # fmt: skip
Source = ImageSource | ToySource | TextSource
Codec = Pixels | Coordinates | AnyTokens


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
            last 30 % of the time), normal (ends in N(0, end_std^2) by itself), or reservoir (ends where it ends: the prior
            is made of simulated end points).
        spreads, edges, reach, sigma_data, points: of what was simulated from the data; filled before training.
    """

    kind: Literal["drift"] = "drift"
    f: AnyField | Entry
    g: float = 1.0
    horizon: float = 1.0
    steps: int = 50
    end: Literal["stationary", "blend", "normal", "reservoir"] = "blend"
    end_std: float = 1.0
    sigma_data: float = 1.0
    spreads: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    reach: float | None = None
    points: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        numbers = (self.g, self.horizon, self.end_std, self.sigma_data)
        if not all(0 < number < math.inf for number in numbers) or self.steps < 2:
            raise ValueError(
                f"a drift's g, horizon, end_std and sigma_data are positive and its steps at least 2: {numbers}"
            )


@dataclass(frozen=True, kw_only=True)
class Masking:
    """Symbols hidden.

    Args:
        rate: of masking, which changes the variance of the bound's estimate and not its value.
        question: what a training row is asked: exactly n masked, or a time.
        symbols: of the data, controls included; filled before training, here and below.
    """

    kind: Literal["masked"] = "masked"
    rate: Rate = "linear"
    question: Literal["count", "time"] = "count"
    symbols: int = 0


@dataclass(frozen=True, kw_only=True)
class Replacing:
    """Symbols replaced by any others."""

    kind: Literal["uniform"] = "uniform"
    symbols: int = 0


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """Symbols hidden or wrong: a share `wrong` of them half-way, the narrower in time the larger `power`."""

    kind: Literal["hybrid"] = "hybrid"
    wrong: float = 0.2
    power: float = 1.0
    symbols: int = 0

    def __post_init__(self) -> None:
        Hybrid(symbols=2, wrong=self.wrong, power=self.power)


@dataclass(frozen=True, kw_only=True)
class LeftToRight:
    """No diffusion at all: an autoregressive model, trained, measured and sampled by the same code, to compare with."""

    kind: Literal["causal"] = "causal"
    symbols: int = 0


Symbols = Masking | Replacing | Mixing | LeftToRight
ProcessConfig = Gaussian | Equation | Symbols


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
        temperature, top_p: how the answers about symbols are bent before they are drawn from.
        level: of threshold, factor and entropy_bound: how sure is sure enough; None takes each one's usual. Of psi and
            remask: kappa and eta.
        best: texts drawn for each that is asked for, of which the one that the run itself finds likeliest is kept.
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
    temperature: float = 1.0
    top_p: float = 1.0
    level: float | None = None
    best: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.best <= 1000:
            raise ValueError(f"sampling.best is how many texts are drawn for each, 1 to 1000, got {self.best}")
        Taste(temperature=self.temperature, top_p=self.top_p)
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
        layout: of text, how a task becomes rows.
        start: a run whose trained weights (and codec) training begins with.
        tiny: overrides that make a run of seconds for tests.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}  # also for all that is below

    name: str = "image/custom"
    about: str = ""
    result: str = ""
    data: Source
    held_out: float = 0.1
    codec: Codec = Pixels()
    layout: AnyLayout | None = None
    start: str | None = None
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
