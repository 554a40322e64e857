"""A correction run on sentences of learners: `LANGEVIN_DATA=FOLDER python benchmarks/text_repair.py RUN`.

GLEU and F0.5 against four corrections of each of JFLEG's 754 development sentences, at several edit thresholds, with those
of the source and of a corrector by edit distance. The sentences are tokenised: they are joined to prose for the run and
tokenised again, and the line "round trip" is the cost of that alone. The last line holds everything as JSON.
"""

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path

import torch

from langevin.modalities.modality import RequestContext
from langevin.modalities.text.measure import corrected
from langevin.modalities.text.metrics.edits import edit_score
from langevin.modalities.text.metrics.gleu import gleu
from langevin.modalities.text.speller import Speller
from langevin.run.directory import load_model, open_run
from text_floors import books, folder

THRESHOLDS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)
BEFORE = re.compile(r" ([.,!?;:%)\]]|n't\b|'(?:s|m|re|ve|ll|d)\b|'$)")
CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|m|re|ve|ll|d))\b")


def prose(line: str) -> str:
    """A tokenised line as prose."""
    return re.sub(r"([(\[]) ", r"\1", BEFORE.sub(r"\1", line.strip()))


def tokens(text: str) -> list[str]:
    """Prose tokenised again."""
    text = CLITIC.sub(r" \1", text)
    text = re.sub(r"([,!?;:%()\[\]])", r" \1 ", text)
    text = re.sub(r"(?<=\w)([.']+)(?=\s|$)", r" \1", text)
    return text.split()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--quick", action="store_true", help="16 sentences, to see that it runs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    parts = ("src", "ref0", "ref1", "ref2", "ref3")
    lines = [(folder() / "jfleg" / f"dev.{part}").read_text(encoding="utf-8").splitlines() for part in parts]
    lines = [part[: 16 if args.quick else None] for part in lines]
    source = [line.split() for line in lines[0]]
    wanted = [[part[i].split() for part in lines[1:]] for i in range(len(source))]
    plain = [prose(line) for line in lines[0]]
    result: dict[str, dict[str, float | None]] = {}

    def add(name: str, outputs: list[list[str]]) -> None:
        score = edit_score(source, outputs, wanted)
        result[name] = {
            "gleu": 100 * gleu(source, outputs, wanted),
            "f0.5": score.f05,
            "clean_changed": score.clean_changed,
        }
        figures = (f"{k} {'–' if v is None else format(v, '.3f')}" for k, v in result[name].items())
        print(f"{name:<24}" + "  ".join(figures), flush=True)

    add("copy", source)
    add("round trip", [tokens(text) for text in plain])
    speller = Speller.from_text(books("train"), least=2)
    add("edit distance", [tokens(speller.correct(text)) for text in plain])
    run = open_run(args.run)
    model, step = load_model(run)
    for threshold in THRESHOLDS[2:3] if args.quick else THRESHOLDS:
        text = replace(run.recipe.data, task=replace(run.recipe.data.task, edit_threshold=threshold))
        drawn = model.run(corrected(text, plain, RequestContext(model=model, data=text.open)))
        add(f"run, threshold {threshold:g}", [tokens(one) for one in drawn.values])
        if threshold == 2:
            for before, after in list(zip(plain, drawn.values, strict=True))[:12]:
                print(f"    {before}\n -> {after}" if before != after else f"    {before}   (left)")
    print(json.dumps({"run": str(args.run), "step": step, "sentences": len(source), **result}))


if __name__ == "__main__":
    main()
