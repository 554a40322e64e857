"""Withholding conditions in training, so that the network also learns what it predicts without them, for guidance."""

from torch import Tensor

from langevin.diffusion.batch import StepRandomness
from langevin.diffusion.condition import Condition


def with_dropout(condition: Condition | None, x: Tensor, draw: StepRandomness, probability: float) -> Condition | None:
    """The condition of x (b, ...), withheld from each sample with a probability, by the randomness of the step."""
    if condition is None or not probability:
        return condition
    u = draw.noise.fork(1).uniform(x.new_empty(len(x), 1))[:, 0]
    return condition.only((u >= probability).to(x.device))


def require_probability(name: str, dropout: float) -> None:
    """Check a probability of dropout. Raises `ValueError`."""
    if not 0 <= dropout < 1:
        raise ValueError(f"method.{name} must be a probability below 1, got {dropout}")
