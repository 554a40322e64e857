"""BVH, the Biovision hierarchy: a tree of joints, then a line of channels for every frame.

    HIERARCHY
    ROOT hips { OFFSET 0 0 0  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
        JOINT knee { OFFSET 0 -40 0  CHANNELS 3 Zrotation Xrotation Yrotation  End Site { OFFSET 0 -40 0 } } }
    MOTION
    Frames: 2
    Frame Time: 0.0333
    ...

Channels may come in any order; rotations are in degrees, the first one outermost. A joint with one rotation is a hinge.
Positions of the root replace its offset, where it has some; those of other joints are their offsets if they stay the same.
A bone ends in an End Site, which may be missing.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from langevin.modalities.content import content
from langevin.modalities.motion import rotations
from langevin.modalities.motion.clip import Clip, Unreadable
from langevin.modalities.motion.skeleton import MOST_JOINTS, JointKind, Skeleton

LARGEST = 1 << 28  # bytes of a file
END = "_end"  # after the name of a joint, the name of the end of its bone
ORDER = "ZXY"  # of the rotations that are written
STRETCH = 0.01  # by which positions of a joint may vary, of the skeleton's size
_WORD = re.compile(r"[{}]|[^\s{}]+")


@dataclass(kw_only=True)
class _Joint:
    name: str
    parent: int
    end: bool = False
    offset: tuple[float, ...] = (0.0, 0.0, 0.0)
    channels: list[str] = field(default_factory=list)


class _Words:
    """The words of the hierarchy with their lines."""

    def __init__(self, text: str) -> None:
        found = [(word, i) for i, line in enumerate(text.split("\n"), 1) for word in _WORD.findall(line)]
        self.words: Iterator[tuple[str, int]] = iter(found)
        self.line = 1

    def next(self, what: str) -> str:
        word, self.line = next(self.words, ("", self.line))
        if not word:
            raise Unreadable(f"ends in its hierarchy, where {what} should follow: the file is cut short")
        return word

    def number(self, what: str) -> float:
        word = self.next(what)
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise Unreadable(f"has '{word[:40]}' where {what} should be, in line {self.line}")
        return value

    def expect(self, wanted: str) -> None:
        word = self.next(f"'{wanted}'")
        if word.upper() != wanted.upper():
            raise Unreadable(f"has '{word[:40]}' where '{wanted}' should be, in line {self.line}")


def read(path: Path) -> Clip:
    """The motion of a BVH file.

    Raises:
        Unreadable: it is none, with what is wrong and where."""
    try:
        text = content(path, most=LARGEST).decode("utf-8-sig", "replace")
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or error}") from error
    return parse(text)


def parse(text: str) -> Clip:
    """The motion of a BVH text. Raises `Unreadable`."""
    head, found, body = text.partition("MOTION")
    if not head.lstrip().upper().startswith("HIERARCHY"):
        raise Unreadable("does not begin with HIERARCHY: it is no BVH file")
    joints = _hierarchy(_Words(head))
    if not found:
        raise Unreadable("has no MOTION after its hierarchy: the file is cut short")
    channels = sum(len(joint.channels) for joint in joints)
    numbers, seconds = _frames(body, channels, first=head.count("\n") + 1)
    return _clip(joints, torch.from_numpy(numbers), 1 / seconds)


def _hierarchy(words: _Words) -> list[_Joint]:
    words.expect("HIERARCHY")
    words.expect("ROOT")
    joints, stack = [_Joint(name=words.next("a name"), parent=-1)], list[int]()
    words.expect("{")
    stack.append(0)
    while stack:
        here, word = joints[stack[-1]], words.next("'}'")
        match word.upper():
            case "OFFSET":
                here.offset = tuple(words.number("an offset") for _ in range(3))
            case "CHANNELS":
                for _ in range(int(words.number("a number of channels"))):
                    here.channels.append(_channel(words.next("a channel"), here, words.line))
            case "JOINT":
                joints.append(_Joint(name=words.next("a name"), parent=stack[-1]))
                words.expect("{")
                stack.append(len(joints) - 1)
            case "END":
                words.next("'Site'")
                joints.append(_Joint(name=here.name + END, parent=stack[-1], end=True))
                words.expect("{")
                stack.append(len(joints) - 1)
            case "}":
                stack.pop()
            case _:
                raise Unreadable(f"has '{word[:40]}' in the hierarchy, in line {words.line}")
        if len(joints) > MOST_JOINTS:
            raise Unreadable(f"has more than {MOST_JOINTS} joints")
    rest = next(words.words, None)
    if rest is not None:
        more = "a second ROOT" if rest[0].upper() == "ROOT" else f"'{rest[0][:40]}' after the hierarchy"
        raise Unreadable(f"has {more}, in line {rest[1]}: write each skeleton to a file of its own")
    return joints


def _channel(name: str, joint: _Joint, line: int) -> str:
    lower = name.lower()
    if lower[:1] not in ("x", "y", "z") or lower[1:] not in ("position", "rotation"):
        raise Unreadable(f"has the unknown channel '{name[:40]}' of joint {joint.name}, in line {line}")
    if lower in joint.channels:
        raise Unreadable(f"has the channel {name} of joint {joint.name} twice, in line {line}")
    return lower


def _frames(body: str, channels: int, *, first: int) -> tuple[np.ndarray, float]:
    """The numbers (frames, channels) float64, and the seconds of a frame; `first` is the line before the body."""
    match = re.match(r"\s*Frames:\s*(\S+)\s+Frame\s+Time:\s*(\S+)", body, re.IGNORECASE)
    if match is None:
        raise Unreadable("has no 'Frames:' and 'Frame Time:' after MOTION: the file is cut short")
    try:
        count, seconds = int(match[1]), float(match[2])
    except ValueError as error:
        raise Unreadable(
            f"says Frames: {match[1][:40]} and Frame Time: {match[2][:40]}, which are no numbers"
        ) from error
    if count < 1 or not 1e-5 <= seconds <= 60:
        raise Unreadable(f"says Frames: {count} and Frame Time: {seconds:g}")
    rest = body[match.end() :]
    try:
        values = np.array(rest.split(), dtype=np.float64)
    except ValueError:
        values = np.array([np.nan])
    if not np.isfinite(values).all():
        start = first + body[: match.end()].count("\n")
        line, word = _first_bad(rest, start)
        raise Unreadable(f"has '{word[:40]}' among its numbers, in line {line}")
    if len(values) != count * channels:
        have = len(values) / max(1, channels)
        raise Unreadable(
            f"says {count:,} frames of {channels} channels, and holds numbers for {have:g}: it is cut short"
        )
    return values.reshape(count, channels), seconds


def _first_bad(text: str, line: int) -> tuple[int, str]:
    for i, row in enumerate(text.split("\n")):
        for word in row.split():
            try:
                fine = math.isfinite(float(word))
            except ValueError:
                fine = False
            if not fine:
                return line + i, word
    return line, ""


def _clip(joints: list[_Joint], numbers: Tensor, rate: float) -> Clip:
    """The motion of a hierarchy's numbers (frames, channels)."""
    joints = [replace(j, offset=j.offset) for j in joints]
    kinds, axes, turns = list[JointKind](), list[tuple[float, float, float]](), list[Tensor]()
    root = torch.tensor(joints[0].offset, dtype=torch.float64).expand(len(numbers), 3)
    remarks, at, moved = list[str](), 0, dict[str, Tensor]()
    for joint in joints:
        own = numbers[:, at : at + len(joint.channels)]
        at += len(joint.channels)
        order = "".join(c[0].upper() for c in joint.channels if c.endswith("rotation"))
        angles = own[:, [i for i, c in enumerate(joint.channels) if c.endswith("rotation")]]
        places = {c[0]: own[:, i] for i, c in enumerate(joint.channels) if c.endswith("position")}
        if places:
            given = torch.stack(
                [places.get(axis, torch.full_like(root[:, 0], joint.offset[i])) for i, axis in enumerate("xyz")], 1
            )
            if joint.parent < 0:
                root = given
            else:
                moved[joint.name] = given.amax(0) - given.amin(0)
                joint.offset = tuple(given.median(0).values.tolist())
        kind: JointKind = "ball" if len(order) > 1 or joint.parent < 0 else "hinge" if order else "fixed"
        axis = [0.0, 0.0, 0.0]
        if kind == "hinge":
            axis[rotations.AXES.index(order)] = 1.0
        kinds.append(kind)
        axes.append((axis[0], axis[1], axis[2]))
        if kind != "fixed":
            turns.append(rotations.of_euler(angles.deg2rad(), order))
    kept = [i for i, j in enumerate(joints) if not (j.end and not any(j.offset))]  # an end without length says nothing
    index = {old: new for new, old in enumerate(kept)}
    skeleton = Skeleton(
        names=tuple(joints[i].name for i in kept), kinds=tuple(kinds[i] for i in kept), axes=tuple(axes[i] for i in kept),
        parents=tuple(index.get(joints[i].parent, -1) for i in kept),
        offsets=tuple((o[0], o[1], o[2]) for o in (joints[i].offset for i in kept)),
    )  # fmt: skip
    for name, spread in moved.items():
        if float(spread.max()) > STRETCH * skeleton.height:
            raise Unreadable(
                f"moves joint {name} in its parent by up to {float(spread.max()):.3g}: bones keep their length"
            )
    values = skeleton.join(root, rotations.continuous(torch.stack(turns, 1))).float()
    if not bool(values.isfinite().all()):
        raise Unreadable("holds numbers that are too large")
    return Clip(values=values, rate=rate, skeleton=skeleton, remarks=tuple(remarks))


# ---------------------------------------------------------------------------------------------------------- writing


def text_of(skeleton: Skeleton, poses: Tensor, rate: float) -> str:
    """The BVH text of poses (frames, 3 + 4 m).

    Every joint that moves has three rotations, Z X Y; fixed joints without children are End Sites."""
    lines, order = ["HIERARCHY"], list[int]()
    _write_joint(skeleton, 0, 0, lines, order)
    root, q = skeleton.split(poses.double())
    angles = rotations.euler(q, ORDER).rad2deg().numpy()
    angles = np.unwrap(angles, period=360, axis=0)
    index = {joint: i for i, joint in enumerate(skeleton.moving)}
    numbers = np.concatenate([root.numpy(), *(angles[:, index[j]] for j in order)], 1)
    lines += ["MOTION", f"Frames: {len(poses)}", f"Frame Time: {1 / rate:.9f}"]
    lines += [" ".join(f"{v:.6f}" for v in row) for row in numbers.tolist()]
    return "\n".join(lines) + "\n"


def _write_joint(skeleton: Skeleton, joint: int, depth: int, lines: list[str], order: list[int]) -> None:
    pad, inner = "\t" * depth, "\t" * (depth + 1)
    fixed, children = skeleton.kinds[joint] == "fixed", [i for i, p in enumerate(skeleton.parents) if p == joint]
    offset = (0.0, 0.0, 0.0) if joint == 0 else skeleton.offsets[joint]
    placed = f"{inner}OFFSET " + " ".join(f"{v:.6f}" for v in offset)
    name = re.sub(r"\s", "_", skeleton.names[joint])
    if fixed and not children:
        lines += [f"{pad}End Site", f"{pad}{{", placed, f"{pad}}}"]
        return
    lines += [f"{pad}{'JOINT' if joint else 'ROOT'} {name}", f"{pad}{{", placed]
    if fixed:
        lines.append(f"{inner}CHANNELS 0")
    else:
        places = "" if joint else "Xposition Yposition Zposition "
        turns = " ".join(f"{axis}rotation" for axis in ORDER)
        lines.append(f"{inner}CHANNELS {3 if joint else 6} {places}{turns}")
        order.append(joint)
    for child in children:
        _write_joint(skeleton, child, depth + 1, lines, order)
    if not children:
        lines += [f"{inner}End Site", f"{inner}{{", f"{inner}\tOFFSET 0.000000 0.000000 0.000000", f"{inner}}}"]
    lines.append(f"{pad}}}")
