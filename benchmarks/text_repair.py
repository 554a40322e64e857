"""A repairing run on sentences of learners: `LANGEVIN_DATA=FOLDER python benchmarks/text_repair.py RUN`.

GLEU and F0.5 against four corrections of each of JFLEG's 754 development sentences, beside copying the source and a
corrector by edit distance, at several reluctances. The sentences are tokenised: they are written as prose for the run and
taken apart again, and what that alone costs is the line "round trip". A last line holds everything as JSON.
"""

import argparse
import json
import re
from pathlib import Path

import torch

from langevin.modalities.text.metrics.edits import edit_score
from langevin.modalities.text.metrics.gleu import gleu
from langevin.modalities.text.speller import Speller
from langevin.run.directory import open_run
from langevin.run.mend import mend
from text_floors import books, folder

RELUCTANCE = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)
BEFORE = re.compile(r" ([.,!?;:%)\]]|n't\b|'(?:s|m|re|ve|ll|d)\b|'$)")
CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|m|re|ve|ll|d))\b")


def prose(line: str) -> str:
    """Tokens as they would be printed."""
    return re.sub(r"([(\[]) ", r"\1", BEFORE.sub(r"\1", line.strip()))


def tokens(text: str) -> list[str]:
    """Prose as tokens again."""
    text = CLITIC.sub(r" \1", text)
    text = re.sub(r"([,!?;:%()\[\]])", r" \1 ", text)
    text = re.sub(r"(?<=\w)([.']+)(?=\s|$)", r" \1", text)
    return text.split()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--quick", action="store_true", help="few sentences, to see that it runs")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    parts = ("src", "ref0", "ref1", "ref2", "ref3")
    lines = [(folder() / "jfleg" / f"dev.{part}").read_text(encoding="utf-8").splitlines() for part in parts]
    lines = [part[: 16 if asked.quick else None] for part in lines]
    source = [line.split() for line in lines[0]]
    wanted = [[part[i].split() for part in lines[1:]] for i in range(len(source))]
    plain = [prose(line) for line in lines[0]]
    found: dict[str, dict[str, float | None]] = {}

    def add(name: str, made: list[list[str]]) -> None:
        score = edit_score(source, made, wanted)
        found[name] = {
            "gleu": 100 * gleu(source, made, wanted),
            "f0.5": score.f05,
            "clean_changed": score.clean_changed,
        }
        figures = (f"{k} {'–' if v is None else format(v, '.3f')}" for k, v in found[name].items())
        print(f"{name:<24}" + "  ".join(figures), flush=True)

    add("copy", source)
    add("round trip", [tokens(text) for text in plain])
    speller = Speller.from_text(books("train"), least=2)
    add("edit distance", [tokens(speller.correct(text)) for text in plain])
    made = open_run(asked.run)
    built, step, _ = made.load()
    for reluctance in RELUCTANCE[2:3] if asked.quick else RELUCTANCE:
        mended = mend(built, made.recipe.sampling, plain, reluctance=reluctance)
        add(f"run, reluctance {reluctance:g}", [tokens(text) for text in mended])
        if reluctance == 2:
            for before, after in list(zip(plain, mended, strict=True))[:12]:
                print(f"    {before}\n -> {after}" if before != after else f"    {before}   (left)")
    print(json.dumps({"run": str(asked.run), "step": step, "sentences": len(source), **found}))


if __name__ == "__main__":
    main()
