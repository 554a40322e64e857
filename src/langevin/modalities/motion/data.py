"""Loading motion: every file is read once, checked, brought to one rate, and put into one of two parts."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from langevin.modalities.modality import Progress
from langevin.modalities.motion import rotations
from langevin.modalities.motion.clip import Clip, Unreadable, frames_at, repeated
from langevin.modalities.motion.files import arrays, bvh, deepmimic
from langevin.modalities.motion.files.listing import Entry, Listing, find
from langevin.modalities.motion.skeleton import OFFSETS, Skeleton
from langevin.modalities.motion.systems import AnySystem
from langevin.modalities.motion.systems.system import energies, trajectories
from langevin.modalities.paths import some
from langevin.modalities.remarks import Remarks

MANY = 50  # clips, from which on whole clips are held out, and not the ends of long ones
LONG = 5  # windows of a clip whose end is held out
FASTEST = 20.0  # frames per second of poses, unless the recipe says so


@dataclass(frozen=True, kw_only=True, eq=False)
class Motions:
    """The training or the validation part: n motions at one rate.

    Args:
        clips: (frames, columns) float32 each: poses of the skeleton, or states.
        rate: frames per second.
        skeleton: None for states.
        columns: names of the columns of states.
        names: of the files.
        actions, texts: what is said of each; None where nothing is.
        notes: findings on the whole source.
        outside: trajectories of higher energies than any other, for a system with `outside`.
    """

    clips: tuple[Tensor, ...]
    rate: float
    skeleton: Skeleton | None
    columns: tuple[str, ...]
    names: tuple[str, ...]
    actions: tuple[str | None, ...]
    texts: tuple[str | None, ...]
    notes: Remarks = Remarks()
    outside: Tensor | None = None

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def lengths(self) -> Tensor:
        """Frames of each clip, (n,) int64."""
        return torch.tensor([len(clip) for clip in self.clips])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of rate, names, actions, texts and values, in hexadecimal."""
        digest = hashlib.sha256(json.dumps([self.rate, self.names, self.actions, self.texts]).encode())
        for clip in self.clips:
            digest.update(clip.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def select(self, items: Sequence[int]) -> "Motions":
        """Some of the motions."""
        picked = {name: tuple(getattr(self, name)[i] for i in items) for name in ("clips", "names", "actions", "texts")}
        return replace(self, **picked)


def simulated_parts(
    system: AnySystem, *, count: int, frames: int, seed: int, val_fraction: float, outside: float
) -> tuple[Motions, Motions]:
    """`count` trajectories of a system; the last `val_fraction` are the validation part.

    Args:
        outside: fraction of the trajectories, those of the highest energies, that are in neither part.
    """
    every = trajectories(system, count, frames, seed=seed)
    beyond = None
    if outside:
        energy = energies(system, every.double()).mean(1)
        limit = energy.sort().values[round((1 - outside) * len(energy)) - 1]
        beyond, every = every[energy > limit], every[energy <= limit]
    cut = min(max(1, round(len(every) * (1 - val_fraction))), len(every) - 1)

    def part(first: int, values: Tensor) -> Motions:
        n = len(values)
        return Motions(
            clips=tuple(values), rate=1 / system.dt, skeleton=None, columns=system.columns, outside=beyond,
            names=tuple(f"{system.kind} {first + i}" for i in range(n)), actions=(None,) * n, texts=(None,) * n,
        )  # fmt: skip

    return part(0, every[:cut]), part(cut, every[cut:])


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Everything that could be read at a path, at its own rates, and the rate that it is brought to."""

    listing: Listing
    rate: float
    clips: tuple[tuple[Entry, Clip], ...]
    broken: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]


def load(
    path: str,
    *,
    only: str = "",
    pattern: str = "",
    rate: float | None = None,
    up: str = "y",
    progress: Progress | None = None,
) -> Loaded:
    """Read every file at a path.

    Args:
        only, pattern: see `files.listing.find`.
        rate: frames per second that motions are brought to, and of states whose files do not say it; None for
            `common_rate`.
        up: the vertical axis of files, y or z.

    Raises:
        ValueError: there is nothing to read, more than one in ten cannot be used, or skeletons differ."""
    listing = find(path, only=only, pattern=pattern)
    characters = _characters(listing)
    clips, broken = list[tuple[Entry, Clip]](), list[tuple[str, str]]()
    remarks = dict[str, list[str]]()
    for number, entry in enumerate(listing.entries):
        try:
            for own, clip in _read(listing, entry, characters, rate):
                clips.append((own, upright(clip, up)))
                for remark in clip.remarks:
                    remarks.setdefault(remark.partition(" up to")[0], []).append(f"{own.name}: {remark}")
        except Unreadable as error:
            broken.append((entry.name, str(error)))
        if progress is not None:
            progress(number + 1, len(listing.entries))
    brought = common_rate([clip for _, clip in clips], rate=rate) if clips else 0.0
    every, short = len(clips) + len(broken), [e.name for e, clip in clips if frames_at(clip.seconds, brought) < 2]
    clips = [(entry, clip) for entry, clip in clips if frames_at(clip.seconds, brought) > 1]
    if not clips or 10 * len(broken) > len(listing.entries) or 10 * (len(broken) + len(short)) > every:
        told = [f"{name} {why}" for name, why in broken]
        told += [f"{name} has one frame at {brought:g} a second" for name in short]
        raise ValueError(
            f"{listing.root}: {len(told)} of {every} motions cannot be used"
            + (", more than one in ten" if clips else "")
            + f": {some(told, between='; ')}. Repair or remove these files and start again"
        )
    lines = [f"Motions of one frame at {brought:g} a second, left out: {len(short):,} ({some(short)})."] * bool(short)
    lines += [f"In {len(found):,} files, {found[0].partition(': ')[2]} (such as {found[0].partition(': ')[0]})."
              for found in remarks.values()]  # fmt: skip
    clips, more = _one_kind(listing, clips)
    return Loaded(
        listing=listing, rate=brought, clips=tuple(clips), broken=tuple(broken),
        remarks=(*listing.remarks, *lines, *more),
    )  # fmt: skip


def _characters(listing: Listing) -> dict[str, Skeleton]:
    """The skeletons of character files, by stem. Raises `ValueError` for one that cannot be read."""
    found = dict[str, Skeleton]()
    for name in listing.characters:
        try:
            found[Path(name).stem] = deepmimic.character(deepmimic.load(listing.root / name))
        except Unreadable as error:
            raise ValueError(f"{listing.root / name} {error}") from error
    return found


def _read(
    listing: Listing, entry: Entry, characters: dict[str, Skeleton], rate: float | None
) -> list[tuple[Entry, Clip]]:
    """The motions of a file. Raises `Unreadable`."""
    path = listing.root / entry.name
    match listing.kind:
        case "bvh":
            return [(entry, bvh.read(path))]
        case "deepmimic":
            return [(entry, read_mimic(path, characters))]
        case "states":
            if path.suffix.lower() == ".csv":
                return [(entry, arrays.read_csv(path, rate=rate))]
            found = arrays.read_npz(path, rate=rate)
            own = [replace(entry, action=entry.action or action) for _, action in found]
            if len(found) > 1:
                own = [replace(e, name=f"{entry.name}[{i}]") for i, e in enumerate(own)]
            return [(e, clip) for e, (clip, _) in zip(own, found, strict=True)]


def read_mimic(path: Path, characters: dict[str, Skeleton]) -> Clip:
    """A motion of DeepMimic's JSON with its own skeleton, or the character that its name begins with or that fits alone.

    Raises:
        Unreadable: it is none, or no character fits."""
    found = deepmimic.load(path)
    if "Skeleton" in found:
        return deepmimic.motion(found, deepmimic.character(found))
    wide = deepmimic.frames_of(found).shape[1]
    fitting = {name: one for name, one in characters.items() if deepmimic.width(one) == wide}
    named = [one for name, one in fitting.items() if path.stem.startswith(name)]
    if not named and len(fitting) != 1:
        known = ", ".join(f"{name} ({deepmimic.width(one)})" for name, one in characters.items()) or "none"
        raise Unreadable(f"has frames of {wide} numbers, and no character is known to have as many; known are {known}")
    return deepmimic.motion(found, (named or list(fitting.values()))[0])


def upright(clip: Clip, up: str) -> Clip:
    """With y as the vertical axis."""
    if up == "y" or clip.skeleton is None:
        return clip
    quarter = rotations.about(torch.tensor([1.0, 0.0, 0.0]), torch.tensor(-torch.pi / 2))
    root, q = clip.skeleton.split(clip.values)
    root = torch.stack([root[:, 0], root[:, 2], -root[:, 1]], 1)
    turned = rotations.multiply(quarter.expand(len(q), 4), q[:, 0])
    return replace(clip, values=clip.skeleton.join(root, torch.cat([turned[:, None], q[:, 1:]], 1)))


def _one_kind(listing: Listing, clips: list[tuple[Entry, Clip]]) -> tuple[list[tuple[Entry, Clip]], list[str]]:
    """Clips of one skeleton, or of the same columns, and remarks.

    Raises:
        ValueError: they are of several; the message names them."""
    groups = defaultdict[object, list[tuple[Entry, Clip]]](list)
    for entry, clip in clips:
        groups[clip.columns if clip.skeleton is None else clip.skeleton.tree].append((entry, clip))
    if len(groups) > 1:
        ordered = sorted(groups.values(), key=len, reverse=True)
        told = [_told(group) for group in ordered[:4]]
        begin = Path(ordered[0][0][0].name).name.partition("_")[0] + "*"
        what = "skeletons" if clips[0][1].skeleton is not None else "kinds of states"
        raise ValueError(
            f"{listing.root} holds {len(groups)} different {what}: {'; '.join(told)}. Choose some files by data.only, such "
            f"as data.only='{begin}', or move the others away"
        )
    skeletons = [clip.skeleton for _, clip in clips if clip.skeleton is not None]
    if not skeletons:
        return clips, []
    return _one_skeleton(listing, clips, skeletons)


def _told(group: list[tuple[Entry, Clip]]) -> str:
    entry, clip = group[0]
    size = f"columns {', '.join(clip.columns[:6])}" if clip.skeleton is None else f"{len(clip.skeleton)} joints"
    return f"{len(group):,} such as {entry.name} ({size})"


def _one_skeleton(
    listing: Listing, clips: list[tuple[Entry, Clip]], skeletons: list[Skeleton]
) -> tuple[list[tuple[Entry, Clip]], list[str]]:
    """Clips with the mean of their skeletons. Raises `ValueError` if bones or joints differ too much."""
    offsets = torch.tensor([one.offsets for one in skeletons], dtype=torch.float64)
    offsets[:, 0] = 0
    mean, size = offsets.mean(0), skeletons[0].height
    apart = (offsets - mean).abs().amax((1, 2))
    worst, kinds = int(apart.argmax()), {one.kinds for one in skeletons}
    if float(apart[worst]) > OFFSETS * size or len(kinds) > 1:
        other = int((offsets - offsets[worst]).abs().amax((1, 2)).argmax())
        names = [clips[i][0].name for i in (worst, other)]
        raise ValueError(
            f"{listing.root}: bones of {names[0]} and {names[1]} differ by more than a fifth of the skeleton, or their "
            "joints turn differently: choose files of one skeleton by data.only"
        )
    if float(apart[worst]) < 1e-4 * size:
        return [(entry, replace(clip, skeleton=skeletons[0])) for entry, clip in clips], []
    shared = replace(skeletons[0], offsets=tuple((o[0], o[1], o[2]) for o in mean.tolist()))
    remark = (
        f"Bones differ between files by up to {100 * float(apart[worst]) / size:.2g} % of the skeleton, as of people of "
        "different sizes: all motions are of the mean skeleton."
    )
    return [(entry, replace(clip, skeleton=shared)) for entry, clip in clips], [remark]


def common_rate(clips: Sequence[Clip], *, rate: float | None) -> float:
    """The rate that clips are brought to: as given, else that of most of the time, at most 20 for poses."""
    if rate is not None:
        return rate
    seconds = defaultdict[float, float](float)
    for clip in clips:
        seconds[round(clip.rate, 3)] += clip.seconds
    most = max(sorted(seconds), key=seconds.__getitem__)
    return most if clips[0].skeleton is None else min(FASTEST, most)


def load_parts(
    path: str, *, only: str, pattern: str, rate: float | None, up: str, window: int, val_fraction: float, cycles: bool,
    progress: Progress | None = None,
) -> tuple[Motions, Motions]:  # fmt: skip
    """The training and the validation part of the motions at a path.

    A test part of the data's own is used if there is one. Else, of 50 clips or more, those with a small hash are held out;
    of fewer, the ends of those that are 5 windows long, or, without such, those with a small hash.

    Args:
        window: frames of an example.
        cycles: whether cyclic motions that are shorter than a window are repeated.

    Raises:
        ValueError: see `load`, or too few motions for two parts."""
    loaded = load(path, only=only, pattern=pattern, rate=rate, up=up, progress=progress)
    rate = loaded.rate
    ready, rounds = list[tuple[Entry, Tensor]](), 0
    for entry, clip in loaded.clips:
        at = clip.resampled(rate)
        long = repeated(at, window + at.frames) if cycles and at.frames < 2 * window else at
        rounds += long.frames > at.frames
        ready.append((entry, long.values))
    notes = list(loaded.remarks)
    rates = sorted({round(clip.rate, 1) for _, clip in loaded.clips})
    if rates != [round(rate, 1)]:
        told = ", ".join(f"{one:g}" for one in rates[:6])
        notes.append(f"Motions have {told} frames per second, and are brought to {rate:g}.")
    if rounds:
        notes.append(f"Cyclic motions shorter than an example, repeated: {rounds:,}.")
    train, val = _divided(ready, window, val_fraction)
    if not train or not val:
        raise ValueError(
            f"{loaded.listing.root} holds {len(ready)} usable motions, too few that differ, or too short, for training and "
            f"validation: give more, or a smaller data.window than {window}"
        )
    remarks = Remarks(remarks=tuple(notes), broken=loaded.broken)
    first = loaded.clips[0][1]
    parts = [
        Motions(
            clips=tuple(values for _, values in part), rate=rate, skeleton=first.skeleton, columns=first.columns,
            names=tuple(entry.name for entry, _ in part), actions=tuple(entry.action for entry, _ in part),
            texts=tuple(entry.text for entry, _ in part), notes=remarks,
        )
        for part in (train, val)
    ]  # fmt: skip
    return parts[0], parts[1]


_Some = list[tuple[Entry, Tensor]]


def _divided(clips: _Some, window: int, share: float) -> tuple[_Some, _Some]:
    """The clips of the training and of the validation part."""
    if any(entry.test for entry, _ in clips):
        return [one for one in clips if not one[0].test], [one for one in clips if one[0].test]
    if len(clips) < MANY and any(len(values) >= LONG * window for _, values in clips):
        train, val = _Some(), _Some()
        for entry, values in clips:
            held = max(window, round(share * len(values))) if len(values) >= LONG * window else 0
            train.append((entry, values[: len(values) - held]))
            if held:
                val.append((entry, values[len(values) - held :]))
        return train, val
    place = [
        int(hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()[:13], 16) / 16**13 for _, values in clips
    ]
    least = sorted(place)[: max(1, min(len(clips) // 4, 4))]
    out = {i for i, p in enumerate(place) if p < share or p in least}
    return [one for i, one in enumerate(clips) if i not in out], [clips[i] for i in sorted(out)]
