"""A product of processes over named parts of the data: mixed tables, pictures with captions, several streams at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from langevin.diffusion.noise import Noise
from langevin.diffusion.posterior import Joint
from langevin.diffusion.process.terms import Process, Terms

Parts = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Product:
    """Independent processes on the parts of x, on one clock; what joins them is the denoiser's `Joint` posterior."""

    parts: Mapping[str, Process]

    def prior(self, like: Parts, noise: Noise, t: Tensor | None = None) -> dict[str, Any]:
        return {name: part.prior(like[name], noise.fork(i), t) for i, (name, part) in enumerate(self.parts.items())}

    def corrupt(self, x: Parts, t: Tensor, noise: Noise, known: Parts | None = None) -> dict[str, Any]:
        """Each part by its own process; `known` may name only some of them."""
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
        """Terms whose members are mappings by part."""
        terms = {name: part.bound(q.parts[name], x[name], x_t[name], t) for name, part in self.parts.items()}
        return Terms(
            prior={name: term.prior for name, term in terms.items()},
            diffusion={name: term.diffusion for name, term in terms.items()},
            reconstruction={name: term.reconstruction for name, term in terms.items()},
        )
