"""A small network that reads the labels of a clip, trained on real clips; also a feature space for distances.

Convolutions on every frame, then two heads per label: one on the mean over frames, for what single frames show, and one
on features along time, for what only the motion shows.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from langevin.files import write_atomic
from langevin.modalities.modality import Progress
from langevin.training.machine import has_bf16_units

EPOCHS, BATCH = 8, 64  # epochs at most
WATCHED = 256  # held-out clips; where it reads all of them, more epochs are left out
MOST_CLIPS = 8_000  # that it is trained on
SIDE = 32  # to which larger frames are reduced


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Channels of a frame, and the number of values of each label."""

    channels: int
    classes: Mapping[str, int]
    filters: int = 24
    features: int = 64


class Judge(nn.Module):
    """Reads clips uint8 (b, frames, channels, side, side). `accuracy` is that on held-out real clips, by label."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config, f, d = config, config.filters, config.features
        self.accuracy: dict[str, float] = {}
        self.frame = nn.Sequential(
            nn.Conv2d(config.channels, f, 3, padding=1, bias=False), nn.BatchNorm2d(f), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(f, 2 * f, 3, padding=1, bias=False), nn.BatchNorm2d(2 * f), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(2 * f, 4 * f, 3, padding=1, bias=False), nn.BatchNorm2d(4 * f), nn.ReLU(),
            nn.Conv2d(4 * f, 4 * f, 3, padding=1, bias=False), nn.BatchNorm2d(4 * f), nn.ReLU(),
        )  # fmt: skip
        self.squeeze = nn.Conv2d(4 * f, 8, 1)
        self.along = nn.Sequential(nn.LazyConv1d(2 * d, 3), nn.ReLU(), nn.Conv1d(2 * d, d, 1), nn.ReLU())
        self.still = nn.Sequential(nn.Linear(4 * f, d), nn.ReLU())
        self.heads = nn.ModuleDict({f"{i}": nn.Linear(2 * d, n) for i, n in enumerate(config.classes.values())})
        self.frame_heads = nn.ModuleDict({f"{i}": nn.Linear(d, n) for i, n in enumerate(config.classes.values())})

    def embed(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Features (b, 2 d) of clips, and of their frames (b, frames, d)."""
        b, n = clips.shape[:2]
        x = clips.flatten(0, 1).float() / 127.5 - 1
        if x.shape[-1] > SIDE:
            x = F.interpolate(x, size=(SIDE, SIDE), mode="area")
        h = self.frame(x)
        still = self.still(h.amax((2, 3))).unflatten(0, (b, n))
        layout = self.squeeze(h).flatten(1).unflatten(0, (b, n)).transpose(1, 2)
        moving = self.along(layout if n > 2 else F.pad(layout, (0, 3 - n), mode="replicate")).mean(2)
        return torch.cat([still.mean(1), moving], 1), still

    @torch.no_grad()
    def features(self, clips: Tensor) -> Tensor:
        """(n, 2 d)."""
        self.eval()
        return torch.cat([self.embed(part)[0] for part in clips.split(BATCH)])

    @torch.no_grad()
    def read(self, clips: Tensor) -> dict[str, Tensor]:
        """The value of each label, (n,) int64."""
        embedded = self.features(clips)
        return {label: self.heads[f"{i}"](embedded).argmax(1) for i, label in enumerate(self.config.classes)}

    @torch.no_grad()
    def read_frames(self, clips: Tensor) -> dict[str, Tensor]:
        """The value of each label by single frames, (n, frames) int64."""
        self.eval()
        still = torch.cat([self.embed(part)[1] for part in clips.split(BATCH)])
        return {label: self.frame_heads[f"{i}"](still).argmax(2) for i, label in enumerate(self.config.classes)}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights."""
        return hashlib.sha256(self._bytes()).hexdigest()

    def _bytes(self) -> bytes:
        return save({name: value.detach().contiguous() for name, value in self.state_dict().items()})

    def save(self, folder: Path) -> None:
        """Write the weights and what was measured of them."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "judge.safetensors", self._bytes())
        facts = {"config": asdict(self.config), "accuracy": self.accuracy, "sha256": self.fingerprint}
        write_atomic(folder / "judge.json", json.dumps(facts, indent=2).encode())

    @classmethod
    def load(cls, folder: Path, shape: tuple[int, ...]) -> "Judge":
        """Read what `save` wrote; `shape` of a clip. Raises `ValueError` or `OSError` if it cannot be read."""
        facts, weights = json.loads((folder / "judge.json").read_text()), (folder / "judge.safetensors").read_bytes()
        if hashlib.sha256(weights).hexdigest() != facts["sha256"]:
            raise ValueError(f"{folder}: judge.safetensors does not match judge.json")
        judge = built(JudgeConfig(**facts["config"]), shape, 0)
        judge.load_state_dict(load(weights))
        judge.accuracy = facts["accuracy"]
        return judge.eval()


def built(config: JudgeConfig, shape: tuple[int, ...], seed: int) -> Judge:
    """A judge of clips of this shape with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        judge = Judge(config)
        judge.eval()
        judge.embed(torch.zeros(1, *shape, dtype=torch.uint8))  # the sizes of the lazy layer
    return judge


def train_judge(
    clips: Tensor, labels: Mapping[str, Tensor], classes: Mapping[str, int], held_out: tuple[Tensor, Mapping[str, Tensor]],
    *, seed: int = 0, epochs: int = EPOCHS, progress: Progress | None = None,
) -> Judge:  # fmt: skip
    """A judge trained on real clips uint8 (n, frames, channels, side, side) with labels (n,) each.

    AdamW with a one-cycle rate; clips are shifted by up to an eighth of their side. After the second epoch it stops where
    it reads `WATCHED` held-out clips without an error. The weights are a function of the arguments, on one machine."""
    judge = built(JudgeConfig(channels=clips.shape[2], classes=classes), tuple(clips.shape[1:]), seed)
    generator = torch.Generator().manual_seed(seed)
    batch = min(BATCH, len(clips))
    steps = max(8, epochs * len(clips) // batch)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=1e-3, weight_decay=0.02)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps + 1, pct_start=0.25)
    order = torch.empty(0, dtype=torch.int64)
    judge.train()
    reach, fast = max(1, clips.shape[-1] // 8), has_bf16_units()
    for step in range(steps):
        if len(order) < batch:
            if step * batch > 2 * len(clips) and reads_all(judge, classes, held_out):
                break
            order = torch.randperm(len(clips), generator=generator)
        items, order = order[:batch], order[batch:]
        down, right = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
        shown = clips[items].roll((down, right), (-2, -1))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast):
            embedded = judge.embed(shown)
        whole, still = (part.float() for part in embedded)
        loss = whole.new_zeros(())
        for i, label in enumerate(classes):
            truth = labels[label][items]
            loss = loss + F.cross_entropy(judge.heads[f"{i}"](whole), truth, label_smoothing=0.05)
            loss = loss + F.cross_entropy(judge.frame_heads[f"{i}"](still.mean(1)), truth, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cycle.step()
        if progress is not None:
            progress(step + 1, steps)
    judge.eval()
    found, by_frame = judge.read(held_out[0]), judge.read_frames(held_out[0])
    for label in classes:
        truth = held_out[1][label]
        judge.accuracy[label] = float((found[label] == truth).double().mean())
        judge.accuracy[f"{label} by frame"] = float((by_frame[label].mode(1).values == truth).double().mean())
    return judge


def reads_all(judge: Judge, labels: Iterable[str], held_out: tuple[Tensor, Mapping[str, Tensor]]) -> bool:
    """Whether it reads every label of held-out clips; it is left in training mode."""
    found = judge.read(held_out[0][:WATCHED])
    judge.train()
    return all(torch.equal(found[label], held_out[1][label][:WATCHED]) for label in labels)
