"""Baselines of sentence pairs on pairs whose rule is known."""

import random

import numpy as np
import pytest

from langevin.modalities.text.baselines.entailment import (
    FEATURES,
    HypothesisOnly,
    Majority,
    Overlap,
    accuracy,
    overlap_features,
)

split = str.split

pytest.importorskip("sklearn", reason="scikit-learn is an extra: pip install 'langevin[data]'")
NOUNS = split("man dog boy girl cat horse bird child")


def pairs_of(n, seed=0):
    """Entailed: the same sentence; contradicted: it denied; neutral: another one."""
    draw, pairs, labels = random.Random(seed), [], []
    for _ in range(n):
        a, b, c = draw.sample(NOUNS, 3)
        label = draw.choice(["entailment", "contradiction", "neutral"])
        hypothesis = {
            "entailment": f"a {a} sees the {b}",
            "contradiction": f"no {a} sees the {b}",
            "neutral": f"a {c} sees it run",
        }
        pairs.append((f"a {a} sees the {b}", hypothesis[label]))
        labels.append(label)
    return pairs, labels


def test_features_by_hand():
    row = overlap_features([("a man runs home", "no man runs"), ("A dog.", "a dog")])
    assert row.shape == (2, len(FEATURES)) == (2, 10)
    assert row[0] == pytest.approx([2 / 3, 2 / 4, 2 / 5, 1, 2, np.log(4 / 5), 1 / 2, 0, 1, 1])
    assert row[1] == pytest.approx([1, 1, 1, 0, 0, 0, 1, 1, 0, 0])
    assert overlap_features([("It isn't so", "it is")])[0, 8:] == pytest.approx([1, 0])


def test_overlap_finds_the_rule():
    overlap = Overlap.fit(*pairs_of(300))
    held_out, labels = pairs_of(100, seed=1)
    assert accuracy(overlap.predict(held_out), labels) == 1


def test_the_hypothesis_alone_sees_denial_and_never_the_premise():
    pairs, labels = pairs_of(300)
    model = HypothesisOnly.fit(pairs, labels)
    held_out, truth = pairs_of(100, seed=1)
    assert model.predict(held_out) == model.predict([("", hypothesis) for _, hypothesis in held_out])
    denied = [label == "contradiction" for label in truth]
    assert [label == "contradiction" for label in model.predict(held_out)] == denied


def test_the_majority_is_one_label():
    pairs = [("a", "b")] * 3
    assert Majority.fit(pairs, ["x", "y", "y"]).predict(pairs[:2]) == ["y", "y"]
    assert Majority.fit(pairs[:2], ["y", "x"]).label == "x"
    assert accuracy(["x", "y"], ["x", "x"]) == 0.5


@pytest.mark.parametrize("call", [
    lambda: Majority.fit([], []), lambda: Overlap.fit([("a", "b")], ["x"]), lambda: HypothesisOnly.fit([("a", "b")], []),
    lambda: accuracy([], []), lambda: accuracy(["a"], []),
])  # fmt: skip
def test_what_cannot_be_fitted_is_refused(call):
    with pytest.raises(ValueError, match="needs"):
        call()
