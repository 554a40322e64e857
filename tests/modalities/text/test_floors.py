"""Floors on real data: published values, and those that other code measured on the same files."""

import json
import os
from pathlib import Path
from statistics import fmean

import pytest

from langevin.modalities.text.baselines.entailment import HypothesisOnly, Majority, Overlap, accuracy
from langevin.modalities.text.baselines.summary import best_sentence, last, lead
from langevin.modalities.text.codec import Letters
from langevin.modalities.text.corruption.confusions import read_corrections, read_misspellings
from langevin.modalities.text.corruption.typos import edit_distances
from langevin.modalities.text.metrics.gleu import gleu
from langevin.modalities.text.metrics.ngram import NgramModel
from langevin.modalities.text.metrics.rouge import rouge

pytestmark = pytest.mark.slow


def part(name):
    """A file or folder of LANGEVIN_DATA."""
    folder = os.environ.get("LANGEVIN_DATA")
    if not folder or not (Path(folder) / name).exists():
        pytest.skip(f"set LANGEVIN_DATA to a folder that holds {name}")
    return Path(folder) / name


def lines(name):
    return part(name).read_text(encoding="utf-8").splitlines()


def test_ngrams_of_books():
    train, valid = (
        "\n".join(p.read_text() for p in sorted(part(f"books/{k}").glob("*.txt"))) for k in ("train", "valid")
    )
    model, held_out = NgramModel.fit(Letters().encode(train).numpy(), order=6), Letters().encode(valid).numpy()
    measured = [model.shortened(n).bits_per_token(held_out) for n in range(1, 7)]
    assert measured == pytest.approx([4.070, 3.310, 2.716, 2.264, 2.000, 1.877], abs=0.002)


def test_sentences_as_summaries():
    rows = [json.loads(line) for line in lines("summaries/dev.jsonl")]
    texts, references = [row["text"] for row in rows], [row["summaries"] for row in rows]
    best = rouge([lead(t) for t in texts], references)
    first = rouge([lead(t) for t in texts], references, among="first")
    end = rouge([last(t) for t in texts], references)
    oracle = rouge([best_sentence(t, r) for t, r in zip(texts, references)], references)
    assert (best.rouge1, best.rouge2, best.rougeL) == pytest.approx((0.271, 0.104, 0.217), abs=0.001)
    assert (first.rouge1, first.rouge2, first.rougeL) == pytest.approx((0.231, 0.084, 0.185), abs=0.001)
    assert (end.rouge1, end.rouge2, end.rougeL) == pytest.approx((0.222, 0.050, 0.169), abs=0.001)
    assert oracle.rouge1 == pytest.approx(0.447, abs=0.001)


def test_gleu_of_jfleg_is_the_published_one():
    """Source 38.21, human 55.26 ("JFLEG", 2017); the draws of references differ."""
    source, *references = (
        [line.split() for line in lines(f"jfleg/dev.{p}")] for p in ("src", "ref0", "ref1", "ref2", "ref3")
    )
    rows = list(zip(*references))
    assert 100 * gleu(source, source, rows) == pytest.approx(38.21, abs=0.15)
    human = fmean(gleu(source, r, [row[:i] + row[i + 1 :] for row in rows]) for i, r in enumerate(references))
    assert 100 * human == pytest.approx(55.26, abs=0.15)


def test_sick_without_understanding():
    pytest.importorskip("sklearn", reason="scikit-learn is an extra: pip install 'langevin[data]'")
    parts = [[json.loads(line) for line in lines(f"nli/sick_{name}.jsonl")] for name in ("train", "trial")]
    (pairs, labels), (held_out, truth) = (
        ([(row["premise"], row["hypothesis"]) for row in rows], [row["label"] for row in rows]) for rows in parts
    )
    measured = [
        100 * accuracy(kind.fit(pairs, labels).predict(held_out), truth) for kind in (Majority, HypothesisOnly, Overlap)
    ]
    assert measured == pytest.approx([56.8, 55.2, 76.2], abs=1.0)  # standard error of each on 495 pairs: 2


def test_lists_of_misspellings_are_read_whole():
    """7,841 words and 39,710 pairs before equal pairs and words without letters are dropped; distances 36/24/18/11/11 %."""
    misspellings = read_misspellings(lines("spelling/spell-errors.txt"))
    assert len(misspellings.counts) == pytest.approx(7841, abs=10)
    assert len(misspellings) == pytest.approx(39710, abs=50)
    counts = edit_distances(misspellings)
    shares = [counts[d] / counts.total() for d in (1, 2, 3, 4)]
    assert shares == pytest.approx([0.36, 0.24, 0.18, 0.11], abs=0.01)
    corrections = read_corrections(lines("spelling/codespell.txt"))
    wrong = {wrong for _, wrong, _ in corrections.pairs()}
    assert len(wrong) == pytest.approx(64992, abs=20)
