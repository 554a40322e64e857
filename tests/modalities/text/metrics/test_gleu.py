"""GLEU against a corpus worked out by hand."""

import math
from itertools import product
from statistics import fmean

import pytest

from langevin.modalities.text.metrics.gleu import gleu, resampled

split = str.split

SOURCE = [split("the cat sat on mat ."), split("a b c d e f")]
REFERENCE = [split("the cat sat on the mat ."), split("a b c d e f")]


def test_a_copy_by_hand():
    """Matches less kept faults: 6 + 6 of 12, (4 - 1) + 5 of 10, max(2 - 2, 0) + 4 of 8, max(1 - 2, 0) + 3 of 6."""
    expected = math.exp(1 - 13 / 12) * (12 / 12 * 8 / 10 * 4 / 8 * 3 / 6) ** 0.25
    assert gleu(SOURCE, SOURCE, [[r] for r in REFERENCE]) == pytest.approx(expected)


def test_a_reference_scores_one():
    assert gleu(SOURCE, REFERENCE, [[r] for r in REFERENCE]) == pytest.approx(1)


def test_kept_faults_cost_and_made_up_words_do_not_cost_more():
    """A fault kept is subtracted; another word in its place only fails to match."""
    kept = split("we has many old books")
    made_up = split("we zzz many old books")
    right = split("we have many old books")
    pad = [split("a b c d e f g")]
    scores = [gleu([kept, *pad], [h, *pad], [[right], pad]) for h in (kept, made_up, right)]
    assert scores[0] < scores[1] < scores[2]


def test_no_match_of_some_order_is_zero():
    assert gleu([["a", "b"]], [["a", "b"]], [[["a", "b"]]]) == 0.0


def test_draws_average_over_the_choices_of_references():
    sources = [split("a b c d e f"), split("g h i j k l m")]
    references = [[split("a b c d x f"), split("a b c d e f g")], [split("g h i j k l"), split("g h i j k l m")]]
    exact = fmean(gleu(sources, sources, [[a], [b]]) for a, b in product(*references))
    assert gleu(sources, sources, references, draws=20000) == pytest.approx(exact, abs=0.005)
    assert gleu(sources, sources, references, seed=3) == gleu(sources, sources, references, seed=3)
    assert gleu(sources, sources, references, draws=1, seed=0) in [
        pytest.approx(gleu(sources, sources, [[a], [b]])) for a, b in product(*references)
    ]


@pytest.mark.parametrize(
    ("count", "references", "draws"), [(1, [[]], 5), (2, [[["a"]]], 5), (1, [[["a"]]], 0), (0, [], 5)]
)
def test_what_cannot_be_scored_is_refused(count, references, draws):
    with pytest.raises(ValueError, match="gleu needs"):
        gleu([["a"]] * count, [["a"]] * count, references, draws=draws)


def test_bootstrap_samples_of_one_sentence_are_its_score_and_differences_are_paired():
    source, wanted = (
        [["a", "b", "c", "d", "e"], ["f", "g", "h", "i", "j"]],
        [[["a", "b", "c", "d", "x"]], [["f", "g", "h", "i", "j"]]],
    )
    found = resampled(source, source, wanted, items=[1], draws=5)
    assert found == pytest.approx([gleu(source[1:], source[1:], wanted[1:])] * 5)
    both = resampled(source, source, wanted, items=[0, 1], draws=200)
    assert both.min() == pytest.approx(gleu(source[:1], source[:1], wanted[:1]))
    assert both.max() == pytest.approx(1)
    assert (both == resampled(source, source, wanted, items=[0, 1], draws=200)).all()
