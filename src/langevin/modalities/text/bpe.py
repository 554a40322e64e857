"""Byte pair encoding over bytes ("Neural Machine Translation of Rare Words with Subword Units", 2016, arXiv:1508.07909).

Text is split as by GPT-2 (words with their leading space, numbers, punctuation, white space), and within a piece the
pairs of tokens that were most frequent in training are merged. All 256 bytes are tokens, so coding is lossless.

Long texts are cut before white space. GPT-2's split does not look across such a cut, so the tokens are the same, and
each distinct word with its leading space is encoded only once. Only a run of 4,096 or more characters without white
space is cut elsewhere: a token or two may change there, and coding is still lossless.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Self

import numpy as np
from torch import Tensor

from langevin.extras import require
from langevin.modalities.paths import regular
from langevin.modalities.text.ids import checked_ids, checked_text, surrogates, tensor
from langevin.modalities.text.tokenizer_parts import require_known

_LONGEST = 1 << 12  # largest piece, in characters
_PIECE = re.compile(
    rf"[^\S\x1c-\x1f]{{0,{_LONGEST}}}[\S\x1c-\x1f]{{1,{_LONGEST}}}|\s{{1,{_LONGEST}}}"
)  # \x1c-\x1f are white space to Python only
_PART = 1 << 16  # characters of a chunk to train on
_TOGETHER = 1 << 20  # characters encoded at a time
_REMEMBERED = 1 << 25  # limit of the cache: characters of its pieces, or their tokens
_ENOUGH = 1 << 24  # most characters that a vocabulary is trained on


@dataclass(frozen=True, kw_only=True)
class BPE:
    """Byte pair encoding, trained on the data or loaded from a tokenizer.json; needs the `tokenizers` library.

    Args:
        size: vocabulary size to train, 257 to 1,000,000; a small text gives fewer tokens.
        model: the whole tokenizer.json as text; empty until fitted.
    """

    kind: Literal["bpe"] = "bpe"
    size: int = 2048
    model: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not 257 <= self.size <= 1_000_000:
            raise ValueError(
                f"bpe: size is the number of tokens, 257 (256 bytes and a pair) to 1 million, got {self.size}"
            )
        if self.model:
            _ = self.vocab_size

    @classmethod
    def fit(cls, texts: Iterable[str], *, size: int = 2048) -> Self:
        """Train on `texts`, or on evenly spaced chunks of them if they have more than 16 million characters.

        The same texts in the same order give the same tokens.

        Raises:
            ValueError: no text, an unpaired surrogate, or `tokenizers` is not installed."""
        library = _library()
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        tokenizer.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=cls(size=size).size,
            show_progress=False,
            initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        )
        kept = [checked_text(text) for text in texts]
        if not any(kept):
            raise ValueError("bpe: there is no text to train on; give texts that are not empty")
        tokenizer.train_from_iterator(_spread(kept), trainer)
        return cls(size=size, model=tokenizer.to_str())

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Load a tokenizer.json of the `tokenizers` library, of any kind.

        Raises:
            ValueError: not there, not such a file, or the library is not installed."""
        where = Path(path).expanduser()
        if where.is_dir():
            where = where / "tokenizer.json"
        try:
            if where.exists() and not regular(where):
                raise ValueError("it is no regular file")
            codec = cls(model=where.read_text("utf-8"))
            if not codec.model:
                raise ValueError("it is empty")
            _ = codec._tokenizer
        except OSError as error:
            raise ValueError(f"{where} cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{where} is not UTF-8 text: a tokenizer.json is expected, as tokenizers' save() writes it"
            ) from error
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        return cls(size=max(257, codec.vocab_size), model=codec.model)

    def fitted(self, texts: Iterable[str]) -> Self:
        """Itself if it has a model, else one trained on `texts`."""
        return self if self.model else self.fit(texts, size=self.size)

    @cached_property
    def _parsed(self) -> dict[str, Any]:
        if not self.model:
            raise ValueError("bpe: there is no model yet; take `fitted(texts)` first, or `BPE.from_file(path)`")
        try:
            parsed = json.loads(self.model)
        except json.JSONDecodeError as error:
            raise ValueError(f"bpe: the model is not JSON ({error.msg} at character {error.pos})") from error
        except (ValueError, RecursionError) as error:
            raise ValueError("bpe: the model is JSON with a number or nesting beyond what is read") from error
        if not isinstance(parsed, dict) or not isinstance(parsed.get("model"), dict) or "vocab" not in parsed["model"]:
            raise ValueError(
                "bpe: the model is JSON but no tokenizer: `model` with `vocab` is expected, as tokenizers' save() writes "
                "it (vocab.json alone is not enough)"
            )
        return parsed

    @cached_property
    def vocab_size(self) -> int:
        """Number of token ids; before fitting, the requested `size`."""
        return require_known(self._parsed) if self.model else self.size

    @cached_property
    def lossless(self) -> bool:
        """Whether decoding inverts encoding; false for a loaded tokenizer that changes case or spaces, or lacks bytes."""
        return not self.model or (self._cuttable and _all_bytes(self._parsed))

    @property
    def _cuttable(self) -> bool:
        """Whether texts may be cut before white space: split as by GPT-2, without a normaliser."""
        parsed = self._parsed
        before, after = parsed.get("pre_tokenizer") or {}, parsed.get("decoder") or {}
        plain = (
            before.get("type") == "ByteLevel" and not before.get("add_prefix_space") and before.get("use_regex", True)
        )
        return bool(plain and after.get("type") == "ByteLevel" and not parsed.get("normalizer"))

    @cached_property
    def _tokenizer(self) -> Any:
        _ = self._parsed
        library = _library()
        with _explained("refuses the model"):
            tokenizer = library.Tokenizer.from_str(self.model)
            tokenizer.no_truncation()
            tokenizer.no_padding()
            largest = max(tokenizer.get_vocab().values())
        if largest >= self.vocab_size:
            raise ValueError(
                f"bpe: the model names ids up to {self.vocab_size - 1}, and the library counts to {largest}"
            )
        return tokenizer

    def encode(self, text: str) -> Tensor:
        """int64 (n,), without start or end tokens. Raises `ValueError` for an unpaired surrogate, or unfitted."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Iterable[str]) -> list[Tensor]:
        """The token ids of many, or of long, texts."""
        checked = (checked_text(text) for text in texts)
        if self._cuttable:
            cache = _PieceCache(self._codes)
            return [tensor(cache.encode(text)) for group in _groups(checked) for text in cache.prepared(group)]
        return [tensor(np.concatenate([[0][:0], *self._codes([text])])) for text in checked]

    def _codes(self, texts: list[str]) -> list[list[int]]:
        tokenizer = self._tokenizer
        with _explained("cannot encode a text with this model"):
            return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """Raises `ValueError` for an id outside 0..vocab_size-1, or unfitted."""
        if not self._cuttable:
            tokenizer, checked = self._tokenizer, checked_ids(ids, self.vocab_size).tolist()
            with _explained("cannot decode with this model"):
                return tokenizer.decode(checked, skip_special_tokens=False)
        return self.written(ids).decode(errors="replace")

    def written(self, ids: Tensor | Sequence[int]) -> bytes:
        """The decoded bytes, which may begin or end inside a character. Raises as `decode`."""
        known = checked_ids(ids, self.vocab_size)
        if not self._cuttable:
            return self.decode(ids).encode()
        parts = (known[start : start + _TOGETHER].tolist() for start in range(0, len(known), _TOGETHER))
        return b"".join(b"".join(map(self._token_bytes.__getitem__, part)) for part in parts)

    @cached_property
    def _token_bytes(self) -> list[bytes]:
        """The bytes of each token. The vocabulary writes each byte as one printable character, by GPT-2's table."""
        shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        byte = {chr(b): b for b in shown}
        byte |= {chr(0x100 + i): b for i, b in enumerate(b for b in range(256) if b not in set(shown))}
        tokens = [self._tokenizer.id_to_token(i) or "" for i in range(self.vocab_size)]
        return [bytes(byte[c] for c in t) if all(c in byte for c in t) else t.encode() for t in tokens]

    def complaints(self, text: str) -> list[str]:
        """Unpaired surrogates; for a tokenizer that is not lossless also where decoding first differs from the text."""
        complaints = surrogates(text)
        if complaints or self.lossless or (back := self.decode(self.encode(text))) == text:
            return complaints
        start = next((i for i, (a, b) in enumerate(zip(text, back)) if a != b), min(len(text), len(back)))
        return [f"it comes back changed from character {start} on: {text[start:][:20]!r} as {back[start:][:20]!r}"]


class _PieceCache:
    """Encodes texts piece by piece, each distinct piece once."""

    def __init__(self, codes: Callable[[list[str]], list[list[int]]]) -> None:
        self.codes = codes
        self.clear()

    def clear(self) -> None:
        self.index: dict[str, int] = {}  # of a piece in `starts` and `lengths`, which delimit its tokens in `flat`
        self.size = 0
        self.flat = np.zeros(0, dtype=np.int32)
        self.starts = self.lengths = np.zeros(0, dtype=np.int64)

    def prepared(self, texts: list[str]) -> list[str]:
        """The texts themselves, after their new pieces are encoded in one call."""
        if len(texts) > 1:
            self.add(list(dict.fromkeys(itertools.chain.from_iterable(map(_PIECE.findall, texts)))))
        return texts

    def add(self, pieces: list[str]) -> None:
        """Encode the new ones of these distinct pieces."""
        new = [piece for piece in pieces if piece not in self.index]
        if not new:
            return
        if self.size > _REMEMBERED or len(self.flat) > _REMEMBERED:
            self.clear()
            new = pieces
        codes = self.codes(new)
        lengths = np.array([len(ids) for ids in codes], dtype=np.int64)
        self.starts = np.concatenate([self.starts, len(self.flat) + np.cumsum(lengths) - lengths])
        self.lengths = np.concatenate([self.lengths, lengths])
        self.flat = np.concatenate([self.flat, np.fromiter(itertools.chain.from_iterable(codes), dtype=np.int32)])
        self.index.update(zip(new, range(len(self.index), len(self.index) + len(new))))
        self.size += sum(map(len, new))

    def encode(self, text: str) -> np.ndarray:
        """int32 (n,)."""
        parts, start = [np.zeros(0, dtype=np.int32)], 0
        while start < len(text):
            block = _PIECE.findall(text, start, start + _TOGETHER)
            if start + _TOGETHER < len(text):
                block.pop()  # it may continue
            start += sum(map(len, block))
            self.add(list(dict.fromkeys(block)))
            indices = np.fromiter(map(self.index.__getitem__, block), dtype=np.int64, count=len(block))
            lengths = self.lengths[indices]
            before = np.cumsum(lengths) - lengths
            parts.append(self.flat[np.arange(lengths.sum()) + np.repeat(self.starts[indices] - before, lengths)])
        return np.concatenate(parts)


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
    """Chunks of the texts to train on: all, or evenly spaced ones of about `_ENOUGH` characters together."""
    total = sum(map(len, texts))
    stride, count = max(1, -(-total // _ENOUGH)), 0
    for text in texts:
        for start in range(0, len(text), _PART):
            if count % stride == 0:
                yield text[start : start + _PART]
            count += 1


def _all_bytes(parsed: dict[str, Any]) -> bool:
    """Whether every byte is a token; in byte-level vocabularies a byte is written as one printable character."""
    return len({token for token in parsed["model"]["vocab"] if len(token) == 1}) >= 256


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn what the library raises, a plain Exception or a panic that is no Exception, into a `ValueError`."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise ValueError(f"bpe: the tokenizers library {what}: {str(error)[:200]}") from error


def _library() -> ModuleType:
    return require("tokenizers", "bpe")
