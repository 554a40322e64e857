"""Guidance: denoisers that hold denoisers; one file a method."""

from langevin.diffusion.guidance.classifier_free import ClassifierFree

__all__ = ["ClassifierFree"]
