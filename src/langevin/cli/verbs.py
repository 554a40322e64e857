"""What can be asked for on the command line. No torch here."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, subcommand

SamplerName = Literal[
    "dpm2m", "heun", "ddim", "euler", "ancestral", "ddpm", "euler_maruyama", "langevin", "dpm2", "dpm2s", "sde_dpm2m",
    "dpm3m", "exponential", "adams", "deis", "ipndm", "unipc", "churn", "restart", "adaptive", "learned", "reverse", "flow",
    "first_hitting", "left_to_right", "confidence", "margin", "entropy", "threshold", "factor", "entropy_bound", "remask",
    "psi", "gibbs",
]  # fmt: skip
MethodName = Literal["adjusted", "unadjusted", "annealed"]


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a generator on a folder of images, or by a recipe."""

    target: Positional[str]
    """A folder, a parquet file, a shipped recipe (image/digits, image/cifar10, image/emoji, toy/double-well,
    toy/limit-cycle, toy/mixture) ..., or a recipe's path."""
    overrides: Positional[tuple[str, ...]] = ()
    """Changes to the recipe, e.g. network.width=128 training.batch=64."""
    minutes: float | None = None
    """Time for the whole run; default 10 for a folder, the recipe's own for a recipe."""
    out: Path | None = None
    """The run's directory; default runs/<name>."""
    seed: int | None = None
    """Names the run's randomness."""
    data: Path | None = None
    """Where a recipe's data is, in place of the path it names."""
    allow_code: bool = False
    """Import the functions (module:function) that the recipe names; those named in this command need no leave."""
    tensorboard: bool = False
    """Write TensorBoard events as well."""


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Go on with a run that was stopped, from its newest whole checkpoint; the result is as if it never had been."""

    run: Positional[Path]
    """The run's directory."""
    allow_code: bool = False
    """Import the functions (module:function) that the run's recipe names."""
    tensorboard: bool = False
    """Write TensorBoard events as well."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Draw samples from a run, or from a density that is given as a formula."""

    run: Positional[Path]
    """The run's directory; or a density: toy/ridge, toy/bumps, a recipe's path, or module:function for ln p of your own."""
    count: int = 16
    """How many."""
    condition: tuple[str, ...] = ()
    """Class names or captions, one or several; they are repeated to fill the count. Default: all classes in turn, or
    captions of the data."""
    prompt: str | None = None
    """Of text: what is given at the beginning, or what is to be answered; - reads standard input."""
    suffix: str | None = None
    """Of text: what is given at the end."""
    fill: str | None = None
    """Of text: a text with gaps, [[12]] of twelve symbols, [[]] of any length."""
    length: int | None = None
    """Of text: how many symbols to write; default as many as a row has room for."""
    temperature: float | None = None
    """Of text: below 1 sharpens the answers before they are drawn from; 0 takes the likeliest."""
    top_p: float | None = None
    """Of text: draw from the likeliest symbols that hold this share of the mass."""
    level: float | None = None
    """Of text: how sure is sure enough, for threshold, factor and entropy_bound; kappa of psi, eta of remask; the share
    that gibbs hides in a sweep."""
    best: int | None = None
    """Of text: draw so many for each, and keep the one that the run itself finds likeliest: of answers; of free text it
    is the one that repeats itself."""
    block: int | None = None
    """Of text: write so many places at a time, from left to right."""
    steps: int | None = None
    """Steps of the grid."""
    sampler: SamplerName | None = None
    """How to step."""
    order: int | None = None
    """Order of the multistep solvers exponential, adams, deis, ipndm and unipc."""
    guidance: float | None = None
    """Weight of classifier-free guidance; 1 is none."""
    eta: float | None = None
    """Share of fresh noise of ddim, exponential and sde_dpm2m."""
    average: float | None = None
    """Width of the average of the weights; 0 for the weights themselves."""
    seed: int = 0
    """Sample i has the name seed + i: the same name gives the same sample in any batch."""
    out: Path | None = None
    """Of images: a .png (grid), .npz (array), .gif (the denoising), or a folder (one file each); default a grid in the run.
    Of text: a .txt or .jsonl file; default standard output."""
    gif: bool = False
    """Also write the denoising as an animation."""
    batch: int = 256
    """Rows at once."""
    allow_code: bool = False
    """Import the functions (module:function) that the recipe names."""
    dimensions: int | None = None
    """Of a density: numbers of a state."""
    energy: bool = False
    """Of a density: the function is an energy, -ln p."""
    method: MethodName | None = None
    """Of a density: chains with or without Metropolis' test, or the annealed path from a Gaussian."""
    chains: int | None = None
    """Of a density: how many chains."""
    moves: int | None = None
    """Of a density: moves of a chain after its warm-up."""
    start: float | None = None
    """Of a density: width of the Gaussian that chains start from."""
    box: tuple[float, float] | None = None
    """Of a density: it is 0 outside low to high in any coordinate."""
    confine: float | None = None
    """Of a density: multiply it by a Gaussian of this width, so that it has an integral."""


@dataclass(frozen=True, kw_only=True)
class Solver:
    """Fit solvers of a few steps to a run's own model, and keep them with it: `--sampler learned` uses them."""

    run: Positional[Path]
    """The run's directory."""
    steps: tuple[int, ...] = (4, 6, 8)
    """Network calls of the solvers, one solver each; 2 to 32."""
    guidance: float | None = None
    """Weight of classifier-free guidance that they are to be used with; default the run's."""
    average: float | None = None
    """Width of the average of the weights that they are fitted to; default the run's."""
    count: int = 64
    """Trajectories to fit to; as many others to compare on."""
    fine: int = 12
    """Steps of the fine solver to one of the fitted."""
    seed: int = 0
    """Names the trajectories."""
    batch: int = 64
    """Rows at once."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure a run beside the real-versus-real floor, and write report.html."""

    run: Positional[Path]
    """The run's directory."""
    count: int | None = None
    """Samples a seed; default as many as real images can be set against, at most 2,000."""
    seeds: int = 3
    """Independent sets of samples, for the intervals."""
    steps: int | None = None
    sampler: SamplerName | None = None
    guidance: float | None = None
    average: float | None = None
    curve: bool = False
    """Also measure the run's snapshots: quality against training time."""
    baseline: Path | None = None
    """Of text: an autoregressive run to be measured beside; default the run's own directory with -causal behind it."""
    likelihood: bool = False
    """Also measure bits a dimension: the bound's terms and the flow's likelihood, beside Gaussian baselines."""
    likelihood_rows: int = 64
    """Rows of each part for the flow's likelihood, the costly one; the bound takes eight times as many."""
    batch: int = 256
    """Rows at once."""
    allow_code: bool = False
    """Import the functions (module:function) that the run's recipe names."""


@dataclass(frozen=True, kw_only=True)
class Summarise:
    """Summarise texts with a run of texts and summaries."""

    run: Positional[Path]
    """The run's directory."""
    file: Positional[str]
    """A text a line, or JSON lines with a field text; - reads standard input."""
    steps: int | None = None
    guidance: float | None = None
    """Weight of the source: 1 is neutral, 1.5 to 2.5 keeps closer to it."""
    temperature: float | None = None
    best: int | None = None
    """Draw so many for each text, and keep the one that the run itself finds likeliest."""
    seed: int = 0
    out: Path | None = None
    """A .txt or .jsonl file; default standard output."""


@dataclass(frozen=True, kw_only=True)
class Repair:
    """Repair spelling and grammar with a run that was trained to; what it is not sure of stays."""

    run: Positional[Path]
    """The run's directory."""
    file: Positional[str]
    """A text; - reads standard input."""
    reluctance: float | None = None
    """Nats by which a change must be likelier than what stands there; default the recipe's."""
    steps: int | None = None
    out: Path | None = None
    """A .txt file; default standard output."""


@dataclass(frozen=True, kw_only=True)
class Classify:
    """Say how pairs of texts stand to each other, with a run of labels."""

    run: Positional[Path]
    """The run's directory."""
    file: Positional[str]
    """Premise and hypothesis divided by a tab, a pair a line, or JSON lines with these fields; - reads standard input."""
    out: Path | None = None
    """A .txt file; default standard output."""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Runs x samplers x steps: one table, one plot, one picture."""

    runs: Positional[tuple[Path, ...]]
    """One or more run directories."""
    samplers: tuple[SamplerName, ...] = ("dpm2m", "heun", "ddim")
    steps: tuple[int, ...] = (5, 10, 20)
    """Network calls to compare at (Heun makes half as many steps)."""
    count: int = 500
    """Samples a cell."""
    guidance: float | None = None
    out: Path = Path("comparison")
    """Folder for table, plot and picture."""


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Say what a folder or a run holds, and what `train` would do with it."""

    target: Positional[Path]
    """A folder, a parquet file, or a run's directory."""
    json: bool = False
    """As JSON."""


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Say what this machine can do, what is wrong, and how to mend it."""

    json: bool = False
    """As JSON."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Train on the digits that ship with scikit-learn, sample, evaluate, and write a report: minutes on a laptop."""

    out: Path = Path("runs/demo")
    minutes: float | None = None
    """Time for training; default the recipe's."""


Verb = (
    Annotated[Train, subcommand("train")]
    | Annotated[Resume, subcommand("resume")]
    | Annotated[Sample, subcommand("sample")]
    | Annotated[Solver, subcommand("solver")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Repair, subcommand("repair")]
    | Annotated[Summarise, subcommand("summarise")]
    | Annotated[Classify, subcommand("classify")]
    | Annotated[Compare, subcommand("compare")]
    | Annotated[Inspect, subcommand("inspect")]
    | Annotated[Doctor, subcommand("doctor")]
    | Annotated[Demo, subcommand("demo")]
)


_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*(\.\w+)+|start|held_out|name|about)=")


def parse(arguments: list[str]) -> Verb:
    """The verb and its arguments; prints help or a usage error and exits where that is what is due.

    Overrides (`key.key=value`) may stand anywhere among the arguments."""
    if arguments[:1] == ["train"]:
        changes = [a for a in arguments if _ASSIGNMENT.match(a)]
        arguments = [a for a in arguments if not _ASSIGNMENT.match(a)] + changes
    return tyro.cli(
        Verb,  # type: ignore[arg-type]
        prog="langevin",
        description="Diffusion models for any data: trained, measured and served. Add --debug to see tracebacks.",
        args=arguments or ["--help"],
        config=(tyro.conf.OmitArgPrefixes,),
    )
