"""Which given word changed which written one.

A written token is predicted from the given words and half of what else was written, with and without each given word: the
difference of its log-probability, in nats, is what that word gave to it. Positions are halved by turns, so every written
token is predicted once for each given word.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langevin.modalities.modality import Explanation, Plan, Predict, Request, RequestContext, Samples, seeds_of
from langevin.modalities.text.infill import Writer, surprisal
from langevin.modalities.text.input import read_prompt
from langevin.modalities.text.options import Explain
from langevin.modalities.text.task import LanguageModel

if TYPE_CHECKING:
    from langevin.modalities.text.modality import Text

MOST_WORDS = 100  # of a prompt
SHOWN = 12  # pairs of words in the table


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word and the positions of its tokens."""

    text: str
    positions: tuple[int, ...]


def explain_plan(text: "Text", options: Explain, writer: Writer, context: RequestContext) -> Plan:
    """The plan of an explanation: writes one continuation of the prompt, and tells what each word of it did.

    Raises:
        ValueError: a run of another task, without a mask or that sees one side only, or a prompt that does not fit."""
    if not isinstance(text.task, LanguageModel):
        raise ValueError("only a run on open texts is explained: this one was trained for another task")
    if writer.model.autoregressive or writer.model.attention != "full" or writer.model.process.kind != "masked":
        raise ValueError("an explanation hides given words: it needs process.kind masked and network.attention full")
    tokens = text.codec.encode(read_prompt(options.prompt))
    given = words_at(text, tokens, 0)
    room = text.task.context_length - len(tokens)
    length = room if options.length is None else options.length
    if not given:
        raise ValueError("an explanation tells what given words gave to written ones: give --prompt")
    if len(given) > MOST_WORDS or not 1 <= length <= room:
        raise ValueError(
            f"a prompt of 1 to {MOST_WORDS} words is explained, with {length} tokens after its {len(tokens)} in a context "
            f"of {text.task.context_length}; got {len(given)} words"
        )
    return _explained(text, writer, tokens, given, length, context)


def _explained(
    text: "Text", writer: Writer, tokens: Tensor, given: list[Word], length: int, context: RequestContext
) -> Plan:
    x = torch.cat([tokens, torch.full((length,), writer.words.mask)])[None]
    x = yield from writer.write(x, seeds_of(context.seed, 1))
    written = words_at(text, x[0], len(tokens))
    if not written:
        raise ValueError(
            "the run wrote nothing but white space, of which there is nothing to explain: give another --seed"
        )
    nats = yield from given_to(writer, x[0], len(tokens), given)
    table = torch.stack([nats[:, [p - len(tokens) for p in word.positions]].sum(1) for word in written], 1)
    explanation = explained(given, written, table)
    values = text.decode(x)
    return Samples(modality=text, values=values, arrays={"seed": seeds_of(context.seed, 1)}, explanation=explanation)


def words_at(text: "Text", tokens: Tensor, first: int) -> list[Word]:
    """The words from position `first` on, by the white space between them."""
    found, current, positions = list[Word](), b"", list[int]()

    def close() -> None:
        nonlocal current, positions
        if positions and current.decode(errors="replace").strip():
            found.append(Word(text=current.decode(errors="replace").strip(), positions=tuple(positions)))
        current, positions = b"", []

    for i in range(first, len(tokens)):
        content = text.codec.written(tokens[i : i + 1])
        if content[:1].isspace():
            close()
        current, positions = current + content, [*positions, i]
        if content[-1:].isspace():
            close()
    close()
    return found


def given_to(writer: Writer, x: Tensor, first: int, given: list[Word]) -> Generator[Request, Tensor, Tensor]:
    """(given words, written tokens) nats: ln p of each written token with the word, less that without it."""
    n, mask = len(x), writer.words.mask
    place = torch.arange(n)
    rows, wheres = list[Tensor](), list[Tensor]()
    for word in (None, *given):
        for half in (0, 1):
            where = (place >= first) & ((place - first) % 2 == half)
            hidden = where.clone()
            hidden[list(word.positions) if word is not None else []] = True
            rows.append(torch.where(hidden, mask, x))
            wheres.append(where)
    x_t, where = torch.stack(rows), torch.stack(wheres)
    logits = yield Predict(x_t=x_t, t=(x_t == mask).double().mean(1), where=where)
    nats = torch.zeros(len(rows), n, dtype=torch.float64)
    nats[where] = -surprisal(logits, x.expand(len(rows), -1)[where])
    each = nats.view(len(given) + 1, 2, n).sum(1)[:, first:]
    return each[0] - each[1:]


def explained(given: list[Word], written: list[Word], table: Tensor) -> Explanation:
    """The findings: what each given word gave, and the pairs that it gave most to."""
    total = table.abs().sum(1)
    order = sorted(range(len(given)), key=lambda i: -float(total[i]))
    lines = [
        "given words by what they changed, in nats: " + ", ".join(f"{given[i].text} {total[i]:.1f}" for i in order)
    ]
    pairs = sorted(
        ((float(table[i, j]), i, j) for i in range(len(given)) for j in range(len(written))),
        key=lambda one: -abs(one[0]),
    )
    effects = dict[str, float]()
    for nats, i, j in pairs[:SHOWN]:
        effects[f"{given[i].text} → {written[j].text} (word {j + 1})"] = round(nats, 2)
    if pairs:
        nats, i, j = pairs[0]
        lines.append(f"most: '{given[i].text}' changed '{written[j].text}' by {nats:+.1f} nats")
    figures = {
        "given": [word.text for word in given], "written": [word.text for word in written],
        "nats": [[round(v, 4) for v in row.tolist()] for row in table],
    }  # fmt: skip
    return Explanation(
        lines=tuple(lines), tables={"Nats that a given word gave to a written one": effects}, curves=(), figures=figures
    )
