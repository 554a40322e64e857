"""Features of sound for judges, and the networks that judge: classifiers of words and speakers, and a CTC recogniser.

Judges are trained on the real training part alone. Their own error on held-out recordings is stated beside every score.
They see log-mel spectrograms of their own sizes (32 ms windows every 10 ms), so they do not depend on the codec.

Papers: "Connectionist Temporal Classification: Labelling Unsegmented Sequence Data with Recurrent Neural Networks" (2006)
for texts of several words; one-cycle training as in "Super-Convergence: Very Fast Training of Neural Networks Using Large
Learning Rates" (2017, arXiv 1708.07120).
"""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor, nn

from langevin.files import write_atomic
from langevin.modalities.modality import Progress
from langevin.modalities.speech.codec import LogMel, peak_normalised
from langevin.training import machine

BINS = 40
TAIL = 48  # frames of silence after a signal, at least as many as a recogniser looks ahead
CENTRE, SCALE = -4.0, 3.0  # of log-mel features, roughly their mean and standard deviation


def ear(rate: int) -> LogMel:
    """The spectrogram that judges see: windows of about 32 ms every 10 ms."""
    n_fft = 2 ** round(math.log2(0.032 * rate))
    return LogMel(bins=BINS, n_fft=n_fft, hop=rate // 100, mean=(CENTRE,) * BINS, std=(SCALE,) * BINS)


def heard(signals: Sequence[Tensor], rate: int, frames: int | None = None) -> tuple[Tensor, Tensor]:
    """Features (n, bins, frames) of signals, normalised to one peak, and their lengths (n,).

    Args:
        frames: to which all are cut or padded with silence; None takes the longest, and so much more that what a network
            hears of each does not depend on the others.
    """
    rows = ear(rate).encode([peak_normalised(signal) for signal in signals], rate)
    longest = frames or TAIL + max(row.shape[1] for row in rows)
    lengths = torch.tensor([min(row.shape[1], longest) for row in rows])
    silence = (math.log(1e-4) - CENTRE) / SCALE
    return torch.stack(
        [F.pad(r[:, :longest], (0, longest - min(longest, r.shape[1])), value=silence) for r in rows]
    ), lengths


@dataclass(frozen=True, kw_only=True)
class ListenerConfig:
    """Sizes of a judge.

    Args:
        texts, speakers: classes of each head; 0 for no head.
        labels: symbols of a CTC head, the blank not among them; 0 for no head.
        frames: of the features of a classifier.
    """

    rate: int
    frames: int = 96
    texts: int = 0
    speakers: int = 0
    labels: int = 0
    width: int = 128


class Residual(nn.Module):
    """x + a convolution of x over time, (n, width, frames)."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.convolution(x)).relu()


class Listener(nn.Module):
    """Convolutions over time; classifiers take their maximum over time, and the CTC head every second frame.

    `accuracy` has the shares of held-out recordings that are judged right, by head."""

    def __init__(self, config: ListenerConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.accuracy: dict[str, float] = {}
        self.first = nn.Sequential(nn.Conv1d(BINS, width, 5, padding=2), nn.BatchNorm1d(width), nn.ReLU())
        self.second = nn.Sequential(nn.Conv1d(width, width, 5, padding=2), nn.BatchNorm1d(width), nn.ReLU())
        self.third = nn.Sequential(nn.Conv1d(width, width, 3, padding=1), nn.BatchNorm1d(width), nn.ReLU())
        self.dropout = nn.Dropout(0.3)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(width, n) for name, n in (("text", config.texts), ("speaker", config.speakers)) if n}
        )
        if config.labels:
            self.context = nn.Sequential(*(Residual(width, dilation) for dilation in (1, 2, 4)))
            self.spelling = nn.Linear(width, config.labels + 1)  # the first is the blank

    def trunk(self, x: Tensor) -> Tensor:
        """(n, bins, frames) to (n, width, frames / 2)."""
        h = self.second(F.max_pool1d(self.first(x), 2))
        return self.third(h if self.config.labels else F.max_pool1d(h, 2))

    def embed(self, x: Tensor) -> Tensor:
        """(n, bins, frames) to features (n, width)."""
        return self.trunk(x).amax(2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of every classifier by name, (n, classes)."""
        h = self.dropout(self.embed(x))
        return {name: head(h) for name, head in self.heads.items()}

    def log_spelling(self, x: Tensor) -> Tensor:
        """(n, bins, frames) to log-probabilities (n, frames / 2, labels + 1)."""
        h = self.context(self.dropout(self.trunk(x)))
        return self.spelling(h.transpose(1, 2)).float().log_softmax(-1)

    @torch.no_grad()
    def features(self, signals: Sequence[Tensor]) -> Tensor:
        """(n, width) of signals."""
        self.eval()
        parts = [
            self.embed(heard(signals[i : i + 256], self.config.rate, self.config.frames)[0])
            for i in range(0, len(signals), 256)
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def classes(self, signals: Sequence[Tensor], head: str) -> Tensor:
        """The likeliest class (n,) of each signal."""
        return self.heads[head](self.features(signals)).argmax(1)

    @torch.no_grad()
    def spelled(self, signals: Sequence[Tensor]) -> list[list[int]]:
        """The labels of each signal, 0 the first, by the likeliest path without repeats and blanks."""
        self.eval()
        found = list[list[int]]()
        for i in range(0, len(signals), 64):
            x, lengths = heard(signals[i : i + 64], self.config.rate)
            best = self.log_spelling(x).argmax(-1)
            for row, length in zip(best, (lengths // 2).tolist(), strict=True):
                path = torch.unique_consecutive(row[:length])
                found.append([int(label) - 1 for label in path if label > 0])
        return found

    def save(self, folder: Path) -> None:
        """Write `listener.safetensors` and `listener.json` into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = save({name: value.contiguous() for name, value in self.state_dict().items()})
        facts = {
            "config": asdict(self.config),
            "accuracy": self.accuracy,
            "sha256": hashlib.sha256(weights).hexdigest(),
        }
        write_atomic(folder / "listener.safetensors", weights)
        write_atomic(folder / "listener.json", (json.dumps(facts, indent=2) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> "Listener":
        """Read what `save` wrote.

        Raises:
            ValueError: the weights do not match the JSON file."""
        facts = json.loads((folder / "listener.json").read_text())
        weights = (folder / "listener.safetensors").read_bytes()
        if hashlib.sha256(weights).hexdigest() != facts["sha256"]:
            raise ValueError(f"{folder}: listener.safetensors does not match listener.json")
        with torch.random.fork_rng(devices=[]):
            listener = cls(ListenerConfig(**facts["config"]))
        listener.load_state_dict(load(weights))
        listener.accuracy = facts["accuracy"]
        return listener.eval()


def train_classifiers(
    signals: Sequence[Tensor],
    targets: dict[str, Tensor],
    config: ListenerConfig,
    *,
    epochs: int = 25,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> Listener:
    """A judge of words and speakers; `targets` has the classes (n,) of each head.

    Augmentation, drawn once per batch: a shift by up to 8 frames, a gain, and a silent band of up to 6 bins."""
    x, _ = heard(signals, config.rate, config.frames)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        listener = Listener(config)

        def loss(items: Tensor) -> Tensor:
            seen = x[items].roll(int(torch.randint(-8, 9, ())), 2) + 0.1 * torch.randn(())
            band, start = int(torch.randint(0, 7, ())), int(torch.randint(0, BINS - 6, ()))
            seen[:, start : start + band] = 0
            logits = listener(seen)
            parts = [F.cross_entropy(logits[name], targets[name][items], label_smoothing=0.05) for name in logits]
            return torch.stack(parts).sum()

        if not listener.heads:  # nothing to tell apart: random features, which still compare sounds
            return listener.eval()

        batch = min(64, len(x))
        _one_cycle(listener, loss, len(x), batch=batch, steps=epochs * (len(x) // batch), progress=progress)
    return listener.eval()


def train_recogniser(
    example: Callable[[int], tuple[Tensor, list[int]]],
    count: int,
    config: ListenerConfig,
    *,
    steps: int = 1500,
    batch: int = 32,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> Listener:
    """A CTC recogniser; `example(i + k count)` is a signal of item i and its labels in pass k, which may differ."""
    half = machine.precision("auto") == "bfloat16"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        listener = Listener(config)
        done = itertools.count()

        def loss(items: Tensor) -> Tensor:
            passes = next(done) * batch // count
            pairs = [example(item + passes * count) for item in items.tolist()]
            x, lengths = heard([signal for signal, _ in pairs], config.rate)
            x = x + 0.1 * torch.randn(())
            band, start = int(torch.randint(0, 7, ())), int(torch.randint(0, BINS - 6, ()))
            x[:, start : start + band] = 0
            target = torch.tensor([label + 1 for _, labels in pairs for label in labels])
            sizes = torch.tensor([len(labels) for _, labels in pairs])
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                log_p = listener.log_spelling(x).transpose(0, 1)
            return F.ctc_loss(log_p, target, lengths // 2, sizes, zero_infinity=True)

        _one_cycle(listener, loss, count, batch=batch, steps=steps, progress=progress)
    return listener.eval()


def _one_cycle(
    listener: Listener, loss: Callable[[Tensor], Tensor], count: int, *, batch: int, steps: int, progress: Progress
) -> None:
    """AdamW with a one-cycle learning rate of at most 4e-3, on batches of `count` items in random order."""
    optimizer = torch.optim.AdamW(listener.parameters(), lr=1e-3, weight_decay=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps + 1)
    listener.train()
    order = torch.empty(0, dtype=torch.int64)
    with torch.enable_grad():
        for step in range(steps):
            if len(order) < batch:
                order = torch.randperm(count)
            items, order = order[:batch], order[batch:]
            value = loss(items)
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(listener.parameters(), 5.0)
            optimizer.step()
            cycle.step()
            progress(step + 1, steps)
