"""Codecs: text to token ids 0..V-1 and back. Special tokens, mask and padding are not theirs; those ids start at V.

| kind | tokens | lossless | for |
|---|---|---|---|
| bytes | 256 | yes | any text, at about one token per letter |
| letters | 27 | no | comparisons in bits per character on a-z and space, as on text8 |
| characters | fitted | known characters | small alphabets; one token stands for all unknown characters |
| bpe | fitted | yes | most text: a quarter to a half as many tokens as bytes |
| letter_pairs | fitted | no | byte pairs over the 27 letters |

A recipe is written before its data is read: `Characters`, `BPE` and `LetterPairs` are empty then; `fitted` fits them.
"""

from collections import Counter
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

UNKNOWN = "\ufffd"  # Unicode's replacement character, which an unknown character decodes to


@dataclass(frozen=True, kw_only=True)
class Bytes:
    """UTF-8 bytes: 256 tokens, lossless. Ids that are not valid UTF-8 decode to U+FFFD."""

    kind: Literal["bytes"] = "bytes"

    @property
    def vocab_size(self) -> int:
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
        """The decoded bytes, which may begin or end inside a character. Raises as `decode`."""
        return checked_ids(ids, self.vocab_size).astype(np.uint8).tobytes()

    def complaints(self, text: str) -> list[str]:
        return surrogates(text)


@dataclass(frozen=True, kw_only=True)
class Letters:
    """27 tokens, as in text8 (Mahoney, 2006): 0 is a space, 1..26 are a..z.

    A text is lower-cased, then every run of other characters becomes one space, at its ends too.
    """

    kind: Literal["letters"] = "letters"

    @property
    def vocab_size(self) -> int:
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
        values = checked_ids(ids, self.vocab_size)
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
    """Characters of an alphabet: token 0 is any character outside it, token i + 1 is `alphabet[i]`.

    Args:
        alphabet: distinct characters, without U+FFFD (which token 0 decodes to); empty until fitted.
        most: largest length of a fitted alphabet, 1 to 100,000; rarer characters become token 0.
    """

    kind: Literal["characters"] = "characters"
    alphabet: str = ""
    most: int = 1024

    def __post_init__(self) -> None:
        if not 1 <= self.most <= 100_000:
            raise ValueError(f"characters: most is the largest size of the alphabet, 1 to 100,000, got {self.most}")
        for complaint in surrogates(self.alphabet):
            raise ValueError(f"characters: the alphabet cannot be used: {complaint}")
        twice = sorted(c for c, count in Counter(self.alphabet).items() if c == UNKNOWN or count > 1)
        if twice:
            raise ValueError(f"characters: the alphabet has each character once and no U+FFFD; remove {named(twice)}")

    @classmethod
    def fit(cls, texts: Iterable[str], *, most: int = 1024) -> Self:
        """The `most` frequent characters, ties by code point, in the order of code points.

        Raises:
            ValueError: no character at all, or an unpaired surrogate."""
        count = histogram(map(checked_text, texts))
        count[ord(UNKNOWN)] = 0
        used = np.flatnonzero(count)
        if not used.size:
            raise ValueError("characters: there is no text to take an alphabet from; give texts that are not empty")
        chosen = np.sort(used[np.argsort(-count[used], kind="stable")[:most]])
        return cls(alphabet="".join(map(chr, chosen.tolist())), most=most)

    def fitted(self, texts: Iterable[str]) -> Self:
        """Itself if it has an alphabet, else with one of `texts`."""
        return self if self.alphabet else self.fit(texts, most=self.most)

    @property
    def vocab_size(self) -> int:
        """1 + the alphabet's length; before fitting, the most that it can be."""
        return 1 + (len(self.alphabet) or self.most)

    @property
    def lossless(self) -> bool:
        """False: a character outside the alphabet is lost, and `complaints` names it."""
        return False

    @cached_property
    def _table(self) -> np.ndarray:
        """Token id of each code point, int32 (1,114,112,)."""
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
        """Raises `ValueError` for an id outside 0..vocab_size-1, or unfitted."""
        _ = self._table  # raises if it is not fitted
        points = code_points(UNKNOWN + self.alphabet)[checked_ids(ids, self.vocab_size)]
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
    """Byte pairs over the 27 letters of `Letters`, so that bits per character are comparable with it.

    Args:
        size, model: as in `BPE`.
    """

    kind: Literal["letter_pairs"] = "letter_pairs"
    size: int = 1024
    model: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        _ = self._bpe

    @cached_property
    def _bpe(self) -> BPE:
        return BPE(size=self.size, model=self.model)

    @property
    def vocab_size(self) -> int:
        return self._bpe.vocab_size

    @property
    def lossless(self) -> bool:
        return False

    def fitted(self, texts: Iterable[str]) -> Self:
        """Itself if it has a model, else with one trained on the letters of `texts`."""
        if self.model:
            return self
        return type(self)(size=self.size, model=BPE.fit(map(_lettered, texts), size=self.size).model)

    def encode(self, text: str) -> Tensor:
        """int64 (n,). Raises `ValueError` for an unpaired surrogate, or unfitted."""
        return self._bpe.encode(_lettered(text))

    def encode_all(self, texts: Iterable[str]) -> list[Tensor]:
        return self._bpe.encode_all(map(_lettered, texts))

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """Raises `ValueError` for an id outside the tokens, or unfitted."""
        return self._bpe.decode(ids)

    def written(self, ids: Tensor | Sequence[int]) -> bytes:
        """UTF-8 of the text. Raises as `decode`."""
        return self.decode(ids).encode()

    def complaints(self, text: str) -> list[str]:
        return Letters().complaints(text)


def _lettered(text: str) -> str:
    return Letters().decode(Letters().encode(text))


AnyTokens = Bytes | Letters | Characters | BPE | LetterPairs
