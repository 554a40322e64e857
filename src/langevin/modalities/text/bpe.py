"""Byte pair encoding (Sennrich et al., Neural Machine Translation of Rare Words with Subword Units, 2016) over bytes.

Text is split where GPT-2 splits it (words with their leading space, numbers, punctuation, white space), and within a
piece the most frequent neighbours were merged. All 256 bytes are symbols, so every text comes back exactly.

Text is cut where white space begins: there the split never depends on what lies on the other side, so no symbol changes,
and each different word with the space before it is coded once. Only a run of 4,096 characters or more without such a
place is cut anywhere, which changes a symbol or two there and still comes back exactly.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Self

import numpy as np
from torch import Tensor

from langevin.modalities.text.ids import checked_ids, checked_text, surrogates, tensor

_LONGEST = 1 << 12  # characters of a piece that no white space ends
_PIECE = re.compile(
    rf"[^\S\x1c-\x1f]{{0,{_LONGEST}}}[\S\x1c-\x1f]{{1,{_LONGEST}}}|\s{{1,{_LONGEST}}}"
)  # \x1c-\x1f: Python's \s only
_PART = 1 << 16  # characters of a part to train on
_TOGETHER = 1 << 20  # characters looked up in one go
_REMEMBERED = 1 << 25  # characters of different pieces, or symbols of them, kept at a time
_ENOUGH = 1 << 24  # characters that a vocabulary is trained on


@dataclass(frozen=True, kw_only=True)
class BPE:
    """Byte pairs, trained on the data or read from a ready tokenizer.json; needs the `tokenizers` library.

    Args:
        size: symbols to train, 257 to 1,000,000; a small text gives fewer.
        model: the whole tokenizer.json as text; empty until fitted.
    """

    kind: Literal["bpe"] = "bpe"
    size: int = 2048
    model: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not 257 <= self.size <= 1_000_000:
            raise ValueError(
                f"bpe: size is the number of symbols, 257 (256 bytes and a pair) to 1 million, got {self.size}"
            )
        if self.model:
            _count(self._parsed)

    @classmethod
    def fit(cls, texts: Iterable[str], *, size: int = 2048) -> Self:
        """Trained on `texts`, or on evenly spaced parts of them where they have more than 16 million characters.

        The same texts in the same order give the same symbols.

        Raises:
            ValueError: no text, an unpaired surrogate, or `tokenizers` is not installed."""
        library = _library()
        made = library.Tokenizer(library.models.BPE())
        made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        made.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=cls(size=size).size,
            show_progress=False,
            initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        )
        kept = [checked_text(text) for text in texts]
        if not any(kept):
            raise ValueError("bpe: there is no text to train on; give texts that are not empty")
        made.train_from_iterator(_spread(kept), trainer)
        return cls(size=size, model=made.to_str())

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """A ready tokenizer.json of the `tokenizers` library, of whatever kind.

        Raises:
            ValueError: not there, not such a file, or the library is not installed."""
        where = Path(path).expanduser()
        if where.is_dir():
            where = where / "tokenizer.json"
        try:
            made = cls(model=where.read_text("utf-8"))
            if not made.model:
                raise ValueError("it is empty")
            _ = made._tokenizer
        except OSError as error:
            raise ValueError(f"{where} cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{where} is not UTF-8 text: a tokenizer.json is expected, as tokenizers' save() writes it"
            ) from error
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        return cls(size=max(257, made.symbols), model=made.model)

    def fitted(self, texts: Iterable[str]) -> Self:
        """Itself where it has a model, else one trained on `texts`."""
        return self if self.model else self.fit(texts, size=self.size)

    @cached_property
    def _parsed(self) -> dict[str, Any]:
        if not self.model:
            raise ValueError("bpe: there is no model yet; take `fitted(texts)` first, or `BPE.from_file(path)`")
        try:
            parsed = json.loads(self.model)
        except json.JSONDecodeError as error:
            raise ValueError(f"bpe: the model is not JSON ({error.msg} at character {error.pos})") from error
        if not isinstance(parsed, dict) or not isinstance(parsed.get("model"), dict) or "vocab" not in parsed["model"]:
            raise ValueError(
                "bpe: the model is JSON but no tokenizer: `model` with `vocab` is expected, as tokenizers' save() writes "
                "it (vocab.json alone is not enough)"
            )
        return parsed

    @cached_property
    def symbols(self) -> int:
        """How many ids there are; until fitted, how many are asked for."""
        return _count(self._parsed) if self.model else self.size

    @cached_property
    def lossless(self) -> bool:
        """Whether every text comes back exactly; a ready tokenizer that folds case or spaces, or lacks bytes, does not."""
        return not self.model or (self._cuttable and _all_bytes(self._parsed))

    @property
    def _cuttable(self) -> bool:
        """Split as GPT-2 does, with nothing done to the text before."""
        parsed = self._parsed
        before, after = parsed.get("pre_tokenizer") or {}, parsed.get("decoder") or {}
        plain = (
            before.get("type") == "ByteLevel" and not before.get("add_prefix_space") and before.get("use_regex", True)
        )
        return bool(plain and after.get("type") == "ByteLevel" and not parsed.get("normalizer"))

    @cached_property
    def _tokenizer(self) -> Any:
        _ = self._parsed
        try:
            made = _library().Tokenizer.from_str(self.model)
        except ValueError:
            raise
        except Exception as error:  # the library raises plain Exception
            raise ValueError(f"bpe: the tokenizers library refuses the model: {error}") from error
        made.no_truncation()
        made.no_padding()
        return made

    def encode(self, text: str) -> Tensor:
        """int64 (n,), without start or end symbols. Raises `ValueError` for an unpaired surrogate, or unfitted."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Iterable[str]) -> list[Tensor]:
        """The same of many, or of long, texts."""
        sound = (checked_text(text) for text in texts)
        if self._cuttable:
            pieces = _Pieces(self._codes)
            return [tensor(pieces.encode(text)) for group in _groups(sound) for text in pieces.met(group)]
        return [tensor(np.concatenate([[0][:0], *self._codes([text])])) for text in sound]

    def _codes(self, texts: list[str]) -> list[list[int]]:
        found = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [code.ids for code in found]

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """Raises `ValueError` for an id outside 0..symbols-1, or unfitted."""
        if not self._cuttable:
            return self._tokenizer.decode(checked_ids(ids, self.symbols).tolist(), skip_special_tokens=False)
        return self.written(ids).decode(errors="replace")

    def written(self, ids: Tensor | Sequence[int]) -> bytes:
        """The bytes, which may begin or end inside a character where symbols are of bytes. Raises as `decode`."""
        known = checked_ids(ids, self.symbols)
        if not self._cuttable:
            return self.decode(ids).encode()
        parts = (known[start : start + _TOGETHER].tolist() for start in range(0, len(known), _TOGETHER))
        return b"".join(b"".join(map(self._written.__getitem__, part)) for part in parts)

    @cached_property
    def _written(self) -> list[bytes]:
        """The bytes of each symbol; the vocabulary writes a byte as one printable character, in an order of GPT-2's."""
        shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        byte = {chr(b): b for b in shown}
        byte |= {chr(0x100 + i): b for i, b in enumerate(b for b in range(256) if b not in set(shown))}
        tokens = [self._tokenizer.id_to_token(i) or "" for i in range(self.symbols)]
        return [bytes(byte[c] for c in t) if all(c in byte for c in t) else t.encode() for t in tokens]

    def complaints(self, text: str) -> list[str]:
        """Unpaired surrogates; of a tokenizer that is not lossless also what a text comes back as, where it differs."""
        wrong = surrogates(text)
        if wrong or self.lossless or (back := self.decode(self.encode(text))) == text:
            return wrong
        place = next((i for i, (a, b) in enumerate(zip(text, back)) if a != b), min(len(text), len(back)))
        return [f"it comes back changed from character {place} on: {text[place:][:20]!r} as {back[place:][:20]!r}"]


class _Pieces:
    """Texts by their pieces, each different piece coded once."""

    def __init__(self, codes: Callable[[list[str]], list[list[int]]]) -> None:
        self.codes = codes
        self.forget()

    def forget(self) -> None:
        self.places: dict[str, int] = {}  # of a piece: its row in `starts` and `lengths`, which are of `flat`
        self.size = 0
        self.flat = np.zeros(0, dtype=np.int32)
        self.starts = self.lengths = np.zeros(0, dtype=np.int64)

    def met(self, texts: list[str]) -> list[str]:
        """The texts themselves, their new pieces coded in one call."""
        if len(texts) > 1:
            self.learn(list(dict.fromkeys(itertools.chain.from_iterable(map(_PIECE.findall, texts)))))
        return texts

    def learn(self, pieces: list[str]) -> None:
        """Code those of these different pieces that are new."""
        new = [piece for piece in pieces if piece not in self.places]
        if not new:
            return
        if self.size > _REMEMBERED or len(self.flat) > _REMEMBERED:
            self.forget()
            new = pieces
        codes = self.codes(new)
        lengths = np.array([len(ids) for ids in codes], dtype=np.int64)
        self.starts = np.concatenate([self.starts, len(self.flat) + np.cumsum(lengths) - lengths])
        self.lengths = np.concatenate([self.lengths, lengths])
        self.flat = np.concatenate([self.flat, np.fromiter(itertools.chain.from_iterable(codes), dtype=np.int32)])
        self.places.update(zip(new, range(len(self.places), len(self.places) + len(new))))
        self.size += sum(map(len, new))

    def encode(self, text: str) -> np.ndarray:
        """int32 (n,)."""
        found, start = [np.zeros(0, dtype=np.int32)], 0
        while start < len(text):
            block = _PIECE.findall(text, start, start + _TOGETHER)
            if start + _TOGETHER < len(text):
                block.pop()  # it may go on
            start += sum(map(len, block))
            self.learn(list(dict.fromkeys(block)))
            rows = np.fromiter(map(self.places.__getitem__, block), dtype=np.int64, count=len(block))
            lengths = self.lengths[rows]
            before = np.cumsum(lengths) - lengths
            found.append(self.flat[np.arange(lengths.sum()) + np.repeat(self.starts[rows] - before, lengths)])
        return np.concatenate(found)


def _groups(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in lists of about `_TOGETHER` characters."""
    group, size = list[str](), 0
    for text in texts:
        group.append(text)
        size += len(text)
        if size >= _TOGETHER:
            yield group
            group, size = [], 0
    if group:
        yield group


def _spread(texts: list[str]) -> Iterator[str]:
    """Parts of the texts for training: all of them, or evenly spaced ones that make `_ENOUGH` characters."""
    total = sum(map(len, texts))
    every, seen = max(1, -(-total // _ENOUGH)), 0
    for text in texts:
        for start in range(0, len(text), _PART):
            if seen % every == 0:
                yield text[start : start + _PART]
            seen += 1


def _count(parsed: dict[str, Any]) -> int:
    """1 + the greatest id."""
    vocab, added = parsed["model"]["vocab"], parsed.get("added_tokens") or []
    try:
        ids = vocab.values() if isinstance(vocab, dict) else range(len(vocab))
        return 1 + max(itertools.chain(ids, (token["id"] for token in added)))
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError("bpe: the model's vocabulary is empty or malformed") from error


def _all_bytes(parsed: dict[str, Any]) -> bool:
    """Whether every byte is a symbol; in byte-level vocabularies a byte is written as one printable character."""
    return len({token for token in parsed["model"]["vocab"] if len(token) == 1}) >= 256


def _library() -> ModuleType:
    try:
        import tokenizers
    except ImportError as error:
        raise ValueError("bpe needs tokenizers, which is not installed: pip install 'langevin[text]'") from error
    return tokenizers
