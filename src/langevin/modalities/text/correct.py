"""Corrects texts: predicts every position given the text, and changes it if another token is likelier by a threshold."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from langevin.diffusion.sampler.choice import with_tokens
from langevin.modalities.modality import Request
from langevin.modalities.text.codec import UNKNOWN, AnyTokens
from langevin.modalities.text.infill import Writer, padded
from langevin.modalities.text.slots import SideInputs
from langevin.modalities.text.target import NO_PROGRESS
from langevin.modalities.text.task import BLANK, Correction

Progress = Callable[[int, int], None]
PASSES = 3  # at most; a pass inserts at most one character between two
BATCH = 32


def corrections(
    writer: Writer, task: Correction, texts: Sequence[str], *, threshold: float, progress: Progress = NO_PROGRESS
) -> Generator[Request, Tensor, list[str]]:
    """The corrected texts; line breaks and characters that the codec does not know are kept.

    Args:
        threshold: nats by which another token must be likelier than the source's own.
    """
    windows = [cut(text, task.max_characters) for text in texts]
    todo = [(i, j) for i, parts in enumerate(windows) for j in range(len(parts))]
    for _ in range(PASSES):
        changed: list[tuple[int, int]] = []
        for start in range(0, len(todo), BATCH):
            part = todo[start : start + BATCH]
            before = [windows[i][j] for i, j in part]
            after = yield from _once(writer, task, before, threshold)
            for (i, j), old, new in zip(part, before, after, strict=True):
                windows[i][j] = new
                if new != old and len(new) <= task.max_characters:
                    changed.append((i, j))
            progress(start + len(part), len(todo))
        todo = changed
        if not todo:
            break
    return ["".join(parts) for parts in windows]


def cut(text: str, longest: int) -> list[str]:
    """The text in pieces of at most `longest` characters: lines, and longer lines cut after a space if there is one."""
    parts: list[str] = []
    for line in text.splitlines(keepends=True):
        while len(line) > longest:
            at = line.rfind(" ", longest // 2, longest) + 1 or longest
            parts.append(line[:at])
            line = line[at:]
        parts.append(line)
    return parts


def _once(
    writer: Writer, task: Correction, texts: Sequence[str], threshold: float
) -> Generator[Request, Tensor, list[str]]:
    codec, words = writer.codec, writer.words
    blank = words.codec + BLANK
    bodies = [text.rstrip("\r\n") for text in texts]
    ids = [codec.encode(body) for body in bodies]
    nonempty = [i for i, body in enumerate(bodies) if body.strip()]
    results = list(texts)
    if not nonempty:
        return results
    side_inputs = SideInputs(task=task, codec=codec, same=words.padding)
    source = padded([side_inputs(bodies[i]) for i in nonempty], words.padding).transpose(1, 2)
    x = torch.where(source[:, 0] == words.padding, words.padding, words.mask)
    seeds = torch.zeros(len(nonempty), dtype=torch.int64)  # equal lines get equal corrections
    sampling = replace(writer.sampling, sampler=with_tokens(writer.sampling.sampler, temperature=0.0))
    x = yield from replace(writer, sampling=sampling, best_of=1).write(x, seeds, source=source, threshold=threshold)
    for slots, i in zip(x, nonempty, strict=True):
        results[i] = _decoded(codec, slots, bodies[i], ids[i], blank) + texts[i][len(bodies[i]) :]
    return results


def _decoded(codec: AnyTokens, slots: Tensor, text: str, ids: Tensor, blank: int) -> str:
    """The text of a sequence of slots; characters that are kept, or unknown to the codec, come from the source."""
    out: list[str] = []
    for position, token in enumerate(slots[: 2 * len(text) + 1].tolist()):
        i = position // 2
        if position % 2 and (token == int(ids[i]) or codec.decode([int(ids[i])]) == UNKNOWN):
            out.append(text[i])
        elif token < blank:
            out.append(codec.decode([token]).strip("\r\n"))  # adds no line break
    return "".join(out)
