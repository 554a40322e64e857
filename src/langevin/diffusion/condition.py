"""The condition of a denoiser: everything it is given besides (x_t, t).

There are five ports, each with a mask and a keep bit per sample. Two of them have an index form and a float form, which may
be given together:

    global    one condition for the whole sample: `global_`, a class index (b,) int64; `global_vector`, a vector (b, d)
    cross     a sequence to attend to: `cross`, token indices (b, n) int64, 0 is padding; `cross_vectors`, (b, n, d)
    prepend   vectors put before the positions of the data, (b, n, d)
    concat    channels concatenated to those of the data, (b, c, *space): a low-resolution image, an image to inpaint
    aligned   a sequence (b, n, d) that spans the sample in time, at its own rate

A keep bit of False withholds a port from its sample: training does so at random, classifier-free guidance on purpose.

Facts about the data have their own fields and are never withheld: the data mask, the positions of the prompt, the
clean copy of a text, the KV cache of earlier text, the length of a step. Guidance reads the weights, the reference and the
measurement.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from langevin.diffusion.features import Features, join_features
from langevin.diffusion.float64 import float64_device
from langevin.diffusion.measurement import Measurement, join_measurements
from langevin.diffusion.posterior import Index

# the five ports; two of them have a field for each form
PORTS = ("global_", "global_vector", "cross", "cross_vectors", "prepend", "concat", "aligned")
SEQUENCES = ("cross", "cross_vectors", "prepend", "aligned")  # ports that have a mask
FACTS = ("data_mask", "clean", "cache", "span")  # other fields that a network reads
NOTHING = -1  # in token fields: no token


@dataclass(frozen=True, kw_only=True)
class Port:
    """The value of one port.

    Args:
        tensor: (b, ...), see the module.
        mask: (b, n) bool of a sequence, True at its elements and False at the padding after them. None: no padding, or, for
            token indices, padding where the index is 0.
        keep: (b,) bool, False where the port is withheld from the sample; None: from none.
    """

    tensor: Tensor
    mask: Tensor | None = None
    keep: Tensor | None = None

    def kept(self) -> Tensor:
        """The keep bits, (b,) bool; all True for None."""
        if self.keep is not None:
            return self.keep
        return torch.ones(self.tensor.shape[0], dtype=torch.bool, device=self.tensor.device)

    def shown(self) -> Tensor:
        """The mask, (b, n) bool, also where `mask` is None."""
        if self.mask is not None:
            return self.mask
        if self.tensor.ndim == 2 and not self.tensor.is_floating_point():
            return self.tensor > 0
        return torch.ones(self.tensor.shape[:2], dtype=torch.bool, device=self.tensor.device)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Port":
        """`function` on each of its tensors."""
        return _mapped(self, function)

    def only(self, keep: Tensor) -> "Port":
        """The same port, withheld from the samples where `keep` (b,) bool is False as well."""
        return replace(self, keep=self.kept() & keep)


def class_port(labels: Tensor) -> Port:
    """The port `global_` of labels (b,) int64, withheld where a label is missing, which is a negative one."""
    known = labels >= 0
    return Port(tensor=labels.clamp_min(0), keep=None if bool(known.all()) else known)


def class_labels(port: Port) -> Tensor:
    """The labels (b,) int64 of a `class_port`, -1 where a label is missing."""
    return torch.where(port.kept(), port.tensor, -1)


@dataclass(frozen=True, kw_only=True)
class KVCache:
    """Keys and values of the text before x.

    Args:
        keys_values: (b, n, depth, 2, width).
        mask: (b, n) bool, False at padding.
    """

    keys_values: Tensor
    mask: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> "KVCache":
        """`function` on each of its tensors."""
        return _mapped(self, function)


@dataclass(frozen=True, kw_only=True)
class GuidanceWeight:
    """How strongly each sample is guided by one method.

    Args:
        weight: (b,) float64; 1 is neutral.
        interval: (b, 2) float64, (low, high): guide where low < sigma / alpha <= high; None is everywhere.
    """

    weight: Tensor
    interval: Tensor | None = None

    def __post_init__(self) -> None:
        if self.weight.ndim != 1 or (self.interval is not None and self.interval.shape != (len(self.weight), 2)):
            got = None if self.interval is None else tuple(self.interval.shape)
            raise ValueError(
                f"guidance takes a weight per sample, (b,), and an interval per sample, (b, 2), got "
                f"{tuple(self.weight.shape)} and {got}"
            )

    def map(self, function: Callable[[Tensor], Tensor]) -> "GuidanceWeight":
        """`function` on each of its tensors."""
        return _mapped(self, function)

    def intervals(self) -> Tensor:
        """The intervals, (b, 2): (0, infinity) where there are none."""
        if self.interval is not None:
            return self.interval
        return torch.tensor([0.0, torch.inf], dtype=self.weight.dtype, device=self.weight.device).repeat(
            len(self.weight), 1
        )


@dataclass(frozen=True, kw_only=True)
class Further:
    """A further condition of b samples.

    Args:
        ports: a condition that holds ports only.
        weight: (b,) float64; positive is "and", negative "not", 0 neither.
    """

    ports: "Condition"
    weight: Tensor


@dataclass(frozen=True, kw_only=True)
class Condition:
    """The ports, the facts about the data, and what guidance needs; None is absent.

    Args:
        global_, global_vector, cross, cross_vectors, prepend, concat, aligned: the ports, see the module.
        data_mask: (b, *space) bool, the positions of x that hold data; False is padding.
        prompt: (b, positions) bool, the positions of x that hold the prompt, which `PromptGuidance` hides.
        clean: (b, positions) int64, the clean copy of the text, for block diffusion; -1 where there is none.
        cache: keys and values of the text before x, for block diffusion.
        span: (b,) float32 in [0, 1], the length of the step that a flow map is to make (`diffusion.flow_map`); None is 0.
        guidance: the weights of each guidance method, by its kind; a method without weights does not guide.
        reference: the ports of the guidance reference, a negative condition; ports that it lacks are withheld. None is the
            unconditional reference.
        measurement: what was measured of the samples, which guidance makes them agree with.
        further: conditions besides the ports, which `Composition` adds or subtracts.
        features: what the network computed for the samples before, which `Reusing` uses again; None is nothing.

    Raises:
        ValueError: a reference that holds more than ports.
    """

    global_: Port | None = None
    global_vector: Port | None = None
    cross: Port | None = None
    cross_vectors: Port | None = None
    prepend: Port | None = None
    concat: Port | None = None
    aligned: Port | None = None
    data_mask: Tensor | None = None
    prompt: Tensor | None = None
    clean: Tensor | None = None
    cache: KVCache | None = None
    span: Tensor | None = None
    guidance: Mapping[str, GuidanceWeight] = field(default_factory=dict[str, GuidanceWeight])
    reference: "Condition | None" = None
    measurement: Measurement | None = None
    further: tuple[Further, ...] = ()
    features: Features | None = None

    def __post_init__(self) -> None:
        other = self.reference
        rest = (*FACTS, "prompt", "reference", "measurement", "features")
        if other is not None and (other.guidance or any(getattr(other, name) is not None for name in rest)):
            raise ValueError("a reference condition holds ports only: set all other fields on the condition itself")

    @property
    def ports(self) -> dict[str, Port]:
        """The ports that are given, by name."""
        return {name: port for name in PORTS if (port := getattr(self, name)) is not None}

    @property
    def count(self) -> int | None:
        """The number of samples; None for an empty condition."""
        return next((len(tensor) for tensor in _tensors(self)), None)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Condition":
        """`function` on every tensor."""
        return _mapped(self, function)

    def to(self, device: torch.device) -> "Condition":
        """The condition for data on `device`; float64 tensors (guidance weights) go to its `float64_device`."""
        return self.map(lambda part: part.to(float64_device(device) if part.dtype == torch.float64 else device))

    def select(self, index: Index) -> "Condition":
        """The condition of the samples of an index: (m,) int64, (b,) bool or a slice."""
        return self.map(lambda tensor: tensor[index.to(tensor.device) if isinstance(index, Tensor) else index])

    def only(self, keep: Tensor) -> "Condition":
        """Every port withheld from the samples where `keep` (b,) bool is False; the facts stay."""
        return replace(self, **{name: port.only(keep) for name, port in self.ports.items()})

    def dropped(self) -> "Condition":
        """Every port withheld from every sample: the unconditional input."""
        return replace(self, **{name: port.only(torch.zeros_like(port.kept())) for name, port in self.ports.items()})

    def unguided(self) -> "Condition":
        """The condition without all that guidance reads: weights, reference, measurement, further conditions; and without
        features, which are of the condition as it was."""
        return replace(self, guidance={}, reference=None, measurement=None, further=(), features=None)

    def inside(self, kind: str) -> "Condition":
        """The condition for what a guidance method is around: without its own weights, and without the reference."""
        return replace(self, guidance={k: w for k, w in self.guidance.items() if k != kind}, reference=None)

    def alone(self) -> "Condition":
        """The condition without further ones."""
        return replace(self, further=())

    def under(self, other: "Condition") -> "Condition":
        """The condition with the ports of another one in place of its own."""
        return replace(self, **{name: getattr(other, name) for name in PORTS})

    def compared(self) -> "Condition":
        """The condition of the guidance reference: `reference` if given, else this one with every port withheld."""
        features = None if self.features is None else self.features.reference()
        other = self.dropped() if self.reference is None else self.under(self.reference)
        return replace(other.unguided(), features=features)

    def over(self, x: Tensor) -> Tensor | None:
        """The data mask shaped for x, (b, 1, *space), or (b, positions) for tokens; None without one.

        Raises:
            ValueError: a mask of another shape."""
        mask = self.data_mask
        if mask is None or (mask.shape == x.shape and mask.dtype == torch.bool):
            return mask
        if mask.shape != (len(x), *x.shape[2:]) or mask.dtype != torch.bool:
            raise ValueError(
                f"a data mask is bool of the shape of x without channels; got {mask.dtype} of shape {tuple(mask.shape)} "
                f"for x of shape {tuple(x.shape)}"
            )
        return mask[:, None]


def join(*conditions: Condition, counts: Sequence[int] | None = None) -> Condition:
    """The samples of all conditions, in order, so that different requests to one model can share a batch.

    Sequences and spaces of different sizes are padded at their end, with a mask. A port that one of them lacks is withheld
    there. A missing weight is 1, a missing interval all noise levels, a missing data mask all positions of the others'
    space (so samples of different sizes need masks everywhere), a missing reference the condition with its ports withheld.
    Where nothing was measured, a measurement of the others adds nothing.

    Args:
        conditions: one or more.
        counts: their numbers of samples, which an empty condition does not know.

    Raises:
        ValueError: widths or channels differ, or the number of samples of an empty condition is not known.
    """
    if len(conditions) == 1:
        return conditions[0]
    known = [condition.count for condition in conditions] if counts is None else list(counts)
    if all(count is None for count in known):
        return conditions[0]
    if any(count is None for count in known):
        raise ValueError(
            "cannot join conditions: one of them is empty, so its number of samples is not known; give it a port with "
            "keep False, or a guidance weight of 1"
        )
    return _join(conditions, known)  # type: ignore[arg-type]


def _join(all_of: Sequence[Condition], counts: Sequence[int]) -> Condition:
    """`join`, given the numbers of samples."""
    parts: dict[str, Any] = {name: _join_ports(name, [getattr(c, name) for c in all_of], counts) for name in PORTS}
    for name, fill in (("data_mask", True), ("prompt", False), ("clean", NOTHING)):
        parts[name] = _join_tensors(name, [getattr(c, name) for c in all_of], counts, absent=fill)
    parts["span"] = _join_tensors("global_", [c.span for c in all_of], counts, absent=0)
    parts["cache"] = _join_caches([c.cache for c in all_of], counts)
    kinds = dict.fromkeys(kind for condition in all_of for kind in condition.guidance)
    parts["guidance"] = {kind: _join_weights([c.guidance.get(kind) for c in all_of], counts) for kind in kinds}
    if any(condition.reference is not None for condition in all_of):
        references = [Condition(**condition.compared().ports) for condition in all_of]  # type: ignore[arg-type]
        parts["reference"] = _join(references, counts)
    parts["further"] = _join_further(all_of, counts)
    parts["features"] = join_features([condition.features for condition in all_of], counts)
    parts["measurement"] = join_measurements([condition.measurement for condition in all_of], counts)
    return Condition(**parts)


def _join_further(all_of: Sequence[Condition], counts: Sequence[int]) -> tuple[Further, ...]:
    """The further conditions; a sample with fewer than others has more of weight 0."""
    joined = list[Further]()
    for i in range(max(len(condition.further) for condition in all_of)):
        held = [condition.further[i] if i < len(condition.further) else None for condition in all_of]
        like = next(one.weight for one in held if one is not None)
        weight = torch.cat(
            [like.new_zeros(n) if one is None else one.weight for one, n in zip(held, counts, strict=True)]
        )
        ports = _join([Condition() if one is None else one.ports for one in held], counts)
        joined.append(Further(ports=ports, weight=weight))
    return tuple(joined)


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """`function` on every tensor of a nested dataclass or mapping; None stays None."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Measurement | Features):
        return value.map(function)
    if isinstance(value, tuple):
        several: tuple[Any, ...] = value  # pyright: ignore[reportUnknownVariableType]
        return tuple(_mapped(part, function) for part in several)
    if isinstance(value, Mapping):
        parts: Mapping[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
        return {name: _mapped(part, function) for name, part in parts.items()}
    return replace(value, **{f.name: _mapped(getattr(value, f.name), function) for f in fields(value)})


def _tensors(value: Any) -> Iterable[Tensor]:
    """Every tensor of a nested dataclass or mapping, in order."""
    tensors: list[Tensor] = []

    def collect(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    _mapped(value, collect)
    return tensors


def pad_to(x: Tensor, sizes: Sequence[int], value: float = 0) -> Tensor:
    """x (b, ...) padded at the end of its dimensions after the first to `sizes`."""
    amounts = [n for have, want in zip(reversed(x.shape[1:]), reversed(sizes), strict=True) for n in (0, want - have)]
    return F.pad(x, amounts, value=value) if any(amounts) else x


def _padded_dimensions(name: str, tensor: Tensor) -> range:
    """The dimensions of a field that may be padded: lengths and spatial sizes, not widths or channels."""
    if name in ("global_", "global_vector"):
        return range(0)
    if name == "concat":
        return range(2, tensor.ndim)
    return range(1, tensor.ndim) if name == "data_mask" else range(1, 2)


def _join_tensors(
    name: str, parts: Sequence[Tensor | None], counts: Sequence[int], *, absent: float, fill: float | None = None
) -> Tensor | None:
    """The parts concatenated along the batch; shorter ones are padded with `fill`, missing ones filled with `absent`."""
    like = next((part for part in parts if part is not None), None)
    if like is None:
        return None
    fill = (0 if name == "data_mask" else absent) if fill is None else fill
    full = [
        torch.full((n, *like.shape[1:]), absent, dtype=like.dtype, device=like.device) if part is None else part
        for part, n in zip(parts, counts, strict=True)
    ]
    shapes = {part.shape[1:] for part in full}
    if len(shapes) == 1:
        return torch.cat(full)
    fixed = [i for i in range(1, like.ndim) if i not in _padded_dimensions(name, like)]
    for part in full:
        if part.ndim != like.ndim or any(part.shape[i] != like.shape[i] for i in fixed):
            raise ValueError(
                f"cannot join conditions: '{name}' is {tuple(like.shape)} in one and {tuple(part.shape)} in another"
            )
    sizes = [max(part.shape[i] for part in full) for i in range(1, like.ndim)]
    return torch.cat([pad_to(part, sizes, fill) for part in full])


def _join_ports(name: str, ports: Sequence[Port | None], counts: Sequence[int]) -> Port | None:
    tensor = _join_tensors(name, [port and port.tensor for port in ports], counts, absent=0)
    if tensor is None:
        return None
    plain = [port is not None and port.mask is None for port in ports]
    lengths = {port.tensor.shape[1] for port in ports if port is not None and name in SEQUENCES}
    mask = None
    if name in SEQUENCES and not (all(plain) and len(lengths) == 1):
        mask = _join_tensors(name, [port and port.shown() for port in ports], counts, absent=False)
    if all(port is not None and port.keep is None for port in ports):
        return Port(tensor=tensor, mask=mask)
    keep = _join_tensors("global_", [port and port.kept() for port in ports], counts, absent=False)
    return Port(tensor=tensor, mask=mask, keep=keep)


def _join_caches(caches: Sequence[KVCache | None], counts: Sequence[int]) -> KVCache | None:
    held = _join_tensors("cache", [cache and cache.keys_values for cache in caches], counts, absent=0)
    mask = _join_tensors("cache", [cache and cache.mask for cache in caches], counts, absent=False)
    return None if held is None or mask is None else KVCache(keys_values=held, mask=mask)


def _join_weights(weights: Sequence[GuidanceWeight | None], counts: Sequence[int]) -> GuidanceWeight:
    weight = _join_tensors("global_", [part and part.weight for part in weights], counts, absent=1)
    assert weight is not None
    if all(part is None or part.interval is None for part in weights):
        return GuidanceWeight(weight=weight)
    everywhere = GuidanceWeight(weight=weight).intervals()
    intervals = [None if part is None else part.intervals() for part in weights]
    parts = [mine if mine is not None else everywhere[:n] for mine, n in zip(intervals, counts, strict=True)]
    return GuidanceWeight(weight=weight, interval=torch.cat(parts))
