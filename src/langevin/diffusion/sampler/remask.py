"""Samplers of tokens that remask or redraw visible positions, so that more steps improve quality."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from langevin.diffusion.posterior import Categorical, TokenPosterior
from langevin.diffusion.process.gidd import GIDD, UniformDiffusion
from langevin.diffusion.process.interpolating import observation_log_ratio
from langevin.diffusion.process.masked import Masked
from langevin.diffusion.sampler.state import Processes, State
from langevin.diffusion.sampler.tokens import PLAIN, TokenSampling, ranks
from langevin.diffusion.shape import append_dims


@dataclass(frozen=True, kw_only=True)
class PsiSampler:
    """Psi-samplers ("The Diffusion Duality, Chapter II: Psi-Samplers and Efficient Curriculum", 2026): at each position

        x_s ~ kappa p(x_s | x_t) + (1 - kappa) E_{x ~ q} q_s(x_s | x),

    the reverse transition of the process with probability kappa, else a draw of x from the prediction q, corrupted to
    time s. This preserves the marginal distribution of every position.

    Args:
        kappa: probability of the reverse transition, in [0, 1]; 1 is `Ancestral`.
        tokens: temperature and top-p.

    Raises:
        ValueError: kappa outside [0, 1].
    """

    kind: Literal["psi"] = "psi"
    kappa: float = 0.95
    tokens: TokenSampling = PLAIN
    processes: ClassVar[Processes] = (Masked, UniformDiffusion, GIDD)

    def __post_init__(self) -> None:
        if not 0 <= self.kappa <= 1:
            raise ValueError(f"kappa is a probability, in [0, 1], got {self.kappa}")

    @property
    def convergence_order(self) -> int | None:
        return None

    def begin(self, state: State, process: Masked | UniformDiffusion | GIDD) -> State:
        """Marks as `free` the positions whose token is not certain at the start: the masked ones of a masked process."""
        return replace(state, memory={"free": observation_log_ratio(process, state.x, state.t) < torch.inf})

    def update(self, state: State, q: Any, process: Masked | UniformDiffusion | GIDD) -> State:
        t, s, noise = state.time(), state.time(1), state.noise
        q = self.tokens.of(q)
        step = process.transition(q, state.x, t, s, noise.fork(1))
        renoised = noise.fork(2).uniform(state.x) >= self.kappa
        renoised = renoised & state.memory["free"] & append_dims(t > s, state.x)
        renoised = renoised.to(state.x.device) & (state.x <= process.mask)
        # a position that shows its clean token keeps it as x, whatever q predicts
        uncertain = (observation_log_ratio(process, state.x, t) < torch.inf).to(state.x.device)
        clean = torch.where(uncertain, q.draw(noise.fork(3), renoised & uncertain), state.x)
        corrupted = process.corrupt(clean, s, noise.fork(4))
        return state.advance(torch.where(renoised, corrupted, step))


@dataclass(frozen=True, kw_only=True)
class ReMDM:
    """ReMDM ("Remasking Discrete Diffusion Models with Inference-Time Scaling", 2025, arXiv:2503.00307):

        a visible position is masked with probability sigma,
        a masked one is revealed with probability (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t),

    with sigma at most sigma_max = min(1, (1 - alpha_s) / alpha_t), which preserves the marginals. With sigma <= 1 - alpha_s
    it is `PsiSampler(kappa=1 - sigma / (1 - alpha_s))`.

    With `remask="quality"` as many are masked in the mean, those that the network's quality head holds for the least likely
    to be right ("Fine-Tuning Masked Diffusion for Provable Self-Correction", 2025, arXiv:2510.01384). The marginals are not
    preserved, but corrected.

    Args:
        eta: strength of remasking, in [0, 1].
        rule: "cap": sigma = min(eta, sigma_max). "rescale": sigma = eta sigma_max.
        remask: which visible positions are masked: by chance, or by `quality`, of a run with process.quality.
        tokens: temperature and top-p.

    Raises:
        ValueError: eta outside [0, 1].
    """

    kind: Literal["remdm"] = "remdm"
    eta: float = 0.05
    rule: Literal["cap", "rescale"] = "rescale"
    remask: Literal["chance", "quality"] = "chance"
    tokens: TokenSampling = PLAIN
    processes: ClassVar[Processes] = (Masked,)

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta, the strength of remasking, must be between 0 and 1, got {self.eta}")

    @property
    def convergence_order(self) -> int | None:
        return None

    def begin(self, state: State, process: Masked) -> State:
        """Marks as `free` the positions masked at the start; the others are never remasked."""
        return replace(state, memory={"free": state.x == process.mask})

    def update(self, state: State, q: TokenPosterior, process: Masked) -> State:
        masked, q = state.x == process.mask, self.tokens.of(q)
        mask_t, mask_s = (
            append_dims(process.mask_probability(time), state.x) for time in (state.time(), state.time(1))
        )
        sigma_max = (mask_s / (1 - mask_t).clamp_min(1e-300)).clamp_max(1)
        sigma = sigma_max.clamp_max(self.eta) if self.rule == "cap" else self.eta * sigma_max
        reveal = (mask_t - mask_s + sigma * (1 - mask_t)) / mask_t.clamp_min(1e-300)  # exactly 1 at the end
        u = state.noise.fork(1).uniform(state.x)
        revealed = masked & (u < reveal).to(masked.device)
        visible = ~masked & state.memory["free"]
        if self.remask == "chance":
            remasked = visible & (u < sigma).to(masked.device)
        else:
            count = (sigma * visible.sum(1, keepdim=True).to(sigma) + state.noise.fork(3).uniform(sigma)).floor()
            remasked = visible & (ranks(torch.where(visible, _quality(q), torch.inf)) < count.to(masked.device))
        x = torch.where(revealed, q.draw(state.noise.fork(2), revealed), state.x)
        return state.advance(torch.where(remasked, process.mask, x))


def _quality(q: TokenPosterior) -> Tensor:
    """The quality (b, positions) of visible tokens. Raises `ValueError` for a prediction without."""
    if isinstance(q, Categorical) or q.quality is None:
        raise ValueError("remask=quality needs a network with a quality head: train with process.quality=1")
    return q.quality


@dataclass(frozen=True, kw_only=True)
class GibbsSampler:
    """Block Gibbs sampling of a masked process. Each step masks a random block B of positions and draws them again,

        x_B ~ prod_{i in B} q_i(x_i | x_{not B}),

    which leaves the data distribution invariant if the positions of a block are independent given the others.

    It starts from a text without masks (`start(..., x=)`), with one function evaluation per step of the grid. Positions of
    time 0 never change.

    Args:
        block_fraction: fraction of the positions in a block, in (0, 1]; at least one position.
        tokens: temperature and top-p.

    Raises:
        ValueError: block_fraction outside (0, 1].
    """

    kind: Literal["gibbs"] = "gibbs"
    block_fraction: float = 0.05
    tokens: TokenSampling = PLAIN
    processes: ClassVar[Processes] = (Masked,)

    def __post_init__(self) -> None:
        if not 0 < self.block_fraction <= 1:
            raise ValueError(f"block_fraction, of the positions, must be in (0, 1], got {self.block_fraction}")

    @property
    def convergence_order(self) -> int | None:
        return None

    def _mask_block(self, state: State, x: Tensor, free: Tensor, process: Masked) -> Tensor:
        u = state.noise.fork(7).uniform(x)
        free = free.to(u.device)
        count = (self.block_fraction * free.sum(1)).round().long().clamp_min(1)
        chosen = free & (ranks(torch.where(free, u, 2.0)) < count[:, None])
        return torch.where(chosen.to(x.device), process.mask, x)

    def begin(self, state: State, process: Masked) -> State:
        free = (state.x < process.mask) & append_dims(state.t > 0, state.x).to(state.x.device)
        if bool((state.x == process.mask).any()):
            raise ValueError("Gibbs sampling starts from a text without masks, and this one has some: give it as x")
        called = torch.arange(state.times.shape[1], device=state.t.device) < state.num_calls[:, None]
        t = torch.where(state.t > 0, process.time(torch.full_like(state.t, self.block_fraction)), 0.0)
        times = torch.where(append_dims(called, state.times), t[:, None], 0.0)
        done = append_dims(state.done, state.x).to(state.x.device)
        x = torch.where(done, state.x, self._mask_block(state, state.x, free, process))
        return replace(state, x=x, times=times, t=times[:, 0], memory={"free": free})

    def update(self, state: State, q: TokenPosterior, process: Masked) -> State:
        masked, q = state.x == process.mask, self.tokens.of(q)
        x = torch.where(masked, q.draw(state.noise.fork(1), masked), state.x)
        new = state.advance(x)
        more = append_dims(~new.done, x).to(x.device)
        return replace(new, x=torch.where(more, self._mask_block(new, x, state.memory["free"], process), x))
