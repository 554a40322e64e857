"""From the options of a request to what is drawn."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler.grid import UniformTimeGrid
from langevin.modalities.modality import Plan, RequestContext, Samples
from langevin.modalities.motion import plans
from langevin.modalities.motion.clip import LONGEST, Clip, interpolated, require_duration
from langevin.modalities.motion.codec import Poses
from langevin.modalities.motion.data import upright
from langevin.modalities.motion.files.given import read_given, read_path
from langevin.modalities.motion.options import Edit, Sample
from langevin.modalities.motion.plans import Given
from langevin.modalities.motion.projector import Dynamics, Feet, Limits, Projector, Range
from langevin.modalities.paths import did_you_mean

if TYPE_CHECKING:
    from langevin.modalities.motion.modality import Motion

EDITED = 4  # motions that an edit makes by default
AROUND = 4  # frames on either side of a part that is drawn anew, at least, where a longer motion is cut
KINDS: dict[str, type[Any]] = {"dynamics": Dynamics, "feet": Feet, "limits": Limits, "range": Range}


def plan(motion: "Motion", options: Sample, context: RequestContext) -> Plan:
    """The plan of a request.

    Raises:
        ValueError: the run cannot do it, or options contradict each other."""
    _check(motion, options, context)
    projectors = chosen_projectors(motion, options.project)
    train = context.data()[0] if motion.vocabulary is not None and not options.text and not options.action else None
    count = context.count or max(len(options.action), len(options.text), 4)
    said = motion.known.requested(options.action, options.text, count, seed=context.seed, data=train)
    for line in motion.known.remarks(options.text):
        context.say(line)
    given = given_of(motion, options)
    if given is None:
        lengths = [frames_of(motion, options.seconds, action) for action in said.actions]
    else:
        wanted = (
            len(given.known) if given.values is not None else len(given.targets if given.targets is not None else ())
        )
        lengths = [wanted] * count
    if max(lengths) > motion.window and not plans.reads_levels(context):
        long = (motion.window - 1) / motion.known_rate
        raise ValueError(
            f"this run makes motions of up to {long:.2f} seconds, as it was trained without levels per frame "
            "(method.levels): ask for less, or train with them"
        )
    return plans.draw(motion, said, lengths, context, given=given, projectors=projectors)


def _check(motion: "Motion", options: Sample, context: RequestContext) -> None:
    """Raises `ValueError` for options that the run does not take, or that contradict each other."""
    modes = [name for name in ("continue_", "keyframes", "path") if getattr(options, name) is not None]
    if len(modes) > 1:
        raise ValueError("--continue, --keyframes and --path are three different requests: give one of them")
    if options.seconds is not None and not 0 < options.seconds <= LONGEST:
        raise ValueError(f"--seconds must be above 0, up to {LONGEST:g}, got {options.seconds:g}")
    if options.times and options.keyframes is None:
        raise ValueError("--times are those of --keyframes FILE: give both")
    if options.path is not None and motion.skeleton is None:
        raise ValueError("--path is the way of a skeleton's root, and this run is of states: leave it out")
    if context.guided and not motion.known.anything:
        raise ValueError(
            "--guidance strengthens a condition, and this run has neither actions nor captions: leave it out"
        )


def frames_of(motion: "Motion", seconds: float | None, action: int = -1) -> int:
    """Frames of a motion of so many seconds, or of most motions of its action."""
    if seconds is None:
        return motion.typical[max(0, action)]
    return max(2, round(seconds * motion.known_rate) + 1)


def chosen_projectors(motion: "Motion", names: Sequence[str]) -> Sequence[Projector] | None:
    """The projectors that a request names; None for those of the run.

    Raises:
        ValueError: an unknown one, or one that is not for these motions."""
    if not names:
        return None
    if "none" in names:
        if len(names) > 1:
            raise ValueError("--project none is no projection: give no other with it")
        return []
    own = {one.kind: one for one in motion.projectors}
    for name in names:
        if name not in KINDS:
            raise ValueError(
                f"no projector is called '{name}'{did_you_mean(name, KINDS)}; known are none, {', '.join(KINDS)}"
            )
    found = [own.get(name) or KINDS[name]() for name in names]
    require_projectors(motion, found)
    return found


def require_projectors(motion: "Motion", projectors: Sequence[Projector]) -> None:
    """Check that projectors are for the run's motions. Raises `ValueError`."""
    for one in projectors:
        if isinstance(one, Dynamics) and motion.source is None:
            raise ValueError("the projector dynamics needs data.source, whose equation of motion is known")
        if isinstance(one, Feet | Limits) and motion.source is not None:
            raise ValueError(f"the projector {one.kind} is for skeletons: {motion.source.kind} has none")
        if isinstance(one, Feet | Limits) and motion.codec is not None and not isinstance(motion.codec, Poses):
            raise ValueError(f"the projector {one.kind} is for skeletons: states have none")


# ------------------------------------------------------------------------------------------------------- given frames


def given_of(motion: "Motion", options: Sample) -> Given | None:
    """What the options give of the motions; None for nothing."""
    if options.continue_ is not None:
        return continued(motion, at_rate(motion, options.continue_), options.seconds)
    if options.keyframes is not None:
        return keyframes(motion, options.keyframes, options.times, options.seconds)
    if options.path is not None:
        return along(motion, options.path, options.seconds)
    return None


def clip_of(motion: "Motion", file: str) -> Clip:
    """The motion of a file, with the run's skeleton or columns, y up, at its own rate. Raises `ValueError`."""
    clip = read_given(file, motion.skeleton, motion.columns, rate=motion.known_rate)
    return upright(clip, motion.up)


def at_rate(motion: "Motion", file: str) -> Clip:
    """The motion of a file at the run's rate. Raises `ValueError`, also for less than two frames and for too many."""
    clip = clip_of(motion, file)
    name, frames = Path(file).name, max(clip.frames, motion.window)
    require_duration(name, clip.seconds, motion.known_rate, frames=frames)
    return clip.resampled(motion.known_rate)


def continued(motion: "Motion", clip: Clip, seconds: float | None) -> Given:
    """The end of a motion, shown to the network, and free frames after it."""
    shown = min(clip.frames, motion.window // 2)
    new = motion.window - shown if seconds is None else max(1, round(seconds * motion.known_rate))
    length = shown + new
    values = plans.between(clip.values[-shown:], range(shown), length, poses=motion.skeleton is not None)
    before = clip.values[:-shown] if clip.frames > shown else None
    return Given(values=values, known=torch.arange(length) < shown, before=before)


def keyframes(motion: "Motion", file: str, times: Sequence[float], seconds: float | None) -> Given:
    """Poses of a file at times, of which the motion has one frame each.

    Raises:
        ValueError: a time beyond the end of the file or of the motion, or two of one frame."""
    clip, rate = clip_of(motion, file), motion.known_rate
    if any(not 0 <= t < math.inf for t in times) or list(times) != sorted(times):
        raise ValueError(f"--times are seconds that rise from 0 on, got {' '.join(f'{t:g}' for t in times)}")
    own = torch.arange(clip.frames, dtype=torch.float64) / clip.rate
    if times and max(times) > clip.seconds + 0.5 / clip.rate:
        raise ValueError(f"--times has {max(times):g}, which is beyond the end of a file of {clip.seconds:.2f} seconds")
    at = torch.tensor(list(times), dtype=torch.float64) if times else own
    if seconds is None and float(at[-1]) > max(LONGEST, motion.window / rate):
        raise ValueError(
            f"the last key frame is at {at[-1]:,.0f} s, and at most {LONGEST:g} are made: give other --times"
        )
    poses = motion.skeleton is not None
    values = interpolated(clip.values, own, at.clamp_max(clip.seconds), skeleton=poses)
    frames = [round(t * rate) for t in at.tolist()]
    if len(set(frames)) < len(frames):
        raise ValueError(
            f"{len(frames)} key frames fall on {len(set(frames))} frames of a motion of {rate:g} frames per second: give "
            "--times that are further apart"
        )
    length = frames[-1] + 1 if seconds is None else frames_of(motion, seconds)
    if frames[-1] >= length:
        raise ValueError(
            f"a key frame at {at[-1]:g} s is beyond the end of a motion of {(length - 1) / rate:.2f} s (--seconds)"
        )
    known = torch.zeros(max(2, length), dtype=torch.bool)
    known[frames] = True
    if bool(known.all()):
        raise ValueError("every frame is a key frame, so that nothing is left to draw: give fewer --times")
    return Given(values=plans.between(values, frames, len(known), poses=poses), known=known)


def along(motion: "Motion", file: str, seconds: float | None) -> Given:
    """A way for the root; where no heading is given, motions head along it as those of the data do on average.

    Raises:
        ValueError: the file is no path, or lasts longer or shorter than `seconds`."""
    targets, rate, codec = read_path(file, rate=motion.known_rate), motion.known_rate, motion.known_codec
    if seconds is not None and abs(frames_of(motion, seconds) - len(targets)) > 1:
        raise ValueError(
            f"the path lasts {(len(targets) - 1) / rate:.2f} seconds and --seconds is {seconds:g}: leave --seconds out, or "
            "give another path"
        )
    assert isinstance(codec, Poses), "checked before"
    if bool(targets[:, 2].isnan().any()):
        targets[:, 2] = _headings(targets[:, :2], torch.tensor(codec.mean[1:3], dtype=torch.float64), rate)
    return Given(targets=targets)


def _headings(flat: Tensor, forward: Tensor, rate: float) -> Tensor:
    """Headings (frames,) with which `forward`, the mean velocity (x, z) of motions of heading 0, is along the way."""
    steps = flat[1:] - flat[:-1]
    wide = max(1, round(0.3 * rate))
    padded = torch.nn.functional.pad(steps.T[None], (wide, wide), mode="replicate")[0]
    smooth = torch.nn.functional.avg_pool1d(padded, 2 * wide + 1, 1).T
    angle = torch.atan2(forward[1], forward[0]) - torch.atan2(smooth[:, 1], smooth[:, 0])  # a turn takes x towards -z
    angle = torch.cat([angle[:1], angle])
    turns = torch.remainder(angle[1:] - angle[:-1] + math.pi, 2 * math.pi) - math.pi
    return torch.cat([angle[:1], angle[0] + turns.cumsum(0)])


# -------------------------------------------------------------------------------------------------------------- edits


def edit_plan(motion: "Motion", options: Edit, context: RequestContext) -> Plan:
    """The plan of an edit: motions that differ from the input in some parts, then the input.

    Raises:
        ValueError: options that contradict each other or change nothing, or an input that cannot be read."""
    if bool(options.mask) == (options.to is not None):
        raise ValueError("give --mask FROM,TO, the parts that are drawn anew, or --to ACTION")
    if options.strength is not None and options.to is None:
        raise ValueError("--strength goes with --to ACTION")
    if context.guided and not (options.action or options.text or options.to):
        raise ValueError("--guidance leads to an action or a caption: give --action, --text or --to, or leave it out")
    clip = at_rate(motion, options.input)
    count = context.count or EDITED
    words = [] if options.text is None else [options.text]
    actions = [one for one in (options.to, options.action) if one is not None][:1]
    said = motion.known.requested(actions, words, count, seed=context.seed, data=None)
    if not actions and motion.actions:
        said = replace(said, actions=(-1,) * count)
    if options.to is not None:
        return _shown(motion, clip, restyled(motion, clip, options, said, context), context)
    given = masked(motion, clip, options.mask)
    return _shown(motion, clip, plans.draw(motion, said, [len(given.known)] * count, context, given=given), context)


def restyled(motion: "Motion", clip: Clip, options: Edit, said: Any, context: RequestContext) -> Plan:
    """Motions that start from the clip, corrupted to the time `strength`. Raises `ValueError`."""
    strength = Edit.STRENGTH if options.strength is None else options.strength
    if not 0 < strength <= 1:
        raise ValueError(f"--strength must be in (0, 1], got {strength:g}")
    if clip.frames > motion.window:
        raise ValueError(
            f"--to takes motions of up to {(motion.window - 1) / motion.known_rate:.2f} s, and this one has "
            f"{clip.seconds:.2f}: cut it"
        )
    process = context.model.parts.process
    assert isinstance(process, Gaussian), "motion has a Gaussian process"
    t = torch.tensor(strength, dtype=torch.float64)
    sampling = context.model.sampling
    if strength < 1:
        rho = float(process.schedule.sigma(t) / process.schedule.alpha(t))
        sampling = replace(sampling, grid=UniformTimeGrid(high=rho))
    given = Given(values=clip.values, known=torch.zeros(clip.frames, dtype=torch.bool), begun=True)
    return plans.draw(motion, said, [clip.frames] * len(said), context, given=given, sampling=sampling)


def masked(motion: "Motion", clip: Clip, parts: Sequence[str]) -> Given:
    """The motion without some parts FROM,TO in seconds; a long one is cut around them.

    Raises:
        ValueError: a part that is none of the motion, or all of it."""
    known, rate = torch.ones(clip.frames, dtype=torch.bool), motion.known_rate
    for part in parts:
        try:
            start, end = (float(word) for word in part.split(","))
        except ValueError as error:
            raise ValueError(f"--mask {part} is FROM,TO in seconds, such as 0.5,1.2") from error
        if not 0 <= start < end or start > clip.seconds or end > clip.seconds + 1 / rate:
            raise ValueError(f"--mask {part} is no part of a motion of {clip.seconds:.2f} seconds")
        first, last = math.ceil(start * rate - 1e-6), math.floor(end * rate + 1e-6)
        known[first : last + 1] = False
    if not bool(known.any()) or bool(known.all()):
        what = (
            "covers all of the motion, so that nothing is given" if bool((~known).all()) else "is shorter than a frame"
        )
        raise ValueError(f"--mask {' '.join(parts)} {what}")
    free = (~known).nonzero()[:, 0]
    first, last, window = int(free[0]), int(free[-1]) + 1, motion.window
    low, high = 0, clip.frames
    if clip.frames > window and last - first <= window - 2 * AROUND:
        low = min(max(0, (first + last - window) // 2), clip.frames - window)
        high = low + window
    kept = known[low:high]
    frames = kept.nonzero()[:, 0].tolist()
    values = plans.between(clip.values[low:high][kept], frames, high - low, poses=motion.skeleton is not None)
    return Given(
        values=values, known=kept, before=clip.values[:low] if low else None,
        after=clip.values[high:] if high < clip.frames else None,
    )  # fmt: skip


def _shown(motion: "Motion", clip: Clip, plan: Plan, context: RequestContext) -> Plan:
    """The motions of a plan, then the input."""
    made: Samples = yield from plan
    names = (*(f"sample {i + 1}" for i in range(len(made))), "input")
    arrays = {name: torch.cat([part, part.new_full((1,), -1)]) for name, part in made.arrays.items()}
    return replace(made, values=[*made.values, clip.values], names=names, num_drawn=len(made), arrays=arrays)
