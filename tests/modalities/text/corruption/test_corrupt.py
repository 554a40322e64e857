"""Faulty text: a function of text and seed, the shares that were asked for, and never a fault where none was."""

import math

import pytest

from langevin.modalities.text.corruption.confusions import read_misspellings
from langevin.modalities.text.corruption.corrupt import Corruption
from langevin.modalities.text.metrics.alignment import distance
from langevin.modalities.text.metrics.spelling import spelling_score

TEXT = "The old house stood by the river, and nobody had lived there since 1885."
LIST = read_misspellings(
    ["house: hause, howse*2", "river: rivver", "lived: livd", "the: teh", "by the: bythe", "nobody: noone"]
)
KINDS = {
    "bare": Corruption(), "listed": Corruption(confusions=LIST), "grammar": Corruption(spelling=0, grammar=0.2),
    "both": Corruption(confusions=LIST, grammar=0.1),
}  # fmt: skip


def shares_agree(hits, n, share):
    """Within four standard errors."""
    return abs(hits / n - share) < 4 * math.sqrt(share * (1 - share) / n)


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_is_a_function_of_text_and_seed(kind):
    alone = [KINDS[kind].corrupt(TEXT, seed) for seed in range(30)]
    among_others = [KINDS[kind].corrupt(t, seed) for seed in reversed(range(30)) for t in ("Other words.", TEXT)]
    assert alone == among_others[1::2][::-1]
    assert len(set(alone)) > 20


@pytest.mark.parametrize("kind", KINDS)
def test_the_clean_share_is_kept_and_all_others_are_faulty(kind):
    short = "The house, by now"  # so short that chance alone would leave most of them clean
    clean = sum(KINDS[kind].corrupt(short, seed) == short for seed in range(2000))
    assert shares_agree(clean, 2000, 0.17)


def test_the_ends_of_the_clean_share():
    assert all(Corruption(identity_fraction=1.0).corrupt(TEXT, seed) == TEXT for seed in range(50))
    assert all(Corruption(identity_fraction=0.0).corrupt(TEXT, seed) != TEXT for seed in range(50))
    assert all(Corruption(spelling=0, identity_fraction=0.0).corrupt(TEXT, seed) == TEXT for seed in range(9))


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_words_are_misspelt_as_often_as_asked(rate):
    words = " ".join(["garden"] * 40)
    noise = Corruption(spelling=rate, identity_fraction=0.0)
    sources = [noise.corrupt(words, seed).split() for seed in range(150)]
    score = spelling_score(sources, sources, [words.split()] * 150)
    # a text's own share is uniform on [0, 2 rate]: standard error of the mean (2 rate / sqrt(12)) / sqrt(150)
    assert score.corrupted / (150 * 40) == pytest.approx(rate, abs=4 * 2 * rate / math.sqrt(12 * 150))


def test_seen_errors_are_those_of_the_list():
    noise = Corruption(confusions=LIST, spelling=0.5, seen=1.0, fingers=0.0, identity_fraction=0.0)
    found = {word for seed in range(300) for word in noise.corrupt("House river lived", seed).split()}
    assert found == {"House", "Hause", "Howse", "river", "rivver", "lived", "livd"}


def test_pairs_of_words_that_are_listed_are_joined():
    noise = Corruption(confusions=LIST, spelling=0.5, seen=1.0, fingers=0.0, identity_fraction=0.0)
    assert any("stood bythe river" in noise.corrupt("stood by the river", seed) for seed in range(100))


def test_words_that_are_not_listed_are_edited_as_listed_ones():
    """The list doubles and drops letters and puts others for o and u; a z is nowhere in it."""
    noise = Corruption(confusions=LIST, spelling=0.5, seen=1.0, fingers=0.0, identity_fraction=0.0)
    words = [word for seed in range(200) for word in noise.corrupt("hover hover", seed).split()]
    assert {distance("hover", word) for word in words} <= {0, 1, 2}
    assert {letter for word in words for letter in word} <= set("hoversteuvwalb")


def test_numbers_marks_and_spaces_stay():
    text = "12 + 5 = 17;\n\t(…) 99%"
    assert all(Corruption(identity_fraction=0.0, grammar=0.0).corrupt(text, seed) == text for seed in range(20))
    noise = Corruption(identity_fraction=0.0, spelling=0.5)
    for seed in range(50):
        faulty = noise.corrupt("So:\n  1885, (old) house!", seed)
        assert [c for c in faulty if not c.isalpha()] == list(":\n  1885, () !")


def test_case_is_kept():
    noise = Corruption(confusions=LIST, identity_fraction=0.0, spelling=0.5, seen=1.0, fingers=0.0)
    assert all(noise.corrupt("HOUSE", seed) in {"HAUSE", "HOWSE"} for seed in range(30))


@pytest.mark.parametrize("settings", [
    {"spelling": 0.6}, {"spelling": -0.1}, {"grammar": 0.7}, {"identity_fraction": 1.5}, {"seen": 0.9, "fingers": 0.2},
    {"fingers": -0.1},
])  # fmt: skip
def test_other_settings_are_refused(settings):
    with pytest.raises(ValueError, match="Corruption needs"):
        Corruption(**settings)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed"):
        Corruption().corrupt(TEXT, -1)
