"""Baselines of text tasks without a network: `LANGEVIN_DATA=FOLDER python benchmarks/text_floors.py`. Minutes, one thread.

Each value is printed with the reference it must reproduce: published (JFLEG: "JFLEG: A Fluency Corpus and Benchmark for
Grammatical Error Correction", 2017) or measured before by other code. A last line holds everything as JSON. The folder
holds books/, summaries/, jfleg/, spelling/ and nli/; only training and development parts are read.
"""

import json
import os
import random
import sys
import time
from pathlib import Path
from statistics import fmean

from langevin.modalities.text.baselines.entailment import HypothesisOnly, Majority, Overlap, accuracy
from langevin.modalities.text.baselines.summary import best_sentence, last, lead
from langevin.modalities.text.codec import Letters
from langevin.modalities.text.corruption.confusions import read_misspellings
from langevin.modalities.text.corruption.corrupt import Corruption
from langevin.modalities.text.metrics.edits import edit_score
from langevin.modalities.text.metrics.gleu import gleu
from langevin.modalities.text.metrics.ngram import NgramModel
from langevin.modalities.text.metrics.rouge import copy_rate, rouge
from langevin.modalities.text.metrics.spelling import spelling_score
from langevin.modalities.text.metrics.variety import distinct, gram_divergence, unigram_entropy
from langevin.modalities.text.metrics.verbatim import Verbatim
from langevin.modalities.text.speller import Speller
from langevin.modalities.text.words import plain_words

WORDS, SPELT, SENTENCES = 250, 1500, 500


def folder():
    path = os.environ.get("LANGEVIN_DATA")
    if not path:
        sys.exit("set LANGEVIN_DATA to a folder that holds books/, summaries/, jfleg/, spelling/ and nli/")
    return Path(path)


def books(part):
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((folder() / "books" / part).glob("*.txt")))


def lettered(text):
    return Letters().decode(Letters().encode(text)).strip()


def rows(path):
    return [json.loads(line) for line in (folder() / path).read_text(encoding="utf-8").splitlines()]


class Table:
    """Lines of (name, reference, ours); `reference` is None if there is none to reproduce."""

    def __init__(self):
        self.values = {}

    def add(self, name, ours, reference=None):
        self.values[name] = {"ours": ours, "reference": reference}
        expected = "" if reference is None else f"{reference:g}"
        print(f"{name:<74}{expected:>10}{ours:>12.4f}", flush=True)


def likelihood(table, train, valid):
    x, y = (Letters().encode(text).numpy() for text in (train, valid))
    model = NgramModel.fit(x, order=6)
    for n, reference in enumerate((4.070, 3.310, 2.716, 2.264, 2.000, 1.877), 1):
        table.add(f"books, 27 symbols, bits a character, order {n}", model.shortened(n).bits_per_token(y), reference)


def summaries(table):
    dev = rows("summaries/dev.jsonl")
    texts, references = [row["text"] for row in dev], [row["summaries"] for row in dev]
    kinds = {
        "first sentence, best reference": ([lead(t) for t in texts], "max", (0.271, 0.104, 0.217)),
        "first sentence, first reference": ([lead(t) for t in texts], "first", (0.231, 0.084, 0.185)),
        "last sentence, best reference": ([last(t) for t in texts], "max", (0.222, 0.050, 0.169)),
        "best sentence, best reference": (
            [best_sentence(t, r) for t, r in zip(texts, references)],
            "max",
            (0.447, None, None),
        ),
    }
    for name, (made, among, expected) in kinds.items():
        score = rouge(made, references, among=among)
        for measure, ours, reference in zip(("R1", "R2", "RL"), (score.rouge1, score.rouge2, score.rougeL), expected):
            table.add(f"summaries, {name}, {measure}", ours, reference)
    for n, reference in ((1, 0.75), (2, 0.37)):
        table.add(
            f"summaries, references found in the text, {n}-grams",
            copy_rate([r[0] for r in references], texts, n),
            reference,
        )


def corrections(table):
    source, *references = (
        [line.split() for line in (folder() / "jfleg" / f"dev.{part}").read_text(encoding="utf-8").splitlines()]
        for part in ("src", "ref0", "ref1", "ref2", "ref3")
    )
    by_sentence = [list(choices) for choices in zip(*references)]
    others = [[[r for j, r in enumerate(choices) if j != i] for choices in by_sentence] for i in range(4)]
    table.add("jfleg, GLEU of the source (published)", 100 * gleu(source, source, by_sentence), 38.21)
    humans = [gleu(source, reference, rest) for reference, rest in zip(references, others)]
    table.add("jfleg, GLEU of a reference against three (published)", 100 * fmean(humans), 55.26)
    table.add("jfleg, F0.5 of the source", edit_score(source, source, by_sentence).f05, 0.0)
    scores = [edit_score(source, reference, rest) for reference, rest in zip(references, others)]
    table.add("jfleg, F0.5 of a reference against three", fmean(score.f05 for score in scores))
    table.add("jfleg, clean sentences a reference changes", fmean(score.clean_changed for score in scores))


def spelling(table, train, valid):
    confusions = read_misspellings(
        (folder() / "spelling" / "spell-errors.txt").read_text(encoding="utf-8").splitlines()
    )
    table.add("spelling, words", len(confusions.counts), 7841)
    table.add("spelling, pairs", len(confusions), 39710)
    draw, pairs = random.Random(0), [(right, wrong) for right, wrong, _ in confusions.pairs()]
    sample = draw.sample(pairs, SPELT)
    speller = Speller.from_text(train)
    listed = {right.lower() for right in confusions.counts}
    known = Speller.fit({word: speller.counts.get(word, 0) + 1 for word in listed})
    for name, tool, reference in (("of the list", known, 0.40), ("of the books", speller, None)):
        right = [tool.nearest(wrong) == word.lower() for word, wrong in sample]
        table.add(f"spelling, nearest word of a lexicon {name}, {SPELT} pairs", fmean(right), reference)
        table.add(f"spelling, the same on the first {WORDS}", fmean(right[:WORDS]), reference)
    noise = Corruption(confusions=confusions, spelling=0.1)
    lines = [line for line in valid.splitlines() if 40 <= len(line) <= 400][
        :: max(1, valid.count("\n") // (3 * SENTENCES))
    ]
    clean = lines[:SENTENCES]
    corrupted = [noise.corrupt(line, seed) for seed, line in enumerate(clean)]
    score = spelling_score(
        *([list(plain_words(t)) for t in texts] for texts in (corrupted, map(speller.correct, corrupted), clean))
    )
    for name, value in (
        ("detection precision", score.precision),
        ("detection recall", score.recall),
        ("detection F1", score.f1),
        ("corrupted words restored", score.accuracy),
        ("false alarms on clean words", score.alarm_rate),
    ):
        table.add(f"spelling in {len(clean)} corrupted lines of books, {name}", value)


def entailment(table):
    parts = [rows(f"nli/sick_{part}.jsonl") for part in ("train", "trial")]
    (pairs, labels), (held_out, truth) = (
        ([(row["premise"], row["hypothesis"]) for row in part], [row["label"] for row in part]) for part in parts
    )
    for kind, reference in ((Majority, 56.8), (HypothesisOnly, 55.2), (Overlap, 76.2)):
        ours = 100 * accuracy(kind.fit(pairs, labels).predict(held_out), truth)
        table.add(f"nli, {kind.__name__}, accuracy in per cent", ours, reference)


def variety(table, train, valid):
    text = lettered(valid)
    words = text.split()
    samples = [words[i : i + 200] for i in range(0, 200 * 192, 200)]
    random.Random(0).shuffle(samples)
    table.add("real text, 200 words: unigram entropy, nats", unigram_entropy(samples[:64]))
    table.add("real text, 12,800 words: distinct-2", distinct(samples, 2, tokens=12800))
    index = Verbatim.fit(lettered(train).split())
    table.add("real text: words' 4-grams absent from train", index.novelty(samples[:64]))
    table.add("real text, 200 words: longest run in train, mean of 64", fmean(map(index.longest_run, samples[:64])))
    characters = [text[i : i + 256] for i in range(0, 256 * 3000, 256)]
    random.Random(0).shuffle(characters)
    found = gram_divergence(characters[:1000], characters[1000:])
    for n, floor in zip(found.orders, found.floor):
        table.add(f"real against real, {found.counts[0]} characters: divergence of {n}-grams, nats", floor)


def main():
    table, started = Table(), time.perf_counter()
    train, valid = books("train"), books("valid")
    print(f"{'':<74}{'reference':>10}{'ours':>12}")
    likelihood(table, train, valid)
    summaries(table)
    corrections(table)
    entailment(table)
    spelling(table, train, valid)
    variety(table, train, valid)
    print(json.dumps({"seconds": round(time.perf_counter() - started, 1), **table.values}))


if __name__ == "__main__":
    main()
