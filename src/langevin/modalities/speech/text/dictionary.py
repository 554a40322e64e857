"""The CMU Pronouncing Dictionary: 126,052 words of North American English with 135,166 pronunciations in ARPAbet.

It is read once in a process, when it is first used. Its licence is beside it, in `cmudict.LICENSE`.
"""

import lzma
from collections.abc import Mapping
from functools import cache
from pathlib import Path

DICTIONARY = Path(__file__).parents[1] / "cmudict.dict.xz"
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    "B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N",
    "NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
Pronunciation = tuple[str, ...]


@cache
def dictionary() -> Mapping[str, tuple[Pronunciation, ...]]:
    """All pronunciations of each word in small letters, the usual one first; vowels end in their stress, 0, 1 or 2."""
    found: dict[str, tuple[Pronunciation, ...]] = {}
    for line in lzma.decompress(DICTIONARY.read_bytes()).decode().splitlines():
        word, *phonemes = line.partition(" #")[0].split()
        word = word.partition("(")[0]
        found[word] = (*found.get(word, ()), tuple(phonemes))
    return found


def without_stress(phonemes: Pronunciation) -> Pronunciation:
    """The phonemes without the digits of stress."""
    return tuple(phoneme.rstrip("012") for phoneme in phonemes)
