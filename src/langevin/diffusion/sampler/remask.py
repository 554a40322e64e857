"""Samplers that take back: what was written is hidden or drawn again, so that more steps buy quality.

Psi      a step is the process's own with probability kappa, else the answer's draw corrupted anew to the next time:
         every place's marginal law stays what it was ("The Diffusion Duality, Chapter II", 2026)
Remask   each visible place is masked again with probability sigma ("Remasking Discrete Diffusion Models with
         Inference-Time Scaling", 2025); sigma <= 1 - alpha_s is a Psi of kappa = 1 - sigma / (1 - alpha_s)
Gibbs    leave some places out, draw them from what the others say, and go on to the next: leaves the law of x_t as it
         is where the places left out together do not depend on one another
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from langevin.diffusion.posterior import Symbolic
from langevin.diffusion.process.arrival import evidence
from langevin.diffusion.process.hybrid import Hybrid, Uniform
from langevin.diffusion.process.masked import Masked
from langevin.diffusion.sampler.state import State
from langevin.diffusion.sampler.unmask import PLAIN, Taste, ranks
from langevin.diffusion.shape import right_pad


@dataclass(frozen=True, kw_only=True)
class Psi:
    """Ancestral with probability `kappa` a place, else the draw corrupted anew; 1 is `Ancestral`."""

    process: Masked | Uniform | Hybrid
    kappa: float = 0.95
    taste: Taste = PLAIN
    kind: Literal["psi"] = "psi"

    def __post_init__(self) -> None:
        if not 0 <= self.kappa <= 1:
            raise ValueError(f"kappa is a probability, got {self.kappa}")

    @property
    def order(self) -> int | None:
        return None

    def begin(self, state: State) -> State:
        """What is certain at the start stays: of a masked process all that is visible."""
        return replace(state, memory={"free": evidence(self.process, state.x, state.t) < torch.inf})

    def update(self, state: State, q: Any) -> State:
        t, s, noise = state.time(), state.time(1), state.noise
        q = self.taste.of(q)
        step = self.process.transition(q, state.x, t, s, noise.fork(1))
        anew = noise.fork(2).uniform(state.x) >= self.kappa
        anew = anew & state.memory["free"] & (state.x <= self.process.mask) & right_pad(t > s, state.x)
        doubt = evidence(self.process, state.x, t) < torch.inf  # elsewhere what is seen is the truth, whatever q says
        clean = torch.where(doubt, q.draw(noise.fork(3), anew & doubt), state.x)
        again = self.process.corrupt(clean, s, noise.fork(4))
        return state.advance(torch.where(anew, again, step))


@dataclass(frozen=True, kw_only=True)
class Remask:
    """Ancestral, and each visible place masked again with probability sigma, at most what keeps the marginals.

    Args:
        eta: sigma is min(eta, sigma_max) (cap) or eta sigma_max (rescale), sigma_max = min(1, (1 - alpha_s) / alpha_t).
            Places that were masked are revealed with (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t).
    """

    process: Masked
    eta: float = 0.05
    rule: Literal["cap", "rescale"] = "rescale"
    taste: Taste = PLAIN
    kind: Literal["remask"] = "remask"

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is a share of what may be masked again, between 0 and 1, got {self.eta}")

    @property
    def order(self) -> int | None:
        return None

    def begin(self, state: State) -> State:
        """What is visible at the start stays visible."""
        return replace(state, memory={"free": state.x == self.process.mask})

    def update(self, state: State, q: Symbolic) -> State:
        masked, q = state.x == self.process.mask, self.taste.of(q)
        before, after = (right_pad(self.process.hidden(time), state.x) for time in (state.time(), state.time(1)))
        most = (after / (1 - before).clamp_min(1e-300)).clamp_max(1)
        sigma = most.clamp_max(self.eta) if self.rule == "cap" else self.eta * most
        reveal = (before - after + sigma * (1 - before)) / before.clamp_min(1e-300)  # exactly 1 at the end
        u = state.noise.fork(1).uniform(state.x)
        shown = masked & (u < reveal)
        hide = ~masked & state.memory["free"] & (u < sigma)
        x = torch.where(shown, q.draw(state.noise.fork(2), shown), state.x)
        return state.advance(torch.where(hide, self.process.mask, x))


@dataclass(frozen=True, kw_only=True)
class Gibbs:
    """Sweeps over a whole text of a masked process: each question hides some places, each answer draws them anew.

    Begins from a text (`start(..., x=)`), asks once for each step of the grid, and ends with a whole text. Places of time 0
    stay as they are.

    Args:
        share: of the places that one question hides, chosen anew each time; at least one.
    """

    process: Masked
    share: float = 0.05
    taste: Taste = PLAIN
    kind: Literal["gibbs"] = "gibbs"

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share is of the places that are hidden at once, in (0, 1], got {self.share}")

    @property
    def order(self) -> int | None:
        return None

    def _hide(self, state: State, x: Tensor, free: Tensor) -> Tensor:
        rank = ranks(torch.where(free, state.noise.fork(7).uniform(x), 2.0))
        count = (self.share * free.sum(1)).round().long().clamp_min(1)
        return torch.where(free & (rank < count[:, None]), self.process.mask, x)

    def begin(self, state: State) -> State:
        free = (state.x < self.process.mask) & right_pad(state.t > 0, state.x)
        if bool((state.x == self.process.mask).any()):
            raise ValueError("Gibbs sampling begins from a whole text, and this one has masks: give it as x")
        asked = torch.arange(state.times.shape[1], device=state.k.device) < state.last[:, None]
        t = torch.where(state.t > 0, self.process.time(torch.full_like(state.t, self.share)), 0.0)
        times = torch.where(right_pad(asked, state.times), t[:, None], 0.0)
        x = torch.where(right_pad(state.done, state.x), state.x, self._hide(state, state.x, free))
        return replace(state, x=x, times=times, t=times[:, 0], memory={"free": free})

    def update(self, state: State, q: Symbolic) -> State:
        masked, q = state.x == self.process.mask, self.taste.of(q)
        x = torch.where(masked, q.draw(state.noise.fork(1), masked), state.x)
        new = state.advance(x)
        more = right_pad(~new.done, x)
        return replace(new, x=torch.where(more, self._hide(new, x, state.memory["free"]), x))
