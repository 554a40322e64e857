"""Text as symbols 0..V-1 and back, for models of text. Masks and padding are no symbols: who adds them takes V and up.

| kind | symbols | lossless | for |
|---|---|---|---|
| bytes | 256 | yes | anything, at about a symbol a letter |
| letters | 27 | no | comparisons in bits a character on a-z and space, as of text8 |
| characters | fitted | of what was seen | a small alphabet; one symbol stands for all characters unseen |
| bpe | fitted | yes | most text: a quarter to a half as many symbols as bytes |
| letter_pairs | fitted | no | the same over the 27 letters |

A recipe is written before its data are seen: `Characters` and `BPE` may be empty then, and `fitted` completes them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Self

import numpy as np
from torch import Tensor

from langevin.modalities.text.bpe import BPE
from langevin.modalities.text.ids import (
    LARGEST,
    checked_ids,
    checked_text,
    code_points,
    histogram,
    named,
    surrogates,
    tensor,
)

__all__ = ["BPE", "AnyTokens", "Bytes", "Characters", "LetterPairs", "Letters"]

UNKNOWN = "\ufffd"  # Unicode's replacement character: what an unknown character is decoded to


@dataclass(frozen=True, kw_only=True)
class Bytes:
    """UTF-8 bytes: 256 symbols, every text comes back exactly; ids that are no UTF-8 decode with U+FFFD in their place."""

    kind: Literal["bytes"] = "bytes"

    @property
    def symbols(self) -> int:
        return 256

    @property
    def lossless(self) -> bool:
        return True

    def fitted(self, texts: Iterable[str]) -> Self:
        """Itself: there is nothing to fit."""
        return self

    def encode(self, text: str) -> Tensor:
        """int64 (n,), n the bytes of the text. Raises `ValueError` for an unpaired surrogate."""
        return tensor(np.frombuffer(checked_text(text).encode(), dtype=np.uint8))

    def encode_all(self, texts: Iterable[str]) -> list[Tensor]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """Raises `ValueError` for an id outside 0..255."""
        return self.written(ids).decode(errors="replace")

    def written(self, ids: Tensor | Sequence[int]) -> bytes:
        """The bytes themselves, which may begin or end inside a character. Raises as `decode`."""
        return checked_ids(ids, self.symbols).astype(np.uint8).tobytes()

    def complaints(self, text: str) -> list[str]:
        return surrogates(text)


@dataclass(frozen=True, kw_only=True)
class Letters:
    """27 symbols, as in text8 (Mahoney, 2006): 0 is a space, 1..26 are a..z.

    A text is lower-cased, then every run of anything outside a-z becomes one space, at its ends too.
    """

    kind: Literal["letters"] = "letters"

    @property
    def symbols(self) -> int:
        return 27

    @property
    def lossless(self) -> bool:
        return False

    def fitted(self, texts: Iterable[str]) -> Self:
        """Itself: there is nothing to fit."""
        return self

    def encode(self, text: str) -> Tensor:
        """int64 (n,). Raises `ValueError` for an unpaired surrogate."""
        raw = np.frombuffer(checked_text(text).lower().encode(), dtype=np.uint8)
        ids = raw - np.uint8(96)  # bytes below 'a' wrap round to 160 and up
        ids[ids > 26] = 0
        kept = np.ones(len(ids), dtype=bool)
        kept[1:] = (ids[1:] > 0) | (ids[:-1] > 0)
        return tensor(ids[kept])

    def encode_all(self, texts: Iterable[str]) -> list[Tensor]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """Raises `ValueError` for an id outside 0..26."""
        values = checked_ids(ids, self.symbols)
        return np.where(values == 0, 32, values + 96).astype(np.uint8).tobytes().decode("ascii")

    def written(self, ids: Tensor | Sequence[int]) -> bytes:
        """UTF-8 of the text. Raises as `decode`."""
        return self.decode(ids).encode()

    def complaints(self, text: str) -> list[str]:
        """Unpaired surrogates, and the characters besides white space that become a space; capitals are not mentioned."""
        lost = sorted({c for c in text.lower() if not ("a" <= c <= "z" or c.isspace() or "\ud800" <= c <= "\udfff")})
        return surrogates(text) + ([f"read as spaces, only a to z are known: {named(lost)}"] if lost else [])


@dataclass(frozen=True, kw_only=True)
class Characters:
    """Characters of an alphabet: symbol 0 is any character outside it, symbol i + 1 is `alphabet[i]`.

    Args:
        alphabet: different characters, without U+FFFD (which symbol 0 decodes to); empty until fitted.
        most: length of the alphabet at most, when it is fitted: rarer characters become symbol 0. 1 to 100,000.
    """

    kind: Literal["characters"] = "characters"
    alphabet: str = ""
    most: int = 1024

    def __post_init__(self) -> None:
        if not 1 <= self.most <= 100_000:
            raise ValueError(f"characters: most is the size of the alphabet, 1 to 100,000, got {self.most}")
        for complaint in surrogates(self.alphabet):
            raise ValueError(f"characters: the alphabet cannot be used: {complaint}")
        twice = sorted({c for c in self.alphabet if c == UNKNOWN or self.alphabet.count(c) > 1})
        if twice:
            raise ValueError(f"characters: the alphabet has each character once and no U+FFFD; remove {named(twice)}")

    @classmethod
    def fit(cls, texts: Iterable[str], *, most: int = 1024) -> Self:
        """The `most` frequent characters, ties by code point, in the order of code points.

        Raises:
            ValueError: no character at all, or an unpaired surrogate."""
        count = histogram(map(checked_text, texts))
        count[ord(UNKNOWN)] = 0
        seen = np.flatnonzero(count)
        if not seen.size:
            raise ValueError("characters: there is no text to take an alphabet from; give texts that are not empty")
        chosen = np.sort(seen[np.argsort(-count[seen], kind="stable")[:most]])
        return cls(alphabet="".join(map(chr, chosen.tolist())), most=most)

    def fitted(self, texts: Iterable[str]) -> Self:
        """Itself where it has an alphabet, else one of `texts`."""
        return self if self.alphabet else self.fit(texts, most=self.most)

    @property
    def symbols(self) -> int:
        """1 + the alphabet's length; until fitted, the most that it can be."""
        return 1 + (len(self.alphabet) or self.most)

    @property
    def lossless(self) -> bool:
        """False: a character outside the alphabet is lost, and `complaints` names it."""
        return False

    @cached_property
    def _table(self) -> np.ndarray:
        """Symbol of each code point."""
        if not self.alphabet:
            raise ValueError("characters: the alphabet is empty; take `fitted(texts)` first, or give an alphabet")
        table = np.zeros(LARGEST, dtype=np.int32)
        table[code_points(self.alphabet)] = np.arange(1, len(self.alphabet) + 1)
        return table

    def encode(self, text: str) -> Tensor:
        """int64 (n,), n the characters of the text. Raises `ValueError` for an unpaired surrogate, or unfitted."""
        return tensor(self._table[code_points(checked_text(text))])

    def encode_all(self, texts: Iterable[str]) -> list[Tensor]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """Raises `ValueError` for an id outside 0..symbols-1, or unfitted."""
        _ = self._table  # or it says that nothing is fitted
        points = code_points(UNKNOWN + self.alphabet)[checked_ids(ids, self.symbols)]
        return points.astype("<u4").tobytes().decode("utf-32-le")

    def written(self, ids: Tensor | Sequence[int]) -> bytes:
        """UTF-8 of the text. Raises as `decode`."""
        return self.decode(ids).encode()

    def complaints(self, text: str) -> list[str]:
        """Unpaired surrogates, and the characters outside the alphabet."""
        unknown = sorted(set(text) - set(self.alphabet) - {UNKNOWN})
        unknown = [c for c in unknown if not "\ud800" <= c <= "\udfff"]
        lines = [f"never seen in training, read as unknown: {named(unknown)}"] if unknown else []
        return surrogates(text) + lines


@dataclass(frozen=True, kw_only=True)
class LetterPairs:
    """Byte pairs over the 27 letters: a text is first what `Letters` makes of it, so bits a character compare with those.

    Args:
        size, model: as of `BPE`.
    """

    kind: Literal["letter_pairs"] = "letter_pairs"
    size: int = 1024
    model: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        _ = self._pairs

    @cached_property
    def _pairs(self) -> BPE:
        return BPE(size=self.size, model=self.model)

    @property
    def symbols(self) -> int:
        return self._pairs.symbols

    @property
    def lossless(self) -> bool:
        return False

    def fitted(self, texts: Iterable[str]) -> Self:
        """Itself where it has a model, else one trained on the letters of `texts`."""
        if self.model:
            return self
        return type(self)(size=self.size, model=BPE.fit(map(_lettered, texts), size=self.size).model)

    def encode(self, text: str) -> Tensor:
        """int64 (n,). Raises `ValueError` for an unpaired surrogate, or unfitted."""
        return self._pairs.encode(_lettered(text))

    def encode_all(self, texts: Iterable[str]) -> list[Tensor]:
        return self._pairs.encode_all(map(_lettered, texts))

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """Raises `ValueError` for an id outside the symbols, or unfitted."""
        return self._pairs.decode(ids)

    def written(self, ids: Tensor | Sequence[int]) -> bytes:
        """UTF-8 of the text. Raises as `decode`."""
        return self.decode(ids).encode()

    def complaints(self, text: str) -> list[str]:
        return Letters().complaints(text)


def _lettered(text: str) -> str:
    return Letters().decode(Letters().encode(text))


AnyTokens = Bytes | Letters | Characters | BPE | LetterPairs
