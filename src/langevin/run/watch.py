"""Monitoring of a training run: losses by noise level on training and held-out data, and previews of samples."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.guidance import self_contained
from langevin.files import write_atomic
from langevin.modalities.modality import Batches, RequestContext
from langevin.recipe.build import Built
from langevin.run.directory import Run, other_runs
from langevin.run.generate import RunModel
from langevin.training.ema import STANDARD
from langevin.training.loop import TrainingState

EXAMPLES, NUMBERS = 256, 2**13  # examples whose losses are evaluated; for sequences, positions of all together
STEPS = 100  # maximum number of sampling steps of a preview


class Watch:
    """Evaluates losses and draws previews with the EMA of the weights, without effect on training.

    Args:
        drawn: is told of each preview: its step, and the suffix and content of its file.
        writes: whether files are written; ranks that share parts of the weights evaluate them together, and one writes.
    """

    def __init__(
        self, run: Run, built: Built, state: TrainingState, train: Batches, val: Batches, *,
        drawn: Callable[[int, str, bytes], None] = lambda step, suffix, content: None, writes: bool = True,
    ) -> None:  # fmt: skip
        self.run, self.built, self.state = run, built, state
        self.parts = {"train": train, "val": val}
        self.others = other_runs(run.recipe, device=built.device)
        self.drawn, self.writes = drawn, writes

    def measure(self, step: int) -> dict[str, Any]:
        """Loss by noise level on fixed examples and fixed noise, of training and held-out data, for metrics.jsonl."""
        with _EMAWeights(self.built, self.state):
            means = {name: _losses(self.built, part) for name, part in self.parts.items()}
        scale, values = self.built.model.levels
        levels = [round(float(v), 2) for v in values]
        rounded = {name: [round(float(v), 5) for v in losses] for name, losses in means.items()}
        return {scale: levels, **{f"{name}_loss": losses for name, losses in rounded.items()}}

    def preview(self, step: int) -> None:
        """Write a preview of samples with fixed seeds, so that previews show the same samples at different steps."""
        sampling = self.built.recipe.sampling
        model = RunModel(
            built=self.built,
            sampling=replace(sampling, steps=min(sampling.steps, STEPS), guidance=self_contained(sampling.guidance)),
            others=self.others,
        )
        train, val = (batches.dataset for batches in self.parts.values())
        with _EMAWeights(self.built, self.state):
            samples = model.run(
                self.built.recipe.data.preview_plan(RequestContext(model=model, data=lambda: (train, val)))
            )
        if not self.writes:
            return
        preview = samples.preview()
        write_atomic(self.run.samples / f"step-{step:08d}{preview.suffix}", preview.content)
        self.drawn(step, preview.suffix, preview.content)


def _losses(built: Built, part: Batches) -> Tensor:
    """Mean losses (levels,) on up to `EXAMPLES` examples; on fewer of long sequences, which would take too long."""
    size = math.prod(part.shape)
    most = max(32, NUMBERS // size) if len(part.shape) == 1 else EXAMPLES
    count = min(EXAMPLES, most, len(part))
    items = torch.arange(count) * len(part) // count
    batch = EXAMPLES if size <= 64 else 64
    return torch.cat([built.model.losses(part(index), index) for index in items.split(batch)], 1).mean(1)


class _EMAWeights:
    """A context in which the network has the weights of the recipe's EMA, if EMAs are kept; it restores them at the end."""

    def __init__(self, built: Built, state: TrainingState) -> None:
        self.built, self.state = built, state

    @torch.no_grad()
    def __enter__(self) -> None:
        self.before: list[tuple[Tensor, Tensor]] = []
        wanted = self.built.recipe.sampling.ema
        length = STANDARD if wanted == "auto" else wanted
        for player, ema in self.state.ema.items():
            lengths = list(ema.values)
            nearest = min(lengths, key=lambda kept: abs(kept - length)) if lengths and length > 0 else None
            if nearest is None:
                continue
            parameters = self.state.weights[player]
            for name, value in ema.tensors(nearest).items():
                self.before.append((parameters[name], parameters[name].detach().clone()))
                parameters[name].copy_(value)
        self.built.model.network.eval()

    @torch.no_grad()
    def __exit__(self, *_: object) -> None:
        for parameter, value in self.before:
            parameter.copy_(value)
        self.built.model.network.train()
