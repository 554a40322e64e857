"""MIDI files: read onto the grid, and written from it.

The grid is of beats, so a change of tempo changes no note. A part is a channel of a track; that of drums is left out. Parts
become voices by their mean pitch, highest first. Of two notes of a pitch in a part that overlap, the first struck is the
first to end; what is never ended ends with the file.
"""

import io
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from langevin.extras import require
from langevin.modalities.music.piece import Piece, in_order

LARGEST_FILE = 2**22  # bytes; a song has some 20,000
MOST_STEPS = 200_000  # some hours
DRUMS = 9
TICKS = 480  # per quarter note, of what is written
PROGRAM = 19  # church organ, so that a note sounds as long as it is held
VELOCITY = 80

Part = tuple[int, int]  # track and channel


class Silent(ValueError):
    """A score without notes; `drums` is how many were left out."""

    def __init__(self, drums: int) -> None:
        super().__init__(f"holds no notes{f' but {drums:,} of drums' if drums else ''}")
        self.drums = drums


def read(content: bytes, *, name: str, steps_per_quarter: int) -> tuple[Piece, int]:
    """The piece that a MIDI file holds, and the number of notes of drums that were left out.

    Raises:
        Silent: it holds no notes.
        ValueError: it cannot be read or used; the message continues "The file ..."."""
    if len(content) > LARGEST_FILE:
        raise ValueError(f"has {len(content):,} bytes, more than the {LARGEST_FILE:,} of a score")
    mido = require("mido", "MIDI")
    try:
        file = mido.MidiFile(file=io.BytesIO(content))
    except Exception as error:  # whatever mido raises on a damaged or hostile file
        reason = str(error) or type(error).__name__
        raise ValueError(f"is not readable as MIDI ({reason[:100]})") from error
    if file.type == 2 or file.ticks_per_beat <= 0:
        what = "independent sequences (format 2)" if file.type == 2 else "times in seconds (SMPTE), which has no beats"
        raise ValueError(f"holds {what}: export it as format 0 or 1")
    parts, facts = _parts(file)
    drums = sum(len(notes) for (_, channel), notes in parts.items() if channel == DRUMS)
    sung = [np.array(notes) for (_, channel), notes in parts.items() if channel != DRUMS]
    if not sung:
        raise Silent(drums)
    ticks = file.ticks_per_beat
    last = max(int(notes[:, 1].max()) for notes in sung) * steps_per_quarter // ticks
    if last > MOST_STEPS:
        raise ValueError(f"lasts {last // steps_per_quarter:,} quarter notes, more than {MOST_STEPS:,} steps")
    sung.sort(key=lambda notes: -float(notes[:, 2].mean()))
    notes = np.concatenate([np.insert(part, 3, voice, axis=1) for voice, part in enumerate(sung)])
    # to the nearest step; a note lasts one at least
    notes[:, :2] = (2 * notes[:, :2] * steps_per_quarter + ticks) // (2 * ticks)
    notes[:, 1] = np.maximum(notes[:, 1], notes[:, 0] + 1)
    piece = Piece(
        notes=in_order(notes), steps=int(notes[:, 1].max()), voices=len(sung), name=name, tempo=facts.get("tempo"),
        bar=_bar(facts.get("meter"), steps_per_quarter),
    )  # fmt: skip
    return piece, drums


def _parts(file: Any) -> tuple[dict[Part, list[tuple[int, int, int]]], dict[str, Any]]:
    """(first tick, last tick, pitch) of the notes of each part; and the first tempo and meter, as far as they are given."""
    parts: dict[Part, list[tuple[int, int, int]]] = defaultdict(list)
    facts: dict[str, Any] = {}
    for number, track in enumerate(file.tracks):
        tick, begun = 0, defaultdict(deque)
        for message in track:
            tick += message.time
            if message.type in ("note_on", "note_off"):
                key = (message.channel, message.note)
                if message.type == "note_on" and message.velocity:
                    begun[key].append(tick)
                elif begun[key]:
                    parts[number, message.channel].append((begun[key].popleft(), tick, message.note))
            elif message.type == "set_tempo" and message.tempo > 0:
                facts.setdefault("tempo", round(min(6e7 / message.tempo, 999.0), 2))
            elif message.type == "time_signature":
                facts.setdefault("meter", (message.numerator, message.denominator))
        for (channel, pitch), starts in begun.items():
            parts[number, channel] += [(start, tick, pitch) for start in starts]
    return {part: notes for part, notes in parts.items() if notes}, facts


def _bar(meter: tuple[int, int] | None, steps_per_quarter: int) -> int:
    """Steps in a bar; of 4/4 if the meter is not given, or is shorter than two quarter notes, as some programs write."""
    numerator, denominator = meter or (4, 4)
    steps = 4 * steps_per_quarter * numerator / denominator
    usual = 4 * steps_per_quarter
    return int(steps) if steps == int(steps) and 2 * steps_per_quarter <= steps <= 4 * usual else usual


def write(piece: Piece, *, steps_per_quarter: int, tempo: float, names: Mapping[int, str]) -> bytes:
    """A MIDI file of format 1: a track with the tempo and the meter, then one for each voice."""
    mido = require("mido", "MIDI")
    ticks = TICKS * steps_per_quarter  # so that a step is a whole number of them, whatever the grid
    ticks = ticks if ticks < 2**15 else steps_per_quarter
    step = ticks // steps_per_quarter
    first = mido.MidiTrack()
    first.append(mido.MetaMessage("set_tempo", tempo=min(round(6e7 / tempo), 2**24 - 1)))
    numerator, remainder = divmod(piece.bar, steps_per_quarter)
    if not remainder and 0 < numerator < 256:
        first.append(mido.MetaMessage("time_signature", numerator=numerator, denominator=4))
    file = mido.MidiFile(type=1, ticks_per_beat=ticks, tracks=[first])
    for voice in range(piece.voices):
        channel = voice % 15 + (voice % 15 >= DRUMS)  # around the drums
        events = [(last, 0, pitch) for _, last, pitch, v in piece.notes.tolist() if v == voice]
        events += [(first_step, 1, pitch) for first_step, _, pitch, v in piece.notes.tolist() if v == voice]
        track = mido.MidiTrack([mido.MetaMessage("track_name", name=names.get(voice, str(voice + 1)))])
        track.append(mido.Message("program_change", channel=channel, program=PROGRAM))
        now = 0
        for at, on, pitch in sorted(events):
            kind, velocity = ("note_on", VELOCITY) if on else ("note_off", 0)
            track.append(mido.Message(kind, channel=channel, note=pitch, velocity=velocity, time=(at - now) * step))
            now = at
        file.tracks.append(track)
    content = io.BytesIO()
    file.save(file=content)
    return content.getvalue()
