"""A classifier of actions, trained on the real training part alone, and the features that motions are compared by.

It sees what anyone would: where the joints are, seen from the moving root, and how the root moves; not the codec's x.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor, nn

from langevin.files import write_atomic
from langevin.modalities.modality import Measuring, Progress
from langevin.modalities.motion import rotations
from langevin.modalities.motion.codec import States
from langevin.modalities.motion.data import Motions
from langevin.modalities.motion.skeleton import Skeleton

if TYPE_CHECKING:
    from langevin.modalities.motion.modality import Motion

WIDTH, BATCH = 64, 64
STEPS = (100, 400)  # of training, at least and at most
SHOTS = 16  # frames, evenly spaced, by which motions are compared


def seen(motion: "Motion", values: Tensor) -> Tensor:
    """What is seen of a motion (frames, columns), (frames, features): standardised states, or joints around the root."""
    codec = motion.known_codec
    if isinstance(codec, States):
        return codec.encode(values, motion.known_rate).T
    skeleton = codec.known
    return seen_of(skeleton, values, motion.known_rate) / skeleton.height


def seen_of(skeleton: Skeleton, poses: Tensor, rate: float) -> Tensor:
    """Joints (frames, 3 joints) in the frame of the root's heading, its height, and its velocity by the way of 0.5 s."""
    p = skeleton.positions_of(poses.double())
    heading = rotations.heading(skeleton.split(poses.double())[1][:, 0])
    around = p - p[:, :1] * torch.tensor([1.0, 0.0, 1.0], dtype=p.dtype)
    flat = rotations.turned(around[..., [0, 2]], -heading[:, None].expand(around.shape[:2]))
    joints = torch.stack([flat[..., 0], around[..., 1], flat[..., 1]], -1).flatten(1)
    moved = torch.zeros(len(p), 2, dtype=p.dtype)
    moved[1:] = rotations.turned((p[1:, 0] - p[:-1, 0])[:, [0, 2]], -heading[:-1]) * rate / 2
    return torch.cat([joints, moved], 1).float()


def shots(motion: "Motion", values: Tensor) -> Tensor:
    """A motion by frames that are evenly spaced in time, (SHOTS * features,)."""
    features = seen(motion, values)
    at = torch.linspace(0, len(features) - 1, SHOTS).round().long()
    return features[at].flatten()


def compared(motion: "Motion", motions: Sequence[Tensor]) -> Tensor:
    """Motions as rows of numbers for nearest neighbours, (n, SHOTS * features)."""
    return torch.stack([shots(motion, values) for values in motions])


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Sizes of a classifier."""

    features: int
    actions: int
    width: int = WIDTH


class Judge(nn.Module):
    """Convolutions over time, and their maximum. `accuracy` is that on held-out motions; -1 if there are none."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config, self.accuracy, width = config, -1.0, config.width
        self.layers = nn.Sequential(
            nn.Conv1d(config.features, width, 5, padding=2), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Conv1d(width, width, 5, padding=2, stride=2), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Conv1d(width, width, 5, padding=2, stride=2), nn.BatchNorm1d(width), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(2 * width, config.actions)

    def embed(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(n, features, frames) of so many frames to (n, 2 width): the maximum and the mean over time."""
        h = self.layers(x)
        inside = torch.arange(h.shape[2]) < ((lengths + 3) // 4)[:, None]
        most = torch.where(inside[:, None], h, -1e4).amax(2)
        return torch.cat([most, (h * inside[:, None]).sum(2) / inside.sum(1)[:, None]], 1)

    @torch.no_grad()
    def features(self, motion: "Motion", motions: Sequence[Tensor]) -> Tensor:
        """(n, 2 width) of motions."""
        self.eval()
        return torch.cat([self.embed(*padded(motion, motions[i : i + 256])) for i in range(0, len(motions), 256)])

    @torch.no_grad()
    def classes(self, motion: "Motion", motions: Sequence[Tensor]) -> Tensor:
        """The likeliest action (n,) of each motion."""
        return self.head(self.features(motion, motions)).argmax(1)


def padded(motion: "Motion", motions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What is seen of motions, (n, features, frames), each still after its end, and lengths (n,)."""
    parts = [seen(motion, values) for values in motions]
    lengths = torch.tensor([len(part) for part in parts])
    longest = int(lengths.max())
    x = torch.stack([torch.cat([part, part[-1:].expand(longest - len(part), -1)]) for part in parts])
    return x.transpose(1, 2).contiguous(), lengths


def windows(motion: "Motion", part: Motions) -> tuple[list[Tensor], Tensor]:
    """The windows of a part of the data, as examples have them, and their actions (n,); -1 for one that is not known."""
    spans = motion.batches(part, device=torch.device("cpu"))
    items = torch.arange(len(spans))
    index = {name: i for i, name in enumerate(motion.actions)}
    found = [part.clips[clip][start:end] for clip, start, end in spans.spans(items)]
    return found, torch.tensor([index.get(part.actions[clip] or "", -1) for clip in spans.clip_of(items)])


def train_judge(motion: "Motion", train: Motions, val: Motions, *, progress: Progress) -> Judge:
    """A classifier of the run's actions; without actions its features are random, which still compare motions.

    Augmentation: a window of a window, from half of it on."""
    own, actions = windows(motion, train)
    x, lengths = padded(motion, own)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        judge = Judge(JudgeConfig(features=x.shape[1], actions=max(1, len(motion.actions))))
        known = (actions >= 0).nonzero()[:, 0]
        if len(motion.actions) < 2 or len(known) < 2:
            return judge.eval()
        shares = torch.bincount(actions[known], minlength=len(motion.actions)).double().clamp_min(1).rsqrt()
        optimizer = torch.optim.AdamW(judge.parameters(), lr=1e-3, weight_decay=0.02)
        steps = min(max(STEPS[0], 4 * len(known)), STEPS[1])
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps + 1)
        judge.train()
        with torch.enable_grad():
            for step in range(steps):
                items = known[torch.multinomial(shares[actions[known]], BATCH, replacement=True)]
                some, ends = _cut(x[items], lengths[items])
                loss = F.cross_entropy(judge.head(judge.embed(some, ends)), actions[items], label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                cycle.step()
                progress(step + 1, steps)
    held, told = windows(motion, val)
    told_ones = [i for i, action in enumerate(told.tolist()) if action >= 0]
    if told_ones:
        judge.accuracy = float((judge.classes(motion, [held[i] for i in told_ones]) == told[told_ones]).double().mean())
    return judge.eval()


def _cut(x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """A part of each motion, at least half of it, with a little noise."""
    share = 0.5 + 0.5 * torch.rand(len(x))
    ends = (share * lengths).long().clamp_min(4)
    start = (torch.rand(len(x)) * (lengths - ends + 1).clamp_min(1)).long()
    at = (start[:, None] + torch.minimum(torch.arange(x.shape[2]), ends[:, None] - 1)).clamp_max(x.shape[2] - 1)
    return x.gather(2, at[:, None].expand(-1, x.shape[1], -1)) + 0.01 * torch.randn(x.shape), ends


def judge_of(motion: "Motion", m: Measuring) -> Judge:
    """The classifier of a run, kept with it for later evaluations."""
    window = f"{motion.window}-{len(motion.actions)}"
    folder = m.folder / f"judge-{m.train.fingerprint[:12]}-{window}"
    if (folder / "judge.json").is_file():
        try:
            return _load(folder)
        except (ValueError, KeyError, OSError, TypeError):
            pass  # damaged or of another version: it is trained again
    judge = train_judge(motion, m.train, m.val, progress=m.progress("training the judge, step"))
    folder.mkdir(parents=True, exist_ok=True)
    weights = save({name: value.contiguous() for name, value in judge.state_dict().items()})
    facts = {
        "config": asdict(judge.config), "accuracy": judge.accuracy, "sha256": hashlib.sha256(weights).hexdigest(),
    }  # fmt: skip
    write_atomic(folder / "judge.safetensors", weights)
    write_atomic(folder / "judge.json", (json.dumps(facts, indent=2) + "\n").encode())
    return judge


def _load(folder: Path) -> Judge:
    """Read a classifier. Raises `ValueError` if the weights do not match the JSON file."""
    facts = json.loads((folder / "judge.json").read_text())
    weights = (folder / "judge.safetensors").read_bytes()
    if hashlib.sha256(weights).hexdigest() != facts["sha256"]:
        raise ValueError(f"{folder}: judge.safetensors does not match judge.json")
    with torch.random.fork_rng(devices=[]):
        judge = Judge(JudgeConfig(**facts["config"]))
    judge.load_state_dict(load(weights))
    judge.accuracy = facts["accuracy"]
    return judge.eval()
