"""Motions in a mirror: x is reflected, and joints of the left and of the right are exchanged.

With S the reflection of the world's x and s that of the skeleton's lateral axis, the axis along which its left and right
offsets are mirror images, joint j of partner j' turns by

    R'_root = S R_root s,    R'_j' = s R_j s,

so that a bone's global rotation G becomes S G s, its offset o of the partner is s o, and positions are S p.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from langevin.modalities.motion import rotations
from langevin.modalities.motion.data import Motions
from langevin.modalities.motion.files.bvh import END
from langevin.modalities.motion.skeleton import Skeleton
from langevin.modalities.paths import some

UNLIKE = 0.02  # by which bones of the left and right may differ, of the skeleton's size
OTHER = {"left": "right", "right": "left", "l": "r", "r": "l"}
_NAMES = [  # of joints: left_knee, LeftKnee; lknee, LKnee; knee_l, kneeL; Bip01_L_knee
    re.compile("left|right", re.IGNORECASE), re.compile("^[lr]", re.IGNORECASE),
    re.compile(f"[lr](?=$|{END}$)", re.IGNORECASE), re.compile(r"(?<=[ ._-])[lr](?=[ ._-])", re.IGNORECASE),
]  # fmt: skip
_WORDS = re.compile(r"(?<![A-Za-z])(?:left|right)(?![a-z])|(?:Left|Right)(?![a-z])|LEFT|RIGHT")  # not upright, lefty


def _exchanged(match: re.Match[str]) -> str:
    word, other = match[0], OTHER[match[0].lower()]
    return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other


def mirrored_text(text: str) -> str:
    """A caption or an action, with the words left and right exchanged."""
    return _WORDS.sub(_exchanged, text)


def partners(skeleton: Skeleton) -> tuple[int, ...]:
    """The joint of the other side for each joint, by their names; a joint of no side is its own.

    Raises:
        ValueError: no names tell left from right, or the sides have other joints."""
    index = {name: i for i, name in reversed(list(enumerate(skeleton.names)))}
    found = list[int]()
    for i, name in enumerate(skeleton.names):
        others = [index.get(pattern.sub(_exchanged, name), i) for pattern in _NAMES]
        found.append(next((other for other in others if other != i), i))
    if found == list(range(len(found))):
        raise ValueError(
            f"data.mirror exchanges left and right, and no two joints are named so: {some(skeleton.names, limit=8)}; leave "
            "it out"
        )
    for i, other in enumerate(found):
        up = skeleton.parents[i]
        if found[other] != i or skeleton.kinds[i] != skeleton.kinds[other] or (
            skeleton.parents[other] != (found[up] if up >= 0 else -1)
        ):  # fmt: skip
            raise ValueError(
                f"data.mirror exchanges {skeleton.names[i]} and {skeleton.names[other]}, whose parents or kinds are no "
                "mirror images: leave it out"
            )
    return tuple(found)


def lateral(skeleton: Skeleton, pairs: Sequence[int]) -> int:
    """The axis (0, 1, 2) of the skeleton along which its sides are mirror images.

    Raises:
        ValueError: none is, or hinges turn about axes that are no mirror images."""
    offsets, axes = (torch.tensor(part, dtype=torch.float64) for part in (skeleton.offsets, skeleton.axes))
    signs = 1 - 2 * torch.eye(3, dtype=torch.float64)
    apart = (offsets[list(pairs)] - offsets * signs[:, None]).abs()[:, 1:]  # (axis, joint, 3)
    axis = int(apart.sum((1, 2)).argmin())
    worst = int(apart[axis].amax(1).argmax()) + 1
    if float(apart[axis].max()) > UNLIKE * skeleton.height:
        names = " and ".join(skeleton.names[i] for i in dict.fromkeys((worst, pairs[worst])))
        raise ValueError(
            f"data.mirror needs a symmetric skeleton, and bones to {names} are no mirror images: leave it out"
        )
    hinge = (axes * signs[axis] * axes[list(pairs)]).sum(1).abs()
    bent = [
        name
        for name, kind, one in zip(skeleton.names, skeleton.kinds, hinge, strict=True)
        if kind == "hinge" and one < 0.99
    ]
    if bent:
        raise ValueError(
            f"data.mirror needs a symmetric skeleton, and the hinge {bent[0]} turns about another axis than its "
            "other side: leave it out"
        )
    return axis


def mirrored(skeleton: Skeleton, poses: Tensor) -> Tensor:
    """Poses (..., 3 + 4 m) in the mirror. Raises `ValueError` for skeletons without two like sides."""
    pairs = partners(skeleton)
    axis = lateral(skeleton, pairs)
    root, q = skeleton.split(poses)
    order = [skeleton.moving.index(pairs[joint]) for joint in skeleton.moving]
    turned = _reflected(q, axis)[..., order, :]  # s R s
    first = _reflected(q[..., :1, :], 0)  # S R S, then S s: half a turn about the third axis
    if axis:
        half = torch.zeros(3, dtype=q.dtype)
        half[3 - axis] = 1
        first = rotations.multiply(first, torch.cat([half.new_zeros(1), half]).expand_as(first))
    return skeleton.join(root * root.new_tensor([-1.0, 1.0, 1.0]), torch.cat([first, turned[..., 1:, :]], -2))


def _reflected(q: Tensor, axis: int) -> Tensor:
    """s R s of quaternions (..., 4): of a turn's axis, a pseudovector, only the part along the mirror's stays."""
    signs = -q.new_ones(4)
    signs[[0, 1 + axis]] = 1
    return q * signs


def with_mirrored(part: Motions) -> Motions:
    """Motions, and each again in the mirror. Raises `ValueError` for states, and see `mirrored`."""
    skeleton = part.skeleton
    if skeleton is None:
        raise ValueError("data.mirror is for skeletons, and these are states: leave it out")
    words = [tuple(text and mirrored_text(text) for text in said) for said in (part.actions, part.texts)]
    line = f"Training motions of which a mirrored copy is added: {len(part):,}."
    return replace(
        part, clips=(*part.clips, *(mirrored(skeleton, clip) for clip in part.clips)),
        names=(*part.names, *(f"{name} (mirrored)" for name in part.names)), actions=(*part.actions, *words[0]),
        texts=(*part.texts, *words[1]), notes=replace(part.notes, remarks=(*part.notes.remarks, line)),
    )  # fmt: skip
