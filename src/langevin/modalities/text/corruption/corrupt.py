"""Clean text made faulty, so that a repairer can be trained on (faulty, clean) pairs without a corpus of corrections.

A text is left as it is with probability `clean`; without such examples a repairer changes what was right. Otherwise
faults of grammar come first, then of spelling. Of the misspelt words 60 % are written in a way that people were seen to
write them (`Confusions`; a word that is not listed is edited as listed ones were), 20 % have a slip of the fingers and
20 % one of chance. The faulty text is a function of (text, seed): it does not depend on what was corrupted before, nor
by whom.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from langevin.modalities.text.corruption.confusions import Confusions
from langevin.modalities.text.corruption.grammar import grammar_noise
from langevin.modalities.text.corruption.slips import Characters, random_slip, typing_slip
from langevin.modalities.text.words import is_word, pieces


@dataclass(frozen=True, kw_only=True, eq=False)
class Corruption:
    """How text is made faulty.

    Args:
        confusions: lists of misspellings; without them the share of `seen` ones are slips of the fingers too.
        spelling: mean share of words misspelt, in [0, 0.5]; a text's own share is uniform on [0, 2 spelling].
        grammar: mean share of places with a fault of grammar, in [0, 0.5]; a text's own likewise.
        clean: share of texts left as they are, in [0, 1]. Others have at least one fault where a word allows it.
        seen, fingers: shares of misspelt words written as people were seen to, and slipped on the keyboard; the rest,
            1 - seen - fingers, are slips of chance.
    """

    confusions: Confusions | None = None
    spelling: float = 0.1
    grammar: float = 0.0
    clean: float = 0.17
    seen: float = 0.6
    fingers: float = 0.2

    def __post_init__(self) -> None:
        if not (0 <= self.spelling <= 0.5 and 0 <= self.grammar <= 0.5 and 0 <= self.clean <= 1):
            raise ValueError(
                f"Corruption needs spelling and grammar in [0, 0.5] and clean in [0, 1], got {self.spelling}, "
                f"{self.grammar}, {self.clean}"
            )
        if min(self.seen, self.fingers) < 0 or self.seen + self.fingers > 1:
            raise ValueError(
                f"Corruption needs shares seen and fingers that sum to at most 1, got {self.seen}, {self.fingers}"
            )

    def corrupt(self, text: str, seed: int) -> str:
        """The faulty text, a function of (text, seed). ValueError for a negative seed."""
        if seed < 0:
            raise ValueError(f"Corruption.corrupt needs a seed >= 0, got {seed}")
        generator = np.random.default_rng((seed, zlib.crc32(text.encode("utf-8", "surrogatepass"))))
        coin, spelling, grammar = generator.random(3)
        if coin < self.clean or not self.spelling + self.grammar:
            return text
        faulty = grammar_noise(text, 2 * grammar * self.grammar, generator) if self.grammar else text
        faulty = self.misspelt(faulty, 2 * spelling * self.spelling, generator) if self.spelling else faulty
        return self._forced(text, generator) if faulty == text else faulty

    def misspelt(self, text: str, rate: float, generator: np.random.Generator) -> str:
        """The text with each word, and each listed pair of words, misspelt with probability `rate`."""
        parts = pieces(text)
        for i, u in zip(_words(parts), generator.random(len(parts))):
            if u < rate and parts[i]:
                self._misspell(parts, i, generator)
        return "".join(parts)

    def _forced(self, text: str, generator: np.random.Generator) -> str:
        """One fault in a text that got none by chance; a text without words stays."""
        rates = (0.1, 0.5, 1.0) if self.grammar else ()
        for rate in rates if generator.random() < self.grammar / (self.grammar + self.spelling) else ():
            if (faulty := grammar_noise(text, rate, generator)) != text:
                return faulty
        parts = pieces(text)
        words = list(_words(parts))
        if not self.spelling or not words:
            return text
        self._misspell(parts, words[int(generator.integers(len(words)))], generator)
        return "".join(parts)

    def _misspell(self, parts: list[str], i: int, generator: np.random.Generator) -> None:
        """Write the word at place i wrongly, joined with the next where the two are listed as one."""
        word, kind = parts[i], generator.random()
        if kind < self.seen and self.confusions is not None:
            two = "".join(parts[i : i + 3])
            if i + 2 < len(parts) and parts[i + 1] == " " and is_word(parts[i + 2]) and self.confusions.knows(two):
                parts[i : i + 3] = [self.confusions.draw(two, generator.random()), "", ""]
                return
            parts[i] = self._seen(word, self.confusions, generator)
        elif kind < self.seen + self.fingers:
            parts[i] = typing_slip(word, generator)
        else:
            parts[i] = random_slip(word, generator)
        if parts[i] == word:  # such as a doubled letter dropped by one edit and doubled by the next
            parts[i] = random_slip(word, generator)

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
    """Places of the words that can be misspelt: of two letters or more, or the first letter of a text of none such."""
    long = [i for i, part in enumerate(parts) if is_word(part) and len(part) > 1]
    return iter(long or [i for i, part in enumerate(parts) if is_word(part)])
