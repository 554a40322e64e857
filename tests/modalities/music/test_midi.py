"""MIDI files: what was written is read back, and hostile files give a sentence."""

import random

import mido
import numpy as np
import pytest

from langevin.modalities.music import midi
from langevin.modalities.music.codec import PianoRoll
from langevin.modalities.music.piece import Piece
from tests import scores
from tests.scores import made, notes, off, on, read


@pytest.mark.parametrize("steps_per_quarter", [1, 3, 4, 12, 96])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_written_is_read_back(seed, steps_per_quarter):
    piece = scores.song(seed)
    content = midi.write(piece, steps_per_quarter=steps_per_quarter, tempo=90.0, names={0: "melody"})
    again = read(content, steps_per_quarter=steps_per_quarter)
    assert again == piece
    assert again.tempo == pytest.approx(90.0, abs=0.01)


def test_every_voice_has_a_channel_that_is_not_that_of_drums():
    piece = Piece(notes=notes(*[(0, 4, 100 - v, v) for v in range(40)]), steps=4, voices=40)
    again = read(midi.write(piece, steps_per_quarter=4, tempo=120.0, names={}))
    assert scores.pitches(again) == scores.pitches(piece)
    assert again.voices == 40


def test_a_note_begins_and_ends_at_the_nearest_step():
    """480 ticks a quarter note: a step is 120."""
    track = [on(60, 59), off(60, 120), on(62, 2), off(62, 58), on(64, 1), off(64, 1000)]
    piece = read(made(track))
    assert piece.notes.tolist() == [[0, 1, 60, 0], [2, 3, 62, 0], [2, 10, 64, 0]]


def test_a_note_without_length_lasts_a_step():
    assert read(made([on(60), off(60)])).notes.tolist() == [[0, 1, 60, 0]]


def test_velocity_0_ends_a_note_and_running_status_is_read():
    plain = [on(60), on(64), on(60, 480, velocity=0), on(64, 480, velocity=0)]
    assert read(made(plain)).notes.tolist() == [[0, 4, 60, 0], [0, 8, 64, 0]]
    body = bytes([0x00, 0x90, 60, 64, 0x83, 0x60, 60, 0, 0x00, 0xFF, 0x2F, 0x00])  # the second event has no status byte
    head = b"MThd\0\0\0\6\0\0\0\1\1\xe0" + b"MTrk" + len(body).to_bytes(4, "big")
    assert read(head + body).notes.tolist() == [[0, 4, 60, 0]]


def test_of_two_notes_of_a_pitch_the_first_struck_ends_first():
    track = [on(60), on(60, 240), off(60, 240), off(60, 240)]
    assert read(made(track)).notes.tolist() == [[0, 4, 60, 0], [2, 6, 60, 0]]


def test_a_note_that_is_never_ended_ends_with_the_track():
    track = [on(60), on(64), off(64, 480), mido.MetaMessage("end_of_track", time=480)]
    assert read(made(track)).notes.tolist() == [[0, 8, 60, 0], [0, 4, 64, 0]]


def test_an_end_without_a_beginning_is_nothing():
    with pytest.raises(midi.Silent):
        read(made([off(60, 10)]))
    assert read(made([off(60, 10), on(62, 0), off(62, 480)])).notes.tolist() == [[0, 4, 62, 0]]


def test_tempo_moves_no_note():
    def track(*tempos: int):
        changes = [mido.MetaMessage("set_tempo", tempo=tempo, time=0) for tempo in tempos]
        return [*changes[:1], on(60), off(60, 480), *changes[1:], on(62), off(62, 480)]

    slow, changing = read(made(track(1_000_000, 1_000_000))), read(made(track(500_000, 250_000)))
    assert slow == changing
    assert (slow.tempo, changing.tempo) == (60.0, 120.0)
    assert read(made([on(60), off(60, 9)])).tempo is None


@pytest.mark.parametrize(
    ("meter", "steps"),
    [((4, 4), 16), ((3, 4), 12), ((6, 8), 12), ((2, 2), 16), ((1, 4), 16), ((7, 16), 16), ((5, 4), 20)],
)  # a bar shorter than two quarter notes is none
def test_a_bar_is_that_of_the_first_meter(meter, steps):
    sign = mido.MetaMessage("time_signature", numerator=meter[0], denominator=meter[1])
    assert read(made([sign, on(60), off(60, 480)])).bar == steps


def test_both_formats_give_the_same_notes():
    high, low = [on(72), off(72, 480)], [on(48, channel=1), off(48, 480, channel=1)]
    one = [on(72), on(48, channel=1), off(72, 480), off(48, channel=1)]
    assert read(made(high, low, kind=1)) == read(made(one, kind=0))


def test_voices_are_ordered_by_pitch():
    low, high = [on(40), off(40, 480)], [on(80, channel=1), off(80, 480, channel=1)]
    assert read(made(low, high)) == read(made(high, low))
    assert read(made(low, high)).notes[:, 2].tolist() == [80, 40]


def test_drums_are_left_out_and_counted():
    piece, drums = midi.read(
        made([on(60), off(60, 480)], [on(36, channel=9), off(36, 10, channel=9)] * 3), name="", steps_per_quarter=4
    )
    assert (len(piece.notes), drums) == (1, 3)
    with pytest.raises(midi.Silent, match="no notes but 1 of drums"):
        read(made([on(36, channel=9), off(36, 10, channel=9)]))
    with pytest.raises(midi.Silent, match=r"holds no notes$"):
        read(made([]))


REFUSED = {
    "empty": (b"", "not readable as MIDI"),
    "words": (b"some words that are no music", "not readable as MIDI"),
    "cut short": (made([on(60), off(60, 480)])[:-9], "not readable as MIDI"),
    "tracks that are not there": (b"MThd\0\0\0\6\0\1\xff\xff\1\xe0", "holds no notes"),
    "a track of 4 GB": (b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk\xff\xff\xff\xff\0\x90\x3c\x40", "not readable as MIDI"),
    "independent": (made([on(60), off(60, 480)], kind=2), r"format 2"),
    "film": (b"MThd\0\0\0\6\0\0\0\1\xe7\x28MTrk\0\0\0\4\0\xff\x2f\0", "no beats"),
    "years": (made([on(60), *[off(1, 2**28 - 1)] * 40, off(60)], ticks=1), "quarter notes, more than"),
    "large": (b"MThd" + bytes(midi.LARGEST_FILE), "more than the 4,194,304 of a score"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_score_is_refused_in_words(name):
    content, said = REFUSED[name]
    with pytest.raises(ValueError, match=said) as refused:
        read(content)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 250


def test_a_great_many_long_notes_are_read_and_encoded_in_bounded_time():
    """40,000 notes that all last to the end: what is written of each is what is left of it."""
    track = [message for _ in range(2_000) for message in [on(60 + k, 120 * (k == 0)) for k in range(20)]]
    piece = read(made([*track, *[off(60 + k, 0) for k in range(20) for _ in range(2_000)]]))
    assert len(piece.notes) == 40_000
    tokens = PianoRoll(range=(60, 79)).encode(piece)
    assert tokens.shape == (piece.steps, 20)
    assert (tokens[1:2_000] == 2).all()


def test_damaged_files_give_a_piece_or_a_sentence():
    """A thousand mutations: bytes changed, cut and repeated."""
    draw, usable = random.Random(0), 0
    whole = midi.write(scores.song(0), steps_per_quarter=4, tempo=90.0, names={})
    for _ in range(1000):
        content = bytearray(whole)
        for _ in range(draw.randrange(1, 6)):
            at = draw.randrange(len(content))
            match draw.randrange(3):
                case 0:
                    content[at] = draw.randrange(256)
                case 1:
                    del content[at : at + draw.randrange(1, 20)]
                case _:
                    content[at:at] = content[at : at + draw.randrange(1, 20)]
        try:
            piece = read(bytes(content))
        except ValueError as error:
            assert len(str(error)) < 250  # noqa: PT017
            continue
        usable += 1
        assert piece.steps <= midi.MOST_STEPS + 4
        assert (piece.notes[:, 1] > piece.notes[:, 0]).all()
        assert ((piece.notes[:, 2] >= 0) & (piece.notes[:, 2] < 128)).all()
        assert np.array_equal(np.unique(piece.notes[:, 3]), np.arange(piece.voices))
    assert 10 < usable < 990
