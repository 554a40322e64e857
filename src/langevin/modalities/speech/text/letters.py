"""Letter-to-sound: the pronunciation of words that are in no dictionary, learned from those that are.

A joint-sequence model: words of the dictionary are aligned letter by letter with their phonemes, and an n-gram is
learned over the pairs (letter, chunk of 0 to 2 phonemes). The pronunciation of a spelling is the chunks of the most
probable sequence of pairs with these letters, by beam search.

Papers: "Joint-sequence models for grapheme-to-phoneme conversion" (2008); "Phonetisaurus" (2016).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from zlib import crc32

import numpy as np

from langevin.modalities.speech.text.align import Pairs, align, chunk_codes
from langevin.modalities.speech.text.dictionary import CONSONANTS, VOWELS, Pronunciation, dictionary, without_stress
from langevin.modalities.speech.text.edits import edit_distance
from langevin.modalities.speech.text.joint import BEGIN, END, NGram, fit_ngram

LETTERS = "abcdefghijklmnopqrstuvwxyz'"
PHONEMES = (*(vowel + stress for vowel in VOWELS for stress in ("", "0", "1", "2")), *CONSONANTS)
LONGEST = 64  # letters of a word
ORDER, BEAM, TOGETHER = 7, 12, 256
_LETTER = {c: i for i, c in enumerate(LETTERS, 1)}
_PHONEME = {p: i for i, p in enumerate(PHONEMES, 1)}
_BARE = np.array([0, *(_PHONEME[p.rstrip("012")] for p in PHONEMES)])  # without stress, by code


@dataclass(frozen=True, kw_only=True, eq=False)
class LetterToSound:
    """An n-gram of letters with chunks of phonemes; make it by `fit`.

    Attributes:
        ngram: over BEGIN, END and the pairs, which are 2 + their index.
        chunks: phonemes of each pair.
        candidates: tokens that can be read at each letter, END where the word is over, (28, most), padded by -1.
    """

    ngram: NGram
    chunks: Sequence[Pronunciation]
    candidates: np.ndarray

    @classmethod
    def fit(cls, words: Iterable[tuple[str, Pronunciation]], *, order: int = ORDER) -> "LetterToSound":
        """Learn from (spelling, phonemes); spellings with other characters than `LETTERS` are left out.

        Raises:
            ValueError: nothing is left to learn from."""
        pairs = _encode(words)
        sizes, starts = align(Pairs(letters=pairs.letters, phonemes=_BARE[pairs.phonemes]))
        base, span = len(PHONEMES) + 1, len(LETTERS) + 1
        joint = chunk_codes(pairs.phonemes, sizes, starts, base) * span + pairs.letters
        kept = pairs.letters > 0
        known, tokens = np.unique(joint[kept], return_inverse=True)
        sequences = np.full((len(joint), joint.shape[1] + 2), -1, dtype=np.int64)
        sequences[:, 0] = BEGIN
        sequences[:, 1:-1][kept] = tokens + 2
        sequences[np.arange(len(joint)), kept.sum(1) + 1] = END
        codes, letters = (known // span).tolist(), known % span
        candidates = [np.array([END]), *(np.flatnonzero(letters == i) + 2 for i in range(1, span))]
        most = max(map(len, candidates))
        return cls(
            ngram=fit_ngram(sequences[sequences >= 0], vocabulary=len(known) + 2, order=order),
            chunks=[tuple(PHONEMES[p - 1] for p in (code % base, code // base) if p) for code in codes],
            candidates=np.stack([np.pad(c, (0, most - len(c)), constant_values=-1) for c in candidates]),
        )

    def pronounce(self, words: Sequence[str], *, beam: int = BEAM) -> list[Pronunciation]:
        """The most probable phonemes of each word; empty where every letter is silent.

        Raises:
            ValueError: a word that is not 1 to 64 of `LETTERS`."""
        for word in words:
            if not 0 < len(word) <= LONGEST or not _LETTER.keys() >= set(word):
                raise ValueError(f"{word[:LONGEST]!r} is no word of 1 to {LONGEST} letters a-z and apostrophes")
        found: list[Pronunciation] = [()] * len(words)
        order = sorted(range(len(words)), key=lambda i: len(words[i]))
        for start in range(0, len(order), TOGETHER):
            chosen = order[start : start + TOGETHER]
            for i, phonemes in zip(chosen, self._search([words[i] for i in chosen], beam)):
                found[i] = phonemes
        return found

    def _search(self, words: Sequence[str], beam: int) -> list[Pronunciation]:
        """Beam search of all words letter by letter; a word that is over keeps its hypotheses."""
        letters = np.zeros((len(words), max(map(len, words)) + 1), dtype=np.int64)
        for i, word in enumerate(words):
            letters[i, : len(word)] = [_LETTER[c] for c in word]
        score, state = np.zeros((len(words), 1)), np.full((len(words), 1), self.ngram.beginning)
        history: list[tuple[np.ndarray, np.ndarray]] = []
        for i in range(letters.shape[1]):
            live = np.flatnonzero(letters[:, max(i - 1, 0)] > 0)  # the end is read once
            tokens = self.candidates[letters[live, i]]
            score, state, parent, token = self._step(score, state, tokens, live, beam)
            history.append((parent, token))
        return [self._read(history, word) for word in range(len(words))]

    def _step(
        self, score: np.ndarray, state: np.ndarray, tokens: np.ndarray, live: np.ndarray, beam: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Score, context, parent and token, (n, beam), of the best with a token more; words not `live` keep theirs."""
        count, width = score.shape
        most = tokens.shape[1]
        total = np.full((count, width, most), -np.inf)
        total[:, :, 0] = score
        states = np.repeat(state[:, :, None], most, 2)
        added = np.full((count, width, most), -1)
        added[live] = tokens[:, None, :]
        word, hypothesis, choice = np.nonzero((added >= 0) & np.isfinite(score)[:, :, None])
        log_prob, following = self.ngram.follow(state[word, hypothesis], added[word, hypothesis, choice])
        total[live] = -np.inf
        total[word, hypothesis, choice] = score[word, hypothesis] + log_prob
        states[word, hypothesis, choice] = following
        flat = total.reshape(count, -1)
        best = np.argsort(-flat, axis=1, kind="stable")[:, :beam]
        score, state, token = (np.take_along_axis(v.reshape(count, -1), best, 1) for v in (total, states, added))
        return score, state, best // most, token

    def _read(self, history: Sequence[tuple[np.ndarray, np.ndarray]], word: int) -> Pronunciation:
        """The phonemes of a word's best hypothesis."""
        tokens, hypothesis = [], 0
        for parent, token in reversed(history):
            tokens.append(int(token[word, hypothesis]))
            hypothesis = int(parent[word, hypothesis])
        return tuple(phoneme for token in reversed(tokens) if token > END for phoneme in self.chunks[token - 2])


def _encode(words: Iterable[tuple[str, Pronunciation]]) -> Pairs:
    """Words whose letters and phonemes are known, with at most two phonemes a letter."""
    usable = [(w, p) for w, p in words if w and _LETTER.keys() >= set(w) and 0 < len(p) <= 2 * len(w)]
    if not usable:
        raise ValueError("there is no word to learn pronunciation from: give words of letters a-z with their phonemes")
    letters = np.zeros((len(usable), max(len(w) for w, _ in usable)), dtype=np.int64)
    phonemes = np.zeros((len(usable), max(len(p) for _, p in usable)), dtype=np.int64)
    for i, (spelling, spoken) in enumerate(usable):
        letters[i, : len(spelling)] = [_LETTER[c] for c in spelling]
        phonemes[i, : len(spoken)] = [_PHONEME[p] for p in spoken]
    return Pairs(letters=letters, phonemes=phonemes)


@cache
def letter_to_sound() -> LetterToSound:
    """The model of all words of the dictionary, learned at the first call, in some seconds."""
    return LetterToSound.fit((word, spoken) for word, variants in dictionary().items() for spoken in variants)


# ---------------------------------------------------------------------------------------------------------- accuracy


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How well pronunciations agree with a dictionary, of which any variant is right.

    Attributes:
        words: number of words.
        word_accuracy, word_accuracy_stress: fraction of words with all phonemes right, without and with stress.
        error_rate, error_rate_stress: edits to the nearest variant, per phoneme of it.
    """

    words: int
    word_accuracy: float
    word_accuracy_stress: float
    error_rate: float
    error_rate_stress: float


def held_out(word: str) -> bool:
    """Whether a word is in the tenth that `held_out_accuracy` measures: its CRC-32 is a multiple of ten."""
    return crc32(word.encode()) % 10 == 0


def held_out_accuracy() -> Accuracy:
    """Accuracy on a tenth of the dictionary of a model that was learned from the rest; takes some ten seconds."""
    words = {w: variants for w, variants in dictionary().items() if _LETTER.keys() >= set(w)}
    model = LetterToSound.fit((w, spoken) for w, variants in words.items() if not held_out(w) for spoken in variants)
    test = {w: variants for w, variants in words.items() if held_out(w)}
    return accuracy(model.pronounce(list(test)), list(test.values()))


def accuracy(found: Sequence[Pronunciation], variants: Sequence[Sequence[Pronunciation]]) -> Accuracy:
    """Compare pronunciations with stress to the variants of each."""
    stressed = [_nearest(f, v) for f, v in zip(found, variants)]
    plain = [_nearest(without_stress(f), [without_stress(p) for p in v]) for f, v in zip(found, variants)]
    return Accuracy(
        words=len(found),
        word_accuracy=sum(edits == 0 for edits, _ in plain) / len(found),
        word_accuracy_stress=sum(edits == 0 for edits, _ in stressed) / len(found),
        error_rate=sum(edits for edits, _ in plain) / sum(length for _, length in plain),
        error_rate_stress=sum(edits for edits, _ in stressed) / sum(length for _, length in stressed),
    )


def _nearest(found: Pronunciation, variants: Sequence[Pronunciation]) -> tuple[int, int]:
    """(edits, length) of the variant with the fewest edits."""
    return (
        (0, len(found))
        if found in variants
        else min((edit_distance(found, variant), len(variant)) for variant in variants)
    )
