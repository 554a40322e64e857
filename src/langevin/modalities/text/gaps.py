"""Texts with gaps to infill.

[[12]]   a gap of 12 tokens
[[]]     a gap whose length the model chooses
\\[[      the two brackets themselves
"""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.modalities.text.codec import BPE, AnyTokens, LetterPairs

_GAP = re.compile(r"(?<!\\)\[\[(.*?)\]\]", re.DOTALL)
FREE = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # lengths tried for a gap of free length


@dataclass(frozen=True, kw_only=True)
class Gapped:
    """Texts and the gaps between them: one gap less than texts; None is a free length."""

    texts: tuple[str, ...]
    gaps: tuple[int | None, ...]

    def coded(self, codec: AnyTokens) -> list[Tensor]:
        """The texts as token ids. A byte-pair token holds a word with its leading space, so a space before a gap is
        left to be generated with the gap."""
        paired = isinstance(codec, BPE | LetterPairs)
        last = len(self.texts) - 1
        return [codec.encode(text.rstrip(" ") if paired and i < last else text) for i, text in enumerate(self.texts)]

    def tokens(self, codec: AnyTokens, mask: int, lengths: tuple[int, ...]) -> Tensor:
        """(n,) int64, gaps of the given lengths masked."""
        parts = self.coded(codec)
        pieces = [parts[0]]
        for n, part in zip(lengths, parts[1:], strict=True):
            pieces += [torch.full((n,), mask), part]
        return torch.cat([part.long() for part in pieces])


def parse(text: str) -> Gapped:
    """A text with gap marks.

    Raises:
        ValueError: a mark that is no number, or one that is not closed."""
    parts = _GAP.split(text)
    texts, marks = parts[::2], parts[1::2]
    for i, part in enumerate(texts):
        if re.search(r"(?<!\\)\[\[", part):
            at = sum(map(len, parts[: 2 * i])) + part.index("[[")
            raise ValueError(
                f"the gap mark at character {at} is not closed: write [[12]], [[]], or \\[[ for the brackets"
            )
    gaps: list[int | None] = []
    for mark in marks:
        if not re.fullmatch(r"\s*[0-9]{0,4}\s*", mark) or (mark.strip() and not 1 <= int(mark) <= 4096):
            raise ValueError(
                f"the gap mark [[{mark}]] is no number from 1 to 4096: write [[12]], or [[]] for any length"
            )
        gaps.append(int(mark) if mark.strip() else None)
    return Gapped(texts=tuple(part.replace("\\[[", "[[") for part in texts), gaps=tuple(gaps))
