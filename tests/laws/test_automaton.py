"""Rules for sequences: forward-backward against all strings of a small alphabet, and samples that always obey."""

import itertools
from dataclasses import dataclass

import pytest
import torch

from langevin.diffusion.automaton import Automaton, Obeying, Ruled, allowed_at, both
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import Categorical, MaskedCategorical
from langevin.diffusion.process import Masked
from langevin.diffusion.sampler import (
    AncestralUnmask,
    ConfidenceUnmask,
    ReMDM,
    TokenSampling,
    UnmaskGrid,
    sample,
    start,
)

N, V, MASK = 5, 3, 3
STRINGS = torch.tensor(list(itertools.product(range(V), repeat=N)))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def table(lines, accepting, start=0) -> Automaton:
    return Automaton(transitions=torch.tensor(lines), accepting=torch.tensor(accepting).bool(), start=start)


AUTOMATA = {
    "an even number of 0": table([[1, 0, 0], [0, 1, 1]], [1, 0]),
    "12 somewhere": table([[0, 1, 0], [0, 1, 2], [2, 2, 2]], [0, 0, 1]),
    "no 2 after a 0": table([[1, 0, 0], [1, 1, -1]], [1, 1]),
    "at most one 1": table([[0, 1, 0], [1, -1, 1]], [1, 1]),
    "a single string": allowed_at(torch.eye(V).bool()[[0, 2, 1, 1, 0]]),
    "some at each position": allowed_at(torch.tensor([[1, 1, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1], [1, 0, 1]]).bool()),
}
EVERY = pytest.mark.parametrize("automaton", AUTOMATA.values(), ids=AUTOMATA)


def obeys(name, strings) -> torch.Tensor:
    """The same rules, said in another way."""
    rules = {
        "an even number of 0": lambda s: s.count(0) % 2 == 0,
        "12 somewhere": lambda s: "12" in "".join(map(str, s)),
        "no 2 after a 0": lambda s: 0 not in s or 2 not in s[s.index(0) :],
        "at most one 1": lambda s: s.count(1) <= 1,
        "a single string": lambda s: s == [0, 2, 1, 1, 0],
        "some at each position": lambda s: all(
            c in a for c, a in zip(s, ([0, 1], [1, 2], [0, 1, 2], [2], [0, 2]), strict=True)
        ),
    }
    return torch.tensor([rules[name](s) for s in strings.tolist()])


@pytest.mark.parametrize("name", AUTOMATA)
def test_an_automaton_accepts_what_its_rule_says(name):
    assert torch.equal(AUTOMATA[name].accepts(STRINGS), obeys(name, STRINGS))
    assert bool(obeys(name, STRINGS).any())


@pytest.mark.parametrize(("a", "b"), list(itertools.combinations(AUTOMATA, 2)))
def test_two_rules_together_are_both(a, b):
    assert torch.equal(both(AUTOMATA[a], AUTOMATA[b]).accepts(STRINGS), obeys(a, STRINGS) & obeys(b, STRINGS))


def posterior(automaton, given=None, b=3) -> Obeying:
    """Predictions for b sequences, of which some positions may be given."""
    masked = torch.ones(b, N).bool() if given is None else (torch.tensor(given) == MASK).expand(b, -1)
    x_t = torch.full((b, N), MASK) if given is None else torch.tensor(given).expand(b, -1)
    logits = 2 * normal(b, N, V)
    base = MaskedCategorical(logits[masked], masked, x_t)
    return Obeying(base=base, automaton=automaton, x_t=x_t, masked=masked)


def joint(q: Obeying) -> torch.Tensor:
    """(b, strings) the probabilities of all strings given that they obey and have the given tokens, by enumeration."""
    p = q.base.dense().logits.softmax(-1)
    each = torch.stack([p[:, i, STRINGS[:, i]] for i in range(N)]).prod(0)
    return each * q.automaton.accepts(STRINGS)


@EVERY
@pytest.mark.parametrize("given", [None, [MASK, MASK, 1, MASK, MASK]])
def test_marginals_and_evidence_are_those_of_all_strings(automaton, given):
    q = posterior(automaton, given)
    whole = joint(q)
    torch.testing.assert_close(q.log_evidence, whole.sum(1).log(), rtol=1e-9, atol=1e-9)
    marginal = torch.stack(
        [torch.stack([whole[:, STRINGS[:, i] == v].sum(1) for v in range(V)], -1) for i in range(N)], 1
    )
    marginal = marginal / marginal.sum(-1, keepdim=True)
    torch.testing.assert_close(q.logits.softmax(-1), marginal[q.masked], rtol=1e-8, atol=1e-10)


@EVERY
def test_draws_have_the_joint_law_of_all_strings(automaton):
    b = 20_000
    q = posterior(automaton, [MASK, MASK, 1, MASK, MASK], b=1)
    many = q.select(torch.zeros(b, dtype=torch.int64))
    drawn = many.draw(SampleNoise(seeds=torch.arange(b), steps=torch.zeros(b, dtype=torch.int64)))
    assert bool(automaton.accepts(drawn).all())
    p = joint(q)[0] / joint(q)[0].sum()
    counts = (drawn[:, None] == STRINGS).all(-1).sum(0).double()
    inside = p > 0
    assert int(counts[~inside].sum()) == 0
    often = b * p >= 5  # the others are one cell
    seen, wanted = (torch.cat([part[often], part[~often].sum()[None]]) for part in (counts, b * p))
    chi2 = ((seen - wanted).square() / wanted.clamp_min(1)).sum()
    freedom = len(seen) - 1
    assert float(chi2) < freedom + 5 * (2 * freedom) ** 0.5 + 1


def test_classes_of_tokens_change_nothing():
    """A vocabulary of 40 whose tokens act like three: as if each were a class."""
    group = torch.arange(40) % V
    wide = Automaton(
        transitions=AUTOMATA["12 somewhere"].transitions[:, group], accepting=AUTOMATA["12 somewhere"].accepting
    )
    assert wide.table.shape == (3, 3)
    logits = normal(2, N, 40)
    masked, x_t = torch.ones(2, N).bool(), torch.full((2, N), 40)
    q = Obeying(base=Categorical(logits), automaton=wide, x_t=x_t, masked=masked)
    summed = torch.stack([logits[..., group == v].logsumexp(-1) for v in range(V)], -1)
    narrow = Obeying(base=Categorical(summed), automaton=AUTOMATA["12 somewhere"], x_t=x_t, masked=masked)
    torch.testing.assert_close(q.log_evidence, narrow.log_evidence)
    own = torch.stack([q.logits.softmax(-1)[:, group == v].sum(-1) for v in range(V)], -1)
    torch.testing.assert_close(own, narrow.logits.softmax(-1))


@dataclass
class Neighbours:
    """A denoiser that is no product: a position is likely to be what is shown beside it."""

    def __call__(self, x_t, t, condition=None):
        shown = torch.nn.functional.one_hot(x_t, V + 1)[..., :V].double()
        logits = 3.0 * (shown.roll(1, 1) + shown.roll(-1, 1)) + torch.tensor([0.5, 0.0, -3.0], dtype=torch.float64)
        masked = x_t == MASK
        return MaskedCategorical(logits[masked], masked, x_t)


SAMPLERS = {
    "unmask": AncestralUnmask(), "one by one": AncestralUnmask(order="random"), "confidence": ConfidenceUnmask(),
    "entropy": ConfidenceUnmask(score="entropy"), "remdm": ReMDM(),
    "cold": AncestralUnmask(tokens=TokenSampling(temperature=0.0)),
    "nucleus": AncestralUnmask(tokens=TokenSampling(top_p=0.1)),
}  # fmt: skip


@EVERY
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("steps", [1, 3])
def test_every_finished_sequence_obeys_however_many_positions_are_revealed_at_once(automaton, sampler, steps):
    b, process = 200, Masked(vocab_size=V)
    times = UnmaskGrid()(torch.full((b,), steps))
    state = start(sampler, process, torch.zeros(b, N, dtype=torch.int64), times, torch.arange(b))
    for told in sample(sampler, process, Ruled(denoiser=Neighbours(), automaton=automaton, mask=MASK), state):
        state = told
    assert bool(automaton.accepts(state.x).all())


def test_of_independent_positions_samples_are_those_of_the_model_that_obey():
    """One position at a time or all at once: the law is p(x) [x obeys] / Z."""
    b, process, automaton = 20_000, Masked(vocab_size=V), AUTOMATA["12 somewhere"]
    logits = normal(N, V, seed=2)

    def independent(x_t, t, condition=None):
        masked = x_t == MASK
        return MaskedCategorical(logits.expand(len(x_t), N, V)[masked], masked, x_t)

    p = torch.stack([logits.softmax(-1)[i, STRINGS[:, i]] for i in range(N)]).prod(0) * automaton.accepts(STRINGS)
    for order in ("step", "random"):
        sampler = AncestralUnmask(order=order)
        times = UnmaskGrid()(torch.full((b,), 2))
        state = start(sampler, process, torch.zeros(b, N, dtype=torch.int64), times, torch.arange(b))
        for told in sample(sampler, process, Ruled(denoiser=independent, automaton=automaton, mask=MASK), state):
            state = told
        share = (state.x[:, None] == STRINGS).all(-1).double().mean(0)
        assert float((share - p / p.sum()).abs().sum() / 2) < 0.035


def test_samples_of_a_batch_are_independent():
    automaton = AUTOMATA["an even number of 0"]
    q = posterior(automaton, b=4)
    noise = SampleNoise(seeds=torch.arange(4), steps=torch.zeros(4, dtype=torch.int64))
    whole = q.draw(noise)
    for i in range(4):
        one = slice(i, i + 1)
        alone = q.select(one).draw(SampleNoise(seeds=noise.seeds[one], steps=noise.steps[one]))
        assert torch.equal(alone[0], whole[i])


# ---------------------------------------------------------------------------------------------------------- refusals


def test_what_cannot_be_obeyed_is_said_before_any_work():
    single = AUTOMATA["a single string"]
    single.require_possible(torch.full((N,), MASK), MASK)
    with pytest.raises(ValueError, match="the given tokens do not fit the rule: nothing is left at position 1 of 5"):
        single.require_possible(torch.tensor([MASK, 0, MASK, MASK, MASK]), MASK)
    with pytest.raises(ValueError, match="accepts nothing so long: nothing is left at position 5 of 6"):
        single.require_possible(torch.full((6,), MASK), MASK)
    with pytest.raises(ValueError, match="accepts nothing of 3 tokens"):
        single.require_possible(torch.full((3,), MASK), MASK)
    with pytest.raises(ValueError, match="no token is allowed at position 1"):
        allowed_at(torch.tensor([[1, 0, 0], [0, 0, 0]]).bool())
    with pytest.raises(ValueError, match="leads to states 0 to 1"):
        table([[2, 0, 0], [0, 1, 1]], [1, 0])
    with pytest.raises(ValueError, match="accepts no sequence"):
        _ = posterior(single, [1, MASK, MASK, MASK, MASK]).log_evidence


def test_the_only_way_to_obey_is_found_however_improbable_it_is():
    """40 tokens that the prediction excludes, all of them forced: a probability of 1e-480."""
    n = 40
    wanted = torch.arange(n) % 2
    automaton = allowed_at(torch.nn.functional.one_hot(wanted, V).bool())
    other = both(automaton, table([[0, 0, 1], [1, 1, 1]], [1, 1]))
    logits = torch.full((n, V), -50.0, dtype=torch.float64)
    logits[:, 2] = 50
    masked, x_t = torch.ones(1, n).bool(), torch.full((1, n), MASK)
    base = MaskedCategorical(logits, masked, x_t)
    for rule in (automaton, other):
        found = Obeying(base=base, automaton=rule, x_t=x_t, masked=masked)
        noise = SampleNoise(seeds=torch.tensor([0]), steps=torch.tensor([0]))
        assert found.draw(noise)[0].tolist() == wanted.tolist()
        assert torch.equal(found.logits.argmax(1), wanted)
        assert float(found.log_evidence) < -1000
