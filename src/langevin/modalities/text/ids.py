"""What text codecs share: checks of texts (valid Unicode) and of ids (within the vocabulary), and code points."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

_SURROGATE = re.compile("[\ud800-\udfff]")
LARGEST = 0x110000  # code points
_TOGETHER = 1 << 22  # characters counted at a time


def surrogates(text: str) -> list[str]:
    """A complaint if the text has an unpaired UTF-16 surrogate, which UTF-8 cannot encode; else nothing."""
    if text.isascii() or (match := _SURROGATE.search(text)) is None:
        return []
    return [
        f"it is not Unicode: character {match.start()} is U+{ord(match[0]):04X}, an unpaired UTF-16 surrogate. Repair "
        "its source, or use text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
    ]


def checked_text(text: str) -> str:
    """The text itself, if UTF-8 can encode it.

    Raises:
        ValueError: an unpaired surrogate, or not a str."""
    if not isinstance(text, str):
        raise ValueError(f"a text (str) was expected, got {type(text).__name__}")
    for complaint in surrogates(text):
        raise ValueError(f"this text cannot be encoded: {complaint}")
    return text


def checked_ids(ids: Tensor | Sequence[int], vocab_size: int) -> np.ndarray:
    """The ids as int64 (n,).

    Raises:
        ValueError: not integers of shape (n,), or an id outside 0..vocab_size-1 (a mask, padding): drop those first."""
    values = ids.detach().cpu().numpy() if isinstance(ids, Tensor) else np.asarray(ids if len(ids) else [0][:0])
    if values.ndim != 1 or (values.dtype.kind not in "iu" and values.size):
        raise ValueError(f"ids to decode must be integers of shape (n,), got {values.dtype} of shape {values.shape}")
    values = values.astype(np.int64)
    outside = np.flatnonzero((values < 0) | (values >= vocab_size))
    if outside.size:
        position = int(outside[0])
        raise ValueError(
            f"id {values[position]} at position {position} is outside 0..{vocab_size - 1}: leave out masks and padding"
        )
    return values


def tensor(values: np.ndarray) -> Tensor:
    """The values as an int64 tensor (n,), a copy."""
    return torch.from_numpy(values.astype(np.int64))


def code_points(text: str) -> np.ndarray:
    """Code points of a text, uint32 (n,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def histogram(texts: Iterable[str]) -> np.ndarray:
    """Count of each code point, int64 (1,114,112,)."""
    count, waiting, size = np.zeros(LARGEST, dtype=np.int64), list[str](), 0

    def add() -> None:
        np.add(count, np.bincount(code_points("".join(waiting)), minlength=LARGEST), out=count)

    for text in texts:
        for start in range(0, len(text), _TOGETHER):
            waiting.append(text[start : start + _TOGETHER])
            size += len(waiting[-1])
            if size >= _TOGETHER:
                add()
                waiting, size = [], 0
    add()
    return count


def named(characters: Sequence[str], *, limit: int = 8) -> str:
    """Characters as a list for a message; white space and unprintable ones by their code points."""
    shown = [f"'{c}'" if c.isprintable() and not c.isspace() else f"U+{ord(c):04X}" for c in characters[:limit]]
    return ", ".join(shown) + (f" and {len(characters) - limit:,} more" if len(characters) > limit else "")
