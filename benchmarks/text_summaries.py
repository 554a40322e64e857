"""Summaries of 619 abstracts: `LANGEVIN_DATA=FOLDER python benchmarks/text_summaries.py RUN`.

ROUGE against the best of 1 to 4 references, of the sentences that `langevin summarise` chooses, of the first sentences, and
with `--write` of what the network writes for the first 100; with the 95 % interval of the difference to the first sentence
(normal, over texts) and the ratio of lengths. A few chosen sentences are printed, every 62nd. The last line is JSON.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from langevin.modalities.modality import RequestContext
from langevin.modalities.text.baselines.summary import lead
from langevin.modalities.text.metrics.rouge import rouge
from langevin.modalities.text.options import Summarise
from langevin.run.directory import load_model, open_run
from text_floors import rows

WRITTEN = 100


def measured(path: Path, *, quick: bool = False, write: bool = False) -> dict[str, Any]:
    """All figures of a run."""
    run = open_run(path)
    model, step = load_model(run)
    dev = rows("summaries/dev.jsonl")[: 8 if quick else None]
    texts, references = [row["text"] for row in dev], [row["summaries"] for row in dev]
    first = [lead(text) for text in texts]

    def summarised(some: Sequence[str], by: Literal["choosing", "writing"]) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "texts.jsonl"
            file.write_text("".join(json.dumps({"text": text}) + "\n" for text in some), encoding="utf-8")
            context = RequestContext(model=model, data=run.open_data)
            return [
                one.strip() for one in model.run(model.modality.plan(Summarise(file=str(file), by=by), context)).values
            ]

    made = {"first": first, "chosen": summarised(texts, "choosing")}
    if write:
        made["written"] = summarised(texts[:WRITTEN], "writing")
    result: dict[str, Any] = {"run": str(path), "step": step, "texts": len(texts)}
    for name, outputs in made.items():
        each = scores(outputs, references)
        gained = each - scores(first[: len(outputs)], references)
        error = 1.96 * gained.std(0) / max(1, len(outputs)) ** 0.5
        whole = rouge(outputs, references[: len(outputs)])
        result[name] = {
            "rouge": each.mean(0).tolist(), "gain": gained.mean(0).tolist(), "interval": error.tolist(),
            "length_ratio": whole.length_ratio,
        }  # fmt: skip
        print(f"{name:<10}" + "  ".join(f"{k} {np.round(v, 3)}" for k, v in result[name].items()), flush=True)
    for i in range(0, len(texts), 62):
        print(f"    {made['chosen'][i]}\n      (a reference: {references[i][0]})")
    return result | {"summary_rouge1": result["chosen"]["rouge"][0], "lead_rouge1": result["first"]["rouge"][0]}


def scores(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """(n, 3) ROUGE-1, -2 and -L of each text."""
    each = [rouge([one], [many]) for one, many in zip(outputs, references, strict=False)]
    return np.array([(score.rouge1, score.rouge2, score.rougeL) for score in each])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--write", action="store_true", help=f"also write summaries of the first {WRITTEN} texts")
    parser.add_argument("--quick", action="store_true", help="8 texts, to see that it runs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(measured(args.run, quick=args.quick, write=args.write)))


if __name__ == "__main__":
    main()
