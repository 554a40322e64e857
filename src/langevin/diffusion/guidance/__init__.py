"""Guidance: denoisers that wrap a denoiser. Each method is a file with a frozen configuration with `kind` and `wrap`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance.autoguidance import Autoguidance, Autoguided
from langevin.diffusion.guidance.box import Box, Boxed
from langevin.diffusion.guidance.classifier_free import ClassifierFree, ClassifierFreeGuidance
from langevin.diffusion.guidance.composition import Composed, Composition
from langevin.diffusion.guidance.ddnm import DDNM
from langevin.diffusion.guidance.dps import DPS
from langevin.diffusion.guidance.energy import EnergyGuided
from langevin.diffusion.guidance.history import HistoryGuidance, HistoryGuided, StabilisationGuidance, Stabilised
from langevin.diffusion.guidance.logits import CopyMask, VocabularyMask
from langevin.diffusion.guidance.method import Guidance, Models, OtherModel, uniform_weights
from langevin.diffusion.guidance.mmps import MMPS
from langevin.diffusion.guidance.parts import PartsGuidance, PartsGuided
from langevin.diffusion.guidance.pigdm import PiGDM
from langevin.diffusion.guidance.projected import ProjectedGuidance
from langevin.diffusion.guidance.prompt import PromptGuidance, PromptGuided
from langevin.diffusion.guidance.rescaled import RescaledGuidance
from langevin.diffusion.guidance.zero_star import ZeroStarGuidance
from langevin.diffusion.posterior import Prediction

__all__ = [
    "DDNM", "DPS", "MMPS", "AnyGuidance", "AnyMeasured", "Autoguidance", "Autoguided", "Box", "Boxed", "ByCondition",
    "ClassifierFree", "ClassifierFreeGuidance", "Composed", "Composition", "CopyMask", "EnergyGuided", "Guidance",
    "HistoryGuidance", "HistoryGuided", "Models", "OtherModel", "PartsGuidance",
    "PartsGuided", "PiGDM", "ProjectedGuidance", "PromptGuidance", "PromptGuided", "RescaledGuidance",
    "StabilisationGuidance", "Stabilised", "VocabularyMask", "ZeroStarGuidance", "active", "guide", "self_contained",
    "weight_of", "weighted", "with_weight",
]  # fmt: skip

# with and without the condition in one call; `weight_of` and `--guidance` are about these
ByCondition = (
    ClassifierFreeGuidance | ProjectedGuidance | RescaledGuidance | ZeroStarGuidance | PromptGuidance | PartsGuidance
)
AnyMeasured = MMPS | PiGDM | DDNM | DPS  # by a measurement
AnyGuidance = ByCondition | HistoryGuidance | StabilisationGuidance | Composition | Autoguidance | AnyMeasured | Box


def guide(
    denoiser: Denoiser[Prediction], guidance: Sequence[AnyGuidance], *, process: Any, models: Models
) -> Denoiser[Prediction]:
    """The denoiser wrapped in every method, the last one outermost; raises as `Guidance.wrap`."""
    for method in guidance:
        denoiser = method.wrap(denoiser, process=process, models=models)
    return denoiser


def weighted(
    condition: Condition | None, guidance: Sequence[AnyGuidance], count: int, device: torch.device | None = None
) -> Condition | None:
    """The condition of `count` samples with the configured weights of the methods; None without condition and methods."""
    if not guidance:
        return condition
    return replace(condition or Condition(), guidance={g.kind: uniform_weights(g, count, device) for g in guidance})


def active(guidance: Sequence[AnyGuidance]) -> tuple[AnyGuidance, ...]:
    """The methods whose weight is not neutral."""
    return tuple(method for method in guidance if method.weight != method.neutral)


def self_contained(guidance: Sequence[AnyGuidance]) -> tuple[AnyGuidance, ...]:
    """The methods that need no other model, and so work during training."""
    return tuple(method for method in guidance if not isinstance(method, Autoguidance))


def weight_of(guidance: Sequence[AnyGuidance]) -> float:
    """The weight of guidance by a condition, a prompt or given parts; 1 without."""
    return next((g.weight for g in guidance if isinstance(g, ByCondition)), 1.0)


def with_weight(
    guidance: Sequence[AnyGuidance],
    weight: float,
    *,
    kind: Literal["classifier_free", "prompt", "parts"] = "classifier_free",
) -> tuple[AnyGuidance, ...]:
    """The methods with another weight of guidance by a condition, a prompt or given parts; without any, `kind` is added in
    front."""
    if any(isinstance(method, ByCondition) for method in guidance):
        return tuple(replace(m, weight=weight) if isinstance(m, ByCondition) else m for m in guidance)
    more: ByCondition
    match kind:
        case "prompt":
            more = PromptGuidance(weight=weight)
        case "parts":
            more = PartsGuidance(weight=weight)
        case "classifier_free":
            more = ClassifierFreeGuidance(weight=weight)
    return (more, *guidance)
