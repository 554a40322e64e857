"""The likeliest sentence that may have been meant, and what each change of it gains."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from langevin.modalities.text.repair.candidates import Candidate, Candidates, Reason
from langevin.modalities.text.repair.language import ORDER, START, WordModel

BEAM = 24
WEIGHT = 0.85  # of ln p(meant)
EMPTY = (0,) * (ORDER - 1)  # before a sentence


@dataclass(frozen=True, kw_only=True)
class Change:
    """Words in place of the tokens of a sentence from `start` to `end`; `gain` in nats."""

    start: int
    end: int
    words: tuple[str, ...]
    reason: Reason
    gain: float


@dataclass(frozen=True)
class _Path:
    """Candidates that cover the first tokens of a sentence."""

    score: float
    state: tuple[int, ...]  # the last words
    taken: tuple[Candidate, ...]


def repaired(line: Sequence[str], candidates: Candidates, *, threshold: float) -> list[Change]:
    """The changes of a sentence, each of which gains at least `threshold` nats beside the others."""
    path = searched(line, candidates)
    while True:
        gains = _gains(path, line, candidates)
        worst = min(gains, key=lambda i: gains[i], default=None)
        if worst is None or gains[worst] >= threshold:
            break
        path = _undone(path, line, worst, candidates)
    start, found = 0, []
    for i, candidate in enumerate(path):
        if i in gains:
            found.append(
                Change(start=start, end=candidate.end, words=candidate.words, reason=candidate.reason, gain=gains[i])
            )
        start = candidate.end
    return found


def searched(line: Sequence[str], candidates: Candidates) -> list[Candidate]:
    """The likeliest path by beam search."""
    beams: list[list[_Path]] = [[_Path(0.0, EMPTY, ())], *([] for _ in line)]
    for i in range(len(line)):
        best: dict[tuple[int, ...], _Path] = {}
        for path in sorted(beams[i], key=lambda path: -path.score):
            best.setdefault(path.state, path)
        paths = list(best.values())[:BEAM]
        options = candidates(line, i)
        scores, states = extended([path.state for path in paths], [o.words for o in options], candidates.language)
        totals = WEIGHT * scores + np.array([path.score for path in paths])[:, None]
        totals += np.array([o.log_probability for o in options])
        for end in {o.end for o in options}:
            columns = np.flatnonzero([o.end == end for o in options])
            part = totals[:, columns]
            for at in np.argsort(-part, axis=None)[: 2 * BEAM]:
                j, k = int(at) // len(columns), int(columns[int(at) % len(columns)])
                state = tuple(states[j, k].tolist())
                beams[end].append(_Path(float(totals[j, k]), state, (*paths[j].taken, options[k])))
    scores, _ = extended([path.state for path in beams[-1]], [(START,)], candidates.language)
    last = [path.score + WEIGHT * float(score) for path, score in zip(beams[-1], scores[:, 0], strict=True)]
    return list(beams[-1][int(np.argmax(last))].taken)


def extended(
    states: Sequence[tuple[int, ...]], words: Sequence[Sequence[str]], language: WordModel
) -> tuple[np.ndarray, np.ndarray]:
    """(p, k) ln p of each of k lists of words after each of p states, and (p, k, ORDER - 1) the states after them."""
    ids = [language.ids(new) for new in words]
    after = np.repeat(np.array(states, np.int64)[:, None], len(ids), 1)
    scores = np.zeros(after.shape[:2])
    for n in range(max(map(len, ids))):
        longer = np.flatnonzero([len(new) > n for new in ids])
        new = np.broadcast_to(np.array([ids[k][n] for k in longer]), (len(states), len(longer)))[..., None]
        grams = np.concatenate([after[:, longer], new], -1)
        scores[:, longer] += language.log_probabilities(grams.reshape(-1, ORDER)).reshape(new.shape[:2])
        after[:, longer] = grams[..., 1:]
    return scores, after


def _gains(path: Sequence[Candidate], line: Sequence[str], candidates: Candidates) -> dict[int, float]:
    """Nats that each change of a path gains beside the others, by its index: of its words and of those that follow within
    an n-gram."""
    language, found = candidates.language, dict[int, float]()
    for i, candidate in enumerate(path):
        if candidate.reason == "as typed":
            continue
        kept = _kept(path, line, i, candidates)
        before = [*(START for _ in EMPTY), *(w for c in path[max(0, i - 2 * ORDER) : i] for w in c.words)][1 - ORDER :]
        after = [*(w for c in path[i + 1 : i + 1 + 2 * ORDER] for w in c.words), START][: ORDER - 1]
        versions = [[*candidate.words, *after], [*(w for c in kept for w in c.words), *after]]
        scores, _ = extended([tuple(language.ids(before))], versions, language)
        typed = candidate.log_probability - sum(c.log_probability for c in kept)
        found[i] = WEIGHT * float(scores[0, 0] - scores[0, 1]) + typed
    return found


def _kept(path: Sequence[Candidate], line: Sequence[str], i: int, candidates: Candidates) -> list[Candidate]:
    """The tokens of candidate i of a path, as they were typed."""
    return [candidates.kept(line, j) for j in range(path[i - 1].end if i else 0, path[i].end)]


def _undone(path: Sequence[Candidate], line: Sequence[str], i: int, candidates: Candidates) -> list[Candidate]:
    """The path with the change at index i undone."""
    return [*path[:i], *_kept(path, line, i, candidates), *path[i + 1 :]]
