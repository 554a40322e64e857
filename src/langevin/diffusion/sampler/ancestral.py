"""Ancestral sampling: x_s ~ p(x_s | x_t, posterior), for every process ("Denoising Diffusion Probabilistic Models")."""

from dataclasses import dataclass
from typing import Any, Literal

from langevin.diffusion.process.terms import Process
from langevin.diffusion.sampler.state import State


@dataclass(frozen=True, kw_only=True)
class Ancestral:
    """One draw from the process's own backward transition a step; converges in law, to first order.

    For a Gaussian process `DDIM(eta=1)` is the same draw from a table of coefficients, and cheaper."""

    process: Process
    kind: Literal["ancestral"] = "ancestral"

    @property
    def order(self) -> int | None:
        return None

    def begin(self, state: State) -> State:
        return state

    def update(self, state: State, q: Any) -> State:
        return state.advance(self.process.transition(q, state.x, state.time(), state.time(1), state.noise))
