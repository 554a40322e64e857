"""What every codec of text checks: that a text is Unicode, and that ids are ids."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

_SURROGATE = re.compile("[\ud800-\udfff]")
LARGEST = 0x110000  # code points
_TOGETHER = 1 << 22  # characters counted in one go


def surrogates(text: str) -> list[str]:
    """A complaint where half of a UTF-16 pair stands alone in the text, which no UTF-8 can hold; else none."""
    if text.isascii() or (found := _SURROGATE.search(text)) is None:
        return []
    return [
        f"it is not Unicode: character {found.start()} is U+{ord(found[0]):04X}, half of a UTF-16 pair alone. Repair what "
        "made it, or use text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
    ]


def checked_text(text: str) -> str:
    """The text itself.

    Raises:
        ValueError: an unpaired surrogate, or no str."""
    if not isinstance(text, str):
        raise ValueError(f"a text (str) was expected, got {type(text).__name__}")
    for complaint in surrogates(text):
        raise ValueError(f"this text cannot be coded: {complaint}")
    return text


def checked_ids(ids: Tensor | Sequence[int], symbols: int) -> np.ndarray:
    """The ids as int64 (n,).

    Raises:
        ValueError: not whole numbers in one row, or one outside 0..symbols-1 (a mask, padding): drop those first."""
    values = ids.detach().cpu().numpy() if isinstance(ids, Tensor) else np.asarray(ids if len(ids) else [0][:0])
    if values.ndim != 1 or (values.dtype.kind not in "iu" and values.size):
        raise ValueError(f"ids to decode are whole numbers of shape (n,), got {values.dtype} of shape {values.shape}")
    values = values.astype(np.int64)
    outside = np.flatnonzero((values < 0) | (values >= symbols))
    if outside.size:
        place = int(outside[0])
        raise ValueError(
            f"id {values[place]} at place {place} is outside 0..{symbols - 1}: leave masks and padding out before decoding"
        )
    return values


def tensor(values: np.ndarray) -> Tensor:
    """Numbers as int64 (n,), not shared with them."""
    return torch.from_numpy(values.astype(np.int64))


def code_points(text: str) -> np.ndarray:
    """uint32 (n,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def histogram(texts: Iterable[str]) -> np.ndarray:
    """How often each code point occurs, int64 (1,114,112,)."""
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
    """Characters to be read in a sentence: with code points where they do not show."""
    shown = [f"'{c}'" if c.isprintable() and not c.isspace() else f"U+{ord(c):04X}" for c in characters[:limit]]
    return ", ".join(shown) + (f" and {len(characters) - limit:,} more" if len(characters) > limit else "")
