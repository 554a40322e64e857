"""The pronunciation of an English word: the dictionary's, else derived from words that it has, else from its letters.

    's, -s    IH Z after S Z SH ZH CH JH;  S after the other voiceless consonants;  Z after all else
    'd, -ed   IH D after T D;  T after the other voiceless consonants;  D after all else
    -ing      IH NG

The stem is found through the rules of spelling: loved, stopped, carried; making, running. A word without a vowel is
spelled. Two words end to end are left to the letters: on words of the dictionary that were held out these are right
more often than the two pronunciations end to end.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from langevin.modalities.speech.text.dictionary import Pronunciation, dictionary, without_stress
from langevin.modalities.speech.text.letters import LONGEST, letter_to_sound

SIBILANT = frozenset(("S", "Z", "SH", "ZH", "CH", "JH"))
VOICELESS = frozenset(("P", "T", "K", "F", "TH", "S", "SH", "CH"))
SHORTEST_STEM = 3  # letters


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """Phonemes with stress, and where they come from."""

    phonemes: Pronunciation
    source: Literal["dictionary", "inflection", "spelled", "letters"]


@lru_cache(65_536)
def pronounce(word: str) -> Spoken:
    """The pronunciation of a word of a-z and apostrophes in small letters, or of a letter's name, "b.".

    Raises:
        ValueError: no word of at most 64 of these characters, with a letter."""
    if word in dictionary():
        return Spoken(phonemes=dictionary()[word][0], source="dictionary")
    if not re.fullmatch(r"'*[a-z][a-z']*", word) or len(word) > LONGEST:
        raise ValueError(f"{word[:LONGEST]!r} is no word of 1 to {LONGEST} letters a-z and apostrophes: give one word")
    if derived := _with_clitic(word) or _inflected(word):
        return derived
    guess = letter_to_sound().pronounce([word])[0] if set(word) & set("aeiouy") else ()
    if guess:
        return Spoken(phonemes=guess, source="letters")
    spelled = tuple(p for c in word if c != "'" for p in dictionary()[c + "."][0])
    return Spoken(phonemes=spelled, source="spelled")


def with_s(stem: Pronunciation) -> Pronunciation:
    """The plural, the third person and the possessive."""
    last = stem[-1]
    return (*stem, *(("IH0", "Z") if last in SIBILANT else ("S",) if last in VOICELESS else ("Z",)))


def with_ed(stem: Pronunciation) -> Pronunciation:
    """The past."""
    last = stem[-1]
    return (*stem, *(("IH0", "D") if last in ("T", "D") else ("T",) if last in VOICELESS else ("D",)))


def with_ing(stem: Pronunciation) -> Pronunciation:
    """The participle; a syllabic L loses its vowel, as in fiddling."""
    if stem[-2:] == ("AH0", "L") and len(stem) > 3 and stem[-3] not in ("R", "L", "V"):
        stem = (*stem[:-2], "L")
    return (*stem, "IH0", "NG")


CLITICS: dict[str, Callable[[Pronunciation], Pronunciation]] = {
    "'s": with_s,
    "'d": with_ed,
    "'ll": lambda stem: (*stem, "AH0", "L"),
    "'ve": lambda stem: (*stem, "AH0", "V"),
    "'re": lambda stem: (*stem, "ER0"),
    "n't": lambda stem: (*stem, "AH0", "N", "T"),
}


def _with_clitic(word: str) -> Spoken | None:
    """The pronunciation of any word with an ending after an apostrophe."""
    for ending, attach in CLITICS.items():
        if word.endswith(ending) and any(c.isalpha() for c in word[: -len(ending)]):
            stem = pronounce(word[: -len(ending)])
            source = "inflection" if stem.source == "dictionary" else stem.source
            return Spoken(phonemes=attach(stem.phonemes), source=source)
    return None


def _inflected(word: str) -> Spoken | None:
    """The pronunciation of a word with an ending whose stem is in the dictionary."""
    for ending, attach in (("s", with_s), ("ed", with_ed), ("ing", with_ing)):
        if word.endswith(ending):
            for stem in _stems(word.removesuffix(ending), ending):
                if len(stem) >= SHORTEST_STEM and stem in dictionary():
                    return Spoken(phonemes=attach(dictionary()[stem][0]), source="inflection")
    return None


def _stems(rest: str, ending: str) -> Iterator[str]:
    """The stems that a word with an ending may have, the likeliest first; `rest` is the word without it."""
    if ending == "s":
        if rest.endswith("ie"):
            yield rest[:-2] + "y"
        if rest.endswith(("se", "xe", "ze", "che", "she")):
            yield from (rest, rest[:-1])
        elif not rest.endswith(("s", "u", "i")):
            yield rest
        return
    if ending == "ed" and rest.endswith("i"):
        yield rest[:-1] + "y"
    short = len(rest) > 2 and rest[-1] not in "aeiouwxy" and rest[-2] in "aeiouy" and rest[-3] not in "aeiou"
    doubled = len(rest) > 2 and rest[-1] == rest[-2] and rest[-1] not in "aeiou"
    soft = rest.endswith(("c", "g", "v", "s", "z")) and not rest.endswith("ing")
    yield from (rest + "e", rest) if short or soft else (rest, rest + "e")
    if doubled:
        yield rest[:-1]


def phonemes(word: str, *, keep_stress: bool = False) -> Pronunciation:
    """The phonemes of `pronounce`: 39 without stress, 69 where vowels keep the digit of their stress."""
    found = pronounce(word).phonemes
    return found if keep_stress else without_stress(found)
