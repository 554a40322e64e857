"""Measurements on clips: labels as a judge reads them, directions, likeness to real clips, memorisation, and speed."""

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from langevin.evaluation.suite import Measures, measure
from langevin.modalities import latents
from langevin.modalities.modality import Measuring, RequestContext, Samples, spread
from langevin.modalities.video import plans
from langevin.modalities.video.codec import Latents
from langevin.modalities.video.data import Clips
from langevin.modalities.video.judge import MOST_CLIPS, Judge, train_judge
from langevin.modalities.video.tracking import AXES, DIRECTIONS, follow
from langevin.networks.autoencoder import Autoencoder
from langevin.safety.memorisation import LossGap, Memorisation, loss_gap, memorisation

if TYPE_CHECKING:
    from langevin.modalities.video.modality import Video

REAL = 2000  # real clips that are compared with, at most
LOSSES = 128  # examples of each part whose denoising loss is measured
SMALL = 16  # side of frames between which nearest clips are searched
SEARCHED = 4000  # training clips among which they are searched, at most
LONG = 16  # clips that are continued


@dataclass(frozen=True, kw_only=True)
class Read:
    """How often a label is what it should be, in [0, 1].

    Args:
        generated: one share per seed.
        real: the same of held-out clips.
        shuffled: of held-out clips with the labels of others.
        how: what reads it.
    """

    generated: tuple[float, ...]
    real: float
    shuffled: float
    how: str


@dataclass(frozen=True, kw_only=True)
class Continued:
    """Held-out clips that were continued.

    Args:
        frames: of the clips, those given included.
        given: frames that were given.
        kept: by label, the share of windows (or of frames, for labels that single frames show) that still show it, over all
            that was drawn.
        end: the same for the last window alone.
        seconds: per frame that was drawn.
    """

    frames: int
    given: int
    kept: Mapping[str, float]
    end: Mapping[str, float]
    seconds: float
    samples: Samples


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All measurements of a run; `energy` is the mean absolute difference of consecutive frames, in grey levels, and
    `copies` what an autoencoder keeps of held-out clips: their signal-to-noise ratio, and the share of each label that
    is still read."""

    measures: Measures
    drawn: Sequence[Samples]
    labels: Mapping[str, Read]
    memory: Memorisation
    gap: LossGap
    losses: Mapping[str, list[float]]
    energy: tuple[float, ...]
    real_energy: float
    seconds: float
    continued: Continued | None = None
    copies: Mapping[str, float] | None = None

    @property
    def nfe(self) -> int:
        """Function evaluations per sample."""
        return max(samples.nfe for samples in self.drawn)

    def as_dict(self) -> dict[str, Any]:
        """Figures of JSON types."""
        long = self.continued
        return {
            "measures": self.measures.as_dict(), "labels": {name: asdict(read) for name, read in self.labels.items()},
            "memorisation": asdict(self.memory), "losses": dict(self.losses), "energy": self.energy,
            "real_energy": self.real_energy, "copies": self.copies and dict(self.copies),
            "seconds_per_clip": self.seconds, "nfe": self.nfe,
            "continued": None if long is None else {
                "frames": long.frames, "given": long.given, "kept": dict(long.kept), "end": dict(long.end),
                "seconds_per_frame": long.seconds,
            },
        }  # fmt: skip


def judge_of(video: "Video", m: Measuring) -> Judge | None:
    """The judge of this data's labels, trained once and kept in `m.folder`; None without labels, or if it may not be."""
    train: Clips = m.train
    if not train.labels or not m.train_judges:
        return None
    said = repr([(key, names, values.tolist()) for key, (names, values) in train.labels.items()])
    folder = m.folder / f"judge-{hashlib.sha256((train.fingerprint + said).encode()).hexdigest()[:12]}"
    shape = (video.window, *video.frame_shape)
    if (folder / "judge.json").is_file():
        try:
            return Judge.load(folder, shape)
        except (ValueError, OSError) as error:
            m.say(f"{folder} cannot be read, so the judge is trained again: {error}")
    m.say("training the judge of labels on real training clips")
    items, test = spread(len(train), MOST_CLIPS), spread(len(m.val), REAL)
    judge = train_judge(
        train.windows(items, video.window), {key: values[items] for key, (_, values) in train.labels.items()},
        {key: len(names) for key, (names, _) in train.labels.items()},
        (m.val.windows(test, video.window), {key: values[test] for key, (_, values) in m.val.labels.items()}),
        progress=m.progress("training the judge, step"),
    )  # fmt: skip
    found = read_labels(judge, m.val, m.val.windows(test, video.window), tracked=True)
    for label, (names, values) in m.val.labels.items():
        if is_direction(names):
            judge.accuracy[f"{label} by tracking"] = float((found[label] == values[test]).double().mean())
    judge.save(folder)
    return judge


def is_direction(names: Sequence[str]) -> bool:
    """Whether the values of a label are directions, which can be seen to be followed."""
    return len(names) > 1 and (set(names) <= set(DIRECTIONS.values()) or set(names) <= set(AXES))


def is_tracked(judge: Judge, label: str) -> bool:
    """Whether the way of what moves says a label as well as the judge does, on held-out clips."""
    return judge.accuracy.get(f"{label} by tracking", -1.0) >= judge.accuracy[label] - 0.02


def read_labels(
    judge: Judge, data: Clips, clips: Tensor, *, frames: bool = False, tracked: bool = False
) -> dict[str, Tensor]:
    """The value of each label of clips, (n,): by tracking where that says it, else by the judge; with `frames` the
    commonest value of single frames, for labels that the judge reads as well so; with `tracked` all directions by their
    way."""
    whole, still = judge.read(clips), judge.read_frames(clips) if frames else {}
    found = dict[str, Tensor]()
    for label, (names, _) in data.labels.items():
        if is_tracked(judge, label) or (tracked and is_direction(names)):
            found[label] = torch.tensor([names.index(d) if d in names else -1 for d in follow(clips, names)])
        elif frames and by_frame(judge, label):
            found[label] = still[label].mode(1).values
        else:
            found[label] = whole[label]
    return found


def by_frame(judge: Judge, label: str) -> bool:
    """Whether single frames show a label as well as whole clips do."""
    return judge.accuracy[f"{label} by frame"] > judge.accuracy[label] - 0.02


def measure_run(video: "Video", m: Measuring, count: int, long: int | None) -> Measured:
    """Draw `count` samples per seed and measure them."""
    train, val = m.train, m.val
    judge, progress = judge_of(video, m), m.progress("sampling")
    drawn, seconds = list[Samples](), 0.0
    for seed in range(m.seeds):
        context = RequestContext(model=m.model, data=lambda: (train, val), seed=1_000_000 * (seed + 1))
        begun = time.perf_counter()
        drawn.append(
            m.model.run(
                plans.like_data(video, val, count, context), batch=min(m.batch, 64),
                progress=lambda done, _, s=seed: progress(s * count + done, m.seeds * count),
            )
        )  # fmt: skip
        seconds += time.perf_counter() - begun
    generated = [torch.stack(list(samples.values)) for samples in drawn]
    real = train.windows(spread(len(train), REAL), video.window)
    held_out = val.windows(spread(len(val), REAL), video.window)
    level = {name: losses(m, part) for name, part in (("training", train), ("validation", val))}
    near = [
        small(part)
        for part in (train.windows(spread(len(train), SEARCHED), video.window), held_out[:count], generated[0])
    ]
    return Measured(
        measures=measure(feature_spaces(judge), real, held_out, generated, seed=0),
        drawn=drawn, labels={} if judge is None else labels_read(judge, val, drawn, generated, video.window),
        memory=memorisation(*near), gap=loss_gap(level["training"], level["validation"]),
        losses={name: values.mean(1).tolist() for name, values in level.items()},
        energy=tuple(map(energy, generated)), real_energy=energy(held_out),
        seconds=seconds / (m.seeds * count),
        continued=None if long is None else continue_clips(video, m, judge, long),
        copies=copies(video, m, judge, count),
    )  # fmt: skip


def copies(video: "Video", m: Measuring, judge: Judge | None, count: int) -> dict[str, float] | None:
    """What the autoencoder of a run, or of its codec, keeps of `count` held-out clips: no sample can do better. None
    without an autoencoder."""
    test = spread(len(m.val), count)
    clips, codec, network = m.val.windows(test, video.window), video.codec, m.model.parts.network
    if isinstance(codec, Latents):
        made = codec.decode(codec.encode(clips))
    elif isinstance(network, Autoencoder):
        device = next(network.parameters()).device
        made = codec.decode(latents.decoded(network, latents.encoded(network, codec.encode(clips).to(device))).cpu())
    else:
        return None
    error = (made.float() - clips.float()).square().mean((1, 2, 3, 4)).clamp_min(1e-3)
    found = {"peak signal-to-noise ratio, dB": float((10 * (255**2 / error).log10()).mean())}
    if judge is not None:
        read = read_labels(judge, m.val, made, frames=True)
        for label, (_, values) in m.val.labels.items():
            found[f"{label}, still read"] = float((read[label] == values[test]).double().mean())
    return found


def labels_read(
    judge: Judge, val: Clips, drawn: Sequence[Samples], generated: Sequence[Tensor], window: int
) -> dict[str, Read]:
    """Whether samples show the labels of the held-out clips whose captions they were drawn from."""
    test = spread(len(val), REAL)
    real = read_labels(judge, val, val.windows(test, window), frames=True)
    found, results = [read_labels(judge, val, clips, frames=True) for clips in generated], dict[str, Read]()
    for label, (_, values) in val.labels.items():
        if val.captions is None:
            continue  # nothing says what a sample should show
        how = "its way" if is_tracked(judge, label) else "frames" if by_frame(judge, label) else "a clip"
        results[label] = Read(
            generated=tuple(
                float((part[label] == values[samples.arrays["items"]]).double().mean())
                for part, samples in zip(found, drawn, strict=True)
            ),
            real=float((real[label] == values[test]).double().mean()),
            shuffled=float((real[label] == values[test].roll(len(test) // 2)).double().mean()), how=how,
        )  # fmt: skip
    return results


def require_long(video: "Video", m: Measuring, frames: int) -> None:
    """Check that clips can be continued to so many frames. Raises `ValueError`."""
    if not video.leveled(m.model):
        raise ValueError("--long needs a run that was trained with a noise level per frame (method.levels)")
    if frames < 2 * video.window:
        raise ValueError(
            f"--long {frames} is less than two windows of {video.window} frames, the given one and one more"
        )
    if not bool((m.val.lengths >= video.window).any()):
        raise ValueError(f"--long needs validation clips of {video.window} frames or more")


def continue_clips(video: "Video", m: Measuring, judge: Judge | None, frames: int) -> Continued:
    """Held-out clips continued to `frames` frames without their captions, and what their windows show."""
    window, val = video.window, m.val
    items = torch.arange(len(val))[val.lengths >= window]
    items = items[spread(len(items), LONG)]
    begun = time.perf_counter()
    clips = list[Tensor]()
    progress = m.progress("continuing clips")
    for done, i in enumerate(items.tolist()):
        context = RequestContext(model=m.model, data=lambda: (m.train, m.val), seed=7_000_000 + i)
        wanted = plans.Wanted(
            captions=None, count=1, frames=frames, known=torch.arange(frames) < window,
            given=torch.cat([val.clip(i)[:window], torch.zeros(frames - window, *video.frame_shape, dtype=torch.uint8)]),
        )  # fmt: skip
        sampling = plans.sampling_of(video, plans.Sample(), frames, context)
        clips.append(m.model.run(plans.drawn(video, wanted, context, sampling)).values[0])
        progress(done + 1, len(items))
    seconds = (time.perf_counter() - begun) / (len(items) * (frames - window))
    made = torch.stack(clips)
    kept, end = dict[str, float](), dict[str, float]()
    if judge is not None:
        starts = [*range(window, frames - window + 1, window)] or [frames - window]
        for label, (_, values) in val.labels.items():
            shares = list[float]()
            for start in [*starts, frames - window]:
                found = read_labels(judge, val, made[:, start : start + window], frames=True)
                shares.append(float((found[label] == values[items]).double().mean()))
            kept[label], end[label] = sum(shares[:-1]) / len(shares[:-1]), shares[-1]
    names = tuple(val.captions[i] for i in items.tolist()) if val.captions is not None else ()
    return Continued(
        frames=frames, given=window, kept=kept, end=end, seconds=seconds,
        samples=Samples(modality=video, values=clips, names=names),
    )  # fmt: skip


def feature_spaces(judge: Judge | None) -> dict[str, Callable[[Tensor], Tensor]]:
    """By name, a function from clips to features (n, d)."""
    judged = {} if judge is None else {"judge": judge.features}
    return {**judged, "random convolutions": random_features}


@torch.no_grad()
def random_features(clips: Tensor) -> Tensor:
    """(n, 64) features of clips by fixed random convolutions in space and time."""
    generator = torch.Generator().manual_seed(0)
    weights = [
        torch.randn(*shape, generator=generator) / math.sqrt(math.prod(shape[1:]))
        for shape in ((32, clips.shape[2], 2, 5, 5), (32, 32, 3, 3, 3))
    ]
    parts = list[Tensor]()
    for part in clips.split(32):
        x = part.transpose(1, 2).float() / 127.5 - 1
        x = F.interpolate(x, size=(x.shape[2], 32, 32), mode="trilinear") if x.shape[-1] > 32 else x
        for weight in weights:
            x = F.relu(F.conv3d(x, weight, stride=(1, 2, 2), padding=(weight.shape[2] // 2, 1, 1)))
        parts.append(torch.cat([x.mean((2, 3, 4)), x.std((2, 3, 4))], 1))
    return torch.cat(parts)


def small(clips: Tensor) -> Tensor:
    """Clips at a size at which copies are still copies, uint8."""
    if clips.shape[-1] <= SMALL:
        return clips
    flat = F.interpolate(clips.flatten(0, 1).float(), size=(SMALL, SMALL), mode="area")
    return flat.round().to(torch.uint8).unflatten(0, clips.shape[:2])


def energy(clips: Tensor) -> float:
    """The mean absolute difference of consecutive frames, in grey levels."""
    return float(clips.float().diff(dim=1).abs().mean())


def losses(m: Measuring, part: Clips) -> Tensor:
    """(levels, n) denoising losses by noise level, of clips evenly spaced over a part of the data."""
    batches, items = m.model.batches(part), spread(len(part), LOSSES)
    return torch.cat([m.model.parts.losses(batches(i), i) for i in items.split(32)], 1).cpu()
