"""Rules for sequences of tokens as finite automata, obeyed exactly while a sequence is unmasked.

A denoiser's prediction is a product q_1(x_1) ... q_n(x_n). Given that an automaton accepts x, it is a hidden Markov model
over the automaton's states, in which forward and backward messages are exact:

    b_n(s) = [s accepts],   b_{i-1}(s) = sum_v q_i(v) b_i(T(s, v)),        b_0(start) = the probability that x is accepted
    a_0(s) = [s = start],   a_i(s') = sum_{s, v: T(s, v) = s'} a_{i-1}(s) q_i(v)

Position i alone has the distribution q_i(v) sum_s a_{i-1}(s) b_i(T(s, v)), normalised. A whole sequence is drawn from left
to right by q_i(v) b_i(T(s, v)). A step of sampling draws whole sequences, and reveals some positions of each: what is
revealed always has an accepted completion, so every finished sequence obeys. It is a sample of the model's distribution
given that it obeys where the model's positions are independent; elsewhere the rule acts through the predictions, step by
step.

Tokens with equal transitions from every state form a class; messages are sums over classes. All are kept as logarithms: the
only way to obey may have a probability that float64 does not hold.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.noise import Noise
from langevin.diffusion.posterior import Index, MaskedCategorical, TokenPosterior, draw_tokens

LEAST = 1e-12  # the probability of a class that a prediction excludes, so that a rule can still be obeyed


@dataclass(frozen=True, kw_only=True, eq=False)
class Automaton:
    """A deterministic finite automaton over tokens.

    Args:
        transitions: (states, vocabulary) int64, the next state; -1 is none, from which nothing is accepted.
        accepting: (states,) bool.
        start: the first state.

    Raises:
        ValueError: shapes that do not match, or a state that there is not.
    """

    transitions: Tensor
    accepting: Tensor
    start: int = 0

    def __post_init__(self) -> None:
        states = len(self.transitions)
        if self.transitions.ndim != 2 or self.accepting.shape != (states,) or not 0 <= self.start < states:
            raise ValueError(
                f"an automaton has transitions (states, vocabulary) and accepting (states,), got "
                f"{tuple(self.transitions.shape)} and {tuple(self.accepting.shape)}"
            )
        if not bool(((self.transitions >= -1) & (self.transitions < states)).all()):
            raise ValueError(f"an automaton of {states} states leads to states 0 to {states - 1}, or -1 for none")

    @cached_property
    def _classes(self) -> tuple[Tensor, Tensor]:
        """(states, classes) transitions, with `states` for none; (vocabulary,) the class of each token."""
        number, of_token, columns = dict[Any, int](), list[int](), self.transitions.T.contiguous()
        for column in columns.numpy():
            of_token.append(number.setdefault(column.tobytes(), len(number)))
        first = torch.tensor([of_token.index(k) for k in range(len(number))])
        table = columns[first].T
        return torch.where(table < 0, len(table), table), torch.tensor(of_token)

    @property
    def table(self) -> Tensor:
        """(states, classes): the next state for each class of tokens; the number of states for none."""
        return self._classes[0]

    @property
    def class_of(self) -> Tensor:
        """(vocabulary,) int64: the class of each token."""
        return self._classes[1]

    def accepts(self, x: Tensor) -> Tensor:
        """(b,) bool: whether sequences (b, n) int64 are accepted."""
        state = torch.full((len(x),), self.start)
        for tokens in x.unbind(1):
            state = torch.where(state >= 0, self.transitions[state.clamp_min(0), tokens], -1)
        return (state >= 0) & self.accepting[state.clamp_min(0)]

    def require_possible(self, given: Tensor, mask: int) -> None:
        """Check that something of this length is accepted, with the tokens that are given.

        Args:
            given: (n,) int64, `mask` at positions that are free.

        Raises:
            ValueError: nothing is; says up to which position the given tokens could be followed."""
        states = torch.zeros(len(self.accepting), dtype=torch.bool)
        states[self.start] = True
        tokens: list[int] = given.tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        for i, token in enumerate(tokens):
            reached = self.transitions[states] if token == mask else self.transitions[states][:, token]
            states = torch.zeros_like(states)
            states[reached[reached >= 0]] = True
            if not bool(states.any()):
                what = "the given tokens do not fit the rule" if token != mask else "the rule accepts nothing so long"
                raise ValueError(f"{what}: nothing is left at position {i} of {len(given)}")
        if not bool((states & self.accepting).any()):
            raise ValueError(f"the rule accepts nothing of {len(given)} tokens with what is given")


def allowed_at(allowed: Tensor) -> Automaton:
    """The automaton of sequences with allowed tokens only.

    Args:
        allowed: (n, vocabulary) bool, for each position.

    Raises:
        ValueError: a position at which none is allowed."""
    n = len(allowed)
    if not bool(allowed.any(1).all()):
        raise ValueError(f"no token is allowed at position {int((~allowed.any(1)).nonzero()[0, 0])}")
    following = torch.where(allowed, torch.arange(1, n + 1)[:, None], -1)
    transitions = torch.cat([following, torch.full_like(following[:1], -1)])
    return Automaton(transitions=transitions, accepting=torch.arange(n + 1) == n)


def both(a: Automaton, b: Automaton) -> Automaton:
    """The automaton of what two accept: the states that are reached of their product."""
    start = (a.start, b.start)
    number, queue, lines = {start: 0}, [start], list[Tensor]()
    for s, u in queue:
        mine, other = a.transitions[s], b.transitions[u]
        pairs = torch.where((mine >= 0) & (other >= 0), mine * len(b.transitions) + other, -1)
        line = torch.full_like(pairs, -1)
        found: list[int] = pairs.tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        for pair in sorted(set(found)):
            if pair >= 0:
                key = divmod(pair, len(b.transitions))
                if key not in number:
                    number[key] = len(queue)
                    queue.append(key)
                line[pairs == pair] = number[key]
        lines.append(line)
    accepting = torch.tensor([bool(a.accepting[s]) and bool(b.accepting[u]) for s, u in queue])
    return Automaton(transitions=torch.stack(lines), accepting=accepting)


@dataclass(frozen=True, kw_only=True, eq=False)
class Obeying:
    """A token posterior given that an automaton accepts, see the module.

    Args:
        base: the denoiser's prediction.
        automaton: the rule.
        x_t: (b, n) the tokens at positions that are certain.
        masked: (b, n) bool, the positions that are not.
    """

    base: TokenPosterior
    automaton: Automaton
    x_t: Tensor
    masked: Tensor

    @cached_property
    def logits(self) -> Tensor:
        """Of the masked positions (m, vocabulary), each by itself."""
        return self._open + self._log_weights()[self.masked].to(self._open)[:, self._class_of]

    @cached_property
    def _class_of(self) -> Tensor:
        return self.automaton.class_of.to(self.x_t.device)

    @cached_property
    def _open(self) -> Tensor:
        """(m, vocabulary) the base's log-probabilities at masked positions."""
        return self.base.logits_at(self.masked).log_softmax(-1)

    @cached_property
    def _log_shares(self) -> Tensor:
        """(b, n, classes) float64: ln of the probability of each class; 0 or -inf at positions that are certain."""
        classes = self.automaton.table.shape[1]
        shares = torch.zeros(*self.x_t.shape, classes, dtype=torch.float64)
        index = self._class_of[self.x_t.clamp(0, len(self._class_of) - 1)].cpu()
        shares.scatter_(2, index[..., None], 1.0)
        p = self._open.double().exp().cpu()
        own = torch.zeros(len(p), classes, dtype=torch.float64).index_add(1, self.automaton.class_of, p)
        shares[self.masked.cpu()] = own.clamp_min(LEAST)
        return shares.log()

    @cached_property
    def _backward(self) -> Tensor:
        """(b, n + 1, states + 1): ln b_i of each state, the last one being none.

        Raises:
            ValueError: nothing is accepted."""
        b, n, _ = self._log_shares.shape
        states, table = len(self.automaton.accepting), self.automaton.table
        message = torch.full((b, n + 1, states + 1), -torch.inf, dtype=torch.float64)
        message[:, n, :states] = self.automaton.accepting.double().log()
        for i in range(n - 1, -1, -1):
            message[:, i, :states] = (self._log_shares[:, i, None] + message[:, i + 1][:, table]).logsumexp(2)
        if not bool(message[:, 0, self.automaton.start].isfinite().all()):
            raise ValueError("the rule accepts no sequence with the tokens that are certain")
        return message

    @property
    def log_evidence(self) -> Tensor:
        """(b,) float64: ln of the probability that a draw from the base is accepted."""
        return self._backward[:, 0, self.automaton.start]

    def _log_weights(self) -> Tensor:
        """(b, n, classes) float64: ln of sum_s a_{i-1}(s) b_i(T(s, c)), the largest 0.

        The forward messages are carried as p(s | accepted) / b_i(s), so that none is lost that matters."""
        message, table = self._backward, self.automaton.table
        b, n, classes = self._log_shares.shape
        states = len(table)
        forward = torch.full((b, states), -torch.inf, dtype=torch.float64)
        forward[:, self.automaton.start] = 0
        weights = torch.zeros(b, n, classes, dtype=torch.float64)
        for i in range(n):
            paths = forward[:, :, None] + message[:, i + 1][:, table]
            weights[:, i] = paths.logsumexp(1)
            paths = (paths + self._log_shares[:, i, None]).flatten(1)
            paths = (paths - paths.amax(1, keepdim=True)).exp()
            reached = torch.zeros(b, states + 1, dtype=torch.float64).index_add(1, table.flatten(), paths)[:, :states]
            here = message[:, i + 1, :states]
            forward = torch.where(reached > 0, reached.log() - here, -torch.inf)
        return weights - weights.amax(2, keepdim=True)

    def error(self, x: Tensor) -> Tensor:
        """Cross-entropy in nats of each position by itself, (b, n); 0 where it is certain."""
        nats = torch.nn.functional.cross_entropy(self.logits, x[self.masked], reduction="none")
        return torch.zeros(x.shape, dtype=nats.dtype, device=x.device).masked_scatter(self.masked, nats)

    def draw(self, noise: Noise, at: Tensor | None = None) -> Tensor:
        """A whole sequence that is accepted, (b, n); with `at` (b, n) bool the tokens there, and 0 elsewhere."""
        message, table = self._backward, self.automaton.table
        u = noise.fork(1).uniform(self.x_t).cpu()
        state = torch.full((len(self.x_t),), self.automaton.start)
        classes = torch.zeros(self.x_t.shape, dtype=torch.int64)
        for i in range(self.x_t.shape[1]):
            following = table[state]
            weight = self._log_shares[:, i] + message[:, i + 1].gather(1, following)
            weight = (weight - weight.amax(1, keepdim=True)).exp()
            mass = weight.cumsum(1)
            chosen = torch.searchsorted(mass, u[:, i, None] * mass[:, -1:], right=True)[:, 0]
            last = (weight > 0).long().mul(torch.arange(weight.shape[1])).amax(1)  # never a class of weight 0
            classes[:, i] = torch.minimum(chosen, last)
            state = following.gather(1, classes[:, i, None])[:, 0]
        inside = self._class_of == classes.to(self.x_t.device)[self.masked][:, None]
        logits = self._open.masked_fill(~inside, -torch.inf)
        empty = ~(logits > -torch.inf).any(1, keepdim=True)
        logits = torch.where(empty & inside, 0.0, logits)  # a class that the prediction excludes
        tokens = self.x_t.clone()
        tokens[self.masked] = draw_tokens(logits, noise.uniform(self.x_t)[self.masked.to(u.device)])
        return tokens if at is None else torch.where(at, tokens, 0)

    def logits_at(self, positions: Tensor) -> Tensor:
        """(m, vocabulary) logits, each by itself, of masked positions."""
        assert not bool((positions & ~self.masked).any()), "certain positions have no logits here"
        return self.logits[(self.masked.flatten().cumsum(0) - 1).view_as(self.masked)[positions]]

    def map_logits(self, function: Callable[..., Tensor], *aligned: Tensor) -> "Obeying":
        """The rule applied to the base with other logits, such as those of another temperature."""
        return Obeying(
            base=self.base.map_logits(function, *aligned), automaton=self.automaton, x_t=self.x_t, masked=self.masked
        )

    def extrapolate_from(self, reference: "Obeying", weight: Tensor) -> "Obeying":
        """The rule applied to the bases' extrapolation."""
        base: Any = self.base
        line = base.extrapolate_from(reference.base, weight)
        return Obeying(base=line, automaton=self.automaton, x_t=self.x_t, masked=self.masked)

    def select(self, index: Index) -> "Obeying":
        return Obeying(
            base=self.base.select(index), automaton=self.automaton, x_t=self.x_t[index], masked=self.masked[index]
        )


@dataclass(frozen=True, kw_only=True)
class Ruled:
    """A denoiser of a masked process whose posterior obeys an automaton.

    Args:
        denoiser: of tokens.
        automaton: the rule, over the tokens that its logits are of.
        mask: the token id of the mask.
    """

    denoiser: Denoiser[Any]
    automaton: Automaton
    mask: int

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Obeying:
        q = self.denoiser(x_t, t, condition)
        masked = q.open if isinstance(q, MaskedCategorical) else x_t == self.mask
        return Obeying(base=q, automaton=self.automaton, x_t=x_t, masked=masked)
