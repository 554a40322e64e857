"""Small scores for tests: chords of a scale in four voices, and pieces for a piano, whose notes are known."""

import io
import json
import random
from pathlib import Path

import mido
import numpy as np

from langevin.modalities.modality import Samples
from langevin.modalities.music import midi
from langevin.modalities.music.piece import Piece, in_order, joined

SCALE = (0, 2, 4, 5, 7, 9, 11)
SPREAD = (24, 16, 7, 0)  # of the voices above the bass, in semitones; about


def chorale(steps: int, seed: int) -> list[list[int]]:
    """(steps, 4) pitches: a triad of C major for four steps, then another, voices from the highest down."""
    draw = random.Random(seed)
    states = []
    for _ in range(-(-steps // 4)):
        degree = draw.randrange(7)
        bass = 43 + SCALE[degree]
        chord = [bass + SPREAD[v] + draw.choice((0, 0, 1)) for v in range(3)] + [bass]
        states += [chord] * 4
    return states[:steps]


def chorales(folder: Path, *, counts: tuple[int, int, int] = (12, 4, 4)) -> Path:
    """A file of pieces of 20 to 40 steps in three parts."""
    folder.mkdir(parents=True, exist_ok=True)
    names, number, parts = ("train", "valid", "test"), 0, {}
    for name, count in zip(names, counts, strict=True):
        parts[name] = [chorale(20 + 4 * (i % 6), seed=number + i) for i in range(count)]
        number += count
    (folder / "chorales.json").write_text(json.dumps(parts))
    return folder / "chorales.json"


def notes(*rows: tuple[int, int, int, int]) -> np.ndarray:
    return in_order(np.array(rows, np.int32).reshape(-1, 4))


def song(seed: int, *, steps: int = 40) -> Piece:
    """A piece for a piano: chords of three notes, and a melody over them; the last chord ends the piece."""
    draw, rows = random.Random(seed), []
    for first in range(0, steps, 4):
        root = 48 + draw.choice(SCALE)
        rows += [(first, first + 4, root + interval, 1) for interval in (0, 4, 7)]
        rows += [(first, first + 2, 72 + draw.choice(SCALE), 0), (first + 2, first + 4, 72 + draw.choice(SCALE), 0)]
    return Piece(notes=notes(*rows), steps=steps, voices=2, bar=16)


def written(piece: Piece, path: Path, *, tempo: float = 100.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(midi.write(piece, steps_per_quarter=4, tempo=tempo, names={}))
    return path


def songs(folder: Path, count: int = 14) -> Path:
    """A folder of MIDI files."""
    for i in range(count):
        written(song(i, steps=24 + 8 * (i % 3)), folder / f"{i:02d}.mid")
    return folder


def tune(folder: Path) -> Path:
    """A MIDI file of one voice of 40 steps, ten notes."""
    rows = [(4 * i, 4 * i + 4, 72 + SCALE[i % 5], 0) for i in range(10)]
    return written(Piece(notes=notes(*rows), steps=40), folder / "tune.mid", tempo=66.0)


def made(*tracks: list[mido.Message | mido.MetaMessage], ticks: int = 480, kind: int = 1) -> bytes:
    """The bytes of a MIDI file of these tracks."""
    content = io.BytesIO()
    file = mido.MidiFile(type=kind, ticks_per_beat=ticks)
    file.tracks += [mido.MidiTrack(track) for track in tracks]
    file.save(file=content)
    return content.getvalue()


def on(pitch: int, time: int = 0, *, velocity: int = 64, channel: int = 0) -> mido.Message:
    return mido.Message("note_on", note=pitch, time=time, velocity=velocity, channel=channel)


def off(pitch: int, time: int = 0, *, channel: int = 0) -> mido.Message:
    return mido.Message("note_off", note=pitch, time=time, velocity=0, channel=channel)


def read(content: bytes, *, steps_per_quarter: int = 4) -> Piece:
    return midi.read(content, name="it", steps_per_quarter=steps_per_quarter)[0]


def pitches(piece: Piece) -> list[list[int]]:
    """The notes without their voices, as parts are ordered by pitch when a file is read."""
    return sorted(note[:3] for note in piece.notes.tolist())


def read_back(form: str, out: Path, samples: Samples) -> None:
    """Check that a file holds the samples."""
    import wave

    pieces, whole = samples.values, joined(samples.values, rest=samples.values[0].bar)
    match form:
        case ".mid":
            assert pitches(read(out.read_bytes())) == pitches(whole)
        case ".wav":
            with wave.open(str(out)) as file:
                seconds = file.getnframes() / file.getframerate()
            assert abs(seconds - whole.steps * 15 / pieces[0].tempo) < 0.1
        case ".png":
            assert out.read_bytes() == samples.preview().content
        case "":
            held = [pitches(read(path.read_bytes())) for path in sorted(out.iterdir())]
            assert held == [pitches(piece) for piece in pieces]
        case _:
            raise AssertionError(f"no check of {form}")
