"""Projectors: the estimate of the clean motion, made to obey what is known of all motions.

A projector maps the posterior mean D(x_t, t) to P(D), in a denoiser around the denoiser, at noise levels below its own. The
samplers' last step returns the estimate or a combination of it with others, so the plan projects its result once more.
Projection hides a bad network: samples of one that has learned little obey the equations as well, and are distributed
otherwise. So `evaluate` measures both, and with and without. "PhysDiff: Physics-Guided Human Motion Diffusion Model"
(2022, arXiv:2212.02500).
"""

from langevin.modalities.motion.projector.denoiser import Projected, project, projecting
from langevin.modalities.motion.projector.dynamics import Dynamics
from langevin.modalities.motion.projector.feet import Feet
from langevin.modalities.motion.projector.limits import Limits
from langevin.modalities.motion.projector.range import Range
from langevin.modalities.motion.projector.space import Projector, Space
from langevin.modalities.motion.projector.way import Way

__all__ = [
    "AnyProjector", "Dynamics", "Feet", "Limits", "Projected", "Projector", "Range", "Space", "Way", "project",
    "projecting",
]  # fmt: skip

AnyProjector = Dynamics | Feet | Limits | Range
