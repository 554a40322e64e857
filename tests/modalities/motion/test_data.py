"""Folders become two parts of one rate and one skeleton; what is left out is said."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from langevin.modalities.modality import Samples
from langevin.modalities.motion import rotations
from langevin.modalities.motion.batches import MotionBatches
from langevin.modalities.motion.data import common_rate, load, simulated_parts
from langevin.modalities.motion.files import bvh, deepmimic
from langevin.modalities.motion.modality import Motion
from langevin.modalities.motion.requests import clip_of
from langevin.modalities.motion.skeleton import Skeleton
from langevin.modalities.motion.systems import Pendulum
from langevin.modalities.motion.systems.system import energies
from langevin.recipe.detect import candidates
from tests import motions
from tests.motions import MAN, RATE, poses


def fitted(path, **changes):
    motion = Motion(path=str(path), **changes)
    train, val = motion.open()
    return motion.fitted(train), train, val


def test_different_rates_and_lengths_come_to_one(tmp_path):
    """Files at 20 and 30 frames a second are the same motions at 20."""
    _, train, val = fitted(motions.mimics(tmp_path), window=32)
    assert train.rate == RATE
    assert any("20, 30 frames per second, and are brought to 20" in line for line in train.notes.lines())
    both = {name: clip for part in (train, val) for name, clip in zip(part.names, part.clips, strict=True)}
    for i in range(4):
        expected = poses("walk", 60, phase=0.9 * i)
        found = both[f"man_walk_{i}.txt"]
        error = MAN.positions_of(found) - MAN.positions_of(expected[: len(found)])
        assert float(error.abs().max()) < 0.01
    assert len({len(clip) for clip in both.values()}) > 1


def test_skeletons_that_differ_are_named(tmp_path):
    motions.walks(tmp_path, each=2)
    small = Skeleton(
        names=("hips", "tail"), parents=(-1, 0), kinds=("ball", "fixed"), offsets=((0, 0, 0), (0, -1, 0)),
        axes=((0, 0, 0), (0, 0, 0)),
    )  # fmt: skip
    q = rotations.yaw(torch.zeros(30, 1))
    (tmp_path / "worm_crawl.bvh").write_text(bvh.text_of(small, small.join(torch.zeros(30, 3), q), RATE))
    with pytest.raises(ValueError, match="different skeletons") as refused:
        Motion(path=str(tmp_path)).open()
    said = str(refused.value)
    assert "2 different skeletons: 6 such as man_run_0.bvh (9 joints); 1 such as worm_crawl.bvh (2 joints)" in said
    assert "data.only='man*'" in said
    assert len(load(str(tmp_path), only="man*").clips) == 6


def test_people_of_other_sizes_share_the_mean_skeleton_and_others_are_refused(tmp_path):
    motions.walks(tmp_path, each=2)
    offsets = list(MAN.offsets)
    offsets[4] = (0.0, -0.44, 0.0)
    larger = replace(MAN, offsets=tuple(offsets))
    (tmp_path / "man_walk_9.bvh").write_text(bvh.text_of(larger, poses("walk", 40), RATE))
    found = load(str(tmp_path))
    assert any("Bones differ between files by up to" in line for line in found.remarks)
    assert found.clips[0][1].skeleton.offsets[4][1] == pytest.approx(-0.4 - 0.04 / 7)
    offsets[4] = (0.0, -0.9, 0.0)
    (tmp_path / "man_walk_9.bvh").write_text(bvh.text_of(replace(MAN, offsets=tuple(offsets)), poses("walk", 40), RATE))
    with pytest.raises(ValueError, match=r"bones of man_walk_9\.bvh and man_.* differ by more than a fifth"):
        load(str(tmp_path))


def test_clips_of_one_frame_and_broken_files_are_left_out_and_said(tmp_path):
    motions.walks(tmp_path, each=8)
    (tmp_path / "man_stand_8.bvh").write_text(bvh.text_of(MAN, poses("stand", 1), RATE))
    whole = (tmp_path / "man_walk_0.bvh").read_text()
    (tmp_path / "man_walk_0.bvh").write_text(whole[: len(whole) // 2])
    train, val = Motion(path=str(tmp_path), window=32).open()
    lines = train.notes.lines()
    assert any("Motions of one frame at 20 a second, left out: 1 (man_stand_8.bvh)" in line for line in lines)
    assert any("man_walk_0.bvh says 50 frames" in line and "cut short" in line for line in lines)
    assert len(train) + len(val) == 23
    for name in ("man_walk_1.bvh", "man_walk_2.bvh", "man_walk_3.bvh"):
        (tmp_path / name).write_text("nothing")
    with pytest.raises(ValueError, match=r"5 of 25 motions cannot be used, more than one in ten: man_walk_0\.bvh"):
        Motion(path=str(tmp_path)).open()


def test_what_is_one_frame_at_the_common_rate_is_left_out_and_counted(tmp_path):
    motions.walks(tmp_path, each=8)
    for i in range(2):
        (tmp_path / f"man_stand_{8 + i}.bvh").write_text(bvh.text_of(MAN, poses("stand", 5, rate=120.0), 120.0))
    train, val = Motion(path=str(tmp_path), window=32).open()
    assert min(len(clip) for clip in (*train.clips, *val.clips)) > 1
    assert len(train) + len(val) == 24
    assert any("left out: 2 (man_stand_8.bvh, man_stand_9.bvh)" in line for line in train.notes.lines())
    found = load(str(tmp_path), rate=120.0)
    assert len(found.clips) == 26
    (tmp_path / "man_stand_9.bvh").write_text(bvh.text_of(MAN, poses("stand", 1), RATE))
    (tmp_path / "man_walk_0.bvh").write_text("nothing")
    with pytest.raises(
        ValueError, match=r"3 of 26 motions .* more than one in ten: .*; man_stand_8\.bvh has one frame at 20 a"
    ):
        load(str(tmp_path))


def test_folders_of_nothing_are_said(tmp_path):
    with pytest.raises(ValueError, match="holds no motion"):
        Motion(path=str(tmp_path)).open()
    with pytest.raises(ValueError, match="There is no file or folder"):
        Motion(path=str(tmp_path / "nowhere")).open()
    (tmp_path / "a.bvh").write_text(bvh.text_of(MAN, poses("walk", 1), RATE))
    with pytest.raises(ValueError, match=r"a\.bvh has one frame"):
        Motion(path=str(tmp_path)).open()
    (tmp_path / "a.bvh").write_text(bvh.text_of(MAN, poses("walk", 40), RATE))
    with pytest.raises(ValueError, match="1 usable motions, too few that differ, or too short"):
        Motion(path=str(tmp_path)).open()


def test_a_motion_without_its_character_is_said(tmp_path):
    motions.mimics(tmp_path)
    shutil.rmtree(tmp_path / "characters")
    with pytest.raises(ValueError, match=r"no character is known to have as many; known are none"):
        Motion(path=str(tmp_path)).open()


def test_states_of_other_columns_are_named(tmp_path):
    motions.swings(tmp_path, count=4)
    (tmp_path / "other.csv").write_text("time,height\n0,1\n0.1,2\n")
    with pytest.raises(
        ValueError, match=r"2 different kinds of states: 4 such as swing_000\.csv \(columns angle, speed\)"
    ):
        Motion(path=str(tmp_path)).open()


def test_the_ends_of_a_few_long_motions_are_held_out(tmp_path):
    motions.walks(tmp_path, each=1, frames=200)
    _, train, val = fitted(tmp_path, window=32)
    assert train.names == val.names
    for a, b in zip(train.clips, val.clips, strict=True):
        assert len(b) == 32
        assert len(a) + len(b) == 200
    (tmp_path / "all").mkdir()
    for part in ("train", "test"):
        shutil.copytree(tmp_path, tmp_path / "all" / part, ignore=shutil.ignore_patterns("all"))
    own, other = Motion(path=str(tmp_path / "all"), window=32).open()
    assert {name.split("/")[0] for name in own.names} == {"train"}
    assert {name.split("/")[0] for name in other.names} == {"test"}


def lying(values, skeleton=MAN):
    """Poses as files have them that stand along z."""
    quarter = rotations.about(torch.tensor([1.0, 0.0, 0.0]), torch.tensor(torch.pi / 2))
    root, q = skeleton.split(values)
    turned = rotations.multiply(quarter.expand(len(q), 4), q[:, 0])
    root = torch.stack([root[:, 0], -root[:, 2], root[:, 1]], 1)
    return skeleton.join(root, torch.cat([turned[:, None], q[:, 1:]], 1))


def test_z_up_files_stand_upright_and_are_written_and_given_as_they_were(tmp_path):
    for i in range(6):
        (tmp_path / f"man_{i}.bvh").write_text(bvh.text_of(MAN, lying(poses("walk", 60, phase=i)), RATE))
    motion, train, _ = fitted(tmp_path, up="z", window=32)
    heights = train.clips[0][:, 1]
    assert 0.7 < float(heights.min()) <= float(heights.max()) < 0.9
    assert torch.allclose(motion.turned_back(train.clips[0])[:, 2], heights, atol=1e-6)
    for form in (".bvh", ".json", ".npz"):
        motion.save(Samples(modality=motion, values=[train.clips[0]]), tmp_path / f"out{form}")
        found = clip_of(motion, str(tmp_path / f"out{form}")).values
        own, other = (motion.skeleton.positions_of(v.double()) for v in (train.clips[0], found))
        assert float((own - other).abs().max()) < 1e-3, form  # Euler angles are near gimbal lock
    motion.save(Samples(modality=motion, values=list(train.clips[:2])), tmp_path / "out.json")
    held = torch.tensor(json.loads((tmp_path / "out.json").read_text())["positions"][0])
    assert torch.allclose(held[:, 0, 2], heights, atol=1e-4)


def test_feet_without_names_are_the_joints_near_the_ground(tmp_path):
    """Of a man who lies in his own frame and stands by his root, the rest pose has no joint near the ground."""
    names = ("root", "back", "top", "a", "aa", "aaa", "b", "bb", "bbb")
    offsets = tuple((o[0], -o[2], o[1]) for o in MAN.offsets)
    man = replace(MAN, names=names, offsets=offsets, kinds=("ball",) * 9, axes=((0.0,) * 3,) * 9)
    quarter = rotations.about(torch.tensor([1.0, 0.0, 0.0]), torch.tensor(torch.pi / 2))
    for i in range(6):
        root, q = MAN.split(poses("walk", 60, phase=i))
        every = rotations.identity(q).repeat(60, 9, 1)
        every[:, list(MAN.moving)] = rotations.multiply(rotations.multiply(quarter, q), rotations.inverse(quarter))
        root = torch.stack([root[:, 0], -root[:, 2], root[:, 1]], 1)
        (tmp_path / f"man_{i}.bvh").write_text(bvh.text_of(man, man.join(root, every), RATE))
    motion, _, _ = fitted(tmp_path, up="z", window=32)
    assert abs(motion.codec.ground) < 0.03
    assert [motion.skeleton.names[i] for i in motion.codec.feet] == ["aaa", "bbb"]


def test_cycles_fill_a_window(tmp_path):
    motions.mimics(tmp_path, each=4, frames=21)
    for file in tmp_path.glob("*.txt"):
        found = json.loads(file.read_text())
        file.write_text(json.dumps({**found, "Loop": "wrap"}))
    _, train, _ = fitted(tmp_path, window=64)
    assert min(len(clip) for clip in train.clips) >= 64
    _, train, _ = fitted(tmp_path, window=64, cycles=False)
    assert max(len(clip) for clip in train.clips) <= 22
    batch = MotionBatches(
        dataset=train, codec=fitted(tmp_path, window=64)[0].codec, window=64, known=Motion(path="x").known
    )
    assert batch(torch.arange(2)).condition.data_mask.sum(1).tolist() == [len(clip) for clip in train.clips[:2]]


def test_windows_lie_in_their_clips_and_cover_them(tmp_path):
    motion, train, _ = fitted(motions.walks(tmp_path, each=3, frames=90), window=32)
    batches = motion.batches(train, device=torch.device("cpu"))
    covered = [torch.zeros(len(clip), dtype=torch.bool) for clip in train.clips]
    for clip, start, end in batches.spans(torch.arange(len(batches))):
        assert end - start == 32
        covered[clip][start:end] = True
    assert all(bool(one.all()) for one in covered)


def test_the_rate_is_that_of_most_of_the_time():
    clips = [c for _, c in load_of(((20.0, 30), (60.0, 300), (30.0, 60)))]
    assert common_rate(clips, rate=None) == RATE  # of poses, at most 20
    assert common_rate([replace(c, skeleton=None) for c in clips], rate=None) == 60.0
    assert common_rate(clips, rate=25.0) == 25.0


def load_of(rates):
    return [
        (None, deepmimic.motion(json.loads(deepmimic.text_of(MAN, poses("walk", n, rate=rate), rate)), MAN))
        for rate, n in rates
    ]


def test_trajectories_outside_have_higher_energies_than_any_other():
    system = Pendulum()
    train, val = simulated_parts(system, count=200, frames=32, seed=0, val_fraction=0.1, outside=0.2)
    inside = torch.stack([*train.clips, *val.clips])
    assert len(inside) + len(train.outside) == 200
    limit = energies(system, inside.double()).mean(1).max()
    assert float(energies(system, train.outside.double()).mean(1).min()) > float(limit)
    assert len(train.outside) == 40


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "read from files .data.path. or simulated"),
        ({"path": "a", "source": Pendulum()}, "give one of them"),
        ({"path": "a", "outside": 0.1}, "for a source"),
        ({"path": "a", "window": 4}, "8 to 4,096 frames"),
        ({"path": "a", "pattern": "("}, "no regular expression"),
        ({"path": "a", "rate": 0.0}, "0.01 to 100,000"),
        ({"path": "a", "val_fraction": 1.0}, "between 0 and 1"),
        ({"source": Pendulum(), "mirror": True}, "a source has none"),
        ({"source": Pendulum(), "count": 2}, "16 to 1,000,000"),
    ],
)
def test_what_is_no_configuration_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        Motion(**change)


def test_projectors_are_for_what_they_are_for():
    from langevin.modalities.motion.projector import Dynamics, Feet

    with pytest.raises(ValueError, match=r"dynamics needs data\.source"):
        Motion(path="a", projectors=(Dynamics(),))
    with pytest.raises(ValueError, match="feet is for skeletons: pendulum has none"):
        Motion(source=Pendulum(), projectors=(Feet(),))


def test_motions_that_are_all_the_same_are_said(tmp_path):
    for i in range(20):
        (tmp_path / f"a{i}.csv").write_text("time,x\n" + "".join(f"{t / 10},{1}\n" for t in range(40)))
    with pytest.raises(ValueError, match="20 usable motions, too few that differ"):
        Motion(path=str(tmp_path)).open()


def test_a_run_to_initialise_from_is_of_the_same_skeleton(tmp_path):
    motion, train, _ = fitted(motions.walks(tmp_path / "a"), window=32)
    assert motion.fitted(train, base=motion).codec == motion.codec
    other, swings, _ = fitted(motions.swings(tmp_path / "b"), window=32)
    with pytest.raises(ValueError, match="another skeleton, or of states"):
        other.fitted(swings, base=motion)
    with pytest.raises(ValueError, match=r"set data\.window=32"):
        replace(motion, window=16).fitted(train, base=motion)


def test_archives_of_trajectories_are_read(tmp_path):
    t = np.arange(50) * 0.1
    states = np.stack([np.stack([np.sin(t + p), np.cos(t + p)], 1) for p in range(30)])
    np.savez(tmp_path / "all.npz", states=states, rate=10.0, columns=["s", "c"], actions=["low", "high"] * 15)
    assert [found.modality.kind for found in candidates(tmp_path / "all.npz")] == ["motion"]
    motion, train, val = fitted(tmp_path / "all.npz", window=32)
    assert motion.actions == ("high", "low")
    assert motion.columns == ("s", "c")
    assert len(train) + len(val) == 30
