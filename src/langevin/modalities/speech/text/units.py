"""Units of speech: what a text becomes for a network, as indices into an inventory whose entry 0 is padding.

| kind | units | language |
|---|---|---|
| phonemes | 39 of ARPAbet, 69 with stress, and pauses | English |
| characters | an alphabet, fitted | any |
| espeak | letters of the IPA from the program espeak-ng, fitted | its languages |

A recipe is written before its data is read: `Characters` and `Espeak` are empty then; `fitted` fits them.
"""

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Self

from langevin.modalities.speech.text import espeak
from langevin.modalities.speech.text.dictionary import CONSONANTS, VOWELS, without_stress
from langevin.modalities.speech.text.normalise import PAUSES, normalise
from langevin.modalities.speech.text.plain import ASCII, left_out, require_short
from langevin.modalities.speech.text.pronounce import phonemes, pronounce

PADDING, BOUNDARY = "", "|"


@dataclass(frozen=True, kw_only=True)
class Phonemes:
    """Phonemes of North American English: words as in the dictionary, else by their letters.

    Args:
        keep_stress: whether vowels have the digit of their stress: 0 none, 1 primary, 2 secondary.
        boundaries: whether a unit stands between words.
    """

    kind: Literal["phonemes"] = "phonemes"
    keep_stress: bool = False
    boundaries: bool = True

    @property
    def inventory(self) -> tuple[str, ...]:
        """Padding, the boundary if there is one, pauses, phonemes."""
        vowels = tuple(v + digit for v in VOWELS for digit in "012") if self.keep_stress else VOWELS
        return (PADDING, *([BOUNDARY] if self.boundaries else []), *PAUSES, *vowels, *CONSONANTS)

    @property
    def pauses(self) -> tuple[int, ...]:
        """Indices of the units at which a voice may pause, that between words first."""
        return tuple(range(1, 1 + self.boundaries + len(PAUSES)))

    def fitted(self, texts: Iterable[str]) -> Self:
        """Itself: there is nothing to fit."""
        return self

    @cached_property
    def _index(self) -> dict[str, int]:
        return _indices(self.inventory)

    def units(self, text: str) -> tuple[int, ...]:
        """Indices of the units of a text, at least one. Raises `ValueError` as `normalise`."""
        found: list[str] = []
        for word in normalise(text):
            if word in PAUSES:
                found.append(word)
                continue
            if self.boundaries and found and found[-1] not in PAUSES:
                found.append(BOUNDARY)
            found.extend(phonemes(word, keep_stress=self.keep_stress))
        return tuple(self._index[unit] for unit in found)

    def spell(self, indices: Sequence[int]) -> str:
        """The units, between spaces, without padding. Raises `ValueError` for an index outside the inventory."""
        return " ".join(_named(indices, self.inventory))

    def remarks(self, text: str) -> tuple[str, ...]:
        """A sentence for each word that is not in the dictionary, and for what is not read. Raises as `units`."""
        lines = [f"'{c}' is not read" for c in left_out(text)]
        for word in dict.fromkeys(normalise(text)):
            if word not in PAUSES and (spoken := pronounce(word)).source in ("letters", "spelled"):
                lines.append(
                    f"'{word}' is not in the dictionary: pronounced {' '.join(without_stress(spoken.phonemes))}"
                )
        return tuple(lines)


@dataclass(frozen=True, kw_only=True)
class Characters:
    """Characters of an alphabet, in small letters and composed (NFC); white space is one space.

    An unknown character is read as the nearest that is known: the letter without its accent, the plain quotation
    mark or dash, or another punctuation mark of a similar name; else it is left out.

    Args:
        alphabet: distinct characters; empty until fitted.
        boundaries: whether spaces are kept.
    """

    kind: Literal["characters"] = "characters"
    alphabet: str = ""
    boundaries: bool = True

    def __post_init__(self) -> None:
        small = all(c == c.lower() == unicodedata.normalize("NFC", c) for c in self.alphabet)
        if len(set(self.alphabet)) < len(self.alphabet) or not small:
            raise ValueError("characters: the alphabet has each character once, small letters in the form NFC")

    @property
    def inventory(self) -> tuple[str, ...]:
        """Padding, then the alphabet."""
        return (PADDING, *self.alphabet)

    @property
    def pauses(self) -> tuple[int, ...]:
        """Indices of the units at which a voice may pause, a space first; padding if there is none."""
        found = sorted((c != " ", i) for c, i in self._index.items() if not c.isalnum() and c not in (PADDING, "'"))
        return tuple(i for _, i in found) or (0,)

    def fitted(self, texts: Iterable[str]) -> Self:
        """Itself if it has an alphabet, else with the characters of `texts` in the order of code points.

        Raises:
            ValueError: no character at all."""
        if self.alphabet:
            return self
        found = {c for text in texts for c in _folded(text)} - ({" "} if not self.boundaries else set())
        if not found - {" "}:
            raise ValueError("characters: there is no text to take an alphabet from; give texts that are not empty")
        return replace(self, alphabet="".join(sorted(found)))

    @cached_property
    def _index(self) -> dict[str, int]:
        if not self.alphabet:
            raise ValueError("characters: the alphabet is empty; take `fitted(texts)` first, or give an alphabet")
        return _indices(self.inventory)

    def units(self, text: str) -> tuple[int, ...]:
        """Indices of the known characters of a text, at least one besides spaces.

        Raises:
            ValueError: none is known, the text is too long or not Unicode, or the alphabet is not fitted."""
        index, read = self._index, {c: self._read_as(c) for c in set(_folded(text))}
        found = "".join(read[c] for c in _folded(text))
        if not found.strip():
            raise ValueError(
                f"there is nothing to say in {text[:40]!r}: none of its characters was in the training texts"
            )
        return tuple(index[c] for c in found)

    def spell(self, indices: Sequence[int]) -> str:
        """The characters, without padding. Raises `ValueError` for an index outside the inventory."""
        return "".join(_named(indices, self.inventory))

    def remarks(self, text: str) -> tuple[str, ...]:
        """A sentence for each character that was not in the training texts. Raises as `units`."""
        lines = []
        for c in sorted(set(_folded(text)) - set(self._index) - {" "}):
            near = self._read_as(c)
            lines.append(f"'{c}' was not in the training texts: " + (f"read as '{near}'" if near else "left out"))
        return tuple(lines)

    def _read_as(self, c: str) -> str:
        """The character or the nearest known ones; empty if there are none."""
        if c in self._index or c == " ":
            return c if c in self._index else ""
        bare = "".join(b for b in unicodedata.normalize("NFKD", c).lower() if not unicodedata.combining(b))
        for near in (bare, c.translate(ASCII).strip()):
            if near and self._index.keys() >= set(near):
                return near
        if not unicodedata.category(c).startswith("P"):
            return ""
        names = {unicodedata.name(k): k for k in self.alphabet if unicodedata.category(k).startswith("P")}
        close = difflib.get_close_matches(unicodedata.name(c, ""), names, n=1)
        return names[close[0]] if close else ""


@dataclass(frozen=True, kw_only=True)
class Espeak:
    """Letters and marks of the IPA from the separate program espeak-ng; a pause where it begins a new clause.

    Args:
        language: a voice of the program, such as en-us, de or cmn; `espeak-ng --voices` lists them.
        alphabet: distinct letters of the IPA; empty until fitted.
        boundaries: whether a unit stands between words.
    """

    kind: Literal["espeak"] = "espeak"
    language: str = "en-us"
    alphabet: str = ""
    boundaries: bool = True

    def __post_init__(self) -> None:
        espeak.require_language(self.language)
        if len(set(self.alphabet)) < len(self.alphabet) or set(self.alphabet) & {*PAUSES, BOUNDARY, " "}:
            raise ValueError("espeak: the alphabet has each letter once, and no space, pause or boundary")

    @property
    def inventory(self) -> tuple[str, ...]:
        """Padding, the boundary if there is one, pauses, the alphabet."""
        return (PADDING, *([BOUNDARY] if self.boundaries else []), *PAUSES, *self.alphabet)

    @property
    def pauses(self) -> tuple[int, ...]:
        """Indices of the units at which a voice may pause, that between words first."""
        return tuple(range(1, 1 + self.boundaries + len(PAUSES)))

    def fitted(self, texts: Iterable[str]) -> Self:
        """Itself if it has an alphabet, else with the letters of the program's output for `texts`.

        Raises:
            ValueError: no letter at all, or as `units`."""
        if self.alphabet:
            return self
        found = {unit for text in texts for unit in espeak.transcribe(text, self.language)} - {*PAUSES, " "}
        if not found:
            raise ValueError("espeak: there is no text to take phonemes from; give texts that are not empty")
        return replace(self, alphabet="".join(sorted(found)))

    @cached_property
    def _index(self) -> dict[str, int]:
        if not self.alphabet:
            raise ValueError("espeak: the alphabet is empty; take `fitted(texts)` first, or give an alphabet")
        return _indices(self.inventory) | {" ": _indices(self.inventory).get(BOUNDARY, -1)}

    def units(self, text: str) -> tuple[int, ...]:
        """Indices of the known letters and pauses of a text.

        Raises:
            ValueError: there is nothing to say, the program is not installed or fails, or the alphabet is not fitted."""
        index, spoken = self._index, espeak.transcribe(text, self.language)
        if not set(spoken) & set(self.alphabet):
            raise ValueError(
                f"there is nothing to say in {text[:40]!r}: none of its phonemes was in the training texts"
            )
        return tuple(index[unit] for unit in spoken if index.get(unit, -1) >= 0)

    def spell(self, indices: Sequence[int]) -> str:
        """The letters and marks, a space between words, without padding. Raises `ValueError` as `Phonemes.spell`."""
        return "".join(_named(indices, self.inventory)).replace(BOUNDARY, " ")

    def remarks(self, text: str) -> tuple[str, ...]:
        """A sentence for each letter of the IPA that was not in the training texts. Raises as `units`."""
        unknown = sorted(set(espeak.transcribe(text, self.language)) - set(self._index))
        return tuple(f"the phoneme '{unit}' was not in the training texts: left out" for unit in unknown)


AnyUnits = Phonemes | Characters | Espeak


def _indices(inventory: Sequence[str]) -> dict[str, int]:
    return {unit: i for i, unit in enumerate(inventory)}


def _named(indices: Sequence[int], inventory: Sequence[str]) -> list[str]:
    """The units with these indices, without padding."""
    for position, index in enumerate(indices):
        if not 0 <= index < len(inventory):
            raise ValueError(f"unit {index} at position {position} is outside 0..{len(inventory) - 1}")
    return [inventory[index] for index in indices if index]


def _folded(text: str) -> str:
    """Small letters in the form NFC, with single spaces, without control characters."""
    if not isinstance(text, str):
        raise ValueError(f"a text (str) was expected, got {type(text).__name__}")
    require_short(text)
    small = unicodedata.normalize("NFC", text.lower())
    return " ".join("".join(c for c in small if c.isspace() or not unicodedata.category(c).startswith("C")).split())
