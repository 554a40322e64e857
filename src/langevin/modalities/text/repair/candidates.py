"""What may have been meant at each place of a sentence, with ln p(typed | meant) and the reason."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from typing import Literal

from langevin.modalities.text.corruption.grammar import ADDED, TABLE, endings
from langevin.modalities.text.repair.channel import Channel
from langevin.modalities.text.repair.language import WordModel
from langevin.modalities.text.repair.lexicon import Lexicon
from langevin.modalities.text.words import is_word

Reason = Literal[
    "as typed", "spelling", "two words", "one word", "another word", "another form", "missing", "superfluous"
]
TRIED, UNKNOWN_TRIED = 8, 20  # words of the lexicon that may have been meant by one of it, and by an unknown one
PRIOR = 0.7  # of ln p(meant) without a context
COMMON = 20  # occurrences of words that others are made of
FREQUENT = 150  # words that compounds are not made of
FARTHEST = 3.0  # nats for each character of a typed word that a word of the lexicon may be away
SELDOM, SELDOM_FORM = 1000, 0.2  # occurrences of words whose other forms are seldom meant, and how much so
NAMED = 6.0  # nats by which an unknown word with a capital at the beginning of a sentence is likelier as it is
DERIVED, COMPOUND = 12.0, 12.0  # -ln p of the spelling of words that are made of known ones
ENDINGS = ("s", "es", "ies", "ed", "ing", "ly", "er", "ers", "est", "ier", "iest", "ness", "less", "ings", "'s")
BEGINNINGS = ("un", "re", "dis", "non", "over", "under", "mis")


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How often a place has each kind of error; the shares of a kind's forms are equal."""

    spelling: float = 0.03
    split: float = 0.009
    joined: float = 0.003
    swapped: float = 0.003
    ending: float = 0.01
    missing: float = 0.03
    superfluous: float = 0.009
    comma: float = 0.06
    repeated: float = 0.05


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Words that may have been meant by the tokens from a place to `end`.

    Attributes:
        log_probability: ln p(typed | meant), and that of the spelling of words that the lexicon does not hold.
    """

    end: int
    words: tuple[str, ...]
    log_probability: float
    reason: Reason


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """Candidates by the lexicon of a language model, a channel, and the tables of grammar."""

    language: WordModel
    channel: Channel = Channel()
    rates: Rates = Rates()

    def __call__(self, line: Sequence[str], i: int) -> list[Candidate]:
        """Candidates for the tokens of a sentence from place i on, the first of which keeps the token."""
        found, rates, token = [self.kept(line, i)], self.rates, line[i]
        word, before = token.lower(), line[i - 1].lower() if i else ""

        def add(reason: Reason, rate: float, *words: str, end: int = i + 1, log_probability: float = 0.0) -> None:
            total = math.log(rate) + log_probability + sum(map(self.spelt, words))
            found.append(Candidate(end=end, words=words, log_probability=total, reason=reason))

        if token == ",":
            add("superfluous", rates.superfluous)
        if not is_word(token):
            return found
        for new in ADDED if len(line) > 2 else ():
            add("missing", rates.missing, new, token)
        if i and before != ",":
            add("missing", rates.comma, ",", token)
        if word == before:
            add("superfluous", rates.repeated)
        elif word in ADDED:
            add("superfluous", rates.superfluous / len(ADDED))
        known = self.language.knows(word)
        if known or not _named(line, i):
            for meant, log_probability in self.spellings(word):
                add("spelling", rates.spelling, *meant.split(), log_probability=log_probability)
            for at in range(1, len(word)) if not known else ():
                parts = word[:at], word[at:]
                if min(map(self.language.count, parts)) >= COMMON:
                    add("two words", rates.joined, *parts)
        if i + 1 < len(line) and self.language.knows(joined := word + line[i + 1].lower()) and is_word(line[i + 1]):
            add("one word", rates.split, joined, end=i + 2)
        for meant, number in _MEANT.get(word, ()):
            add("another word", rates.swapped / number, meant)
        for meant in filter(self.language.knows, endings(word)):
            seldom = self.language.count(word) < SELDOM
            add("another form", rates.ending * (SELDOM_FORM if seldom else 1.0), meant)
        return found

    def kept(self, line: Sequence[str], i: int) -> Candidate:
        """The token as it was typed."""
        named = NAMED if i == 0 and line[0].istitle() and not self.language.knows(line[0]) else 0.0
        return Candidate(end=i + 1, words=(line[i],), log_probability=self.spelt(line[i]) + named, reason="as typed")

    def spelt(self, word: str) -> float:
        """ln p of the spelling of a word that the lexicon does not hold: by a list, parts that it holds, or letters; 0 for
        others."""
        if self.language.knows(word) or not is_word(word):
            return 0.0
        lower = word.lower()
        if lower in self.channel.words:
            return -math.log(len(self.channel.words))
        made = -DERIVED if self.derived(lower) else -COMPOUND if self.compound(lower) else -math.inf
        return max(self.language.spelt(word), made)

    def derived(self, word: str) -> bool:
        """Whether a word is one of the lexicon with a common beginning or ending."""
        stems = (word.removesuffix(ending) for ending in ENDINGS if word.endswith(ending))
        inner = (stem + added for stem in stems if len(stem) > 2 for added in ("", "e", "y"))
        rests = (word.removeprefix(beginning) for beginning in BEGINNINGS if word.startswith(beginning))
        return any(map(self.common, (*inner, *(rest for rest in rests if len(rest) > 3))))

    def compound(self, word: str) -> bool:
        """Whether a word is two words of content."""
        halves = ((word[:at], word[at:]) for at in range(3, len(word) - 2))
        return any(self.common(a) and self.common(b) and not {a, b} & self._frequent for a, b in halves)

    def common(self, word: str) -> bool:
        return self.language.count(word) >= COMMON

    @cached_property
    def _frequent(self) -> frozenset[str]:
        return frozenset(word for word in self.language.words[:FREQUENT])

    @cached_property
    def spellings(self) -> Callable[[str], tuple[tuple[str, float], ...]]:
        """(what may have been meant by a word, ln p(word | it, misspelt)), the likeliest first."""
        return lru_cache(1 << 16)(self._spellings)

    def _spellings(self, word: str) -> tuple[tuple[str, float], ...]:
        near = islice(
            self._lexicon.meant(word, self.channel), UNKNOWN_TRIED if not self.language.knows(word) else TRIED
        )
        meant = {w for w, p in near if p > -FARTHEST * len(word)} | self.channel.listed.get(word, {}).keys()
        scored = ((w, self.channel.log_probability(word, w)) for w in meant - {word})
        possible = [pair for pair in scored if pair[1] > -math.inf]
        return tuple(sorted(possible, key=lambda pair: PRIOR * self._nats(pair[0]) - pair[1]))

    @cached_property
    def _lexicon(self) -> Lexicon:
        words = {word for word in self.language.words if is_word(word)} | self.channel.words
        return Lexicon({word: PRIOR * self._nats(word) for word in sorted(words)})

    def _nats(self, word: str) -> float:
        """-ln of the share of a word among those of the training texts."""
        return math.log(self.language.counts[1] / (self.language.count(word) + 0.5))


def _meant() -> dict[str, tuple[tuple[str, int], ...]]:
    """By a typed word: the words that it is a substitute of in the table of grammar errors, and how many each has."""
    found: dict[str, dict[str, int]] = {}
    for meant, substitutes in TABLE.items():
        for typed in filter(None, substitutes):
            found.setdefault(typed.lower(), {})[meant] = len(substitutes)
    return {typed: tuple(words.items()) for typed, words in found.items()}


_MEANT = _meant()


def _named(line: Sequence[str], i: int) -> bool:
    """Whether an unknown word is taken for a name: it has a capital within a sentence, or is in capitals alone."""
    capitals = len(line[i]) > 1 and line[i].isupper()
    words = [word for word in line if is_word(word)]
    if len(words) > 1 and all(word.isupper() for word in words):
        return False
    return capitals or (i > 0 and line[i][:1].isupper())
