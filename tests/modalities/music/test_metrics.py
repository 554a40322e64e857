"""Metrics of music against what is counted by hand."""

import itertools
from collections import Counter

import numpy as np
import pytest

from langevin.modalities.music.key import KEYS, PROFILES, correlations, key_of, transposed
from langevin.modalities.music.metrics import rules
from langevin.modalities.music.metrics.copies import Memory
from langevin.modalities.music.metrics.features import accuracy, distance
from langevin.modalities.music.metrics.ngram import CONTEXT, NgramModel
from langevin.modalities.music.piece import Piece, of_pitches
from tests import scores
from tests.scores import notes


def states(*steps: tuple[int, ...]) -> np.ndarray:
    return np.array(steps)


# ----------------------------------------------------------------------------------------------------- rules of harmony


@pytest.mark.parametrize(
    ("steps", "count"),
    [
        ([(67, 60), (69, 62)], 1),  # fifths up
        ([(79, 60), (77, 58)], 1),  # twelfths down
        ([(72, 60), (74, 62)], 1),  # octaves
        ([(67, 60), (67, 60)], 0),  # held
        ([(67, 60), (62, 67)], 0),  # against each other
        ([(67, 60), (70, 62)], 0),  # no fifth after
        ([(67, 60), (69, -1)], 0),  # a rest
        ([(72, 67, 60), (74, 69, 62)], 2),  # a fifth and an octave at once
    ],
)
def test_parallels_are_fifths_and_octaves_that_move_together(steps, count):
    assert rules.parallels(states(*steps))[0] == count


def test_transitions_are_steps_in_which_a_pitch_changes():
    assert rules.parallels(states((60, 50), (60, 50), (60, 52), (62, 52), (62, 52)))[1] == 2


def test_crossing_is_a_voice_above_the_one_over_it():
    assert rules.crossing(states((60, 50), (50, 60), (60, -1), (60, 60))) == (1, 3)


def reference(pieces: list[Piece]) -> rules.Reference:
    return rules.Reference(ranges=((60, 72), (48, 60)), chords=rules.vocabulary(pieces), lengths=rules.lengths(pieces))


def test_figures_of_pieces_are_those_counted_by_hand():
    piece = of_pitches(states((60, 48), (60, 48), (74, 48), (74, 61), (62, 61)))
    found = rules.rules([piece], reference([piece]), voiced=True)
    assert found["out of range"] == pytest.approx(2 / 5)  # 74 and 61, of 60 74 62 and 48 61
    assert found["leaps"] == pytest.approx(100 * 2 / 3)  # 14 up and 13 up; 12 down is none
    assert found["lengths"] == 0
    assert found["usual chords"] == 1
    assert found["repeated"] == 0
    assert "parallels" not in rules.rules([piece], reference([piece]), voiced=False)


def test_repeated_notes_are_counted_where_they_are_struck_again():
    piece = Piece(notes=notes((0, 2, 60, 0), (2, 4, 60, 0), (4, 6, 62, 0)), steps=6)
    assert rules.rules([piece], reference([piece]), voiced=True)["repeated"] == 0.5


def test_a_chord_is_its_pitch_classes_above_the_bass():
    """C major, the same a third higher and inverted, silence."""
    piece = Piece(notes=notes((0, 1, 48, 0), (0, 1, 64, 0), (0, 1, 67, 0), (1, 2, 52, 0), (1, 2, 68, 0), (1, 2, 71, 0),
                              (2, 3, 52, 0), (2, 3, 60, 0), (2, 3, 67, 0)), steps=4)  # fmt: skip
    bass, chord = rules.chords_of(piece)
    assert bass.tolist() == [48, 52, 52, -1]
    triad, sixth = sum(1 << k for k in (0, 4, 7)), sum(1 << k for k in (0, 3, 8))
    assert chord.tolist() == [triad, triad, sixth, 0]
    assert rules.changes(bass, chord).tolist() == [0, 1, 2]


def test_usual_chords_are_the_most_frequent_ones():
    piece = of_pitches(states(*[(60 + i % 2, 48 + i % 2) for i in range(97)], (64, 48), (67, 48), (70, 48)))
    octave = 1
    assert rules.vocabulary([piece], share=0.9) == {octave}
    assert len(rules.vocabulary([piece], share=1.0)) == 4


C_MAJOR = [(72, 64, 55, 48), (72, 65, 57, 53), (71, 62, 55, 43)]  # I IV V


@pytest.mark.parametrize(
    ("ending", "is_one"),
    [
        ([(72, 64, 55, 48)], True),  # V I
        ([(72, 65, 57, 53), (72, 64, 55, 48)], True),  # IV I
        ([(71, 62, 55, 43)], False),  # stops on V
        ([(72, 64, 55, 52)], False),  # I over its third
        ([(72, 65, 57, 48)], False),  # IV over the tonic
        ([(71, 65, 62, 50), (72, 64, 55, 48)], False),  # II I
    ],
)
def test_a_cadence_ends_on_the_tonic_after_the_fifth_or_fourth_degree(ending, is_one):
    piece = of_pitches(np.array([*C_MAJOR, *C_MAJOR[:1] * 4, *C_MAJOR, *ending]))
    assert KEYS[key_of(piece)] == "C major"
    assert rules.cadence(piece) == is_one
    assert rules.cadence(piece.transposed(3)) == is_one


# ------------------------------------------------------------------------------------------------------------------ keys


def test_the_key_of_a_profile_is_its_own_and_moves_with_it():
    for key in range(24):
        lengths = np.round(100 * PROFILES[key]).astype(int)
        piece = Piece(notes=notes(*[(0, lengths[k], 60 + k, 0) for k in range(12)]), steps=1000)
        assert correlations(piece)[key] == pytest.approx(1, abs=1e-3)
        assert key_of(piece) == key
        for semitones in (-5, 1, 12):
            assert key_of(piece.transposed(semitones)) == transposed(key, semitones)


# --------------------------------------------------------------------------------------------------------------- n-grams


def by_hand(pieces: list[np.ndarray], size: int, order: int, tokens: np.ndarray, i: int, v: int, w: int) -> float:
    """P(w | context of position (i, v) of tokens) by the formula, with dictionaries."""

    def context(x: np.ndarray, i: int, v: int, n: int) -> tuple[int, ...]:
        inside = [(i - back, v - above) for back, above in CONTEXT[: n - 1]]
        return (v, *(int(x[j, u]) if j >= 0 and u >= 0 else size for j, u in inside))

    p = 1 / size
    for n in range(1, order + 1):
        here = context(tokens, i, v, n)
        counts = Counter(
            int(x[j, u])
            for x in pieces
            for j, u in itertools.product(*map(range, x.shape))
            if context(x, j, u, n) == here
        )
        if counts:
            p = (counts[w] + len(counts) * p) / (counts.total() + len(counts))
    return p


@pytest.mark.parametrize("order", [1, 2, 4, 6])
def test_n_grams_are_those_of_the_formula_and_sum_to_one(order):
    generator = np.random.default_rng(0)
    pieces = [generator.integers(0, 3, (n, 2)) for n in (9, 5, 12)]
    model, tokens = NgramModel.fit(pieces, size=3, order=order), generator.integers(0, 3, (6, 2))
    found = np.exp(-model.nats(tokens))[-1]
    for i, v in itertools.product(range(6), range(2)):
        distribution = [by_hand(pieces, 3, order, tokens, i, v, w) for w in range(3)]
        assert sum(distribution) == pytest.approx(1)
        assert found[i, v] == pytest.approx(distribution[tokens[i, v]])
    assert np.array_equal(NgramModel.fit(pieces, size=3).nats(tokens)[:order], model.nats(tokens))


def test_samples_of_n_grams_have_the_distribution_that_they_are_drawn_from():
    """Mean -ln P of samples is the entropy of the samples' distribution: equal to that of a further set, and low."""
    generator = np.random.default_rng(1)
    piece = np.cumsum(generator.integers(0, 2, (200, 2)), 0) % 4
    model = NgramModel.fit([piece], size=4)
    one, two = (model.sample(200, 12, seed=seed) for seed in (0, 1))
    nats = [np.mean([model.nats(x)[-1].mean() for x in part]) for part in (one, two)]
    assert nats[0] == pytest.approx(nats[1], abs=0.03)
    assert nats[0] < np.log(4) - 0.2
    first = np.bincount(one[:, 0, 0], minlength=4) / 200
    expected = [by_hand([piece], 4, 6, np.zeros((1, 2), int), 0, 0, w) for w in range(4)]
    assert np.abs(first - expected).max() < 0.1
    assert np.array_equal(one, model.sample(200, 12, seed=0))


def test_n_grams_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="too many for n-grams"):
        NgramModel.fit([np.zeros((3, 2), int)], size=100_000)
    with pytest.raises(ValueError, match="needs pieces"):
        NgramModel.fit([], size=3)


# -------------------------------------------------------------------------------------------------------------- likeness


def test_the_longest_copied_run_is_found_up_to_transposition():
    train = [of_pitches(np.array(scores.chorale(40, seed=seed))) for seed in range(3)]
    memory = Memory.of(train)
    assert memory.longest_run(train[1]) == 40
    assert memory.longest_run(train[1].transposed(5)) == 40
    cut = train[2].between(8, 20)
    assert memory.longest_run(cut) in (11, 12)  # how its first bass came to be is not in the cut
    other = of_pitches(np.array([[90, 33], [91, 31]] * 6))
    assert memory.longest_run(other) == 0


def test_sets_of_one_kind_are_alike_and_others_are_two_sample_accuracy():
    generator = np.random.default_rng(0)
    same, shifted = generator.normal(size=(2, 60, 8)), generator.normal(size=(60, 8)) + 2
    assert 0.3 < accuracy(*same) < 0.7
    assert accuracy(same[0], shifted) > 0.95
    assert accuracy(same[0], shifted[:12]) > 0.9
    with pytest.raises(ValueError, match="needs 5 pieces"):
        accuracy(same[0], same[1][:4])


def test_the_distance_is_0_to_itself_and_1_to_what_has_nothing_in_common():
    pieces = [of_pitches(np.array(scores.chorale(40, seed=seed))) for seed in range(4)]
    assert distance(pieces, pieces) == 0
    assert distance(pieces, [piece.transposed(2) for piece in pieces]) == 0
    far = [Piece(notes=notes(*[(7 * i, 7 * i + 7, 40 + 17 * (i % 2), 0) for i in range(6)]), steps=42)]
    assert distance(pieces, far) == pytest.approx(1)
    assert 0 < distance(pieces[:2], pieces[2:]) < 1
