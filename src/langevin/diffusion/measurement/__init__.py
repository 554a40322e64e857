"""Measurements: what was seen of a sample, y = h(A x) + noise. `operator` has A and its adjoint, `nonlinear` has h, and
`measurement` the object that all methods of restoration share. `kinds` builds the usual ones."""

from langevin.diffusion.measurement.measurement import Measurement, join_measurements, mapped
from langevin.diffusion.measurement.nonlinear import AnyNonlinearity, Clip, Round, Spectrogram
from langevin.diffusion.measurement.operator import (
    AnyOperator,
    BlockCosines,
    Chain,
    Channels,
    Diagonal,
    Frequencies,
    Function,
    Mask,
    Matrix,
    Operator,
    Separable,
    require_adjoint,
)

__all__ = [
    "AnyNonlinearity", "AnyOperator", "BlockCosines", "Chain", "Channels", "Clip", "Diagonal", "Frequencies", "Function",
    "Mask", "Matrix", "Measurement", "Operator", "Round", "Separable", "Spectrogram", "join_measurements", "mapped",
    "require_adjoint",
]  # fmt: skip
