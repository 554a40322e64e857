"""Laws of the samplers that take back, and of ancestral steps where what is seen may be wrong.

One step of each is enumerated on all states of a language of three places, and its draws are compared with that. From the
true law of x_t every place's own law goes to that of x_s exactly, though the joint law does not: places move at once.
"""

import itertools

import pytest
import torch

from langevin.diffusion.denoiser import TokenDenoiser
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import Categorical
from langevin.diffusion.process import GIDD, Masked, UniformDiffusion
from langevin.diffusion.process.interpolating import leave_one_out, posterior
from langevin.diffusion.sampler import Ancestral, GibbsSampler, PsiSampler, ReMDM, sample, start
from langevin.diffusion.sampler.state import State
from tests import exact
from tests.laws.chains import (
    Answer,
    again,
    all_states,
    back,
    channel,
    even,
    finish,
    follow,
    follows,
    instant,
    marginals,
    move,
    noised,
)  # fmt: skip

ROWS = 20_000
LAW = exact.entangled()
PROCESSES = {
    "masked": Masked(vocab_size=3),
    "masked_cosine": Masked(vocab_size=3, schedule="cosine"),
    "uniform": UniformDiffusion(vocab_size=3),
    "hybrid": GIDD(vocab_size=3, uniform_fraction=0.3),
}
EVERY = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


def from_all_states(process, t: float, s: float):
    """(states, their law, their exact posterior) at t, and a state of sampling with rows drawn from that law."""
    z, chance = all_states(LAW).words, noised(process, LAW, t)
    post = Answer(process, LAW).probabilities(z, instant(t).expand(len(z)))
    picked = torch.multinomial(chance, ROWS, replacement=True, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([t, s], dtype=torch.float64).expand(ROWS, -1)
    return z, chance, torch.where(chance[:, None, None] > 0, post, 0.0), picked, times


def with_wheels(state: State) -> State:
    """As begun with all places masked: nothing that is shown was given."""
    return State(**{**vars(state), "memory": {name: torch.ones_like(v) for name, v in state.memory.items()}})


def stepped(tool, process, picked: torch.Tensor, times: torch.Tensor, post: torch.Tensor) -> torch.Tensor:
    """The numbers of the states after one step from the states `picked`."""
    x = all_states(LAW).words[picked]
    state = with_wheels(start(tool, process, x, times, torch.arange(ROWS), x=x))
    return all_states(LAW).index(tool.update(state, Categorical(post[picked].log()), process).x)


@EVERY
def test_the_answer_of_a_network_that_leaves_places_out_is_the_posterior(process):
    """Two routes: Bayes' rule over all words, and the law given the others with the place's own evidence added."""
    for t in (0.25, 0.9):
        z, chance = all_states(LAW).words, noised(process, LAW, t)
        z, time = z[chance > 0], instant(t).expand(int((chance > 0).sum()))
        answer = Answer(process, LAW)
        loo, whole = answer.leave_one_out(z, time).log(), answer.probabilities(z, time)
        torch.testing.assert_close(posterior(process, loo, z, time).logits.softmax(-1), whole, rtol=0, atol=1e-12)
        told = TokenDenoiser(network=lambda x, c, condition, loo=loo: loo, process=process)(z, time)
        torch.testing.assert_close(told.logits.double().softmax(-1), whole, rtol=0, atol=1e-6)
        if not isinstance(process, Masked):
            out = leave_one_out(process, Categorical(whole.log()), z, time).logits.softmax(-1)
            torch.testing.assert_close(out, loo.exp(), rtol=0, atol=1e-12)


@EVERY
@pytest.mark.parametrize("t", [1.0, 1e-3])
def test_answers_are_finite_laws_at_the_ends_of_time(process, t):
    """Of every text, those that a process cannot show at that time included: what it cannot show is the truth."""
    z = torch.cat([all_states(LAW).words, torch.tensor([[0, process.mask + 1, process.mask]])])
    loo = torch.randn(len(z), 3, 3, generator=torch.Generator().manual_seed(0))
    for time in (
        instant(t).expand(len(z)),
        instant(0.0).expand(len(z)),
        torch.tensor([[t, 0.0, t]]).expand(len(z), -1),
    ):
        p = posterior(process, loo, z, time).logits.softmax(-1)
        torch.testing.assert_close(p.sum(-1), torch.ones_like(p[..., 0]))
        if t == 1 and not isinstance(process, UniformDiffusion):
            shown = z < process.mask
            assert bool((p[shown].amax(-1) == 1).all())
            assert torch.equal(p[shown].argmax(-1), z[shown])


@EVERY
@pytest.mark.parametrize("kappa", [0.0, 0.7, 1.0])
def test_a_step_that_takes_back_keeps_the_law_of_each_place(process, kappa):
    for t, s in ((0.9, 0.4), (0.35, 0.3), (0.5, 0.0)):
        z, chance, post, _, _ = from_all_states(process, t, s)
        law = move(chance, kappa * back(process, post, z, t, s) + (1 - kappa) * again(process, post, s))
        torch.testing.assert_close(marginals(law, LAW), marginals(noised(process, LAW, s), LAW), rtol=0, atol=1e-13)
        assert float((law - noised(process, LAW, s)).abs().max()) > 1e-5  # places moved at once: not the joint law


@EVERY
@pytest.mark.parametrize("kappa", [0.0, 0.6, 1.0])
def test_draws_of_a_step_that_takes_back_follow_its_law(process, kappa):
    t, s = 0.7, 0.45
    z, chance, post, picked, times = from_all_states(process, t, s)
    assert follows(picked, chance)
    law = move(chance, kappa * back(process, post, z, t, s) + (1 - kappa) * again(process, post, s))
    drawn = stepped(PsiSampler(kappa=kappa), process, picked, times, post)
    assert follows(drawn, law)
    if kappa == 1:
        assert follows(stepped(Ancestral(), process, picked, times, post), law)
    if kappa == 0:  # the draws are many enough to tell what is taken back from what is not
        assert not follows(drawn, move(chance, back(process, post, z, t, s)))


@EVERY
def test_without_taking_back_it_is_ancestral_from_begin_to_end(process):
    """Whole runs, of the exactly enumerated law of eight steps."""
    law, grid = small(), even(8)
    want = follow(process, law, grid.tolist())
    for tool in (PsiSampler(kappa=1.0), Ancestral()):
        state = finish(tool, process, Answer(process, law), grid, rows=ROWS, places=law.places)
        assert follows(law.index(state.x), want)


@pytest.mark.parametrize("kappa", [0.5, 0.9])
@EVERY
def test_whole_runs_that_take_back_follow_their_enumerated_law(process, kappa):
    law, grid = small(), even(8)

    def step(process, post, z, t, s):
        return kappa * back(process, post, z, t, s) + (1 - kappa) * again(process, post, s)

    want = follow(process, law, grid.tolist(), step)
    state = finish(PsiSampler(kappa=kappa), process, Answer(process, law), grid, rows=ROWS, places=law.places)
    assert follows(law.index(state.x), want)


def remasked(process: Masked, post: torch.Tensor, z: torch.Tensor, t: float, s: float, sigma: float) -> torch.Tensor:
    """The published step: masks return with sigma, places show with (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t)."""
    before, after = float(process.mask_probability(instant(t))), float(process.mask_probability(instant(s)))
    reveal = ((1 - after) - (1 - sigma) * (1 - before)) / before
    hot = torch.nn.functional.one_hot(z, 4).double()
    is_mask = torch.nn.functional.one_hot(torch.tensor(3), 4).double()
    masked = reveal * torch.nn.functional.pad(post, (0, 1)) + (1 - reveal) * is_mask
    return torch.where((z == 3)[..., None], masked, (1 - sigma) * hot + sigma * is_mask)


@pytest.mark.parametrize("name", ["masked", "masked_cosine"])
@pytest.mark.parametrize(("rule", "eta"), [("cap", 0.1), ("cap", 1.0), ("rescale", 0.3), ("rescale", 1.0)])
@pytest.mark.parametrize(("t", "s"), [(0.7, 0.45), (0.9, 0.2), (0.4, 0.0), (1.0, 0.6)])
def test_masks_that_return_are_draws_that_are_corrupted_anew(name, rule, eta, t, s):
    """ReMDM(sigma) is Psi(kappa = 1 - sigma / (1 - alpha_s)) where that is a share, and keeps each place's law always."""
    process = PROCESSES[name]
    z, chance, post, picked, times = from_all_states(process, t, s)
    before, after = float(process.mask_probability(instant(t))), float(process.mask_probability(instant(s)))
    most = 1.0 if t == 1 else min(1.0, after / (1 - before))
    sigma = min(eta, most) if rule == "cap" else eta * most
    law = move(chance, remasked(process, post, z, t, s, sigma))
    torch.testing.assert_close(marginals(law, LAW), marginals(noised(process, LAW, s), LAW), rtol=0, atol=1e-13)
    if sigma <= after:
        kappa = 1 - sigma / after if after > 0 else 1.0
        same = kappa * back(process, post, z, t, s) + (1 - kappa) * again(process, post, s)
        torch.testing.assert_close(move(chance, same), law, rtol=0, atol=1e-13)
    assert follows(stepped(ReMDM(rule=rule, eta=eta), process, picked, times, post), law)


def test_whole_runs_that_mask_again_follow_their_enumerated_law():
    """As much masked again as the marginals allow: another law than that of ancestral steps, and this one."""
    process, law, grid, eta = PROCESSES["masked"], small(), even(6), 1.0

    def step(process, post, z, t, s):
        most = 1.0 if t == 1 else min(1.0, s / (1 - t))
        return remasked(process, post, z, t, s, eta * most)

    want = follow(process, law, grid.tolist(), step)
    state = finish(ReMDM(eta=eta), process, law, grid, rows=ROWS, places=law.places)
    assert follows(law.index(state.x), want)
    plain = follow(process, law, grid.tolist())
    assert not follows(law.index(state.x), plain)


# ------------------------------------------------------------------------------------------------------------ sweeps


def words(law: torch.Tensor, rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return LAW.words[torch.multinomial(law, rows, replacement=True, generator=generator)]


@pytest.mark.parametrize("steps", [1, 6])
def test_sweeps_of_one_place_a_question_leave_the_joint_law(steps):
    process = PROCESSES["masked"]
    tool, x = GibbsSampler(block_fraction=0.05), words(LAW.p, ROWS)
    state = start(tool, process, x, even(steps).expand(ROWS, -1), torch.arange(ROWS), x=x)
    assert bool(((state.x == 3).sum(1) == 1).all())
    for told in sample(tool, process, LAW, state):
        state = told
        assert bool(((state.x == 3).sum(1) == (~state.done).long()).all())
    assert follows(LAW.index(state.x), LAW.p)
    assert float((state.x != x).any(1).double().mean()) > 0.2


def test_sweeps_bring_another_law_to_the_joint_one_and_many_places_at_once_do_not():
    """From words drawn evenly; the chain of one place a question is enumerated."""
    process, flat, steps = PROCESSES["masked"], torch.full((27,), 1 / 27, dtype=torch.float64), 4
    x = words(flat, ROWS)
    kernel = torch.zeros(27, 27, dtype=torch.float64)
    for place in range(3):
        hidden = LAW.words.clone()
        hidden[:, place] = 3
        p = LAW.marginals(hidden)[:, place]
        for v in range(3):
            new = LAW.words.clone()
            new[:, place] = v
            kernel[torch.arange(27), LAW.index(new)] += p[:, v] / 3
    torch.testing.assert_close(LAW.p @ kernel, LAW.p)
    want = flat @ torch.linalg.matrix_power(kernel, steps)

    def swept(share: float, steps: int) -> torch.Tensor:
        tool = GibbsSampler(block_fraction=share)
        state = start(tool, process, x, even(steps).expand(ROWS, -1), torch.arange(ROWS), x=x)
        for told in sample(tool, process, LAW, state):
            state = told
        return LAW.index(state.x)

    assert follows(swept(0.05, steps), want)
    assert not follows(swept(0.05, 1), want)
    assert not follows(swept(1.0, steps), LAW.p)  # all places at once: the product of the marginals


def test_sweeps_begin_from_a_whole_text_and_hide_as_many_places_as_they_say():
    process = Masked(vocab_size=5)
    x = torch.randint(0, 5, (50, 12), generator=torch.Generator().manual_seed(0))
    x[:, 10:] = process.mask + 1
    times = even(3).expand(50, -1)
    for share, want in ((0.01, 1), (0.3, 3), (0.5, 5), (1.0, 10)):
        state = start(GibbsSampler(block_fraction=share), process, x, times, torch.arange(50), x=x)
        hidden = state.x == process.mask
        assert bool((hidden.sum(1) == want).all())
        assert bool((hidden.any(0) == (torch.arange(12) < 10)).all())
        assert torch.equal(state.x[~hidden], x[~hidden])
    with pytest.raises(ValueError, match="text without masks"):
        start(GibbsSampler(), process, x, times, torch.arange(50))


# ---------------------------------------------------------------------------------- what is seen may be wrong, or known


def small() -> exact.Enumerated:
    """Two places that depend on one another."""
    p = torch.tensor([8.0, 1.0, 0.3, 0.5, 5.0, 2.0, 3.0, 0.2, 4.0], dtype=torch.float64)
    return exact.Enumerated(p=p / p.sum(), places=2)


@pytest.mark.parametrize("name", ["uniform", "hybrid", "masked"])
def test_ancestral_steps_follow_their_enumerated_law_and_it_nears_the_data(name):
    process, law = PROCESSES[name], small()
    far = {n: 0.5 * float((follow(process, law, even(n).tolist()) - law.p).abs().sum()) for n in (1, 4, 16, 64)}
    assert far[1] > 0.1
    assert all(far[fine] < far[coarse] / 2 for coarse, fine in itertools.pairwise(far))
    assert far[64] < 0.03  # the hybrid is the slowest: its wrong symbols come and go like the root of t
    want = follow(process, law, even(64).tolist())
    state = finish(Ancestral(), process, Answer(process, law), even(64), rows=ROWS, places=2)
    assert follows(law.index(state.x), want)
    assert not follows(law.index(state.x), follow(process, law, even(1).tolist()))


@EVERY
@pytest.mark.parametrize("kappa", [0.5, 1.0])
def test_places_of_time_zero_are_known_and_the_others_follow_the_law_given_them(process, kappa):
    """The middle place of three is known; with one place at a time the law of the others is exact at kappa = 1."""
    given = torch.tensor([process.mask, 1, process.mask])
    noise = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    grid, x = even(48)[:, None] * noise, given.expand(ROWS // 2, -1).clone()
    if isinstance(process, UniformDiffusion):
        draws = SampleNoise(seeds=torch.arange(len(x)), steps=torch.full((len(x),), 99)).uniform(x)
        x = torch.where(x == process.mask, (3 * draws).long(), x)
    tool = PsiSampler(kappa=kappa)
    times = grid.expand(len(x), -1, -1)
    state = start(tool, process, x, times, torch.arange(len(x)), x=x)
    for told in sample(tool, process, Answer(process, LAW), state):
        state = told
        assert bool((state.x[:, 1] == 1).all())
    assert bool((state.x < 3).all())
    rest = LAW.p.reshape(3, 3, 3)[:, 1].flatten()
    pair = exact.Enumerated(p=rest / rest.sum(), places=2)

    def step(process, post, z, t, s):
        return kappa * back(process, post, z, t, s) + (1 - kappa) * again(process, post, s)

    assert follows(state.x[:, 0] * 3 + state.x[:, 2], follow(process, pair, even(48).tolist(), step))


@EVERY
def test_each_place_goes_by_its_own_time(process):
    """A step with times (b, places) is enumerated place by place: one falls far, one little, one stays."""
    t, s = torch.tensor([0.9, 0.5, 0.3], dtype=torch.float64), torch.tensor([0.2, 0.45, 0.3], dtype=torch.float64)
    words, z = LAW.words, all_states(LAW).words
    sees = channel(process, t.expand(27, -1), words)
    chance = LAW.p @ torch.stack([sees[:, i][:, z[:, i]] for i in range(3)]).prod(0)
    post = Answer(process, LAW).probabilities(z, t.expand(len(z), -1))
    post = torch.where(chance[:, None, None] > 0, post, 0.0)
    for kappa in (0.5, 1.0):
        tables = []
        for i in range(3):
            step, anew = (
                f[:, i] for f in (back(process, post, z, float(t[i]), float(s[i])), again(process, post, float(s[i])))
            )
            tables.append(step if s[i] == t[i] else kappa * step + (1 - kappa) * anew)
        law = move(chance, torch.stack(tables, 1))
        picked = torch.multinomial(chance, ROWS, replacement=True, generator=torch.Generator().manual_seed(1))
        times = torch.stack([t, s]).expand(ROWS, -1, -1)
        assert follows(stepped(PsiSampler(kappa=kappa), process, picked, times, post), law)
