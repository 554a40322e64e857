"""Where float64 is computed.

Times, noise and coefficients are float64, which some accelerators (Apple's GPUs) do not support. For data on such a device
they are computed on the CPU, and cast to float32 for the data: `value.to(x)`. On all other devices they are computed on the
device of the data, without a copy.
"""

import torch
from torch import Tensor

LACKING = frozenset({"mps"})  # device types without float64


def float64_device(device: torch.device) -> torch.device:
    """`device`, or the CPU if it does not support float64."""
    return torch.device("cpu") if device.type in LACKING else device


def to_float64(x: Tensor) -> Tensor:
    """x in float64 on `float64_device(x.device)`; differentiable."""
    return x.double() if x.device.type not in LACKING else x.to("cpu", torch.float64)
