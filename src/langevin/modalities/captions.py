"""A word-level tokenizer of captions, with a vocabulary fitted to the training captions."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

import torch
from torch import Tensor

from langevin.modalities.paths import some

_WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")


def split_words(text: str) -> list[str]:
    """Lower-case words; hyphens and apostrophes inside a word stay ("1-2", "o'clock")."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True, kw_only=True)
class CaptionVocabulary:
    """Captions as token ids: 0 is padding, 1 any word outside the vocabulary, i + 2 is `words[i]`.

    Args:
        words: the vocabulary.
        length: tokens per caption; longer captions are truncated.
    """

    words: tuple[str, ...]
    length: int
    kind: Literal["words"] = "words"

    def __post_init__(self) -> None:
        if not 1 <= self.length <= 4096:
            raise ValueError(f"a vocabulary of captions has a length of 1 to 4096 tokens, got {self.length}")

    @classmethod
    def fit(cls, captions: Iterable[str], *, most: int = 8192, longest: int = 32) -> "CaptionVocabulary":
        """The `most` frequent words of the captions, and the length of the longest caption (at most `longest`)."""
        split = [split_words(caption) for caption in captions]
        count = Counter(word for words in split for word in words)
        frequent = sorted(count, key=lambda word: (-count[word], word))[:most]
        return cls(words=tuple(frequent), length=max(1, min(longest, max((len(words) for words in split), default=1))))

    @property
    def size(self) -> int:
        """Number of token ids."""
        return len(self.words) + 2

    def encode(self, captions: Iterable[str]) -> Tensor:
        """(b, length) int64, padded with 0."""
        index = {word: i + 2 for i, word in enumerate(self.words)}
        rows = [[index.get(word, 1) for word in split_words(caption)[: self.length]] for caption in captions]
        return torch.tensor([row + [0] * (self.length - len(row)) for row in rows], dtype=torch.int64).view(
            -1, self.length
        )

    def decode(self, tokens: Tensor) -> list[str]:
        """Captions, with '?' for words outside the vocabulary."""
        names = ["", "?", *self.words]
        return [" ".join(names[i] for i in row if i > 0) for row in tokens.tolist()]

    def complaints(self, caption: str) -> list[str]:
        """Warnings about a caption: words outside the vocabulary, with the most similar known words, and truncation."""
        words, known = split_words(caption), set(self.words)
        lines: list[str] = []
        for word in (w for w in words if w not in known):
            near = get_close_matches(word, self.words, n=3)
            hint = f"nearest: {', '.join(near)}" if near else f"words that were: {some(self.words, limit=8)}"
            lines.append(f"'{word}' was never seen in training; {hint}")
        if len(words) > self.length:
            lines.append(f"only the first {self.length} of {len(words)} words are read")
        return lines
