"""Cheaper ways to draw from a trained network, each at some cost in quality that `langevin evaluate RUN --light` measures.

Two store the weights in fewer bytes, one computes the deep layers less often, one leaves guidance out where it changes
nothing. They are chosen by `sampling.light`, and can be combined.
"""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class BF16Weights:
    """Weights are stored in bf16, in half the bytes, and computed with as before."""

    kind: Literal["bf16"] = "bf16"


@dataclass(frozen=True, kw_only=True)
class Int8Weights:
    """Weights are stored as int8 with a scale per output channel, in a quarter of the bytes: w = scale q, |q| <= 127.

    Args:
        products: what matrix products are of. float: of weights that are scaled when they are used. int8: of int8 weights
            and inputs, which are rounded to int8 with a scale per position, summed in int32; convolutions stay float.
    """

    kind: Literal["int8"] = "int8"
    products: Literal["float", "int8"] = "float"


@dataclass(frozen=True, kw_only=True)
class FeatureCache:
    """What the deep layers computed for a sample is used again for some evaluations ("DeepCache: Accelerating Diffusion
    Models for Free", 2023, arXiv:2312.00858; of a transformer what the middle blocks add, as in "Delta-DiT: A Training-Free
    Acceleration Method Tailored for Diffusion Transformers", 2024, arXiv:2406.01125).

    Args:
        interval: the deep layers are computed for every `interval`-th evaluation of a sample; 1 is always.
        moved: they are computed too if the log-SNR (of tokens, the logit of t) has moved by more since; None is never.
        shallow: blocks at either end of a transformer, or levels of a U-Net, the finest ones, that are always computed.

    Raises:
        ValueError: a number out of range.
    """

    kind: Literal["cache"] = "cache"
    interval: int = 2
    moved: float | None = None
    shallow: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.interval <= 10_000 or self.shallow < 1:
            raise ValueError(
                f"a cache takes an interval of 1 (always computed) to 10000 and at least 1 shallow layer, got "
                f"{self.interval} and {self.shallow}: leave it out to compute everything"
            )
        if self.moved is not None and not 0 < self.moved < math.inf:
            raise ValueError(f"`moved` of a cache is a positive change of log-SNR, got {self.moved}")


@dataclass(frozen=True, kw_only=True)
class GuidanceInterval:
    """Guidance by a condition is left out at noise levels where it hardly changes the estimate of the clean sample
    ("Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models", 2024,
    arXiv:2404.07724).

    Args:
        tolerance: the change below which it is left out: root mean square, over the standard deviation of the data. It is
            measured on samples of the run, once.

    Raises:
        ValueError: a tolerance that is negative or not finite.
    """

    kind: Literal["guidance"] = "guidance"
    tolerance: float = 0.02

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < math.inf:
            raise ValueError(f"the tolerance of guidance is a finite number of at least 0, got {self.tolerance}")


AnyLight = BF16Weights | Int8Weights | FeatureCache | GuidanceInterval
Storage = BF16Weights | Int8Weights
