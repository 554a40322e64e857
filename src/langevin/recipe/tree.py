"""The schema of a recipe: frozen dataclasses, whose defaults are those of YAML and the command line.

Every choice among kinds is a typed union, discriminated by `kind`.
"""

from __future__ import annotations  # so that the union of modalities is resolved when a recipe is read

import math
import re
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, assert_never

from langevin.diffusion.process import GIDD, Gaussian
from langevin.diffusion.process.masked import MaskSchedule
from langevin.diffusion.process.sde.fields import AnyField
from langevin.diffusion.sampler import AnySampler, FittedSolver, FlowMap
from langevin.diffusion.sampling import Sampling
from langevin.methods import AnyMethod, Diffusion, MeanFlow
from langevin.modalities import union
from langevin.networks import (
    MLP,
    Autoencoder,
    ColumnMLP,
    ColumnTransformer,
    DiT,
    DiT2D,
    InverseSTFT,
    JointDiT,
    Transformer,
    UNet,
    UNet2D,
)
from langevin.networks.adapters import Adapter
from langevin.training.continual import Continual
from langevin.training.loop import TrainingConfig

NetworkConfig = (
    DiT.Config | UNet.Config | MLP.Config | Transformer.Config | InverseSTFT.Config | ColumnMLP.Config
    | ColumnTransformer.Config | JointDiT.Config | Autoencoder.Config | UNet2D.Config | DiT2D.Config
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class UserFunction:
    """A user function f(x, t), by name. It is imported only if a command names it or has --allow-code.

    Args:
        function: module:function; the module is found in the working directory or on Python's path.
    """

    kind: Literal["function"] = "function"
    function: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", self.function):
            raise ValueError(f"a function is named module:function, got '{self.function}'")


@dataclass(frozen=True, kw_only=True)
class SDEConfig:
    """The equation dx = f(x, t) dt + g dw, 0 <= t <= duration, from which an `SDE` is built.

    Args:
        drift: f.
        diffusion: g, constant.
        steps: of a simulation.
        terminal: the distribution at the end: stationary (exp(-energy), for a drift that is the gradient of an energy),
            blend (the drift is blended into one that ends in a Gaussian over the last 30 % of the time), normal (the drift
            itself ends in N(0, terminal_std^2)), or empirical (simulated end points).
        sigma_data, rms, max_abs, clip, points: statistics of a simulation from the data; filled in before training.
    """

    kind: Literal["sde"] = "sde"
    drift: AnyField | UserFunction
    diffusion: float = 1.0
    duration: float = 1.0
    steps: int = 50
    terminal: Literal["stationary", "blend", "normal", "empirical"] = "blend"
    terminal_std: float = 1.0
    sigma_data: float = 1.0
    rms: tuple[float, ...] = ()
    max_abs: tuple[float, ...] = ()
    clip: float | None = None
    points: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        numbers = (self.diffusion, self.duration, self.terminal_std, self.sigma_data)
        if not all(0 < number < math.inf for number in numbers) or self.steps < 2:
            raise ValueError(
                "process.diffusion, duration, terminal_std and sigma_data must be positive and process.steps at least 2: "
                f"{numbers}"
            )


@dataclass(frozen=True, kw_only=True)
class MaskedConfig:
    """Masked (absorbing) diffusion of tokens.

    Args:
        schedule: the probability of a mask over time; it changes the variance of the bound's estimate, not its value.
        training_input: whether a training example gets a drawn number of masks (count), or masks at a drawn time (time).
        loss: the variational bound, which weighs a masked token by 1 / t (linear schedule), or cross_entropy, which weighs
            all alike and learns faster. Both are least at the same network, and evaluation is by the bound.
        quality: weight of the loss of a second output, which tells wrong tokens from right ones, for the sampler `remdm`
            with remask=quality; 0 for none.
        vocab_size: vocabulary size with special tokens; filled in before training, here and below.
    """

    kind: Literal["masked"] = "masked"
    schedule: MaskSchedule = "linear"
    training_input: Literal["count", "time"] = "count"
    loss: Literal["bound", "cross_entropy"] = "bound"
    quality: float = 0.0
    vocab_size: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.quality < math.inf:
            raise ValueError(f"process.quality is a weight, at least 0 and finite, got {self.quality}")
        if self.schedule != "linear" and self.training_input == "count":
            raise ValueError(
                f"process.schedule={self.schedule} needs process.training_input=time: counts are drawn uniformly, "
                "which is the linear schedule"
            )


@dataclass(frozen=True, kw_only=True)
class UniformConfig:
    """Uniform diffusion: tokens are replaced by uniformly drawn ones."""

    kind: Literal["uniform"] = "uniform"
    vocab_size: int = 0


@dataclass(frozen=True, kw_only=True)
class HybridConfig:
    """GIDD: tokens are masked or replaced ("Generalized Interpolating Discrete Diffusion", 2025, arXiv 2503.04482).

    Args:
        uniform_fraction: fraction of replaced tokens at t = 1/2.
        exponent: the larger, the more replacements concentrate around t = 1/2.
    """

    kind: Literal["hybrid"] = "hybrid"
    uniform_fraction: float = 0.2
    exponent: float = 1.0
    vocab_size: int = 0

    def __post_init__(self) -> None:
        GIDD(vocab_size=2, uniform_fraction=self.uniform_fraction, exponent=self.exponent)


@dataclass(frozen=True, kw_only=True)
class AutoregressiveConfig:
    """An autoregressive model instead of diffusion, trained, measured and sampled by the same code, as a baseline."""

    kind: Literal["autoregressive"] = "autoregressive"
    vocab_size: int = 0


@dataclass(frozen=True, kw_only=True)
class ProductConfig:
    """A process for each named part of the data: Gaussian for numbers, masked for tokens.

    Args:
        parts: the process of each part; those that are left out are filled in before training.
        warp: learn a clock for each position, so that what is known of each is lost evenly ("Continuous diffusion for
            mixed-type tabular data", 2023, arXiv 2312.10431); else all share the noise level.
    """

    kind: Literal["product"] = "product"
    parts: dict[str, Gaussian | MaskedConfig] = field(default_factory=dict)
    warp: bool = True


TokenProcessConfig = MaskedConfig | UniformConfig | HybridConfig | AutoregressiveConfig
ProcessConfig = Gaussian | SDEConfig | TokenProcessConfig | ProductConfig


def methods_of(process: ProcessConfig) -> tuple[str, ...]:
    """The kinds of method that can train under a process."""
    match process:
        case SDEConfig():
            return ("score_matching",)
        case Gaussian():
            return (
                "diffusion",
                "consistency",
                "meanflow",
                "distribution_matching",
                "spectral",
                "autoencoder",
                "adversarial",
            )
        case MaskedConfig() | UniformConfig() | HybridConfig() | AutoregressiveConfig() | ProductConfig():
            return ("diffusion",)
        case _:
            assert_never(process)


def require_fit(method: AnyMethod, process: ProcessConfig) -> None:
    """Check that a method can train under a process, and that all of its options apply.

    Raises:
        ValueError: it cannot, with the methods that can; or an option has no effect."""
    possible = methods_of(process)
    if method.kind not in possible:
        raise ValueError(
            f"method.kind {method.kind} does not train under process.kind {process.kind}; use {', '.join(possible)}"
        )
    if isinstance(process, ProductConfig):
        assert isinstance(method, Diffusion.Config), "checked above"
        if method.weighting == "bound" or method.uncertainty or method.coupling is not None:
            raise ValueError(
                "method.weighting=bound, method.uncertainty=true and method.coupling are for one process, and process "
                "product has one for each part: leave them out"
            )
    if isinstance(process, TokenProcessConfig):
        changed = [f.name for f in fields(method) if getattr(method, f.name) != f.default]
        if changed:
            raise ValueError(
                f"method.{changed[0]} is an option of process.kind gaussian, and process {process.kind} has a bound of its "
                "own: leave it out"
            )


def require_flow(method: AnyMethod, sampler: AnySampler) -> None:
    """Check that a sampler fits the coupling of noise and data that a method trains with.

    Raises:
        ValueError: it adds noise, which needs the score of x_t, and with a coupling the network has not learned that."""
    adds_noise = sampler.convergence_order is None and not isinstance(sampler, FittedSolver)
    if isinstance(method, Diffusion.Config) and method.coupling is not None and adds_noise:
        raise ValueError(
            f"the sampler '{sampler.kind}' adds noise on the way, and a run with method.coupling has learned a flow "
            "without noise: choose dpm2m, heun or another sampler without noise"
        )


def require_span(what: str, network: NetworkConfig) -> None:
    """Check that a network reads the length of a step, as `what` needs it.

    Raises:
        ValueError: it does not."""
    if not network.conditioning.span:
        raise ValueError(
            f"{what} needs a network that is given the length of a step, and this one was not: train a student by "
            "`langevin distil RUN --method meanflow`, or set network.conditioning.span=true"
        )


def require_base(adapter: Adapter | None, method: AnyMethod, continual: Continual) -> None:
    """Check that a run that learns new data has a base, and a method that can keep to it. Raises `ValueError`."""
    if adapter is None:
        raise ValueError(
            "continual is of runs that start from the weights of another: train one by `langevin continue RUN DATA`"
        )
    if not isinstance(method, Diffusion.Config) or method.coupling is not None:
        found = "method.coupling" if isinstance(method, Diffusion.Config) else f"method.kind={method.kind}"
        raise ValueError(f"continual is for method.kind=diffusion without a coupling, and this run has {found}")
    if continual.anchor and adapter.kind != "full":
        raise ValueError(
            f"continual.anchor is of weights that are trained, and adapter.kind={adapter.kind} leaves them as they are: "
            "leave the anchor out"
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The complete configuration of a run.

    Args:
        name: group/name.
        description: one line for tables and reports.
        measured: measured results, with machine, duration and seed.
        data: the modality: where the data is, how it is encoded, and what was fitted to it.
        init_from: directory of a run from whose weights and vocabulary training starts.
        adapter: which weights of another run's network are trained, where that is adapted; None trains a network of its
            own.
        continual: what keeps the data of that run from being forgotten; None is nothing.
        smoke_test: overrides for a run of seconds, for tests.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "strict": True,
    }  # pydantic applies it to all fields

    name: str = "custom"
    description: str = ""
    measured: str = ""
    data: union.AnyModality
    init_from: str | None = None
    network: NetworkConfig = DiT.Config()
    process: ProcessConfig = Gaussian()
    method: AnyMethod = Diffusion.Config()
    training: TrainingConfig = TrainingConfig()
    sampling: Sampling = Sampling()
    adapter: Adapter | None = None
    continual: Continual | None = None
    smoke_test: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.adapter is not None and self.init_from is not None:
            raise ValueError("adapter starts from the weights of its base: leave init_from out")
        if self.continual is not None:
            require_base(self.adapter, self.method, self.continual)
        require_fit(self.method, self.process)
        if (self.network.kind == "autoencoder") != (self.method.kind == "autoencoder"):
            raise ValueError(
                "network.kind=autoencoder and method.kind=autoencoder belong together, and these are "
                f"{self.network.kind} and {self.method.kind}"
            )
        require_flow(self.method, self.sampling.sampler)
        if self.training.keep_best and not self.method.ranked_by_loss:
            raise ValueError(
                "training.keep_best keeps the weights of the least held-out loss, and that of method.kind="
                f"{self.method.kind} does not rank what it draws: leave it out"
            )
        if isinstance(self.method, MeanFlow.Config):
            require_span("method.kind=meanflow", self.network)
        if isinstance(self.sampling.sampler, FlowMap):
            require_span("sampling.sampler=flow_map", self.network)
        lengths, length = self.training.ema_lengths, self.sampling.ema
        known = [f"{saved:g}" for saved in lengths]
        fixed = length != "auto" and length > 0
        if lengths and fixed and not self.training.snapshots and f"{length:g}" not in known:
            raise ValueError(
                f"sampling.ema={length:g} is none of training.ema_lengths ({', '.join(known)}), and with "
                f"training.snapshots=0 no other can be reconstructed: set sampling.ema={known[0]}, or training.snapshots=8"
            )
        if isinstance(self.sampling.sampler, FittedSolver):
            raise ValueError(
                "a recipe cannot name the learned sampler, which is fitted to a trained run: use another "
                "sampling.sampler, train, then `langevin fit-solver RUN`, `langevin sample RUN --sampler learned`"
            )
