"""Samplers. One step: `q = denoiser(state.x, state.t, condition)`, then `state = sampler.update(state, q, process)`.

A sampler is a frozen dataclass of its own parameters: `DPM2M()`, `Exponential(max_order=3)`; `processes` lists the
processes that it is for. Modules: `state` (what a sampler works on), `grid` (the times it visits), `loop` (the sampling
loop), `linear` (samplers as tables of coefficients), then one file per family.

To add a sampler, write one file and add the class to the union here.
"""

from langevin.diffusion.sampler.adams import DEIS, IPNDM, Adams
from langevin.diffusion.sampler.ancestral import Ancestral
from langevin.diffusion.sampler.bogacki_shampine import BogackiShampine
from langevin.diffusion.sampler.choice import kinds_for as kinds_for
from langevin.diffusion.sampler.choice import require_fit as require_fit
from langevin.diffusion.sampler.consistency import MultistepConsistency
from langevin.diffusion.sampler.ddim import DDIM, DDPM, Euler
from langevin.diffusion.sampler.exponential import DPM2M, DPM3M, Exponential
from langevin.diffusion.sampler.fitted import FittedSolver
from langevin.diffusion.sampler.flow_map import FlowMap
from langevin.diffusion.sampler.grid import FixedGrid as FixedGrid
from langevin.diffusion.sampler.grid import Grid as Grid
from langevin.diffusion.sampler.grid import KarrasGrid as KarrasGrid
from langevin.diffusion.sampler.grid import LogSNR as LogSNR
from langevin.diffusion.sampler.grid import ShiftedGrid as ShiftedGrid
from langevin.diffusion.sampler.grid import UniformTimeGrid as UniformTimeGrid
from langevin.diffusion.sampler.grid import UnmaskGrid as UnmaskGrid
from langevin.diffusion.sampler.joint import JointDPM2M
from langevin.diffusion.sampler.loop import sample as sample
from langevin.diffusion.sampler.loop import start as start
from langevin.diffusion.sampler.remask import GibbsSampler, PsiSampler, ReMDM
from langevin.diffusion.sampler.renoising import EDMStochastic, Restart
from langevin.diffusion.sampler.repaint import RePaint
from langevin.diffusion.sampler.reverse import ProbabilityFlow, ReverseSDE
from langevin.diffusion.sampler.singlestep import DPM2, DPM2S, Heun
from langevin.diffusion.sampler.state import Sampler as Sampler
from langevin.diffusion.sampler.state import State as State
from langevin.diffusion.sampler.stochastic import EulerMaruyama, Langevin
from langevin.diffusion.sampler.tokens import TokenSampling as TokenSampling
from langevin.diffusion.sampler.unipc import UniPC
from langevin.diffusion.sampler.unmask import AncestralUnmask, ConfidenceUnmask, ThresholdUnmask

AnySampler = (
    Ancestral | DDIM | DDPM | Euler | EulerMaruyama | Langevin | Heun | DPM2 | DPM2S | EDMStochastic | Restart | RePaint
    | DPM2M | DPM3M | Exponential | Adams | DEIS | IPNDM | UniPC | BogackiShampine | FittedSolver
    | AncestralUnmask | ConfidenceUnmask | ThresholdUnmask | PsiSampler | ReMDM | GibbsSampler
    | ReverseSDE | ProbabilityFlow | JointDPM2M | MultistepConsistency | FlowMap
)  # fmt: skip
