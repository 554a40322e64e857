"""Several modalities side by side: every part has a process and a noise level of its own, and one network reads all."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from langevin.modalities.captions import CaptionVocabulary
from langevin.modalities.joint import evaluate, plans, preview
from langevin.modalities.joint.batches import CAPTION, JointBatches, whole
from langevin.modalities.joint.data import Matched, matched
from langevin.modalities.joint.inspect import Inspection, inspect
from langevin.modalities.joint.options import Evaluate, Sample
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
)
from langevin.modalities.parts import AnyPart

MEASURED = 256  # examples of a part from which its spread is computed
SHOWN = 4  # samples of a preview


@dataclass(frozen=True, kw_only=True)
class Joint:
    """Examples of several modalities that belong together; a sample is a mapping by part.

    Args:
        parts: the modality of each part, by name. The first one's examples count; the others are matched to them.
        match: what each part says that the others say too, if there are several: a column of its labels, `text` or `class`.
        caption: the part whose captions are a further part, of tokens, so that captions are drawn too; "" for none.
        captions: the tokenizer of captions; fitted to the data.
    """

    kind: Literal["joint"] = "joint"
    parts: dict[str, AnyPart]
    match: dict[str, str] = field(default_factory=dict)
    caption: str = ""
    captions: CaptionVocabulary | None = None

    def __post_init__(self) -> None:
        if not self.parts or len(self.parts) > 8 or (len(self.parts) == 1 and not self.caption):
            raise ValueError("data.parts are 2 to 8 modalities, or one with its captions (data.caption)")
        for name in self.parts:
            if not name.isidentifier() or name == CAPTION:
                raise ValueError(f"data.parts: '{name}' is no name of a part, which is a word other than '{CAPTION}'")
        if len(self.parts) > 1 and set(self.match) != set(self.parts):
            raise ValueError(
                f"data.match has for each part ({', '.join(self.parts)}) the column that says what others say too, got "
                f"{', '.join(self.match) or 'none'}"
            )
        if self.caption and self.caption not in self.parts:
            raise ValueError(f"data.caption is one of the parts {', '.join(self.parts)}, got '{self.caption}'")

    @property
    def path(self) -> str | None:
        """None: each part has a path of its own."""
        return None

    @property
    def forms(self) -> tuple[str, ...]:
        """Samples are written into a folder, a file for each part of each sample; or shown in one picture."""
        return ("", ".webp")

    @property
    def capacity(self) -> dict[str, int]:
        """The largest number of samples that a form holds."""
        return {".webp": preview.MOST_SAMPLES}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all parts, the caption last."""
        return (*self.parts, *([CAPTION] if self.caption else []))

    @classmethod
    def detect(cls, path: Path) -> Detected | None:
        return None

    def inspect(self, *, progress: Progress | None = None) -> Inspection:
        return inspect(self.parts, progress=progress)

    def open(self, *, progress: Progress | None = None) -> tuple[Matched, Matched]:
        opened = {name: part.open(progress=progress) for name, part in self.parts.items()}
        train, val = (
            matched({name: both[i] for name, both in opened.items()}, self.match, which=which)
            for i, which in enumerate(("training", "validation"))
        )
        if self.caption and not getattr(train.parts[self.caption], "captions", None):
            raise ValueError(f"data.caption={self.caption}: this part of the data has no captions")
        return train, val

    def fitted(self, train: Matched, *, base: Self | None = None) -> Self:
        parts = {
            name: part.fitted(train.parts[name], base=None if base is None else base.parts.get(name))  # type: ignore[arg-type]
            for name, part in self.parts.items()
        }
        captions = self.captions or (None if base is None else base.captions)
        if captions is None and self.caption:
            captions = CaptionVocabulary.fit(train.parts[self.caption].captions)
        return replace(self, parts=parts, captions=captions)

    def needs(self, train: Matched) -> Needs:
        found = dict[str, Needs]()
        for name, part in self.parts.items():
            needs = part.needs(train.parts[name])
            if needs.parts:
                raise ValueError(f"data.parts.{name}: a {part.kind} has parts itself, and cannot be one of several")
            if getattr(part, "enlarge", None) is not None:
                raise ValueError(
                    f"data.parts.{name}.enlarge: an enlarger is a run of its own, and no part of several: leave it out"
                )
            if needs.spaces:
                raise ValueError(f"data.parts.{name}.buckets: a part of several has one shape: leave it out")
            seconds = getattr(part, "duration", None)
            plain = Needs(
                processes=needs.processes, channels=needs.channels, space=needs.space, std=needs.std, tokens=needs.tokens,
                seconds=seconds, frames=needs.frames,
            )  # fmt: skip
            found[name] = plain if needs.std is None else replace(plain, std=self._std(name, train))
        if self.captions is not None:
            found[CAPTION] = Needs(processes=("masked",), tokens=self.captions.size, space=(self.captions.length,))
        return Needs(processes=("product",), parts=found)

    def _std(self, name: str, train: Matched) -> float:
        """The spread of a part with what stands for nothing."""
        modality, dataset = self.parts[name], train.parts[name]
        batches = modality.batches(dataset, device=torch.device("cpu"))  # type: ignore[arg-type]
        items = torch.arange(len(dataset))[:: max(1, len(dataset) // MEASURED)]
        return float(whole(modality, batches(items)).std())

    def shape(self, model: Any) -> dict[str, tuple[int, ...]]:
        """The shape of each part of a sample, from the network of a run."""
        parts = model.parts.network.config.parts
        return {
            name: part.space if part.tokens is not None else (part.channels, *part.space)
            for name, part in parts.items()
        }

    def suggest(self, train: Matched, budget: Budget) -> Suggestion:
        own = {name: part.suggest(train.parts[name], budget).recipe for name, part in self.parts.items()}
        patches = {name: recipe["network"].get("patch", 1) for name, recipe in own.items() if "network" in recipe}
        wide = math.log(max(budget.multiply_adds, 1)) > math.log(3e13)
        recipe = {
            "name": "joint/" + "-".join(self.parts),
            "network": {"kind": "joint_dit", "width": 256 if wide else 192, "depth": 6, "patches": patches},
            "process": {"kind": "product", "warp": False},
            "method": {
                "kind": "diffusion",
                "times": {"kind": "log_normal", "mean": 0.4, "std": 1.4},
                "levels": [dict(level) for level in LEVELS],
            },
        }
        return Suggestion(
            recipe=recipe, reasons=("one transformer over all parts, each with a noise level of its own",)
        )

    def batches(self, dataset: Matched, *, device: torch.device) -> JointBatches:
        own = {
            name: (part, part.batches(dataset.parts[name], device=device))  # type: ignore[arg-type]
            for name, part in self.parts.items()
        }
        spoken = (self.caption, self.captions) if self.captions is not None else None
        return JointBatches(dataset=dataset, batches=own, spoken=spoken, device=device)

    def plan(self, options: Sample, context: RequestContext) -> Plan:
        return plans.plan(self, options, context)

    def preview_plan(self, context: RequestContext) -> Plan:
        return plans.plan(self, Sample(), replace(context, count=SHOWN))

    def plan_like(self, dataset: Matched, context: RequestContext) -> Plan:
        return plans.plan(self, Sample(), replace(context, count=context.count or len(dataset)))

    def decode(self, x: Mapping[str, Tensor]) -> list[dict[str, Any]]:
        """A mapping by part for each sample; captions are text."""
        made: dict[str, Any] = {name: part.decode(x[name]) for name, part in self.parts.items() if name in x}
        if self.captions is not None and CAPTION in x:
            made[CAPTION] = self.captions.decode(x[CAPTION].clamp_max(self.captions.size - 1))
        count = len(next(iter(x.values())))
        return [{name: values[i] for name, values in made.items()} for i in range(count)]

    def preview(self, samples: Samples) -> File:
        return preview.preview(self, samples)

    def text(self, samples: Samples) -> str:
        raise ValueError("joint samples have no text form: write them into a folder by --out FOLDER")

    def save(self, samples: Samples, out: Path) -> None:
        preview.save(self, samples, out)

    def evaluate(self, options: Evaluate, measuring: Measuring) -> Evaluation:
        return evaluate.evaluate(self, options, measuring)

    def scorer(self, measuring: Measuring) -> Scorer:
        return evaluate.scorer(self, measuring)


LEVELS = (
    {"kind": "shared", "share": 0.3},
    {"kind": "per_stream", "share": 0.3},
    {"kind": "clean_stream", "share": 0.4},
)
