"""Small texts for tests: sentences of a grammar, so that what is right can be told."""

import json
import random
from pathlib import Path

from langevin.modalities.modality import Samples
from langevin.modalities.text.infill import Writer
from langevin.run.directory import load_model, open_run
from langevin.run.generate import RunModel

SUBJECTS = ("the cat", "a dog", "the old king", "my sister", "one bird")
VERBS = ("sees", "likes", "finds", "hears")
OBJECTS = ("the sea", "a red house", "the garden", "an apple", "the moon")


def sentences(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [f"{draw.choice(SUBJECTS)} {draw.choice(VERBS)} {draw.choice(OBJECTS)}." for _ in range(count)]


def corpus(folder, count: int = 300):
    """A folder with one text."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.txt").write_text("\n".join(sentences(count)) + "\n")
    return folder


def dialogues(folder, count: int = 60):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"turns": [["user", "what do you see?"], ["system", f"i see {OBJECTS[i % 5]}."], ["user", "and now?"],
                   ["system", f"now {SUBJECTS[i % 5]} comes."]]}
        for i in range(count)
    ]  # fmt: skip
    (folder / "turns.jsonl").write_text("".join(json.dumps({**row, "n": i}) + "\n" for i, row in enumerate(rows)))
    return folder


def summaries(folder, count: int = 60):
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(count):
        several = sentences(4, seed=i)
        rows.append({"text": " ".join(several), "summary": several[0]})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def inferences(folder, count: int = 90):
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, text in enumerate(sentences(count, seed=1)):
        kind = ("ENTAILMENT", "CONTRADICTION", "NEUTRAL")[i % 3]
        other = (text, text.replace("sees", "does not see"), sentences(1, seed=1000 + i)[0])[i % 3]
        rows.append({"premise": f"{text} {i}", "hypothesis": other, "label": kind})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


# ----------------------------------------------------------------------------------------------------------------- runs


def loaded(run: Path) -> RunModel:
    """A run's model, as modalities see it."""
    return load_model(open_run(run))[0]


def writer_of(model: RunModel, **options) -> Writer:
    """What writes by a run's model as it draws."""
    return Writer(codec=model.modality.codec, model=model.parts, sampling=model.sampling, **options)


def driven(model: RunModel, part):
    """(what a part of a plan returns, function evaluations of one sample) with a run's model answering."""
    found = []

    def plan():
        found.append((yield from part))
        return Samples(modality=model.modality, values=list(found[0]))

    nfe = model.run(plan()).nfe
    return found[0], nfe
