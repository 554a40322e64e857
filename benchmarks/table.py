"""Tables beside other generators, in one run: two-sample test, usefulness, columns, pairs; and the time to an equal test.

    python benchmarks/table.py --quick                                it runs; its figures mean nothing
    python benchmarks/table.py --source customers --minutes 5         a table of all types, five minutes for each side
    python benchmarks/table.py --file adult.csv --minutes 5 --forest  a table of your own, beside ForestDiffusion

The sides are ours, a re-statement of TabDDPM (`table_peer.py`), a Gaussian copula, independent columns, and, if asked for
and installed (pip install ForestDiffusion), gradient-boosted trees ("Generating and Imputing Tabular Data via Diffusion and
Flow-based Gradient-Boosted Trees", 2023, arXiv 2309.09968). Ours and TabDDPM train in turns, a slice of time each, with
MLPs of one size on batches of one size. After every slice both are sampled, and trees tell the samples from the data.
The last line is JSON; `table_ratio`: TabDDPM's seconds until its test is at its hardest, over ours until the same. An
AUC of one half is the hardest; one below it is no harder.
"""

import argparse
import importlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import show
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.modality import RequestContext
from langevin.modalities.table import baselines, metrics
from langevin.modalities.table.codec import NUMBERS, TOKENS
from langevin.modalities.table.data import TableSet
from langevin.modalities.table.evaluate import as_set, target_of
from langevin.modalities.table.modality import Table
from langevin.modalities.table.sources import Bundled, Mixed, Numbers
from langevin.recipe.build import build, training_batches
from langevin.recipe.complete import complete
from langevin.recipe.read import check
from langevin.run.generate import RunModel
from langevin.training.distributed import World
from langevin.training.loop import TrainingState, fit
from langevin.training.plan import StepPlan
from table_peer import TabDDPM

SOURCES: dict[str, Any] = {
    "customers": Mixed(count=5000), "holes": Mixed(count=5000, holes=True), "numbers": Numbers(count=5000),
    "breast_cancer": Bundled(), "wine": Bundled(name="wine"), "diabetes": Bundled(name="diabetes"),
}  # fmt: skip
WIDTH, DEPTH, BATCH, LR = 192, 3, 256, 0.002


class Ours:
    """A run without a directory: trained by slices of time, sampled with the EMA of the weights."""

    def __init__(self, modality: Table, train: TableSet, *, steps: int, seed: int) -> None:
        tree = {
            "data": {"kind": "table", "source": {"kind": "numbers"}}, "process": {"kind": "product"},
            "network": {"kind": "column_mlp", "width": WIDTH, "depth": DEPTH},
            "method": {"times": {"kind": "log_normal", "mean": -0.5, "std": 1.2}},
            "training": {"steps": steps, "batch": BATCH, "seed": seed, "ema_lengths": [0.05], "precision": "float32",
                         "optimizer": {"kind": "adamw", "lr": LR}},
            "sampling": {"steps": 50, "sampler": {"kind": "joint_dpm2m"}, "ema": 0.05},
        }  # fmt: skip
        recipe = complete(replace(check(tree), data=modality), train)
        self.built, self.train, self.modality = build(recipe), train, recipe.data
        self.state = TrainingState.new(self.built.model.method, recipe.training)
        self.state.plan = StepPlan.of(steps)
        batches = training_batches(recipe, self.built.batches(train))
        self.steps = fit(self.state, batches, self.built.model.method, recipe.training, world=World())
        self.spent = 0.0

    def advance(self, seconds: float) -> None:
        self.built.model.network.train()
        self.spent += spend(seconds, lambda: next(self.steps, None) is not None)

    def sample(self, number: int, seed: int) -> TableSet:
        parameters = dict(self.state.players["denoiser"].module.named_parameters())
        kept = {name: p.detach().clone() for name, p in parameters.items()}
        with torch.no_grad():
            for name, value in self.state.ema["denoiser"].tensors(0.05).items():
                parameters[name].copy_(value)
            model = RunModel(built=self.built, sampling=self.built.recipe.sampling)
            context = RequestContext(
                model=model, data=lambda: (self.train, self.train), count=number, seed=seed * 10**6
            )
            found = as_set(self.modality, model.run(self.modality.plan_like(self.train, context), batch=1000))
            for name, value in kept.items():
                parameters[name].copy_(value)
        return found


class Peer:
    """TabDDPM on the same encoded data: numbers as normal scores, categories, and whether cells are there."""

    def __init__(self, modality: Table, train: TableSet, *, steps: int, seed: int) -> None:
        self.modality, self.train, self.codec = modality, train, modality.codec
        self.model = TabDDPM(
            len(self.codec.numbers), self.codec.choices, width=2 * WIDTH, depth=DEPTH, lr=0.001, total=steps, seed=seed
        )
        self.generator, self.spent = torch.Generator().manual_seed(seed), 0.0

    def batch(self) -> tuple[Tensor, Tensor]:
        items = torch.randint(0, len(self.train), (BATCH,), generator=self.generator)
        seeds = torch.randint(0, 2**40, (BATCH,), generator=self.generator)
        x = self.codec.encode(self.train, items, SampleNoise(seeds=seeds, steps=torch.zeros_like(seeds)))
        empty = torch.zeros(BATCH, 0)
        return x.get(NUMBERS, empty), x.get(TOKENS, empty.long())

    def advance(self, seconds: float) -> None:
        def step() -> bool:
            if self.model.step >= self.model.total:
                return False
            self.model.train(*self.batch())
            return True

        self.spent += spend(seconds, step)

    def sample(self, number: int, seed: int) -> TableSet:
        x, codes = self.model.sample(number, seed)
        parts = {NUMBERS: x, TOKENS: codes}
        values = self.codec.decode({name: parts[name] for name in self.codec.shape})
        return TableSet(columns=self.modality.columns, values=values)


def spend(seconds: float, step: Callable[[], bool]) -> float:
    """Make steps for so many seconds of CPU time of this process; returns those that were spent."""
    begin = time.process_time()
    while time.process_time() - begin < seconds and step():
        pass
    return time.process_time() - begin


def forest(
    modality: Table, train: TableSet, number: int, *, levels: int, copies: int, seed: int
) -> tuple[TableSet, float]:
    """Samples of gradient-boosted trees (flow), and the seconds of their training."""
    library = importlib.import_module("ForestDiffusion")
    columns = metrics.modelled(train)
    parts = [np.where(train.there(i), train.values[i].astype(float), np.nan) for i in columns]
    categories = [k for k, i in enumerate(columns) if train.columns[i].kind == "category"]
    begin = time.process_time()
    model = library.ForestDiffusionModel(
        np.stack(parts, 1), n_t=levels, duplicate_K=copies, cat_indexes=categories, n_jobs=1, seed=seed,
        diffusion_type="flow",
    )  # fmt: skip
    spent = time.process_time() - begin
    drawn = np.asarray(model.generate(batch_size=number))
    values = [np.zeros(number) for _ in train.columns]
    for k, i in enumerate(columns):
        if k in categories:
            codes = np.where(np.isnan(drawn[:, k]), -1, drawn[:, k]).round()
            values[i] = codes.clip(-1, len(train.columns[i].categories) - 1).astype(np.int64)
        else:
            step = train.columns[i].step
            values[i] = drawn[:, k] if step is None else np.round(drawn[:, k] / step) * step
    return TableSet(columns=modality.columns, values=tuple(values)), spent


def scores(train: TableSet, val: TableSet, fake: TableSet, target: int | None) -> dict[str, float]:
    """All metrics of a set of samples; of the held-out data those alone that do not compare with held-out data."""
    found = {
        "two-sample AUC": metrics.two_sample(train, fake), "marginals": metrics.marginals(train, fake),
        "pairs": metrics.pairs(train, fake) or 0.0,
    }  # fmt: skip
    if fake is val:
        return found
    found["nearer to training"] = metrics.nearer_to_training(train, val, fake)
    return found | ({} if target is None else {"train on it": metrics.utility(fake, val, target)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", choices=SOURCES, default="customers")
    parser.add_argument("--file", help="a table of your own, in place of --source")
    parser.add_argument("--target", help="the column to predict")
    parser.add_argument("--minutes", type=float, default=5.0, help="of CPU time for each trained side")
    parser.add_argument("--slices", type=int, default=8, help="how often both are sampled on the way")
    parser.add_argument("--count", type=int, default=3000, help="samples of a test")
    parser.add_argument(
        "--steps", type=int, default=20_000, help="of either side at most, which its learning rate is for"
    )
    parser.add_argument("--forest", action="store_true", help="also ForestDiffusion")
    parser.add_argument("--levels", type=int, default=20, help="noise levels of ForestDiffusion")
    parser.add_argument("--copies", type=int, default=20, help="noisy copies of each sample for ForestDiffusion")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    given = parser.parse_args()
    if given.quick:
        given.minutes, given.slices, given.count, given.levels, given.copies = 0.15, 2, 300, 3, 3
    torch.set_num_threads(1)
    modality = Table(path=given.file) if given.file else Table(source=SOURCES[given.source])
    if given.quick and not given.file and isinstance(modality.source, Mixed | Numbers):
        modality = replace(modality, source=replace(modality.source, count=600))
    train, val = modality.open()
    modality = modality.fitted(train)
    target = target_of(train, given.target)
    ours, peer = (kind(modality, train, steps=given.steps, seed=given.seed) for kind in (Ours, Peer))
    curves: dict[str, list[tuple[float, float]]] = {"ours": [], "TabDDPM": []}
    number = min(given.count, len(train))
    for part in range(given.slices):
        for name, side in (("ours", ours), ("TabDDPM", peer)):
            side.advance(60 * given.minutes / given.slices)
            auc = metrics.two_sample(train, side.sample(number, given.seed + part))
            curves[name].append((side.spent, auc))
            print(f"{name:8} {side.spent:6.1f} s  two-sample AUC {auc:.3f}", flush=True)
    sides = {"ours": ours.sample(number, 99), "TabDDPM": peer.sample(number, 99)}
    spent = {"ours": ours.spent, "TabDDPM": peer.spent}
    if given.forest:
        sides["ForestDiffusion"], spent["ForestDiffusion"] = forest(
            modality, train, number, levels=given.levels, copies=given.copies, seed=given.seed
        )
    sides["Gaussian copula"] = baselines.gaussian_copula(modality.columns, train, number, seed=1)
    sides["independent columns"] = baselines.independent(train, number, seed=1)
    sides["held-out data"] = val
    found = {name: scores(train, val, fake, target) for name, fake in sides.items()}
    if target is not None:
        found["training data"] = {"train on it": metrics.utility(train, val, target)}
    names = list(found["ours"])
    rows = [
        [
            side,
            f"{spent[side]:.0f}" if side in spent else "",
            *(f"{values[n]:.3f}" if n in values else "" for n in names),
        ]
        for side, values in found.items()
    ]
    show("tables", ["", "seconds", *names], rows)
    best = max(0.5, min(auc for _, auc in curves["TabDDPM"]))
    theirs = next(seconds for seconds, auc in curves["TabDDPM"] if auc <= best)
    mine = next((seconds for seconds, auc in curves["ours"] if auc <= best), None)
    line = {
        "table": given.file or given.source, "table_ratio": None if mine is None else theirs / mine, "equal_auc": best,
        "scores": found, "seconds": spent, "curves": curves, "seed": given.seed,
    }  # fmt: skip
    print(json.dumps(line))


if __name__ == "__main__":
    main()
