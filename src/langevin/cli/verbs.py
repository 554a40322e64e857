"""The verbs of the command line and their options, as dataclasses that tyro reads. Nothing here imports torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from langevin.cli import kinds

ChainMethod = Literal["adjusted", "unadjusted", "annealed"]
DistilMethod = Literal["consistency", "meanflow", "distribution_matching"]
RefineBy = Literal["extrapolation", "likelihood_ratio"]
RewardBy = Literal["policy_gradient", "dpo"]
RewardKeep = Literal["judged", "last"]
AttributeBy = Literal["loss", "square", "gauss_newton"]
ExportTarget = Literal["torch", "onnx", "openvino", "diffusers", "jax"]
ExportWhat = Literal["all", "denoiser", "sampler"]
AdapterKind = Literal["lora", "dora", "head", "full"]
Engine = Literal["here", "ray"]


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a generative model on your own data, or by a recipe."""

    target: Annotated[Positional[str], arg(help=kinds.target(), metavar="DATA|RECIPE")]
    overrides: Positional[tuple[str, ...]] = ()
    """Changes to the recipe by dotted keys, e.g. network.width=128 training.batch=64."""
    minutes: float | None = None
    """Time budget of the whole run in minutes; default 10 for your own data, else the recipe's."""
    out: Path | None = None
    """Directory of the new run; default runs/NAME."""
    seed: int | None = None
    """Seed of the initial weights, the data order and the noise; default the recipe's."""
    data: Path | None = None
    """Path to the data of a recipe, in place of the recipe's data.path."""
    latent: bool = False
    """Train an autoencoder of the data first, then a run that draws its latents, both in the time budget: for large images
    and clips. Of a recipe the data is used, and the rest is chosen."""
    allow_code: bool = False
    """Allow functions (module:function) that the recipe names to be imported; those named in this command always are."""
    track: str = ""
    """Also track it by trackio (local first), wandb, tensorboard, or a module of yours with the functions of wandb; several
    with commas between."""
    webhook: str = ""
    """Post events to this address, or to several with commas between: begin, checkpoints, evaluations, end. Others of this
    machine see commands, but not LANGEVIN_WEBHOOK, which has addresses too; LANGEVIN_WEBHOOK_SECRET signs the events."""
    webhook_insecure: bool = False
    """Allow addresses of other machines that are not https."""
    push: str = ""
    """OWNER/NAME: publish the run on the Hub at its end, as `langevin push` does."""
    serve: bool = False
    """Also serve the run on this machine, and show its page: curves and previews while it trains, then a form."""
    ranks: int = 1
    """Processes on this machine that share every batch, one for each GPU; started again if one is lost."""
    on: Engine = "here"
    """here: this process, or those that torchrun started. ray: ranks on a Ray cluster."""
    workers: str | None = None
    """With --on ray: the number of ranks, or a range, as 1:4, and then as many as there is room for; default 2."""
    address: str | None = None
    """With --on ray: address of a running cluster, HOST:PORT or auto; default: one is started here, and ends with the
    command."""
    restarts: int | None = None
    """With --ranks: starts in a row that may bring no newer checkpoint. With --on ray: how often all ranks are started
    again after one was lost. Default 3."""
    patience: float | None = None
    """With --ranks: minutes without a step after which a rank is lost; more than an evaluation takes. Default 10."""


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Continue a stopped run from its newest complete checkpoint; the result is as if it had not been stopped."""

    run: Positional[Path]
    """Directory of the run."""
    allow_code: bool = False
    """Allow functions (module:function) that the run's recipe names to be imported."""
    track: str = ""
    """Also track it by trackio (local first), wandb, tensorboard, or a module of yours with the functions of wandb; several
    with commas between."""
    webhook: str = ""
    """Post events to this address, or to several with commas between: begin, checkpoints, evaluations, end. Others of this
    machine see commands, but not LANGEVIN_WEBHOOK, which has addresses too; LANGEVIN_WEBHOOK_SECRET signs the events."""
    webhook_insecure: bool = False
    """Allow addresses of other machines that are not https."""
    ranks: int = 1
    """Processes on this machine that share every batch; any number, whatever the run had before."""
    on: Engine = "here"
    """here: this process, or those that torchrun started. ray: ranks on a Ray cluster."""
    workers: str | None = None
    """With --on ray: the number of ranks, or a range, as 1:4, and then as many as there is room for; default 2."""
    address: str | None = None
    """With --on ray: address of a running cluster, HOST:PORT or auto; default: one is started here, and ends with the
    command."""
    restarts: int | None = None
    """With --ranks: starts in a row that may bring no newer checkpoint. With --on ray: how often all ranks are started
    again after one was lost. Default 3."""
    patience: float | None = None
    """With --ranks: minutes without a step after which a rank is lost; more than an evaluation takes. Default 10."""


@dataclass(frozen=True, kw_only=True)
class Distil:
    """Train a student of a run that draws in one to a few steps, by consistency tuning on the run's data or by another
    method, and measure both. The student is a run like any other."""

    run: Positional[Path]
    """Directory of the run, of gaussian diffusion."""
    overrides: Positional[tuple[str, ...]] = ()
    """Changes to the student's recipe by dotted keys, e.g. method.stages=6 training.batch=64."""
    method: DistilMethod = "consistency"
    """consistency: it jumps to the end of the run's flow. meanflow: it makes steps of any length along the flow, without
    noise. distribution_matching: its samples are matched to the run's, by a second network that is trained on them, and by
    method.adversarial=0.01 to data too."""
    steps: tuple[int, ...] = (1, 2, 4)
    """Numbers of steps at which the student is measured; it draws in the least of them unless told otherwise, and by
    distribution_matching is trained for the most."""
    minutes: float = 10.0
    """Time budget of the student's training in minutes."""
    count: int = 500
    """Number of samples that are measured."""
    out: Path | None = None
    """Directory of the student; default RUN-student."""
    seed: int | None = None
    """Seed of the data order and the noise; default the run's."""
    allow_code: bool = False
    """Allow functions (module:function) that the run's recipe names to be imported."""


@dataclass(frozen=True, kw_only=True)
class Adapt:
    """Teach a trained run new data by few weights: low-rank changes of its own, its last layers, or all. The result is a
    run like any other that refers to the one it changes, and a small file, adapter.safetensors."""

    run: Positional[Path]
    """Directory of the run that is adapted, the base. It stays as it is."""
    data: Positional[Path]
    """A file or folder of data, of the same kind."""
    overrides: Positional[tuple[str, ...]] = ()
    """Changes to the recipe by dotted keys, e.g. training.batch=32."""
    kind: AdapterKind = "lora"
    """Which weights are trained: lora, low-rank changes; dora, these and the norms of rows; head, the last layers; full,
    all."""
    rank: int | None = None
    """Rank of the changes; default the largest that keeps to --share. 0 trains the rows of new classes alone."""
    share: float | None = None
    """The largest number of trained weights, as a fraction of the network's; default 0.05."""
    minutes: float = 5.0
    """Time budget of the training in minutes."""
    same_classes: bool = False
    """Classes of the data with names that the run knows are the same ones, though the data has new classes too."""
    compare_full: bool = False
    """Also train all weights for as long, and measure both."""
    count: int = 500
    """Number of samples that are measured; 0 measures nothing."""
    out: Path | None = None
    """Directory of the adapted run; default RUN-NAME, after the data."""
    seed: int | None = None
    """Seed of the data order and the noise; default the run's."""
    allow_code: bool = False
    """Allow functions (module:function) that the run's recipe names to be imported."""


@dataclass(frozen=True, kw_only=True)
class Continue:
    """Teach a trained run new data without forgetting the old: it trains on new data, on samples of its own and on a few
    stored examples of the old data. The result is a run like any other, which can be continued again."""

    run: Positional[Path]
    """Directory of the run. It stays as it is, and where it is: the new one starts from its weights."""
    data: Positional[Path]
    """A file or folder of new data, of the same kind."""
    overrides: Positional[tuple[str, ...]] = ()
    """Changes to the recipe by dotted keys, e.g. training.batch=32."""
    minutes: float = 5.0
    """Time budget of the training in minutes, with what is prepared before it."""
    replay: float | None = None
    """Share of each batch that are samples of the run's own; 0 for none. Default: by the number of old and new classes,
    with what --exemplars takes."""
    samples: int = 1024
    """How many samples are drawn to replay, before the first step; none with --adapter."""
    exemplars: str = "64KB"
    """Size of the file of stored examples of the old data, as 64KB or 1MB; 0 for none. With --adapter nothing is stored."""
    exemplar_share: float | None = None
    """Share of each batch that are stored examples; default as for --replay."""
    anchor: float = 0.0
    """Weight of the penalty on changes of weights that mattered for the old data; 0 for none."""
    adapter: Literal["lora", "dora", "head"] | None = None
    """Train an adapter on the new data alone, in place of all of this: the run itself stays, and draws the old."""
    same_classes: bool = False
    """Classes of the data with names that the run knows are the same ones, though the data has new classes too."""
    out: Path | None = None
    """Directory of the new run; default RUN-NAME, after the data."""
    seed: int | None = None
    """Seed of the data order, the noise and the choice of examples; default the run's."""
    allow_code: bool = False
    """Allow functions (module:function) that the run's recipe names to be imported."""


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Write a run with adapters as one that needs neither its base nor them."""

    run: Positional[Path]
    """Directory of an adapted run; or of a base, with --adapter."""
    adapter: tuple[str, ...] = ()
    """Adapters of the run, each an adapted run or its adapter.safetensors, with :WEIGHT after it if that is not 1."""
    out: Path | None = None
    """Directory of the new run; default RUN-merged."""
    allow_code: bool = False
    """Allow functions (module:function) that the run's recipe names to be imported."""


@dataclass(frozen=True, kw_only=True)
class Push:
    """Publish a trained run on the Hub (extra `hub`): its weights, recipe, figures, a preview and a model card; no data."""

    run: Positional[Path]
    """Directory of the run."""
    repository: Annotated[Positional[str], arg(metavar="OWNER/NAME")]
    """The repository, which is made if it does not exist."""
    private: bool = False
    """Make it a private one."""
    message: str = ""
    """Message of the commit; default the run's name."""
    license: str = "unknown"
    """Licence of the weights, by an identifier of the Hub: apache-2.0, cc-by-4.0, other."""
    allow_code: bool = False
    """Allow functions (module:function) that the run's recipe names to be imported."""


@dataclass(frozen=True, kw_only=True)
class Pull:
    """Make a run of one that is published on the Hub. It draws the same samples, to the bit."""

    repository: Annotated[Positional[str], arg(metavar="OWNER/NAME")]
    """The repository."""
    out: Path | None = None
    """Directory of the run; default runs/NAME."""
    revision: str | None = None
    """A branch, tag or commit; default main."""
    allow_code: bool = False
    """Accept a run whose recipe names functions (module:function)."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a trained run for other programs: its network, and where it can be its sampling loop, as a graph that needs no
    langevin; or its weights with what reads them."""

    run: Positional[Path]
    """Directory of the run."""
    to: ExportTarget
    """torch: torch.export files. onnx: ONNX, for onnxruntime. openvino: OpenVINO's IR. diffusers: a folder that diffusers'
    pipelines load. jax: safetensors, and a forward in numpy and JAX."""
    what: ExportWhat = "all"
    """denoiser: x_t, t and conditions to the mean of clean x (tokens: to logits). sampler: noise to samples in one graph,
    with the run's sampler, steps and guidance. all: both, or the denoiser where the loop is no graph. Of graphs."""
    steps: int | None = None
    """Number of sampling steps; default the run's."""
    sampler: str | None = None
    """Sampler, e.g. heun or "exponential max_order=3"; default the run's."""
    guidance: float | None = None
    """Guidance weight, 1 for none; default the run's."""
    ema: float | None = None
    """EMA length of the weights; default the run's."""
    out: Path | None = None
    """Folder to write; default RUN-TARGET."""
    allow_code: bool = False
    """Allow functions (module:function) that the run's recipe names to be imported."""


@dataclass(frozen=True, kw_only=True)
class Import:
    """Make a run of a model that diffusers saved: a UNet2DModel or a DiTTransformer2DModel with its scheduler."""

    folder: Annotated[Positional[Path], arg(metavar="DIFFUSERS_DIR")]
    """Folder of a pipeline: model_index.json, unet/ or transformer/, scheduler/."""
    out: Path | None = None
    """Directory of the new run; default runs/NAME, after the folder."""


@dataclass(frozen=True, kw_only=True)
class Refine:
    """Look for better weights of a trained run by its own samples. They become a run like any other if its samples are
    nearer to held-out data and neither coverage nor held-out loss gets worse. Else nothing is written, and it says why."""

    run: Positional[Path]
    """Directory of the run, of gaussian diffusion."""
    by: RefineBy = "extrapolation"
    """How: extrapolation trains on the run's own samples and moves the weights the other way. likelihood_ratio trains to
    tell the data from them, by how likely they are to the network beside what they were before, and moves on."""
    minutes: float = 1.0
    """Time budget of that training in minutes."""
    train_steps: int | None = None
    """Its number of steps, in place of the minutes."""
    samples: int = 1000
    """Number of own samples."""
    weights: tuple[float, ...] = (0.5, 1.0, 2.0)
    """How far the weights move, as multiples of how far training moved them; all are tried."""
    beta: float | None = None
    """Factor on the likelihood ratio, default 1, which is exact. Less of it makes the training certain later, and move the
    weights farther; of --by likelihood_ratio."""
    count: int = 500
    """Number of samples that are measured, per seed."""
    seeds: int = 3
    """Number of independent sets of samples, from which the noise of the measurement is estimated."""
    seed: int = 0
    """Seed of the own samples and of the training on them."""
    out: Path | None = None
    """Directory of the refined run; default RUN-refined."""
    allow_code: bool = False
    """Allow functions (module:function) that the run's recipe names to be imported."""


@dataclass(frozen=True, kw_only=True)
class Reward:
    """Tune a trained run so that its samples have a larger reward, and measure by a second judge, which the training never
    sees, whether they are better or only please the first. What is written is a run like any other."""

    run: Positional[Path]
    """Directory of the run, the base. It stays as it is."""
    reward: str
    """A number for each sample: classifier or recogniser, the probability of the class that it is conditioned on; a rule of
    the modality, such as brightness; or MODULE:FUNCTION, of decoded samples. A wrong name is refused with a list."""
    by: RewardBy = "policy_gradient"
    """How: policy_gradient on the chains of the sampler; dpo on pairs of the run's own samples, ranked by the reward."""
    judge: str | None = None
    """The second judge, like --reward; default the other reader of the class, or none."""
    keep: RewardKeep = "judged"
    """judged: write the last state before it only pleases the first judge, or nothing. last: the last one in any case."""
    minutes: float = 2.0
    """Time budget in minutes, with the measurements along the way."""
    train_steps: int | None = None
    """Number of updates, in place of the minutes."""
    leash: float | None = None
    """Price of a nat of divergence from the base, in standard deviations of the base's rewards (policy_gradient, default
    0.01) or as the factor on the log-ratio of a pair (dpo, default 0.1). More of it keeps nearer to the base."""
    lr: float = 0.00005
    """Learning rate of AdamW."""
    group: int = 8
    """Samples of one condition, which are rated beside each other."""
    chains: int = 64
    """Of policy_gradient: chains of a set, a multiple of --group."""
    updates: int = 2
    """Of policy_gradient: updates from a set."""
    pairs: int = 512
    """Of dpo: pairs that are drawn and ranked before training."""
    batch: int = 32
    """Of dpo: pairs of an update."""
    sampler: str = "ancestral"
    """The sampler, which draws each step from a law with a density: ancestral, ddpm, "ddim eta=1". The tuned run draws by
    it, without guidance."""
    steps: int = 16
    """Its number of steps."""
    low: float = 0.05
    """Noise at which its last step begins, in sigma / alpha, of a karras or log_snr grid: steps of less noise hardly change
    a sample, and any change of the network there is a large divergence."""
    count: int = 256
    """Samples that each state is measured by, a multiple of --group."""
    seed: int = 0
    """Seed of the chains and of the training."""
    out: Path | None = None
    """Directory of the tuned run; default RUN-REWARD."""
    allow_code: bool = False
    """Allow functions (module:function) that the run's recipe names to be imported; those named in this command always
    are."""


@dataclass(frozen=True, kw_only=True)
class Forget:
    """Train a run to forget a class or words of its captions, and keep the rest. The result is a run like any other, if its
    samples do not show what was forgotten and the rest is as good as before. Else nothing is written, and it says why."""

    run: Positional[Path]
    """Directory of the run, of gaussian diffusion with classes or captions."""
    concept: Positional[str]
    """The name of a class, or one or more words: captions that have all of them are of the concept."""
    instead: str | None = None
    """The class, or the words, that take its place; default what the run predicts without a condition, or without the
    words."""
    everywhere: bool = False
    """Let --instead take its place where no condition is given, too."""
    minutes: float = 1.0
    """Time budget of the training in minutes."""
    train_steps: int | None = None
    """Its number of steps, in place of the minutes."""
    weight: float = 1.0
    """Weight of forgetting in the loss; 0 changes nothing."""
    keep: float = 1.0
    """Weight of keeping what the run predicts under all other conditions."""
    rate: float = 0.25
    """Learning rates of the training, as a share of the run's."""
    tolerance: float = 0.02
    """The largest share by which the held-out loss of the rest may rise."""
    count: int = 100
    """Number of samples that are asked for the concept, per seed; twice as many of the rest."""
    seeds: int = 3
    """Number of independent sets of samples, from which the noise of the measurement is estimated."""
    seed: int = 0
    """Seed of the training and of the samples."""
    out: Path | None = None
    """Directory of the new run; default RUN-forgot."""
    allow_code: bool = False
    """Allow functions (module:function) that the run's recipe names to be imported."""


@dataclass(frozen=True, kw_only=True)
class Stress:
    """Search requests within bounds for those that a run answers worst, by a stated measure; say what matters and within
    which limits it holds up; with --harden, train it on what was found, and play again."""

    run: Positional[Path]
    """Directory of the run."""
    measure: str
    """A number for each sample, of which less is worse: classifier or recogniser, the probability of the class that it is
    conditioned on; a rule of the modality, such as novelty; or MODULE:FUNCTION, of decoded samples."""
    budget: int = 400
    """Requests that the adversary makes, and as many random ones beside."""
    rounds: int = 5
    """Rounds of the adversary, the first at random."""
    conditions: int = 256
    """Conditions of the training data that requests choose from."""
    guidance: tuple[float, float] | None = None
    """The least and the largest weight of guidance; default 1 to twice the run's own."""
    scales: tuple[float, float] | None = None
    """The least and the largest scale of the starting noise, around 1; default 1 alone."""
    edits: int = 0
    """Words of a caption that may be misspelt, left out, or taken from another caption."""
    harden: bool = False
    """Train on what was found, and write the run if it holds up better and its held-out loss does not rise."""
    minutes: float = 1.0
    """Time budget of that training in minutes."""
    train_steps: int | None = None
    """Its number of steps, in place of the minutes."""
    seed: int = 0
    """Seed of the requests and of the training."""
    out: Path | None = None
    """Directory of the hardened run; default RUN-hardened."""
    allow_code: bool = False
    """Allow functions (module:function) that the run's recipe names to be imported; that of --measure always is."""


@dataclass(frozen=True, kw_only=True)
class Intervene:
    """Change one part of what samples are drawn from, and measure what that changes: each condition, in all steps and in
    some of them, the words of captions, and the noise from a level on; with intervals over samples of as many seeds."""

    run: Positional[Path]
    """Directory of the run."""
    count: int = 64
    """Number of samples, each with a seed and a condition of its own."""
    bands: int = 5
    """Number of parts of the steps, in each of which alone a condition is changed, and from which on noise is fresh."""
    words: int = 5
    """Number of words of captions that are left out: those that most captions have."""
    measure: str | None = None
    """A number for each sample, whose rise is shown too: classifier or recogniser, the probability of the class that it was
    conditioned on; a rule of the modality, such as novelty; or MODULE:FUNCTION, of decoded samples."""
    steps: int | None = None
    """Number of sampling steps; default the recipe's."""
    sampler: str | None = None
    """Kind of sampler, with optional parameters; default the recipe's."""
    guidance: float | None = None
    """Weight of guidance; default the recipe's."""
    seed: int = 0
    """Seed of the first sample."""
    out: Path | None = None
    """Folder for the picture, the report and its JSON; default RUN/explanations/interventions-seedSEED."""
    allow_code: bool = False
    """Allow functions (module:function) that the run's recipe names to be imported; that of --measure always is."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The options of every verb that samples a run."""

    run: Positional[Path]
    """Directory of the run."""
    steps: int | None = None
    """Number of sampling steps; default the recipe's."""
    sampler: str | None = None
    """Kind of sampler, with optional parameters: dpm2m, heun, "exponential max_order=3", "ddim eta=1.0", or YAML as in
    "{kind: unipc, p: 3}"; default the recipe's. An unknown kind is refused with a list of those that fit the run."""
    guidance: float | None = None
    """Weight of guidance by the condition or the prompt: 1 is no guidance, 1.5 to 3 is usual; default the recipe's."""
    ema: float | None = None
    """Length of the EMA of the weights, as a fraction of the run; 0 uses the last weights; default the recipe's,
    or the one chosen at the end of training."""
    adapter: tuple[str, ...] = ()
    """Adapters of the run, each an adapted run or its adapter.safetensors, with :WEIGHT after it if that is not 1."""
    light: tuple[str, ...] | None = None
    """What makes it cheaper, one or more of: bf16 or int8, weights in fewer bytes; cache, deep layers computed for every
    second evaluation, or "cache interval=3"; guidance, only where it changes something. none for nothing; default the
    recipe's. `langevin evaluate RUN --light` measures what each costs."""
    batch: int = 256
    """Samples per batch."""
    allow_code: bool = False
    """Allow functions (module:function) that the run's recipe names to be imported."""


@dataclass(frozen=True, kw_only=True)
class Sample(Drawing):
    """Draw samples from a run; `langevin sample RUN --help` also shows the options of the run's modality. Or draw from a
    density given by a formula: `langevin sample toy/ridge --help`."""

    count: int | None = None
    """Number of samples; default what the modality shows."""
    seed: int = 0
    """Sample i has the seed SEED + i, and is the same in any batch."""
    out: Path | None = None
    """A file, whose suffix gives the format, or a new folder with one file per sample; default a preview in the run,
    named after the options, or standard output."""
    gif: bool = False
    """Also write an animation of the sampling steps."""
    watermark: Path | None = None
    """File with a secret key of 32 characters or more, from which and the seed the noise then follows: who has the key can
    tell that a sample was made with it, by `langevin detect`. The law of the samples stays the same."""


@dataclass(frozen=True, kw_only=True)
class Generate(Drawing):
    """Make many samples of a run, by as many processes and machines as share a folder. Each shard of them is a function of
    the request, and is written once: repeat the command to go on, or give it elsewhere to help."""

    count: int | None = None
    """Number of samples, which has to be given; a repeated command may give more, by whole shards."""
    shard_size: int = 1000
    """Samples of a shard, a unit of work. Sample i has the seed SEED + i, and a shard is what `langevin sample` draws from
    its first seed on."""
    seed: int = 0
    """Seed of the first sample."""
    out: Path | None = None
    """The folder, which all processes share; default one in RUN/generated, named after the request."""
    form: str | None = None
    """folder: a folder for each shard, a file for each sample. webdataset: a tar file for each shard. Or the suffix of a
    file for each shard, such as npz, jsonl, csv or parquet. Default: the first of these that the run's modality writes."""
    each: str | None = None
    """A file with a condition per line, such as captions: sample i has that of line i, in turn. Or OPTION=FILE, where the
    modality has several."""
    workers: str | None = None
    """Number of processes; default one for each accelerator, or for --threads cores. With --on ray also a range, as 1:8."""
    threads: int = 1
    """CPU threads of a process. Last bits of samples can depend on it, so it is a part of the request."""
    index: int | None = None
    """With --of: which share of the shards this command makes, from 0; default $JOB_COMPLETION_INDEX. Without: all that
    nobody else makes."""
    of: int | None = None
    """Number of shares, for machines that share no folder, and for indexed jobs."""
    on: Engine = "here"
    """here: processes of this machine. ray: those of a Ray cluster."""
    address: str | None = None
    """Address of a running Ray cluster, HOST:PORT or auto; default: one is started here, and ends with the command."""
    watermark: Path | None = None
    """File with a secret key, as in `langevin sample`."""


@dataclass(frozen=True, kw_only=True)
class Apply(Drawing):
    """The options of every verb that a modality brings."""

    seed: int = 0
    """The sample for input i has the seed SEED + i."""
    out: Path | None = None
    """File for the results; default standard output."""


@dataclass(frozen=True, kw_only=True)
class Classify(Apply):
    """Say the classes of files, with a run that was trained with classes, or on pairs of texts; `langevin classify RUN
    --help` shows the options of the run's modality."""


@dataclass(frozen=True, kw_only=True)
class Edit(Drawing):
    """Repair, enhance or change a file, or all files of a folder, with a trained run; `langevin edit RUN --help` shows the
    options of the run's modality."""

    count: int | None = None
    """Number of answers to each input; default what the modality shows."""
    seed: int = 0
    """Answer i has the seed SEED + i."""
    out: Path | None = None
    """A file, for a single input, or a folder; default NAME-edited here. A folder that holds answers of the same command is
    continued."""


@dataclass(frozen=True, kw_only=True)
class Chat(Drawing):
    """Talk with a run that was trained on dialogues, a message a line, on a terminal or from a pipe; `langevin chat RUN
    --help` shows the options of the run's modality, and /help in the chat its commands."""

    seed: int = 0
    """The i-th reply has the seed SEED + i, from 0."""


@dataclass(frozen=True, kw_only=True)
class Explain(Drawing):
    """Explain a sample: what its condition and its seed decided, where and when, and which training items it resembles;
    `langevin explain RUN --help` shows the options of the run's modality."""

    seed: int = 0
    """Seed of the sample."""
    out: Path | None = None
    """Folder for the picture, the report and its JSON; default RUN/explanations/seedSEED."""


@dataclass(frozen=True, kw_only=True)
class Attribute(Drawing):
    """Rank the training examples by their influence on a sample: how much worse the run would denoise it without them, by
    gradients, beside the nearest examples. `langevin attribute RUN --help` shows the options of the run's modality."""

    sample: Positional[Path | None] = None
    """A file of the sample, read like the run's data; default a sample drawn anew, of --seed and the options."""
    by: AttributeBy = "loss"
    """Which gradients: loss, of the denoising loss (TRAK), for runs of any kind of data; square, of the squared output of
    the network (D-TRAK); gauss_newton, of the loss, with a curvature by targets from the model."""
    count: int = 8
    """Number of examples to show of each ranking."""
    most: int = 5000
    """Number of training examples that are ranked, at most: evenly spaced where there are more."""
    draws: int = 16
    """Number of noise levels of an example's gradient, with a noise each."""
    projection: int = 4096
    """Numbers that a gradient is projected to."""
    damping: float = 0.1
    """Of the curvature, as a share of its mean eigenvalue: more of it ranks rather by the gradients' inner products."""
    seed: int = 0
    """Seed of the sample."""
    out: Path | None = None
    """Folder for the picture and the JSON; default RUN/attributions/seedSEED."""


@dataclass(frozen=True, kw_only=True)
class SampleDensity:
    """Draw from a density by Markov chains, or by annealing from a Gaussian."""

    target: Positional[str]
    """A shipped density (toy/ridge, toy/bumps), the path of a recipe, or module:function for your own ln p."""
    count: int = 16
    """Number of draws to keep."""
    seed: int = 0
    """Seed of the chains."""
    out: Path | None = None
    """A .png or .npz file; default NAME.png here, or NAME-2.png if that exists."""
    allow_code: bool = False
    """Allow functions (module:function) that the recipe names to be imported."""
    dimensions: int | None = None
    """Number of dimensions of a state; needed for module:function."""
    energy: bool = False
    """The function is an energy, -ln p, and not ln p."""
    method: ChainMethod | None = None
    """Langevin chains with (adjusted) or without (unadjusted) a Metropolis test, or annealing from a Gaussian."""
    chains: int | None = None
    """Number of chains."""
    iterations: int | None = None
    """Iterations per chain after its warm-up."""
    start: float | None = None
    """Standard deviation of the Gaussian that chains start from."""
    box: tuple[float, float] | None = None
    """LOW HIGH: the density is 0 where any coordinate is outside."""
    gaussian_envelope: float | None = None
    """Multiply the density by a Gaussian of this standard deviation, so that its integral is finite."""


@dataclass(frozen=True, kw_only=True)
class FitSolver:
    """Fit few-step solvers to a run's own model and store them in the run; `--sampler learned` samples by them."""

    run: Positional[Path]
    """Directory of the run."""
    steps: tuple[int, ...] = (4, 6, 8)
    """Numbers of steps, 2 to 32; one solver is fitted for each."""
    guidance: float | None = None
    """Weight of the classifier-free guidance that they will sample with; default the recipe's."""
    ema: float | None = None
    """Length of the EMA of the weights that they are fitted to; default the recipe's."""
    count: int = 64
    """Number of trajectories to fit to; as many others measure the error."""
    fine: int = 12
    """Steps of the reference solver per step of the fitted one."""
    seed: int = 0
    """Seed of the trajectories."""
    batch: int = 64
    """Trajectories per batch."""
    allow_code: bool = False
    """Allow functions (module:function) that the run's recipe names to be imported."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(Drawing):
    """Measure a run, next to the scores of real data against real data, and write report.html. The options of the run's
    modality: `langevin evaluate RUN --help`."""

    count: int | None = None
    """Number of samples per seed; default what the modality can compare with its real data."""
    seeds: int | None = None
    """Number of independent sets of samples, from which the error bars come; default 3."""
    light: tuple[str, ...] | None = None
    """Also measure what makes drawing cheaper: time, bytes, and the cost in quality. Without a kind all of int8, bf16,
    cache and guidance that fit the run; or those that are named, as in "cache interval=3"."""
    curve: bool = False
    """Also measure the run's EMA snapshots, which gives quality against training time."""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare runs on the same data side by side, each as it draws by itself: a table and a page. With --samplers, --steps
    or one run alone: samplers and numbers of steps at equal function evaluations, a table and a plot."""

    runs: Positional[tuple[Path, ...]]
    """One or more runs, trained on the same data by any methods."""
    samplers: tuple[str, ...] = ()
    """Samplers to compare, each a kind with optional parameters: dpm2m "exponential max_order=3". Default: dpm2m, heun and
    ddim, for one run or with --steps."""
    steps: tuple[int, ...] = ()
    """Numbers of function evaluations to compare at; a sampler with two per step takes half as many steps. Default: 5, 10
    and 20, for one run or with --samplers."""
    count: int | None = None
    """Number of samples per run and seed, default what the modality can compare with its real data; per run, sampler and
    number of steps, default 500."""
    seeds: int | None = None
    """Number of independent sets of samples for the intervals, where runs are measured side by side; default 3."""
    guidance: float | None = None
    """Weight of guidance by the condition or the prompt; default the recipe's."""
    out: Path | None = None
    """Folder for the table, the plot and the previews, new or empty; default `comparison` in the first run."""
    allow_code: bool = False
    """Allow functions (module:function) that the runs' recipes name to be imported."""


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Describe data, a run or a recipe, and what `train` would choose for the data; or say how a sample was made."""

    target: Positional[Path]
    """A file or folder of data, the directory of a run, the name or path of a recipe, or a .png or .wav of samples."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True, kw_only=True)
class Detect:
    """Test whether files were sampled from a run with a key (`langevin sample --watermark`), from their content alone."""

    run: Positional[Path]
    """Directory of the run."""
    files: Positional[tuple[Path, ...]]
    """Images, or texts of a run on texts."""
    watermark: Path
    """File with the key."""
    seeds: tuple[int, int] = (0, 1000)
    """The first and the last of the seeds to try. That in a file's own text is tried too."""
    steps: int | None = None
    """Number of sampling steps of a text; default the recipe's."""
    json: bool = False
    """Print JSON."""


Scheduling = Literal["shortest_remaining", "fifo", "whole_requests", "step_batching", "continuous"]


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve runs over HTTP: OpenAI's endpoints, and jobs with progress for every modality."""

    runs: Positional[tuple[Path, ...]] = (Path("runs"),)
    """Directories of runs, or folders that hold some, whose later runs are served too; default: the folder runs."""
    host: str = "127.0.0.1"
    """Address to listen on; another than this machine's own needs --keys."""
    port: int = 8000
    """Port to listen on; 0 takes a free one."""
    keys: Path | None = None
    """File of API keys, one a line: a name and a key of 16 characters or more."""
    data: Path | None = None
    """Folder whose files and folders can be trained on, from the page and by /v1/jobs; without, only recipes with data of
    their own can."""
    safeguards: Path | None = None
    """YAML file of rules: phrases to deny or hold, what is allowed, what becomes of near copies of training data. Every
    decision is then written into an audit log: `langevin audit verify`."""
    database: str = "sqlite:///langevin-jobs.db"
    """URL of the database of jobs; servers that share one share its jobs: postgresql+psycopg://user@host/name."""
    watermark: Path | None = None
    """File with a secret key of 32 characters or more, from which and the seed the noise of every sample then follows.
    /v1/content_provenance_checks tests files for it."""
    sign: tuple[Path, Path] | None = None
    """Files with a chain of certificates and the private key of the first: what is made gets a signed C2PA manifest, if its
    kind of file can hold one (extra `provenance`)."""
    policy: Scheduling = "shortest_remaining"
    """What is evaluated next: the least work left first, requests one by one, batches of whole requests,
    batches of steps with equal samplers and guidance, or of any."""
    memory: float = 4.0
    """GB of weights to keep in memory."""
    pending: int = 256
    """Requests that may be waiting or under way; more are refused with 429."""
    grace: float = 20.0
    """Seconds that requests get to end when the server stops; jobs that are not done go on after the next start."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Check that the audit log of a server was not changed, or print it."""

    action: Positional[Literal["verify", "show"]] = "verify"
    """verify: check every row against the one before it; show: print the rows as JSON lines."""
    database: str = "sqlite:///langevin-jobs.db"
    """URL of the server's database."""


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Write a folder of data as tar shards, which are read as the folder is, and by other tools as webdataset: for data of
    many files, or larger than memory."""

    data: Positional[Path]
    """The folder: anything that `train` reads."""
    out: Path | None = None
    """The new folder of shards; default DATA-shards."""
    shard_size: str = "256MB"
    """Bytes of a shard, about: a number with KB (1000 bytes), MB or GB, at least 64KB."""


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Show what this machine can do, and what is wrong with its setup and how to correct it."""

    json: bool = False
    """Print JSON."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Train on the typefaces that come with matplotlib, sample, evaluate, and write a report: minutes on a laptop."""

    out: Path = Path("runs/demo")
    """Directory of the demo's run, which the demo may replace."""
    minutes: float | None = None
    """Time budget for training in minutes; default the recipe's."""
