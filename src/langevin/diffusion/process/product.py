"""A product of processes over named parts of the data, such as images with captions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from langevin.diffusion.noise import Noise
from langevin.diffusion.posterior import Joint
from langevin.diffusion.process.terms import Bounded, Terms
from langevin.diffusion.schedule import AnySchedule, Rectified
from langevin.diffusion.shape import Data, part_of

Parts = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Product:
    """q(x_t | x) = prod_i q_i(x_t^i | x^i): independent processes on the named parts of x.

    The time t is shared by all parts, (b,), or a mapping by part, each (b,) or (b, positions): then some parts, or some
    positions, may be clean while others are noise.

    The denoiser predicts a `Joint` posterior from all parts together. The bound is the sum of the bounds of the parts.

    Args:
        parts: the process of each part, by name.
        schedule: of the common time, in whose noise levels grids and densities of training times are given.
    """

    kind: Literal["product"] = "product"
    parts: Mapping[str, Bounded]
    schedule: AnySchedule = Rectified()

    def prior(self, like: Parts, noise: Noise, t: Data | None = None) -> dict[str, Any]:
        return {
            name: part.prior(like[name], noise.fork(i), None if t is None else part_of(t, name))
            for i, (name, part) in enumerate(self.parts.items())
        }

    def corrupt(self, x: Parts, t: Data, noise: Noise, known: Parts | None = None) -> dict[str, Any]:
        """Each part corrupted by its own process; `known` may lack parts."""
        fixed = known or {}
        return {
            name: part.corrupt(x[name], part_of(t, name), noise.fork(i), fixed.get(name))
            for i, (name, part) in enumerate(self.parts.items())
        }

    def transition(self, q: Joint, x_t: Parts, t: Data, s: Data, noise: Noise) -> dict[str, Any]:
        return {
            name: part.transition(q.parts[name], x_t[name], part_of(t, name), part_of(s, name), noise.fork(i))
            for i, (name, part) in enumerate(self.parts.items())
        }

    def bound(self, q: Joint, x: Parts, x_t: Parts, t: Data) -> Terms:
        """Terms as mappings by part."""
        terms = {
            name: part.bound(q.parts[name], x[name], x_t[name], part_of(t, name)) for name, part in self.parts.items()
        }
        return Terms(
            prior={name: term.prior for name, term in terms.items()},
            diffusion={name: term.diffusion for name, term in terms.items()},
            reconstruction={name: term.reconstruction for name, term in terms.items()},
        )
