"""The protocol of a modality, and the types through which the rest of the package uses it.

A modality is a kind of data: how it is detected, read, encoded, sampled, shown and evaluated. It is a folder with a
frozen dataclass that implements `Modality`. The dataclass is the `data:` section of a recipe: it says where the data is
and how it is encoded, and holds what was fitted to the data, such as a vocabulary. Outside the folder only the union in
`modalities.union` names it. Trainer, sampling loop, run directory and CLI use the types below.

What a user requests becomes a `Plan`: a generator that yields `Draw` and `Predict` requests, receives the result of
each, and returns `Samples`. A plan never calls a network, so one driver runs them all: a single draw, infilling of free
length, best of n, block diffusion with a KV cache, a cascade of models. A server can batch the requests of many plans.
"""

import base64
import html
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.sampling import Sampling
from langevin.embed import embed
from langevin.evaluation.report import MetricRow, Section
from langevin.methods.models import AnyModel
from langevin.networks.sizes import Reads

Progress = Callable[[int, int], None]  # (done, total)
Say = Callable[[str], None]  # a line for the user

MEDIA_TYPES = {
    ".png": "image/png", ".gif": "image/gif", ".txt": "text/plain; charset=utf-8", ".wav": "audio/wav",
    ".csv": "text/csv; charset=utf-8", ".svg": "image/svg+xml", ".json": "application/json", ".mp4": "video/mp4",
    ".webp": "image/webp", ".tsv": "text/tab-separated-values; charset=utf-8",
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- data


class DataReport(Protocol):
    """Findings from reading the data: what is broken, missing or unusual."""

    @property
    def broken(self) -> tuple[tuple[str, str], ...]:
        """(name, reason) of each item that could not be read and was left out."""
        ...

    def lines(self) -> list[str]:
        """One sentence per finding; empty if there are none."""
        ...


class Dataset(Protocol):
    """The training or the validation part of some data: items in a fixed order."""

    @property
    def notes(self) -> DataReport:
        """The report on all of the data, equal for both parts."""
        ...

    def __len__(self) -> int:
        """Number of items."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the content, in hexadecimal: equal for equal data, whatever its path."""
        ...


class Batches(Protocol):
    """Encoded training examples by index: a pure function of (items, noise).

    It may have `lengths`, (len,) int64: the examples' lengths, by which they are grouped into batches that need little
    padding; or `buckets`, (len,) int64: which of a few shapes each has, so that nearly all batches are of one shape; and
    `prepare(progress)`, which is called once before the first step. Of data larger than memory it may have `shards`, (len,)
    int64: the shard or row group that each example is stored in, for `training.shuffle_window`; `window`, where there has
    to be one; and `ahead(items)`, which is told which examples are read next."""

    @property
    def dataset(self) -> Any:
        """The `Dataset` that is encoded."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example x, without the batch dimension; if lengths differ, that of the longest, and in buckets that
        of one whose sides are equal."""
        ...

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences that are printed when training starts."""
        ...

    def __len__(self) -> int:
        """Number of examples, which may differ from the number of items."""
        ...

    def __call__(self, items: Tensor, noise: SampleNoise | None = None) -> Batch:
        """The batch of b examples, on the device given to `Modality.batches`.

        Args:
            items: (b,) int64 indices in [0, len(self)).
            noise: one random stream per example, for augmentation; None disables augmentation.
        """
        ...


class Inspection(Protocol):
    """What `inspect` reports of the data at a path, before training."""

    def lines(self) -> list[str]:
        """The report as text, one finding per line."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """The same findings, of JSON types."""
        ...


@dataclass(frozen=True, kw_only=True)
class Detected:
    """A modality that can read a path, and how well it fits.

    Args:
        modality: the `Modality`, configured for the path.
        score: fraction of the files at the path that it reads, in (0, 1]; the highest score wins.
        reason: the evidence in words, such as "1,200 image files".
    """

    modality: Any
    score: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What the data requires of process and network; `recipe.complete` fills the recipe's sections from it.

    Args:
        processes: kinds of process that can corrupt the data.
        channels: number of channels of continuous data (channels, *space); None for tokens.
        space: sizes of the spatial dimensions: () for vectors, (length,) for sequences, (height, width) for images.
        spaces: all of these, if examples have one of several.
        std: standard deviation of encoded continuous data, `sigma_data`; None for tokens.
        tokens: size of the vocabulary, special tokens included; None for continuous data.
        streams: tokens per step: x is (steps * streams,), step by step.
        blocks: whether the data can be generated block by block, from left to right.
        frames: whether the first dimension of space is time, whose frames may have noise levels of their own.
        classes: number of classes that the network is conditioned on; 0 for none.
        vocabulary: size of the captions' vocabulary; 0 without captions.
        caption_length: tokens per caption; 0 without captions.
        concat: channels of the port `concat`; 0 for none.
        aligned: width of the port `aligned`; 0 for none.
        seconds: how long the first dimension of space lasts, if it is time; of a part, which others are aligned with.
        choices: the number of tokens that each position can have, if they differ.
        parts: what each named part of the data requires, if an example is a mapping of parts, for a process `product`.
    """

    processes: tuple[str, ...]
    channels: int | None = None
    space: tuple[int, ...] = ()
    spaces: tuple[tuple[int, ...], ...] = ()
    std: float | None = None
    tokens: int | None = None
    streams: int = 1
    blocks: bool = False
    frames: bool = False
    classes: int = 0
    vocabulary: int = 0
    caption_length: int = 0
    concat: int = 0
    aligned: int = 0
    seconds: float | None = None
    choices: tuple[int, ...] = ()
    parts: Mapping[str, "Needs"] = field(default_factory=dict)

    @property
    def reads(self) -> Reads:
        """The kind of input that a network for this data takes."""
        if self.parts:
            return "parts"
        if self.tokens is not None:
            return "tokens"
        return "grids" if self.space else "vectors"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Compute for training: minutes, and the measured FLOP/s of matrix products on this machine."""

    minutes: float
    flops: float

    EFFICIENCY: ClassVar[float] = 0.5  # fraction of the measured FLOP/s that training reaches

    @property
    def multiply_adds(self) -> float:
        """Multiply-adds to spend on forward passes: a training step costs three, and a multiply-add is 2 FLOP."""
        return 60 * self.minutes * self.flops * self.EFFICIENCY / 6


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """Sections of a recipe (network, training, sampling, ...) chosen for the data, and a line of reasons per choice."""

    recipe: Mapping[str, Any]
    reasons: tuple[str, ...]


# ------------------------------------------------------------------------------------------------------------- requests


@dataclass(frozen=True, kw_only=True, eq=False)
class Draw:
    """A request for b samples; its result is x (b, *shape) on the CPU, not decoded.

    Args:
        shape: shape of one sample, or of each named part of it; then x, `clean` and `known` are mappings by part too.
        seeds: (b,) int64; equal seeds give equal samples, in any batch.
        sampling: sampler, number of steps, grid and guidance.
        condition: what the b samples are conditioned on, without guidance weights; None for nothing.
        x: (b, *shape) initial state; None draws it from the prior.
        clean: (b, *shape) clean data, which the process corrupts to the first time of the grid; takes the place of x.
        known: (b, positions) bool of tokens, or (b, frames) of samples (channels, frames, ...): given by x or `clean`,
            their time is 0 from the first step on. Of data in parts x gives these positions alone.
        wrap: a function applied to the guided denoiser, for guidance that only this request has.
        prefix: (b, n) clean tokens before x, which a network with block attention reads from its KV cache.
        model: which model draws: "run", or the name of another that the run was loaded with.
        rising: from data to noise: x is data at the last time of the grid, and the result its noise at the first.
        tile: the side of the images that the network is for, if the sample is a larger one (`diffusion.tiled`).
        window: the number of frames that the network is for, if the sample is a longer one (`diffusion.windowed`).
        skip: steps at the beginning of the grid that are left out: the samples begin at the time after them, for `clean`.
        withheld: parts of the data that stay noise to the end, so that the others are drawn without them; what is returned
            of them means nothing.
    """

    shape: Any
    seeds: Tensor
    sampling: Sampling
    condition: Condition | None = None
    x: Any = None
    clean: Any = None
    known: Any = None
    wrap: Callable[[Denoiser], Denoiser] | None = None
    prefix: Tensor | None = None
    model: str = "run"
    rising: bool = False
    tile: int | None = None
    window: int | None = None
    skip: int = 0
    withheld: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Predict:
    """A request for one function evaluation at given x_t, without guidance unless `sampling` has some.

    The result is on the CPU: the float64 logits (m, tokens) at the m True positions of `where` in row-major order, or
    the posterior mean (b, ...) if `where` is None.

    Args:
        x_t: (b, ...) noisy data.
        t: times, float64, (b,) or (b, positions).
        where: (b, positions) bool, for tokens; None for continuous data.
        condition: what the b samples are conditioned on; None for nothing.
        model: as in `Draw`.
        sampling: whose guidance is used; None is no guidance.
        activations: the result is what the network computes half-way, (b, features) float32, see `networks.activations`.
    """

    x_t: Tensor
    t: Tensor
    where: Tensor | None = None
    condition: Condition | None = None
    model: str = "run"
    sampling: Sampling | None = None
    activations: bool = False


Request = Draw | Predict
Plan = Generator[Request, Any, "Samples"]  # is sent a tensor, or a mapping by part


@dataclass(frozen=True, kw_only=True)
class File:
    """The content of a file; the suffix, with its dot, determines the media type. `name` is set for one of several."""

    suffix: str
    content: bytes
    name: str = ""

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES.get(self.suffix, "application/octet-stream")

    def html(self) -> str:
        """The file as one self-contained, escaped HTML element."""
        if self.media_type.startswith("text/plain"):
            return f"<pre style='white-space: pre-wrap'>{html.escape(self.content.decode())}</pre>"
        source = f"data:{self.media_type};base64,{base64.b64encode(self.content).decode()}"
        kind = self.media_type.partition("/")[0]
        pictured = self.media_type.startswith("image/")
        return f"<img src='{source}'>" if pictured else f"<{kind} controls src='{source}'></{kind}>"


@dataclass(frozen=True, kw_only=True)
class Table:
    """How to lay out samples as a table, in row-major order.

    Args:
        rows, columns: the headings.
        marked: which samples are marked, (len(rows) * len(columns),).
        note: what the mark means.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    marked: tuple[bool, ...]
    note: str


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a sample is as it is.

    Args:
        lines: findings in words.
        tables: numbers by name, by heading.
        curves: sections of a report.
        figures: all of it, of JSON types.
    """

    lines: tuple[str, ...]
    tables: Mapping[str, Mapping[str, float]]
    curves: Sequence[Section]
    figures: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Samples:
    """n decoded samples.

    Args:
        modality: the modality that decoded them; it also shows and saves them.
        values: a tensor (n, ...), or a list of n values.
        names: the condition or prompt of each sample in words; empty for unconditional samples.
        columns: columns of the preview grid; None lets the modality choose.
        table: the layout, if the samples are the cells of a table.
        arrays: further tensors (n, ...) by name: labels, probabilities, seeds.
        nfe: function evaluations per sample, averaged over the samples; the driver sets it.
        document: whether the values are consecutive pieces of one document.
        diff: whether they are lines of a diff, which a terminal shows in colours.
        frames: decoded states along the trajectory of the plan's last draw, noise first; empty unless they were recorded.
        facts: what the samples were made from, of JSON types, for their files; "seed" is that of the first one.
        sampling: how they were drawn, if the plan did not use the model's own sampling.
        explanation: of the first sample, if one was requested.
        num_drawn: how many values, from the first, were drawn, if others show what they were made from; None is all.
    """

    modality: "Modality"
    values: Any
    names: tuple[str, ...] = ()
    columns: int | None = None
    table: Table | None = None
    arrays: Mapping[str, Tensor] = field(default_factory=dict)
    nfe: int = 0
    document: bool = False
    diff: bool = False
    frames: Sequence[Any] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    sampling: Sampling | None = None
    num_drawn: int | None = None
    explanation: Explanation | None = None

    def __repr__(self) -> str:
        return f"Samples({len(self)} of {self.modality.kind}, {self.nfe} function evaluations each)"

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> Any:
        return self.values[index]

    def select(self, index: Sequence[int]) -> "Samples":
        """Some of the samples, without table and frames."""
        at = torch.tensor(list(index), dtype=torch.int64)
        values = self.values[at] if isinstance(self.values, Tensor) else [self.values[i] for i in index]
        names = tuple(self.names[i] for i in index) if self.names else ()
        arrays = {name: part[at] for name, part in self.arrays.items()}
        return replace(self, values=values, names=names, arrays=arrays, table=None, frames=())

    @property
    def drawn(self) -> "Samples":
        """The samples without the values that show what they were made from."""
        return self if self.num_drawn is None else replace(self.first(self.num_drawn), num_drawn=None, names=())

    def first(self, count: int) -> "Samples":
        """The first `count` samples, without table and frames."""
        return self.select(range(min(count, len(self))))

    def stamped(self, content: bytes, index: int | None = None) -> bytes:
        """The content of a file with the samples' facts in it, or with those of one sample."""
        if not self.facts:
            return content
        index = 0 if index is None and len(self) == 1 else index
        own: dict[str, Any] = {"count": len(self)} if index is None else {"index": index}
        if index is not None and "seed" in self.facts:
            own["seed"] = self.facts["seed"] + index
        if index is not None and self.num_drawn is None and index < len(self.names) and self.names[index]:
            own["prompt"] = self.names[index]
        return embed(content, {**self.facts, **own})

    def preview(self) -> File:
        """All samples in one file to look at."""
        return self.modality.preview(self)

    def text(self) -> str:
        """The samples as text for standard output.

        Raises:
            ValueError: the modality has no text form."""
        return self.modality.text(self)

    def save(self, out: str | Path) -> Path:
        """Write the samples in the form given by the suffix of `out`, and return its path.

        Raises:
            ValueError: the modality cannot be written in that form."""
        path = Path(out)
        require_form(self.modality, path.suffix, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.modality.save(self, path)
        return path

    def _repr_html_(self) -> str:
        return self.preview().html()

    def _repr_png_(self) -> bytes | None:
        shown = self.preview()
        return shown.content if shown.suffix == ".png" else None


# ------------------------------------------------------------------------------------------------------------- models


class Model(Protocol):
    """A trained model as a modality uses it; `langevin.run` implements it."""

    @property
    def modality(self) -> Any:
        """The `Modality` that was fitted in training."""
        ...

    @property
    def parts(self) -> AnyModel:
        """Process, network, denoiser and training method."""
        ...

    @property
    def sampling(self) -> Sampling:
        """The run's sampling settings, with the changes that the user requested."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        ...

    @property
    def others(self) -> Mapping[str, Any]:
        """Further models that a plan may request by name."""
        ...

    @property
    def data_fingerprint(self) -> str:
        """`Dataset.fingerprint` of the training part."""
        ...

    def batches(self, dataset: Any) -> Batches:
        """A part of the data, encoded as in training."""
        ...

    def run(self, plan: Plan, *, batch: int = 256, frames: bool = False, progress: Progress | None = None) -> "Samples":
        """Run a plan to its end.

        Args:
            batch: samples drawn together, at most.
            frames: whether to record every state into `Samples.frames`.
            progress: called with (samples drawn, samples in total) of the current `Draw`.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class RequestContext:
    """What a plan is built from, in addition to the modality's own options.

    Args:
        model: the model that will draw.
        data: opens the (training, validation) parts, for conditions that the request leaves to the data.
        count: number of samples; None lets the modality choose.
        seed: sample i has the seed `seed + i`.
        say: prints a line for the user.
        stream: prints text as soon as it is final; None if nobody reads it.
        batch: samples drawn together, at most.
        progress: called with (done, total) by plans that process many inputs.
        guided: whether the user asks for guidance, which is refused where it has no effect.
        chosen: the settings of sampling that the user chose: "steps", "sampler", "guidance".
        folder: where to keep what later requests can reuse; None keeps nothing.
        animated: whether the trajectory is to be written as one animation.
    """

    model: Model
    data: Callable[[], tuple[Any, Any]]
    count: int | None = None
    seed: int = 0
    say: Say = lambda line: None
    stream: Callable[[str], None] | None = None
    batch: int = 256
    progress: Progress = lambda done, total: None
    guided: bool = False
    chosen: frozenset[str] = frozenset()
    folder: Path | None = None
    animated: bool = False


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """What an evaluation is built from, in addition to the modality's own options.

    Args:
        model: the model to evaluate.
        train, val: the training and the validation `Dataset`.
        folder: where to keep what later evaluations can reuse, such as a trained classifier.
        facts: the run's `environment.json`: fingerprint and size of the training data, versions, machine.
        load: opens another run, to compare with.
        count: samples per seed; None lets the modality choose.
        seeds: number of independent sets of samples, from which intervals are computed.
        batch: samples drawn together, at most.
        command: the command line, to state as the source of the figures.
        say: prints a line for the user.
        progress: names a task, and returns the function to call with (done, total).
        guided: whether the user asks for guidance, which is refused where it has no effect.
        run: directory of the run.
        train_judges: whether judges may be trained, which takes its time. If not, a score that needs one is of another
            feature space, or raises a `ValueError`.
    """

    model: Model
    train: Any
    val: Any
    folder: Path
    facts: Mapping[str, Any]
    load: Callable[[Path], Model]
    count: int | None = None
    seeds: int = 3
    batch: int = 256
    command: str = ""
    say: Say = lambda line: None
    progress: Callable[[str], Progress] = lambda what: lambda done, total: None
    guided: bool = False
    run: Path | None = None
    train_judges: bool = True

    def require_training(self, judge: str) -> None:
        """Check that judges may be trained. Raises `ValueError` with the name of one that would be."""
        if not self.train_judges:
            raise ValueError(f"ranking needs {judge}, which is trained first")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of an evaluation.

    Args:
        rows: the metrics, one table row each.
        samples: samples to show, None if none were drawn.
        sections: the sections of the report, including the table of `rows`.
        figures: all results, of JSON types, for `evaluation.json`.
        title: title of the table in the terminal.
        lines: further lines for the terminal.
    """

    rows: Sequence[MetricRow]
    samples: Samples | None
    sections: Sequence[Section]
    figures: Mapping[str, Any]
    title: str
    lines: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A metric that ranks samplers, runs and snapshots.

    Args:
        name: name of the metric, such as "FD (classifier)".
        floor: the score of real data, at the same number of samples.
        score: maps samples to the metric; lower is better.
    """

    name: str
    floor: float
    score: Callable[[Samples], float]


class Modality(Protocol):
    """A kind of data: its configuration, what was fitted to it, and everything that is done with it.

    It may also have `capacity` (see `require_form`); `choices`: option -> the values that it takes, for forms;
    `comparable`: decoded values -> one tensor (n, ...), where samples differ in shape, for what compares them;
    `real_like`: (samples, (train, val)) -> real ones of the same conditions, in their order, which `compare` shows above;
    `suggest_autoencoder`: like `suggest`, of the autoencoder for `train --latent`, quantised if `codes`, whose run becomes
    the `codec` of kind latents or codes; `frame_errors`: (posterior mean, x) -> squared errors (b, frames) by name, which
    `method.terms` adds to the loss; `class_names`, of the port `global_`; `labelled_files`: (files, say) -> a `Dataset`
    of them, with the labels that they have, and the labels that are no class of the run; `fit_responses`: (train, val,
    folder, progress, say) -> x -> responses of layers, for `method.responses`, with the `sha256` of their weights and
    `save(folder)`; and, for rewards (`modalities.rating`), the names `rules` and `rule`: (name, measuring) -> decoded
    values -> (b,), `class_probabilities`: (measuring, reader) -> decoded values -> (b, classes), and `for_function`:
    decoded values -> what a user's function rates."""

    @property
    def kind(self) -> str:
        """Name of the modality, which is also `data.kind` in recipes and the name of its folder."""
        ...

    @property
    def path(self) -> str | None:
        """Where the data is; None if it needs no path."""
        ...

    @property
    def forms(self) -> tuple[str, ...]:
        """File suffixes that samples can be written with, the default first; "-" is standard output, "" a folder."""
        ...

    @classmethod
    def detect(cls, path: Path) -> Detected | None:
        """A configuration that reads the path, or None if it holds no data of this kind.

        Must be fast: it looks at file names and first bytes only."""
        ...

    def inspect(self, *, progress: Progress | None = None) -> Inspection:
        """Read all data at the path and report what it holds, including what cannot be used.

        Raises:
            ValueError: there is no data of this kind."""
        ...

    def open(self, *, progress: Progress | None = None) -> tuple[Any, Any]:
        """The training and the validation `Dataset`, neither empty. Every item is checked here, before training.

        Raises:
            ValueError: there is nothing to read, or too many items are broken."""
        ...

    def fitted(self, train: Any, *, base: Self | None = None) -> Self:
        """A copy with everything that is fitted to the training data: vocabulary, class names, sizes. Idempotent.

        Args:
            base: the modality of the run whose weights training starts from. Its vocabulary is kept, so that token ids
                keep their meaning.

        Raises:
            ValueError: the data does not fit this configuration."""
        ...

    def needs(self, train: Any) -> Needs:
        """What the data requires of process and network. Called after `fitted`.

        Raises:
            ValueError: there is nothing to learn from the data, such as equal items only."""
        ...

    def suggest(self, train: Any, budget: Budget) -> Suggestion:
        """A recipe for the data within the budget."""
        ...

    def batches(self, dataset: Any, *, device: torch.device) -> Batches:
        """The examples of a part of the data, encoded for the network, on `device`."""
        ...

    def plan(self, options: Any, context: RequestContext) -> Plan:
        """The plan of a request.

        Args:
            options: an instance of `Sample`, or of a verb, from the modality's `options` module.

        Raises:
            ValueError: the run cannot do what the options request; raised before any sampling."""
        ...

    def preview_plan(self, context: RequestContext) -> Plan:
        """The plan of the previews drawn during training: the same few conditions and seeds each time."""
        ...

    def plan_like(self, dataset: Any, context: RequestContext) -> Plan:
        """The plan of `context.count` samples with conditions taken from the dataset, in its proportions."""
        ...

    def decode(self, x: Any) -> Any:
        """Decode samples x (b, ...), or a mapping of parts, into a tensor, or a list of b values.

        Raises:
            ValueError: x is not finite, or the codec cannot decode it."""
        ...

    def preview(self, samples: Samples) -> File:
        """All samples in one file to look at."""
        ...

    def text(self, samples: Samples) -> str:
        """The samples as text for standard output, if `forms` begins with "-".

        Raises:
            ValueError: the modality has no text form."""
        ...

    def save(self, samples: Samples, out: Path) -> None:
        """Write the samples in the form given by the suffix of `out`, which is one of `forms`."""
        ...

    def evaluate(self, options: Any, measuring: Measuring) -> Evaluation:
        """Draw samples, and compute every metric of the report.

        Args:
            options: an instance of `Evaluate` from the modality's `options` module.

        Raises:
            ValueError: there is too little data to compare with."""
        ...

    def scorer(self, measuring: Measuring) -> Scorer:
        """The metric by which `compare` ranks, for sets of `measuring.count` samples."""
        ...


def require_form(modality: Any, form: str, got: object, *, count: int | None = None) -> None:
    """Check that `count` samples can be written with the suffix `form`; `got` is what the user gave.

    A modality may have `capacity`, the largest number of samples of a form.

    Raises:
        ValueError: they cannot; the message lists the forms that can be written."""
    most = getattr(modality, "capacity", {}).get(form)
    if count is not None and most is not None and count > most:
        larger = " or ".join(f or "a folder" for f in modality.forms if f not in modality.capacity)
        raise ValueError(
            f"{got} shows at most {most:,} samples, and {count:,} are drawn: write them to {larger} by --out"
        )
    if form not in modality.forms:
        known = ", ".join({"-": "standard output", "": "a folder"}.get(f, str(f)) for f in modality.forms)
        raise ValueError(f"samples of {modality.kind} are written as {known}; got {got}")


def seeds_of(seed: int, count: int) -> Tensor:
    """(count,) int64: seed, seed + 1, ..."""
    return seed + torch.arange(count)


def spread(count: int, most: int) -> Tensor:
    """Indices of at most `most` of `count` items, evenly spaced, int64."""
    n = min(count, most)
    return torch.arange(n) * count // n
