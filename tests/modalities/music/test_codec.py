"""Codecs: a piece is its tokens and back, exactly on the grid, and every sequence of tokens is a piece."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from langevin.modalities.music.codec import PianoRoll, Voices, outside, within
from langevin.modalities.music.piece import Piece, in_one_voice, notes_of, of_pitches, states
from tests import scores
from tests.scores import notes

CHOIR = Voices(ranges=((60, 81), (52, 74), (46, 69), (36, 66)))
PIANO = PianoRoll(range=(40, 90))


def random_tokens(codec, steps: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, codec.vocab_size, (steps, codec.streams), generator=generator)


@pytest.mark.parametrize("codec", [CHOIR, PIANO])
@pytest.mark.parametrize("seed", range(5))
def test_decoding_is_total_and_a_decoded_piece_is_kept(codec, seed):
    piece = codec.decode(random_tokens(codec, 30, seed))
    tokens = codec.encode(piece)
    assert codec.decode(tokens) == piece
    assert torch.equal(codec.encode(codec.decode(tokens)), tokens)


def test_tokens_of_voices_are_as_they_are_defined():
    """One voice of 60 to 62: rest 0, struck 1 2 3, held 4 5 6."""
    codec = Voices(ranges=((60, 62),))
    piece = Piece(notes=notes((0, 2, 60, 0), (2, 4, 60, 0), (5, 7, 62, 0)), steps=7)
    assert codec.encode(piece)[:, 0].tolist() == [1, 4, 1, 4, 0, 3, 6]
    assert codec.decode(torch.tensor([[1], [4], [1], [4], [0], [3], [6]])) == piece
    held_after_nothing = codec.decode(torch.tensor([[4], [4], [6], [0], [5]]))
    assert held_after_nothing.notes.tolist() == [[0, 2, 60, 0], [2, 3, 62, 0], [4, 5, 61, 0]]


def test_tokens_of_a_piano_roll_are_as_they_are_defined():
    codec = PianoRoll(range=(60, 61))
    piece = Piece(notes=notes((0, 3, 60, 0), (1, 2, 61, 0), (2, 3, 61, 0)), steps=4)
    assert codec.encode(piece).tolist() == [[2, 0], [1, 2], [1, 2], [0, 0]]
    assert codec.decode(codec.encode(piece)) == piece


@pytest.mark.parametrize("seed", range(4))
def test_a_piano_roll_keeps_all_but_the_voices(seed):
    piece = scores.song(seed)
    assert PIANO.decode(PIANO.encode(piece)) == in_one_voice(piece)
    assert scores.pitches(in_one_voice(piece)) == scores.pitches(piece)


def test_an_earlier_note_ends_where_a_later_one_of_its_stream_begins():
    piece = Piece(notes=notes((0, 10, 60, 0), (2, 4, 60, 1), (2, 6, 72, 0)), steps=10, voices=2)
    assert in_one_voice(piece).notes.tolist() == [[0, 2, 60, 0], [2, 4, 60, 0], [2, 6, 72, 0]]
    together = Piece(notes=notes((0, 2, 60, 0), (0, 5, 60, 1)), steps=5, voices=2)
    assert in_one_voice(together).notes.tolist() == [[0, 5, 60, 0]]


def test_states_and_notes_are_each_others_inverse():
    generator = np.random.default_rng(0)
    for _ in range(20):
        pitch = generator.integers(-1, 3, (25, 3)) + 60
        pitch[pitch < 60] = -1
        struck = generator.random((25, 3)) < 0.3
        found = notes_of(pitch, struck, np.arange(3))
        again = states(found, found[:, 3], 25, 3)
        assert np.array_equal(again[0], pitch)
        assert np.array_equal(notes_of(*again, np.arange(3)), found)


def test_pitches_alone_are_held_where_they_are_equal():
    piece = of_pitches(np.array([[60], [60], [62], [-1], [62]]))
    assert piece.notes.tolist() == [[0, 2, 60, 0], [2, 3, 62, 0], [4, 5, 62, 0]]


@pytest.mark.parametrize("codec", [CHOIR, PIANO])
def test_transposed_tokens_are_those_of_the_transposed_piece(codec):
    piece = of_pitches(np.array(scores.chorale(24, seed=1)))
    piece = piece if isinstance(codec, Voices) else in_one_voice(piece)
    down, up = codec.room(piece)
    assert down <= 0 <= up
    assert down < up
    for semitones in range(down, up + 1):
        moved = piece.transposed(semitones)
        assert torch.equal(codec.transposed(codec.encode(piece), semitones), codec.encode(moved))
        for (low, high), voice in zip(codec.ranges, range(codec.streams), strict=False):
            used = moved.notes[moved.notes[:, 3] == voice, 2]
            assert low <= used.min() <= used.max() <= high
    beyond = piece.transposed(up + 1)
    assert codec.room(beyond) == (0, 0)


def test_pitches_beyond_the_range_are_moved_by_octaves():
    piece = Piece(notes=notes((0, 1, 30, 3), (1, 2, 60, 3), (2, 3, 100, 3)), steps=3, voices=4)
    assert within(piece.notes, 36, 81)[:, 2].tolist() == [42, 60, 76]
    assert outside(piece, CHOIR) == 2
    assert CHOIR.decode(CHOIR.encode(piece)).notes[:, 2].tolist() == [42, 60, 76]


def test_what_is_not_of_these_voices_is_refused():
    with pytest.raises(ValueError, match="does not have 4 voices of one note at a time"):
        CHOIR.encode(scores.song(0))
    with pytest.raises(ValueError, match="tokens of a piece are 0 to 2, got 0 to 3"):
        PIANO.decode(torch.tensor([[0, 3]]))
    with pytest.raises(ValueError, match="ranges of MIDI pitches"):
        Voices(ranges=((60, 200),))
    with pytest.raises(ValueError, match="ranges of MIDI pitches"):
        replace(PIANO, range=(70, 60))


def test_of_a_piano_roll_a_melody_gives_its_notes_and_the_silence_above():
    codec = PianoRoll(range=(60, 63))
    melody = Piece(notes=notes((0, 2, 62, 0)), steps=3)
    tokens, known = codec.given(melody, (0,))
    assert known.tolist() == [[False, False, True, True]] * 2 + [[False] * 4]
    assert tokens[known].tolist() == [2, 0, 1, 0]
