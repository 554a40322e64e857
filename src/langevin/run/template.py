"""A request under conditions of the training data, whose parts are then changed."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from langevin.diffusion.condition import class_labels
from langevin.diffusion.shape import leaves
from langevin.modalities.modality import Draw, RequestContext
from langevin.run.generate import RunModel
from langevin.run.refine import recorded


def template_of(model: RunModel, data: Any, count: int, seed: int, *, what: str, parts: bool = False) -> Draw:
    """A request of `count` samples under conditions of the data; fewer where labels are missing, which are left out.

    Args:
        what: needs it, for the message.
        parts: whether data in parts will do.

    Raises:
        ValueError: samples that are not drawn at once, or of several sizes."""
    kept = list[tuple[Any, Any]]()
    two = RequestContext(model=model, data=lambda: (data, data), count=2, seed=seed, batch=2)
    model.run(recorded(model.modality.plan_like(data, two), kept))
    plan = model.modality.plan_like(data, replace(two, count=count, batch=count))
    request = next(plan)
    plan.close()
    whole = len(kept) == 1 and isinstance(request, Draw) and request.model == "run"
    if not whole or not (parts or isinstance(request.shape, tuple)) or given(request.known):
        raise ValueError(f"{what} needs samples that are drawn at once, and those of {model.modality.kind} are not")
    if len(request.seeds) != count:
        raise ValueError(f"{what} needs samples of one size, and this run has several (data.buckets)")
    request, condition = replace(request, known=None), request.condition
    if condition is None or condition.global_ is None:
        return request
    labelled = (class_labels(condition.global_) >= 0).nonzero()[:, 0]
    return selected(request, labelled, request.seeds[labelled])


def given(known: Any) -> bool:
    """Whether any position of the data is given."""
    return known is not None and any(bool(leaf.any()) for leaf in leaves(known))


def selected(request: Draw, index: Tensor, seeds: Tensor) -> Draw:
    """A request of other seeds, each with the condition and the start of the sample `index` of one."""
    return replace(
        request, seeds=seeds, condition=None if request.condition is None else request.condition.select(index),
        x=None if request.x is None else request.x[index], known=None if request.known is None else request.known[index],
    )  # fmt: skip
