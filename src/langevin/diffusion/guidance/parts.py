"""Guidance by the parts of a product that are clean, such as a caption that is given:

    D_1 + w (D - D_1),     D_1: the prediction where these parts are noise, at time 1

which is classifier-free guidance with some parts as the condition of the others ("One Transformer Fits All Distributions in
Multi-Modal Diffusion at Scale", 2023, arXiv 2303.06555). A network that was trained with a level per part needs no more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition, join
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance.method import Models, require_usual, weight_at
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import Joint, Prediction
from langevin.diffusion.process.product import Product
from langevin.diffusion.shape import append_dims, part_of, tree_map


@dataclass(frozen=True, kw_only=True)
class PartsGuidance:
    """Guidance by clean parts, see the module; for a network trained with `method.levels` of streams.

    Args:
        weight: w; 1 is the prediction itself, 0 the one without the clean parts.

    Raises:
        ValueError: a weight that is not finite.
    """

    kind: Literal["parts"] = "parts"
    weight: float

    def __post_init__(self) -> None:
        require_usual(self.weight)

    @property
    def neutral(self) -> float:
        return 1.0

    def wrap(self, denoiser: Denoiser[Prediction], *, process: Any, models: Models) -> "PartsGuided":
        """See `Guidance.wrap`; samples without a clean part are not guided."""
        if not isinstance(process, Product):
            name = getattr(process, "kind", type(process).__name__)
            raise ValueError(f"parts guides some parts of the data by others, and this process is {name}")
        return PartsGuided(denoiser=denoiser, process=process)


@dataclass(frozen=True, kw_only=True)
class PartsGuided:
    """`denoiser` guided by `condition.guidance["parts"]`.

    Raises:
        ValueError: (when called) a weight that is not finite, or an interval.
    """

    denoiser: Denoiser[Prediction]
    process: Product

    def __call__(self, x_t: Mapping[str, Tensor], t: Any, condition: Condition | None = None) -> Prediction:
        guidance = None if condition is None else condition.guidance.get("parts")
        if condition is None or guidance is None:
            return self.denoiser(x_t, t, condition)
        times = {name: part_of(t, name) for name in x_t}
        clean = {name: (time == 0).reshape(len(time), -1).all(1) for name, time in times.items()}
        weight = weight_at(guidance, torch.zeros(len(guidance.weight), dtype=torch.float64), None)
        if weight is None or not any(bool(part.any()) for part in clean.values()):
            return self.denoiser(x_t, t, condition)
        nothing = torch.zeros(len(weight), dtype=torch.int64, device=guidance.weight.device)
        prior = self.process.prior(x_t, SampleNoise(seeds=nothing, steps=nothing))
        noised = {
            name: torch.where(append_dims(clean[name], x).to(x.device), prior[name], x) for name, x in x_t.items()
        }
        late = {name: torch.where(append_dims(clean[name], time), 1.0, time) for name, time in times.items()}

        def both(a: Tensor, b: Tensor) -> Tensor:
            return torch.cat([a, b])

        inside = condition.inside("parts")
        of_parts: Any = self.denoiser
        found = of_parts(tree_map(both, dict(x_t), noised), tree_map(both, times, late), join(inside, inside))
        q, without = found.select(slice(len(weight))), found.select(slice(len(weight), None))
        strength = {name: torch.where(part, 1.0, weight) for name, part in clean.items()}  # what is given stays
        return Joint({n: part.extrapolate_from(without.parts[n], strength[n]) for n, part in q.parts.items()})
