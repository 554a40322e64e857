"""Ancestral sampling with the reverse transition of the process, x_s ~ p(x_s | x_t)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.process.gidd import GIDD, UniformDiffusion
from langevin.diffusion.process.masked import Masked
from langevin.diffusion.process.product import Product
from langevin.diffusion.process.terms import Process
from langevin.diffusion.sampler.state import Processes, State
from langevin.diffusion.sampler.tokens import PLAIN, TokenSampling


@dataclass(frozen=True, kw_only=True)
class Ancestral:
    """One draw from the reverse transition of the process per step; converges in distribution, to first order:

        x_s ~ p(x_s | x_t) = E_{x ~ q(x | x_t)} p(x_s | x_t, x)

    ("Denoising Diffusion Probabilistic Models", 2020, arXiv:2006.11239; "Structured Denoising Diffusion Models in Discrete
    State-Spaces", 2021, arXiv:2107.03006). For a Gaussian process `DDIM(eta=1)` draws the same. For a masked
    process `AncestralUnmask` has the same distribution in fewer function evaluations.

    Args:
        tokens: temperature and top-p, for a process of tokens.
    """

    kind: Literal["ancestral"] = "ancestral"
    tokens: TokenSampling = PLAIN
    processes: ClassVar[Processes] = (Gaussian, Masked, UniformDiffusion, GIDD, Product)

    @property
    def convergence_order(self) -> int | None:
        return None

    def begin(self, state: State, process: Process) -> State:
        if not self.tokens.neutral and not isinstance(process, Masked | UniformDiffusion | GIDD):
            raise ValueError("temperature and top_p are for processes of tokens: leave them out for this one")
        return state

    def update(self, state: State, q: Any, process: Process) -> State:
        q = q if self.tokens.neutral else self.tokens.of(q)
        return state.advance(process.transition(q, state.x, state.time(), state.time(1), state.noise))
