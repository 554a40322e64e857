"""The language model of repair: word n-grams with sentence boundaries, and the usual case of each word."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from langevin.modalities.text.metrics.ngram import NgramModel
from langevin.modalities.text.words import is_word

ORDER = 4
START, UNKNOWN, NUMBER = "<s>", "<unknown>", "0"
MOST_WORDS = 55_000  # of the lexicon; four of them are numbered in 63 bits
LETTERS = "abcdefghijklmnopqrstuvwxyz'"
LONGEST = 200  # tokens of a sentence
ENDS = frozenset(".!?")
QUOTES = frozenset("\"'”’)]")
BEFORE_CAPITALS = ENDS | QUOTES | {"“", "‘", ":"}
_TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+|\s+|[\W_]")


@dataclass(frozen=True)
class Token:
    """A word, a number or another character of a text, and where it stands in it."""

    text: str
    start: int
    end: int


def sentences(text: str) -> Iterator[list[Token]]:
    """The sentences of a text: they end at . ! ? before a capital letter, at an empty line, and after `LONGEST` tokens."""
    sentence: list[Token] = []
    ended = False
    for found in _TOKEN.finditer(text):
        token = found.group()
        if token.isspace():
            if sentence and token.count("\n") > 1:
                yield sentence
                sentence, ended = [], False
            continue
        if ended and token not in QUOTES:
            if token[:1].isupper() or not is_word(token):
                yield sentence
                sentence = []
            ended = False
        sentence.append(Token(token.replace("’", "'"), found.start(), found.end()))
        ended = ended or token in ENDS
        if len(sentence) == LONGEST:
            yield sentence
            sentence, ended = [], False
    if sentence:
        yield sentence


@dataclass(frozen=True, kw_only=True, eq=False)
class WordModel:
    """n-grams of the words of texts, lower-cased; make it by `fit`.

    Attributes:
        words: the lexicon, the most frequent first, after the sentence start and the unknown word.
        counts: of each word.
        model: the n-grams of their indices.
        spelling: letter n-grams of rare words, by which an unknown word is spelt.
        cased: words that are nearly always written in one way within a sentence that is not lower case, such as I.
    """

    words: tuple[str, ...]
    counts: tuple[int, ...]
    model: NgramModel
    spelling: NgramModel
    cased: dict[str, str]

    @classmethod
    def fit(cls, texts: Iterable[str]) -> "WordModel":
        """Count the words and n-grams of texts. 36 MB take about half a minute. ValueError for texts without a word."""
        lines = [[token.text for token in sentence] for text in texts for sentence in sentences(text)]
        lower = [[NUMBER if token.isdigit() else token.lower() for token in line] for line in lines]
        count = Counter(token for line in lower for token in line)
        if not any(is_word(token) for token in count):
            raise ValueError("there are no words to count")
        frequent = sorted((w for w in count if count[w] > 1), key=lambda w: (-count[w], w))[:MOST_WORDS]
        words = (START, UNKNOWN, *frequent)
        index = {word: i for i, word in enumerate(words)}
        begin = (0,) * (ORDER - 1)
        stream = [i for line in lower for i in (*begin, *(index.get(token, 1) for token in line))]
        model = NgramModel.fit(np.array([*stream, 0], np.int64), order=ORDER, size=len(words))
        rare = [w for w in count if count[w] <= 2 and is_word(w) and set(w) <= set(LETTERS)] or ["a"]
        letters = np.concatenate([_spelt(word) for word in rare])
        spelling = NgramModel.fit(letters, order=min(4, len(letters)), size=len(LETTERS) + 1)
        return cls(
            words=words, counts=(len(lines), sum(count.values()), *(count[w] for w in frequent)), model=model,
            spelling=spelling, cased=_cased(lines),
        )  # fmt: skip

    @cached_property
    def index(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    def knows(self, word: str) -> bool:
        return word.lower() in self.index

    def count(self, word: str) -> int:
        i = self.index.get(word.lower())
        return self.counts[i] if i is not None and i > 1 else 0

    def ids(self, line: Sequence[str]) -> list[int]:
        return [self.index.get(NUMBER if token.isdigit() else token.lower(), 1) for token in line]

    def spelt(self, word: str) -> float:
        """ln p of the spelling of an unknown word."""
        letters = [c if c in LETTERS else "'" for c in word.lower()]
        x = _spelt("".join(letters))
        return -float(self.spelling.bits(np.concatenate([[len(LETTERS)], x]))[1:].sum()) * math.log(2)

    def log_probabilities(self, grams: np.ndarray) -> np.ndarray:
        """(m,) ln p of the last word of each of (m, ORDER) indices, given those before it."""
        return self.model.log_probabilities(grams)


def _spelt(word: str) -> np.ndarray:
    return np.array([*(LETTERS.index(c) for c in word), len(LETTERS)], np.int64)


def _cased(lines: Sequence[Sequence[str]]) -> dict[str, str]:
    """The usual form of words that are in another case than lower within nearly all sentences that hold them."""
    forms: dict[str, Counter[str]] = {}
    for line in lines:
        for before, token in pairwise(line):
            if is_word(token) and before not in BEFORE_CAPITALS:
                forms.setdefault(token.lower(), Counter())[token] += 1
    found = {}
    for word, counted in forms.items():
        form, times = counted.most_common(1)[0]
        if (form != word and times >= 5 and times >= 0.9 * counted.total() and not form.isupper()) or word == "i":
            found[word] = form
    return found
