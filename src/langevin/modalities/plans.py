"""A plan that any modality can use: one draw, decoded."""

from typing import Any

from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.sampling import Sampling
from langevin.modalities.modality import Draw, Plan, Samples, Table


def one_draw(
    modality: Any,
    *,
    shape: tuple[int, ...],
    seeds: Tensor,
    sampling: Sampling,
    condition: Condition | None = None,
    names: tuple[str, ...] = (),
    columns: int | None = None,
    table: Table | None = None,
    arrays: dict[str, Tensor] | None = None,
) -> Plan:
    """Draw one sample per seed of `seeds` (n,) and decode it; the other arguments are those of `Draw` and `Samples`."""
    x = yield Draw(shape=shape, seeds=seeds, sampling=sampling, condition=condition)
    return Samples(
        modality=modality, values=modality.decode(x), names=names, columns=columns, table=table,
        arrays={"seed": seeds, **(arrays or {})},
    )  # fmt: skip
