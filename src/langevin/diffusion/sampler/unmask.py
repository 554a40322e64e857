"""Samplers of a masked process. They differ in which masked positions are revealed at each call.

The token of a revealed position is drawn from the denoiser's prediction.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from langevin.diffusion.float64 import to_float64
from langevin.diffusion.posterior import TokenPosterior
from langevin.diffusion.process.masked import Masked
from langevin.diffusion.sampler.state import Processes, State, gather_per_sample, lay_out_calls
from langevin.diffusion.sampler.tokens import PLAIN, TokenSampling, ranks
from langevin.diffusion.shape import append_dims

Score = Literal["confidence", "margin", "entropy"]
NEVER = 2**62  # a call that is not reached


@dataclass(frozen=True, kw_only=True)
class AncestralUnmask:
    """Ancestral sampling of a masked process with the reveal time of each position drawn in advance:

        position i is revealed at tau_i, P(tau_i <= t) = (1 - alpha_t) / (1 - alpha_1), as a draw from q_i(x | x_{tau_i}).

    The distribution is that of `Ancestral` on the same grid, without the calls that reveal nothing. With one position per
    call it is the first-hitting sampler ("Masked Diffusion Models are Secretly Time-Agnostic Masked Models and Exploit
    Inaccurate Categorical Sampling", 2024, arXiv:2409.02908).

    Args:
        order: "step": all positions of a grid step at once. "random": one position per call, in random order, whatever the
            grid. "left_to_right": one position per call, in order.
        tokens: temperature and top-p.
    """

    kind: Literal["unmask"] = "unmask"
    order: Literal["step", "random", "left_to_right"] = "step"
    tokens: TokenSampling = PLAIN
    processes: ClassVar[Processes] = (Masked,)

    @property
    def convergence_order(self) -> int | None:
        return None

    def begin(self, state: State, process: Masked) -> State:
        masked = masked_positions(process, state)
        count = masked.sum(1, keepdim=True)
        if self.order == "left_to_right":  # the t at which as many are masked in expectation
            state, i = _time_per_sample(state), masked.cumsum(1) - 1
            u = (count - i) / count.clamp_min(1).double()
        else:
            u = state.noise.fork(5).uniform(state.x)
        first = process.mask_probability(state.times[:, 0])
        tau = torch.where(masked, process.time(u * append_dims(first, u)), -1.0)
        if self.order != "step":
            rank = torch.where(masked, ranks(-tau), NEVER)
            times = tau.sort(1, descending=True).values.clamp_min(0)
            called = torch.arange(masked.shape[1], device=u.device) < count
            state, _ = lay_out_calls(_time_per_sample(state), times, called)
            return replace(state, memory={"reveal_at": rank})
        rising = state.times.flip(1)  # searchsorted: a comparison takes (b, steps, positions) of memory
        if rising.ndim == 3:
            below = torch.searchsorted(rising.mT.contiguous(), tau[..., None])[..., 0]
        else:
            below = torch.searchsorted(rising, tau)
        step, num_steps = rising.shape[1] - below - 1, rising.shape[1] - 1  # the interval (t_{j+1}, t_j] that holds tau
        revealed = masked & (step < num_steps)
        step = torch.where(revealed, step, 0)
        called = torch.zeros(len(tau), num_steps, dtype=torch.int64, device=tau.device)
        called = called.scatter_add(1, step, revealed.long()) > 0
        reveal_at = torch.where(revealed, (called.cumsum(1) - 1).gather(1, step), NEVER)
        state, _ = lay_out_calls(state, state.times[:, :-1], called)
        return replace(state, memory={"reveal_at": reveal_at})

    def update(self, state: State, q: TokenPosterior, process: Masked) -> State:
        revealed = (state.x == process.mask) & (state.memory["reveal_at"] == state.call_index[:, None]).to(
            state.x.device
        )
        return state.advance(torch.where(revealed, self.tokens.of(q).draw(state.noise, revealed), state.x))


def masked_positions(process: Masked, state: State) -> Tensor:
    """(b, positions) bool, on the device of the state's times."""
    return (state.x == process.mask).to(state.t.device)


def _time_per_sample(state: State) -> State:
    """The state with one time per sample, the noisiest of its positions: which ones start clean shows in x."""
    return state if state.times.ndim == 2 else replace(state, times=state.times.amax(2), t=state.t.amax(1))


def _time_with_masked(process: Masked, state: State, left: Tensor, masked: Tensor) -> Tensor:
    """The times (b, n) at which `left` (b, n) of the `masked` (b,) positions at the start are masked in expectation."""
    first = process.mask_probability(state.times[:, 0])
    return process.time(first[:, None] * (left.double() / masked.clamp_min(1)[:, None]))


@dataclass(frozen=True, kw_only=True)
class ConfidenceUnmask:
    """MaskGIT's sampler: reveals the most confident positions first, with a schedule of their number ("MaskGIT: Masked
    Generative Image Transformer", 2022, arXiv:2202.04200; "Large Language Diffusion Models", 2025, arXiv:2502.09992):

        after step k of n, floor(m cos(pi k / 2 n)) or floor(m (1 - k / n)) of the m positions are masked.

    Args:
        score: "confidence": ln q(x) of the drawn token. "margin": ln of the difference of the two largest probabilities.
            "entropy": the negative entropy of q.
        schedule: "cosine" (few positions first) or "linear" (equally many per step).
        jitter: scale of Gumbel noise on the scores, at least 0; falls to 0 over the steps. It affects the choice of
            positions only.
        tokens: temperature and top-p.

    Raises:
        ValueError: a negative or infinite jitter.
    """

    kind: Literal["confidence"] = "confidence"
    score: Score = "confidence"
    schedule: Literal["cosine", "linear"] = "cosine"
    jitter: float = 0.0
    tokens: TokenSampling = PLAIN
    processes: ClassVar[Processes] = (Masked,)

    def __post_init__(self) -> None:
        if not 0 <= self.jitter < float("inf"):
            raise ValueError(f"jitter, a scale of noise, must be at least 0 and finite, got {self.jitter}")

    @property
    def convergence_order(self) -> int | None:
        return None

    def begin(self, state: State, process: Masked) -> State:
        state = _time_per_sample(state)
        masked = masked_positions(process, state).sum(1)
        n = state.num_calls.clamp_min(1)[:, None]
        fraction = torch.arange(int(n.max()) + 1, device=n.device).double() / n
        if self.schedule == "cosine":
            left = torch.cos(0.5 * torch.pi * fraction.clamp_max(1))
        else:
            left = (1 - fraction).clamp_min(0)
        keep = (left * masked[:, None] + 1e-9).floor().long()
        keep[:, 0] = masked
        after = torch.where(fraction[:, 1:] >= 1, 0, keep[:, 1:])  # nothing is left at the end
        called = (after < keep[:, :-1]) & (fraction[:, :-1] < 1)
        times = _time_with_masked(process, state, keep[:, :-1], masked)
        state, order = lay_out_calls(state, times, called)
        return replace(state, memory={"grid_keep": after.gather(1, order)})

    def update(self, state: State, q: TokenPosterior, process: Masked) -> State:
        at, masked = state.x == process.mask, masked_positions(process, state)
        noise, sampled = state.noise.fork(1), self.tokens.of(q)
        drawn = sampled.draw(noise, at) if self.score == "confidence" else None
        score = torch.full(masked.shape, -torch.inf, dtype=torch.float64, device=masked.device)
        score[masked] = confidence_score(q.logits_at(at), None if drawn is None else drawn[at], self.score)
        score = torch.where(masked, score.clamp_min(-1e300), score)  # ahead of visible positions
        if self.jitter > 0:
            gumbel = -(-state.noise.fork(2).uniform(state.x).log()).log()
            temperature = self.jitter * (1 - state.call_index / state.num_calls)[:, None]
            score = torch.where(masked, score + temperature * gumbel, score)
        keep = gather_per_sample(state.memory["grid_keep"], state.call_index)
        rank = ranks(-score)
        revealed = (masked & (rank < (masked.sum(1) - keep)[:, None])).to(at.device)
        drawn = sampled.draw(noise, revealed) if drawn is None else drawn
        return state.advance(torch.where(revealed, drawn, state.x))


def confidence_score(logits: Tensor, drawn: Tensor | None, score: Score) -> Tensor:
    """The score (m,) float64 of logits (m, V) and, for "confidence", drawn tokens (m,); larger is more confident."""
    if score == "entropy":
        return to_float64(-entropy(logits.log_softmax(-1)))
    total = logits.logsumexp(-1, keepdim=True)
    if drawn is not None:
        return to_float64((logits.gather(-1, drawn[:, None]) - total)[:, 0])
    top_two = to_float64(logits.topk(min(2, logits.shape[-1]), -1).values - total).exp()
    return (top_two[:, 0] - (top_two[:, 1] if top_two.shape[1] > 1 else 0.0)).log()


def entropy(log_p: Tensor) -> Tensor:
    """-sum p ln p over the last dimension."""
    return -torch.where(log_p > -torch.inf, log_p.exp() * log_p, 0.0).sum(-1)


@dataclass(frozen=True, kw_only=True)
class ThresholdUnmask:
    """Reveals all positions whose confidence passes a threshold, and at least the most confident one.

    With c_n the n-th largest confidence max_v q_i(v), and H_i the entropy of position i in nats:

        confidence      reveal where c > threshold
        factor          the largest n with (n + 1) (1 - c_n) < threshold
        entropy_bound   the largest n with sum_{i <= n} H_i - max_{i <= n} H_i <= threshold, in order of rising entropy

    The first two are of "Fast-dLLM: Training-free Acceleration of Diffusion LLM by Enabling KV Cache and Parallel
    Decoding" (2025, arXiv:2505.22618). For `factor` with a threshold up to 1, the union bound makes the
    most likely tokens the most likely joint choice. The third bounds the KL divergence due to drawing positions
    independently ("Accelerated Sampling from
    Masked Diffusion Models via Entropy Bounded Unmasking", 2025, arXiv:2505.24857).

    A sample makes at most as many calls as its grid has steps: more positions are revealed per call where this requires it.

    Args:
        rule: one of the above.
        threshold: at least 0; None is the default of the rule, 0.9, 1.0 or 0.5.
        tokens: temperature and top-p.

    Raises:
        ValueError: a negative threshold.
    """

    kind: Literal["threshold"] = "threshold"
    rule: Literal["confidence", "factor", "entropy_bound"] = "confidence"
    threshold: float | None = None
    tokens: TokenSampling = PLAIN
    processes: ClassVar[Processes] = (Masked,)

    def __post_init__(self) -> None:
        if self.threshold is not None and not self.threshold >= 0:
            raise ValueError(f"threshold must be at least 0, got {self.threshold}")

    @property
    def convergence_order(self) -> int | None:
        return None

    @property
    def level(self) -> float:
        """The threshold, or the default of the rule."""
        default = {"confidence": 0.9, "factor": 1.0, "entropy_bound": 0.5}
        return default[self.rule] if self.threshold is None else self.threshold

    def begin(self, state: State, process: Masked) -> State:
        state = _time_per_sample(state)
        masked = masked_positions(process, state).sum(1)
        max_calls = torch.minimum(state.num_calls, masked)
        memory = {"max_calls": max_calls.clone(), "masked": masked}
        return self._timed(replace(state, num_calls=max_calls, memory=memory), process)

    def _timed(self, state: State, process: Masked) -> State:
        """The state at the time at which as many positions are masked in expectation, whatever the grid."""
        left = masked_positions(process, state).sum(1, keepdim=True)
        return replace(state, t=_time_with_masked(process, state, left, state.memory["masked"])[:, 0])

    def update(self, state: State, q: TokenPosterior, process: Masked) -> State:
        at, masked = state.x == process.mask, masked_positions(process, state)
        log_p = q.logits_at(at).log_softmax(-1)
        confidence = torch.full(masked.shape, -1.0, dtype=torch.float64, device=masked.device)
        entropies = torch.full_like(confidence, torch.inf)
        confidence[masked], entropies[masked] = to_float64(log_p.amax(-1)).exp(), to_float64(entropy(log_p))
        cost = entropies if self.rule == "entropy_bound" else -confidence
        order = torch.argsort(cost, dim=1, stable=True)
        rank, left = ranks(cost), masked.sum(1, keepdim=True)
        at_least = torch.ceil(left / (state.memory["max_calls"] - state.call_index).clamp_min(1)[:, None])
        if self.rule == "confidence":
            fits = confidence > self.level
        elif self.rule == "factor":
            n = torch.arange(1, confidence.shape[1] + 1, device=confidence.device)
            count = ((n + 1) * (1 - confidence.gather(1, order)) < self.level).long().cumprod(1).sum(1, keepdim=True)
            fits = rank < count
        else:
            ordered = torch.where(masked.gather(1, order), entropies.gather(1, order), 0.0)
            fits = rank < (ordered.cumsum(1) - ordered <= self.level).long().cumprod(1).sum(1, keepdim=True)
        revealed = (masked & (fits | (rank < at_least))).to(at.device)
        drawn = self.tokens.of(q).draw(state.noise, revealed)
        if self.rule != "entropy_bound":  # confident positions take the most likely token
            drawn[at] = torch.where(fits[masked].to(at.device), log_p.argmax(-1), drawn[at])
        new = self._timed(state.advance(torch.where(revealed, drawn, state.x)), process)
        done = ~masked_positions(process, new).any(1)
        return replace(new, call_index=torch.where(done, new.num_calls, new.call_index))
