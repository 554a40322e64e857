"""Guidance by a prompt that is part of the data:

    ln p = w ln p(. | prompt) + (1 - w) ln p(. | prompt masked), per position.

This is classifier-free guidance without condition dropout: training a masked model already includes masked prompts, if some
samples mask all positions
("Large Language Diffusion Models", 2025, arXiv:2502.09992).
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance.method import Models, require_usual, weight_at, with_reference
from langevin.diffusion.posterior import Prediction
from langevin.diffusion.process.gidd import GIDD
from langevin.diffusion.process.masked import Masked


@dataclass(frozen=True, kw_only=True)
class PromptGuidance:
    """Guidance by the prompt, see the module.

    Args:
        weight: w; 1 is the prediction given the prompt, 0 the one without it.

    Raises:
        ValueError: a weight that is not finite.
    """

    kind: Literal["prompt"] = "prompt"
    weight: float

    def __post_init__(self) -> None:
        require_usual(self.weight)

    @property
    def neutral(self) -> float:
        return 1.0

    def wrap(self, denoiser: Denoiser[Prediction], *, process: Any, models: Models) -> "PromptGuided":
        """See `Guidance.wrap`; needs a process with a mask token."""
        if not isinstance(process, Masked | GIDD):
            raise ValueError(
                f"prompt guidance masks the prompt, and a {getattr(process, 'kind', type(process).__name__)} process has "
                "no mask: it needs process.kind masked or hybrid"
            )
        return PromptGuided(denoiser=denoiser, mask=process.mask)


@dataclass(frozen=True, kw_only=True)
class PromptGuided:
    """`denoiser` guided by `condition.guidance["prompt"]`; the prompt is at the positions of `condition.prompt`.

    The reference has the same condition, and the prompt masked.

    Args:
        mask: the token id of the mask.

    Raises:
        ValueError: (when called) a weight that is not finite, or a `condition.reference`.
    """

    denoiser: Denoiser[Prediction]
    mask: int

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Prediction:
        guidance = None if condition is None else condition.guidance.get("prompt")
        if condition is None or guidance is None or condition.prompt is None:
            return self.denoiser(x_t, t, condition)
        if condition.reference is not None:
            raise ValueError(
                "prompt guidance takes no reference condition, its reference is the masked prompt: use classifier_free"
            )
        weight = weight_at(guidance, t, None)
        if weight is None:
            return self.denoiser(x_t, t, condition)
        hidden = torch.where(condition.prompt & (x_t < self.mask), self.mask, x_t)

        def second(guided: Tensor) -> tuple[Tensor, Condition]:
            return hidden[guided], condition.select(guided).unguided()

        q, reference = with_reference(self.denoiser, x_t, t, condition.unguided(), weight, second)
        return q.extrapolate_from(reference, weight)
