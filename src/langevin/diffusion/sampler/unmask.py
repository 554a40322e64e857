"""Samplers of a masked process: which masked places are revealed after which answer. What they are revealed as is always
one draw from the answer, made at those places only.

    Reveal      every place's time is drawn beforehand: the ancestral law, asked only where something happens; one place a
                question is the first-hitting sampler ("Masked Diffusion Models are Secretly Time-Agnostic Masked Models and
                Exploit Inaccurate Categorical Sampling", 2024); from left to right it is how an autoregressive model writes
    TopK        as many a step as a schedule says, those that the answer is surest of ("MaskGIT", 2022; "LLaDA", 2025)
    Sure        as many as the answer is sure enough of, at least one: a threshold, a union bound over the places
                ("Fast-dLLM", 2025) or a bound on the joint entropy ("Accelerated Sampling from Masked Diffusion Models via
                Entropy Bounded Unmasking", 2025)
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.posterior import Symbolic
from langevin.diffusion.process.masked import Masked
from langevin.diffusion.sampler.state import State, ask, pick
from langevin.diffusion.shape import right_pad

Score = Literal["confidence", "margin", "entropy"]
NEVER = 2**62


@dataclass(frozen=True, kw_only=True)
class Taste:
    """How an answer is bent before symbols are drawn from it.

    Args:
        temperature: divides the logits; 0 takes the likeliest symbol.
        top_p: keep the likeliest symbols until they hold this much of the mass, the one that crosses it included.
    """

    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.temperature < float("inf") and 0 < self.top_p <= 1):
            raise ValueError(f"temperature is at least 0 and top_p in (0, 1], got {self.temperature} and {self.top_p}")

    @property
    def neutral(self) -> bool:
        return self.temperature == 1 and self.top_p == 1

    def of(self, q: Symbolic) -> Symbolic:
        """The answer, bent."""
        return q if self.neutral else q.bent(self)

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits (..., V) to logits, symbols left out at -inf."""
        if self.temperature == 0:
            return torch.full_like(logits, -torch.inf).scatter(-1, logits.argmax(-1, keepdim=True), 0.0)
        logits = (logits - logits.amax(-1, keepdim=True)) / self.temperature  # nothing overflows, however cold
        if self.top_p == 1:
            return logits
        mass, order = torch.sort(logits.double().softmax(-1), dim=-1, descending=True, stable=True)
        out = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, mass.cumsum(-1) - mass >= self.top_p)
        return logits.masked_fill(out, -torch.inf)


PLAIN = Taste()


def ranks(values: Tensor) -> Tensor:
    """Each place's rank in its row (b, places), 0 for the least; equal values by place."""
    return torch.argsort(torch.argsort(values, dim=1, stable=True), dim=1)


@dataclass(frozen=True, kw_only=True)
class Reveal:
    """Each place at a time of its own, drawn beforehand.

    The law is that of `Ancestral` on the same grid, but for the calls: none where nothing is revealed.

    Args:
        by: step (all places of a step of the grid at once), random (one a question, whatever the grid), left (one a
            question, from left to right).
    """

    process: Masked
    by: Literal["step", "random", "left"] = "step"
    taste: Taste = PLAIN
    kind: Literal["reveal"] = "reveal"

    @property
    def order(self) -> int | None:
        return None

    def begin(self, state: State) -> State:
        masked = state.x == self.process.mask
        count = masked.sum(1, keepdim=True)
        if self.by == "left":  # t as if so many were left by chance
            state, at = _even(state), masked.cumsum(1) - 1
            u = (count - at) / count.clamp_min(1).double()
        else:
            u = state.noise.fork(5).uniform(state.x)
        first = self.process.hidden(state.times[:, 0])
        tau = torch.where(masked, self.process.time(u * right_pad(first, u)), -1.0)
        if self.by != "step":
            rank = torch.where(masked, ranks(-tau), NEVER)
            times = tau.sort(1, descending=True).values.clamp_min(0)
            state, _ = ask(_even(state), times, torch.arange(masked.shape[1], device=u.device) < count)
            return replace(state, memory={"at": rank})
        rising = state.times.flip(1)  # searched, and not compared with every place: rows x steps x places is large
        if rising.ndim == 3:
            below = torch.searchsorted(rising.mT.contiguous(), tau[..., None])[..., 0]
        else:
            below = torch.searchsorted(rising, tau)
        step, steps = rising.shape[1] - below - 1, rising.shape[1] - 1  # the interval (t_{j+1}, t_j] that holds tau
        there = masked & (step < steps)
        step = torch.where(there, step, 0)
        asked = torch.zeros(len(tau), steps, dtype=torch.int64, device=tau.device)
        asked = asked.scatter_add(1, step, there.long()) > 0
        at = torch.where(there, (asked.cumsum(1) - 1).gather(1, step), NEVER)
        state, _ = ask(state, state.times[:, :-1], asked)
        return replace(state, memory={"at": at})

    def update(self, state: State, q: Symbolic) -> State:
        now = (state.x == self.process.mask) & (state.memory["at"] == state.k[:, None])
        return state.advance(torch.where(now, self.taste.of(q).draw(state.noise, now), state.x))


def _even(state: State) -> State:
    """One time a row: places of one row that differ in noise do so in what is masked already."""
    return state if state.times.ndim == 2 else replace(state, times=state.times.amax(2), t=state.t.amax(1))


def _clock(process: Masked, state: State, left: Tensor, masked: Tensor) -> Tensor:
    """The time at which as many are masked by chance: `left` (b, n) of the `masked` (b,) that there were at the first."""
    first = process.hidden(state.times[:, 0])
    return process.time(first[:, None] * (left.double() / masked.clamp_min(1)[:, None]))


@dataclass(frozen=True, kw_only=True)
class TopK:
    """The surest places first, as many a step as leave a share cos(pi k / 2 n) or 1 - k / n of them masked.

    Args:
        score: how sure: the drawn symbol's probability, the two likeliest symbols' difference, or minus the entropy.
        shares: cosine (few first) or equal.
        jitter: Gumbel noise on the logarithm of the score, falling to 0 over the steps: for choosing places only.
    """

    process: Masked
    score: Score = "confidence"
    shares: Literal["cosine", "equal"] = "cosine"
    jitter: float = 0.0
    taste: Taste = PLAIN
    kind: Literal["topk"] = "topk"

    def __post_init__(self) -> None:
        if not 0 <= self.jitter < float("inf"):
            raise ValueError(f"jitter is the size of a noise, at least 0, got {self.jitter}")

    @property
    def order(self) -> int | None:
        return None

    def begin(self, state: State) -> State:
        state = _even(state)
        masked = (state.x == self.process.mask).sum(1)
        n = state.last.clamp_min(1)[:, None]
        part = torch.arange(int(n.max()) + 1, device=n.device).double() / n
        left = torch.cos(0.5 * torch.pi * part.clamp_max(1)) if self.shares == "cosine" else (1 - part).clamp_min(0)
        keep = (left * masked[:, None] + 1e-9).floor().long()
        keep[:, 0] = masked
        after = torch.where(part[:, 1:] >= 1, 0, keep[:, 1:])  # nothing is left at the end
        asked = (after < keep[:, :-1]) & (part[:, :-1] < 1)
        times = _clock(self.process, state, keep[:, :-1], masked)
        state, order = ask(state, times, asked)
        return replace(state, memory={"grid_keep": after.gather(1, order)})

    def update(self, state: State, q: Symbolic) -> State:
        masked = state.x == self.process.mask
        noise, bent = state.noise.fork(1), self.taste.of(q)
        drawn = bent.draw(noise, masked) if self.score == "confidence" else None
        score = torch.full(masked.shape, -torch.inf, dtype=torch.float64, device=masked.device)
        score[masked] = sureness(q.at(masked), None if drawn is None else drawn[masked], self.score)
        score = torch.where(masked, score.clamp_min(-1e300), score)  # before what is shown
        if self.jitter > 0:
            gumbel = -(-state.noise.fork(2).uniform(state.x).log()).log()
            cool = self.jitter * (1 - state.k / state.last)[:, None]
            score = torch.where(masked, score + cool * gumbel, score)
        keep = pick(state.memory["grid_keep"], state.k)
        rank = ranks(-score)
        now = masked & (rank < (masked.sum(1) - keep)[:, None])
        drawn = bent.draw(noise, now) if drawn is None else drawn
        return state.advance(torch.where(now, drawn, state.x))


def sureness(logits: Tensor, drawn: Tensor | None, score: Score) -> Tensor:
    """How sure an answer (m, V) is, of the symbols (m,) where they are drawn, float64; larger is surer."""
    if score == "entropy":
        return -entropy(logits.log_softmax(-1)).double()
    total = logits.logsumexp(-1, keepdim=True)
    if drawn is not None:
        return (logits.gather(-1, drawn[:, None]) - total)[:, 0].double()
    two = (logits.topk(min(2, logits.shape[-1]), -1).values - total).double().exp()
    return (two[:, 0] - (two[:, 1] if two.shape[1] > 1 else 0.0)).log()


def entropy(log_p: Tensor) -> Tensor:
    """-sum p ln p over the last dimension."""
    return -torch.where(log_p > -torch.inf, log_p.exp() * log_p, 0.0).sum(-1)


@dataclass(frozen=True, kw_only=True)
class Sure:
    """All places that the answer is sure enough of, at least the surest one: few calls where the text is easy.

    Args:
        rule: threshold: the likeliest symbol has more than `level`. factor: the n surest, (n + 1) (1 - c_n) < `level`, with
            c_n the n-th confidence: by the union bound their likeliest symbols are jointly likeliest where level <= 1.
            entropy: the surest while the sum of their entropies less the largest is at most `level` (nats), which bounds
            the divergence of drawing them independently.
        level: see above.

    A row asks at most as often as its grid has steps: towards the end more are revealed if they must be.
    """

    process: Masked
    rule: Literal["threshold", "factor", "entropy"] = "threshold"
    level: float = 0.9
    taste: Taste = PLAIN
    kind: Literal["sure"] = "sure"

    def __post_init__(self) -> None:
        if not self.level >= 0:
            raise ValueError(f"level is at least 0, got {self.level}")

    @property
    def order(self) -> int | None:
        return None

    def begin(self, state: State) -> State:
        state = _even(state)
        count = (state.x == self.process.mask).sum(1)
        last = torch.minimum(state.last, count)
        return self._timed(replace(state, last=last, memory={"asked": last.clone(), "masked": count}))

    def _timed(self, state: State) -> State:
        """At the time that the places left say, whatever the grid: 0 when there are none."""
        left = (state.x == self.process.mask).sum(1, keepdim=True)
        return replace(state, t=_clock(self.process, state, left, state.memory["masked"])[:, 0])

    def update(self, state: State, q: Symbolic) -> State:
        masked = state.x == self.process.mask
        log_p = q.at(masked).log_softmax(-1)
        sure = torch.full(masked.shape, -1.0, dtype=torch.float64, device=log_p.device)
        loose = torch.full_like(sure, torch.inf)
        sure[masked], loose[masked] = log_p.amax(-1).double().exp(), entropy(log_p).double()
        best = loose if self.rule == "entropy" else -sure
        order = torch.argsort(best, dim=1, stable=True)
        rank, left = ranks(best), masked.sum(1, keepdim=True)
        must = torch.ceil(left / (state.memory["asked"] - state.k).clamp_min(1)[:, None])
        if self.rule == "threshold":
            fits = sure > self.level
        elif self.rule == "factor":
            n = torch.arange(1, sure.shape[1] + 1, device=sure.device)
            count = ((n + 1) * (1 - sure.gather(1, order)) < self.level).long().cumprod(1).sum(1, keepdim=True)
            fits = rank < count
        else:
            ordered = torch.where(masked.gather(1, order), loose.gather(1, order), 0.0)
            fits = rank < (ordered.cumsum(1) - ordered <= self.level).long().cumprod(1).sum(1, keepdim=True)
        now = masked & (fits | (rank < must))
        drawn = self.taste.of(q).draw(state.noise, now)
        if self.rule != "entropy":  # what is sure is taken, not drawn
            drawn[masked] = torch.where(fits[masked], log_p.argmax(-1), drawn[masked])
        new = self._timed(state.advance(torch.where(now, drawn, state.x)))
        done = ~(new.x == self.process.mask).any(1)
        return replace(new, k=torch.where(done, new.last, new.k))
