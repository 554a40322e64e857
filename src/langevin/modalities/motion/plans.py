"""Plans of motion: draws of windows under a data mask, with frames that are given, and projections.

Frames that are given keep their numbers, exactly. A network that was trained with levels per frame (`method.levels`) sees
them at t = 0; for another, guidance by a measurement makes the estimate agree with them. Motions that are longer than the
window of training are drawn by a window that moves along.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.guidance import MMPS
from langevin.diffusion.measurement import Diagonal, Measurement
from langevin.diffusion.sampler.scheduling import Autoregressive, FullSequence
from langevin.diffusion.sampling import Sampling
from langevin.modalities.modality import Draw, Plan, RequestContext, Samples, seeds_of
from langevin.modalities.motion import projector
from langevin.modalities.motion.batches import mask_of, stacked
from langevin.modalities.motion.clip import interpolated
from langevin.modalities.motion.codec import Poses, origin_of
from langevin.modalities.motion.conditions import Said
from langevin.modalities.motion.projector import Projector, Space, Way

if TYPE_CHECKING:
    from langevin.modalities.motion.modality import Motion

EXACT = 0.05  # standard deviation to which guidance makes x agree with given frames
CHUNK = 2  # windows are drawn by halves, where one moves along a longer motion


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """What is given of the motions of a request, the same for all.

    Args:
        values: (frames, columns), of which those between given frames only lead from one to the next; None for nothing.
        known: (frames,) bool, the frames that are given.
        targets: (frames, 3) float64, where the root is to be, NaN where it is free; None anywhere.
        before: (n, columns) frames that come before the motion that is drawn, and stay.
        after: (n, columns) frames that come after it, and stay.
        begun: whether the motions start from `values`, corrupted, and none of them is kept.
    """

    values: Tensor | None = None
    known: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    targets: Tensor | None = None
    before: Tensor | None = None
    after: Tensor | None = None
    begun: bool = False


def between(values: Tensor, frames: Sequence[int], length: int, *, poses: bool) -> Tensor:
    """(length, columns): the given values (n, columns) at `frames`, lines and slerp between, and still before and after."""
    at = torch.tensor(frames, dtype=torch.float64)
    found = interpolated(values, at, torch.arange(length, dtype=torch.float64), skeleton=poses)
    found[list(frames)] = values
    return found


def draw(
    motion: "Motion",
    said: Said,
    lengths: Sequence[int],
    context: RequestContext,
    *,
    given: Given | Sequence[Given] | None = None,
    projectors: Sequence[Projector] | None = None,
    sampling: Sampling | None = None,
) -> Plan:
    """Draw a motion of each length under each condition, and decode it.

    Args:
        given: what is given of all of them, or of each; the root's way is led through targets of the first alone.
        projectors: None takes those of the run.
    """
    each = [given] if isinstance(given, Given) else list(given or [Given()])
    codec, frames = motion.known_codec, padded_frames(motion, max(lengths), context)
    x, known = clean_of(motion, each, frames)
    way = way_of(codec, each[0], frames) if isinstance(codec, Poses) and len(each) == 1 else None
    used: list[Any] = [way] if way is not None else []
    used += motion.projectors if projectors is None else projectors
    space = Space(
        codec=codec, rate=motion.known_rate, system=motion.source, inside=mask_of(lengths, frames, ()),
        given=known.expand(len(lengths), -1),
    )  # fmt: skip
    shared = replace(space, inside=space.inside[:1], given=known if len(known) == 1 else torch.zeros_like(known[:1]))
    request = Draw(
        shape=(codec.channels, frames, *codec.space), seeds=seeds_of(context.seed, len(said)),
        sampling=sampling or context.model.sampling,
        condition=motion.known.port(said, mask_of(lengths, frames, codec.space)),
        wrap=projector.projecting(used, shared, context.model.parts.process),
    )  # fmt: skip
    request = longer(motion, request, frames, context)
    if x is not None and each[0].begun:
        request = replace(request, clean=x.expand(len(said), *x.shape[1:]).contiguous())
    elif x is not None and bool(known.any()):
        request = conditioned(request, x, known, context)
    drawn = yield request
    if x is not None and not each[0].begun:
        drawn = torch.where(known.view(len(known), 1, -1, *(1,) * len(codec.space)), x, drawn)
    drawn = projector.project(drawn, used, space)
    decoded = codec.decode(drawn, motion.known_rate)
    if way is not None and isinstance(codec, Poses):
        origin = way.origins(codec, drawn, motion.known_rate)
        decoded = codec.decode(drawn, motion.known_rate, origin=origin)
    every = each * len(lengths) if len(each) == 1 else each
    values = [finished(row[:n], one) for row, n, one in zip(decoded, lengths, every, strict=True)]
    arrays: dict[str, Tensor] = {"seed": request.seeds}
    if motion.actions:
        arrays["action"] = torch.tensor(said.actions)
    return Samples(
        modality=motion, values=values, names=motion.known.names(said), arrays=arrays,
        sampling=request.sampling if request.sampling != context.model.sampling else None,
    )  # fmt: skip


def clean_of(motion: "Motion", each: Sequence[Given], frames: int) -> tuple[Tensor | None, Tensor]:
    """x (b, channels, frames, ...) of what is given, None of nothing, and which frames are, (b, frames) bool."""
    known = torch.zeros(len(each), frames, dtype=torch.bool)
    for row, one in zip(known, each, strict=True):
        row[: len(one.known)] = one.known
    encoded = [motion.known_codec.encode(one.values, motion.known_rate) for one in each if one.values is not None]
    return stacked(encoded, frames) if encoded else None, known


def finished(values: Tensor, given: Given) -> Tensor:
    """The frames of a motion, with those that are given as they were, and those before and after it."""
    if given.values is not None and not given.begun:
        values = torch.where(given.known[: len(values), None], given.values[: len(values)], values)
    parts = [part for part in (given.before, values, given.after) if part is not None]
    return torch.cat(parts) if len(parts) > 1 else values


def way_of(codec: Poses, given: Given, frames: int) -> Way | None:
    """Where the root is to be: at given targets, and where given poses have it; None anywhere."""
    targets = torch.full((frames, 3), torch.nan, dtype=torch.float64)
    fixed = torch.zeros(frames, dtype=torch.bool)
    if given.targets is not None:
        targets[: len(given.targets)] = given.targets
    if given.values is not None and not given.begun:
        n = len(given.known)
        targets[:n] = torch.where(given.known[:, None], origin_of(codec.known, given.values), targets[:n])
        fixed[:n] = given.known
    return None if bool(targets.isnan().all()) else Way(targets=targets, fixed=fixed)


def padded_frames(motion: "Motion", longest: int, context: RequestContext) -> int:
    """Frames that motions are drawn with: the window of training, or, if they are longer, a multiple of the patch."""
    if longest <= motion.window:
        return motion.window
    sides = getattr(getattr(context.model.parts.network, "config", None), "patch_sides", (1,))
    return -(-longest // sides[0]) * sides[0]


def reads_levels(context: RequestContext) -> bool:
    """Whether the network was trained with a noise level per frame."""
    method: Any = context.model.parts.method
    return bool(getattr(method, "levels", ()))


def longer(motion: "Motion", request: Draw, frames: int, context: RequestContext) -> Draw:
    """The request of motions that are longer than the window of training.

    Raises:
        ValueError: the network was not trained with levels per frame."""
    if frames <= motion.window:
        return request
    if not reads_levels(context):
        raise ValueError(
            f"this run makes motions of up to {(motion.window - 1) / motion.known_rate:.2f} seconds at once, as it was "
            "trained without levels per frame (method.levels): ask for less, or train with them"
        )
    sampling = request.sampling
    if isinstance(sampling.scheduling, FullSequence):
        sampling = replace(sampling, scheduling=Autoregressive(chunk=motion.window // CHUNK))
    return replace(request, sampling=sampling, window=motion.window)


def conditioned(request: Draw, x: Tensor, known: Tensor, context: RequestContext) -> Draw:
    """The request with given frames: at t = 0, or by guidance for a network without levels per frame."""
    b = len(request.seeds)
    every = x.expand(b, *x.shape[1:]).contiguous()  # of each, or one for all
    if reads_levels(context):
        return replace(request, known=known.expand(b, -1), clean=every)
    weight = known.view(len(known), 1, -1, *(1,) * (x.ndim - 3)).to(x).expand_as(every).contiguous()
    measurement = Measurement(
        operator=Diagonal(weight=weight), y=weight * every, noise=torch.full((b,), EXACT), shape=tuple(x.shape[1:])
    )
    sampling = replace(request.sampling, guidance=(*request.sampling.guidance, MMPS()))
    condition = replace(request.condition or Condition(), measurement=measurement)
    return replace(request, sampling=sampling, condition=condition)
