"""MIDI files in every form to mutate, and what is done with one; `python -m tests.fuzz.midis COUNT SEED` does it often."""

import sys

from langevin.modalities.music import midi
from langevin.modalities.music.codec import PianoRoll
from langevin.modalities.music.piece import in_one_voice
from tests import scores
from tests.fuzz.mutate import many


def forms() -> dict[str, bytes]:
    """A file of each kind."""
    running = bytes([0, 0x90, 60, 64, 0x83, 0x60, 60, 0, 0, 64, 64, 0x83, 0x60, 64, 0, 0, 0xFF, 0x2F, 0])
    return {
        "written": midi.write(scores.song(0), steps_per_quarter=4, tempo=90.0, names={0: "melody"}),
        "many voices": scores.made(*[[scores.on(40 + k), scores.off(40 + k, 480)] for k in range(30)]),
        "one track": scores.made([scores.on(60), scores.off(60, 9), scores.on(36, channel=9)] * 9, kind=0),
        "running status": b"MThd\0\0\0\6\0\0\0\1\1\xe0MTrk" + len(running).to_bytes(4, "big") + running,
        "empty": b"",
    }


def read(content: bytes) -> str:
    """Read, encode and decode a file. Raises for anything but a piece or a sentence."""
    try:
        piece, _ = midi.read(content, name="it", steps_per_quarter=4)
    except ValueError as error:
        assert len(str(error)) < 250, error
        return "silent" if isinstance(error, midi.Silent) else "broken"
    assert piece.steps <= midi.MOST_STEPS + 4
    codec = PianoRoll(range=(0, 127))
    assert codec.decode(codec.encode(piece)) == in_one_voice(piece)
    return "read"


if __name__ == "__main__":
    many(int(sys.argv[1]), int(sys.argv[2]), forms(), read)
