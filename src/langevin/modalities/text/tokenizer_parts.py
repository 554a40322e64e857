"""What a tokenizer.json may consist of: known parts of bounded time and memory, as a recipe from elsewhere may hold one."""

import base64
import math
from collections.abc import Iterator
from typing import Any

MOST_TOKENS = 1_000_000
_MOST_PARTS = 32
_GROWTH = 1000  # how many times as long a text may become
# the library itself gives up a regular expression that takes too many steps
_LISTS = {
    "normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders", "post_processor": "processors",
}  # fmt: skip
_KNOWN = {
    "normalizer": "BertNormalizer ByteLevel Lowercase NFC NFD NFKC NFKD Nmt Precompiled Prepend Replace Strip StripAccents",
    "pre_tokenizer": "BertPreTokenizer ByteLevel CharDelimiterSplit Digits Metaspace Punctuation Split UnicodeScripts "
    "Whitespace WhitespaceSplit",
    "decoder": "BPEDecoder ByteFallback ByteLevel CTC Fuse Metaspace Replace Strip WordPiece",
    "post_processor": "BertProcessing ByteLevel RobertaProcessing TemplateProcessing",
}
_MODELS = ("BPE", "Unigram", "WordLevel", "WordPiece")


def require_known(parsed: dict[str, Any]) -> int:
    """Check a parsed tokenizer.json; the result is its number of token ids, 1 + the greatest.

    Raises:
        ValueError: a part or a vocabulary that is malformed, unknown or without bound."""
    for slot in _KNOWN:
        parts = list(_parts(parsed.get(slot), slot))
        if len(parts) > _MOST_PARTS:
            raise ValueError(f"bpe: the model's {slot} has {len(parts)} parts, more than {_MOST_PARTS}")
        if math.prod(map(_growth, parts)) > _GROWTH:
            raise ValueError(f"bpe: the model's {slot} makes a text more than {_GROWTH:,} times as long")
    model = parsed["model"]
    if model.get("type", "BPE") not in _MODELS:
        raise ValueError(f"bpe: the model's type is {str(model['type'])[:40]!r}; known are {', '.join(_MODELS)}")
    count = _count(model["vocab"], parsed.get("added_tokens") or [])
    if model.get("type") in ("WordLevel", "WordPiece") and str(model.get("unk_token")) not in model["vocab"]:
        raise ValueError("bpe: the model has no token for unknown words: `unk_token` must be in its `vocab`")
    if model.get("type") == "Unigram" and model.get("unk_id") not in range(len(model["vocab"])):
        raise ValueError("bpe: the model has no token for unknown characters: `unk_id` must be in its `vocab`")
    return count


def _parts(part: Any, slot: str) -> Iterator[dict[str, Any]]:
    if part is None:
        return
    kind = part.get("type") if isinstance(part, dict) else None
    inner = part.get(_LISTS[slot]) if isinstance(part, dict) else None
    if kind == "Sequence" and isinstance(inner, list):
        for one in inner:
            yield from _parts(one, slot)
    elif isinstance(part, dict) and isinstance(kind, str) and kind in _KNOWN[slot].split():
        yield part
    else:
        known = ", ".join(["Sequence", *_KNOWN[slot].split()])
        raise ValueError(f"bpe: the model's {slot} is or holds {str(part)[:60]!r}; known are {known}")


def _growth(part: dict[str, Any]) -> float:
    """How many times as long a part may make a text, in bytes."""
    pattern = part.get("pattern")
    match part["type"]:
        case "Replace":
            matched = pattern.get("String") if isinstance(pattern, dict) else pattern
            shortest = len(matched.encode("utf-8", "replace")) if isinstance(matched, str) else 0
            content = len(str(part.get("content", "")).encode("utf-8", "replace"))
            return max(1, content / shortest) if shortest else 1 + content  # a regular expression may match nothing
        case "Prepend":
            return 1 + len(str(part.get("prepend", ""))) / 100
        case "Precompiled":
            return max(1, _longest_rule(part.get("precompiled_charsmap")))
        case _:
            return 1


def _longest_rule(charsmap: Any) -> int:
    """The longest replacement of a map of characters as SentencePiece stores it: the size of a trie (4 bytes), the trie,
    and the replacements, separated by zeros."""
    try:
        raw = base64.b64decode(charsmap or "", validate=True)
    except (ValueError, TypeError) as error:
        raise ValueError("bpe: the model's precompiled_charsmap is not base64") from error
    size = int.from_bytes(raw[:4], "little")
    if size % 4 or not 4 <= size <= len(raw) - 4:  # the library reserves what is written here
        raise ValueError("bpe: the model's precompiled_charsmap is damaged: its trie is longer than it")
    return max(map(len, raw[4 + size :].split(b"\0")))


def _count(vocab: Any, added: Any) -> int:
    try:
        ids = list(vocab.values()) if isinstance(vocab, dict) else list(range(len(vocab)))
        ids += [token["id"] for token in added]
        texts = [*vocab] if isinstance(vocab, dict) else [token for token, _ in vocab]
        texts += [token["content"] for token in added]
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError("bpe: the model's vocabulary is empty or malformed") from error
    if not ids or not all(type(i) is int for i in ids) or not all(isinstance(text, str) for text in texts):
        raise ValueError("bpe: the model's vocabulary is empty or malformed")
    if min(ids) < 0 or max(ids) >= MOST_TOKENS:
        raise ValueError(f"bpe: the model's token ids lie in 0..{MOST_TOKENS - 1:,}, got {min(ids)} to {max(ids)}")
    return 1 + max(ids)
