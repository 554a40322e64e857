"""Repair of learners' sentences and of misspellings: `LANGEVIN_DATA=FOLDER python benchmarks/text_repair.py RUN`.

GLEU and F0.5 against four corrections of each of JFLEG's 754 development sentences, at several edit thresholds, with those
of the source and of a corrector by edit distance. The sentences are tokenised: they are joined to prose for the run and
tokenised again, and the line "round trip" is the cost of that alone. The error rates of a run on open texts were chosen on
the even sentences, so the odd ones are shown apart, with a 95 % interval of the difference to edit distance (500 resamples
of sentences). Such a run, at its threshold of 0.5 % false alarms, also repairs recorded misspellings, alone and in lines of
held-out books; the misspelt words are not among those that its channel learns from. The last line is JSON.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from langevin.modalities.modality import RequestContext
from langevin.modalities.text.corruption.confusions import Confusions, read_misspellings
from langevin.modalities.text.corruption.corrupt import Corruption
from langevin.modalities.text.metrics.edits import edit_score
from langevin.modalities.text.metrics.gleu import gleu, resampled
from langevin.modalities.text.metrics.spelling import spelling_score
from langevin.modalities.text.options import Correct
from langevin.modalities.text.speller import Speller
from langevin.modalities.text.words import plain_words
from langevin.run.directory import load_model, open_run
from langevin.run.generate import RunModel
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


Repairer = Callable[[Sequence[str], float | None], list[str]]  # of lines, at a threshold


def repairer(model: RunModel, run: Path, lists: Sequence[str]) -> Repairer:
    """Corrects lines as `langevin correct` does."""
    text = model.modality

    def of(lines: Sequence[str], threshold: float | None) -> list[str]:
        context = RequestContext(model=model, data=text.open, say=print, folder=run / "cache")
        with tempfile.TemporaryDirectory() as temporary:
            file = Path(temporary) / "lines.txt"
            file.write_text("\n\n".join(lines), encoding="utf-8")
            options = Correct(file=str(file), edit_threshold=threshold, misspellings=tuple(lists))
            repaired = "".join(model.run(text.plan(options, context)).values).split("\n\n")
        assert len(repaired) == len(lines)
        return repaired

    return of


def learners(of: Repairer, speller: Speller, *, quick: bool) -> dict[str, Any]:
    """Figures on JFLEG."""
    parts = ("src", "ref0", "ref1", "ref2", "ref3")
    lines = [(folder() / "jfleg" / f"dev.{part}").read_text(encoding="utf-8").splitlines() for part in parts]
    lines = [part[: 16 if quick else None] for part in lines]
    source = [line.split() for line in lines[0]]
    wanted = [[part[i].split() for part in lines[1:]] for i in range(len(source))]
    plain, odd = [prose(line) for line in lines[0]], range(1, len(source), 2)
    result: dict[str, Any] = {}
    floor: list[list[str]] = []

    def add(name: str, outputs: list[list[str]]) -> None:
        score = edit_score(source, outputs, wanted)
        result[name] = {
            "gleu": 100 * gleu(source, outputs, wanted),
            "gleu_odd": 100 * gleu(*([part[i] for i in odd] for part in (source, outputs, wanted))),
            "f0.5": score.f05, "clean_changed": score.clean_changed,
        }  # fmt: skip
        if floor:
            gains = 100 * (resampled(source, outputs, wanted, items=odd) - resampled(source, floor, wanted, items=odd))
            result[name]["gain_odd"] = [float(np.quantile(gains, q)) for q in (0.025, 0.975)]
        print(f"{name:<24}" + "  ".join(f"{k} {shown(v)}" for k, v in result[name].items()), flush=True)

    add("copy", source)
    add("round trip", [tokens(text) for text in plain])
    nearest = [tokens(speller.correct(text)) for text in plain]
    add("edit distance", nearest)
    floor = nearest
    for threshold in (None, *(THRESHOLDS[2:3] if quick else THRESHOLDS)):
        repaired = of(plain, threshold)
        name = "run" if threshold is None else f"run, threshold {threshold:g}"
        add(name, [tokens(one) for one in repaired])
        if threshold is None:
            for i in range(0, len(plain), max(1, len(plain) // 12)):
                print(f"    {plain[i]}\n -> {repaired[i] if repaired[i] != plain[i] else '(left)'}")
    return result


def misspelt(of: Repairer, speller: Speller, held: Confusions, *, quick: bool) -> dict[str, Any]:
    """Shares of misspelt words that are restored, and of clean words that are changed."""
    count = 20 if quick else 500
    pairs = [(r, w) for r, w, _ in held.pairs() if speller.counts.get(r.lower()) and r.islower() and " " not in r + w]
    pairs = pairs[:: max(1, len(pairs) // count)][:count]
    alone = of([wrong for _, wrong in pairs], None)
    lines = [line for line in books("valid").splitlines() if 40 <= len(line) <= 400]
    clean = lines[:: max(1, len(lines) // count)][:count]
    noise = Corruption(confusions=held, spelling=0.1, seen=1.0, fingers=0.0)
    corrupted = [noise.corrupt(line, seed) for seed, line in enumerate(clean)]
    result: dict[str, Any] = {
        "words alone": len(pairs), "words alone restored": float(np.mean([a == r for a, (r, _) in zip(alone, pairs)])),
        "words alone restored by edit distance": float(np.mean([speller.nearest(w) == r for r, w in pairs])),
    }  # fmt: skip
    for name, outputs in (("run", of(corrupted, None)), ("edit distance", [speller.correct(t) for t in corrupted])):
        score = spelling_score(*([list(plain_words(t)) for t in texts] for texts in (corrupted, outputs, clean)))
        result[f"in lines, {name}"] = {
            "restored": score.accuracy, "alarms": score.alarm_rate, "precision": score.precision, "f1": score.f1,
        }  # fmt: skip
    untouched = of(clean, None)
    score = spelling_score(*([list(plain_words(t)) for t in texts] for texts in (clean, untouched, clean)))
    result["alarms in clean lines"] = score.alarm_rate
    for name, value in result.items():
        print(f"{name:<40}{shown(value)}", flush=True)
    return result


def shown(value: Any) -> str:
    """A figure, or several."""
    if isinstance(value, dict):
        return "  ".join(f"{k} {shown(v)}" for k, v in value.items())
    if isinstance(value, list):
        return " to ".join(map(shown, value))
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def measured(path: Path, *, quick: bool = False) -> dict[str, Any]:
    """All figures of a run."""
    run = open_run(path)
    model, step = load_model(run)
    confusions = read_misspellings(
        (folder() / "spelling" / "spell-errors.txt").read_text(encoding="utf-8").splitlines()
    )
    kept, held = confusions.split(0.2)
    speller = Speller.from_text(books("train"), least=2)
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "misspellings.txt"
        file.write_text("".join(f"{r.replace(' ', '_')}: {w.replace(' ', '_')}*{n}\n" for r, w, n in kept.pairs()))
        of = repairer(model, path, [str(file)])
        result = {"run": str(path), "step": step, "jfleg": learners(of, speller, quick=quick)}
        result["spelling"] = misspelt(of, speller, held, quick=quick)
    jfleg = result["jfleg"]
    return result | {"repair_gleu": jfleg["run"]["gleu"], "lexicon_gleu": jfleg["edit distance"]["gleu"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--quick", action="store_true", help="16 sentences, to see that it runs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(measured(args.run, quick=args.quick)))


if __name__ == "__main__":
    main()
