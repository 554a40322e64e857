"""The law of a discrete sampler by enumeration: all states of a short language, moved by the law of a step.

A step of these samplers changes places independently given the state, so its kernel is a product over places of tables
(states, places, V + 1), and a chain of them is matrix products: no draws. States count in base V + 1, the mask last.
"""

import itertools

import torch
from torch import Tensor

from langevin.diffusion.posterior import Categorical
from langevin.diffusion.process.interpolating import Discrete
from langevin.diffusion.sampler import sample, start
from langevin.diffusion.shape import append_dims
from tests import exact
from tests.laws.bounds import chi_square, chi_square_bound


def instant(t: float) -> Tensor:
    return torch.tensor([t], dtype=torch.float64)


def channel(process: Discrete, t: Tensor, x: Tensor) -> Tensor:
    """q_t(z | x) of every place's x (b, places), (b, places, V + 1); t is (b,) or (b, places)."""
    a = process.arrivals(t.double())
    alpha, symbol, mask = (append_dims(part, x)[..., None] for part in (a.alpha, a.uniform, a.mask))
    kept = torch.nn.functional.one_hot(x, process.vocab_size + 1) * alpha
    is_mask = torch.arange(process.vocab_size + 1) == process.mask
    return kept + torch.where(is_mask, mask, symbol)


class Answer:
    """The exact posterior of a language under a process: p(x_i | x_t), (b, places, V), from all its words."""

    def __init__(self, process: Discrete, law: exact.Enumerated) -> None:
        self.process, self.law = process, law

    def leave_one_out(self, z: Tensor, t: Tensor) -> Tensor:
        """p(x_i | x_t without place i), (b, places, V)."""
        places = torch.arange(z.shape[1])
        return torch.stack([self._joint(z, t, places != i)[:, i] for i in places], 1)

    def probabilities(self, z: Tensor, t: Tensor) -> Tensor:
        """p(x_i | x_t), (b, places, V)."""
        return self._joint(z, t, torch.ones_like(z[0], dtype=torch.bool))

    def _joint(self, z: Tensor, t: Tensor, seen: Tensor) -> Tensor:
        """Believing the places in `seen` (places,) only."""
        words = self.law.words  # q(z | word) = prod_i q_t(z_i | word_i)
        every = torch.arange(self.law.vocab_size).view(-1, 1, 1).expand(-1, *z.shape)
        each = torch.stack([channel(self.process, t, x).gather(-1, z[..., None])[..., 0] for x in every], -1)
        each = torch.where(seen[:, None], each, 1.0)
        likely = torch.stack([each[:, i, words[:, i]] for i in range(self.law.places)]).prod(0) * self.law.p
        hot = torch.nn.functional.one_hot(words, self.law.vocab_size).double()
        return torch.einsum("bw,wls->bls", likely / likely.sum(-1, keepdim=True).clamp_min(1e-300), hot)

    def __call__(self, z: Tensor, t: Tensor, condition: object = None) -> Categorical:
        states = all_states(self.law)
        if len(z) <= len(states.words) or not bool((t == t[:1]).all()):
            return Categorical(self.probabilities(z, t).log())
        every = self.probabilities(states.words, t[:1].expand(len(states.words), *t.shape[1:]))  # all rows in one table
        return Categorical(every[states.index(z)].log())


def all_states(law: exact.Enumerated) -> exact.Enumerated:
    """The language of all states: symbols and the mask."""
    return exact.Enumerated(p=torch.zeros(0), vocab_size=law.vocab_size + 1, places=law.places)


def noised(process: Discrete, law: exact.Enumerated, t: float) -> Tensor:
    """p_t of every state, from the words of the law."""
    each = channel(process, instant(t).expand(len(law.words)), law.words)  # (words, places, V + 1)
    z = all_states(law).words
    return torch.einsum("w,wz->z", law.p, torch.stack([each[:, i, z[:, i]] for i in range(law.places)]).prod(0))


def back(process: Discrete, post: Tensor, z: Tensor, t: float, s: float) -> Tensor:
    """(states, places, V + 1): sum_x post(x) p(z_s | z_t, x), by Bayes' rule for each x."""
    a_t, a_s = process.arrivals(instant(t)), process.arrivals(instant(s))
    ratio = float(a_t.alpha / a_s.alpha)
    arrive = torch.cat([(a_t.uniform - ratio * a_s.uniform).expand(process.vocab_size), a_t.mask - ratio * a_s.mask])
    kernel = ratio * torch.eye(process.vocab_size + 1, dtype=torch.float64) + arrive  # K(z_t | z_s), from z_s in rows
    x = torch.arange(process.vocab_size)[:, None]
    joint = channel(process, instant(s).expand(len(x)), x)[:, 0, :, None] * kernel  # (x, z_s, z_t)
    total = joint.sum(1, keepdim=True)
    by_x = torch.where(total > 0, joint / total, 0.0)
    return torch.einsum("zlx,xszl->zls", post, by_x[:, :, z])


def again(process: Discrete, post: Tensor, s: float) -> Tensor:
    """(states, places, V + 1): a draw of the answer, corrupted to s."""
    x = torch.arange(process.vocab_size)[:, None]
    return post @ channel(process, instant(s).expand(len(x)), x)[:, 0]


def move(chance: Tensor, place: Tensor) -> Tensor:
    """The law of the state (states,) after places went by their tables (states, places, V + 1)."""
    new = chance[:, None]
    for i in range(place.shape[1]):
        new = torch.einsum("zn,zs->zns", new, place[:, i]).flatten(1)
    return new.sum(0)


def marginals(chance: Tensor, law: exact.Enumerated) -> Tensor:
    """(places, V + 1) of a law over all states."""
    hot = torch.nn.functional.one_hot(all_states(law).words, law.vocab_size + 1).double()
    return torch.einsum("z,zls->ls", chance, hot)


def words_of(chance: Tensor, law: exact.Enumerated) -> Tensor:
    """The law of the words, of a law over all states that shows no mask any more."""
    assert float(chance.sum()) - float(chance[all_states(law).index(law.words)].sum()) < 1e-12
    return chance[all_states(law).index(law.words)]


def follow(process: Discrete, law: exact.Enumerated, times: list[float], step=back) -> Tensor:
    """The law over words after `times` (falling to 0), begun from the prior, answered exactly."""
    z, chance = all_states(law).words, noised(process, law, times[0])
    answer = Answer(process, law)
    for t, s in itertools.pairwise(times):
        post = answer.probabilities(z, instant(t).expand(len(z)))
        post = torch.where(chance[:, None, None] > 0, post, 0.0)
        chance = move(chance, step(process, post, z, t, s))
    return words_of(chance, law)


def finish(sampler, process, denoiser, times: Tensor, *, rows: int, places: int, x: Tensor | None = None):
    """The last state of `rows` rows on one grid (n + 1,) or (n + 1, places), seeds 0 .. rows - 1."""
    grid = times.expand(rows, *times.shape)
    state = start(sampler, process, torch.zeros(rows, places, dtype=torch.int64), grid, torch.arange(rows), x=x)
    for told in sample(sampler, process, denoiser, state):
        state = told
    return state


def even(steps: int) -> Tensor:
    """1 - i / steps."""
    return 1 - torch.arange(steps + 1, dtype=torch.float64) / steps


def follows(index: Tensor, p: Tensor) -> bool:
    """Whether draws (n,) in [0, len(p)) are of the law p: chi-square, rare outcomes taken together."""
    counts = torch.bincount(index, minlength=len(p)).double()
    if bool((counts[p < 1e-15] > 0).any()):
        return False
    common = p * counts.sum() >= 10
    counts = torch.cat([counts[common], counts[~common].sum()[None]])
    p = torch.cat([p[common], p[~common].sum()[None]])
    kept = p * counts.sum() >= 1e-3
    if bool((counts[~kept] > 0).any()) or int(kept.sum()) < 2:
        return bool((counts[~kept] == 0).all())
    return chi_square(counts[kept], p[kept]) < chi_square_bound(int(kept.sum()) - 1)
