"""Daily temperatures as a modality that no file of the package knows: a file per year, a number per day."""

import hashlib
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch

from langevin.diffusion.batch import Batch
from langevin.evaluation.report import MetricRow, Metrics, Source
from langevin.evaluation.statistics import mean_interval
from langevin.modalities import modality
from langevin.modalities.plans import one_draw
from langevin.modalities.remarks import Remarks

RECOGNISED = "temperatures: a folder of .celsius files, a number per day"
DAYS, SPREAD = 32, 10.0
Evaluate = make_dataclass("Evaluate", ())


@dataclass(frozen=True, kw_only=True)
class Sample:
    warmer: float = 0.0
    """Degrees to add."""


# a part of the data, and, with `encode`, its training examples
@dataclass(frozen=True, kw_only=True, eq=False)
class Years:
    values: torch.Tensor
    encode: Any = None
    shape: tuple[int, ...] = (1, DAYS)
    remarks: tuple[str, ...] = ()
    notes: Remarks = Remarks()
    dataset = property(lambda self: self)

    def __len__(self):
        return len(self.values)

    def __call__(self, items, noise=None):
        return Batch(x=self.encode(self.values[items]))

    @property
    def fingerprint(self):
        return hashlib.sha256(self.values.numpy().tobytes()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Temperatures:
    kind: Literal["temperatures"] = "temperatures"
    path: str
    mean: float = 0.0
    forms: tuple[str, ...] = (".txt",)

    @classmethod
    def detect(cls, path):
        if found := len(list(path.glob("*.celsius"))):
            return modality.Detected(modality=cls(path=str(path)), score=1.0, reason=f"{found} years")

    def inspect(self, *, progress=None):
        found = f"{sum(map(len, self.open()))} years"
        return SimpleNamespace(lines=lambda: [found], as_dict=lambda: {"found": found})

    def open(self, *, progress=None):
        years = np.stack([np.loadtxt(file) for file in sorted(Path(self.path).glob("*.celsius"))])
        every = torch.from_numpy(years).float()
        return Years(values=every[8:]), Years(values=every[:8])

    def fitted(self, train, *, base=None):
        return replace(self, mean=round(float(train.values.mean()), 3))

    def needs(self, train):
        std = float(train.values.std()) / SPREAD
        return modality.Needs(processes=("gaussian",), channels=1, space=(DAYS,), std=std)

    def suggest(self, train, budget):
        network = {"kind": "dit", "dimensions": 1, "patch": 4, "width": 32, "depth": 1, "head_dim": 16}
        return modality.Suggestion(recipe={"name": "temperatures/years", "network": network}, reasons=("it is small",))

    def batches(self, dataset, *, device):
        return replace(dataset, encode=lambda celsius: (celsius[:, None].to(device) - self.mean) / SPREAD)

    def plan(self, options, context):
        seeds = modality.seeds_of(context.seed, context.count or 4)
        warmer = replace(self, mean=self.mean + options.warmer)
        return one_draw(warmer, shape=(1, DAYS), seeds=seeds, sampling=context.model.sampling)

    def preview_plan(self, context):
        return self.plan(Sample(), context)

    def plan_like(self, dataset, context):
        return self.plan(Sample(), context)

    def decode(self, x):
        return x[:, 0] * SPREAD + self.mean

    def text(self, samples):
        return "".join(" ".join(f"{day:.2f}" for day in year) + "\n" for year in samples.values.tolist())

    def preview(self, samples):
        return modality.File(suffix=".txt", content=self.text(samples).encode())

    def save(self, samples, out):
        out.write_text(self.text(samples))

    def evaluate(self, options, m):
        drawn = m.model.run(self.plan(Sample(), modality.RequestContext(model=m.model, data=self.open, count=m.count)))
        mean, real = mean_interval([float(drawn.values.mean())]), float(m.val.values.mean())
        row = MetricRow(metric="mean", generated=mean, floor=real, better="near real", meaning="degrees Celsius")
        table = Metrics(heading="Measured", rows=[row], source=Source(samples={}, seeds=[0], command=m.command))
        return modality.Evaluation(rows=[row], samples=drawn, sections=[table], figures={}, title="years")

    def scorer(self, m):
        real = m.val.values.mean()
        return modality.Scorer(name="|mean|", floor=0.0, score=lambda drawn: float((drawn.values.mean() - real).abs()))
