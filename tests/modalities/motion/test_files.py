"""Files are read as they were written, whatever the order of channels; what is wrong with others is said with its place."""

import json
import math

import numpy as np
import pytest
import torch

from langevin.modalities.motion import rotations
from langevin.modalities.motion.clip import Clip, Unreadable, repeated
from langevin.modalities.motion.files import arrays, bvh, deepmimic
from langevin.modalities.motion.files.listing import detect, find, named_actions
from tests import motions
from tests.motions import MAN, RATE, poses

BVH = """HIERARCHY
ROOT hips
{
  OFFSET 1 2 3
  CHANNELS 6 %s
  JOINT knee
  {
    OFFSET 0 -4 0
    CHANNELS 3 %s
    End Site
    {
      OFFSET 0 -3 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.05
%s
%s
"""
PLACES, TURNS = ["Xposition", "Yposition", "Zposition"], ["Zrotation", "Xrotation", "Yrotation"]


def written(places=PLACES, root=TURNS, knee=TURNS, first=True):
    """A file with channels in an order of choice: the same motion, in numbers by name."""
    values = dict(zip([*PLACES], (1.0, 9.0, -2.0)))
    turns = {"Zrotation": 20.0, "Xrotation": -35.0, "Yrotation": 120.0}
    channels = [*places, *root] if first else [*root, *places]
    line = " ".join(str({**values, **turns}[name]) for name in channels)
    line += " " + " ".join(str(turns[name] / 2) for name in knee)
    return BVH % (" ".join(channels), " ".join(knee), line, line)


def test_a_hierarchy_is_read():
    clip = bvh.parse(written())
    assert clip.rate == pytest.approx(20)
    skeleton = clip.skeleton
    assert skeleton.names == ("hips", "knee", "knee_end")
    assert skeleton.parents == (-1, 0, 1)
    assert skeleton.kinds == ("ball", "ball", "fixed")
    assert skeleton.offsets[2] == (0, -3, 0)
    assert clip.values.shape == (2, 11)
    assert clip.values[0, :3].tolist() == [1, 9, -2]
    z, x, y = (math.radians(v) for v in (20.0, -35.0, 120.0))
    axes = torch.eye(3, dtype=torch.float64)
    expected = rotations.multiply(
        rotations.multiply(rotations.about(axes[2], torch.tensor(z)), rotations.about(axes[0], torch.tensor(x))),
        rotations.about(axes[1], torch.tensor(y)),
    )
    assert float(rotations.angle_between(clip.values[0, 3:7].double(), expected)) < 1e-3


def test_channels_come_in_any_order_and_place():
    one = bvh.parse(written())
    swapped = bvh.parse(written(places=PLACES[::-1], first=False))
    assert torch.equal(one.values, swapped.values)
    for order in ("XYZ", "YXZ", "ZYX"):
        names = [f"{axis}rotation" for axis in order]
        found = bvh.parse(written(root=names))
        angles = {"Z": 20.0, "X": -35.0, "Y": 120.0}
        turned = rotations.of_euler(torch.tensor([angles[a] for a in order]).double().deg2rad(), order)
        assert float(rotations.angle_between(found.values[0, 3:7].double(), turned)) < 1e-3


def test_an_end_may_be_missing_and_a_joint_may_be_a_hinge():
    text = "HIERARCHY\nROOT a\n{\nOFFSET 1 2 3\nCHANNELS 3 Xrotation Yrotation Zrotation\nJOINT b\n{\nOFFSET 0 1 0\n"
    text += "CHANNELS 1 Zrotation\n}\n}\nMOTION\nFrames: 1\nFrame Time: 0.1\n0 0 0 90\n"
    clip = bvh.parse(text)
    assert clip.skeleton.names == ("a", "b")
    assert clip.skeleton.kinds == ("ball", "hinge")
    assert clip.skeleton.axes[1] == (0, 0, 1)
    assert clip.values[0, :3].tolist() == [1, 2, 3]  # a root without positions is at its offset
    high = text.replace("CHANNELS 3", "CHANNELS 4 Yposition", 1).replace("0 0 0 90", "9 0 0 0 90")
    assert bvh.parse(high).values[0, :3].tolist() == [1, 9, 3]


def test_positions_of_a_joint_that_stay_are_its_offset_and_others_are_refused():
    text = "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\nCHANNELS 3 Xrotation Yrotation Zrotation\nJOINT b\n{\nOFFSET 0 1 0\n"
    text += "CHANNELS 4 Xposition Yposition Zposition Zrotation\n}\n}\nMOTION\nFrames: 2\nFrame Time: 0.1\n"
    clip = bvh.parse(text + "0 0 0 0 2 0 90\n0 0 0 0 2 0 45\n")
    assert clip.skeleton.offsets[1] == (0, 2, 0)
    with pytest.raises(Unreadable, match=r"moves joint b in its parent by up to 1: bones keep their length"):
        bvh.parse(text + "0 0 0 0 2 0 90\n0 0 0 0 3 0 45\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: "", "does not begin with HIERARCHY"),
        (lambda t: t[:60], "ends in its hierarchy"),
        (lambda t: t[: t.index("MOTION")], "has no MOTION"),
        (lambda t: t[: t.index("Frame Time")], "has no 'Frames:' and 'Frame Time:'"),
        (lambda t: t[:-30], "says 2 frames of 9 channels, and holds numbers for"),
        (lambda t: t.replace("-35.0", "nan", 1), "has 'nan' among its numbers, in line 19"),
        (lambda t: t.replace("120.0", "12o.0", 1), "has '12o.0' among its numbers, in line 19"),
        (lambda t: t.replace("Xrotation", "Xturn", 1), "has the unknown channel 'Xturn' of joint hips, in line 5"),
        (lambda t: t.replace("Xrotation", "Zrotation", 1), "has the channel Zrotation of joint hips twice"),
        (lambda t: t.replace("OFFSET 0 -4 0", "OFFSET 0 four 0"), "has 'four' where an offset should be, in line 8"),
        (lambda t: t.replace("MOTION", "ROOT other\n{\n}\nMOTION"), "has a second ROOT, in line 16"),
        (lambda t: t.replace("Frame Time: 0.05", "Frame Time: 0"), "says Frames: 2 and Frame Time: 0"),
        (lambda t: t.replace(" 9.0", " 1e39"), "too large"),
    ],
)
def test_what_is_wrong_with_a_hierarchy_is_said_with_its_place(change, said):
    with pytest.raises(Unreadable, match=said):
        bvh.parse(change(written()))


def test_a_motion_that_is_written_is_read_back():
    q = poses("run", 60, yaw=2.5)
    clip = bvh.parse(bvh.text_of(MAN, q, RATE))
    assert clip.rate == pytest.approx(RATE)
    assert clip.skeleton.names == tuple(
        n if k != "fixed" else MAN.names[p] + "_end" for n, k, p in zip(MAN.names, MAN.kinds, MAN.parents)
    )
    assert clip.skeleton.offsets == tuple(tuple(float(v) for v in o) for o in MAN.offsets)
    assert float((clip.skeleton.positions_of(clip.values) - MAN.positions_of(q)).abs().max()) < 2e-5
    again = bvh.text_of(clip.skeleton, clip.values, clip.rate)
    assert float((bvh.parse(again).values - clip.values).abs().max()) < 2e-5


def test_written_angles_do_not_jump():
    text = bvh.text_of(MAN, poses("walk", 400), RATE)
    numbers = np.array([line.split() for line in text.split("\n")[-401:-1]], dtype=float)
    assert np.abs(np.diff(numbers[:, 3:], axis=0)).max() < 60
    assert numbers[:, 5].max() - numbers[:, 5].min() > 300  # the man turns by more than the jump would be


# -------------------------------------------------------------------------------------------------------------- JSON


def mimic(change=lambda found: found):
    return change(json.loads(deepmimic.text_of(MAN, poses("walk", 30), RATE)))


def edited(frame, column, value):
    def change(found):
        found["Frames"][frame][column] = value
        return found

    return change


def test_json_is_read_as_it_was_written():
    found = mimic()
    skeleton = deepmimic.character(found)
    assert skeleton == MAN
    clip = deepmimic.motion(found, skeleton)
    assert clip.rate == pytest.approx(RATE)
    assert clip.frames == 30
    assert float((MAN.positions_of(clip.values) - MAN.positions_of(poses("walk", 30))).abs().max()) < 1e-5


def test_durations_that_differ_are_resampled_to_one_rate():
    """Frames of half the duration, in the middle: the motion stays where it is in time."""
    whole, dense = poses("walk", 30), poses("walk", 59, rate=2 * RATE)
    found = json.loads(deepmimic.text_of(MAN, torch.cat([whole[:10], dense[20:40], whole[20:]]), RATE))
    for i in range(10, 30):
        found["Frames"][i][0] = 0.5 / RATE
    found["Frames"][-1][0] = 0.0
    clip = deepmimic.motion(found, MAN)
    assert clip.frames == 30
    assert float((MAN.positions_of(clip.values) - MAN.positions_of(whole)).abs().max()) < 1e-4


def test_quaternions_are_normalised_and_made_continuous():
    def change(found):
        for i, frame in enumerate(found["Frames"]):
            frame[4:8] = [v * (1.08 if i % 2 else -0.93) for v in frame[4:8]]
        return found

    clip = deepmimic.motion(mimic(change), MAN)
    q = MAN.split(clip.values)[1]
    assert float((q.norm(dim=-1) - 1).abs().max()) < 1e-6
    assert float((q[1:] * q[:-1]).sum(-1).min()) > 0.9
    assert float((MAN.positions_of(clip.values) - MAN.positions_of(poses("walk", 30))).abs().max()) < 1e-4
    assert clip.remarks == ("quaternions are off by up to 0.08 in length, and were normalised",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: {"Loop": "none"}, "has no list of Frames"),
        (lambda found: {**found, "Frames": []}, "has no list of Frames"),
        (lambda found: {**found, "Frames": [[0.1, 2.0], [0.1]]}, "frames of different numbers of values: 1, 2"),
        (lambda found: {**found, "Frames": [row[:-1] for row in found["Frames"]]}, "has frames of 21 numbers, and"),
        (edited(4, 6, float("nan")), "not finite in frame 4, column 6"),
        (edited(4, 0, 0.0), "a frame that lasts 0 seconds before the last one"),
        (edited(4, 4, 9.0), "a quaternion of length 9.* for hips in frame 4"),
        (edited(4, 4, "left"), "frames that are not numbers"),
    ],
)
def test_what_is_wrong_with_json_is_said_with_its_place(change, said):
    with pytest.raises(Unreadable, match=said):
        deepmimic.motion(mimic(change), MAN)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Type": "screw"}, "joint spine of unknown type"),
        ({"AttachThetaX": 0.5}, "attaches joint spine turned"),
        ({"Parent": 7}, "is no character: .*parents come before"),
        ({"Parent": None}, "is no character: TypeError"),
    ],
)
def test_what_is_no_character_is_refused(change, said):
    found = mimic()
    found["Skeleton"]["Joints"][1] |= change
    with pytest.raises(Unreadable, match=said):
        deepmimic.character(found)


def test_a_json_that_is_cut_short_is_said(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(mimic())[:-40])
    with pytest.raises(Unreadable, match=r"is not JSON.*cut short"):
        deepmimic.load(path)


# ------------------------------------------------------------------------------------------------------------ resampling


def test_a_clip_at_another_rate_is_the_same_motion():
    fine = Clip(values=poses("walk", 121, rate=60), rate=60.0, skeleton=MAN)
    found = fine.resampled(20.0)
    assert found.frames == 41
    assert float((MAN.positions_of(found.values) - MAN.positions_of(fine.values[::3])).abs().max()) < 1e-5
    back = found.resampled(60.0)
    assert float((MAN.positions_of(back.values) - MAN.positions_of(fine.values)).abs().max()) < 0.01


def test_a_cycle_goes_on_where_it_ended():
    """A walk along a circle, repeated, is the walk along more of the circle."""
    cycle = round(RATE / motions.GAITS["walk"][0])
    whole = poses("walk", 3 * cycle + 1)
    clip = Clip(values=whole[: cycle + 1], rate=RATE, skeleton=MAN, loop=True)
    found = repeated(clip, 3 * cycle + 1)
    assert found.frames >= 3 * cycle
    expected, got = MAN.positions_of(whole), MAN.positions_of(found.values[: len(whole)])
    assert float((got - expected).abs().max()) < 0.02  # the way of a step is as if before it
    assert repeated(Clip(values=whole[:21], rate=RATE, skeleton=MAN), 60).frames == 21


# --------------------------------------------------------------------------------------------------------------- states


def test_states_are_read_with_their_rate_and_names(tmp_path):
    motions.swings(tmp_path, count=1)
    clip = arrays.read_csv(tmp_path / "swing_000.csv")
    assert clip.columns == ("angle", "speed")
    assert clip.rate == pytest.approx(10)
    assert clip.values.shape == (40, 2)
    np.savez(tmp_path / "a.npz", states=np.ones((3, 5, 2)), rate=25.0, columns=["u", "v"], actions=["a", "b", "a"])
    found = arrays.read_npz(tmp_path / "a.npz")
    assert [action for _, action in found] == ["a", "b", "a"]
    assert {clip.rate for clip, _ in found} == {25.0}
    assert found[0][0].columns == ("u", "v")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("time,x\n", "a heading and no numbers"),
        ("time,x\n0,1\n1\n", "has 1 cells in line 3, and 2 in the first one"),
        ("time,x\n0,1\n1,nan\n", "has 'nan' in line 3, column 2"),
        ("time,x\n0,1\n1,left\n", "has 'left' in line 3, column 2"),
        ("time,x\n0,1\n1,2\n1,3\n", "times that do not rise: 1, then 1"),
        ("time,x\n0,1\n1,2\n3,3\n", "not evenly spaced, 1 to 2 apart"),
        ("0,1e60\n", "too large"),
        ("time\n0\n1\n", "0 columns besides the time"),
    ],
)
def test_what_is_wrong_with_states_is_said_with_its_place(tmp_path, content, said):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(Unreadable, match=said):
        arrays.read_csv(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({}, "holds the arrays none"),
        ({"a": np.ones((2, 3, 4)), "b": np.ones((2, 3, 4))}, "name the states 'states'"),
        ({"states": np.ones(4)}, r"float64 of shape \(4,\)"),
        ({"states": np.full((1, 2, 3), np.inf)}, "not finite in trajectory 0, frame 0, column 0"),
        ({"states": np.ones((1, 2, 999))}, "states of 999 columns"),
        ({"states": np.ones((1, 2, 3)), "rate": np.array(-1.0)}, "says a rate of -1"),
    ],
)
def test_what_is_wrong_with_an_archive_is_said(tmp_path, held, said):
    np.savez(tmp_path / "a.npz", **held)
    with pytest.raises(Unreadable, match=said):
        arrays.read_npz(tmp_path / "a.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Unreadable, match="cannot be read as an archive"):
        arrays.read_npz(tmp_path / "cut.npz")


# -------------------------------------------------------------------------------------------------------------- folders


def test_actions_are_what_file_names_differ_by():
    stems = ["human_walk_1", "human_walk_2", "human_run_1", "human_run_2"]
    assert list(named_actions(stems).values()) == ["walk", "walk", "run", "run"]
    assert named_actions(["01", "02", "03", "04"]) == {}
    assert named_actions(["a", "b", "c"]) == {}  # all differ
    assert named_actions(["a_1", "a_2"]) == {}  # none do


def test_metadata_says_what_motions_are(tmp_path):
    motions.walks(tmp_path, each=2, frames=4)
    (tmp_path / "metadata.csv").write_text("file_name,action,text\nman_walk_0.bvh,walking,a man walks\nno.bvh,x,y\n")
    found = find(str(tmp_path))
    said = {entry.name: (entry.action, entry.text) for entry in found.entries}
    assert said["man_walk_0.bvh"] == ("walking", "a man walks")
    assert said["man_run_0.bvh"] == (None, None)
    assert any("no.bvh, which is not there" in line for line in found.remarks)
    (tmp_path / "metadata.csv").unlink()
    assert {entry.action for entry in find(str(tmp_path)).entries} == {"walk", "run", "stand"}
    assert {entry.action for entry in find(str(tmp_path), pattern=r"_(\w)\w+_").entries} == {"w", "r", "s"}
    assert len(find(str(tmp_path), only="*walk*").entries) == 2
    with pytest.raises(ValueError, match=r"data.only='cat\*' matches none of 6 files"):
        find(str(tmp_path), only="cat*")


def test_all_parts_that_are_no_training_are_held_out_and_the_rest_is_named(tmp_path):
    for part in ("Train", "test", "val", "extra"):
        motions.walks(tmp_path / part / "walking", each=1, frames=4)
        motions.walks(tmp_path / part / "idle", each=1, frames=4)
    motions.one(tmp_path)
    found = find(str(tmp_path))
    held = {
        name: {entry.test for entry in found.entries if entry.name.startswith(name)}
        for name in ("Train", "test", "val")
    }
    assert held == {"Train": {False}, "test": {True}, "val": {True}}
    assert len(found.entries) == 3 * 6
    assert {entry.action for entry in found.entries} == {"walking", "idle"}
    assert any("beside train/ and the test part, not used: 7 (extra/idle/" in line for line in found.remarks)
    assert len(find(str(tmp_path), only="extra/*").entries) == 6  # without parts, all


def test_folders_are_detected_by_what_is_in_them(tmp_path):
    for name, make in (("bvh", motions.walks), ("json", motions.mimics), ("csv", motions.swings)):
        score, reason = detect(make(tmp_path / name))
        assert score == 1.0
        assert reason.split(" ")[0] in ("12", "24")
    (tmp_path / "none").mkdir()
    assert detect(tmp_path / "none") is None
    (tmp_path / "none" / "table.csv").write_text("age,income\n3,4\n")
    assert detect(tmp_path / "none") is None  # a table of records, not of times
    with pytest.raises(ValueError, match="holds no motion"):
        find(str(tmp_path / "none"))
