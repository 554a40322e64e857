"""A run's network, denoiser and sampling loop as modules of tensors alone, which `torch.export` can trace.

    network     F(c_in x_t, c_time, conditions)
    denoiser    (sample = x_t, timestep = t, conditions) -> out_sample = E[x | x_t], or logits of tokens
    sampler     (sample = standard normal noise, conditions, noise) -> out_sample = x at t = 0

The sampler is a scan over the rows of its table of coefficients (`diffusion.sampler.linear`), so the graph holds the
network once, whatever the number of steps. Fresh noise of a stochastic sampler is an input, a row for each call.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.denoiser import PredictionType, affine
from langevin.diffusion.process import Gaussian
from langevin.diffusion.shape import append_dims

Network = Callable[..., Tensor]


@dataclass(frozen=True, kw_only=True)
class Input:
    """An input of a graph besides the sample and its time.

    Args:
        name: its name in the graph.
        shape: of one sample.
        dtype: of the tensor.
        meaning: what it holds, and its range.
        port: the port of the condition that it is; "" for what the graph itself gives: the length of a step, and whether
            conditions without an index are kept.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    meaning: str
    port: str = ""

    def example(self, count: int) -> Tensor:
        """Zeros for `count` samples."""
        return torch.zeros(count, *self.shape, dtype=self.dtype)


class NetworkGraph(nn.Module):
    """A network that is given tensors in place of a `Condition`.

    Class labels are withheld where they are negative, token indices where all are, and other conditions where `keep` is
    0."""

    def __init__(self, network: nn.Module, inputs: Sequence[Input]) -> None:
        super().__init__()
        self.network, self.inputs = network, tuple(inputs)

    def forward(
        self, x: Tensor, c_time: Tensor, class_labels: Tensor | None = None, input_ids: Tensor | None = None,
        global_vector: Tensor | None = None, concat: Tensor | None = None,
        span: Tensor | None = None, keep: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """x (b, ...), c_time (b,), and the conditions of `inputs` by name -> the network's output."""
        values = given_of(
            class_labels=class_labels,
            input_ids=input_ids,
            global_vector=global_vector,
            concat=concat,
            span=span,
            keep=keep,
        )
        return self.network(x, c_time, condition_of(self.inputs, values))


class GaussianGraph(nn.Module):
    """E[x | x_t] of a Gaussian process."""

    def __init__(
        self, network: Network, process: Gaussian, prediction: PredictionType, inputs: Sequence[Input]
    ) -> None:  # fmt: skip
        super().__init__()
        self.network, self.process, self.inputs = network, process, tuple(inputs)
        self.prediction: PredictionType = prediction

    def forward(
        self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None, input_ids: Tensor | None = None,
        global_vector: Tensor | None = None, concat: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """x_t (b, ...), t (b,) float64 in [0, 1] -> (b, ...)."""
        conditions = given_of(
            class_labels=class_labels, input_ids=input_ids, global_vector=global_vector, concat=concat
        )
        c = affine(self.prediction, self.process.schedule, timestep, self.process.sigma_data)
        c_skip, c_out, c_in, c_time = (part.to(sample) for part in c)
        output = self.network(
            append_dims(c_in, sample) * sample, c_time, **default_inputs(self.inputs, c_time), **conditions
        )
        return append_dims(c_skip, sample) * sample + append_dims(c_out, sample) * output


class TokenGraph(nn.Module):
    """Logits of clean tokens, (b, positions, vocabulary); those of visible tokens of a masked process mean nothing."""

    def __init__(self, network: Network, inputs: Sequence[Input], *, causal: bool) -> None:
        super().__init__()
        self.network, self.inputs, self.causal = network, tuple(inputs), causal

    def forward(
        self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None, input_ids: Tensor | None = None,
        global_vector: Tensor | None = None, concat: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Tokens (b, positions) int64, t (b,) float64 in [0, 1]."""
        conditions = given_of(
            class_labels=class_labels, input_ids=input_ids, global_vector=global_vector, concat=concat
        )
        c_time = (timestep if self.causal else 0.125 * timestep.clamp(1e-6, 1 - 1e-6).logit()).float()
        return self.network(sample, c_time, **default_inputs(self.inputs, c_time), **conditions)


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a sampler does at each of its n calls, float32 (n, ...).

    Args:
        scale: of the noise that it begins with.
        affine: (c_skip, c_out, c_in, c_time) of each call.
        weights: (c_x, c_0, c_1, ...), see `diffusion.sampler.linear`.
        remembered: (p, q); (0, 1) where outputs are remembered as they are.
        noise: c_n; None for a deterministic sampler.
        guidance: weight of classifier-free guidance; None without.
        span: length of the step, for a flow map; None without.
    """

    scale: float
    affine: Tensor
    weights: Tensor
    remembered: Tensor
    noise: Tensor | None
    guidance: Tensor | None
    span: Tensor | None

    def __len__(self) -> int:
        return len(self.weights)


class SamplerGraph(nn.Module):
    """Noise to samples: the sampling loop with its network."""

    coefficients: Tensor  # a call's (c_skip, c_out, c_in, c_time, p, q, c_n, guidance, span, c_x, c_0, ...)

    def __init__(self, network: Network, table: Table, inputs: Sequence[Input]) -> None:
        super().__init__()
        self.network, self.inputs = network, tuple(one for one in inputs if one.port)
        self.scale, self.history = table.scale, table.weights.shape[1] - 2
        self.guided = table.guidance is not None
        self.inner = tuple(one for one in inputs if not one.port)
        zeros = torch.zeros(len(table), 1)
        single = [zeros if part is None else part.reshape(-1, 1) for part in (table.noise, table.guidance, table.span)]
        values = torch.cat([table.affine, table.remembered, *single, table.weights], 1)
        self.register_buffer("coefficients", values)

    def forward(
        self, sample: Tensor, class_labels: Tensor | None = None, input_ids: Tensor | None = None,
        global_vector: Tensor | None = None, concat: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Standard normal noise (b, ...), the conditions by name, and for a stochastic sampler `noise` (b, calls, ...)."""
        conditions = given_of(
            class_labels=class_labels, input_ids=input_ids, global_vector=global_vector, concat=concat
        )

        names = list(conditions)

        def step(carry: tuple[Tensor, ...], xs: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
            x, previous, given = carry[0], carry[1 : 1 + self.history], carry[1 + self.history :]
            c = xs[0]
            a = c[4] * x + c[5] * self._mean(x, c, dict(zip(names, given, strict=True)))
            y = c[9] * x + c[10] * a
            for i in range(self.history):
                y = y + c[11 + i] * previous[i]
            if noise is not None:
                y = y + c[6] * xs[1]
            kept = (a, *previous)[: self.history]
            return (y, *(one.clone() for one in (*kept, *given))), c.new_zeros(())

        x = self.scale * sample
        # conditions are carried, as OpenVINO's loops see nothing but weights from outside
        start = (x, *(torch.zeros_like(x) for _ in range(self.history)), *conditions.values())
        xs = (self.coefficients,) if noise is None else (self.coefficients, noise.transpose(0, 1))
        (x, *_), _ = scan(step, start, xs)
        return x

    def _mean(self, x: Tensor, c: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
        """E[x | x_t] of a call, under guidance."""
        x_in = c[2] * x
        more = default_inputs(self.inner, c[3].expand(x.shape[0]))
        if self.guided:
            withheld = {
                one.name: torch.full_like(conditions[one.name], -1)
                if one.dtype == torch.int64
                else conditions[one.name]
                for one in self.inputs
            }
            conditions = {name: torch.cat([value, withheld[name]]) for name, value in conditions.items()}
            x_in = torch.cat([x_in, x_in])
            more = {name: torch.cat([value, torch.zeros_like(value)]) for name, value in more.items()}
        if "span" in more:
            more["span"] = c[8].expand(x_in.shape[0])
        output = self.network(x_in, c[3].expand(x_in.shape[0]), **more, **conditions)
        if not self.guided:
            return c[0] * x + c[1] * output
        given, without = (c[0] * x + c[1] * part for part in (output[: x.shape[0]], output[x.shape[0] :]))
        return without + c[7] * (given - without)


def condition_of(inputs: Sequence[Input], values: Mapping[str, Tensor]) -> Condition | None:
    """The condition of b samples with these values of the inputs (b, ...); None without inputs."""
    given: dict[str, Any] = {}
    for one in inputs:
        value = values[one.name]
        if one.name == "keep":
            continue
        if not one.port:
            given["span"] = value
        elif one.dtype == torch.int64:
            shown = value >= 0
            keep = shown if value.ndim == 1 else shown.any(1)
            given[one.port] = Port(tensor=value.clamp_min(0), keep=keep)
        else:
            given[one.port] = Port(tensor=value, keep=values["keep"] > 0 if "keep" in values else None)
    return Condition(**given) if given else None


def default_inputs(inputs: Sequence[Input], like: Tensor) -> dict[str, Tensor]:
    """What a graph itself gives a network besides conditions: no step, and all conditions kept, each (b,) as `like`."""
    values = {"span": torch.zeros_like(like), "keep": torch.ones_like(like)}
    return {one.name: values[one.name] for one in inputs if not one.port}


def given_of(**conditions: Tensor | None) -> dict[str, Tensor]:
    """The conditions that are given."""
    return {name: value for name, value in conditions.items() if value is not None}
