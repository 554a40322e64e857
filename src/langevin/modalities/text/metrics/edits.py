"""Edits of a correction against those of references: precision, recall, F0.5, and changes of correct sentences.

The source is aligned with the hypothesis and with each reference by `align`, neighbouring changes are merged into
(start, end, replacement), and an edit is right where a reference has the same triple. ERRANT-like: the ERRANT toolkit
aligns with grammatical knowledge and merges by rule, so values differ by some points from its own.

    P = TP / (TP + FP),   R = TP / (TP + FN),   F0.5 = 1.25 P R / (0.25 P + R)

P = 1 if nothing was changed, R = 1 if nothing was to be changed, so that copying has F = 0 on corrupted text. Papers:
"Better Evaluation for Grammatical Error Correction" (2012), "Automatic Annotation and Evaluation of Error Types for
Grammatical Error Correction" (2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from langevin.modalities.text.metrics.alignment import align

Edit = tuple[int, int, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class EditScore:
    """Counts over a corpus, and ratios of them in [0, 1].

    Attributes:
        right: edits that the reference has too (TP).
        wrong: edits that it has not (FP).
        missed: edits of the reference that were not made (FN).
        clean: sentences that no reference changes.
        alarms: of those, sentences that the hypothesis changes.
    """

    right: int
    wrong: int
    missed: int
    clean: int = 0
    alarms: int = 0

    @property
    def precision(self) -> float:
        """Fraction of the edits made that are right; 1 if none was made."""
        return _ratio(self.right, self.right + self.wrong)

    @property
    def recall(self) -> float:
        """Fraction of the reference edits that were made; 1 if there are none."""
        return _ratio(self.right, self.right + self.missed)

    @property
    def f05(self) -> float:
        """F0.5, precision counted double."""
        p, r = self.precision, self.recall
        return 1.25 * p * r / (0.25 * p + r) if p + r else 0.0

    @property
    def clean_changed(self) -> float | None:
        """Fraction of the clean sentences that were changed; None if there are none."""
        return self.alarms / self.clean if self.clean else None


def edits(source: Sequence[str], target: Sequence[str]) -> list[Edit]:
    """The merged edits (start, end, replacement) that turn `source` into `target`; start = end is an insertion."""
    merged: list[Edit] = []
    for i, k, j, m in align(source, target):
        if tuple(source[i:k]) == tuple(target[j:m]):
            continue
        if merged and merged[-1][1] == i:
            start, _, words = merged.pop()
            merged.append((start, k, (*words, *target[j:m])))
        else:
            merged.append((i, k, tuple(target[j:m])))
    return merged


def apply_edits(source: Sequence[str], changes: Sequence[Edit]) -> list[str]:
    """The tokens after the edits, which are in order and do not overlap (ValueError otherwise)."""
    words, position = [], 0
    for start, end, replacement in changes:
        if not position <= start <= end <= len(source):
            raise ValueError(f"apply_edits: edit ({start}, {end}) does not follow {position} in {len(source)} tokens")
        words += [*source[position:start], *replacement]
        position = end
    return [*words, *source[position:]]


def edit_score(
    sources: Sequence[Sequence[str]],
    hypotheses: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
) -> EditScore:
    """Counts of right, wrong and missed edits of token lists, of each sentence against its best reference.

    The best has the highest F0.5 of the sentence, then the most right edits, then the fewest wrong and missed, then comes
    first. ValueError for unequal numbers or a sentence without references.
    """
    if not len(sources) == len(hypotheses) == len(references) or not all(references):
        raise ValueError(
            f"edit_score needs a source, a hypothesis and references per sentence, got {len(sources)}, "
            f"{len(hypotheses)}, {len(references)}, {sum(not r for r in references)} of them without references"
        )
    right = wrong = missed = clean = alarms = 0
    for source, hypothesis, choices in zip(sources, hypotheses, references):
        proposed = set(edits(source, hypothesis))
        expected = [set(edits(source, reference)) for reference in choices]
        best = max((_score(proposed, e) for e in expected), key=lambda s: (s.f05, s.right, -s.wrong - s.missed))
        right, wrong, missed = right + best.right, wrong + best.wrong, missed + best.missed
        if not any(expected):
            clean, alarms = clean + 1, alarms + bool(proposed)
    return EditScore(right=right, wrong=wrong, missed=missed, clean=clean, alarms=alarms)


def changed_share(sources: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]) -> float:
    """Fraction of sentences that were changed, in [0, 1]: on clean text, the false alarms.

    ValueError for unequal numbers or none.
    """
    if not sources or len(sources) != len(hypotheses):
        raise ValueError(f"changed_share needs one hypothesis per source, got {len(sources)} and {len(hypotheses)}")
    return sum(list(a) != list(b) for a, b in zip(sources, hypotheses)) / len(sources)


def _score(proposed: set[Edit], expected: set[Edit]) -> EditScore:
    right = len(proposed & expected)
    return EditScore(right=right, wrong=len(proposed) - right, missed=len(expected) - right)


def _ratio(part: int, total: int) -> float:
    return part / total if total else 1.0
