"""What a file was made from, written into the file: text chunks of PNG, an INFO list of WAV, a track with a text in MIDI.

The JSON is under the name "langevin"; PNG also gets "parameters" in the form that galleries of diffusion images read.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

PNG, RIFF, MIDI = b"\x89PNG\r\n\x1a\n", b"RIFF", b"MThd\0\0\0\6\0\1"  # MIDI of several tracks
CARRYING = (".png", ".wav", ".mid")  # suffixes of the files that carry facts
NAME = "langevin"
TEXT = b"\0\xff\1"  # a text event at the beginning of a track
MOST = 1 << 20  # bytes of JSON that are read


def embed(content: bytes, facts: Mapping[str, Any]) -> bytes:
    """The content of a file with facts (of JSON types) in it; of a format that holds none, the same content.

    Pixels and samples stay the same. Facts that were there are replaced."""
    text = json.dumps(facts, ensure_ascii=True).encode()
    if content.startswith(PNG):
        chunks = [chunk for chunk in _png_chunks(content) if not _is_ours(*chunk)]
        said = parameters(facts).encode("latin-1", "replace")
        ours = [(b"tEXt", b"parameters\0" + said), (b"tEXt", NAME.encode() + b"\0" + text)]
        return PNG + b"".join(_png_chunk(kind, data) for kind, data in [chunks[0], *ours, *chunks[1:]])
    if content.startswith(RIFF) and content[8:12] == b"WAVE":
        kept = b"".join(_riff_chunk(kind, data) for kind, data in _riff_chunks(content) if not _is_info(kind, data))
        listed = _riff_chunk(
            b"LIST", b"INFO" + _riff_chunk(b"ISFT", b"langevin\0") + _riff_chunk(b"ICMT", text + b"\0")
        )
        body = b"WAVE" + kept + listed
        return RIFF + struct.pack("<I", len(body)) + body
    if content.startswith(MIDI):
        tracks = [data for kind, data in _midi_chunks(content) if kind == b"MTrk" and not data.startswith(TEXT)]
        end = b"\0\xff\x2f\0"
        tracks.append(TEXT + _variable(len(NAME) + 1 + len(text)) + NAME.encode() + b" " + text + end)
        head = MIDI + struct.pack(">H", len(tracks)) + content[12:14]
        return head + b"".join(b"MTrk" + struct.pack(">I", len(data)) + data for data in tracks)
    return content


def extract(content: bytes) -> dict[str, Any] | None:
    """The facts in the content of a file; None if there are none, or they are damaged."""
    found = None
    if content.startswith(PNG):
        found = next((data[len(NAME) + 1 :] for kind, data in _png_chunks(content) if _is_json(kind, data)), None)
    elif content.startswith(RIFF) and content[8:12] == b"WAVE":
        lists = [data[4:] for kind, data in _riff_chunks(content) if _is_info(kind, data)]
        found = next(
            (part.rstrip(b"\0") for one in lists for kind, part in _riff_chunks(one, 0) if kind == b"ICMT"), None
        )
    elif content.startswith(MIDI):
        texts = (data for kind, data in _midi_chunks(content) if kind == b"MTrk" and data.startswith(TEXT))
        found = next((data[data.find(b"{") : data.rfind(b"}") + 1] for data in texts), None)
    if found is None or len(found) > MOST:
        return None
    try:
        facts = json.loads(found)
        json.dumps(facts, ensure_ascii=False).encode()  # no half characters
    except (ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None


def parameters(facts: Mapping[str, Any]) -> str:
    """The facts on two lines: the prompt, then "Steps: 20, Sampler: ddim, ..."."""
    names = {
        "steps": "Steps",
        "sampler": "Sampler",
        "guidance": "CFG scale",
        "seed": "Seed",
        "size": "Size",
        "model": "Model",
    }
    pairs = [f"{shown}: {facts[name]}" for name, shown in names.items() if facts.get(name) not in (None, "")]
    return "\n".join([str(facts.get("prompt") or ""), ", ".join([*pairs, "Version: langevin"])]).lstrip("\n")


def _chunks(
    content: bytes, at: int, header: str, *, after: int = 0, even: bool = False
) -> Iterator[tuple[bytes, bytes]]:
    """(kind, data) of each chunk from a place on, up to where a file breaks off.

    Args:
        header: format of the size and the kind, in either order.
        after: bytes behind the data, as of a checksum.
        even: whether data of odd length is padded."""
    while at + 8 <= len(content):
        parts = struct.unpack(header, content[at : at + 8])
        kind, size = parts if isinstance(parts[0], bytes) else parts[::-1]
        if at + 8 + size + after > len(content):
            return
        yield kind, content[at + 8 : at + 8 + size]
        at += 8 + size + after + (size % 2 if even else 0)


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    return _chunks(content, len(PNG), ">I4s", after=4)


def _riff_chunks(content: bytes, at: int = 12) -> Iterator[tuple[bytes, bytes]]:
    return _chunks(content, at, "<4sI", even=True)


def _midi_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    return _chunks(content, 14, ">4sI")


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _is_json(kind: bytes, data: bytes) -> bool:
    return kind == b"tEXt" and data.startswith(NAME.encode() + b"\0")


def _is_ours(kind: bytes, data: bytes) -> bool:
    return _is_json(kind, data) or (kind == b"tEXt" and data.startswith(b"parameters\0"))


def _riff_chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _variable(number: int) -> bytes:
    """A number as MIDI writes it, seven bits a byte."""
    parts = [number & 0x7F]
    while number := number >> 7:
        parts.append(0x80 | number & 0x7F)
    return bytes(reversed(parts))


def _is_info(kind: bytes, data: bytes) -> bool:
    return kind == b"LIST" and data.startswith(b"INFO")
