"""Clean text corrupted, to train a corrector on (corrupted, clean) pairs without a corpus of corrections.

A text is not corrupted with probability `identity_fraction`; without such examples a corrector changes correct text.
Otherwise grammar errors are made first, then spelling errors. Of the misspelt words 60 % get a recorded misspelling
(`Confusions`; a word that is not listed gets edits like those of listed words), 20 % a typing error and 20 % a random
edit. The corrupted text is a function of (text, seed).
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from langevin.modalities.text.corruption.confusions import Confusions
from langevin.modalities.text.corruption.grammar import grammar_noise
from langevin.modalities.text.corruption.typos import Characters, random_edit, typo
from langevin.modalities.text.words import is_word, pieces


@dataclass(frozen=True, kw_only=True, eq=False)
class Corruption:
    """How text is corrupted.

    Args:
        confusions: recorded misspellings; without them the fraction `seen` are typing errors too.
        spelling: mean fraction of misspelt words, in [0, 0.5]; the fraction of a text is uniform on [0, 2 spelling].
        grammar: mean fraction of positions with a grammar error, in [0, 0.5]; that of a text likewise.
        identity_fraction: fraction of texts not corrupted, in [0, 1]. Others have at least one error if they have words.
        seen, fingers: fractions of the misspelt words with a recorded misspelling, and with a typing error; the rest,
            1 - seen - fingers, have a random edit.
    """

    confusions: Confusions | None = None
    spelling: float = 0.1
    grammar: float = 0.0
    identity_fraction: float = 0.17
    seen: float = 0.6
    fingers: float = 0.2

    def __post_init__(self) -> None:
        if not (0 <= self.spelling <= 0.5 and 0 <= self.grammar <= 0.5 and 0 <= self.identity_fraction <= 1):
            raise ValueError(
                f"Corruption needs spelling and grammar in [0, 0.5] and identity_fraction in [0, 1], got {self.spelling}, "
                f"{self.grammar}, {self.identity_fraction}"
            )
        if min(self.seen, self.fingers) < 0 or self.seen + self.fingers > 1:
            raise ValueError(
                f"Corruption needs fractions seen and fingers that sum to at most 1, got {self.seen}, {self.fingers}"
            )

    def corrupt(self, text: str, seed: int) -> str:
        """The corrupted text, a function of (text, seed). Raises `ValueError` for a negative seed."""
        if seed < 0:
            raise ValueError(f"Corruption.corrupt needs a seed >= 0, got {seed}")
        generator = np.random.default_rng((seed, zlib.crc32(text.encode("utf-8", "surrogatepass"))))
        coin, spelling, grammar = generator.random(3)
        if coin < self.identity_fraction or not self.spelling + self.grammar:
            return text
        corrupted = grammar_noise(text, 2 * grammar * self.grammar, generator) if self.grammar else text
        corrupted = self.misspelt(corrupted, 2 * spelling * self.spelling, generator) if self.spelling else corrupted
        return self._forced(text, generator) if corrupted == text else corrupted

    def misspelt(self, text: str, rate: float, generator: np.random.Generator) -> str:
        """The text with each word, and each listed pair of words, misspelt with probability `rate`."""
        parts = pieces(text)
        for i, u in zip(_words(parts), generator.random(len(parts))):
            if u < rate and parts[i]:
                self._misspell(parts, i, generator)
        return "".join(parts)

    def _forced(self, text: str, generator: np.random.Generator) -> str:
        """One error in a text that got none by chance; a text without words is unchanged."""
        rates = (0.1, 0.5, 1.0) if self.grammar else ()
        for rate in rates if generator.random() < self.grammar / (self.grammar + self.spelling) else ():
            if (corrupted := grammar_noise(text, rate, generator)) != text:
                return corrupted
        parts = pieces(text)
        words = list(_words(parts))
        if not self.spelling or not words:
            return text
        self._misspell(parts, words[int(generator.integers(len(words)))], generator)
        return "".join(parts)

    def _misspell(self, parts: list[str], i: int, generator: np.random.Generator) -> None:
        """Misspell the word at index i, together with the next if the pair is listed."""
        word, kind = parts[i], generator.random()
        if kind < self.seen and self.confusions is not None:
            two = "".join(parts[i : i + 3])
            if i + 2 < len(parts) and parts[i + 1] == " " and is_word(parts[i + 2]) and self.confusions.knows(two):
                parts[i : i + 3] = [self.confusions.draw(two, generator.random()), "", ""]
                return
            parts[i] = self._seen(word, self.confusions, generator)
        elif kind < self.seen + self.fingers:
            parts[i] = typo(word, generator)
        else:
            parts[i] = random_edit(word, generator)
        if parts[i] == word:  # such as a doubled letter dropped by one edit and doubled by the next
            parts[i] = random_edit(word, generator)

    def _seen(self, word: str, confusions: Confusions, generator: np.random.Generator) -> str:
        if confusions.knows(word):
            return confusions.draw(word, generator.random())
        return self.characters.slip(word, generator)

    @cached_property
    def characters(self) -> Characters:
        """Edits of characters learned from the confusions, for words they do not list. ValueError without confusions."""
        if self.confusions is None:
            raise ValueError("Corruption.characters needs confusions to learn from")
        return Characters.fit(self.confusions)


def _words(parts: list[str]) -> Iterator[int]:
    """Indices of the words that can be misspelt: of two letters or more, or if there are none, of one letter."""
    long = [i for i, part in enumerate(parts) if is_word(part) and len(part) > 1]
    return iter(long or [i for i, part in enumerate(parts) if is_word(part)])
