"""Pieces as pictures of piano rolls, and as files."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from langevin.evaluation.report import COLOURS
from langevin.files import write_atomic, write_folder
from langevin.modalities.music import midi, synthesis
from langevin.modalities.music.piece import Piece, joined, voice_names

if TYPE_CHECKING:
    from langevin.modalities.modality import Samples
    from langevin.modalities.music.modality import Music

SEMITONE, MARGIN = 4, 6  # pixels
WIDEST, MOST = 1200, 64  # pixels of a piece; pieces of a picture
PAPER, BAR, OCTAVE = 255, 205, 232  # grey levels
INKS = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in COLOURS], np.uint8)


def roll(piece: Piece, low: int, high: int, *, width: int) -> np.ndarray:
    """(pixels, steps * width, 3) uint8: pitch upwards, a colour per voice, lines at bars and octaves."""
    pixels = np.full(((high - low + 1) * SEMITONE, max(1, piece.steps) * width, 3), PAPER, np.uint8)
    for pitch in range(low, high + 1):
        if pitch % 12 == 0:
            pixels[(high - pitch + 1) * SEMITONE - 1] = OCTAVE
    pixels[:, piece.upbeat * width :: piece.bar * width] = BAR
    for first, last, pitch, voice in piece.notes.tolist():
        top = (high - pitch) * SEMITONE
        note = pixels[top : top + SEMITONE - 1, first * width : max(first * width + 1, last * width - 1)]
        note[:] = INKS[voice % len(INKS)]
    return pixels


def picture(pieces: list[Piece], *, columns: int | None = None) -> bytes:
    """A PNG file with a piano roll of each piece, row by row; of the first 64."""
    pieces = pieces[:MOST]
    pitches = np.concatenate([piece.notes[:, 2] for piece in pieces] + [np.array([60, 72])])
    low, high = int(pitches.min()) - 1, int(pitches.max()) + 1
    longest = max(piece.steps for piece in pieces)
    width = max(1, min(6, WIDEST // 2 // max(1, longest)))
    rolls = [roll(piece.between(0, min(piece.steps, WIDEST)), low, high, width=width) for piece in pieces]
    columns = columns or (1 if longest * width > WIDEST // 2 or len(rolls) == 1 else 2)
    tall, wide = rolls[0].shape[0], max(one.shape[1] for one in rolls)
    rows = -(-len(rolls) // columns)
    page = np.full((rows * (tall + MARGIN) + MARGIN, columns * (wide + MARGIN) + MARGIN, 3), PAPER, np.uint8)
    for i, one in enumerate(rolls):
        top, left = MARGIN + i // columns * (tall + MARGIN), MARGIN + i % columns * (wide + MARGIN)
        page[top : top + tall, left : left + one.shape[1]] = one
    content = io.BytesIO()
    Image.fromarray(page).save(content, format="PNG", optimize=True)
    return content.getvalue()


def content(music: "Music", pieces: list[Piece], form: str) -> bytes:
    """A .mid, .wav or .png file of pieces; in a score or a sound they follow one another, with a bar of rest between."""
    if form == ".png":
        return picture(pieces)
    piece = joined(pieces, rest=pieces[0].bar)
    tempo, grid = piece.tempo or music.tempo, music.steps_per_quarter
    score = midi.write(piece, steps_per_quarter=grid, tempo=tempo, names=dict(enumerate(voice_names(piece.voices))))
    if form == ".mid":
        return score
    if music.soundfont:
        return synthesis.by_fluidsynth(score, Path(music.soundfont))
    return synthesis.rendered(piece, step=60 / tempo / grid)


def save(music: "Music", samples: "Samples", out: Path) -> None:
    """Write all samples into one file, or each as a MIDI file into a folder."""
    if out.suffix:
        write_atomic(out, samples.stamped(content(music, samples.values, out.suffix)))
        return
    with write_folder(out) as folder:
        for i, piece in enumerate(samples.values):
            (folder / f"{i:05d}.mid").write_bytes(samples.stamped(content(music, [piece], ".mid"), i))
