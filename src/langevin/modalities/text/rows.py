"""Texts as rows of symbols for training and measuring: `Stretches` of a corpus, `Examples` of a task."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.noise import RowNoise
from langevin.modalities.text.corruption.confusions import Confusions, read_corrections, read_misspellings
from langevin.modalities.text.corruption.corrupt import Corruption
from langevin.modalities.text.data import Texts
from langevin.modalities.text.layout import BLANK, NUMBERS, SEPARATOR, AnyLayout, Corpus, Labels, Mend, Pairs
from langevin.modalities.text.pairs import inferences, paragraphs, replies, sentences, summaries
from langevin.modalities.text.slots import Telling, corrected
from langevin.modalities.text.tokens import AnyTokens

# symbols (n,) int64, which of them are asked for (n,) bool, and what is told beside, (n, rows), if anything
Row = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stretches:
    """A stream of symbols (n,) cut into rows of `length`; in training each begins anywhere in its own and the next."""

    stream: Tensor
    length: int

    def __len__(self) -> int:
        return max(1, len(self.stream) // self.length)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    def rows(self, items: Tensor, noise: RowNoise | None) -> list[Row]:
        start = items * self.length
        if noise is not None:
            u = noise.fork(9).uniform(torch.empty(len(items), 1))[:, 0]
            start = start + (u * self.length).long()
        start = start.clamp(0, max(0, len(self.stream) - self.length)).tolist()
        parts = [self.stream[s : s + self.length].long() for s in start]
        return [(part, torch.ones_like(part, dtype=torch.bool)) for part in parts]


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Sources and targets in symbols; `first` is the codec's number of symbols, where controls begin.

    Args:
        sources, targets: of each example; a label is a target of one number.
        ask_length: of targets whose length is a symbol before them; None: it is not.
        texts: (source, target) of each example as they were, uncut; empty where nobody asks.
        remarks: what was cut.
    """

    sources: Sequence[Tensor]
    targets: Sequence[Tensor]
    first: int
    length: int
    texts: Sequence[tuple[str, str]] = ()
    remarks: tuple[str, ...] = ()
    ask_length: float | None = None
    joint: float = 0.0

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    def rows(self, items: Tensor, noise: RowNoise | None) -> list[Row]:
        count = len(items)
        u = [1.0] * count if noise is None else noise.fork(9).uniform(torch.empty(count, 1))[:, 0].tolist()
        return [self._row(int(i), v) for i, v in zip(items.tolist(), u, strict=True)]

    def _row(self, item: int, u: float) -> Row:
        """With u below `joint` all is asked for, below `joint` + `ask_length` the length alone."""
        source, target = self.sources[item].long(), self.targets[item].long()
        head = torch.cat([source, torch.tensor([self.first + SEPARATOR])])
        if self.ask_length is None:
            x = torch.cat([head, target])
            free = torch.arange(len(x)) >= (0 if u < self.joint else len(head))
            return x, free
        number = torch.tensor([self.first + NUMBERS + len(target)])
        if self.joint <= u < self.joint + self.ask_length:
            x = torch.cat([head, number])
            return x, torch.arange(len(x)) >= len(head)
        x = torch.cat([head, number, target])
        free = torch.arange(len(x)) > len(head)
        if u < self.joint:
            free = torch.arange(len(x)) != len(head)
        return x, free


@dataclass(frozen=True, kw_only=True, eq=False)
class Mends:
    """Clean texts that are made faulty: anew each time in training, always alike and wholly told without noise.

    Args:
        mask: the symbol of what is not told.
        hidden: share of training rows of whose faulty text some characters are hidden."""

    texts: Sequence[str]
    corruption: Corruption
    telling: Telling
    length: int
    mask: int
    hidden: float = 0.0

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    def pair(self, item: int, seed: int) -> tuple[str, str]:
        """(faulty, right)."""
        return self.corruption.corrupt(self.texts[item], seed), self.texts[item]

    def rows(self, items: Tensor, noise: RowNoise | None) -> list[Row]:
        seeds = items if noise is None else noise.fork(9).bits(1)[:, 0] & 0x7FFFFFFF
        rows = [self._row(*self.pair(int(i), int(s))) for i, s in zip(items, seeds, strict=True)]
        return rows if noise is None else self._hidden(rows, noise.fork(10))

    def _hidden(self, rows: list[Row], noise: RowNoise) -> list[Row]:
        u = noise.uniform(torch.empty(len(rows), self.length + 2))
        share = torch.where(u[:, 0] < self.hidden, u[:, 1], 0.0)
        kept = list[Row]()
        for (x, free, told), some, chance in zip(rows, u[:, 2:], share, strict=True):
            hide = (some[: len(told)] < chance)[:, None].expand_as(told).clone()
            hide[::2, 0] = False  # gaps of the text itself
            kept.append((x, free, torch.where(hide, self.mask, told)))
        return kept

    def _row(self, faulty: str, right: str) -> Row:
        codec = self.telling.codec
        x = corrected(codec.encode(faulty), codec.encode(right), codec.symbols + BLANK)[: self.length]
        return x, torch.ones_like(x, dtype=torch.bool), self.telling(faulty)[: self.length]


@dataclass(frozen=True, kw_only=True)
class RowReader:
    """Batches of rows by item number, padded on the right to the longest.

    Args:
        padding: the symbol of places that are none.
        blocks: tell the network the clean text as well, for attention by blocks.
    """

    part: Stretches | Examples | Mends
    padding: int
    blocks: bool = False
    device: torch.device = torch.device("cpu")

    @property
    def remarks(self) -> tuple[str, ...]:
        """What whoever trains or measures with these rows should know."""
        return self.part.remarks if isinstance(self.part, Examples) else ()

    def __call__(self, items: Tensor, noise: RowNoise | None = None) -> Batch:
        return batch_of(self.part.rows(items, noise), padding=self.padding, blocks=self.blocks, device=self.device)


def batch_of(rows: Sequence[Row], *, padding: int, blocks: bool, device: torch.device) -> Batch:
    """Rows as a batch: what is asked for is free, the rest known."""
    x, *told = (
        torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=fill).to(device)
        for parts, fill in zip(zip(*rows, strict=True), (padding, False, padding))
    )
    free, beside = told[0], told[1] if len(told) > 1 else None
    condition = None
    if blocks or beside is not None:
        condition = Condition(
            aligned=Port(tensor=x) if blocks else None,
            concat=None if beside is None else Port(tensor=beside.transpose(1, 2)),
        )
    return Batch(x=x, condition=condition, mask=free, known=~free)


def arrange(
    texts: Texts, layout: AnyLayout, codec: AnyTokens, classes: Sequence[str] = ()
) -> Stretches | Examples | Mends:
    """The rows of some texts.

    Raises:
        ValueError: records that the layout cannot use, or a label that is none of `classes`."""
    match layout:
        case Corpus():
            return stretches(texts, layout, codec)
        case Pairs():
            return pairs(texts, layout, codec)
        case Labels():
            return labelled(texts, layout, codec, classes)
        case Mend():
            return mends(texts, layout, codec)


def stretches(texts: Texts, layout: Corpus, codec: AnyTokens) -> Stretches:
    """All texts one after another. A text too short for one row is a row as it is."""
    parts = codec.encode_all([layout.between.join(texts.strings())] if len(texts) > 64 else _joined(texts, layout))
    return Stretches(stream=torch.cat([part.int() for part in parts]), length=layout.length)


def _joined(texts: Texts, layout: Corpus) -> list[str]:
    every = list(texts.strings())
    return [text + (layout.between if i + 1 < len(every) else "") for i, text in enumerate(every)]


def pairs(texts: Texts, layout: Pairs, codec: AnyTokens) -> Examples:
    """Replies of dialogues, or summaries; sources are cut to what a row holds."""
    dialogue = texts.form == "dialogue"
    if dialogue:
        found = [(prompt(r.context, r.speaker), r.reply) for r in replies(texts.records, last=layout.turns)]
    elif texts.form == "summary":
        found = list(summaries(texts.records))
    else:
        raise ValueError(
            f"layout.kind pairs makes replies of dialogues or summaries of texts, and these records are of fields "
            f"{', '.join(texts.fields)}: name the fields (data.fields), or use layout.kind=corpus"
        )
    sources, targets = (codec.encode_all([pair[i] for pair in found]) for i in (0, 1))
    room = layout.length - layout.target - 2
    remarks = (
        *cut_remark("sources", sources, room, "layout.length", "beginning" if dialogue else "end"),
        *cut_remark("targets", targets, layout.target, "layout.target", "end"),
    )
    sources = [(ids[-room:] if dialogue else ids[:room]).int() for ids in sources]
    return Examples(
        sources=sources, targets=[ids[: layout.target].int() for ids in targets], first=codec.symbols,
        length=layout.length, ask_length=layout.ask_length, joint=layout.joint, remarks=remarks,
        texts=[(pair[0], pair[1]) for pair in found],
    )  # fmt: skip


def cut_remark(what: str, texts: Sequence[Tensor], room: int, setting: str, side: str) -> tuple[str, ...]:
    """How many texts are longer than `room` symbols, and how much of them is left out; nothing where none is."""
    over = [len(ids) - room for ids in texts if len(ids) > room]
    return (
        ()
        if not over
        else (
            f"cut: {len(over):,} of {len(texts):,} {what} are longer than the {room} symbols that {setting} leaves them; "
            f"{sum(over):,} symbols at their {side} are left out ({100 * sum(over) / sum(map(len, texts)):.1f} % of all)",
        )
    )


def prompt(context: str, speaker: str) -> str:
    """What stands before a reply."""
    return f"{context}\n{speaker}:"


def mends(texts: Texts, layout: Mend, codec: AnyTokens) -> Mends:
    """Sentences of the texts, as many together as a row holds with room for what is added to them."""
    room, windows = int(0.9 * layout.longest), list[str]()
    for text in texts.strings():
        for paragraph in paragraphs(text):
            window = ""
            for sentence in sentences(paragraph):
                if window and len(window) + 1 + len(sentence) > room:
                    windows.append(window)
                    window = ""
                window = f"{window} {sentence}".strip()
                while len(window) > room:
                    at = window.rfind(" ", 1, room) if " " in window[1:room] else room
                    windows.append(window[:at])
                    window = window[at:].strip()
            if window:
                windows.append(window)
    known = known_misspellings(layout.misspellings)
    corruption = Corruption(confusions=known, spelling=layout.spelling, grammar=layout.grammar, clean=layout.clean)
    mask = codec.symbols + layout.needed(0)
    telling = Telling(layout=layout, codec=codec, nothing=mask + 1)
    return Mends(
        texts=windows, corruption=corruption, telling=telling, length=layout.length, hidden=layout.hidden, mask=mask
    )


def known_misspellings(paths: Sequence[str]) -> Confusions | None:
    """Those of all files, each of either form. ValueError where one cannot be read."""
    found: Confusions | None = None
    for path in paths:
        try:
            lines = Path(path).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"layout.misspellings: {path} cannot be read as text: {error}") from error
        read = read_corrections if any("->" in line for line in lines[:20]) else read_misspellings
        found = read(lines) if found is None else found.merged(read(lines))
    return found


def labelled(texts: Texts, layout: Labels, codec: AnyTokens, classes: Sequence[str]) -> Examples:
    """Premise SEPARATOR hypothesis as the source, the label's number as the target."""
    every = list(inferences(texts.records))
    found = [one for one in every if one.label]
    without = len(every) - len(found)
    known = {name: i for i, name in enumerate(classes)}
    unseen = sorted({one.label for one in found} - set(known))
    if unseen:
        raise ValueError(f"the label '{unseen[0]}' is none of {', '.join(classes)}")
    if not found:
        raise ValueError(f"none of {len(every)} pairs has a label")
    sources, remarks = two_texts([(one.premise, one.hypothesis) for one in found], layout, codec)
    if without:
        remarks = (*remarks, f"left out: {without:,} of {len(every):,} pairs, which have no label")
    targets = [torch.tensor([codec.symbols + NUMBERS + known[one.label]]) for one in found]
    return Examples(
        sources=sources, targets=targets, first=codec.symbols, length=layout.length, joint=layout.joint, remarks=remarks
    )


def two_texts(
    pairs: Sequence[tuple[str, str]], layout: Labels, codec: AnyTokens
) -> tuple[list[Tensor], tuple[str, ...]]:
    """Each pair in one row, both cut alike where they are too long; and a line about what was cut, if anything."""
    first, second = (codec.encode_all([pair[i] for pair in pairs]) for i in (0, 1))
    room = layout.length - 3
    rows: list[Tensor] = []
    for a, b in zip(first, second, strict=True):
        share = min(len(a), max(room - len(b), room // 2))
        rows.append(torch.cat([a[:share], torch.tensor([codec.symbols + SEPARATOR]), b[: room - share]]).int())
    whole = [torch.cat([a, b]) for a, b in zip(first, second, strict=True)]
    return rows, cut_remark("pairs", whole, room, "layout.length", "ends")


def counts(codec: AnyTokens, rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Characters that begin in rows of symbols, and UTF-8 bytes, (n,) float64 each; controls and padding are none."""
    texts = [codec.written(ids[ids < codec.symbols]) for ids in rows]
    begun = [sum(byte & 0xC0 != 0x80 for byte in text) for text in texts]
    return torch.tensor(begun, dtype=torch.float64), torch.tensor([len(text) for text in texts], dtype=torch.float64)
