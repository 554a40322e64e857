"""Steps as tables of coefficients.

Every sampler of a Gaussian process is linear in what it knows: x_{k+1} = c_0 x + c_1 D + c_2 (memory) + ... with numbers
that depend on the grid alone. They are computed once, in float64, when a trajectory starts, and travel with the rows as
`grid_table` (b, n, m, [places,] 1, ...), each coefficient shaped to meet x; a step is then one look-up and a few
multiply-adds, however involved the formula.
"""

import torch
from torch import Tensor

from langevin.diffusion.sampler.state import State, pick


def make_table(*columns: Tensor, like: Tensor) -> dict[str, Tensor]:
    """Memory holding coefficients (b, n) or (b, n, places) each, in the type of `like`."""
    table = torch.stack(columns, 2).to(like.dtype)
    return {"grid_table": table.reshape(table.shape + (1,) * (like.ndim + 2 - table.ndim))}


def look_up(state: State, index: Tensor | None = None) -> tuple[Tensor, ...]:
    """The row's coefficients at its place (or at `index`), each (b, [places,] 1, ...), of as many dimensions as x."""
    return pick(state.memory["grid_table"], state.k if index is None else index).unbind(1)
