"""Phrases are found however they are written and nothing else is; copies are held, others are not."""

import pytest
import torch

from langevin.safety.policy import (
    ALLOWED,
    AllowedWords,
    Decision,
    NearCopies,
    Phrases,
    Policy,
    normalised,
    strictest,
    texts_of,
    threshold,
)

BAD = Phrases(phrases=("evil robot", "grass"))


@pytest.mark.parametrize(
    "text",
    ["an evil robot", "EVIL  ROBOT!", "\u00e9v\u00efl r\u00f6bot", "ev1l r0b0t", "evil-robot", "evil_robot",
     "e\u200bvil robot", "eeevil robooot", "\uff45\uff56\uff49\uff4c robot", "e v i l r o b o t", "gras", "gra$$",
     "the\ngrass\n"],
)  # fmt: skip
def test_a_phrase_is_found_however_it_is_written(text):
    assert BAD.check([text]) == Decision(verdict="deny", check="phrases", reason=BAD.check([text]).reason)
    assert "'evil robot'" in BAD.check([text]).reason or "'grass'" in BAD.check([text]).reason


@pytest.mark.parametrize(
    "text", ["a devil robots", "evil", "robot evil", "a grasshopper", "hourglass", "", "1 2 3 4", "\u26c4"]
)
def test_other_texts_are_allowed(text):
    assert BAD.check([text]) == ALLOWED


def test_what_is_not_listed_is_denied():
    allowed = AllowedWords(values=("cat", "D\u00f6g"))
    assert allowed.check(["CAT", "dog"]) == ALLOWED
    assert allowed.check(["cat", "bird"]).verdict == "deny"
    assert "'bird'" in allowed.check(["bird"]).reason


def test_a_phrase_without_letters_is_refused():
    with pytest.raises(ValueError, match="needs letters"):
        Phrases(phrases=("!!",))


def test_copies_are_held_and_fresh_samples_are_not():
    """The share of fresh samples below the threshold is what was asked for."""
    generator = torch.Generator().manual_seed(0)
    train, held_out, fresh = (torch.randn(n, 6, generator=generator) for n in (500, 10_000, 4000))
    below = threshold(train, held_out, share=0.02)
    check = NearCopies(items=train, below=below)
    held = sum(check.check(sample[None]).verdict == "hold" for sample in fresh)
    assert 0.01 < held / len(fresh) < 0.03
    copy = train[[7]] + 1e-3
    found = check.check(torch.cat([fresh[:1] + 100, copy]))
    assert found.verdict == "hold"
    assert "sample 1 is a near copy of item 7" in found.reason


def test_the_strictest_decision_counts():
    hold, deny = Decision(verdict="hold", check="a"), Decision(verdict="deny", check="b")
    assert strictest([]) == ALLOWED
    assert strictest([hold, ALLOWED]) == hold
    assert strictest([hold, deny, Decision(verdict="deny", check="c")]) == deny
    assert Policy(checks=(BAD, AllowedWords(values=("fine",)))).request(["fine"]) == ALLOWED
    assert Policy(checks=(BAD,)).request(["grass"]).verdict == "deny"


def test_texts_are_found_at_any_depth():
    found = texts_of({"a": ["x", {"b": ("y", 3, None)}], "c": "data: z"})
    assert found == ["x", "y", "data: z"]
    assert normalised("  ") == ""
