"""Adapters: few weights that change a trained network, which stays as it is.

An adapter is a parametrisation of chosen weights of a network of any kind. A weight W (rows, ...), as a matrix (rows,
n), becomes

    lora:  W + 8 B A / sqrt(r n)
    dora:  m V / |V|,  V = W + 8 B A / sqrt(r n)

("LoRA: Low-Rank Adaptation of Large Language Models", 2021, arXiv 2106.09685; "DoRA: Weight-Decomposed Low-Rank
Adaptation", 2024, arXiv 2402.09353), with A (r, n), B (rows, r), and in DoRA a magnitude m and a norm of each row. The
factor 1 / sqrt(r) keeps the size of a step the same for all ranks ("A Rank Stabilization Scaling Factor for Fine-Tuning
with LoRA", 2023, arXiv 2312.03732), and 1 / sqrt(n) the same beside W for all widths. B is 0 at first and m the norm of
the rows, so that the network is the one that it was, to the bit. A has entries of variance 1, so that an optimizer whose
steps have one size changes B by far more than A, relative to their sizes ("LoRA+: Efficient Low Rank Adaptation of Large
Models", 2024, arXiv 2402.12354).

A linear layer, a convolution (rows are its outputs) and an embedding (rows are its tokens) are alike in this, and so is
every other weight of two or more dimensions, wherever the network reads it. `merge` computes the weights, after which the
network is a plain one.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from langevin.networks.embedding import ClassEmbedding

AdapterKind = Literal["lora", "dora", "head", "full"]
LARGEST = 4096  # rank
ALPHA = 8.0


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """The `adapter:` section of a recipe: which weights of another run's network are trained, and how.

    Args:
        kind: lora and dora, see above; head trains the last layers; full trains all weights.
        rank: of lora and dora, at least 0, and for each weight at most what saves weights; None takes the largest that
            keeps to `share`.
        share: the largest number of trained weights, as a fraction of the network's.
        path: of the run whose network it is, the base.
        sha256: of the base's weights; filled in before training, like what follows.
        ema: length of the EMA of the base's weights that are adapted; 0 is its last weights.
    """

    kind: AdapterKind = "lora"
    rank: int | None = None
    share: float = 0.05
    path: str
    sha256: str = ""
    ema: float | None = None

    def __post_init__(self) -> None:
        if self.kind in ("head", "full") and self.rank is not None:
            raise ValueError(f"adapter.rank is of kind lora and dora, and this is {self.kind}: leave it out")
        if self.rank is not None and not 0 <= self.rank <= LARGEST:
            raise ValueError(f"adapter.rank is 0 to {LARGEST}, got {self.rank}")
        if not 0 < self.share <= 1:
            raise ValueError(
                f"adapter.share is a fraction of the network's weights, above 0 and at most 1, got {self.share}"
            )


class LowRank(nn.Module):
    """W -> W + 8 B A / sqrt(r n), for weights of a shape.

    Args:
        rank: r, at least 1.
        magnitudes: (rows,), m of DoRA at first; None for LoRA.
    """

    def __init__(self, shape: torch.Size, rank: int, magnitudes: Tensor | None = None) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(rank, math.prod(shape[1:])))
        self.b = nn.Parameter(torch.zeros(shape[0], rank))
        self.scale = ALPHA * self.a.numel() ** -0.5
        self.magnitude = None if magnitudes is None else nn.Parameter(magnitudes.clone())

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):  # a weight has the weight's precision
            direction = weight.clone().add_((self.scale * self.b @ self.a).view_as(weight))  # with its layout in memory
            if self.magnitude is None:
                return direction
            ratio = self.magnitude / output_norms(direction).detach()  # the norm has no gradient, as in the paper
            return direction * ratio.view(-1, *(1,) * (weight.ndim - 1))


def output_norms(weight: Tensor) -> Tensor:
    """(rows,): the norm of each row of a weight (rows, ...); not below a tiny number, as it is divided by."""
    return weight.flatten(1).norm(dim=1).clamp_min(1e-12)


class NewClasses(nn.Module):
    """A table (n + 1, width) of n classes and of none -> (n + count + 1, width), with `count` new classes before none.

    A new class is none at first, so that the network draws for it what it draws without a class."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(count, width))

    def forward(self, table: Tensor) -> Tensor:
        return torch.cat([table[:-1], table[-1] + self.rows, table[-1:]])


def widened(table: Tensor, count: int) -> Tensor:
    """The table (n + 1, width) of n classes and of none with `count` new classes that are none."""
    return torch.cat([table[:-1], table[-1:].expand(count, -1), table[-1:]])


def weights_of(network: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """The weights of two or more dimensions: the module that has each, its name there, and its value."""
    for module in list(network.modules()):
        if isinstance(module, parametrize.ParametrizationList | LowRank | NewClasses):
            continue
        names = [name for name, _ in module.named_parameters(recurse=False)]
        names += list(module.parametrizations) if parametrize.is_parametrized(module) else []  # type: ignore[arg-type]
        for name in names:
            value = getattr(module, name)
            if value.ndim >= 2 and value.numel():
                yield module, name, value


def capped(rank: int, shape: torch.Size) -> int:
    """The rank for a weight: at most that from which on the factors have as many entries as the weight."""
    rows, columns = shape[0], math.prod(shape[1:])
    return min(rank, max(0, rows * columns - 1) // (rows + columns))


def count_of(shapes: Iterable[torch.Size], rank: int, kind: AdapterKind) -> int:
    """The number of entries of the factors, and in DoRA of the magnitudes, for weights of these shapes."""
    ranks = [(capped(rank, shape), shape) for shape in shapes]
    extra = 1 if kind == "dora" else 0
    return sum(r * (shape[0] + math.prod(shape[1:])) + extra * shape[0] for r, shape in ranks if r)


def rank_within(shapes: Iterable[torch.Size], most: int, kind: AdapterKind) -> int:
    """The largest rank whose adapter has at most so many weights, of 1 to `LARGEST`.

    Raises:
        ValueError: rank 1 has more."""
    shapes = list(shapes)
    least = count_of(shapes, 1, kind)
    if least > most:
        total = sum(shape.numel() for shape in shapes)
        raise ValueError(
            f"rank 1 takes {least:,} weights, and adapter.share allows {most:,}: set it to {least / total:.2g} or more"
        )
    low, high = 1, LARGEST
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count_of(shapes, middle, kind) <= most else (low, middle - 1)
    return low


def adapt(network: nn.Module, config: Adapter, *, seed: int) -> None:
    """Make the weights of an adapter the only ones of a network that are trained; the network computes what it did.

    New rows of a table of classes (`add_classes`) are trained in any case.

    Args:
        seed: of the factors A.

    Raises:
        ValueError: there is no last layer to train, or nothing at all."""
    new = {id(p) for m in network.modules() if isinstance(m, NewClasses) for p in m.parameters()}
    for parameter in network.parameters():
        parameter.requires_grad_(config.kind == "full" or id(parameter) in new)
    match config.kind:
        case "full":
            pass
        case "head":
            for name, parameter in network.named_parameters():
                if name.split(".")[0] in getattr(network, "head", ()):
                    parameter.requires_grad_(True)
        case "lora" | "dora":
            assert config.rank is not None, "chosen before training"
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                for module, name, weight in list(weights_of(network)):
                    if rank := capped(config.rank, weight.shape):
                        norms = output_norms(weight.detach()) if config.kind == "dora" else None
                        factors = LowRank(weight.shape, rank, norms).to(weight.device)
                        parametrize.register_parametrization(module, name, factors, unsafe=True)
        case _:
            assert_never(config.kind)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        what = "adapter.rank=0" if config.rank == 0 else f"adapter.kind={config.kind}"
        raise ValueError(f"{what} leaves nothing of this network to train: take rank 1 or more, or another kind")


def take(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a network the weights of its base. Where it has more classes, its table gets rows for the new ones.

    Raises:
        ValueError: the weights are of another network."""
    for name, parameter in list(network.named_parameters()):
        given, (place, _, leaf) = weights.get(name), name.rpartition(".")
        module = network.get_submodule(place)
        if given is not None and isinstance(module, ClassEmbedding) and 1 < len(given) < len(parameter):
            setattr(module, leaf, nn.Parameter(given.to(parameter.device, copy=True)))
            rows = NewClasses(len(parameter) - len(given), given.shape[1]).to(parameter.device)
            parametrize.register_parametrization(module, leaf, rows, unsafe=True)
        elif given is None or given.shape != parameter.shape:
            raise ValueError(
                f"the base has another network: '{name}' is missing there, or of another shape: leave `network` as there"
            )
        else:
            with torch.no_grad():
                parameter.copy_(given)


@torch.no_grad()
def merge(network: nn.Module) -> None:
    """Replace what is parametrised by its values, so that the network is a plain one, with all weights trainable again."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                value = getattr(module, name).detach().clone()
                parametrize.remove_parametrizations(module, name, leave_parametrized=False)
                setattr(module, name, nn.Parameter(value))
    network.requires_grad_(True)
