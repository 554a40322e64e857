"""Clips as data: what is said of them, their two parts, examples, and bad input."""

import itertools
import json

import pytest
import torch

from langevin.diffusion.noise import SampleNoise
from langevin.modalities.modality import Budget
from langevin.modalities.video.modality import Video
from langevin.modalities.video.moving_digits import MovingDigits
from langevin.modalities.video.suggest import suggest
from langevin.modalities.video.tracking import axes, directions
from tests import clips

CPU = torch.device("cpu")


def opened(path, **options):
    video = Video(path=str(path), **options)
    train, val = video.open()
    return video.fitted(train), train, val


def test_captions_and_labels_come_from_metadata(tmp_path):
    video, train, val = opened(clips.captioned(tmp_path / "a"), val_fraction=0.25)
    assert (len(train), len(val)) == (18, 6)
    assert (video.size, video.channels, video.fps, video.frames) == (16, 3, 10.0, 4)
    names, values = train.labels["direction"]
    for caption, value, clip in zip(train.captions, values.tolist(), map(train.clip, range(18)), strict=True):
        assert caption.endswith(names[value])
        assert directions(clip[None]) == [names[value]]  # the clip is that of its caption
    assert set(video.captions.words) == {"red", "blue", "square", "moving", *clips.WAYS}


def test_texts_beside_clips_and_folders_say_what_they_show(tmp_path):
    for i, way in enumerate(clips.WAYS):
        clips.write(tmp_path / "a" / f"{i}.gif", clips.frames(way))
        (tmp_path / "a" / f"{i}.txt").write_text(f"to the {way}\n")
        clips.write(tmp_path / "b" / way / "one.gif", clips.frames(way))
    assert set(opened(tmp_path / "a")[1].captions) <= {f"to the {way}" for way in clips.WAYS}
    _, train, val = opened(tmp_path / "b")
    assert {*train.captions, *val.captions} == set(clips.WAYS)


def test_a_parquet_file_of_strips(tmp_path):
    video, train, _ = opened(clips.strips(tmp_path / "a.parquet"))
    assert (video.fps, video.frames) == (8.0, 4)
    names, values = train.labels["way"]
    assert directions(train.windows(torch.arange(len(train)), 4)) == [names[i] for i in values.tolist()]


def test_folders_of_frames(tmp_path):
    video, train, val = opened(clips.framed(tmp_path / "a"))
    assert sorted([*train.lengths.tolist(), *val.lengths.tolist()]) == sorted(3 + i % 4 for i in range(12))
    assert video.captions is None
    batch = video.batches(train, device=CPU)(torch.arange(len(train)))
    short = train.lengths < video.frames
    assert torch.equal(batch.condition.data_mask[:, :, 0, 0].sum(1), train.lengths.clamp_max(video.frames))
    assert bool((batch.x[short][:, :, -1] == 0).all())


def test_parts_of_the_data_with_equal_values_stay_together(tmp_path):
    folder = clips.captioned(tmp_path / "a")
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for i, line in enumerate(lines):
        line["actor"] = f"actor {i % 6}"
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, train, val = opened(folder, split_by=("actor",), val_fraction=0.3)
    actors = [{part.labels["actor"][0][i] for i in part.labels["actor"][1].tolist()} for part in (train, val)]
    assert not actors[0] & actors[1]
    assert [len(part) for part in actors] == [4, 2]
    with pytest.raises(ValueError, match="column 'actr', which not all clips have; known are actor"):
        Video(path=str(folder), split_by=("actr",)).open()


def test_a_test_part_of_its_own_is_kept(tmp_path):
    for part, way in (("train", "left"), ("test", "right")):
        for i in range(4):
            clips.write(tmp_path / part / f"{i}.gif", clips.frames(way, start=(i, i)))
    _, train, val = opened(tmp_path)
    assert {name.partition("/")[0] for name in train.names} == {"train"}
    assert {name.partition("/")[0] for name in val.names} == {"test"}


def test_examples_are_windows_at_random_places_and_at_the_beginning_without_noise(tmp_path):
    for i in range(4):
        clips.write(tmp_path / f"{i}.gif", clips.frames("right", count=10, start=(4, i)))
    video, train, _ = opened(tmp_path, frames=4)
    batches = video.batches(train, device=CPU)
    items = torch.zeros(200, dtype=torch.int64)
    first = batches(items[:1]).x
    assert torch.equal(torch.stack(video.decode(first))[0], train.clip(0)[:4])
    noise = SampleNoise(seeds=torch.arange(200), steps=torch.zeros(200, dtype=torch.int64))
    starts = set()
    for window in video.decode(batches(items, noise).x):
        starts.add(next(s for s in range(7) if torch.equal(window, train.clip(0)[s : s + 4])))
    assert starts == set(range(7))


def test_what_is_unusual_is_remarked_and_what_is_broken_left_out(tmp_path):
    folder = clips.captioned(tmp_path / "a")
    clips.write(folder / "uneven.gif", clips.frames(count=4), [100, 300, 100, 100])
    clips.write(folder / "fast.gif", clips.frames(count=8), 50)
    (folder / "broken.mp4").write_bytes(b"nothing")
    clips.write(folder / "still.gif", clips.frames(count=1))
    lines = (folder / "metadata.jsonl").read_text() + json.dumps({"file_name": "gone.gif", "text": "x"}) + "\n"
    (folder / "metadata.jsonl").write_text(lines)
    _, train, _ = opened(folder)
    said = " ".join(train.notes.lines())
    assert "broken.mp4 is no film" in said
    assert "Files that are no clips, or have one frame, left out: 1 (still.gif)" in said
    assert "Described, but not there: 1 (gone.gif)" in said
    assert "last differently long, resampled: 1" in said
    assert "another rate than 10 frames a second, resampled: 1" in said
    assert "without a caption, which are trained on without one: 2" in said
    fast = train.names.index("fast.gif") if "fast.gif" in train.names else None
    assert fast is None or int(train.lengths[fast]) == 4


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: None, "holds no clips"),
        (lambda p: clips.write(p / "a.gif", clips.frames()), "holds 1 clips of two frames"),
        (lambda p: [(p / f"{i}.mp4").write_bytes(b"no") for i in range(3)], "none of the clips can be read"),
        (lambda p: (clips.captioned(p), (p / "metadata.jsonl").write_text("{")), "line 1: this is no JSON"),
        (lambda p: (clips.captioned(p), (p / "metadata.jsonl").write_text('{"text": "x"}')), "there is no file_name"),
    ],
)
def test_data_that_cannot_be_used_is_refused(tmp_path, make, words):
    make(tmp_path)
    with pytest.raises(ValueError, match=words):
        Video(path=str(tmp_path)).open()


def test_too_many_broken_clips_are_an_error(tmp_path):
    clips.captioned(tmp_path, count=8)
    for i in range(3):
        (tmp_path / f"b{i}.mp4").write_bytes(b"no")
    with pytest.raises(ValueError, match="3 of 11 clips cannot be read, more than one in ten"):
        Video(path=str(tmp_path)).open()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"path": "a", "source": MovingDigits()}, "and not both"), ({"path": None}, "and not both"),
        ({"path": "a", "fps": 0.0}, "data.fps"), ({"path": "a", "frames": 1}, "data.frames"),
        ({"path": "a", "size": 2}, "data.size"), ({"path": "a", "val_fraction": 1.0}, "val_fraction"),
    ],
)  # fmt: skip
def test_absurd_configurations_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Video(**options)


# -------------------------------------------------------------------------------------------------------- moving digits


def test_moving_digits_go_there_and_back_as_they_say_at_their_speed():
    source = MovingDigits(count=60, size=24, digit=16, frames=20, slowest=1, fastest=2)
    train, val = Video(source=source).open()
    assert (len(train), len(val)) == (54, 6)
    speeds, turns = set[int](), 0
    for part in (train, val):
        names, values = part.labels["direction"]
        windows = part.windows(torch.arange(len(part)), 20)
        assert axes(windows) == [names[i] for i in values.tolist()]
        for clip, direction in zip(windows, (names[i] for i in values.tolist()), strict=True):
            space = 2 if direction == "left and right" else 1
            moved = list[int]()  # a whole digit moves by whole pixels, and nothing else changes
            for before, after in itertools.pairwise(clip):
                moved += [step for step in range(-2, 3) if torch.equal(before.roll(step, space), after)]
            assert len(moved) == 19
            speeds |= {max(map(abs, moved))}
            turns += sum(a * b < 0 for a, b in itertools.pairwise(moved))
    assert speeds == {1, 2}
    assert turns >= 60  # there are 8 pixels of room


@pytest.mark.parametrize("options", [{"digit": 40}, {"digit": 31}, {"frames": 1}, {"count": 3}, {"slowest": 0}])
def test_absurd_digits_are_refused(options):
    with pytest.raises(ValueError, match="moving digits have"):
        MovingDigits(**options)


def test_a_file_that_holds_no_digits_is_refused(tmp_path):
    clips.strips(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="no column image and label"):
        Video(source=MovingDigits(path=str(tmp_path / "a.parquet"), count=20)).open()
    with pytest.raises(ValueError, match="There is no file"):
        Video(source=MovingDigits(path=str(tmp_path / "b.parquet"), count=20)).open()


@pytest.mark.parametrize(("side", "channels", "clean"), [(64, 3, True), (16, 1, False)])
def test_a_network_that_is_narrower_than_a_patch_is_suggested_to_predict_clean_clips(tmp_path, side, channels, clean):
    train, _ = Video(path=str(clips.captioned(tmp_path)), val_fraction=0.3).open()
    budget = Budget(minutes=1.0, flops=1e9)
    recipe = suggest(train, budget, name="a", frames=8, channels=channels, side=side).recipe
    (frames, *sides), width = recipe["network"]["patch"], recipe["network"]["width"]
    assert frames == 1
    assert all(side % s == 0 and side // s >= 6 for s in sides)
    assert (sides[0] ** 2 * channels > width) == clean == (recipe["method"].get("prediction") == "clean")
