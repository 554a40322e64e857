"""Laws of the samplers that unmask: what they return, how often they ask, and that rows, padding and prompts are let be.

With exact conditionals one place a question is the chain rule, in whatever order the answers put the places; many places a
question are independent given what is shown, and the law is that of an enumerated chain.
"""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import Categorical, MaskedCategorical
from langevin.diffusion.process import Masked
from langevin.diffusion.sampler import (
    Ancestral,
    AncestralUnmask,
    ConfidenceUnmask,
    GibbsSampler,
    PsiSampler,
    ReMDM,
    ThresholdUnmask,
    TokenSampling,
    sample,
    start,
)
from langevin.diffusion.sampler.state import stack
from tests import exact
from tests.laws.bounds import normal_bound
from tests.laws.chains import Answer, all_states, channel, even, finish, follow, follows, instant
from tests.laws.parts import MASKED_SAMPLERS

ROWS = 12_000
MASKED = Masked(vocab_size=3)
LAW = exact.entangled()

# ------------------------------------------------------------------------------------------------ what they return

ONE_BY_ONE = {
    "random": (AncestralUnmask(order="random"), 1, MASKED),
    "left": (AncestralUnmask(order="left_to_right"), 1, MASKED),
    "left_cosine": (AncestralUnmask(order="left_to_right"), 5, Masked(vocab_size=3, schedule="cosine")),
    "surest_margin": (ConfidenceUnmask(score="margin", schedule="linear"), 3, MASKED),
    "surest_entropy": (ConfidenceUnmask(score="entropy", schedule="linear"), 3, MASKED),
    "surest_jittered": (ConfidenceUnmask(score="entropy", schedule="linear", jitter=2.0), 3, MASKED),
    "sure_threshold": (ThresholdUnmask(rule="confidence", threshold=1.0), 7, MASKED),
    "sure_factor": (ThresholdUnmask(rule="factor", threshold=0.0), 3, MASKED),
    "sure_entropy": (ThresholdUnmask(rule="entropy_bound", threshold=0.0), 3, MASKED),
}


@pytest.mark.parametrize(("tool", "steps", "process"), ONE_BY_ONE.values(), ids=ONE_BY_ONE)
def test_one_place_a_question_returns_the_joint_law_whatever_the_order(tool, steps, process):
    state = finish(tool, process, LAW, even(steps), rows=ROWS, places=3)
    assert bool((state.num_calls == 3).all())
    assert follows(LAW.index(state.x), LAW.p)


@pytest.mark.parametrize("tool", [
    ConfidenceUnmask(score="entropy"), ThresholdUnmask(threshold=1.0), AncestralUnmask(),
    Ancestral(),
], ids=lambda tool: tool.kind)  # fmt: skip
def test_all_places_in_one_question_return_the_product_of_their_laws(tool):
    """And the draws are many enough to tell it from the joint law."""
    state = finish(tool, MASKED, LAW, even(1), rows=ROWS, places=3)
    alone = LAW.marginals(torch.full((1, 3), 3))[0]
    assert follows(LAW.index(state.x), torch.einsum("a,b,c->abc", *alone).flatten())
    assert not follows(LAW.index(state.x), LAW.p)


def partly(law):
    """The same answers, of the masked places alone."""
    return lambda x_t, t, condition=None: MaskedCategorical(
        law(x_t, t).logits[x_t == MASKED.mask], x_t == MASKED.mask, x_t
    )


@pytest.mark.parametrize("tokens", [TokenSampling(), TokenSampling(temperature=0.6, top_p=0.8)], ids=["plain", "bent"])
@pytest.mark.parametrize("tool", [
    AncestralUnmask(), AncestralUnmask(order="left_to_right"), ConfidenceUnmask(), ConfidenceUnmask(score="margin"),
    ThresholdUnmask(threshold=0.6), ThresholdUnmask(rule="entropy_bound", threshold=0.5), Ancestral(),
    PsiSampler(kappa=0.5), ReMDM(eta=0.5),
], ids=lambda tool: tool.kind)  # fmt: skip
def test_answers_of_masked_places_alone_make_the_same_texts(tool, tokens):
    tool = replace(tool, tokens=tokens)
    whole, part = (finish(tool, MASKED, law, even(3), rows=500, places=3) for law in (LAW, partly(LAW)))
    assert torch.equal(whole.x, part.x)
    assert len(part.x.unique(dim=0)) > 1


def law_of_the_confident(law: exact.Enumerated) -> torch.Tensor:
    """Every masked place drawn, the one of the likeliest draw kept: by going through all draws of all states."""
    states = all_states(law)
    chance = torch.zeros(len(states.words), dtype=torch.float64)
    chance[-1] = 1
    for _ in range(law.places):
        new = torch.zeros_like(chance)
        for z, weight in zip(states.words, chance.tolist(), strict=True):
            hidden = (z == law.vocab_size).nonzero()[:, 0].tolist()
            if weight == 0:
                continue
            p = law.marginals(z[None])[0]
            for drawn in itertools.product(range(law.vocab_size), repeat=len(hidden)):
                each = [float(p[i, v]) for i, v in zip(hidden, drawn, strict=True)]
                if min(each) == 0:
                    continue
                best = each.index(max(each))
                told = z.clone()
                told[hidden[best]] = drawn[best]
                new[states.index(told)] += weight * math.prod(each)
        chance = new
    return chance[states.index(law.words)]


def test_an_order_that_depends_on_what_was_drawn_prefers_likely_symbols():
    """The usual 'confidence' is of the draw: even one place a question it returns another law, and this one."""
    want = law_of_the_confident(LAW)
    tool = ConfidenceUnmask(score="confidence", schedule="linear")
    index = LAW.index(finish(tool, MASKED, LAW, even(3), rows=ROWS, places=3).x)
    assert follows(index, want)
    assert not follows(index, LAW.p)


GRIDS = {"one": even(1), "three": even(3), "uneven": torch.tensor([1.0, 0.9, 0.3, 0.25, 0.0], dtype=torch.float64)}


@pytest.mark.parametrize("rate", ["linear", "cosine", "quadratic"])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_times_drawn_beforehand_give_the_ancestral_law(rate, grid):
    process = Masked(vocab_size=3, schedule=rate)
    want = follow(process, LAW, grid.tolist())
    for tool in (AncestralUnmask(), Ancestral()):
        assert follows(LAW.index(finish(tool, process, LAW, grid, rows=ROWS, places=3).x), want)
    if len(grid) > 2:
        assert not follows(LAW.index(finish(AncestralUnmask(), process, LAW, even(1), rows=ROWS, places=3).x), want)


def gap_of_bound(process: Masked, law: exact.Enumerated, times: list[float]) -> float:
    """The bound of a sampler of these steps, sum_k chance_k E sum of cross-entropies, less the entropy."""
    z, words = all_states(law).words, law.words
    total = float((law.p * law.p.log()).sum())
    for t, s in itertools.pairwise(times):
        sees = channel(process, instant(t).expand(len(words)), words)
        joint = law.p[:, None] * torch.stack([sees[:, i][:, z[:, i]] for i in range(law.places)]).prod(0)  # (words, z)
        post = Answer(process, law).probabilities(z, instant(t).expand(len(z)))
        error = torch.stack([-post[:, i][:, words[:, i]].log().T for i in range(law.places)], -1)  # (words, z, places)
        error = torch.where((z == process.mask) & (joint[..., None] > 0), error, 0.0).sum(-1)
        before, after = process.mask_probability(instant(t)), process.mask_probability(instant(s))
        total += float((before - after) / before) * float((joint * error).sum())
    return total


def divergence(p: torch.Tensor, q: torch.Tensor) -> float:
    return float((p * (p / q).log()).sum())


def test_the_law_of_a_few_steps_is_nearer_than_its_bound_says_and_both_gaps_close():
    steps = (1, 2, 4, 8, 16, 32, 64, 128)
    gaps = [gap_of_bound(MASKED, LAW, even(n).tolist()) for n in steps]
    far = [divergence(LAW.p, follow(MASKED, LAW, even(n).tolist())) for n in steps]
    assert gaps[0] == pytest.approx(far[0], rel=1e-12)  # one step: both are the total correlation
    assert all(0 < kl < gap for kl, gap in zip(far[1:], gaps[1:], strict=True))
    assert all(fine < coarse for coarse, fine in [*itertools.pairwise(gaps), *itertools.pairwise(far)])
    assert gaps[-2] / gaps[-1] == pytest.approx(2, rel=0.02)  # the bound to first order, the law faster
    assert far[-2] / far[-1] > 2
    free = exact.factorised()
    assert abs(gap_of_bound(MASKED, free, even(3).tolist())) < 1e-12


@pytest.mark.parametrize(("steps", "places"), [(1, 4), (16, 5), (16, 40), (100, 30)])
def test_questions_are_as_many_as_steps_in_which_something_happens(steps, places):
    rows = 4000
    grid, like = even(steps).expand(rows, -1), torch.zeros(rows, places, dtype=torch.int64)
    last = start(AncestralUnmask(), MASKED, like, grid, torch.arange(rows)).num_calls.double()
    want = steps * (1 - (1 - 1 / steps) ** places)
    assert abs(float(last.mean()) - want) <= normal_bound(rows, float(last.std())) + 1e-9
    assert int(last.max()) <= min(steps, places)


# --------------------------------------------------------------------------------------------- rows, padding, prompts

V, WIDE = 5, Masked(vocab_size=5)
EVERY = pytest.mark.parametrize("name", MASKED_SAMPLERS)
RATES = pytest.mark.parametrize("rate", ["linear", "cosine"])


def reader(process: Masked, *, certain: bool = True):
    """A network of its own for every row: logits that depend on the text and the time to the last bit, and on nothing else.

    Padding is not read. What is shown is certain, or answered like the rest."""

    def answer(x, t, condition=None):
        real = torch.where(x <= process.mask, x + 1, 0)
        name = (real * (1 + torch.arange(x.shape[1])) ** 3).sum(1)
        steps = (t * 2**40).long()
        noise = SampleNoise(seeds=name, steps=steps if steps.ndim == 1 else steps.amax(1))
        logits = 6 * noise.uniform(torch.zeros(*x.shape, process.vocab_size, dtype=torch.float64))
        shown = (x < process.mask)[..., None]
        hot = torch.nn.functional.one_hot(torch.where(shown[..., 0], x, 0), process.vocab_size).bool()
        return Categorical(torch.where(shown & certain, torch.where(hot, 0.0, -torch.inf), logits))

    return answer


def begun(name: str, process: Masked, given: torch.Tensor, steps: list[int], seeds: list[int], per_place: bool = False):
    """A state of rows with places given (the others masked, or, for Gibbs, something); `per_place` times say so too."""
    tool = MASKED_SAMPLERS[name]
    times = torch.zeros(len(steps), max(steps) + 1, dtype=torch.float64)
    for i, n in enumerate(steps):
        times[i, : n + 1] = even(n)
    if per_place:
        times = times[..., None] * (given >= process.mask)[:, None]
    x = torch.where(given == process.mask, 0, given) if name == "gibbs" else given
    return tool, start(tool, process, given, times, torch.tensor(seeds), x=x)


def end(tool, process, denoiser, state):
    for told in sample(tool, process, denoiser, state):
        state = told
    return state


def some_texts(rows: int, places: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, V, (rows, places), generator=generator)
    return torch.where(torch.rand(rows, places, generator=generator) < 0.7, WIDE.mask, x)


@EVERY
@RATES
def test_a_row_alone_is_the_row_in_a_batch_wherever_the_others_are(name, rate):
    """One batch from the start, and a tiny server that admits a row every second question."""
    process = Masked(vocab_size=V, schedule=rate)
    steps, seeds, given = [1, 2, 5, 9, 14], [7, 1, 100, 3, 7], some_texts(5, 9)
    tool, together = begun(name, process, given, steps, seeds)
    final = end(tool, process, reader(process), together)
    requests = [begun(name, process, given[i : i + 1], [steps[i]], [seeds[i]])[1] for i in range(5)]
    alone = [end(tool, process, reader(process), request) for request in requests]
    for i, one in enumerate(alone):
        assert torch.equal(one.x[0], final.x[i])
        assert torch.equal(one.t[0], final.t[i])
    waiting, active, finished, tick = list(enumerate(requests)), [], {}, 0
    while waiting or active:
        if waiting and tick % 2 == 0:
            active.append(waiting.pop(0))
        if active:
            batch = stack([state for _, state in active])
            batch = tool.update(batch, reader(process)(batch.x, batch.t), process)
            active = [(i, batch.select(slice(j, j + 1))) for j, (i, _) in enumerate(active)]
        finished |= {i: state.x for i, state in active if bool(state.done)}
        active = [(i, state) for i, state in active if not bool(state.done)]
        tick += 1
    for i, one in enumerate(alone):
        assert torch.equal(finished[i], one.x)


@EVERY
@RATES
@pytest.mark.parametrize("per_place", [False, True])
def test_padding_at_the_end_of_a_row_changes_nothing(name, rate, per_place):
    process, rows = Masked(vocab_size=V, schedule=rate), 40
    given, steps, seeds = some_texts(rows, 7), [1 + i % 9 for i in range(rows)], list(range(rows))
    padded = torch.cat([given, torch.full((rows, 4), process.mask + 1)], 1)
    results = [end(tool, process, reader(process), state) for tool, state in (
        begun(name, process, x, steps, seeds, per_place) for x in (given, padded)
    )]  # fmt: skip
    assert torch.equal(results[0].x, results[1].x[:, :7])
    assert bool((results[1].x[:, 7:] == process.mask + 1).all())
    assert len(results[0].x.unique(dim=0)) > rows // 2


@EVERY
@RATES
@pytest.mark.parametrize("per_place", [False, True])
def test_what_is_known_at_the_start_never_changes(name, rate, per_place):
    if name == "gibbs" and not per_place:
        pytest.skip("all of its text is known at the start: only a time of 0 says what is to stay")
    process, rows = Masked(vocab_size=V, schedule=rate), 200
    given = some_texts(rows, 8, seed=3)
    known = given < process.mask
    tool, state = begun(name, process, given, [12] * rows, list(range(rows)), per_place)
    for told in sample(tool, process, reader(process), state):
        state = told
        assert torch.equal(state.x[known], given[known])
    assert len(state.x[~known].unique()) == V


@EVERY
def test_what_is_said_of_shown_places_does_not_matter(name):
    """A network trained on masked places says anything of the others."""
    given = some_texts(60, 8, seed=4)
    told = [
        end(tool, WIDE, reader(WIDE, certain=certain), state).x
        for certain in (True, False)
        for tool, state in [begun(name, WIDE, given, [9] * 60, list(range(60)))]
    ]
    assert torch.equal(*told)


# ------------------------------------------------------------------------------------------------------- their ends

ANSWERS = {
    "read": reader,
    "flat": lambda process: lambda x, t, condition=None: Categorical(torch.zeros(*x.shape, process.vocab_size)),
    "certain": lambda process: (
        lambda x, t, condition=None: Categorical(
            torch.tensor([-torch.inf, 0.0, *[-torch.inf] * (process.vocab_size - 2)]).expand(*x.shape, -1)
        )
    ),
}


@EVERY
@pytest.mark.parametrize("rate", ["linear", "quadratic"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_samplers_end_at_time_zero_without_masks(name, rate, answer):
    """Every number of steps meets every number of masked places, none included, before and after a known one."""
    process = Masked(vocab_size=V, schedule=rate)
    pairs = list(itertools.product([1, 2, 3, 5, 8, 16, 33], range(10)))
    given = torch.full((2 * len(pairs), 11), process.mask + 1)
    for i, (_, places) in enumerate(pairs):
        given[2 * i, : places + 1], given[2 * i + 1, : places + 1] = process.mask, process.mask
        given[2 * i, 0], given[2 * i + 1, places] = 2, 2
    steps = [n for n, _ in pairs for _ in range(2)]
    tool, state = begun(name, process, given, steps, list(range(len(steps))), per_place=False)
    calls = 0
    for told in sample(tool, process, ANSWERS[answer](process), state):
        state, calls = told, calls + 1
        assert bool(((state.t >= 0) & (state.t <= 1)).all())
    assert bool(state.done.all())
    assert bool((state.t == 0).all())
    real = given <= process.mask
    assert bool((state.x[real] < V).all())
    assert bool((state.x[~real] == process.mask + 1).all())
    assert calls == int(state.num_calls.max()) or (name.startswith("threshold") and calls < int(state.num_calls.max()))
    if name not in ("psi", "psi_anew", "ancestral", "gibbs", "remdm", "remdm_cap"):
        assert bool(
            (state.num_calls <= (given == process.mask).sum(1)).all()
        )  # never a question without a masked place


def committed(tool, process, denoiser, places: int, steps: int, seed: int = 0) -> list[int]:
    """How many places are masked at each question of one row, and at the end."""
    state = start(tool, process, torch.zeros(1, places, dtype=torch.int64), even(steps)[None], torch.tensor([seed]))
    left = [int((state.x == process.mask).sum())]
    for told in sample(tool, process, denoiser, state):
        left.append(int((told.x == process.mask).sum()))
    return left


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("answer", ["read", "flat"])
@pytest.mark.parametrize("score", ["confidence", "margin", "entropy"])
def test_as_many_places_are_revealed_as_the_schedule_says(schedule, answer, score):
    """Rows of all step counts in one batch; steps that would reveal nothing are not asked."""
    pairs = list(itertools.product([1, 2, 3, 7, 10, 12, 25], [1, 2, 9, 10, 30]))
    x = torch.full((len(pairs), 30), WIDE.mask + 1)
    for i, (_, places) in enumerate(pairs):
        x[i, :places] = WIDE.mask
    times = torch.zeros(len(pairs), 26, dtype=torch.float64)
    for i, (n, _) in enumerate(pairs):
        times[i, : n + 1] = even(n)
    tool = ConfidenceUnmask(score=score, schedule=schedule)
    state = start(tool, WIDE, x, times, torch.arange(len(pairs)), x=x)
    left = [(state.x == WIDE.mask).sum(1)]
    for told in sample(tool, WIDE, ANSWERS[answer](WIDE), state):
        left.append((told.x == WIDE.mask).sum(1))
    for i, (n, places) in enumerate(pairs):
        if schedule == "linear":
            want = [places * (n - k) // n for k in range(n + 1)]
        else:
            want = [math.floor(places * math.cos(math.pi * k / (2 * n)) + 1e-9) for k in range(n)] + [0]
        want = [w for w, before in zip(want, [-1, *want], strict=False) if w != before]
        seen = [int(column[i]) for column in left]
        assert seen == want + [0] * (len(seen) - len(want))


def told(probabilities: torch.Tensor):
    """The same answer at every question, (places, V)."""
    return lambda x, t, condition=None: Categorical(probabilities.log().expand(len(x), -1, -1))


def some_laws(places: int, seed: int, sharp: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (sharp * torch.randn(places, V, generator=generator, dtype=torch.float64)).softmax(-1)


def first_revealed(tool, p: torch.Tensor, rows: int = 1) -> torch.Tensor:
    """(rows, places) of symbols after one question of as many as there are places."""
    places = len(p)
    grid = even(places).expand(rows, -1)
    state = start(tool, WIDE, torch.zeros(rows, places, dtype=torch.int64), grid, torch.arange(rows))
    return tool.update(state, told(p)(state.x, state.t), WIDE).x


@pytest.mark.parametrize("seed", range(8))
def test_as_many_places_are_revealed_as_the_rule_is_sure_of(seed):
    p = some_laws(9, seed)
    sure, order = p.amax(1).sort(descending=True)
    entropy, by_entropy = (-(p * p.log()).sum(1)).sort()
    for level in (0.3, 0.6, 0.9, 1.0):
        shown = first_revealed(ThresholdUnmask(threshold=level), p)[0] < V
        want = p.amax(1) > level if bool((sure > level).any()) else torch.arange(9) == order[0]
        assert torch.equal(shown, want)
    for level in (0.0, 0.5, 1.0, 3.0, math.inf):
        shown = first_revealed(ThresholdUnmask(rule="factor", threshold=level), p)[0] < V
        fits = [n for n in range(1, 10) if all((m + 1) * (1 - sure[m - 1]) < level for m in range(1, n + 1))]
        assert sorted(shown.nonzero()[:, 0].tolist()) == sorted(order[: max([1, *fits])].tolist())
    for level in (0.0, 0.1, 0.7, 2.0, math.inf):
        shown = first_revealed(ThresholdUnmask(rule="entropy_bound", threshold=level), p)[0] < V
        fits = [n for n in range(1, 10) if float(entropy[:n].sum() - entropy[:n].max()) <= level]
        assert sorted(shown.nonzero()[:, 0].tolist()) == sorted(by_entropy[: max(fits)].tolist())


def test_one_at_a_time_but_for_what_is_certain_and_all_at_once():
    p = some_laws(6, seed=0)
    one, all_ = (ThresholdUnmask(rule="entropy_bound", threshold=level) for level in (0.0, math.inf))
    assert committed(one, WIDE, told(p), 6, 6) == [6, 5, 4, 3, 2, 1, 0]
    assert committed(all_, WIDE, told(p), 6, 6) == [6, 0]
    p[1:4] = torch.eye(V, dtype=torch.float64)[:3]
    assert committed(one, WIDE, told(p), 6, 6) == [6, 2, 1, 0]  # what is certain comes with the first that is not
    assert committed(one, WIDE, told(p), 6, 2) == [6, 2, 0]  # no more questions than the grid has steps


@pytest.mark.parametrize("rule", ["confidence", "factor"])
def test_what_is_sure_is_taken_and_the_rest_drawn(rule):
    p = some_laws(8, seed=1, sharp=1.0)
    taken = first_revealed(ThresholdUnmask(rule=rule, threshold=0.0 if rule == "confidence" else math.inf), p, rows=300)
    assert torch.equal(taken, p.argmax(1).expand(300, -1))
    forced = first_revealed(ThresholdUnmask(rule=rule, threshold=1.0 if rule == "confidence" else 0.0), p, rows=4000)
    place = int(p.amax(1).argmax())
    assert bool((forced[:, [i for i in range(8) if i != place]] == WIDE.mask).all())
    assert follows(forced[:, place], p[place])


@pytest.mark.parametrize("tool", [
    ConfidenceUnmask(score="confidence", tokens=TokenSampling(temperature=0)), ConfidenceUnmask(score="margin"),
    ConfidenceUnmask(score="entropy"), ThresholdUnmask(threshold=1.0), ThresholdUnmask(rule="factor", threshold=0.0),
    ThresholdUnmask(rule="entropy_bound", threshold=0.0), AncestralUnmask(order="left_to_right"),
], ids=lambda tool: f"{tool.kind}_{getattr(tool, 'score', getattr(tool, 'rule', ''))}")  # fmt: skip
def test_places_that_are_equally_sure_come_from_left_to_right(tool):
    """All places answer the same, here with the two likeliest equal; shown places before them do not take their turn."""
    p = torch.tensor([0.3, 0.3, 0.2, 0.1, 0.1], dtype=torch.float64).expand(6, -1)
    given = torch.tensor([[4, WIDE.mask, WIDE.mask, 3, WIDE.mask, WIDE.mask + 1]])
    grid = torch.tensor([[1.0, 2 / 3, 1 / 3, 0.0]], dtype=torch.float64)
    if isinstance(tool, ConfidenceUnmask):
        tool = ConfidenceUnmask(score=tool.score, schedule="linear", tokens=tool.tokens)
    state = start(tool, WIDE, given, grid, torch.tensor([0]), x=given)
    left = [(told_.x == WIDE.mask)[0].nonzero()[:, 0].tolist() for told_ in sample(tool, WIDE, told(p), state)]
    assert left == [[2, 4], [4], []]


def test_left_to_right_is_so_whatever_the_noise_of_the_places():
    """A place of little noise is not written before its turn; a prompt of time 0 is not written at all."""
    given = torch.tensor([[WIDE.mask, 2, WIDE.mask, WIDE.mask]])
    noise = torch.tensor([0.2, 0.0, 1.0, 0.5], dtype=torch.float64)
    grid = (even(4)[:, None] * noise)[None]
    tool = AncestralUnmask(order="left_to_right")
    state = start(tool, WIDE, given, grid, torch.tensor([0]), x=given)
    left = [
        (now.x == WIDE.mask)[0].nonzero()[:, 0].tolist() for now in sample(tool, WIDE, told(some_laws(4, 0)), state)
    ]
    assert left == [[2, 3], [3], []]


@pytest.mark.parametrize("rate", ["linear", "cosine", "quadratic"])
@pytest.mark.parametrize("name", ["unmask_left", "confidence_margin", "threshold_never"])
def test_a_network_is_told_the_time_at_which_chance_would_leave_as_many_masked(name, rate):
    process = Masked(vocab_size=V, schedule=rate)
    given = torch.tensor([[1, *[process.mask] * 6, process.mask + 1]])
    tool, state = begun(name, process, given, [6], [0])
    times = [float(process.mask_probability(state.t))]
    times += [float(process.mask_probability(now.t)) for now in sample(tool, process, reader(process), state)]
    assert times == pytest.approx([k / 6 for k in range(6, -1, -1)], abs=1e-12)


# ------------------------------------------------------------------------------------------------------------- taste


def test_temperature_divides_the_logits_and_at_zero_takes_the_first_of_the_likeliest():
    logits = torch.tensor([[0.0, 2.0, -1.0, 2.0], [1.0, 1.0, 1.0, -torch.inf]])
    assert torch.equal(TokenSampling(temperature=0)(logits).softmax(-1), torch.tensor([[0.0, 1, 0, 0], [1, 0, 0, 0]]))
    for temperature in (0.3, 1.0, 2.5):
        torch.testing.assert_close(
            TokenSampling(temperature=temperature)(logits).softmax(-1), (logits / temperature).softmax(-1)
        )
    for cold in (1e-8, 1e-30, 1e-45):
        p = TokenSampling(temperature=cold)(logits).softmax(-1)
        torch.testing.assert_close(p, torch.tensor([[0.0, 0.5, 0, 0.5], [1 / 3, 1 / 3, 1 / 3, 0]]))


def test_top_p_keeps_the_symbol_that_crosses_and_nothing_after_it():
    p = torch.tensor([0.125, 0.5, 0.25, 0.125], dtype=torch.float64)
    for top_p, kept in ((0.1, [1]), (0.5, [1]), (0.51, [1, 2]), (0.75, [1, 2]), (0.8, [0, 1, 2]), (0.9, [0, 1, 2, 3])):
        bent = TokenSampling(top_p=top_p)(p.log()).softmax(-1)
        assert bent.nonzero()[:, 0].tolist() == kept  # of equals the first
        torch.testing.assert_close(bent[kept], p[kept] / p[kept].sum())
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(200, 12, generator=generator, dtype=torch.float64)
    for top_p in (0.05, 0.5, 0.9):
        bent = TokenSampling(top_p=top_p)(logits)
        for row, out in zip(logits.softmax(-1), bent, strict=True):
            before = torch.stack([row[row > value].sum() for value in row])
            assert torch.equal(out > -torch.inf, before < top_p)


def test_top_p_is_of_the_law_at_the_temperature():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]], dtype=torch.float64)
    both = TokenSampling(temperature=3.0, top_p=0.6)(logits)
    torch.testing.assert_close(both.softmax(-1), TokenSampling(top_p=0.6)(logits / 3).softmax(-1))
    assert int((both > -torch.inf).sum()) > int((TokenSampling(top_p=0.6)(logits) > -torch.inf).sum())


@pytest.mark.parametrize("make", [
    lambda tokens: AncestralUnmask(tokens=tokens), lambda tokens: ConfidenceUnmask(tokens=tokens),
    lambda tokens: ThresholdUnmask(rule="entropy_bound", threshold=math.inf, tokens=tokens),
    lambda tokens: PsiSampler(kappa=0.5, tokens=tokens), lambda tokens: ReMDM(tokens=tokens),
], ids=["unmask", "confidence", "threshold", "psi", "remdm"])  # fmt: skip
def test_samplers_draw_from_the_answer_as_the_taste_bends_it(make):
    rows, p = 5000, some_laws(3, seed=5, sharp=0.7)
    greedy = finish(make(TokenSampling(temperature=0)), WIDE, told(p), even(1), rows=50, places=3)
    assert torch.equal(greedy.x, p.argmax(1).expand(50, -1))
    taste = TokenSampling(temperature=0.8, top_p=0.7)
    drawn = finish(make(taste), WIDE, told(p), even(1), rows=rows, places=3).x
    want = taste(p.log()).softmax(-1)
    assert int((want == 0).sum()) > 0
    assert all(follows(drawn[:, i], want[i]) for i in range(3))


@pytest.mark.parametrize("make", [
    lambda: TokenSampling(temperature=-0.1), lambda: TokenSampling(temperature=math.inf),
    lambda: TokenSampling(temperature=math.nan),
    lambda: TokenSampling(top_p=0.0), lambda: TokenSampling(top_p=1.1), lambda: ConfidenceUnmask(jitter=-1.0),
    lambda: ThresholdUnmask(threshold=-0.1), lambda: ThresholdUnmask(threshold=math.nan),
    lambda: PsiSampler(kappa=1.1), lambda: ReMDM(eta=-0.1), lambda: GibbsSampler(block_fraction=0.0),
])  # fmt: skip
def test_absurd_options_are_refused(make):
    with pytest.raises(ValueError, match=r"temperature|jitter|threshold|kappa|eta|block_fraction"):
        make()
