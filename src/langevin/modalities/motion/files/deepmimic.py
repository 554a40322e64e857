"""The JSON of DeepMimic: motions as lists of frames, and characters as trees of joints.

A motion is {"Loop": "wrap" or "none", "Frames": [[seconds, root x y z, rotations ...], ...]}: a frame lasts its first
number of seconds, which may differ from frame to frame and is 0 in the last one. Ball joints have a quaternion w x y z,
revolute joints an angle about their z axis, fixed joints nothing. A character is

    {"Skeleton": {"Joints": [{"Name", "Type", "Parent", "AttachX", "AttachY", "AttachZ"}, ...]}}

"DeepMimic: Example-Guided Deep Reinforcement Learning of Physics-Based Character Skills" (2018, arXiv:1804.02717).
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from langevin.modalities.content import content
from langevin.modalities.motion import rotations
from langevin.modalities.motion.clip import Clip, Unreadable, interpolated, uniform_times
from langevin.modalities.motion.skeleton import JointKind, Skeleton, hinge_angles

LARGEST = 1 << 28  # bytes of a file
KINDS: dict[str, JointKind] = {"none": "ball", "spherical": "ball", "revolute": "hinge", "fixed": "fixed"}
WIDTHS = {"ball": 4, "hinge": 1, "fixed": 0}
Z = (0.0, 0.0, 1.0)
OFF = 0.5  # of the length of a quaternion from 1, beyond which it is taken to be something else


def load(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises `Unreadable`."""
    try:
        found = json.loads(content(path, most=LARGEST))
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"is not JSON: {error}; it may be cut short") from error
    if not isinstance(found, dict):
        raise Unreadable("holds no JSON object")
    return found


def character(found: dict[str, Any]) -> Skeleton:
    """The skeleton of a character. Raises `Unreadable`."""
    try:
        joints = found["Skeleton"]["Joints"]
        names = tuple(str(joint["Name"]) for joint in joints)
        kinds = tuple(KINDS.get(str(joint["Type"]), "") for joint in joints)
        parents = tuple(int(joint["Parent"]) for joint in joints)
        offsets = tuple(tuple(float(joint[f"Attach{axis}"]) for axis in "XYZ") for joint in joints)
        turned = [j["Name"] for j in joints if any(float(j.get(f"AttachTheta{axis}", 0)) for axis in "XYZ")]
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"is no character: {type(error).__name__}: {error}") from error
    if "" in kinds:
        raise Unreadable(f"has a joint {names[kinds.index('')]} of unknown type; known are {', '.join(KINDS)}")
    if turned:
        raise Unreadable(f"attaches joint {turned[0]} turned (AttachTheta), which is not read")
    axes = tuple(Z if kind == "hinge" else (0.0, 0.0, 0.0) for kind in kinds)
    try:
        return Skeleton(names=names, parents=parents, offsets=offsets, kinds=kinds, axes=axes)  # type: ignore[arg-type]
    except ValueError as error:
        raise Unreadable(f"is no character: {error}") from error


def width(skeleton: Skeleton) -> int:
    """Numbers of a frame: its seconds, the root's position, and the rotations."""
    return 4 + sum(WIDTHS[kind] for kind in skeleton.kinds)


def motion(found: dict[str, Any], skeleton: Skeleton, *, rate: float | None = None) -> Clip:
    """The motion of a file's object.

    Args:
        rate: frames per second of the result; None takes that of most of the time.

    Raises:
        Unreadable: frames that are not of this skeleton, or not finite."""
    table = frames_of(found)
    if table.shape[1] != width(skeleton):
        raise Unreadable(
            f"has frames of {table.shape[1]} numbers, and the skeleton of {skeleton.names[0]} {width(skeleton)}"
        )
    seconds = table[:, 0]
    times = np.concatenate([[0.0], np.cumsum(seconds[:-1])])
    numbers, worst = torch.from_numpy(table), 0.0
    turns, at = list[Tensor](), 4
    for joint, kind in enumerate(skeleton.kinds):
        own = numbers[:, at : at + WIDTHS[kind]]
        at += WIDTHS[kind]
        if kind == "ball":
            error = (own.norm(dim=1) - 1).abs()
            worst = max(worst, float(error.max()))
            if float(error.max()) > OFF:
                where = int(error.argmax())
                length, name = float(own[where].norm()), skeleton.names[joint]
                raise Unreadable(f"has a quaternion of length {length:.3g} for {name} in frame {where}")
            turns.append(rotations.normalised(own))
        elif kind == "hinge":
            turns.append(rotations.about(torch.tensor(skeleton.axes[joint]).double().expand(len(own), 3), own[:, 0]))
    poses = skeleton.join(numbers[:, 1:4], rotations.continuous(torch.stack(turns, 1)))
    rate = rate or _rate(seconds)
    poses = interpolated(poses, torch.from_numpy(times), uniform_times(float(times[-1]), rate), skeleton=True)
    remarks = (f"quaternions are off by up to {worst:.2g} in length, and were normalised",) if worst > 0.01 else ()
    return Clip(values=poses.float(), rate=rate, skeleton=skeleton, loop=found.get("Loop") == "wrap", remarks=remarks)


def frames_of(found: dict[str, Any]) -> np.ndarray:
    """The frames (n, numbers) float64 of a motion; their durations are positive but for the last. Raises `Unreadable`."""
    frames = found.get("Frames")
    if not isinstance(frames, list) or not frames:
        raise Unreadable("has no list of Frames")
    counts = {len(frame) if isinstance(frame, list) else 0 for frame in frames}
    if len(counts) > 1 or 0 in counts:
        raise Unreadable(f"has frames of different numbers of values: {', '.join(map(str, sorted(counts)))}")
    try:
        table = np.array(frames, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise Unreadable(f"has frames that are not numbers: {error}") from error
    if not np.isfinite(table).all():
        frame, column = np.argwhere(~np.isfinite(table))[0]
        raise Unreadable(f"has a number that is not finite in frame {frame}, column {column}")
    if len(table) > 1 and (table[:-1, 0] <= 0).any():
        raise Unreadable(
            f"has a frame that lasts {table[int(np.argmin(table[:-1, 0])), 0]:g} seconds before the last one"
        )
    return table


def _rate(seconds: np.ndarray) -> float:
    """Frames per second during most of the time."""
    held = np.round(seconds[seconds > 0], 4)
    if not len(held):
        return 30.0
    values, counts = np.unique(held, return_counts=True)
    most = float(values[(values * counts).argmax()])
    rate = 1 / float(np.median(seconds[np.abs(seconds - most) < 1e-4]))
    return round(rate) if abs(rate - round(rate)) < 0.003 * rate else rate  # durations are often rounded


def text_of(skeleton: Skeleton, poses: Tensor, rate: float, *, loop: bool = False) -> str:
    """The JSON of poses (frames, 3 + 4 m), with the skeleton as a character under "Skeleton"."""
    root, q = skeleton.split(poses.double())
    angles, index = hinge_angles(skeleton, q), {joint: i for i, joint in enumerate(skeleton.moving)}
    columns = [torch.full((len(poses), 1), 1 / rate, dtype=torch.float64), root]
    for joint, kind in enumerate(skeleton.kinds):
        if kind == "ball":
            columns.append(q[:, index[joint]])
        elif kind == "hinge":
            columns.append(angles[:, index[joint], None] * _towards_z(skeleton, joint))
    frames = [[round(v, 7) for v in row] for row in torch.cat(columns, 1).tolist()]
    names = {"ball": "spherical", "hinge": "revolute", "fixed": "fixed"}
    joints = [
        {
            "ID": i, "Name": skeleton.names[i], "Type": names[kind] if i else "none", "Parent": skeleton.parents[i],
            **{f"Attach{axis}": v if i else 0.0 for axis, v in zip("XYZ", skeleton.offsets[i], strict=True)},
        }
        for i, kind in enumerate(skeleton.kinds)
    ]  # fmt: skip
    return json.dumps({"Loop": "wrap" if loop else "none", "Skeleton": {"Joints": joints}, "Frames": frames})


def _towards_z(skeleton: Skeleton, joint: int) -> float:
    """1, or -1 for a hinge about -z.

    Raises:
        ValueError: a hinge about another axis, which the format cannot hold."""
    axis = skeleton.axes[joint]
    if math.hypot(axis[0], axis[1]) > 1e-6:
        raise ValueError(
            f"the JSON of DeepMimic has hinges about z only, and {skeleton.names[joint]} is another: write .bvh"
        )
    return 1.0 if axis[2] > 0 else -1.0
