"""Targets (replies, summaries) and labels of sources. The functions are parts of plans: they yield requests."""

from collections.abc import Callable, Generator, Sequence

import torch
from torch import Tensor

from langevin.methods.models import TokenModel
from langevin.modalities.modality import Request
from langevin.modalities.text.batches import AnyExamples, PairExamples
from langevin.modalities.text.infill import Writer, padded
from langevin.modalities.text.task import AnyTask, Seq2Seq

Progress = Callable[[int, int], None]
NO_PROGRESS: Progress = lambda done, total: None  # noqa: E731
PAIRS = 64  # per function evaluation
COMMON = 0.5  # of the tokens of summaries: those that any of them may hold


def generate_targets(
    writer: Writer,
    task: Seq2Seq,
    sources: Sequence[Tensor],
    *,
    seeds: Tensor,
    batch: int,
    progress: Progress = NO_PROGRESS,
) -> Generator[Request, Tensor, list[str]]:
    """The decoded target of each source (token ids): the length is predicted first, then the text."""
    words, targets = writer.words, list[str]()
    for indices in torch.arange(len(sources)).split(batch):
        heads = [head_of(sources[i], words.separator) for i in indices.tolist()]
        lengths = yield from lengths_of(writer, task, heads)
        parts = [
            torch.cat([head, torch.tensor([words.number(n)]), torch.full((n,), words.mask)])
            for head, n in zip(heads, lengths, strict=True)
        ]
        x = yield from writer.write(padded(parts, words.padding), seeds[indices])
        targets += [
            writer.codec.decode(ids[len(head) + 1 : len(head) + 1 + n])
            for ids, head, n in zip(x, heads, lengths, strict=True)
        ]
        progress(len(targets), len(sources))
    return targets


def costs_of(
    writer: Writer, task: Seq2Seq, source: Tensor, targets: Sequence[Tensor]
) -> Generator[Request, Tensor, Tensor]:
    """(n,) nats, -ln p(target, its length | source) - w ln p(source | target), of targets of one source (token ids)."""
    words, head = writer.words, head_of(source, writer.words.separator)
    lengths = yield from writer.number([head], task.max_target_length + 1)
    begun = [torch.cat([head, torch.tensor([words.number(len(target))])]) for target in targets]
    x = padded([torch.cat([a, b.long()]) for a, b in zip(begun, targets, strict=True)], words.padding)
    given = [torch.cat([a, torch.full((len(b),), words.mask)]) for a, b in zip(begun, targets, strict=True)]
    nats = yield from writer.costs(x, padded(given, words.padding))
    return nats - lengths[0].log_softmax(0)[[len(target) for target in targets]]


def reverse_weight_of(task: AnyTask, model: TokenModel, given: float | None, best_of: int) -> float:
    """The weight of ln p(source | target) in the choice among `best_of` samples: the request's, or the recipe's for None.

    Raises:
        ValueError: a weight out of range or without effect, or a run that cannot score a source given its target."""
    if given is None:
        return task.reverse_weight if isinstance(task, Seq2Seq) and best_of > 1 else 0.0
    if not 0 <= given < float("inf"):
        raise ValueError(f"--reverse-weight is at least 0 and finite, got {given:g}")
    if not isinstance(task, Seq2Seq):
        raise ValueError(
            "--reverse-weight has no effect here, as only replies and summaries have a source: leave it out"
        )
    if given and best_of == 1:
        raise ValueError("--reverse-weight chooses among several samples: give --best-of 2 or more with it")
    if given and not task.joint_fraction:
        raise ValueError(
            f"--reverse-weight {given:g} scores the source given the target, and this run never saw a source masked: train "
            "it with data.task.joint_fraction above 0, or leave --reverse-weight out"
        )
    if given and (model.process.kind != "masked" or model.autoregressive or model.attention != "full"):
        raise ValueError(
            "--reverse-weight scores the source given what follows it: it needs process.kind masked and "
            "network.attention=full; leave it out"
        )
    return given


def common_tokens(examples: AnyExamples, count: int) -> Tensor:
    """(count,) bool: the commonest tokens of the targets of examples, which make up `COMMON` of them."""
    assert isinstance(examples, PairExamples), "a run that summarises has targets"
    numbers = torch.cat([target.long() for target in examples.targets]).bincount(minlength=count)
    order = numbers.argsort(descending=True, stable=True)
    before = numbers[order].cumsum(0) - numbers[order]
    return torch.zeros(count, dtype=torch.bool).scatter(0, order, before < COMMON * numbers.sum())


def head_of(source: Tensor, separator: int) -> Tensor:
    """A source followed by the separator."""
    return torch.cat([source.long(), torch.tensor([separator])])


def lengths_of(writer: Writer, task: Seq2Seq, heads: Sequence[Tensor]) -> Generator[Request, Tensor, list[int]]:
    """The median of the predicted distribution of each target's length, from one function evaluation."""
    logits = yield from writer.number(heads, task.max_target_length + 1)
    return [max(1, int((p.cumsum(0) < 0.5).sum())) for p in logits.softmax(-1)]


def label_shares(
    writer: Writer, sources: Sequence[Tensor], classes: int, progress: Progress = NO_PROGRESS
) -> Generator[Request, Tensor, Tensor]:
    """(n, classes) float64 label probabilities of the sources (token ids)."""
    probabilities: list[Tensor] = []
    for indices in torch.arange(len(sources)).split(PAIRS):
        heads = [head_of(sources[i], writer.words.separator) for i in indices.tolist()]
        probabilities.append((yield from writer.number(heads, classes)).softmax(-1))
        progress(int(indices[-1]) + 1, len(sources))
    return torch.cat(probabilities)
