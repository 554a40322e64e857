"""Replies are ranked by both directions: against a joint law of sources and replies that is enumerated."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from langevin.diffusion.process import Masked
from langevin.diffusion.sampling import Sampling
from langevin.modalities.modality import Draw, Predict
from langevin.modalities.text.infill import Writer
from langevin.modalities.text.target import generate_targets, reverse_weight_of
from langevin.modalities.text.task import NUMBERS, SEPARATOR, LanguageModel, Seq2Seq

LETTERS, SOURCE, REPLY = 3, 3, 2
TASK = Seq2Seq(context_length=16, max_target_length=4, joint_fraction=0.3)
CODEC = SimpleNamespace(vocab_size=LETTERS, decode=lambda ids: tuple(ids.tolist()))
VOCABULARY = LETTERS + TASK.needed(0)
MODEL = SimpleNamespace(
    process=Masked(vocab_size=VOCABULARY), autoregressive=False, attention="full", network=SimpleNamespace(config=None)
)


def words(length: int) -> list[tuple[int, ...]]:
    return list(itertools.product(range(LETTERS), repeat=length))


@pytest.fixture
def law() -> torch.Tensor:
    """p(source, reply) in float64, (3,) * 5: two replies are likely after every source."""
    generator = torch.Generator().manual_seed(4)
    p = torch.rand((LETTERS,) * (SOURCE + REPLY), generator=generator, dtype=torch.float64) ** 3
    p[..., 0, 0] += 1
    p[..., 1, 0] += 0.8
    return p / p.sum()


class ExactRun:
    """Answers a plan's requests as a network whose predictions are the conditionals of the law.

    A draw of n samples of one text gives all replies in turn, so that the best of them is that of all."""

    def __init__(self, law: torch.Tensor) -> None:
        self.law, self.hidden = law, list[torch.Tensor]()

    def __call__(self, part):
        result = None
        while True:
            try:
                request = part.send(result)
            except StopIteration as done:
                return done.value
            result = self.drawn(request) if isinstance(request, Draw) else self.predicted(request)

    def drawn(self, request: Draw) -> torch.Tensor:
        assert request.x is not None
        replies = torch.tensor(words(REPLY))
        return torch.cat([request.x[:, :-REPLY], replies[torch.arange(len(request.x)) % len(replies)]], 1)

    def predicted(self, request: Predict) -> torch.Tensor:
        assert request.where is not None
        rows = []
        for x, t, where in zip(request.x_t, request.t, request.where, strict=True):
            for at in where.nonzero()[:, 0].tolist():
                assert int(x[at]) == VOCABULARY, "only masked tokens are predicted"
                rows.append(self.length() if at == SOURCE + 1 and len(x) == SOURCE + 2 else self.letter(x, at))
            if len(x) > SOURCE + 2:
                self.hidden.append(x == VOCABULARY)
                assert 0 < float(t) <= 1
        return torch.stack(rows)

    def length(self) -> torch.Tensor:
        logits = torch.full((VOCABULARY,), -100.0, dtype=torch.float64)
        logits[LETTERS + NUMBERS + REPLY] = 0
        return logits

    def letter(self, x: torch.Tensor, at: int) -> torch.Tensor:
        places = [*range(SOURCE), SOURCE + 2, SOURCE + 3]
        axis = places.index(at)
        index = tuple(slice(None) if int(x[i]) == VOCABULARY else slice(int(x[i]), int(x[i]) + 1) for i in places)
        p = self.law[index].sum([i for i in range(len(places)) if i != axis])
        logits = torch.full((VOCABULARY,), -100.0, dtype=torch.float64)
        logits[:LETTERS] = (p / p.sum()).log()
        return logits


def reply_to(run, source, weight: float) -> tuple[int, ...]:
    writer = Writer(
        codec=CODEC, model=MODEL, sampling=Sampling(), best_of=LETTERS**REPLY, reverse_weight=weight  # type: ignore[arg-type]
    )  # fmt: skip
    plan = generate_targets(writer, TASK, [torch.tensor(source)], seeds=torch.tensor([0]), batch=8)
    return run(plan)[0]


def exact(law: torch.Tensor, source, weight: float) -> tuple[int, ...]:
    """The reply of the largest ln p(y | x) + w ln p(x | y)."""
    scores = {y: law[(*source, *y)].log() - law[source].sum().log()
              + weight * (law[(*source, *y)].log() - law[(..., *y)].sum().log()) for y in words(REPLY)}  # fmt: skip
    return max(scores, key=lambda y: float(scores[y]))


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 4.0])
def test_the_reply_is_that_of_the_largest_exact_score(law, weight):
    found = [reply_to(ExactRun(law), source, weight) for source in words(SOURCE)]
    assert found == [exact(law, source, weight) for source in words(SOURCE)]


def test_the_source_tells_replies_apart_that_fit_everything(law):
    """Without the reverse direction nearly every source gets the dull replies; with it none has to."""
    dull = {(0, 0), (1, 0)}
    plain, ranked = ([reply_to(ExactRun(law), s, w) for s in words(SOURCE)] for w in (0.0, 4.0))
    assert sum(reply in dull for reply in plain) > 0.9 * len(plain)
    assert sum(reply in dull for reply in ranked) < 0.5 * len(ranked)
    assert len(set(ranked)) > len(set(plain))


def test_the_score_is_the_chain_rule_and_all_candidates_have_the_same_masks(law):
    run, source, separator = ExactRun(law), (2, 0, 1), LETTERS + SEPARATOR
    head = torch.tensor([*source, separator, LETTERS + NUMBERS + REPLY])
    given = torch.cat([head, torch.full((REPLY,), VOCABULARY)]).expand(9, -1)
    x = torch.cat([head.expand(9, -1), torch.tensor(words(REPLY))], 1)
    writer = Writer(codec=CODEC, model=MODEL, sampling=Sampling(), reverse_weight=0.7)  # type: ignore[arg-type]
    forward = law[source].flatten().log() - law[source].sum().log()
    reverse = law[source].flatten().log() - law.sum((0, 1, 2)).flatten().log()
    torch.testing.assert_close(run(writer.costs(x, given)), -(forward + 0.7 * reverse))
    masks = torch.stack(run.hidden).view(-1, 9, x.shape[1])
    assert bool((masks == masks[:, :1]).all())
    assert len(masks) == REPLY + SOURCE


@pytest.mark.parametrize(("task", "changes", "given", "best_of", "said"), [
    (TASK, {}, 0.5, 1, "give --best-of 2 or more"),
    (TASK, {}, -1.0, 4, "at least 0 and finite, got -1"),
    (TASK, {}, float("nan"), 4, "at least 0 and finite"),
    (Seq2Seq(), {}, 0.5, 4, "never saw a source masked: train it with data.task.joint_fraction above 0"),
    (LanguageModel(), {}, 0.5, 4, "only replies and summaries have a source"),
    (TASK, {"autoregressive": True}, 0.5, 4, "needs process.kind masked and network.attention=full"),
    (TASK, {"attention": "block"}, 0.5, 4, "needs process.kind masked and network.attention=full"),
])  # fmt: skip
def test_what_a_run_cannot_score_is_refused(task, changes, given, best_of, said):
    with pytest.raises(ValueError, match=said):
        reverse_weight_of(task, SimpleNamespace(**{**vars(MODEL), **changes}), given, best_of)  # type: ignore[arg-type]


def test_the_recipe_gives_the_weight_where_the_request_does_not():
    task = Seq2Seq(joint_fraction=0.3, reverse_weight=0.5, best_of=8)
    assert [reverse_weight_of(task, MODEL, given, n) for given, n in ((None, 8), (None, 1), (0.0, 8), (2.0, 8))] == [
        0.5, 0.0, 0.0, 2.0
    ]  # type: ignore[arg-type]  # fmt: skip
    with pytest.raises(ValueError, match="has seen the source masked"):
        Seq2Seq(reverse_weight=0.5)
    with pytest.raises(ValueError, match="at least 0 and finite, got -1"):
        Seq2Seq(reverse_weight=-1.0, joint_fraction=0.3)
