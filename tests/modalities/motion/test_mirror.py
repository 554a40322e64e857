"""A motion in the mirror is the reflection of the motion, with its sides exchanged."""

from dataclasses import replace

import pytest
import torch

from langevin.modalities.motion.mirror import mirrored, mirrored_text, partners
from langevin.modalities.motion.modality import Motion
from tests import motions
from tests.motions import MAN, poses

OTHER = [0, 1, 2, 6, 7, 8, 3, 4, 5]  # of MAN's joints


def along(axis):
    """MAN, with his sides along another axis, and a motion of every joint: his hinges are balls."""
    turn = {0: [2, 1, 0], 1: [0, 2, 1], 2: [0, 1, 2]}[axis]
    man = replace(
        MAN, offsets=tuple((o[turn[0]], o[turn[1]], o[turn[2]]) for o in MAN.offsets), axes=((0.0,) * 3,) * 9,
        kinds=tuple("ball" if kind == "hinge" else kind for kind in MAN.kinds),
    )  # fmt: skip
    q = torch.nn.functional.normalize(torch.randn(30, 6, 4, generator=torch.Generator().manual_seed(axis)), dim=-1)
    return man, man.join(torch.randn(30, 3), q).double()


@pytest.mark.parametrize(
    "made", [lambda: (MAN, poses("run", 40, yaw=0.4).double()), *(lambda a=a: along(a) for a in range(3))]
)
def test_positions_are_reflected_and_sides_exchanged(made):
    man, own = made()
    found = mirrored(man, own)
    p, seen = man.positions_of(own), man.positions_of(found)
    assert partners(man) == tuple(OTHER)
    assert torch.allclose(seen[:, OTHER], p * torch.tensor([-1.0, 1.0, 1.0]), atol=1e-6)
    bones = (seen - seen[:, [max(0, parent) for parent in man.parents]]).norm(dim=-1)
    assert torch.allclose(bones, man.lengths().expand_as(bones), atol=1e-6)
    back = mirrored(man, found)
    assert torch.allclose(man.split(back)[0], man.split(own)[0])
    same = (man.split(back)[1] * man.split(own)[1]).sum(-1)
    assert torch.allclose(same.abs(), torch.ones_like(same), atol=1e-6)  # q and -q are one rotation


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("LeftArm", "RightArm"),
        ("lShldr", "rShldr"),
        ("arm_l", "arm_r"),
        ("ArmL_end", "ArmR_end"),
        ("B_L_Arm", "B_R_Arm"),
    ],
)
def test_sides_are_told_by_names(left, right):
    names = ("lowerback", "spine", "collar", left, "k1", "f1", right, "k2", "f2")
    man = replace(MAN, names=names, parents=(-1, 0, 1, 0, 0, 0, 0, 0, 0))
    assert partners(man) == (0, 1, 2, 6, 4, 5, 3, 7, 8)


def test_skeletons_without_two_like_sides_are_refused():
    one = poses("walk", 2)
    refused = [
        (replace(MAN, names=tuple("abcdefghi")), "no two joints are named so: a, b, c"),
        (
            replace(MAN, parents=(-1, 0, 1, 0, 3, 4, 0, 6, 6)),
            "left_foot and right_foot, whose parents or kinds are no mirror",
        ),
        (
            replace(MAN, offsets=(*MAN.offsets[:8], (0, -0.5, 0))),
            "bones to left_foot and right_foot are no mirror images",
        ),
        (
            replace(MAN, offsets=(*MAN.offsets[:2], (0.1, 0.3, 0.3), *MAN.offsets[3:])),
            "bones to head_end are no mirror",
        ),
        (
            replace(MAN, axes=(*MAN.axes[:7], (1.0, 0.0, 0.0), MAN.axes[8])),
            "the hinge left_knee turns about another axis",
        ),
    ]
    for man, said in refused:
        with pytest.raises(ValueError, match=said):
            mirrored(man, one)


def test_words_are_exchanged():
    assert mirrored_text("turns Left, upright, then right_kick") == "turns Right, upright, then left_kick"
    assert mirrored_text("TurnLeft") == "TurnRight"


def test_each_training_motion_is_there_twice(tmp_path):
    folder = motions.walks(tmp_path / "walks", each=4)
    for file in folder.glob("man_stand*"):
        file.rename(folder / file.name.replace("stand", "left turn"))
    (train, val), (both, held) = (Motion(path=str(folder), window=32, mirror=m).open() for m in (False, True))
    n = len(train)
    assert len(both) == 2 * n
    assert all(torch.equal(a, b) for a, b in zip(train.clips, both.clips[:n], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(val.clips, held.clips, strict=True))
    assert set(both.actions[n:]) == {"walk", "run", "right turn"}
    assert both.actions[:n] == train.actions
    assert any(f"mirrored copy is added: {n}" in line for line in both.notes.lines())
    with pytest.raises(ValueError, match="for skeletons, and these are states"):
        Motion(path=str(motions.swings(tmp_path / "swings")), mirror=True).open()
