"""The counters of a training state: what a checkpoint holds beside tensors, as JSON. A file may be from elsewhere."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, FiniteFloat, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError

COUNTERS = ("step", "skipped", "consecutive_skips", "restarts", "samples_seen")
CLOCKED = ("seconds", "elapsed", "evaluating", "recent", "threads")  # measured times: they differ between processes


class _Counters(BaseModel):
    """The JSON types of `TrainingState.counters`."""

    step: NonNegativeInt
    skipped: NonNegativeInt = 0
    consecutive_skips: NonNegativeInt = 0
    restarts: NonNegativeInt = 0
    samples_seen: NonNegativeInt = 0
    seconds: NonNegativeFloat = 0.0
    elapsed: NonNegativeFloat = 0.0
    evaluating: NonNegativeFloat = 0.0
    recent: list[NonNegativeFloat] = []
    threads: PositiveInt | None = None
    plan: list[tuple[NonNegativeInt, PositiveInt]] | None = None
    loss: tuple[FiniteFloat | None, FiniteFloat | None, FiniteFloat | None, FiniteFloat] | None = None
    faults: dict[str, NonNegativeInt] = {}


def checked(counters: Mapping[str, Any]) -> dict[str, Any]:
    """The counters of a checkpoint that it has, of the right types.

    Raises:
        ValueError: they are damaged."""
    try:
        return _Counters.model_validate(counters).model_dump(exclude_unset=True)
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise ValueError(f"the state of the checkpoint is damaged: {where}: {wrong['msg']}") from error
