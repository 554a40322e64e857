"""Exporting a run: its denoiser, and its sampling loop where it is one, as graphs that are compared with the run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.export import ExportedProgram

from langevin.diffusion.denoiser import CausalDenoiser
from langevin.diffusion.guidance import active, guide, weighted
from langevin.diffusion.sampler import sample, start
from langevin.exchange.graph import (
    GaussianGraph,
    Input,
    NetworkGraph,
    SamplerGraph,
    Table,
    TokenGraph,
    condition_of,
)
from langevin.exchange.parts import inputs_of, loop_noise, model_of, table_of
from langevin.exchange.targets import Target, runner, write_graph
from langevin.exchange.trace import as_module, traced
from langevin.methods.models import GaussianModel, TokenModel
from langevin.recipe.sampling import sampler_of
from langevin.run.generate import RunModel

What = Literal["all", "denoiser", "sampler"]
TOLERANCE = 1e-3  # of the largest value, up to which a graph is that of the run


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A graph that was written.

    Args:
        name: denoiser or sampler.
        file: its name in the folder.
        inputs: (name, shape of one sample, type, meaning) of each.
        difference: the largest difference from the run itself, over the largest value, on a few samples.
    """

    name: str
    file: str
    inputs: tuple[tuple[str, tuple[int, ...], str, str], ...]
    difference: float


@dataclass(frozen=True, kw_only=True)
class Exporting:
    """A run that is exported.

    Args:
        shape: of one sample.
        inputs: of its network besides sample and time.
        network: its network, traced.
        table: of its sampler; None where the loop is no table, and `why` says why.
    """

    model: RunModel
    shape: tuple[int, ...]
    inputs: tuple[Input, ...]
    network: ExportedProgram
    table: Table | None
    why: str = ""

    @property
    def conditions(self) -> tuple[Input, ...]:
        """The inputs that a user gives."""
        return tuple(one for one in self.inputs if one.port)


def prepare(model: RunModel, shape: tuple[int, ...], *, what: What) -> Exporting:
    """Trace the network of a run, and lay out its sampler.

    Raises:
        ValueError: a kind of run that is not exported, a network that cannot be traced, or with `what` sampler one that is
            no loop of fixed steps."""
    parts = model_of(model)
    inputs = inputs_of(model, shape)
    why, table = "", None
    if what != "denoiser":
        try:
            table = table_of(model, shape, inputs)
        except ValueError as error:
            if what == "sampler":
                raise
            why = str(error)
    network = parts.network.float().cpu().eval().requires_grad_(False)
    _require_expressible(network)
    x = _like(model, shape, 2)
    program = traced(
        NetworkGraph(network, inputs), {"x": x, "c_time": torch.zeros(2)}, {one.name: one.example(2) for one in inputs}
    )
    return Exporting(model=model, shape=shape, inputs=tuple(inputs), network=program, table=table, why=why)


def _require_expressible(network: torch.nn.Module) -> None:
    """Check for parts whose sizes depend on the data. Raises `ValueError` with the part."""
    if getattr(network, "ngram_prior", None) is not None:
        raise ValueError(
            "the module ngram_prior looks counts up by nonzero and index_put, whose sizes depend on the text, so the "
            "network is no graph: train one with network.ngram_order=0"
        )
    if getattr(getattr(network, "config", None), "attention", "full") == "block":
        raise ValueError(
            "a network with network.attention=block reads the text before from a cache that grows, which is not exported: "
            "train one with network.attention=full"
        )


def _like(model: RunModel, shape: tuple[int, ...], count: int) -> Tensor:
    whole = isinstance(model.parts, TokenModel)
    return torch.zeros(count, *shape, dtype=torch.int64 if whole else torch.float32)


def export(exporting: Exporting, folder: Path, target: Target, *, what: What) -> list[Exported]:
    """Write the graphs into a folder, run each, and compare it with the run.

    Raises:
        ValueError: the target cannot express an operator, or its result is another one."""
    found = []
    if what != "sampler":
        found.append(_denoiser(exporting, folder, target))
    if exporting.table is not None:
        found.append(_sampler(exporting, exporting.table, folder, target))
    return found


def _denoiser(exporting: Exporting, folder: Path, target: Target) -> Exported:
    parts, shape = model_of(exporting.model), exporting.shape
    network: Any = as_module(exporting.network)
    if isinstance(parts, TokenModel):
        graph: torch.nn.Module = TokenGraph(network, exporting.inputs, causal=parts.autoregressive)
    else:
        graph = GaussianGraph(network, parts.process, parts.denoiser.prediction, exporting.inputs)
    first = {"sample": _like(exporting.model, shape, 2), "timestep": torch.full((2,), 0.5, dtype=torch.float64)}
    kind = "int64" if isinstance(parts, TokenModel) else "float32"
    inputs = [
        ("sample", shape, kind, "x_t, noisy data" if kind == "float32" else "tokens, of which masks are to be filled"),
        ("timestep", (), "float64", "t in [0, 1]: 0 is clean, 1 is noise"),
    ]
    values = _values(exporting, 3)
    x_t, t = _noisy(exporting.model, shape, 3), torch.tensor([0.1, 0.5, 0.95], dtype=torch.float64)
    with torch.no_grad():
        expected = _prediction(parts, x_t, t, condition_of(exporting.conditions, values))
    given = {"sample": x_t, "timestep": t, **values}
    return _written("denoiser", graph, first, inputs, given, expected, exporting, folder, target)


def _sampler(exporting: Exporting, table: Table, folder: Path, target: Target) -> Exported:
    shape = exporting.shape
    network: Any = as_module(exporting.network)
    graph = SamplerGraph(network, table, exporting.inputs)
    inputs = [("sample", shape, "float32", "standard normal noise")]
    seeds, values = torch.arange(3), _values(exporting, 3)
    first_noise, noise = loop_noise(seeds, len(table), shape, noisy=table.noise is not None)
    given = {"sample": first_noise, **values}
    if noise is not None:
        meaning = "standard normal noise of each call"
        inputs.append(("noise", (len(table), *shape), "float32", meaning))
        given["noise"] = noise
    expected = drawn(exporting.model, shape, seeds, condition_of(exporting.conditions, values))
    first = {"sample": torch.zeros(2, *shape)}
    return _written("sampler", graph, first, inputs, given, expected, exporting, folder, target)


def _written(
    name: str, graph: torch.nn.Module, first: Mapping[str, Tensor], inputs: Sequence[Any], given: Mapping[str, Tensor],
    expected: Tensor, exporting: Exporting, folder: Path, target: Target,
) -> Exported:  # fmt: skip
    """Trace, write, run and compare one graph."""
    further = [
        (one.name, one.shape, str(one.dtype).removeprefix("torch."), one.meaning) for one in exporting.conditions
    ]
    declared = (*inputs[:1], *further) if name == "sampler" else (*inputs, *further)
    declared = (*declared, *inputs[1:]) if name == "sampler" else declared
    more = {n: torch.zeros(2, *shape, dtype=getattr(torch, kind)) for n, shape, kind, _ in declared if n not in first}
    program = traced(graph, first, more)
    path = write_graph(program, folder, name, target, [n for n, *_ in declared])
    call: Callable[[Mapping[str, Tensor]], Tensor] = runner(path, target)
    difference = float((call(given) - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
    if not difference <= TOLERANCE:
        named = {n: value for n, value in given.items() if n not in first}
        with torch.no_grad():
            traced_value = as_module(program)(*(given[n] for n in first), **named)
        apart = float((traced_value - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
        raise ValueError(
            f"the exported {name} differs from the run by {difference:.1e} of its largest value, "
            + (
                f"and the traced graph agrees, so {target} computes something else: take another target"
                if apart <= TOLERANCE
                else "and so does the traced graph: nothing of this run can be exported, whatever the target"
            )
        )
    return Exported(name=name, file=path.name, inputs=tuple(declared), difference=difference)


def _values(exporting: Exporting, count: int) -> dict[str, Tensor]:
    """Conditions of a few samples, the last of which has none where it can."""
    found, generator = dict[str, Tensor](), torch.Generator().manual_seed(1)
    for one in exporting.conditions:
        value = one.example(count)
        if one.dtype == torch.int64 and one.shape:
            value[:, 0] = 1
        if one.dtype == torch.int64:
            value[-1] = -1
        if one.dtype == torch.float32:
            value = torch.randn(value.shape, generator=generator)
        found[one.name] = value
    return found


def _noisy(model: RunModel, shape: tuple[int, ...], count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if isinstance(model.parts, TokenModel):
        size = model.parts.process.vocab_size
        tokens = torch.randint(0, size, (count, *shape), generator=generator)
        hidden = torch.rand(count, *shape, generator=generator) < 0.5
        return torch.where(hidden, size, tokens) if model.built.recipe.process.kind == "masked" else tokens
    return torch.randn(count, *shape, generator=generator)


def _prediction(parts: Any, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
    """What the exported denoiser returns, by the run's own."""
    if isinstance(parts, TokenModel):
        c_time = 0.125 * t.logit(1e-6).float() if not isinstance(parts.denoiser, CausalDenoiser) else t.float()
        return parts.network(x_t, c_time, condition).float()
    return in_float32(parts.denoiser)(x_t, t, condition).mean


def in_float32(denoiser: Any) -> Any:
    """The denoiser in the arithmetic of an exported graph."""
    return replace(denoiser, precision=torch.float32)


def drawn(model: RunModel, shape: tuple[int, ...], seeds: Tensor, condition: Any) -> Tensor:
    """Samples of the run itself, x (b, *shape), not decoded, as its loop draws them."""
    parts, sampling = model_of(model), model.sampling
    assert isinstance(parts, GaussianModel), "tokens have no loop"
    sampler = sampler_of(parts.process, sampling, model.built.learned)
    times = sampling.grid(torch.full((len(seeds),), sampling.steps), parts.process.schedule)
    state = start(sampler, parts.process, torch.zeros(len(seeds), *shape), times, seeds)
    condition = weighted(condition, sampling.guidance, len(seeds), torch.device("cpu"))
    process, denoiser = parts.process, in_float32(parts.denoiser)
    denoiser = guide(denoiser, active(sampling.guidance), process=process, models=model.built.models)
    *_, last = sample(sampler, process, denoiser, state, condition)
    return last.x
