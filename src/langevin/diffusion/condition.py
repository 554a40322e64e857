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
tokens of a corrupted source, the clean copy of a text, the KV cache of earlier text. Guidance reads the weights and the
reference.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from langevin.diffusion.float64 import float64_device
from langevin.diffusion.posterior import Index

# the five ports; two of them have a field for each form
PORTS = ("global_", "global_vector", "cross", "cross_vectors", "prepend", "concat", "aligned")
SEQUENCES = ("cross", "cross_vectors", "prepend", "aligned")  # ports that have a mask
FACTS = ("data_mask", "source", "clean", "cache")  # other fields that a network reads
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
        return torch.ones(len(self.tensor), dtype=torch.bool, device=self.tensor.device)

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
class Condition:
    """The ports, the facts about the data, and what guidance needs; None is absent.

    Args:
        global_, global_vector, cross, cross_vectors, prepend, concat, aligned: the ports, see the module.
        data_mask: (b, *space) bool, the positions of x that hold data; False is padding.
        prompt: (b, positions) bool, the positions of x that hold the prompt, which `PromptGuidance` hides.
        source: (b, streams, positions) int64, the tokens of a corrupted text and of alternative readings of it, aligned
            with x; -1 where there is none.
        clean: (b, positions) int64, the clean copy of the text, for block diffusion; -1 where there is none.
        cache: keys and values of the text before x, for block diffusion.
        guidance: the weights of each guidance method, by its kind; a method without weights does not guide.
        reference: the ports of the guidance reference, a negative condition; ports that it lacks are withheld. None is the
            unconditional reference.

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
    source: Tensor | None = None
    clean: Tensor | None = None
    cache: KVCache | None = None
    guidance: Mapping[str, GuidanceWeight] = field(default_factory=dict[str, GuidanceWeight])
    reference: "Condition | None" = None

    def __post_init__(self) -> None:
        other = self.reference
        rest = (*FACTS, "prompt", "reference")
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
        return self.map(lambda tensor: tensor[index])

    def only(self, keep: Tensor) -> "Condition":
        """Every port withheld from the samples where `keep` (b,) bool is False; the facts stay."""
        return replace(self, **{name: port.only(keep) for name, port in self.ports.items()})

    def dropped(self) -> "Condition":
        """Every port withheld from every sample: the unconditional input."""
        return replace(self, **{name: port.only(torch.zeros_like(port.kept())) for name, port in self.ports.items()})

    def unguided(self) -> "Condition":
        """The condition without guidance weights and reference."""
        return replace(self, guidance={}, reference=None)

    def compared(self) -> "Condition":
        """The condition of the guidance reference: `reference` if given, else this one with every port withheld."""
        if self.reference is None:
            return self.dropped().unguided()
        return replace(self, **{name: getattr(self.reference, name) for name in PORTS}).unguided()

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


def join(first: Condition, second: Condition) -> Condition:
    """The samples of `first`, then those of `second`, so that different requests to one model can share a batch.

    Sequences and spaces of different sizes are padded at their end, with a mask. A port that one side lacks is withheld
    there. A missing weight is 1, a missing interval all noise levels, a missing data mask all positions of the other's
    space (so samples of different sizes need masks on both sides), a missing reference the condition with its ports
    withheld.

    Raises:
        ValueError: widths or channels differ, or one side is empty, so that its number of samples is not known.
    """
    one, two = first.count, second.count
    if one is None and two is None:
        return first
    if one is None or two is None:
        raise ValueError(
            "cannot join conditions: one of them is empty, so its number of samples is not known; give it a port with "
            "keep False, or a guidance weight of 1"
        )
    return _join(first, second, (one, two))


def _join(first: Condition, second: Condition, counts: tuple[int, int]) -> Condition:
    """`join`, given the numbers of samples."""
    parts: dict[str, Any] = {
        name: _join_ports(name, getattr(first, name), getattr(second, name), counts) for name in PORTS
    }
    for name, fill in (("data_mask", True), ("prompt", False), ("source", NOTHING), ("clean", NOTHING)):
        parts[name] = _join_tensors(name, getattr(first, name), getattr(second, name), counts, absent=fill)
    parts["cache"] = _join_caches(first.cache, second.cache, counts)
    kinds = dict.fromkeys((*first.guidance, *second.guidance))
    parts["guidance"] = {k: _join_weights(first.guidance.get(k), second.guidance.get(k), counts) for k in kinds}
    if first.reference is not None or second.reference is not None:
        one, two = (Condition(**side.compared().ports) for side in (first, second))  # type: ignore[arg-type]
        parts["reference"] = _join(one, two, counts)
    return Condition(**parts)


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """`function` on every tensor of a nested dataclass or mapping; None stays None."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        return function(value)
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
    if name in ("concat", "source"):
        return range(2, tensor.ndim)
    return range(1, tensor.ndim) if name == "data_mask" else range(1, 2)


def _join_tensors(
    name: str, a: Tensor | None, b: Tensor | None, counts: tuple[int, int], *, absent: float, fill: float | None = None
) -> Tensor | None:
    """a and b concatenated along the batch; the shorter is padded with `fill`, a missing one filled with `absent`."""
    if a is None and b is None:
        return None
    fill = (0 if name == "data_mask" else absent) if fill is None else fill
    like = b if a is None else a
    assert like is not None
    a, b = (
        torch.full((n, *like.shape[1:]), absent, dtype=like.dtype, device=like.device) if part is None else part
        for part, n in ((a, counts[0]), (b, counts[1]))
    )
    free = _padded_dimensions(name, a)
    if a.ndim != b.ndim or any(
        m != n for i, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)) if i and i not in free
    ):
        raise ValueError(
            f"cannot join conditions: '{name}' is {tuple(a.shape)} in one and {tuple(b.shape)} in the other"
        )
    sizes = [max(m, n) for m, n in zip(a.shape[1:], b.shape[1:], strict=True)]
    return torch.cat([pad_to(a, sizes, fill), pad_to(b, sizes, fill)])


def _join_ports(name: str, a: Port | None, b: Port | None, counts: tuple[int, int]) -> Port | None:
    tensor = _join_tensors(name, a and a.tensor, b and b.tensor, counts, absent=0)
    if tensor is None:
        return None
    unpadded = a is not None and b is not None and a.mask is None and b.mask is None
    mask = None
    if name in SEQUENCES and not (unpadded and a.tensor.shape[1] == b.tensor.shape[1]):  # type: ignore[union-attr]
        mask = _join_tensors(name, a and a.shown(), b and b.shown(), counts, absent=False)
    if a is not None and b is not None and a.keep is None and b.keep is None:
        return Port(tensor=tensor, mask=mask)
    keep = _join_tensors("global_", a and a.kept(), b and b.kept(), counts, absent=False)
    return Port(tensor=tensor, mask=mask, keep=keep)


def _join_caches(a: KVCache | None, b: KVCache | None, counts: tuple[int, int]) -> KVCache | None:
    held = _join_tensors("cache", a and a.keys_values, b and b.keys_values, counts, absent=0)
    mask = _join_tensors("cache", a and a.mask, b and b.mask, counts, absent=False)
    return None if held is None or mask is None else KVCache(keys_values=held, mask=mask)


def _join_weights(a: GuidanceWeight | None, b: GuidanceWeight | None, counts: tuple[int, int]) -> GuidanceWeight:
    weight = _join_tensors("global_", a and a.weight, b and b.weight, counts, absent=1)
    assert weight is not None
    if (a is None or a.interval is None) and (b is None or b.interval is None):
        return GuidanceWeight(weight=weight)
    one, two = (
        GuidanceWeight(weight=torch.ones(n, dtype=weight.dtype, device=weight.device)) if part is None else part
        for part, n in ((a, counts[0]), (b, counts[1]))
    )
    return GuidanceWeight(weight=weight, interval=torch.cat([one.intervals(), two.intervals()]))
