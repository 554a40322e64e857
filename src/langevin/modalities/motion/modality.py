"""The modality of motion: skeletons, and states of systems."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from langevin.modalities.captions import CaptionVocabulary
from langevin.modalities.classification.plan import classify_plan
from langevin.modalities.modality import (
    Budget,
    Detected,
    Evaluation,
    File,
    Measuring,
    Needs,
    Plan,
    Progress,
    RequestContext,
    Samples,
    Scorer,
    Suggestion,
)
from langevin.modalities.motion import inspect, plans, preview, requests, rotations, suggest
from langevin.modalities.motion.batches import MotionBatches
from langevin.modalities.motion.codec import AnyCodec, Poses, States
from langevin.modalities.motion.conditions import Known, Said, fitted_actions, fitted_vocabulary
from langevin.modalities.motion.data import Motions, load_parts, simulated_parts
from langevin.modalities.motion.files.listing import detect
from langevin.modalities.motion.mirror import with_mirrored
from langevin.modalities.motion.options import Classify, Edit, Evaluate, Sample
from langevin.modalities.motion.projector import AnyProjector, Projector
from langevin.modalities.motion.skeleton import Skeleton
from langevin.modalities.motion.systems import AnySystem

PREVIEWED = 6


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Motions of one skeleton, or states of one system, at one rate: (frames, columns) float32 each when decoded.

    Args:
        path: a folder of motions, see `files.listing`, or one file; None simulates `source`.
        source: a system that is simulated.
        count: trajectories of the source; trajectory i is a function of (seed, i).
        outside: fraction of the source's trajectories, those of the highest energies, that are never trained on, to see
            whether motions that are begun like them go on as they should.
        only: a pattern for names of files that are used, such as "walk*".
        pattern: a regular expression for file names, whose first group is the action.
        up: the vertical axis of files.
        rate: frames per second; None takes that of most of the data, at most 20 for skeletons.
        window: frames of an example.
        val_fraction: fraction of the data that is held out, if it has no test part of its own.
        projectors: what samples are made to obey, see `projector`.
        mirror: add a mirrored copy of each training motion, see `mirror`.
        cycles: repeat cyclic motions (DeepMimic's "Loop": "wrap") that are shorter than an example.
        codec: the map between frames and x; None is chosen by the data.
        actions, vocabulary, columns, typical: names of the actions, words of the captions, columns of states, frames of
            most motions of each action; fitted to the data.
    """

    kind: Literal["motion"] = "motion"
    path: str | None = None
    source: AnySystem | None = None
    count: int = 10_000
    seed: int = 0
    outside: float = 0.0
    only: str = ""
    pattern: str = ""
    up: Literal["y", "z"] = "y"
    rate: float | None = None
    window: int = 64
    val_fraction: float = 0.1
    mirror: bool = False
    cycles: bool = True
    projectors: tuple[AnyProjector, ...] = ()
    codec: AnyCodec | None = None
    actions: tuple[str, ...] = ()
    vocabulary: CaptionVocabulary | None = None
    columns: tuple[str, ...] = ()
    typical: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if (self.path is None) == (self.source is None):
            raise ValueError("motion is read from files (data.path) or simulated (data.source.kind): give one of them")
        if not 16 <= self.count <= 1_000_000:
            raise ValueError(f"data.count is 16 to 1,000,000 trajectories, got {self.count}")
        if not 8 <= self.window <= 4096:
            raise ValueError(f"data.window is 8 to 4,096 frames, got {self.window}")
        if not 0 < self.val_fraction < 1 or not 0 <= self.outside <= 0.5:
            raise ValueError(
                f"data.val_fraction is between 0 and 1 and data.outside from 0 to 0.5, got {self.val_fraction} and "
                f"{self.outside}"
            )
        if self.outside and self.source is None:
            raise ValueError("data.outside is for a source, whose energy is known: leave it out")
        if self.mirror and self.source is not None:
            raise ValueError("data.mirror is for skeletons, and a source has none: leave it out")
        if self.rate is not None and not 0.01 <= self.rate <= 100_000:
            raise ValueError(f"data.rate is 0.01 to 100,000 frames per second, got {self.rate}")
        requests.require_projectors(self, self.projectors)
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"data.pattern is no regular expression: {error}") from error

    @property
    def forms(self) -> tuple[str, ...]:
        """File suffixes that samples can be written with, the default first; "" is a folder, a file per sample."""
        own = (".csv",) if self.source is not None or isinstance(self.codec, States) else (".bvh",)
        return (".gif", ".png", ".webp", ".npz", ".json", *own, "")

    @property
    def capacity(self) -> dict[str, int]:
        """The largest number of samples that a form holds."""
        return {".gif": preview.MOST, ".webp": preview.MOST, ".png": preview.MOST, ".csv": 1, ".bvh": 1}

    @property
    def known_codec(self) -> AnyCodec:
        """The codec of a fitted modality."""
        assert self.codec is not None, "the modality of a run is fitted"
        return self.codec

    @property
    def known_rate(self) -> float:
        """The rate of a fitted modality."""
        assert self.rate, "the modality of a run is fitted"
        return self.rate

    @property
    def skeleton(self) -> Skeleton | None:
        """The skeleton; None for states."""
        return self.codec.skeleton if isinstance(self.codec, Poses) else None

    @property
    def known(self) -> Known:
        """What the network is conditioned on."""
        return Known(actions=self.actions, vocabulary=self.vocabulary)

    @property
    def choices(self) -> dict[str, tuple[str, ...]]:
        """The actions, which `action` and `to` are chosen from."""
        return {"action": self.actions, "to": self.actions} if self.actions else {}

    @classmethod
    def detect(cls, path: Path) -> Detected | None:
        found = detect(path)
        return None if found is None else Detected(modality=cls(path=str(path)), score=found[0], reason=found[1])

    def inspect(self, *, progress: Progress | None = None) -> inspect.Inspection:
        return inspect.inspect(self, progress=progress)

    def open(self, *, progress: Progress | None = None) -> tuple[Motions, Motions]:
        if self.source is not None:
            return simulated_parts(
                self.source, count=self.count, frames=self.window, seed=self.seed, val_fraction=self.val_fraction,
                outside=self.outside,
            )  # fmt: skip
        assert self.path is not None, "checked in __post_init__"
        train, val = load_parts(
            self.path, only=self.only, pattern=self.pattern, rate=self.rate, up=self.up, window=self.window,
            val_fraction=self.val_fraction, cycles=self.cycles, progress=progress,
        )  # fmt: skip
        return (with_mirrored(train) if self.mirror else train), val

    def fitted(self, train: Motions, *, base: Self | None = None) -> Self:
        if base is not None:
            self._require_alike(train, base)
            return replace(
                self, codec=base.codec, rate=train.rate, actions=base.actions, vocabulary=base.vocabulary,
                columns=train.columns, typical=base.typical,
            )  # fmt: skip
        if self.columns or self.typical:
            return self
        codec = self.codec or (States() if train.skeleton is None else Poses())
        if isinstance(codec, Poses) != (train.skeleton is not None):
            what = "states" if train.skeleton is None else "a skeleton"
            raise ValueError(f"data.codec.kind={codec.kind} is not for {what}: leave it out")
        if isinstance(codec, Poses):
            codec = replace(codec, skeleton=train.skeleton)
        actions = fitted_actions(train)
        longest = [
            [
                min(self.window, len(c))
                for c, a in zip(train.clips, train.actions, strict=True)
                if not actions or a == name
            ]
            for name in actions or ("",)
        ]
        return replace(
            self, codec=codec.fitted(train.clips, train.rate), rate=train.rate, actions=actions,
            vocabulary=fitted_vocabulary(train), columns=train.columns,
            typical=tuple(sorted(found)[len(found) // 2] for found in longest),
        )  # fmt: skip

    def _require_alike(self, train: Motions, base: "Motion") -> None:
        """Check that a run to initialise from is of the same skeleton or columns. Raises `ValueError`."""
        skeleton = base.skeleton
        if (skeleton is None) != (train.skeleton is None) or base.columns != train.columns or (
            skeleton is not None and train.skeleton is not None and skeleton.tree != train.skeleton.tree
        ):  # fmt: skip
            raise ValueError("the run to initialise from is of another skeleton, or of states of other columns")
        if base.window != self.window:
            raise ValueError(
                f"the run to initialise from has windows of {base.window} frames: set data.window={base.window}"
            )

    def needs(self, train: Motions) -> Needs:
        codec = self.known_codec
        x = codec.encode(train.clips[0], train.rate) if len(train) == 1 else torch.cat(
            [codec.encode(clip, train.rate) for clip in train.clips[:: max(1, len(train) // 200)]], 1
        )  # fmt: skip
        std = float(x.std())
        if not std > 1e-6:
            raise ValueError(f"all {len(train)} motions stand still and are the same: nothing to learn")
        return Needs(
            processes=("gaussian",), channels=codec.channels, space=(self.window, *codec.space), std=std,
            frames=True, classes=len(self.actions), vocabulary=0 if self.vocabulary is None else self.vocabulary.size,
            caption_length=0 if self.vocabulary is None else self.vocabulary.length,
        )  # fmt: skip

    def suggest(self, train: Motions, budget: Budget) -> Suggestion:
        name = Path(self.path).resolve().stem if self.path else self.source.kind if self.source else ""
        return suggest.suggest(self, train, budget, name=name)

    def batches(self, dataset: Motions, *, device: torch.device) -> MotionBatches:
        return MotionBatches(
            dataset=dataset, codec=self.known_codec, window=self.window, known=self.known, device=device
        )

    def frame_errors(self, mean: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Squared errors (b, frames) of the joints' positions, in fifths of the skeleton, and velocities, in skeletons a
        second, of estimates `mean` of x (b, ...).

        Raises:
            ValueError: states have no joints."""
        codec = self.known_codec
        if not isinstance(codec, Poses):
            raise ValueError("method.terms weighs errors of joints, and states have none: leave it out")
        (p, v), (p_x, v_x) = (codec.local(part.float(), self.known_rate) for part in (mean, x))
        return {"positions": 25 * (p - p_x).square().mean((-1, -2)), "velocities": (v - v_x).square().mean((-1, -2))}

    # ---------------------------------------------------------------------------------------------------- requests

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that the network is conditioned on."""
        return self.actions

    def plan(self, options: Sample | Edit | Classify, context: RequestContext) -> Plan:
        if isinstance(options, Classify):
            return classify_plan(options, context)
        if isinstance(options, Edit):
            return requests.edit_plan(self, options, context)
        return requests.plan(self, options, context)

    def preview_plan(self, context: RequestContext) -> Plan:
        count = min(PREVIEWED, max(2, len(self.actions) or PREVIEWED))
        data = None if self.vocabulary is None else context.data()[0]
        said = self.known.requested((), (), count, seed=0, data=data)
        return plans.draw(self, said, [self.typical[max(0, a)] for a in said.actions], context)

    def plan_like(
        self, dataset: Motions, context: RequestContext, *, projectors: Sequence[Projector] | None = None
    ) -> Plan:
        count = context.count or len(dataset)
        windows = self.batches(dataset, device=torch.device("cpu"))
        spans = windows.spans(torch.arange(count) * len(windows) // count % len(windows))
        said: Said = self.known.of(dataset, [clip for clip, _, _ in spans])
        lengths = [end - start for _, start, end in spans]
        return plans.draw(self, said, lengths, context, projectors=projectors)

    def decode(self, x: Tensor) -> list[Tensor]:
        """Frames (frames, columns) of each of x (b, ...)."""
        return list(self.known_codec.decode(x, self.known_rate))

    def turned_back(self, poses: Tensor) -> Tensor:
        """Poses with the vertical axis of the files."""
        skeleton = self.skeleton
        if self.up == "y" or skeleton is None:
            return poses
        root, q = skeleton.split(poses)
        quarter = rotations.about(torch.tensor([1.0, 0.0, 0.0]).to(poses), torch.tensor(torch.pi / 2).to(poses))
        root = torch.stack([root[:, 0], -root[:, 2], root[:, 1]], 1)
        turned = rotations.multiply(quarter.expand(len(q), 4), q[:, 0])
        return skeleton.join(root, torch.cat([turned[:, None], q[:, 1:]], 1))

    def preview(self, samples: Samples) -> File:
        if self.skeleton is not None:
            return File(suffix=".gif", content=preview.animated(self, samples))
        return File(suffix=".png", content=preview.picture(self, samples))

    def picture(self, samples: Samples) -> bytes:
        """A PNG of the samples."""
        return preview.picture(self, samples)

    def text(self, samples: Samples) -> str:
        raise ValueError("motion has no text form: give a file to write it to")

    def save(self, samples: Samples, out: Path) -> None:
        preview.save(self, samples, out)

    # ---------------------------------------------------------------------------------------------------- measuring

    def evaluate(self, options: Evaluate, measuring: Measuring) -> Evaluation:
        from langevin.modalities.motion.evaluate import evaluate  # with all metrics, which only this needs

        return evaluate(self, options, measuring)

    def scorer(self, measuring: Measuring) -> Scorer:
        from langevin.modalities.motion.evaluate import scorer

        return scorer(self, measuring)
