"""Examples of each task as token ids, and batches of them, for training and evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.text.codec import AnyTokens
from langevin.modalities.text.data import Texts
from langevin.modalities.text.pairs import inferences, replies, summaries
from langevin.modalities.text.task import (
    NUMBERS,
    SEPARATOR,
    AnyTask,
    Classification,
    LanguageModel,
    Seq2Seq,
)

Example = tuple[Tensor, Tensor]  # token ids (n,) int64; positions to predict (n,) bool


@dataclass(frozen=True, kw_only=True, eq=False)
class CorpusWindows:
    """A stream of token ids (n,) cut into windows of `length`; in training shifted by a uniform offset below `length`."""

    stream: Tensor
    length: int

    def __len__(self) -> int:
        return max(1, len(self.stream) // self.length)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    def examples(self, items: Tensor, noise: SampleNoise | None) -> list[Example]:
        start = items * self.length
        if noise is not None:
            u = noise.fork(9).uniform(torch.empty(len(items), 1))[:, 0]
            start = start + (u * self.length).long()
        start = start.clamp(0, max(0, len(self.stream) - self.length)).tolist()
        parts = [self.stream[s : s + self.length].long() for s in start]
        return [(part, torch.ones_like(part, dtype=torch.bool)) for part in parts]


@dataclass(frozen=True, kw_only=True, eq=False)
class PairExamples:
    """Sources and targets.

    Args:
        sources, targets: token ids of each example; the target of a classification is its label's token.
        first: the first special token.
        texts: (source, target) of each example as uncut strings; empty if no metric needs them.
        remarks: how much was cut.
        length_only_fraction: fraction of the training examples that end at the target's length; None: there is no length.
        joint_fraction: fraction of the training examples in which the source is predicted as well.
    """

    sources: Sequence[Tensor]
    targets: Sequence[Tensor]
    first: int
    length: int
    texts: Sequence[tuple[str, str]] = ()
    remarks: tuple[str, ...] = ()
    length_only_fraction: float | None = None
    joint_fraction: float = 0.0

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    def examples(self, items: Tensor, noise: SampleNoise | None) -> list[Example]:
        count = len(items)
        u = [1.0] * count if noise is None else noise.fork(9).uniform(torch.empty(count, 1))[:, 0].tolist()
        return [self.example(int(i), v) for i, v in zip(items.tolist(), u, strict=True)]

    def example(self, item: int, u: float) -> Example:
        """For uniform u: all is predicted if u < joint_fraction, only the length in the next fraction, else the target."""
        source, target = self.sources[item].long(), self.targets[item].long()
        head = torch.cat([source, torch.tensor([self.first + SEPARATOR])])
        if self.length_only_fraction is None:
            x = torch.cat([head, target])
            free = torch.arange(len(x)) >= (0 if u < self.joint_fraction else len(head))
            return x, free
        number = torch.tensor([self.first + NUMBERS + len(target)])
        if self.joint_fraction <= u < self.joint_fraction + self.length_only_fraction:
            x = torch.cat([head, number])
            return x, torch.arange(len(x)) >= len(head)
        x = torch.cat([head, number, target])
        free = torch.arange(len(x)) > len(head)
        if u < self.joint_fraction:
            free = torch.arange(len(x)) != len(head)
        return x, free


AnyExamples = CorpusWindows | PairExamples


@dataclass(frozen=True, kw_only=True, eq=False)
class TextBatches:
    """Batches of a task's examples by index, padded on the right to the longest.

    Args:
        examples: of the dataset, under the task.
        padding: token id of the positions after an example's end.
    """

    dataset: Texts
    examples: AnyExamples
    padding: int
    device: torch.device = torch.device("cpu")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.examples.shape

    @property
    def remarks(self) -> tuple[str, ...]:
        return self.examples.remarks if isinstance(self.examples, PairExamples) else ()

    def __len__(self) -> int:
        return len(self.examples)

    def __call__(self, items: Tensor, noise: SampleNoise | None = None) -> Batch:
        return batch_of(self.examples.examples(items, noise), padding=self.padding, device=self.device)


def batch_of(examples: Sequence[Example], *, padding: int, device: torch.device) -> Batch:
    """Examples as a batch: its mask holds the positions to predict, `known` the others."""
    x, free = (
        torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=fill).to(device)
        for parts, fill in zip(zip(*examples, strict=True), (padding, False))
    )
    return Batch(x=x, mask=free, known=~free)


def arrange(texts: Texts, task: AnyTask, codec: AnyTokens, classes: Sequence[str] = ()) -> AnyExamples:
    """The examples of texts under a task.

    Raises:
        ValueError: records that the task cannot use, or a label that is not in `classes`."""
    match task:
        case LanguageModel():
            return corpus_windows(texts, task, codec)
        case Seq2Seq():
            return pair_examples(texts, task, codec)
        case Classification():
            return labelled_examples(texts, task, codec, classes)
        case _:
            assert_never(task)


def corpus_windows(texts: Texts, task: LanguageModel, codec: AnyTokens) -> CorpusWindows:
    """Windows of all texts joined by the separator. Fewer tokens than a window make one short window."""
    separator, strings = task.document_separator, list(texts.strings())
    if len(strings) > 64:
        parts = codec.encode_all([separator.join(strings)])
    else:
        parts = codec.encode_all([*(text + separator for text in strings[:-1]), *strings[-1:]])
    return CorpusWindows(stream=torch.cat([part.int() for part in parts]), length=task.context_length)


def pair_examples(texts: Texts, task: Seq2Seq, codec: AnyTokens) -> PairExamples:
    """Replies of dialogues, or summaries; sources are cut to what the context holds."""
    dialogue = texts.form == "dialogue"
    if dialogue:
        pairs = [(prompt(r.context, r.speaker), r.reply) for r in replies(texts.records, last=task.turns)]
    elif texts.form == "summary":
        pairs = list(summaries(texts.records))
    else:
        raise ValueError(
            f"data.task.kind seq2seq needs dialogues, or texts with summaries, and these records have the fields "
            f"{', '.join(texts.fields)}: name the fields (data.fields), or use data.task.kind=language_model"
        )
    sources, targets = (codec.encode_all([pair[i] for pair in pairs]) for i in (0, 1))
    room = task.context_length - task.max_target_length - 2
    remarks = (
        *cut_remark("sources", sources, room, "data.task.context_length", "beginning" if dialogue else "end"),
        *cut_remark("targets", targets, task.max_target_length, "data.task.max_target_length", "end"),
    )
    sources = [(ids[-room:] if dialogue else ids[:room]).int() for ids in sources]
    return PairExamples(
        sources=sources, targets=[ids[: task.max_target_length].int() for ids in targets], first=codec.vocab_size,
        length=task.context_length, length_only_fraction=task.length_only_fraction, joint_fraction=task.joint_fraction,
        remarks=remarks, texts=[(pair[0], pair[1]) for pair in pairs],
    )  # fmt: skip


def cut_remark(what: str, texts: Sequence[Tensor], room: int, setting: str, side: str) -> tuple[str, ...]:
    """A remark on how many texts are longer than `room` tokens and how much of them is cut; nothing if none is."""
    over = [len(ids) - room for ids in texts if len(ids) > room]
    if not over:
        return ()
    percent = 100 * sum(over) / sum(map(len, texts))
    return (
        f"cut: {len(over):,} of {len(texts):,} {what} are longer than the {room} tokens that {setting} leaves them; "
        f"{sum(over):,} tokens at their {side} are left out ({percent:.1f} % of all)",
    )


def prompt(context: str, speaker: str) -> str:
    """The source of a reply: the turns before it and who speaks next."""
    return f"{context}\n{speaker}:"


def labelled_examples(texts: Texts, task: Classification, codec: AnyTokens, classes: Sequence[str]) -> PairExamples:
    """Premise SEPARATOR hypothesis as the source, the label's number as the target."""
    pairs = list(inferences(texts.records))
    labelled = [pair for pair in pairs if pair.label]
    known = {name: i for i, name in enumerate(classes)}
    unknown = sorted({pair.label for pair in labelled} - set(known))
    if unknown:
        raise ValueError(f"the label '{unknown[0]}' is not one of the run's: {', '.join(classes)}")
    if not labelled:
        raise ValueError(f"none of {len(pairs)} pairs has a label")
    sources, remarks = two_texts([(pair.premise, pair.hypothesis) for pair in labelled], task, codec)
    if len(labelled) < len(pairs):
        remarks = (*remarks, f"left out: {len(pairs) - len(labelled):,} of {len(pairs):,} pairs, which have no label")
    targets = [torch.tensor([codec.vocab_size + NUMBERS + known[pair.label]]) for pair in labelled]
    return PairExamples(
        sources=sources, targets=targets, first=codec.vocab_size, length=task.context_length,
        joint_fraction=task.joint_fraction, remarks=remarks,
    )  # fmt: skip


def two_texts(
    pairs: Sequence[tuple[str, str]], task: Classification, codec: AnyTokens
) -> tuple[list[Tensor], tuple[str, ...]]:
    """(token ids of each pair with a separator between, both texts cut alike if too long; remarks on what was cut)."""
    first, second = (codec.encode_all([pair[i] for pair in pairs]) for i in (0, 1))
    room = task.context_length - 3
    sources: list[Tensor] = []
    for a, b in zip(first, second, strict=True):
        kept = min(len(a), max(room - len(b), room // 2))
        sources.append(torch.cat([a[:kept], torch.tensor([codec.vocab_size + SEPARATOR]), b[: room - kept]]).int())
    uncut = [torch.cat([a, b]) for a, b in zip(first, second, strict=True)]
    return sources, cut_remark("pairs", uncut, room, "data.task.context_length", "ends")


def counts(codec: AnyTokens, sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(characters, UTF-8 bytes) of token sequences, (n,) float64 each: characters by first byte, no special tokens."""
    texts = [codec.written(ids[ids < codec.vocab_size]) for ids in sequences]
    begun = [sum(byte & 0xC0 != 0x80 for byte in text) for text in texts]
    return torch.tensor(begun, dtype=torch.float64), torch.tensor([len(text) for text in texts], dtype=torch.float64)
