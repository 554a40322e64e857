"""Tiny motions for tests: walking stick men as BVH and JSON, swinging pendulums as CSV."""

import io
import json
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from langevin.modalities.motion import rotations
from langevin.modalities.motion.codec import origin_of
from langevin.modalities.motion.files import arrays, bvh, deepmimic
from langevin.modalities.motion.skeleton import Skeleton

RATE = 20.0
MAN = Skeleton(
    names=("hips", "spine", "head_end", "left_leg", "left_knee", "left_foot", "right_leg", "right_knee", "right_foot"),
    parents=(-1, 0, 1, 0, 3, 4, 0, 6, 7),
    kinds=("ball", "ball", "fixed", "ball", "hinge", "fixed", "ball", "hinge", "fixed"),
    offsets=(
        (0, 0, 0), (0, 0.3, 0), (0, 0.3, 0), (0, 0, 0.1), (0, -0.4, 0), (0, -0.4, 0), (0, 0, -0.1), (0, -0.4, 0),
        (0, -0.4, 0),
    ),
    axes=((0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 1), (0, 0, 0), (0, 0, 0), (0, 0, 1), (0, 0, 0)),
)  # fmt: skip
GAITS = {"walk": (1.0, 0.5, 0.9), "run": (1.8, 0.9, 2.4), "stand": (0.3, 0.05, 0.0)}  # (cycles, swing, metres) a second


def poses(gait: str, frames: int, *, rate: float = RATE, phase: float = 0.0, yaw: float = 0.0) -> torch.Tensor:
    """A stick man who walks along a circle: (frames, 3 + 4 m) float32."""
    cycles, swing, speed = GAITS[gait]
    t = torch.arange(frames, dtype=torch.float64) / rate
    turn = yaw + 0.3 * t
    step = 2 * math.pi * cycles * t + phase
    x = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).expand(frames, 3)
    z = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(frames, 3)
    hips = rotations.multiply(rotations.yaw(turn), rotations.about(x, 0.05 * step.sin()))
    legs = [rotations.about(z, side * swing * step.sin()) for side in (1, -1)]
    knees = [rotations.about(z, -swing * (1 + side * step.cos()) / 2) for side in (1, -1)]
    q = torch.stack([hips, rotations.about(z, 0.1 * step.cos()), legs[0], knees[0], legs[1], knees[1]], 1)
    way = torch.stack([turn.sin() - math.sin(yaw), turn.cos() - math.cos(yaw)], 1) * speed / 0.3
    root = torch.stack([way[:, 0], 0.8 - 0.03 * swing * step.cos().square(), way[:, 1]], 1)
    return MAN.join(root, rotations.continuous(q)).float()


def walks(folder: Path, *, each: int = 4, frames: int = 50) -> Path:
    """BVH files of every gait."""
    folder.mkdir(parents=True, exist_ok=True)
    for gait in GAITS:
        for i in range(each):
            text = bvh.text_of(MAN, poses(gait, frames + 3 * i, phase=0.9 * i, yaw=0.5 * i), RATE)
            (folder / f"man_{gait}_{i}.bvh").write_text(text)
    return folder


def mimics(folder: Path, *, each: int = 4, frames: int = 50, name: str = "man") -> Path:
    """JSON files of every gait at two rates, with the character in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "characters").mkdir(exist_ok=True)
    character = json.loads(deepmimic.text_of(MAN, poses("walk", 1), RATE))["Skeleton"]
    (folder / "characters" / "man.txt").write_text(json.dumps({"Skeleton": character}))
    for gait in GAITS:
        for i in range(each):
            rate = (RATE, 30.0)[i % 2]
            made = json.loads(deepmimic.text_of(MAN, poses(gait, frames, rate=rate, phase=0.9 * i), rate))
            made["Frames"][-1][0] = 0.0
            (folder / f"{name}_{gait}_{i}.txt").write_text(json.dumps({"Loop": made["Loop"], "Frames": made["Frames"]}))
    return folder


def captured(folder: Path) -> Path:
    """The files of `mimics`, named as those of the recipe for human motion."""
    return mimics(folder, name="humanoid3d")


def swings(folder: Path, *, count: int = 24, frames: int = 40) -> Path:
    """CSV files of small swings of a pendulum, with times."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for i in range(count):
        t, (size, phase) = np.arange(frames) * 0.1, random.uniform(0.3, 1.2, 2)
        rows = [f"{a:.6f},{b:.6f},{c:.6f}" for a, b, c in zip(t, size * np.sin(t + phase), size * np.cos(t + phase))]
        (folder / f"swing_{i:03d}.csv").write_text("\n".join(["time,angle,speed", *rows]) + "\n")
    return folder


def one(folder: Path) -> str:
    """A BVH file of a walk."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "walk.bvh").write_text(bvh.text_of(MAN, poses("walk", 30), RATE))
    return str(folder / "walk.bvh")


def places(modality, values):
    """Where the joints are, or the states themselves."""
    return values.double() if modality.skeleton is None else modality.skeleton.positions_of(values.double())


def keeps_its_bound(modality, train, bound: float) -> None:
    """Check that copies of motions by the codec differ by at most `bound`."""
    codec = modality.codec
    for clip in train.clips[:6]:
        copy = codec.decode(codec.encode(clip, train.rate)[None], train.rate)
        if modality.skeleton is not None:
            origin = origin_of(modality.skeleton, clip[:1])
            copy = codec.decode(codec.encode(clip, train.rate)[None], train.rate, origin=origin)
        assert copy.dtype == clip.dtype
        assert float((places(modality, copy[0]) - places(modality, clip)).abs().max()) <= bound


def read_back(form: str, out: Path, samples) -> None:
    """Check that a file holds the samples."""
    modality, values = samples.modality, list(samples.values)
    match form:
        case ".npz":
            held = dict(np.load(out))
            rows = held["states" if modality.skeleton is None else "poses"]
            for row, length, one in zip(rows, held["length"], values, strict=True):
                assert np.array_equal(row[:length], one.numpy())
            assert float(held["rate"]) == modality.rate
            assert tuple(held.get("names", ())) == (samples.names if any(samples.names) else ())
        case ".json":
            held = json.loads(out.read_text())
            rows = held["states" if modality.skeleton is None else "positions"]
            for row, one in zip(rows, values, strict=True):
                assert np.abs(np.array(row) - places(modality, one).numpy()).max() < 1e-4
        case ".gif" | ".webp":
            picture = Image.open(out)
            assert picture.n_frames > 3
        case ".png":
            assert Image.open(io.BytesIO(out.read_bytes())).size > (100, 100)
        case ".csv":
            assert np.abs(arrays.read_csv(out).values.numpy() - values[0].numpy()).max() < 1e-5
        case ".bvh":
            assert_same_motion(modality, bvh.read(out), values[0])
        case "":
            files = sorted(path for path in out.iterdir() if path.suffix in (".bvh", ".csv"))
            assert len(files) == len(values)
            assert all(Image.open(path).size for path in out.iterdir() if path.suffix in (".gif", ".png"))
            assert len(list(out.iterdir())) == 2 * len(values)
            for file, one in zip(files, values, strict=True):
                if modality.skeleton is None:
                    assert np.abs(arrays.read_csv(file).values.numpy() - one.numpy()).max() < 1e-5
                else:
                    assert_same_motion(modality, bvh.read(file), one)


def assert_same_motion(modality, clip, values) -> None:
    assert abs(clip.rate - modality.rate) < 1e-3
    own, other = (
        skeleton.positions_of(v.double()) for skeleton, v in ((modality.skeleton, values), (clip.skeleton, clip.values))
    )
    assert float((own - other).abs().max()) < 1e-4
