"""What is looked at while a run trains: held-out loss by noise level, and sample sheets."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from langevin.modalities.image.reader import tell
from langevin.recipe.build import LEVELS, Built
from langevin.recipe.modality import Read, modality_of, pictured
from langevin.run.answer import show_texts
from langevin.run.directory import Run
from langevin.run.generate import generate
from langevin.training.checkpoint import write_atomic
from langevin.training.loop import TrainingState

__all__ = ["LEVELS", "Watch", "examples"]

ROWS, SYMBOLS = 256, 2**13
POINTS = 500  # samples of a sheet whose rows are numbers


class Watch:
    """Measures and draws with the run's average weights, between steps, leaving training as it was."""

    def __init__(
        self, made: Run, built: Built, state: TrainingState, train: Read, held_out: Read, *, tensorboard: bool
    ) -> None:
        self.made, self.built, self.state = made, built, state
        self.parts = {"train": train, "held_out": held_out}
        self.writer: Any = _tensorboard(made) if tensorboard else None

    def measure(self, step: int) -> dict[str, Any]:
        """Denoising loss by noise level on fixed rows and fixed noise, for both parts of the data."""
        with _Averaged(self.built, self.state):
            found = {name: _losses(self.built, part) for name, part in self.parts.items()}
        scale, values = self.built.levels
        levels = [round(float(v), 2) for v in values]
        if self.writer is not None:
            for name, losses in found.items():
                self.writer.add_scalar(f"loss/{name}", float(losses.mean()), step)
        rounded = {name: [round(float(v), 5) for v in losses] for name, losses in found.items()}
        return {scale: levels, **{f"{name}_loss": losses for name, losses in rounded.items()}}

    def sheet(self, step: int) -> None:
        """Samples from fixed seeds: how the same pictures, points or texts grow."""
        draw = SHEETS[modality_of(self.built.recipe).name]
        with _Averaged(self.built, self.state):
            content, suffix, images = draw(self.built, self.parts["held_out"])
        write_atomic(self.made.samples / f"step-{step:08d}{suffix}", content)
        if self.writer is not None and images is not None:
            self.writer.add_images("samples", images, step)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def picture_sheet(built: Built, part: Read) -> tuple[bytes, str, Tensor | None]:
    """A labelled grid of pictures, or the cloud of points; and the pictures themselves."""
    recipe, shape = built.recipe, part.part.shape
    few = 2 * len(recipe.classes) if 0 < len(recipe.classes) <= 12 else 16
    count = few if len(shape) > 1 else POINTS
    labels, captions = examples(built, part, count)
    condition = tell(labels, captions, recipe.words, next(built.network.parameters()).device)
    sampling = replace(recipe.sampling, steps=min(recipe.sampling.steps, 16 if len(shape) > 1 else 100))
    images = generate(built, sampling, shape=shape, seeds=torch.arange(count), condition=condition).images
    shown = captions or ([recipe.classes[i] for i in labels.tolist()] if labels is not None else None)
    columns = len(recipe.classes) if 0 < len(recipe.classes) <= 12 else None
    picture = pictured(recipe).picture(images, recipe, names=shown, columns=columns)
    return picture, ".png", images if images.ndim == 4 else None


def text_sheet(built: Built, part: Read) -> tuple[bytes, str, Tensor | None]:
    """Texts, or what is made of some held-out sources."""
    recipe = built.recipe
    sampling = replace(recipe.sampling, steps=min(recipe.sampling.steps, 64))
    lines = show_texts(built, sampling, part)
    return "\n\n".join(lines).encode(), ".txt", None


SHEETS = {"image": picture_sheet, "toy": picture_sheet, "text": text_sheet}


def examples(built: Built, part: Read, count: int) -> tuple[Tensor | None, list[str] | None]:
    """Labels and captions to show: all classes in turn, captions of the data spread over it."""
    recipe = built.recipe
    labels = torch.arange(count) % len(recipe.classes) if recipe.classes else None
    if recipe.words is None or part.part.captions is None:
        return labels, None
    known = part.part.captions
    return labels, [known[i * len(known) // count] for i in range(count)]


def _losses(built: Built, part: Read) -> Tensor:
    """(levels,) mean losses on a few rows: fewer of long texts, whose looks would else cost as much as training."""
    shape, count = part.part.shape, len(part.part)
    most = max(32, SYMBOLS // shape[0]) if len(shape) == 1 else ROWS
    few = min(ROWS, most, count)
    items = torch.arange(few) * count // few
    parts = [built.losses(part(rows), rows) for rows in items.split(_together(part))]
    return torch.cat(parts, 1).mean(1)


def _together(part: Read) -> int:
    """Rows at once: many where a row is a few numbers."""
    return ROWS if math.prod(part.part.shape) <= 64 else 64


class _Averaged:
    """Within it the network holds the recipe's average of the weights (the weights themselves if it keeps none)."""

    def __init__(self, built: Built, state: TrainingState) -> None:
        self.built, self.state = built, state

    @torch.no_grad()
    def __enter__(self) -> None:
        self.before: list[tuple[Tensor, Tensor]] = []
        width = self.built.recipe.sampling.average
        for player, averages in self.state.averages.items():
            widths = list(averages.values)
            nearest = min(widths, key=lambda w: abs(w - width)) if widths and width > 0 else None
            if nearest is None:
                continue
            parameters = dict(self.state.players[player].named_parameters())
            for name, value in averages.tensors(nearest).items():
                self.before.append((parameters[name], parameters[name].detach().clone()))
                parameters[name].copy_(value)
        self.built.network.eval()

    @torch.no_grad()
    def __exit__(self, *_: object) -> None:
        for parameter, value in self.before:
            parameter.copy_(value)
        self.built.network.train()


def _tensorboard(made: Run) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("TensorBoard is not installed: pip install 'langevin[track]'") from error
    return SummaryWriter(str(made.path / "tensorboard"))
