"""Requests: given frames stay to the bit, the root goes where it should, and what cannot be done is said beforehand."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from langevin.modalities.modality import Draw, RequestContext, Samples
from langevin.modalities.motion.codec import origin_of
from langevin.modalities.motion.files import arrays, bvh, deepmimic
from langevin.modalities.motion.files.given import read_given, read_path
from langevin.modalities.motion.options import Edit, Sample
from langevin.run.directory import load_model
from langevin.run.plan import Wanted
from langevin.run.train import train_run
from tests import motions
from tests.motions import MAN, RATE, poses
from tests.tiny import SMALL

LEVELS = "method.levels=[{kind: shared}, {kind: random_span}, {kind: per_frame}]"


def run_of(data, out, *changes):
    run = train_run(
        Wanted(
            target=str(data), overrides=(*SMALL, "training.precision=float32", "training.steps=2", *changes), out=out
        )
    )
    return load_model(run)[0], run


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Runs of two steps: of walkers with and without levels, of pendulums, and of swings from files."""
    folder = tmp_path_factory.mktemp("runs")
    data = motions.mimics(folder / "mimics")
    recipe = folder / "pendulum.yaml"
    recipe.write_text(
        "data: {kind: motion, source: {kind: pendulum}, count: 60, window: 32}\n"
        "network: {kind: dit, dimensions: 1, patch: 4}\n"
        "method: {prediction: clean, levels: [{kind: shared}, {kind: clean_prefix}]}\n"
    )
    return {
        "man": run_of(data, folder / "man", "data.window=32", LEVELS)[0],
        "plain": run_of(data, folder / "plain", "data.window=32", "method.levels=[]")[0],
        "pendulum": run_of(recipe, folder / "pendulum")[0],
        "swings": run_of(motions.swings(folder / "swings"), folder / "swing", "data.window=32", LEVELS)[0],
    }


@pytest.fixture
def walk(tmp_path):
    path = tmp_path / "walk.bvh"
    path.write_text(bvh.text_of(MAN, poses("walk", 41, yaw=0.7), RATE))
    return str(path)


def drawn(model, options, **changes):
    context = RequestContext(model=model, data=lambda: (None, None), **{"count": 2, **changes})
    return model.run(model.modality.plan(options, context))


def given(model, file):
    modality = model.modality
    return read_given(file, modality.skeleton, modality.columns, rate=modality.rate).values


@pytest.mark.parametrize("kind", ["man", "plain"])
def test_key_frames_stay_to_the_bit(models, walk, kind):
    found = drawn(models[kind], Sample(keyframes=walk, times=(0.0, 0.5, 1.5)))
    own = given(models[kind], walk)
    assert len(found) == 2
    for values in found.values:
        assert len(values) == 31
        assert torch.equal(values[[0, 10, 30]], own[[0, 10, 30]])
        assert not torch.equal(values[5], own[5])
    assert not torch.equal(found.values[0], found.values[1])
    assert found.sampling is not None or kind == "man"


def test_between_key_frames_the_root_leads_from_one_to_the_next(models, walk):
    """Without the way, the network of two steps would be anywhere: no step is far longer than the others."""
    values = drawn(models["man"], Sample(keyframes=walk, times=(0.0, 1.5))).values[0]
    steps = (values[1:, [0, 2]] - values[:-1, [0, 2]]).norm(dim=1)
    straight = (values[30, [0, 2]] - values[0, [0, 2]]).norm() / 30
    assert float(steps[-1]) < float(steps[:-1].max()) + float(straight)


def test_key_frames_of_a_sparse_file_are_at_its_own_times(models, tmp_path):
    whole = poses("run", 25)
    (tmp_path / "keys.json").write_text(deepmimic.text_of(MAN, whole[[0, 12, 24]], RATE / 12))
    found = drawn(models["man"], Sample(keyframes=str(tmp_path / "keys.json")))
    assert all(len(values) == 25 for values in found.values)
    for values in found.values:
        error = MAN.positions_of(values[[0, 12, 24]]) - MAN.positions_of(whole[[0, 12, 24]])
        assert float(error.abs().max()) < 1e-5


@pytest.mark.parametrize("kind", ["man", "plain"])
def test_a_continuation_begins_with_all_of_the_file(models, walk, kind):
    found = drawn(models[kind], Sample(continue_=walk, seconds=0.5, action=("run",)))
    own = given(models[kind], walk)
    for values in found.values:
        assert len(values) == 41 + 10
        assert torch.equal(values[:41], own)
        jump = (values[41] - values[40])[[0, 2]].norm()
        assert float(jump) < 1.0


def test_states_go_on_from_a_file(models, tmp_path):
    (tmp_path / "begin.csv").write_text(
        "time,angle\n" + "".join(f"{0.1 * i:.1f},{0.5 * math.cos(0.1 * i)}\n" for i in range(9))
    )
    found = drawn(models["pendulum"], Sample(continue_=str(tmp_path / "begin.csv"), project=("none",)))
    own = given(models["pendulum"], str(tmp_path / "begin.csv"))
    assert all(torch.equal(values[:9], own) for values in found.values)
    assert all(len(values) == 32 for values in found.values)


def test_the_root_follows_a_path(models, tmp_path):
    (tmp_path / "path.csv").write_text("time,x,z\n0,0,0\n0.5,1,0\n1.5,1,2\n")
    found = drawn(models["man"], Sample(path=str(tmp_path / "path.csv")))
    expected = read_path(str(tmp_path / "path.csv"), rate=RATE)
    assert expected.shape == (31, 3)
    for values in found.values:
        assert torch.allclose(values[:, [0, 2]].double(), expected[:, :2], atol=1e-4)
    (tmp_path / "turn.csv").write_text("time,x,z,heading\n0,0,0,0\n1,0,0,3.0\n")
    found = drawn(models["man"], Sample(path=str(tmp_path / "turn.csv")))
    headings = origin_of(MAN, found.values[0])[:, 2]
    assert torch.allclose(
        headings, torch.linspace(0, 3, 21).double(), atol=0.02
    )  # the root may turn a little of itself


def test_motions_of_different_lengths_do_not_change_each_other(models):
    options = Sample(action=("walk", "run"), seconds=1.0)
    together = drawn(models["man"], options, seed=5)
    alone = drawn(models["man"], Sample(action=("run",), seconds=1.0), seed=6, count=1)
    assert torch.allclose(together.values[1], alone.values[0], atol=1e-4)
    assert together.names == ("walk", "run")


def test_long_motions_are_drawn_by_a_window_that_moves(models):
    found = drawn(models["man"], Sample(action=("walk",), seconds=4.0))
    assert all(len(values) == 81 for values in found.values)
    with pytest.raises(ValueError, match=r"motions of up to 1\.55 seconds, as it was trained without levels per frame"):
        drawn(models["plain"], Sample(seconds=4.0))


def test_an_edit_keeps_all_but_its_parts(models, walk):
    found = drawn(models["man"], Edit(input=walk, mask=("0.6,0.9",), action="walk"))
    own = given(models["man"], walk)
    assert len(found) == 3
    assert found.num_drawn == 2
    assert torch.equal(found.values[2], own)
    free = torch.zeros(41, dtype=torch.bool)
    free[12:19] = True
    for values in found.values[:2]:
        assert len(values) == 41
        assert torch.equal(values[~free], own[~free])
        assert not bool((values[free] == own[free]).all(1).any())


def test_a_motion_becomes_another_action(models, walk, tmp_path):
    short = tmp_path / "short.bvh"
    short.write_text(bvh.text_of(MAN, poses("walk", 25), RATE))
    found = drawn(models["man"], Edit(input=str(short), to="run", strength=0.4))
    assert [len(values) for values in found.values] == [25, 25, 25]
    near = drawn(models["man"], Edit(input=str(short), to="run", strength=0.01))
    apart = [float((MAN.positions_of(v.values[0]) - MAN.positions_of(v.values[2])).abs().mean()) for v in (near, found)]
    assert apart[0] < apart[1]


def test_a_plan_says_which_frames_are_given(models, walk):
    context = RequestContext(model=models["man"], data=lambda: (None, None), count=3)
    plan = models["man"].modality.plan(Sample(keyframes=walk, times=(0.0, 1.0)), context)
    request = next(plan)
    assert isinstance(request, Draw)
    assert request.known.shape == (3, 32)
    assert request.known[0].nonzero()[:, 0].tolist() == [0, 20]
    assert request.condition.data_mask.sum(1).tolist() == [21, 21, 21]
    without = next(
        models["plain"].modality.plan(Sample(keyframes=walk, times=(0.0, 1.0)), replaced(context, models["plain"]))
    )
    assert without.known is None
    assert without.condition.measurement is not None


def replaced(context, model):
    return RequestContext(model=model, data=context.data, count=context.count)


REFUSED = [
    ("man", Sample(action=("fly",)), "no action is called 'fly'; known are run, stand, walk"),
    ("man", Sample(text=("a man",)), "trained without captions"),
    ("man", Sample(seconds=0.0), "--seconds must be above 0"),
    ("man", Sample(times=(1.0,)), "--times are those of --keyframes FILE"),
    ("man", Sample(keyframes="WALK", times=(0.0, 9.0)), "--times has 9, which is beyond the end of a file of 2.00 seconds"),
    ("man", Sample(keyframes="WALK", times=(0.0, 1.0), seconds=0.5), "a key frame at 1 s is beyond the end"),
    ("man", Sample(keyframes="WALK", times=(1.0, 0.5)), "--times are seconds that rise from 0 on"),
    ("man", Sample(keyframes="WALK", times=(0.0, 0.01)), "2 key frames fall on 1 frames"),
    ("man", Sample(keyframes="WALK"), "every frame is a key frame"),
    ("man", Sample(keyframes="WALK", continue_="WALK"), "three different requests"),
    ("man", Sample(keyframes="nowhere.bvh"), "there is no file nowhere.bvh"),
    ("man", Sample(keyframes="walk.png"), "walk.png is no motion of a skeleton: give BVH"),
    ("man", Sample(path="PATH", seconds=9.0), "the path lasts 1.50 seconds and --seconds is 9"),
    ("man", Sample(path="WALK"), "walk.bvh"),
    ("man", Sample(project=("gravity",)), "no projector is called 'gravity'"),
    ("man", Sample(project=("none", "feet")), "give no other with it"),
    ("man", Sample(project=("dynamics",)), "needs data.source"),
    ("pendulum", Sample(project=("feet",)), "for skeletons"),
    ("pendulum", Sample(path="PATH"), "--path is the way of a skeleton's root"),
    ("pendulum", Sample(action=("swing",)), "trained without actions"),
    ("pendulum", Sample(continue_="WALK"), "walk.bvh has 'ROOT hips' in line 2"),
    ("pendulum", Sample(continue_="PATH"), "has 2 columns (x, z), and the run has 1: angle"),
    ("man", Edit(input="WALK"), "give --mask FROM,TO"),
    ("man", Edit(input="WALK", mask=("0,1",), to="run"), "give --mask FROM,TO"),
    ("man", Edit(input="WALK", mask=("0,1",), strength=0.5), "--strength goes with --to"),
    ("man", Edit(input="WALK", mask=("0.5",)), "--mask 0.5 is FROM,TO in seconds"),
    ("man", Edit(input="WALK", mask=("3,4",)), "no part of a motion of 2.00 seconds"),
    ("man", Edit(input="WALK", mask=("0,2",)), "covers all of the motion"),
    ("man", Edit(input="WALK", mask=("0.501,0.502",)), "shorter than a frame"),
    ("man", Edit(input="WALK", to="run"), "--to takes motions of up to 1.55 s, and this one has 2.00"),
    ("man", Edit(input="WALK", to="fly"), "no action is called 'fly'"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options", "said"), REFUSED, ids=[said[:40] for _, _, said in REFUSED])
def test_what_cannot_be_done_is_said_before_any_work(models, walk, tmp_path, kind, options, said):
    (tmp_path / "path.csv").write_text("time,x,z\n0,0,0\n1.5,1,2\n")
    (tmp_path / "walk.png").write_bytes(b"")
    files = {"WALK": walk, "PATH": str(tmp_path / "path.csv"), "walk.png": str(tmp_path / "walk.png")}
    changes = {
        name: files[value]
        for name in ("keyframes", "continue_", "path", "input")
        if (value := getattr(options, name, None)) in files
    }
    context = RequestContext(model=models[kind], data=lambda: (None, None), count=1)
    with pytest.raises(ValueError, match=re.escape(said)):
        models[kind].modality.plan(replace(options, **changes), context)


# ------------------------------------------------------------------------------------------------------- given files


def test_a_file_of_the_same_joints_is_fitted_by_their_names(models, tmp_path):
    """Of the run's hinges only the turn about their axis is taken."""
    path = tmp_path / "walk.bvh"
    path.write_text(bvh.text_of(MAN, poses("walk", 20), RATE))
    clip = read_given(str(path), MAN, (), rate=RATE)
    assert clip.skeleton == MAN
    assert float((MAN.positions_of(clip.values) - MAN.positions_of(poses("walk", 20))).abs().max()) < 1e-4
    np.savez(tmp_path / "walk.npz", poses=poses("walk", 20).numpy(), rate=RATE)
    again = read_given(str(tmp_path / "walk.npz"), MAN, (), rate=5.0)
    assert again.rate == RATE
    assert torch.allclose(again.values, poses("walk", 20), atol=1e-6)


@pytest.mark.parametrize("kind", ["man", "swings"])
def test_a_saved_motion_has_no_more_frames_than_were_drawn(models, tmp_path, kind):
    """Shorter motions of an archive are padded to the longest."""
    modality = models[kind].modality
    made = [torch.rand(n, MAN.columns if kind == "man" else 2) for n in (20, 60)]
    modality.save(Samples(modality=modality, values=made), tmp_path / "two.npz")
    assert given(models[kind], str(tmp_path / "two.npz")).shape[0] == 20
    if kind == "swings":
        found = [clip.values for clip, _ in arrays.read_npz(tmp_path / "two.npz")]
        assert all(torch.equal(a, b) for a, b in zip(found, made, strict=True))
    held = dict(np.load(tmp_path / "two.npz"))
    np.savez(tmp_path / "two.npz", **{**held, "length": np.array([61, 60])})
    with pytest.raises(ValueError, match=r"two\.npz says lengths of 60 to 61, and holds 60 frames of each motion"):
        given(models[kind], str(tmp_path / "two.npz"))


def sized(*factors):
    return replace(MAN, offsets=tuple(tuple(f * v for v in o) for f, o in zip(factors, MAN.offsets, strict=True)))


def test_a_file_of_another_skeleton_is_said(models, tmp_path):
    text = bvh.text_of(MAN, poses("walk", 4), RATE)
    (tmp_path / "a.bvh").write_text(text.replace("left_knee", "wheel"))
    with pytest.raises(ValueError, match=r"a\.bvh is of another skeleton: it lacks left_knee; it has hips"):
        read_given(str(tmp_path / "a.bvh"), MAN, (), rate=RATE)
    swapped = text.replace("left_leg", "@").replace("right_leg", "left_leg").replace("@", "right_leg")
    (tmp_path / "b.bvh").write_text(swapped)
    with pytest.raises(ValueError, match=r"left_knee hangs on right_leg, and in the run on left_leg"):
        read_given(str(tmp_path / "b.bvh"), MAN, (), rate=RATE)
    for name, skeleton, said in (
        ("cm", sized(*[100.0] * len(MAN)), "bones 100 times as long .*: multiply its offsets and positions by 0.01,"),
        ("child", sized(*[0.4] * len(MAN)), r"bones 0\.4 times as long .* by 2\.5,"),
        ("ape", sized(*[1.0] * 4, 2.0, *[1.0] * 4), "another skeleton: its bone to left_knee differs"),
    ):
        (tmp_path / f"{name}.bvh").write_text(bvh.text_of(skeleton, poses("walk", 4), RATE))
        with pytest.raises(ValueError, match=rf"{name}\.bvh .*{said}"):
            read_given(str(tmp_path / f"{name}.bvh"), MAN, (), rate=RATE)
    (tmp_path / "tall.bvh").write_text(bvh.text_of(sized(*[1.2] * len(MAN)), poses("walk", 4), RATE))
    assert read_given(str(tmp_path / "tall.bvh"), MAN, (), rate=RATE).skeleton == MAN
    np.savez(tmp_path / "c.npz", poses=np.ones((4, 9), dtype=np.float32))
    with pytest.raises(ValueError, match=r"poses of shape \(4, 9\), and the run's are \(frames, 27\)"):
        read_given(str(tmp_path / "c.npz"), MAN, (), rate=RATE)
    np.savez(tmp_path / "d.npz", poses=np.full((4, 27), np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match="not finite in frame 0"):
        read_given(str(tmp_path / "d.npz"), MAN, (), rate=RATE)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("time,x\n0,1\n1,2\n", "a path is a CSV of time,x,z"),
        ("time,x,z\n0,1,2\n", "has one place"),
        ("time,x,z\n0,1,nan\n", "has 'nan' in line 2, column 3"),
        ("time,x,z\n1,1,1\n0,1,1\n", "times that do not rise"),
        ("time,x,z\n0,0,0\n0.01,1,1\n", r"path\.csv lasts 0\.01 seconds, which is less than two frames at 20 a second"),
        ("time,x,z\n0,0,0\n60000,1,1\n", r"lasts 60,000 seconds, and at most 600 are made: .* times are seconds"),
        ("time,x,z\n0,0,0\n1e12,1,1\n", "at most 600 are made"),
        pytest.param("0,0\n" * 13_000, "lasts 650 seconds, and at most 600", id="long"),
    ],
)
def test_what_is_no_path_is_said(tmp_path, content, said):
    (tmp_path / "path.csv").write_text(content)
    with pytest.raises(ValueError, match=said):
        read_path(str(tmp_path / "path.csv"), rate=RATE)
    assert Path(tmp_path / "path.csv").is_file()


def test_a_path_has_two_frames_or_more(models, tmp_path):
    (tmp_path / "path.csv").write_text("time,x,z\n0,0,0\n0.05,0.1,0\n")
    found = drawn(models["man"], Sample(path=str(tmp_path / "path.csv")))
    assert all(len(values) == 2 for values in found.values)


def test_given_files_are_neither_too_short_nor_too_long(models, tmp_path):
    """Five frames of 120 a second are one of 20; times in other units would be more frames than fit in memory."""
    context = RequestContext(model=models["man"], data=lambda: (None, None), count=1)
    (tmp_path / "short.bvh").write_text(bvh.text_of(MAN, poses("walk", 5, rate=120.0), 120.0))
    slow = tmp_path / "slow.csv"
    slow.write_text("time,angle,speed\n0,0,0\n1e9,1,0\n2e9,2,0\n")
    short = str(tmp_path / "short.bvh")
    for options in (Sample(continue_=short), Edit(input=short, to="run")):
        with pytest.raises(ValueError, match=r"short\.bvh lasts 0\.0333333 seconds, which is less than two frames"):
            models["man"].modality.plan(options, context)
    swings = replaced(context, models["swings"])
    for options in (Sample(continue_=str(slow)), Edit(input=str(slow), mask=("0,1",))):
        with pytest.raises(ValueError, match=r"slow\.csv lasts 2,000,000,000 seconds, and at most 600 are made"):
            models["swings"].modality.plan(options, swings)
    with pytest.raises(ValueError, match=r"the last key frame is at 2,000,000,000 s, and at most 600 are made"):
        models["swings"].modality.plan(Sample(keyframes=str(slow)), swings)
