"""Summaries by choice: the sentence of a text that is most like the summaries of other texts.

A sentence is scored by a ridge regression of its ROUGE-1 + ROUGE-2 with the text's summary, within each text, on

- the mean ln p(w | summaries) / p(w | texts) of its words, and of its word pairs,
- the mean ln of the count in the text times the rarity of its words,
- where it stands, and how long it is beside the summaries.

The counts of a training text's own summary are left out: with them the words of the reference tell what to choose.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from langevin.modalities.text.baselines.summary import sentences
from langevin.modalities.text.data import Texts
from langevin.modalities.text.metrics.rouge import rouge_n, rouge_tokens
from langevin.modalities.text.pairs import summaries

RIDGE = 10.0  # texts that standardised features weigh as many as
SMOOTHING = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class SentenceRanker:
    """Chooses a sentence of a text as its summary; make it by `fit`.

    Attributes:
        summaries, texts: counts of words, and of word pairs with a space.
        length: mean number of words of a summary.
        mean, scale, weights: (features,) of the regression.
    """

    summaries: Counter[str]
    texts: Counter[str]
    length: float
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray

    @classmethod
    def fit(cls, pairs: Sequence[tuple[str, Sequence[str]]]) -> "SentenceRanker":
        """Learn from (text, its summaries). Two thousand abstracts take some five seconds.

        Raises:
            ValueError: no pair has a text of several sentences."""
        own = [Counter(gram for one in many for gram in _grams(rouge_tokens(one))) for _, many in pairs]
        counted, texts = Counter[str](), Counter[str]()
        for (text, _), grams in zip(pairs, own, strict=True):
            counted.update(grams)
            texts.update(_grams(rouge_tokens(text)))
        lengths = [len(rouge_tokens(one)) for _, many in pairs for one in many]
        none = np.zeros(0)
        ranker = cls(
            summaries=counted,
            texts=texts,
            length=sum(lengths) / max(1, len(lengths)),
            mean=none,
            scale=none,
            weights=none,
        )
        x, y = list[np.ndarray](), list[np.ndarray]()
        for (text, many), grams in zip(pairs, own, strict=True):
            tokens = [rouge_tokens(sentence) for sentence in sentences(text)]
            if len(tokens) > 1 and many:
                score = np.array([max(_alike(one, rouge_tokens(other)) for other in many) for one in tokens])
                x.append(ranker.features(tokens, without=grams))
                y.append(score - score.mean())
        if not x:
            raise ValueError("no text has several sentences to choose a summary from")
        features, target = np.concatenate(x), np.concatenate(y)
        mean, scale = features.mean(0), features.std(0) + 1e-9
        z = (features - mean) / scale
        weights = np.linalg.solve(z.T @ z + RIDGE * np.eye(z.shape[1]), z.T @ target)
        return cls(summaries=counted, texts=texts, length=ranker.length, mean=mean, scale=scale, weights=weights)

    def choose(self, text: str) -> str:
        """The best sentence; empty for an empty text."""
        found = sentences(text)
        if len(found) < 2:
            return "".join(found)
        features = self.features([rouge_tokens(sentence) for sentence in found])
        return found[int((((features - self.mean) / self.scale) @ self.weights).argmax())]

    def features(self, tokens: Sequence[Sequence[str]], *, without: Counter[str] | None = None) -> np.ndarray:
        """(sentences, features) of the sentences of one text, by counts of summaries without some."""
        left = without or Counter[str]()
        total = self.summaries.total() - left.total()
        size, here = self.texts.total(), Counter(word for one in tokens for word in one)

        def odds(grams: Sequence[str]) -> float:
            found = [
                math.log((self.summaries[g] - left[g] + SMOOTHING) / (total + 1))
                - math.log((self.texts[g] + SMOOTHING) / (size + 1))
                for g in grams
            ]
            return sum(found) / max(1, len(found))

        rows = list[list[float]]()
        for i, one in enumerate(tokens):
            n, where = max(1, len(one)), i / len(tokens)
            central = sum(math.log(here[w]) * math.log((size + 1) / (self.texts[w] + 1)) for w in one) / n
            longer = n / max(1.0, self.length) - 1
            rows.append([
                odds(one), odds(list(_pairs(one))), central, i == 0, i == 1, i == len(tokens) - 1, where, where**2,
                math.log(n), max(0.0, longer), max(0.0, -longer),
            ])  # fmt: skip
        return np.array(rows, float)


def ranker_of(fingerprint: str, texts: Callable[[], Texts]) -> SentenceRanker:
    """The ranker of a run's training pairs; that of the last run asked is kept.

    Raises:
        ValueError: the training data is gone, has no summaries, or no text of several sentences."""
    if fingerprint not in _last:
        train = texts()
        if train.form != "summary":
            raise ValueError("the run's data has no summaries to learn from: take --by writing")
        ranker = SentenceRanker.fit(pairs_of(train))
        _last.clear()
        _last[fingerprint] = ranker
    return _last[fingerprint]


_last: dict[str, SentenceRanker] = {}


def pairs_of(texts: Texts) -> list[tuple[str, list[str]]]:
    """Each text with all of its summaries."""
    found: dict[str, list[str]] = {}
    for one in summaries(texts.records):
        found.setdefault(one.text, []).append(one.summary)
    return list(found.items())


def _alike(one: Sequence[str], other: Sequence[str]) -> float:
    return rouge_n(one, other, 1) + rouge_n(one, other, 2)


def _grams(tokens: Sequence[str]) -> list[str]:
    return [*tokens, *_pairs(tokens)]


def _pairs(tokens: Sequence[str]) -> Iterator[str]:
    return (f"{a} {b}" for a, b in pairwise(tokens))
