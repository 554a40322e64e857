"""Texts repaired: every place asked for at once, the faulty text told beside, changed where the run is sure."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from langevin.modalities.text.layout import BLANK, Mend
from langevin.modalities.text.slots import Telling
from langevin.modalities.text.tokens import UNKNOWN
from langevin.recipe.build import Built
from langevin.recipe.tree import Sampling
from langevin.run.write import codec_of, fill, rows_of, vocabulary

Progress = Callable[[int, int], None]


def mend(
    built: Built, sampling: Sampling, texts: Sequence[str], *, reluctance: float = 2.0, passes: int = 3, batch: int = 32,
    progress: Progress | None = None,
) -> list[str]:  # fmt: skip
    """The texts, repaired; line breaks and what the codec does not know stay as they are.

    Args:
        reluctance: nats by which another symbol must be likelier than the one that stands there.
        passes: how often a text is gone over at most, as one pass writes one missing symbol a gap.
    """
    layout = built.recipe.layout
    assert isinstance(layout, Mend)
    windows = [cut(text, layout.longest) for text in texts]
    flat = [(i, j) for i, parts in enumerate(windows) for j in range(len(parts))]
    todo = flat
    for _ in range(passes):
        changed: list[tuple[int, int]] = []
        for start in range(0, len(todo), batch):
            some = todo[start : start + batch]
            before = [windows[i][j] for i, j in some]
            for (i, j), old, new in zip(some, before, _once(built, sampling, before, reluctance), strict=True):
                windows[i][j] = new
                if new != old and len(new) <= layout.longest:
                    changed.append((i, j))
            if progress:
                progress(start + len(some), len(todo))
        todo = changed
        if not todo:
            break
    return ["".join(parts) for parts in windows]


def cut(text: str, longest: int) -> list[str]:
    """Pieces of at most `longest` characters that are the text again, cut after lines and spaces where there are any."""
    parts: list[str] = []
    for line in text.splitlines(keepends=True):
        while len(line) > longest:
            at = line.rfind(" ", longest // 2, longest) + 1 or longest
            parts.append(line[:at])
            line = line[at:]
        parts.append(line)
    return parts


def _once(built: Built, sampling: Sampling, texts: Sequence[str], reluctance: float) -> list[str]:
    codec, words, layout = codec_of(built), vocabulary(built), built.recipe.layout
    assert isinstance(layout, Mend)
    blank = words.codec + BLANK
    bodies = [text.rstrip("\r\n") for text in texts]
    ids = [codec.encode(body) for body in bodies]
    if any(len(one) != len(body) for one, body in zip(ids, bodies, strict=True)):
        raise ValueError("repair works on characters: the run's codec should be of kind characters")
    asked = [i for i, body in enumerate(bodies) if body.strip()]
    written = list(texts)
    if not asked:
        return written
    telling = Telling(layout=layout, codec=codec, nothing=words.padding)
    beside = rows_of([telling(bodies[i]) for i in asked], words.padding).transpose(1, 2)
    x = torch.where(beside[:, 0] == words.padding, words.padding, words.mask)
    seeds = torch.zeros(len(asked), dtype=torch.int64)  # a line is repaired alike wherever it stands
    how = replace(sampling, temperature=0.0, best=1)
    x, _ = fill(built, how, x, seeds=seeds, beside=beside, reluctance=reluctance)
    for row, i in zip(x.cpu(), asked, strict=True):
        written[i] = _read(row, bodies[i], ids[i], built, blank) + texts[i][len(bodies[i]) :]
    return written


def _read(row: Tensor, text: str, ids: Tensor, built: Built, blank: int) -> str:
    """The characters of a row of places; what stayed, or was not known, is the character that stood there."""
    codec, out = codec_of(built), list[str]()
    for place, symbol in enumerate(row[: 2 * len(text) + 1].tolist()):
        i = place // 2
        if place % 2 and (symbol == int(ids[i]) or codec.decode([int(ids[i])]) == UNKNOWN):
            out.append(text[i])
        elif symbol < blank:
            out.append(codec.decode([symbol]).strip("\r\n"))  # a line stays one
    return "".join(out)
