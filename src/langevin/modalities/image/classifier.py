"""A small image classifier, trained on real images, as a feature space and to evaluate conditional samples.

Convolutions with batch normalisation and pooling down to about 4x4, then mean and maximum over space, 64 features and
one linear layer. It is trained on the training part only, so its accuracy on held-out real images is the ceiling of
class consistency. Its weights are identified by their hash, because distances are comparable only within one feature
space. Training takes minutes on a CPU for 32x32 images, seconds for 8x8.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from langevin.files import write_atomic


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """Shape of the images, and number of classes; `filters` doubles with each pooling, up to `4 * filters`."""

    channels: int
    height: int
    width: int
    classes: int
    filters: int = 32
    features: int = 64

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 1 or self.classes < 2:
            raise ValueError(f"ClassifierConfig needs positive sizes and at least 2 classes, got {self}")

    def build(self) -> Classifier:
        """A classifier with random weights (from torch's global generator)."""
        return Classifier(self)


@dataclass(frozen=True, kw_only=True)
class ClassifierTraining:
    """How a classifier was trained, its cost, and its accuracy on held-out images in [0, 1], None without any."""

    seed: int
    images: int
    steps: int
    epochs: float
    seconds: float
    flip: bool
    held_out_accuracy: float | None


class Classifier(nn.Module):
    """A small convolutional network, in float32; its features are the inputs of the last layer.

    `training_record` says how it was trained; None for random weights.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.training_record: ClassifierTraining | None = None
        layers: list[nn.Module] = []
        channels, filters, side = config.channels, config.filters, min(config.height, config.width)
        while side > 4:
            layers += [_conv(channels, filters), nn.MaxPool2d(2), nn.BatchNorm2d(filters), nn.ReLU()]
            channels, filters, side = filters, min(2 * filters, 4 * config.filters), side // 2
        self.body = nn.Sequential(*layers, _conv(channels, filters), nn.BatchNorm2d(filters), nn.ReLU())
        self.neck = nn.Sequential(
            nn.Linear(2 * filters, config.features, bias=False), nn.BatchNorm1d(config.features), nn.ReLU()
        )
        self.head = nn.Linear(config.features, config.classes)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def embed(self, images: Tensor) -> Tensor:
        """Features `(b, features)` of uint8 images `(b, c, h, w)`, with gradient."""
        x = self.body(scaled(images).contiguous(memory_format=torch.channels_last))
        return self.neck(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(b, classes)` of uint8 images `(b, c, h, w)`."""
        return self.head(self.embed(images))

    def layers(self, x: Tensor) -> list[Tensor]:
        """The outputs of all convolutional layers for images x (b, c, h, w) in [-1, 1], with gradient."""
        found = list[Tensor]()
        for module in self.body:
            x = module(x)
            if isinstance(module, nn.ReLU):
                found.append(x)
        return found

    def features(self, images: Tensor, *, batch: int = 512) -> Tensor:
        """Features `(n, features)` on the CPU; ValueError for images of another shape or type."""
        return self._evaluate(self.embed, images, batch)

    def logits(self, images: Tensor, *, batch: int = 512) -> Tensor:
        """Logits `(n, classes)` on the CPU; ValueError for images of another shape or type."""
        return self._evaluate(self.forward, images, batch)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights: features are comparable only between classifiers with equal fingerprints."""
        return hashlib.sha256(self._bytes()).hexdigest()

    def save(self, directory: str | Path) -> Path:
        """Write `classifier.safetensors` and `classifier.json` (shape, training, fingerprint) into a directory."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        record = self.training_record and asdict(self.training_record)
        facts = {"config": asdict(self.config), "training": record, "sha256": self.fingerprint}
        write_atomic(directory / "classifier.safetensors", self._bytes())
        write_atomic(directory / "classifier.json", (json.dumps(facts, indent=2) + "\n").encode())
        return directory

    @classmethod
    def load(cls, directory: str | Path) -> Classifier:
        """Read what `save` wrote; ValueError if the weights do not match the JSON file."""
        facts = json.loads((Path(directory) / "classifier.json").read_text())
        weights = (Path(directory) / "classifier.safetensors").read_bytes()
        if hashlib.sha256(weights).hexdigest() != facts["sha256"]:
            raise ValueError(
                f"{directory}: classifier.safetensors does not match classifier.json; train the classifier again"
            )
        with torch.random.fork_rng(devices=[]):
            classifier = ClassifierConfig(**facts["config"]).build()
        classifier.load_state_dict(load(weights))
        classifier.training_record = facts["training"] and ClassifierTraining(**facts["training"])
        return classifier.eval()

    def _bytes(self) -> bytes:
        return save({name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()})

    @torch.no_grad()
    def _evaluate(self, function: Callable[[Tensor], Tensor], images: Tensor, batch: int) -> Tensor:
        shape = (self.config.channels, self.config.height, self.config.width)
        check_images(images, None, "Classifier")
        if tuple(images.shape[1:]) != shape:
            raise ValueError(
                f"Classifier takes images of shape {shape}, got {tuple(images.shape[1:])}: resize them or train again"
            )
        self.eval()
        return torch.cat([function(part.to(self.head.weight.device)).cpu() for part in images.split(batch)])


def train_classifier(
    images: Tensor,
    labels: Tensor,
    classes: int,
    *,
    seed: int,
    epochs: int = 20,
    flip: bool = False,
    held_out: tuple[Tensor, Tensor] | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Classifier:
    """Train a `Classifier` on real training images `(n, c, h, w)` uint8 with labels `(n,)` in [0, classes).

    AdamW with a one-cycle learning rate; images are shifted by up to an eighth of their side, and mirrored if `flip`.
    The weights are a function of the arguments (on one machine). `held_out` = (images, labels) gives the accuracy in
    `training_record`; `progress(step, steps)` is called after each step. ValueError for labels out of range.
    """
    check_images(images, None, "train_classifier")
    if (
        labels.shape != images.shape[:1]
        or labels.is_floating_point()
        or not 0 <= int(labels.min()) <= int(labels.max()) < classes
    ):
        raise ValueError(
            f"train_classifier needs {len(images)} integer labels in [0, {classes}), got {tuple(labels.shape)}"
        )
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        config = ClassifierConfig(
            channels=images.shape[1], height=images.shape[2], width=images.shape[3], classes=classes
        )
        classifier = config.build().to(device)
    batch = max(min(256, len(images) // 25), min(32, len(images)))
    steps = max(epochs * len(images) // batch, 1)
    with _threads(batch * images[0].numel()):
        for step, _ in enumerate(_steps(classifier, images, labels, batch, steps, seed, flip), 1):
            if progress is not None:
                progress(step, steps)
    accuracy = None if held_out is None else _accuracy(classifier, *held_out)
    classifier.training_record = ClassifierTraining(
        seed=seed,
        images=len(images),
        steps=steps,
        epochs=round(steps * batch / len(images), 3),
        seconds=round(time.perf_counter() - started, 3),
        flip=flip,
        held_out_accuracy=accuracy,
    )
    return classifier.eval()


def _steps(
    classifier: Classifier, images: Tensor, labels: Tensor, batch: int, steps: int, seed: int, flip: bool
) -> Iterator[float]:
    generator = torch.Generator().manual_seed(seed)
    device = classifier.head.weight.device
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=1e-3, weight_decay=0.02)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 8e-3, total_steps=steps + 1, pct_start=0.25, anneal_strategy="linear", cycle_momentum=False
    )
    order = torch.empty(0, dtype=torch.int64)
    classifier.train()
    for _ in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(images), generator=generator)
        items, order = order[:batch], order[batch:]
        x = _augmented(images[items.to(images.device)].cpu(), flip, generator).to(device)
        loss = F.cross_entropy(classifier(x), labels[items.to(labels.device)].to(device).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cycle.step()
        yield loss.item()


def _augmented(images: Tensor, flip: bool, generator: torch.Generator) -> Tensor:
    """Each image shifted by up to an eighth of its side, edges repeated; mirrored with probability 1/2 if `flip`."""
    n, _, height, width = images.shape
    reach = max(min(height, width) // 8, 1)
    down, right = torch.randint(-reach, reach + 1, (2, n, 1), generator=generator)
    rows = (torch.arange(height) + down).clamp(0, height - 1)
    columns = (torch.arange(width) + right).clamp(0, width - 1)
    if flip:
        columns = torch.where(torch.rand(n, 1, generator=generator) < 0.5, columns.flip(1), columns)
    moved = images[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


@contextmanager
def _threads(numbers: int) -> Iterator[None]:
    """One thread while a batch is small: more gain little, and on a busy machine they wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if numbers < 20_000 else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    return (classifier.logits(images).argmax(1) == labels.cpu()).double().mean().item()


def _conv(channels: int, filters: int) -> nn.Conv2d:
    return nn.Conv2d(channels, filters, 3, padding=1, bias=False)


def scaled(images: Tensor) -> Tensor:
    """uint8 images as float32 in [-1, 1]."""
    return images.to(torch.float32) / 127.5 - 1


def check_images(images: Tensor, channels: int | None, where: str) -> None:
    """ValueError unless `images` is uint8 `(n, c, h, w)` with n >= 1 and that number of channels (None: any)."""
    if images.dtype != torch.uint8 or images.ndim != 4 or len(images) == 0:
        raise ValueError(f"{where} needs uint8 images (n, c, h, w), got {images.dtype} {tuple(images.shape)}")
    if channels is not None and images.shape[1] != channels:
        raise ValueError(f"{where} takes {channels} channels, got images of shape {tuple(images.shape)}")
