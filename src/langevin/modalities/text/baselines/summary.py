"""Extractive summaries: a sentence of the text. The first one is hard to beat on news and papers."""

import re
from collections.abc import Sequence

from langevin.modalities.text.metrics.rouge import rouge_n, rouge_tokens

_END = re.compile(r"(?<=[.!?])\s+")


def sentences(text: str) -> list[str]:
    """The text split after '.', '!' or '?' before white space, abbreviations too."""
    return [sentence for sentence in _END.split(text.strip()) if sentence]


def lead(text: str, count: int = 1) -> str:
    """The first `count` sentences, joined by spaces. ValueError for count < 1."""
    if count < 1:
        raise ValueError(f"lead needs count >= 1, got {count}")
    return " ".join(sentences(text)[:count])


def last(text: str) -> str:
    """The last sentence; empty for an empty text."""
    return " ".join(sentences(text)[-1:])


def best_sentence(text: str, references: Sequence[str]) -> str:
    """The sentence with the highest ROUGE-1 against any reference: the upper bound for one sentence."""
    tokens = [rouge_tokens(reference) for reference in references]
    return max(
        sentences(text), key=lambda s: max((rouge_n(rouge_tokens(s), r, 1) for r in tokens), default=0.0), default=""
    )
