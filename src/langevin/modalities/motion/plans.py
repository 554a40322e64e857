"""Plans of motion: draws of windows under a data mask."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langevin.modalities.modality import Draw, Plan, RequestContext, Samples, seeds_of
from langevin.modalities.motion.batches import mask_of
from langevin.modalities.motion.conditions import Said

if TYPE_CHECKING:
    from langevin.modalities.motion.modality import Motion


def draw(motion: "Motion", said: Said, lengths: Sequence[int], context: RequestContext) -> Plan:
    """Draw a motion of each length under each condition, and decode it."""
    window, space = motion.window, motion.codec.space
    seeds = seeds_of(context.seed, len(said))
    condition = motion.known.port(said, mask_of(lengths, window, space))
    shape = (motion.codec.channels, window, *space)
    x = yield Draw(shape=shape, seeds=seeds, sampling=context.model.sampling, condition=condition)
    values = [row[: lengths[i]] for i, row in enumerate(motion.decode(x))]
    arrays: dict[str, Tensor] = {"seed": seeds}
    if motion.actions:
        arrays["action"] = torch.tensor(said.actions)
    return Samples(modality=motion, values=values, names=motion.known.names(said), arrays=arrays)
