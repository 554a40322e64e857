"""Guidance: denoisers that hold denoisers; one file a method."""

from langevin.diffusion.guidance.classifier_free import ClassifierFree
from langevin.diffusion.guidance.prompt import Prompted, Reluctant, Within

__all__ = ["ClassifierFree", "Prompted", "Reluctant", "Within"]
