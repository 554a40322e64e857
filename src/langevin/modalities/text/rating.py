"""What texts are worth: simple rules."""

from collections.abc import Callable

import torch
from torch import Tensor

from langevin.modalities.captions import split_words
from langevin.modalities.modality import Measuring

RULES = ("length", "brevity", "known_words")


def rule(name: str, m: Measuring) -> Callable[[list[str]], Tensor]:
    """A rule by its name: the characters of a text, minus these, or the share of its words that the training texts have."""
    if name == "known_words":
        known = {word for text in m.train.strings() for word in split_words(text)}
        return lambda texts: torch.tensor([share(text, known) for text in texts], dtype=torch.float64)
    sign = 1 if name == "length" else -1
    return lambda texts: torch.tensor([sign * len(text) for text in texts], dtype=torch.float64)


def share(text: str, known: set[str]) -> float:
    """The share of a text's words that are known; 0 of a text without words."""
    words = split_words(text)
    return sum(word in known for word in words) / len(words) if words else 0.0
