"""Which training examples a sample owes its likelihood to: gradients of denoising losses, and what follows from them.

The loss of an example is a mean over `draws` times and noises of training. Its gradient is that of one mean, so it takes
one pass through the network, in the memory of a batch of as many examples. What is asked about a sample is the same loss.

- `loss`: TRAK with the loss itself; the curvature is the empirical Fisher matrix.
- `square`: in place of the loss the square of the network's output, which does not know the target. "Intriguing Properties
  of Data Attribution on Diffusion Models" (D-TRAK, 2023, arXiv 2311.00500).
- `gauss_newton`: influence functions, with targets drawn from the model for the curvature (arXiv 2410.13850).
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, assert_never

import torch
from safetensors.torch import load, save
from torch import Tensor

from langevin.diffusion.batch import Batch, StepRandomness, step_randomness
from langevin.diffusion.denoiser import GaussianDenoiser, affine
from langevin.diffusion.posterior import Point
from langevin.diffusion.shape import append_dims, first_leaf, tree_map
from langevin.evaluation.influence import CountSketch, Curvature, influence
from langevin.files import own_folder, read_regular, write_atomic
from langevin.methods import Diffusion
from langevin.modalities.modality import Batches, Progress
from langevin.run.directory import Run
from langevin.run.generate import RunModel
from langevin.training import checkpoint

By = Literal["loss", "square", "gauss_newton"]
FOLDER = "attributions"
FORMAT = "langevin gradients 1"
LARGEST = 2**34  # bytes of kept gradients


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How gradients are taken.

    Args:
        by: see the module.
        draws: times and noises per example.
        size: of the projected gradients; None does not project.
        seed: of the noises and of the projection.
        damping: of the curvature, see `evaluation.influence`.

    Raises:
        ValueError: a number out of range."""

    by: By = "loss"
    draws: int = 16
    size: int | None = 4096
    seed: int = 0
    damping: float = 0.1

    def __post_init__(self) -> None:
        if not 1 <= self.draws <= 4096 or (self.size is not None and not 1 <= self.size <= 2**20):
            raise ValueError(
                f"gradients are of 1 to 4096 draws, in 1 to {2**20:,} numbers, got {self.draws} and {self.size}"
            )


def require_attributable(model: RunModel, by: By) -> None:
    """Check that a model has denoising losses of the kind asked for. Raises `ValueError`."""
    method = model.parts.method
    if not isinstance(method, Diffusion):
        raise ValueError(
            f"attribution is by the denoising loss, and this run was trained by {type(method).__name__}: take one of "
            "method.kind diffusion"
        )
    if by != "loss" and not isinstance(method.denoiser, GaussianDenoiser):
        raise ValueError(f"--by {by} is for continuous data under a gaussian process: take --by loss for this run")


@dataclass(frozen=True, kw_only=True, eq=False)
class Gradients:
    """Projected gradients of a model's losses.

    Raises:
        ValueError: see `require_attributable`."""

    model: RunModel
    settings: Settings
    project: CountSketch = field(init=False)

    def __post_init__(self) -> None:
        require_attributable(self.model, self.settings.by)
        length = sum(p.numel() for p in self.weights)
        sketch = CountSketch(length=length, size=self.settings.size, seed=self.settings.seed)
        object.__setattr__(self, "project", sketch)
        self.model.parts.network.eval()

    @property
    def weights(self) -> list[Tensor]:
        return [p for p in self.model.parts.network.parameters() if p.requires_grad]

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is kept of each training example."""
        return ("example", "row") if self.settings.by == "gauss_newton" else ("example",)

    def of(self, example: Batch, name: int, *, kind: str = "example") -> Tensor:
        """The gradient of one example, (size,) float32, on noises that follow from its name."""
        draws, device = self.settings.draws, first_leaf(example.x).device
        index = torch.zeros(draws, dtype=torch.int64, device=device)
        batch = Batch(
            x=tree_map(lambda part: part[index], example.x),
            condition=None if example.condition is None else example.condition.select(index),
            mask=None if example.mask is None else example.mask[index],
            known=None if example.known is None else tree_map(lambda part: part[index], example.known),
        )
        samples = torch.arange(draws, device=device)
        draw = step_randomness(seed=self.settings.seed, step=name, samples=samples, count=draws)
        with torch.enable_grad():
            value = self._function(kind)(batch, draw)
            parts = torch.autograd.grad(value, self.weights, allow_unused=True)
        found = [
            torch.zeros_like(weight) if part is None else part for part, weight in zip(parts, self.weights, strict=True)
        ]
        return self.project(torch.cat([part.detach().flatten().float() for part in found]))

    def _function(self, kind: str) -> Callable[[Batch, StepRandomness], Tensor]:
        match self.settings.by:
            case "loss":
                return self._loss
            case "square":
                return self._square
            case "gauss_newton":
                return self._loss if kind == "example" else self._drawn
            case _:
                assert_never(self.settings.by)

    def _loss(self, batch: Batch, draw: StepRandomness) -> Tensor:
        return self.model.parts.method.loss("denoiser", batch, draw).loss.mean()

    def _square(self, batch: Batch, draw: StepRandomness) -> Tensor:
        """The objective with the target that an output of 0 would hit: the square of the output."""
        method, denoiser = self._method()
        t, x_t = method.training_input(batch, draw)
        skip = affine(denoiser.prediction, denoiser.process.schedule, t, denoiser.process.sigma_data)[0]
        target = append_dims(skip.to(x_t), x_t) * x_t
        return method.objective(denoiser(x_t, t, batch.condition), target, x_t, t, batch.counted()).mean()

    def _drawn(self, batch: Batch, draw: StepRandomness) -> Tensor:
        """A function whose gradient g has E g g^T the Gauss-Newton matrix of the loss: the objective with targets that are
        D plus noise of the variance numel / (2 weight), times the square root of the number of draws."""
        method, denoiser = self._method()
        t, x_t = method.training_input(batch, draw)
        q = denoiser(x_t, t, batch.condition)
        ones = torch.ones_like(x_t)
        weight = method.objective(Point(ones), torch.zeros_like(ones), x_t, t, batch.counted())
        noise = draw.noise.fork(5).normal(x_t)
        inside = batch.counted()
        counted = ones.flatten(1).sum(1) if inside is None else inside.expand_as(ones).flatten(1).sum(1)
        spread = append_dims((counted / (2 * weight)).sqrt(), x_t)
        return method.objective(q, q.mean.detach() - spread * noise, x_t, t, inside).mean() * self.settings.draws**0.5

    def _method(self) -> tuple[Diffusion, GaussianDenoiser]:
        method = self.model.parts.method
        assert isinstance(method, Diffusion), "checked when it was made"
        assert isinstance(method.denoiser, GaussianDenoiser), "checked when it was made"
        return method, method.denoiser

    def of_all(self, batches: Batches, items: Tensor, progress: Progress) -> dict[str, Tensor]:
        """The gradients of some examples, (n, size) float32, of each of `kinds`."""
        found: dict[str, list[Tensor]] = {kind: [] for kind in self.kinds}
        for i, item in enumerate(items.tolist()):
            example = batches(torch.tensor([item]))
            for kind, rows in found.items():
                rows.append(self.of(example, item, kind=kind))
            progress(i + 1, len(items))
        return {kind: torch.stack(rows) for kind, rows in found.items()}


def kept_gradients(
    run: Run, gradients: Gradients, batches: Batches, items: Tensor, progress: Progress
) -> dict[str, Tensor]:
    """The gradients of training examples, from the run's folder if they were taken before of the same weights, data and
    settings; else they are taken, and kept there."""
    settings = replace(gradients.settings, damping=0.0)  # which no gradient depends on
    named = json.dumps(
        [FORMAT, checkpoint.identity(run.checkpoints), gradients.model.sampling.ema, run.facts["data"], repr(settings),
         items.tolist()]
    )  # fmt: skip
    path = own_folder(run.path, FOLDER) / f"gradients-{hashlib.sha256(named.encode()).hexdigest()[:16]}.safetensors"
    kept = _read(path, gradients.kinds, (len(items), gradients.project.size))
    if kept is not None:
        return kept
    found = gradients.of_all(batches, items, progress)
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, save({kind: rows.contiguous() for kind, rows in found.items()}))
    return found


def _read(path: Path, kinds: tuple[str, ...], shape: tuple[int, int]) -> dict[str, Tensor] | None:
    """Gradients that were kept; None if there are none that can be read."""
    try:
        found = load(read_regular(path, most=LARGEST)) if path.is_file() else {}
    except Exception:
        return None
    fits = found.keys() == set(kinds) and all(tuple(rows.shape) == shape for rows in found.values())
    return found if fits else None


def influences(gradients: Gradients, kept: dict[str, Tensor], samples: Tensor) -> Tensor:
    """The influence of the examples on samples with gradients (b, size), (b, n) float64: how much the loss of each grows if
    an example is left out, to first order; for `square` a score in place of that."""
    curvature = Curvature(root=kept.get("row", kept["example"]), damping=gradients.settings.damping)
    return influence(samples, kept["example"], curvature)


def distances(batches: Batches, items: Tensor, x: Any) -> Tensor | None:
    """The Euclidean distance of encoded examples from x (1, ...), (n,) float64, for tokens the number of differences; None
    where examples differ in shape from x or come in parts."""
    found = list[Tensor]()
    for at in items.split(256):
        own = batches(at).x
        if not isinstance(own, Tensor) or not isinstance(x, Tensor) or own.shape[1:] != x.shape[1:]:
            return None
        apart = own.cpu() != x.cpu() if not x.is_floating_point() else own.cpu().double() - x.cpu().double()
        found.append(apart.double().flatten(1).square().sum(1))
    squares = torch.cat(found)
    return squares.sqrt() if x.is_floating_point() else squares
