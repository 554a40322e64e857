"""Building a recipe: its network, process, denoiser and method, and the batches that train them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.condition import Condition
from langevin.diffusion.coupling import Coupling
from langevin.diffusion.denoiser import (
    CausalDenoiser,
    Denoiser,
    GaussianDenoiser,
    JointDenoiser,
    ScoreDenoiser,
    TokenDenoiser,
)
from langevin.diffusion.guidance import Models, OtherModel, active, guide
from langevin.diffusion.likelihood.tokens import share_losses, time_losses, whole
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.objective import ELBO, CrossEntropy, PartsLoss, UniformTime
from langevin.diffusion.process import GIDD, Gaussian, Masked, Product, UniformDiffusion
from langevin.diffusion.sampler import AnySampler
from langevin.diffusion.sampling import Sampling
from langevin.diffusion.training_input import (
    MaskByCount,
    MaskByCountPerBlock,
    NoiseAtOwnTimes,
    NoiseAtTime,
    TrainingInput,
    Uncorrupted,
)
from langevin.diffusion.warp import TimeWarps
from langevin.methods import (
    Adversarial,
    Autoencoding,
    Consistency,
    Diffusion,
    DistributionMatching,
    MeanFlow,
    ScoreMatching,
    SpectralLoss,
)
from langevin.methods.levels import joint_losses, level_losses, score_losses
from langevin.methods.models import LOG_SNR, MASKED, TIMES, AnyModel, GaussianModel, JointModel, SDEModel, TokenModel
from langevin.methods.quality import QualityLoss
from langevin.methods.spectral import generated, spectral_distance
from langevin.methods.terms import LossTerms
from langevin.modalities.modality import Batches
from langevin.networks import MLP, Autoencoder, Transformer
from langevin.networks.adapters import Adapter, adapt, take
from langevin.networks.patch_discriminator import PatchDiscriminator
from langevin.networks.patches import patch_sides
from langevin.recipe.sampling import unfitted
from langevin.recipe.sde import build_sde
from langevin.recipe.tree import (
    AutoregressiveConfig,
    HybridConfig,
    MaskedConfig,
    NetworkConfig,
    ProductConfig,
    Recipe,
    SDEConfig,
    TokenProcessConfig,
    UniformConfig,
)
from langevin.training import loop
from langevin.training.continual import mixed
from langevin.training.machine import out_of_memory, total_memory
from langevin.training.order import DataOrder
from langevin.user_function import NO_CODE, CodePermission

Teacher = Callable[[DistributionMatching.Config], Denoiser[Any]]
Base = Callable[[Adapter], Mapping[str, Mapping[str, Tensor]]]  # -> player -> parameter -> weight

_LARGE = 10**8  # rough number of weights above which they are counted before they are allocated
_ASK_LESS = "ask for less, such as a smaller network.width or network.depth"


def untaught(config: DistributionMatching.Config) -> Denoiser[Any]:
    """Stands for the teacher in parts that are not trained.

    Raises:
        ValueError: always."""
    raise ValueError(
        "only a run that trains has a teacher, whose weights are those of another run: see `langevin distil`"
    )


def baseless(config: Adapter) -> Mapping[str, Mapping[str, Tensor]]:
    """Stands for the base of an adapter in parts that have none.

    Raises:
        ValueError: always."""
    raise ValueError(
        f"the weights of this run are changes of those of another, {config.path}, which only a run can find"
    )


def alone(other: OtherModel) -> Denoiser:
    """Stands for the other models of autoguidance in parts that were not loaded from a run.

    Raises:
        ValueError: always."""
    raise ValueError("autoguidance needs another model, which only a loaded run can find: load the run first")


@dataclass(frozen=True, kw_only=True)
class Built:
    """The parts of a run."""

    recipe: Recipe
    model: AnyModel
    learned: Callable[[Sampling], AnySampler] = unfitted  # finds the fitted solver of a sampling
    models: Models = alone  # finds the other models of autoguidance
    key: bytes | None = None  # of the watermark: see `safety.watermark`

    @property
    def device(self) -> torch.device:
        return next(self.model.network.parameters()).device

    def batches(self, dataset: Any) -> Batches:
        """The batches of a dataset, as the network reads them."""
        batches = self.recipe.data.batches(dataset, device=self.device)
        if isinstance(self.model, TokenModel) and self.model.attention == "block":
            return WithCleanCopy(batches=batches)
        return batches


@dataclass(frozen=True, kw_only=True, eq=False)
class WithCleanCopy:
    """Batches for block attention, whose condition has the clean tokens: a block attends to the clean blocks before it."""

    batches: Batches

    @property
    def dataset(self) -> Any:
        return self.batches.dataset

    @property
    def shape(self) -> tuple[int, ...]:
        return self.batches.shape

    @property
    def remarks(self) -> tuple[str, ...]:
        return self.batches.remarks

    def __len__(self) -> int:
        return len(self.batches)

    def __call__(self, items: Tensor, noise: SampleNoise | None = None) -> Batch:
        batch = self.batches(items, noise)
        return replace(batch, condition=replace(batch.condition or Condition(), clean=batch.x))


def build(
    recipe: Recipe, *, device: torch.device | None = None, code: CodePermission = NO_CODE, teacher: Teacher = untaught,
    base: Base = baseless,
) -> Built:  # fmt: skip
    """The parts of a completed recipe, with initial weights that are a function of its seed.

    Args:
        teacher: finds the teacher of a generator that is trained.
        base: finds the weights of the run that an adapter changes.

    Raises:
        ValueError: the recipe names a function that may not be imported, or the base of its adapter is another one."""
    device = device or torch.device("cpu")
    network = _network(recipe, device)
    if recipe.network.kind == "unet" and recipe.network.dimensions == 2:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model: AnyModel
    match recipe.process:
        case Gaussian():
            model = _gaussian(recipe, recipe.process, network, teacher)
        case SDEConfig():
            model = _sde(recipe, recipe.process, network, code)
        case MaskedConfig() | UniformConfig() | HybridConfig() | AutoregressiveConfig():
            model = _tokens(recipe, recipe.process, network)
        case ProductConfig():
            model = _joint(recipe, recipe.process, network)
        case _:
            assert_never(recipe.process)
    for player in model.method.players.values():
        player.module.to(device)
    if recipe.adapter is not None:
        _adapt(model, recipe.adapter, base(recipe.adapter), seed=recipe.training.seed)
    return Built(recipe=recipe, model=model)


def _adapt(model: AnyModel, adapter: Adapter, base: Mapping[str, Mapping[str, Tensor]], *, seed: int) -> None:
    """Give a model the weights of its base, of which only those of the adapter are trained.

    Raises:
        ValueError: it is of another network, or a model whose method trains several."""
    players = model.method.players
    if len(players) > 1 or players.keys() != base.keys():
        raise ValueError(
            f"an adapter changes the network of a run that trains one, and these train {' and '.join({**base, **players})}"
        )
    for name, player in players.items():
        take(player.module, base[name])
        player.module.requires_grad_(adapter.kind == "full")
        adapt(model.network, adapter, seed=seed)


def _network(recipe: Recipe, device: torch.device, *, number: int = 0) -> nn.Module:
    """The network, with initial weights; those of the same `number` are equal.

    Raises:
        ValueError: it does not fit into memory."""
    _require_memory(recipe.network)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.training.seed + number)
            network = recipe.network.build()
        return network.to(device)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise ValueError(f"the network does not fit into memory: {_ASK_LESS}") from error


def _require_memory(config: NetworkConfig) -> None:
    """Check that the weights of a large network fit into memory, without allocating them."""
    if _roughly(config) < _LARGE:  # counting takes a second
        return
    try:
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in config.build().parameters())
    except (RuntimeError, TypeError) as error:  # sizes beyond int64
        raise ValueError(f"the network is too large to count its weights: {_ASK_LESS}") from error
    memory = total_memory()
    if memory is not None and 4 * count > memory:
        raise ValueError(
            f"the network has {count:,} weights, which take {4 * count / 1e9:,.0f} GB, and this machine has "
            f"{memory / 1e9:,.0f} GB of memory: {_ASK_LESS}"
        )


def _roughly(config: NetworkConfig) -> int:
    """The number of weights of the largest layer, times layers; within a factor of about 20 of all weights."""
    sizes = vars(config) | vars(config.conditioning)
    rows = max(sizes.get(name) or 0 for name in ("vocab_size", "vocabulary", "classes", "num_patches"))
    rows *= sizes.get("streams", 1)
    layers = max(sizes.get(name, 1) for name in ("depth", "blocks", "text_layers", "num_layers", "layers_per_block"))
    parts = [_roughly(unet) for unet in sizes.get("unets", {}).values()]
    widths = [sizes.get(name) or 0 for name in ("width", "embedding_width", "caption_prior", "channels")]
    ports = [largest(size) for name, size in sizes.items() if name.endswith(("_width", "_channels")) and size]
    widths.append(sizes.get("num_attention_heads", 0) * (sizes.get("attention_head_dim") or 0))
    width = max(*widths, *ports) * max(sizes.get("channel_mult", (1,)))
    volume = math.prod(patch_sides(sizes.get("patch", 1), sizes.get("dimensions", 1)))
    return max(parts, default=0) + width * (
        width * layers + rows * (1 + sizes.get("ngram_window", 0)) + (sizes.get("channels") or 0) * volume
    )


def largest(size: int | tuple[int, ...]) -> int:
    """A size, or the largest of several."""
    return size if isinstance(size, int) else max(size)


def non_hidden(network: nn.Module) -> tuple[str, ...]:
    """Names of the network's modules that hold no hidden matrices, which Muon leaves to AdamW."""
    return getattr(network, "non_hidden", ())


def _compiled(recipe: Recipe, network: nn.Module) -> Any:
    """The network for training, compiled if the recipe says so; sampling has many shapes and is not compiled."""
    return torch.compile(network) if recipe.training.compile else network


def _gaussian(recipe: Recipe, process: Gaussian, network: nn.Module, teacher: Teacher) -> GaussianModel:
    match recipe.method:
        case SpectralLoss.Config() as config:
            return _spectral(recipe, config, process, network)
        case Autoencoding.Config() as config:
            return _autoencoder(recipe, config, process, network)
        case Adversarial.Config() as config:
            return _adversarial(recipe, config, process, network)
        case Consistency.Config() as config:
            return _consistency(recipe, config, process, network)
        case DistributionMatching.Config() as config:
            return _distribution_matching(recipe, config, process, network, partial(teacher, config))
        case MeanFlow.Config() as config:
            return _meanflow(recipe, config, process, network)
        case Diffusion.Config() as config:
            return _diffusion(recipe, config, process, network)
        case ScoreMatching.Config():
            raise AssertionError("a score is matched under an SDE, not a Gaussian process")
        case _:
            assert_never(recipe.method)


def _diffusion(recipe: Recipe, config: Diffusion.Config, process: Gaussian, network: nn.Module) -> GaussianModel:
    denoiser = GaussianDenoiser(
        network=network, process=process, prediction=config.prediction, precision=recipe.training.dtype
    )
    method = Diffusion(
        process=process,
        denoiser=replace(denoiser, network=_compiled(recipe, network)),
        network=network,
        objective=config.objective(process),
        times=config.times,
        levels=config.levels,
        terms=_terms(recipe, config, process),
        schedule=process.schedule,
        condition_dropout=config.condition_dropout,
        port_dropout=config.port_dropout,
        uncertainty=config.uncertainty,
        non_hidden=non_hidden(network),
        generator=denoiser,
    )

    def losses(batch: Batch, names: Tensor) -> Tensor:
        return level_losses(denoiser, process, batch, log_snr=LOG_SNR, names=names)

    return GaussianModel(
        network=network, process=process, denoiser=denoiser, method=method, levels=("log_snr", LOG_SNR), losses=losses
    )


def _terms(recipe: Recipe, config: Diffusion.Config, process: Gaussian) -> LossTerms | None:
    """The terms that the modality adds to the loss, if the recipe weighs them.

    Raises:
        ValueError: the modality has none."""
    if not config.terms:
        return None
    errors = getattr(recipe.data, "frame_errors", None)
    if errors is None:
        raise ValueError(
            f"method.terms weighs further terms of the loss, and {recipe.data.kind} data has none: leave it out"
        )
    return LossTerms(errors=errors, process=process, weight=config.terms)


def _spectral(recipe: Recipe, config: SpectralLoss.Config, process: Gaussian, network: nn.Module) -> GaussianModel:
    denoiser = GaussianDenoiser(network=network, process=process, prediction="clean", precision=recipe.training.dtype)
    method = SpectralLoss(
        process=process, denoiser=replace(denoiser, network=_compiled(recipe, network)), network=network,
        windows=config.windows, non_hidden=non_hidden(network), generator=denoiser,
    )  # fmt: skip

    def losses(batch: Batch, names: Tensor) -> Tensor:  # a single level: it is asked at t = 1 alone
        with torch.no_grad():
            noise = SampleNoise(seeds=names.to(batch.x.device), steps=torch.zeros_like(names, device=batch.x.device))
            y = generated(denoiser, process, batch, noise)
            return spectral_distance(y, batch.x, config.windows)[1][None]

    levels = ("log_snr", LOG_SNR[:1])
    return GaussianModel(
        network=network, process=process, denoiser=denoiser, method=method, levels=levels, losses=losses
    )


def _autoencoder(recipe: Recipe, config: Autoencoding.Config, process: Gaussian, network: nn.Module) -> GaussianModel:
    assert isinstance(network, Autoencoder), "a recipe's network and method fit each other"
    denoiser = GaussianDenoiser(network=network, process=process, prediction="clean", precision=recipe.training.dtype)
    method = Autoencoding(
        network=network, denoiser=denoiser, std=config.std, kl_weight=config.kl_weight, precision=recipe.training.dtype,
        perceptual=config.perceptual, adversarial=config.adversarial, non_hidden=non_hidden(network),
        discriminator=_patch_discriminator(recipe, network) if config.adversarial else None,
    )  # fmt: skip

    def losses(batch: Batch, names: Tensor) -> Tensor:  # a single level: the root mean square error of copies
        with torch.no_grad():
            noise = SampleNoise(seeds=names.to(batch.x.device), steps=torch.zeros_like(names, device=batch.x.device))
            return method.copied(batch, noise).squared_error.sqrt()[None]

    return GaussianModel(
        network=network, process=process, denoiser=denoiser, method=method, levels=("log_snr", LOG_SNR[:1]),
        losses=losses,
    )  # fmt: skip


def _patch_discriminator(recipe: Recipe, network: Autoencoder) -> PatchDiscriminator:
    """With initial weights of its own, on the network's device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed + 1)
        return PatchDiscriminator(network.config).to(next(network.parameters()).device)


def _consistency(recipe: Recipe, config: Consistency.Config, process: Gaussian, network: nn.Module) -> GaussianModel:
    denoiser = GaussianDenoiser(
        network=network, process=process, prediction=config.prediction, precision=recipe.training.dtype
    )
    method = Consistency(
        process=process, denoiser=replace(denoiser, network=_compiled(recipe, network)), network=network,
        times=config.times, stages=config.stages, condition_dropout=config.condition_dropout,
        non_hidden=non_hidden(network), generator=denoiser,
    )  # fmt: skip

    def losses(batch: Batch, names: Tensor) -> Tensor:
        return level_losses(denoiser, process, batch, log_snr=LOG_SNR, names=names)

    return GaussianModel(
        network=network, process=process, denoiser=denoiser, method=method, levels=("log_snr", LOG_SNR), losses=losses
    )


def _meanflow(recipe: Recipe, config: MeanFlow.Config, process: Gaussian, network: nn.Module) -> GaussianModel:
    denoiser = GaussianDenoiser(
        network=network, process=process, prediction=config.prediction, precision=recipe.training.dtype
    )
    method = MeanFlow(
        process=process, denoiser=replace(denoiser, network=_compiled(recipe, network)), network=network,
        times=config.times, equal=config.equal, power=config.power, stages=config.stages,
        condition_dropout=config.condition_dropout, non_hidden=non_hidden(network), generator=denoiser,
    )  # fmt: skip

    def losses(batch: Batch, names: Tensor) -> Tensor:
        return level_losses(denoiser, process, batch, log_snr=LOG_SNR, names=names)

    return GaussianModel(
        network=network, process=process, denoiser=denoiser, method=method, levels=("log_snr", LOG_SNR), losses=losses
    )


def _distribution_matching(
    recipe: Recipe, config: DistributionMatching.Config, process: Gaussian, network: nn.Module,
    teacher: Callable[[], Denoiser[Any]],
) -> GaussianModel:  # fmt: skip
    denoiser = GaussianDenoiser(
        network=network, process=process, prediction=config.prediction, precision=recipe.training.dtype
    )
    device = next(network.parameters()).device
    fake, judge = _network(recipe, device), _network(recipe, device, number=1) if config.adversarial else None
    steps = recipe.sampling.grid(torch.tensor([config.steps]), process.schedule)[0, :-1]
    method = DistributionMatching(
        process=process, denoiser=replace(denoiser, network=_compiled(recipe, network)), network=network,
        fake=replace(denoiser, network=fake), fake_network=fake, teacher=teacher, steps=steps, times=config.times,
        every=config.every, condition_dropout=config.condition_dropout, non_hidden=non_hidden(network),
        generator=denoiser, adversarial=config.adversarial, discriminator_network=judge,
        discriminator=None if judge is None else replace(denoiser, network=judge),
    )  # fmt: skip

    def losses(batch: Batch, names: Tensor) -> Tensor:
        return level_losses(denoiser, process, batch, log_snr=LOG_SNR, names=names)

    return GaussianModel(
        network=network, process=process, denoiser=denoiser, method=method, levels=("log_snr", LOG_SNR), losses=losses
    )


def _adversarial(recipe: Recipe, config: Adversarial.Config, process: Gaussian, network: nn.Module) -> GaussianModel:
    denoiser = GaussianDenoiser(network=network, process=process, prediction="clean", precision=recipe.training.dtype)
    discriminator = _network(recipe, next(network.parameters()).device, number=1)
    method = Adversarial(
        process=process, denoiser=replace(denoiser, network=_compiled(recipe, network)), network=network,
        discriminator=replace(denoiser, network=discriminator), discriminator_network=discriminator, gamma=config.gamma,
        times=config.times, non_hidden=non_hidden(network), generator=denoiser,
    )  # fmt: skip

    def losses(
        batch: Batch, names: Tensor
    ) -> Tensor:  # a single level: the discriminator's loss, lower where it knows x
        noise = SampleNoise(seeds=names.to(batch.x.device), steps=torch.zeros_like(names, device=batch.x.device))
        draw = StepRandomness(noise=noise, u=torch.full((len(names),), 0.5, dtype=torch.float64))
        trained = discriminator.training
        discriminator.eval()
        with torch.no_grad():
            margin = method.loss("denoiser", batch, draw).terms["margin"]
        discriminator.train(trained)
        return F.softplus(margin)[None]

    levels = ("log_snr", LOG_SNR[:1])
    return GaussianModel(
        network=network, process=process, denoiser=denoiser, method=method, levels=levels, losses=losses
    )


def _sde(recipe: Recipe, equation: SDEConfig, network: nn.Module, code: CodePermission) -> SDEModel:
    assert isinstance(recipe.network, MLP.Config), "an SDE is learned by an MLP"
    assert isinstance(recipe.method, ScoreMatching.Config), "an SDE is trained by score matching"
    like = torch.zeros(1, recipe.network.channels or 1, dtype=torch.float64)
    process = build_sde(equation, like=like, code=code)
    denoiser = ScoreDenoiser(network=network, process=process, precision=recipe.training.dtype)
    method = ScoreMatching(
        process=process, denoiser=replace(denoiser, network=_compiled(recipe, network)), network=network,
        times=recipe.method.times, non_hidden=non_hidden(network), generator=denoiser,
    )  # fmt: skip

    def losses(batch: Batch, names: Tensor) -> Tensor:
        return score_losses(denoiser, process, batch, times=TIMES, names=names)

    return SDEModel(
        network=network, process=process, denoiser=denoiser, method=method, levels=("time", TIMES), losses=losses
    )


def _tokens(recipe: Recipe, config: TokenProcessConfig, network: nn.Module) -> TokenModel:
    assert isinstance(network, Transformer), "tokens are read by a transformer"
    if isinstance(config, AutoregressiveConfig):
        return _autoregressive(recipe, config, network)
    masked = Masked(vocab_size=config.vocab_size)
    process: Masked | UniformDiffusion | GIDD
    match config:
        case MaskedConfig():
            process = masked = Masked(vocab_size=config.vocab_size, schedule=config.schedule)
        case UniformConfig():
            process = UniformDiffusion(vocab_size=config.vocab_size)
        case HybridConfig():
            process = GIDD(
                vocab_size=config.vocab_size, uniform_fraction=config.uniform_fraction, exponent=config.exponent
            )
        case _:
            assert_never(config)
    times = UniformTime(low=1e-4, high=1 if process is masked else 1 - 1e-4)
    training_input: TrainingInput = NoiseAtTime(process=process, times=times)
    if network.config.attention == "block":
        training_input = MaskByCountPerBlock(process=masked, block=network.config.block_size)
    elif isinstance(config, MaskedConfig) and config.training_input == "count":
        training_input = MaskByCount(process=masked)
    at_masks = isinstance(config, MaskedConfig)
    denoiser = TokenDenoiser(network=network, process=process, precision=recipe.training.dtype, at_masks_only=at_masks)
    trained = replace(denoiser, network=_compiled(recipe, network))
    if at_masks and recipe.training.compile:  # the number of masks varies, and a compiled network needs one shape
        trained = replace(trained, at_masks_only=False)
    plain = isinstance(config, MaskedConfig) and config.loss == "cross_entropy"
    weight = config.quality if isinstance(config, MaskedConfig) else 0.0
    method = Diffusion(
        process=process, denoiser=trained, network=network, times=times,
        objective=CrossEntropy() if plain else ELBO(process=process),
        training_input=training_input, non_hidden=non_hidden(network), generator=denoiser,
        quality=QualityLoss(denoiser=trained, process=masked, weight=weight) if weight else None,
    )  # fmt: skip

    def losses(batch: Batch, names: Tensor) -> Tensor:
        if at_masks:
            return share_losses(denoiser, masked, batch, shares=MASKED, names=names)
        return time_losses(denoiser, process, batch, times=MASKED, names=names)

    levels = ("masked" if at_masks else "time", MASKED)
    return TokenModel(network=network, process=process, denoiser=denoiser, method=method, levels=levels, losses=losses)


def _autoregressive(recipe: Recipe, config: AutoregressiveConfig, network: Transformer) -> TokenModel:
    process, times = Masked(vocab_size=config.vocab_size), UniformTime(low=1e-4, high=1)
    denoiser = CausalDenoiser(network=network, precision=recipe.training.dtype)
    method = Diffusion(
        process=process, denoiser=replace(denoiser, network=_compiled(recipe, network)), network=network,
        objective=CrossEntropy(), times=times, training_input=Uncorrupted(), non_hidden=non_hidden(network),
        generator=denoiser,
    )  # fmt: skip

    def losses(batch: Batch, names: Tensor) -> Tensor:  # a single level: nats per position
        free = batch.x < config.vocab_size if batch.mask is None else batch.mask
        return (whole(denoiser, batch) / free.sum(1).clamp_min(1))[None]

    return TokenModel(
        network=network, process=process, denoiser=denoiser, method=method, autoregressive=True, losses=losses,
        levels=("masked", torch.ones(1, dtype=torch.float64)),
    )  # fmt: skip


def _joint(recipe: Recipe, config: ProductConfig, network: nn.Module) -> JointModel:
    assert isinstance(recipe.method, Diffusion.Config), "a product is trained by diffusion"
    parts = {
        name: part if isinstance(part, Gaussian) else Masked(vocab_size=part.vocab_size, schedule=part.schedule)
        for name, part in config.parts.items()
    }
    process, method = Product(parts=parts), recipe.method
    warps = TimeWarps(process, getattr(recipe.network, "positions", {}) if config.warp else {})
    denoiser = JointDenoiser(
        network=network, process=process, prediction=method.prediction, precision=recipe.training.dtype
    )
    trained = Diffusion(
        process=process, denoiser=replace(denoiser, network=_compiled(recipe, network)), network=network,
        objective=PartsLoss(process=process, weighting=method.weighting, gamma=method.gamma),  # type: ignore[arg-type]
        times=method.times, schedule=process.schedule, condition_dropout=method.condition_dropout,
        port_dropout=method.port_dropout, non_hidden=non_hidden(network), generator=denoiser,
        warps=warps if config.warp else None,
        training_input=NoiseAtOwnTimes(process=process, times=method.times, warps=warps, levels=method.levels),
        levels=method.levels,
    )  # fmt: skip

    def losses(batch: Batch, names: Tensor) -> Tensor:
        return joint_losses(denoiser, process, batch, log_snr=LOG_SNR, names=names)

    return JointModel(
        network=network, process=process, denoiser=denoiser, method=trained, levels=("log_snr", LOG_SNR), losses=losses,
        warps=warps,
    )  # fmt: skip


def training_batches(
    recipe: Recipe, batches: Batches, coupling: Coupling | None = None, old: Sequence[tuple[float, Batch]] = ()
) -> loop.BatchFn:
    """(step, indices into its global batch, their randomness) -> batch; a pure function of these and the recipe's seed.

    With a coupling, the order of the data gives the class of each sample, and its noise the example of that class.

    Args:
        old: examples of earlier data, each with their share of a batch."""
    training = recipe.training
    new = partial(_new_batches, recipe, batches, coupling)
    device = getattr(batches, "device", None)
    return mixed(new, old, batch=training.batch, seed=training.seed, device=device)


AHEAD = 2  # batches after the one that is read now, which are decoded meanwhile


def _new_batches(recipe: Recipe, batches: Batches, coupling: Coupling | None, count: int) -> loop.BatchFn:
    """`training_batches` with `count` samples in a batch, all of them new."""
    training = recipe.training
    grouped = {name: getattr(batches, name, None) for name in ("lengths", "buckets")}
    shards, window = getattr(batches, "shards", None), training.shuffle_window or getattr(batches, "window", None)
    order = DataOrder(
        count=len(batches), batch=count, seed=training.seed, shards=shards, window=None if shards is None else window,
        **grouped,
    )  # fmt: skip
    ahead = getattr(batches, "ahead", None)

    def batch(step: int, samples: Tensor, draw: StepRandomness) -> Batch:
        items = order.items(step, samples)
        if ahead is not None and coupling is None:
            ahead(torch.cat([items, *(order.items(step + k, samples) for k in range(1, AHEAD + 1))]))
        if coupling is not None:
            z = draw.corruption.normal(coupling.points[0].new_empty(len(items), *batches.shape))
            items = coupling.items(items, z)
        return batches(items, draw.noise)

    return batch


def guided(built: Built, sampling: Sampling, denoiser: Denoiser[Any] | None = None) -> Denoiser[Any]:
    """A denoiser, by default the model's, with the sampling's guidance, whose weights it reads from the condition
    (`diffusion.guidance.weighted`).

    Raises:
        ValueError: guidance that is not for the process, or whose other model is not found."""
    denoiser = denoiser or built.model.denoiser
    return guide(denoiser, active(sampling.guidance), process=built.model.process, models=built.models)
