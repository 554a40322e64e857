"""Edits of a correction against those of references: precision, recall, F0.5, and harm done to sentences without fault.

The source is aligned with the hypothesis and with each reference by `align`, neighbouring changes are merged into
(start, end, replacement), and an edit is right where a reference has the same triple. ERRANT-like: the ERRANT toolkit
aligns with grammatical knowledge and merges by rule, so values differ by some points from its own.

    P = TP / (TP + FP),   R = TP / (TP + FN),   F0.5 = 1.25 P R / (0.25 P + R)

P = 1 where nothing was changed, R = 1 where nothing was to change, so that copying has F = 0 on faulty text. Papers:
"Better Evaluation for Grammatical Error Correction" (2012), "Automatic Annotation and Evaluation of Error Types for
Grammatical Error Correction" (2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from langevin.modalities.text.metrics.alignment import align

Edit = tuple[int, int, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class EditScore:
    """Counts over a corpus; shares of them in [0, 1].

    Attributes:
        right: edits a reference has too (TP).
        wrong: edits it has not (FP).
        missed: edits of the reference that were not made (FN).
        clean: sentences that no reference changes.
        alarms: of those, sentences the hypothesis changes.
    """

    right: int
    wrong: int
    missed: int
    clean: int = 0
    alarms: int = 0

    @property
    def precision(self) -> float:
        """Share of the edits made that are right; 1 where none was made."""
        return _share(self.right, self.right + self.wrong)

    @property
    def recall(self) -> float:
        """Share of the edits to make that were made; 1 where none was to be made."""
        return _share(self.right, self.right + self.missed)

    @property
    def f05(self) -> float:
        """F0.5, precision counted double."""
        p, r = self.precision, self.recall
        return 1.25 * p * r / (0.25 * p + r) if p + r else 0.0

    @property
    def clean_changed(self) -> float | None:
        """Share of clean sentences that were changed, None where there is none."""
        return self.alarms / self.clean if self.clean else None


def edits(source: Sequence[str], target: Sequence[str]) -> list[Edit]:
    """The merged edits (start, end, replacement) that make `target` of `source`; start = end is an insertion."""
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
    words, place = [], 0
    for start, end, replacement in changes:
        if not place <= start <= end <= len(source):
            raise ValueError(f"apply_edits: edit ({start}, {end}) does not follow {place} in {len(source)} tokens")
        words += [*source[place:start], *replacement]
        place = end
    return [*words, *source[place:]]


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
            f"edit_score needs a source, a hypothesis and references a sentence, got {len(sources)}, "
            f"{len(hypotheses)}, {len(references)}, {sum(not r for r in references)} of them without references"
        )
    right = wrong = missed = clean = alarms = 0
    for source, hypothesis, choices in zip(sources, hypotheses, references):
        made = set(edits(source, hypothesis))
        wanted = [set(edits(source, reference)) for reference in choices]
        best = max((_score(made, w) for w in wanted), key=lambda s: (s.f05, s.right, -s.wrong - s.missed))
        right, wrong, missed = right + best.right, wrong + best.wrong, missed + best.missed
        if not any(wanted):
            clean, alarms = clean + 1, alarms + bool(made)
    return EditScore(right=right, wrong=wrong, missed=missed, clean=clean, alarms=alarms)


def changed_share(sources: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]) -> float:
    """Share of sentences that were changed at all, in [0, 1]: on clean text, the false alarms.

    ValueError for unequal numbers or none.
    """
    if not sources or len(sources) != len(hypotheses):
        raise ValueError(f"changed_share needs a hypothesis a source, got {len(sources)} and {len(hypotheses)}")
    return sum(list(a) != list(b) for a, b in zip(sources, hypotheses)) / len(sources)


def _score(made: set[Edit], wanted: set[Edit]) -> EditScore:
    right = len(made & wanted)
    return EditScore(right=right, wrong=len(made) - right, missed=len(wanted) - right)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
