"""The corrector against looking through the whole lexicon."""

import random

import pytest

from langevin.modalities.text.metrics.alignment import distance
from langevin.modalities.text.speller import Speller

COUNTS = {"the": 100, "then": 20, "than": 30, "cat": 5, "cart": 5, "o'clock": 1}


def nearest_by_search(word, counts, most):
    """The least (distance, -frequency, word) over all words."""
    best = min((distance(word, near), -count, near) for near, count in counts.items())
    return best[2] if best[0] <= most else word


@pytest.mark.parametrize("most", [0, 1, 2])
@pytest.mark.parametrize("seed", range(2))
def test_the_index_misses_nothing(seed, most):
    draw = random.Random(seed)
    counts = {"".join(draw.choices("abcd", k=draw.randrange(1, 13))): draw.randrange(1, 9) for _ in range(100)}
    speller = Speller.fit(counts, most=most)
    strangers = ["".join(draw.choices("abcd", k=draw.randrange(1, 13))) for _ in range(60)]
    for word in [
        *strangers,
        *(word[:4] + "x" + word[4:] for word in counts),
        *(word[1::-1] + word[2:] for word in counts),
    ]:
        assert speller.nearest(word) == nearest_by_search(word, counts, most)


def test_ties_go_to_the_frequent_word():
    speller = Speller.fit(COUNTS)
    assert speller.nearest("thhe") == "the"
    assert speller.nearest("thxn") == "than"  # "then" is as near and rarer
    assert speller.nearest("catt") == "cart"  # as near and as frequent as "cat"
    assert speller.nearest("zebra") == "zebra"


def test_only_words_outside_the_lexicon_are_changed_in_a_sentence():
    speller = Speller.fit({**COUNTS, "at": 50})
    assert speller.correct("Teh cat,  THNE at 5 o'clok: Zebra_cat!") == "The cat,  THE at 5 o'clock: Zebra_cat!"
    assert speller.correct("The CAT cart") == "The CAT cart"


def test_a_lexicon_from_text_leaves_rare_words_out():
    speller = Speller.from_text("It is. It is! is rare", least=2)
    assert speller.counts == {"it": 2, "is": 3}


@pytest.mark.parametrize(("counts", "most"), [({}, 2), ({"a": 0}, 2), ({"a": 1}, 3)])
def test_what_is_no_lexicon_is_refused(counts, most):
    with pytest.raises(ValueError, match=r"Speller\.fit needs"):
        Speller.fit(counts, most=most)
