"""Lists of misspellings with every quirk of theirs, and draws from them."""

from collections import Counter

import pytest

from langevin.modalities.text.corruption.confusions import Confusions, read_corrections, read_misspellings

MISSPELLINGS = """receive: recieve, receve*3
receive: recieve*2, receve*3
?: bav
a_lot: alot, a_lot
their: thier, their

increasing: in_cresing
""".splitlines()


def test_misspellings_are_merged_and_cleaned():
    confusions = read_misspellings(MISSPELLINGS)
    assert confusions.counts == {
        "receive": {"recieve": 2, "receve": 3}, "a lot": {"alot": 1}, "their": {"thier": 1},
        "increasing": {"in cresing": 1},
    }  # fmt: skip
    assert len(confusions) == 5
    assert read_misspellings(MISSPELLINGS * 4).counts == confusions.counts


def test_corrections_may_have_several_targets():
    counts = read_corrections(["teh->the", "aas->ass, as,", "x->x", ""]).counts
    assert counts == {"the": {"teh": 1}, "ass": {"aas": 1}, "as": {"aas": 1}}


def test_merging_adds():
    merged = read_misspellings(["the: teh*2"]).merged(read_corrections(["teh->the", "adn->and"]))
    assert list(merged.pairs()) == [("the", "teh", 3), ("and", "adn", 1)]


def test_a_split_is_by_word_and_stays():
    confusions = Confusions(counts={f"{case}w{i}": {"x": 1, "y": 1} for i in range(500) for case in ("", "A")})
    kept, held = confusions.split(0.2, seed=1)
    assert not {w.lower() for w in kept.counts} & {w.lower() for w in held.counts}
    assert sorted([*kept.pairs(), *held.pairs()]) == sorted(confusions.pairs())
    assert len(held.counts) == pytest.approx(200, abs=60)
    assert confusions.split(0.2, seed=1)[1].counts == held.counts != confusions.split(0.2, seed=2)[1].counts
    for share in (0.0, 1.0):
        with pytest.raises(ValueError, match="empty"):
            confusions.split(share)


def test_draws_follow_counts_and_case():
    confusions = read_misspellings(["receive: recieve, receve*3", "Paris: Pares", "paris: paries"])
    drawn = Counter(confusions.draw("receive", (i + 0.5) / 100) for i in range(100))
    assert drawn == {"recieve": 25, "receve": 75}
    assert confusions.draw("Receive", 0.0) == "Recieve"
    assert confusions.draw("RECEIVE", 0.0) == "RECIEVE"
    assert (confusions.draw("Paris", 0.0), confusions.draw("paris", 0.0)) == ("Pares", "paries")
    assert confusions.knows("PARIS")
    assert not confusions.knows("rome")


@pytest.mark.parametrize("call", [
    lambda: read_misspellings(["no colon"]), lambda: read_misspellings([]), lambda: read_corrections(["wrong right"]),
    lambda: Confusions(counts={"a": {}}), lambda: Confusions(counts={"a": {"b": 0}}),
])  # fmt: skip
def test_what_is_no_list_is_refused(call):
    with pytest.raises(ValueError, match=r"line 1|Confusions needs"):
        call()
