"""Verbatim runs against searching the text for every run."""

import random

import pytest

from langevin.modalities.text.metrics.verbatim import Verbatim

split = str.split


def longest_by_search(sample, text):
    return max(
        (j - i for i in range(len(sample)) for j in range(i + 1, len(sample) + 1) if sample[i:j] in text), default=0
    )


def random_text(draw, letters, length):
    text = "".join(draw.choices(letters, k=length))
    return text + text[length // 3 : length // 2] * 2 + text[:5]  # with long repeats, that sorting must tell apart


@pytest.mark.parametrize("letters", ["a", "ab", "abc ", "aé猫🙂", "".join(map(chr, range(256, 900)))])
@pytest.mark.parametrize("seed", range(5))
def test_the_longest_run_is_the_longest(letters, seed):
    draw = random.Random(seed)
    text = random_text(draw, letters, 400)
    index = Verbatim.fit(text)
    for _ in range(5):
        place = draw.randrange(300)
        sample = (
            random_text(draw, letters, 12)
            + text[place : place + draw.randrange(40)]
            + "".join(draw.choices(letters, k=3))
        )
        assert index.longest_run(sample) == longest_by_search(sample, text)


@pytest.mark.parametrize("seed", range(5))
def test_places_are_sorted_by_what_follows(seed):
    text = random_text(random.Random(seed), "ab", 300)
    assert Verbatim.fit(text).order.tolist() == sorted(range(len(text)), key=lambda place: text[place:])


def test_runs_are_looked_for_up_to_the_depth():
    text = "ab" * 500 + "c"
    index = Verbatim.fit(text, depth=100)
    assert index.longest_run(text) == 100
    assert index.longest_run("b" + "ab" * 20 + "zz") == 41
    assert index.contains("ab" * 50)
    with pytest.raises(ValueError, match="1 to 100"):
        index.contains("ab" * 51)


def test_words_and_their_novelty():
    train = split("the cat sat on the mat and the cat ran")
    index = Verbatim.fit(train)
    assert index.longest_run(split("a cat sat on the cat")) == 4
    assert index.contains(split("the cat ran"))
    assert not index.contains(split("ran the"))
    assert not index.contains(["unseen"])
    # "cat sat on the" and "sat on the mat" stand there, "on the mat ." does not
    assert index.novelty([split("cat sat on the mat .")]) == pytest.approx(1 / 3)
    assert index.novelty([train]) == 0
    assert index.novelty([["the", "cat"], ["cat", "the"]], 2) == 0.5


def test_what_is_not_in_the_text_is_nowhere():
    index = Verbatim.fit("abc")
    assert index.longest_run("") == index.longest_run("xyz") == index.longest_run("猫") == 0
    assert index.longest_run("xbcx") == 2


@pytest.mark.parametrize("call", [
    lambda: Verbatim.fit(""), lambda: Verbatim.fit("a", depth=0), lambda: Verbatim.fit("a").contains(""),
    lambda: Verbatim.fit("a").longest_run(["a"]), lambda: Verbatim.fit(["a"]).contains("a"),
    lambda: Verbatim.fit("abc").novelty(["ab"]),
])  # fmt: skip
def test_what_cannot_be_looked_up_is_refused(call):
    with pytest.raises(ValueError, match="Verbatim"):
        call()
