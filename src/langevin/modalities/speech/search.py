"""Monotonic alignment search: the most probable times of the states of an utterance, and a model of how states sound.

An utterance is a sequence of states j = 0 .. m - 1. Every frame belongs to one state, the first frame to state 0 and the
last to state m - 1; from frame to frame the state stays or moves on by one, or by two over a state that is optional. With
the log-likelihood l[j, i] of frame i in state j,

    Q[j, i] = l[j, i] + max(Q[j, i - 1], Q[j - 1, i - 1], Q[j - 2, i - 1] if j - 1 is optional)

and the path is found backwards from the end ("Glow-TTS: A Generative Flow for Text-to-Speech via Monotonic Alignment
Search", 2020, arXiv 2005.11129). The likelihoods are normal, one mean and variance per kind of state, on cepstra and their
slopes. They are fitted by turns with the search, from equal lengths on, as hidden Markov models are.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from langevin.modalities.modality import Progress
from langevin.modalities.speech.signal import together

CEPSTRA = 13
FLOOR = 0.05  # of variances, as a share of those of all frames
PRIOR = 10.0  # frames of the distribution of all frames that are added to those of each state
CELLS, LARGEST = 2**24, 2**28  # frames x states of utterances that are searched together, and of one, at most


@dataclass(frozen=True, kw_only=True, eq=False)
class StateModels:
    """Mean and variance (states, features) of each kind of state."""

    mean: Tensor
    variance: Tensor

    def log_likelihood(self, frames: Tensor) -> Tensor:
        """(n, features) frames to (n, states)."""
        precision = 1 / self.variance
        square = frames.square() @ precision.T - 2 * frames @ (self.mean * precision).T
        constant = (self.mean.square() * precision + (2 * math.pi * self.variance).log()).sum(1)
        return -0.5 * (square + constant)

    def text(self) -> str:
        """As base64 of half-precision numbers, for a recipe."""
        values = torch.cat([self.mean, self.variance.log()]).numpy().astype("<f2")
        return base64.b64encode(values.tobytes()).decode()

    @classmethod
    def of_text(cls, text: str, states: int) -> "StateModels":
        """What `text` wrote.

        Raises:
            ValueError: it is not of so many states, or not finite."""
        try:
            values = np.frombuffer(base64.b64decode(text, validate=True), "<f2").astype(np.float32)
            mean, log_variance = torch.from_numpy(values).view(2, states, 2 * CEPSTRA)
        except (ValueError, RuntimeError) as error:
            raise ValueError(
                f"data.alignment.models does not hold the models of {states} states: train again"
            ) from error
        if not bool(torch.isfinite(mean).all() and (log_variance.abs() < 30).all()):
            raise ValueError("data.alignment.models holds numbers that are not finite: train again")
        return cls(mean=mean, variance=log_variance.exp())


def cepstra(log_mel: Tensor) -> Tensor:
    """Log-mel (bins, frames) to cepstra and their slopes, (frames, 2 CEPSTRA), centred over the utterance."""
    bins = log_mel.shape[0]
    k = torch.arange(CEPSTRA)[:, None] * (torch.arange(bins) + 0.5) * (math.pi / bins)
    static = (k.cos() @ log_mel.float()) * math.sqrt(2 / bins)
    static = static - static.mean(1, keepdim=True)
    padded = torch.nn.functional.pad(static[None], (2, 2), mode="replicate")[0]
    slope = (2 * (padded[:, 4:] - padded[:, :-4]) + padded[:, 3:-1] - padded[:, 1:-3]) / 10
    return torch.cat([static, 2 * slope]).T


def search(log_likelihood: Tensor, optional: Tensor, frames: Tensor, states: Tensor) -> Tensor:
    """The most probable state of every frame, (b, n) int64.

    Args:
        log_likelihood: (b, n, m) of each frame in each state of its utterance.
        optional: (b, m) bool, the states that may be left out; never the first, the last, or two in a row.
        frames, states: (b,) numbers of frames and states of each utterance; an utterance needs as many frames as it has
            states that are not optional.

    Raises:
        ValueError: one has too few frames."""
    b, n, m = log_likelihood.shape
    inside = torch.arange(m) < states[:, None]
    if bool((frames < (inside & ~optional).sum(1)).any()):
        raise ValueError("an utterance has fewer frames than states, so they cannot all sound")
    best = log_likelihood.new_full((b, m), -torch.inf)
    best[:, 0] = log_likelihood[:, 0, 0]
    steps = torch.zeros(b, n, m, dtype=torch.int8)
    over = torch.nn.functional.pad(optional[:, :-1], (1, 0))  # whether state j - 1 is optional
    for i in range(1, n):
        one = torch.nn.functional.pad(best[:, :-1], (1, 0), value=-torch.inf)
        two = torch.nn.functional.pad(best[:, :-2], (2, 0), value=-torch.inf).masked_fill(~over, -torch.inf)
        value, steps[:, i] = _first_best(best, one, two)
        best = value + log_likelihood[:, i]
    path = torch.zeros(b, n, dtype=torch.int64)
    rows, state = torch.arange(b), states - 1
    for i in range(n - 1, -1, -1):
        alive = i < frames
        path[:, i] = torch.where(alive, state, 0)
        state = torch.where(alive & (i > 0), state - steps[rows, i, state], state)
    return path


def _first_best(stay: Tensor, one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of three, and how many states it moves on; the fewest in a tie."""
    value, moved = torch.maximum(stay, one), (one > stay).to(torch.int8)
    return torch.maximum(value, two), torch.where(two > value, 2, moved).to(torch.int8)


@dataclass(frozen=True, kw_only=True, eq=False)
class States:
    """The states of an utterance.

    Args:
        kinds: (m,) int64, the kind of each, an index of `StateModels`.
        units: (m,) int64, the unit of the text that it is part of.
        optional: (m,) bool.
    """

    kinds: Tensor
    units: Tensor
    optional: Tensor

    @property
    def required(self) -> int:
        """The least number of frames."""
        return int((~self.optional).sum())


def states_of(units: Tensor, *, states: int, pauses: frozenset[int]) -> States:
    """The states of a text: `states` of each symbol one after another, and one optional state of each pause.

    A pause at either end, or after another pause, is not optional."""
    kinds, owners, optional = list[int](), list[int](), list[bool]()
    last = len(units) - 1
    for j, unit in enumerate(units.tolist()):
        if unit in pauses:
            kinds.append(unit * states)
            owners.append(j)
            optional.append(0 < j < last and not optional[-1])
        else:
            kinds += [unit * states + k for k in range(states)]
            owners += [j] * states
            optional += [False] * states
    return States(kinds=torch.tensor(kinds), units=torch.tensor(owners), optional=torch.tensor(optional))


def align(models: StateModels, features: Sequence[Tensor], sequences: Sequence[States]) -> list[Tensor]:
    """The state of every frame of each utterance, (frames,) int64.

    States have equal lengths where there are fewer frames than states, or where the search would take too much memory."""
    paths = [_equal(len(f), len(s.kinds)) for f, s in zip(features, sequences, strict=True)]
    cells = [len(f) * len(s.kinds) for f, s in zip(features, sequences, strict=True)]
    possible = [i for i, s in enumerate(sequences) if len(features[i]) >= s.required and cells[i] <= LARGEST]
    for group in together([cells[i] for i in possible], CELLS):
        items = [possible[k] for k in group]
        n, m = max(len(features[i]) for i in items), max(len(sequences[i].kinds) for i in items)
        table = torch.full((len(items), n, m), -torch.inf)
        optional = torch.zeros(len(items), m, dtype=torch.bool)
        for row, i in enumerate(items):
            kinds = sequences[i].kinds
            table[row, : len(features[i]), : len(kinds)] = models.log_likelihood(features[i])[:, kinds]
            optional[row, : len(kinds)] = sequences[i].optional
        frames = torch.tensor([len(features[i]) for i in items])
        states = torch.tensor([len(sequences[i].kinds) for i in items])
        found = search(table, optional, frames, states)
        for row, i in enumerate(items):
            paths[i] = found[row, : len(features[i])]
    return paths


def _equal(frames: int, states: int) -> Tensor:
    return torch.arange(frames) * states // max(1, frames)


def fit(
    features: Sequence[Tensor],
    sequences: Sequence[States],
    *,
    kinds: int,
    iterations: int,
    progress: Progress = lambda done, total: None,
) -> StateModels:
    """Models of `kinds` kinds of state, by turns of searching and fitting, from equal lengths on.

    Args:
        features: (frames, features) of each utterance.
    """
    every = torch.cat(list(features)).double()
    mean, variance = every.mean(0), every.var(0).clamp_min(1e-6)
    paths = [_equal(len(f), len(s.kinds)) for f, s in zip(features, sequences, strict=True)]
    models = _fitted(every, paths, sequences, kinds, mean, variance)
    for i in range(iterations):
        paths = align(models, features, sequences)
        models = _fitted(every, paths, sequences, kinds, mean, variance)
        progress(i + 1, iterations)
    return models


def _fitted(
    every: Tensor, paths: Sequence[Tensor], sequences: Sequence[States], kinds: int, mean: Tensor, variance: Tensor
) -> StateModels:
    """The models of greatest posterior, given the state of every frame."""
    labels = torch.cat([s.kinds[path] for path, s in zip(paths, sequences, strict=True)])
    count = torch.bincount(labels, minlength=kinds).double()[:, None]
    total = torch.zeros(kinds, every.shape[1], dtype=torch.float64).index_add_(0, labels, every)
    square = torch.zeros_like(total).index_add_(0, labels, every.square())
    means = (total + PRIOR * mean) / (count + PRIOR)
    squares = (square + PRIOR * (variance + mean.square())) / (count + PRIOR)
    spread = (squares - means.square()).clamp_min(0)
    return StateModels(mean=means.float(), variance=torch.maximum(spread, FLOOR * variance).float())


def unit_durations(path: Tensor, sequence: States, units: int) -> Tensor:
    """Frames of each unit, (units,) int64, of a path of states (frames,)."""
    return torch.bincount(sequence.units[path], minlength=units)
