"""Sentences chosen as summaries: what only the summaries tell is learned, and a reference does not tell on itself."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from langevin.modalities.text.metrics.rouge import rouge_tokens
from langevin.modalities.text.ranking import SentenceRanker

WORDS = [f"word{i}" for i in range(300)]


def pairs(count, seed=0):
    """Texts of four sentences of random words, of which one, anywhere, begins with "we present" and is the summary."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        lines = [" ".join(generator.choice(WORDS, 8)) + "." for _ in range(4)]
        at = int(generator.integers(4))
        lines[at] = "we present " + lines[at]
        found.append((" ".join(lines), [lines[at]]))
    return found


def test_the_words_that_summaries_have_are_found_wherever_they_stand():
    ranker = SentenceRanker.fit(pairs(80))
    held = pairs(40, seed=1)
    assert all(ranker.choose(text) == summary for text, [summary] in held)


def test_a_reference_does_not_tell_which_sentence_it_is():
    """Summaries of random words can be learned by heart only: with a text's own summary left out nothing is."""
    generator = np.random.default_rng(0)
    lines = [[" ".join(generator.choice(WORDS, 8)) + "." for _ in range(4)] for _ in range(60)]
    texts = [(" ".join(one), [one[int(generator.integers(4))]]) for one in lines]
    ranker = SentenceRanker.fit(texts)
    own = [rouge_tokens(one) for one in lines[0]]
    summary = rouge_tokens(texts[0][1][0])
    where = own.index(summary)
    with_own = ranker.features(own)[:, 1]
    without = ranker.features(own, without=grams(summary))[:, 1]
    assert with_own.argmax() == where  # its word pairs are among the counts
    assert np.ptp(without) < 0.2 * np.ptp(with_own)  # pairs that others share by chance
    assert sum(ranker.choose(text) == one for text, [one] in texts) < 45


def grams(tokens):
    return Counter([*tokens, *(f"{a} {b}" for a, b in pairwise(tokens))])


@pytest.mark.parametrize("text", ["", "One sentence only.", "\u4f60\u597d\u3002", "No end"])
def test_a_text_of_one_sentence_is_its_summary(text):
    assert SentenceRanker.fit(pairs(10)).choose(text) == text


def test_a_chosen_sentence_is_of_the_text_and_texts_of_one_are_refused():
    ranker = SentenceRanker.fit(pairs(20))
    text = "Nothing here is known. Not this either! Or?"
    assert ranker.choose(text) in text
    with pytest.raises(ValueError, match="several sentences"):
        SentenceRanker.fit([("One.", ["One."])])
