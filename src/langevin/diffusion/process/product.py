"""A product of processes over named parts of the data, such as images with captions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from langevin.diffusion.noise import Noise
from langevin.diffusion.posterior import Joint
from langevin.diffusion.process.terms import Bounded, Terms

Parts = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Product:
    """q(x_t | x) = prod_i q_i(x_t^i | x^i): independent processes on the named parts of x, at the same time t.

    The denoiser predicts a `Joint` posterior from all parts together. The bound is the sum of the bounds of the parts.

    Args:
        parts: the process of each part, by name.
    """

    parts: Mapping[str, Bounded]

    def prior(self, like: Parts, noise: Noise, t: Tensor | None = None) -> dict[str, Any]:
        return {name: part.prior(like[name], noise.fork(i), t) for i, (name, part) in enumerate(self.parts.items())}

    def corrupt(self, x: Parts, t: Tensor, noise: Noise, known: Parts | None = None) -> dict[str, Any]:
        """Each part corrupted by its own process; `known` may lack parts."""
        fixed = known or {}
        return {
            name: part.corrupt(x[name], t, noise.fork(i), fixed.get(name))
            for i, (name, part) in enumerate(self.parts.items())
        }

    def transition(self, q: Joint, x_t: Parts, t: Tensor, s: Tensor, noise: Noise) -> dict[str, Any]:
        return {
            name: part.transition(q.parts[name], x_t[name], t, s, noise.fork(i))
            for i, (name, part) in enumerate(self.parts.items())
        }

    def bound(self, q: Joint, x: Parts, x_t: Parts, t: Tensor) -> Terms:
        """Terms as mappings by part."""
        terms = {name: part.bound(q.parts[name], x[name], x_t[name], t) for name, part in self.parts.items()}
        return Terms(
            prior={name: term.prior for name, term in terms.items()},
            diffusion={name: term.diffusion for name, term in terms.items()},
            reconstruction={name: term.reconstruction for name, term in terms.items()},
        )
