"""Generated sentence pairs for inference: `python benchmarks/text_pairs.py DATA/nli OUT --count 100000`.

Labelled pairs are few. So sentences of the training part are changed by rules whose labels are known by construction. A
fraction `--renamed` of the generated pairs are labelled ones in which words are renamed, alike in both sentences.

    entailment      another article; a modifier, phrase or second clause left out; a word replaced as in a labelled
                    entailment that differs in it alone
    contradiction   negation ("is not", "there is no") of any of these; a word replaced as in a labelled contradiction
    neutral         the reverse of leaving out; another noun or verb, negated or not; subject and object swapped; any two

OUT holds the labelled training pairs `--copies` times, the generated ones, and the unchanged trial part, whose content is
not used.
"""

import argparse
import json
import random
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ARTICLES = ("a", "an", "the", "some", "one", "two", "three")
CLAUSE = re.compile(r"^(?P<subject>.+?) (?P<be>is|are) (?!not |no |being )(?P<verb>\w+ing)(?P<rest>.*)$", re.IGNORECASE)
THERE = re.compile(r"^there (?:is|are) no (?P<subject>.+?) (?P<verb>\w+ing)(?P<rest>.*)$", re.IGNORECASE)
PHRASE = re.compile(r"^(?P<head>.+\w+ing\b.*?) (?:in|on|with|near|at|through|into|from|for|over|by|and|while) [^,]+$")


class Pair(NamedTuple):
    """A labelled sentence pair, with the fields of the files."""

    premise: str
    hypothesis: str
    label: str


def read(path: Path) -> list[Pair]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Pair(**{name: json.loads(line)[name] for name in Pair._fields}) for line in lines]


class Rules:
    """The rules, with vocabulary and replacements from labelled pairs."""

    def __init__(self, pairs: Iterable[Pair], *, seed: int) -> None:
        pairs = list(pairs)
        self.random, self.labelled = random.Random(seed), pairs
        self.sentences = sorted({s.strip() for pair in pairs for s in pair[:2]})
        split = [s.lower().replace(",", "").split() for s in self.sentences]
        after = [(a, b, c) for w in split for a, b, c in zip(w, w[1:], [*w[2:], ""], strict=False) if a in ARTICLES]
        heads = {b for _, b, c in after if c in {"is", "are", "in", "on", "with", "and", "near", ""}}
        self.nouns = sorted(heads)
        self.modifiers = {b for _, b, c in after if c in heads and b not in {"is", "are"}} - heads
        self.verbs = sorted({m["verb"].lower() for s in self.sentences if (m := CLAUSE.match(s))})
        self.others: dict[str, list[str]] = {}
        for kind in (sorted(self.modifiers), self.nouns, self.verbs):
            for plural in (False, True):
                words = [w for w in kind if w.endswith("s") == plural]
                self.others |= dict.fromkeys(words, words)
        self.swaps = {label: self._swaps(pairs, label) for label in ("entailment", "contradiction")}

    def _swaps(self, pairs: Iterable[Pair], label: str) -> dict[str, list[str]]:
        """Words that replace each other in pairs with that label which differ in one word only."""
        found: dict[str, list[str]] = {}
        for pair in pairs:
            a, b = (side.lower().split() for side in pair[:2])
            differ = [(x, y) for x, y in zip(a, b, strict=False) if x != y]
            if pair.label == label and len(a) == len(b) and len(differ) == 1 and not {*differ[0]} & {*ARTICLES, "not"}:
                found.setdefault(differ[0][0], []).append(differ[0][1])
        return found

    def other_article(self, s: str) -> str | None:
        first, _, rest = s.partition(" ")
        new = {"a": "The", "an": "The", "the": "An" if rest[:1] in "aeiou" else "A"}.get(first.lower())
        return None if new is None else f"{new} {rest}"

    def shorter(self, s: str) -> str | None:
        words = s.split()
        first = {i + 1 for i, w in enumerate(words) if w.lower() in ARTICLES}
        loose = [i for i, w in enumerate(words[:-1]) if i in first and w.lower() in self.modifiers]
        phrase = PHRASE.match(s)
        if loose and (phrase is None or self.random.random() < 0.5):
            del words[self.random.choice(loose)]
            return " ".join(words)
        return None if phrase is None else phrase["head"]

    def replaced(self, s: str, table: dict[str, list[str]]) -> str | None:
        words = s.split()
        known = [i for i, w in enumerate(words) if w.lower() in table]
        if not known:
            return None
        i = self.random.choice(known)
        words[i] = self.random.choice(table[words[i].lower()])
        return " ".join(words)

    def other_word(self, s: str) -> str | None:
        words = s.split()
        nouns = [i for i, w in enumerate(words) if w.lower() in self.nouns and i and words[i - 1].lower() in ARTICLES]
        verbs = [i for i, w in enumerate(words) if w.lower() in self.verbs]
        if not nouns + verbs:
            return None
        i = self.random.choice(nouns + verbs)
        words[i] = self.random.choice(self.nouns if i in nouns else self.verbs)
        return " ".join(words)

    def negated(self, s: str) -> str | None:
        none = THERE.match(s)
        if none is not None:
            return f"A {none['subject']} is {none['verb']}{none['rest']}"
        m = CLAUSE.match(s)
        if m is None:
            return None
        article, _, subject = m["subject"].partition(" ")
        if article.lower() in ARTICLES and self.random.random() < 0.5:
            return f"There is no {subject} {m['verb']}{m['rest']}"
        return f"{m['subject']} {m['be']} not {m['verb']}{m['rest']}"

    def crossed(self, s: str) -> str | None:
        m = re.match(r"^(\w+) (\w+) (is|are) (\w+ing) (a|an|the) (\w+)(.*)$", s, re.IGNORECASE)
        return None if m is None else f"{m[1]} {m[6]} {m[3]} {m[4]} {m[5]} {m[2]}{m[7]}"

    def renamed(self) -> Pair | None:
        """A labelled pair with some words renamed to others of their kind, alike in both sentences."""
        pair = self.random.choice(self.labelled)
        both = sorted(set(pair.premise.lower().split()) & set(pair.hypothesis.lower().split()))
        chosen = [word for word in both if word in self.others and self.random.random() < 0.5]
        named = {word: self.random.choice(self.others[word]) for word in chosen}
        if not named or len({*named.values()} | {*both}) < len(named) + len(both):  # distinct words would become equal
            return None
        premise, hypothesis = (" ".join(named.get(w.lower(), w) for w in side.split()) for side in pair[:2])
        return Pair(premise, hypothesis, pair.label)

    def pair(self) -> Pair | None:
        """A generated pair, or None if no rule applies to the sentence drawn."""
        premise, choose = self.random.choice(self.sentences), self.random.random()
        kept = self.follows(premise)
        if choose < 0.33:
            return _pair(premise, kept, "entailment")
        if choose < 0.55:
            if self.random.random() < 0.2:
                return _pair(premise, self.replaced(premise, self.swaps["contradiction"]), "contradiction")
            pair = _pair(premise, self.negated(kept or premise), "contradiction")
            turned = pair is not None and kept is None and self.random.random() < 0.5
            return Pair(pair.hypothesis, pair.premise, pair.label) if pair is not None and turned else pair
        if choose < 0.67:
            short = self.shorter(premise)
            return None if short is None else _pair(short, premise, "neutral")
        if choose < 0.85:
            other = self.other_word(premise)
            return _pair(premise, self.negated(other) if other and self.random.random() < 0.3 else other, "neutral")
        if choose < 0.88:
            return _pair(premise, self.crossed(premise), "neutral")
        any_ = self.random.choice(self.sentences)
        return _pair(premise, self.negated(any_) if self.random.random() < 0.3 else any_, "neutral")

    def follows(self, s: str) -> str | None:
        """A sentence that follows from s, by one to three changes."""
        now, same = s, self.swaps["entailment"]
        for rule in self.random.sample((self.other_article, self.shorter, lambda t: self.replaced(t, same)), 3):
            if self.random.random() < 0.6:
                now = rule(now) or now
        return None if now == s else now


def _pair(premise: str, hypothesis: str | None, label: str) -> Pair | None:
    return None if hypothesis is None or hypothesis == premise else Pair(premise, hypothesis, label)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds sick_train.jsonl and sick_trial.jsonl")
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--copies", type=int, default=5)
    parser.add_argument("--renamed", type=float, default=0.6, help="fraction of the generated pairs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    labelled = read(args.folder / "sick_train.jsonl")
    rules, pairs = Rules(labelled, seed=args.seed), labelled * args.copies
    while len(pairs) < args.count:
        pair = rules.renamed() if rules.random.random() < args.renamed else rules.pair()
        if pair is not None:
            pairs.append(pair)
    rules.random.shuffle(pairs)
    args.out.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(pair._asdict(), ensure_ascii=False) + "\n" for pair in pairs)
    (args.out / "sick_train.jsonl").write_text(text, encoding="utf-8")
    shutil.copy(args.folder / "sick_trial.jsonl", args.out)


if __name__ == "__main__":
    main()
