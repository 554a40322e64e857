"""The modality of points."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch

from langevin.modalities.modality import (
    Budget,
    Detected,
    Evaluation,
    File,
    Measuring,
    Needs,
    Plan,
    Progress,
    RequestContext,
    Samples,
    Scorer,
    Suggestion,
    seeds_of,
)
from langevin.modalities.paths import regular
from langevin.modalities.plans import one_draw
from langevin.modalities.points import inspect, preview
from langevin.modalities.points.batches import PointBatches
from langevin.modalities.points.codec import Coordinates
from langevin.modalities.points.data import SUFFIXES, DistributionName, PointSet, drawn_parts, load_parts
from langevin.modalities.remarks import Remarks, off_centre

PREVIEWED = 500


@dataclass(frozen=True, kw_only=True)
class Points:
    """Points drawn from a known distribution or read from a file, float32 (n, d) when decoded.

    Args:
        path: a .npy, .npz (its only array, or `points`) or .csv file with one point per row.
        distribution: without a path, the distribution from which `count` points are drawn; point i is a function of
            (seed, i).
        val_fraction: fraction of the points that is held out for validation.
        columns: the dimension d; fitted to the data.
    """

    kind: Literal["points"] = "points"
    path: str | None = None
    distribution: DistributionName | None = None
    count: int = 20_000
    seed: int = 0
    val_fraction: float = 0.1
    codec: Coordinates = Coordinates()
    columns: int | None = None

    def __post_init__(self) -> None:
        if self.path is None and self.distribution is None:
            raise ValueError("points need a file (data.path) or a known distribution (data.distribution)")
        if not 16 <= self.count <= 10_000_000:
            raise ValueError(f"data.count must be 16 to 10 million points, got {self.count}")
        if not 0 < self.val_fraction < 1:
            raise ValueError(f"data.val_fraction must be between 0 and 1, got {self.val_fraction}")

    @property
    def forms(self) -> tuple[str, ...]:
        """File suffixes that samples can be written with, the default first."""
        return (".png", ".npz")

    @classmethod
    def detect(cls, path: Path) -> Detected | None:
        if not regular(path) or path.suffix not in SUFFIXES:
            return None
        if path.suffix == ".csv" and not inspect.looks_like_numbers(path):
            return None
        if path.suffix == ".npz" and inspect.holds_sequences(path):
            return None
        return Detected(modality=cls(path=str(path)), score=1.0, reason=f"a {path.suffix} file of numbers")

    def inspect(self, *, progress: Progress | None = None) -> inspect.Inspection:
        return inspect.inspect(self.open(progress=progress), self.path or str(self.distribution))

    def open(self, *, progress: Progress | None = None) -> tuple[PointSet, PointSet]:
        if self.path is None:
            assert self.distribution is not None, "checked in __post_init__"
            return drawn_parts(self.distribution, count=self.count, seed=self.seed, val_fraction=self.val_fraction)
        train, val = load_parts(Path(self.path), val_fraction=self.val_fraction)
        notes = Remarks(remarks=off_centre(self.codec.encode(train.values), self.codec.offset))
        return replace(train, notes=notes), replace(val, notes=notes)

    def fitted(self, train: PointSet, *, base: Self | None = None) -> Self:
        return replace(self, columns=train.shape[0])

    def needs(self, train: PointSet) -> Needs:
        std = float(self.codec.encode(train.values).std())
        if not math.isfinite(std):
            raise ValueError(
                "the points spread too far for float32: divide them by a constant, or set data.codec.scale"
            )
        if not std > 1e-9:
            raise ValueError(f"all {len(train)} points are the same: nothing to learn")
        return Needs(processes=("gaussian", "sde"), channels=train.shape[0], std=std)

    def suggest(self, train: PointSet, budget: Budget) -> Suggestion:
        width = 96 if train.shape[0] <= 4 else 192
        recipe = {
            "name": f"points/{Path(self.path or str(self.distribution)).stem}",
            "description": f"chosen for {len(train)} points of {train.shape[0]} coordinates",
            "network": {"kind": "mlp", "width": width, "depth": 3},
            "training": {"batch": 256, "optimizer": {"kind": "adamw", "lr": 0.003}},
        }
        return Suggestion(
            recipe=recipe,
            reasons=(
                f"points: {len(train):,} of {train.shape[0]} coordinates",
                f"network: MLP of width {width}, depth 3, which is enough for few coordinates",
            ),
        )

    def batches(self, dataset: PointSet, *, device: torch.device) -> PointBatches:
        return PointBatches(dataset=dataset, codec=self.codec, device=device)

    def plan(self, options: Any, context: RequestContext) -> Plan:
        return self._draw(context, 16 if context.count is None else context.count)

    def preview_plan(self, context: RequestContext) -> Plan:
        return self._draw(context, PREVIEWED)

    def plan_like(self, dataset: PointSet, context: RequestContext) -> Plan:
        return self._draw(context, context.count or len(dataset))

    def _draw(self, context: RequestContext, count: int) -> Plan:
        assert self.columns is not None, "the modality of a run is fitted"
        return one_draw(
            self,
            shape=(self.columns,),
            seeds=seeds_of(context.seed, count),
            sampling=context.model.sampling,
        )

    def decode(self, x: torch.Tensor) -> torch.Tensor:
        return self.codec.decode(x)

    def preview(self, samples: Samples) -> File:
        return preview.preview(self, samples)

    def text(self, samples: Samples) -> str:
        raise ValueError("points have no text form: give a file to write them to")

    def save(self, samples: Samples, out: Path) -> None:
        preview.save(samples, out)

    def evaluate(self, options: Any, measuring: Measuring) -> Evaluation:
        from langevin.modalities.points.evaluate import evaluate  # with all metrics, which only this needs

        return evaluate(self, measuring)

    def scorer(self, measuring: Measuring) -> Scorer:
        from langevin.modalities.points.metrics import distance

        train, val = measuring.train.values, measuring.val.values
        count = min(measuring.count or len(val), len(val), len(train))
        floor = distance([train[:count]], train, val).floor
        return Scorer(name="W1", floor=floor, score=lambda samples: distance([samples.values], train, val).generated[0])
