"""What is heard and seen of a piece."""

import io
import wave

import numpy as np
import pytest
from PIL import Image

from langevin.modalities.music import preview, synthesis
from langevin.modalities.music.piece import Piece, joined
from tests import scores
from tests.scores import notes

RATE = synthesis.RATE


@pytest.mark.parametrize("pitch", [45, 69, 81])
def test_a_note_has_its_frequency(pitch):
    signal = synthesis.tone(pitch, 1.0)
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal))))
    found = np.fft.rfftfreq(len(signal), 1 / RATE)[spectrum.argmax()]
    assert found == pytest.approx(440 * 2 ** ((pitch - 69) / 12), abs=1.5)


@pytest.mark.parametrize("pitch", [24, 60, 108, 127])
def test_there_are_no_clicks_and_no_aliases(pitch):
    """It begins and ends at 0, never jumps, and has nothing beyond its harmonics."""
    signal = synthesis.tone(pitch, 0.3)
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    assert signal[0] == 0
    assert abs(signal[-1]) < 0.02
    steepest = sum(2 * np.pi * k * frequency / RATE * k**-1.6 for k in range(1, 9) if k * frequency < RATE / 2)
    assert np.abs(np.diff(signal)).max() <= steepest + 1 / (synthesis.ATTACK * RATE) * 3


def test_the_sound_is_as_long_as_the_piece_and_within_bounds():
    piece = scores.song(0)
    signal = synthesis.sound(piece, step=0.125)
    assert np.abs(signal).max() == pytest.approx(synthesis.PEAK)
    assert len(signal) / RATE == pytest.approx(piece.steps * 0.125 + synthesis.RELEASE, abs=0.001)
    with wave.open(io.BytesIO(synthesis.rendered(piece, step=0.125))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (RATE, 1, len(signal))
    silent = Piece(notes=notes(), steps=8)
    assert not synthesis.sound(silent, step=0.1).any()


def test_hours_of_sound_are_refused():
    with pytest.raises(ValueError, match="the sound would last 167 minutes"):
        synthesis.sound(Piece(notes=notes((0, 1, 60, 0)), steps=100_000), step=0.1)


def test_a_soundfont_needs_the_program_and_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(synthesis.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="needs the program fluidsynth"):
        synthesis.by_fluidsynth(b"", tmp_path / "a.sf2")
    monkeypatch.setattr(synthesis.shutil, "which", lambda name: "/bin/false")
    with pytest.raises(ValueError, match="there is no soundfont"):
        synthesis.by_fluidsynth(b"", tmp_path / "a.sf2")
    (tmp_path / "a.sf2").write_bytes(b"")
    with pytest.raises(ValueError, match="fluidsynth cannot render"):
        synthesis.by_fluidsynth(b"", tmp_path / "a.sf2")


def test_a_picture_has_a_colour_for_every_voice_where_its_notes_are():
    piece = Piece(notes=notes((0, 4, 60, 0), (4, 8, 64, 1)), steps=8, voices=2)
    pixels = preview.roll(piece, 58, 66, width=3)
    assert pixels.shape == (9 * preview.SEMITONE, 24, 3)
    for voice, (first, last, pitch) in enumerate([(0, 4, 60), (4, 8, 64)]):
        top = (66 - pitch) * preview.SEMITONE
        inked = (pixels == preview.INKS[voice]).all(2)
        assert inked[top, 3 * first : 3 * last - 1].all()
        assert inked.sum() == (3 * (last - first) - 1) * (preview.SEMITONE - 1)


def test_pictures_of_many_and_of_long_pieces_have_a_bounded_size():
    many = preview.picture([scores.song(i) for i in range(100)])
    long = preview.picture([Piece(notes=notes((0, 9000, 60, 0)), steps=9000)])
    silent = preview.picture([Piece(notes=notes(), steps=4)])
    for content in (many, long, silent):
        width, height = Image.open(io.BytesIO(content)).size
        assert 4 < width <= 1300
        assert 4 < height < 12_000


def test_joined_pieces_follow_one_another_after_a_rest():
    one, two = scores.song(0), scores.song(1, steps=24)
    both = joined([one, two], rest=16)
    assert both.steps == one.steps + 16 + two.steps
    assert both.between(0, one.steps) == one
    assert both.between(one.steps + 16, both.steps) == two
    assert not len(both.between(one.steps, one.steps + 16).notes)
