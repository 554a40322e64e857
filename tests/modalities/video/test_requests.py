"""Requests for clips: what is given stays, lengths, schedulings, edits, and what is refused."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from langevin.diffusion.guidance import HistoryGuidance, StabilisationGuidance
from langevin.diffusion.posterior import Point
from langevin.diffusion.sampler.scheduling import Autoregressive, FullSequence, Pyramid, Rolling
from langevin.modalities.modality import RequestContext
from langevin.modalities.video import plans
from langevin.modalities.video.clip_files import Look, read_clip
from langevin.modalities.video.edit import region, spans
from langevin.modalities.video.options import Edit, Sample, videos
from langevin.run.directory import load_model, open_run
from tests import clips
from tests.tiny import SMALL, run_of

CHANGES = (*SMALL, "data.val_fraction=0.3", "training.steps=2")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def model(work):
    return load_model(open_run(run_of(clips.captioned(work / "data"), work / "run", *CHANGES)))[0]


@pytest.fixture(scope="module")
def clip(work):
    return str(clips.write(work / "given.webp", clips.frames("left", "blue", count=3)))


def drawn(model, options, *, count=2, **more):
    video = model.modality
    context = RequestContext(model=model, data=video.open, count=count, **more)
    return model.run(video.plan(options, context))


def pixels(model, file):
    return read_clip(Path(file), model.modality.look).frames


def test_a_clip_begins_with_the_frames_that_are_given(model, clip):
    for frames, scheduling in ((4, None), (9, None), (9, "rolling"), (10, "pyramid"), (4, "autoregressive")):
        samples = drawn(model, Sample(first_frames=clip, frames=frames, scheduling=scheduling))
        for sample in samples.values:
            assert sample.shape == (frames, 3, 16, 16)
            assert torch.equal(sample[:3], pixels(model, clip))
        assert not torch.equal(samples.values[0], samples.values[1])


def test_some_of_the_frames_a_picture_and_two_ends_can_be_given(model, clip, work):
    clips.frames("up", "red")[1].save(work / "end.png")
    end = pixels(model, work / "end.png")[0]
    assert torch.equal(drawn(model, Sample(first_frames=clip, keep=1, frames=4)).values[0][0], pixels(model, clip)[0])
    between = drawn(model, Sample(interpolate=(clip, str(work / "end.png")), frames=7)).values
    assert torch.equal(between[1][:3], pixels(model, clip))
    assert torch.equal(between[1][-1], end)
    begun = drawn(model, Sample(image=str(work / "end.png"))).values[0]
    assert torch.equal(begun[0], end)
    assert len(begun) == 4


def test_seconds_are_frames_at_the_rate_of_the_run(model):
    assert len(drawn(model, Sample(seconds=0.7)).values[0]) == 7


def test_a_sample_is_a_function_of_its_seed_in_any_batch(model, clip):
    together = drawn(model, Sample(first_frames=clip, frames=8), count=3, seed=5)
    alone = drawn(model, Sample(first_frames=clip, frames=8), count=1, seed=7)
    torch.testing.assert_close(together.values[2].int(), alone.values[0].int(), rtol=0, atol=1)


def test_captions_are_those_asked_for_and_none_where_frames_are_given(model, clip):
    said = drawn(model, Sample(text=("red square", "blue square")), count=3)
    assert said.names == ("red square", "blue square", "red square")
    assert drawn(model, Sample(first_frames=clip)).names == ()


def test_the_default_scheduling_is_full_up_to_the_window_and_in_chunks_beyond(model):
    sampling = model.sampling

    def chosen(**options):
        frames = options.pop("frames")
        return plans.scheduling_of(Sample(**options), frames, 4, sampling)

    assert chosen(frames=4) == FullSequence()
    assert chosen(frames=5) == Autoregressive(chunk=1)
    assert chosen(frames=5, chunk=3) == Autoregressive(chunk=3)
    assert chosen(frames=5, scheduling="rolling") == Rolling(window=2)
    assert chosen(frames=5, scheduling="pyramid").in_progress(sampling.steps) <= 2
    assert isinstance(chosen(frames=4, scheduling="pyramid"), Pyramid)


def test_guidance_by_the_history_is_added_to_that_of_the_run(model):
    options = Sample(history=1.5, stabilise=0.02)
    context = RequestContext(model=model, data=model.modality.open)
    added = plans.sampling_of(model.modality, options, 8, context).guidance
    assert HistoryGuidance(weight=1.5) in added
    assert StabilisationGuidance(weight=0.02) in added
    assert {g.kind for g in model.sampling.guidance} < {g.kind for g in added}
    assert [g.kind for g in added][-2:] == ["stabilisation", "history"]  # history sees which frames are finished


@pytest.mark.parametrize("scheduling", ["rolling", "autoregressive"])
def test_guidance_by_the_history_sees_the_window_that_moves(model, scheduling):
    """Where a network says the same of all frames, so do its samples, however long: guidance is inside of the window."""

    class Same:
        def __call__(self, x_t, t, condition=None):
            return Point(torch.full_like(x_t, 0.3))

    parts = replace(model.built.model, denoiser=Same())
    constant = replace(model, built=replace(model.built, model=parts))
    for options in (Sample(), Sample(history=1.5), Sample(stabilise=0.05), Sample(history=2.0, stabilise=0.05)):
        samples = drawn(constant, replace(options, frames=11, scheduling=scheduling))
        wanted = model.modality.codec.decode(torch.full((1, 3, 11, 16, 16), 0.3))[0]
        assert all(torch.equal(sample, wanted) for sample in samples.values)


def test_a_network_of_patches_in_time_draws_clips_of_any_length(work):
    changes = (*CHANGES, "data.frames=4", "network.patch=[2,4,4]")
    pairs = load_model(open_run(run_of(clips.captioned(work / "even"), work / "pairs", *changes)))[0]
    for frames in (3, 4, 7):
        samples = drawn(pairs, Sample(frames=frames))
        assert samples.values[0].shape == (frames, 3, 16, 16)
    path = clips.write(work / "three.webp", clips.frames("left", "blue", count=3))
    edited = drawn(pairs, Edit(input=str(path), mask="4,4,8,8")).values[0]
    given = pixels(pairs, path)
    assert edited.shape == given.shape
    assert torch.equal(edited[:, :, 0], given[:, :, 0])
    continued = drawn(pairs, Sample(first_frames=str(path), keep=1, frames=3)).values[0]
    assert torch.equal(continued[0], given[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Sample(frames=1), "--frames is a number from 2"), (Sample(frames=10**6), "--frames is a number from 2"),
        (Sample(frames=8, seconds=1.0), "give one"), (Sample(seconds=-1.0), "--seconds is above 0"),
        (Sample(keep=2), "--keep is a number of frames of --first-frames"),
        (Sample(image="CLIP", first_frames="CLIP"), "both say how a clip begins"),
        (Sample(interpolate=("CLIP",)), "takes two"), (Sample(first_frames="CLIP", frames=3), "leaves none to draw"),
        (Sample(first_frames="CLIP", keep=5), "more than the 3 frames"), (Sample(first_frames="nowhere.gif"), "no file"),
        (Sample(chunk=0), "--chunk is a number"), (Sample(frames=9, chunk=4), "leaves no room"),
        (Sample(frames=9, scheduling="full_sequence"), "more than the 4 of the network"),
        (Sample(scheduling="pyramid", chunk=2), "--chunk is a number"), (Sample(frames=9, history=float("nan")), "finite"),
        (Sample(frames=9, stabilise=2.0), "stabilisation"),
        (Sample(history=1.5), "--history is about frames that are finished"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_or_cannot_be_is_refused(model, clip, options, words):
    changes = {name: clip for name in ("image", "first_frames") if getattr(options, name) == "CLIP"}
    changes |= {"interpolate": (clip,)} if options.interpolate else {}
    with pytest.raises(ValueError, match=words):
        drawn(model, replace(options, **changes))


def test_a_run_without_levels_per_frame_says_what_it_lacks(work, model, clip):
    changes = (*CHANGES, "method.levels=[]")
    plain = load_model(open_run(run_of(work / "data", work / "plain", *changes)))[0]
    assert len(drawn(plain, Sample()).values[0]) == 4
    for options in (Sample(first_frames=clip), Sample(frames=9), Sample(scheduling="rolling")):
        with pytest.raises(ValueError, match="noise level per frame"):
            drawn(plain, options)


def test_guidance_without_a_caption_has_no_effect_and_is_refused(model, clip):
    with pytest.raises(ValueError, match="--guidance leads to a caption"):
        drawn(model, Sample(first_frames=clip), guided=True)


# ---------------------------------------------------------------------------------------------------------------- edits


def test_outside_of_the_mask_a_clip_stays_to_the_bit(model, clip):
    given = pixels(model, clip)
    for options, drawn_anew in (
        (Edit(input=clip, mask="4,2,6,8"), (slice(None), slice(2, 10), slice(4, 10))),
        (Edit(input=clip, frames=("1,2",)), (slice(1, 2), slice(None), slice(None))),
        (
            Edit(input=clip, mask="4,2,6,8", frames=("0,1", "2,3"), text="red square"),
            ([0, 2], slice(2, 10), slice(4, 10)),
        ),
    ):
        hidden = torch.zeros(3, 16, 16, dtype=torch.bool)
        frames, down, right = drawn_anew
        for f in range(3) if frames == slice(None) else frames if isinstance(frames, list) else range(3)[frames]:
            hidden[f, down, right] = True
        samples = drawn(model, options)
        for sample in samples.values:
            kept = ~hidden[:, None].expand_as(sample)
            assert torch.equal(sample[kept], given[kept])
            assert not torch.equal(sample, given)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "nothing to edit"), ({"mask": "0,0,16,16"}, "nothing is given"), ({"mask": "10,10,10,10"}, "not within"),
        ({"mask": "1,2,3"}, "3 numbers"), ({"mask": "nowhere.png"}, "neither"), ({"frames": ("2,9",)}, "not within"),
        ({"frames": ("2",)}, "not FROM,TO"), ({"frames": ("2,2",)}, "not within"),
    ],
)  # fmt: skip
def test_edits_of_nothing_or_of_all_are_refused(model, clip, options, words):
    with pytest.raises(ValueError, match=words):
        drawn(model, Edit(input=clip, **options))


def test_a_clip_longer_than_the_window_is_not_edited(model, work):
    long = str(clips.write(work / "long.webp", clips.frames(count=9)))
    with pytest.raises(ValueError, match="9 frames at 10 a second, and this run edits clips of 2 to 4"):
        drawn(model, Edit(input=long, mask="0,0,4,4"))


def test_masks_and_spans_are_what_they_say(work):
    picture = Image.new("L", (32, 32), 0)
    picture.paste(255, (0, 16, 32, 32))
    picture.save(work / "mask.png")
    video = SimpleNamespace(frame_shape=(3, 16, 16))
    assert region(video, str(work / "mask.png"))[:, 0].tolist() == [False] * 8 + [True] * 8
    assert spans(("1,3",), 5).tolist() == [False, True, True, False, False]
    assert spans((), 2).tolist() == [True, True]


def test_the_endpoint_of_videos_maps_to_options():
    assert videos(prompt="a square", seconds=2.0, reference="a.png") == Sample(
        text=("a square",), seconds=2.0, image="a.png"
    )
    assert videos(prompt=" ", seconds=None, reference=None) == Sample()
    assert Look().size is None
