"""Does the premise entail the hypothesis? Three baselines that a model of sentence pairs must beat.

- `Majority`: the most frequent label of the training part.
- `HypothesisOnly`: words of the hypothesis alone. Its gain over the majority is an annotation artefact.
- `Overlap`: ten features of shared words and negation, without word order or meaning.

The last two are logistic regressions of scikit-learn (extra `data`). Papers: "Annotation Artifacts in Natural Language
Inference Data" (2018, arXiv:1803.02324), "A SICK cure for the evaluation of compositional distributional semantic
models" (2014).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from langevin.extras import require
from langevin.modalities.captions import split_words

Pair = tuple[str, str]
NEGATION = frozenset({"no", "not", "nobody", "nothing", "none", "never", "without", "n't", "cannot", "isn't", "aren't"})
FEATURES = (
    "shared over hypothesis",
    "shared over premise",
    "shared over either",
    "words only in the hypothesis",
    "words only in the premise",
    "log ratio of lengths",
    "shared pairs of words over those of the hypothesis",
    "equal",
    "negated: one of the two",
    "negated: the hypothesis",
)


def accuracy(predicted: Sequence[str], labels: Sequence[str]) -> float:
    """Fraction of equal labels, in [0, 1]. ValueError for unequal numbers or none."""
    if not labels or len(predicted) != len(labels):
        raise ValueError(f"accuracy needs one prediction per label, got {len(predicted)} for {len(labels)}")
    return sum(a == b for a, b in zip(predicted, labels)) / len(labels)


@dataclass(frozen=True, kw_only=True)
class Majority:
    """One label for every pair."""

    label: str

    @classmethod
    def fit(cls, pairs: Sequence[Pair], labels: Sequence[str]) -> "Majority":
        """The most frequent label; ties go to the first in the alphabet."""
        _check(pairs, labels)
        counts = Counter(labels)
        return cls(label=min(counts, key=lambda label: (-counts[label], label)))

    def predict(self, pairs: Sequence[Pair]) -> list[str]:
        """A label for each pair."""
        return [self.label for _ in pairs]


@dataclass(frozen=True, kw_only=True, eq=False)
class HypothesisOnly:
    """Logistic regression on the set of words of the hypothesis that occur in at least two training pairs."""

    words: dict[str, int]
    model: Any

    @classmethod
    def fit(cls, pairs: Sequence[Pair], labels: Sequence[str]) -> "HypothesisOnly":
        """Fit to (premise, hypothesis) pairs. ValueError for unequal numbers or fewer than two labels."""
        _check(pairs, labels, 2)
        counts = Counter(word for _, hypothesis in pairs for word in set(split_words(hypothesis)))
        words = {word: i for i, word in enumerate(sorted(word for word, count in counts.items() if count > 1))}
        return cls(words=words, model=_logistic(cls._bag(words, pairs), labels))

    def predict(self, pairs: Sequence[Pair]) -> list[str]:
        """A label for each pair."""
        return [str(label) for label in self.model.predict(self._bag(self.words, pairs))] if pairs else []

    @staticmethod
    def _bag(words: dict[str, int], pairs: Sequence[Pair]) -> np.ndarray:
        bag = np.zeros((len(pairs), max(len(words), 1)), np.float32)
        for vector, (_, hypothesis) in zip(bag, pairs):
            vector[[words[word] for word in split_words(hypothesis) if word in words]] = 1
        return bag


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlap:
    """Logistic regression on the ten features of `overlap_features`, standardised by the training part."""

    mean: np.ndarray
    std: np.ndarray
    model: Any

    @classmethod
    def fit(cls, pairs: Sequence[Pair], labels: Sequence[str]) -> "Overlap":
        """Fit to (premise, hypothesis) pairs. ValueError for unequal numbers or fewer than two labels."""
        _check(pairs, labels, 2)
        x = overlap_features(pairs)
        mean, std = x.mean(0), np.maximum(x.std(0), 1e-9)
        return cls(mean=mean, std=std, model=_logistic((x - mean) / std, labels))

    def predict(self, pairs: Sequence[Pair]) -> list[str]:
        """A label for each pair."""
        x = (overlap_features(pairs) - self.mean) / self.std
        return [str(label) for label in self.model.predict(x)] if pairs else []


def overlap_features(pairs: Sequence[Pair]) -> np.ndarray:
    """(n, 10) float64 of (premise, hypothesis) pairs, named by `FEATURES`."""
    return np.array([_features(split_words(p), split_words(h)) for p, h in pairs]).reshape(-1, len(FEATURES))


def _features(premise: list[str], hypothesis: list[str]) -> list[float]:
    p, h = set(premise), set(hypothesis)
    pairs_p, pairs_h = set(pairwise(premise)), set(pairwise(hypothesis))
    shared, denied = len(p & h), [any(w in NEGATION or w.endswith(("n't", "n’t")) for w in words) for words in (p, h)]
    return [
        shared / max(len(h), 1),
        shared / max(len(p), 1),
        shared / max(len(p | h), 1),
        len(h - p),
        len(p - h),
        math.log((len(hypothesis) + 1) / (len(premise) + 1)),
        len(pairs_p & pairs_h) / max(len(pairs_h), 1),
        float(premise == hypothesis),
        float(denied[0] != denied[1]),
        float(denied[1]),
    ]


def _logistic(x: np.ndarray, labels: Sequence[str]) -> Any:
    library = require("sklearn.linear_model", "The baseline of pairs of texts")
    return library.LogisticRegression(max_iter=2000).fit(x, list(labels))


def _check(pairs: Sequence[Pair], labels: Sequence[str], kinds: int = 1) -> None:
    if not pairs or len(pairs) != len(labels) or len(set(labels)) < kinds:
        raise ValueError(
            f"fit needs one label per pair and at least {kinds} distinct ones, got {len(pairs)} pairs, {len(labels)} labels"
        )
