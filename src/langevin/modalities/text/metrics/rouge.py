"""ROUGE: n-gram and subsequence overlap of a summary with references; and how much of a summary is copied from its text.

    ROUGE-N F1 = 2 sum_g min(h_g, r_g) / (sum_g h_g + sum_g r_g)        clipped counts of n-grams g
    ROUGE-L F1 = 2 LCS(h, r) / (|h| + |r|)                              longest common subsequence

Tokens are the runs of [a-z0-9] of the lower-cased text, unstemmed, so values are a little below those of scripts that
stem. A mean over documents; with several references either the best of each document (`among="max"`) or the first
(`among="first"`), and the two are not comparable.

Paper: "ROUGE: A Package for Automatic Evaluation of Summaries" (2004).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from langevin.modalities.text.metrics.grams import clipped, gram_counts

_TOKEN = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, kw_only=True)
class Rouge:
    """Mean F1 over documents, in [0, 1]; `length_ratio` is tokens of the summaries over tokens of the references."""

    rouge1: float
    rouge2: float
    rougeL: float  # noqa: N815
    length_ratio: float


def rouge_tokens(text: str) -> list[str]:
    """The lower-case runs of letters a-z and digits."""
    return _TOKEN.findall(text.lower())


def rouge_n(summary: Sequence[str], reference: Sequence[str], n: int) -> float:
    """F1 of the n-grams of two token lists, in [0, 1]; 0 if neither has any. ValueError for n < 1."""
    h, r = gram_counts(summary, n), gram_counts(reference, n)
    total = h.total() + r.total()
    return 2 * clipped(h, r) / total if total else 0.0


def rouge_l(summary: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of the longest common subsequence of two token lists, in [0, 1]; 0 if both are empty."""
    total = len(summary) + len(reference)
    return 2 * common_subsequence(summary, reference) / total if total else 0.0


def common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for token in a:
        diagonal = 0
        for j, other in enumerate(b, 1):
            above = row[j]
            row[j] = diagonal + 1 if token == other else max(above, row[j - 1])
            diagonal = above
    return row[-1]


def rouge(
    summaries: Sequence[str], references: Sequence[Sequence[str]], *, among: Literal["max", "first"] = "max"
) -> Rouge:
    """Mean ROUGE-1, 2 and L of summaries against one or more references each.

    With `among="max"` each of the three uses its own best reference of a document, and the length ratio the mean length
    of the references. ValueError for no documents, a document without references, or unequal numbers.
    """
    if not summaries or len(summaries) != len(references) or not all(references):
        raise ValueError(
            f"rouge needs a summary and at least one reference per document, got {len(summaries)} summaries for "
            f"{len(references)} documents, {sum(not r for r in references)} of them without references"
        )
    scores, generated, reference = [], 0, 0.0
    for summary, choices in zip(summaries, references):
        h = rouge_tokens(summary)
        tokens = [rouge_tokens(choice) for choice in (choices if among == "max" else choices[:1])]
        scores.append([max(score(h, r) for r in tokens) for score in (_one, _two, rouge_l)])
        generated, reference = generated + len(h), reference + fmean(len(r) for r in tokens)
    one, two, long = (fmean(column) for column in zip(*scores))
    return Rouge(rouge1=one, rouge2=two, rougeL=long, length_ratio=generated / reference if reference else float("inf"))


def copy_rate(summaries: Sequence[str], texts: Sequence[str], n: int = 1) -> float:
    """Fraction of the n-grams of the summaries (over all documents) that occur in their own text, in [0, 1].

    ValueError for unequal numbers, or if no summary has an n-gram.
    """
    if len(summaries) != len(texts):
        raise ValueError(f"copy_rate needs one text per summary, got {len(summaries)} and {len(texts)}")
    copied = total = 0
    for summary, text in zip(summaries, texts):
        grams = gram_counts(rouge_tokens(summary), n)
        source = gram_counts(rouge_tokens(text), n)
        copied += sum(count for gram, count in grams.items() if gram in source)
        total += grams.total()
    if not total:
        raise ValueError(f"copy_rate: no summary is {n} tokens long")
    return copied / total


def _one(summary: Sequence[str], reference: Sequence[str]) -> float:
    return rouge_n(summary, reference, 1)


def _two(summary: Sequence[str], reference: Sequence[str]) -> float:
    return rouge_n(summary, reference, 2)
