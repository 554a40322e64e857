"""Judges and measures of clips: they read what is there, and say that it is not where it is not."""

import numpy as np
import torch

from langevin.modalities.video.judge import Judge, train_judge
from langevin.modalities.video.measure import energy, random_features, small
from langevin.modalities.video.tracking import directions, velocities
from tests import clips


def squares(count, seed):
    """Clips uint8 of coloured squares, with colours and ways."""
    generator = torch.Generator().manual_seed(seed)
    way = torch.randint(4, (count,), generator=generator)
    colour = torch.randint(2, (count,), generator=generator)
    starts = torch.randint(16, (count, 2), generator=generator).tolist()
    made = [
        torch.stack([
            torch.from_numpy(np.array(frame)).permute(2, 0, 1)
            for frame in clips.frames(list(clips.WAYS)[w], list(clips.COLOURS)[c], start=start)
        ])
        for w, c, start in zip(way.tolist(), colour.tolist(), starts, strict=True)
    ]  # fmt: skip
    return torch.stack(made), {"way": way, "colour": colour}


def test_a_judge_reads_colours_from_frames_and_ways_from_clips_only(tmp_path):
    train, val = squares(400, 0), squares(100, 1)
    judge = train_judge(*train, {"way": 4, "colour": 2}, val, epochs=12)
    assert judge.accuracy["colour"] > 0.97
    assert judge.accuracy["colour by frame"] > 0.97
    assert judge.accuracy["way"] > 0.9
    assert judge.accuracy["way by frame"] < 0.6  # a single frame does not show it
    judge.save(tmp_path)
    again = Judge.load(tmp_path, tuple(train[0].shape[1:]))
    assert again.fingerprint == judge.fingerprint
    assert torch.equal(again.features(val[0]), judge.features(val[0]))


def test_a_judge_is_trained_no_longer_than_it_needs():
    train, val = squares(400, 0), squares(100, 1)
    done = list[tuple[int, int]]()
    judge = train_judge(
        train[0], {"colour": train[1]["colour"]}, {"colour": 2}, val, epochs=40, progress=lambda *at: done.append(at)
    )
    assert judge.accuracy["colour"] > 0.97
    assert 2 * 400 / 64 < done[-1][0] < done[-1][1] / 2


def test_the_way_of_a_square_is_followed_around_the_edges():
    frames, labels = squares(100, 2)
    assert directions(frames) == [list(clips.WAYS)[i] for i in labels["way"].tolist()]
    speed = velocities(frames).norm(dim=1)
    torch.testing.assert_close(speed, torch.full_like(speed, 2 / 16), rtol=1e-3, atol=1e-4)


def test_energy_is_the_mean_change_between_frames():
    clip = torch.zeros(1, 3, 1, 4, 4, dtype=torch.uint8)
    clip[0, 1] = 10
    assert energy(clip) == 10
    assert energy(clip[:, :1].expand(-1, 3, -1, -1, -1)) == 0


def test_features_are_a_function_of_the_clip_alone():
    frames, _ = squares(40, 3)
    assert torch.allclose(random_features(frames)[35], random_features(frames[35:36])[0], atol=1e-5)
    assert small(frames).shape == frames.shape
    assert small(frames.repeat_interleave(2, -1).repeat_interleave(2, -2)).equal(frames)
